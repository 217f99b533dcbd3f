//! Parking and readying apart from stacks and queues: the status, the commit, and the plain thread's sleep.
//!
//! The protocol is in the README of this folder, "Park and ready". It is in a file of its own so that the loom models
//! run this very code, with a thread for each goroutine.

use crate::g::{G, Status, WaitReason, casgstatus};
use crate::time::clock::Nanos;

/// `gopark`'s commit (Go's `waitunlockf`): runs once the G has left its stack. False calls the park off.
pub type Commit = unsafe fn(&'static G, *mut ()) -> bool;

/// The second half of a park: the G is off its stack, and now the wakers may find it. False: the park is called off,
/// and the G is Runnable and the caller's. True: it may be running elsewhere already.
///
/// # Safety
///
/// The caller owns the Running G, whose registers are saved; `commit` and `lock` are what its `gopark` was given.
#[inline]
pub unsafe fn commit_park(gp: &'static G, commit: Option<Commit>, lock: *mut ()) -> bool {
    casgstatus(gp, Status::Running, Status::Waiting);
    // SAFETY: `gopark`'s caller promised that the commit may be called here, once.
    if commit.is_some_and(|f| unsafe { !f(gp, lock) }) {
        // It is still ours: nobody was let at it.
        casgstatus(gp, Status::Waiting, Status::Runnable);
        return false;
    }
    true
}

/// The first half of readying: the G is Runnable. False: it is the caller's, who puts it into a queue. True: it is a plain
/// thread's, which has been woken.
///
/// # Safety
///
/// The caller owns the one right to ready `gp`.
#[inline]
pub unsafe fn make_runnable(gp: &'static G) -> bool {
    // Asked before: a thread that sees its status may go on, and end, before it is signalled, and then its G is anybody's.
    // The signal that comes after that wakes the G's next sleeper for nothing.
    let is_thread = gp.is_thread();
    casgstatus(gp, Status::Waiting, Status::Runnable);
    if is_thread {
        gp.note().wakeup();
    }
    is_thread
}

/// Parks a plain thread, until it is readied (true) or the deadline comes (false), which decides the wait as if by
/// [`G::win_select`].
///
/// # Safety
///
/// As for `gopark`; with a deadline the wait is one that wakers claim with `win_select`.
pub unsafe fn park_thread_until(
    gp: &'static G,
    commit: Option<Commit>,
    lock: *mut (),
    reason: WaitReason,
    deadline: Nanos,
) -> bool {
    gp.set_wait_reason(reason);
    // SAFETY: the caller's promise; a thread has no registers to save.
    if unsafe { !commit_park(gp, commit, lock) } {
        casgstatus(gp, Status::Runnable, Status::Running);
        return true;
    }
    let mut deadline = deadline;
    // A note may be signalled late, for a wait that is long over; the status is what counts.
    while gp.status() != Status::Runnable {
        if gp.note().sleep_until(deadline) {
            continue;
        }
        if gp.win_select() {
            casgstatus(gp, Status::Waiting, Status::Running);
            return false;
        }
        // A waker was quicker, and is on its way.
        deadline = Nanos::NEVER;
    }
    casgstatus(gp, Status::Runnable, Status::Running);
    true
}
