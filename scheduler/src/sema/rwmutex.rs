//! [`RWMutex`]: many readers or one writer, by Go's rules.
//!
//! A writer that waits stops those who want to read from then on, and readers that waited for a writer go before the next writer.
//! So neither side can keep the other out.
//!
//! Writers are each other's business first: they take a [`Mutex`], with its queue, its spinning and its starving mode. The one who
//! has it then meets the readers, in one word:
//!
//! ```text
//!   63                            3      2         1        0
//!  +-------------------------------+---------+---------+--------+
//!  |     readers, and some who     | READERS | PENDING | WRITER |
//!  |     only looked, and go       | queued  | queued  |        |
//!  +-------------------------------+---------+---------+--------+
//!
//!   reading: readers += 1; WRITER is there -> readers -= 1, and into the queue of readers
//!   writing: take the mutex; WRITER := 1; readers are there -> into the queue of the writer
//!   the last reader to go, with PENDING there:  wakes the writer
//!   the writer, when it goes: WRITER := 0; READERS is there -> readers += those in the queue, who hold it now;
//!                             opens the mutex
//! ```
//!
//! W1: **Exclusion.** A reader holds the lock if there was no WRITER when it was counted. From when WRITER is set no reader is
//! added to those who hold it, and the writer goes on only when the count has been 0 since.
//!
//! W2: **The writer goes on.** It sets PENDING under the bucket's lock, by a read-modify-write of the word that has the count,
//! and does not wait if that is 0. So whoever brings the count to 0 sees PENDING, takes the bucket's lock, looks again
//! whether all that still holds (the writer may be another one by now), and wakes the writer.
//!
//! W3: **Readers go on.** They set READERS and join the queue under the bucket's lock, and only if WRITER is set. The
//! writer clears WRITER before it looks for READERS, and counts who is in the queue under the bucket's lock, while it still
//! has the mutex: no other writer comes between.
//!
//! W4: A writer that leaves by a deadline, or whose wait is void, opens the lock as if it had had it: it does so itself, or whoever
//! comes upon it, under its bucket's lock, clears PENDING, and does it for it (the last reader, a reader that is kept out, the end of
//! the writer's scheduler).
//!
//! # Waiting awake
//!
//! Who finds the lock taken waits a little before it parks, as for a mutex (`proc::spin`), but each side in its own way.
//!
//! - The writer keeps readers out, and those who are in will be gone in a moment: it looks again and again, briefly.
//! - A reader that meets a writer **stays away**: it spins for as long as a spin may take, and looks once. Two cores that
//!   take turns at the word pay for the cache line with every operation; while one of them stays away the other one has the
//!   line for itself, and gets more done than both would. Parking had the same effect, at the price of a park, and of a
//!   thief that brings the reader back at once.
//!
//! Who waits awake is in no queue, and no rule about those who wait holds for it yet: the next writer may come first. After the
//! spin it queues.
//!
//! Memory: a reader's count is an Acquire and pairs with the Release that clears WRITER; its going is a Release and pairs
//! with the Acquire of the writer's look at the count. Who is woken is ordered by the bucket's lock and the ready.
//!
//! **Rejected**: a compare-and-swap for reading, which would need no "only looked" (readers that come at once from several
//! cores make each other's fail); one queue for readers and writers (a writer is then handed the lock, and never takes it while
//! it is on the processor; two writers on two Ps would switch at every turn); counting readers that wait, as Go does (one that
//! gives up must be taken out of the count that the writer turns into readers); readers that look at the word while they spin (the
//! more often they look the faster they are with work in the section, and the slower without; docs/benchmarks.md has the rows).
//!
//! # Differs from Go
//!
//! Waits may have deadlines. A writer may become a reader ([`RWMutex::downgrade`]).
//!
//! Tested by `tests/loom_rwmutex.rs`; Go's cases in `runtime/tests/go_sync_rwmutex.rs`.

