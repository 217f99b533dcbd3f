//! [`ErrGroup`]: goroutines that fail together (Go's `x/sync/errgroup`).

use super::{Semaphore, WaitGroup};
use crate::context::{self, CancelCauseFunc, Cause, Context};
use crate::go::go;
use gort_scheduler::proc::newproc::report_panic;
use gort_scheduler::sync::Spinning;
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// Goroutines that work on parts of one task, of which the first error counts (Go's `errgroup.Group`). Clones are the same group.
///
/// ```
/// use gort::sync::ErrGroup;
/// let group = ErrGroup::new();
/// for n in ["1", "2", "x"] {
///     group.go(move || n.parse::<i32>().map(drop));
/// }
/// assert_eq!(group.wait().unwrap_err().to_string(), "invalid digit found in string");
/// ```
pub struct ErrGroup<E> {
    shared: Arc<Shared<E>>,
}

struct Shared<E> {
    running: WaitGroup,
    state: Spinning<State<E>>,
    /// Of the group's context, if it has one.
    cancel: Option<CancelCauseFunc>,
}

struct State<E> {
    active: usize,
    limit: Option<Arc<Semaphore>>,
    /// The first error.
    error: Option<E>,
    /// What the first panic left.
    panic: Option<Box<dyn Any + Send>>,
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<ErrGroup<u8>>();
};

// A panic leaves it as it is: no code of others runs under its lock.
impl<E> UnwindSafe for ErrGroup<E> {}
impl<E> RefUnwindSafe for ErrGroup<E> {}

impl<E: Send + 'static> ErrGroup<E> {
    /// A group without a context and without a limit.
    ///
    /// ```
    /// assert_eq!(gort::sync::ErrGroup::<String>::new().wait(), Ok(()));
    /// ```
    pub fn new() -> ErrGroup<E> {
        ErrGroup::with(None)
    }

    /// A group and a context below `ctx`, which is cancelled when a function gives the first error, or panics, and at the latest when
    /// [`wait`](ErrGroup::wait) has waited for all.
    ///
    /// If `E` is [`Cause`], the error is also the context's [`cause`](context::cause).
    ///
    /// ```
    /// use gort::{context, sync::ErrGroup};
    /// let (group, ctx) = ErrGroup::with_context(&context::background());
    /// group.go(|| Err("no luck"));
    /// group.go(move || {
    ///     ctx.done().recv();
    ///     Err("told to stop")
    /// });
    /// assert_eq!(group.wait(), Err("no luck"));
    /// ```
    pub fn with_context(ctx: &Context) -> (ErrGroup<E>, Context) {
        let (ctx, cancel) = context::with_cancel_cause(ctx);
        (ErrGroup::with(Some(cancel)), ctx)
    }

    fn with(cancel: Option<CancelCauseFunc>) -> ErrGroup<E> {
        let state = State { active: 0, limit: None, error: None, panic: None };
        let shared = Shared { running: WaitGroup::new(), state: Spinning::new(state), cancel };
        ErrGroup { shared: Arc::new(shared) }
    }

    /// Runs `f` in a goroutine of the group. At the [limit](ErrGroup::set_limit) it waits first, until one of them has ended.
    ///
    /// A panic in `f` is reported as that of any goroutine, cancels the group's context, and is raised again by
    /// [`wait`](ErrGroup::wait).
    ///
    /// ```
    /// let group = gort::sync::ErrGroup::<std::io::Error>::new();
    /// group.go(|| Ok(()));
    /// group.wait().unwrap();
    /// ```
    #[track_caller]
    pub fn go<F>(&self, f: F)
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
    {
        let limit = self.shared.state.lock().limit.clone();
        if let Some(limit) = &limit {
            limit.acquire(1);
        }
        self.start(limit, f);
    }

    /// [`go`](ErrGroup::go), if that is possible without waiting. False: the group is at its limit, and `f` has been dropped.
    ///
    /// ```
    /// let group = gort::sync::ErrGroup::<()>::new();
    /// group.set_limit(0);
    /// assert!(!group.try_go(|| Ok(())));
    /// ```
    #[track_caller]
    pub fn try_go<F>(&self, f: F) -> bool
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
    {
        let limit = self.shared.state.lock().limit.clone();
        let room = limit.as_ref().is_none_or(|limit| limit.try_acquire(1));
        if room {
            self.start(limit, f);
        }
        room
    }

    /// Starts it. A permit of `limit` has been taken.
    #[track_caller]
    fn start<F>(&self, limit: Option<Arc<Semaphore>>, f: F)
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
    {
        self.shared.state.lock().active += 1;
        self.shared.running.add(1);
        let running = Running { shared: self.shared.clone(), limit };
        go(move || {
            match catch_unwind(AssertUnwindSafe(f)) {
                Ok(Ok(())) => {}
                Ok(Err(e)) => running.shared.failed(e),
                Err(payload) => {
                    report_panic(&*payload);
                    running.shared.panicked(payload);
                }
            }
            drop(running);
        });
    }

    /// From now on at most `n` goroutines of the group run at once; with 0, none. There is no limit before this is called.
    ///
    /// # Panics
    ///
    /// `errgroup: modify limit while N goroutines in the group are still active`.
    ///
    /// ```
    /// let group = gort::sync::ErrGroup::<()>::new();
    /// group.set_limit(2);
    /// (0..10).for_each(|_| group.go(|| Ok(())));
    /// group.wait().unwrap();
    /// ```
    #[track_caller]
    pub fn set_limit(&self, n: usize) {
        let limit = Some(Arc::new(Semaphore::new(n)));
        let mut state = self.shared.state.lock();
        let active = state.active;
        let old = if active == 0 { std::mem::replace(&mut state.limit, limit) } else { limit };
        drop(state);
        drop(old);
        assert!(
            active == 0,
            "errgroup: modify limit while {active} goroutines in the group are still active"
        );
    }

    /// Waits until all goroutines of the group have ended, cancels its context, and gives the first error.
    ///
    /// The error is given once: a second `wait` says `Ok`, unless there was another error since.
    ///
    /// # Errors
    ///
    /// The first one that a function gave.
    ///
    /// # Panics
    ///
    /// With the panic of the first function that panicked, whether there was an error or not.
    ///
    /// ```
    /// let group = gort::sync::ErrGroup::new();
    /// group.go(|| Err(5));
    /// assert_eq!((group.wait(), group.wait()), (Err(5), Ok(())));
    /// ```
    pub fn wait(&self) -> Result<(), E> {
        self.shared.running.wait();
        // If there was an error, it has cancelled.
        self.shared.cancel(None);
        let (error, panic) = {
            let mut state = self.shared.state.lock();
            (state.error.take(), state.panic.take())
        };
        match (panic, error) {
            (Some(payload), _) => resume_unwind(payload),
            (None, Some(e)) => Err(e),
            (None, None) => Ok(()),
        }
    }
}

