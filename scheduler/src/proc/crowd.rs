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
//! microseconds in between (coarse) takes no part in this: there is enough else that they do. What stands still behind a
//! goroutine that computes is stolen as ever, so who stays together waits for it no longer than sysmon takes to see that.
//!
//! I1: **Nothing is left behind.** Who sits out does not look at the global queue again, as who has no work does (`idle`, step 4): there
//! is work in it, that is the point. It need not if, after its P has become idle, some P is not: the M of that one comes by the
//! queue, before it sleeps at the latest, and if it computes or blocks first, sysmon comes by. If all are idle it looks as usual. Who
//! has been counted as a spinner does not sit out, since others rely on its look.
//!
//! **Rejected**: comparing what a P gets done beside others and alone (by what? Goroutines that are apart park more often for the same
//! work, so that switches say nothing); a longer expected wait before anybody is woken (goroutines that share nothing would
//! have to wait for it as well); one mark for the whole scheduler (one busy channel would keep all others on their Ps).
//!
//! docs/wake-policy.md has the measurement. Modelled in `tests/loom_idle.rs`.

use super::park::getm;
use crate::m::M;
use crate::p::{COARSE, Owned, P};
use crate::runq::FINE;
use crate::sched::Sched;
use crate::stack;
use crate::sync::atomic::Ordering;
use crate::time::clock::Nanos;

/// Nanoseconds after which a P looks: long enough that one wait behind a holder that has lost its core does not decide. In a model
/// each wait does.
const SPAN: u64 = if cfg!(shuttle) { 0 } else { 200_000 };
/// For so many goroutines stay together. To find out whether they still should takes a span.
const WHILE: u64 = 10_000_000;
/// Between two Ps that sit out: so long that the first one is missed, if it is.
const APART: u64 = 2 * SPAN;
/// The part of its time from which on the goroutines of a P stay together, and from which on it sits out. Where Ps get on with each
/// other it is nothing, where they do not a third to a half.
const SOME: u64 = 8;
const MUCH: u64 = 4;

/// The nanoseconds for which an M was kept waiting at short locks, and those in which that happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Met {
    waited: u64,
    took: u64,
}

/// The caller was kept waiting at a short lock, for so many nanoseconds.
pub(crate) fn met(nanos: u64) {
    // What an M waits for on g0 is no business of its goroutines.
    let Some(gp) = stack::current_head() else { return };
    let mp = getm(gp);
    let met = mp.met.get();
    let nanos = if cfg!(shuttle) { u64::from(u32::MAX) } else { nanos };
    mp.met.set(Met { waited: met.waited + nanos, ..met });
}

/// Ends a window of the estimate, and looks if it is time. The caller is the M that holds the P.
#[cold]
pub(super) fn look(sched: &'static Sched, mp: &'static M, pp: &'static P, owned: &mut Owned) {
    let Met { waited, mut took } = mp.met.get();
    took += pp.end_window(owned);
    if took < SPAN {
        mp.met.set(Met { waited, took });
        return;
    }
    mp.met.set(Met::default());
    if waited == 0 || SOME * waited < took || (pp.watched.estimate.nanos() >= COARSE && !cfg!(shuttle)) {
        return;
    }
    let now = owned.window.0;
    // Relaxed, as all here: hints.
    pp.watched.together_until.store(now.0 + WHILE, Ordering::Relaxed);
    if MUCH * waited >= took && now.since(Nanos(sched.sat_out.load(Ordering::Relaxed))) >= APART {
        owned.sits_out = true;
        sched.sat_out.store(now.0, Ordering::Relaxed);
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
