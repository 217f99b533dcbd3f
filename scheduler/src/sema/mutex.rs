//! [`Mutex`]: Go's, with its normal and its starving mode.
//!
//! Two bytes, `held` and `flags`, and a third that only the holder touches.
//!
//! - **Normal mode.** Who comes and finds the lock open takes it, whoever waits. Waiters are woken first come, first served, but
//!   a woken one competes with those who come, and, if it loses, waits again, in front. So a lock goes on being
//!   taken while a waiter is on its way from its sleep.
//! - **Starving mode** (`STARVING`), from when a waiter has lost after waiting for a millisecond: unlocking hands the lock to the
//!   first waiter without opening it. Over when that one has not waited for so long, or nobody else waits.
//!
//! | flag | says | set by | cleared by |
//! | --- | --- | --- | --- |
//! | `PARKED` | somebody may be in the queue | a waiter, under the bucket's lock | who empties the queue, under that lock |
//! | `WOKEN` | somebody is awake who will look at `held`: wake nobody else | who wakes one, for it; a spinning waiter | that one |
//! | `STARVING` | hand over | a waiter, under the bucket's lock | who empties the queue; who was handed the lock |
//! | `CONTENDED` | unlocking makes a full fence | the first waiter, under the bucket's lock | a holder, in quiet times, under that lock |
//!
//! ```text
//!   unlock                                   a waiter, under the bucket's lock
//!   1. held := 0                             a. flags += PARKED, CONTENDED
//!   2. fence                                 b. fence
//!   3. flags has PARKED, and nobody woken:   c. held is 0 -> takes the lock
//!      lock the bucket, wake the first       d. enqueue, park
//! ```
//!
//! M1: **Exclusion.** `held` goes from 0 to 1 by compare-and-swap only, and to 0 by its holder only.
//!
//! M2: **No wake-up is lost.** 1, 3 and a, c are the two halves of a store-then-load handshake: the waiter sees the lock
//! open, or its opener sees the waiter. An opener that sees `WOKEN` leaves it to the one that is awake. That one takes the lock,
//! and so becomes the opener; or clears `WOKEN` in step a, or before it gives up, and then looks at `held` behind a fence,
//! as any waiter does.
//!
//! M3: **A lock that is handed over reaches one who waits** (S1, S2 of `sema`): it stays held from the unlock on, and if
//! nobody is left in the queue it is opened, under the bucket's lock.
//!
//! Memory: what a holder has written is seen by the next. 1 is a Release, taking an Acquire; a hand-over is ordered by the
//! bucket's lock and the ready.
//!
//! # One read-modify-write for a pair
//!
//! Locking is a compare-and-swap. An unlock that is a second one, as in Go, doubles the price of an uncontended pair. Here
//! it is a load, a store and a load as long as the lock has never been contended, or not for a while: step 2 is then the half
//! of [`membarrier`] that costs nothing, and the first waiter pays for the other half in b, a system call, when it sets
//! `CONTENDED`. From then on unlocking makes a real fence, and waiters pay none but their own, until the lock was
//! opened many times (`CALM`) with nobody waiting. So a contended lock calls the kernel once in a while and not at every park, which
//! would interrupt every core of the process each time.
//!
//! An opener that read 0 of `flags` before they were set, and has not got beyond 1 yet, loads them once more
//! in 3: after the barrier that makes it find them, before it the waiter sees its store (as in the handshake
//! of `handoff`). What it finds is only a reason to make a real fence and look again, since `WOKEN` is
//! cleared without a barrier. Whether the kernel has the barrier is found out by the first scheduler; the
//! first waiter makes sure that it has been. If the kernel refuses it since then, that opener may miss the
//! waiter; but its store of 0 is seen by the waiter soon. So the first waiter sleeps for `POLL` at most,
//! whatever its deadline, and looks again. What is opened after that is opened with a fence.
//!
//! **Rejected**: a fence in every unlock (above; twice the time); the barrier at every park (above); Go's count of waiters in the
//! word (a waiter that gives up must be taken from the count and from the queue at once); always handing over (each contended
//! unlock is then a switch, and two Ps meet at every one); exchanges of `held` on both sides in place of the fences, so that one reads
//! what the other wrote (a holder that opens it with a store breaks the chain, and the next one sees nothing of the waiter).
//!
//! # Differs from Go
//!
//! - A wait may have a deadline.
//! - The queue is asked, not counted (`sema`), so "the last waiter" is exact.
//! - Who unlocks a lock that was handed over leaves the processor to the new holder only if that will not suspend a goroutine that
//!   must not be.
//! - Who waits awake looks by trying to take it, without reading first: that costs the holder its cache line once, not twice.
//!
//! Tested by `tests/loom_mutex.rs`; Go's cases in `runtime/tests/go_sync_mutex.rs`.
//!
//! [`membarrier`]: crate::sync::membarrier

