//! Models of the run queue (I1 to I4 of `runq`), kept, shared, and while its owner goes from one to the other.
#![cfg(loom)]

use gort_scheduler::g::G;
use gort_scheduler::globq::GlobQueue;
use gort_scheduler::handoff::{Entered, Handoff};
use gort_scheduler::model::new_g;
use gort_scheduler::runq::{FULL, Gp, RunQueue, Seen};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// Gs with a cell each that is written before the put and read by the getter, and a count of the gets.
struct Gs {
    gs: Vec<&'static G>,
    cells: Vec<UnsafeCell<usize>>,
    gets: Vec<AtomicUsize>,
}

impl Gs {
    fn new(n: usize) -> Arc<Gs> {
        Arc::new(Gs {
            gs: (0..n).map(|_| new_g()).collect(),
            cells: (0..n).map(|_| UnsafeCell::new(0)).collect(),
            gets: (0..n).map(|_| AtomicUsize::new(0)).collect(),
        })
    }

    fn made(&self, i: usize) -> Gp {
        // SAFETY: not put yet.
        self.cells[i].with_mut(|p| unsafe { *p = i + 1 });
        Gp(self.gs[i])
    }

    fn index(&self, Gp(gp): Gp) -> usize {
        self.gs.iter().position(|g| std::ptr::eq(*g, gp)).unwrap()
    }

    /// What was written before the put is seen.
    fn got(&self, gp: Gp) {
        let i = self.index(gp);
        // SAFETY: got once, after the put.
        assert_eq!(self.cells[i].with(|p| unsafe { *p }), i + 1);
        self.gets[i].fetch_add(1, Ordering::Relaxed);
    }

    fn each_once(&self) {
        for n in &self.gets {
            assert_eq!(n.load(Ordering::Relaxed), 1);
        }
    }
}

/// A P's queue and the handoff of the M that has it.
struct World {
    gs: Arc<Gs>,
    queue: RunQueue,
    handoff: Handoff,
}

impl World {
    /// The M has begun in the runtime.
    fn new(gs: usize, keep: bool) -> Arc<World> {
        let world = World { gs: Gs::new(gs), queue: RunQueue::default(), handoff: Handoff::new() };
        world.queue.keep(keep);
        Arc::new(world)
    }

    fn put_tail(&self, i: usize) {
        self.queue.put_tail(self.gs.made(i));
    }

    fn put_next(&self, i: usize) {
        self.queue.put_next(self.gs.made(i));
    }

    /// An operation of the owner's, in the runtime.
    fn in_runtime<R>(&self, f: impl FnOnce() -> R) -> R {
        assert!(!matches!(self.handoff.enter(), Entered::Lost { .. }), "nobody takes the P");
        let result = f();
        self.handoff.exit();
        result
    }

    /// The owner's next.
    fn next(&self) -> bool {
        let gp = self.in_runtime(|| self.queue.take_runnext().or_else(|| self.queue.get()));
        gp.map(|gp| self.gs.got(gp)).is_some()
    }

    fn borrow(&self, take: impl FnOnce() -> Option<Gp>) -> Option<Gp> {
        self.handoff.borrow(|| true, take).flatten()
    }

    /// A thief's look at `runnext`.
    fn steal_runnext(&self) {
        let seen = self.queue.look_at_runnext();
        let gp = if seen == Seen::NOTHING {
            None
        } else if seen.is_kept() {
            self.borrow(|| self.queue.take_seen(seen))
        } else {
            self.queue.steal_runnext(seen)
        };
        gp.into_iter().for_each(|gp| self.gs.got(gp));
    }

    /// A thief's look at the ring; it runs what it steals.
    fn steal_half(&self) {
        let own = RunQueue::default();
        let gp = if self.queue.is_kept() {
            self.borrow(|| self.queue.take_half(&own))
        } else {
            self.queue.steal(&own)
        };
        gp.into_iter().for_each(|gp| self.gs.got(gp));
        while let Some(gp) = own.get() {
            self.gs.got(gp);
        }
    }
}

fn together(world: &Arc<World>, others: &[fn(&World)], me: impl FnOnce(&World)) {
    let others: Vec<_> = others
        .iter()
        .map(|&other| {
            let world = world.clone();
            thread::spawn(move || other(&world))
        })
        .collect();
    me(world);
    others.into_iter().for_each(|t| t.join().unwrap());
    while world.next() {}
    world.gs.each_once();
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    check_bound(3, model);
}

