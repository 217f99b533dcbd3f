//! [`Semaphore`]: the face of [`gort_scheduler::sema::semaphore`], with waits that a context ends.

use crate::context::{self, Context, ContextError, StopFunc};
use gort_scheduler::memory;
use gort_scheduler::sema;
use gort_scheduler::sema::semaphore::Cancel;
use gort_scheduler::time::clock::Nanos;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

/// A number of permits, taken several at a time (Go's `semaphore.Weighted`).
///
/// Who asks for more than there are waits: a goroutine parks, a plain thread blocks. Whoever came first is served first, and
/// nobody overtakes: a small request waits behind a large one, even if there are permits for it. So a permit that is given back
/// while somebody waits is that one's, also if the giver asks for it again at once; where that is not wanted, a
/// [`Mutex`](super::Mutex) is faster.
///
/// ```
/// use gort::sync::Semaphore;
/// static DOWNLOADS: Semaphore = Semaphore::new(3);
///
/// gort::scope(|s| {
///     for _ in 0..10 {
///         s.go(|| {
///             DOWNLOADS.acquire(1);
///             // at most three at a time
///             DOWNLOADS.release(1);
///         });
///     }
/// });
/// ```
pub struct Semaphore {
    raw: sema::Semaphore,
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Semaphore>();
};

// A panic leaves it as it is: no code of others runs while it changes.
impl UnwindSafe for Semaphore {}
impl RefUnwindSafe for Semaphore {}

impl Semaphore {
    /// A semaphore with `permits` free ones.
    ///
    /// ```
    /// static ONE: gort::sync::Semaphore = gort::sync::Semaphore::new(1);
    /// assert!(ONE.try_acquire(1));
    /// ```
    pub const fn new(permits: usize) -> Semaphore {
        Semaphore { raw: sema::Semaphore::new(permits) }
    }

    /// Takes `k` permits: waits until all of them are there, and everybody who came before has got theirs.
    ///
    /// More than there are altogether may be asked for: the wait ends when [`release`](Semaphore::release) has added enough, and
    /// until then everybody else waits behind it.
    ///
    /// ```
    /// let sem = gort::sync::Semaphore::new(2);
    /// sem.acquire(2);
    /// assert!(!sem.try_acquire(1));
    /// ```
    #[inline]
    #[track_caller]
    pub fn acquire(&self, k: usize) {
        self.raw.acquire_until(k, Nanos::NEVER);
    }

    /// Takes `k` permits, if they are there and nobody waits.
    ///
    /// ```
    /// let sem = gort::sync::Semaphore::new(2);
    /// assert!(sem.try_acquire(2) && !sem.try_acquire(1) && sem.try_acquire(0));
    /// ```
    #[inline]
    pub fn try_acquire(&self, k: usize) -> bool {
        self.raw.try_acquire(k)
    }

    /// As [`acquire`](Semaphore::acquire), for at most `d`. False, with nothing taken, when the time is over.
    ///
    /// ```
    /// use std::time::Duration;
    /// let sem = gort::sync::Semaphore::new(1);
    /// assert!(!sem.acquire_timeout(2, Duration::from_millis(1)));
    /// assert!(sem.acquire_timeout(1, Duration::ZERO));
    /// ```
    #[must_use]
    #[track_caller]
    pub fn acquire_timeout(&self, k: usize, d: Duration) -> bool {
        self.raw.take(k) || self.raw.acquire_until(k, Nanos::now().after(d))
    }

    /// As [`acquire`](Semaphore::acquire), until `ctx` is done (x/sync's `Acquire`).
    ///
    /// # Errors
    ///
    /// When `ctx` is done, also if it was before, or is by the time that the permits are there; then nothing is taken.
    ///
    /// ```
    /// use gort::context::{self, ContextError};
    /// let sem = gort::sync::Semaphore::new(1);
    /// let (ctx, cancel) = context::with_cancel(&context::background());
    /// assert_eq!(sem.acquire_context(1, &ctx), Ok(()));
    /// cancel();
    /// assert_eq!(sem.acquire_context(1, &ctx), Err(ContextError::Canceled));
    /// ```
    #[track_caller]
    pub fn acquire_context(&self, k: usize, ctx: &Context) -> Result<(), ContextError> {
        ctx.check()?;
        if self.raw.take(k) {
            return Ok(());
        }
        let cancel = memory::arc("a wait for a context", Cancel::new(&self.raw));
        let registered = Registered(context::call_when_done(ctx, {
            let cancel = cancel.clone();
            move || cancel.cancel()
        }));
        let got = self.raw.acquire_or(k, &cancel);
        drop(registered);
        let done = ctx.check();
        if done.is_err() && got {
            self.release(k);
        }
        done
    }

    /// As [`acquire`](Semaphore::acquire), with a guard that gives the permits back when it goes.
    ///
    /// ```
    /// let sem = gort::sync::Semaphore::new(1);
    /// {
    ///     let _one = sem.acquire_guard(1);
    ///     assert!(!sem.try_acquire(1));
    /// }
    /// assert!(sem.try_acquire(1));
    /// ```
    #[track_caller]
    pub fn acquire_guard(&self, k: usize) -> SemaphoreGuard<'_> {
        self.acquire(k);
        SemaphoreGuard { of: self, permits: k }
    }

    /// Gives `k` permits back, or adds as many: they need not have been taken before.
    ///
    /// # Panics
    ///
    /// `semaphore: too many permits`, when there would be more free ones than a `usize` can count; then none is added.
    ///
    /// ```
    /// let sem = gort::sync::Semaphore::new(0);
    /// sem.release(2);
    /// sem.acquire(2);
    /// ```
    #[inline]
    #[track_caller]
    pub fn release(&self, k: usize) {
        assert!(self.raw.release(k), "semaphore: too many permits");
    }

    /// How many permits are free, at some moment of the call. There may be some that somebody waits for, with too few yet.
    ///
    /// ```
    /// assert_eq!(gort::sync::Semaphore::new(3).available(), 3);
    /// ```
    pub fn available(&self) -> usize {
        self.raw.available()
    }
}

/// What a context has to call, as long as it lives.
struct Registered(StopFunc);

impl Drop for Registered {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.raw, f)
    }
}

/// Permits that are given back when it goes. From [`Semaphore::acquire_guard`].
///
/// ```
/// let sem = gort::sync::Semaphore::new(2);
/// drop(sem.acquire_guard(2));
/// assert_eq!(sem.available(), 2);
/// ```
#[derive(Debug)]
#[must_use = "the permits are given back at once"]
pub struct SemaphoreGuard<'a> {
    of: &'a Semaphore,
    permits: usize,
}

impl Drop for SemaphoreGuard<'_> {
    fn drop(&mut self) {
        self.of.release(self.permits);
    }
}
