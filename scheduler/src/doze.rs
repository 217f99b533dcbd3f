//! [`Doze`]: how sysmon sleeps while there is nothing to watch, and is woken when there is.
//!
//! S1 (it does not sleep while a P is busy): sysmon: `asleep` is stored, fence, the idle Ps are counted. An M that takes a
//! P: the count is stored, fence, `asleep` is read. One of the two sees the other. A wake-up takes the flag back, so the
//! other Ms that take Ps meanwhile need not wake it again.
//!
//! Checked by the models in `tests/loom_doze.rs`.

use crate::note::Note;
use crate::sync::atomic::{AtomicBool, Ordering, fence};
use crate::time::clock::Nanos;

/// See the module.
#[derive(Debug)]
pub struct Doze {
    note: Note,
    asleep: AtomicBool,
}

impl Default for Doze {
    fn default() -> Doze {
        Doze::new()
    }
}

impl Doze {
    /// Awake.
    pub fn new() -> Doze {
        Doze { note: Note::new(), asleep: AtomicBool::new(false) }
    }

    /// Sleeps until the time has come, or a [`Doze::wakeup`].
    pub fn nap(&self, until: Nanos) {
        self.note.sleep_until(until);
    }

    /// Sleeps while there is nothing to watch, until somebody rouses it, or the time has come.
    pub fn sleep_while(&self, nothing: impl Fn() -> bool, until: Nanos) {
        self.asleep.store(true, Ordering::Relaxed);
        // ORDERING: pairs with the fence in `rouse` (S1).
        fence(Ordering::SeqCst);
        while self.asleep.load(Ordering::Relaxed) && nothing() {
            if !self.note.sleep_until(until) {
                break;
            }
        }
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// There is something to watch now. Nothing if it does not sleep for want of that.
    #[inline]
    pub fn rouse(&self) {
        // ORDERING: pairs with the fence in `sleep_while` (S1).
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.note.wakeup();
        }
    }

    /// Has it look around, however it sleeps.
    pub fn wakeup(&self) {
        self.note.wakeup();
    }
}
