//! [`Visitors`]: how it is known that everybody has left a scheduler that its owner has ended.
//!
//! A scheduler is used by its owner, by its Ms (which it counts), by sysmon (which has a flag), and by callers from elsewhere
//! who put a goroutine into its queue. The latter **visit** it. Who is not a visitor gives its own hold up during a visit, so
//! that the end of a visit is the last that anybody does with the scheduler; the owner's end is a mark on the count.
//!
//! V1 (somebody finds it empty): each use ends with an operation on this one word. So of all of them one is the last: it takes
//! the count to 0 with the mark set ([`leave`](Visitors::leave)), or sets the mark with the count at 0
//! ([`let_go`](Visitors::let_go)); and, by Release and Acquire, it sees what the others gave up before.
//!
//! V2 (one frees it): the word may become 0 several times: a goroutine that is abandoned in the scheduler can bring a visitor later, and
//! other holds may be given up after a visit that found the count at 0. So whoever is told that it may be the last does not touch the
//! scheduler again, but looks through a list of those that were ended, under whose lock all holds are compared, and takes out
//! what nobody is left in. What is in the list has not been freed; what was taken out is its taker's alone. The owner puts it there before
//! it lets go.
//!
//! Checked by the models in `tests/loom_visitors.rs`.

use crate::sync::atomic::{AtomicU32, Ordering};

/// The owner has let go.
const ENDED: u32 = 1 << 31;

/// See the module.
#[derive(Debug)]
pub struct Visitors(AtomicU32);

impl Default for Visitors {
    /// None; the owner is there.
    fn default() -> Visitors {
        Visitors(AtomicU32::new(0))
    }
}

impl Visitors {
    /// A visit begins. The caller knows of something that keeps the scheduler until it has.
    #[inline]
    pub fn enter(&self) {
        // Relaxed: whatever keeps the scheduler until now is given up with a Release of its own.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// A visit ends. True: the caller may be the last (V2).
    #[inline]
    #[must_use]
    pub fn leave(&self) -> bool {
        // ORDERING: AcqRel (V1).
        self.0.fetch_sub(1, Ordering::AcqRel) == ENDED + 1
    }

    /// The owner ends its use. True: it may be the last (V2).
    #[must_use]
    pub fn let_go(&self) -> bool {
        // ORDERING: AcqRel (V1).
        self.0.fetch_or(ENDED, Ordering::AcqRel) == 0
    }

    /// True if there was a visitor at some moment.
    pub fn any(&self) -> bool {
        // ORDERING: Acquire, pairs with the Release in `leave`: the caller sees what the last one did.
        self.0.load(Ordering::Acquire) & !ENDED != 0
    }

    /// True if the owner and all visitors have left.
    pub fn have_left(&self) -> bool {
        // ORDERING: Acquire (V1).
        self.0.load(Ordering::Acquire) == ENDED
    }
}
