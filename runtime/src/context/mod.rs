//! Contexts (Go's `context`): deadlines, cancellation and values that are handed down to all that is done for one request.
//!
//! A [`Context`] is made from another one, its parent, and is done when it is cancelled, when its deadline has passed, or when its
//! parent is done. [`Context::done`] is a channel that is closed then, for `select!`; [`Context::err`] says why. As in Go, pass it
//! as the first argument, named `ctx`.
//!
//! ```
//! use gort::{chan, context, select};
//! use std::time::Duration;
//!
//! fn produce(ctx: &context::Context) -> gort::Chan<u32> {
//!     let (ch, ctx) = (chan(0), ctx.clone());
//!     let tx = ch.clone();
//!     gort::go!(move || {
//!         for n in 0.. {
//!             select! {
//!                 send(tx, n) => {},
//!                 recv(ctx.done()) -> _ => return,
//!             }
//!         }
//!     });
//!     ch
//! }
//!
//! let (ctx, cancel) = context::with_timeout(&context::background(), Duration::from_secs(10));
//! let sum: u32 = produce(&ctx).iter().take(5).sum();
//! cancel(); // the goroutine ends
//! assert_eq!(sum, 10);
//! ```
//!
//! Contexts, and what cancels them, may be used on goroutines and on plain threads alike. Operations of this library do not look at a
//! context by themselves, as in Go: wait for `done` beside them.

mod after_func;
mod children;
mod error;
mod func;
mod node;
#[cfg(test)]
mod tests;

