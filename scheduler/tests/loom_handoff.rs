//! Models of taking a P from an M that runs a goroutine, and of borrowing it (`handoff`). The P is a cell that loom watches: two owners at
//! once are a race.
#![cfg(loom)]

use gort_scheduler::handoff::{Entered, Handoff};
use gort_scheduler::sync::membarrier::model::{refuse, with_barrier};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

const NO_P: usize = usize::MAX;

/// Ps, each with what belongs to its owner, and one M.
struct World {
    ps: [UnsafeCell<u32>; 2],
    handoff: Handoff,
    /// The M's P. Written by the M, in the runtime.
    p: AtomicUsize,
}

// SAFETY: loom checks the cells.
unsafe impl Sync for World {}
// SAFETY: as above.
unsafe impl Send for World {}

impl World {
    /// An M with P 0, whose goroutine has just been switched to.
    fn new() -> Arc<World> {
        let world = World {
            ps: [UnsafeCell::new(0), UnsafeCell::new(0)],
            handoff: Handoff::new(),
            p: AtomicUsize::new(0),
        };
        world.touch(0);
        world.handoff.exit();
        Arc::new(world)
    }

    /// What only the owner of a P may do.
    fn touch(&self, p: usize) {
        // SAFETY: loom checks that nobody else does.
        self.ps[p].with_mut(|n| unsafe { *n += 1 });
    }

    /// False if the P was lost.
    fn enter(&self) -> bool {
        !matches!(self.handoff.enter(), Entered::Lost { .. })
    }

    /// An operation of the M's goroutine. False if the P was lost.
    fn operation(&self) -> bool {
        let kept = self.enter();
        if kept {
            self.touch(self.p.load(Ordering::Relaxed));
        } else {
            self.p.store(NO_P, Ordering::Relaxed);
        }
        self.handoff.exit();
        kept
    }

    /// Takes this P from the M, if it can be taken, and uses it.
    fn retake(&self, p: usize) -> bool {
        let taken = self.handoff.retake(false, || self.p.load(Ordering::Relaxed) == p, || false);
        if taken {
            self.touch(p);
        }
        taken
    }

