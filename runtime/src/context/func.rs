//! The functions that contexts give: called as functions, cloned and dropped as one likes.

use super::Cause;
use gort_scheduler::memory;
use std::fmt;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

macro_rules! function {
    ($(#[$attr:meta])* $name:ident($($arg:ty)?) $(-> $out:ty)?) => {
        $(#[$attr])*
        #[derive(Clone)]
        #[must_use]
        pub struct $name(Arc<dyn Fn($($arg)?) $(-> $out)? + Send + Sync>);

        impl $name {
            #[track_caller]
            pub(super) fn new(f: impl Fn($($arg)?) $(-> $out)? + Send + Sync + 'static) -> $name {
                $name(memory::arc("a function of a context", f))
            }
        }

        /// What makes it callable.
        impl Deref for $name {
            type Target = dyn Fn($($arg)?) $(-> $out)? + Send + Sync;

            fn deref(&self) -> &Self::Target {
                &*self.0
            }
        }

        impl UnwindSafe for $name {}
        impl RefUnwindSafe for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

function! {
    /// Cancels a context: `cancel()`. The first call counts, the others do nothing. Clones cancel the same context. Dropping it
    /// does not cancel.
    ///
    /// When it returns, the context and all below it are done. It waits for nobody.
    ///
    /// ```
    /// use gort::context;
    /// let (ctx, cancel) = context::with_cancel(&context::background());
    /// let again = cancel.clone();
    /// cancel();
    /// again();
    /// assert!(ctx.err().is_some());
    /// ```
    CancelFunc()
}

function! {
    /// Cancels a context, and says why: `cancel(Some(cause))`, or `cancel(None)`. As [`CancelFunc`] otherwise.
    ///
    /// ```
    /// use gort::context::{self, ContextError};
    /// let (ctx, cancel) = context::with_cancel_cause(&context::background());
    /// cancel(Some(std::sync::Arc::new(std::fmt::Error)));
    /// assert_eq!(ctx.err(), Some(ContextError::Canceled));
    /// assert!(context::cause(&ctx).unwrap().is::<std::fmt::Error>());
    /// ```
    CancelCauseFunc(Option<Cause>)
}

function! {
    /// Stops what [`after_func`](super::after_func()) has set up: `stop()`. True if it came in time, and was the first to.
    ///
    /// ```
    /// use gort::context;
    /// let (ctx, cancel) = context::with_cancel(&context::background());
    /// let stop = context::after_func(&ctx, || unreachable!());
    /// assert!(stop());
    /// assert!(!stop());
    /// cancel();
    /// ```
    StopFunc() -> bool
}
