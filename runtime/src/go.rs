//! Starting goroutines: [`go`](go()), [`Builder`], [`JoinHandle`], and what a goroutine can ask of its scheduler.

use crate::global::{current_if_any, global, sched_of};
use gort_scheduler::g::{G, GoroutineId};
use gort_scheduler::memory;
use gort_scheduler::proc::newproc::Options;
use gort_scheduler::proc::procresize;
use gort_scheduler::proc::{self, Goroutine, getg, timers, try_spawn};
use gort_scheduler::sched::Sched;
use std::fmt;
use std::io;
use std::panic::Location;

/// Starts a goroutine that runs `f` (Go's `go f()`): on the caller's runtime if it is a goroutine, else on the global
/// one, which is started when it is first needed. The [`go!`](crate::go!) macro has more forms.
///
/// A panic in it is reported on stderr, handed to [`JoinHandle::join`], and leaves the others running.
///
/// # Panics
///
/// - When the caller's runtime is being shut down.
/// - When there can be no stack for another goroutine, or no memory; the message names the limit. Those that exist go on.
///   [`Builder::go`] gives an error instead.
///
/// ```
/// let h = gort::go(|| 6 * 7);
/// assert_eq!(h.join().unwrap(), 42);
/// ```
#[track_caller]
#[inline]
pub fn go<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let me = getg();
    spawn_with(me, sched_of(me), Options::default(), f)
}

/// [`go`](go()), as if at `at`, for what belongs to nothing of the caller's runtime: where that takes no goroutines any more, or
/// ends before this one has run, on the global one.
#[track_caller]
pub(crate) fn go_somewhere<F: FnOnce() + Send + 'static>(at: &'static Location<'static>, f: F) {
    let me = getg();
    let body = Outlives::new(at, f, |f| f());
    if let Err(body) = timers::spawn_now(me, sched_of(me), body.at, body, Outlives::run)
        && body.run_elsewhere().is_err()
    {
        cannot_start(&io::Error::from(io::ErrorKind::OutOfMemory));
    }
}

/// The body of a goroutine that belongs to nothing of its runtime: `f(data)`. One that is dropped because the runtime has ended before
/// it ran, runs on the global one.
pub(crate) struct Outlives<D: Send + 'static> {
    pub at: &'static Location<'static>,
    data: Option<D>,
    f: fn(D),
}

impl<D: Send + 'static> Outlives<D> {
    pub fn new(at: &'static Location<'static>, data: D, f: fn(D)) -> Outlives<D> {
        Outlives { at, data: Some(data), f }
    }

    pub fn into_inner(mut self) -> D {
        self.data.take().expect("it has not run")
    }

    pub fn run(self) {
        let f = self.f;
        f(self.into_inner());
    }

    /// Runs it on the global runtime, which does not end.
    fn run_elsewhere(self) -> Result<(), D> {
        let (at, f) = (self.at, self.f);
        timers::spawn_elsewhere(global().sched(), at, self.into_inner(), f)
    }
}

impl<D: Send + 'static> Drop for Outlives<D> {
    fn drop(&mut self) {
        // A model has no runtime that outlives it.
        let data = if cfg!(shuttle) { None } else { self.data.take() };
        if let Some(data) = data {
            // Without a stack for it there is nobody who could be told.
            let _ = timers::spawn_elsewhere(global().sched(), self.at, data, self.f);
        }
    }
}

#[track_caller]
#[inline]
pub(crate) fn spawn_with<F, T>(me: &'static G, sched: &'static Sched, options: Options, f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match try_spawn_with(me, sched, options, f) {
        Ok(handle) => handle,
        Err(e) => cannot_start(&e),
    }
}

#[track_caller]
#[inline]
fn try_spawn_with<F, T>(
    me: &'static G,
    sched: &'static Sched,
    options: Options,
    f: F,
) -> io::Result<JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: 'static + Send.
    unsafe { try_spawn(me, sched, options, f).map(JoinHandle) }
}

/// [`try_spawn`], where an error is a panic.
///
/// # Safety
///
/// As there.
#[track_caller]
#[inline]
pub(crate) unsafe fn spawn_unchecked<F, T>(
    me: &'static G,
    sched: &'static Sched,
    options: Options,
    f: F,
) -> Goroutine<T>
where
    F: FnOnce() -> T,
{
    // SAFETY: the caller's promise.
    match unsafe { try_spawn(me, sched, options, f) } {
        Ok(goroutine) => goroutine,
        Err(e) => cannot_start(&e),
    }
}

#[track_caller]
#[cold]
pub(crate) fn cannot_start(e: &io::Error) -> ! {
    if e.kind() == io::ErrorKind::OutOfMemory {
        memory::refuse(format_args!("cannot start a goroutine: {e}"));
    }
    panic!("cannot start a goroutine: {e}")
}

/// A goroutine's options, as `std::thread::Builder` has a thread's.
///
/// ```
/// let h = gort::Builder::new().name("adder").stack_size(1 << 20).go(|| 1 + 1)?;
/// assert_eq!(h.join().unwrap(), 2);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Builder {
    name: Option<String>,
    stack_size: Option<usize>,
}

