//! [`P`]: a processor, the right to run goroutines. There are `max_procs` of them in a scheduler.
//!
//! A P is held by one M at a time or is in the idle list. What is in [`Owned`] belongs to the holder, on g0 and on
//! the stack of the goroutine that it runs alike (they are one thread); the rest is shared by type. Shared words that
//! the owner writes often and thieves read lie on a line of their own.

use crate::g::G;
use crate::gpool::GCache;
use crate::m::M;
use crate::memory::{self, Short};
use crate::runq::{FINE, RunQueue};
use crate::stack::pool::StackCache;
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::time::Timers;
use crate::time::clock::Nanos;
use crossbeam_utils::CachePadded;
use std::cell::UnsafeCell;
use std::ops::Index;
use std::sync::OnceLock;

/// What a refusal names.
const WHAT: &str = "a processor";

/// A processor; see the module.
pub struct P {
    pub(crate) id: usize,
    /// The timers that were armed here.
    pub(crate) timers: &'static Timers,
    owned: UnsafeCell<Owned>,
    pub(crate) runq: RunQueue,
    pub(crate) watched: CachePadded<Watched>,
    pub(crate) counts: CachePadded<Counts>,
}

// SAFETY: `owned` is reached through `P::owned` alone, by the M that holds the P; the hand-over of a P goes through
// the idle list's lock or an M's `nextp`. Everything else is shared by type.
unsafe impl Sync for P {}
// SAFETY: as above.
unsafe impl Send for P {}

impl std::fmt::Debug for P {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("P").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What the holder alone uses.
pub(crate) struct Owned {
    pub gcache: GCache,
    pub stacks: StackCache,
    /// Goroutine numbers taken in advance: next, end.
    pub goids: (u64, u64),
    /// When the present window of [`Estimate`] began, and how many goroutines were switched to in it.
    pub window: (Nanos, u32),
    /// Passes of the scheduler until it looks at the timers again, and whose it looked at last (`proc::timers`).
    pub timer_countdown: u32,
    pub timers_from: usize,
    /// A deadline of its heap has become the first, and the keeper has not been told.
    pub untold: bool,
    /// It leaves its work to others (`proc::crowd`).
    pub sits_out: bool,
    /// For `Config::random_order`: the state of a generator, `None` for the usual order.
    order: Option<u64>,
}

impl Owned {
    /// Whether a goroutine that would run next goes to the tail instead: never, unless the order is to be random.
    #[inline]
    pub fn shuffles(&mut self) -> bool {
        self.order.as_mut().is_some_and(|x| {
            // xorshift64, which never comes to 0 if it does not start there.
            *x ^= *x << 13;
            *x ^= *x >> 7;
            *x ^= *x << 17;
            *x >> 63 == 1
        })
    }
}

/// What sysmon and thieves look at. Written by the holder with plain stores, except `slice_over`.
#[derive(Debug)]
pub(crate) struct Watched {
    /// The M that holds it, or held it last.
    pub m: AtomicPtr<M>,
    /// Blocking calls begun.
    pub syscalltick: AtomicU32,
    /// The G that runs; null in between.
    pub curg: AtomicPtr<G>,
    /// Goroutines switched to. A thief that sees it stand still knows that the queue does.
    pub switches: AtomicU32,
    /// Time slices begun (Go's `schedtick`): not counted up for a G that inherits its slice through `runnext`.
    pub schedtick: AtomicU32,
    /// Set by sysmon when the slice has lasted too long; the next `runnext` goes to the tail instead.
    pub slice_over: AtomicBool,
    pub estimate: Estimate,
    /// Its goroutines stay together until then, if they do (`proc::crowd`).
    pub together_until: AtomicU64,
    /// Windows of the estimate for which the queue is shared, because a thief has asked.
    pub share_for: AtomicU32,
}

/// Goroutines begun and ended on this P, for `num_goroutines`. Written by the holder.
#[derive(Debug)]
pub(crate) struct Counts {
    pub spawned: AtomicU64,
    pub finished: AtomicU64,
}

/// How long goroutines run on this P between two switches: a moving average over windows, which says how long a
/// queued goroutine will wait (`proc::wake` has the use of it). 0 until the first window is over.
#[derive(Debug)]
pub(crate) struct Estimate {
    nanos: AtomicU32,
}

/// Nanoseconds between two switches from which on a P is coarse: who waits there waits for longer than a move takes.
pub(crate) const COARSE: u64 = 3_000;

/// Switches in a window: the clock is read once in so many. Few in a model, whose programs are short.
const WINDOW: u32 = if cfg!(shuttle) { 2 } else { 32 };

/// Windows for which a queue is shared that a thief has asked for: some looks of the thief's.
const SHARED_WINDOWS: u32 = 8;

impl Estimate {
    /// Nanoseconds per switch.
    #[inline]
    pub fn nanos(&self) -> u64 {
        // Relaxed: a hint.
        u64::from(self.nanos.load(Ordering::Relaxed))
    }

    fn add_window(&self, mean: u64) {
        let mean = mean.min(u64::from(u32::MAX / 2)) as u32;
        self.nanos.store(self.nanos.load(Ordering::Relaxed) / 2 + mean / 2, Ordering::Relaxed);
    }
}

/// The Ps of a scheduler by number: made when they are first needed, and never unmade.
pub(crate) struct AllP {
    ps: Box<[OnceLock<Box<P>>]>,
    made: AtomicUsize,
}

impl AllP {
    /// None, with room for so many.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn new(most: usize) -> Result<AllP, Short> {
        let mut ps = Vec::new();
        let bytes = most * size_of::<OnceLock<Box<P>>>();
        ps.try_reserve_exact(most).map_err(|_| Short::of(WHAT, bytes))?;
        ps.resize_with(most, OnceLock::new);
        Ok(AllP { ps: ps.into_boxed_slice(), made: AtomicUsize::new(0) })
    }

