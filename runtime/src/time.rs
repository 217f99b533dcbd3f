//! Time: waiting for it, and channels that tell it.

use crate::global::sched_of;
use gort_channel::{Receiver, Sender, channel};
use gort_scheduler::proc::getg;
use gort_scheduler::time::clock::Nanos;
use gort_scheduler::time::sleep::{call_at, sleep_until};
use std::time::{Duration, Instant};

/// Sleeps for at least `d` (Go's `time.Sleep`): parks the goroutine, or blocks the plain thread. Zero returns at once;
/// `Duration::MAX` is for ever.
///
/// ```
/// use std::time::{Duration, Instant};
/// let start = Instant::now();
/// gort::time::sleep(Duration::from_millis(2));
/// assert!(start.elapsed() >= Duration::from_millis(2));
/// ```
pub fn sleep(d: Duration) {
    if !d.is_zero() {
        sleep_until(Nanos::now().after(d));
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
    match Nanos::now().after(d) {
        _ if d.is_zero() => bell.ring(),
        deadline => call_at(sched_of(getg()), deadline, Box::new(move || bell.ring())),
    }
    rx
}

/// The sending half of a channel that is never closed, whether the timer fires, or never does, or goes with its
/// runtime.
struct Bell(Option<Sender<Instant>>);

impl Bell {
    fn ring(self) {
        if let Some(tx) = &self.0 {
            // There is room for the one value; without a receiver it has nowhere to go.
            let _ = tx.try_send(Instant::now());
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        if let Some(tx) = self.0.take() {
            tx.leave_open();
        }
    }
}
