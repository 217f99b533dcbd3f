//! All goroutines are asleep: what Go's `checkdead` finds, and what becomes of it.
//!
//! sysmon asks when every P of its scheduler has been idle for a tenth of a second and a main goroutine (of a `run`) waits.
//! The answer is a matter of the whole process. Nothing can wake the main goroutine if, at one moment:
//!
//! - D1: no M of any scheduler runs, is on its way, or sits in a call: all are asleep; nothing is queued; no timer is
//!   armed. Goroutines of other schedulers count as able to wake it even if they wait, unless their scheduler has ended.
//! - D2: no plain thread is left that might take part in an operation (`threads`).
//! - D3: nobody outside holds a waker of a goroutine that waits for a future ([`Outside`]).
//!
//! These are looked at one after another, and D1 once more at the end, with the number of switches in between: if nobody
//! has run between two looks at which all were asleep, and nobody was there to wake one, then all of it was true at once. And
//! what is true then stays true. When in doubt (a thread that nobody knows, an M that is out with its goroutine) nothing is
//! said, and sysmon asks again later.
//!
//! **What becomes of it.** `Deadlock::Exit`: message, list, status 2. `Deadlock::Panic`: the main goroutine is
//! abandoned, and the panic leaves `run`, with the list. The goroutine's closure may borrow from the caller of `run`, which
//! goes on now; so may those of the scopes in it. None of them may ever run again: their waits are **void**. All that
//! such a goroutine waits with is claimed by [`G::win_select`], as by the one waker of a select ([`may_ready`]), and the claim
//! is never used. What finds it in a queue later passes it over, and no value goes its way. The record of such a wait stays
//! linked where it is; it lies in a G or on a stack that is never used again.
//!
//! One main goroutine is given up at a time, that of the youngest `run` of the scheduler, with the goroutines of the scopes
//! under it. Whatever waits for another `run` waits for a younger one, so nobody whom this panic wakes borrows from
//! a frame that it leaves. If nothing comes of it, the next one has its turn.

use super::newproc::{DEADLOCKED, abandon};
use crate::config::Deadlock;
use crate::g::{Bound, G, Status, casgstatus};
use crate::gpool;
use crate::sched::{Sched, with_all};
use crate::sema;
use crate::sync::atomic::{Ordering, fence};
use crate::threads::{self, Others};
use crate::time::clock::Nanos;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Go's words.
pub const MESSAGE: &str = "all goroutines are asleep - deadlock!";

/// What sysmon is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Something can wake a goroutine, and will be noticed when it does. Or there is nothing to be woken.
    Alive,
    /// Ask again later.
    Unsure,
    /// It has been reported.
    Reported,
}

/// What the last report said, for those who wait in `run`.
static REPORT: Mutex<Option<Arc<str>>> = Mutex::new(None);

/// What was said of the deadlock that the caller has been told of.
pub fn report() -> Arc<str> {
    REPORT.lock().clone().unwrap_or_else(|| MESSAGE.into())
}

static OUTSIDE: AtomicUsize = AtomicUsize::new(0);

/// While it lives somebody outside may wake a goroutine, in a way that is not seen here.
#[derive(Debug)]
pub struct Outside(());

impl Outside {
    /// From now on.
    pub fn begin() -> Outside {
        OUTSIDE.fetch_add(1, Ordering::Relaxed);
        Outside(())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        OUTSIDE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Called before a goroutine that was found in a queue of waiters for one thing is readied: whether it may be. A wait of
/// one that may borrow, begun with [`G::begin_select`], may be void; and so is that of one whose scheduler has ended.
#[inline]
pub fn may_ready(gp: &G) -> bool {
    !gp.waits_are_void() && (gp.bound.get() == Bound::Free || gp.win_select())
}

/// Begins a wait for one thing, as seen by [`may_ready`]. Called before anyone knows of it.
#[inline]
pub fn begin_wait(gp: &G) {
    if gp.bound.get() != Bound::Free {
        gp.begin_select();
    }
}

/// Whether the main goroutine of the youngest `run` of a scheduler is deadlocked; reports it.
pub(super) fn check(sched: &'static Sched) -> Verdict {
    // A model's threads are not the system's; shuttle reports deadlocks itself.
    if cfg!(shuttle) || sched.config.deadlock == Deadlock::Ignore || sched.nmains.load(Ordering::Relaxed) == 0
    {
        return Verdict::Alive;
    }
    let main = match with_all(|all| look(sched, all)) {
        Ok(main) => main,
        Err(verdict) => return verdict,
    };
    if sched.config.deadlock == Deadlock::Exit {
        crate::throw::fatal(format_args!("{MESSAGE}"));
    }
    give_up(sched, main)
}

/// The main goroutine to be given up, or why none is.
fn look(sched: &'static Sched, all: &[&'static Sched]) -> Result<&'static G, Verdict> {
    for other in all.iter().filter(|s| !s.stopped()) {
        let own = std::ptr::eq(*other, sched);
        // Nobody tells this sysmon of what goes on elsewhere.
        if !own && (other.num_goroutines() > 0 || other.first_timer() != Nanos::NEVER) {
            return Err(Verdict::Unsure);
        }
        if other.first_timer() != Nanos::NEVER {
            return Err(Verdict::Alive);
        }
    }
    let before = asleep(all).ok_or(Verdict::Unsure)?;
    if OUTSIDE.load(Ordering::Relaxed) > 0 {
        return Err(Verdict::Unsure);
    }
    let main = youngest(sched).ok_or(Verdict::Unsure)?;
    match threads::others(main.run_number()) {
        Others::None => {}
        // sysmon is told when it ends (`thread`).
        Others::Users => return Err(Verdict::Alive),
        Others::Unknown => return Err(Verdict::Unsure),
    }
    fence(Ordering::SeqCst);
    if asleep(all) == Some(before) { Ok(main) } else { Err(Verdict::Unsure) }
}

