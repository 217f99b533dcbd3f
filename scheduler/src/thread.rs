//! The G of a plain OS thread: made when the thread first takes part in an operation, given back when it ends.
//!
//! Only plain threads and g0 come here, never a goroutine's stack (`getg` looks at the stack pointer first). The
//! accessor is still never inlined and holds an empty `asm!`, so that no caller's code keeps the variable's address.

use crate::g::G;
use crate::gpool;
use crate::sched::with_all;
use crate::sync::thread_local;
use crate::threads;
use std::cell::Cell;

thread_local! {
    static THREAD_G: Cell<Option<&'static G>> = const { Cell::new(None) };
    static GIVE_BACK: GiveBack = const { GiveBack };
}

/// Returns the thread's G to the pool when the thread ends.
struct GiveBack;

impl Drop for GiveBack {
    #[expect(clippy::disallowed_methods, reason = "the thread ends; see the module")]
    fn drop(&mut self) {
        if let Some(gp) = THREAD_G.with(Cell::take) {
            threads::end();
            gp.end_thread();
            gpool::put_shared(gp);
            // It might have woken somebody, and now will not.
            with_all(|all| all.iter().for_each(|sched| sched.sysmon.nudge()));
        }
    }
}

/// Has what the calling thread registers from here on for its end done while it still has its G.
#[inline(never)]
#[expect(clippy::disallowed_methods, reason = "not on a goroutine's stack; see the module")]
pub(crate) fn before_give_back() {
    // SAFETY: does nothing; see the module.
    unsafe { std::arch::asm!("", options(nostack, preserves_flags)) };
    let _ = GIVE_BACK.try_with(|_| ());
}

/// The calling thread's G.
#[inline(never)]
#[expect(clippy::disallowed_methods, reason = "not on a goroutine's stack; see the module")]
pub fn thread_g() -> &'static G {
    // SAFETY: does nothing; see the module.
    unsafe { std::arch::asm!("", options(nostack, preserves_flags)) };
    // A model's thread-locals go in the order in which they came.
    #[cfg(shuttle)]
    let _ = GIVE_BACK.try_with(|_| ());
    if let Some(gp) = THREAD_G.with(Cell::get) {
        return gp;
    }
    let gp = gpool::get_shared();
    gp.become_thread();
    threads::user_begins(gp);
    THREAD_G.with(|mine| mine.set(Some(gp)));
    // In a thread that is past its destructors this fails, and the G stays with the thread's remains.
    let _ = GIVE_BACK.try_with(|_| ());
    gp
}