#[cfg(not(loom))]
use super::holder::{self, Holder};
use super::root::{Purpose, Sudog};
use super::{Left, root_for};
use crate::g::{G, WaitReason};
use crate::proc::spin::{can_spin, do_spin};
use crate::proc::{current, getg, gosched, pin, preempt_point};
use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
use crate::sync::membarrier::{self, Heavy};
use crate::sync::store_and_fence;
use crate::time::clock::Nanos;
use std::time::Duration;

/// Somebody may be in the queue.
const PARKED: u8 = 1;
/// Somebody is awake who will look.
const WOKEN: u8 = 2;
/// Unlocking hands over.
const STARVING: u8 = 4;
/// Unlocking makes a full fence.
const CONTENDED: u8 = 8;

/// What a waker says: the lock is open, or was. With it the woken has `WOKEN`.
const OPEN: u8 = 0;
/// What a waker says: the lock is the woken one's.
const HANDED: u8 = 1;

/// Who has waited for so long must not lose again. Go's number.
#[cfg(not(loom))]
const STARVATION_NANOS: u64 = 1_000_000;

/// So often a lock was opened with nobody waiting before it counts as uncontended again. Often enough that the barrier of
/// its next contention is nothing beside them.
const CALM: u8 = if cfg!(loom) { 1 } else { 200 };

/// How long the first waiter sleeps where it cannot be sure to be seen.
const POLL: Duration = Duration::from_millis(1);

/// A mutual exclusion lock, over no data of its own; see the module. Any goroutine or thread may unlock it.
///
/// ```
/// use gort_scheduler::sema::Mutex;
///
/// static LOCK: Mutex = Mutex::new();
/// LOCK.lock();
/// assert!(!LOCK.try_lock());
/// LOCK.unlock();
/// ```
#[derive(Debug)]
pub struct Mutex {
    held: AtomicBool,
    flags: AtomicU8,
    /// How often it was opened with nobody waiting since it is `CONTENDED`. The holder's.
    calm: AtomicU8,
}

impl Default for Mutex {
    fn default() -> Mutex {
        Mutex::new()
    }
}

/// A waiter's memory of its wait.
struct Waiting {
    /// Since when; `None` before the first park.
    since: Option<Nanos>,
    /// It has `WOKEN`.
    awoke: bool,
    /// It has waited too long.
    starving: bool,
    /// How often it has spun since it last slept.
    spins: u32,
}

impl Mutex {
    /// An open lock.
    #[cfg(not(loom))]
    pub const fn new() -> Mutex {
        Mutex { held: AtomicBool::new(false), flags: AtomicU8::new(0), calm: AtomicU8::new(0) }
    }

    /// An open lock.
    #[cfg(loom)]
    pub fn new() -> Mutex {
        Mutex { held: AtomicBool::new(false), flags: AtomicU8::new(0), calm: AtomicU8::new(0) }
    }