pub use after_func::after_func;
pub(crate) use after_func::call_when_done;
use children::Child;
pub use error::{Cause, ContextError};
pub use func::{CancelCauseFunc, CancelFunc, StopFunc};
use gort_channel::Receiver;
use gort_scheduler::memory;
use node::{Kind, Node, Timed, arm, cancel};
use std::any::{Any, type_name};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A deadline, a cancellation and values, for all that is done for one request (Go's `context.Context`). Clones are the same
/// context.
///
/// `Debug` prints it as Go does: `context.Background.WithCancel`.
///
/// ```
/// use gort::context;
/// let (ctx, cancel) = context::with_cancel(&context::background());
/// let done = ctx.done();
/// let waiting = gort::go!(done.recv());
/// cancel();
/// waiting.join().unwrap();
/// assert_eq!(ctx.err(), Some(context::ContextError::Canceled));
/// assert_eq!(format!("{ctx:?}"), "context.Background.WithCancel");
/// ```
#[derive(Clone)]
pub struct Context(Repr);

#[derive(Clone)]
enum Repr {
    Background,
    Todo,
    Node(Arc<Node>),
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Context>();
    shared::<CancelFunc>();
    shared::<CancelCauseFunc>();
    shared::<StopFunc>();
};

// A panic leaves a context as it is: no code of others runs under its locks.
impl UnwindSafe for Context {}
impl RefUnwindSafe for Context {}

/// The root of all contexts: never cancelled, without a deadline, without values (Go's `context.Background`).
///
/// ```
/// let ctx = gort::context::background();
/// assert!(ctx.err().is_none() && ctx.deadline().is_none());
/// ```
pub const fn background() -> Context {
    Context::BACKGROUND
}

/// As [`background`], for where it is not clear yet which context should be used (Go's `context.TODO`).
///
/// ```
/// assert_eq!(format!("{:?}", gort::context::todo()), "context.TODO");
/// ```
pub const fn todo() -> Context {
    Context(Repr::Todo)
}

impl Context {
    const BACKGROUND: Context = Context(Repr::Background);

    fn node(&self) -> Option<&Arc<Node>> {
        match &self.0 {
            Repr::Node(node) => Some(node),
            Repr::Background | Repr::Todo => None,
        }
    }

    /// The nearest context, from this one upwards, that can be cancelled, if that passes to this one.
    fn canceller(&self) -> Option<&Arc<Node>> {
        let node = self.node()?;
        if let Kind::Cancel(_) = node.kind { Some(node) } else { node.above.as_ref() }
    }

    /// Its node, if this was the last handle.
    fn into_last_node(self) -> Option<Node> {
        match self.0 {
            Repr::Node(node) => Arc::into_inner(node),
            Repr::Background | Repr::Todo => None,
        }
    }

    /// This context and those above it.
    fn chain(&self) -> impl Iterator<Item = &Context> {
        std::iter::successors(Some(self), |ctx| ctx.node().map(|node| &node.parent))
    }

    /// A channel that is closed when the context is done, the same each time; nothing is ever sent (Go's `Done`). Nil if it can
    /// never be done: then it is never ready in a `select!`.
    ///
    /// The channel is closed when what the context waits for comes, even if by then nobody has the context any more.
    ///
    /// ```
    /// use gort::{context, select};
    /// let (ctx, cancel) = context::with_cancel(&context::background());
    /// cancel();
    /// select! {
    ///     recv(ctx.done()) -> closed => assert!(closed.is_none()),
    ///     recv(context::background().done()) -> _ => unreachable!(),
    /// }
    /// ```
    pub fn done(&self) -> Receiver<()> {
        self.canceller().map_or_else(Receiver::nil, |node| node.cancel().done())
    }

    /// Why the context is done; `None` if it is not (Go's `Err`). Once it has answered otherwise, it does not change.
    ///
    /// ```
    /// use gort::context::{self, ContextError};
    /// let (ctx, cancel) = context::with_timeout(&context::background(), std::time::Duration::ZERO);
    /// assert_eq!(ctx.err(), Some(ContextError::DeadlineExceeded));
    /// cancel();
    /// assert_eq!(ctx.err(), Some(ContextError::DeadlineExceeded));
    /// ```
    #[inline]
    pub fn err(&self) -> Option<ContextError> {
        self.canceller()?.cancel().err()
    }

    /// An error if the context is done, for `?` between two steps of what can be given up.
    ///
    /// # Errors
    ///
    /// What [`Context::err`] gives.
    ///
    /// ```
    /// use gort::context::{self, Context, ContextError};
    /// fn sum(ctx: &Context, parts: &[u32]) -> Result<u32, ContextError> {
    ///     let mut sum = 0;
    ///     for part in parts {
    ///         ctx.check()?;
    ///         sum += part;
    ///     }
    ///     Ok(sum)
    /// }
    ///
    /// let (ctx, cancel) = context::with_cancel(&context::background());
    /// assert_eq!(sum(&ctx, &[1, 2]), Ok(3));
    /// cancel();
    /// assert_eq!(sum(&ctx, &[1, 2]), Err(ContextError::Canceled));
    /// ```
    #[inline]
    pub fn check(&self) -> Result<(), ContextError> {
        self.err().map_or(Ok(()), Err)
    }

    /// Waits until the context is done, and says why: parks the goroutine, or blocks the plain thread. For ever if it can never be
    /// done, as [`background`].
    ///
    /// ```
    /// use gort::context::{self, ContextError};
    /// let (ctx, _cancel) = context::with_timeout(&context::background(), std::time::Duration::from_millis(1));
    /// assert_eq!(ctx.wait(), ContextError::DeadlineExceeded);
    /// ```
    #[track_caller]
    pub fn wait(&self) -> ContextError {
        loop {
            if let Some(err) = self.err() {
                return err;
            }
            self.done().recv();
        }
    }

    /// When the context is done at the latest (Go's `Deadline`).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use gort::context;
    /// let (ctx, _cancel) = context::with_timeout(&context::background(), Duration::from_secs(1));
    /// assert!(ctx.deadline().unwrap() > Instant::now());
    /// ```
    pub fn deadline(&self) -> Option<Instant> {
        self.node()?.deadline
    }

    /// The value of this type that [`with_value`] gave to this context, or else to the nearest one above (Go's `Value`, with
    /// the type as the key).
    ///
    /// ```
    /// use gort::context;
    /// #[derive(Debug, PartialEq)]
    /// struct User(&'static str);
    ///
    /// let ctx = context::with_value(&context::background(), User("gopher"));
    /// let (ctx, _cancel) = context::with_cancel(&ctx);
    /// assert_eq!(*ctx.value::<User>().unwrap(), User("gopher"));
    /// assert!(ctx.value::<String>().is_none());
    /// ```
    pub fn value<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.chain().find_map(|ctx| match &ctx.node()?.kind {
            Kind::Value(value, _) if value.as_ref().is::<T>() => value.clone().downcast().ok(),
            _ => None,
        })
    }
}

