//! [`ErrGroup`]: goroutines that fail together (Go's `x/sync/errgroup`); [`ErrScope`]: the same for goroutines that borrow, in
//! a [`Scope`], which counts and waits for them.

use super::{Semaphore, WaitGroup};
use crate::context::{self, CancelCauseFunc, Cause, Context};
use crate::go::go;
use crate::scope::Scope;
use gort_scheduler::memory;
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
    group: Group<E>,
}

/// What [`ErrGroup`] and [`ErrScope`] have in common.
struct Group<E> {
    state: Spinning<State<E>>,
    /// Of the group's context, if it has one.
    cancel: Option<Cancel<E>>,
}

/// How a context is cancelled, and the cause that an error is if it was made for that: the cause of a context is shared, an
/// `E` in general is not.
struct Cancel<E> {
    func: CancelCauseFunc,
    cause: fn(&E) -> Option<Cause>,
}

impl<E: 'static> Cancel<E> {
    fn new(func: CancelCauseFunc) -> Cancel<E> {
        Cancel { func, cause: |e| (e as &dyn Any).downcast_ref::<Cause>().cloned() }
    }
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
        (ErrGroup::with(Some(Cancel::new(cancel))), ctx)
    }

    fn with(cancel: Option<Cancel<E>>) -> ErrGroup<E> {
        ErrGroup {
            shared: memory::arc(
                "a group of goroutines",
                Shared { running: WaitGroup::new(), group: Group::new(cancel) },
            ),
        }
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
        self.start(self.shared.group.permit(), f);
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
        match self.shared.group.try_permit() {
            Some(permit) => self.start(permit, f),
            None => return false,
        }
        true
    }

    #[track_caller]
    fn start<F>(&self, permit: Permit, f: F)
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
    {
        self.shared.running.add(1);
        self.shared.group.begin();
        let running = Running { shared: self.shared.clone(), permit };
        go(move || {
            running.shared.group.run(f);
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
        self.shared.group.set_limit(n);
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
    #[track_caller]
    pub fn wait(&self) -> Result<(), E> {
        self.shared.running.wait();
        self.shared.group.outcome()
    }
}

impl<E: Send> ErrGroup<E> {
    /// Runs `f` with a group whose goroutines may borrow from the caller's frame, and returns when all of them have ended: what
    /// `f` returned, or the first error that one of them gave.
    ///
    /// # Errors
    ///
    /// The first one that a goroutine gave.
    ///
    /// # Panics
    ///
    /// With f's panic; else with that of the first goroutine that panicked, whether there was an error or not.
    ///
    /// ```
    /// use gort::sync::ErrGroup;
    /// let words = ["1", "2", "x"];
    /// let parsed = ErrGroup::scope(|g| {
    ///     g.set_limit(2);
    ///     for w in &words {
    ///         g.go(|| w.parse::<i32>().map(drop));
    ///     }
    ///     words.len()
    /// });
    /// assert_eq!(parsed.unwrap_err().to_string(), "invalid digit found in string");
    /// ```
    #[track_caller]
    pub fn scope<'env, F, T>(f: F) -> Result<T, E>
    where
        E: 'env,
        F: for<'scope> FnOnce(&'scope ErrScope<'scope, 'env, E>) -> T,
    {
        in_scope(context::background(), None, f)
    }
}

impl<E: Send + 'static> ErrGroup<E> {
    /// [`ErrGroup::scope`] with a context below `ctx`, which is cancelled when a goroutine gives the first error, when one of
    /// them or `f` panics, and at the latest when all have ended.
    ///
    /// If `E` is [`Cause`], the error is also the context's [`cause`](context::cause).
    ///
    /// # Errors
    ///
    /// As [`ErrGroup::scope`].
    ///
    /// # Panics
    ///
    /// As [`ErrGroup::scope`].
    ///
    /// ```
    /// use gort::context::{self, ContextError};
    /// use gort::sync::ErrGroup;
    /// let (parts, found) = (["hay", "needle", "hay"], gort::sync::Mutex::new(None));
    /// let searched = ErrGroup::<ContextError>::scope_context(&context::background(), |g, ctx| {
    ///     for (i, part) in parts.iter().enumerate() {
    ///         let found = &found;
    ///         g.go(move || {
    ///             ctx.check()?; // another one has failed
    ///             if *part == "needle" {
    ///                 *found.lock() = Some(i);
    ///             }
    ///             Ok(())
    ///         });
    ///     }
    /// });
    /// assert_eq!((searched, found.into_inner()), (Ok(()), Some(1)));
    /// ```
    #[track_caller]
    pub fn scope_context<'env, F, T>(ctx: &Context, f: F) -> Result<T, E>
    where
        F: for<'scope> FnOnce(&'scope ErrScope<'scope, 'env, E>, &'scope Context) -> T,
    {
        let (ctx, cancel) = context::with_cancel_cause(ctx);
        in_scope(ctx, Some(Cancel::new(cancel)), |g| f(g, &g.ctx))
    }
}