#[cfg(not(loom))]
use super::holder::Holder;
use super::root::{NO_WORD, Purpose, Sudog};
use super::{Mutex, Queue, root_for};
use crate::g::{G, WaitReason};
use crate::proc::spin::{BRIEF, can_spin, do_brief_spin, do_spin};
use crate::proc::{getg, pin};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::time::clock::Nanos;

/// A writer has the lock or waits for readers to go.
const WRITER: u64 = 1;
/// The writer is in its queue.
const PENDING: u64 = 2;
/// There may be readers in their queue.
const READERS: u64 = 4;
/// One reader. As many as there are places for them in memory do not overflow the rest of the word.
const READER: u64 = 8;

/// A lock for many readers or one writer, over no data of its own; see the module. Any goroutine or thread may unlock it.
///
/// ```
/// use gort_scheduler::sema::RWMutex;
///
/// static LOCK: RWMutex = RWMutex::new();
/// LOCK.rlock();
/// assert!(LOCK.try_rlock() && !LOCK.try_lock());
/// LOCK.runlock();
/// LOCK.runlock();
/// ```
#[derive(Debug)]
pub struct RWMutex {
    word: AtomicU64,
    w: Mutex,
}

impl Default for RWMutex {
    fn default() -> RWMutex {
        RWMutex::new()
    }
}

impl RWMutex {
    /// An open lock.
    #[cfg(not(loom))]
    pub const fn new() -> RWMutex {
        RWMutex { word: AtomicU64::new(0), w: Mutex::new() }
    }

    /// An open lock.
    #[cfg(loom)]
    pub fn new() -> RWMutex {
        RWMutex { word: AtomicU64::new(0), w: Mutex::new() }
    }

    /// Where readers wait.
    #[inline]
    fn readers(&self) -> Queue {
        root_for(&raw const self.word)
    }

    /// Where the writer that has `w` waits.
    #[inline]
    fn writer(&self) -> Queue {
        // Any address of this lock that nobody else waits at.
        root_for((&raw const self.word).cast::<u8>().wrapping_add(1))
    }

    /// Takes the lock for reading.
    ///
    /// # Panics
    ///
    /// If it would have to wait and must not be suspended (`proc::pin`).
    #[inline]
    #[track_caller]
    pub fn rlock(&self) {
        self.rlock_until(Nanos::NEVER);
    }

    /// Takes the lock for reading, or gives up at the deadline; whether it was taken.
    ///
    /// # Panics
    ///
    /// As for [`RWMutex::rlock`].
    #[inline]
    #[track_caller]
    pub fn rlock_until(&self, deadline: Nanos) -> bool {
        // ORDERING: Acquire, pairs with the Release in `admit`.
        self.word.fetch_add(READER, Ordering::Acquire) & WRITER == 0 || self.rlock_slow(deadline)
    }

    /// Takes the lock for reading if no writer has it or waits for it.
    #[inline]
    pub fn try_rlock(&self) -> bool {
        self.try_rlock_once() || (self.dead_writer_goes() && self.try_rlock_once())
    }