    /// Takes the lock, when it is open.
    ///
    /// # Panics
    ///
    /// If it would have to wait and must not be suspended (`proc::pin`).
    #[inline]
    #[track_caller]
    pub fn lock(&self) {
        if !self.try_lock() {
            self.lock_slow(Nanos::NEVER, WaitReason::SyncMutexLock);
        }
    }

    /// Takes the lock if it is open at once.
    #[inline]
    pub fn try_lock(&self) -> bool {
        // ORDERING: Acquire, pairs with the Release of whoever opened it.
        let taken = self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if taken {
            self.mark();
        }
        taken
    }

    /// The caller has it.
    #[inline(always)]
    fn mark(&self) {
        #[cfg(not(loom))]
        holder::mark(self);
    }

    /// How far into a lock the address is at which its queue is.
    #[cfg(not(loom))]
    pub(super) const WAITERS_AT: usize = std::mem::offset_of!(Mutex, held);

    /// Who has it, as far as that can be told.
    #[cfg(not(loom))]
    pub(super) fn holder(&self) -> Option<Holder> {
        self.is_locked().then(|| holder::of(self)).flatten()
    }

    /// Takes the lock, or gives up at the deadline; whether it was taken.
    ///
    /// # Panics
    ///
    /// As for [`Mutex::lock`].
    #[inline]
    #[track_caller]
    pub fn lock_until(&self, deadline: Nanos) -> bool {
        self.try_lock() || self.lock_slow(deadline, WaitReason::SyncMutexLock)
    }

    /// The same for a lock that is a part of another one.
    #[inline]
    #[track_caller]
    pub(super) fn lock_for(&self, deadline: Nanos, reason: WaitReason) -> bool {
        self.try_lock() || self.lock_slow(deadline, reason)
    }

    /// True if somebody has it.
    #[inline]
    pub fn is_locked(&self) -> bool {
        // Relaxed: at some moment.
        self.held.load(Ordering::Relaxed)
    }

    /// Opens the lock, which is held.
    #[inline]
    pub fn unlock(&self) {
        debug_assert!(self.is_locked(), "sync: unlock of unlocked mutex");
        // Relaxed: for whether somebody has come meanwhile there is the second look. One that is awake needs nothing.
        if self.flags.load(Ordering::Relaxed) & !WOKEN != 0 {
            self.unlock_slow();
            return;
        }
        // ORDERING: Release, pairs with the Acquire in `try_lock`.
        self.held.store(false, Ordering::Release);
        // ORDERING: 2 of the module; pairs with the heavy half in `announce`.
        let _ = membarrier::light();
        if self.flags.load(Ordering::Relaxed) & !WOKEN != 0 {
            // ORDERING: 2 of the module; pairs with the fence in `announce` and in `give_up`.
            fence(Ordering::SeqCst);
            self.opened();
        }
    }

