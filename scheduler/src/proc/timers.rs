//! Which heap a timer goes to, who is told of it, and what a firing does with the scheduler.
//!
//! A timer goes to the heap of the P that the caller runs on; without one, to any P's.
//!
//! **Telling.** Whoever has made a deadline the first of its heap owes it to the keeper to say so (`keeper`, K1). That may
//! cost a futex call, and often is in vain: a goroutine that goes to sleep leaves its M to look for work, and an M that finds
//! none becomes the keeper itself. So one that is about to park leaves the debt with its P (`untold`). It is paid by whoever
//! has the P next: when its M has found a goroutine to run (then it will not look at the clock for a while), or gives the P up
//! (`pay`). A P with a debt is held by an M that is awake. In the first case, if sysmon will look
//! around before the deadline, the debt is left to it: mostly that goroutine is through long before, and its M becomes
//! the keeper by itself.
//!
//! Who has no P and holds a lock, of a channel whose timer it is, pays when the lock is open ([`tell`]): nobody spins while the
//! kernel is called, or a thread is started.
//!
//! T1: Between the arming and the payment the first deadline may have gone, or another one have taken its place that was not
//! told of because it was not the first. So what is told is not the deadline but that there is one: the keeper's `until` is
//! compared with what is first by then.

use super::newproc::spawn_at;
use super::park::getm;
use super::wake::{HeldP, ready_from_g0};
use crate::g::G;
use crate::p::P;
use crate::sched::{OPEN, Sched};
use crate::sync::atomic::Ordering;
use crate::time::clock::Nanos;
use crate::time::func::{Act, FuncTimer};
use crate::time::{Put, Timer, Timers, may_arm};
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// Until a firing for which there was no stack is tried again.
const AGAIN: Duration = Duration::from_millis(1);
/// Heaps of other Ps that an M under load looks at beside its own, each time that it does.
const OTHERS: usize = 8;

/// What timers may do when they fire: the scheduler that runs them, and the P, if the caller has one.
#[derive(Debug)]
pub struct Firing {
    sched: &'static Sched,
    pp: Option<&'static P>,
    /// The first one made ready runs next, the others in their order behind it; each through `runnext` would run last first.
    first: Option<&'static G>,
    /// The keeper must be told, of a caller without a P, when it is through.
    owes: Option<&'static Sched>,
}

impl Firing {
    fn new(sched: &'static Sched, pp: Option<&'static P>) -> Firing {
        Firing { sched, pp, first: None, owes: None }
    }

    /// Readies a goroutine or a plain thread. The caller owns the right to.
    pub fn ready(&mut self, gp: &'static G) {
        if self.first.is_none() && self.pp.is_some() {
            self.first = Some(gp);
        } else {
            ready_from_g0(self.sched, self.pp, gp, false);
        }
    }

    /// Arms a timer anew. False if the scheduler has ended.
    ///
    /// # Safety
    ///
    /// As for [`Timers::arm`].
    #[must_use]
    pub unsafe fn arm(&mut self, timer: *const Timer, when: Nanos) -> bool {
        let timers = match self.pp {
            Some(pp) => pp.timers,
            None => any_heap(self.sched, when.0 as usize),
        };
        // SAFETY: the caller's promise.
        let put = unsafe { timers.arm(timer, when) };
        self.owes = owe_later(self.sched, self.pp, put).or(self.owes);
        put != Put::Closed
    }

    /// Starts a goroutine, spawned at this place of the program.
    ///
    /// # Errors
    ///
    /// When there can be no stack for it, or the scheduler takes no goroutines any more; with the data.
    pub fn spawn<D, F>(&mut self, at: &'static Location<'static>, data: D, f: F) -> Result<(), D>
    where
        D: Send + 'static,
        F: FnOnce(D) + Send + 'static,
    {
        spawn_at(self.pp, false, self.sched, at, data, f)
    }

    /// Arms a function timer anew that could not act: a little later, for there was no stack; or at once in the fallback, for this
    /// scheduler takes no goroutines any more.
    pub fn arm_again<A: Act>(&mut self, timer: Arc<FuncTimer<A>>) {
        let mut timer = timer;
        if self.sched.state.load(Ordering::Acquire) == OPEN {
            let timers = self.pp.map_or_else(|| any_heap(self.sched, 0), |pp| pp.timers);
            match timer.arm_again(timers, Nanos::now().after(AGAIN)) {
                Ok(put) => return owe(self.sched, self.pp, put),
                Err(closed) => timer = closed,
            }
        }
        match A::fallback() {
            Some(sched) => {
                if let Ok(Put::First) = timer.arm_again(heap_for(sched), Nanos::now()) {
                    told(sched);
                }
            }
            // Lost (F2 of `func`).
            None => std::mem::forget(timer),
        }
    }
}

impl Drop for Firing {
    fn drop(&mut self) {
        if let Some(gp) = self.first.take() {
            ready_from_g0(self.sched, self.pp, gp, true);
        }
        tell(self.owes.take());
    }
}

