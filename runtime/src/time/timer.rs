//! [`Timer`]: one event in the future, which may be called off or put off; [`after`].

use super::after_func;
use super::chan;
use gort_channel::Receiver;
use gort_scheduler::proc::preempt_point;
use gort_scheduler::time::func::FuncTimer;
use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One event in the future (Go's `time.Timer`): the time in a channel, from [`Timer::new`], or, from
/// [`after_func`](crate::time::after_func()), a call of a function.
///
/// Dropping one with a channel stops it, also for clones of its receiver. Dropping that of a function leaves it armed.
///
/// ```
/// # use std::time::Duration;
/// let timer = gort::time::Timer::new(Duration::from_millis(1));
/// gort::select! {
///     recv(timer.c()) -> at => assert!(at.is_some()),
/// }
/// ```
pub struct Timer {
    event: Event,
}

enum Event {
    Chan(Receiver<Instant>),
    Func(Arc<dyn Calls>),
}

/// A function timer, whatever it calls.
///
/// # Safety
///
/// Of both functions: `this` is the handle that they were reached by.
pub(super) trait Calls: Send + Sync {
    unsafe fn stop(&self, this: &Arc<dyn Calls>) -> bool;
    unsafe fn reset(&self, this: &Arc<dyn Calls>, d: Duration) -> bool;
}

impl<F: FnMut() + Send + 'static> Calls for FuncTimer<after_func::Call<F>> {
    unsafe fn stop(&self, this: &Arc<dyn Calls>) -> bool {
        // SAFETY: the caller's promise.
        unsafe { by_type::<Self>(this) }.stop()
    }

    unsafe fn reset(&self, this: &Arc<dyn Calls>, d: Duration) -> bool {
        // SAFETY: the caller's promise.
        after_func::arm(&*unsafe { by_type::<Self>(this) }, d)
    }
}

/// The same handle, and no count more: a count is two read-modify-writes, which is a third of a reset.
///
/// # Safety
///
/// `this` is a handle to a `T`. What comes of it is not kept for longer.
unsafe fn by_type<T>(this: &Arc<dyn Calls>) -> ManuallyDrop<Arc<T>> {
    // SAFETY: of that type by the caller's promise; it is not dropped, so it needs no count.
    ManuallyDrop::new(unsafe { Arc::from_raw(Arc::as_ptr(this).cast::<T>()) })
}

const _: () = {
    const fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Timer>();
};

impl Timer {
    /// A timer whose channel receives the time once, after `d` (Go's `time.NewTimer`): zero is at once, `Duration::MAX` never.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// let start = Instant::now();
    /// let timer = gort::time::Timer::new(Duration::from_millis(1));
    /// assert!(timer.c().recv().unwrap() >= start + Duration::from_millis(1));
    /// ```
    pub fn new(d: Duration) -> Timer {
        Timer { event: Event::Chan(chan::once(d)) }
    }

    pub(super) fn calls(calls: Arc<dyn Calls>) -> Timer {
        Timer { event: Event::Func(calls) }
    }

    /// The channel. What comes out of it is the instant at which it was due, however late it is received. It is never closed; its
    /// `len` and `cap` are 0.
    ///
    /// A timer of [`after_func`](crate::time::after_func()) has none: this is the nil channel then.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let timer = gort::time::Timer::new(Duration::ZERO);
    /// assert!(timer.c().try_recv().is_ok());
    /// assert!(timer.c().try_recv().is_err(), "once");
    /// ```
    pub fn c(&self) -> &Receiver<Instant> {
        static NIL: Receiver<Instant> = Receiver::nil();
        match &self.event {
            Event::Chan(c) => c,
            Event::Func(_) => &NIL,
        }
    }

    /// Calls the timer off (Go's `Timer.Stop`). True if it was still to come, or had come and was not received: nothing is received
    /// after this.
    ///
    /// A function that is being called goes on.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let timer = gort::time::Timer::new(Duration::ZERO);
    /// assert!(timer.stop(), "nobody has received it");
    /// assert!(timer.c().try_recv().is_err());
    /// assert!(!timer.stop());
    /// ```
    pub fn stop(&self) -> bool {
        let was = match &self.event {
            Event::Chan(c) => gort_channel::timer::stop(c),
            // SAFETY: reached by this handle.
            Event::Func(calls) => unsafe { calls.stop(calls) },
        };
        preempt_point();
        was
    }

    /// Has the timer fire `d` from now (Go's `Timer.Reset`), whether it has fired or not. What was due before is not received any
    /// more. True as for [`Timer::stop`].
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// let timer = gort::time::Timer::new(Duration::ZERO);
    /// let start = Instant::now();
    /// assert!(timer.reset(Duration::from_millis(1)));
    /// assert!(timer.c().recv().unwrap() >= start + Duration::from_millis(1));
    /// assert!(!timer.reset(Duration::MAX));
    /// ```
    pub fn reset(&self, d: Duration) -> bool {
        let was = match &self.event {
            Event::Chan(c) => chan::reset(c, d),
            // SAFETY: reached by this handle.
            Event::Func(calls) => unsafe { calls.reset(calls, d) },
        };
        preempt_point();
        was
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Event::Chan(c) = &self.event {
            gort_channel::timer::stop(c);
        }
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.event {
            Event::Chan(c) => f.debug_struct("Timer").field("c", c).finish(),
            Event::Func(_) => f.debug_struct("Timer").finish_non_exhaustive(),
        }
    }
}

/// A channel that receives the time once, after `d` (Go's `time.After`). It is never closed; after `Duration::MAX`,
/// which is for ever, nothing comes. Dropping the receiver frees the timer at once.
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
    chan::once(d)
}
