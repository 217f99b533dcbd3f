//! Sleeping.

use gort_scheduler::time::clock::Nanos;
use gort_scheduler::time::sleep::sleep_until;
use std::time::Duration;

/// Sleeps for at least `d` (Go's `time.Sleep`): parks the goroutine, or blocks the plain thread. Zero returns at once;
/// `Duration::MAX` is for ever.
///
/// ```
/// use std::time::{Duration, Instant};
/// let start = Instant::now();
/// gort::time::sleep(Duration::from_millis(2));
/// assert!(start.elapsed() >= Duration::from_millis(2));
/// ```
#[track_caller]
pub fn sleep(d: Duration) {
    if !d.is_zero() {
        sleep_until(Nanos::now().after(d));
    }
}
