//! The base layer: atomics and the short lock that everything else is built of.
//!
//! One switch: a normal build takes its atomics from `std`, a build with `--cfg loom` takes loom's, and no other
//! file names either. The lock is in [`lock`].

#[cfg(not(loom))]
pub use std::sync::atomic;

#[cfg(loom)]
pub use loom::sync::atomic;

pub mod lock;
pub mod membarrier;

pub use lock::{SpinLock, Spinning};

/// Tells the processor (under loom: the model) that this thread waits for another one.
#[inline]
pub fn spin_hint() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
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

/// Lets another OS thread run.
pub fn os_yield() {
    // SAFETY: sched_yield takes nothing and cannot fail on Linux.
    #[cfg(not(loom))]
    unsafe {
        libc::sched_yield();
    }
    #[cfg(loom)]
    loom::thread::yield_now();
}
