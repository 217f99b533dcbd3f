//! [`Keeper`]: the one sleeping M that wakes when the first timer is due.
//!
//! When timers are pending and nobody waits for the first one, the M that runs out of work enters the slot and is the
//! keeper: it sleeps, without a P, until the first deadline, then takes a P and looks for work, which begins with the
//! timers. If no P is idle then, the busy Ms look at the timers themselves. Whoever arms a timer that comes before the
//! keeper's `until` wakes it.
//!
//! ```text
//!   an M without work                              who has armed a timer that is now the first
//!   1. first deadline: none -> sleeps elsewhere    a. stores the first deadline
//!   2. slot: null -> me; taken -> b. to d., and    b. fence(SeqCst)
//!      sleeps elsewhere
//!   3. until := first deadline; fence(SeqCst)      c. slot null: wakes an M by the handshake of `idle`,
//!   4. the first deadline again: earlier -> 3.        which comes to 1. if it finds nothing to run
//!   5. sleeps until then, or leaves:               d. else: the deadline is before its until -> wakes it
//!   6. slot: me -> null; fence(SeqCst)
//!   7. left because there was no timer -> 1.
//! ```
//!
//! K1 (no deadline is slept through): the keeper's 3 and 4 and the armer's a to d are the two halves of a store-then-load
//! handshake: one of the two sees the other. An armer that finds somebody in the slot relies on it, and so does every M
//! that finds the slot taken in its step 2 and goes to sleep, the armer's own among them. So a keeper that leaves because
//! there was no timer looks once more when it is out (7): between its look and its leaving a timer may have come. One that
//! leaves for another reason gets a P, or leaves a due timer to those who have all of them, and who look at the timers
//! after they have given one up; the fence in 6 is for its look at the idle Ps, against theirs at the slot.
//!
//! The first deadline is that of all heaps; each heap's is a word of its own, with a handshake of its own.
//!
//! An armer may put b. to d. off as long as it is awake with a P (`proc::timers`). It does them when it has found something to
//! run, or in its step 2: there they are all M's duty, so that nobody need know who has armed what. It may also leave them
//! to sysmon, which does them at each of its looks, if that will look in time (`Sysmon::looks_before`).
//!
//! K2: An M that was in the slot is taken out either by itself or by a waker that gives it a P ([`Keeper::take`]): both
//! exchange. `until` belongs to the M, not to the slot: an M that was taken out and does not know it yet must not
//! change its successor's.
//!
//! **Rejected**: sleeping Ms that each keep the heap of the P that they had last (a wake-up per P where one is enough); sysmon
//! as the keeper (a second thread to be woken between a deadline and its goroutine).
//!
//! Checked by the models in `tests/loom_keeper.rs`, which run [`Keeper::keep`] itself.

use crate::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
use crate::time::clock::Nanos;
use std::ptr;

/// What can be a keeper: an M.
pub trait Watch {
    /// When it wakes by itself, if it is the keeper.
    fn until(&self) -> &AtomicU64;
}

/// The slot; see the module. Who is in it lives for ever.
#[derive(Debug)]
pub struct Keeper<M> {
    m: AtomicPtr<M>,
}

/// How an M's time as keeper ended.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// There is nothing to keep, or somebody else does.
    Nothing,
    /// The M has left the slot, because it was to be over.
    Over,
    /// A waker has taken it out, and its P is on the way.
    Taken,
}

