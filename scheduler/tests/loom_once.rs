//! Models of `Once`: the real code, and that of the gate that it waits at.
#![cfg(loom)]

use gort_scheduler::g::WaitReason;
use gort_scheduler::gate::Gate;
use gort_scheduler::once::{Once, Poisoned};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

/// What is made once.
struct Made {
    once: Once,
    value: UnsafeCell<u32>,
}

impl Made {
    fn new() -> Arc<Made> {
        Arc::new(Made { once: Once::new(), value: UnsafeCell::new(0) })
    }

    fn make(&self) -> Result<(), Poisoned> {
        // SAFETY: the model checks that nobody else is at it.
        self.once.call(false, |_| {
            self.value.with_mut(|v| unsafe { *v += 1 });
            true
        })
    }

    /// A function that fails. (One that panics ends the same way, but loom's threads share one count of panics.)
    fn fail(&self) -> (bool, Result<(), Poisoned>) {
        let mut ran = false;
        let result = self.once.call(false, |_| {
            ran = true;
            false
        });
        (ran, result)
    }

    fn value(&self) -> u32 {
        // SAFETY: as above.
        self.value.with(|v| unsafe { *v })
    }
}

#[test]
fn it_is_done_once_and_seen_by_all() {
    model(3, || {
        let made = Made::new();
        let others: Vec<_> = (0..2)
            .map(|_| {
                let made = made.clone();
                thread::spawn(move || {
                    made.make().unwrap();
                    assert_eq!(made.value(), 1);
                })
            })
            .collect();
        made.make().unwrap();
        assert_eq!(made.value(), 1);
        others.into_iter().for_each(|t| t.join().unwrap());
    });
}

#[test]
fn who_finds_it_completed_sees_what_was_done() {
    model(3, || {
        let made = Made::new();
        let other = {
            let made = made.clone();
            thread::spawn(move || made.make().unwrap())
        };
        if made.once.is_completed() {
            assert_eq!(made.value(), 1);
        }
        made.once.wait(false).unwrap();
        assert_eq!(made.value(), 1);
        other.join().unwrap();
    });
}

#[test]
fn a_failure_wakes_those_who_wait_and_one_of_them_is_next() {
    model(3, || {
        let made = Made::new();
        let other = {
            let made = made.clone();
            thread::spawn(move || _ = made.fail())
        };
        // SAFETY: the model checks that nobody else is at it.
        made.once
            .call(true, |_| {
                made.value.with_mut(|v| unsafe { *v += 1 });
                true
            })
            .unwrap();
        assert_eq!(made.value(), 1);
        other.join().unwrap();
    });
}

#[test]
fn a_poisoned_one_refuses_those_who_mind() {
    model(3, || {
        let made = Made::new();
        let other = {
            let made = made.clone();
            thread::spawn(move || made.fail())
        };
        let here = made.make();
        let (failed_there, there) = other.join().unwrap();
        assert_eq!(here.is_err(), failed_there, "one of the two functions ran");
        assert!(there.is_ok(), "who fails is not refused, nor who comes after it was done");
    });
}

#[test]
fn an_opened_gate_lets_everybody_through() {
    model(3, || {
        let gate = Arc::new(Gate::new(0));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let gate = gate.clone();
                thread::spawn(move || gate.wait(WaitReason::Zero, |&n| n == 2))
            })
            .collect();
        for _ in 0..2 {
            gate.update(|n| {
                *n += 1;
                ((), *n == 2)
            });
        }
        others.into_iter().for_each(|t| t.join().unwrap());
    });
}
