//! The verbs of a goroutine that waits: [`getg`], [`gopark`], [`goready`], [`gosched`].
//!
//! The protocol is in the README of this folder, "Park and ready".

use super::waiting::{Commit, make_runnable, park_thread_until};
use super::{locked, pin};
use crate::cxx;
use crate::fork;
use crate::g::{G, WaitReason, somebody_is_asked};
use crate::m::M;
use crate::stack::{self, Switch};
use crate::sync::atomic::Ordering;
use crate::time::clock::Nanos;

/// The calling goroutine, or the calling plain thread's stand-in.
#[inline]
pub fn getg() -> &'static G {
    stack::current_head().unwrap_or_else(crate::thread::thread_g)
}

/// The calling goroutine; `None` on a plain thread.
#[inline]
pub fn current() -> Option<&'static G> {
    stack::current_head()
}

/// The M that runs the calling goroutine. Not to be kept over a park: the next M is another one.
#[inline]
pub(crate) fn getm(gp: &'static G) -> &'static M {
    // Relaxed: written by this very thread, on g0.
    // SAFETY: Ms are never freed, and a running goroutine has one.
    unsafe { &*gp.m.load(Ordering::Relaxed) }
}

/// Parks the caller, whose G is `gp`, until [`goready`]. `commit` runs once the caller is off its stack, and typically releases the
/// lock under which its wakers find it; if it says false, the park is called off and the caller goes on.
///
/// On a plain thread the same, but that there is no stack to leave, and the thread blocks.
///
/// # Safety
///
/// `gp` is the caller. From the moment that `commit` lets the first waker at the caller, exactly one of them may and will call
/// [`goready`] for it, unless `commit` says false. `commit` is sound to call with `lock` on another stack of the same
/// thread, and touches nothing of the caller's frame after it has let a waker at it.
#[inline(always)]
pub unsafe fn gopark(gp: &'static G, commit: Option<Commit>, lock: *mut (), reason: WaitReason) {
    if gp.is_thread() {
        fork::check();
        // SAFETY: the caller's promise.
        unsafe { park_thread_until(gp, commit, lock, reason, Nanos::NEVER) };
        return;
    }
    debug_assert_eq!(gp.pins.get(), 0, "the caller has asked `may_park`");
    gp.set_wait_reason(reason);
    let mp = getm(gp);
    mp.waitunlockf.set(commit);
    mp.waitlock.set(lock);
    prefetch_next(mp);
    // SAFETY: gp is the caller, and the commit is in place.
    unsafe { switch_off(gp, Switch::Park) };
}

/// Has the lines fetched that whoever runs next will need first. It has been readied by the caller, as a rule, so its G is in
/// the cache, but its stack may not be.
#[inline(always)]
fn prefetch_next(mp: &'static M) {
    if let Some(next) = mp.try_p().and_then(|pp| pp.runq.look_at_runnext().g())
        && let Some(stack) = next.stack()
    {
        stack.prefetch();
    }
}

/// The caller leaves its stack, and comes back when it is run again.
///
/// # Safety
///
/// As for [`M::switch_to_g0`].
#[inline(always)]
unsafe fn switch_off(gp: &'static G, why: Switch) {
    // Two loads, unless some goroutine panics, or the process has a C++ runtime.
    let unwinds = std::thread::panicking() || cxx::in_flight();
    if unwinds {
        locked::lock_unwinding(gp);
    }
    // SAFETY: the caller's promise; locking the M leaves in place what `why` needs.
    unsafe { M::switch_to_g0(gp, why) };
    if unwinds {
        locked::unlock(gp);
    }
}

/// Makes a parked goroutine runnable; it is put next on the caller's P, or into the global queue if the caller has
/// none. A plain thread is woken.
///
/// # Safety
///
/// The caller owns the one right to ready `gp` (see [`gopark`]).
#[inline]
pub unsafe fn goready(gp: &'static G) {
    // SAFETY: the caller's promise.
    unsafe { goready_by(current(), gp) };
}

/// [`goready`] for a caller that knows who it is, as [`current`] has it.
///
/// # Safety
///
/// As for [`goready`]; `me` is the caller, a goroutine, or `None`.
#[inline]
pub unsafe fn goready_by(me: Option<&'static G>, gp: &'static G) {
    // SAFETY: the caller's promise.
    if unsafe { !make_runnable(gp) } {
        super::wake::ready(me, gp);
    }
}

/// Gives way: the caller goes to the tail of its P's queue (Go's `Gosched`; see the README, "Differs from Go").
#[track_caller]
pub fn gosched() {
    let gp = getg();
    if gp.is_thread() {
        crate::sync::os_yield();
        return;
    }
    if !pin::may_park(gp) {
        pin::refuse(gp);
    }
    // SAFETY: gp is the caller; a yield needs nothing more.
    unsafe { switch_off(gp, Switch::Yield) };
}

/// Gives way if the caller's time slice is over, for a caller that knows its G.
#[inline]
pub(crate) fn preempt_check(gp: &'static G) {
    if gp.is_asked() {
        preempt(gp);
    }
}

/// Gives way if the caller's time slice is over. Every operation that does not park calls it.
#[inline]
pub fn preempt_point() {
    if somebody_is_asked() {
        find_out_and_preempt();
    }
}

#[cold]
#[inline(never)]
fn find_out_and_preempt() {
    if let Some(gp) = current() {
        preempt_check(gp);
    }
}

#[cold]
#[inline(never)]
fn preempt(gp: &'static G) {
    // Where it must not be suspended it gives way later.
    if pin::may_park(gp) {
        gp.no_longer_asked();
        if !gp.is_thread() {
            give_way(gp);
        }
    }
}

/// Gives way: to the global queue, or, if the P was taken, to whoever is in line before the caller gets another one.
#[cold]
#[inline(never)]
pub(super) fn give_way(gp: &'static G) {
    if pin::may_park(gp) {
        // SAFETY: gp is the caller; being preempted needs nothing more.
        unsafe { switch_off(gp, Switch::Preempt) };
    } else {
        // Later (`pin::unpin`).
        gp.ask_to_give_way();
    }
}

/// Runs `f` off the goroutine's stack, on g0, and comes back (Go's `systemstack`); on a plain thread or g0 just runs it.
/// For what needs more stack than a goroutine may have, or reads thread-locals. `f` does not panic.
pub(crate) fn systemstack<F: FnOnce() -> R, R>(f: F) -> R {
    struct Call<F, R> {
        f: Option<F>,
        result: Option<R>,
    }
    unsafe fn call<F: FnOnce() -> R, R>(arg: *mut ()) {
        // SAFETY: points to the frame of `systemstack`, which waits for this call.
        let call = unsafe { &mut *arg.cast::<Call<F, R>>() };
        call.result = call.f.take().map(|f| f());
    }
    let Some(gp) = stack::current_head() else { return f() };
    let mut frame = Call { f: Some(f), result: None };
    getm(gp).on_g0.set(Some((call::<F, R>, (&raw mut frame).cast())));
    // SAFETY: gp is the caller, and the call is in place; it runs on this very thread.
    unsafe { M::switch_to_g0(gp, Switch::OnG0) };
    frame.result.expect("the call on g0 has been made")
}
