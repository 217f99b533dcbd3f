//! Models of sleep and wake by address: a waker, a deadline, and others at the same bucket.
#![cfg(loom)]

use gort_scheduler::g::WaitReason;
use gort_scheduler::model::sleep;
use gort_scheduler::proc::getg;
use gort_scheduler::sema::root_for;
use gort_scheduler::time::clock::Nanos;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread;

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// A deadline of the model: it comes when the model says so.
const SOME_TIME: Nanos = Nanos(u64::MAX - 1);

/// A semaphore as simple as can be: permits, changed under the bucket's lock.
#[derive(Default)]
struct Permits {
    n: AtomicUsize,
}

impl Permits {
    fn acquire(&self, deadline: Nanos) -> bool {
        let queue = root_for(self);
        let n = self.n.load(Relaxed);
        if n > 0 {
            self.n.store(n - 1, Relaxed);
            return true;
        }
        // SAFETY: the caller's G, in no other wait.
        unsafe { queue.park(getg(), false, deadline, WaitReason::Semacquire).is_ok() }
    }

    fn release(&self) {
        let mut queue = root_for(self);
        let first = queue.dequeue(0);
        if first.is_none() {
            self.n.store(self.n.load(Relaxed) + 1, Relaxed);
        }
        drop(queue);
        if let Some(first) = first {
            first.ready();
        }
    }
}

#[test]
fn a_permit_goes_to_a_waiter_or_stays() {
    check(|| {
        let sema = Arc::new(Permits::default());
        let timed = {
            let sema = sema.clone();
            thread::spawn(move || sema.acquire(SOME_TIME))
        };
        let timer = thread::spawn(sleep::pass);
        sema.release();
        timer.join().unwrap();
        let got = timed.join().unwrap();
        assert_eq!(sema.n.load(Relaxed), usize::from(!got), "a permit is lost, or there are two");
    });
}

#[test]
fn a_permit_passes_over_one_whose_deadline_has_come() {
    check(|| {
        let sema = Arc::new(Permits::default());
        let others: Vec<_> = [SOME_TIME, Nanos::NEVER]
            .into_iter()
            .map(|deadline| {
                let sema = sema.clone();
                thread::spawn(move || {
                    let got = sema.acquire(deadline);
                    // So that the other one does not wait for ever.
                    if got && deadline != Nanos::NEVER {
                        sema.release();
                    }
                    got
                })
            })
            .collect();
        sleep::pass();
        sema.release();
        let got: Vec<_> = others.into_iter().map(|t| t.join().unwrap()).collect();
        assert!(got[1]);
        assert_eq!(sema.n.load(Relaxed), 0);
    });
}

#[test]
fn addresses_do_not_meet_though_their_bucket_does() {
    check(|| {
        let two = Arc::new((Permits::default(), Permits::default()));
        let other = {
            let two = two.clone();
            thread::spawn(move || two.0.acquire(Nanos::NEVER))
        };
        two.1.release();
        assert!(two.1.acquire(Nanos::NEVER));
        two.0.release();
        assert!(other.join().unwrap());
        assert_eq!((two.0.n.load(Relaxed), two.1.n.load(Relaxed)), (0, 0));
    });
}

#[test]
fn readying_all_readies_those_who_were_there_and_no_other() {
    check(|| {
        let came = Arc::new(AtomicUsize::new(0));
        let park = |came: &AtomicUsize, deadline| {
            let queue = root_for(came);
            came.store(came.load(Relaxed) + 1, Relaxed);
            // SAFETY: the caller's G, in no other wait.
            unsafe { queue.park(getg(), false, deadline, WaitReason::Zero).is_ok() }
        };
        let waiters: Vec<_> = [true, false]
            .into_iter()
            .map(|comes_again| {
                let came = came.clone();
                thread::spawn(move || {
                    assert!(park(&came, Nanos::NEVER));
                    // While the other one is still to be readied, perhaps.
                    assert!(!comes_again || !park(&came, SOME_TIME), "readied with those before");
                })
            })
            .collect();
        let queue = loop {
            let queue = root_for(&*came);
            if came.load(Relaxed) >= 2 {
                break queue;
            }
            drop(queue);
            thread::yield_now();
        };
        let mut counted = 0;
        queue.ready_all(0, |n| counted += n);
        assert_eq!(counted, 2);
        sleep::pass();
        waiters.into_iter().for_each(|t| t.join().unwrap());
    });
}

#[test]
fn readying_all_passes_over_one_whose_deadline_has_come() {
    check(|| {
        let came = Arc::new(AtomicUsize::new(0));
        let waiters: Vec<_> = [SOME_TIME, Nanos::NEVER]
            .into_iter()
            .map(|deadline| {
                let came = came.clone();
                thread::spawn(move || {
                    let queue = root_for(&*came);
                    came.store(came.load(Relaxed) + 1, Relaxed);
                    // SAFETY: the caller's G, in no other wait.
                    unsafe { queue.park(getg(), false, deadline, WaitReason::Zero).is_ok() }
                })
            })
            .collect();
        sleep::pass();
        let mut counted = 0;
        loop {
            let queue = root_for(&*came);
            let all = came.load(Relaxed) == 2;
            queue.ready_all(0, |n| counted += n);
            if all {
                break;
            }
            thread::yield_now();
        }
        let woken = waiters.into_iter().map(|t| usize::from(t.join().unwrap())).sum::<usize>();
        assert_eq!(counted, woken);
    });
}
