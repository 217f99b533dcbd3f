//! [`Condvar`]: the methods of `parking_lot` over Go's list of waiters ([`gort_scheduler::sema::notify`]).

use super::MutexGuard;
use super::nanos;
use gort_scheduler::sema::NotifyList;
use gort_scheduler::time::clock::Nanos;
use std::fmt;
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
#[derive(Default)]
pub struct Condvar(NotifyList);

impl Condvar {
    /// A condition variable that nobody waits for.
    ///
    /// ```
    /// static CHANGED: gort::sync::Condvar = gort::sync::Condvar::new();
    /// assert!(!CHANGED.notify_one());
    /// ```
    #[inline]
    pub const fn new() -> Condvar {
        Condvar(NotifyList::new())
    }

    /// Wakes the one that has waited longest. True if there was one.
    ///
    /// ```
    /// assert!(!gort::sync::Condvar::new().notify_one());
    /// ```
    #[inline]
    pub fn notify_one(&self) -> bool {
        self.0.notify_one()
    }

    /// Wakes all who wait. Returns how many there were.
    ///
    /// ```
    /// assert_eq!(gort::sync::Condvar::new().notify_all(), 0);
    /// ```
    #[inline]
    pub fn notify_all(&self) -> usize {
        self.0.notify_all()
    }

    /// Opens the mutex, waits for a notification, and locks the mutex again. Who notifies after the mutex was opened finds the
    /// caller waiting.
    ///
    /// # Panics
    ///
    /// While a [`NoSuspendGuard`](crate::NoSuspendGuard) lives; the mutex stays locked then.
    ///
    /// ```
    /// use gort::sync::{Condvar, Mutex};
    ///
    /// static READY: Mutex<bool> = Mutex::new(false);
    /// static CHANGED: Condvar = Condvar::new();
    ///
    /// gort::go!(|| {
    ///     *READY.lock() = true;
    ///     CHANGED.notify_all();
    /// });
    /// let mut ready = READY.lock();
    /// while !*ready {
    ///     CHANGED.wait(&mut ready);
    /// }
    /// ```
    #[track_caller]
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        self.wait_until_nanos(guard, Nanos::NEVER);
    }

    /// [`wait`](Condvar::wait) with a deadline.
    ///
    /// # Panics
    ///
    /// As `wait`.
    ///
    /// ```
    /// use gort::sync::{Condvar, Mutex};
    /// use std::time::Instant;
    ///
    /// let mutex = Mutex::new(());
    /// assert!(Condvar::new().wait_until(&mut mutex.lock(), Instant::now()).timed_out());
    /// ```
    #[track_caller]
    pub fn wait_until<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Instant,
    ) -> WaitTimeoutResult {
        self.wait_until_nanos(guard, nanos(deadline))
    }

    /// [`wait`](Condvar::wait) for so long at most. One that is too long for a point in time is for ever.
    ///
    /// # Panics
    ///
    /// As `wait`.
    ///
    /// ```
    /// use gort::sync::{Condvar, Mutex};
    /// use std::time::Duration;
    ///
    /// let mutex = Mutex::new(());
    /// assert!(Condvar::new().wait_for(&mut mutex.lock(), Duration::from_millis(1)).timed_out());
    /// ```
    #[track_caller]
    pub fn wait_for<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> WaitTimeoutResult {
        self.wait_until_nanos(guard, Nanos::now().after(timeout))
    }

    /// Waits until the condition is false, which is asked with the mutex locked: at once, and after each notification.
    ///
    /// # Panics
    ///
    /// As `wait`, and if the condition does.
    ///
    /// ```
    /// use gort::sync::{Condvar, Mutex};
    ///
    /// let mutex = Mutex::new(vec![1]);
    /// let mut queue = mutex.lock();
    /// Condvar::new().wait_while(&mut queue, |queue| queue.is_empty());
    /// assert_eq!(queue.pop(), Some(1));
    /// ```
    #[track_caller]
    pub fn wait_while<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) {
        self.wait_while_nanos(guard, &mut condition, Nanos::NEVER);
    }

    /// [`wait_while`](Condvar::wait_while) with a deadline. The result says `timed_out` if the condition was still true then.
    ///
    /// # Panics
    ///
    /// As `wait_while`.
    ///
    /// ```
    /// use gort::sync::{Condvar, Mutex};
    /// use std::time::Instant;
    ///
    /// let (mutex, never) = (Mutex::new(()), Condvar::new());
    /// assert!(never.wait_while_until(&mut mutex.lock(), |_| true, Instant::now()).timed_out());
    /// assert!(!never.wait_while_until(&mut mutex.lock(), |_| false, Instant::now()).timed_out());
    /// ```
    #[track_caller]
    pub fn wait_while_until<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
        deadline: Instant,
    ) -> WaitTimeoutResult {
        self.wait_while_nanos(guard, &mut condition, nanos(deadline))
    }

    /// [`wait_while_until`](Condvar::wait_while_until) for so long at most.
    ///
    /// # Panics
    ///
    /// As `wait_while`.
    ///
    /// ```
    /// use gort::sync::{Condvar, Mutex};
    /// use std::time::Duration;
    ///
    /// let mutex = Mutex::new(());
    /// let waited = Condvar::new().wait_while_for(&mut mutex.lock(), |_| true, Duration::from_millis(1));
    /// assert!(waited.timed_out());
    /// ```
    #[track_caller]
    pub fn wait_while_for<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
        timeout: Duration,
    ) -> WaitTimeoutResult {
        self.wait_while_nanos(guard, &mut condition, Nanos::now().after(timeout))
    }

    #[track_caller]
    fn wait_until_nanos<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Nanos,
    ) -> WaitTimeoutResult {
        // SAFETY: the guard is borrowed, so nobody uses the data before the wait is over, and then the mutex is locked again. A
        // wait panics before it opens the mutex or not at all (`sema::notify`).
        let mutex = unsafe { MutexGuard::mutex(guard).raw() };
        WaitTimeoutResult(!self.0.wait_until(&mutex.0, deadline))
    }

    #[track_caller]
    fn wait_while_nanos<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        condition: &mut dyn FnMut(&mut T) -> bool,
        deadline: Nanos,
    ) -> WaitTimeoutResult {
        let mut result = WaitTimeoutResult(false);
        while condition(&mut *guard) {
            if result.timed_out() {
                return result;
            }
            result = self.wait_until_nanos(guard, deadline);
        }
        WaitTimeoutResult(false)
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Condvar { .. }")
    }
}

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
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// True if the deadline came first.
    ///
    /// ```
    /// use gort::sync::{Condvar, Mutex};
    ///
    /// let mutex = Mutex::new(());
    /// assert!(Condvar::new().wait_until(&mut mutex.lock(), std::time::Instant::now()).timed_out());
    /// ```
    #[inline]
    pub const fn timed_out(self) -> bool {
        self.0
    }
}
