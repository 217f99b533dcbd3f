//! Changing the number of Ps while goroutines run (Go's `GOMAXPROCS(n)` and `procresize`, without stopping the world).
//!
//! More: the new Ps are given up like any other, and so become idle or go to who waits for one. Fewer: the idle ones
//! above the limit are emptied at once; for the others their goroutines are asked to give way, and their Ms give them up at
//! their next pass, which empties them (`retire_p`). A P whose goroutine calls nothing of ours is taken (`handoff`).
//! The caller waits until all are gone.

use super::handoffp::retake;
use super::park::{getg, gosched, systemstack};
use super::pin;
use super::wake::{release_p, start};
use crate::config::MAX_PROCS;
use crate::g::WaitReason;
use crate::memory::Short;
use crate::p::P;
use crate::sched::Sched;
use crate::sync::atomic::Ordering;
use crate::time::clock::Nanos;
use crate::time::sleep::try_sleep_until;
use std::time::Duration;

/// How long the caller waits between two looks at the Ps that are still held.
const NAP: Duration = Duration::from_micros(50);

/// Changes the number of Ps; the number before. When it returns, goroutines are run by at most `n` Ps. 0 only asks.
///
/// # Panics
///
/// When `n` is above [`MAX_PROCS`], and where the caller must not be suspended.
#[track_caller]
pub fn set_max_procs(sched: &'static Sched, n: usize) -> usize {
    assert!(n <= MAX_PROCS, "max_procs of {n} is outside 1..={MAX_PROCS}");
    if n == 0 {
        return sched.max_procs();
    }
    let me = getg();
    if !pin::may_park(me) {
        pin::refuse(me);
    }
    while !sched.resizing.update(|busy| (!std::mem::replace(busy, true), false)) {
        sched.resizing.wait(WaitReason::Semacquire, |busy| !busy);
    }
    let before = sched.max_procs();
    let begun = if n == before { Ok(()) } else { systemstack(|| begin(sched, n)) };
    if n != before && begun.is_ok() {
        while sched.idle.nretired() < sched.allp.len() - n {
            systemstack(|| press(sched, n));
            // Without memory for a timer it only gives way.
            if try_sleep_until(Nanos::now().after(NAP)).is_err() {
                gosched();
            }
        }
    }
    sched.resizing.update(|busy| {
        *busy = false;
        ((), true)
    });
    match begun {
        Ok(()) => before,
        Err(short) => short.refuse(),
    }
}

/// From here on the new number holds for every P that is given up.
///
/// # Errors
///
/// When there is no memory for more Ps; the number stays. New Ps that were made first are nobody's, for the next call.
fn begin(sched: &'static Sched, n: usize) -> Result<(), Short> {
    let made = sched.allp.len();
    sched.allp.make(n, sched.config.random_order)?;
    sched.idle.retired(sched.allp.len() - made);
    sched.idle.reserve(n)?;
    for p in sched.idle.set_limit(n)? {
        release_p(sched, &sched.allp[p]);
    }
    if !sched.globq.is_empty() || sched.allp.iter().any(|pp| !pp.runq.is_empty()) {
        start(sched, sched.idle.submitted());
    }
    Ok(())
}

/// Sees to it that the Ps above the limit are given up.
fn press(sched: &'static Sched, n: usize) {
    for pp in sched.allp.iter().skip(n) {
        let w = &pp.watched;
        // SAFETY: null or a G, whose memory is never freed; one that has gone on gives way for nothing.
        if let Some(gp) = unsafe { w.curg.load(Ordering::Acquire).as_ref() } {
            w.slice_over.store(true, Ordering::Relaxed);
            gp.ask_to_give_way();
            retake(sched, pp, false);
        }
    }
}

/// True if a P takes no part any longer, and must be given up.
#[inline]
pub(super) fn is_over(sched: &'static Sched, pp: &'static P) -> bool {
    pp.id >= sched.max_procs()
}

/// Empties a P that takes no part any longer; its queue is empty. The caller holds it, and is no goroutine.
pub(super) fn retire_p(sched: &'static Sched, pp: &'static P) {
    // SAFETY: the caller holds the P.
    let owned = unsafe { pp.owned() };
    owned.gcache.give_all();
    owned.stacks.give_all();
    pp.watched.curg.store(std::ptr::null_mut(), Ordering::Relaxed);
    sched.idle.retired(1);
    start(sched, sched.idle.submitted());
}