impl<E: 'static> Shared<E> {
    fn cancel(&self, cause: Option<Cause>) {
        if let Some(cancel) = &self.cancel {
            cancel(cause);
        }
    }

    fn failed(&self, e: E) {
        // The cause of a context is shared, an E is not, unless it is made for that.
        let cause = (&e as &dyn Any).downcast_ref::<Cause>().cloned();
        let later = {
            let mut state = self.state.lock();
            if state.error.is_none() {
                state.error = Some(e);
                None
            } else {
                Some(e)
            }
        };
        if later.is_none() {
            self.cancel(cause);
        }
        drop(later);
    }

    fn panicked(&self, payload: Box<dyn Any + Send>) {
        let later = {
            let mut state = self.state.lock();
            if state.panic.is_none() {
                state.panic = Some(payload);
                None
            } else {
                Some(payload)
            }
        };
        self.cancel(None);
        drop(later);
    }
}

/// A goroutine of the group, however it ends.
struct Running<E> {
    shared: Arc<Shared<E>>,
    limit: Option<Arc<Semaphore>>,
}

impl<E> Drop for Running<E> {
    fn drop(&mut self) {
        self.shared.state.lock().active -= 1;
        if let Some(limit) = &self.limit {
            limit.release(1);
        }
        // Last: who has waited may change the limit.
        self.shared.running.done();
    }
}

impl<E: Send + 'static> Default for ErrGroup<E> {
    fn default() -> ErrGroup<E> {
        ErrGroup::new()
    }
}

impl<E> Clone for ErrGroup<E> {
    /// The same group.
    fn clone(&self) -> ErrGroup<E> {
        ErrGroup { shared: self.shared.clone() }
    }
}

impl<E> fmt::Debug for ErrGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let active = self.shared.state.lock().active;
        f.debug_struct("ErrGroup").field("active", &active).finish_non_exhaustive()
    }
}
