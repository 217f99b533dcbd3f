//! Timer channels as the facade makes them: durations from now, in the runtime of whoever waits.

use crate::global::{global, sched_of};
use gort_channel::{Receiver, timer};
use gort_scheduler::proc::getg;
use gort_scheduler::sched::Sched;
use gort_scheduler::time::clock::Nanos;
use std::time::{Duration, Instant};

/// The clock of timer channels, whose values are to be compared with `Instant::now()`.
fn now() -> Nanos {
    Nanos::of_instant(Instant::now())
}

/// Where plain threads arm timers.
fn fallback() -> &'static Sched {
    global().sched()
}

/// A channel that receives the time once.
pub(super) fn once(d: Duration) -> Receiver<Instant> {
    make(d, 0)
}

/// A channel that receives the time again and again; `d` is not zero.
pub(super) fn every(d: Duration) -> Receiver<Instant> {
    make(d, period(d))
}

fn make(d: Duration, period: u64) -> Receiver<Instant> {
    // A plain thread may be the only one that waits for it.
    sched_of(getg());
    timer::make(now().after(d), period, fallback)
}

/// As a number; what is longer than the clock is for ever in any case.
fn period(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// Sets a timer that fires once anew.
pub(super) fn reset(c: &Receiver<Instant>, d: Duration) -> bool {
    timer::reset(c, now().after(d), 0)
}

/// Sets a ticker anew; `d` is not zero.
pub(super) fn reset_every(c: &Receiver<Instant>, d: Duration) {
    timer::reset(c, now().after(d), period(d));
}
