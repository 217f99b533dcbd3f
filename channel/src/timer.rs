//! Timer channels: channels that receive the time when it has come (Go 1.23's, whose `time.go` has `blockTimerChan`,
//! `unblockTimerChan`, `maybeRunChan`).
//!
//! A timer channel has no buffer and no senders. In the place of the buffer lies a `TimerChan`, which says from **when** on a value
//! is there; it is made when it is received. So what was not received needs no clearing away: a stop or a reset changes
//! `when`, and that is all there is of an older setting. A value is the instant at which it was due.
//!
//! ```text
//!   receive, select                                stop, reset
//!   lock; due: take the value, go on to the next   lock; change `when`
//!   else: into recvq; the first one arms           nobody waits: that is all
//!   leave recvq without a value: the last one      somebody waits: serve, or arm anew
//!         disarms
//!                          the timer fires (g0)
//!                          lock; due: to the first in recvq; others wait: arm anew
//! ```
//!
//! C1: Everything here is under the channel's lock, but for a select's first look at `when`, which only saves it the lock. That
//! a value is handed out is decided there, by `when` and the clock; a firing is no more than a reason to look. One that was on its
//! way while the timer was stopped or reset finds that.
//!
//! C2: `armed` means: in a heap, or a firing is on its way, which will look at all that waits. If somebody waits and the timer
//! has a time, it is armed. If nobody waits, it is in no heap: making, changing and dropping a timer costs no heap operation.
//!
//! C3: Whoever waits has a handle and takes the timer out before it leaves, so a timer in a heap is one of a living channel. A
//! firing takes a part in the channel (`sides`) when it is taken out, under the heap's lock, and gives it up at its end.
//!
//! C4: Arming may leave a debt to the keeper (`proc::timers`), `owes`, that whoever holds the lock takes along when it opens
//! it, and pays then: nobody spins at this lock while a thread is woken.
//!
//! A ticker's next time is the first of its grid that lies in the future: who is slow misses ticks.
//!
//! A receiver arms the timer where it runs; a plain thread in the runtime that plain threads use. If a scheduler ends in which
//! a timer is armed, others may still wait for it, and it goes there too.
//!
//! **Differs from Go**: no buffer of one that is filled when somebody looks.

use crate::counted::{Counted, RECEIVER};
use crate::handle::{Inner, Receiver};
use crate::hchan::Hchan;
use crate::park::Wait;
use crate::recv::{Received, recv_wait};
use crate::waitq::{self, Sudog};
use gort_scheduler::g::G;
#[cfg(loom)]
use gort_scheduler::model::Sched;
use gort_scheduler::proc::timers::{Closed, arm, arm_elsewhere, arm_parking, tell};
use gort_scheduler::proc::{current, getg};
#[cfg(not(loom))]
use gort_scheduler::sched::Sched;
use gort_scheduler::sync::atomic::{AtomicU64, Ordering};
use gort_scheduler::time::clock::Nanos;
use gort_scheduler::time::{Firing, Kind, Timer, Timers, may_arm};
use std::cell::Cell;
use std::ptr::NonNull;
use std::time::Instant;

/// Gives the scheduler in which plain threads arm timers.
pub type Fallback = fn() -> &'static Sched;

/// What makes a channel one of a timer; see the module.
#[repr(C)]
pub(crate) struct TimerChan {
    timer: Timer,
    c: *const Hchan,
    /// From then on there is a value. [`Nanos::NEVER`] is for ever.
    when: AtomicU64,
    /// From one value to the next; 0 for a single one.
    period: Cell<u64>,
    /// A value is there or will come, be it in eternity.
    active: Cell<bool>,
    armed: Cell<bool>,
    /// C4.
    owes: Cell<Option<&'static Sched>>,
    fallback: Fallback,
}

static KIND: Kind = Kind { pin, hold: pin, fire, ended };

impl TimerChan {
    pub fn new(c: *const Hchan, when: Nanos, period: u64, fallback: Fallback) -> TimerChan {
        TimerChan {
            timer: Timer::call(&KIND),
            c,
            when: AtomicU64::new(when.0),
            period: Cell::new(period),
            active: Cell::new(true),
            armed: Cell::new(false),
            owes: Cell::new(None),
            fallback,
        }
    }

    fn when(&self) -> Nanos {
        // Relaxed: read under the lock, or a hint (C1).
        Nanos(self.when.load(Ordering::Relaxed))
    }

    fn set_when(&self, when: Nanos) {
        self.when.store(when.0, Ordering::Relaxed);
    }

    /// Whether it makes sense to take the lock for a value (C1).
    pub fn may_be_due(&self) -> bool {
        let when = self.when();
        when != Nanos::NEVER && when <= Nanos::now()
    }

    /// Takes the value, if it is due, and goes on to the next time. Under the lock.
    fn take(&self) -> Option<Instant> {
        let when = self.when();
        if !self.active.get() || when == Nanos::NEVER {
            return None;
        }
        let late = Nanos::of_instant(Instant::now()).0.checked_sub(when.0)?;
        match self.period.get() {
            0 => {
                self.active.set(false);
                self.set_when(Nanos::NEVER);
            }
            period => {
                let next = (late / period + 1).checked_mul(period).and_then(|n| when.0.checked_add(n));
                self.set_when(next.map_or(Nanos::NEVER, Nanos));
            }
        }
        Some(when.instant())
    }

