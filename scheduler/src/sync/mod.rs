//! The base layer: atomics and the short lock that everything else is built of.
//!
//! One switch: a normal build takes its atomics from `std`, a build with `--cfg loom` takes loom's, one with
//! `--cfg shuttle` shuttle's. The lock is in [`lock`].
//!
//! Under loom there is the base and `model.rs` in the place of the scheduler. Under shuttle there is the scheduler
//! itself, so its threads, their locals, the clock and what a process has once come from here as well. An **execution**,
//! one run of a test by the model, is to it what a process is to a normal build.

#[cfg(not(any(loom, shuttle)))]
pub use std::sync::atomic;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::{thread, thread_local};

#[cfg(loom)]
pub use loom::sync::atomic;
#[cfg(loom)]
pub(crate) use loom::sync::{Condvar, Mutex};

#[cfg(shuttle)]
pub use ::shuttle::sync::atomic;
#[cfg(shuttle)]
pub(crate) use ::shuttle::sync::{Condvar, Mutex};
#[cfg(shuttle)]
pub(crate) use ::shuttle::{thread, thread_local};

pub mod lock;
pub mod membarrier;
#[cfg(shuttle)]
pub(crate) mod shuttle;

pub use lock::{SpinLock, Spinning};

/// Declares a static: what a process has once, and each execution of a shuttle model anew.
#[cfg(not(any(loom, shuttle)))]
macro_rules! per_process {
    ($(#[$attr:meta])* static $name:ident: $t:ty = $init:expr;) => {
        $(#[$attr])* static $name: $t = $init;
    };
}
#[cfg(shuttle)]
macro_rules! per_process {
    ($(#[$attr:meta])* static $name:ident: $t:ty = $init:expr;) => {
        ::shuttle::lazy_static! { $(#[$attr])* static ref $name: $t = $init; }
    };
}
#[cfg(not(loom))]
pub(crate) use per_process;

/// Tells the processor (in a model: the model) that this thread waits for another one.
#[inline]
pub fn spin_hint() {
    #[cfg(not(any(loom, shuttle)))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(shuttle)]
    thread::yield_now();
}

/// A number that differs from one `t` to the other: its address. In a model the same for every run of an interleaving.
#[inline]
pub(crate) fn salt<T>(t: &T) -> u64 {
    #[cfg(not(any(loom, shuttle)))]
    let salt = std::ptr::from_ref(t) as u64;
    #[cfg(loom)]
    let (_, salt) = (t, 0);
    #[cfg(shuttle)]
    let (_, salt) = (t, shuttle::random());
    salt
}

/// Has the processor fetch the line that `p` points to, which will be needed soon. Any address will do.
#[inline(always)]
pub fn prefetch<T>(p: *const T) {
    // SAFETY: a prefetch is a hint: it changes nothing and faults nowhere.
    #[cfg(all(not(loom), target_arch = "x86_64"))]
    unsafe {
        std::arch::asm!("prefetcht0 [{}]", in(reg) p, options(readonly, nostack, preserves_flags));
    }
    // SAFETY: as above.
    #[cfg(all(not(loom), target_arch = "aarch64"))]
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) p, options(readonly, nostack, preserves_flags));
    }
    #[cfg(loom)]
    let _ = p;
}

/// The same for a line that will be written: it is taken from other processors' caches.
#[inline(always)]
pub fn prefetch_to_write<T>(p: *const T) {
    // SAFETY: as above; processors without the instruction take it as one that does nothing.
    #[cfg(all(not(loom), target_arch = "x86_64"))]
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) p, options(readonly, nostack, preserves_flags));
    }
    // SAFETY: as above.
    #[cfg(all(not(loom), target_arch = "aarch64"))]
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{}]", in(reg) p, options(readonly, nostack, preserves_flags));
    }
    #[cfg(loom)]
    let _ = p;
}

/// Stores, as a Release, with a full fence behind it.
#[inline]
pub fn store_and_fence(to: &atomic::AtomicBool, value: bool) {
    // An exchange is a full fence of this processor, and takes two thirds of the time of a store and an `mfence`. The
    // language does not promise it, so everywhere else the fence is a fence.
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    to.swap(value, atomic::Ordering::SeqCst);
    #[cfg(not(all(target_arch = "x86_64", not(any(loom, miri)))))]
    {
        to.store(value, atomic::Ordering::Release);
        atomic::fence(atomic::Ordering::SeqCst);
    }
}

/// Lets another OS thread run.
pub fn os_yield() {
    // SAFETY: sched_yield takes nothing and cannot fail on Linux.
    #[cfg(not(any(loom, shuttle)))]
    unsafe {
        libc::sched_yield();
    }
    #[cfg(any(loom, shuttle))]
    spin_hint();
}