/// As Go prints it: `context.Background.WithCancel.WithValue(type)`.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain: Vec<&Context> = self.chain().collect();
        for ctx in chain.into_iter().rev() {
            match &ctx.0 {
                Repr::Background => f.write_str("context.Background")?,
                Repr::Todo => f.write_str("context.TODO")?,
                Repr::Node(node) => match &node.kind {
                    Kind::Value(_, type_name) => write!(f, ".WithValue({type_name})")?,
                    Kind::WithoutCancel => f.write_str(".WithoutCancel")?,
                    Kind::Cancel(cancel) => match &cancel.timed {
                        None => f.write_str(".WithCancel")?,
                        Some(timed) => write_deadline(f, timed.at)?,
                    },
                },
            }
        }
        Ok(())
    }
}

/// How far it is away: a point of the clock says nothing by itself.
fn write_deadline(f: &mut fmt::Formatter<'_>, at: Instant) -> fmt::Result {
    let now = Instant::now();
    match at.checked_duration_since(now) {
        Some(left) => write!(f, ".WithDeadline([{left:?}])"),
        None => write!(f, ".WithDeadline([-{:?}])", now.duration_since(at)),
    }
}

/// A context that is done when `cancel` is called, or when `parent` is done (Go's `context.WithCancel`).
///
/// Dropping `cancel` does not cancel. A context that nobody has any more, cancelled or not, leaves nothing behind.
///
/// ```
/// use gort::context;
/// let (parent, cancel) = context::with_cancel(&context::background());
/// let (child, _cancel_child) = context::with_cancel(&parent);
/// cancel();
/// assert!(child.err().is_some());
/// ```
pub fn with_cancel(parent: &Context) -> (Context, CancelFunc) {
    with_canceller(Node::cancel_below(parent, None))
}

fn with_canceller(node: Arc<Node>) -> (Context, CancelFunc) {
    let known = node.clone();
    (Context(Repr::Node(node)), CancelFunc::new(move || cancel(&known, ContextError::Canceled, None)))
}

/// As [`with_cancel`], where the call says why (Go's `context.WithCancelCause`): [`cause`] gives it back.
///
/// ```
/// use gort::context;
/// let (ctx, cancel) = context::with_cancel_cause(&context::background());
/// cancel(None);
/// assert_eq!(context::cause(&ctx).unwrap().to_string(), "context canceled");
/// ```
pub fn with_cancel_cause(parent: &Context) -> (Context, CancelCauseFunc) {
    let node = Node::cancel_below(parent, None);
    let known = node.clone();
    let cancel = CancelCauseFunc::new(move |cause| cancel(&known, ContextError::Canceled, cause));
    (Context(Repr::Node(node)), cancel)
}

/// A context that is also done `d` from now (Go's `context.WithTimeout`). `Duration::MAX` is no deadline.
///
/// Call `cancel`, or drop all that there is of it, as soon as it is not needed: that stops the timer.
///
/// ```
/// use gort::context::{self, ContextError};
/// use std::time::Duration;
/// let (ctx, _cancel) = context::with_timeout(&context::background(), Duration::from_millis(1));
/// assert_eq!(ctx.done().recv(), None);
/// assert_eq!(ctx.err(), Some(ContextError::DeadlineExceeded));
/// ```
pub fn with_timeout(parent: &Context, d: Duration) -> (Context, CancelFunc) {
    timeout(parent, d, None)
}

/// As [`with_timeout`], with what [`cause`] gives if the time runs out (Go's `context.WithTimeoutCause`).
///
/// ```
/// use gort::context::{self, ContextError};
/// let slow = std::sync::Arc::new(std::fmt::Error);
/// let (ctx, _cancel) = context::with_timeout_cause(&context::background(), std::time::Duration::ZERO, slow);
/// assert_eq!(ctx.err(), Some(ContextError::DeadlineExceeded));
/// assert!(context::cause(&ctx).unwrap().is::<std::fmt::Error>());
/// ```
pub fn with_timeout_cause(parent: &Context, d: Duration, cause: Cause) -> (Context, CancelFunc) {
    timeout(parent, d, Some(cause))
}

