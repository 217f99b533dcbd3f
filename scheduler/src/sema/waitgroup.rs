//! [`WaitGroup`]: a counter, and who waits for it to come to zero, in one word (Go's `sync.WaitGroup`).
//!
//! ```text
//!   63            32 31             0
//!  +----------------+----------------+
//!  | counter, an i32| waiters        |
//!  +----------------+----------------+
//! ```
//!
//! G1: A waiter counts itself and joins the queue under the bucket's lock, and only if the counter is not zero. Whoever brings
//! the counter to zero and sees waiters sets the word to 0 and takes them all out under the bucket's lock: it finds every
//! one that it has seen. If it sees none there is nobody to wake: who comes later sees the zero.
//!
//! G2: While waiters are counted nobody may add to a counter of zero: it would be left to chance whether they are
//! woken. Whoever notices that panics, in Go's words: the one that adds, the one that wakes, or a waiter that wakes to find the
//! next use begun. The waiters are woken all the same.
//!
//! Memory: counting down is a Release, finding zero an Acquire, over all who have counted down; who is woken is ordered by the
//! bucket's lock and the ready.
//!
//! Tested by `tests/loom_waitgroup.rs`; Go's cases in `runtime/tests/go_sync_waitgroup.rs`.

use super::root_for;
use crate::g::WaitReason;
use crate::proc::{getg, pin};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::time::clock::Nanos;

/// Counter and waiters; see the module.
///
/// ```
/// use gort_scheduler::sema::WaitGroup;
///
/// let wg = WaitGroup::new();
/// wg.add(1);
/// wg.add(-1);
/// wg.wait();
/// ```
#[derive(Debug)]
pub struct WaitGroup {
    state: AtomicU64,
}

impl Default for WaitGroup {
    fn default() -> WaitGroup {
        WaitGroup::new()
    }
}

const MISUSE: &str = "sync: WaitGroup misuse: Add called concurrently with Wait";

/// The halves of the word.
#[inline]
fn parts(state: u64) -> (i32, u32) {
    ((state >> 32) as i32, state as u32)
}

impl WaitGroup {
    /// A counter of zero.
    #[cfg(not(loom))]
    pub const fn new() -> WaitGroup {
        WaitGroup { state: AtomicU64::new(0) }
    }

    /// A counter of zero.
    #[cfg(loom)]
    pub fn new() -> WaitGroup {
        WaitGroup { state: AtomicU64::new(0) }
    }

    /// Adds to the counter, or takes away. When it comes to zero all who wait go on.
    ///
    /// # Panics
    ///
    /// If the counter would be negative (or above `i32::MAX`): it is left as it was. If somebody waits and the counter is zero
    /// already (G2).
    #[inline]
    #[track_caller]
    pub fn add(&self, delta: i32) {
        let shifted = (delta as u64) << 32;
        // ORDERING: Release, and Acquire of those before, pairs with the Acquire in `wait`.
        let old = self.state.fetch_add(shifted, Ordering::AcqRel);
        let new = old.wrapping_add(shifted);
        let (v, w) = parts(new);
        if v > 0 && (w == 0 || delta < 0 || v != delta) || v == 0 && w == 0 {
            return;
        }
        self.add_slow(old, new, delta);
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn add_slow(&self, old: u64, new: u64, delta: i32) {
        let (v, _) = parts(new);
        if v < 0 {
            // If somebody was at it meanwhile they have their own troubles.
            let _ = self.state.compare_exchange(new, old, Ordering::Relaxed, Ordering::Relaxed);
            panic!("sync: negative WaitGroup counter");
        }
        // If not, it was zero, with waiters that whoever brought it there is about to wake (G2).
        assert!(delta < 0, "{MISUSE}");
        let queue = root_for(&raw const self.state);
        // ORDERING: Acquire, of all who have counted down; travels on with the ready.
        let found = self.state.swap(0, Ordering::AcqRel);
        queue.ready_all(0, |_| ());
        assert!(found == new, "{MISUSE}");
    }

    /// The counter, at some moment.
    pub fn count(&self) -> usize {
        // Relaxed: a number for reports.
        parts(self.state.load(Ordering::Relaxed)).0.max(0) as usize
    }

    /// Waits until the counter is zero.
    ///
    /// # Panics
    ///
    /// If it is in use again before this waiter has gone on (G2); if the caller would have to wait and must not be suspended
    /// (`proc::pin`).
    #[inline]
    #[track_caller]
    pub fn wait(&self) {
        // ORDERING: Acquire, pairs with the Release in `add`. Less than zero: somebody is about to panic.
        if parts(self.state.load(Ordering::Acquire)).0 > 0 {
            self.wait_slow();
        }
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn wait_slow(&self) {
        let gp = getg();
        let queue = root_for(&raw const self.state);
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            if parts(state).0 <= 0 {
                return;
            }
            if !pin::may_park(gp) {
                drop(queue);
                pin::refuse(gp);
            }
            // ORDERING: Acquire in case it is zero now.
            match self.state.compare_exchange_weak(state, state + 1, Ordering::Relaxed, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        // SAFETY: gp is the caller, and may park.
        let woken = unsafe { queue.park(gp, false, Nanos::NEVER, WaitReason::SyncWaitGroupWait) };
        debug_assert!(woken.is_ok());
        drop(woken);
        assert!(
            self.state.load(Ordering::Acquire) == 0,
            "sync: WaitGroup is reused before previous Wait has returned"
        );
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn message(f: impl FnOnce()) -> String {
        let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("a panic");
        payload
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or(payload.downcast_ref::<String>().cloned())
            .unwrap()
    }

    #[test]
    fn adding_to_zero_while_somebody_waits_is_misuse() {
        // As it is between the last count and the wake-up of the one who waits.
        let wg = WaitGroup { state: AtomicU64::new(1) };
        assert_eq!(message(|| wg.add(1)), MISUSE);
    }

    #[test]
    fn who_wakes_notices_it_too_and_leaves_the_group_as_new() {
        let wg = WaitGroup { state: AtomicU64::new((1 << 32) | 1) };
        // What `add` found, and what somebody has added since.
        let (old, new) = ((1 << 32) | 1, 1);
        assert_eq!(message(|| wg.add_slow(old, new, -1)), MISUSE);
        assert_eq!(wg.state.load(Ordering::Relaxed), 0);
        wg.wait();
    }
}
