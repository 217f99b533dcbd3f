//! What the scheduler needs of a shuttle model beside atomics and threads: chance, time, and a last word.
//!
//! **Time** is the model's own, and chance moves it: on by up to [`TICK`] at each look, and to a sleeper's deadline at one
//! in [`NAPS`] of its looks, whoever else is about to do something, since a real thread may be held up for any time
//! as well. So a sleep or a time limit ends before or after anything else that can happen, a program that only waits for
//! deadlines never stands still, and one in which somebody waits for ever without a deadline is reported as a deadlock.
//!
//! **Threads** that the scheduler starts are not detached: an execution is over when all of them have ended. That is
//! why an M ends with its scheduler (`m`).

use std::fmt;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds that pass from one look at the clock to the next, at most.
const TICK: u64 = 8192;
/// Looks of a sleeper at the clock, on average, until its time has come.
const NAPS: u64 = 8;

super::per_process! {
    /// Not the model's atomic: a look at the clock is nothing that others could come between.
    static CLOCK: AtomicU64 = AtomicU64::new(1);
}

/// A random number, the same in a replay.
pub(crate) fn random() -> u64 {
    use ::shuttle::rand::RngCore;
    ::shuttle::rand::thread_rng().next_u64()
}

/// The time in nanoseconds.
pub(crate) fn now() -> u64 {
    let tick = random() % TICK;
    CLOCK.fetch_add(tick, Ordering::Relaxed) + tick
}

/// Lets others run. True if it has become `deadline` meanwhile.
pub(crate) fn nap(deadline: u64) -> bool {
    super::spin_hint();
    if random().is_multiple_of(NAPS) {
        CLOCK.fetch_max(deadline, Ordering::Relaxed);
    }
    CLOCK.load(Ordering::Relaxed) >= deadline
}

/// Before the end of the process: a panic, which nobody sees but shuttle's hook, so that the schedule is printed.
pub(crate) fn last_word(message: fmt::Arguments<'_>) {
    let _ = catch_unwind(|| panic!("{message}"));
}
