//! [`Handoff`]: how a P is taken from an M whose goroutine does not come back (Go's preemption and its `retake`), or is borrowed
//! from it for a moment.
//!
//! Go interrupts a goroutine that runs for too long with a signal, at any instruction. Rust code cannot be suspended there:
//! it may hold the allocator's lock. So the *processor* is taken away, not the thread: the M goes on with its goroutine
//! under the system's own time slicing, without a P, and another M runs what is queued. When the goroutine next enters
//! the runtime, the M finds the P gone, and gets another one or puts the goroutine into a queue.
//!
//! A thief that wants what is in the P's queue borrows the P, takes what it came for, and gives it back before the M has noticed. So
//! the M need not share its queue with thieves, and spends no read-modify-write on it (`runq`). An M that is in the runtime again and
//! again can hardly be borrowed from: a thief that fails asks it to share, which it learns at its next entry.
//!
//! Two words per M. `in_rt` says that the M is in the runtime (on g0, or in an operation that touches its P). `req`:
//!
//! ```text
//!             claim (a claimant's ticket)           claim: in_rt was 0
//!    NONE --------------------------------> ticket ---------------------> TAKEN or BORROWED
//!     ^ ^ ^                                   |                             |           |
//!     | | +----- enter: keeps the P ----------+                             |           |
//!     | | +----- claim: in_rt was 1 ----------+                             |           |
//!     | +--------------------------------------------- enter: P is lost ----+           |
//!     +----------------------------------------------- the borrower gives it back ------+
//!
//!    NONE --- ask ---> ASKED, which `enter` clears, and which a claimant replaces as if it were NONE
//!
//!   the M                                            a claimant (sysmon, `set_max_procs`, a thief)
//!   enter: 1. in_rt := 1                             claim:  a. req: NONE -> ticket (CAS)
//!          2. light()                                        b. heavy()
//!          3. req: NONE     -> has its P                     c. in_rt is 1 -> gives up: e.
//!                  ticket   -> NONE (CAS): has its P         d. the M still has the P that is meant, and
//!                  TAKEN    -> NONE: has lost it                req: ticket -> TAKEN or BORROWED (CAS): the P is the
//!                  BORROWED -> waits for NONE                   claimant's, or is until it stores NONE
//!                  ASKED    -> NONE (CAS): has its P
//!   exit:  in_rt := 0                                        e. req: ticket -> NONE (CAS)
//! ```
//!
//! If `heavy` in b was a fence of the claimant only, because the kernel refuses the barrier, it goes on with
//! c only if the M is known to make fences too (`fences`), or to have passed a barrier since a in another
//! way; else with e: the P stays where it is.
//!
//! H1: **One owner.** If the M in 3 reads NONE, its 1 and 3 and the claimant's a and c are the two halves of a
//! store-then-load handshake with fences between: the claimant sees `in_rt` = 1, or a later 0 of an `exit` after which
//! every `enter` sees the ticket. If the M sees the ticket, its compare-and-swap and the claimant's d are on one word, and one
//! of them fails.
//!
//! H2: **The P that is meant.** The M changes its P in the runtime only, and every `enter` clears the ticket. So what d
//! reads of the M's P after it saw `in_rt` = 0 is true until d's exchange succeeds. A ticket is used once in the life of the
//! process, so an exchange that comes late, after the M has gone on to another P or scheduler and somebody else asks for
//! that, fails.
//!
//! H3: **What the M did with the P is seen by its next owner**: `exit` is a Release, c an Acquire. What a borrower did is seen by
//! the M: it stores NONE with Release, and 3 is an Acquire.
//!
//! H4: **A borrower has the P for itself.** While the word is BORROWED the M waits in `enter`, and nobody else can put a
//! ticket. It borrows for a few loads and stores and no more, since the M waits for it.
//!
//! H5: **Without the barrier.** `fences` is set by the M when its `light` was a fence, and from then on every
//! one is (B2 of `membarrier`). A claimant that reads it (Acquire) sees what the M did before; of what comes
//! after, each 1 and 3 have a fence between, and H1 holds. An M that has not come in since the kernel began
//! to refuse has not set it. sysmon can afford to see to it that its thread has left its core for a moment
//! (`os::has_been_off_its_core`); from others it keeps its P.
//!
//! The words belong to the M, not to the P: an M that has lost its P and does not know it yet clears its own flag when it
//! comes back, and cannot disturb the P's next owner.
//!
//! The fences are the two halves of [`membarrier`](crate::sync::membarrier): the M's costs nothing, because it enters the
//! runtime at every operation; the claimant's is a system call. sysmon makes a few per second at most; a thief one for a goroutine
//! that has waited some microseconds behind another one, and was going to be woken across cores in any case.
//!
//! **Rejected**: a compare-and-swap or a full fence in each `enter` (six times as expensive, measured); signals (above); a
//! flag that the M only polls (a goroutine that never polls is the reason for all this); a plain number for the request
//! (H2: a late exchange could take a P that somebody else asked for, without that one's barrier).
//!
//! Checked by the models in `tests/loom_handoff.rs`.

use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sync::membarrier::{Heavy, fences_now, heavy, light};
use crate::sync::{os_yield, spin_hint};

const NONE: u64 = 0;
const TAKEN: u64 = 1;
/// `TAKEN`, because the goroutine did not give way.
const TAKEN_FROM_HOG: u64 = 2;
/// Somebody has it for a moment.
const BORROWED: u64 = 3;
/// Somebody wants something of it.
const ASKED: u64 = 4;
/// Everything from here on is a ticket.
const FIRST_TICKET: u64 = 5;
/// The M is the one thread of a forked child.
const DEAD: u64 = u64::MAX;

