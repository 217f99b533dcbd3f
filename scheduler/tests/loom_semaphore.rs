//! Models of the semaphore: no permit is lost or doubled, nobody sleeps beside one (else the model deadlocks), nobody overtakes.
#![cfg(loom)]

use gort_scheduler::model::sleep;
use gort_scheduler::sema::Semaphore;
use gort_scheduler::sema::semaphore::Cancel;
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

/// A count under one permit; the model checks that each holder is alone and sees the one before.
struct Counted {
    sema: Semaphore,
    n: UnsafeCell<usize>,
}

impl Counted {
    fn add(&self) {
        self.sema.acquire_until(1, Nanos::NEVER);
        // SAFETY: with the permit, which the model checks.
        self.n.with_mut(|n| unsafe { *n += 1 });
        self.sema.release(1);
    }
}

#[test]
fn one_permit_is_for_one_at_a_time() {
    check(2, || {
        let counted = Arc::new(Counted { sema: Semaphore::new(1), n: UnsafeCell::new(0) });
        let others: Vec<_> = (0..2)
            .map(|_| {
                let counted = counted.clone();
                thread::spawn(move || counted.add())
            })
            .collect();
        counted.add();
        others.into_iter().for_each(|t| t.join().unwrap());
        // SAFETY: all have ended.
        assert_eq!(counted.n.with(|n| unsafe { *n }), 3);
        assert_eq!(counted.sema.available(), 1);
    });
}

#[test]
fn permits_that_come_one_by_one_are_enough_for_who_wants_both() {
    check(3, || {
        let sema = Arc::new(Semaphore::new(0));
        let large = {
            let sema = sema.clone();
            thread::spawn(move || sema.acquire_until(2, Nanos::NEVER))
        };
        let other = {
            let sema = sema.clone();
            thread::spawn(move || sema.release(1))
        };
        sema.release(1);
        other.join().unwrap();
        assert!(large.join().unwrap());
        assert_eq!(sema.available(), 0);
    });
}

#[test]
fn a_permit_goes_to_who_waits_or_stays_at_a_deadline() {
    check(3, || {
        let sema = Arc::new(Semaphore::new(0));
        let timed = {
            let sema = sema.clone();
            thread::spawn(move || sema.acquire_until(1, SOME_TIME))
        };
        let timer = thread::spawn(sleep::pass);
        sema.release(1);
        timer.join().unwrap();
        let got = timed.join().unwrap();
        assert_eq!(sema.available(), usize::from(!got));
        assert!(got || sema.try_acquire(1), "somebody is in the way");
    });
}

#[test]
fn one_who_gives_up_is_not_in_the_way_of_others() {
    check(2, || {
        let sema = Arc::new(Semaphore::new(1));
        let large = {
            let sema = sema.clone();
            thread::spawn(move || sema.acquire_until(2, SOME_TIME))
        };
        let small = {
            let sema = sema.clone();
            thread::spawn(move || sema.acquire_until(1, Nanos::NEVER))
        };
        sleep::pass();
        assert!(!large.join().unwrap());
        small.join().unwrap();
        assert_eq!(sema.available(), 0);
    });
}

#[test]
fn a_cancellation_ends_the_wait_or_comes_too_late() {
    check(3, || {
        let sema = Arc::new(Semaphore::new(0));
        let cancel = Arc::new(Cancel::new(&sema));
        let waits = {
            let (sema, cancel) = (sema.clone(), cancel.clone());
            thread::spawn(move || sema.acquire_or(1, &cancel))
        };
        let other = {
            let sema = sema.clone();
            thread::spawn(move || sema.release(1))
        };
        cancel.cancel();
        other.join().unwrap();
        let got = waits.join().unwrap();
        assert_eq!(sema.available(), usize::from(!got));
        assert!(got || sema.try_acquire(1), "somebody is in the way");
    });
}

#[test]
fn a_cancelled_wait_is_not_in_the_way_of_others() {
    check(2, || {
        let sema = Arc::new(Semaphore::new(1));
        let cancel = Arc::new(Cancel::new(&sema));
        let large = {
            let (sema, cancel) = (sema.clone(), cancel.clone());
            thread::spawn(move || sema.acquire_or(2, &cancel))
        };
        let small = {
            let sema = sema.clone();
            thread::spawn(move || sema.acquire_until(1, Nanos::NEVER))
        };
        cancel.cancel();
        assert!(!large.join().unwrap());
        small.join().unwrap();
        assert_eq!(sema.available(), 0);
    });
}
