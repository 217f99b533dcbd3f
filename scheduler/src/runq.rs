//! The local run queue of a P: a `crossbeam-deque` in FIFO order, and the `runnext` slot before it.
//!
//! Owner (the M that holds the P): [`RunQueue::put_next`], [`RunQueue::put_tail`], [`RunQueue::get`],
//! [`RunQueue::take_runnext`].
//! Thieves: [`Thief::steal_half`], [`Thief::steal_runnext`]; and, having borrowed the P, [`Thief::take_runnext`].
//!
//! `runnext` holds the G that was made ready last: it runs next, warm, and inherits the time slice of the one that
//! readied it. What it displaces goes to the tail of the queue. It is put there in one of two ways:
//!
//! - *shared*: whoever takes it does so with one atomic exchange, as in Go;
//! - *kept*, with a mark in the word: only who has the P takes it, with a load and a store. A thief must borrow the P from its M
//!   first (`Handoff::borrow`), which costs a system call and, while the M computes, an interrupt of its core, some 3 µs.
//!
//! So what is put by goroutines that switch all the time, and will take it themselves in a moment, is kept; and what is put by those
//! that compute for longer, so that thieves may come for it, is shared ([`FINE`]). Which of the two is only a matter of cost.
//!
//! I1: A G that was put is got exactly once, by the owner or by one thief. The deque gives that for the queue; I3 for
//! `runnext`.
//!
//! I2: Whoever gets a G sees all that its readier did. The deque has a Release and an Acquire for that, and so has the exchange in
//! `runnext`; what was kept there is taken by the owner that put it, or by the next owner or a borrower of the P, who
//! see all that the last one did (`handoff`, `idle`).
//!
//! I3: Who has the P is its owner, or a thief that has borrowed it while its owner is outside the runtime. Only who has the P
//! puts into `runnext`, and only a shared G is taken from there by others. So as long as the word is empty or kept nobody else
//! changes it, and who has the P reads and writes it as its own; and a thief that fails to take what it saw has lost it to the
//! owner, and need not try again.
//!
//! **Rejected**: an exchange for all. The owner's two for each goroutine that is readied
//! and run cost more than the rest of the queue: each waits until the stores before it have left the store buffer, which are
//! stores to a stack and a channel that nobody had in the cache. All kept: where goroutines compute for some µs between two
//! hand-overs, thieves come for each, and the interrupt costs more than the exchange did.
//! (docs/wake-policy.md has the numbers.)
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
use std::ptr;

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

/// What was in `runnext` at some look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen(*mut G);

impl Seen {
    /// Nothing.
    pub const NOTHING: Seen = Seen(ptr::null_mut());

    /// Whether its P must be borrowed to take it.
    pub fn is_kept(self) -> bool {
        self.0.addr() & KEPT != 0
    }

    /// The G, whose memory is never freed; it may long be somewhere else.
    #[inline]
    pub fn g(self) -> Option<&'static G> {
        // SAFETY: null or a G, whose memory is never freed.
        unsafe { unmarked(self.0).as_ref() }
    }
}

/// An empty queue's two ends.
pub fn new() -> (RunQueue, Thief) {
    let worker = Worker::new_fifo();
    let stealer = worker.stealer();
    (RunQueue { worker, last: Cell::new(None) }, Thief { stealer, runnext: AtomicPtr::new(ptr::null_mut()) })
}

/// Nanoseconds between two switches below which what is put into `runnext` is kept. An exchange, of some 10 ns, does not
/// matter beside as much.
pub const FINE: u64 = 1_000;

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

    /// Puts a G into `runnext`, kept or shared, and what was there at the tail. True if something was displaced.
    #[inline]
    pub fn put_next(&self, shared: &Thief, gp: Gp, keep: bool) -> bool {
        let new = ptr::from_ref(gp.0).cast_mut().map_addr(|at| if keep { at | KEPT } else { at });
        // Relaxed: what the P's owner wrote, or was told of with the P (I3), or a hint that the exchange will settle.
        let seen = shared.runnext.load(Ordering::Relaxed);
        let old = if is_shared(seen) {
            // ORDERING: Release publishes the G (I2); Acquire for what comes back, which goes on to the queue.
            shared.runnext.swap(new, Ordering::AcqRel)
        } else {
            // ORDERING: Release, as above.
            shared.runnext.store(new, Ordering::Release);
            seen
        };
        // SAFETY: null if a thief was quicker, else a G that is now ours.
        if let Some(old) = unsafe { unmarked(old).as_ref() } {
            self.put_tail(Gp(old));
            return true;
        }
        false
    }

    /// Takes the G in `runnext`.
    #[inline]
    pub fn take_runnext(&self, shared: &Thief) -> Option<Gp> {
        shared.take()
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
        // ORDERING: Acquire, pairs with the Release in `take`.
        self.stealer.is_empty() && self.runnext.load(Ordering::Acquire).is_null() && self.stealer.is_empty()
    }

    /// What is in `runnext`, to be compared with a later look only.
    #[inline]
    pub fn look_at_runnext(&self) -> Seen {
        // Relaxed: a hint.
        Seen(self.runnext.load(Ordering::Relaxed))
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

    /// Takes one of the queue, for whoever has no queue of its own.
    pub fn steal_one(&self) -> Option<Gp> {
        loop {
            match self.stealer.steal() {
                Steal::Success(gp) => return Some(gp),
                Steal::Empty => return None,
                Steal::Retry => {}
            }
        }
    }

    /// Takes what is in `runnext` if it is shared, and still what the thief saw a while ago.
    pub fn steal_runnext(&self, Seen(seen): Seen) -> Option<Gp> {
        debug_assert!(is_shared(seen), "for a kept one the P is borrowed");
        // ORDERING: Acquire, pairs with `put_next` (I2).
        let won = self.runnext.compare_exchange(seen, ptr::null_mut(), Ordering::Acquire, Ordering::Relaxed);
        // SAFETY: what was in `runnext` is a G, and the exchange made it ours.
        won.ok().map(|gp| Gp(unsafe { &*gp }))
    }

    /// Takes what is in `runnext` if it is still what the caller saw a while ago, who has borrowed the P.
    pub fn take_runnext(&self, seen: Seen) -> Option<Gp> {
        if self.look_at_runnext() == seen { self.take() } else { None }
    }

    /// Takes the G in `runnext`. The caller has the P.
    #[inline]
    fn take(&self) -> Option<Gp> {
        // Relaxed: as in `put_next`.
        let seen = self.runnext.load(Ordering::Relaxed);
        if seen.is_null() {
            return None;
        }
        // ORDERING: Release, pairs with the Acquire in `is_empty`: who sees it gone sees what was displaced before.
        let gp = if is_shared(seen) {
            // ORDERING: Acquire, pairs with `put_next` (I2); a former owner may have put it.
            self.runnext.swap(ptr::null_mut(), Ordering::AcqRel)
        } else {
            self.runnext.store(ptr::null_mut(), Ordering::Release);
            seen
        };
        // SAFETY: null if a thief was quicker, else a G that is now ours.
        unsafe { unmarked(gp).as_ref() }.map(Gp)
    }
}

/// The mark of a G in `runnext` that is kept.
const KEPT: usize = 1;
const _: () = assert!(align_of::<G>() > KEPT, "there is a bit for the mark");

/// True if there is a G in the word that anybody may take.
#[inline]
fn is_shared(word: *mut G) -> bool {
    !word.is_null() && word.addr() & KEPT == 0
}

#[inline]
fn unmarked(word: *mut G) -> *mut G {
    word.map_addr(|at| at & !KEPT)
}
