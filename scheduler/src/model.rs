//! The stand-in for the scheduler in loom models: the same verbs, each goroutine an OS thread of the model.
//!
//! What the models run is the real code of `sync`, `note`, `idle`, `runq`, `time`, and of `proc::waiting`: status,
//! commit, and the sleep of a plain thread. What they cannot run is the switch of stacks; `tests/loom_park.rs` has a
//! register file in its place.

use crate::g::G;
use std::cell::Cell;

/// No M in a model.
#[derive(Debug)]
pub struct M;

/// A scheduler, of which a model has none or one that ends.
#[derive(Debug)]
pub struct Sched {
    /// Not the model's: where the look and the end meet there are steps enough around both.
    stopped: std::sync::atomic::AtomicBool,
}

std::thread_local! {
    /// The model has a scheduler that ends. All threads of a model are one of the system's.
    static ENDS: Cell<bool> = const { Cell::new(false) };
}

/// True if the model has a scheduler that ends.
pub(crate) fn schedulers_end() -> bool {
    ENDS.get()
}

loom::lazy_static! {
    static ref STARVED: loom::sync::atomic::AtomicBool = loom::sync::atomic::AtomicBool::new(false);
}

/// Whether whoever waits for a mutex has waited too long.
pub fn starved() -> bool {
    STARVED.load(std::sync::atomic::Ordering::Relaxed)
}

/// From now on they have, or have not.
pub fn set_starved(starved: bool) {
    STARVED.store(starved, std::sync::atomic::Ordering::Relaxed);
}

impl Sched {
    /// One that nobody ends.
    pub const fn new() -> Sched {
        Sched { stopped: std::sync::atomic::AtomicBool::new(false) }
    }

    /// One that will end, in this and all models of the thread that come after.
    pub fn start() -> &'static Sched {
        ENDS.set(true);
        Box::leak(Box::new(Sched::new()))
    }

    /// The caller is a goroutine of it from now on.
    pub fn adopt(&'static self, gp: &'static G) {
        gp.sched.store(std::ptr::from_ref(self).cast_mut(), loom::sync::atomic::Ordering::Relaxed);
    }

    /// It ends.
    pub fn stop(&self) {
        self.stopped.store(true, std::sync::atomic::Ordering::Release);
    }

    /// As in the real one.
    pub fn stopped(&self) -> bool {
        self.stopped.load(std::sync::atomic::Ordering::Acquire)
    }
}

std::thread_local! {
    /// The time, as a model has set it: nothing that others could come between. All threads of a model are one of the system's.
    static NOW: Cell<u64> = const { Cell::new(1) };
}

/// Makes it this late.
pub fn set_now(nanos: u64) {
    NOW.set(nanos);
}

pub(crate) fn now() -> u64 {
    NOW.get()
}

loom::thread_local! {
    static CURRENT: Cell<Option<&'static G>> = Cell::new(None);
}

/// A G that nobody has; leaked, as all Gs are.
pub fn new_g() -> &'static G {
    let gp: &'static G = Box::leak(Box::new(G::new()));
    gp.become_thread();
    gp
}

/// The end of a thread that had this G, which may become anything then.
pub fn end_thread(gp: &'static G) {
    gp.end_thread();
}

std::thread_local! {
    /// See [`freeze`].
    static FROZEN: Cell<*const G> = const { Cell::new(std::ptr::null()) };
}

/// The calling thread does not go on when it is readied, as a goroutine that nobody runs any more, until [`thaw`].
pub fn freeze(gp: &'static G) {
    FROZEN.set(gp);
}

fn is_frozen(gp: &'static G) -> bool {
    std::ptr::eq(FROZEN.get(), gp)
}

/// Readies the frozen one, whoever else has or has not, so that its thread can end. What it waited for is its no more.
pub fn thaw(gp: &'static G) {
    FROZEN.set(std::ptr::null());
    gp.set_param(std::ptr::from_ref(gp).cast_mut().cast());
    // SAFETY: it is out of all queues; whoever had the right to ready it has used it in vain.
    unsafe { proc::goready(gp) };
}