fn check_bound(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn the_g_in_runnext_goes_to_the_owner_or_to_the_thief(keep: [bool; 2]) {
    check(move || {
        let world = World::new(2, keep[0]);
        together(&world, &[World::steal_runnext], |world| {
            world.put_next(0);
            world.handoff.exit();
            world.next();
            world.in_runtime(|| {
                world.queue.keep(keep[1]);
                world.put_next(1);
            });
        });
    });
}

fn of_two_thieves_one_gets_what_is_in_runnext(keep: bool) {
    check(move || {
        let world = World::new(1, keep);
        world.put_next(0);
        together(&world, &[World::steal_runnext, World::steal_runnext], |world| world.handoff.exit());
    });
}

#[test]
fn a_shared_runnext_goes_to_the_owner_or_to_a_thief() {
    the_g_in_runnext_goes_to_the_owner_or_to_the_thief([false, false]);
    of_two_thieves_one_gets_what_is_in_runnext(false);
}

#[test]
fn a_kept_runnext_goes_to_the_owner_or_to_a_thief() {
    the_g_in_runnext_goes_to_the_owner_or_to_the_thief([true, true]);
    of_two_thieves_one_gets_what_is_in_runnext(true);
}

#[test]
fn runnext_goes_to_one_while_the_owner_changes_its_mind() {
    the_g_in_runnext_goes_to_the_owner_or_to_the_thief([true, false]);
    the_g_in_runnext_goes_to_the_owner_or_to_the_thief([false, true]);
}

/// Three in the ring, of which the owner gets some, and puts another one.
fn the_ring_is_shared_out(keep: [bool; 2], thieves: &'static [fn(&World)]) {
    check(move || {
        let world = World::new(4, keep[0]);
        (0..3).for_each(|i| world.put_tail(i));
        together(&world, thieves, |world| {
            world.handoff.exit();
            world.next();
            world.in_runtime(|| {
                world.queue.keep(keep[1]);
                world.put_tail(3);
            });
            world.next();
        });
    });
}

#[test]
fn a_shared_ring_goes_to_the_owner_and_to_a_thief() {
    the_ring_is_shared_out([false, false], &[World::steal_half]);
}

#[test]
fn a_kept_ring_goes_to_the_owner_and_to_a_thief() {
    the_ring_is_shared_out([true, true], &[World::steal_half]);
}

#[test]
fn a_ring_is_shared_out_while_the_owner_changes_its_mind() {
    the_ring_is_shared_out([true, false], &[World::steal_half]);
    the_ring_is_shared_out([false, true], &[World::steal_half]);
}

#[test]
fn two_thieves_share_a_ring_out() {
    for keep in [false, true] {
        check(move || {
            let world = World::new(3, keep);
            (0..3).for_each(|i| world.put_tail(i));
            together(&world, &[World::steal_half, World::steal_half], |world| world.handoff.exit());
        });
    }
}

/// One takes the first without a queue of its own.
#[test]
fn the_first_of_a_shared_ring_is_stolen_once() {
    check(|| {
        let world = World::new(2, false);
        (0..2).for_each(|i| world.put_tail(i));
        let one = |world: &World| world.queue.steal_one().into_iter().for_each(|gp| world.gs.got(gp));
        together(&world, &[one, one], |world| {
            world.handoff.exit();
            world.next();
        });
    });
}

/// The ring goes round: a slot is not written before the thief that reads it has failed or is done.
#[test]
fn a_slot_is_used_again_when_it_is_free() {
    for keep in [false, true] {
        // A long one.
        check_bound(2, move || {
            let world = World::new(2 * FULL + 2, keep);
            world.put_tail(0);
            together(&world, &[World::steal_half], |world| {
                world.handoff.exit();
                for i in 1..2 * FULL + 2 {
                    world.in_runtime(|| world.put_tail(i));
                    world.next();
                }
            });
        });
    }
}

#[test]
fn what_is_displaced_is_neither_lost_nor_doubled() {
    for keep in [[false; 3], [true; 3], [true, false, true], [false, true, false]] {
        check(move || {
            let world = World::new(3, keep[0]);
            let thief = |world: &World| {
                world.steal_half();
                world.steal_runnext();
            };
            together(&world, &[thief], |world| {
                world.put_next(0);
                world.handoff.exit();
                for i in 1..3 {
                    world.in_runtime(|| {
                        world.queue.keep(keep[i]);
                        world.put_next(i);
                    });
                }
                world.next();
            });
        });
    }
}

#[test]
fn half_of_a_long_queue_goes_to_the_global_one() {
    check(|| {
        let world = World::new(FULL, false);
        let globq = GlobQueue::default();
        (0..FULL).for_each(|i| world.put_tail(i));
        together(&world, &[World::steal_half], |world| {
            world.queue.spill(&globq);
            world.handoff.exit();
            globq.take(FULL, |gp| world.gs.got(gp));
        });
    });
}

/// Somebody who looks whether there is something to steal, while one displaces the other, does not see nothing.
#[test]
fn a_queue_does_not_look_empty_while_one_displaces_the_other() {
    for keep in [[false; 3], [true; 3], [true, false, true]] {
        check(move || {
            let world = World::new(3, keep[0]);
            world.put_next(0);
            together(&world, &[|world| assert!(!world.queue.is_empty())], |world| {
                world.queue.keep(keep[1]);
                world.put_next(1);
                world.queue.keep(keep[2]);
                world.put_next(2);
                world.queue.take_runnext().into_iter().for_each(|gp| world.gs.got(gp));
                world.handoff.exit();
                // The last look has been.
            });
        });
    }
}
