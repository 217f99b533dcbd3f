//! What the public API promises of `Once`, `OnceLock`, `LazyLock` and `Barrier`: what std's do, for goroutines and threads at once.

mod common;

use common::{Ledger, on_both, panic_message, until_parked};
use gort::sync::{Barrier, LazyLock, Once, OnceLock};
use gort::{chan, go, no_suspend, scope};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

/// Runs `f` in `n` goroutines and `n` plain threads at once.
fn together(n: usize, f: impl Fn() + Sync) {
    scope(|s| {
        (0..n).for_each(|_| _ = s.go(&f));
        gort::blocking(|| {
            thread::scope(|s| {
                (0..n).for_each(|_| _ = s.spawn(&f));
            });
        });
    });
}

#[test]
fn one_of_many_runs_and_the_others_wait_for_it() {
    on_both(|| {
        for _ in 0..20 {
            let (once, begun, done) = (Once::new(), AtomicUsize::new(0), AtomicBool::new(false));
            together(4, || {
                once.call_once(|| {
                    begun.fetch_add(1, SeqCst);
                    (0..5).for_each(|_| gort::yield_now());
                    done.store(true, SeqCst);
                });
                assert!(done.load(SeqCst) && once.is_completed());
            });
            assert_eq!(begun.into_inner(), 1);
        }
    });
}

#[test]
fn the_function_may_park() {
    on_both(|| {
        let (once, ch) = (Arc::new(Once::new()), chan::<()>(0));
        let first = go({
            let (once, ch) = (once.clone(), ch.clone());
            move || once.call_once(|| _ = ch.recv())
        });
        until_parked(&first, "chan receive");
        let second = go({
            let once = once.clone();
            move || once.call_once(|| unreachable!())
        });
        until_parked(&second, "sync.Once.Do");
        assert!(!once.is_completed());
        ch.send(());
        first.join().unwrap();
        second.join().unwrap();
        assert!(once.is_completed());
    });
}

#[test]
fn a_panic_poisons_once_and_force_mends_it() {
    on_both(|| {
        let once = Once::new();
        assert_eq!(panic_message(|| once.call_once(|| panic!("one"))), "one");
        assert!(!once.is_completed());
        let poisoned = "Once instance has previously been poisoned";
        assert_eq!(panic_message(|| once.call_once(|| ())), poisoned);
        assert_eq!(panic_message(|| once.wait()), poisoned);
        assert_eq!(panic_message(|| once.call_once_force(|_| panic!("two"))), "two");
        let told = Cell::new(false);
        once.call_once_force(|state| told.set(state.is_poisoned()));
        assert!(told.get() && once.is_completed());
        once.call_once(|| unreachable!());
        once.call_once_force(|_| unreachable!());
        once.wait();
        once.wait_force();
    });
}

#[test]
fn those_who_wait_for_a_function_that_panics_are_woken() {
    on_both(|| {
        let (once, ch) = (Arc::new(Once::new()), chan::<()>(0));
        let fails = go({
            let (once, ch) = (once.clone(), ch.clone());
            move || {
                once.call_once(|| {
                    ch.recv();
                    panic!("as expected");
                });
            }
        });
        until_parked(&fails, "chan receive");
        let waits = go({
            let once = once.clone();
            move || once.call_once(|| unreachable!())
        });
        let forces = go({
            let once = once.clone();
            move || once.call_once_force(|state| assert!(state.is_poisoned()))
        });
        until_parked(&waits, "sync.Once.Do");
        until_parked(&forces, "sync.Once.Do");
        ch.send(());
        assert!(fails.join().is_err());
        forces.join().unwrap();
        // It was refused, or came after the other one had mended it.
        let _ = waits.join();
        assert!(once.is_completed());
    });
}

#[test]
fn wait_waits_for_a_call_that_has_not_begun() {
    on_both(|| {
        let once = Arc::new(Once::new());
        let waits = go({
            let once = once.clone();
            move || once.wait()
        });
        until_parked(&waits, "sync.Once.Do");
        once.call_once(|| ());
        waits.join().unwrap();
    });
}

#[test]
fn a_function_that_comes_back_to_its_own_once_panics() {
    const MESSAGE: &str = "one-time initialization may not be performed recursively";
    on_both(|| {
        let once = Once::new();
        assert_eq!(panic_message(|| once.call_once(|| once.call_once(|| ()))), MESSAGE);
        let cell = OnceLock::new();
        assert_eq!(panic_message(|| *cell.get_or_init(|| *cell.get_or_init(|| 1))), MESSAGE);
        assert_eq!(cell.get_or_init(|| 2), &2);
        static LAZY: LazyLock<u32> = LazyLock::new(|| *LAZY + 1);
        let message = panic_message(|| *LAZY);
        assert!(message == MESSAGE || message.contains("poisoned"), "{message}");
    });
}