    /// [`TimerChan::take`] into a place for a value.
    ///
    /// # Safety
    ///
    /// Under the lock; `elem` has room for an `Instant`.
    pub unsafe fn take_into(&self, elem: *mut u8) -> bool {
        // SAFETY: the caller's promise.
        self.take().map(|t| unsafe { elem.cast::<Instant>().write(t) }).is_some()
    }

    /// Gives the value, if it is due, to the first that waits; who must be readied after the unlock.
    ///
    /// # Safety
    ///
    /// Under the lock.
    unsafe fn serve(&self, c: &Hchan) -> Option<*const Sudog> {
        if !self.active.get() || self.when() > Nanos::of_instant(Instant::now()) {
            return None;
        }
        // SAFETY: under the lock; dequeued, so its place is ours to fill (W3), and has room for what this channel gives.
        unsafe {
            let sg = c.recvq.dequeue()?;
            let served = self.take_into((*sg).elem);
            debug_assert!(served, "it was due a moment ago");
            (*sg).success.set(true);
            Some(sg)
        }
    }

    fn sched(&self, gp: &'static G) -> &'static Sched {
        gp.sched().unwrap_or_else(self.fallback)
    }

    /// Somebody waits: true if the timer must be armed for that (C2), and then the caller does so. Under the lock.
    fn arms(&self, c: &Hchan) -> bool {
        let arms =
            !self.armed.get() && self.active.get() && self.when() != Nanos::NEVER && !c.recvq.is_empty();
        self.armed.set(self.armed.get() || arms);
        arms
    }

    /// The goroutine `gp` is in `recvq`, and parks next (Go's `blockTimerChan`). Under the lock; what it may owe is to be taken
    /// by the commit of the park.
    #[inline(never)]
    pub fn block(&self, gp: &'static G, c: &Hchan) {
        if self.arms(c) {
            // SAFETY: the timer is disarmed before the channel goes (C3).
            match unsafe { arm_parking(gp, self.sched(gp), &raw const self.timer, self.when()) } {
                Ok(owed) => self.owes.set(owed),
                // Its wait is void. If others wait, they arm the timer themselves.
                Err(Closed) => self.armed.set(false),
            }
        }
    }

    /// What is owed to the keeper (C4). Under the lock; to be told when that is open.
    #[inline]
    pub fn take_debt(&self) -> Option<&'static Sched> {
        self.owes.take()
    }

    /// Somebody has left `recvq` without a value (Go's `unblockTimerChan`). Under the lock.
    #[inline(never)]
    pub fn unblock(&self, c: &Hchan) {
        if c.recvq.is_empty() {
            self.disarm();
        }
    }

    fn disarm(&self) {
        if self.armed.get() && self.timer.disarm() {
            self.armed.set(false);
        }
    }

    /// What a plain thread does before it takes the lock: what it may need later exists then.
    #[inline]
    pub fn prepare(&self, gp: &'static G) {
        if gp.is_thread() {
            self.sched(gp);
        }
    }

    /// Changes the setting; whether a value was there or to come.
    fn set(&self, c: &Hchan, setting: Option<(Nanos, u64)>) -> bool {
        let me = current();
        if me.is_none() {
            self.prepare(getg());
        }
        c.lock.lock();
        let was = self.active.replace(setting.is_some());
        let (when, period) = setting.unwrap_or((Nanos::NEVER, 0));
        self.set_when(when);
        self.period.set(period);
        let (served, homeless) = if c.recvq.is_empty() { (None, false) } else { self.set_for_waiters(c) };
        let owed = self.take_debt();
        c.lock.unlock();
        tell(owed);
        if homeless {
            self.find_home(c);
        }
        if let Some(sg) = served {
            // SAFETY: dequeued and served by `set_for_waiters`.
            unsafe { waitq::ready_by(me, sg) };
        }
        was
    }

    /// The setting has changed while somebody waits. Under the lock; who is served must be readied after it. Whether the timer could
    /// not be armed here, and is to [find a home](TimerChan::find_home).
    #[cold]
    #[inline(never)]
    fn set_for_waiters(&self, c: &Hchan) -> (Option<*const Sudog>, bool) {
        self.disarm();
        // SAFETY: under the lock.
        let served = unsafe { self.serve(c) };
        let mut homeless = false;
        if self.arms(c) {
            let gp = getg();
            // SAFETY: the timer is disarmed before the channel goes (C3).
            match unsafe { arm(gp, self.sched(gp), &raw const self.timer, self.when()) } {
                Ok(owed) => self.owes.set(owed),
                Err(Closed) => {
                    self.armed.set(false);
                    homeless = true;
                }
            }
        }
        (served, homeless)
    }

