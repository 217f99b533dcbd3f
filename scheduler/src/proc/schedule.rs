//! The life of an M in a scheduler: find a goroutine, run it, deal with why it stopped.

use super::crowd::Met;
use super::find_runnable::{Found, find_runnable, take_share};
use super::waiting::commit_park;
use super::wake::{give_p, inject, put, start_new_m, stays};
use super::{crowd, locked, newproc, shutdown, sysmon};
use crate::config::Migration;
use crate::g::{G, Phase, Status, casgstatus};
use crate::m::{Errand, M};
use crate::memory;
use crate::p::P;
use crate::runq::Gp;
use crate::sched::Sched;
use crate::stack::Switch;
use crate::sync::atomic::Ordering;
use std::ptr;

/// Serves `sched` until it is stopped. Runs on g0.
pub(crate) fn schedule(sched: &'static Sched, mp: &'static M) {
    name_thread(&sched.config.thread_name);
    mp.sched.set(Some(sched));
    {
        let mut ms = sched.ms.lock();
        memory::grow("the list of a runtime's OS threads", &mut *ms, 1);
        ms.push(mp);
    }
    if let Some(pp) = mp.take_nextp() {
        acquirep(sched, mp, pp);
    }
    while let Some(found) = find_runnable(sched, mp) {
        if sched.config.migration == Migration::Always && ran_here_last(mp, &found.gp) {
            hand_over(sched, mp, found);
        } else {
            execute(sched, mp, found);
        }
    }
    mp.sched.set(None);
    sched.ms.lock().retain(|other| *other != mp);
    let _visit = sched.visit();
    // ORDERING: AcqRel: whoever is the last sees what the others did.
    if sched.attached.fetch_sub(1, Ordering::AcqRel) == 1 && sched.stopped() {
        shutdown::none_is_left(sched);
    }
}

/// An M from the pool takes the name of the scheduler that it serves.
fn name_thread(name: &str) {
    let mut buf = [0u8; 16];
    let n = name.len().min(buf.len() - 1);
    buf[..n].copy_from_slice(&name.as_bytes()[..n]);
    // SAFETY: the buffer is a C string.
    unsafe { libc::prctl(libc::PR_SET_NAME, buf.as_ptr()) };
}