#[test]
fn a_function_that_panics_leaves_a_once_lock_empty() {
    on_both(|| {
        let cell = OnceLock::<u32>::new();
        assert_eq!(panic_message(|| *cell.get_or_init(|| panic!("no"))), "no");
        assert_eq!((cell.get(), cell.get_or_init(|| 3), cell.set(4)), (None, &3, Err(4)));
    });
}

#[test]
fn a_once_lock_is_as_std_has_it() {
    on_both(|| {
        let ledger = Ledger::default();
        let mut cell = OnceLock::new();
        assert!(cell.get().is_none() && cell.get_mut().is_none() && cell.take().is_none());
        assert!(cell.set(ledger.token()).is_ok());
        assert!(cell.set(ledger.token()).is_err_and(|token| token.n == 1));
        assert_eq!((cell.get().unwrap().n, cell.wait().n), (0, 0));
        cell.get_mut().unwrap().n = 7;
        assert_eq!(cell.take().unwrap().n, 7);
        assert_eq!(cell.get_or_init(|| ledger.token()).n, 2);
        assert_eq!(cell.into_inner().unwrap().n, 2);
        ledger.assert_settled();

        assert_eq!(format!("{:?}", OnceLock::<i32>::default()), "OnceLock(<uninit>)");
        let five = OnceLock::from(5);
        assert_eq!(format!("{five:?}"), "OnceLock(5)");
        assert!(five.clone() == five && five != OnceLock::new());
        assert_eq!(OnceLock::<i32>::new().clone(), OnceLock::new());
    });
}

#[test]
fn one_of_many_makes_the_value() {
    on_both(|| {
        for _ in 0..20 {
            let (cell, made) = (OnceLock::new(), AtomicUsize::new(0));
            together(4, || {
                let value = cell.get_or_init(|| {
                    gort::yield_now();
                    made.fetch_add(1, SeqCst)
                });
                assert_eq!(*value, 0);
            });
            assert_eq!(made.into_inner(), 1);
        }
    });
}

#[test]
fn a_value_is_waited_for() {
    on_both(|| {
        let cell = Arc::new(OnceLock::new());
        let waits = go({
            let cell = cell.clone();
            move || *cell.wait()
        });
        until_parked(&waits, "sync.Once.Do");
        cell.set(5).unwrap();
        assert_eq!(waits.join().unwrap(), 5);
    });
}

#[test]
fn a_lazy_value_is_made_at_its_first_use_and_by_one() {
    on_both(|| {
        let made = AtomicUsize::new(0);
        let lazy = LazyLock::new(|| {
            gort::yield_now();
            made.fetch_add(1, SeqCst) + 1
        });
        assert_eq!(format!("{lazy:?}"), "LazyLock(<uninit>)");
        assert_eq!(made.load(SeqCst), 0);
        together(4, || assert_eq!(*lazy, 1));
        assert_eq!(format!("{lazy:?}"), "LazyLock(1)");
        let mut list = LazyLock::new(|| vec![1]);
        list.push(2);
        assert_eq!(*list, [1, 2]);
        assert_eq!(*LazyLock::<u8>::default(), 0);
    });
}

#[test]
fn at_a_barrier_all_wait_for_all_and_one_leads() {
    const ROUNDS: usize = 50;
    on_both(|| {
        let (barrier, come, leaders) = (Barrier::new(8), AtomicUsize::new(0), AtomicUsize::new(0));
        together(4, || {
            for round in 1..=ROUNDS {
                come.fetch_add(1, SeqCst);
                if barrier.wait().is_leader() {
                    leaders.fetch_add(1, SeqCst);
                }
                assert!(come.load(SeqCst) >= 8 * round);
            }
        });
        assert_eq!((come.into_inner(), leaders.into_inner()), (8 * ROUNDS, ROUNDS));
    });
}

#[test]
fn nobody_waits_at_a_barrier_for_one() {
    on_both(|| {
        for n in [0, 1] {
            let barrier = Barrier::new(n);
            assert!((0..3).all(|_| barrier.wait().is_leader()));
        }
    });
}

#[test]
fn who_must_not_be_suspended_is_not_counted_at_a_barrier() {
    common::at_each_size(|| {
        let barrier = Arc::new(Barrier::new(2));
        let refused = catch_unwind(AssertUnwindSafe(|| {
            let _guard = no_suspend();
            barrier.wait();
        }));
        assert!(refused.is_err());
        let other = go({
            let barrier = barrier.clone();
            move || barrier.wait().is_leader()
        });
        until_parked(&other, "sync.Barrier.Wait");
        assert!(barrier.wait().is_leader());
        assert!(!other.join().unwrap());
    });
}
