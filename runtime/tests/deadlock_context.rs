//! Waits at a context, a semaphore, a `Once`, a barrier that nobody ends: they are reported as deadlocks. Each case has a process
//! of its own, because the answer is a matter of the whole process (see `deadlock.rs`).

mod common;

use common::child::in_child;
use gort::context::{background, with_cancel, with_timeout};
use gort::sync::{Barrier, ErrGroup, Once, OnceLock, Semaphore, SingleFlight};
use gort::{Runtime, chan, go};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// The harness's main thread wakes nobody.
const IDLE: &[(&str, &str)] = &[("GORT_OTHER_THREADS", "idle")];

/// Says that `main` is reported at several numbers of Ps, with the main goroutine in this state.
fn is_reported(test: &str, state: &str, main: impl Fn() + Sync) {
    in_child(test, IDLE, || {
        for procs in [1, 2, 64] {
            let rt = Runtime::builder().max_procs(procs).build().unwrap();
            let panic = catch_unwind(AssertUnwindSafe(|| rt.run(&main))).unwrap_err();
            let report = panic.downcast_ref::<String>().expect("a report");
            assert!(report.starts_with("all goroutines are asleep - deadlock!"), "{report}");
            assert!(report.contains(&format!("[{state}]: \"main\"")), "{report}");
        }
    })
    .with_status(0);
}

#[test]
fn a_context_that_nobody_cancels() {
    is_reported("a_context_that_nobody_cancels", "chan receive", || {
        let (ctx, _cancel) = with_cancel(&background());
        ctx.done().recv();
    });
}

#[test]
fn a_context_that_is_never_done() {
    is_reported("a_context_that_is_never_done", "chan receive (nil chan)", || {
        background().done().recv();
    });
}

#[test]
fn a_deadline_is_waited_for_and_then_what_never_comes_is_reported() {
    let test = "a_deadline_is_waited_for_and_then_what_never_comes_is_reported";
    is_reported(test, "chan receive", || {
        let (ctx, _cancel) = with_timeout(&background(), Duration::from_millis(300));
        ctx.done().recv();
        chan::<()>(0).recv();
    });
}

#[test]
fn permits_that_nobody_releases() {
    is_reported("permits_that_nobody_releases", "semacquire", || Semaphore::new(1).acquire(2));
}

#[test]
fn a_once_that_nobody_does() {
    is_reported("a_once_that_nobody_does", "sync.Once.Do", || Once::new().wait());
}

#[test]
fn a_value_that_waits_for_another_one() {
    is_reported("a_value_that_waits_for_another_one", "sync.Once.Do", || {
        let (a, b) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
        let (ch, own_a, own_b) = (chan::<()>(0), a.clone(), b.clone());
        let rx = ch.clone();
        go(move || {
            own_b.get_or_init(|| {
                rx.recv();
                *own_a.get_or_init(|| 1)
            });
        });
        a.get_or_init(|| {
            ch.send(());
            *b.get_or_init(|| 2)
        });
    });
}

#[test]
fn a_barrier_to_which_nobody_comes() {
    is_reported("a_barrier_to_which_nobody_comes", "sync.Barrier.Wait", || _ = Barrier::new(2).wait());
}

#[test]
fn a_group_whose_goroutine_never_ends() {
    is_reported("a_group_whose_goroutine_never_ends", "sync.WaitGroup.Wait", || {
        let group = ErrGroup::<()>::new();
        group.go(|| {
            chan::<()>(0).recv();
            Ok(())
        });
        let _ = group.wait();
    });
}

#[test]
fn a_group_in_a_scope_whose_goroutine_never_ends() {
    is_reported("a_group_in_a_scope_whose_goroutine_never_ends", "semacquire", || {
        let ch = chan::<()>(0);
        let _ = ErrGroup::<()>::scope(|g| {
            g.go(|| {
                ch.recv();
                Ok(())
            });
        });
    });
}

#[test]
fn calls_that_wait_for_each_other() {
    is_reported("calls_that_wait_for_each_other", "singleflight.Group.Do", || {
        let (group, ch) = (Arc::new(SingleFlight::<u8, u8>::new()), chan::<()>(0));
        let (own, rx) = (group.clone(), ch.clone());
        go(move || {
            own.call(2, || {
                rx.recv();
                own.call(1, || 1).0
            })
        });
        group.call(1, || {
            ch.send(());
            group.call(2, || 2).0
        });
    });
}

#[test]
fn a_semaphore_passes_over_who_was_given_up() {
    in_child("a_semaphore_passes_over_who_was_given_up", IDLE, || {
        for procs in [1, 2, 64] {
            let sem = Arc::new(Semaphore::new(1));
            for round in 0..3 {
                let rt = Runtime::builder().max_procs(procs).build().unwrap();
                let in_vain = catch_unwind(AssertUnwindSafe(|| match round {
                    0 => rt.run(|| sem.acquire(2)),
                    1 => rt.run(|| _ = sem.acquire_context(2, &with_cancel(&background()).0)),
                    _ => rt.run(|| gort::scope(|s| _ = s.go(|| sem.acquire(3)))),
                }));
                assert!(in_vain.is_err());
                // The one in front is void: nobody waits for it, and it takes nothing.
                let rt = Runtime::builder().max_procs(procs).build().unwrap();
                rt.run(|| {
                    assert!(sem.try_acquire(1));
                    let other = go({
                        let sem = sem.clone();
                        move || sem.acquire(1)
                    });
                    common::until_parked(&other, "semacquire");
                    sem.release(1);
                    other.join().unwrap();
                    sem.release(1);
                });
                assert_eq!(sem.available(), 1);
            }
        }
    })
    .with_status(0);
}
