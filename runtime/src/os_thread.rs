//! Goroutines and their OS threads: calls that block one, having one for oneself, and staying on one for a while.

use gort_scheduler::g::GoroutineId;
use gort_scheduler::proc::{getg, locked, pin, syscall};
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;

/// Runs a function that may block its OS thread, such as a call into C or to the file system: other goroutines go on
/// meanwhile (Go's `entersyscall` and `exitsyscall`). On a plain thread just runs it.
///
/// Without it they go on as well, after some milliseconds. `f` runs on the goroutine's own stack and thread, and may use
/// this library.
///
/// # Panics
///
/// With f's panic.
///
/// ```
/// let host = gort::blocking(|| std::fs::read_to_string("/etc/hostname"));
/// assert!(host.is_ok() || host.is_err());
/// ```
pub fn blocking<T>(f: impl FnOnce() -> T) -> T {
    syscall::blocking(f)
}

/// Has the calling goroutine stay on its OS thread, and the thread run no other goroutine, until the guard drops (Go's
/// `runtime.LockOSThread`). Nests: it ends with the last guard. On a plain thread it says nothing new.
///
/// For code that counts on its thread: C libraries with thread-local state, thread priorities, namespaces. A goroutine
/// that ends while it holds a lock (by [`std::mem::forget`] of the guard) takes the thread with it, as in Go: the thread ends.
/// Its thread-locals stay in memory, undropped, because other goroutines may hold references to them (some 12 KB; docs/safety.md).
///
/// In a runtime built with `migrate(false)` the goroutines that have started on the thread before wait until it is unlocked:
/// do not wait for one of them meanwhile.
///
/// # Panics
///
/// When it nests 255 deep.
///
/// ```
/// use std::thread::current;
/// gort::run(|| {
///     let _mine = gort::lock_os_thread();
///     let before = current().id();
///     gort::time::sleep(std::time::Duration::from_millis(1));
///     assert_eq!(current().id(), before);
/// });
/// ```
#[must_use = "the thread is unlocked when the guard drops"]
#[track_caller]
pub fn lock_os_thread() -> OsThreadGuard {
    locked::lock_os_thread();
    OsThreadGuard { owner: getg().id(), own: PhantomData }
}

/// The right to an OS thread of one's own. From [`lock_os_thread`]. It is not `Send`; dropping it on another goroutine, to which
/// it can only come through a thread-local, does nothing.
pub struct OsThreadGuard {
    owner: GoroutineId,
    /// Not `Send`: it belongs to its goroutine.
    own: PhantomData<*const ()>,
}

impl Drop for OsThreadGuard {
    fn drop(&mut self) {
        if self.owner == getg().id() {
            locked::unlock_os_thread();
        }
    }
}

impl fmt::Debug for OsThreadGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OsThreadGuard").finish_non_exhaustive()
    }
}

/// Forbids the calling goroutine to be suspended while the guard lives: an operation that would park it panics instead,
/// and says where the guard was taken. For code that holds what belongs to its OS thread: a reference to a thread-local,
/// `stdout().lock()`. Nests. On a plain thread, which blocks with all that it holds, it says nothing new.
///
/// A time slice that ends meanwhile is given up after the last guard. Goroutines that others ready go on meanwhile.
///
/// # Panics
///
/// When it nests 255 deep.
///
/// ```
/// gort::run(|| {
///     let ch = gort::chan(1);
///     let _stay = gort::no_suspend();
///     ch.send(1); // there is room: does not park
///     let full = std::panic::catch_unwind(|| ch.send(2)).unwrap_err();
///     assert!(full.downcast_ref::<String>().unwrap().contains("NoSuspendGuard"));
/// });
/// ```
#[must_use = "the goroutine may be suspended again when the guard drops"]
#[track_caller]
pub fn no_suspend() -> NoSuspendGuard {
    pin::pin(Location::caller());
    NoSuspendGuard { owner: getg().id(), own: PhantomData }
}

/// While it lives its goroutine is not suspended. From [`no_suspend`]. It is not `Send`; dropping it on another goroutine, to
/// which it can only come through a thread-local, does nothing.
pub struct NoSuspendGuard {
    owner: GoroutineId,
    /// Not `Send`: it belongs to its goroutine.
    own: PhantomData<*const ()>,
}

impl Drop for NoSuspendGuard {
    fn drop(&mut self) {
        if self.owner == getg().id() {
            pin::unpin();
        }
    }
}

impl fmt::Debug for NoSuspendGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoSuspendGuard").finish_non_exhaustive()
    }
}
