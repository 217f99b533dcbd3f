//! [`Once`]: something that is done one time, for which everybody else waits (Go's `sync.Once`, with the poisoning of Rust's).
//!
//! ```text
//!   Incomplete --begin--> Running(by) --returned--> Complete
//!                          ^       \
//!        a caller who      |        +--panicked, or said no--> Poisoned
//!        does not mind  ---+-----------------------------------+
//! ```
//!
//! The state lies in a [`Gate`]; beside it a flag says `Complete`, so that a caller who comes later pays one load.
//!
//! O1: One caller at a time has moved the state to `Running`, and it alone moves it on, whatever way its function ends.
//!
//! O2: Who finds the flag set, or the state `Complete`, sees all that the function did: the flag is a Release after it, and the
//! state is changed under the gate's lock after it.
//!
//! O3: No wake-up is lost: whoever waits has looked at the state under the lock under which it is changed, and the change
//! wakes all of them. They look again, and one of them may be the next to run.
//!
//! While the function runs no lock is held, so it may park, and its goroutine may go on on another thread. The G that runs it
//! is noted, so that a function that comes back to its own `Once` panics instead of waiting for itself.
//!
//! **Differs from Go**: a function that panics does not count as done: the state is `Poisoned`, and what that means is
//! decided by who comes next (`std::sync::Once`, `OnceLock` and `LazyLock` differ in it).
//!
//! Tested by `tests/loom_once.rs`.

use crate::g::{G, WaitReason};
use crate::gate::Gate;
use crate::proc::getg;
use crate::sync::atomic::{AtomicBool, Ordering};
use std::ptr;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Incomplete,
    Poisoned,
    /// With the address of the G that runs it, which it does not leave before the end.
    Running(*const G),
    Complete,
}

// SAFETY: the address is compared, never followed.
unsafe impl Send for State {}

/// See the module.
#[derive(Debug)]
pub struct Once {
    done: AtomicBool,
    state: Gate<State>,
}

/// A function that ran before has panicked, or said that it is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poisoned;

/// What a caller finds.
enum Turn {
    Done,
    Mine { poisoned: bool },
    Wait,
    Poisoned,
    Recursive,
}

/// Moves the state on when the function has ended (O1).
struct Finish<'a> {
    once: &'a Once,
    to: State,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.once.state.update(|state| {
            *state = self.to;
            // ORDERING: Release, pairs with the Acquire in `is_completed`; publishes what the function did (O2).
            self.once.done.store(self.to == State::Complete, Ordering::Release);
            ((), true)
        });
    }
}

impl Once {
    /// Not done yet.
    #[cfg(not(loom))]
    pub const fn new() -> Once {
        Once { done: AtomicBool::new(false), state: Gate::new(State::Incomplete) }
    }

    /// Not done yet.
    #[cfg(loom)]
    pub fn new() -> Once {
        Once { done: AtomicBool::new(false), state: Gate::new(State::Incomplete) }
    }

    /// True once it is done; then what the function did is seen.
    #[inline]
    pub fn is_completed(&self) -> bool {
        // ORDERING: Acquire, pairs with the Release in `Finish` (O2).
        self.done.load(Ordering::Acquire)
    }

    /// Runs `f`, which is told whether the state was poisoned, and says whether it is done now, unless it is done already; waits
    /// for one that runs.
    ///
    /// # Errors
    ///
    /// If the state is poisoned; not with `force`: then `f` is run all the same.
    ///
    /// # Panics
    ///
    /// With f's panic; when it is called from within the function that runs.
    #[inline]
    #[track_caller]
    pub fn call(&self, force: bool, f: impl FnOnce(bool) -> bool) -> Result<(), Poisoned> {
        if self.is_completed() {
            return Ok(());
        }
        let mut f = Some(f);
        self.call_slow(force, &mut |poisoned| f.take().is_some_and(|f| f(poisoned)))
    }

    #[cold]
    #[track_caller]
    fn call_slow(&self, force: bool, f: &mut dyn FnMut(bool) -> bool) -> Result<(), Poisoned> {
        let me = ptr::from_ref(getg());
        loop {
            let turn = self.state.update(|state| {
                let turn = match *state {
                    State::Complete => Turn::Done,
                    State::Poisoned if !force => Turn::Poisoned,
                    State::Incomplete | State::Poisoned => {
                        let poisoned = *state == State::Poisoned;
                        *state = State::Running(me);
                        Turn::Mine { poisoned }
                    }
                    State::Running(by) if by == me => Turn::Recursive,
                    State::Running(_) => Turn::Wait,
                };
                (turn, false)
            });
            match turn {
                Turn::Done => return Ok(()),
                Turn::Poisoned => return Err(Poisoned),
                Turn::Recursive => panic!("one-time initialization may not be performed recursively"),
                Turn::Mine { poisoned } => {
                    let mut finish = Finish { once: self, to: State::Poisoned };
                    if f(poisoned) {
                        finish.to = State::Complete;
                    }
                    return Ok(());
                }
                Turn::Wait => {
                    self.state.wait(WaitReason::SyncOnceDo, |state| !matches!(state, State::Running(_)))
                }
            }
        }
    }

    /// Waits until it is done, which need not have been begun yet.
    ///
    /// # Errors
    ///
    /// If the state is poisoned; not with `force`: then it waits on.
    #[inline]
    #[track_caller]
    pub fn wait(&self, force: bool) -> Result<(), Poisoned> {
        if self.is_completed() { Ok(()) } else { self.wait_slow(force) }
    }

    #[cold]
    #[track_caller]
    fn wait_slow(&self, force: bool) -> Result<(), Poisoned> {
        loop {
            self.state.wait(WaitReason::SyncOnceDo, |state| match state {
                State::Complete => true,
                State::Poisoned => !force,
                State::Incomplete | State::Running(_) => false,
            });
            match self.state.update(|state| (*state, false)) {
                State::Complete => return Ok(()),
                State::Poisoned if !force => return Err(Poisoned),
                _ => {}
            }
        }
    }
}

impl Default for Once {
    fn default() -> Once {
        Once::new()
    }
}
