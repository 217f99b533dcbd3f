//! Finds out at start whether this build keeps a thread-local's address over a switch of threads, and says
//! so.
//!
//! Code for libraries computes the address of a thread-local first, and may keep it in a register while the
//! goroutine goes on on another thread; then it reads the variable of the old one. `-C relocation-model=pie`
//! avoids that for the *values* read in an executable (docs/safety.md). This crate is a library as others
//! are, built with the same flags, so what happens to a function here happens to those there.
//!
//! 1. Who builds the first scheduler enters a stack, where a function reads a thread-local and suspends.
//! 2. sysmon, whose start that one waits for, goes on with it: the second read must give sysmon's value.
//!
//! So both threads live while it lasts, and a stale address is that of a living variable.

use crate::config::{Config, Migration};
use crate::env;
use crate::stack::coro::Slot;
use crate::stack::{Stack, StackHead, Switch};
use crate::throw::report;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

const WARNING: &str = "\
gort: this build keeps thread-local addresses while a goroutine moves to another OS thread: libraries may use another
thread's variables. Remedy: `-C relocation-model=pie`, as in .cargo/config.toml: [build] rustflags = [\"-C\", \
\"relocation-model=pie\"]
(or GORT_MIGRATE=0: goroutines stay on their threads, and must then hold no lock of `std` over a wait; GORT_TLS_WARN=0 silences \
this)";

thread_local! {
    static MARK: Cell<usize> = const { Cell::new(0) };
}

/// A stack between its two reads.
pub(crate) struct Probe(Stack);

impl Probe {
    /// The first half, once in a process, if the answer is of interest.
    pub fn begin(config: &Config) -> Option<Probe> {
        static DONE: AtomicBool = AtomicBool::new(false);
        // In a model all threads are one.
        let wanted =
            !cfg!(shuttle) && config.migration != Migration::Never && !DONE.swap(true, Ordering::Relaxed);
        if !wanted || env::choice("GORT_TLS_WARN", &[("0", false), ("1", true)]) == Some(false) {
            return None;
        }
        // Without a stack for it, that will be reported by others.
        let stack = Slot::take().ok()?.into_stack(host);
        ONE.stack.set(Some(stack));
        mark_thread(1);
        // SAFETY: the stack was just made, and nobody else has it.
        unsafe { stack.resume() };
        Some(Probe(stack))
    }

    /// The second half, on another thread: warns.
    pub fn end(self) {
        mark_thread(2);
        // SAFETY: the stack is suspended between its reads, and this is the one that goes on with it.
        unsafe { self.0.resume() };
        if ONE.seen.get() != (1, 2) {
            report(format_args!("{WARNING}"));
        }
    }
}

/// After the second half, or without it, because there is no second thread to be had.
impl Drop for Probe {
    fn drop(&mut self) {
        // What is on the stack owns nothing.
        Slot::of(self.0).give_back();
    }
}

/// The one probe of the process. Not in its frame, so that [`read_twice`] is a function like others.
struct One {
    stack: Cell<Option<Stack>>,
    seen: Cell<(usize, usize)>,
}

// SAFETY: the one probe of the process writes it and reads it, with a hand-over from thread to thread in between.
unsafe impl Sync for One {}

static ONE: One = One { stack: Cell::new(None), seen: Cell::new((0, 0)) };

/// Runs on the probe's stack.
extern "C" fn host(_head: &StackHead) -> ! {
    ONE.seen.set(read_twice());
    loop {
        wait();
    }
}

#[inline(never)]
#[expect(clippy::disallowed_methods, reason = "what is to be found out is how it is read")]
fn mark_thread(n: usize) {
    MARK.set(n);
}

/// As any function of a library that waits between two looks at a thread-local.
#[inline(never)]
#[expect(clippy::disallowed_methods, reason = "what is to be found out is how it is read")]
fn read_twice() -> (usize, usize) {
    let before = MARK.get();
    wait();
    (before, MARK.get())
}

#[inline(never)]
fn wait() {
    let stack = ONE.stack.get().expect("set before the stack was entered");
    // SAFETY: this runs on it, and a yield needs nothing of the thread that goes on.
    unsafe { stack.suspend(Switch::Yield) };
}
