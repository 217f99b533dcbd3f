//! [`SpinLock`]: the short lock (Go's `mutex` of the runtime, for sections of a handful of loads and stores).
//!
//! The uncontended pair is one read-modify-write and one plain store. There is no queue and no futex: nobody sleeps on this
//! lock, so unlocking has nobody to wake. A contender stays away for a while, looks again, and gives its time slice away
//! from time to time, so that a holder that the kernel has taken off its core (more Ps than cores) is let on.
//!
//! **How long it stays away.** What costs is not the wait but the cache line: two Ps that take turns at the lock pay for its
//! way from core to core at each turn, ten times what the section itself takes. If one stays away, the other does turn
//! after turn at the uncontended price. That pays while they meet at the lock all the time; if they seldom do, staying away
//! only wastes a core. So each contender looks how long ago the one before it came in. If that was a moment ago the next
//! one stays away twice as long, else half as long. (docs/wake-policy.md has the measurement.)
//!
//! Rules for users:
//! - no user code (`Drop`, `Clone`, a closure) and no park under it;
//! - it may be taken on any stack: neither it nor what it calls reads a thread-local;
//! - it may be released by a different function than the one that took it (`gopark`'s commit), which is why the raw
//!   pair [`SpinLock::lock`] and [`SpinLock::unlock`] exists beside the guard of [`Spinning`].
//!
//! **Rejected**: `parking_lot` (its slow path keeps a thread-local queue node, and the lock is taken on goroutine
//! stacks) and a futex lock (its unlock is a second read-modify-write, which is a tenth of a channel operation); a count of
//! the turns, which would tell exactly what the others get done meanwhile (it costs the uncontended pair another tenth,
//! wherever the count is kept).
//!
//! Tested by `tests/loom_lock.rs`, and by the models of every protocol that uses it. Under loom a contender waits for a
//! bell instead of spinning (a model cannot explore a spin), and a shadow cell checks that each holder happens after
//! the one before.

use super::atomic::{AtomicBool, Ordering};
#[cfg(not(loom))]
use super::{os_yield, spin_hint};
#[cfg(not(loom))]
use crate::proc::crowd;
#[cfg(not(loom))]
use crate::stack;
#[cfg(not(loom))]
use crate::time::clock::Nanos;
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU8, AtomicU16};

/// For so many pause instructions, of some 40 ns each, a contender stays away: at least, at first, and at most. Logarithms.
/// By measurement (docs/wake-policy.md). In a model one look is as good as many.
#[cfg(not(loom))]
const SHORTEST: u8 = if cfg!(shuttle) { 0 } else { 1 };
#[cfg(not(loom))]
const FIRST: u8 = if cfg!(shuttle) { 0 } else { 5 };
#[cfg(not(loom))]
const LONGEST: u8 = if cfg!(shuttle) { 0 } else { 8 };
/// A contender came in a moment ago: so many [`moment`]s. By measurement.
#[cfg(not(loom))]
const SOON: u16 = 8;

/// Nanoseconds in a [`moment`].
#[cfg(not(loom))]
const MOMENT: u64 = 64;

/// The time in units that come again after some milliseconds: it only says how long something short took.
#[cfg(not(loom))]
fn moment() -> u16 {
    if cfg!(shuttle) { 0 } else { (Nanos::now().0 / MOMENT) as u16 }
}

/// A lock with no data of its own. See the module.
#[derive(Debug)]
pub struct SpinLock {
    held: AtomicBool,
    /// For how many pauses the next contender stays away: their logarithm. Written under the lock. Like the next not the model's:
    /// they decide nothing.
    #[cfg(not(loom))]
    patience: AtomicU8,
    /// The [`moment`] at which the last contender came in. Written under the lock.
    #[cfg(not(loom))]
    since: AtomicU16,
    /// Others than goroutines have waited for it: that goroutines wait there says nothing of their Ps (`crowd`). Written under the
    /// lock.
    #[cfg(not(loom))]
    outsiders: std::sync::atomic::AtomicBool,
    #[cfg(loom)]
    shadow: loom::cell::UnsafeCell<()>,
    #[cfg(loom)]
    bell: (loom::sync::Mutex<()>, loom::sync::Condvar),
}

impl SpinLock {
    /// An open lock.
    #[cfg(not(loom))]
    pub const fn new() -> SpinLock {
        SpinLock {
            held: AtomicBool::new(false),
            patience: AtomicU8::new(FIRST),
            since: AtomicU16::new(0),
            outsiders: std::sync::atomic::AtomicBool::new(false),
        }
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
        let patience = self.patience.load(Ordering::Relaxed);
        let began = moment();
        let soon = began.wrapping_sub(self.since.load(Ordering::Relaxed)) <= SOON;
        let mut away = 0;
        let came_in = loop {
            if away < 1 << LONGEST {
                (0..1 << patience).for_each(|_| spin_hint());
                away += 1 << patience;
            } else {
                os_yield();
            }
            // Not under the lock: the clock is slow on some machines.
            let now = moment();
            if !self.is_held() && self.try_lock() {
                break now;
            }
        };
        let patience =
            if soon { (patience + 1).min(LONGEST) } else { patience.saturating_sub(1).max(SHORTEST) };
        if !self.outsiders.load(Ordering::Relaxed) {
            match stack::current_head() {
                Some(gp) => crowd::met(gp, u64::from(came_in.wrapping_sub(began)) * MOMENT),
                None => self.outsiders.store(true, Ordering::Relaxed),
            }
        }
        self.patience.store(patience, Ordering::Relaxed);
        self.since.store(came_in, Ordering::Relaxed);
    }

    #[inline]
    fn is_held(&self) -> bool {
        // Relaxed: a hint.
        self.held.load(Ordering::Relaxed)
    }

    /// Releases the lock. The caller holds it.
    #[inline]
    pub fn unlock(&self) {
        debug_assert!(self.is_held(), "unlock of an open lock");
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
