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
//! A note must outlive the last `wakeup` on it. Notes live in Ms and Gs, whose memory is never freed; a wake-up that
//! comes late, for a sleeper that has gone on, costs the next sleeper one look and is lost on nobody, because every
//! sleeper checks its own condition (an M its `nextp`, a G its status).

use crate::time::clock::Nanos;

#[cfg(not(loom))]
pub use futex::Note;
#[cfg(loom)]
pub use model::Note;

#[cfg(not(loom))]
mod futex {
    use super::Nanos;
    use crate::sync::atomic::{AtomicU32, Ordering};

    const CLEAR: u32 = 0;
    const SIGNALED: u32 = 1;
    const SLEEPING: u32 = 2;

    /// See the module.
    #[derive(Debug)]
    pub struct Note {
        state: AtomicU32,
    }

    impl Note {
        /// A clear note.
        pub const fn new() -> Note {
            Note { state: AtomicU32::new(CLEAR) }
        }

        /// Wakes the sleeper, or the next one.
        pub fn wakeup(&self) {
            // ORDERING: Release, pairs with the Acquire in `sleep_until`.
            if self.state.swap(SIGNALED, Ordering::Release) == SLEEPING {
                // SAFETY: FUTEX_WAKE only takes the address as a key; it does not touch the memory.
                unsafe {
                    libc::syscall(
                        libc::SYS_futex,
                        self.state.as_ptr(),
                        libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                        1,
                    );
                }
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
                    if futex_wait_until(&self.state, SLEEPING, deadline) {
                        continue;
                    }
                    // The time is over, unless a wake-up was quicker.
                    if self
                        .state
                        .compare_exchange(SLEEPING, CLEAR, Ordering::Relaxed, Ordering::Acquire)
                        .is_ok()
                    {
                        return false;
                    }
                }
            }
            self.state.store(CLEAR, Ordering::Relaxed);
            true
        }
    }

    /// Waits while the word is `value`; false when the deadline has passed. May return true for no reason.
    fn futex_wait_until(word: &AtomicU32, value: u32, deadline: Nanos) -> bool {
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
        // A failure other than the time-out (EAGAIN, EINTR) means "look again". Comparing clocks instead of errno
        // keeps this free of thread-locals: plain threads and Ms both come here.
        r == 0 || Nanos::now() < deadline
    }
}

#[cfg(loom)]
mod model {
    use super::Nanos;
    use loom::sync::{Condvar, Mutex};

    /// See the module. Under loom, where time does not pass, a deadline never comes.
    #[derive(Debug)]
    pub struct Note {
        signaled: Mutex<bool>,
        bell: Condvar,
    }

    impl Note {
        pub fn new() -> Note {
            Note { signaled: Mutex::new(false), bell: Condvar::new() }
        }

        pub fn wakeup(&self) {
            *self.signaled.lock().unwrap() = true;
            self.bell.notify_one();
        }

        pub fn sleep(&self) {
            self.sleep_until(Nanos::NEVER);
        }

        pub fn sleep_until(&self, _deadline: Nanos) -> bool {
            let mut signaled = self.signaled.lock().unwrap();
            while !*signaled {
                signaled = self.bell.wait(signaled).unwrap();
            }
            *signaled = false;
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
