//! [`Semaphore`]: permits that are taken several at a time, first come, first served (Go's `x/sync/semaphore`).
//!
//! Two words, and the queue of the address: how many permits are `free`, and whether somebody is `queued`. While nobody is, taking
//! and giving back are one read-modify-write each.
//!
//! ```text
//!   give back                                to wait, under the bucket's lock
//!   1. free += k   (a read-modify-write)     a. queued := true
//!   2. queued -> lock the bucket, serve      b. a read-modify-write of `free` that leaves it; the first, and enough -> takes
//!                                            c. enqueue, park
//!   serve, under the bucket's lock: as long as there is enough for the first in the queue, take it for it, and dequeue it
//! ```
//!
//! P1: **Nobody overtakes.** Who finds `queued` does not take but queues, and of the queue the first is served first; what is
//! too little for it is for nobody. So a large request does not starve. Who has looked at `queued` before another one set it has come
//! before that one.
//!
//! P2: **No wake-up is lost.** Of 1 and b one comes first. If it is 1, the waiter sees the permits. If it is b, then 1 reads what b
//! has written, or what others made of it, all by read-modify-writes, and so 2 sees what a has written.
//!
//! P3: **A permit is somebody's or free.** Permits are taken for a waiter before its wait is claimed; if that is over (its
//! deadline has come, or it is void, S2 of `sema`) they are given back, and the next one's turn it is.
//!
//! P4: Whoever leaves by itself (a deadline), or is taken out ([`Cancel`]), may have been the first, and in the way of
//! others: it serves them.
//!
//! Who finds too few permits, and nobody queued, waits awake for a little before it queues (`proc::spin`). Until then it has not
//! come: another one may come first.
//!
//! Memory: giving back is a Release, taking an Acquire; for one that is served its server takes.
//!
//! # Differs from Go
//!
//! A permit that is given back while somebody waits is handed over, also where the giver comes for it again at once, and would be
//! faster without: Go's internal semaphores let whoever is running have it, `x/sync`'s does not.
//!
//! **Rejected**: both in one word (all of a `usize` may be free).
//!
//! Tested by `tests/loom_semaphore.rs`; the promises in `runtime/tests/promises_semaphore.rs`.

use super::root::{Purpose, Sudog};
use super::{Dequeued, Queue, root_for};
use crate::g::{G, WaitReason};
use crate::proc::spin::{can_spin, do_spin};
use crate::proc::{getg, pin, preempt_point};
use crate::sync::Spinning;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::time::clock::Nanos;

/// What a waker says: the permits are there.
const SERVED: u8 = 0;
/// What a waker says: it was [`Cancel`].
const CANCELLED: u8 = 1;

/// So many are served under one hold of the bucket's lock.
const BATCH: usize = if cfg!(loom) { 1 } else { 16 };

/// A number of permits; see the module. Any goroutine or thread may give them back.
///
/// ```
/// use gort_scheduler::sema::Semaphore;
/// use gort_scheduler::time::clock::Nanos;
///
/// static TWO: Semaphore = Semaphore::new(2);
/// assert!(TWO.acquire_until(2, Nanos::NEVER));
/// assert!(!TWO.try_acquire(1));
/// assert!(TWO.release(2));
/// ```
pub struct Semaphore {
    free: AtomicUsize,
    queued: AtomicBool,
}

/// Ends a wait before its permits are there. For one wait.
pub struct Cancel {
    /// Of the semaphore that the wait is at; only a name.
    at: *const AtomicUsize,
    /// Under the bucket's lock as well, if it is to become `Waiting`.
    state: Spinning<State>,
}

enum State {
    /// The wait has not begun, or is over.
    Idle,
    /// It is, or was a moment ago, in the queue.
    Waiting(&'static Sudog),
    Cancelled,
}

// SAFETY: `at` is never followed, and what `Waiting` names is looked at under the bucket's lock, while its G is in that wait.
unsafe impl Send for Cancel {}
// SAFETY: as above; the state is under a lock.
unsafe impl Sync for Cancel {}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cancel").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.queue().len();
        f.debug_struct("Semaphore").field("available", &self.available()).field("waiting", &waiting).finish()
    }
}

