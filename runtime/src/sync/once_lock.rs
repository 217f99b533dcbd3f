//! [`OnceLock`]: `std::sync::OnceLock` that parks goroutines.
//!
//! The value lies in one of `std`'s, which brings its `unsafe` along; only whoever has the turn of our own `Once` sets it, so
//! nobody ever waits in there.

use gort_scheduler::once::Once;
use std::convert::Infallible;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync;

/// A place that is written once, as `std::sync::OnceLock`.
///
/// Who comes while the value is being made waits for it: a goroutine parks, a plain thread blocks. The function that makes it
/// may park.
///
/// ```
/// use gort::sync::OnceLock;
/// static NAME: OnceLock<String> = OnceLock::new();
///
/// assert_eq!(NAME.get(), None);
/// assert_eq!(NAME.get_or_init(|| "gort".to_owned()), "gort");
/// assert_eq!(NAME.set("other".into()), Err("other".to_owned()));
/// ```
pub struct OnceLock<T> {
    once: Once,
    value: sync::OnceLock<T>,
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<OnceLock<u8>>();
};

// A function that panics leaves the place as it was: empty.
impl<T: UnwindSafe> UnwindSafe for OnceLock<T> {}
impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceLock<T> {}

impl<T> OnceLock<T> {
    /// An empty place.
    ///
    /// ```
    /// static CELL: gort::sync::OnceLock<u32> = gort::sync::OnceLock::new();
    /// assert!(CELL.get().is_none());
    /// ```
    pub const fn new() -> OnceLock<T> {
        OnceLock { once: Once::new(), value: sync::OnceLock::new() }
    }

    /// The value, if it is there. Never waits.
    ///
    /// ```
    /// let cell = gort::sync::OnceLock::from(1);
    /// assert_eq!(cell.get(), Some(&1));
    /// ```
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// The value, if it is there.
    ///
    /// ```
    /// let mut cell = gort::sync::OnceLock::from(1);
    /// *cell.get_mut().unwrap() += 1;
    /// assert_eq!(cell.get(), Some(&2));
    /// ```
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut()
    }

    /// Waits until the value is there.
    ///
    /// ```
    /// static CELL: gort::sync::OnceLock<u32> = gort::sync::OnceLock::new();
    /// gort::go!(|| CELL.set(7));
    /// assert_eq!(CELL.wait(), &7);
    /// ```
    #[track_caller]
    pub fn wait(&self) -> &T {
        loop {
            if let Some(value) = self.value.get() {
                return value;
            }
            let done = self.once.wait(true);
            debug_assert!(done.is_ok(), "whoever forces it is not refused");
        }
    }

    /// Writes the value, if there is none; waits for one that is being made.
    ///
    /// # Errors
    ///
    /// With the value, if there is one already.
    ///
    /// # Panics
    ///
    /// When it is called by the function that makes the value of this very place.
    ///
    /// ```
    /// let cell = gort::sync::OnceLock::new();
    /// assert_eq!(cell.set(1), Ok(()));
    /// assert_eq!(cell.set(2), Err(2));
    /// ```
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.try_init(|| value.take().ok_or(())).map_or(Ok(()), |_| value.map_or(Ok(()), Err))
    }

    /// The value; if there is none, `f` makes it. Of several callers one runs its `f`, and the others wait for it.
    ///
    /// # Panics
    ///
    /// - With f's panic; then the place stays empty, and the next caller tries.
    /// - When `f` comes back to the same place.
    ///
    /// ```
    /// let cell = gort::sync::OnceLock::new();
    /// assert_eq!(cell.get_or_init(|| 1), &1);
    /// assert_eq!(cell.get_or_init(|| unreachable!()), &1);
    /// ```
    #[inline]
    #[track_caller]
    pub fn get_or_init<F: FnOnce() -> T>(&self, f: F) -> &T {
        if let Some(value) = self.value.get() {
            return value;
        }
        match self.try_init(|| Ok::<T, Infallible>(f())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    #[cold]
    #[track_caller]
    fn try_init<E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        let mut error = None;
        let called = self.once.call(true, |_| match f() {
            Ok(value) => self.value.set(value).is_ok(),
            Err(e) => {
                error = Some(e);
                false
            }
        });
        debug_assert!(called.is_ok(), "whoever forces it is not refused");
        match error {
            Some(e) => Err(e),
            None => Ok(self.value.get().expect("it was made once")),
        }
    }

    /// The value, if there was one.
    ///
    /// ```
    /// assert_eq!(gort::sync::OnceLock::from(1).into_inner(), Some(1));
    /// ```
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Takes the value out; then the place is as new.
    ///
    /// ```
    /// let mut cell = gort::sync::OnceLock::from(1);
    /// assert_eq!(cell.take(), Some(1));
    /// assert_eq!(cell.set(2), Ok(()));
    /// ```
    pub fn take(&mut self) -> Option<T> {
        std::mem::take(self).into_inner()
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> OnceLock<T> {
        let cell = OnceLock::new();
        let _ = cell.set(value);
        cell
    }
}

impl<T: Clone> Clone for OnceLock<T> {
    fn clone(&self) -> OnceLock<T> {
        self.get().map_or_else(OnceLock::new, |value| OnceLock::from(value.clone()))
    }
}

impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &OnceLock<T>) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceLock<T> {}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple("OnceLock");
        match self.get() {
            Some(value) => tuple.field(value),
            None => tuple.field(&format_args!("<uninit>")),
        };
        tuple.finish()
    }
}
