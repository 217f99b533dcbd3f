//! Waiting awake for somebody who will be done soon, for a lock (Go's `sync_runtime_canSpin` and `doSpin`).
//!
//! It makes sense only if that somebody runs at this moment, on another P, and if nobody else could use this one.

use super::wake::HeldP;
use crate::g::G;
use crate::sync::spin_hint;
use std::sync::atomic::{AtomicU32, Ordering};

/// How often in a row: altogether some microseconds, as long as a park takes with all that comes of it. Go has 4, and then
/// parks where the next look would have found the lock open; by measurement, see docs/benchmarks.md.
const ACTIVE_SPIN: u32 = 6;
/// Pause instructions each time, twice as many as in Go: who looks more often takes the lock's cache line away from its
/// holder. By measurement, as above.
const ACTIVE_SPIN_CNT: u32 = if cfg!(shuttle) { 1 } else { 60 };

/// Whether the caller, whose G is `gp`, may spin once more, having done so `spins` times.
pub fn can_spin(gp: &'static G, spins: u32) -> bool {
    if spins >= ACTIVE_SPIN || ncpu() == 1 {
        return false;
    }
    let Some(sched) = gp.sched() else { return true };
    // Somebody else runs a goroutine.
    let idle = sched.idle.npidle() + sched.idle.nmspinning();
    if sched.max_procs() <= idle as usize + 1 {
        return false;
    }
    // Nobody waits for this P. One that was taken is not ours to keep busy.
    HeldP::of(gp, sched).is_some_and(|pp| pp.p().runq.is_empty())
}

/// Spins once.
pub fn do_spin() {
    (0..ACTIVE_SPIN_CNT).for_each(|_| spin_hint());
}

/// So many brief spins take as long as a spin.
pub const BRIEF: u32 = 12;

/// Spins once, briefly: for what takes no longer than some loads and stores.
pub fn do_brief_spin() {
    (0..ACTIVE_SPIN_CNT.div_ceil(BRIEF)).for_each(|_| spin_hint());
}

/// How many processors the system has.
fn ncpu() -> u32 {
    static NCPU: AtomicU32 = AtomicU32::new(0);
    // Relaxed: a number that is the same whoever finds it out.
    let known = NCPU.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    // SAFETY: takes a number and touches no memory of ours.
    let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    let n = u32::try_from(online).unwrap_or(1).max(1);
    NCPU.store(n, Ordering::Relaxed);
    n
}
