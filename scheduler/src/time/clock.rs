//! The monotonic clock as one number (Go's `nanotime`).

use crossbeam_utils::CachePadded;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A point of the system's monotonic clock, in nanoseconds. [`Nanos::NEVER`] lies after all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

impl Nanos {
    /// After every other point.
    pub const NEVER: Nanos = Nanos(u64::MAX);

    /// The clock's time.
    #[inline]
    pub fn now() -> Nanos {
        #[cfg(shuttle)]
        let now = crate::sync::shuttle::now();
        #[cfg(loom)]
        let now = crate::model::now();
        #[cfg(not(any(loom, shuttle)))]
        let now = {
            let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: `ts` is a valid place for the answer, and this clock always exists.
            unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut ts) };
            ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
        };
        Nanos(now)
    }

    /// The point that much later; what would be past the end of the clock is [`Nanos::NEVER`].
    #[inline]
    pub fn after(self, d: Duration) -> Nanos {
        u64::try_from(d.as_nanos()).map_or(Nanos::NEVER, |d| Nanos(self.0.saturating_add(d)))
    }

    /// Nanoseconds since an earlier point, 0 if it is later.
    #[inline]
    pub fn since(self, earlier: Nanos) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// As the kernel wants it; `None` for [`Nanos::NEVER`].
    pub fn to_timespec(self) -> Option<libc::timespec> {
        (self != Nanos::NEVER).then_some(libc::timespec {
            tv_sec: (self.0 / 1_000_000_000) as _,
            tv_nsec: (self.0 % 1_000_000_000) as libc::c_long,
        })
    }
}

/// The seconds of the clock when somebody last read it ([`Nanos::note`]). On a line of its own: every park reads it.
static SECONDS: CachePadded<AtomicU32> = CachePadded::new(AtomicU32::new(0));

/// The clock's seconds, a little late, without reading the clock. While any P works sysmon keeps them fresh.
#[inline(always)]
pub fn coarse_seconds() -> u32 {
    // Relaxed: a number for reports.
    SECONDS.load(Ordering::Relaxed)
}

impl Nanos {
    /// Whole seconds.
    #[inline]
    pub fn seconds(self) -> u32 {
        (self.0 / 1_000_000_000) as u32
    }

    /// Lets [`coarse_seconds`] know of a time that was just read.
    #[inline]
    pub fn note(self) {
        // Relaxed: a number for reports; a store in vain would take the line from all who read it.
        if SECONDS.load(Ordering::Relaxed) != self.seconds() {
            SECONDS.store(self.seconds(), Ordering::Relaxed);
        }
    }
}

/// One moment by the two clocks. That of `std`, whose numbers cannot be seen, was read first: so what it says later is never
/// taken for earlier than it was, and a deadline in these numbers has not come before it has come in those.
static BASE: OnceLock<(Instant, Nanos)> = OnceLock::new();

fn base() -> (Instant, Nanos) {
    *BASE.get_or_init(|| (Instant::now(), Nanos::now()))
}

impl Nanos {
    /// The point that an [`Instant`] names, give or take what passed between two looks at the clock once.
    #[inline]
    pub fn of_instant(t: Instant) -> Nanos {
        if cfg!(any(loom, shuttle)) {
            return Nanos::now();
        }
        let (instant, nanos) = base();
        match t.checked_duration_since(instant) {
            Some(d) => nanos.after(d),
            None => Nanos(nanos.0.saturating_sub(Nanos(0).after(instant - t).0)),
        }
    }

    /// The other way round. Not for [`Nanos::NEVER`].
    #[inline]
    pub fn instant(self) -> Instant {
        let (instant, nanos) = base();
        if self >= nanos {
            instant + Duration::from_nanos(self.0 - nanos.0)
        } else {
            instant - Duration::from_nanos(nanos.0 - self.0)
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn instants_and_nanoseconds_are_the_same_clock() {
        for _ in 0..1000 {
            let (a, n, b) = (Instant::now(), Nanos::now(), Instant::now());
            assert!(Nanos::of_instant(b) >= n, "a deadline would come too early");
            assert_eq!(Nanos::of_instant(a).instant(), a);
            let early = a - Duration::from_secs(1);
            assert_eq!(Nanos::of_instant(early).instant(), early);
        }
    }

    #[test]
    fn adding_saturates_at_never() {
        assert_eq!(Nanos(5).after(Duration::MAX), Nanos::NEVER);
        assert_eq!(Nanos::NEVER.after(Duration::from_secs(1)), Nanos::NEVER);
        assert_eq!(Nanos(5).after(Duration::from_nanos(6)), Nanos(11));
        assert!(Nanos::NEVER.to_timespec().is_none());
    }

    #[test]
    fn the_clock_goes_on() {
        let a = Nanos::now();
        let b = Nanos::now();
        assert!(b >= a && a.since(b) == 0);
    }
}
