//! Who sleeps and who is awake: the idle Ps, the sleeping Ms, and the handshake that loses no wake-up
//! (Go's `wakep`, `pidleget`, `pidleput`, `midle`, `nmspinning`).
//!
//! ```text
//!   an M without work                                 a submitter (`ready` from a plain thread, a timer, wakep)
//!   1. gives its P to the idle list   (lock)          1. publishes the work
//!   2. stops spinning: nmspinning -= 1                2. fence(SeqCst)
//!   3. fence(SeqCst)                                  3. npidle > 0 and nmspinning == 0 ?
//!   4. looks for work once more                          -> nmspinning 0 -> 1, take an idle P, wake an M with both
//!   5. sleeps until it is given a P                        (no idle P: nmspinning -= 1 again)
//! ```
//!
//! I1: **No lost wake-up.** If the submitter's step 3 sees no idle P or a spinning M, then either that M's step 2, or
//! the P's going idle, comes after the submitter's fence in the single order of the fences, and that M's step 4 sees
//! the work. A spinning M that *finds* work stops spinning and, if it was the last, calls `wakep` again: so while
//! there is work, one M more than the working ones looks for it.
//!
//! I2: A P is in the idle list or is held by exactly one M. An M is in the sleeping list, in line for a P, or runs. A
//! woken M is given its P by the waker (`nextp`), before the wake-up. While an M is in line no P is idle.
//!
//! I3: `npidle` is the length of the idle list, changed under the lock; readers outside treat it as a hint that step
//! 4 makes safe.
//!
//! I4: A waker that counted itself as a spinner and then finds no idle P uncounts itself under the lock. Otherwise a
//! P could become idle in between, its M look for the last time, and a second submitter after that still see the
//! first one's count and wake nobody. With the lock, whoever sees that P idle sees the count gone as well.
//!
//! I5: **One limit.** Ps from the limit on take part no longer. It changes under the lock: so an M that sees its P above the
//! limit and gives it up is told [`PutP::Over`], and one that is given a P sees it below. With a second copy of the number,
//! changed a moment earlier, the M gave its P up as idle, saw work there, took the P again, and went in circles until
//! whoever changed the limit was through.
//!
//! An M that sits out leaves step 4 to the others, if not all Ps are idle by then: the work that it leaves they look at, and no
//! M more than those that work already (`proc::crowd`).
//!
//! The handshake is needed for work that nobody awake is bound to find: the global queue and expired timers. Work in a
//! local queue is held by a P whose M is awake, or about to be woken; waking another M for it is a matter of speed (`proc::wake`).
//!
//! **Rejected**: a counter of pending work beside the queues (every spawn would write a shared line); waking on
//! every submission (a futex call each); sleeping Ms that look again every few milliseconds (CPU for nothing, and a
//! lost wake-up would hide behind it).
//!
//! Checked by the loom models in `tests/loom_idle.rs`.

use crate::memory::{self, Short};
use crate::sync::Spinning;
use crate::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};
use crossbeam_utils::CachePadded;
use std::collections::VecDeque;

/// The idle Ps by index, the sleeping Ms, and the counters over them. `M` names an M.
#[derive(Debug)]
pub struct Idle<M> {
    /// On lines of their own: the words below are looked at by every pass of every M.
    lists: CachePadded<Spinning<Lists<M>>>,
    /// Ps from this number on take no part. Written under the lock (I5).
    limit: AtomicUsize,
    npidle: AtomicU32,
    nmspinning: AtomicU32,
    nwanting: AtomicU32,
}

/// What a want of memory names.
const WHAT: &str = "the lists of idle processors and OS threads";
/// Room for Ms that is had before it is needed.
const AHEAD: usize = 15;

#[derive(Debug)]
struct Lists<M> {
    ps: Vec<usize>,
    /// How many Ps above the limit nobody holds any more.
    retired: usize,
    ms: Vec<M>,
    /// Ms that wait in line for a P. While there are some, `ps` is empty.
    wanting: VecDeque<M>,
}

/// What [`Idle::wakep`] asks of its caller.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Wake<M> {
    /// Nothing.
    Nobody,
    /// Give this M this P, mark it spinning, wake it.
    Sleeper(M, usize),
    /// As `Sleeper`, but the M must come from somewhere else.
    NewM(usize),
}