#[path = "proc/waiting.rs"]
pub mod waiting;

/// The verbs.
pub mod proc {
    use super::{CURRENT, new_g};
    use crate::g::{G, WaitReason};
    use crate::time::clock::Nanos;

    pub use super::waiting::{self, Commit};

    /// The thread's G.
    pub fn getg() -> &'static G {
        CURRENT.with(|current| {
            let gp = current.get().unwrap_or_else(new_g);
            current.set(Some(gp));
            gp
        })
    }

    /// As in the real one, on a plain thread.
    ///
    /// # Safety
    ///
    /// As in the real one.
    pub unsafe fn gopark(gp: &'static G, commit: Option<Commit>, lock: *mut (), reason: WaitReason) {
        // SAFETY: the caller's promise.
        unsafe { waiting::park_thread_until(gp, commit, lock, reason, Nanos::NEVER) };
    }

    /// As in the real one, on a plain thread.
    ///
    /// # Safety
    ///
    /// As in the real one.
    pub unsafe fn goready(gp: &'static G) {
        if super::is_frozen(gp) {
            return;
        }
        // SAFETY: the caller's promise.
        let woken = unsafe { waiting::make_runnable(gp) };
        assert!(woken, "a model's goroutines are threads");
    }

    /// No deadlock is reported in a model, but by loom.
    pub mod deadlock {
        use crate::g::G;

        /// As in the real one.
        pub fn begin_wait(gp: &'static G) {
            if gp.may_borrow() {
                gp.begin_select();
            }
        }

        /// As in the real one.
        pub fn may_ready(gp: &G) -> bool {
            !gp.waits_are_void() && (!gp.may_borrow() || gp.win_select())
        }
    }

    /// Nobody forbids to be suspended in a model.
    pub mod pin {
        use crate::g::G;

        /// Always true.
        pub fn may_park(_gp: &'static G) -> bool {
            true
        }

        /// Never called.
        #[track_caller]
        pub fn refuse(_gp: &'static G) -> ! {
            unreachable!("no model pins a goroutine")
        }
    }

    /// Spinning makes no sense in a model, where one look is as good as many.
    pub mod spin {
        use crate::g::G;

        /// Always false.
        pub fn can_spin(_gp: &'static G, _spins: u32) -> bool {
            false
        }

        /// As in the real one.
        pub const BRIEF: u32 = 12;

        /// Never called.
        pub fn do_spin() {}

        /// Never called.
        pub fn do_brief_spin() {}
    }

    /// No P to give away in a model.
    pub fn gosched() {}

    /// What a timer that fires may do.
    pub mod timers {
        use crate::g::G;
        use crate::model::Sched;
        use crate::time::clock::Nanos;
        use crate::time::{Timer, Timers};

        loom::lazy_static! {
            static ref HEAP: &'static Timers = Timers::make().unwrap();
        }

        /// The one heap of a model's scheduler.
        pub fn heap() -> &'static Timers {
            *HEAP
        }

        /// As in the real one, in the one heap.
        ///
        /// # Safety
        ///
        /// As in the real one.
        pub unsafe fn arm(
            _gp: &'static G,
            _sched: &Sched,
            timer: *const Timer,
            when: Nanos,
        ) -> Result<Option<&'static Sched>, Closed> {
            // SAFETY: the caller's promise.
            let _ = unsafe { heap().arm(timer, when) };
            Ok(None)
        }

        pub use arm as arm_parking;

        /// As in the real one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Closed;

        /// As in the real one, in the one heap.
        ///
        /// # Safety
        ///
        /// As in the real one.
        pub unsafe fn arm_elsewhere(
            _sched: &Sched,
            timer: *const Timer,
            when: Nanos,
        ) -> Option<&'static Sched> {
            // SAFETY: the caller's promise.
            let _ = unsafe { heap().arm(timer, when) };
            None
        }

        /// The one heap.
        pub(crate) fn heap_for(_sched: &Sched) -> &'static Timers {
            heap()
        }

        /// No keeper in a model.
        pub(crate) fn told(_sched: &Sched) {}

        /// No keeper in a model.
        pub fn tell(_owed: Option<&'static Sched>) {}

        /// Counts, and readies threads of the model.
        #[derive(Debug, Default)]
        pub struct Firing {
            /// How many Gs it has readied.
            pub readied: usize,
            /// Only count them.
            pub dry: bool,
        }

        impl Firing {
            /// As in the real one.
            pub fn ready(&mut self, gp: &'static G) {
                self.readied += 1;
                if !self.dry {
                    // SAFETY: the caller owns the right to.
                    unsafe { super::goready(gp) };
                }
            }

            /// As in the real one.
            ///
            /// # Safety
            ///
            /// As in the real one.
            #[must_use]
            pub unsafe fn arm(&mut self, timer: *const Timer, when: Nanos) -> bool {
                // SAFETY: the caller's promise.
                let _ = unsafe { heap().arm(timer, when) };
                true
            }
        }
    }

    /// A model's goroutines are threads.
    pub fn current() -> Option<&'static G> {
        None
    }

    /// As in the real one.
    ///
    /// # Safety
    ///
    /// As in the real one.
    pub unsafe fn goready_by(_me: Option<&'static G>, gp: &'static G) {
        // SAFETY: the caller's promise.
        unsafe { goready(gp) };
    }

    /// No time slices in a model.
    pub fn preempt_point() {}
}

