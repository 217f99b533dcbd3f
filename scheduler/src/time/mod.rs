//! Timers of a scheduler: one heap of deadlines, run by whoever looks for work.
//!
//! - [`clock`]: the time. [`heap`]: the data structure, tested apart. [`sleep`]: what goroutines do with it.
//!
//! A [`Timer`] wakes a G, or calls a function on g0. A waking timer lies on the stack of the G that waits (or in the
//! frame of a plain thread, which then needs no heap: it sleeps on its note with a deadline).
//!
//! ```text
//!   arm (park's commit, on g0)      run_due (any M of the scheduler, sysmon)     disarm (the woken G)
//!   lock; push; unlock              lock; pop what is due;                        lock; still in the heap?
//!   the new first? tell the keeper  win_select -> the right to ready; unlock      remove : it has fired
//!                                   ready
//! ```
//!
//! I1: A timer's memory is touched under the heap's lock only, and only while it is in the heap. So after `disarm`
//! has returned, or after the timer has fired, its G may leave the frame that holds it.
//!
//! I2: Between a wake-up by the timer and one by anything else, `G::win_select` decides, under the heap's lock for
//! the timer: a firing that has left the heap has won or lost already, and cannot claim a later wait of the same G.
//!
//! Lock order: a channel's lock, then the heap's. A function of a timer runs with neither.
//!
//! Who looks: an M that has found no work, and every few passes under load (`find_runnable`); sysmon, when all Ms are
//! busy; the **keeper**, one sleeping M that wakes at the first deadline, when all are idle ([`keeper`](crate::keeper)).

pub mod clock;
pub mod heap;
#[cfg(not(loom))]
pub mod sleep;
#[cfg(loom)]
pub use crate::model::sleep;

use crate::g::G;
use crate::sync::Spinning;
use crate::sync::atomic::{AtomicU64, Ordering};
use clock::Nanos;
use heap::{Heap, Indexed};
use std::cell::{Cell, UnsafeCell};

/// What is called on g0 when a timer fires. It must not block.
pub type Callback = Box<dyn FnOnce() + Send>;

/// A deadline and what happens then; see the module.
pub struct Timer {
    /// Its place in the heap. Under the heap's lock.
    index: Cell<usize>,
    what: What,
}

enum What {
    Wake(&'static G),
    Call(UnsafeCell<Option<Callback>>),
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer").finish_non_exhaustive()
    }
}

impl Timer {
    /// A timer, not armed, that readies `gp` if it wins its select.
    pub fn wake(gp: &'static G) -> Timer {
        Timer { index: Cell::new(NOT_IN_HEAP), what: What::Wake(gp) }
    }
}

const NOT_IN_HEAP: usize = usize::MAX;

/// A timer in the heap.
#[derive(Clone, Copy)]
struct Armed(*const Timer);

impl Indexed for Armed {
    fn moved(self, index: Option<usize>) {
        // SAFETY: a timer in the heap is alive (I1), and the heap is locked.
        unsafe { (*self.0).index.set(index.unwrap_or(NOT_IN_HEAP)) };
    }
}

/// The heap and its first deadline.
pub struct Timers {
    heap: Spinning<Heap<Armed>>,
    first: AtomicU64,
}

// SAFETY: the pointers in the heap are dereferenced under its lock only, while what they name is alive (I1).
unsafe impl Sync for Timers {}
// SAFETY: as above; a timer belongs to no thread.
unsafe impl Send for Timers {}

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timers").field("first", &self.first()).finish_non_exhaustive()
    }
}

impl Timers {
    /// No timers.
    pub fn new() -> Timers {
        Timers { heap: Spinning::new(Heap::new()), first: AtomicU64::new(Nanos::NEVER.0) }
    }

    /// The first deadline.
    #[inline]
    pub fn first(&self) -> Nanos {
        // ORDERING: Acquire, pairs with the Release in `changed`; a hint all the same.
        Nanos(self.first.load(Ordering::Acquire))
    }

    fn changed(&self, heap: &Heap<Armed>) {
        self.first.store(heap.first().unwrap_or(Nanos::NEVER).0, Ordering::Release);
    }

    /// Arms a timer. True if its deadline is now the first: the caller tells the keeper.
    ///
    /// # Safety
    ///
    /// The timer is not armed, and stays where it is until it has been disarmed or has fired.
    #[must_use]
    pub unsafe fn arm(&self, timer: *const Timer, when: Nanos) -> bool {
        let mut heap = self.heap.lock();
        heap.push(when, Armed(timer));
        let first = heap.first() == Some(when);
        if first {
            self.changed(&heap);
        }
        first
    }

    /// Arms a timer that calls a function. True as for [`Timers::arm`].
    #[must_use]
    pub fn arm_call(&self, when: Nanos, f: Callback) -> bool {
        let timer =
            Box::new(Timer { index: Cell::new(NOT_IN_HEAP), what: What::Call(UnsafeCell::new(Some(f))) });
        // SAFETY: the heap owns the box until `run_due` takes it back.
        unsafe { self.arm(Box::into_raw(timer), when) }
    }

    /// Takes a timer out. False if it has fired.
    pub fn disarm(&self, timer: &Timer) -> bool {
        let mut heap = self.heap.lock();
        let index = timer.index.get();
        if index == NOT_IN_HEAP {
            return false;
        }
        heap.remove(index);
        if index == 0 {
            self.changed(&heap);
        }
        true
    }

    /// Fires what is due; the Gs to be readied go to `ready`. Runs on an M's g0 or on sysmon.
    pub fn run_due(&self, mut ready: impl FnMut(&'static G)) {
        if self.first() == Nanos::NEVER {
            return;
        }
        let now = Nanos::now();
        while self.first() <= now {
            let mut heap = self.heap.lock();
            let Some(Armed(timer)) = heap.pop_due(now) else { return };
            self.changed(&heap);
            // SAFETY: it was in the heap a moment ago, and its owner needs the lock to get away (I1).
            match unsafe { &(*timer).what } {
                What::Wake(gp) => {
                    let gp = *gp;
                    let won = gp.win_select();
                    drop(heap);
                    if won {
                        // No word is left for it (`begin_select` cleared the place): that means the time is over.
                        ready(gp);
                    }
                }
                What::Call(_) => {
                    drop(heap);
                    // SAFETY: call timers are boxes that the heap owned (`arm_call`), and it was just taken out.
                    let timer = unsafe { Box::from_raw(timer.cast_mut()) };
                    if let What::Call(f) = timer.what
                        && let Some(f) = f.into_inner()
                    {
                        f();
                    }
                }
            }
        }
    }
}

impl Default for Timers {
    fn default() -> Timers {
        Timers::new()
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        let mut heap = self.heap.lock();
        while let Some(Armed(timer)) = heap.pop_due(Nanos::NEVER) {
            // SAFETY: a waking timer belongs to an abandoned goroutine, whose stack is never freed; a call timer is
            // the heap's box.
            unsafe {
                if matches!((*timer).what, What::Call(_)) {
                    drop(Box::from_raw(timer.cast_mut()));
                }
            }
        }
    }
}
