//! Goroutines that have an OS thread for themselves (Go's `LockOSThread`, `stoplockedm`, `startlockedm`).
//!
//! A locked goroutine is put into its M's own queue when it is ready (`home`), and its M runs nothing else. When it waits,
//! the M passes its P on and sleeps; when it is ready, the M waits in line for one. Locks are counted: it is over when as many
//! were undone.
//!
//! A goroutine that ends while it has its thread locked leaves it in a state that nobody knows. The M retires: it runs nothing more,
//! and its thread ends, as in Go. But goroutines that ran there before may be parked with a reference to one of the thread's
//! variables, which safe code can do (`LocalKey::with`). So it ends for the kernel alone: destructors of its thread-locals do not
//! run, and the memory in which these lie stays (`leave_behind`). Where that cannot
//! be done, the thread sleeps for ever.
//!
//! What is left of each: the pages at the top of its stack, which hold its variables and what the C library knows
//! of it (two on x86-64); 2 KiB of the heap; a page of the kernel's tables; 2 MiB of addresses; and less than one
//! mapping. The alternate stacks are unmapped. The stack's guard becomes part of its body *before* the P goes on
//! (`join_guard`): who gets it may need a new thread, whose stack the kernel puts below
//! this one, and then both are one mapping. A stack of the C library must not be unmapped, not even in part (see
//! `leave_behind`).
//!
//! **Rejected**: a proper end once all goroutines have ended that ran there (they would have to be counted at each switch, or all
//! goroutines that exist be waited for, of which one often lives as long as the program); a fresh thread at each lock, which
//! no other goroutine has run on (the caller would change its thread just where it says that it must not);
//! stacks of our own for Ms, of which all but the top could be unmapped (threads would have to be started without
//! `std`, and so lose their names in its messages, to save addresses only).
//!
//! With `Migration::Never` other goroutines may have started on the thread before. They stay there, and wait until it is
//! unlocked; a thread that retires runs them to their end first. The two promises allow nothing else, so a goroutine that has
//! its thread locked must not wait for one of them.
//!
//! **Unwinding.** `std` counts panics per thread. A goroutine that stops running while it unwinds (a destructor that
//! receives) has its M locked for that time: else those that ran on it meanwhile would find `panicking()` true, and a second
//! panic there would abort the process. So it is with exceptions of C++ that are caught or in flight (`cxx`).

use super::find_runnable::{Found, leave, wait_for_p};
use super::handoffp::{handoffp, has_work};
use super::park::{getg, getm};
use super::schedule::acquirep;
use super::{procresize, shutdown};
use crate::config::Migration;
use crate::g::G;
use crate::home::Home;
use crate::m::M;
use crate::os;
use crate::runq::Gp;
use crate::sched::Sched;
use crate::sync::atomic::Ordering;
use std::ptr;

/// Has the calling goroutine stay on its M, and the M run nothing else, until [`unlock_os_thread`]. Nests. A plain thread
/// has itself anyway.
///
/// # Panics
///
/// When it nests 255 deep.
#[track_caller]
pub fn lock_os_thread() {
    let gp = getg();
    if !gp.is_thread() {
        let n = gp.locks.get().checked_add(1).expect("lock_os_thread nests more than 255 deep");
        lock(gp, n);
    }
}

/// Undoes one [`lock_os_thread`].
pub fn unlock_os_thread() {
    let gp = getg();
    if !gp.is_thread() {
        unlock(gp);
    }
}

#[track_caller]
fn lock(gp: &'static G, n: u8) {
    gp.locks.set(n);
    gp.wired.set(true);
    let mp = getm(gp);
    // Relaxed: this thread's own; others only count.
    mp.lockedg.store(ptr::from_ref(gp).cast_mut(), Ordering::Relaxed);
    mp.exclusive.set(true);
}

#[cold]
#[inline(never)]
pub(super) fn unlock(gp: &'static G) {
    debug_assert!(gp.locks.get() > 0, "unlocked more often than locked");
    let n = gp.locks.get() - 1;
    gp.locks.set(n);
    if n == 0 {
        let never = gp.sched().is_some_and(|s| s.config.migration == Migration::Never);
        gp.wired.set(never);
        let mp = getm(gp);
        mp.lockedg.store(ptr::null_mut(), Ordering::Relaxed);
        mp.exclusive.set(mp.retires.get());
    }
}

/// Locks the M of a goroutine that is about to leave its stack while it unwinds, or while it has caught an exception of C++;
/// [`unlock`] when it is back.
#[cold]
#[inline(never)]
pub(super) fn lock_unwinding(gp: &'static G) {
    lock(gp, gp.locks.get().saturating_add(1));
}

/// A goroutine has ended that ran on this M only; the M retires if it was locked. Runs on g0.
pub(super) fn ended(mp: &'static M, gp: &'static G, never_migrates: bool) {
    if never_migrates {
        mp.nhome.set(mp.nhome.get() - 1);
    }
    if ptr::eq(mp.lockedg.load(Ordering::Relaxed), gp) {
        mp.lockedg.store(ptr::null_mut(), Ordering::Relaxed);
        mp.retires.set(true);
    }
}

/// The next goroutine for an M that runs one only, or that retires. `None`: the M leaves the scheduler.
pub(super) fn find(sched: &'static Sched, mp: &'static M) -> Option<Found> {
    let queue = if mp.lockedg.load(Ordering::Relaxed).is_null() { &mp.home } else { &mp.locked };
    loop {
        let stopped = sched.stopped();
        if stopped || (mp.retires.get() && mp.nhome.get() == 0) {
            if stopped {
                leave(sched, mp, None);
            }
            if mp.retires.get() && os::CAN_LEAVE_BEHIND {
                // Before the P goes on (see above).
                os::join_guard();
            }
            if !stopped {
                // One whose thread ends takes no room from others.
                sched.nretired.fetch_add(u32::from(!os::CAN_LEAVE_BEHIND), Ordering::Relaxed);
                pass_p_on(sched, mp);
            }
            return None;
        }
        if let Some(pp) = mp.try_p() {
            // It has yielded, or its park was called off. Others go first, if there are some.
            if sched.idle.nwanting() == 0
                && !procresize::is_over(sched, pp)
                && !has_work(sched, pp)
                && let Some((gp, inherit)) = take(sched, queue)
            {
                return Some(Found { gp, inherit });
            }
            pass_p_on(sched, mp);
        }
        // ORDERING: Release, pairs with the Acquire of who counts the sleepers.
        sched.nlocked_asleep.fetch_add(1, Ordering::Release);
        if queue.lie_down() {
            while queue.is_empty() && !sched.stopped() {
                mp.note.sleep();
            }
        }
        sched.nlocked_asleep.fetch_sub(1, Ordering::Release);
        if !sched.stopped()
            && let Some(pp) = wait_for_p(sched, mp)
        {
            acquirep(sched, mp, pp);
        }
        queue.get_up();
        if mp.try_p().is_some()
            && let Some((gp, inherit)) = take(sched, queue)
        {
            return Some(Found { gp, inherit });
        }
    }
}

/// The M gives its P up, if it has one.
fn pass_p_on(sched: &'static Sched, mp: &'static M) {
    if let Some(pp) = mp.try_p() {
        mp.set_p(None);
        handoffp(sched, pp);
    }
}

/// The next one.
fn take(sched: &'static Sched, queue: &Home<Gp>) -> Option<(Gp, bool)> {
    loop {
        let (gp, inherit) = queue.take()?;
        if gp.0.runs_on(sched) {
            return Some((gp, inherit));
        }
        // From an earlier scheduler of this M.
        shutdown::leave_behind(gp);
    }
}
