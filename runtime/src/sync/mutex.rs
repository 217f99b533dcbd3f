//! [`Mutex`] and its guards: `lock_api`'s faces over Go's mutex ([`gort_scheduler::sema::mutex`]).

use super::nanos;
use gort_scheduler::sema;
use gort_scheduler::time::clock::Nanos;
use lock_api::{GuardNoSend, RawMutexFair, RawMutexTimed};
use std::time::{Duration, Instant};

/// A mutual exclusion lock (Go's `sync.Mutex`, with the methods of `parking_lot::Mutex`).
///
/// Whoever must wait is parked: a goroutine without its thread, a plain thread as it is. Both may meet at one lock. First
/// come, first served, but an open lock is taken by whoever comes while the next in line is still on the way; who has lost so
/// for a millisecond gets the lock handed over (Go's starving mode).
///
/// There is no poisoning: a panic opens the lock. A guard is not `Send`, but the goroutine that holds it may wait for other
/// things and go on on another thread. Locking it twice in one goroutine waits for ever.
///
/// # Panics
///
/// `lock` panics if it would have to wait while a [`NoSuspendGuard`](crate::NoSuspendGuard) lives.
///
/// ```
/// use gort::sync::Mutex;
/// use std::time::Duration;
///
/// static SUM: Mutex<u64> = Mutex::new(0);
///
/// gort::scope(|s| {
///     for i in 1..=100 {
///         s.go(move || *SUM.lock() += i);
///     }
/// });
/// assert_eq!(*SUM.lock(), 5050);
///
/// let held = SUM.lock();
/// assert!(SUM.try_lock().is_none());
/// assert!(SUM.try_lock_for(Duration::from_millis(1)).is_none());
/// drop(held);
/// ```
pub type Mutex<T> = lock_api::Mutex<RawMutex, T>;

/// The right to the data of a [`Mutex`], until it is dropped.
///
/// ```
/// use gort::sync::{Mutex, MutexGuard};
///
/// let names = Mutex::new(vec!["gopher"]);
/// let mut guard: MutexGuard<'_, _> = names.lock();
/// guard.push("crab");
/// // The next in line gets the lock, whoever else comes.
/// MutexGuard::unlock_fair(guard);
/// ```
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawMutex, T>;

/// The right to a part of the data of a [`Mutex`].
///
/// ```
/// use gort::sync::{MappedMutexGuard, Mutex, MutexGuard};
///
/// let pair = Mutex::new((1, 2));
/// let mut second: MappedMutexGuard<'_, i32> = MutexGuard::map(pair.lock(), |pair| &mut pair.1);
/// *second = 3;
/// drop(second);
/// assert_eq!(*pair.lock(), (1, 3));
/// ```
pub type MappedMutexGuard<'a, T> = lock_api::MappedMutexGuard<'a, RawMutex, T>;

/// The lock of a [`Mutex`], apart from data, for what else is built of it by way of `lock_api`.
///
/// ```
/// use gort::sync::RawMutex;
///
/// static TABLE: lock_api::Mutex<RawMutex, [u8; 4]> = lock_api::Mutex::new([0; 4]);
/// TABLE.lock()[1] = 1;
/// ```
#[derive(Debug, Default)]
pub struct RawMutex(pub(super) sema::Mutex);

// SAFETY: the lock is exclusive (M1 of `sema::mutex`), and what one holder did is seen by the next. Nothing in it belongs to
// a thread; the guard is bound to its goroutine all the same, as std's. Locking panics before it has taken the lock, and
// unlocking does not panic.
unsafe impl lock_api::RawMutex for RawMutex {
    const INIT: RawMutex = RawMutex(sema::Mutex::new());

    type GuardMarker = GuardNoSend;

    #[inline]
    #[track_caller]
    fn lock(&self) {
        self.0.lock();
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.0.try_lock()
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.0.unlock();
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

// SAFETY: as above; nobody comes between a holder and the one that it hands the lock to (M3).
unsafe impl RawMutexFair for RawMutex {
    #[inline]
    unsafe fn unlock_fair(&self) {
        self.0.unlock_fair();
    }
}

// SAFETY: as above; at a deadline the lock is taken or not, and not both.
unsafe impl RawMutexTimed for RawMutex {
    type Duration = Duration;
    type Instant = Instant;

    #[inline]
    #[track_caller]
    fn try_lock_for(&self, timeout: Duration) -> bool {
        self.0.try_lock() || self.0.lock_until(Nanos::now().after(timeout))
    }

    #[inline]
    #[track_caller]
    fn try_lock_until(&self, timeout: Instant) -> bool {
        self.0.try_lock() || self.0.lock_until(nanos(timeout))
    }
}
