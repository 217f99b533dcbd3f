//! [`LazyLock`]: `std::sync::LazyLock` that parks goroutines (Go's `sync.OnceValue`).

use gort_scheduler::once::Once;
use gort_scheduler::sync::Spinning;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync;

/// A value that is made when it is first needed, as `std::sync::LazyLock` (Go's `sync.OnceValue`).
///
/// Who comes while it is being made waits for it: a goroutine parks, a plain thread blocks. The function that makes it may park.
///
/// ```
/// use gort::sync::LazyLock;
/// static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| "one two".split(' ').collect());
/// assert_eq!(WORDS.len(), 2);
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    once: Once,
    /// Set by whoever has the turn of `once`, so nobody waits in there.
    value: sync::OnceLock<T>,
    /// Taken by the same.
    init: Spinning<Option<F>>,
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<LazyLock<u8>>();
};

// A function that panics leaves it poisoned, and without a value for ever.
impl<T: UnwindSafe, F: UnwindSafe> UnwindSafe for LazyLock<T, F> {}
impl<T: RefUnwindSafe + UnwindSafe, F: UnwindSafe> RefUnwindSafe for LazyLock<T, F> {}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// A value that `f` will make.
    ///
    /// ```
    /// static LAZY: gort::sync::LazyLock<u32> = gort::sync::LazyLock::new(|| 6 * 7);
    /// assert_eq!(*LAZY, 42);
    /// ```
    pub const fn new(f: F) -> LazyLock<T, F> {
        LazyLock { once: Once::new(), value: sync::OnceLock::new(), init: Spinning::new(Some(f)) }
    }

    /// The value, which is made now if it was not before. The same as `&**this`.
    ///
    /// # Panics
    ///
    /// - With the function's panic; then it is poisoned.
    /// - `LazyLock instance has previously been poisoned`.
    /// - When the function comes back to the same value.
    ///
    /// ```
    /// let lazy = gort::sync::LazyLock::new(|| 1);
    /// assert_eq!(gort::sync::LazyLock::force(&lazy), &1);
    /// ```
    #[inline]
    #[track_caller]
    pub fn force(this: &LazyLock<T, F>) -> &T {
        match this.value.get() {
            Some(value) => value,
            None => this.make(),
        }
    }

    #[cold]
    #[track_caller]
    fn make(&self) -> &T {
        let called = self.once.call(false, |_| {
            let f = self.init.lock().take();
            f.is_some_and(|f| self.value.set(f()).is_ok())
        });
        match self.value.get() {
            Some(value) if called.is_ok() => value,
            _ => panic!("LazyLock instance has previously been poisoned"),
        }
    }

    /// [`force`](LazyLock::force), for who has it alone.
    ///
    /// # Panics
    ///
    /// As [`force`](LazyLock::force).
    ///
    /// ```
    /// let mut lazy = gort::sync::LazyLock::new(|| 1);
    /// *gort::sync::LazyLock::force_mut(&mut lazy) += 1;
    /// assert_eq!(*lazy, 2);
    /// ```
    #[track_caller]
    pub fn force_mut(this: &mut LazyLock<T, F>) -> &mut T {
        LazyLock::force(this);
        this.value.get_mut().expect("just made")
    }
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        LazyLock::force(self)
    }
}

impl<T, F: FnOnce() -> T> DerefMut for LazyLock<T, F> {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        LazyLock::force_mut(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    fn default() -> LazyLock<T> {
        LazyLock::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple("LazyLock");
        match self.value.get() {
            Some(value) => tuple.field(value),
            None => tuple.field(&format_args!("<uninit>")),
        };
        tuple.finish()
    }
}