    /// Uses this P for a moment, if it can be had.
    fn borrow(&self, p: usize) -> bool {
        self.handoff.borrow(|| self.p.load(Ordering::Relaxed) == p, || self.touch(p)).is_some()
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(model);
}

#[test]
fn a_p_has_one_owner_while_it_is_taken_from_an_m_that_goes_in_and_out() {
    check(|| {
        let world = World::new();
        let sysmon = {
            let world = world.clone();
            thread::spawn(move || world.retake(0))
        };
        let kept = world.operation() && world.operation();
        let taken = sysmon.join().unwrap();
        // A P that was taken after the last operation is noticed in the next one.
        assert_eq!(taken, !(kept && world.operation()));
    });
}

#[test]
fn of_two_retakers_one_gets_the_p() {
    check(|| {
        let world = World::new();
        let others = [(); 2].map(|()| {
            let world = world.clone();
            thread::spawn(move || world.retake(0))
        });
        let kept = world.operation();
        let taken = others.into_iter().map(|t| t.join().unwrap()).filter(|taken| *taken).count();
        assert!(taken <= 1);
        assert_eq!(taken == 1, !(kept && world.operation()));
    });
}

#[test]
fn an_m_that_has_gone_on_to_another_p_does_not_lose_that_one() {
    check(|| {
        let world = World::new();
        let sysmon = {
            let world = world.clone();
            thread::spawn(move || world.retake(0))
        };
        // Gives its P up, and comes out with another one.
        if world.enter() {
            world.touch(0);
            world.p.store(1, Ordering::Relaxed);
        } else {
            world.p.store(NO_P, Ordering::Relaxed);
        }
        let moved = world.p.load(Ordering::Relaxed) == 1;
        world.handoff.exit();
        let taken = sysmon.join().unwrap();
        assert_eq!(taken, !moved);
        assert!(!moved || world.operation(), "P 1 was taken, which nobody had asked for");
    });
}

#[test]
fn an_m_that_lost_its_p_keeps_the_next_one() {
    check(|| {
        let world = World::new();
        let taken = world.retake(0);
        assert!(taken);
        let late = {
            let world = world.clone();
            // Looks for P 0 while the M comes back, finds it gone, and gets another one.
            thread::spawn(move || world.retake(0))
        };
        assert_eq!(world.handoff.enter(), Entered::Lost { hog: false });
        world.p.store(1, Ordering::Relaxed);
        world.handoff.exit();
        assert!(!late.join().unwrap(), "taken twice");
        assert!(world.operation());
    });
}

#[test]
fn a_borrower_has_the_p_for_itself_while_the_m_goes_in_and_out() {
    check(|| {
        let world = World::new();
        let thief = {
            let world = world.clone();
            thread::spawn(move || world.borrow(0))
        };
        assert!(world.operation() && world.operation(), "what was borrowed was not given back");
        thief.join().unwrap();
        assert!(world.operation());
    });
}

#[test]
fn a_p_is_borrowed_or_taken_or_in_use() {
    check(|| {
        let world = World::new();
        let sysmon = {
            let world = world.clone();
            thread::spawn(move || world.retake(0))
        };
        let thief = {
            let world = world.clone();
            thread::spawn(move || world.borrow(0))
        };
        let kept = world.operation();
        let taken = sysmon.join().unwrap();
        thief.join().unwrap();
        assert_eq!(taken, !(kept && world.operation()));
    });
}

#[test]
fn the_p_that_an_m_has_gone_on_to_is_not_borrowed_for_another() {
    check(|| {
        let world = World::new();
        let thief = {
            let world = world.clone();
            thread::spawn(move || world.borrow(0))
        };
        assert!(world.enter());
        world.touch(0);
        // Gives it up to somebody who uses it at once, and comes out with another one.
        world.p.store(1, Ordering::Relaxed);
        let next = {
            let world = world.clone();
            thread::spawn(move || world.touch(0))
        };
        world.handoff.exit();
        assert!(world.operation());
        next.join().unwrap();
        thief.join().unwrap();
    });
}

/// A thief that gets nothing is heard, at this entry or at the next.
#[test]
fn who_asks_is_heard_at_the_next_entry() {
    check(|| {
        let world = World::new();
        world.handoff.ask();
        assert_eq!(world.handoff.enter(), Entered::Asked);
        world.handoff.exit();
        assert_eq!(world.handoff.enter(), Entered::Kept, "once");
        world.handoff.exit();
        let thief = {
            let world = world.clone();
            thread::spawn(move || {
                let borrowed = world.borrow(0);
                if !borrowed {
                    world.handoff.ask();
                }
                borrowed
            })
        };
        let first = world.handoff.enter();
        world.touch(0);
        world.handoff.exit();
        let borrowed = thief.join().unwrap();
        assert!(borrowed || first == Entered::Asked || world.handoff.enter() == Entered::Asked);
    });
}

#[test]
fn who_asks_does_not_keep_the_p_from_being_taken() {
    check(|| {
        let world = World::new();
        let thief = {
            let world = world.clone();
            thread::spawn(move || world.handoff.ask())
        };
        let taken = world.retake(0);
        thief.join().unwrap();
        assert!(taken || world.retake(0));
        assert_eq!(world.handoff.enter(), Entered::Lost { hog: false });
    });
}

/// The M's operations have no fence at first. What the barrier would do is not in the model, so nobody asks
/// for the P before that.
#[test]
fn when_the_barrier_is_refused_a_p_is_taken_only_from_an_m_that_fences() {
    with_barrier(|| {
        check(|| {
            let world = World::new();
            let sysmon = {
                let world = world.clone();
                thread::spawn(move || {
                    refuse();
                    world.retake(0) || world.retake(0)
                })
            };
            let kept = world.operation() && world.operation();
            let taken = sysmon.join().unwrap();
            assert_eq!(taken, !(kept && world.operation()));
        });
    });
}

#[test]
fn an_m_that_has_come_in_since_the_barrier_was_refused_can_lose_its_p() {
    with_barrier(|| {
        check(|| {
            let world = World::new();
            refuse();
            assert!(!world.retake(0), "nothing is known of what the M did before");
            assert!(world.operation());
            assert!(world.retake(0));
            assert!(!world.operation());
        });
    });
}
