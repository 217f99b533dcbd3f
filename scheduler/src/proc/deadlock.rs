//! All goroutines are asleep: what Go's `checkdead` finds, and what becomes of it.
//!
//! sysmon asks when every P of its scheduler has been idle for a tenth of a second and a main goroutine (of a `run`) waits.
//! The answer is a matter of the whole process. Nothing can wake the main goroutine if, at one moment:
//!
//! - D1: no M of any scheduler runs, is on its way, or sits in a call: all are asleep; nothing is queued; no timer is
//!   armed. Goroutines of other schedulers count as able to wake it even if they wait, unless their scheduler has ended.
//! - D2: nobody outside holds a waker of a goroutine that waits for a future ([`Outside`]).
//! - D3: no other thread of the process is left that might take part in an operation (`threads`), and no handler of a
//!   signal (`handlers`).
//!
//! These are looked at one after another, and D1 once more at the end, with the number of switches in between: if nobody
//! has run between two looks at which all were asleep, and nobody was there to wake one, then all of it was true at once. And
//! what is true then stays true. When in doubt (a thread of which nothing is known, an M that is out with its goroutine) there is no
//! alarm, and sysmon asks again later, ever more rarely (`Doubt`).
//!
//! What could hold a handle, and what speaks for it:
//!
//! | holder | the doubt |
//! | --- | --- |
//! | a goroutine that runs, is queued, sleeps, waits with a time limit | D1 |
//! | a goroutine of another runtime, or a timer there | D1 |
//! | a call that blocks its thread, announced or not | D1: its M is not asleep |
//! | a goroutine whose runtime was dropped, and that has not come to its next operation | D1: its M is attached |
//! | a thread that has used the library | D3, unless it waits in `run` |
//! | any other thread, older than the library's first use or younger, asleep or not: of a pool, of C, of a `timer_create` with `SIGEV_THREAD` | D3 |
//! | a handler of a signal (of `kill`, of a timer with `SIGEV_SIGNAL`, of `setitimer`) | D3 |
//! | a static | nothing: a thread has to come and take it from there |
//! | a waker, wherever it lies | D2, as long as a clone of it exists |
//!
//! **Doubt.** If all that speaks against it is a thread of which nothing is known, or a handler, nobody can tell it from a
//! deadlock. Then, if nobody has run for a second, the report is written to stderr as a note, once for each
//! scheduler, and the program goes on. A look in that state costs a few system calls, whatever the number of goroutines: they are
//! searched for the main one only when nothing is left that speaks against it.
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
use crate::handlers;
use crate::os;
use crate::sched::{Sched, with_all};
use crate::sema;
use crate::sync::atomic::{Ordering, fence};
use crate::threads::{self, Others};
use crate::throw::report as to_stderr;
use crate::time::clock::Nanos;
use parking_lot::Mutex;
use std::ffi::c_int;
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

/// Who might still wake a goroutine, though nothing else does.
#[derive(Clone, Copy, Debug)]
enum Suspect {
    /// A thread of which nothing is known.
    Stranger,
    /// The handler of this signal.
    Handler(c_int),
}

