//! [`Note`]: how an OS thread sleeps until another one wakes it (Go's `note`).
//!
//! ```text
//!            sleep                    wakeup
//!   CLEAR ----------> SLEEPING     CLEAR ----> SIGNALED      (the next sleep returns at once)
//!     ^                  |
//!     +---- SIGNALED <---+ wakeup (+ futex wake)
//!       sleep returns
//! ```
//!
//! One sleeper, any number of wakers; a wake-up that comes before the sleep is kept, two of them count once.
//! Whoever was woken sees all that the waker did before: Release in [`Note::wakeup`], Acquire in [`Note::sleep`].
//!
//! Checked by `tests/loom_note.rs`, which runs this code over a futex of the model.
//!
//! A note must outlive the last `wakeup` on it. Notes live in Ms and Gs, whose memory is never freed; a wake-up that
//! comes late, for a sleeper that has gone on, costs the next sleeper one look and is lost on nobody, because every
//! sleeper checks its own condition (an M its `nextp`, a G its status).

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::time::clock::Nanos;
use futex::Futex;

const CLEAR: u32 = 0;
const SIGNALED: u32 = 1;
const SLEEPING: u32 = 2;

/// See the module.
#[derive(Debug)]
pub struct Note {
    state: AtomicU32,
    futex: Futex,
}

impl Note {
    /// A clear note.
    #[cfg(not(loom))]
    pub const fn new() -> Note {
        Note { state: AtomicU32::new(CLEAR), futex: Futex::new() }
    }

    /// A clear note.
    #[cfg(loom)]
    pub fn new() -> Note {
        Note { state: AtomicU32::new(CLEAR), futex: Futex::default() }
    }

    /// Wakes the sleeper, or the next one.
    pub fn wakeup(&self) {
        // ORDERING: Release, pairs with the Acquire in `sleep_until`.
        if self.state.swap(SIGNALED, Ordering::Release) == SLEEPING {
            self.futex.wake(&self.state);
        }
    }

    /// Sleeps until a wake-up.
    pub fn sleep(&self) {
        self.sleep_until(Nanos::NEVER);
    }

    /// Sleeps until a wake-up (true) or the deadline (false).
    pub fn sleep_until(&self, deadline: Nanos) -> bool {
        // ORDERING: Acquire on the failure, as below. Relaxed on success: nothing is published.
        if self.state.compare_exchange(CLEAR, SLEEPING, Ordering::Relaxed, Ordering::Acquire).is_ok() {
            while self.state.load(Ordering::Acquire) == SLEEPING {
                if self.futex.wait_until(&self.state, SLEEPING, deadline) {
                    continue;
                }
                // The time is over, unless a wake-up was quicker.
                if self.state.compare_exchange(SLEEPING, CLEAR, Ordering::Relaxed, Ordering::Acquire).is_ok()
                {
                    return false;
                }
            }
        }
        // An exchange, not a store: a store could wait in this core's buffer while the caller looks at its condition, and
        // then erase the signal of a second waker whose work that look did not see.
        // ORDERING: Acquire, as above, for the last of several wakers.
        self.state.swap(CLEAR, Ordering::Acquire);
        true
    }
}

#[cfg(not(any(loom, shuttle)))]
mod futex {
    use super::Nanos;
    use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use crate::throw::report;
    use std::io;

    /// The kernel's futex.
    #[derive(Debug)]
    pub struct Futex;

    impl Futex {
        pub const fn new() -> Futex {
            Futex
        }

        /// Wakes whoever waits at the word.
        pub fn wake(&self, word: &AtomicU32) {
            // SAFETY: FUTEX_WAKE only takes the address as a key; it does not touch the memory.
            let r = unsafe {
                libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1)
            };
            if r < 0 {
                refused();
            }
        }

