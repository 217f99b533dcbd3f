//! Sleeping, and waiting with a deadline.

use super::clock::Nanos;
use super::{Timer, may_arm};
use crate::fork;
use crate::g::{G, WaitReason};
use crate::memory::Short;
use crate::proc::timers::arm_parked;
use crate::proc::{self, Commit, getg, gopark, pin};
use crate::sched::Sched;

/// What a timed park hands to its commit. Lies in the parked frame.
struct TimedPark {
    sched: &'static Sched,
    timer: Timer,
    when: Nanos,
    commit: Option<Commit>,
    lock: *mut (),
}

/// Parks until somebody who wins the select readies this goroutine or thread, or until the deadline. True if it was
/// somebody: then [`G::take_param`] has what they left. False for the deadline.
///
/// The caller, whose G is `gp`, has called [`G::begin_select`] before it let anyone know of it; wakers go through
/// [`G::win_select`]. `commit` and `lock` are as for [`gopark`].
///
/// # Safety
///
/// As for [`gopark`].
pub unsafe fn gopark_until(
    gp: &'static G,
    commit: Option<Commit>,
    lock: *mut (),
    reason: WaitReason,
    deadline: Nanos,
) -> bool {
    let Some(sched) = gp.sched() else {
        fork::check();
        // SAFETY: the caller's promise.
        return unsafe { proc::park_thread_until(gp, commit, lock, reason, deadline) };
    };
    if deadline == Nanos::NEVER {
        // SAFETY: the caller's promise.
        unsafe { gopark(gp, commit, lock, reason) };
        return true;
    }
    let park = TimedPark { sched, timer: Timer::wake(gp), when: deadline, commit, lock };
    // SAFETY: `park` lives in this frame, which is left only after the timer is out of the heap; for the rest, the
    // caller's promise.
    unsafe { gopark(gp, Some(timed_commit), (&raw const park).cast_mut().cast(), reason) };
    // Without a word it was the timer, which is in no heap any more; a waker that has won always leaves one.
    let woken = !gp.peek_param().is_null();
    if woken {
        park.timer.disarm();
    }
    woken
}

/// The commit of a timed park. First the timer, then the caller's commit: once that has let go of its lock, the G may
/// be readied, run and leave the frame, so nothing of it is touched after.
///
/// # Safety
///
/// `park` is the [`TimedPark`] of a G that has just parked with it.
unsafe fn timed_commit(gp: &'static G, park: *mut ()) -> bool {
    let park = park.cast::<TimedPark>();
    // SAFETY: the frame is alive: the G is woken by the timer at the earliest, and if it is, it waits in `disarm` or
    // for the lock that the caller's commit has not released yet. Copied before the timer is armed all the same.
    let (sched, when, commit, lock) = unsafe { ((*park).sched, (*park).when, (*park).commit, (*park).lock) };
    // SAFETY: the timer lies in the parked frame; I1 of `time`.
    unsafe { arm_parked(gp, sched, &raw const (*park).timer, when) };
    // SAFETY: as the caller of `gopark_until` promised.
    commit.is_none_or(|f| unsafe { f(gp, lock) })
}

/// Sleeps until the deadline (Go's `time.Sleep`): parks the goroutine, or blocks the plain thread.
///
/// # Panics
///
/// When there is no memory for a timer.
#[track_caller]
pub fn sleep_until(deadline: Nanos) {
    try_sleep_until(deadline).unwrap_or_else(|short| short.refuse());
}

/// [`sleep_until`] for a caller that can do without.
///
/// # Errors
///
/// When there is no memory for a timer; it has not slept.
#[track_caller]
pub fn try_sleep_until(deadline: Nanos) -> Result<(), Short> {
    let gp = getg();
    if !pin::may_park(gp) {
        pin::refuse(gp);
    }
    may_arm()?;
    gp.begin_select();
    // SAFETY: nobody but the timer knows of this wait.
    unsafe { gopark_until(gp, None, std::ptr::null_mut(), WaitReason::Sleep, deadline) };
    Ok(())
}
