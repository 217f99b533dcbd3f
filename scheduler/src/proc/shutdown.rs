//! The end of a scheduler.
//!
//! 1. `CLOSING`: spawning is refused; the goroutines that exist have until the deadline to finish.
//! 2. `STOPPED`: every M leaves at its next pass through `find_runnable`, that is, at its goroutine's next scheduling
//!    point. Sleeping Ms and sysmon are woken to see it.
//! 3. The queues and the timers' heaps are emptied: goroutines that never ran are dropped, closure and all; the others are **abandoned**: never
//!    resumed, never unwound, their stacks never used again. What they own is leaked, as in Go when main returns.
//! 4. The owner lets go. When every M and sysmon have left as well, and nobody from elsewhere is still waking somebody for it
//!    (`Visit`), nobody can use the scheduler any more but on behalf of a goroutine that is abandoned in it.
//!    So if there is none it is freed: by whoever leaves last.
//!
//! Z1: Every M is in the list `Sched::ms` from before its first look at the state, and step 2 signals the notes of all of
//! them after it has stored `STOPPED`. An M looks at the state before each sleep on its note, and a signal that comes
//! between is kept.
//!
//! The owner is who calls [`shutdown`]. If one of the scheduler's own goroutines lets go of it ([`end`]), sysmon takes the owner's place
//! after step 2: it needs no new thread, and its work is done by then.
//!
//! Whoever joins an abandoned goroutine gets an error, as soon as every M has left: before that it is not known which
//! goroutines are. So the last M to leave says it, if that is after step 3.
//!
//! Z2: Who leaves gives up its last hold on the scheduler (the M's count, sysmon's flag) during a visit, and the end of the
//! visit is the last that it does with it; `visitors` has the protocol.
//!
//! An M whose goroutine does not come to a scheduling point keeps the scheduler until it does, and joins the pool then. What such
//! a goroutine readies meanwhile stays in the queues of the stopped scheduler, abandoned.
//!
//! **Rejected**: the owner waiting for the last one to leave (on a busy machine that takes longer than anybody wants to wait,
//! and what was not freed then never was); one count of all users that frees at 0 (who visits for an abandoned goroutine
//! takes it from 0 to 1 and back, and may meet the one that is just looking whether there is any such goroutine).
//!
//! # Void waits
//!
//! From step 2 on all waits of its goroutines are **void**: nothing is handed to one that waits, wherever that is, and nobody
//! readies it. What others wait for goes to the next of them whose wait is open.
//!
//! V1: **The look.** Whoever takes a wait out of a queue asks `G::waits_are_void`, under the lock of that queue and before it claims
//! the wait (`win_select`), and passes over one that is: takes it out, and no more. The end is the store of `STOPPED`. A look that
//! comes after it (a program that knows that the runtime has ended has that from the store, by some chain of releases and acquires)
//! finds the wait void. A look that does not see it came before: what is handed over then was handed to a goroutine of a living
//! runtime, which is abandoned with it as with all else that it owns.
//!
//! V2: **For good.** `STOPPED` stays, so what was passed over is missed by nobody. One that comes back from a void wait all the same
//! was readied before the end, by another one of the things that it waits for (another arm, its deadline), and an M ran it that
//! had passed its own look at the state: it finds its record out of the queue, as one who was served elsewhere does.
//!
//! V3: **What was given and not noticed.** One that was readied before the end, and does not run any more, keeps a value: it lies in
//! its frame. A lock, permits, and what only makes sense when somebody acts on it go back (S4 of `sema`), and one that stood in the
//! way of others goes out of it, as soon as nobody can run it any more: when it is taken out of a queue in step 3, or when no M is
//! left.
//!
//! A goroutine that still runs, to its next scheduling point, is no waiter: what it takes without parking is its own.
//!
//! **Rejected**: to mark the goroutines that wait when the scheduler ends (all Gs must be walked under the locks of all that they wait
//! at, and one that parks later is missed); to take all of them out of their queues then (the same, and who comes between the end
//! and that gives to the dead); a count of the dead in each channel.
//!
//! The look is a load from the line of the G that its waker touches anyway, and one from a line that nobody writes. The model is
//! `channel/tests/loom_channel.rs`; the promises are in `runtime/tests/promises_end.rs`.