fn timeout(parent: &Context, d: Duration, cause: Option<Cause>) -> (Context, CancelFunc) {
    match Instant::now().checked_add(d) {
        Some(at) => until(parent, at, cause),
        None => with_cancel(parent),
    }
}

/// A context that is also done at `at` (Go's `context.WithDeadline`). If `parent` is done earlier anyway, it is as
/// [`with_cancel`]; if `at` has passed, the context is done at once.
///
/// ```
/// use gort::context;
/// use std::time::{Duration, Instant};
/// let soon = Instant::now() + Duration::from_secs(1);
/// let (parent, _cancel) = context::with_deadline(&context::background(), soon);
/// let (child, _cancel) = context::with_deadline(&parent, soon + Duration::from_secs(1));
/// assert_eq!(child.deadline(), Some(soon));
/// ```
pub fn with_deadline(parent: &Context, at: Instant) -> (Context, CancelFunc) {
    until(parent, at, None)
}

/// As [`with_deadline`], with what [`cause`] gives if the time runs out (Go's `context.WithDeadlineCause`).
///
/// ```
/// use gort::context;
/// let slow = std::sync::Arc::new(std::fmt::Error);
/// let (ctx, _cancel) = context::with_deadline_cause(&context::background(), std::time::Instant::now(), slow);
/// assert!(context::cause(&ctx).unwrap().is::<std::fmt::Error>());
/// ```
pub fn with_deadline_cause(parent: &Context, at: Instant, cause: Cause) -> (Context, CancelFunc) {
    until(parent, at, Some(cause))
}

fn until(parent: &Context, at: Instant, cause: Option<Cause>) -> (Context, CancelFunc) {
    if parent.deadline().is_some_and(|earlier| earlier < at) {
        return with_cancel(parent);
    }
    let node = Node::cancel_below(parent, Some(Timed { at, cause, kept: false }));
    arm(&node);
    with_canceller(node)
}

/// A context with a value, found by its type with [`Context::value`], also in the contexts below (Go's `context.WithValue`). It
/// hides a value of the same type above. Use a type of your own.
///
/// ```
/// use gort::context;
/// struct Trace(u64);
/// let ctx = context::with_value(&context::background(), Trace(7));
/// assert_eq!(ctx.value::<Trace>().unwrap().0, 7);
/// ```
pub fn with_value<T: Any + Send + Sync>(parent: &Context, value: T) -> Context {
    below(
        parent,
        parent.canceller().cloned(),
        parent.deadline(),
        Kind::Value(memory::arc("a context", value), type_name::<T>()),
    )
}

/// A context with the values of `parent`, which is not done when that is, and has no deadline (Go's `context.WithoutCancel`).
///
/// ```
/// use gort::context;
/// let (ctx, cancel) = context::with_cancel(&context::with_value(&context::background(), 5_u8));
/// let cleanup = context::without_cancel(&ctx);
/// cancel();
/// assert!(ctx.err().is_some() && cleanup.err().is_none());
/// assert_eq!(*cleanup.value::<u8>().unwrap(), 5);
/// ```
pub fn without_cancel(parent: &Context) -> Context {
    below(parent, None, None, Kind::WithoutCancel)
}

fn below(parent: &Context, above: Option<Arc<Node>>, deadline: Option<Instant>, kind: Kind) -> Context {
    Context(Repr::Node(memory::arc("a context", Node { parent: parent.clone(), above, deadline, kind })))
}

/// Why `ctx` is done, in the words of whoever cancelled it; without such words the [`ContextError`]; `None` if it is not done (Go's
/// `context.Cause`). It is what the first cancellation said, of this context or of one above.
///
/// ```
/// use gort::context::{self, ContextError};
/// let (ctx, cancel) = context::with_cancel(&context::background());
/// assert!(context::cause(&ctx).is_none());
/// cancel();
/// let cause = context::cause(&ctx).unwrap();
/// assert_eq!(cause.downcast_ref(), Some(&ContextError::Canceled));
/// ```
pub fn cause(ctx: &Context) -> Option<Cause> {
    ctx.canceller()?.cancel().cause()
}