    /// Makes the Ps below `n` that there are not. One caller at a time.
    ///
    /// # Errors
    ///
    /// When there is no memory for all of them; then none is made.
    pub fn make(&self, n: usize, random_order: Option<u64>) -> Result<(), Short> {
        let made = self.len();
        let more = n.saturating_sub(made);
        let mut new = Vec::new();
        new.try_reserve_exact(more).map_err(|_| Short::of(WHAT, more * size_of::<Box<P>>()))?;
        for id in made..n {
            new.push(memory::try_box(WHAT, P::new(id, random_order)?).map_err(|(short, _)| short)?);
        }
        for pp in new {
            let id = pp.id;
            let _ = self.ps[id].set(pp);
            // ORDERING: Release, pairs with the Acquire in `len`.
            self.made.store(id + 1, Ordering::Release);
        }
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        // ORDERING: Acquire, pairs with the Release in `make`.
        self.made.load(Ordering::Acquire)
    }

    /// All of them, those above a lowered limit too.
    pub fn iter(&self) -> impl Iterator<Item = &P> {
        self.ps[..self.len()].iter().flat_map(|p| p.get().map(|p| &**p))
    }
}

impl Index<usize> for AllP {
    type Output = P;

    #[inline]
    fn index(&self, id: usize) -> &P {
        self.ps[id].get().expect("a P is made before it is named")
    }
}

impl P {
    /// # Errors
    ///
    /// When there is no memory.
    fn new(id: usize, random_order: Option<u64>) -> Result<P, Short> {
        Ok(P {
            id,
            timers: Timers::make()?,
            owned: UnsafeCell::new(Owned {
                gcache: GCache::default(),
                stacks: StackCache::new(),
                goids: (0, 0),
                window: (Nanos(0), 0),
                timer_countdown: 0,
                timers_from: id,
                untold: false,
                sits_out: false,
                order: random_order.map(|seed| (seed ^ id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            }),
            runq: RunQueue::default(),
            watched: CachePadded::new(Watched {
                m: AtomicPtr::default(),
                syscalltick: AtomicU32::new(0),
                curg: AtomicPtr::default(),
                switches: AtomicU32::new(0),
                schedtick: AtomicU32::new(0),
                slice_over: AtomicBool::new(false),
                estimate: Estimate { nanos: AtomicU32::new(0) },
                together_until: AtomicU64::new(0),
                share_for: AtomicU32::new(0),
            }),
            counts: CachePadded::new(Counts { spawned: AtomicU64::new(0), finished: AtomicU64::new(0) }),
        })
    }

    /// What belongs to the holder.
    ///
    /// # Safety
    ///
    /// The caller runs on the M that holds this P, and keeps the reference neither over a switch of stacks nor over a
    /// call that asks for another one.
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "exclusive by the caller's promise, as for an UnsafeCell")]
    pub(crate) unsafe fn owned(&self) -> &mut Owned {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.owned.get() }
    }

    /// Counts one switch; called by the holder for each goroutine that it runs. `inherit`: the slice goes on. True: the window
    /// of the estimate is over.
    #[inline]
    pub(crate) fn count_switch(&self, owned: &mut Owned, inherit: bool) -> bool {
        let w = &self.watched;
        // Relaxed loads and stores: this M is the only writer, readers take hints.
        w.switches.store(w.switches.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        if !inherit {
            w.schedtick.store(w.schedtick.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            if w.slice_over.load(Ordering::Relaxed) {
                w.slice_over.store(false, Ordering::Relaxed);
            }
        }
        owned.window.1 += 1;
        owned.window.1 > WINDOW
    }

    /// Begins the next window of the estimate, with the switch that was one too many. How many nanoseconds the last one took.
    pub(crate) fn end_window(&self, owned: &mut Owned) -> u64 {
        let now = Nanos::now();
        let took = now.since(owned.window.0);
        self.watched.estimate.add_window(took / u64::from(WINDOW));
        owned.window = (now, 1);
        self.keep_or_share();
        took
    }

    /// Keeps the queue if what is in it will be run in a moment, and no thief has asked for it lately. A P that has measured nothing
    /// yet shares. Called by the holder.
    fn keep_or_share(&self) {
        let w = &self.watched;
        let share_for = w.share_for.load(Ordering::Relaxed);
        if share_for > 0 {
            w.share_for.store(share_for - 1, Ordering::Relaxed);
        }
        self.runq.keep(share_for == 0 && (1..FINE).contains(&w.estimate.nanos()));
    }

    /// A thief has asked for the queue. Called by the holder.
    pub(crate) fn share_for_a_while(&self) {
        self.watched.share_for.store(SHARED_WINDOWS, Ordering::Relaxed);
        self.runq.share();
    }

    /// How many switches take so many nanoseconds, at most as many as there are between two looks at the global queue.
    pub(crate) fn passes_in(&self, nanos: u64) -> u32 {
        (nanos / self.watched.estimate.nanos().max(1)).min(61) as u32
    }

    /// Begins a window of the estimate afresh: the P was idle.
    pub(crate) fn restart_window(&self, owned: &mut Owned) {
        let now = Nanos::now();
        // It may be the first P to work for long, before sysmon has had a look.
        now.note();
        owned.window = (now, 0);
        self.keep_or_share();
    }
}

impl Drop for P {
    fn drop(&mut self) {
        self.timers.end();
        self.timers.give_back();
    }
}

/// Adds one to a counter that only this thread writes.
#[inline]
pub(crate) fn bump(counter: &AtomicU64) {
    // ORDERING: Release, so that who has seen what comes after the count (a join) sees the count.
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Release);
}
