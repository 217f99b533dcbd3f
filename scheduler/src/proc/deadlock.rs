//! All goroutines are asleep: what Go's `checkdead` finds, and what becomes of it.
//!
//! sysmon asks when every P of its scheduler has been idle for a tenth of a second and a main goroutine (of a `run`) waits.
//! The answer is a matter of the whole process. Nothing can wake the main goroutine if, at one moment:
//!
//! - D1: no M of any scheduler runs, is on its way, or sits in a call: all are asleep; nothing is queued; no timer is
//!   armed. Goroutines of other schedulers count as able to wake it even if they wait.
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
//! is never used. What finds it in a queue later passes it over, and no value goes its way.
//!
//! Of nested `run`s the innermost panics; its panic goes through the others.

use super::newproc::{DEADLOCKED, abandon};
use crate::config::Deadlock;
use crate::g::{Bound, G, Status, WaitReason, casgstatus};
use crate::gpool;
use crate::sched::{Sched, with_all};
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
/// one that may borrow, begun with [`G::begin_select`], may be void.
#[inline]
pub fn may_ready(gp: &G) -> bool {
    gp.bound.get() == Bound::Free || gp.win_select()
}

/// Begins a wait for one thing, as seen by [`may_ready`]. Called before anyone knows of it.
#[inline]
pub fn begin_wait(gp: &G) {
    if gp.bound.get() != Bound::Free {
        gp.begin_select();
    }
}

/// Whether the main goroutines of a scheduler are deadlocked; reports it.
pub(super) fn check(sched: &'static Sched) -> Verdict {
    // A model's threads are not the system's; shuttle reports deadlocks itself.
    if cfg!(shuttle) || sched.config.deadlock == Deadlock::Ignore || sched.nmains.load(Ordering::Relaxed) == 0
    {
        return Verdict::Alive;
    }
    let verdict = with_all(|all| look(sched, all));
    if verdict != Verdict::Reported {
        return verdict;
    }
    if sched.config.deadlock == Deadlock::Exit {
        crate::throw::fatal(format_args!("{MESSAGE}"));
    }
    give_up_mains(sched)
}

/// Reported: it is so, and has not been reported yet.
fn look(sched: &'static Sched, all: &[&'static Sched]) -> Verdict {
    for other in all.iter().filter(|s| !s.stopped()) {
        let lives = !std::ptr::eq(*other, sched) && other.num_goroutines() > 0;
        if lives || other.timers.first() != Nanos::NEVER {
            return Verdict::Alive;
        }
    }
    let Some(before) = asleep(all) else { return Verdict::Unsure };
    if OUTSIDE.load(Ordering::Relaxed) > 0 {
        return Verdict::Unsure;
    }
    match threads::others() {
        Others::None => {}
        // sysmon is told when it ends (`thread`).
        Others::Users => return Verdict::Alive,
        Others::Unknown => return Verdict::Unsure,
    }
    fence(Ordering::SeqCst);
    if asleep(all) == Some(before) { Verdict::Reported } else { Verdict::Unsure }
}

/// D1: the number of switches so far, if all are asleep.
fn asleep(all: &[&'static Sched]) -> Option<u64> {
    let mut switches = 0;
    for sched in all.iter().filter(|s| !s.stopped()) {
        let asleep = sched.idle.nasleep() + sched.nlocked_asleep.load(Ordering::Acquire) as usize;
        let queued = !sched.globq.is_empty() || sched.allp.iter().any(|pp| !pp.thief.is_empty());
        let quiet = sched.idle.npidle() as usize == sched.max_procs()
            && asleep == sched.attached.load(Ordering::Acquire) as usize
            && sched.visitors.load(Ordering::Acquire) == 0
            && sched.timers.first() == Nanos::NEVER;
        if queued || !quiet {
            return None;
        }
        switches +=
            sched.allp.iter().map(|pp| u64::from(pp.watched.switches.load(Ordering::Relaxed))).sum::<u64>();
    }
    Some(switches)
}

/// `Deadlock::Panic`: the goroutines that may borrow are abandoned, those in scopes first; the `run`s are told.
fn give_up_mains(sched: &'static Sched) -> Verdict {
    let mut text = format!("{MESSAGE}\n\n");
    super::dump(&mut text);
    *REPORT.lock() = Some(text.into());
    let mut void = Vec::new();
    for bound in [Bound::Scope, Bound::Main] {
        let mut claimed = true;
        gpool::for_each(|gp| {
            let waits = gp.runs_on(sched) && gp.bound.get() == bound && gp.status() == Status::Waiting;
            // One that waits in a `run` of its own gets that one's panic.
            if waits && gp.wait_reason() != WaitReason::Run {
                match gp.win_select() {
                    true => void.push(gp),
                    false => claimed = false,
                }
            }
        });
        if !claimed {
            // Somebody has come after all, of whom nothing was known.
            return Verdict::Unsure;
        }
    }
    for gp in void {
        casgstatus(gp, Status::Waiting, Status::Dead);
        sched.finished_outside.fetch_add(1, Ordering::Release);
        abandon(gp, DEADLOCKED);
    }
    Verdict::Reported
}
