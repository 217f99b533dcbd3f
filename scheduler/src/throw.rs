//! How the process ends when it cannot go on (Go's `throw` and `fatal`), and writing to stderr from any stack.
//!
//! - `throw`: an invariant of ours broke. `runtime: ...`, then abort.
//! - [`fatal`]: the program cannot go on, and it is beyond one goroutine. `fatal error: ...`, the goroutines,
//!   exit status 2.
//! - What one goroutine can be blamed for is an ordinary `panic!`.
//!
//! Both write with `write(2)`: they work on a goroutine's stack, on g0 and in a signal handler, take no lock and read
//! no thread-local. But for the goroutines' stacks that `fatal` prints: those it makes on g0, and not in a signal handler.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Standard error with no buffer and no lock.
#[derive(Debug, Default)]
pub struct Stderr;

impl Write for Stderr {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let mut rest = s.as_bytes();
        while !rest.is_empty() {
            // SAFETY: the pointer and length describe `rest`.
            let n = unsafe { libc::write(2, rest.as_ptr().cast(), rest.len()) };
            if n <= 0 {
                return Err(fmt::Error);
            }
            rest = &rest[n as usize..];
        }
        Ok(())
    }
}

/// A text that grows as far as there is memory.
#[derive(Debug, Default)]
pub(crate) struct Text(pub String);

impl Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0.try_reserve(s.len()).map_err(|_| fmt::Error)?;
        self.0.push_str(s);
        Ok(())
    }
}

/// Writes one message to stderr, in one piece if there is memory for that.
pub fn report(message: fmt::Arguments<'_>) {
    // One buffer, so that messages of different threads do not mix. Memory may be just what there is none of.
    let mut text = Text::default();
    let _ = match text.write_fmt(format_args!("{message}\n")) {
        Ok(()) => Stderr.write_str(&text.0),
        Err(fmt::Error) => Stderr.write_fmt(format_args!("{message}\n")),
    };
}

/// Ends the process because an invariant of the scheduler broke.
#[cold]
#[inline(never)]
pub fn throw(message: fmt::Arguments<'_>) -> ! {
    report(format_args!("runtime: {message}"));
    #[cfg(shuttle)]
    crate::sync::shuttle::last_word(message);
    std::process::abort()
}

/// Ends the process, exit status 2, after the message and the goroutines with their stacks.
#[cold]
#[inline(never)]
pub fn fatal(message: fmt::Arguments<'_>) -> ! {
    static FIRST: AtomicBool = AtomicBool::new(true);
    // Several threads may run into the same wall; one says so, the others wait for the end.
    while !FIRST.swap(false, Ordering::Relaxed) {
        // SAFETY: sleeps.
        unsafe { libc::pause() };
    }
    report(format_args!("fatal error: {message}\n"));
    #[cfg(shuttle)]
    crate::sync::shuttle::last_word(message);
    #[cfg(not(any(loom, shuttle)))]
    crate::proc::last_words(&mut Stderr);
    // SAFETY: _exit runs no handlers, so it is sound on any stack, whatever locks are held.
    unsafe { libc::_exit(2) }
}

/// [`throw`](throw()) with a format string.
#[macro_export]
#[doc(hidden)]
macro_rules! throw {
    ($($arg:tt)*) => { $crate::throw::throw(format_args!($($arg)*)) };
}