    #[inline]
    fn try_rlock_once(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & WRITER == 0 {
            // ORDERING: Acquire, as in `rlock_until`.
            match self.word.compare_exchange_weak(word, word + READER, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn rlock_slow(&self, deadline: Nanos) -> bool {
        // It only looked.
        self.runlock();
        let gp = getg();
        if pin::may_park(gp) && self.spin_for_writer(gp) {
            return true;
        }
        self.dead_writer_goes();
        let queue = self.readers();
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let reads = word & WRITER == 0;
            let new = if reads { word + READER } else { word | READERS };
            // ORDERING: Acquire, as in `rlock_until`; else W3, under the bucket's lock.
            match self.word.compare_exchange_weak(word, new, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) if reads => return true,
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        if !pin::may_park(gp) {
            drop(queue);
            pin::refuse(gp);
        }
        let what = (Purpose::Read, (&raw const *self).expose_provenance());
        // SAFETY: gp is the caller, and may park. Whoever wakes it has counted it.
        unsafe { queue.park_for(what, gp, false, deadline, WaitReason::SyncRWMutexRLock).is_ok() }
    }

    /// Waits a little, awake, for the writer to go, if that makes sense; whether the lock was taken for reading.
    #[inline]
    fn spin_for_writer(&self, gp: &'static G) -> bool {
        let mut spins = 0;
        while can_spin(gp, spins) {
            do_spin();
            spins += 1;
        }
        spins > 0 && self.try_rlock_once()
    }

    /// Waits a little, awake, for those who read to go, if that makes sense; whether they are gone. The caller has `w`, and
    /// WRITER is set.
    #[inline]
    fn spin_for_readers(&self, gp: &'static G) -> bool {
        let mut spins = 0;
        while can_spin(gp, spins / BRIEF) {
            do_brief_spin();
            spins += 1;
            // ORDERING: Acquire, as in `lock_until`.
            if self.word.load(Ordering::Acquire) < READER {
                return true;
            }
        }
        false
    }

    /// Lets go of the lock, which the caller has for reading.
    #[inline]
    pub fn runlock(&self) {
        // ORDERING: Release, pairs with the Acquire of the writer in `lock_until`, or travels with the ready.
        let old = self.word.fetch_sub(READER, Ordering::Release);
        debug_assert!(old >= READER, "sync: RUnlock of unlocked RWMutex");
        if old & PENDING != 0 && old < 2 * READER {
            self.last_reader();
        }
    }

    /// W2.
    #[cold]
    #[inline(never)]
    fn last_reader(&self) {
        let mut queue = self.writer();
        // ORDERING: Acquire, so that the writer, who is readied, sees what all readers did, of whom the caller may not be one.
        let word = self.word.load(Ordering::Acquire);
        if word & PENDING == 0 || word >= READER {
            return;
        }
        self.word.fetch_and(!PENDING, Ordering::Relaxed);
        let writer = queue.dequeue(0);
        drop(queue);
        match writer {
            Some(writer) => writer.ready(),
            // W4. It has left, or never will go on.
            None => self.unlock(),
        }
    }

    /// Takes the lock for writing.
    ///
    /// # Panics
    ///
    /// As for [`RWMutex::rlock`].
    #[inline]
    #[track_caller]
    pub fn lock(&self) {
        self.lock_until(Nanos::NEVER);
    }

    /// Takes the lock for writing, or gives up at the deadline; whether it was taken.
    ///
    /// # Panics
    ///
    /// As for [`RWMutex::rlock`].
    #[inline]
    #[track_caller]
    pub fn lock_until(&self, deadline: Nanos) -> bool {
        if !self.w.lock_for(deadline, WaitReason::SyncRWMutexLock) {
            return false;
        }
        // ORDERING: Acquire, pairs with the Release of the readers that have gone. WRITER is not set, since we have `w`.
        self.word.fetch_add(WRITER, Ordering::Acquire) < READER || self.lock_slow(deadline)
    }

    /// Takes the lock for writing if nobody has it.
    #[inline]
    pub fn try_lock(&self) -> bool {
        if !self.w.try_lock() {
            return false;
        }
        let mut word = self.word.load(Ordering::Relaxed);
        while word < READER {
            // ORDERING: Acquire, as in `lock_until`.
            match self.word.compare_exchange_weak(word, word | WRITER, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        self.w.unlock();
        false
    }

    /// The caller has `w`, and WRITER is set; readers have it still.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn lock_slow(&self, deadline: Nanos) -> bool {
        let gp = getg();
        let may_park = pin::may_park(gp);
        if may_park && self.spin_for_readers(gp) {
            return true;
        }
        let queue = self.writer();
        // ORDERING: Acquire, as in `lock_until`.
        if self.word.fetch_or(PENDING, Ordering::Acquire) < READER {
            self.word.fetch_and(!PENDING, Ordering::Relaxed);
            return true;
        }
        if may_park {
            let what = (Purpose::Write, (&raw const *self).expose_provenance());
            // SAFETY: gp is the caller, and may park.
            match unsafe { queue.park_for(what, gp, false, deadline, WaitReason::SyncRWMutexLock) } {
                Ok(_) => return true,
                Err(left) if left.was_queued => self.withdraw(left.queue),
                // `last_reader` has found it gone, and opened the lock for it.
                Err(_) => {}
            }
            return false;
        }
        self.withdraw(queue);
        pin::refuse(gp);
    }

    /// W4, for a reader: a writer that waits and will never go on keeps nobody out. Whether there was one.
    #[cold]
    fn dead_writer_goes(&self) -> bool {
        if self.word.load(Ordering::Relaxed) & PENDING == 0 {
            return false;
        }
        let mut queue = self.writer();
        let dead = self.word.load(Ordering::Relaxed) & PENDING != 0 && queue.none_open();
        if dead {
            self.withdraw(queue);
        }
        dead
    }

    /// S4 of `sema`: a reader that was counted goes.
    ///
    /// # Safety
    ///
    /// As for `Queue::bury`.
    #[cold]
    pub(super) unsafe fn leave_behind_reader(&self, sg: &'static Sudog) {
        // SAFETY: the caller's promise.
        let (_, word) = unsafe { self.readers().bury(sg) };
        if word != NO_WORD {
            self.runlock();
        }
    }

    /// S4 of `sema`, W4.
    ///
    /// # Safety
    ///
    /// As for `Queue::bury`.
    #[cold]
    pub(super) unsafe fn leave_behind_writer(&self, sg: &'static Sudog) {
        let mut queue = self.writer();
        // SAFETY: the caller's promise.
        match unsafe { queue.bury(sg) } {
            (true, _) => self.withdraw(queue),
            (false, word) => {
                drop(queue);
                if word != NO_WORD {
                    self.unlock();
                }
            }
        }
    }

    /// W4: the writer does not wait any more, and goes. PENDING is its own.
    #[cold]
    fn withdraw(&self, queue: Queue) {
        self.word.fetch_and(!PENDING, Ordering::Relaxed);
        drop(queue);
        self.unlock();
    }

    /// Lets go of the lock, which the caller has for writing.
    #[inline]
    pub fn unlock(&self) {
        self.admit(0);
        self.w.unlock();
    }

    /// Goes on as a reader, without letting a writer in between.
    #[inline]
    pub fn downgrade(&self) {
        self.admit(READER);
        self.w.unlock();
    }

    /// Opens the lock for readers, `more` of which are there already. The caller has `w`.
    #[inline]
    fn admit(&self, more: u64) {
        debug_assert!(self.is_locked_exclusive(), "sync: Unlock of unlocked RWMutex");
        // ORDERING: Release, pairs with the Acquire in `rlock_until` and `lock_until`. WRITER is set, so this clears it.
        let old = self.word.fetch_add(more.wrapping_sub(WRITER), Ordering::Release);
        if old & READERS != 0 {
            self.admit_queued();
        }
    }

    /// W3.
    #[cold]
    #[inline(never)]
    fn admit_queued(&self) {
        let queue = self.readers();
        self.word.fetch_and(!READERS, Ordering::Relaxed);
        queue.ready_all(0, |n| {
            // ORDERING: Release, as in `admit`; before they are readied, and may go.
            self.word.fetch_add(n as u64 * READER, Ordering::Release);
        });
    }

    /// How far into a lock the address is at which the queue of its readers is.
    #[cfg(not(loom))]
    pub(super) const READERS_AT: usize = std::mem::offset_of!(RWMutex, word);

    /// The writer that has it, as far as that can be told.
    #[cfg(not(loom))]
    pub(super) fn holder(&self) -> Option<Holder> {
        self.w.holder()
    }

    /// True if somebody has it.
    #[inline]
    pub fn is_locked(&self) -> bool {
        // Relaxed: at some moment.
        self.word.load(Ordering::Relaxed) & !READERS != 0
    }

    /// True if a writer has it or waits for readers to go.
    #[inline]
    pub fn is_locked_exclusive(&self) -> bool {
        self.word.load(Ordering::Relaxed) & WRITER != 0
    }
}