    /// The scheduler in which it was, or would be, armed has ended: arms it in the fallback, if it must be. The channel is alive, its
    /// lock is open. On any stack.
    #[cold]
    fn find_home(&self, c: &Hchan) {
        let sched = (self.fallback)();
        c.lock.lock();
        let owed = if self.arms(c) {
            // SAFETY: the timer is disarmed before the channel goes (C3).
            unsafe { arm_elsewhere(sched, &raw const self.timer, self.when()) }
        } else {
            None
        };
        c.lock.unlock();
        tell(owed);
    }
}

/// The channel of a timer.
///
/// # Safety
///
/// `timer` is that of a [`TimerChan`] that is alive.
unsafe fn chan_of<'a>(timer: *const Timer) -> (&'a TimerChan, NonNull<Hchan>) {
    const { assert!(std::mem::offset_of!(TimerChan, timer) == 0, "it is found by its timer") };
    // SAFETY: the caller's promise; the timer lies at the beginning, and was armed by way of the whole.
    unsafe {
        let t = &*timer.cast::<TimerChan>();
        (t, NonNull::new_unchecked(t.c.cast_mut()))
    }
}

/// # Safety
///
/// As [`Kind`] has it.
unsafe fn pin(timer: *const Timer) {
    // SAFETY: just taken out of its heap, whose lock is held, so alive (C3).
    // ORDERING: Relaxed, as for a new handle.
    unsafe { chan_of(timer).1.as_ref().sides.fetch_add(1, Ordering::Relaxed) };
}

/// Undoes a [`pin`].
///
/// # Safety
///
/// The caller has one.
unsafe fn unpin(c: NonNull<Hchan>) {
    // SAFETY: the caller's part keeps it alive until here.
    unsafe {
        c.as_ref().assert_alive();
        // ORDERING: as in `counted`.
        if c.as_ref().sides.fetch_sub(1, Ordering::AcqRel) == 1 {
            Hchan::free(c);
        }
    }
}

/// # Safety
///
/// As [`Kind`] has it.
unsafe fn fire(timer: *const Timer, firing: &mut Firing) {
    // SAFETY: `pin` keeps it alive.
    unsafe {
        let (t, c) = chan_of(timer);
        let hchan = c.as_ref();
        hchan.lock.lock();
        t.armed.set(false);
        let served = t.serve(hchan);
        let homeless = t.arms(hchan) && !firing.arm(timer, t.when());
        if homeless {
            t.armed.set(false);
        }
        hchan.lock.unlock();
        if let Some(sg) = served {
            let g = (*sg).g;
            g.set_param(sg.cast_mut().cast());
            firing.ready(g);
        }
        if homeless {
            t.find_home(hchan);
        }
        unpin(c);
    }
}

/// # Safety
///
/// As [`Kind`] has it.
unsafe fn ended(timer: *const Timer, from: &'static Timers) {
    // SAFETY: `pin` keeps it alive.
    unsafe {
        let (t, c) = chan_of(timer);
        let hchan = c.as_ref();
        hchan.lock.lock();
        if t.timer.leave(from).is_some() {
            t.armed.set(false);
        }
        // Those who wait in a scheduler that has ended are abandoned.
        let others = hchan.recvq.any(|sg| !sg.g.waits_are_void());
        hchan.lock.unlock();
        if others {
            t.find_home(hchan);
        }
        unpin(c);
    }
}

/// Receives from a timer channel, as `chanrecv` does.
///
/// # Safety
///
/// As for `chanrecv`.
#[inline(never)]
pub(crate) unsafe fn timer_recv(c: &Hchan, t: &TimerChan, elem: *mut u8, wait: Wait) -> Received {
    if wait != Wait::No && current().is_none() {
        t.prepare(getg());
    }
    c.lock.lock();
    // SAFETY: under the lock; `elem` by the caller's promise.
    unsafe {
        if t.take_into(elem) {
            c.lock.unlock();
            return Received::Received;
        }
        if wait == Wait::No {
            c.lock.unlock();
            return Received::Empty;
        }
        recv_wait(c, elem, wait)
    }
}

/// Makes a timer channel: a value `when` is reached, and then one every `period` nanoseconds, if that is not 0. Nobody can send
/// to it, and it never closes.
#[track_caller]
pub fn make(when: Nanos, period: u64, fallback: Fallback) -> Receiver<Instant> {
    may_arm().unwrap_or_else(|short| short.refuse());
    let c = Hchan::maketimer(when, period, RECEIVER, fallback);
    // SAFETY: a channel of Instants with one receiver, which is this one.
    Receiver::from_counted(unsafe { Counted::from_raw(c) })
}

/// Stops the timer of a timer channel: no value is received from it any more. True if one was there or to come.
pub fn stop(rx: &Receiver<Instant>) -> bool {
    with(rx, None)
}

/// Sets the timer of a timer channel anew. True as for [`stop`].
pub fn reset(rx: &Receiver<Instant>, when: Nanos, period: u64) -> bool {
    with(rx, Some((when, period)))
}

fn with(rx: &Receiver<Instant>, setting: Option<(Nanos, u64)>) -> bool {
    rx.inner().and_then(|c| Some(c.timer()?.set(c, setting))).unwrap_or(false)
}