impl Cancel {
    /// For a wait at `sema`.
    pub fn new(sema: &Semaphore) -> Cancel {
        Cancel { at: &raw const sema.free, state: Spinning::new(State::Idle) }
    }

    /// Ends the wait, now or as soon as it begins. Does nothing if its permits are there.
    pub fn cancel(&self) {
        let mut queue = root_for(self.at);
        // The state's lock is held to the end of the `match`: until the wait is taken out, its G must not get by.
        let waiting = match std::mem::replace(&mut *self.state.lock(), State::Cancelled) {
            // SAFETY: it is in this queue or was; its G cannot begin another wait before it has gone by the state.
            State::Waiting(sg) => unsafe { queue.take_out(sg, CANCELLED) },
            State::Idle | State::Cancelled => None,
        };
        drop(queue);
        if let Some(waiting) = waiting {
            waiting.ready();
        }
    }
}

impl Semaphore {
    /// A semaphore with that many free permits.
    #[cfg(not(loom))]
    pub const fn new(permits: usize) -> Semaphore {
        Semaphore { free: AtomicUsize::new(permits), queued: AtomicBool::new(false) }
    }

    /// A semaphore with that many free permits.
    #[cfg(loom)]
    pub fn new(permits: usize) -> Semaphore {
        Semaphore { free: AtomicUsize::new(permits), queued: AtomicBool::new(false) }
    }

    fn queue(&self) -> Queue {
        root_for(&raw const self.free)
    }