/// Runs the body of a scope with a group.
#[track_caller]
fn in_scope<'env, E, F, T>(ctx: Context, cancel: Option<Cancel<E>>, f: F) -> Result<T, E>
where
    E: Send + 'env,
    F: for<'scope> FnOnce(&'scope ErrScope<'scope, 'env, E>) -> T,
{
    // SAFETY: its end is called next, however the body ends.
    let scope = ErrScope { scope: unsafe { Scope::new() }, group: Group::new(cancel), ctx };
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    if result.is_err() {
        // The goroutines are to end, and may wait for nothing else.
        scope.group.cancel(None);
    }
    let _rest = Rest(&scope.group);
    let value = scope.scope.end(result);
    scope.group.outcome().map(|()| value)
}

/// Where goroutines that borrow and may fail are started. From [`ErrGroup::scope`] and [`ErrGroup::scope_context`].
pub struct ErrScope<'scope, 'env: 'scope, E: 'env> {
    scope: Scope<'scope, 'env>,
    group: Group<E>,
    /// The group's context, or one that is never done.
    ctx: Context,
}

impl<'scope, 'env, E: Send + 'env> ErrScope<'scope, 'env, E> {
    /// Runs `f`, which may borrow what outlives the scope, in a goroutine of the group. At the
    /// [limit](ErrScope::set_limit) it waits first, until one of them has ended. Goroutines of the group may start others in it.
    ///
    /// A panic in `f` is reported as that of any goroutine, cancels the group's context, and is raised again at the end of the
    /// scope.
    ///
    /// # Panics
    ///
    /// As [`go`](crate::go()).
    ///
    /// ```
    /// let text = String::from("borrowed");
    /// let done = gort::sync::ErrGroup::scope(|g| {
    ///     g.go(|| if text.is_empty() { Err("no text") } else { Ok(()) });
    /// });
    /// assert_eq!(done, Ok(()));
    /// ```
    #[track_caller]
    pub fn go<F>(&'scope self, f: F)
    where
        F: FnOnce() -> Result<(), E> + Send + 'scope,
    {
        self.start(self.group.permit(), f);
    }

    /// [`go`](ErrScope::go), if that is possible without waiting. False: the group is at its limit, and `f` has been dropped.
    ///
    /// ```
    /// let started = gort::sync::ErrGroup::<()>::scope(|g| {
    ///     g.set_limit(0);
    ///     g.try_go(|| Ok(()))
    /// });
    /// assert_eq!(started, Ok(false));
    /// ```
    #[track_caller]
    pub fn try_go<F>(&'scope self, f: F) -> bool
    where
        F: FnOnce() -> Result<(), E> + Send + 'scope,
    {
        match self.group.try_permit() {
            Some(permit) => self.start(permit, f),
            None => return false,
        }
        true
    }

    #[track_caller]
    fn start<F>(&'scope self, permit: Permit, f: F)
    where
        F: FnOnce() -> Result<(), E> + Send + 'scope,
    {
        self.group.begin();
        let running = RunningHere { group: &self.group, permit };
        self.scope.go(move || {
            running.group.run(f);
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
    /// let sum = std::sync::atomic::AtomicU32::new(0);
    /// let done = gort::sync::ErrGroup::<()>::scope(|g| {
    ///     g.set_limit(2);
    ///     (0..10).for_each(|n| {
    ///         let sum = &sum;
    ///         g.go(move || {
    ///             sum.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    ///             Ok(())
    ///         });
    ///     });
    /// });
    /// assert_eq!((done, sum.into_inner()), (Ok(()), 45));
    /// ```
    #[track_caller]
    pub fn set_limit(&self, n: usize) {
        self.group.set_limit(n);
    }
}

/// The right to run one more goroutine, if the group has a limit.
struct Permit(Option<Arc<Semaphore>>);

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(limit) = self.0.take() {
            limit.release(1);
        }
    }
}

impl<E> Group<E> {
    fn new(cancel: Option<Cancel<E>>) -> Group<E> {
        let state = State { active: 0, limit: None, error: None, panic: None };
        Group { state: Spinning::new(state), cancel }
    }

    /// Waits until one more may run.
    #[track_caller]
    fn permit(&self) -> Permit {
        let limit = self.state.lock().limit.clone();
        if let Some(limit) = &limit {
            limit.acquire(1);
        }
        Permit(limit)
    }

    /// [`Group::permit`], if that is possible without waiting.
    fn try_permit(&self) -> Option<Permit> {
        let limit = self.state.lock().limit.clone();
        let room = limit.as_ref().is_none_or(|limit| limit.try_acquire(1));
        // Not made where there is no room: what it is dropped with is given back.
        room.then(|| Permit(limit))
    }

    #[track_caller]
    fn set_limit(&self, n: usize) {
        let limit = Some(memory::arc("a group of goroutines", Semaphore::new(n)));
        let mut state = self.state.lock();
        let active = state.active;
        let old = if active == 0 { std::mem::replace(&mut state.limit, limit) } else { limit };
        drop(state);
        drop(old);
        assert!(
            active == 0,
            "errgroup: modify limit while {active} goroutines in the group are still active"
        );
    }

    fn begin(&self) {
        self.state.lock().active += 1;
    }

    /// A goroutine has ended, in whatever way, that had begun.
    fn end(&self, permit: &mut Permit) {
        self.state.lock().active -= 1;
        drop(std::mem::replace(permit, Permit(None)));
    }

    /// What a goroutine of the group does.
    fn run(&self, f: impl FnOnce() -> Result<(), E>) {
        // An error whose drop panics is a panic like any other.
        let outcome = catch_unwind(AssertUnwindSafe(|| f().unwrap_or_else(|e| self.failed(e))));
        if let Err(payload) = outcome {
            report_panic(&*payload);
            self.panicked(payload);
        }
    }

    fn cancel(&self, cause: Option<Cause>) {
        if let Some(cancel) = &self.cancel {
            (cancel.func)(cause);
        }
    }

    fn failed(&self, e: E) {
        let cause = self.cancel.as_ref().and_then(|cancel| (cancel.cause)(&e));
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
        discard(later);
    }

    /// The first error and the first panic.
    fn take(&self) -> (Option<E>, Option<Box<dyn Any + Send>>) {
        let mut state = self.state.lock();
        (state.error.take(), state.panic.take())
    }

    /// What there is to say when all have ended.
    #[track_caller]
    fn outcome(&self) -> Result<(), E> {
        // If there was an error, it has cancelled.
        self.cancel(None);
        let (error, panic) = self.take();
        if let Some(payload) = panic {
            discard(error);
            resume_unwind(payload);
        }
        error.map_or(Ok(()), Err)
    }
}

/// What a scope has not given to its caller, since it ends with a panic.
struct Rest<'s, E>(&'s Group<E>);

impl<E> Drop for Rest<'_, E> {
    fn drop(&mut self) {
        // One by one: either may panic.
        let (error, panic) = self.0.take();
        discard(error);
        discard(panic);
    }
}

/// Drops what a panic goes before. If that panics as well, it is a panic that the hook has told, and no more: two at once would
/// end the process.
fn discard<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // Its own drop may panic, too.
        std::mem::forget(payload);
    }
}

/// A goroutine of an [`ErrGroup`], however it ends.
struct Running<E> {
    shared: Arc<Shared<E>>,
    permit: Permit,
}

impl<E> Drop for Running<E> {
    fn drop(&mut self) {
        self.shared.group.end(&mut self.permit);
        // Last: who has waited may change the limit.
        self.shared.running.done();
    }
}

/// A goroutine of an [`ErrScope`], however it ends. The scope counts it out after this.
struct RunningHere<'s, E> {
    group: &'s Group<E>,
    permit: Permit,
}

impl<E> Drop for RunningHere<'_, E> {
    fn drop(&mut self) {
        self.group.end(&mut self.permit);
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

impl<E> fmt::Debug for Group<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let active = self.state.lock().active;
        f.debug_struct("ErrGroup").field("active", &active).finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for ErrGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.group.fmt(f)
    }
}

impl<'env, E: 'env> fmt::Debug for ErrScope<'_, 'env, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.group.fmt(f)
    }
}
