//! The local run queue of a P: a `crossbeam-deque` in FIFO order, and the `runnext` slot before it.
//!
//! Owner (the M that holds the P): [`RunQueue::put_next`], [`RunQueue::put_tail`], [`RunQueue::get`],
//! [`RunQueue::take_runnext`].
//! Thieves: [`Thief::steal_half`], [`Thief::steal_runnext`].
//!
//! `runnext` holds the G that was made ready last: it runs next, warm, and inherits the time slice of the one that
//! readied it. What it displaces goes to the tail of the queue.
//!
//! I1: A G that was put is got exactly once, by the owner or by one thief. The deque gives that for the queue; for
//! `runnext` every taker, the owner too, takes with one atomic exchange.
//!
//! I2: Whoever gets a G sees all that its readier did: Release in the exchange that puts it, Acquire in the one that
//! takes it; the deque has the same pair.
//!
//! I3: Only the owner puts into `runnext`. So a thief that fails to take what it saw has lost it to the owner, and
//! need not try again.
//!
//! **Differs from Go**: the queue is not bounded, only kept short: at [`FULL`] half of it goes to the global queue.
//! A thief takes at most 32 at once.
//!
//! The deque may change the size of its buffer in `push` and `pop`, and then reads a thread-local of `crossbeam-epoch`.
//! A put happens on a goroutine's stack, so it goes through functions (`push`, [`RunQueue::overflow`]) that are never
//! inlined, switch no stack, and hold an empty `asm!` that keeps the compiler from merging two calls of them: no
//! address of a thread-local gets out. All other operations are called on g0.

use crate::g::G;
use crate::globq::GlobQueue;
use crate::sync::atomic::{AtomicPtr, Ordering};
use crossbeam_deque::{Steal, Stealer, Worker};
use std::cell::Cell;

