//! Calls that block the OS thread, announced (Go's `entersyscall` and `exitsyscall`).
//!
//! Entering: if goroutines wait that this P could run, it is handed off at once. Else the M keeps it, and the call costs a few
//! stores; sysmon takes the P after a tick or two if somebody comes to need it (`sysmon`). Leaving: a P that is still there
//! is kept, without a lock; else an idle one is taken; else the goroutine goes into the global queue and its M sleeps.
//!
//! That a goroutine is in such a call is said by the G (`in_syscall`), not by its status: the function may use the
//! library, park, and go on on another M.

use super::handoffp::{handoffp, has_work};
use super::park::{getg, getm, give_way, systemstack};
use super::wake::HeldP;
use crate::g::G;
use crate::sync::atomic::Ordering;

/// Runs a function that may block its OS thread: other goroutines go on meanwhile. On a plain thread just runs it.
pub fn blocking<T>(f: impl FnOnce() -> T) -> T {
    let gp = getg();
    if gp.is_thread() {
        return f();
    }
    let call = Call { gp, outer: entersyscall(gp) };
    let result = f();
    drop(call);
    result
}

/// A blocking call that is going on; its end is that of the call, on whatever way it is left.
struct Call {
    gp: &'static G,
    /// It is inside another one.
    outer: bool,
}

impl Drop for Call {
    #[inline]
    fn drop(&mut self) {
        exitsyscall(self.gp, self.outer);
    }
}

/// True if the goroutine is in a blocking call already.
#[inline]
fn entersyscall(gp: &'static G) -> bool {
    // Relaxed: a goroutine's own; sysmon may see it late.
    let outer = gp.in_syscall.load(Ordering::Relaxed);
    gp.in_syscall.store(true, Ordering::Relaxed);
    let sched = gp.sched().expect("a goroutine has a scheduler");
    if let Some(held) = HeldP::of(gp, sched) {
        let tick = &held.p().watched.syscalltick;
        // Relaxed: written by the holder.
        tick.store(tick.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        if sched.idle.nwanting() > 0 || has_work(sched, held.p()) {
            hand_off(gp);
        }
    }
    outer
}

/// Gives the P up. In the runtime.
#[cold]
#[inline(never)]
fn hand_off(gp: &'static G) {
    systemstack(|| {
        let mp = getm(gp);
        let pp = mp.p();
        mp.set_p(None);
        handoffp(mp.sched.get().expect("an M that runs a goroutine serves a scheduler"), pp);
    });
}

#[inline]
fn exitsyscall(gp: &'static G, outer: bool) {
    gp.in_syscall.store(outer, Ordering::Relaxed);
    let sched = gp.sched().expect("a goroutine has a scheduler");
    if HeldP::of(gp, sched).is_none() {
        // Comes back with a P.
        give_way(gp);
    }
}
