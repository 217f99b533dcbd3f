//! [`Ticker`]: the time again and again; [`tick`].

use super::chan;
use gort_channel::Receiver;
use gort_scheduler::proc::preempt_point;
use std::time::{Duration, Instant};

/// A channel that receives the time at regular intervals (Go's `time.Ticker`).
///
/// Ticks keep their phase: each is a multiple of the period after the first, however late they are received. A slow receiver
/// finds one tick waiting, and misses the others of the time that it was away. Dropping the ticker stops it, also for clones of
/// its receiver.
///
/// ```
/// # use std::time::Duration;
/// let period = Duration::from_millis(1);
/// let ticker = gort::time::Ticker::new(period);
/// let (a, b) = (ticker.c().recv().unwrap(), ticker.c().recv().unwrap());
/// assert!(b - a >= period);
/// assert_eq!((b - a).as_nanos() % period.as_nanos(), 0);
/// ```
#[derive(Debug)]
pub struct Ticker {
    c: Receiver<Instant>,
}

const _: () = {
    const fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Ticker>();
};

impl Ticker {
    /// A ticker whose first tick comes after `d` (Go's `time.NewTicker`). `Duration::MAX` is for ever.
    ///
    /// # Panics
    ///
    /// `non-positive interval for Ticker::new` when `d` is zero.
    ///
    /// ```should_panic
    /// gort::time::Ticker::new(std::time::Duration::ZERO);
    /// ```
    #[track_caller]
    pub fn new(d: Duration) -> Ticker {
        assert!(!d.is_zero(), "non-positive interval for Ticker::new");
        Ticker { c: chan::every(d) }
    }

    /// The channel. What comes out of it is the instant at which the tick was due. It is never closed; its `len` and `cap` are 0.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let ticker = gort::time::Ticker::new(Duration::from_millis(1));
    /// assert_eq!(ticker.c().iter().take(2).count(), 2);
    /// ```
    pub fn c(&self) -> &Receiver<Instant> {
        &self.c
    }

    /// Ends the ticking (Go's `Ticker.Stop`): nothing is received after this, until a [`reset`](Ticker::reset). The channel stays
    /// open.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let ticker = gort::time::Ticker::new(Duration::from_nanos(1));
    /// ticker.stop();
    /// assert!(ticker.c().try_recv().is_err());
    /// ```
    pub fn stop(&self) {
        gort_channel::timer::stop(&self.c);
        preempt_point();
    }

    /// Starts the ticking anew with another period (Go's `Ticker.Reset`); the next tick comes `d` from now. What was due before is
    /// not received any more.
    ///
    /// # Panics
    ///
    /// `non-positive interval for Ticker::reset` when `d` is zero.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// let ticker = gort::time::Ticker::new(Duration::from_secs(3600));
    /// let start = Instant::now();
    /// ticker.reset(Duration::from_millis(1));
    /// assert!(ticker.c().recv().unwrap() >= start + Duration::from_millis(1));
    /// ```
    #[track_caller]
    pub fn reset(&self, d: Duration) {
        assert!(!d.is_zero(), "non-positive interval for Ticker::reset");
        chan::reset_every(&self.c, d);
        preempt_point();
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        gort_channel::timer::stop(&self.c);
    }
}

/// The channel of a [`Ticker`] that is stopped by dropping its receivers (Go's `time.Tick`). Zero gives the nil channel, from which
/// nothing comes.
///
/// ```
/// # use std::time::Duration;
/// assert_eq!(gort::time::tick(Duration::from_millis(1)).iter().take(3).count(), 3);
/// assert_eq!(gort::time::tick(Duration::ZERO), gort::Receiver::nil());
/// ```
pub fn tick(d: Duration) -> Receiver<Instant> {
    if d.is_zero() { Receiver::nil() } else { chan::every(d) }
}