/// Looks at a borrowed P before its M gives its core away.
const LOOKS: u32 = 64;

/// What became of an M's P while its goroutine ran.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It is still there.
    Kept,
    /// It is still there, and somebody wanted it, or something of it.
    Asked,
    /// It was taken; whether because the goroutine did not give way.
    Lost {
        /// As [`Handoff::retake`] was told.
        hog: bool,
    },
}

/// The words of an M; see the module.
#[derive(Debug)]
pub struct Handoff {
    in_rt: AtomicU32,
    req: AtomicU64,
    /// Every `light` of the M is a fence from now on (H5).
    fences: AtomicBool,
}

impl Default for Handoff {
    fn default() -> Handoff {
        Handoff::new()
    }
}

impl Handoff {
    /// In the runtime; nobody asks for the P. The M's thread is started after this.
    pub fn new() -> Handoff {
        Handoff { in_rt: AtomicU32::new(1), req: AtomicU64::new(NONE), fences: AtomicBool::new(fences_now()) }
    }

    /// The M comes into the runtime.
    #[inline]
    pub fn enter(&self) -> Entered {
        self.in_rt.store(1, Ordering::Relaxed);
        // ORDERING: pairs with `heavy` in `claim` (H1).
        // Relaxed: this thread's own.
        if light() && !self.fences.load(Ordering::Relaxed) {
            // ORDERING: Release, pairs with the Acquire in `claim` (H5).
            self.fences.store(true, Ordering::Release);
        }
        // ORDERING: Acquire, pairs with the Release in `borrow` (H3).
        if self.req.load(Ordering::Acquire) == NONE { Entered::Kept } else { self.asked() }
    }

    /// Somebody asks, has borrowed or has taken.
    #[cold]
    #[inline(never)]
    fn asked(&self) -> Entered {
        let mut looks = 0;
        loop {
            // ORDERING: Acquire, as in `enter`.
            let req = self.req.load(Ordering::Acquire);
            match req {
                NONE => return Entered::Kept,
                #[cfg(not(loom))]
                DEAD => crate::fork::dead(),
                BORROWED => {
                    // The borrower may have no core at the moment.
                    if looks < LOOKS {
                        spin_hint()
                    } else {
                        os_yield()
                    }
                    looks += 1;
                }
                _ => {
                    // ORDERING: Acquire: what the retaker left for who has lost its P is seen.
                    let won = self.req.compare_exchange(req, NONE, Ordering::Acquire, Ordering::Relaxed);
                    match won {
                        Ok(TAKEN | TAKEN_FROM_HOG) => return Entered::Lost { hog: req == TAKEN_FROM_HOG },
                        Ok(_) => return Entered::Asked,
                        Err(_) => {}
                    }
                }
            }
        }
    }

    /// The M leaves the runtime: from here on its P may be taken.
    #[inline]
    pub fn exit(&self) {
        // ORDERING: Release, pairs with the Acquire in `claim` (H3).
        self.in_rt.store(0, Ordering::Release);
    }

    /// Takes the P of an M that is not in the runtime; `still` says whether it has the one that is meant.
    /// `barrier` is asked where the kernel refuses one: true if the M's thread has passed a full one since
    /// that call began. True: the P is the caller's. The M is told by its next [`Handoff::enter`], with
    /// `hog`.
    #[must_use]
    pub fn retake(&self, hog: bool, still: impl FnOnce() -> bool, barrier: impl FnOnce() -> bool) -> bool {
        self.claim(if hog { TAKEN_FROM_HOG } else { TAKEN }, still, barrier)
    }

    /// Has the P of an M that is not in the runtime while it does `f`, which is short and does not panic; `still` as for
    /// [`Handoff::retake`]. `None`: it has not got it.
    pub fn borrow<R>(&self, still: impl FnOnce() -> bool, f: impl FnOnce() -> R) -> Option<R> {
        self.claim(BORROWED, still, || false).then(|| {
            let result = f();
            // ORDERING: Release, pairs with the Acquire in `enter` (H3).
            self.req.store(NONE, Ordering::Release);
            result
        })
    }

    /// Wants something of the P that its M alone can give: `enter` says so.
    pub fn ask(&self) {
        let _ = self.req.compare_exchange(NONE, ASKED, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn claim(&self, claimed: u64, still: impl FnOnce() -> bool, barrier: impl FnOnce() -> bool) -> bool {
        // Looked at first, because what follows is expensive.
        if self.in_rt.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let before = self.req.load(Ordering::Relaxed);
        if before != NONE && before != ASKED {
            return false;
        }
        let ticket = next_ticket();
        if self.req.compare_exchange(before, ticket, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return false;
        }
        // ORDERING: pairs with `light` in `enter` (H1). The load: Acquire, pairs with the Release there (H5).
        let fenced = heavy() == Heavy::Everywhere || self.fences.load(Ordering::Acquire) || barrier();
        // ORDERING: Acquire, pairs with the Release in `exit` (H3). The exchange: Release, for `asked`; Acquire, so that nothing
        // of what a borrower does comes before it.
        let won = fenced
            && self.in_rt.load(Ordering::Acquire) == 0
            && still()
            && self.req.compare_exchange(ticket, claimed, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if !won {
            // If that fails the M has cleared it.
            let _ = self.req.compare_exchange(ticket, NONE, Ordering::Relaxed, Ordering::Relaxed);
        }
        won
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
