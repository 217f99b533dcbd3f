//! [`Barrier`]: `std::sync::Barrier` that parks goroutines.
//!
//! A count of those that have come, and the number of the round. Who comes last starts the next round and opens the gate for
//! all who wait for it; who is woken, or looks only then, finds another round than its own. In the queue of the gate are
//! those of this round, and void waits are taken out of it and of the count by who comes next.

use gort_scheduler::g::WaitReason;
use gort_scheduler::gate::Gate;
use gort_scheduler::proc::{getg, pin};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// Where a number of goroutines and threads meet, as `std::sync::Barrier`: nobody goes on before all have come. It may be
/// used again at once. A goroutine whose runtime ends while it waits here has not come.
///
/// ```
/// use gort::sync::Barrier;
/// use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
///
/// let (barrier, before) = (Barrier::new(3), AtomicU32::new(0));
/// gort::scope(|s| {
///     for _ in 0..3 {
///         s.go(|| {
///             before.fetch_add(1, SeqCst);
///             barrier.wait();
///             assert_eq!(before.load(SeqCst), 3);
///         });
///     }
/// });
/// ```
pub struct Barrier {
    n: usize,
    state: Gate<Round>,
}

struct Round {
    number: usize,
    come: usize,
}

/// What somebody who comes has to do.
enum Come {
    Last,
    Waits(usize),
    Refused,
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Barrier>();
};

impl UnwindSafe for Barrier {}
impl RefUnwindSafe for Barrier {}

impl Barrier {
    /// A barrier for `n`. With 0 or 1 nobody waits.
    ///
    /// ```
    /// static BARRIER: gort::sync::Barrier = gort::sync::Barrier::new(1);
    /// assert!(BARRIER.wait().is_leader());
    /// ```
    pub const fn new(n: usize) -> Barrier {
        Barrier { n, state: Gate::new(Round { number: 0, come: 0 }) }
    }

    /// Waits until `n` have come, this caller included: parks the goroutine, or blocks the plain thread. One of them, the last to
    /// come, is the leader.
    ///
    /// ```
    /// let barrier = gort::sync::Barrier::new(2);
    /// let leaders = gort::scope(|s| {
    ///     let other = s.go(|| barrier.wait().is_leader());
    ///     u32::from(barrier.wait().is_leader()) + u32::from(other.join().unwrap())
    /// });
    /// assert_eq!(leaders, 1);
    /// ```
    #[track_caller]
    pub fn wait(&self) -> BarrierWaitResult {
        let me = getg();
        let come = self.state.update_counted(|round, gone| {
            // Those whose runtime has ended do not go on: they have not come.
            round.come -= gone;
            if round.come + 1 >= self.n {
                round.come = 0;
                round.number = round.number.wrapping_add(1);
                return (Come::Last, true);
            }
            // Before it is counted: it will not be there.
            if !pin::may_park(me) {
                return (Come::Refused, false);
            }
            round.come += 1;
            (Come::Waits(round.number), false)
        });
        match come {
            Come::Last => {}
            Come::Waits(number) => {
                self.state.wait(WaitReason::SyncBarrierWait, |round| round.number != number);
            }
            Come::Refused => pin::refuse(me),
        }
        BarrierWaitResult(matches!(come, Come::Last))
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").finish_non_exhaustive()
    }
}

/// What [`Barrier::wait`] tells.
///
/// ```
/// assert!(gort::sync::Barrier::new(1).wait().is_leader());
/// ```
#[derive(Debug)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// True for one of those that have met.
    ///
    /// ```
    /// assert!(gort::sync::Barrier::new(0).wait().is_leader());
    /// ```
    pub fn is_leader(&self) -> bool {
        self.0
    }
}
