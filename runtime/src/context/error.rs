//! Why a context is done.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Why a context is done: what [`Context::err`](super::Context::err) gives.
///
/// ```
/// use gort::context::{self, ContextError};
/// let (ctx, cancel) = context::with_cancel(&context::background());
/// cancel();
/// assert_eq!(ctx.err(), Some(ContextError::Canceled));
/// assert_eq!(ContextError::Canceled.to_string(), "context canceled");
/// assert_eq!(ContextError::DeadlineExceeded.to_string(), "context deadline exceeded");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContextError {
    /// It was cancelled, or a context above it.
    Canceled,
    /// Its deadline has passed, or that of a context above it.
    DeadlineExceeded,
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ContextError::Canceled => "context canceled",
            ContextError::DeadlineExceeded => "context deadline exceeded",
        })
    }
}

impl Error for ContextError {}

/// What led to a cancellation, in the words of whoever cancelled.
///
/// ```
/// use gort::context::{self, Cause};
/// let (ctx, cancel) = context::with_cancel_cause(&context::background());
/// let cause: Cause = std::sync::Arc::from(Box::<dyn std::error::Error + Send + Sync>::from("the disk is full"));
/// cancel(Some(cause));
/// assert_eq!(context::cause(&ctx).unwrap().to_string(), "the disk is full");
/// ```
pub type Cause = Arc<dyn Error + Send + Sync>;
