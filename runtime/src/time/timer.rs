//! [`Timer`]: one event in the future, which may be called off or put off.

use super::after_func;
use crate::global::sched_of;
use gort_channel::{Receiver, Sender, channel};
use gort_scheduler::proc::{getg, preempt_point, timers};
use gort_scheduler::time::Firing;
use gort_scheduler::time::clock::Nanos;
use gort_scheduler::time::func::{Act, FuncTimer};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One event in the future (Go's `time.Timer`): a value in a channel, or, from
/// [`after_func`](crate::time::after_func()), a call of a function.
pub struct Timer {
    calls: Arc<dyn Calls>,
}

/// A function timer, whatever it calls.
pub(super) trait Calls: Send + Sync {
    fn stop(self: Arc<Self>) -> bool;
    fn reset(self: Arc<Self>, d: Duration) -> bool;
}

impl<F: FnMut() + Send + 'static> Calls for FuncTimer<after_func::Call<F>> {
    fn stop(self: Arc<Self>) -> bool {
        let was = FuncTimer::stop(&self);
        preempt_point();
        was
    }

    fn reset(self: Arc<Self>, d: Duration) -> bool {
        after_func::arm(&self, d)
    }
}

impl Timer {
    pub(super) fn calls(calls: Arc<dyn Calls>) -> Timer {
        Timer { calls }
    }

    /// Calls the timer off (Go's `Timer.Stop`). True if it was still to come.
    ///
    /// A function that is being called goes on.
    pub fn stop(&self) -> bool {
        self.calls.clone().stop()
    }

    /// Has the timer fire `d` from now (Go's `Timer.Reset`), whether it has fired or not. True if it was still to come.
    pub fn reset(&self, d: Duration) -> bool {
        self.calls.clone().reset(d)
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").finish_non_exhaustive()
    }
}

/// A channel that receives the time once, after `d` (Go's `time.After`). It is never closed; after `Duration::MAX`,
/// which is for ever, nothing comes.
///
/// ```
/// use std::time::Duration;
/// let ch = gort::chan::<i32>(0);
/// let late = gort::select! {
///     recv(ch) -> _ => false,
///     recv(gort::time::after(Duration::from_millis(1))) -> _ => true,
/// };
/// assert!(late);
/// ```
pub fn after(d: Duration) -> Receiver<Instant> {
    let (tx, rx) = channel(1);
    let bell = Bell(Some(tx));
    if d.is_zero() {
        bell.ring();
    } else {
        let me = getg();
        timers::arm_func(me, sched_of(me), &FuncTimer::new(bell), Nanos::now().after(d));
    }
    rx
}

/// The sending half of a channel that is never closed.
struct Bell(Option<Sender<Instant>>);

impl Bell {
    fn ring(&self) {
        if let Some(tx) = &self.0 {
            let _ = tx.try_send(Instant::now());
        }
    }
}

impl Act for Bell {
    fn act(timer: Arc<FuncTimer<Self>>, _firing: &mut Firing) {
        timer.action().ring();
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        if let Some(tx) = self.0.take() {
            tx.leave_open();
        }
    }
}