    /// Opens the lock, which is held, or hands it to the first who waits.
    #[inline]
    pub fn unlock_fair(&self) {
        if self.flags.load(Ordering::Relaxed) & PARKED != 0 {
            self.hand_over();
        } else {
            self.unlock();
        }
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn lock_slow(&self, deadline: Nanos, reason: WaitReason) -> bool {
        let gp = getg();
        // Asked first: who spins owes a look at the lock.
        let may_park = pin::may_park(gp);
        let mut w = Waiting { since: None, awoke: false, starving: false, spins: 0 };
        loop {
            if self.try_lock() {
                self.give_back(w.awoke);
                return true;
            }
            if may_park && self.spin(gp, &mut w) {
                continue;
            }
            if !may_park {
                pin::refuse(gp);
            }
            let since = w.since.unwrap_or_else(Nanos::now);
            if deadline != Nanos::NEVER && late(deadline) {
                return self.give_up(w.awoke);
            }
            let queue = root_for(&raw const self.held);
            let seen = self.announce(&w);
            if self.try_lock() {
                return true;
            }
            let until = if seen { deadline } else { Nanos::now().after(POLL) };
            // In front, if it was there before.
            let what = (Purpose::Lock, (&raw const *self).expose_provenance());
            // SAFETY: gp is the caller, and may park.
            match unsafe { queue.park_for(what, gp, w.since.is_some(), until, reason) } {
                Ok(HANDED) => {
                    debug_assert!(self.is_locked());
                    if !starved(since) {
                        // Relaxed: a matter of fairness.
                        self.flags.fetch_and(!STARVING, Ordering::Relaxed);
                    }
                    self.mark();
                    return true;
                }
                Ok(_open) => {
                    let starving = w.starving || starved(since);
                    w = Waiting { since: Some(since), awoke: true, starving, spins: 0 };
                }
                Err(left) => {
                    self.leave(left);
                    if seen {
                        return false;
                    }
                    w = Waiting { since: Some(since), awoke: false, starving: w.starving, spins: 0 };
                }
            }
        }
    }

    /// Waits a little, awake, if that makes sense; false if not, or no longer.
    #[inline]
    fn spin(&self, gp: &'static G, w: &mut Waiting) -> bool {
        let flags = self.flags.load(Ordering::Relaxed);
        // In starving mode it would not get the lock.
        if flags & STARVING != 0 || !can_spin(gp, w.spins) {
            return false;
        }
        // Who unlocks need not wake another one.
        if !w.awoke && flags & (WOKEN | PARKED) == PARKED {
            w.awoke = self
                .flags
                .compare_exchange(flags, flags | WOKEN, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        }
        do_spin();
        w.spins += 1;
        true
    }

    /// The caller holds the lock, and is not the one who is awake any more.
    #[inline]
    fn give_back(&self, awoke: bool) {
        if awoke {
            // Relaxed: whoever unlocks next sees it, being after the caller.
            self.flags.fetch_and(!WOKEN, Ordering::Relaxed);
        }
    }

    /// a and b of the module, under the bucket's lock. False: who opens the lock at this moment may not see
    /// it.
    fn announce(&self, w: &Waiting) -> bool {
        let mut old = self.flags.load(Ordering::Relaxed);
        loop {
            let starving = if w.starving { STARVING } else { 0 };
            let woken = if w.awoke { WOKEN } else { 0 };
            let new = (old | PARKED | CONTENDED | starving) & !woken;
            // Relaxed: the fence below orders it.
            match self.flags.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => old = now,
            }
        }
        // ORDERING: b of the module; pairs with the fence, or its light half, in `unlock` and `unlock_slow`.
        let seen = old & CONTENDED != 0 || first_contention();
        fence(Ordering::SeqCst);
        seen
    }

    /// The deadline has passed for one who is awake. It takes the lock if that is open; else whoever holds it wakes
    /// the next.
    #[cold]
    fn give_up(&self, awoke: bool) -> bool {
        self.give_back(awoke);
        // ORDERING: M2; pairs with the fence in `unlock_slow`.
        fence(Ordering::SeqCst);
        self.try_lock()
    }

    /// The deadline has ended a wait, which is out of the queue: S3 of `sema`.
    #[cold]
    fn leave(&self, mut left: Left) {
        if left.queue.is_empty() {
            // Relaxed: under the bucket's lock.
            self.flags.fetch_and(!(PARKED | STARVING), Ordering::Relaxed);
        }
    }

    /// S4 of `sema`: the lock, or the turn to look at it, is for the next.
    ///
    /// # Safety
    ///
    /// As for `Queue::bury`.
    #[cold]
    pub(super) unsafe fn leave_behind(&self, sg: &'static Sudog) {
        let mut queue = root_for(&raw const self.held);
        // SAFETY: the caller's promise.
        let (_, word) = unsafe { queue.bury(sg) };
        self.leave(Left { queue, was_queued: true });
        match word {
            OPEN => {
                self.give_back(true);
                // ORDERING: as in `give_up`; whoever has the lock wakes the next.
                fence(Ordering::SeqCst);
            }
            HANDED => store_and_fence(&self.held, false),
            _ => return,
        }
        self.wake_one();
    }

    #[cold]
    #[inline(never)]
    fn unlock_slow(&self) {
        let flags = self.flags.load(Ordering::Relaxed);
        if flags & STARVING != 0 {
            self.hand_over();
            return;
        }
        self.count_calm(flags);
        // ORDERING: Release, pairs with the Acquire in `try_lock`; and the fence that is 2 of the module, pairs with the one in
        // `announce` and in `give_up`.
        store_and_fence(&self.held, false);
        self.opened();
    }

    /// 3 of the module.
    #[inline]
    fn opened(&self) {
        if self.flags.load(Ordering::Relaxed) & PARKED != 0 {
            self.wake_one();
            preempt_point();
        }
    }

    /// Called by the holder.
    #[inline]
    fn count_calm(&self, flags: u8) {
        // Relaxed: the holder's.
        let calm = if flags & PARKED != 0 { 0 } else { self.calm.load(Ordering::Relaxed).saturating_add(1) };
        self.calm.store(calm, Ordering::Relaxed);
        if calm >= CALM {
            let _queue = root_for(&raw const self.held);
            // Under the bucket's lock, so that it does not go between a waiter's flag and its barrier.
            if self.flags.load(Ordering::Relaxed) & PARKED == 0 {
                self.flags.fetch_and(!CONTENDED, Ordering::Relaxed);
                self.calm.store(0, Ordering::Relaxed);
            }
        }
    }

    /// 3 of the module.
    fn wake_one(&self) {
        let mut flags = self.flags.load(Ordering::Relaxed);
        loop {
            // Whoever has taken it meanwhile will open it.
            if flags & PARKED == 0 || flags & WOKEN != 0 || self.is_locked() {
                return;
            }
            let new = flags | WOKEN;
            match self.flags.compare_exchange_weak(flags, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => flags = now,
            }
        }
        let mut queue = root_for(&raw const self.held);
        let first = queue.dequeue(OPEN);
        // Relaxed: under the bucket's lock.
        match &first {
            None => _ = self.flags.fetch_and(!(PARKED | WOKEN | STARVING), Ordering::Relaxed),
            Some(first) if first.last => _ = self.flags.fetch_and(!PARKED, Ordering::Relaxed),
            Some(_) => {}
        }
        drop(queue);
        if let Some(first) = first {
            first.ready();
        }
    }

    /// The first who waits gets the lock, and, if it is a goroutine of this P, runs now.
    #[cold]
    #[inline(never)]
    fn hand_over(&self) {
        let mut queue = root_for(&raw const self.held);
        let Some(first) = queue.dequeue(HANDED) else {
            self.flags.fetch_and(!(PARKED | STARVING), Ordering::Relaxed);
            // ORDERING: Release, as in `unlock`. Under the bucket's lock: who parks next sees it.
            self.held.store(false, Ordering::Release);
            return;
        };
        if first.last {
            self.flags.fetch_and(!(PARKED | STARVING), Ordering::Relaxed);
        }
        drop(queue);
        first.ready();
        if current().is_some_and(pin::may_park) {
            gosched();
        }
    }
}

/// The first waiter pays for the barrier that all unlocks before it have saved. False: the kernel has it no
/// longer.
#[cold]
#[inline(never)]
fn first_contention() -> bool {
    #[cfg(not(loom))]
    membarrier::prepare();
    membarrier::heavy() == Heavy::Everywhere || !membarrier::refused()
}

/// True if who waits since then must not lose again.
#[cfg(not(loom))]
fn starved(since: Nanos) -> bool {
    Nanos::now().since(since) > STARVATION_NANOS
}

/// True if the deadline has passed.
#[cfg(not(loom))]
fn late(deadline: Nanos) -> bool {
    Nanos::now() >= deadline
}

/// As the model has it.
#[cfg(loom)]
fn late(_deadline: Nanos) -> bool {
    crate::model::sleep::passed()
}

/// As the model has it.
#[cfg(loom)]
fn starved(_since: Nanos) -> bool {
    crate::model::starved()
}