/// A heap for a caller without a P; `salt` spreads them.
fn any_heap(sched: &'static Sched, salt: usize) -> &'static Timers {
    sched.allp[salt % sched.max_procs()].timers
}

/// A heap of a scheduler to which the caller need not belong. Who is the first in it [tells](told).
pub(crate) fn heap_for(sched: &'static Sched) -> &'static Timers {
    any_heap(sched, 0)
}

/// Tells the keeper of a timer that was put into a heap of [`heap_for`], as its first. No lock is held.
pub(crate) fn told(sched: &'static Sched) {
    sched.timer_is_first();
}

/// Calls `f` with the heap for a timer of the caller, `gp`, and the P that the caller holds.
fn with_heap<R>(
    gp: &'static G,
    sched: &'static Sched,
    f: impl FnOnce(&'static Timers, Option<&'static P>) -> R,
) -> R {
    match HeldP::of(gp, sched) {
        Some(held) => f(held.p().timers, Some(held.p())),
        None => f(any_heap(sched, gp.cheaprand_below(sched.max_procs())), None),
    }
}

/// The debt of an armer who looks for work next: the P's, if there is one.
fn owe(sched: &'static Sched, pp: Option<&'static P>, put: Put) {
    match pp {
        _ if put != Put::First => {}
        // SAFETY: the caller holds the P.
        Some(pp) => unsafe { pp.owned().untold = true },
        None => sched.timer_is_first(),
    }
}

/// The same for one who holds a lock: without a P it pays later, by [`tell`].
#[must_use]
fn owe_later(sched: &'static Sched, pp: Option<&'static P>, put: Put) -> Option<&'static Sched> {
    if pp.is_some() {
        owe(sched, pp, put);
        return None;
    }
    (put == Put::First).then_some(sched)
}

/// Tells the keeper what is owed to it. On any stack; no lock is held.
#[inline]
pub fn tell(owed: Option<&'static Sched>) {
    if let Some(sched) = owed {
        sched.timer_is_first();
    }
}

/// Tells the keeper, if the P owes it, or leaves that to sysmon. The caller holds the P, and runs a goroutine next.
#[inline]
pub(super) fn pay(sched: &'static Sched, pp: &'static P) {
    // SAFETY: the caller holds the P.
    if std::mem::take(unsafe { &mut pp.owned().untold }) && !sched.sysmon.looks_before(pp.timers.first()) {
        sched.timer_is_first();
    }
}

/// Arms a timer for a goroutine that has just parked. Called by the commit of its park, on g0.
///
/// # Safety
///
/// As for [`Timers::arm`]; `gp` is that goroutine, which this M ran last.
pub unsafe fn arm_parked(gp: &'static G, sched: &'static Sched, timer: *const Timer, when: Nanos) {
    let pp = getm(gp).try_p();
    let timers = pp.map_or_else(|| any_heap(sched, gp.cheaprand_below(sched.max_procs())), |pp| pp.timers);
    // SAFETY: the caller's promise.
    let put = unsafe { timers.arm(timer, when) };
    owe(sched, pp, put);
}

/// A timer is not armed, because the scheduler has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// Arms a timer for the caller, `gp`, who parks next. What it gives must be [told](tell) when no lock is held.
///
/// # Errors
///
/// When the scheduler has ended.
///
/// # Safety
///
/// As for [`Timers::arm`].
pub unsafe fn arm_parking(
    gp: &'static G,
    sched: &'static Sched,
    timer: *const Timer,
    when: Nanos,
) -> Result<Option<&'static Sched>, Closed> {
    with_heap(gp, sched, |timers, pp| {
        // SAFETY: the caller's promise.
        match unsafe { timers.arm(timer, when) } {
            Put::Closed => Err(Closed),
            put => Ok(owe_later(sched, pp, put)),
        }
    })
}

/// Arms a timer for the caller, `gp`, who goes on. What it gives must be [told](tell) when no lock is held.
///
/// # Errors
///
/// As for [`arm_parking`].
///
/// # Safety
///
/// As for [`Timers::arm`].
pub unsafe fn arm(
    gp: &'static G,
    sched: &'static Sched,
    timer: *const Timer,
    when: Nanos,
) -> Result<Option<&'static Sched>, Closed> {
    // SAFETY: the caller's promise.
    match with_heap(gp, sched, |timers, _| unsafe { timers.arm(timer, when) }) {
        Put::Closed => Err(Closed),
        put => Ok(owe_later(sched, None, put)),
    }
}

/// Arms a timer in a scheduler that does not end, and to which the caller need not belong; on any stack. What it gives must be
/// [told](tell) when no lock is held.
///
/// # Safety
///
/// As for [`Timers::arm`].
#[must_use]
pub unsafe fn arm_elsewhere(
    sched: &'static Sched,
    timer: *const Timer,
    when: Nanos,
) -> Option<&'static Sched> {
    // SAFETY: the caller's promise.
    let put = unsafe { any_heap(sched, when.0 as usize).arm(timer, when) };
    owe_later(sched, None, put)
}

