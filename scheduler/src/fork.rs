//! After `fork` the child has one thread, and no scheduler: its Ms, sysmon and what they held are gone.
//!
//! What would wait for them, or leave work to them, ends the child with a message instead of hanging. A goroutine that
//! forked finds it out at its next entry into the runtime (`Handoff::die`), a plain thread where it parks or puts a
//! goroutine into a queue ([`check`]). `exec` in the child, as `std::process::Command` does it, is not touched by any of
//! this.

use crate::proc;
use crate::stack;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

static IN_CHILD: AtomicBool = AtomicBool::new(false);

/// Sees to it that a child will know that it is one.
pub fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler may run in a child of a process with threads: it stores two words.
        // An error (no memory for the entry) leaves such a child as it would be without us.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

unsafe extern "C" fn in_child() {
    IN_CHILD.store(true, Ordering::Relaxed);
    if let Some(gp) = stack::current_head() {
        proc::getm(gp).handoff.die();
    }
}

/// True in a child.
pub fn in_forked_child() -> bool {
    IN_CHILD.load(Ordering::Relaxed)
}

/// Ends the process if it is a child. For operations of plain threads.
#[inline]
pub fn check() {
    if in_forked_child() {
        dead()
    }
}

/// Ends the child.
#[cold]
#[inline(never)]
pub fn dead() -> ! {
    crate::throw!(
        "this process was forked from one that runs goroutines, and has no scheduler: in the child, neither park nor \
         start a goroutine before exec"
    )
}
