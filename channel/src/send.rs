//! Sending (Go's `chansend`). Reads side by side with `recv`.
//!
//! 1. Without the lock: a send that may not wait finds the open channel full.
//! 2. A receiver waits: the element goes straight into its frame; the buffer is passed over (it is empty, H2).
//! 3. Room in the buffer: the element goes to its tail.
//! 4. Neither: the sender waits in `sendq`, its element in its own frame, where a receiver fetches it.
//!
//! A nil channel, the first step of Go's function, is the handle's business: it has no `Hchan`.
//!
//! What the outside may rely on: a send happens before the receive of its element completes. The lock orders the
//! buffer; a hand-over between frames is ordered by the lock and by `goready`.

use crate::hchan::{Hchan, move_elem};
use crate::park::{Wait, Woken, is_claimed, park};
use crate::waitq::{self, Sudog};
use gort_scheduler::g::WaitReason;
use gort_scheduler::proc::getg;

/// How a send ended. Except for `Sent` the element is still the caller's.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the one that the others fall short of")]
pub enum Sent {
    /// The element is gone.
    Sent,
    /// It would have had to wait.
    Full,
    /// The channel is closed, or has no receiver left.
    Closed,
    /// The deadline came first.
    TimedOut,
    /// It would have to wait and must not: the caller panics, with the element.
    Refused,
}

/// Sends the element at `elem`, a `T`. Step 1, which calls nothing, and then the others.
///
/// # Safety
///
/// `elem` holds an element of the channel's type, which the caller gives away if the answer is `Sent`.
#[inline(always)]
pub unsafe fn chansend<T>(c: &Hchan, elem: *mut u8, wait: Wait) -> Sent {
    // One moment is enough: see `Hchan`.
    if wait == Wait::No && !c.refuses_sends() && c.full() {
        return Sent::Full;
    }
    // SAFETY: the caller's promise.
    unsafe { send_locked::<T>(c, elem, wait) }
}

/// Steps 2 to 4.
///
/// # Safety
///
/// As for [`chansend`].
#[inline(never)]
unsafe fn send_locked<T>(c: &Hchan, elem: *mut u8, wait: Wait) -> Sent {
    let size = size_of::<T>();
    c.lock.lock();
    if c.refuses_sends() {
        c.lock.unlock();
        return Sent::Closed;
    }
    // SAFETY: under the lock; `elem` by the caller's promise.
    unsafe {
        // Step 2.
        if let Some(sg) = c.recvq.dequeue() {
            send_direct(sg, elem, size);
            c.lock.unlock();
            waitq::ready(sg);
            return Sent::Sent;
        }
        // Step 3.
        if c.qcount() < c.dataqsiz {
            c.buf_put(elem, size);
            c.lock.unlock();
            return Sent::Sent;
        }
    }
    if wait == Wait::No {
        c.lock.unlock();
        return Sent::Full;
    }
    // SAFETY: the lock is held, `elem` stays in the caller's frame.
    unsafe { send_wait(c, elem, wait) }
}

/// Moves the element into a receiver's frame.
///
/// # Safety
///
/// `sg` was dequeued from `recvq` by the caller, who gives the element away.
#[inline(always)]
pub(crate) unsafe fn send_direct(sg: *const Sudog, elem: *const u8, size: usize) {
    // SAFETY: the receiver is parked, so its place is the waker's until it is readied (W3).
    unsafe {
        move_elem(elem, (*sg).elem, size);
        (*sg).success.set(true);
    }
}

/// Step 4.
///
/// # Safety
///
/// The channel's lock is held, and is released here; `elem` as for [`chansend`].
#[inline(never)]
unsafe fn send_wait(c: &Hchan, elem: *mut u8, wait: Wait) -> Sent {
    let gp = getg();
    let sg = Sudog::in_g(gp, elem, is_claimed(gp, wait));
    // SAFETY: the sudog is this wait's until it has been dequeued or removed.
    match unsafe { park(gp, c, &c.sendq, sg, wait, WaitReason::ChanSend) } {
        Woken::Served => Sent::Sent,
        Woken::Closed => Sent::Closed,
        Woken::TimedOut => Sent::TimedOut,
        Woken::Refused => Sent::Refused,
    }
}
