//! Models of the wait group: who waits goes on when the count is zero, and sees what was done.
#![cfg(loom)]

use gort_scheduler::sema::WaitGroup;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

fn check(bound: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.check(model);
}

fn wait_for_two(waiters: usize, bound: usize) {
    check(bound, move || {
        let wg = Arc::new(WaitGroup::new());
        let done: Arc<[UnsafeCell<bool>; 2]> = Arc::new([UnsafeCell::new(false), UnsafeCell::new(false)]);
        let see = |done: &[UnsafeCell<bool>; 2]| {
            // SAFETY: the model checks that those who write are before.
            done.iter().for_each(|d| assert!(d.with(|d| unsafe { *d }), "gone on too early"));
        };
        wg.add(2);
        let threads: Vec<_> = (0..2)
            .map(|i| {
                let (wg, done) = (wg.clone(), done.clone());
                thread::spawn(move || {
                    // SAFETY: the model checks that nobody reads yet.
                    done[i].with_mut(|d| unsafe { *d = true });
                    wg.add(-1);
                })
            })
            .collect();
        let others: Vec<_> = (1..waiters)
            .map(|_| {
                let (wg, done) = (wg.clone(), done.clone());
                thread::spawn(move || {
                    wg.wait();
                    see(&done);
                })
            })
            .collect();
        wg.wait();
        see(&done);
        threads.into_iter().chain(others).for_each(|t| t.join().unwrap());
        assert_eq!(wg.count(), 0);
    });
}

#[test]
fn a_wait_ends_when_all_is_done_and_not_before() {
    wait_for_two(1, 3);
}

#[test]
fn all_waits_end() {
    wait_for_two(2, 2);
}

#[test]
fn a_group_can_be_used_again() {
    check(3, || {
        let wg = Arc::new(WaitGroup::new());
        for _ in 0..2 {
            wg.add(1);
            let other = {
                let wg = wg.clone();
                thread::spawn(move || wg.add(-1))
            };
            wg.wait();
            other.join().unwrap();
        }
    });
}