/// Takes a P that was idle or is handed over.
pub(super) fn acquirep(sched: &'static Sched, mp: &'static M, pp: &'static P) {
    mp.set_p(Some(pp));
    // Relaxed: for who wants to take it, who asks the M.
    pp.watched.m.store(ptr::from_ref(mp).cast_mut(), Ordering::Relaxed);
    pp.watched.curg.store(ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: the P has just become this M's.
    unsafe {
        let owned = pp.owned();
        pp.restart_window(owned);
        owned.timer_countdown = 0;
        owned.sits_out = false;
    }
    mp.met.set(Met::default());
    sysmon::p_is_busy(sched);
}

/// An idle P for an M that has lost its own. False: there is none.
pub(super) fn reacquire(sched: &'static Sched, mp: &'static M) -> bool {
    let p = sched.idle.get_p();
    if let Some(p) = p {
        acquirep(sched, mp, &sched.allp[p]);
    }
    p.is_some()
}

/// True if a goroutine that has started would go on where it ran before, though it need not.
fn ran_here_last(mp: &'static M, gp: &Gp) -> bool {
    gp.0.locks.get() == 0
        && gp.0.phase.get() != Phase::Unstarted
        && ptr::eq(gp.0.m.load(Ordering::Relaxed), mp)
}

/// Has another M go on with this one's P, and with a goroutine. Then this M has no P.
fn hand_over(sched: &'static Sched, mp: &'static M, found: Found) {
    let pp = mp.p();
    // Until the other one has it, nobody can borrow it.
    pp.runq.share();
    mp.set_p(None);
    let errand = Errand::Run(found.gp, found.inherit);
    match sched.idle.pop_m() {
        Some(other) => give_p(other, pp, errand),
        None => start_new_m(sched, pp, errand),
    }
}

/// Runs a goroutine until it stops. The G is Runnable and ours.
fn execute(sched: &'static Sched, mp: &'static M, found: Found) {
    let Found { gp: Gp(gp), mut inherit } = found;
    loop {
        let why = run(sched, mp, gp, inherit);
        let goes_on = match why {
            // SAFETY: the G has just left its stack; these are its `gopark`'s. From the commit on it may run elsewhere.
            Switch::Park => unsafe { !commit_park(gp, mp.waitunlockf.take(), mp.waitlock.get()) },
            Switch::Yield => {
                casgstatus(gp, Status::Running, Status::Runnable);
                if let Some(pp) = mp.try_p() {
                    take_share(sched, pp);
                }
                if !stays(gp, false) {
                    put(sched, mp.try_p(), gp, false);
                }
                false
            }
            Switch::Preempt => {
                casgstatus(gp, Status::Running, Status::Runnable);
                // If it was asked to give way because its P was wanted and is gone, any other will do.
                let lost = mp.try_p().is_none();
                if !lost && !stays(gp, false) {
                    inject(sched, Gp(gp));
                }
                lost
            }
            Switch::Exit => {
                casgstatus(gp, Status::Running, Status::Dead);
                // Once more if its result is nobody's: it must be dropped, on the goroutine's own stack.
                // The G is not ours after it.
                let wired = gp.wired.get();
                let again = newproc::goexit(mp, gp);
                if again {
                    casgstatus(gp, Status::Dead, Status::Runnable);
                } else if wired {
                    locked::ended(mp, gp, sched.config.migration == Migration::Never);
                }
                again
            }
            Switch::OnG0 => crate::throw!("a call on g0 ends a goroutine's run"),
        };
        if !goes_on {
            return;
        }
        // The G is Runnable and ours.
        if mp.try_p().is_none() && (sched.stopped() || !reacquire(sched, mp)) {
            if !stays(gp, false) {
                inject(sched, Gp(gp));
            }
            return;
        }
        inherit = true;
    }
}

/// Switches to the goroutine; comes back when it has left its stack for good.
fn run(sched: &'static Sched, mp: &'static M, gp: &'static G, inherit: bool) -> Switch {
    let pp = mp.p();
    // SAFETY: this M holds the P.
    unsafe {
        let owned = pp.owned();
        if pp.count_switch(owned, inherit) {
            crowd::look(sched, mp, pp, owned);
        }
        if gp.stack().is_none() {
            bind_stack(sched, mp, gp, owned);
        }
    }
    let stack = gp.stack().expect("bound above");
    casgstatus(gp, Status::Runnable, Status::Running);
    if !inherit && gp.is_asked() {
        // A request that was meant for an earlier slice.
        gp.no_longer_asked();
    }
    if !inherit {
        prefetch_next(pp);
    }
    // Relaxed: read by the G itself, on this thread.
    gp.m.store(ptr::from_ref(mp).cast_mut(), Ordering::Relaxed);
    // ORDERING: Release, pairs with the Acquire in `sysmon::look`: who finds a G here finds one that has been made. It may
    // look late; G memory stays.
    pp.watched.curg.store(ptr::from_ref(gp).cast_mut(), Ordering::Release);
    // From here on the P may be taken, but while the goroutine is in the runtime itself.
    mp.handoff.exit();
    loop {
        // SAFETY: we made the G Running, so its stack is ours (`g`), and it is bound to this G.
        match unsafe { stack.resume() } {
            Switch::OnG0 => {
                let (f, arg) = mp.on_g0.take().expect("a switch to g0 says what for");
                // SAFETY: `on_g0`'s caller promised that the call is sound here.
                unsafe { f(arg) };
            }
            why => {
                mp.enter();
                if let Some(pp) = mp.try_p() {
                    pp.watched.curg.store(ptr::null_mut(), Ordering::Relaxed);
                }
                if gp.is_asked() {
                    // It has given way. While it waits, or has ended, nobody need look for who was asked.
                    gp.no_longer_asked();
                }
                return why;
            }
        }
    }
}

/// Fetches what will be needed when those in the queue are run: of the second its stack, or what it begins with, of the third the
/// G. Where many were woken at once these lines have long left the cache. (The first was the second when the one before this was
/// run.)
#[inline]
fn prefetch_next(pp: &'static P) {
    let Some(second) = pp.runq.peek(1) else { return };
    match second.stack() {
        Some(stack) => stack.prefetch(),
        None => second.prefetch_body(),
    }
    if let Some(third) = pp.runq.peek(2) {
        third.prefetch();
    }
}

/// Gives a goroutine its stack, at its first run.
#[inline]
fn bind_stack(sched: &'static Sched, mp: &'static M, gp: &'static G, owned: &mut crate::p::Owned) {
    debug_assert_eq!(gp.phase.get(), Phase::Unstarted);
    match owned.stacks.get(gp.stack_class.get()) {
        Ok(stack) => {
            stack.bind(Some(gp));
            gp.set_stack(Some(stack));
            if sched.config.migration == Migration::Never {
                gp.wired.set(true);
                mp.nhome.set(mp.nhome.get() + 1);
            }
        }
        Err(e) => crate::throw::fatal(format_args!("no stack for goroutine {}: {e}", gp.id())),
    }
}
