//! [`Once`]: `std::sync::Once` that parks goroutines (Go's `sync.Once`). The protocol is in `gort_scheduler::once`.

use gort_scheduler::once;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// Something that is done one time, as `std::sync::Once` (Go's `sync.Once`).
///
/// Callers that come while it is being done wait for it: a goroutine parks, a plain thread blocks. The function may park.
///
/// ```
/// use gort::sync::Once;
/// static START: Once = Once::new();
///
/// gort::scope(|s| {
///     for _ in 0..3 {
///         s.go(|| START.call_once(|| println!("said once")));
///     }
/// });
/// assert!(START.is_completed());
/// ```
pub struct Once(once::Once);

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Once>();
};

// A function that panics leaves it poisoned, which is how the next one learns of it.
impl UnwindSafe for Once {}
impl RefUnwindSafe for Once {}

impl Once {
    /// Nothing done yet.
    ///
    /// ```
    /// static ONCE: gort::sync::Once = gort::sync::Once::new();
    /// assert!(!ONCE.is_completed());
    /// ```
    pub const fn new() -> Once {
        Once(once::Once::new())
    }

    /// Calls `f`, if no call of this `Once` has returned before; waits for one that is under way. When this returns, some call
    /// has returned, and what it did is seen.
    ///
    /// If `f` panics, the `Once` is *poisoned*, and every later `call_once` panics too. (Go's counts a panic as done.)
    ///
    /// # Panics
    ///
    /// - With f's panic.
    /// - If it is poisoned.
    /// - `one-time initialization may not be performed recursively`, when `f` comes back to the same `Once`.
    ///
    /// ```
    /// let once = gort::sync::Once::new();
    /// let mut n = 0;
    /// once.call_once(|| n += 1);
    /// once.call_once(|| unreachable!());
    /// assert_eq!(n, 1);
    /// ```
    #[inline]
    #[track_caller]
    pub fn call_once<F: FnOnce()>(&self, f: F) {
        let called = self.0.call(false, |_| {
            f();
            true
        });
        if called.is_err() {
            poisoned();
        }
    }

    /// As [`call_once`](Once::call_once), but a poisoned `Once` gets another try: `f` is called, and is told so.
    ///
    /// # Panics
    ///
    /// With f's panic; when `f` comes back to the same `Once`.
    ///
    /// ```
    /// let once = gort::sync::Once::new();
    /// let failed = gort::scope(|s| s.go(|| once.call_once(|| panic!("no luck"))).join().is_err());
    /// once.call_once_force(|state| assert!(failed && state.is_poisoned()));
    /// once.call_once(|| unreachable!());
    /// ```
    #[inline]
    #[track_caller]
    pub fn call_once_force<F: FnOnce(&OnceState)>(&self, f: F) {
        let called = self.0.call(true, |poisoned| {
            f(&OnceState { poisoned });
            true
        });
        debug_assert!(called.is_ok(), "whoever forces it is not refused");
    }

    /// True once a call has returned; then what it did is seen.
    ///
    /// ```
    /// let once = gort::sync::Once::new();
    /// once.call_once(|| ());
    /// assert!(once.is_completed());
    /// ```
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.0.is_completed()
    }

    /// Waits until a call has returned, which need not have begun.
    ///
    /// # Panics
    ///
    /// If it is poisoned, or becomes so while it waits.
    ///
    /// ```
    /// static ONCE: gort::sync::Once = gort::sync::Once::new();
    /// gort::go!(|| ONCE.call_once(|| ()));
    /// ONCE.wait();
    /// ```
    #[track_caller]
    pub fn wait(&self) {
        if self.0.wait(false).is_err() {
            poisoned();
        }
    }

    /// As [`wait`](Once::wait), but it waits on for another try if it is poisoned.
    ///
    /// ```
    /// static ONCE: gort::sync::Once = gort::sync::Once::new();
    /// gort::go!(|| ONCE.call_once_force(|_| ()));
    /// ONCE.wait_force();
    /// ```
    #[track_caller]
    pub fn wait_force(&self) {
        let done = self.0.wait(true);
        debug_assert!(done.is_ok(), "whoever forces it is not refused");
    }
}

#[cold]
#[track_caller]
fn poisoned() -> ! {
    panic!("Once instance has previously been poisoned")
}

impl Default for Once {
    fn default() -> Once {
        Once::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

/// What the function of [`Once::call_once_force`] is told.
///
/// ```
/// gort::sync::Once::new().call_once_force(|state| assert!(!state.is_poisoned()));
/// ```
#[derive(Debug)]
pub struct OnceState {
    poisoned: bool,
}

impl OnceState {
    /// True if a call before this one has panicked.
    ///
    /// ```
    /// gort::sync::Once::new().call_once_force(|state| assert!(!state.is_poisoned()));
    /// ```
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}