/// What became of a P that was given up.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum PutP<M> {
    /// It is idle.
    Idle,
    /// It goes to this M, which waits in line for one, and must be given it and woken.
    To(M),
    /// It takes no part any longer. It is still the caller's, who must empty it and say [`Idle::retired`].
    Over,
}

/// The right to be counted in `nmspinning`: given up by [`Idle::stop_spinning`] alone.
#[must_use]
#[derive(Debug)]
pub struct Spinner(());

impl Spinner {
    /// The token of a caller that [`Idle::wakep`] has counted in the name of the woken M.
    pub fn from_wakep() -> Spinner {
        Spinner(())
    }
}

impl<M: PartialEq> Idle<M> {
    /// All `nprocs` Ps idle, no M.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn try_new(nprocs: usize) -> Result<Idle<M>, Short> {
        let idle = Idle::without_ps(nprocs);
        idle.reserve(nprocs)?;
        idle.lists.lock().ps.extend((0..nprocs).rev());
        Ok(idle)
    }

    fn without_ps(nprocs: usize) -> Idle<M> {
        Idle {
            lists: CachePadded::new(Spinning::new(Lists {
                ps: Vec::new(),
                retired: 0,
                ms: Vec::new(),
                wanting: VecDeque::new(),
            })),
            limit: AtomicUsize::new(nprocs),
            npidle: AtomicU32::new(nprocs as u32),
            nmspinning: AtomicU32::new(0),
            nwanting: AtomicU32::new(0),
        }
    }

    /// Has room for so many Ps, and for some Ms.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn reserve(&self, nprocs: usize) -> Result<(), Short> {
        let mut lists = self.lists.lock();
        let Lists { ps, ms, wanting, .. } = &mut *lists;
        let reserved = ps
            .try_reserve(nprocs.saturating_sub(ps.len()))
            .and_then(|()| ms.try_reserve(1 + AHEAD))
            .and_then(|()| wanting.try_reserve(1 + AHEAD));
        reserved.map_err(|_| Short::of(WHAT, nprocs * size_of::<usize>()))
    }

    /// Calls `f` with each idle P, which nobody can take meanwhile. It must be short, and not come back here.
    pub fn visit(&self, f: impl FnMut(usize)) {
        self.lists.lock().ps.iter().copied().for_each(f);
    }

    /// How many Ps take part.
    #[inline]
    pub fn limit(&self) -> usize {
        // ORDERING: Acquire, pairs with the Release in `set_limit`: the Ps below it have been made. What must be in step with it
        // is looked at under the lock (I5).
        self.limit.load(Ordering::Acquire)
    }

    /// How many Ps are idle; a hint.
    #[inline]
    pub fn npidle(&self) -> u32 {
        self.npidle.load(Ordering::Relaxed)
    }

    /// How many Ms look for work; a hint.
    #[inline]
    pub fn nmspinning(&self) -> u32 {
        self.nmspinning.load(Ordering::Relaxed)
    }

    /// The submitter's steps 2 to 4, after the work is published.
    pub fn submitted(&self) -> Wake<M> {
        // ORDERING: pairs with the fence in `stop_spinning` (I1).
        fence(Ordering::SeqCst);
        self.wakep()
    }

    /// Wakes one M with an idle P, if there is one and nobody is looking for work already.
    pub fn wakep(&self) -> Wake<M> {
        // ORDERING: Acquire, pairs with the Release in `put_p` (I4). `submitted` has the fence of I1; a caller
        // without it takes this as a hint.
        if self.npidle.load(Ordering::Acquire) == 0 || self.nmspinning.load(Ordering::Relaxed) != 0 {
            return Wake::Nobody;
        }
        // ORDERING: AcqRel so that the counting of spinners is one chain; the handshake itself is the fences'.
        if self.nmspinning.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Wake::Nobody;
        }
        let mut lists = self.lists.lock();
        let Some(p) = self.pop_p(&mut lists) else {
            // The last P was taken meanwhile; its M looks for work before it sleeps. Uncounted under the lock (I4).
            self.nmspinning.fetch_sub(1, Ordering::AcqRel);
            return Wake::Nobody;
        };
        match lists.ms.pop() {
            Some(m) => Wake::Sleeper(m, p),
            None => Wake::NewM(p),
        }
    }

    /// Counts the caller, an M with a P, as spinning, unless half of the busy Ps' number spin already (Go's rule).
    pub fn start_spinning(&self) -> Option<Spinner> {
        let busy = (self.limit() as u32).saturating_sub(self.npidle());
        if 2 * self.nmspinning() >= busy {
            return None;
        }
        self.nmspinning.fetch_add(1, Ordering::AcqRel);
        Some(Spinner(()))
    }

    /// Steps 2 and 3. True if this was the last spinner: if it found work, it owes a `wakep`; if it found none, it
    /// must look once more.
    pub fn stop_spinning(&self, spinner: Spinner) -> bool {
        let Spinner(()) = spinner;
        let before = self.nmspinning.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "negative nmspinning");
        // ORDERING: pairs with the fence in `submitted` (I1).
        fence(Ordering::SeqCst);
        before == 1
    }

    /// Step 1: gives a P up.
    pub fn put_p(&self, p: usize) -> PutP<M> {
        let mut lists = self.lists.lock();
        debug_assert!(!lists.ps.contains(&p), "P {p} is idle twice");
        if p >= self.limit() {
            return PutP::Over;
        }
        let first = lists.wanting.pop_front();
        if first.is_some() {
            self.nwanting.store(lists.wanting.len() as u32, Ordering::Relaxed);
        } else {
            lists.ps.push(p);
            // ORDERING: Release, pairs with the Acquire in `wakep` (I4).
            self.npidle.store(lists.ps.len() as u32, Ordering::Release);
        }
        drop(lists);
        // ORDERING: an M that did not spin has no `stop_spinning` to fence its second look; pairs with `submitted`.
        fence(Ordering::SeqCst);
        first.map_or(PutP::Idle, PutP::To)
    }

    /// From now on the Ps below `limit` take part, all of which have been made; one caller at a time. The idle ones above are the
    /// caller's, as with [`PutP::Over`]; those below that were nobody's until now are, too, to be given up.
    ///
    /// # Errors
    ///
    /// When there is no memory; nothing is changed.
    pub fn set_limit(&self, limit: usize) -> Result<Vec<usize>, Short> {
        let mut out = Vec::new();
        let most = limit.max(self.limit());
        out.try_reserve_exact(most).map_err(|_| Short::of(WHAT, most * size_of::<usize>()))?;
        let mut lists = self.lists.lock();
        let before = self.limit();
        self.limit.store(limit, Ordering::Release);
        out.extend(lists.ps.extract_if(.., |p| *p >= limit));
        self.npidle.store(lists.ps.len() as u32, Ordering::Release);
        if limit > before {
            out.extend(before..limit);
            lists.retired -= limit - before;
        }
        Ok(out)
    }

    /// So many Ps above the limit are nobody's from now on: new ones, or one that took part and has been emptied.
    pub fn retired(&self, n: usize) {
        self.lists.lock().retired += n;
    }

    /// How many Ps are nobody's because of the limit.
    pub fn nretired(&self) -> usize {
        self.lists.lock().retired
    }

    /// An idle P for an M that has work which nobody else can do, or a place in line for one: the next that becomes
    /// idle is given to the first in line.
    pub fn want_p(&self, m: M) -> Option<usize> {
        let mut lists = self.lists.lock();
        let p = self.pop_p(&mut lists);
        if p.is_none() {
            memory::grow_ahead(WHAT, &mut lists.wanting, 1, AHEAD);
            lists.wanting.push_back(m);
            self.nwanting.store(lists.wanting.len() as u32, Ordering::Relaxed);
        }
        p
    }

    /// How many Ms wait in line; a hint, for a busy M to give its P up after a while.
    #[inline]
    pub fn nwanting(&self) -> u32 {
        self.nwanting.load(Ordering::Relaxed)
    }

    /// The M does not want a P any longer. False: one is on the way.
    pub fn unwant_p(&self, m: &M) -> bool {
        let mut lists = self.lists.lock();
        let at = lists.wanting.iter().position(|other| other == m);
        let found = at.and_then(|at| lists.wanting.remove(at)).is_some();
        self.nwanting.store(lists.wanting.len() as u32, Ordering::Relaxed);
        found
    }

    /// An idle P for an M that has found work or a reason to look again.
    pub fn get_p(&self) -> Option<usize> {
        if self.npidle.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut lists = self.lists.lock();
        self.pop_p(&mut lists)
    }

    fn pop_p(&self, lists: &mut Lists<M>) -> Option<usize> {
        let p = lists.ps.pop();
        self.npidle.store(lists.ps.len() as u32, Ordering::Relaxed);
        p
    }

    /// Step 5: the M is asleep from now on for all who look, and must go and wait for its wake-up.
    pub fn put_m(&self, m: M) {
        let mut lists = self.lists.lock();
        memory::grow_ahead(WHAT, &mut lists.ms, 1, AHEAD);
        lists.ms.push(m);
    }

    /// The M does not want to sleep any longer. False: a waker has taken it out already, and its P is on the way.
    pub fn remove_m(&self, m: &M) -> bool {
        let mut lists = self.lists.lock();
        let at = lists.ms.iter().position(|other| other == m);
        at.map(|at| lists.ms.swap_remove(at)).is_some()
    }

    /// Takes a sleeping M out, for a caller who has a P for it.
    pub fn pop_m(&self) -> Option<M> {
        self.lists.lock().ms.pop()
    }

    /// How many Ms sleep until they are given a P.
    pub fn nasleep(&self) -> usize {
        self.lists.lock().ms.len()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn wakep_wakes_one_at_a_time_and_only_with_a_p() {
        let idle: Idle<&str> = Idle::try_new(2).unwrap();
        idle.put_m("m0");
        assert_eq!(idle.wakep(), Wake::Sleeper("m0", 0));
        assert_eq!(idle.wakep(), Wake::Nobody, "one looks already");
        assert!(idle.stop_spinning(Spinner::from_wakep()));
        assert_eq!(idle.wakep(), Wake::NewM(1));
        assert!(idle.stop_spinning(Spinner::from_wakep()));
        assert_eq!(idle.wakep(), Wake::Nobody, "no P is idle");
        assert_eq!(idle.nmspinning(), 0);
    }

    #[test]
    fn spinners_are_at_most_half_of_the_busy() {
        let idle: Idle<&str> = Idle::try_new(4).unwrap();
        assert!(idle.start_spinning().is_none(), "none is busy");
        let held: Vec<_> = std::iter::from_fn(|| idle.get_p()).collect();
        assert_eq!(held, [0, 1, 2, 3]);
        let a = idle.start_spinning().unwrap();
        let b = idle.start_spinning().unwrap();
        assert!(idle.start_spinning().is_none());
        assert!(!idle.stop_spinning(a));
        assert!(idle.stop_spinning(b));
    }

    #[test]
    fn who_wants_a_p_gets_the_next_one_in_turn() {
        let idle: Idle<&str> = Idle::try_new(1).unwrap();
        assert_eq!(idle.want_p("m0"), Some(0));
        assert_eq!((idle.want_p("m1"), idle.want_p("m2"), idle.want_p("m3")), (None, None, None));
        assert!(idle.unwant_p(&"m2") && !idle.unwant_p(&"m2"));
        assert_eq!((idle.put_p(0), idle.nwanting(), idle.npidle()), (PutP::To("m1"), 1, 0));
        assert_eq!((idle.put_p(0), idle.nwanting(), idle.npidle()), (PutP::To("m3"), 0, 0));
        assert_eq!((idle.put_p(0), idle.npidle()), (PutP::Idle, 1));
    }

    #[test]
    fn ps_above_the_limit_take_no_part_until_it_is_raised() {
        let idle: Idle<&str> = Idle::try_new(4).unwrap();
        assert_eq!((idle.get_p(), idle.get_p()), (Some(0), Some(1)));
        assert_eq!(idle.set_limit(1).unwrap(), [3, 2]);
        idle.retired(1);
        idle.retired(1);
        assert_eq!((idle.npidle(), idle.get_p()), (0, None));
        assert_eq!((idle.put_p(1), idle.put_p(0)), (PutP::Over, PutP::Idle));
        idle.retired(1);
        assert_eq!((idle.npidle(), idle.nretired()), (1, 3));
        // Two that were there before, and two new ones.
        assert_eq!(idle.set_limit(3).unwrap(), [1, 2]);
        assert_eq!(idle.nretired(), 1);
        idle.retired(2);
        assert_eq!(idle.set_limit(6).unwrap(), [3, 4, 5]);
        assert_eq!(idle.nretired(), 0);
        for p in 1..6 {
            assert_eq!(idle.put_p(p), PutP::Idle);
        }
        assert_eq!(idle.npidle(), 6);
    }
}
