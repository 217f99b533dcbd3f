//! Which signals have a handler of the program's: it may run on a thread that sleeps, at any moment (`proc::deadlock`).
//!
//! Asked of the kernel, because handlers are installed by whoever likes. Not counted are the signals that a thread's own
//! instruction or call raises (a thread that sleeps raises none, and whoever else sends one means to end the process), the C library's
//! own, and the handler that this library has installed ([`ours`]).

use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// Raised by what a thread does itself.
const RAISED: [c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];

/// The signal that has a handler of this library's, 0 if none has, and the handler.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
static HANDLER: AtomicUsize = AtomicUsize::new(0);

/// The handler of a signal; `None` if there is none, or if the C library keeps the signal for itself.
fn handler(signal: c_int) -> Option<usize> {
    // SAFETY: all zeroes is a value of this struct of numbers and pointers.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only asks; `action` is a place for the answer.
    let known = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) } == 0;
    (known && ![libc::SIG_DFL, libc::SIG_IGN].contains(&action.sa_sigaction)).then_some(action.sa_sigaction)
}

/// Whether a signal has a handler.
pub fn is_handled(signal: c_int) -> bool {
    handler(signal).is_some()
}

/// The handler that this signal has now was installed by this library, and wakes no goroutine.
pub fn ours(signal: c_int) {
    HANDLER.store(handler(signal).unwrap_or(0), Ordering::Relaxed);
    SIGNAL.store(signal, Ordering::Relaxed);
}

/// A signal that has a handler of the program's.
pub fn foreign() -> Option<c_int> {
    let ours = (SIGNAL.load(Ordering::Relaxed), HANDLER.load(Ordering::Relaxed));
    (1..=libc::SIGRTMAX())
        .filter(|signal| !RAISED.contains(signal))
        .find(|&signal| handler(signal).is_some_and(|handler| (signal, handler) != ours))
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    extern "C" fn nothing(_: c_int) {}

    #[test]
    fn a_handler_counts_unless_it_is_ours() {
        assert_eq!(foreign(), None);
        assert!(!is_handled(libc::SIGUSR2));
        let handler = nothing as extern "C" fn(c_int) as libc::sighandler_t;
        // SAFETY: the handler does nothing; no other test has to do with these signals.
        let before = [libc::SIGSEGV, libc::SIGUSR2].map(|s| unsafe { libc::signal(s, handler) });
        assert_eq!(foreign(), Some(libc::SIGUSR2));
        ours(libc::SIGUSR2);
        assert_eq!(foreign(), None);
        // SAFETY: what was there before.
        unsafe {
            libc::signal(libc::SIGSEGV, before[0]);
            libc::signal(libc::SIGUSR2, before[1]);
        }
    }
}
