//! [`after_func`]: a function that is called in a goroutine of its own when the time has come (Go's `AfterFunc`).
//!
//! The timer fires on the scheduler's own stack and does no more than start the goroutine; the goroutine waits for its turn
//! ([`Turn`]), since an earlier firing may still be at it, and calls the function. Neither is the runtime's in which it is armed: if
//! that ends, the timer moves to the global one, and so does a goroutine that has not run.

use super::Timer;
use crate::global::{global, sched_of};
use crate::go::Outlives;
use gort_scheduler::g::WaitReason;
use gort_scheduler::gate::Gate;
use gort_scheduler::proc::{getg, preempt_point, timers};
use gort_scheduler::sched::Sched;
use gort_scheduler::time::Firing;
use gort_scheduler::time::clock::Nanos;
use gort_scheduler::time::func::{Act, FuncTimer};
use std::cell::UnsafeCell;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// Calls `f` after `d`, in a goroutine of its own (Go's `time.AfterFunc`). Zero is at once; `Duration::MAX` is for ever.
///
/// What it gives stops or rearms the timer: [`Timer::stop`], [`Timer::reset`]. Dropping that leaves the timer as it is. Each
/// firing is a goroutine; if `f` is still running when the timer, rearmed, fires again, the second call waits until the
/// first one has returned. A panic in `f` is reported as that of any goroutine.
///
/// The goroutine runs on the runtime of whoever armed the timer last, on the global one if that was a plain thread. When
/// that runtime has ended by then, or is about to, it runs on the global one as well: the timer is not that runtime's.
///
/// ```
/// use std::time::Duration;
/// let (tx, rx) = gort::channel(1);
/// let timer = gort::time::after_func(Duration::from_millis(1), move || tx.send("now").unwrap());
/// assert_eq!(rx.recv(), Some("now"));
/// assert!(!timer.stop(), "it has fired");
/// ```
#[track_caller]
pub fn after_func<F>(d: Duration, f: F) -> Timer
where
    F: FnMut() + Send + 'static,
{
    let call = Call { at: Location::caller(), turn: Gate::new(false), f: UnsafeCell::new(f) };
    let timer = FuncTimer::new(call);
    arm(&timer, d);
    Timer::calls(timer)
}

/// What an `after_func` timer does.
pub(super) struct Call<F> {
    at: &'static Location<'static>,
    /// True while somebody is at `f`.
    turn: Gate<bool>,
    f: UnsafeCell<F>,
}

// SAFETY: `f` is reached by one goroutine at a time, who has its turn, and moves between threads as a `Send` value does.
unsafe impl<F: Send> Sync for Call<F> {}

impl<F: FnMut() + Send + 'static> Call<F> {
    /// On the goroutine of one firing.
    fn run(&self) {
        struct Turn<'a>(&'a Gate<bool>);
        impl Drop for Turn<'_> {
            fn drop(&mut self) {
                self.0.update(|taken| (*taken = false, true));
            }
        }
        while !self.turn.update(|taken| (!std::mem::replace(taken, true), false)) {
            self.turn.wait(WaitReason::Semacquire, |taken| !taken);
        }
        let _turn = Turn(&self.turn);
        // SAFETY: it is our turn, until `_turn` goes.
        unsafe { (*self.f.get())() };
    }
}

impl<F: FnMut() + Send + 'static> Act for Call<F> {
    fn act(timer: Arc<FuncTimer<Self>>, firing: &mut Firing) {
        let due = Outlives::new(timer.action().at, timer, run);
        if let Err(due) = firing.spawn(due.at, due, Outlives::run) {
            firing.arm_again(due.into_inner());
        }
    }

    fn fallback() -> Option<&'static Sched> {
        // A model has no runtime that outlives it.
        (!cfg!(shuttle)).then(|| global().sched())
    }
}

/// The body of a firing's goroutine.
fn run<F: FnMut() + Send + 'static>(timer: Arc<FuncTimer<Call<F>>>) {
    timer.action().run();
}

/// As [`Timer::reset`].
pub(super) fn arm<F: FnMut() + Send + 'static>(timer: &Arc<FuncTimer<Call<F>>>, d: Duration) -> bool {
    let me = getg();
    let sched = sched_of(me);
    let was = if d.is_zero() {
        let was = timer.stop();
        let due = Outlives::new(timer.action().at, timer.clone(), run);
        if let Err(due) = timers::spawn_now(me, sched, due.at, due, Outlives::run) {
            drop(due.into_inner());
            timers::arm_func(me, sched, timer, Nanos::now());
        }
        was
    } else {
        timers::arm_func(me, sched, timer, Nanos::now().after(d))
    };
    preempt_point();
    was
}
