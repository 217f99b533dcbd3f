//! [`scope`]: goroutines that borrow from their caller's frame, in the shape of `std::thread::scope`.
//!
//! The scope counts its goroutines, and does not return before the count is zero, whatever way its body ends. What a
//! goroutine returns lies in a packet that it shares with its handle; it lets go of the packet before it is counted
//! out, so whatever is left of the result by then is dropped by the handle, inside the scope.

use crate::global::sched_of;
use crate::go::spawn_unchecked;
use gort_scheduler::g::{Bound, G, GoroutineId, WaitReason};
use gort_scheduler::gate::Gate;
use gort_scheduler::memory;
use gort_scheduler::proc::newproc::{Options, report_panic};
use gort_scheduler::proc::syscall::blocking;
use gort_scheduler::proc::{Goroutine, getg, pin};
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How many goroutines of a scope are left, and whether one panicked that nobody joined.
#[derive(Debug)]
struct Shared {
    left: Gate<usize>,
    panicked: AtomicBool,
}

impl Shared {
    fn begin(&self) {
        self.left.update(|n| {
            *n += 1;
            ((), false)
        });
    }

    fn is_empty(&self) -> bool {
        self.left.update(|n| (*n == 0, false))
    }

    #[track_caller]
    fn end(&self) {
        self.left.update(|n| {
            *n -= 1;
            ((), *n == 0)
        });
    }
}

/// One goroutine that the scope waits for.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// What a goroutine of a scope runs. However it goes, what borrows goes before the count: fields drop in this order.
struct Body<F, T> {
    f: F,
    packet: Arc<Packet<T>>,
    counted: Counted,
}

impl<F: FnOnce() -> T, T> Body<F, T> {
    fn run(self) {
        let Body { f, packet, counted } = self;
        let outcome = catch_unwind(AssertUnwindSafe(f));
        if let Err(payload) = &outcome {
            report_panic(&**payload);
        }
        *packet.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        drop(packet);
        drop(counted);
    }
}

/// Where goroutines that borrow are started. From [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    shared: Arc<Shared>,
    /// The main goroutine whose caller's frame may be borrowed from in it (`deadlock`); `None` if there is no such one.
    main: Option<&'static G>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// A goroutine's result on its way to the handle.
struct Packet<T> {
    outcome: Mutex<Option<std::thread::Result<T>>>,
    shared: Arc<Shared>,
}

impl<T> Packet<T> {
    fn take(&self) -> Option<std::thread::Result<T>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T> Drop for Packet<T> {
    fn drop(&mut self) {
        let unread = self.take();
        if matches!(unread, Some(Err(_))) {
            self.shared.panicked.store(true, Ordering::Relaxed);
        }
        // A result whose drop panics has nowhere else to go.
        if catch_unwind(AssertUnwindSafe(|| drop(unread))).is_err() {
            self.shared.panicked.store(true, Ordering::Relaxed);
        }
    }
}

/// Runs `f` with a [`Scope`], in which goroutines may borrow from the caller's frame, and returns when all of them
/// have ended.
///
/// # Panics
///
/// With f's panic; else, where the caller must not be suspended ([`no_suspend`](crate::no_suspend)) and would have to be, with
/// that, after all have ended; else `a scoped goroutine panicked`, if one did whose handle was not joined.
///
/// ```
/// let mut v = vec![1, 2, 3];
/// let sum = gort::scope(|s| {
///     let h = s.go(|| v.iter().sum::<i32>());
///     h.join().unwrap()
/// });
/// v.push(sum);
/// assert_eq!(v, [1, 2, 3, 6]);
/// ```
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    // SAFETY: its end is called next, however the body ends.
    let scope = unsafe { Scope::new() };
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    scope.end(result)
}

