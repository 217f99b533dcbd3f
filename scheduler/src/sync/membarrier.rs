//! A fence in two halves: one that costs nothing, for a path that is taken all the time, and one that makes up for it.
//!
//! A store-then-load handshake needs a full fence on both sides. [`light`] is only one for the compiler; [`heavy`] has the
//! kernel (`membarrier(2)`) make every running thread of the process pass a full barrier, and so acts for both. A thread
//! that does not run has passed one when it was switched off.
//!
//! Where the kernel refuses (before 4.14, some sandboxes, or `GORT_MEMBARRIER=0`), both are `fence(SeqCst)`.
//! That is found out before the first M starts; but a filter that the program puts up later may make the
//! kernel refuse from then on. So each half says what it has been:
//!
//! B1: A [`heavy`] that was [`Heavy::Everywhere`] makes up for every [`light`] of the process.
//!
//! B2: One that was [`Heavy::Here`] pairs with those `light`s that were fences (true) and with no other. From
//! the first refusal on every `light` that sees it is a fence, and a thread that has seen it goes on seeing
//! it. Which ones do is for the user of the pair to know (`handoff`) or to wait for (`sema::mutex`).
//!
//! Rust's memory model knows no asymmetric fences; this is what C++ proposes as P1202, on the kernel's
//! promise. The models use `fence(SeqCst)` for both, and one of them has the kernel refuse at some moment
//! (`model`).

#[cfg(loom)]
pub use model::{fences_now, heavy, light, refused};
#[cfg(not(loom))]
pub use real::{fences_now, heavy, light, prepare, refused};

/// What [`heavy`] was.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heavy {
    /// A barrier of every thread (B1).
    Everywhere,
    /// A fence of the calling thread (B2).
    Here,
}

#[cfg(not(loom))]
mod real {
    use super::Heavy;
    use crate::throw::Stderr;
    use crossbeam_utils::CachePadded;
    use std::fmt::Write;
    use std::sync::Once;
    use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};

    const CMD_PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
    const CMD_REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

    const MESSAGE: &str = "\
gort: the kernel refuses membarrier(2) from now on (a seccomp filter that should allow it?): operations make full fences
instead, which take longer\n";

    /// The kernel has the barrier, and has not refused it. On a line of its own: every operation reads it.
    static REGISTERED: CachePadded<AtomicBool> = CachePadded::new(AtomicBool::new(false));

    /// The kernel had it, and has refused it.
    static REFUSED: AtomicBool = AtomicBool::new(false);

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

    /// True if [`light`] is a fence, and stays one, for the calling thread and for those that it starts.
    pub fn fences_now() -> bool {
        // Relaxed: never set again, and a thread sees what the one that started it has seen.
        !REGISTERED.load(Ordering::Relaxed)
    }

    /// True if the kernel has refused a [`heavy`]: then `light`s before that were no fences.
    pub fn refused() -> bool {
        REFUSED.load(Ordering::Relaxed)
    }

    /// The half that costs nothing. True: it was a fence, and every later one of this thread is.
    #[inline(always)]
    pub fn light() -> bool {
        // Relaxed: B2 asks for no order.
        if REGISTERED.load(Ordering::Relaxed) {
            compiler_fence(Ordering::SeqCst);
            false
        } else {
            fence(Ordering::SeqCst);
            true
        }
    }

    /// The half that pays.
    pub fn heavy() -> Heavy {
        if REGISTERED.load(Ordering::Relaxed) {
            if membarrier(CMD_PRIVATE_EXPEDITED) {
                return Heavy::Everywhere;
            }
            REFUSED.store(true, Ordering::Relaxed);
            if REGISTERED.swap(false, Ordering::Relaxed) {
                // Without an allocation: locks may be held.
                let _ = Stderr.write_str(MESSAGE);
            }
        }
        fence(Ordering::SeqCst);
        Heavy::Here
    }
}

/// Fences; or, in a model that asks for it, a kernel that has the barrier at first and refuses it at some
/// moment. What its barrier does is not in the model, so nobody may make one before that.
#[cfg(loom)]
pub mod model {
    use super::Heavy;
    use loom::sync::atomic::{AtomicBool, Ordering, fence};
    use std::cell::Cell;

    std::thread_local! {
        /// The threads of a model are one thread of the system.
        static REFUSES: Cell<bool> = const { Cell::new(false) };
    }

    loom::lazy_static! {
        static ref REGISTERED: AtomicBool = AtomicBool::new(true);
    }

    /// Runs models in which the kernel has the barrier until [`refuse`].
    pub fn with_barrier(models: impl FnOnce()) {
        REFUSES.set(true);
        models();
        REFUSES.set(false);
    }

    /// From now on the kernel refuses.
    pub fn refuse() {
        REGISTERED.store(false, Ordering::Relaxed);
    }

    pub fn refused() -> bool {
        REFUSES.get() && fences_now()
    }

    pub fn fences_now() -> bool {
        !REFUSES.get() || !REGISTERED.load(Ordering::Relaxed)
    }

    pub fn light() -> bool {
        let fences = fences_now();
        if fences {
            fence(Ordering::SeqCst);
        }
        fences
    }

    pub fn heavy() -> Heavy {
        assert!(fences_now(), "the model has no barrier");
        fence(Ordering::SeqCst);
        Heavy::Here
    }
}
