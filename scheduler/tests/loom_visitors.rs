//! Models of the end of a scheduler (`visitors`): whoever leaves last frees it, once, and nobody uses it after that. Loom
//! reports a scheduler that is never freed as a leak of its `Arc`.
#![cfg(loom)]

use gort_scheduler::sync::Spinning;
use gort_scheduler::visitors::Visitors;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, mpsc};
use loom::thread;

/// A scheduler. Whoever uses it reads `memory`; freeing it is a write, so that loom sees one that is not ordered after the other.
struct Sched {
    visitors: Visitors,
    attached: AtomicU32,
    memory: UnsafeCell<u32>,
    /// Goroutines that are not abandoned.
    goroutines: AtomicU32,
}

struct World {
    sched: Sched,
    ended: Spinning<Vec<()>>,
    freed: AtomicBool,
}

// SAFETY: loom checks the accesses to `memory`; the rest is shared by type.
unsafe impl Sync for World {}
// SAFETY: as above.
unsafe impl Send for World {}

impl World {
    fn new(attached: u32, goroutines: u32) -> Arc<World> {
        Arc::new(World {
            sched: Sched {
                visitors: Visitors::default(),
                attached: AtomicU32::new(attached),
                memory: UnsafeCell::new(0),
                goroutines: AtomicU32::new(goroutines),
            },
            ended: Spinning::new(Vec::new()),
            freed: AtomicBool::new(false),
        })
    }

    fn uses(&self) {
        // SAFETY: loom reports a write at the same time.
        self.sched.memory.with(|memory| assert_eq!(unsafe { *memory }, 0, "used after it was freed"));
    }

    /// As `proc::shutdown::free_those_left`.
    fn free_those_left(&self) {
        let mut ended = self.ended.lock();
        let all_have_left = !ended.is_empty()
            && self.sched.attached.load(Ordering::Acquire) == 0
            && self.sched.visitors.have_left();
        let taken = if all_have_left { ended.pop() } else { None };
        drop(ended);
        if taken.is_some() && self.sched.goroutines.load(Ordering::Acquire) == 0 {
            // SAFETY: as above.
            self.sched.memory.with_mut(|memory| unsafe { *memory += 1 });
            assert!(!self.freed.swap(true, Ordering::Relaxed), "freed twice");
        }
    }

    /// As the end of `proc::schedule`.
    fn an_m_leaves(&self) {
        self.sched.visitors.enter();
        self.uses();
        self.sched.attached.fetch_sub(1, Ordering::AcqRel);
        self.uses();
        if self.sched.visitors.leave() {
            self.free_those_left();
        }
    }

    /// As `proc::wake::inject` of a goroutine that the scheduler's one M runs to its end.
    fn a_visitor_brings_the_last_goroutine(&self, pushed: impl Fn()) {
        self.sched.visitors.enter();
        pushed();
        self.uses();
        if self.sched.visitors.leave() {
            self.free_those_left();
        }
    }

    fn the_owner_ends_it(&self) {
        self.uses();
        self.ended.lock().push(());
        if self.sched.visitors.let_go() {
            self.free_those_left();
        }
    }
}

fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

#[test]
fn of_two_ms_and_the_owner_whoever_leaves_last_frees_it() {
    model(|| {
        let world = World::new(2, 0);
        let ms = [(); 2].map(|()| {
            let world = world.clone();
            thread::spawn(move || world.an_m_leaves())
        });
        world.the_owner_ends_it();
        ms.into_iter().for_each(|m| m.join().unwrap());
        assert!(world.freed.load(Ordering::Relaxed), "nobody has freed it");
    });
}

#[test]
fn a_visitor_keeps_it_while_the_goroutine_that_it_brought_runs_and_ends() {
    model(|| {
        let world = World::new(1, 1);
        let ((push, pushed), (end, ended)) = (mpsc::channel(), mpsc::channel());
        let visitor = {
            let world = world.clone();
            thread::spawn(move || world.a_visitor_brings_the_last_goroutine(|| push.send(()).unwrap()))
        };
        let m = {
            let world = world.clone();
            thread::spawn(move || {
                pushed.recv().unwrap();
                world.sched.goroutines.fetch_sub(1, Ordering::Release);
                end.send(()).unwrap();
                world.an_m_leaves();
            })
        };
        ended.recv().unwrap();
        world.the_owner_ends_it();
        visitor.join().unwrap();
        m.join().unwrap();
        assert!(world.freed.load(Ordering::Relaxed), "nobody has freed it");
    });
}

/// A goroutine is abandoned, and others still ready it: it stays, whoever comes.
#[test]
fn late_visitors_for_an_abandoned_goroutine_find_it_there() {
    model(|| {
        let world = World::new(1, 1);
        let m = {
            let world = world.clone();
            thread::spawn(move || world.an_m_leaves())
        };
        let visitor = {
            let world = world.clone();
            thread::spawn(move || world.a_visitor_brings_the_last_goroutine(|| ()))
        };
        world.the_owner_ends_it();
        m.join().unwrap();
        visitor.join().unwrap();
        assert!(!world.freed.load(Ordering::Relaxed) && world.ended.lock().is_empty());
        world.uses();
    });
}
