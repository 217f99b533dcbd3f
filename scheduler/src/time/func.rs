//! [`FuncTimer`]: a timer that acts when it is due, once for each time that it is armed (Go's `AfterFunc`).
//!
//! It is counted (`Arc`). While it is armed its heap has a count of its own, which a stop takes back and a firing hands
//! to the action: so nobody need keep it, and it is gone when it can neither fire nor be armed.
//!
//! F1: Of a stop (or a change) and a firing exactly one has the timer: it is taken out of its heap once (I3 of `time`).
//! Whoever has taken it out has the heap's count. Owner in the sense of `time` is who holds `lock`; a firing does not need
//! it.
//!
//! F2: What the action holds is never dropped on g0: the firing's count goes on with the action, and the others are held
//! elsewhere.
//!
//! F3: The timer of a scheduler that ends belongs to nothing of it, and moves, with the heap's count, to the fallback. Taken out of
//! the one heap and put into the other under `lock`: a stop finds it in one of them. One that finds no scheduler that spawns, while
//! its own is about to end, goes there too ([`Firing::arm_again`]).

use super::clock::Nanos;
use super::{Firing, Kind, Put, Timer, Timers};
use crate::memory;
#[cfg(loom)]
use crate::model::Sched;
use crate::proc::timers::{heap_for, told};
#[cfg(not(loom))]
use crate::sched::Sched;
use crate::sync::SpinLock;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What a [`FuncTimer`] does.
pub trait Act: Send + Sync + Sized + 'static {
    /// It is time. Runs on g0, or on sysmon: must not block nor run user code, and passes the count on to where it may be
    /// dropped.
    fn act(timer: Arc<FuncTimer<Self>>, firing: &mut Firing);

    /// Gives the scheduler that serves those whose own has ended, and does not end itself; if there is none they go as well.
    fn fallback() -> Option<&'static Sched>;
}

/// See the module.
#[repr(C)]
pub struct FuncTimer<A> {
    timer: Timer,
    lock: SpinLock,
    /// Armed for a time that never comes, and so in no heap. Under `lock`.
    forever: Cell<bool>,
    action: A,
}

// SAFETY: `forever` is touched under `lock`; the rest is shared by type.
unsafe impl<A: Sync> Sync for FuncTimer<A> {}

impl<A> fmt::Debug for FuncTimer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FuncTimer").finish_non_exhaustive()
    }
}

impl<A: Act> FuncTimer<A> {
    const KIND: Kind = Kind { pin: Self::pin, hold: Self::hold, fire: Self::fire, ended: Self::ended };

    /// A timer that is not armed.
    ///
    /// # Panics
    ///
    /// When there is no memory for it.
    #[track_caller]
    pub fn new(action: A) -> Arc<FuncTimer<A>> {
        memory::arc(
            "another timer",
            FuncTimer {
                timer: Timer::call(&Self::KIND),
                lock: SpinLock::new(),
                forever: Cell::new(false),
                action,
            },
        )
    }

    /// What it does.
    pub fn action(&self) -> &A {
        &self.action
    }

    /// Arms it in this heap, anew if it was armed; whether it was, and what is owed to the keeper. [`Nanos::NEVER`] is for ever.
    pub fn arm(self: &Arc<Self>, timers: &'static Timers, when: Nanos) -> (bool, Put) {
        self.lock.lock();
        let forever = self.forever.replace(when == Nanos::NEVER);
        if when != Nanos::NEVER
            && let Some(put) = timers.change(&self.timer, when)
        {
            self.lock.unlock();
            return (true, put);
        }
        let was = self.timer.disarm();
        // The heap's count: there already, or a new one.
        let count = if was { None } else { Some(self.clone()) };
        let put = if when == Nanos::NEVER {
            Put::Later
        } else {
            let timer = Arc::as_ptr(self).cast::<Timer>();
            // SAFETY: under the lock, disarmed above; the heap's count keeps it in its place.
            unsafe { timers.arm(timer, when) }
        };
        let armed = when != Nanos::NEVER && put != Put::Closed;
        self.lock.unlock();
        match (armed, count) {
            (true, Some(count)) => _ = Arc::into_raw(count),
            // SAFETY: it was disarmed, so the heap's count is ours.
            (false, None) => unsafe { drop(Arc::from_raw(Arc::as_ptr(self))) },
            _ => {}
        }
        (was || forever, put)
    }

