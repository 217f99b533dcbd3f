//! Models of the condition variable: a notification reaches one who waits, and a deadline takes none along.
#![cfg(loom)]

use gort_scheduler::model::sleep;
use gort_scheduler::sema::{Mutex, NotifyList};
use gort_scheduler::time::clock::Nanos;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

fn check(bound: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.check(model);
}

const SOME_TIME: Nanos = Nanos(u64::MAX - 1);

struct State {
    lock: Mutex,
    changed: NotifyList,
    /// Waits that may go on.
    permits: UnsafeCell<usize>,
}

impl State {
    fn new() -> Arc<State> {
        Arc::new(State { lock: Mutex::new(), changed: NotifyList::new(), permits: UnsafeCell::new(0) })
    }

    fn permit(&self, n: usize) {
        self.lock.lock();
        // SAFETY: under the lock, which the model checks.
        self.permits.with_mut(|p| unsafe { *p += n });
        self.lock.unlock();
    }

    /// True if there was a permit, which is taken.
    fn take(&self) -> bool {
        // SAFETY: called under the lock.
        self.permits.with_mut(|p| unsafe {
            let some = *p > 0;
            *p -= usize::from(some);
            some
        })
    }

    fn wait(&self) {
        self.lock.lock();
        while !self.take() {
            assert!(self.changed.wait_until(&self.lock, Nanos::NEVER));
        }
        self.lock.unlock();
    }
}

#[test]
fn a_notification_after_a_change_is_not_missed() {
    check(3, || {
        let s = State::new();
        let waiter = {
            let s = s.clone();
            thread::spawn(move || s.wait())
        };
        s.permit(1);
        s.changed.notify_one();
        waiter.join().unwrap();
    });
}

#[test]
fn all_who_wait_are_woken() {
    check(2, || {
        let s = State::new();
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let s = s.clone();
                thread::spawn(move || s.wait())
            })
            .collect();
        s.permit(2);
        s.changed.notify_all();
        waiters.into_iter().for_each(|t| t.join().unwrap());
        assert!(!s.changed.notify_one(), "nobody waits any more");
    });
}

#[test]
fn a_notification_or_a_deadline_ends_a_wait_and_a_notification_is_counted_once() {
    check(3, || {
        let s = State::new();
        let waiter = {
            let s = s.clone();
            thread::spawn(move || {
                s.lock.lock();
                let notified = s.changed.wait_until(&s.lock, SOME_TIME);
                s.lock.unlock();
                notified
            })
        };
        let timer = thread::spawn(sleep::pass);
        let told = s.changed.notify_one();
        timer.join().unwrap();
        let notified = waiter.join().unwrap();
        assert_eq!(told, notified, "lost, or from nowhere");
        assert!(!s.changed.notify_one(), "nobody waits any more");
    });
}

#[test]
fn a_deadline_takes_no_notification_along() {
    check(2, || {
        let s = State::new();
        let timed = {
            let s = s.clone();
            thread::spawn(move || {
                s.lock.lock();
                let notified = s.changed.wait_until(&s.lock, SOME_TIME);
                s.lock.unlock();
                // It was not meant for this one.
                if notified {
                    s.changed.notify_one();
                }
            })
        };
        let waiter = {
            let s = s.clone();
            thread::spawn(move || s.wait())
        };
        s.permit(1);
        s.changed.notify_one();
        waiter.join().unwrap();
        sleep::pass();
        timed.join().unwrap();
    });
}