    /// How many permits are free, at some moment.
    pub fn available(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    /// Takes permits if there are enough and nobody is queued.
    #[inline]
    pub fn take(&self, k: usize) -> bool {
        // Relaxed: P1.
        !self.queued.load(Ordering::Relaxed) && self.take_free(k)
    }

    /// Takes permits if there are enough.
    #[inline]
    fn take_free(&self, k: usize) -> bool {
        let mut free = self.free.load(Ordering::Relaxed);
        while free >= k {
            // ORDERING: Acquire, pairs with the Release in `add`.
            match self.free.compare_exchange_weak(free, free - k, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(_) => {
                    // Another core is at it: it has the line for itself for a moment.
                    do_spin();
                    free = self.free.load(Ordering::Relaxed);
                }
            }
        }
        false
    }

    /// Adds free permits, if they can be counted. If not, they are there for a moment, in which the count is wrong.
    #[inline]
    fn add(&self, k: usize) -> bool {
        // ORDERING: Release, pairs with the Acquire in `take_free`; Acquire, with the Release in `join` (P2).
        let free = self.free.fetch_add(k, Ordering::AcqRel);
        let counted = free.checked_add(k).is_some();
        if !counted {
            self.free.fetch_sub(k, Ordering::AcqRel);
        }
        counted
    }

    /// Takes `k` permits if they are free and nobody waits.
    #[inline]
    pub fn try_acquire(&self, k: usize) -> bool {
        self.take(k) || (self.queued.load(Ordering::Relaxed) && self.try_acquire_slow(k))
    }

    #[cold]
    fn try_acquire_slow(&self, k: usize) -> bool {
        // Those who wait may be void.
        self.serve();
        self.take(k)
    }

    /// Takes `k` permits, or gives up at the deadline; whether they were taken.
    ///
    /// # Panics
    ///
    /// If it would have to wait and must not be suspended (`proc::pin`).
    #[inline]
    #[track_caller]
    pub fn acquire_until(&self, k: usize, deadline: Nanos) -> bool {
        self.take(k) || self.acquire_slow(k, deadline, None)
    }

    /// Takes `k` permits, or is cancelled; whether they were taken. `cancel` is of this semaphore, and for this call.
    ///
    /// # Panics
    ///
    /// As for [`Semaphore::acquire_until`].
    #[track_caller]
    pub fn acquire_or(&self, k: usize, cancel: &Cancel) -> bool {
        self.take(k) || self.acquire_slow(k, Nanos::NEVER, Some(cancel))
    }

    /// Gives `k` permits back. False if there would be more than can be counted; then none is given.
    #[inline]
    pub fn release(&self, k: usize) -> bool {
        let given = self.add(k);
        // Relaxed: P2.
        if self.queued.load(Ordering::Relaxed) {
            self.serve();
            preempt_point();
        }
        given
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn acquire_slow(&self, k: usize, deadline: Nanos, cancel: Option<&Cancel>) -> bool {
        let gp = getg();
        let may_park = pin::may_park(gp);
        if may_park && self.spin(gp, k) {
            return true;
        }
        let mut queue = self.queue();
        if self.join(&mut queue, k) {
            return true;
        }
        if !may_park {
            self.settle(queue);
            pin::refuse(gp);
        }
        // The cancellation that comes from now on waits for the bucket's lock.
        if cancel.is_some_and(|c| matches!(*c.state.lock(), State::Cancelled)) {
            self.settle(queue);
            return false;
        }
        // SAFETY: gp is the caller, and may park; the sudog goes to sleep below, under the same lock.
        let woken = unsafe {
            let sg = queue.enlist((Purpose::Permits, k), gp, false, deadline, true);
            if let Some(cancel) = cancel {
                *cancel.state.lock() = State::Waiting(sg);
            }
            queue.sleep(sg, deadline, WaitReason::Semacquire)
        };
        if let Some(cancel) = cancel {
            *cancel.state.lock() = State::Idle;
        }
        match woken {
            Ok(SERVED) => true,
            Ok(_cancelled) => {
                self.settle(self.queue());
                false
            }
            Err(left) => {
                self.settle(left.queue);
                false
            }
        }
    }

    /// Waits a little, awake, for permits that nobody is queued for; whether they were taken.
    #[inline]
    fn spin(&self, gp: &'static G, k: usize) -> bool {
        let mut spins = 0;
        while !self.queued.load(Ordering::Relaxed) && can_spin(gp, spins) {
            do_spin();
            spins += 1;
            if self.take(k) {
                return true;
            }
        }
        false
    }

    /// a and b of the module: true if the permits were there for the caller, who is the first. Otherwise `queued` is set.
    fn join(&self, queue: &mut Queue, k: usize) -> bool {
        // Relaxed: ordered by the next line.
        self.queued.store(true, Ordering::Relaxed);
        // ORDERING: P2; Release, pairs with the Acquire in `add`, and Acquire with its Release.
        let free = self.free.fetch_add(0, Ordering::AcqRel);
        if free < k || !queue.none_open() || !self.take_free(k) {
            return false;
        }
        // Relaxed: under the bucket's lock.
        self.queued.store(false, Ordering::Relaxed);
        true
    }

    /// The semaphore that is waited at by this address.
    pub(super) fn of_address(free: *const ()) -> *const Semaphore {
        free.wrapping_byte_sub(std::mem::offset_of!(Semaphore, free)).cast()
    }

    /// S4 of `sema`, P4: what it was given goes back, and it is in nobody's way any more.
    ///
    /// # Safety
    ///
    /// As for `Queue::bury`.
    #[cold]
    pub(super) unsafe fn leave_behind(&self, sg: &'static Sudog) {
        // SAFETY: the caller's promise.
        let (_, word) = unsafe { self.queue().bury(sg) };
        if word == SERVED {
            let _counted = self.add(sg.size);
        }
        self.serve();
    }

    /// P4: somebody has left the queue, or has not joined it after all.
    #[cold]
    fn settle(&self, mut queue: Queue) {
        if queue.is_empty() {
            self.queued.store(false, Ordering::Relaxed);
            return;
        }
        drop(queue);
        self.serve();
    }

    /// Gives permits to those who wait, from the first on, as long as there are enough.
    #[cold]
    #[inline(never)]
    fn serve(&self) {
        let mut batch = [const { None }; BATCH];
        loop {
            let mut queue = self.queue();
            let mut n = 0;
            while n < BATCH
                && let Some(first) = queue.dequeue_if(SERVED, |k| self.take_free(k), |k| _ = self.add(k))
            {
                batch[n] = Some(first);
                n += 1;
            }
            if queue.is_empty() {
                // Relaxed: under the bucket's lock.
                self.queued.store(false, Ordering::Relaxed);
            }
            drop(queue);
            batch[..n].iter_mut().filter_map(Option::take).for_each(Dequeued::ready);
            if n < BATCH {
                return;
            }
        }
    }
}
