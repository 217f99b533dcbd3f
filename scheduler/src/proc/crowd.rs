//! Ps that are in each other's way.
//!
//! Goroutines that do little else than use the same channel gain nothing by running on two Ps: one waits for the channel's
//! lock while the other has it, each turn brings the lock's line and what lies under it from core to core, and all of it takes
//! several times as long as on one P. If there are many of them, the wait that is expected in their queue (`wake`) makes them look
//! worth taking apart nevertheless. So a P looks every now and then which part of its time it has waited at short locks:
//!
//! - From an eighth on its goroutines **stay together** for a while. As long as they are fine, so that its queue is through in
//!   a moment, nobody is woken for its length, and no thief takes anything for it.
//! - From a quarter on the P **sits out**: it leaves its goroutines to the other Ps, by way of the global queue, and
//!   becomes idle. After the while it is woken as for any backlog, and finds out whether things have changed.
//!
//! They do so one after the other, so there remain as many as lose less than a quarter. A P whose goroutines run for some
//! microseconds in between (coarse) takes no part in this: there is enough else that they do. Nor do waits count at locks for
//! which others wait than goroutines (plain threads, an M that fires timers): it does not help those that a P sits out.
//!
//! **How long others wait for it.** While a P sits out each of the others takes its share of the global queue along once in a window
//! of its estimate, so that what was left counts as their backlog, and waits in their local queues for as long as anything there
//! does: for a time slice, if those before it hand over to each other all the time. What stands still behind a goroutine that
//! computes is stolen as ever, once sysmon has seen it. When contention gives way to tasks of some ten microseconds, which stand still for less, it takes until the estimate
//! has seen them, a window; that was seen to cost 0.1 to 0.5 ms.
//!
//! I1: **Nothing is left behind.** Who sits out does not look at the global queue again, as who has no work does (`idle`, step 4): there
//! is work in it, that is the point. It need not if, after its P has become idle, some P is not: the M of that one comes by the
//! queue, before it sleeps at the latest, and if it computes or blocks first, sysmon comes by. If all are idle it looks as usual. Who
//! has been counted as a spinner does not sit out, since others rely on its look.
//!
//! **Rejected**: comparing what a P gets done beside others and alone (by what? Goroutines that are apart park more often for the same
//! work, so that switches say nothing); a longer expected wait before anybody is woken (goroutines that share nothing would
//! have to wait for it as well); counting the global queue as everybody's backlog (what was preempted lies there, and mutex_no_spin took
//! 562 ns instead of 424); one mark for the whole scheduler (one busy channel would keep all others on their Ps); leaving what
//! a P leaves to the every 61st look at the global queue (beside two goroutines that hand over to each other, 200 that were left
//! waited for up to a second).
//!
//! docs/wake-policy.md has the measurement. Modelled in `tests/loom_idle.rs`.

use super::find_runnable::take_share;
use super::park::getm;
use crate::g::G;
use crate::m::M;
use crate::p::{COARSE, Owned, P};
use crate::runq::FINE;
use crate::sched::Sched;
use crate::sync::atomic::Ordering;
use crate::time::clock::Nanos;

/// Nanoseconds after which a P looks. In a model each wait decides.
const SPAN: u64 = if cfg!(shuttle) { 0 } else { 200_000 };
/// No wait counts for more: a longer one is for a holder that has lost its core.
const LONGEST: u64 = 12_500;
/// For so many goroutines stay together. To find out whether they still should takes a span.
const WHILE: u64 = 10_000_000;
/// Between two Ps that sit out: so long that the first one is missed, if it is.
const APART: u64 = 2 * SPAN;
/// The part of its time from which on the goroutines of a P stay together, and from which on it sits out. Where Ps get on with each
/// other it is nothing, where they do not a third to a half.
const SOME: u64 = 8;
const MUCH: u64 = 4;

/// The nanoseconds for which an M was kept waiting at short locks, and those in which that happened, since it took its P.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Met {
    waited: u64,
    took: u64,
}

/// The goroutine that calls was kept waiting at a short lock, for so many nanoseconds.
pub(crate) fn met(gp: &'static G, nanos: u64) {
    let mp = getm(gp);
    let met = mp.met.get();
    let nanos = if cfg!(shuttle) { u64::from(u32::MAX) } else { nanos.min(LONGEST) };
    mp.met.set(Met { waited: met.waited + nanos, ..met });
}

/// Ends a window of the estimate, and looks if it is time. The caller is the M that holds the P.
#[cold]
pub(super) fn look(sched: &'static Sched, mp: &'static M, pp: &'static P, owned: &mut Owned) {
    let Met { waited, mut took } = mp.met.get();
    took += pp.end_window(owned);
    let now = owned.window.0;
    // Relaxed, as all here: hints.
    let sat_out = sched.sat_out.load(Ordering::Relaxed);
    if now.since(Nanos(sat_out)) < WHILE {
        take_share(sched, pp);
    }
    if took < SPAN {
        mp.met.set(Met { waited, took });
        return;
    }
    mp.met.set(Met::default());
    if waited == 0 || SOME * waited < took || (pp.watched.estimate.nanos() >= COARSE && !cfg!(shuttle)) {
        return;
    }
    pp.watched.together_until.store(now.0 + WHILE, Ordering::Relaxed);
    if MUCH * waited >= took && now.since(Nanos(sat_out)) >= APART {
        let first = sched.sat_out.compare_exchange(sat_out, now.0, Ordering::Relaxed, Ordering::Relaxed);
        owned.sits_out = first.is_ok();
    }
}

/// Whether what waits in the queue of a P stays together at some moment.
#[inline]
pub(super) fn stays_together(pp: &P, now: impl FnOnce() -> Nanos) -> bool {
    let until = pp.watched.together_until.load(Ordering::Relaxed);
    until != 0 && pp.watched.estimate.nanos() < FINE && now().0 < until
}

/// Whether a P but the caller's is not idle.
pub(super) fn others_are_busy(sched: &'static Sched) -> bool {
    (sched.idle.npidle() as usize) + 1 < sched.max_procs()
}