/// A G in a queue. The queue's taker owns it (status Runnable).
#[derive(Clone, Copy, Debug)]
pub struct Gp(pub &'static G);

/// The length at which half of a local queue goes to the global one, as in Go.
pub const FULL: usize = 256;

/// The owner's end.
#[derive(Debug)]
pub struct RunQueue {
    worker: Worker<Gp>,
    /// Who was put at the tail last.
    last: Cell<Option<&'static G>>,
}

/// What all can see of a P's queue.
#[derive(Debug)]
pub struct Thief {
    stealer: Stealer<Gp>,
    runnext: AtomicPtr<G>,
}

/// An empty queue's two ends.
pub fn new() -> (RunQueue, Thief) {
    let worker = Worker::new_fifo();
    let stealer = worker.stealer();
    (
        RunQueue { worker, last: Cell::new(None) },
        Thief { stealer, runnext: AtomicPtr::new(std::ptr::null_mut()) },
    )
}

/// Keeps two calls of the function that it stands in from becoming one; see the module about the thread-local.
#[inline(always)]
fn no_merging() {
    // SAFETY: does nothing; not being `pure`, it may not be left out or moved.
    #[cfg(not(loom))]
    unsafe {
        std::arch::asm!("", options(nostack, preserves_flags));
    }
}

/// `Worker::push`; see the module about the thread-local in it.
#[inline(never)]
fn push(worker: &Worker<Gp>, gp: Gp) {
    no_merging();
    worker.push(gp);
}

impl RunQueue {
    /// Puts a G at the tail.
    #[inline]
    pub fn put_tail(&self, gp: Gp) {
        if let Some(last) = self.last.replace(Some(gp.0))
            && !self.worker.is_empty()
        {
            last.set_behind(gp.0);
        }
        push(&self.worker, gp);
    }

    /// Puts a G into `runnext`, and what was there at the tail. True if something was displaced.
    #[inline]
    pub fn put_next(&self, shared: &Thief, gp: Gp) -> bool {
        // ORDERING: Release publishes the G (I2); Acquire for what comes back, which goes on to the queue.
        let old = shared.runnext.swap(std::ptr::from_ref(gp.0).cast_mut(), Ordering::AcqRel);
        // SAFETY: `runnext` holds null or a G that the exchange has just made ours.
        if let Some(old) = unsafe { old.as_ref() } {
            self.put_tail(Gp(old));
            return true;
        }
        false
    }

    /// Takes the G in `runnext`.
    #[inline]
    pub fn take_runnext(&self, shared: &Thief) -> Option<Gp> {
        // Relaxed: only the owner puts, and a thief's taking is settled by the exchange below.
        if shared.runnext.load(Ordering::Relaxed).is_null() {
            return None;
        }
        // ORDERING: Acquire, pairs with `put_next` (I2); a former owner may have put it. Release, pairs with the Acquire
        // in `is_empty`: who sees it gone sees what was displaced before.
        let gp = shared.runnext.swap(std::ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: null if a thief was quicker, else a G that is now ours.
        unsafe { gp.as_ref() }.map(Gp)
    }

    /// Takes the G at the head.
    #[inline]
    pub fn get(&self) -> Option<Gp> {
        self.worker.pop()
    }

    /// How many wait in the queue, `runnext` not counted.
    #[inline]
    pub fn len(&self) -> usize {
        self.worker.len()
    }

    /// True if the queue is empty, `runnext` not counted.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.worker.is_empty()
    }

    /// Moves half of the queue to the global one.
    #[cold]
    #[inline(never)]
    pub fn overflow(&self, globq: &GlobQueue) {
        no_merging();
        let half = self.len() / 2;
        globq.extend(std::iter::from_fn(|| self.worker.pop()).take(half));
    }

    /// Moves up to `n` of the global queue to the tail.
    pub fn append(&self, globq: &GlobQueue, n: usize) {
        globq.take(n, |gp| self.put_tail(gp));
    }

    /// Takes the first of the global queue, and moves up to `n - 1` more to the tail.
    pub fn refill(&self, globq: &GlobQueue, n: usize) -> Option<Gp> {
        let mut first = None;
        globq.take(n, |gp| match first {
            None => first = Some(gp),
            Some(_) => self.put_tail(gp),
        });
        first
    }
}

impl Thief {
    /// How many wait in the queue, `runnext` not counted; may be old.
    #[inline]
    pub fn len(&self) -> usize {
        self.stealer.len()
    }

    /// True if there was nothing to steal at some moment. The queue is looked at again after `runnext`, else a G that
    /// is displaced from there in between would be seen in neither.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // ORDERING: Acquire, pairs with the Release in `take_runnext`.
        self.stealer.is_empty() && self.runnext.load(Ordering::Acquire).is_null() && self.stealer.is_empty()
    }

    /// What is in `runnext`, to be compared with a later look only.
    #[inline]
    pub fn runnext(&self) -> *mut G {
        // Relaxed: a hint.
        self.runnext.load(Ordering::Relaxed)
    }

    /// Moves about half of the queue to the thief's own and takes the last of them.
    pub fn steal_half(&self, to: &RunQueue) -> Option<Gp> {
        loop {
            match self.stealer.steal_batch_and_pop(&to.worker) {
                Steal::Success(gp) => return Some(gp),
                Steal::Empty => return None,
                Steal::Retry => {}
            }
        }
    }

    /// Takes one, for whoever has no queue of its own.
    pub fn steal_one(&self) -> Option<Gp> {
        loop {
            match self.stealer.steal() {
                Steal::Success(gp) => return Some(gp),
                Steal::Empty => break,
                Steal::Retry => {}
            }
        }
        self.steal_runnext(self.runnext())
    }

    /// Takes `runnext` if it still holds what the thief saw a while ago.
    pub fn steal_runnext(&self, seen: *mut G) -> Option<Gp> {
        if seen.is_null() {
            return None;
        }
        // ORDERING: Acquire, pairs with `put_next` (I2).
        let won =
            self.runnext.compare_exchange(seen, std::ptr::null_mut(), Ordering::Acquire, Ordering::Relaxed);
        // SAFETY: what was in `runnext` is a G, and the exchange made it ours.
        won.ok().map(|gp| Gp(unsafe { &*gp }))
    }
}
