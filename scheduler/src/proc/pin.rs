//! Goroutines that must not be suspended for a while, because they hold what belongs to their OS thread: a reference to
//! a thread-local, a lock that its thread owns.
//!
//! Every operation that is about to park asks [`may_park`] before it lets anyone know of its wait, and else lets go of its
//! lock and panics ([`refuse`]). A request to give way is left standing until the last guard is gone. A P that is taken
//! meanwhile is taken: the goroutine goes on on its thread without one.

use super::park::{getg, preempt_check};
use crate::g::G;
use std::panic::Location;

/// Says that the calling goroutine must not be suspended, until [`unpin`]. Nests. Nothing on a plain thread, which is never
/// suspended.
///
/// # Panics
///
/// When it nests 255 deep.
#[track_caller]
pub fn pin(at: &'static Location<'static>) {
    let gp = getg();
    if !gp.is_thread() {
        let n = gp.pins.get().checked_add(1).expect("no_suspend nests more than 255 deep");
        gp.pins.set(n);
        gp.set_pinned_at(at);
    }
}

/// Undoes one [`pin`].
pub fn unpin() {
    let gp = getg();
    if !gp.is_thread() {
        let n = gp.pins.get().checked_sub(1).expect("a guard undoes what it did");
        gp.pins.set(n);
        if n == 0 {
            preempt_check(gp);
        }
    }
}

/// False if this goroutine, the caller, must not be suspended.
#[inline]
pub fn may_park(gp: &'static G) -> bool {
    gp.pins.get() == 0
}

/// The caller would park, and must not.
///
/// # Panics
///
/// Always.
#[cold]
#[inline(never)]
#[track_caller]
pub fn refuse(gp: &'static G) -> ! {
    match gp.pinned_at() {
        Some(at) => panic!("goroutine {} would park while a NoSuspendGuard lives, taken at {at}", gp.id()),
        None => panic!("goroutine {} would park while a NoSuspendGuard lives", gp.id()),
    }
}