use super::handoffp::steal_one;
use super::newproc::{ABANDONED, abandon, drop_unstarted};
use super::{current, getg, pin, systemstack, timers};
use crate::g::{Phase, Status};
use crate::gpool;
use crate::memory::{self, Short};
use crate::runq::Gp;
use crate::sched::{CLOSING, OPEN, STOPPED, Sched, with_all};
use crate::sema;
use crate::sync::atomic::{Ordering, fence};
use crate::sync::{Spinning, per_process};
use crate::time::clock::Nanos;
use crate::time::sleep::sleep_until;
use std::time::Duration;

/// How long step 3 waits for Ms that are about to leave.
const GRACE: Duration = Duration::from_millis(10);

/// How long the owner waits for sysmon to leave. It leaves as soon as it has a core; on a machine that has none to give, a
/// program that makes and ends runtimes without waiting would make threads faster than they end.
const PATIENCE: Duration = Duration::from_secs(1);

/// Ends a scheduler; how many goroutines were abandoned. The caller, who is none of them, does not use `sched` again.
pub fn shutdown(sched: &'static Sched, timeout: Duration) -> usize {
    close(sched);
    wait_until(Nanos::now().after(timeout), || sched.num_goroutines() == 0);
    stop(sched);
    finish(sched)
}

/// Ends a scheduler at once, wherever the caller is, who does not use `sched` again. One of its own goroutines can do steps 1 and 2 only: it
/// would wait for its own M to leave. The rest is for sysmon then, which is there because an M is.
pub fn end(sched: &'static Sched) {
    if is_own(sched) {
        close(sched);
        // Relaxed: published by `stop`.
        sched.orphaned.store(true, Ordering::Relaxed);
        stop(sched);
    } else {
        shutdown(sched, Duration::ZERO);
    }
}

/// True if the caller is a goroutine of this scheduler.
pub fn is_own(sched: &'static Sched) -> bool {
    current().is_some_and(|gp| gp.runs_on(sched))
}

/// Step 1.
fn close(sched: &'static Sched) {
    // ORDERING: AcqRel; a spawn that saw OPEN may still come, and is dropped or abandoned like the others.
    let was = sched.state.compare_exchange(OPEN, CLOSING, Ordering::AcqRel, Ordering::Relaxed);
    debug_assert!(was.is_ok(), "a scheduler is shut down once");
}

/// Step 2.
fn stop(sched: &'static Sched) {
    sched.state.store(STOPPED, Ordering::Release);
    // ORDERING: pairs with the fence of sysmon's deep sleep; the Ms' side is Z1.
    fence(Ordering::SeqCst);
    wake_sleepers(sched);
}

/// Steps 3 and 4, for the owner; how many goroutines were abandoned. Not on a goroutine of this scheduler.
pub(super) fn finish(sched: &'static Sched) -> usize {
    let left = || sched.attached.load(Ordering::Acquire) == 0;
    wait_until(Nanos::now().after(GRACE), left);
    drop_queued(sched);
    timers::end(sched);
    if left() {
        systemstack(|| none_is_left(sched));
    }
    let abandoned = sched.num_goroutines();
    if !sched.orphaned.load(Ordering::Relaxed) {
        wait_until(Nanos::now().after(PATIENCE), || sched.sysmon.is_gone());
    }
    systemstack(|| {
        let mut ended = ENDED.lock();
        memory::grow(WHAT, &mut *ended, 1);
        ended.push(sched);
    });
    if sched.let_go() {
        free_those_left();
    }
    abandoned
}

/// What a want of memory names.
const WHAT: &str = "the list of runtimes that end";

/// Has room for so many that end at the same time.
///
/// # Errors
///
/// When there is no memory.
pub(crate) fn reserve(n: usize) -> Result<(), Short> {
    let mut ended = ENDED.lock();
    let more = n.saturating_sub(ended.len());
    ended.try_reserve(more).map_err(|_| Short::of(WHAT, more * size_of::<&Sched>()))
}

per_process! {
    /// Schedulers that their owners have ended, and that somebody has not left yet.
    static ENDED: Spinning<Vec<&'static Sched>> = Spinning::new(Vec::new());
}