/// Waiting with a deadline, which comes when another thread of the model says so.
pub mod sleep {
    use super::proc::{Commit, waiting};
    use crate::g::{G, WaitReason};
    use crate::time::clock::Nanos;
    use loom::sync::Mutex;
    use loom::sync::atomic::{AtomicBool, Ordering};

    loom::lazy_static! {
        /// The one timer of a model: the G that it wakes.
        static ref ARMED: Mutex<Option<&'static G>> = Mutex::new(None);
        /// The model has called [`pass`].
        static ref PASSED: AtomicBool = AtomicBool::new(false);
    }

    /// True if the deadline has passed.
    pub fn passed() -> bool {
        PASSED.load(Ordering::Relaxed)
    }

    /// The deadline passes: it ends the wait that there is, and those that begin from now on. True as for [`expire`].
    pub fn pass() -> bool {
        PASSED.store(true, Ordering::Relaxed);
        expire()
    }

    struct TimedPark {
        commit: Option<Commit>,
        lock: *mut (),
    }

    /// As in the real one.
    ///
    /// # Safety
    ///
    /// As in the real one.
    pub unsafe fn gopark_until(
        gp: &'static G,
        commit: Option<Commit>,
        lock: *mut (),
        reason: WaitReason,
        _deadline: Nanos,
    ) -> bool {
        let park = TimedPark { commit, lock };
        let arg = (&raw const park).cast_mut().cast();
        // SAFETY: the caller's promise.
        unsafe { waiting::park_thread_until(gp, Some(timed_commit), arg, reason, Nanos::NEVER) };
        *ARMED.lock().unwrap() = None;
        !gp.peek_param().is_null()
    }

    unsafe fn timed_commit(gp: &'static G, park: *mut ()) -> bool {
        // SAFETY: the parked frame.
        let (commit, lock) =
            unsafe { ((*park.cast::<TimedPark>()).commit, (*park.cast::<TimedPark>()).lock) };
        let mut armed = ARMED.lock().unwrap();
        *armed = Some(gp);
        if passed() && gp.win_select() {
            *armed = None;
            // SAFETY: winning the select is the right to ready it.
            unsafe { super::proc::goready(gp) };
        }
        drop(armed);
        // SAFETY: as the caller of `gopark_until` promised.
        commit.is_none_or(|f| unsafe { f(gp, lock) })
    }

    /// The deadline: what `Timers::run_due` does when a timer is armed. True if it ended the wait.
    pub fn expire() -> bool {
        let mut armed = ARMED.lock().unwrap();
        let won = armed.take().filter(|gp| gp.win_select());
        drop(armed);
        if let Some(gp) = won {
            // SAFETY: winning the select is the right to ready it.
            unsafe { super::proc::goready(gp) };
        }
        won.is_some()
    }
}
