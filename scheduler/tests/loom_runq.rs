//! Models of the run queue (I1 and I2 of `runq`). The deque itself is an atomic black box here; what is checked is
//! `runnext` and its way into the queue.
#![cfg(loom)]

use gort_scheduler::g::G;
use gort_scheduler::handoff::{Entered, Handoff};
use gort_scheduler::model::new_g;
use gort_scheduler::runq::{self, Gp, Seen, Thief};
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

    /// Counted only: what came through the deque, whose orderings loom cannot see.
    fn got(&self, gp: Gp) {
        self.gets[self.index(gp)].fetch_add(1, Ordering::Relaxed);
    }

    /// Came through `runnext` alone: what was written before the put is seen.
    fn got_and_read(&self, gp: Gp) {
        let i = self.index(gp);
        // SAFETY: got once, after the put.
        assert_eq!(self.cells[i].with(|p| unsafe { *p }), i + 1);
        self.got(gp);
    }

    fn each_once(&self) {
        for n in &self.gets {
            assert_eq!(n.load(Ordering::Relaxed), 1);
        }
    }
}

/// The thief's side of `runnext`, of a P whose M has this `handoff`.
fn steal_runnext(handoff: &Handoff, thief: &Thief) -> Option<Gp> {
    let seen = thief.look_at_runnext();
    if seen == Seen::NOTHING {
        None
    } else if seen.is_kept() {
        handoff.borrow(|| true, || thief.take_runnext(seen)).flatten()
    } else {
        thief.steal_runnext(seen)
    }
}

/// The owner's operations, each in the runtime.
fn in_runtime<R>(handoff: &Handoff, f: impl FnOnce() -> R) -> R {
    assert_eq!(handoff.enter(), Entered::Kept, "nobody takes the P");
    let result = f();
    handoff.exit();
    result
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn the_g_in_runnext_goes_to_the_owner_or_to_the_thief(keep: [bool; 2]) {
    check(move || {
        let gs = Gs::new(2);
        let (queue, thief) = runq::new();
        let shared = Arc::new((thief, Handoff::new()));
        let stealing = {
            let (gs, shared) = (gs.clone(), shared.clone());
            thread::spawn(move || {
                if let Some(gp) = steal_runnext(&shared.1, &shared.0) {
                    gs.got_and_read(gp);
                }
            })
        };
        let (thief, handoff) = &*shared;
        // The M has begun in the runtime.
        queue.put_next(thief, gs.made(0), keep[0]);
        handoff.exit();
        if let Some(gp) = in_runtime(handoff, || queue.take_runnext(thief)) {
            gs.got_and_read(gp);
        }
        in_runtime(handoff, || queue.put_next(thief, gs.made(1), keep[1]));
        stealing.join().unwrap();
        if let Some(gp) = in_runtime(handoff, || queue.take_runnext(thief)) {
            gs.got_and_read(gp);
        }
        // What was displaced, if the thief came late.
        queue.get().into_iter().for_each(|gp| gs.got(gp));
        gs.each_once();
    });
}

fn of_two_thieves_one_gets_what_is_in_runnext(keep: bool) {
    check(move || {
        let gs = Gs::new(1);
        let (queue, thief) = runq::new();
        let shared = Arc::new((thief, Handoff::new()));
        queue.put_next(&shared.0, gs.made(0), keep);
        let thieves = [(); 2].map(|()| {
            let (gs, shared) = (gs.clone(), shared.clone());
            thread::spawn(move || {
                if let Some(gp) = steal_runnext(&shared.1, &shared.0) {
                    gs.got_and_read(gp);
                }
            })
        });
        let (thief, handoff) = &*shared;
        handoff.exit();
        thieves.into_iter().for_each(|t| t.join().unwrap());
        if let Some(gp) = in_runtime(handoff, || queue.take_runnext(thief)) {
            gs.got_and_read(gp);
        }
        gs.each_once();
    });
}

fn what_runnext_displaces_is_neither_lost_nor_doubled(keep: [bool; 3]) {
    check(move || {
        let gs = Gs::new(3);
        let (queue, thief) = runq::new();
        let shared = Arc::new((thief, Handoff::new()));
        let stealing = {
            let (gs, shared) = (gs.clone(), shared.clone());
            thread::spawn(move || {
                shared.0.steal_one().into_iter().for_each(|gp| gs.got(gp));
                steal_runnext(&shared.1, &shared.0).into_iter().for_each(|gp| gs.got(gp));
            })
        };
        let (thief, handoff) = &*shared;
        for i in 0..3 {
            queue.put_next(thief, gs.made(i), keep[i]);
        }
        handoff.exit();
        for _ in 0..3 {
            in_runtime(handoff, || queue.take_runnext(thief).or_else(|| queue.get()))
                .into_iter()
                .for_each(|gp| gs.got(gp));
        }
        stealing.join().unwrap();
        in_runtime(handoff, || queue.take_runnext(thief).into_iter().chain(queue.get()).collect::<Vec<_>>())
            .into_iter()
            .for_each(|gp| gs.got(gp));
        gs.each_once();
    });
}

#[test]
fn a_shared_g_goes_to_the_owner_or_to_the_thief() {
    the_g_in_runnext_goes_to_the_owner_or_to_the_thief([false, false]);
    of_two_thieves_one_gets_what_is_in_runnext(false);
}

#[test]
fn a_kept_g_goes_to_the_owner_or_to_the_thief() {
    the_g_in_runnext_goes_to_the_owner_or_to_the_thief([true, true]);
    of_two_thieves_one_gets_what_is_in_runnext(true);
}

#[test]
fn a_g_goes_to_one_while_the_owner_changes_its_mind() {
    the_g_in_runnext_goes_to_the_owner_or_to_the_thief([true, false]);
    the_g_in_runnext_goes_to_the_owner_or_to_the_thief([false, true]);
}

#[test]
fn what_is_displaced_is_neither_lost_nor_doubled() {
    for keep in [[false; 3], [true; 3], [true, false, true], [false, true, false]] {
        what_runnext_displaces_is_neither_lost_nor_doubled(keep);
    }
}

/// Somebody who looks whether there is something to steal, while one displaces the other, does not see nothing.
#[test]
fn a_queue_does_not_look_empty_while_one_displaces_the_other() {
    check(|| {
        let gs = Gs::new(3);
        let (queue, thief) = runq::new();
        queue.put_next(&thief, gs.made(0), true);
        let thief = Arc::new(thief);
        let looking = {
            let thief = thief.clone();
            thread::spawn(move || assert!(!thief.is_empty()))
        };
        queue.put_next(&thief, gs.made(1), false);
        queue.put_next(&thief, gs.made(2), true);
        queue.take_runnext(&thief).into_iter().for_each(|gp| gs.got(gp));
        looking.join().unwrap();
    });
}
