//! The scavenger: the thread that gives the memory of idle stacks back to the kernel (Go's `bgscavenge`).
//!
//! It looks at the depots every [`PERIOD`]. The stacks at a depot's front that nobody has needed for a whole period are
//! idle: a burst of goroutines gives its memory back one to two periods after it has ended, while a program that keeps
//! using its stacks keeps them. The Ps' hot caches are left alone, and so is a small reserve in the depot.
//!
//! When no depot holds more than its reserve it sleeps, without a timer, so an idle program uses no CPU.
//!
//! V1 (it does not sleep over idle stacks): scavenger: `ASLEEP` is stored, fence, the depots are looked at. Who fills
//! a depot: the stacks are put in, fence, the state is read. One of the two sees the other.

use super::Stack;
use super::arena;
use super::class::CLASSES;
use super::pool;
use crate::note::Note;
use crate::sync::atomic::{AtomicU8, Ordering, fence};
use crate::template;
use crate::threads::Ours;
use crate::time::clock::Nanos;
use std::time::Duration;

const PERIOD: Duration = Duration::from_millis(500);
/// Stacks returned at once.
const SLICE: usize = 1 << 11;

const NONE: u8 = 0;
const ASLEEP: u8 = 1;
const AWAKE: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(NONE);
static NOTE: Note = Note::new();

/// There is more in a depot than its reserve. Not on a goroutine's stack.
#[inline]
pub(super) fn wake() {
    // A model has no scavenger: stacks outlive an execution, its threads do not.
    if cfg!(shuttle) {
        return;
    }
    // ORDERING: pairs with the fence in `run` (V1).
    fence(Ordering::SeqCst);
    let state = STATE.load(Ordering::Relaxed);
    if state != AWAKE && STATE.compare_exchange(state, AWAKE, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        if state == ASLEEP {
            NOTE.wakeup();
        } else {
            // Without the thread the memory stays in the depots, which is no harm; the next one tries again.
            template::start("gort-scavenger", run, |_| STATE.store(NONE, Ordering::Relaxed));
        }
    }
}

fn run() {
    let _ours = Ours::begin();
    loop {
        NOTE.sleep_until(Nanos::now().after(PERIOD));
        round();
        if marks() {
            continue;
        }
        STATE.store(ASLEEP, Ordering::Relaxed);
        // ORDERING: pairs with the fence in `wake` (V1).
        fence(Ordering::SeqCst);
        if marks() {
            // Who else has set it has also left a wake-up, which is then one too many.
            STATE.store(AWAKE, Ordering::Relaxed);
            continue;
        }
        while STATE.load(Ordering::Relaxed) == ASLEEP {
            NOTE.sleep();
        }
    }
}

/// Begins a new period everywhere. True if it may find something to give back.
pub(super) fn marks() -> bool {
    (0..CLASSES as u8).fold(false, |any, class| pool::mark(class) | any)
}

/// Gives back what was idle for the period that ends.
pub(super) fn round() {
    for class in 0..CLASSES as u8 {
        loop {
            let returning = arena::Return::begin(class, SLICE);
            let idle = pool::take_idle(class, SLICE);
            let none = idle.is_empty();
            let mut starts: Vec<usize> = idle.into_iter().map(Stack::retire).collect();
            starts.sort_unstable();
            returning.finish(&starts);
            if none {
                break;
            }
        }
    }
}
