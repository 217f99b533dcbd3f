//! Models of the mutex: exclusion, that nobody sleeps on an open lock (else the model deadlocks), hand-over, deadlines.
//! In a model a lock counts as quiet at once (`CALM`), so the first waiter's barrier is seen from both sides.
#![cfg(loom)]

use gort_scheduler::g::{G, Status};
use gort_scheduler::model::{Sched, freeze, set_starved, sleep, thaw};
use gort_scheduler::proc::getg;
use gort_scheduler::sema::{Mutex, leave_behind};
use gort_scheduler::time::clock::Nanos;
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex as LoomMutex};
use loom::thread;

fn check(bound: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.check(model);
}

const SOME_TIME: Nanos = Nanos(u64::MAX - 1);

/// A count that the model checks for exclusion, and for each holder seeing the one before.
struct Counted {
    lock: Mutex,
    n: UnsafeCell<usize>,
}

impl Counted {
    fn new() -> Arc<Counted> {
        Arc::new(Counted { lock: Mutex::new(), n: UnsafeCell::new(0) })
    }

    fn add(&self) {
        // SAFETY: under the lock, which the model checks.
        self.n.with_mut(|n| unsafe { *n += 1 });
    }

    fn times(&self, times: usize) {
        for _ in 0..times {
            self.lock.lock();
            self.add();
            self.lock.unlock();
        }
    }

    fn count(&self) -> usize {
        self.lock.lock();
        // SAFETY: under the lock.
        let n = self.n.with(|n| unsafe { *n });
        self.lock.unlock();
        n
    }
}

fn contended(bound: usize, others: usize, times: usize, starved: bool) {
    check(bound, move || {
        set_starved(starved);
        let counted = Counted::new();
        let threads: Vec<_> = (0..others)
            .map(|_| {
                let counted = counted.clone();
                thread::spawn(move || counted.times(times))
            })
            .collect();
        counted.times(times);
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(counted.count(), (others + 1) * times);
        assert!(!counted.lock.is_locked());
    });
}

#[test]
fn one_at_a_time_and_nobody_sleeps_on_an_open_lock() {
    contended(3, 1, 2, false);
}

#[test]
fn the_same_with_three() {
    contended(2, 2, 1, false);
}

#[test]
fn the_same_with_one_who_has_waited_too_long() {
    contended(3, 1, 2, true);
}

#[test]
fn the_same_with_three_who_have_waited_too_long() {
    contended(2, 2, 1, true);
}

#[test]
fn a_lock_that_is_handed_over_reaches_one_who_waits() {
    check(2, || {
        let counted = Counted::new();
        counted.lock.lock();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let counted = counted.clone();
                thread::spawn(move || {
                    counted.lock.lock();
                    counted.add();
                    counted.lock.unlock_fair();
                })
            })
            .collect();
        counted.lock.unlock_fair();
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(counted.count(), 2);
    });
}

fn with_deadline(starved: bool) {
    check(2, move || {
        set_starved(starved);
        let counted = Counted::new();
        counted.lock.lock();
        let timed = {
            let counted = counted.clone();
            thread::spawn(move || {
                let got = counted.lock.lock_until(SOME_TIME);
                if got {
                    counted.add();
                    counted.lock.unlock();
                }
                usize::from(got)
            })
        };
        let other = {
            let counted = counted.clone();
            thread::spawn(move || counted.times(1))
        };
        sleep::pass();
        counted.lock.unlock();
        let got = timed.join().unwrap();
        other.join().unwrap();
        assert_eq!(counted.count(), 1 + got);
        assert!(!counted.lock.is_locked());
    });
}

#[test]
fn one_who_gives_up_takes_no_wake_up_along() {
    with_deadline(false);
}

#[test]
fn one_who_gives_up_is_handed_no_lock() {
    with_deadline(true);
}

#[test]
fn one_who_is_woken_and_comes_too_late_passes_it_on() {
    check(2, || {
        let counted = Counted::new();
        counted.lock.lock();
        let timed = {
            let counted = counted.clone();
            thread::spawn(move || {
                let got = counted.lock.lock_until(SOME_TIME);
                if got {
                    counted.lock.unlock();
                }
            })
        };
        let other = {
            let counted = counted.clone();
            thread::spawn(move || counted.times(1))
        };
        counted.lock.unlock();
        // Before the one who was woken, if there was one.
        counted.lock.lock();
        sleep::pass();
        counted.lock.unlock();
        timed.join().unwrap();
        other.join().unwrap();
        assert_eq!(counted.count(), 1);
    });
}

#[test]
fn a_deadline_against_an_unlock() {
    check(4, || {
        let counted = Counted::new();
        counted.lock.lock();
        let timed = {
            let counted = counted.clone();
            thread::spawn(move || {
                let got = counted.lock.lock_until(SOME_TIME);
                if got {
                    counted.lock.unlock();
                }
            })
        };
        let timer = thread::spawn(sleep::pass);
        counted.lock.unlock();
        timer.join().unwrap();
        timed.join().unwrap();
        assert!(counted.lock.try_lock(), "nobody has it any more");
    });
}

/// One is abandoned while it waits, or when it has just been woken or handed the lock; the other one must not sleep on an open lock,
/// else the model deadlocks.
fn abandoned(open: fn(&Mutex)) {
    check(2, move || {
        set_starved(false);
        let (sched, counted) = (Sched::start(), Counted::new());
        let found: Arc<LoomMutex<Option<&'static G>>> = Arc::new(LoomMutex::new(None));
        counted.lock.lock();
        let dead = {
            let (counted, found) = (counted.clone(), found.clone());
            thread::spawn(move || {
                let gp = getg();
                sched.adopt(gp);
                freeze(gp);
                *found.lock().unwrap() = Some(gp);
                counted.lock.lock();
            })
        };
        // As the end of the scheduler does, it waits until nobody runs.
        let dead_g = loop {
            let gp = *found.lock().unwrap();
            match gp {
                Some(gp) if gp.status() == Status::Waiting => break gp,
                _ => thread::yield_now(),
            }
        };
        let live = {
            let counted = counted.clone();
            thread::spawn(move || counted.times(1))
        };
        open(&counted.lock);
        sched.stop();
        // SAFETY: it is frozen, and its frame is there.
        unsafe { leave_behind(dead_g) };
        live.join().unwrap();
        assert!(counted.lock.try_lock(), "the dead one has it");
        counted.lock.unlock();
        thaw(dead_g);
        dead.join().unwrap();
    });
}

#[test]
fn one_that_was_woken_and_never_runs_leaves_its_turn_to_the_next() {
    abandoned(Mutex::unlock);
}

#[test]
fn a_lock_that_was_handed_to_one_that_never_runs_is_opened() {
    abandoned(Mutex::unlock_fair);
}
