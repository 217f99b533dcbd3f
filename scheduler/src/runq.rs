//! [`RunQueue`]: the local run queue of a P (Go's `runq`), a ring, and the `runnext` slot before it.
//!
//! ```text
//!   runnext            head                             tail
//!   [ gp ]      . . .  [gp] [gp] [gp] [gp] [gp] [gp]    . . .
//!    runs next          gets, steals                    puts
//! ```
//!
//! `runnext` holds the G that was made ready last: it runs next, warm, and inherits the time slice of the one that
//! readied it. What it displaces goes to the tail of the ring.
//!
//! Puts are the owner's, who has the P. Gets and steals take from the front; they come in two ways, and the words that they change,
//! `head` and `runnext`, each say in their lowest bit in which:
//!
//! - *shared*: whoever takes something does so with one atomic exchange, as in Go;
//! - *kept*: only who has the P takes something, with a load and a store. A thief must borrow the P from its M first
//!   (`Handoff::borrow`), which costs a system call and, while the M computes, an interrupt of its core, some 3 µs.
//!
//! So goroutines that switch all the time, and are through with their queue in a moment, keep it; those that compute for longer, so
//! that thieves may come for others, share it ([`FINE`]), and so do those that a thief could not borrow from (`Handoff::ask`).
//! Which of the two is only a matter of cost. A P on its way to another M shares its queue, since nobody can borrow it, and
//! one that no M has has an empty queue (`wake::release_p`).
//!
//! I1: A G that was put is got exactly once, by the owner or by one thief: I3, and the exchange of `head`, which fails if anybody
//! else has taken anything since its caller read the slots.
//!
//! I2: Whoever gets a G sees all that its readier did: Release in the stores of `tail` and `runnext`, Acquire in the loads of
//! who takes it; or it is the owner that put it, or the next owner or a borrower of the P, who see all that the last one did
//! (`handoff`, `idle`).
//!
//! I3: Who has the P is its owner, or a thief that has borrowed it while its owner is outside the runtime. `tail`, and `runnext`
//! while it is empty, are written only by who has the P. So are `head` and `runnext` while they are kept: their exchanges by others
//! expect the mark to be clear.
//!
//! I4: A slot is written again only when what was in it has been taken, since the ring never holds `ROOM`: the owner that
//! sees `head` behind it (Acquire) comes after the thief that read it (Release). It is never full: who puts spills half to the
//! global queue at [`FULL`], and what is put without that (`RunQueue::append`, what was displaced when a slice ends) is bounded by
//! what was taken before.
//!
//! **Differs from Go**: a ring of [`FULL`] there spills when it is full, and what is kept is ours.
//!
//! **Rejected**: `crossbeam-deque` (which this was): its ring may grow, for which a put reads a thread-local; its get is always a
//! read-modify-write; and nobody can look ahead in it, so that who was behind whom had to be noted in the Gs. An exchange for
//! all: the owner's for each goroutine that is readied and run cost more than the rest of the queue, since each waits until the
//! stores before it have left the store buffer, which are stores to a stack and a channel that nobody had in the cache. All
//! kept: where goroutines compute for some µs between two hand-overs, thieves come for each, and the interrupt costs more than
//! the exchange did (docs/wake-policy.md has the numbers).

use crate::g::G;
use crate::globq::GlobQueue;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use crossbeam_utils::CachePadded;
use std::ptr;

