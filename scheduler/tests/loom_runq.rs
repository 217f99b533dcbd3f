//! Models of the run queue (I1 and I2 of `runq`). The deque itself is an atomic black box here; what is checked is
//! `runnext` and its way into the queue.
#![cfg(loom)]

use gort_scheduler::g::G;
use gort_scheduler::model::new_g;
use gort_scheduler::runq::{self, Gp};
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

#[test]
fn the_g_in_runnext_goes_to_the_owner_or_to_the_thief() {
    loom::model(|| {
        let gs = Gs::new(1);
        let (queue, thief) = runq::new();
        let thief = Arc::new(thief);
        let stealing = {
            let (gs, thief) = (gs.clone(), thief.clone());
            thread::spawn(move || {
                if let Some(gp) = thief.steal_runnext(thief.runnext()) {
                    gs.got_and_read(gp);
                }
            })
        };
        queue.put_next(&thief, gs.made(0));
        if let Some(gp) = queue.take_runnext(&thief) {
            gs.got_and_read(gp);
        }
        stealing.join().unwrap();
        gs.each_once();
    });
}

#[test]
fn what_runnext_displaces_is_neither_lost_nor_doubled() {
    loom::model(|| {
        let gs = Gs::new(3);
        let (queue, thief) = runq::new();
        let thief = Arc::new(thief);
        let stealing = {
            let (gs, thief) = (gs.clone(), thief.clone());
            thread::spawn(move || {
                let seen = thief.runnext();
                thief.steal_one().into_iter().for_each(|gp| gs.got(gp));
                thief.steal_runnext(seen).into_iter().for_each(|gp| gs.got(gp));
            })
        };
        for i in 0..3 {
            queue.put_next(&thief, gs.made(i));
        }
        for _ in 0..3 {
            queue.take_runnext(&thief).or_else(|| queue.get()).into_iter().for_each(|gp| gs.got(gp));
        }
        stealing.join().unwrap();
        queue.take_runnext(&thief).into_iter().chain(queue.get()).for_each(|gp| gs.got(gp));
        gs.each_once();
    });
}