    /// Arms it with the count that a firing of it was handed, unless it was armed meanwhile. Runs on g0.
    ///
    /// # Errors
    ///
    /// When the heap's scheduler has ended; with the count.
    pub fn arm_again(self: Arc<Self>, timers: &'static Timers, when: Nanos) -> Result<Put, Arc<Self>> {
        // The count is the heap's from here on. If it cannot be, it is lost (F2): that takes a timer that fired while there was
        // no stack or while its scheduler ended, and was armed anew at that moment.
        let timer = Arc::into_raw(self);
        // SAFETY: the count is never given back here, so the timer stays.
        let this = unsafe { &*timer };
        this.lock.lock();
        let put = if this.forever.get() || this.timer.is_armed() {
            Put::Later
        } else {
            // SAFETY: under the lock, and not armed; the heap's count keeps it in its place.
            unsafe { timers.arm(timer.cast(), when) }
        };
        this.lock.unlock();
        // SAFETY: the count is still ours, for no heap has it.
        if put == Put::Closed { Err(unsafe { Arc::from_raw(timer) }) } else { Ok(put) }
    }

    /// Disarms it. True if it was armed, and so does not fire for that any more.
    pub fn stop(self: &Arc<Self>) -> bool {
        self.lock.lock();
        let forever = self.forever.replace(false);
        let was = self.timer.disarm();
        self.lock.unlock();
        if was {
            // SAFETY: the heap's count is ours (F1); the caller has another one.
            unsafe { drop(Arc::from_raw(Arc::as_ptr(self))) };
        }
        was || forever
    }

    /// The heap's count is handed on as it is.
    unsafe fn pin(_timer: *const Timer) {}

    /// # Safety
    ///
    /// Called by the heap that it is in, under its lock.
    unsafe fn hold(timer: *const Timer) {
        // SAFETY: the heap has a count.
        unsafe { Arc::increment_strong_count(timer.cast::<Self>()) };
    }

    /// # Safety
    ///
    /// Called by a heap that has just taken it out.
    unsafe fn fire(timer: *const Timer, firing: &mut Firing) {
        // SAFETY: the count that the heap had.
        let this = unsafe { Arc::from_raw(timer.cast::<Self>()) };
        A::act(this, firing);
    }

    /// F3.
    ///
    /// # Safety
    ///
    /// As [`Kind`] has it: called after `hold`.
    unsafe fn ended(timer: *const Timer, from: &'static Timers) {
        // SAFETY: the count that `hold` has added.
        let this = unsafe { Arc::from_raw(timer.cast::<Self>()) };
        let fallback = A::fallback();
        this.lock.lock();
        let left = this.timer.leave(from);
        let put = match (left, fallback) {
            // SAFETY: under the lock, and just taken out; the heap's count goes along with it.
            (Some(when), Some(sched)) => unsafe { heap_for(sched).arm(timer, when) },
            (Some(_), None) => Put::Closed,
            (None, _) => Put::Later,
        };
        this.lock.unlock();
        match (put, fallback) {
            (Put::First, Some(sched)) => told(sched),
            // SAFETY: it is in no heap any more, so the heap's count is ours.
            (Put::Closed, _) => unsafe { Self::drop_caught(Arc::from_raw(timer.cast())) },
            _ => {}
        }
        Self::drop_caught(this);
    }

    /// A panic in a drop has been reported by the hook, and is nobody's here.
    fn drop_caught(this: Arc<Self>) {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(this)));
    }
}
