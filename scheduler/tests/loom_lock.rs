//! Model of the short lock (`sync::lock`).
#![cfg(loom)]

use gort_scheduler::sync::SpinLock;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

#[test]
fn each_holder_sees_what_the_one_before_wrote() {
    loom::model(|| {
        let shared = Arc::new((SpinLock::new(), UnsafeCell::new(0)));
        let add = |shared: &(SpinLock, UnsafeCell<i32>)| {
            // Without the bell of `lock`: what is left is the lock's own two orderings.
            if shared.0.try_lock() {
                // SAFETY: the lock is held.
                shared.1.with_mut(|p| unsafe { *p += 1 });
                shared.0.unlock();
                return true;
            }
            false
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || add(&shared))
        };
        let here = add(&shared);
        let there = other.join().unwrap();
        // SAFETY: the other thread has ended.
        shared.1.with(|p| assert_eq!(unsafe { *p }, i32::from(here) + i32::from(there)));
        assert!(here || there);
    });
}