/// A G in a queue. The queue's taker owns it (status Runnable).
#[derive(Clone, Copy, Debug)]
pub struct Gp(pub &'static G);

/// The length at which half of a local queue goes to the global one, as in Go. Short in the models of loom, which look at all
/// interleavings.
pub const FULL: usize = if cfg!(loom) { 4 } else { 256 };

/// Slots of a ring (I4).
const ROOM: usize = 2 * FULL;

/// Nanoseconds between two switches below which a queue is kept. An exchange, of some 10 ns, does not matter beside as much.
pub const FINE: u64 = 1_000;

/// The mark of a word that is kept: in `head`, whose number of the first slot is above it, and in `runnext`, as a bit that no
/// address of a G has.
const KEPT: usize = 1;
/// One slot further, in `head`.
const NEXT: usize = 2;
const _: () = assert!(align_of::<G>() > KEPT, "there is a bit for the mark");

/// See the module.
#[derive(Debug)]
pub struct RunQueue {
    words: CachePadded<Words>,
    slots: [AtomicPtr<G>; ROOM],
}

#[derive(Debug)]
struct Words {
    runnext: AtomicPtr<G>,
    head: AtomicUsize,
    tail: AtomicUsize,
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

impl Default for RunQueue {
    /// Empty, and shared.
    fn default() -> RunQueue {
        let words = Words {
            runnext: AtomicPtr::new(ptr::null_mut()),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
        };
        let slots = std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut()));
        RunQueue { words: CachePadded::new(words), slots }
    }
}

/// For who has the P.
impl RunQueue {
    /// Keeps the queue from now on, or shares it. What is in `runnext` stays as it is.
    pub fn keep(&self, keep: bool) {
        let head = self.words.head.load(Ordering::Relaxed);
        if keep && head & KEPT == 0 {
            // A thief may change it meanwhile.
            // ORDERING: Acquire: what thieves have read before, they have read before what is kept from now on is put (I4).
            self.words.head.fetch_or(KEPT, Ordering::Acquire);
        } else if !keep && head & KEPT != 0 {
            // ORDERING: Release: see `get`.
            self.words.head.store(head & !KEPT, Ordering::Release);
        }
    }

    /// Shares all that there is, from now on.
    pub fn share(&self) {
        self.keep(false);
        let next = self.words.runnext.load(Ordering::Relaxed);
        if !is_shared(next) {
            // ORDERING: Release publishes the G (I2), which may be a former owner's.
            self.words.runnext.store(unmarked(next), Ordering::Release);
        }
    }

    /// Takes all that there is.
    pub fn drain(&self) -> impl Iterator<Item = Gp> {
        self.take_runnext().into_iter().chain(std::iter::from_fn(|| self.get()))
    }

    /// Puts a G at the tail.
    #[inline]
    pub fn put_tail(&self, Gp(gp): Gp) {
        let tail = self.words.tail.load(Ordering::Relaxed);
        // ORDERING: Acquire, pairs with the Release in `get` and `exchange_head` (I4).
        let head = self.words.head.load(Ordering::Acquire) >> 1;
        if tail - head >= ROOM {
            has_run_over();
        }
        self.slot(tail).store(ptr::from_ref(gp).cast_mut(), Ordering::Relaxed);
        // ORDERING: Release publishes the slot, and the G (I2).
        self.words.tail.store(tail + 1, Ordering::Release);
    }

