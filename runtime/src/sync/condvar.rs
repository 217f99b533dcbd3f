//! [`Condvar`]: `lock_api`'s face over Go's list of waiters ([`gort_scheduler::sema::notify`]).

use super::mutex::RawMutex;
use super::nanos;
use gort_scheduler::sema::NotifyList;
use gort_scheduler::time::clock::Nanos;
use lock_api::{GuardNoSend, RawCondvarTimed};
use std::time::{Duration, Instant};

/// A condition variable, for what a [`Mutex`](super::Mutex) guards (Go's `sync.Cond`, with the methods of
/// `parking_lot::Condvar`).
///
/// Who waits is woken first come, first served, by one notification each. A wait ends by a notification or by its deadline, and
/// never otherwise; a notification that comes at the deadline ends this wait or the next one's, and is never lost. One
/// condition variable may serve several mutexes.
///
/// # Panics
///
/// A wait panics while a [`NoSuspendGuard`](crate::NoSuspendGuard) lives; the mutex stays locked then.
///
/// ```
/// use gort::sync::{Condvar, Mutex};
/// use std::time::Duration;
///
/// static STEPS: Mutex<u32> = Mutex::new(0);
/// static CHANGED: Condvar = Condvar::new();
///
/// gort::go!(|| {
///     *STEPS.lock() += 1;
///     CHANGED.notify_one();
/// });
/// let mut steps = STEPS.lock();
/// CHANGED.wait_while(&mut steps, |steps| *steps == 0);
/// assert_eq!(*steps, 1);
///
/// assert!(CHANGED.wait_for(&mut steps, Duration::from_millis(1)).timed_out());
/// ```
pub type Condvar = lock_api::Condvar<RawCondvar>;

/// Whether a wait with a deadline ended by it.
///
/// ```
/// use gort::sync::{Condvar, Mutex, WaitTimeoutResult};
/// use std::time::Instant;
///
/// let mutex = Mutex::new(());
/// let ended: WaitTimeoutResult = Condvar::new().wait_until(&mut mutex.lock(), Instant::now());
/// assert!(ended.timed_out());
/// ```
pub use lock_api::WaitTimeoutResult;

/// The waiters of a [`Condvar`]. Wakes nobody without a notification, so the counts that notifying returns are exact.
///
/// ```
/// use gort::sync::RawCondvar;
///
/// static CHANGED: lock_api::Condvar<RawCondvar> = lock_api::Condvar::new();
/// assert!(!CHANGED.notify_one());
/// ```
#[derive(Debug, Default)]
pub struct RawCondvar(NotifyList);

// SAFETY: who waits is in the queue before the mutex is opened, and has it again when the wait returns (`sema::notify`). A wait
// panics before it opens the mutex or not at all.
unsafe impl lock_api::RawCondvar for RawCondvar {
    const INIT: RawCondvar = RawCondvar(NotifyList::new());

    type RawMutex = RawMutex;

    unsafe fn wait(&self, mutex: &RawMutex, _guard: &mut GuardNoSend) {
        self.0.wait_until(&mutex.0, Nanos::NEVER);
    }

    #[inline]
    fn notify_one(&self) -> bool {
        self.0.notify_one()
    }

    #[inline]
    fn notify_all(&self) -> usize {
        self.0.notify_all()
    }
}

// SAFETY: as above; a wait that was not notified has lasted until its deadline.
unsafe impl RawCondvarTimed for RawCondvar {
    fn checked_duration_to_instant(timeout: &Duration) -> Option<Instant> {
        Instant::now().checked_add(*timeout)
    }

    unsafe fn wait_until(&self, mutex: &RawMutex, _guard: &mut GuardNoSend, timeout: &Instant) -> bool {
        !self.0.wait_until(&mutex.0, nanos(*timeout))
    }
}
