//! What becomes of a P that was taken from an M, or that an M gives up because its goroutine will not need it
//! (Go's `handoffp`), and what a thief takes of a P that it borrows. How it is taken is in [`handoff`](crate::handoff).
//!
//! A P that has work, or may be needed for some, goes to another M at once. One that has none becomes idle. Then what the
//! M would have done before it slept is done for it:
//!
//! - the global queue and the timers are looked at once more, as in `idle`'s step 4;
//! - if timers are pending and nobody keeps the clock, an M is woken, which becomes the keeper: who armed them may have
//!   counted on the busy M (`keeper`, K1).

use super::wake::{give_p, release_p, start, start_new_m};
use crate::m::{Errand, M};
use crate::os;
use crate::p::P;
use crate::runq::{Gp, RunQueue, Seen};
use crate::sched::Sched;
use crate::sync::atomic::Ordering;
use crate::time::clock::Nanos;
use std::ptr;

/// Passes a P on that the caller holds. Not on a goroutine's stack.
pub(super) fn handoffp(sched: &'static Sched, pp: &'static P) {
    // Until another M has it, nobody can borrow it.
    pp.runq.share();
    // Relaxed: the caller holds it.
    pp.watched.curg.store(ptr::null_mut(), Ordering::Relaxed);
    if sched.idle.nwanting() == 0 && has_work(sched, pp) {
        startm(sched, pp);
        return;
    }
    // SAFETY: the caller holds the P.
    unsafe { pp.owned().stacks.go_idle() };
    release_p(sched, pp);
    let unkept = sched.first_timer() != Nanos::NEVER && sched.keeper.get().is_none();
    if !sched.globq.is_empty() || unkept || sched.timer_is_due() {
        start(sched, sched.idle.submitted());
    }
}

/// True if somebody should go on with this P now.
pub(super) fn has_work(sched: &'static Sched, pp: &'static P) -> bool {
    !pp.runq.is_empty() || !sched.globq.is_empty() || sched.timer_is_due()
}

/// Has another M run this P (Go's `startm`).
fn startm(sched: &'static Sched, pp: &'static P) {
    match sched.idle.pop_m().or_else(|| sched.keeper.take()) {
        Some(mp) => give_p(mp, pp, Errand::None),
        None => start_new_m(sched, pp, Errand::None),
    }
}

/// Takes a P from the M that runs a goroutine with it. True: it has been passed on. `hog`: because that goroutine does not
/// give way. Not on a goroutine's stack.
pub(super) fn retake(sched: &'static Sched, pp: &'static P, hog: bool) -> bool {
    let Some(mp) = holder(pp) else { return false };
    // Counted first: the M may be back at once.
    sched.nhogs.fetch_add(u32::from(hog), Ordering::Relaxed);
    let taken = take(mp, pp, hog);
    if taken {
        handoffp(sched, pp);
    } else {
        sched.nhogs.fetch_sub(u32::from(hog), Ordering::Relaxed);
    }
    taken
}

/// Takes the `runnext` of another's P, if it is still what was `seen` there. If that is kept, only while the M of the P is out of the
/// runtime.
pub(super) fn steal_runnext(pp: &'static P, seen: Seen) -> Option<Gp> {
    if seen == Seen::NOTHING {
        return None;
    }
    if !seen.is_kept() {
        return pp.runq.steal_runnext(seen);
    }
    borrow(pp, || pp.runq.take_seen(seen))
}

/// Moves half of another's queue to one that the caller has, and takes the last of them. A kept one of a P that stands `still` is
/// borrowed; a P that switches all the time would never be found outside the runtime, and is asked to share.
pub(super) fn steal_half(pp: &'static P, still: bool, to: &RunQueue) -> Option<Gp> {
    if !pp.runq.is_kept() {
        return pp.runq.steal(to);
    }
    let waiting = pp.runq.len();
    if waiting == 0 {
        // What there is, is in `runnext`.
        return None;
    }
    if still {
        return borrow(pp, || pp.runq.take_half(to));
    }
    if let Some(mp) = holder(pp) {
        mp.handoff.ask();
    }
    None
}

/// Takes one of another's queue, or its `runnext`, for the end of a scheduler. What it cannot have is the business of an M that is in
/// the runtime, which does the same when it leaves.
pub(super) fn steal_one(pp: &'static P) -> Option<Gp> {
    let first = if pp.runq.is_kept() { borrow(pp, || pp.runq.get()) } else { pp.runq.steal_one() };
    first.or_else(|| steal_runnext(pp, pp.runq.look_at_runnext()))
}

/// Takes something of another's P while its M is out of the runtime. An M that was not is asked to share.
fn borrow(pp: &'static P, take: impl FnOnce() -> Option<Gp>) -> Option<Gp> {
    let mp = holder(pp)?;
    let taken = mp.handoff.borrow(|| mp.seems_to_hold(pp), take);
    if taken.is_none() {
        mp.handoff.ask();
    }
    taken.flatten()
}

/// The M that holds a P, or held it last.
fn holder(pp: &P) -> Option<&'static M> {
    // SAFETY: null or an M, and Ms are never freed.
    unsafe { pp.watched.m.load(Ordering::Relaxed).as_ref() }
}

/// The taking of it. The caller then holds the P.
fn take(mp: &'static M, pp: &'static P, hog: bool) -> bool {
    let still = || {
        let holds = mp.seems_to_hold(pp);
        if holds {
            // SAFETY: null or a G, whose memory is never freed. It gives way at its next operation, or at the end of its
            // blocking call.
            if let Some(gp) = unsafe { pp.watched.curg.load(Ordering::Acquire).as_ref() }
                && !gp.in_syscall.load(Ordering::Relaxed)
            {
                gp.ask_to_give_way();
            }
        }
        holds
    };
    mp.handoff.retake(hog, still, || os::has_been_off_its_core(mp.tid.load(Ordering::Relaxed)))
}