impl Builder {
    /// No name, the runtime's stack size.
    ///
    /// ```
    /// gort::Builder::new().go(|| ()).unwrap().join().unwrap();
    /// ```
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the goroutine, for reports.
    ///
    /// ```
    /// gort::Builder::new().name("worker").go(|| ()).unwrap().join().unwrap();
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// Usable bytes of its stack, from 16 KiB to 1 GiB; at least that much.
    ///
    /// ```
    /// assert!(gort::Builder::new().stack_size(1).go(|| ()).is_err());
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_size = Some(bytes);
        self
    }

    /// Starts the goroutine, as [`go`](go()) does.
    ///
    /// # Errors
    ///
    /// - `InvalidInput` when the stack size is out of range;
    /// - `OutOfMemory` when there can be no stack for another goroutine. The message names the limit: address space
    ///   (`ulimit -v`), mappings (`vm.max_map_count`, before Linux 6.13), or committed memory. The same when the allocator has
    ///   no memory for one. Those that exist go on.
    ///
    /// # Panics
    ///
    /// When the caller's runtime is being shut down.
    ///
    /// ```
    /// assert_eq!(gort::Builder::new().go(|| 1).unwrap().join().unwrap(), 1);
    /// ```
    #[track_caller]
    pub fn go<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let options = Options {
            name: match self.name {
                Some(name) => Some(memory::exact("a goroutine's name", name)?.into_boxed_str()),
                None => None,
            },
            stack_size: self.stack_size,
            ..Options::default()
        };
        let me = getg();
        try_spawn_with(me, sched_of(me), options, f)
    }
}

/// The handle to a goroutine and to what it returns. Dropping it detaches the goroutine.
///
/// ```
/// let h = gort::go!(|| "done");
/// assert_eq!(h.join().unwrap(), "done");
/// ```
pub struct JoinHandle<T>(Goroutine<T>);

impl<T> JoinHandle<T> {
    /// Waits until the goroutine has ended: parks the calling goroutine, or blocks the calling thread.
    ///
    /// # Errors
    ///
    /// The payload of the panic that ended it, as for `std::thread`; a message, if its runtime was shut down before
    /// it ended.
    ///
    /// ```
    /// let h = gort::go!(|| -> i32 { panic!("oh") });
    /// assert_eq!(h.join().unwrap_err().downcast_ref::<&str>(), Some(&"oh"));
    /// ```
    #[track_caller]
    pub fn join(self) -> std::thread::Result<T> {
        self.0.join()
    }

    /// True once the goroutine has ended, and `join` does not block.
    ///
    /// ```
    /// let (ch, h) = { let ch = gort::chan::<()>(0); (ch.clone(), gort::go!(ch.recv())) };
    /// assert!(!h.is_finished());
    /// ch.close();
    /// assert_eq!(h.join().unwrap(), None);
    /// ```
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// The goroutine's number.
    ///
    /// ```
    /// let h = gort::go!(|| gort::goroutine_id());
    /// let id = h.id();
    /// assert_eq!(h.join().unwrap(), Some(id));
    /// ```
    pub fn id(&self) -> GoroutineId {
        self.0.id()
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Gives way to other goroutines (Go's `runtime.Gosched`); on a plain thread, to other threads.
///
/// ```
/// gort::run(|| gort::yield_now());
/// ```
#[track_caller]
pub fn yield_now() {
    proc::gosched();
}

/// How many goroutines of the caller's runtime exist, its main one included; on a plain thread, of the global one.
///
/// ```
/// assert_eq!(gort::Runtime::builder().build()?.run(gort::num_goroutines), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn num_goroutines() -> usize {
    current_if_any().map_or(0, Sched::num_goroutines)
}

/// How many goroutines of the caller's runtime can run at once (`GOMAXPROCS`); on a plain thread, of the global one.
///
/// ```
/// assert!(gort::max_procs() >= 1);
/// ```
pub fn max_procs() -> usize {
    sched_of(getg()).max_procs()
}

/// Changes how many goroutines of the caller's runtime can run at once (Go's `runtime.GOMAXPROCS`); on a plain thread, of
/// the global one. How many it was before. 0 only asks.
///
/// When it returns, new work runs on at most `n` Ps. Goroutines that run for long without an operation of this library, or sit
/// in a blocking call, do so on threads without a P and are not counted.
///
/// # Panics
///
/// When `n` is above 4096.
///
/// ```
/// gort::Runtime::builder().max_procs(4).build()?.run(|| {
///     assert_eq!(gort::set_max_procs(2), 4);
///     assert_eq!((gort::set_max_procs(0), gort::max_procs()), (2, 2));
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn set_max_procs(n: usize) -> usize {
    procresize::set_max_procs(sched_of(getg()), n)
}

/// The number of the calling goroutine; `None` on a plain thread.
///
/// ```
/// assert!(gort::goroutine_id().is_none());
/// assert!(gort::run(gort::goroutine_id).is_some());
/// ```
pub fn goroutine_id() -> Option<GoroutineId> {
    let gp = getg();
    gp.sched().map(|_| gp.id())
}
