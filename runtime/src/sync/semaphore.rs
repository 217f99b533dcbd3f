//! [`Semaphore`]: permits that are taken several at a time, first come, first served (Go's `x/sync/semaphore`).
//!
//! Under a short lock lie the free permits and those who wait, by ticket. A waiter has a channel of its own, which is closed when
//! its permits have been taken for it; so it can wait for a deadline or a context beside it.
//!
//! S1: While somebody waits, permits go to the first only. So nobody overtakes, and a large request does not starve.
//!
//! S2: A waiter is in the table until its permits have been taken for it, or it takes itself out, both under the lock. Who gives
//! up and finds itself no longer in the table has permits, and gives them back. Either way the next ones are served.
//!
//! S3: Who will never run again (`gort_scheduler::proc::deadlock`) gets none: it is passed over.
//!
//! Wake-ups, which are the closing of channels, happen after the lock has been released.

use crate::context::{Context, ContextError};
use crate::select;
use gort_channel::{Receiver, RecvTimeoutError, Sender, channel};
use gort_scheduler::g::{G, Status};
use gort_scheduler::proc::getg;
use gort_scheduler::sync::Spinning;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

/// A number of permits, taken several at a time (Go's `semaphore.Weighted`).
///
/// Who asks for more than there are waits: a goroutine parks, a plain thread blocks. Whoever came first is served first, and
/// nobody overtakes: a small request waits behind a large one, even if there are permits for it.
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
    state: Spinning<State>,
}

struct State {
    free: usize,
    /// By ticket, so in the order in which they came.
    waiters: BTreeMap<u64, Waiter>,
    next_ticket: u64,
}

struct Waiter {
    permits: usize,
    g: &'static G,
    /// Goes when the permits have been taken for it.
    granted: Sender<()>,
}

impl Waiter {
    /// True if it is abandoned after a deadlock (S3). Then it stays so, and its G is never used again.
    fn is_void(&self) -> bool {
        self.g.may_borrow() && self.g.status() == Status::Dead
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Semaphore>();
};

// A panic leaves it as it is: no code of others runs under its lock.
impl UnwindSafe for Semaphore {}
impl RefUnwindSafe for Semaphore {}

/// A place in the table of waiters.
struct Place<'a> {
    of: &'a Semaphore,
    permits: usize,
    ticket: u64,
    /// Closed when the permits are there.
    granted: Receiver<()>,
    served: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.served {
            return;
        }
        let waiter = self.of.state.lock().waiters.remove(&self.ticket);
        if waiter.is_some() {
            drop(waiter);
            // It may have been the first, and in the way of others.
            self.of.serve();
        } else {
            self.of.release(self.permits);
        }
    }
}

impl State {
    /// Takes permits, if there are, and nobody has come before.
    fn take(&mut self, permits: usize) -> bool {
        let got = self.waiters.is_empty() && permits <= self.free;
        if got {
            self.free -= permits;
        }
        got
    }

    /// The first waiter, taken out with its permits; also one that gets none any more.
    fn next_served(&mut self) -> Option<Waiter> {
        let first = self.waiters.first_entry()?;
        if first.get().is_void() {
            return Some(first.remove());
        }
        let permits = first.get().permits;
        if permits > self.free {
            return None;
        }
        self.free -= permits;
        Some(first.remove())
    }
}

impl Semaphore {
    /// A semaphore with `permits` free ones.
    ///
    /// ```
    /// static ONE: gort::sync::Semaphore = gort::sync::Semaphore::new(1);
    /// assert!(ONE.try_acquire(1));
    /// ```
    pub const fn new(permits: usize) -> Semaphore {
        Semaphore { state: Spinning::new(State { free: permits, waiters: BTreeMap::new(), next_ticket: 0 }) }
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
    pub fn acquire(&self, k: usize) {
        if let Some(mut place) = self.enter(k) {
            let _ = place.granted.recv();
            place.served = true;
        }
    }

    /// Takes `k` permits, if they are there and nobody waits.
    ///
    /// ```
    /// let sem = gort::sync::Semaphore::new(2);
    /// assert!(sem.try_acquire(2) && !sem.try_acquire(1) && sem.try_acquire(0));
    /// ```
    pub fn try_acquire(&self, k: usize) -> bool {
        let mut state = self.state.lock();
        if state.take(k) {
            return true;
        }
        let waits = !state.waiters.is_empty();
        drop(state);
        if waits {
            // Those who wait may be void.
            self.serve();
            return self.state.lock().take(k);
        }
        false
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
    pub fn acquire_timeout(&self, k: usize, d: Duration) -> bool {
        let Some(mut place) = self.enter(k) else { return true };
        place.served = !matches!(place.granted.recv_timeout(d), Err(RecvTimeoutError::Timeout));
        place.served
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
    /// assert_eq!(sem.acquire_context(&ctx, 1), Ok(()));
    /// cancel();
    /// assert_eq!(sem.acquire_context(&ctx, 1), Err(ContextError::Canceled));
    /// ```
    pub fn acquire_context(&self, ctx: &Context, k: usize) -> Result<(), ContextError> {
        let is_done = |ctx: &Context| ctx.err().map_or(Ok(()), Err);
        is_done(ctx)?;
        if let Some(mut place) = self.enter(k) {
            select! {
                recv(place.granted) -> _ => {},
                recv(ctx.done()) -> _ => {},
            }
            is_done(ctx)?;
            place.served = true;
        }
        Ok(())
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
    #[track_caller]
    pub fn release(&self, k: usize) {
        let mut state = self.state.lock();
        let sum = state.free.checked_add(k);
        if let Some(sum) = sum {
            state.free = sum;
        }
        let waits = !state.waiters.is_empty();
        drop(state);
        assert!(sum.is_some(), "semaphore: too many permits");
        if waits {
            self.serve();
        }
    }

    /// How many permits are free, at some moment of the call. There may be some that somebody waits for, with too few yet.
    ///
    /// ```
    /// assert_eq!(gort::sync::Semaphore::new(3).available(), 3);
    /// ```
    pub fn available(&self) -> usize {
        self.state.lock().free
    }

    /// Takes `k` permits, or a place in the queue.
    fn enter(&self, permits: usize) -> Option<Place<'_>> {
        if self.state.lock().take(permits) {
            return None;
        }
        self.queue(permits)
    }

    #[cold]
    fn queue(&self, permits: usize) -> Option<Place<'_>> {
        let (tx, granted) = channel(0);
        let waiter = Waiter { permits, g: getg(), granted: tx };
        let mut state = self.state.lock();
        if state.take(permits) {
            drop(state);
            drop(waiter);
            return None;
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiters.insert(ticket, waiter);
        let first = state.waiters.len() == 1;
        drop(state);
        let place = Place { of: self, permits, ticket, granted, served: false };
        if !first {
            // Those before may be void.
            self.serve();
        }
        Some(place)
    }

    /// Gives permits to those who wait, from the first on, as long as there are enough.
    fn serve(&self) {
        loop {
            // In a statement of its own: what goes with the waiter wakes it, and the lock has been released by then.
            let served = self.state.lock().next_served();
            match served {
                Some(waiter) => drop(waiter.granted),
                None => return,
            }
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (free, waiting) = {
            let state = self.state.lock();
            (state.free, state.waiters.len())
        };
        f.debug_struct("Semaphore").field("available", &free).field("waiting", &waiting).finish()
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
