//! [`RwLock`] and its guards: `lock_api`'s faces over Go's ([`gort_scheduler::sema::rwmutex`]).

use super::nanos;
use gort_scheduler::sema;
use gort_scheduler::time::clock::Nanos;
use lock_api::{GuardNoSend, RawRwLockDowngrade, RawRwLockTimed};
use std::time::{Duration, Instant};

/// A lock for many readers or one writer (Go's `sync.RWMutex`, with the methods of `parking_lot::RwLock`).
///
/// A writer that waits keeps new readers out until it has had its turn; readers that waited go before the next writer. So do not
/// read twice in one goroutine: with a writer in between both wait for ever. There is no poisoning, and waiting is as for
/// [`Mutex`](super::Mutex).
///
/// # Panics
///
/// `read` and `write` panic if they would have to wait while a [`NoSuspendGuard`](crate::NoSuspendGuard) lives.
///
/// ```
/// use gort::sync::RwLock;
///
/// static ROUTES: RwLock<Vec<&str>> = RwLock::new(Vec::new());
///
/// ROUTES.write().push("/");
/// let (one, other) = (ROUTES.read(), ROUTES.read());
/// assert_eq!(one.len() + other.len(), 2);
/// assert!(ROUTES.try_write().is_none());
/// ```
pub type RwLock<T> = lock_api::RwLock<RawRwLock, T>;

/// The right to read the data of a [`RwLock`], until it is dropped.
///
/// ```
/// use gort::sync::{RwLock, RwLockReadGuard};
///
/// let lock = RwLock::new(7);
/// let n: RwLockReadGuard<'_, i32> = lock.read();
/// assert_eq!(*n, 7);
/// ```
pub type RwLockReadGuard<'a, T> = lock_api::RwLockReadGuard<'a, RawRwLock, T>;

/// The right to the data of a [`RwLock`], until it is dropped.
///
/// ```
/// use gort::sync::{RwLock, RwLockWriteGuard};
///
/// let lock = RwLock::new(7);
/// let mut n = lock.write();
/// *n += 1;
/// let n = RwLockWriteGuard::downgrade(n);
/// assert_eq!((*n, *lock.read()), (8, 8));
/// ```
pub type RwLockWriteGuard<'a, T> = lock_api::RwLockWriteGuard<'a, RawRwLock, T>;

/// The right to read a part of the data of a [`RwLock`].
///
/// ```
/// use gort::sync::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
///
/// let pair = RwLock::new((1, 2));
/// let second: MappedRwLockReadGuard<'_, i32> = RwLockReadGuard::map(pair.read(), |pair| &pair.1);
/// assert_eq!(*second, 2);
/// ```
pub type MappedRwLockReadGuard<'a, T> = lock_api::MappedRwLockReadGuard<'a, RawRwLock, T>;

/// The right to a part of the data of a [`RwLock`].
///
/// ```
/// use gort::sync::{MappedRwLockWriteGuard, RwLock, RwLockWriteGuard};
///
/// let pair = RwLock::new((1, 2));
/// let mut second: MappedRwLockWriteGuard<'_, i32> = RwLockWriteGuard::map(pair.write(), |pair| &mut pair.1);
/// *second = 3;
/// drop(second);
/// assert_eq!(*pair.read(), (1, 3));
/// ```
pub type MappedRwLockWriteGuard<'a, T> = lock_api::MappedRwLockWriteGuard<'a, RawRwLock, T>;

/// The lock of a [`RwLock`], apart from data, for what else is built of it by way of `lock_api`.
///
/// ```
/// use gort::sync::RawRwLock;
///
/// static TABLE: lock_api::RwLock<RawRwLock, [u8; 4]> = lock_api::RwLock::new([0; 4]);
/// TABLE.write()[1] = 1;
/// ```
#[derive(Debug, Default)]
pub struct RawRwLock(sema::RWMutex);

// SAFETY: a writer is alone (W1 of `sema::rwmutex`); what a writer did is seen by the next readers, and what readers did by
// the next writer. Nothing in it belongs to a thread; guards are bound to their goroutines all the same, as std's.
// Locking panics before it has taken the lock, and unlocking does not panic.
unsafe impl lock_api::RawRwLock for RawRwLock {
    const INIT: RawRwLock = RawRwLock(sema::RWMutex::new());

    type GuardMarker = GuardNoSend;

    #[inline]
    #[track_caller]
    fn lock_shared(&self) {
        self.0.rlock();
    }

    #[inline]
    fn try_lock_shared(&self) -> bool {
        self.0.try_rlock()
    }

    #[inline]
    unsafe fn unlock_shared(&self) {
        self.0.runlock();
    }

    #[inline]
    #[track_caller]
    fn lock_exclusive(&self) {
        self.0.lock();
    }

    #[inline]
    fn try_lock_exclusive(&self) -> bool {
        self.0.try_lock()
    }

    #[inline]
    unsafe fn unlock_exclusive(&self) {
        self.0.unlock();
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    #[inline]
    fn is_locked_exclusive(&self) -> bool {
        self.0.is_locked_exclusive()
    }
}

// SAFETY: as above; the caller is counted as a reader by the operation that ends its writing.
unsafe impl RawRwLockDowngrade for RawRwLock {
    #[inline]
    unsafe fn downgrade(&self) {
        self.0.downgrade();
    }
}

// SAFETY: as above; at a deadline the lock is taken or not, and not both.
unsafe impl RawRwLockTimed for RawRwLock {
    type Duration = Duration;
    type Instant = Instant;

    #[inline]
    #[track_caller]
    fn try_lock_shared_for(&self, timeout: Duration) -> bool {
        self.0.try_rlock() || self.0.rlock_until(Nanos::now().after(timeout))
    }

    #[inline]
    #[track_caller]
    fn try_lock_shared_until(&self, timeout: Instant) -> bool {
        self.0.try_rlock() || self.0.rlock_until(nanos(timeout))
    }

    #[inline]
    #[track_caller]
    fn try_lock_exclusive_for(&self, timeout: Duration) -> bool {
        self.0.try_lock() || self.0.lock_until(Nanos::now().after(timeout))
    }

    #[inline]
    #[track_caller]
    fn try_lock_exclusive_until(&self, timeout: Instant) -> bool {
        self.0.try_lock() || self.0.lock_until(nanos(timeout))
    }
}
