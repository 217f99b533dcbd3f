//! Models of a timer that fires against a waker, and against the woken that takes it out (I1 and I2 of `time`).
#![cfg(loom)]

use gort_scheduler::model::new_g;
use gort_scheduler::time::clock::Nanos;
use gort_scheduler::time::{Timer, Timers};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

#[test]
fn a_timer_or_a_waker_ends_the_wait_and_never_both() {
    loom::model(|| {
        let timers = Arc::new(Timers::new());
        let readied = Arc::new(AtomicUsize::new(0));
        let gp = new_g();
        gp.begin_select();
        let timer = Timer::wake(gp);
        // SAFETY: disarmed, or fired, before it goes.
        assert!(unsafe { timers.arm(&raw const timer, Nanos(1)) });
        let firing = {
            let (timers, readied) = (timers.clone(), readied.clone());
            thread::spawn(move || {
                timers.run_due(|_| {
                    readied.fetch_add(1, Ordering::Relaxed);
                });
            })
        };
        let waking = {
            let readied = readied.clone();
            thread::spawn(move || {
                if gp.win_select() {
                    readied.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        waking.join().unwrap();
        // The woken takes the timer out; from here on the timer's memory may go, and a new wait may begin.
        timers.disarm(&timer);
        drop(timer);
        gp.begin_select();
        firing.join().unwrap();
        assert_eq!(readied.load(Ordering::Relaxed), 1);
        assert!(gp.win_select(), "an old firing has claimed the new wait");
    });
}