impl<M: Watch + 'static> Keeper<M> {
    /// Nobody keeps the clock.
    pub fn new() -> Keeper<M> {
        Keeper { m: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Keeps the clock, unless there is no need. `first` is the first deadline; `over` says for a first deadline
    /// whether it is time to leave; `sleep` sleeps until it or a wake-up; `wake` wakes another keeper, which would be too late.
    pub fn keep(
        &self,
        me: &'static M,
        first: impl Fn() -> Nanos,
        over: impl Fn(Nanos) -> bool,
        sleep: impl Fn(Nanos),
        wake: impl Fn(&'static M),
    ) -> Kept {
        loop {
            while first() != Nanos::NEVER && self.enter(me) {
                if let Some(kept) = self.keep_in_slot(me, &first, &over, &sleep) {
                    return kept;
                }
            }
            match self.armed(&first) {
                Armed::NoKeeper => continue,
                Armed::TooLate(other) => wake(other),
                Armed::Kept => {}
            }
            return Kept::Nothing;
        }
    }

    /// Steps 3 to 6. `None`: it has left because there was no timer.
    fn keep_in_slot(
        &self,
        me: &'static M,
        first: impl Fn() -> Nanos,
        over: impl Fn(Nanos) -> bool,
        sleep: impl Fn(Nanos),
    ) -> Option<Kept> {
        loop {
            let when = first();
            me.until().store(when.0, Ordering::Relaxed);
            // ORDERING: pairs with the fence in `armed` (K1).
            fence(Ordering::SeqCst);
            if first() < when {
                continue;
            }
            if when == Nanos::NEVER || over(when) {
                if !self.leave(me) {
                    return Some(Kept::Taken);
                }
                return (when != Nanos::NEVER).then_some(Kept::Over);
            }
            sleep(when);
            if !self.has(me) {
                return Some(Kept::Taken);
            }
        }
    }

    /// True if the caller is now the keeper.
    fn enter(&self, me: &'static M) -> bool {
        let me = ptr::from_ref(me).cast_mut();
        // ORDERING: AcqRel, as in `take`.
        self.m.compare_exchange(ptr::null_mut(), me, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether the caller, who was the keeper, still is.
    fn has(&self, me: &'static M) -> bool {
        // Relaxed: nobody but the caller itself puts it there, and its P comes by another way.
        ptr::eq(self.m.load(Ordering::Relaxed), me)
    }

    /// The keeper leaves the slot. False: somebody has taken it out.
    fn leave(&self, me: &'static M) -> bool {
        let me = ptr::from_ref(me).cast_mut();
        // ORDERING: AcqRel, as in `take`.
        let left = self.m.compare_exchange(me, ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed).is_ok();
        // ORDERING: for the look at the timers, and at the idle Ps, after this (K1).
        fence(Ordering::SeqCst);
        left
    }

    /// Takes the keeper for other work: the caller gives it a P.
    pub fn take(&self) -> Option<&'static M> {
        // ORDERING: AcqRel; the keeper leaves by an exchange as well, so one of the two has it.
        // SAFETY: null or an M that lives for ever.
        unsafe { self.m.swap(ptr::null_mut(), Ordering::AcqRel).as_ref() }
    }

    /// Who keeps the clock at some moment.
    pub fn get(&self) -> Option<&'static M> {
        // SAFETY: null or an M that lives for ever.
        unsafe { self.m.load(Ordering::Acquire).as_ref() }
    }

    /// A timer may have become the first one, and `first` been stored.
    pub fn armed(&self, first: impl Fn() -> Nanos) -> Armed<M> {
        // ORDERING: pairs with the fence in `keep` (K1).
        fence(Ordering::SeqCst);
        match (self.get(), first()) {
            (_, Nanos::NEVER) => Armed::Kept,
            (None, _) => Armed::NoKeeper,
            (Some(mp), when) if when.0 < mp.until().load(Ordering::Relaxed) => Armed::TooLate(mp),
            (Some(_), _) => Armed::Kept,
        }
    }
}

impl<M: Watch + 'static> Default for Keeper<M> {
    fn default() -> Keeper<M> {
        Keeper::new()
    }
}

/// What the armer of the first timer owes.
#[must_use]
#[derive(Debug)]
pub enum Armed<M: 'static> {
    /// Nothing.
    Kept,
    /// The keeper would wake too late: it must be woken.
    TooLate(&'static M),
    /// Somebody must be woken to become the keeper.
    NoKeeper,
}
