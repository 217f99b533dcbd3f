//! [`Handoff`]: how a P is taken from an M whose goroutine does not come back (Go's preemption and its `retake`).
//!
//! Go interrupts a goroutine that runs for too long with a signal, at any instruction. Rust code cannot be suspended there:
//! it may hold the allocator's lock. So the *processor* is taken away, not the thread: the M goes on with its goroutine
//! under the system's own time slicing, without a P, and another M runs what is queued. When the goroutine next enters
//! the runtime, the M finds the P gone, and gets another one or puts the goroutine into a queue.
//!
//! Two words per M. `in_rt` says that the M is in the runtime (on g0, or in an operation that touches its P). `req`:
//!
//! ```text
//!             retake (a retaker's ticket)           retake: in_rt was 0
//!    NONE --------------------------------> ticket ---------------------> TAKEN
//!     ^ ^                                     |                             |
//!     | +------- enter: keeps the P ----------+                             |
//!     | +------- retake: in_rt was 1 ---------+                             |
//!     +----------------------------------------------- enter: P is lost ----+
//!
//!   the M                                            a retaker (sysmon, `set_max_procs`)
//!   enter: 1. in_rt := 1                             retake: a. req: NONE -> ticket (CAS)
//!          2. light()                                        b. heavy()
//!          3. req: NONE  -> has its P                        c. in_rt is 1 -> gives up: e.
//!                  ticket -> NONE (CAS): has its P           d. the M still has the P that is meant, and
//!                  TAKEN -> NONE: has lost it                   req: ticket -> TAKEN (CAS): the P is the retaker's
//!   exit:  in_rt := 0                                        e. req: ticket -> NONE (CAS)
//! ```
//!
//! H1: **One owner.** If the M in 3 reads NONE, its 1 and 3 and the retaker's a and c are the two halves of a
//! store-then-load handshake with fences between: the retaker sees `in_rt` = 1, or a later 0 of an `exit` after which
//! every `enter` sees the ticket. If the M sees the ticket, its compare-and-swap and the retaker's d are on one word, and one
//! of them fails.
//!
//! H2: **The P that is meant.** The M changes its P in the runtime only, and every `enter` clears the ticket. So what d
//! reads of the M's P after it saw `in_rt` = 0 is true until d's exchange succeeds. A ticket is used once in the life of the
//! process, so an exchange that comes late, after the M has gone on to another P or scheduler and somebody else asks for
//! that, fails.
//!
//! H3: **What the M did with the P is seen by its next owner**: `exit` is a Release, c an Acquire.
//!
//! The words belong to the M, not to the P: an M that has lost its P and does not know it yet clears its own flag when it
//! comes back, and cannot disturb the P's next owner.
//!
//! The fences are the two halves of [`membarrier`](crate::sync::membarrier): the M's costs nothing, because it enters the
//! runtime at every operation; the retaker's is a system call, a few times per second at most.
//!
//! **Rejected**: a compare-and-swap or a full fence in each `enter` (six times as expensive, measured); signals (above); a
//! flag that the M only polls (a goroutine that never polls is the reason for all this); a plain number for the request
//! (H2: a late exchange could take a P that somebody else asked for, without that one's barrier).
//!
//! Checked by the models in `tests/loom_handoff.rs`.

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::membarrier::{heavy, light};

const NONE: u64 = 0;
const TAKEN: u64 = 1;
/// `TAKEN`, because the goroutine did not give way.
const TAKEN_FROM_HOG: u64 = 2;
/// Everything from here on is a ticket.
const FIRST_TICKET: u64 = 3;
/// The M is the one thread of a forked child.
const DEAD: u64 = u64::MAX;

/// What became of an M's P while its goroutine ran.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It is still there.
    Kept,
    /// It was taken; whether because the goroutine did not give way.
    Lost {
        /// As [`Handoff::retake`] was told.
        hog: bool,
    },
}

/// The two words of an M; see the module.
#[derive(Debug)]
pub struct Handoff {
    in_rt: AtomicU32,
    req: AtomicU64,
}

impl Default for Handoff {
    fn default() -> Handoff {
        Handoff::new()
    }
}

impl Handoff {
    /// In the runtime; nobody asks for the P.
    pub fn new() -> Handoff {
        Handoff { in_rt: AtomicU32::new(1), req: AtomicU64::new(NONE) }
    }

    /// The M comes into the runtime.
    #[inline]
    pub fn enter(&self) -> Entered {
        self.in_rt.store(1, Ordering::Relaxed);
        // ORDERING: pairs with `heavy` in `retake` (H1).
        light();
        // Relaxed: what matters of it is decided in `asked`.
        if self.req.load(Ordering::Relaxed) == NONE { Entered::Kept } else { self.asked() }
    }

    /// Somebody asks, or has taken.
    #[cold]
    #[inline(never)]
    fn asked(&self) -> Entered {
        let mut req = self.req.load(Ordering::Relaxed);
        while req != NONE {
            #[cfg(not(loom))]
            if req == DEAD {
                crate::fork::dead();
            }
            // ORDERING: Acquire: what the retaker left for who has lost its P is seen.
            match self.req.compare_exchange(req, NONE, Ordering::Acquire, Ordering::Relaxed) {
                Ok(TAKEN | TAKEN_FROM_HOG) => return Entered::Lost { hog: req == TAKEN_FROM_HOG },
                Ok(_) => return Entered::Kept,
                Err(now) => req = now,
            }
        }
        Entered::Kept
    }

    /// The M leaves the runtime: from here on its P may be taken.
    #[inline]
    pub fn exit(&self) {
        // ORDERING: Release, pairs with the Acquire in `retake` (H3).
        self.in_rt.store(0, Ordering::Release);
    }

    /// Takes the P of an M that is not in the runtime; `still` says whether it has the one that is meant. True: the P is
    /// the caller's. The M is told by its next [`Handoff::enter`], with `hog`.
    #[must_use]
    pub fn retake(&self, hog: bool, still: impl FnOnce() -> bool) -> bool {
        // Looked at first, because what follows is expensive.
        if self.in_rt.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let ticket = next_ticket();
        let taken_as = if hog { TAKEN_FROM_HOG } else { TAKEN };
        if self.req.compare_exchange(NONE, ticket, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return false;
        }
        // ORDERING: pairs with `light` in `enter` (H1).
        heavy();
        // ORDERING: Acquire, pairs with the Release in `exit` (H3). The exchange: Release, for `asked`.
        let taken = self.in_rt.load(Ordering::Acquire) == 0
            && still()
            && self.req.compare_exchange(ticket, taken_as, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if !taken {
            // If that fails the M has cleared it.
            let _ = self.req.compare_exchange(ticket, NONE, Ordering::Relaxed, Ordering::Relaxed);
        }
        taken
    }
}

#[cfg(not(loom))]
impl Handoff {
    /// From here on whoever enters ends the process (`fork`). Called by the M's own thread.
    pub(crate) fn die(&self) {
        self.req.store(DEAD, Ordering::Relaxed);
    }
}

/// Unique in the process.
fn next_ticket() -> u64 {
    // A number and no more, so the model need not know of it.
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(FIRST_TICKET);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
