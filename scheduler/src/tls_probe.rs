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
thread's variables.";

const IN_A_PROGRAM: &str = "\
Remedy: `-C relocation-model=pie`, as in .cargo/config.toml: [build] rustflags = [\"-C\", \"relocation-model=pie\"]
(or GORT_MIGRATE=0: goroutines stay on their threads, and must then hold no lock of `std` over a wait; GORT_TLS_WARN=0 silences \
this)";

/// A shared library does not link with the flag of programs.
const IN_A_LIBRARY: &str = "\
Remedy in a shared library, as this is one: Runtime::builder().migrate(false), or GORT_MIGRATE=0: goroutines stay on their \
threads,
and must then hold no lock of `std` over a wait. Or a nightly compiler's `-Z tls-model=initial-exec` (GORT_TLS_WARN=0 silences \
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
            let remedy = if in_program() { IN_A_PROGRAM } else { IN_A_LIBRARY };
            report(format_args!("{WARNING}\n{remedy}"));
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

/// Whether this code is the program's, and not a shared library's.
fn in_program() -> bool {
    /// Looks at the first module, which is the program, for the address; what it finds is the answer.
    ///
    /// # Safety
    ///
    /// Called by `dl_iterate_phdr` with a number.
    unsafe extern "C" fn first(
        info: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        address: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the caller's promise; the headers are those of a loaded module.
        let (base, headers, address) = unsafe {
            let info = &*info;
            let headers: &[_] = match info.dlpi_phnum {
                0 => &[],
                n => std::slice::from_raw_parts(info.dlpi_phdr, n.into()),
            };
            (info.dlpi_addr as usize, headers, *address.cast::<usize>())
        };
        let mut loaded = headers.iter().filter(|h| h.p_type == libc::PT_LOAD);
        let inside = loaded.any(|h| address.wrapping_sub(base + h.p_vaddr as usize) < h.p_memsz as usize);
        if inside { 1 } else { -1 }
    }

    let mut here = in_program as *const () as usize;
    // SAFETY: `first` has the type that is asked for, and takes the pointer for what it is.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut here).cast()) == 1 }
}

/// Where the one probe of the process suspends., so that [`read_twice`] is a function like others.
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

#[cfg(test)]
mod tests {
    #[test]
    fn a_program_is_told_from_a_library() {
        assert!(super::in_program());
    }
}
