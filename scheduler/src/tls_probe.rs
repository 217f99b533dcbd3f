//! Finds out at start whether this build keeps a thread-local's address over a switch of threads, and says so.
//!
//! Code for libraries computes the address of a thread-local first, and may keep it in a register while the goroutine
//! goes on on another thread; then it reads the variable of the old one. `-C relocation-model=pie` avoids that for
//! the *values* read in an executable (docs/safety.md). This crate is a library as others are, built with the same
//! flags, so what happens to a function here happens to those there.
//!
//! 1. The first M of the process starts a coroutine, which reads a thread-local and suspends.
//! 2. sysmon, the thread that this M then starts, resumes it: the second read must give sysmon's value.
//!
//! Both threads live on while it lasts, so a stale address is that of a living variable.

use crate::config::{Config, Migration};
use crate::env;
use crate::stack::coro::Slot;
use crate::throw::report;
use corosensei::{Coroutine, CoroutineResult, Yielder};
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

/// A coroutine between its two reads.
pub(crate) struct Probe(Coroutine<(), (), (usize, usize), Slot>);

// SAFETY: its frames hold two numbers and a yielder; nothing of it belongs to a thread, but what it is there to find out.
unsafe impl Send for Probe {}

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
        let slot = Slot::take().ok()?;
        let mut coroutine = Coroutine::with_stack(slot, |yielder: &Yielder<(), ()>, ()| {
            YIELDER.0.set(std::ptr::from_ref(yielder));
            read_twice()
        });
        mark_thread(1);
        match coroutine.resume(()) {
            CoroutineResult::Yield(()) => Some(Probe(coroutine)),
            CoroutineResult::Return(_) => None,
        }
    }

    /// The second half, on another thread: warns.
    pub fn end(mut self) {
        mark_thread(2);
        let CoroutineResult::Return((before, after)) = self.0.resume(()) else { return };
        self.0.into_stack().give_back();
        if (before, after) != (1, 2) {
            report(format_args!("{WARNING}"));
        }
    }
}

/// Where the one probe of the process suspends. Not in its frame, so that [`read_twice`] is a function like others.
struct OneYielder(Cell<*const Yielder<(), ()>>);

// SAFETY: the one probe of the process writes it and reads it, in one coroutine.
unsafe impl Sync for OneYielder {}

static YIELDER: OneYielder = OneYielder(Cell::new(std::ptr::null()));

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
    // SAFETY: set by this very coroutine, whose yielder lives as long as it runs.
    unsafe { (*YIELDER.0.get()).suspend(()) };
}
