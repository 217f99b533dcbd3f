//! A fence in two halves: one that costs nothing, for a path that is taken all the time, and one that makes up for it.
//!
//! A store-then-load handshake needs a full fence on both sides. [`light`] is only one for the compiler; [`heavy`] has the
//! kernel (`membarrier(2)`) make every running thread of the process pass a full barrier, and so acts for both. A thread
//! that does not run has passed one when it was switched off.
//!
//! Where the kernel refuses (before 4.14, some sandboxes, or `GORT_MEMBARRIER=0`), both are `fence(SeqCst)`; that is
//! decided once, before the first M starts. Rust's memory model knows no asymmetric fences; this is what C++ proposes as
//! P1202, on the kernel's promise. The models use `fence(SeqCst)` for both.

#[cfg(loom)]
pub use model::{heavy, light};
#[cfg(not(loom))]
pub use real::{heavy, light, prepare};

#[cfg(not(loom))]
mod real {
    use crossbeam_utils::CachePadded;
    use std::sync::Once;
    use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};

    const CMD_PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
    const CMD_REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

    /// On a line of its own: every operation reads it.
    static REGISTERED: CachePadded<AtomicBool> = CachePadded::new(AtomicBool::new(false));

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: takes three numbers and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    /// Finds out what the kernel offers. Before the first [`light`].
    pub fn prepare() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let wanted = crate::env::choice("GORT_MEMBARRIER", &[("0", false), ("1", true)]) != Some(false);
            let works =
                wanted && membarrier(CMD_REGISTER_PRIVATE_EXPEDITED) && membarrier(CMD_PRIVATE_EXPEDITED);
            REGISTERED.store(works, Ordering::Relaxed);
        });
    }

    /// The half that costs nothing.
    #[inline(always)]
    pub fn light() {
        // Relaxed: constant since `prepare`.
        if REGISTERED.load(Ordering::Relaxed) {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    /// The half that pays.
    pub fn heavy() {
        if REGISTERED.load(Ordering::Relaxed) {
            if !membarrier(CMD_PRIVATE_EXPEDITED) {
                crate::throw!("membarrier has ceased to work");
            }
        } else {
            fence(Ordering::SeqCst);
        }
    }
}

#[cfg(loom)]
mod model {
    use loom::sync::atomic::{Ordering, fence};

    pub fn light() {
        fence(Ordering::SeqCst);
    }

    pub fn heavy() {
        fence(Ordering::SeqCst);
    }
}
