//! [`SpinLock`]: the short lock (Go's `mutex` of the runtime, for sections of a handful of loads and stores).
//!
//! The uncontended pair is one read-modify-write and one plain store. A contender stays away for longer and longer
//! pauses, then gives its time slice away, so that a holder that the kernel has taken off its core (more Ps than
//! cores) is let on. There is no queue and no futex: nobody sleeps on this lock, so unlocking has nobody to wake.
//!
//! Rules for users:
//! - no user code (`Drop`, `Clone`, a closure) and no park under it;
//! - it may be taken on any stack: neither it nor what it calls reads a thread-local;
//! - it may be released by a different function than the one that took it (`gopark`'s commit), which is why the raw
//!   pair [`SpinLock::lock`] and [`SpinLock::unlock`] exists beside the guard of [`Spinning`].
//!
//! **Rejected**: `parking_lot` (its slow path keeps a thread-local queue node, and the lock is taken on goroutine
//! stacks) and a futex lock (its unlock is a second read-modify-write, which is a tenth of a channel operation).
//!
//! Tested by `tests/loom_lock.rs`, and by the models of every protocol that uses it. Under loom a contender waits for a
//! bell instead of spinning (a model cannot explore a spin), and a shadow cell checks that each holder happens after
//! the one before.

use super::atomic::{AtomicBool, Ordering};
#[cfg(not(loom))]
use super::{os_yield, spin_hint};
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

#[cfg(not(loom))]
/// A contender pauses for 1, 2, 4, ... rounds of the processor's pause instruction, up to this many (some microseconds),
/// before it gives its time slice away. The longer it stays away, the more the holder and the next one get done before
/// the cache line changes cores again. In a model one look is as good as many.
const LONGEST_PAUSE: u32 = if cfg!(shuttle) { 0 } else { 64 };

/// A lock with no data of its own. See the module.
#[derive(Debug)]
pub struct SpinLock {
    held: AtomicBool,
    #[cfg(loom)]
    shadow: loom::cell::UnsafeCell<()>,
    #[cfg(loom)]
    bell: (loom::sync::Mutex<()>, loom::sync::Condvar),
}

impl SpinLock {
    /// An open lock.
    #[cfg(not(loom))]
    pub const fn new() -> SpinLock {
        SpinLock { held: AtomicBool::new(false) }
    }

    /// An open lock.
    #[cfg(loom)]
    pub fn new() -> SpinLock {
        SpinLock {
            held: AtomicBool::new(false),
            shadow: loom::cell::UnsafeCell::new(()),
            bell: (loom::sync::Mutex::new(()), loom::sync::Condvar::new()),
        }
    }

    /// Takes the lock.
    #[inline]
    pub fn lock(&self) {
        if !self.try_lock() {
            self.lock_slow();
        }
    }

    /// Takes the lock if it is open.
    #[inline]
    pub fn try_lock(&self) -> bool {
        // ORDERING: Acquire, pairs with the Release in `unlock`; what the last holder wrote is seen.
        let got = self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        #[cfg(loom)]
        if got {
            self.shadow.with_mut(|_| ());
        }
        got
    }

    #[cold]
    #[cfg(loom)]
    fn lock_slow(&self) {
        let (waiting, bell) = &self.bell;
        let mut guard = waiting.lock().unwrap();
        while !self.try_lock() {
            guard = bell.wait(guard).unwrap();
        }
    }

    #[cold]
    #[cfg(not(loom))]
    fn lock_slow(&self) {
        let mut pauses = 1;
        loop {
            if pauses <= LONGEST_PAUSE {
                (0..pauses).for_each(|_| spin_hint());
                pauses *= 2;
            } else {
                os_yield();
            }
            // Relaxed: only a hint when to try again.
            if !self.held.load(Ordering::Relaxed) && self.try_lock() {
                return;
            }
        }
    }

    /// Releases the lock. The caller holds it.
    #[inline]
    pub fn unlock(&self) {
        debug_assert!(self.held.load(Ordering::Relaxed), "unlock of an open lock");
        // ORDERING: Release, pairs with the Acquire in `try_lock`.
        self.held.store(false, Ordering::Release);
        #[cfg(loom)]
        {
            drop(self.bell.0.lock().unwrap());
            self.bell.1.notify_one();
        }
    }
}

impl Default for SpinLock {
    fn default() -> SpinLock {
        SpinLock::new()
    }
}

/// A [`SpinLock`] with the data it protects.
#[derive(Debug)]
pub struct Spinning<T> {
    lock: SpinLock,
    data: UnsafeCell<T>,
}

// SAFETY: the data is reached only through `lock`, by one holder at a time, and each holder happens after the last.
unsafe impl<T: Send> Sync for Spinning<T> {}
// SAFETY: owning the lock is owning the data.
unsafe impl<T: Send> Send for Spinning<T> {}

impl<T> Spinning<T> {
    /// An open lock over `data`.
    #[cfg(not(loom))]
    pub const fn new(data: T) -> Spinning<T> {
        Spinning { lock: SpinLock::new(), data: UnsafeCell::new(data) }
    }

    /// An open lock over `data`.
    #[cfg(loom)]
    pub fn new(data: T) -> Spinning<T> {
        Spinning { lock: SpinLock::new(), data: UnsafeCell::new(data) }
    }

    /// Takes the lock until the guard goes.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        self.lock.lock();
        SpinGuard { of: self }
    }

    /// Takes the lock if it is open.
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        self.lock.try_lock().then_some(SpinGuard { of: self })
    }
}

/// The right to the data of a [`Spinning`].
#[derive(Debug)]
pub struct SpinGuard<'a, T> {
    of: &'a Spinning<T>,
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard exists only while this caller holds the lock.
        unsafe { &*self.of.data.get() }
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard exists only while this caller holds the lock, and it is borrowed mutably.
        unsafe { &mut *self.of.data.get() }
    }
}

impl<T> Drop for SpinGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.of.lock.unlock();
    }
}