        /// Waits while the word is `value`; false when the deadline has passed. May return true for no reason.
        pub fn wait_until(&self, word: &AtomicU32, value: u32, deadline: Nanos) -> bool {
            let timeout = deadline.to_timespec();
            let timeout_ptr = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            // FUTEX_WAIT_BITSET takes the deadline as an absolute time of the monotonic clock.
            // SAFETY: the word and the timespec live across the call.
            let r = unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    word.as_ptr(),
                    libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
                    value,
                    timeout_ptr,
                    std::ptr::null::<u32>(),
                    u32::MAX,
                )
            };
            if r == 0 {
                return true;
            }
            // Who sleeps is an M on g0 or a plain thread, so the error number is the thread's own.
            match io::Error::last_os_error().raw_os_error() {
                Some(libc::ETIMEDOUT) => Nanos::now() < deadline,
                // "Look again".
                Some(libc::EAGAIN | libc::EINTR) => true,
                _ => refused(),
            }
        }
    }

    /// Without futexes no thread can wake another one, here or in the C library: the end, as in Go, and
    /// without the goroutines' stacks, for which locks are needed.
    #[cold]
    #[inline(never)]
    fn refused() -> ! {
        static FIRST: AtomicBool = AtomicBool::new(true);
        let e = io::Error::last_os_error();
        while !FIRST.swap(false, Ordering::Relaxed) {
            // SAFETY: sleeps.
            unsafe { libc::pause() };
        }
        report(format_args!(
            "fatal error: the kernel refuses futex(2): {e} (a seccomp filter that must allow it?)"
        ));
        // SAFETY: _exit runs no handlers, so it is sound on any stack, whatever locks are held.
        unsafe { libc::_exit(2) }
    }
}

#[cfg(any(loom, shuttle))]
mod futex {
    use super::Nanos;
    use crate::sync::atomic::{AtomicU32, Ordering};
    use crate::sync::{Condvar, Mutex};

    /// A futex of the model. Under loom time does not pass: a deadline never comes. Under shuttle who has one looks at
    /// the word again and again until then.
    #[derive(Debug, Default)]
    pub struct Futex {
        lock: Mutex<()>,
        bell: Condvar,
    }

    impl Futex {
        #[cfg(shuttle)]
        pub const fn new() -> Futex {
            Futex { lock: Mutex::new(()), bell: Condvar::new() }
        }

        pub fn wake(&self, _word: &AtomicU32) {
            drop(self.lock.lock().unwrap());
            self.bell.notify_one();
        }

        pub fn wait_until(&self, word: &AtomicU32, value: u32, deadline: Nanos) -> bool {
            #[cfg(shuttle)]
            if deadline != Nanos::NEVER {
                return !crate::sync::shuttle::nap(deadline.0);
            }
            let _ = deadline;
            let guard = self.lock.lock().unwrap();
            if word.load(Ordering::Relaxed) == value {
                drop(self.bell.wait(guard).unwrap());
            }
            true
        }
    }
}

impl Default for Note {
    fn default() -> Note {
        Note::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_wakeup_before_the_sleep_is_kept_once() {
        let n = Note::new();
        n.wakeup();
        n.wakeup();
        n.sleep();
        assert!(!n.sleep_until(Nanos::now()), "the second wake-up was kept as well");
    }

    #[test]
    fn a_deadline_ends_the_sleep_and_leaves_the_note_clear() {
        let n = Note::new();
        let start = Nanos::now();
        assert!(!n.sleep_until(start.after(Duration::from_millis(2))));
        assert!(Nanos::now() >= start.after(Duration::from_millis(2)));
        n.wakeup();
        n.sleep();
    }

    #[test]
    fn a_sleeper_is_woken_and_sees_what_was_written() {
        static N: Note = Note::new();
        static mut WRITTEN: u32 = 0;
        let t = std::thread::spawn(|| {
            N.sleep();
            // SAFETY: written before the wake-up, and nobody writes after it.
            unsafe { WRITTEN }
        });
        // SAFETY: the other thread reads only after the wake-up.
        unsafe { WRITTEN = 7 };
        N.wakeup();
        assert_eq!(t.join().unwrap(), 7);
    }
}