/// What a look has found.
enum Look {
    Verdict(Verdict),
    /// Only this speaks against a deadlock; and the number of switches so far.
    Doubt(Suspect, u64),
    /// The main goroutine to be given up.
    Dead(&'static G),
}

/// What sysmon remembers of a doubt.
#[derive(Default)]
pub(super) struct Doubt {
    /// When it began, and the number of switches then.
    since: Option<(Nanos, u64)>,
    /// The note has been written.
    noted: bool,
}

/// How long a doubt lasts before it is noted.
const A_SECOND: u64 = 1_000_000_000;
/// Threads that a note names.
const NAMED: usize = 8;

impl Doubt {
    /// It is there, or still there.
    fn is_there(&mut self, sched: &'static Sched, suspect: Suspect, switches: u64) {
        let now = Nanos::now();
        match self.since {
            Some((since, then)) if then == switches => {
                if !self.noted && now.since(since) >= A_SECOND && youngest(sched).is_some() {
                    self.noted = true;
                    note(suspect);
                }
            }
            _ => self.since = Some((now, switches)),
        }
    }
}

/// The report of what may be a deadlock.
fn note(suspect: Suspect) {
    let (who, remedy) = match suspect {
        Suspect::Stranger => (
            format!("unless a thread of which nothing is known wakes one ({})", names()),
            " If these threads wake nobody, say so by GORT_OTHER_THREADS=idle or Runtime::builder().other_threads(..): then this \
             note is a panic of `run`.",
        ),
        Suspect::Handler(signal) => (format!("unless the handler of signal {signal} wakes one"), ""),
    };
    let mut goroutines = String::new();
    super::dump(&mut goroutines);
    to_stderr(format_args!(
        "gort: note: {MESSAGE} That is, {who}; the program goes on.{remedy}\n\n{goroutines}"
    ));
}

/// The threads of which nothing is known, as a list.
fn names() -> String {
    let strangers = threads::strangers();
    let name = |&tid: &libc::pid_t| format!("{tid} {:?}", os::thread_name(tid).unwrap_or_default());
    let mut list: Vec<_> = strangers.iter().take(NAMED).map(name).collect();
    if strangers.len() > NAMED {
        list.push(format!("and {} more", strangers.len() - NAMED));
    }
    list.join(", ")
}

/// Whether the main goroutine of the youngest `run` of a scheduler is deadlocked; reports it.
pub(super) fn check(sched: &'static Sched, doubt: &mut Doubt) -> Verdict {
    // A model's threads are not the system's; shuttle reports deadlocks itself.
    if cfg!(shuttle) || sched.config.deadlock == Deadlock::Ignore || sched.nmains.load(Ordering::Relaxed) == 0
    {
        return Verdict::Alive;
    }
    let main = match with_all(|all| look(sched, all)) {
        Look::Dead(main) => main,
        Look::Doubt(suspect, switches) => {
            doubt.is_there(sched, suspect, switches);
            return Verdict::Unsure;
        }
        Look::Verdict(verdict) => {
            doubt.since = None;
            return verdict;
        }
    };
    if sched.config.deadlock == Deadlock::Exit {
        crate::throw::fatal(format_args!("{MESSAGE}"));
    }
    give_up(sched, main)
}

/// Looks for the main goroutine to be given up.
fn look(sched: &'static Sched, all: &[&'static Sched]) -> Look {
    for other in all.iter().filter(|s| !s.stopped()) {
        let own = std::ptr::eq(*other, sched);
        // Nobody tells this sysmon of what goes on elsewhere.
        if !own && (other.num_goroutines() > 0 || other.first_timer() != Nanos::NEVER) {
            return Look::Verdict(Verdict::Unsure);
        }
        if other.first_timer() != Nanos::NEVER {
            return Look::Verdict(Verdict::Alive);
        }
    }
    let Some(before) = asleep(all) else { return Look::Verdict(Verdict::Unsure) };
    if OUTSIDE.load(Ordering::Relaxed) > 0 {
        return Look::Verdict(Verdict::Unsure);
    }
    match threads::others(sched.config.other_threads.unwrap_or_default()) {
        Others::None => {}
        // sysmon is told when it ends (`thread`).
        Others::Users => return Look::Verdict(Verdict::Alive),
        Others::Strangers => return Look::Doubt(Suspect::Stranger, before),
    }
    if let Some(signal) = handlers::foreign() {
        return Look::Doubt(Suspect::Handler(signal), before);
    }
    let main = youngest(sched);
    fence(Ordering::SeqCst);
    match main {
        Some(main) if asleep(all) == Some(before) => Look::Dead(main),
        _ => Look::Verdict(Verdict::Unsure),
    }
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
            // What was abandoned there stays asleep; what goes on to its next scheduling point does not, nor do the destructors
            // of what never ran, wherever they run.
            if attached != 0 || visited || !sched.sysmon.is_gone() {
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
        // The scheduler may be freed while the record of the wait still lies in a queue.
        gp.sched.store(std::ptr::null_mut(), Ordering::Release);
        sched.finished_outside.fetch_add(1, Ordering::Release);
        abandon(gp, DEADLOCKED);
    }
    Verdict::Reported
}