/// The goroutines of a scheduler that wait, and may borrow.
fn for_each_bound(sched: &'static Sched, mut f: impl FnMut(&'static G)) {
    gpool::for_each(|gp| {
        // The status first: of a G that waits all else is constant.
        if gp.status() == Status::Waiting && gp.runs_on(sched) && gp.bound.get() != Bound::Free {
            f(gp);
        }
    });
}

/// The main goroutine of the youngest `run`: nothing under it waits for another `run`, since that would be younger.
fn youngest(sched: &'static Sched) -> Option<&'static G> {
    let mut found: Option<&'static G> = None;
    for_each_bound(sched, |gp| {
        let younger = found.is_none_or(|other| other.run_number() < gp.run_number());
        if gp.bound.get() == Bound::Main && younger {
            found = Some(gp);
        }
    });
    found
}

/// D1: the number of switches so far, if all are asleep.
fn asleep(all: &[&'static Sched]) -> Option<u64> {
    let mut switches = 0;
    for sched in all {
        let attached = sched.attached.load(Ordering::Acquire) as usize;
        let visited = sched.is_visited();
        if sched.stopped() {
            // What was abandoned there stays asleep; what goes on to its next scheduling point does not.
            if attached != 0 || visited {
                return None;
            }
            continue;
        }
        // The keeper last: an M goes from its slot to the list, so at most it is counted nowhere.
        let asleep = sched.nlocked_asleep.load(Ordering::Acquire) as usize
            + sched.idle.nasleep()
            + usize::from(sched.keeper.get().is_some());
        let at_home = sched.ms.lock().iter().any(|mp| !mp.home.is_empty() || !mp.locked.is_empty());
        let queued = !sched.globq.is_empty() || sched.allp.iter().any(|pp| !pp.runq.is_empty());
        let quiet = sched.idle.npidle() as usize == sched.max_procs()
            && asleep == attached
            && !visited
            && sched.first_timer() == Nanos::NEVER;
        if queued || at_home || !quiet {
            return None;
        }
        switches +=
            sched.allp.iter().map(|pp| u64::from(pp.watched.switches.load(Ordering::Relaxed))).sum::<u64>();
    }
    Some(switches)
}

/// `Deadlock::Panic`: the main goroutine and those of the scopes under it are abandoned, and its `run` is told.
fn give_up(sched: &'static Sched, main: &'static G) -> Verdict {
    let mut text = format!("{MESSAGE}\n\n");
    super::dump(&mut text);
    *REPORT.lock() = Some(text.into());
    if !main.win_select() {
        // Somebody has come after all, of whom nothing was known.
        return Verdict::Unsure;
    }
    let mut void = vec![main];
    let mut claimed = true;
    for_each_bound(sched, |gp| {
        let under =
            gp.bound.get() == Bound::Scope && gp.main_of().is_some_and(|other| std::ptr::eq(other, main));
        if under {
            claimed &= gp.win_select();
            void.push(gp);
        }
    });
    if !claimed {
        // As above, and one that may borrow from the caller of `run` goes on: then `run` must not return, ever.
        return Verdict::Unsure;
    }
    for gp in void.into_iter().rev() {
        // SAFETY: claimed, so nobody readies it, ever; what it borrows is there until its `run` is told.
        unsafe { sema::leave_behind(gp) };
        casgstatus(gp, Status::Waiting, Status::Dead);
        sched.finished_outside.fetch_add(1, Ordering::Release);
        abandon(gp, DEADLOCKED);
    }
    Verdict::Reported
}
