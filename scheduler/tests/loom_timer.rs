//! Models of timers: one that fires against a waker, and against its owner who takes it out or changes it (I1 to I3 of
//! `time`, F1 of `time::func`).
#![cfg(loom)]

use gort_scheduler::model::proc::timers::heap;
use gort_scheduler::model::{Sched, new_g};
use gort_scheduler::time::clock::Nanos;
use gort_scheduler::time::func::{Act, FuncTimer};
use gort_scheduler::time::{Firing, Put, Timer, Timers};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// Three threads and many locks: bounded.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn dry() -> Firing {
    Firing { dry: true, ..Firing::default() }
}

#[test]
fn a_timer_or_a_waker_ends_the_wait_and_never_both() {
    loom::model(|| {
        let timers = Timers::make().unwrap();
        let gp = new_g();
        gp.begin_select();
        let timer = Timer::wake(gp);
        // SAFETY: disarmed, or fired, before it goes.
        assert_eq!(unsafe { timers.arm(&raw const timer, Nanos(1)) }, Put::First);
        let firing = thread::spawn(|| {
            let mut firing = dry();
            timers.run_due(Nanos(5), &mut firing);
            firing.readied
        });
        let waking = thread::spawn(move || usize::from(gp.win_select()));
        let woken = waking.join().unwrap();
        // The woken takes the timer out; from here on the timer's memory may go, and a new wait may begin.
        timer.disarm();
        drop(timer);
        gp.begin_select();
        assert_eq!(firing.join().unwrap() + woken, 1);
        assert!(gp.win_select(), "an old firing has claimed the new wait");
    });
}

/// Counts how often it acts. Its drop is seen, since loom looks for what is leaked.
struct Count {
    acted: Arc<AtomicUsize>,
}

impl Act for Count {
    fn act(timer: std::sync::Arc<FuncTimer<Count>>, _firing: &mut Firing) {
        timer.action().acted.fetch_add(1, Ordering::Relaxed);
    }

    fn fallback() -> Option<&'static Sched> {
        static FALLBACK: Sched = Sched::new();
        Some(&FALLBACK)
    }
}

fn count() -> (Arc<AtomicUsize>, std::sync::Arc<FuncTimer<Count>>) {
    let acted = Arc::new(AtomicUsize::new(0));
    (acted.clone(), FuncTimer::new(Count { acted }))
}

fn fire(timers: &'static Timers, now: u64) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        timers.run_due(Nanos(now), &mut dry());
    })
}

#[test]
fn a_stop_or_a_firing_has_the_timer_and_never_both() {
    check(|| {
        let timers = Timers::make().unwrap();
        let (acted, timer) = count();
        assert_eq!(timer.arm(timers, Nanos(1)), (false, Put::First));
        let firing = fire(timers, 5);
        let stopper = {
            let timer = timer.clone();
            thread::spawn(move || usize::from(timer.stop()))
        };
        let stopped = usize::from(timer.stop()) + stopper.join().unwrap();
        firing.join().unwrap();
        assert_eq!(stopped + acted.load(Ordering::Relaxed), 1, "two stops and a firing");
        assert!(!timer.stop());
        drop(timer);
        assert_eq!(Arc::strong_count(&acted), 1, "the heap's count is left");
    });
}

#[test]
fn a_reset_against_a_firing_says_whether_it_came_first() {
    check(|| {
        let (here, there) = (Timers::make().unwrap(), Timers::make().unwrap());
        let (acted, timer) = count();
        assert_eq!(timer.arm(here, Nanos(1)), (false, Put::First));
        let firing = fire(here, 5);
        // To another heap, as by a goroutine that runs elsewhere by now; and back, to the same.
        let (was, _) = timer.arm(there, Nanos(9));
        firing.join().unwrap();
        assert_eq!(usize::from(!was), acted.load(Ordering::Relaxed));
        let firing = fire(there, 9);
        let (was_again, _) = timer.arm(there, Nanos(20));
        firing.join().unwrap();
        assert_eq!(usize::from(!was) + usize::from(!was_again), acted.load(Ordering::Relaxed));
        assert!(timer.stop(), "armed for 20");
        assert_eq!((here.first(), there.first()), (Nanos::NEVER, Nanos::NEVER));
    });
}

#[test]
fn two_resets_leave_it_armed_once() {
    loom::model(|| {
        let (here, there) = (Timers::make().unwrap(), Timers::make().unwrap());
        let (acted, timer) = count();
        let other = {
            let timer = timer.clone();
            thread::spawn(move || timer.arm(there, Nanos(2)).0)
        };
        let was = timer.arm(here, Nanos(1)).0;
        let other_was = other.join().unwrap();
        assert!(was != other_was, "one of them was the second");
        here.run_due(Nanos(5), &mut dry());
        there.run_due(Nanos(5), &mut dry());
        assert_eq!(acted.load(Ordering::Relaxed), 1);
        assert!(!timer.stop());
    });
}

#[test]
fn a_stop_that_meets_the_end_of_the_heap_has_the_timer_or_it_fires_elsewhere() {
    check(|| {
        let ending = Timers::make().unwrap();
        let (acted, timer) = count();
        assert_eq!(timer.arm(ending, Nanos(1)), (false, Put::First));
        let end = thread::spawn(move || ending.end());
        let firing = fire(ending, 5);
        let stopped = usize::from(timer.stop());
        end.join().unwrap();
        firing.join().unwrap();
        heap().run_due(Nanos(5), &mut dry());
        assert_eq!(stopped + acted.load(Ordering::Relaxed), 1, "lost, or had twice");
        assert!(!timer.stop());
        drop(timer);
        assert_eq!(Arc::strong_count(&acted), 1, "a heap's count is left");
    });
}

#[test]
fn a_reset_that_meets_the_end_of_the_heap_finds_the_timer_armed() {
    check(|| {
        let (ending, there) = (Timers::make().unwrap(), Timers::make().unwrap());
        let (acted, timer) = count();
        assert_eq!(timer.arm(ending, Nanos(1)), (false, Put::First));
        let end = thread::spawn(move || ending.end());
        assert!(timer.arm(there, Nanos(9)).0);
        end.join().unwrap();
        heap().run_due(Nanos(5), &mut dry());
        assert_eq!(acted.load(Ordering::Relaxed), 0, "the old time is forgotten");
        there.run_due(Nanos(9), &mut dry());
        assert_eq!(acted.load(Ordering::Relaxed), 1);
        drop(timer);
        assert_eq!(Arc::strong_count(&acted), 1, "a heap's count is left");
    });
}
