//! Waiting at one channel, with or without a deadline. What `send` and `recv` share; a wait at several channels is in
//! `select`.

use crate::hchan::Hchan;
use crate::timer::TimerChan;
use crate::waitq::{Sudog, WaitQ};
use gort_scheduler::g::{G, WaitReason};
use gort_scheduler::proc::deadlock::begin_wait;
use gort_scheduler::proc::timers::tell;
use gort_scheduler::proc::{getg, gopark, pin};
use gort_scheduler::time::clock::Nanos;
use gort_scheduler::time::may_arm;
use gort_scheduler::time::sleep::gopark_until;
use std::ptr;
use std::time::Duration;

/// How long an operation may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// As long as it takes.
    Forever,
    /// Until then.
    Until(Nanos),
}

impl Wait {
    /// From now on for that long.
    ///
    /// # Panics
    ///
    /// When there is no memory for a timer.
    #[track_caller]
    pub fn at_most(d: Duration) -> Wait {
        may_arm().unwrap_or_else(|short| short.refuse());
        match Nanos::now().after(d) {
            Nanos::NEVER => Wait::Forever,
            deadline => Wait::Until(deadline),
        }
    }

    #[inline]
    pub(crate) fn is_timed(self) -> bool {
        matches!(self, Wait::Until(_))
    }
}

/// Whether the wakers of this wait must claim it: it may end in another way than by them.
#[inline]
pub(crate) fn is_claimed(gp: &'static G, wait: Wait) -> bool {
    wait.is_timed() || gp.may_borrow()
}

/// How a wait ended.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// It was none: the caller must not be suspended, and panics (`gort_scheduler::proc::pin`).
    Refused,
    Served,
    Closed,
    TimedOut,
}

/// Waits in `q` with `sg` until served, or the channel closes, or the deadline comes.
///
/// # Safety
///
/// `gp` is the caller, `q` a queue of `c`, whose lock is held and is released here. `sg` is a fresh sudog of `gp` that
/// stays in place over the call, `is_select` as [`is_claimed`] has it.
#[inline(always)]
pub(crate) unsafe fn park(
    gp: &'static G,
    c: &Hchan,
    q: &WaitQ,
    sg: &Sudog,
    wait: Wait,
    reason: WaitReason,
) -> Woken {
    if !pin::may_park(gp) {
        c.lock.unlock();
        return Woken::Refused;
    }
    let arg = ptr::from_ref(c).cast_mut().cast::<()>();
    // SAFETY: the sudog is in place until this function returns, and by then out of the queue; whoever dequeues it
    // readies us, once (W3). The commit lets them at it.
    unsafe {
        match wait {
            Wait::Until(deadline) => {
                gp.begin_select();
                q.enqueue(sg);
                let commit = if blocks(gp, c) { timerparkcommit } else { chanparkcommit };
                if !gopark_until(gp, Some(commit), arg, reason, deadline) {
                    c.lock.lock();
                    q.remove(sg);
                    unblocks(c);
                    c.lock.unlock();
                    return Woken::TimedOut;
                }
            }
            Wait::No | Wait::Forever => {
                begin_wait(gp);
                q.enqueue(sg);
                let commit = if blocks(gp, c) { timerparkcommit } else { chanparkcommit };
                gopark(gp, Some(commit), arg, reason);
            }
        }
    }
    let served = gp.take_param();
    debug_assert!(ptr::eq(served.cast(), sg), "woken by somebody who did not serve the wait");
    if sg.success.get() { Woken::Served } else { Woken::Closed }
}

/// A wait at a timer channel begins: its timer is armed. Under the lock, which is held until the park. Whether it is such a
/// channel.
#[inline]
pub(crate) fn blocks(gp: &'static G, c: &Hchan) -> bool {
    let timer = c.timer();
    if let Some(t) = timer {
        t.block(gp, c);
    }
    timer.is_some()
}

/// A wait at a timer channel has ended in another way than by a value. Under the lock.
#[inline]
pub(crate) fn unblocks(c: &Hchan) {
    if let Some(t) = c.timer() {
        t.unblock(c);
    }
}

/// Off the stack: lets the other side at the channel.
///
/// # Safety
///
/// `c` is a channel whose lock is held.
unsafe fn chanparkcommit(_gp: &'static G, c: *mut ()) -> bool {
    // SAFETY: the parked frame, whose handle keeps the channel alive, is left only after this unlock.
    unsafe { (*c.cast::<Hchan>()).lock.unlock() };
    true
}

/// The same at a timer channel: what its arming owes is paid then (C4 of `timer`).
///
/// # Safety
///
/// As for [`chanparkcommit`].
unsafe fn timerparkcommit(_gp: &'static G, c: *mut ()) -> bool {
    // SAFETY: as there.
    let owed = unsafe {
        let c = &*c.cast::<Hchan>();
        let owed = c.timer().and_then(TimerChan::take_debt);
        c.lock.unlock();
        owed
    };
    tell(owed);
    true
}

/// Waits for ever: an operation on a nil channel, a select without arms.
#[track_caller]
pub fn block_forever(reason: WaitReason) -> ! {
    let gp = getg();
    if !pin::may_park(gp) {
        pin::refuse(gp);
    }
    loop {
        begin_wait(gp);
        // SAFETY: nobody learns of this wait, so nobody readies it.
        unsafe { gopark(gp, None, ptr::null_mut(), reason) };
    }
}

/// Waits at a nil channel. Returns only for a deadline.
#[track_caller]
pub fn wait_at_nil(wait: Wait, reason: WaitReason) {
    match wait {
        Wait::No => {}
        Wait::Forever => block_forever(reason),
        Wait::Until(deadline) => {
            let gp = getg();
            if !pin::may_park(gp) {
                pin::refuse(gp);
            }
            gp.begin_select();
            // SAFETY: nobody but the timer learns of this wait.
            unsafe { gopark_until(gp, None, ptr::null_mut(), reason, deadline) };
        }
    }
}