/// Arms a function timer for the caller, `gp`, anew if it was armed; whether it was.
///
/// # Panics
///
/// When there is no memory for a timer; nothing is changed.
#[track_caller]
pub fn arm_func<A: Act>(
    gp: &'static G,
    sched: &'static Sched,
    timer: &Arc<FuncTimer<A>>,
    when: Nanos,
) -> bool {
    may_arm().unwrap_or_else(|short| short.refuse());
    let (was, put) = with_heap(gp, sched, |timers, _| timer.arm(timers, when));
    match put {
        Put::First => sched.timer_is_first(),
        Put::Later => {}
        // The caller's last steps: its scheduler has ended.
        Put::Closed => {
            if let Some(sched) = A::fallback()
                && timer.arm(heap_for(sched), when).1 == Put::First
            {
                told(sched);
            }
        }
    }
    was
}

/// Starts a goroutine for a timer that is due as soon as the caller, `me`, arms it.
///
/// # Errors
///
/// As for [`Firing::spawn`].
pub fn spawn_now<D, F>(
    me: &'static G,
    sched: &'static Sched,
    at: &'static Location<'static>,
    data: D,
    f: F,
) -> Result<(), D>
where
    D: Send + 'static,
    F: FnOnce(D) + Send + 'static,
{
    let held = HeldP::of(me, sched);
    spawn_at(held.as_ref().map(HeldP::p), true, sched, at, data, f)
}

/// Starts a goroutine in a scheduler that does not end, and to which the caller need not belong. On any stack.
///
/// # Errors
///
/// When there can be no stack for it.
pub fn spawn_elsewhere<D, F>(
    sched: &'static Sched,
    at: &'static Location<'static>,
    data: D,
    f: F,
) -> Result<(), D>
where
    D: Send + 'static,
    F: FnOnce(D) + Send + 'static,
{
    spawn_at(None, false, sched, at, data, f)
}

/// Runs the timers that are due, if it is time to look: of this P on every pass that finds its queue empty, of this one and
/// some others in turns every so often.
#[inline]
pub(super) fn run_timers(sched: &'static Sched, pp: &'static P) {
    // SAFETY: this M holds the P.
    let owned = unsafe { pp.owned() };
    if owned.timer_countdown > 0 {
        owned.timer_countdown -= 1;
        if pp.timers.first() == Nanos::NEVER || !pp.runq.is_empty() {
            return;
        }
        run_heaps(sched, pp, std::iter::once(pp.timers));
    } else {
        look_around(sched, pp);
    }
}

#[inline(never)]
fn look_around(sched: &'static Sched, pp: &'static P) {
    let n = sched.allp.len();
    let others = OTHERS.min(n - 1);
    // SAFETY: this M holds the P.
    let from = unsafe {
        let owned = pp.owned();
        owned.timer_countdown = pp.passes_in(TIMER_EVERY);
        owned.timers_from = owned.timers_from.wrapping_add(others);
        owned.timers_from
    };
    let others = (0..others).map(|i| sched.allp[from.wrapping_add(i) % n].timers);
    run_heaps(sched, pp, std::iter::once(pp.timers).chain(others));
}

/// Nanoseconds between two looks at the timers under load.
const TIMER_EVERY: u64 = 20_000;

/// Runs the timers of all Ps that are due. True if there were any.
pub(super) fn steal_timers(sched: &'static Sched, pp: &'static P) -> bool {
    run_heaps(sched, pp, sched.allp.iter().map(|other| other.timers))
}

/// Runs what is due in some heaps. True if something was. The caller holds the P.
fn run_heaps(sched: &'static Sched, pp: &'static P, heaps: impl Iterator<Item = &'static Timers>) -> bool {
    let mut now = None;
    let mut any = false;
    let mut firing = Firing::new(sched, Some(pp));
    for timers in heaps {
        let first = timers.first();
        if first == Nanos::NEVER || first > *now.get_or_insert_with(Nanos::now) {
            continue;
        }
        any = true;
        if let Some(now) = now
            && timers.run_due(now, &mut firing)
        {
            // SAFETY: this M holds the P.
            unsafe { pp.owned().timer_countdown = 0 };
        }
    }
    any
}

/// Runs what is due in all heaps, for sysmon, which has no P.
pub(super) fn run_without_p(sched: &'static Sched) {
    // Between the timer and what it does it is seen nowhere else (`deadlock`).
    let _visit = sched.visit();
    let now = Nanos::now();
    let mut firing = Firing::new(sched, None);
    for pp in sched.allp.iter() {
        while pp.timers.run_due(now, &mut firing) {}
    }
    drop(firing);
}

/// The scheduler has stopped: its timers fire elsewhere, or never (I4 of `time`).
pub(super) fn end(sched: &'static Sched) {
    sched.allp.iter().for_each(|pp| pp.timers.end());
}

impl Sched {
    /// The first deadline of all. Each heap is looked at once; a deadline that goes from one to another one at that moment may
    /// be missed, but whoever moves it tells of it after.
    pub(crate) fn first_timer(&self) -> Nanos {
        self.allp.iter().map(|pp| pp.timers.first()).min().unwrap_or(Nanos::NEVER)
    }

    /// True if a deadline has passed.
    pub(super) fn timer_is_due(&self) -> bool {
        let first = self.first_timer();
        first != Nanos::NEVER && first <= Nanos::now()
    }
}