    /// Puts a G into `runnext`, and what was there at the tail. True if something was displaced.
    #[inline]
    pub fn put_next(&self, Gp(gp): Gp) -> bool {
        // Relaxed: the owner writes the mark.
        let mark = self.words.head.load(Ordering::Relaxed) & KEPT;
        let new = ptr::from_ref(gp).cast_mut().map_addr(|at| at | mark);
        // Relaxed: what the P's owner wrote, or was told of with the P (I3), or a hint that the exchange will settle.
        let seen = self.words.runnext.load(Ordering::Relaxed);
        let old = if is_shared(seen) {
            // ORDERING: Release publishes the G (I2); Acquire for what comes back, which goes on to the ring.
            self.words.runnext.swap(new, Ordering::AcqRel)
        } else {
            // ORDERING: Release, as above.
            self.words.runnext.store(new, Ordering::Release);
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
    pub fn take_runnext(&self) -> Option<Gp> {
        // Relaxed: as in `put_next`.
        let seen = self.words.runnext.load(Ordering::Relaxed);
        if seen.is_null() {
            return None;
        }
        // ORDERING: Release, pairs with the Acquire in `is_empty`: who sees it gone sees what was displaced before.
        let gp = if is_shared(seen) {
            // ORDERING: Acquire, pairs with `put_next` (I2); a former owner may have put it.
            self.words.runnext.swap(ptr::null_mut(), Ordering::AcqRel)
        } else {
            self.words.runnext.store(ptr::null_mut(), Ordering::Release);
            seen
        };
        // SAFETY: null if a thief was quicker, else a G that is now ours.
        unsafe { unmarked(gp).as_ref() }.map(Gp)
    }

    /// Takes `runnext` if it is still what the caller saw a while ago.
    pub fn take_seen(&self, seen: Seen) -> Option<Gp> {
        if self.look_at_runnext() == seen { self.take_runnext() } else { None }
    }

    /// Takes the G at the head.
    #[inline]
    pub fn get(&self) -> Option<Gp> {
        let word = self.words.head.load(Ordering::Relaxed);
        // Relaxed: the owner writes it.
        if word >> 1 == self.words.tail.load(Ordering::Relaxed) {
            return None;
        }
        if word & KEPT == 0 {
            return self.steal_one();
        }
        let gp = self.slot(word >> 1).load(Ordering::Relaxed);
        // ORDERING: Release, pairs with the Acquire in `is_empty`.
        self.words.head.store(word + NEXT, Ordering::Release);
        // SAFETY: what is in a slot between head and tail is a G, which is whose the P is.
        unsafe { gp.as_ref() }.map(Gp)
    }

    /// Moves half of the ring, as [`RunQueue::steal`] does, of a P that is borrowed.
    pub fn take_half(&self, to: &RunQueue) -> Option<Gp> {
        self.grab(to, |word, next| {
            let kept = word & KEPT != 0;
            if kept {
                self.words.head.store(next, Ordering::Release);
            }
            kept || self.exchange_head(word, next)
        })
    }

    /// Who will be got after so many others, if nobody is stolen; a hint.
    #[inline]
    pub fn peek(&self, n: usize) -> Option<&'static G> {
        let head = self.words.head.load(Ordering::Relaxed) >> 1;
        let there = head + n < self.words.tail.load(Ordering::Relaxed);
        // SAFETY: null or a G, whose memory is never freed.
        if there { unsafe { self.slot(head + n).load(Ordering::Relaxed).as_ref() } } else { None }
    }

    /// Moves half of the queue to the global one. It is kept meanwhile, so that this takes one exchange and not one for each.
    #[cold]
    #[inline(never)]
    pub fn spill(&self, globq: &GlobQueue) {
        let kept = self.is_kept();
        self.keep(true);
        globq.extend(std::iter::from_fn(|| self.get()).take(self.len() / 2));
        self.keep(kept);
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

/// For everybody.
impl RunQueue {
    /// How many wait in the ring, `runnext` not counted; may be old.
    #[inline]
    pub fn len(&self) -> usize {
        // In this order, so that a ring that is put to and got from meanwhile does not look longer than it ever was by much.
        let tail = self.words.tail.load(Ordering::Relaxed);
        tail.saturating_sub(self.words.head.load(Ordering::Relaxed) >> 1)
    }

    /// True if there was nothing to take at some moment. `tail` is looked at again after `runnext`, else a G that
    /// is displaced from there in between would be seen in neither.
    #[inline]
    pub fn is_empty(&self) -> bool {
        loop {
            // ORDERING: Acquire, pairs with the Release in `get` and `take_runnext`: who sees one gone sees what was put before. (One
            // that a thief has taken may have displaced another, whose owner is awake and about to put it.)
            let head = self.words.head.load(Ordering::Acquire) >> 1;
            let tail = self.words.tail.load(Ordering::Acquire);
            let runnext = self.words.runnext.load(Ordering::Acquire);
            if self.words.tail.load(Ordering::Acquire) == tail {
                return head >= tail && runnext.is_null();
            }
        }
    }

    /// What is in `runnext`, to be compared with a later look.
    #[inline]
    pub fn look_at_runnext(&self) -> Seen {
        // ORDERING: Acquire, pairs with the Release in `put_next`: who finds a G here finds one that has been made.
        Seen(self.words.runnext.load(Ordering::Acquire))
    }

    /// Whether a thief must borrow the P to take from the ring.
    pub fn is_kept(&self) -> bool {
        self.words.head.load(Ordering::Relaxed) & KEPT != 0
    }

    /// Takes `runnext` if it is shared, and still what the thief saw a while ago.
    pub fn steal_runnext(&self, Seen(seen): Seen) -> Option<Gp> {
        debug_assert!(is_shared(seen), "for a kept one the P is borrowed");
        // ORDERING: Acquire, pairs with `put_next` (I2).
        let won =
            self.words.runnext.compare_exchange(seen, ptr::null_mut(), Ordering::Acquire, Ordering::Relaxed);
        // SAFETY: what was in `runnext` is a G, and the exchange made it ours.
        won.ok().map(|gp| Gp(unsafe { &*gp }))
    }

    /// Moves half of the ring, rounded up, to that of a P which the caller has, and takes the last of them. Nothing if it is
    /// kept.
    pub fn steal(&self, to: &RunQueue) -> Option<Gp> {
        self.grab(to, |word, next| self.exchange_head(word, next))
    }

    /// Takes the first of the ring, without a queue for others. Nothing if it is kept.
    pub fn steal_one(&self) -> Option<Gp> {
        loop {
            // ORDERING: Acquire, pairs with the exchange in here: a later head is not read with an earlier tail.
            let word = self.words.head.load(Ordering::Acquire);
            // ORDERING: Acquire, pairs with `put_tail` (I2).
            if word & KEPT != 0 || word >> 1 >= self.words.tail.load(Ordering::Acquire) {
                return None;
            }
            let gp = self.slot(word >> 1).load(Ordering::Relaxed);
            if self.exchange_head(word, word + NEXT) {
                // SAFETY: what is in a slot between head and tail is a G, and the exchange made it ours.
                return unsafe { gp.as_ref() }.map(Gp);
            }
        }
    }

    /// Copies half of the ring, and has them if `take` succeeds in setting `head` from what it was to behind them.
    fn grab(&self, to: &RunQueue, take: impl Fn(usize, usize) -> bool) -> Option<Gp> {
        let (from, at) = (&self.words, to.words.tail.load(Ordering::Relaxed));
        // ORDERING: Acquire, as in `put_tail` (I4).
        let first = to.words.head.load(Ordering::Acquire) >> 1;
        debug_assert_eq!(first, at, "a thief has nothing of its own");
        loop {
            // ORDERING: Acquire, as in `steal_one`.
            let word = from.head.load(Ordering::Acquire);
            let head = word >> 1;
            let len = from.tail.load(Ordering::Acquire).saturating_sub(head);
            let n = (len - len / 2).min(FULL / 2);
            if n == 0 {
                return None;
            }
            for i in 0..n {
                let gp = self.slot(head + i).load(Ordering::Relaxed);
                to.slot(at + i).store(gp, Ordering::Relaxed);
            }
            if take(word, word + n * NEXT) {
                // ORDERING: Release publishes the slots, and the Gs (I2).
                to.words.tail.store(at + n - 1, Ordering::Release);
                // SAFETY: what is in a slot between head and tail is a G, which has become ours.
                return unsafe { to.slot(at + n - 1).load(Ordering::Relaxed).as_ref() }.map(Gp);
            }
            if self.is_kept() {
                return None;
            }
        }
    }

    /// Takes what is before `next`, if nobody has taken any since `word` was read, and it is shared.
    #[inline]
    fn exchange_head(&self, word: usize, next: usize) -> bool {
        // ORDERING: Release, pairs with the Acquire in `put_tail` (I4) and in `is_empty`; Acquire: of two that take, the second
        // comes after the first.
        word & KEPT == 0
            && self.words.head.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    #[inline]
    fn slot(&self, n: usize) -> &AtomicPtr<G> {
        &self.slots[n % ROOM]
    }
}

#[cold]
#[inline(never)]
fn has_run_over() -> ! {
    crate::throw!("a run queue has run over")
}

/// True if there is a G in the word that anybody may take.
#[inline]
fn is_shared(word: *mut G) -> bool {
    !word.is_null() && word.addr() & KEPT == 0
}

#[inline]
fn unmarked(word: *mut G) -> *mut G {
    word.map_addr(|at| at & !KEPT)
}