impl Scope<'_, '_> {
    /// A scope without goroutines.
    ///
    /// # Safety
    ///
    /// The caller calls [`Scope::end`] before it leaves its frame, on whatever way.
    pub(crate) unsafe fn new() -> Self {
        Scope {
            main: getg().main_of(),
            shared: memory::arc("a scope", Shared { left: Gate::new(0), panicked: AtomicBool::new(false) }),
            scope: PhantomData,
            env: PhantomData,
        }
    }

    /// Waits until all goroutines have ended. The result of the scope's body, or the panic with which the scope ends.
    #[track_caller]
    pub(crate) fn end<T>(&self, result: std::thread::Result<T>) -> T {
        let me = getg();
        let refused = !pin::may_park(me) && !self.shared.is_empty();
        if refused {
            // It must not be suspended, and cannot leave: it waits with its thread, and panics after that.
            while !self.shared.is_empty() {
                blocking(nap);
            }
        } else {
            self.shared.left.wait(WaitReason::Semacquire, |&left| left == 0);
        }
        match result {
            Err(payload) => resume_unwind(payload),
            Ok(_) if refused => pin::refuse(me),
            Ok(_) if self.shared.panicked.load(Ordering::Relaxed) => panic!("a scoped goroutine panicked"),
            Ok(value) => value,
        }
    }
}

/// Blocks the thread for a moment.
#[expect(clippy::disallowed_methods, reason = "that is what is wanted")]
fn nap() {
    std::thread::sleep(Duration::from_micros(50));
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a goroutine that may borrow what outlives the scope. It may start others in the scope.
    ///
    /// # Panics
    ///
    /// As [`go`](crate::go()).
    ///
    /// ```
    /// let text = String::from("borrowed");
    /// gort::scope(|s| {
    ///     s.go(|| assert_eq!(text.len(), 8));
    /// });
    /// ```
    #[track_caller]
    pub fn go<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let packet =
            memory::arc("a scope", Packet { outcome: Mutex::new(None), shared: self.shared.clone() });
        self.shared.begin();
        let body = Body { f, packet: packet.clone(), counted: Counted(self.shared.clone()) };
        let me = getg();
        let bound = if self.main.is_some() { Bound::Scope } else { Bound::Free };
        let options = Options { bound, under: self.main, ..Options::default() };
        // SAFETY: `Scope::end` waits until the body has been run or dropped, by which time it holds nothing of 'scope any
        // more; its own result is (). F and T are Send.
        let goroutine = unsafe { spawn_unchecked(me, sched_of(me), options, move || body.run()) };
        ScopedJoinHandle { goroutine, packet, scope: PhantomData }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

/// The handle to a goroutine of a [`Scope`]. Dropping it detaches the goroutine from it, not from the scope.
pub struct ScopedJoinHandle<'scope, T> {
    goroutine: Goroutine<()>,
    packet: Arc<Packet<T>>,
    scope: PhantomData<&'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits until the goroutine has ended, as [`JoinHandle::join`](crate::JoinHandle::join).
    ///
    /// # Errors
    ///
    /// The payload of its panic.
    ///
    /// ```
    /// let n = gort::scope(|s| s.go(|| 7).join().unwrap());
    /// assert_eq!(n, 7);
    /// ```
    #[track_caller]
    pub fn join(self) -> std::thread::Result<T> {
        self.goroutine.join()?;
        self.packet.take().expect("a goroutine that has ended has left its outcome")
    }

    /// True once the goroutine has ended, and `join` does not block.
    ///
    /// ```
    /// gort::scope(|s| {
    ///     let h = s.go(|| ());
    ///     while !h.is_finished() {
    ///         gort::yield_now();
    ///     }
    /// });
    /// ```
    pub fn is_finished(&self) -> bool {
        self.goroutine.is_finished()
    }

    /// The goroutine's number.
    ///
    /// ```
    /// gort::scope(|s| assert_eq!(s.go(gort::goroutine_id).id().to_string().is_empty(), false));
    /// ```
    pub fn id(&self) -> GoroutineId {
        self.goroutine.id()
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle").field("id", &self.id()).finish_non_exhaustive()
    }
}
