//! What the library promises of time: each sentence of its documentation, at each number of Ps.

mod common;

use common::at_each_size;
use gort::time::{self, after_func};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn after_func_calls_once_for_each_arming() {
    at_each_size(|| {
        let (tx, rx) = gort::channel(10);
        let timer = after_func(MS, move || tx.send(()).unwrap());
        assert_eq!(rx.recv(), Some(()));
        assert!(!timer.stop());
        for d in [MS, Duration::ZERO, Duration::from_nanos(1)] {
            assert!(!timer.reset(d));
            assert_eq!(rx.recv(), Some(()));
        }
        assert!(!timer.reset(LONG));
        assert!(timer.reset(MS));
        assert_eq!(rx.recv(), Some(()));
        assert_eq!(rx.recv_timeout(5 * MS), Err(gort::RecvTimeoutError::Timeout));
    });
}

#[test]
fn a_stopped_function_timer_does_not_fire_and_is_freed() {
    at_each_size(|| {
        let kept = Arc::new(());
        for d in [LONG, Duration::MAX] {
            let held = kept.clone();
            let timer = after_func(d, move || _ = &held);
            assert_eq!(Arc::strong_count(&kept), 2);
            assert!(timer.stop());
            assert!(!timer.stop());
            drop(timer);
            assert_eq!(Arc::strong_count(&kept), 1, "a stopped timer is kept");
        }
    });
}

#[test]
fn dropping_the_timer_of_after_func_leaves_it_armed() {
    at_each_size(|| {
        let (tx, rx) = gort::channel(1);
        drop(after_func(2 * MS, move || tx.send(()).unwrap()));
        assert_eq!(rx.recv(), Some(()));
        // When it has fired, its function is gone, and so is the sender in it.
        assert_eq!(rx.recv(), None);
    });
}

#[test]
fn overlapping_firings_are_called_one_after_the_other() {
    at_each_size(|| {
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (tx, rx) = gort::channel(0);
        let (i, m) = (inside.clone(), most.clone());
        let timer = after_func(LONG, move || {
            m.fetch_max(i.fetch_add(1, SeqCst) + 1, SeqCst);
            time::sleep(MS);
            i.fetch_sub(1, SeqCst);
            tx.send(()).unwrap();
        });
        for _ in 0..5 {
            timer.reset(Duration::ZERO);
        }
        for _ in 0..5 {
            assert_eq!(rx.recv(), Some(()));
        }
        assert_eq!(most.load(SeqCst), 1);
        assert!(!timer.stop());
    });
}

#[test]
fn timers_of_a_runtime_that_ends_never_fire_and_are_freed() {
    let kept = Arc::new(());
    for procs in common::SIZES {
        let rt = common::builder(procs).build().unwrap();
        let timer = rt.run(|| {
            let held = kept.clone();
            let timer = after_func(LONG, move || _ = &held);
            let held = kept.clone();
            after_func(LONG, move || _ = &held);
            timer
        });
        rt.shutdown_timeout(Duration::from_secs(10));
        assert_eq!(Arc::strong_count(&kept), 2);
        assert!(!timer.stop());
        drop(timer);
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