/// Frees those that all have left (Z2). On any stack.
#[cold]
#[inline(never)]
pub(crate) fn free_those_left() {
    let next = || {
        let mut ended = ENDED.lock();
        let at = ended.iter().position(|sched| sched.all_have_left())?;
        Some(ended.swap_remove(at))
    };
    systemstack(|| {
        while let Some(sched) = next() {
            with_all(|all| all.retain(|other| !std::ptr::eq(*other, sched)));
            if sched.num_goroutines() == 0 {
                // SAFETY: it was leaked by `start`. Its owner, all Ms, sysmon and all visitors have left, and there is no
                // goroutine that could bring another visitor, so nobody uses it; it was in the list once.
                drop(unsafe { Box::from_raw(std::ptr::from_ref(sched).cast_mut()) });
            }
        }
    });
}

/// Step 2's wake-ups.
fn wake_sleepers(sched: &'static Sched) {
    sched.ms.lock().iter().for_each(|mp| mp.note.wakeup());
    sched.sysmon.wakeup();
}

/// Blocks the thread of a caller that must not be suspended.
#[expect(clippy::disallowed_methods, reason = "that is what is wanted")]
fn sleep_here(nap: Duration) {
    std::thread::sleep(nap);
}

/// No M is left in a scheduler that has stopped: what its goroutines are now, they stay. Said by the last M that leaves, and by
/// whoever ends the scheduler, in any order; all of it may be done twice, and at the same time.
pub(super) fn none_is_left(sched: &'static Sched) {
    end_ps(sched);
    if sched.num_goroutines() > 0 {
        // One that waits stays as it is, or is put into a queue by who was just waking it. One that is in a queue may never
        // have run, and be dropped, and be another goroutine by now: such are told by who takes them out.
        gpool::for_each(|gp| {
            if gp.runs_on(sched) && gp.status() == Status::Waiting {
                // SAFETY: no M is left that could run it, and none comes that would; its frames are never left, nor are those that
                // it borrows from.
                unsafe { sema::leave_behind(gp) };
                abandon(gp, ABANDONED);
            }
        });
        abandon_queued(sched);
    }
}

/// A goroutine was taken out of a queue in which nobody looks for it any more. One that never ran is not for this.
pub(super) fn leave_behind(Gp(gp): Gp) {
    if gp.phase.get() != Phase::Unstarted {
        // SAFETY: the caller has it, and does not run it; for the frames, as in `none_is_left`.
        systemstack(|| unsafe { sema::leave_behind(gp) });
        abandon(gp, ABANDONED);
    }
}

/// Abandons what has run before and is in the global queue. What never ran stays there, for [`drop_queued`]: its destructors
/// are not for any stack.
pub(super) fn abandon_queued(sched: &'static Sched) {
    // ORDERING: pairs with the fence in `Idle::submitted`: either this finds what was pushed, or who pushed it that the scheduler
    // has stopped.
    fence(Ordering::SeqCst);
    sched.globq.take_out(|gp| gp.0.phase.get() != Phase::Unstarted).into_iter().for_each(leave_behind);
}

/// Gives back what the Ps keep for goroutines to come: the scheduler may stay leaked. A P that somebody has who comes late is
/// left alone.
fn end_ps(sched: &'static Sched) {
    while let Some(p) = sched.idle.get_p() {
        // SAFETY: taken out of the idle list, and not put back, so it is ours.
        let owned = unsafe { sched.allp[p].owned() };
        owned.stacks.end();
        owned.gcache.give_all();
    }
}

/// Waits, with growing naps, until `done` or the deadline. The caller may be a goroutine of another scheduler.
fn wait_until(deadline: Nanos, done: impl Fn() -> bool) {
    let mut nap = Duration::from_micros(20);
    while !done() && Nanos::now() < deadline {
        if pin::may_park(getg()) {
            sleep_until(Nanos::now().after(nap).min(deadline));
        } else {
            sleep_here(nap);
        }
        nap = (nap * 2).min(Duration::from_millis(2));
    }
}

/// Empties the queues; drops what never ran. By whoever ends the scheduler, and by each M that leaves it.
pub(super) fn drop_queued(sched: &'static Sched) {
    // One by one: what is dropped may do anything, such as spawn.
    let shared = std::iter::from_fn(|| {
        let mut first = None;
        sched.globq.take(1, |gp| first = Some(gp));
        first
    });
    let queued = sched.allp.iter().flat_map(|pp| std::iter::from_fn(|| steal_one(pp)));
    for gp in shared.chain(queued) {
        if gp.0.phase.get() == Phase::Unstarted {
            drop_unstarted(gp.0);
        } else {
            leave_behind(gp);
        }
    }
}
