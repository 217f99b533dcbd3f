//! [`NotifyList`]: what a condition variable waits on (Go's `notifyList`).
//!
//! A wait begins while the caller still has its mutex, and may end before it sleeps:
//!
//! ```text
//!   wait, with the mutex                          notify
//!   1. lock the bucket; enqueue, awake; open
//!   2. open the mutex
//!   3. lock the bucket                            lock the bucket; dequeue the first; open
//!      dequeued meanwhile -> go on                it sleeps -> ready it
//!      else park, which opens the bucket
//!   4. take the mutex
//! ```
//!
//! N1: Who is in the queue when somebody notifies is notified, first come, first served, by one notification each; and nobody
//! else, so a wait ends by a notification or its deadline and not otherwise. Whether one or the other is decided by `win_select`:
//! a notification is not lost on one whose deadline was quicker.
//!
//! N2: `waiting` is false only if nobody is in the queue. Written under the bucket's lock. Who changes what others wait for
//! does so with the mutex, after the waiter's step 2, and so sees it.
//!
//! N3: One whose scheduler has ended (`proc::shutdown`) and that is still on its way from step 1 to step 3 is passed over as those
//! that are parked: it finds itself out of the queue without a word, and parks all the same.
//!
//! # Differs from Go
//!
//! Go gives a ticket in step 1, enqueues in step 3, and looks for the ticket when it notifies. With deadlines a ticket may have
//! gone, and that could not be told from one that has not come yet.
//!
//! Tested by `tests/loom_condvar.rs`; Go's cases in `runtime/tests/go_sync_cond.rs`.

use super::root::{NO_WORD, Purpose, Sudog};
use super::{Mutex, root_for};
use crate::g::WaitReason;
use crate::proc::{getg, pin};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::time::clock::Nanos;

/// What a waker says: the notification was for one.
const ONE: u8 = 0;
/// What a waker says: all who waited were notified.
const ALL: u8 = 1;

/// The waits of a condition variable; see the module.
///
/// ```
/// use gort_scheduler::sema::{Mutex, NotifyList};
/// use gort_scheduler::time::clock::Nanos;
/// use std::time::Duration;
///
/// let (lock, cond) = (Mutex::new(), NotifyList::new());
/// lock.lock();
/// let deadline = Nanos::now().after(Duration::from_millis(1));
/// assert!(!cond.wait_until(&lock, deadline));
/// assert!(lock.is_locked());
/// ```
#[derive(Debug)]
pub struct NotifyList {
    waiting: AtomicBool,
}

impl Default for NotifyList {
    fn default() -> NotifyList {
        NotifyList::new()
    }
}

impl NotifyList {
    /// Nobody waits.
    #[cfg(not(loom))]
    pub const fn new() -> NotifyList {
        NotifyList { waiting: AtomicBool::new(false) }
    }

    /// Nobody waits.
    #[cfg(loom)]
    pub fn new() -> NotifyList {
        NotifyList { waiting: AtomicBool::new(false) }
    }

    /// Opens the mutex, which the caller has, waits for a notification or the deadline, and takes the mutex again. True if it
    /// was a notification.
    ///
    /// # Panics
    ///
    /// If the caller must not be suspended (`proc::pin`); it still has the mutex then.
    #[track_caller]
    pub fn wait_until(&self, mutex: &Mutex, deadline: Nanos) -> bool {
        debug_assert!(mutex.is_locked(), "a wait without the mutex");
        let gp = getg();
        if !pin::may_park(gp) {
            pin::refuse(gp);
        }
        let queue = root_for(self);
        // Relaxed: N2.
        self.waiting.store(true, Ordering::Relaxed);
        let what = (Purpose::Notification, (&raw const *self).expose_provenance());
        // SAFETY: gp is the caller, in no other wait before this one is over, and may park.
        let mut sg = unsafe { queue.enlist(what, gp, false, deadline, false) };
        drop(queue);
        mutex.unlock();

        let queue = root_for(self);
        let passed_over = !sg.is_linked() && sg.word.get() == NO_WORD;
        if passed_over {
            // N3. As above, with a new record: the old one is in no queue.
            self.waiting.store(true, Ordering::Relaxed);
            // SAFETY: as above.
            sg = unsafe { queue.enlist(what, gp, false, deadline, false) };
        }
        let notified = if !sg.is_linked() {
            drop(queue);
            true
        } else {
            sg.parked.set(true);
            // SAFETY: as above; it is still in the queue, whose bucket is locked.
            match unsafe { queue.sleep(sg, deadline, WaitReason::SyncCondWait) } {
                Ok(_) => true,
                Err(mut left) => {
                    let waiting = !left.queue.is_empty();
                    self.waiting.store(waiting, Ordering::Relaxed);
                    false
                }
            }
        };
        mutex.lock();
        notified
    }

    /// Wakes the one that has waited longest. True if there was one.
    pub fn notify_one(&self) -> bool {
        // Relaxed: N2.
        if !self.waiting.load(Ordering::Relaxed) {
            return false;
        }
        let mut queue = root_for(self);
        let first = queue.dequeue(ONE);
        if first.as_ref().is_none_or(|first| first.last) {
            self.waiting.store(false, Ordering::Relaxed);
        }
        drop(queue);
        first.map(|first| first.ready()).is_some()
    }

    /// S4 of `sema`: a notification that nobody will notice is the next one's, unless all had one.
    ///
    /// # Safety
    ///
    /// As for `Queue::bury`.
    #[cold]
    pub(super) unsafe fn leave_behind(&self, sg: &'static Sudog) {
        let mut queue = root_for(self);
        // SAFETY: the caller's promise.
        let (_, word) = unsafe { queue.bury(sg) };
        let waiting = !queue.is_empty();
        self.waiting.store(waiting, Ordering::Relaxed);
        drop(queue);
        if word == ONE {
            self.notify_one();
        }
    }

    /// Wakes all who wait. Returns how many there were.
    pub fn notify_all(&self) -> usize {
        // Relaxed: N2.
        if !self.waiting.load(Ordering::Relaxed) {
            return 0;
        }
        let queue = root_for(self);
        self.waiting.store(false, Ordering::Relaxed);
        let mut all = 0;
        queue.ready_all(ALL, |n| all += n);
        all
    }
}
