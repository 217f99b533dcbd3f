//! Receiving (Go's `chanrecv`). Reads side by side with `send`.
//!
//! 1. Without the lock: a receive that may not wait finds the open channel empty, or any receive finds it closed and
//!    drained. A timer channel is always found empty, and asked for the time (`timer`).
//! 2. A sender waits: without a buffer its element comes straight out of its frame; with one (which is full, H2) the
//!    head of the buffer comes out and the sender's element takes its slot, which is the tail.
//! 3. Elements in the buffer: its head comes out.
//! 4. Closed and drained.
//! 5. Neither: the receiver waits in `recvq`, and a sender fills the place in its frame.

use crate::hchan::{Hchan, move_elem};
use crate::park::{Wait, Woken, is_claimed, park};
use crate::timer::timer_recv;
use crate::waitq::{self, Sudog};
use gort_scheduler::g::WaitReason;
use gort_scheduler::proc::getg;

/// How a receive ended. Only for `Received` is there an element at the place.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the one that the others fall short of")]
pub enum Received {
    /// An element is there.
    Received,
    /// It would have had to wait.
    Empty,
    /// The channel is closed and drained.
    Closed,
    /// The deadline came first.
    TimedOut,
    /// It would have to wait and must not: the caller panics.
    Refused,
}

/// Receives into `elem`, which has room for a `T`. Step 1, which calls nothing where there is no timer, and then the others.
///
/// # Safety
///
/// `elem` has room for an element of the channel's type, which is the caller's if the answer is `Received`.
#[inline(always)]
pub unsafe fn chanrecv<T>(c: &Hchan, elem: *mut u8, wait: Wait) -> Received {
    // "Empty, then not closed" was true at the first look; "closed, then empty" is true for ever.
    if c.empty() {
        if let Some(t) = c.timer() {
            // SAFETY: the caller's promise.
            return unsafe { timer_recv(c, t, elem, wait) };
        }
        if c.is_closed() {
            if c.empty() {
                return Received::Closed;
            }
        } else if wait == Wait::No {
            return Received::Empty;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { recv_locked::<T>(c, elem, wait) }
}

/// Steps 2 to 5.
///
/// # Safety
///
/// As for [`chanrecv`].
#[inline(never)]
unsafe fn recv_locked<T>(c: &Hchan, elem: *mut u8, wait: Wait) -> Received {
    let size = size_of::<T>();
    c.lock.lock();
    // SAFETY: under the lock; `elem` by the caller's promise.
    unsafe {
        // Step 2.
        if let Some(sg) = c.sendq.dequeue() {
            recv_direct(c, sg, elem, size);
            c.lock.unlock();
            waitq::ready(sg);
            return Received::Received;
        }
        // Step 3.
        if c.qcount() > 0 {
            c.buf_take(elem, size);
            c.lock.unlock();
            return Received::Received;
        }
    }
    // Step 4.
    if c.is_closed() {
        c.lock.unlock();
        return Received::Closed;
    }
    if wait == Wait::No {
        c.lock.unlock();
        return Received::Empty;
    }
    // SAFETY: the lock is held, `elem` stays in the caller's frame.
    unsafe { recv_wait(c, elem, wait) }
}

/// Moves an element out for a receiver that found a waiting sender, whose own element moves up.
///
/// # Safety
///
/// Under the lock; `sg` was dequeued from `sendq` by the caller; `elem` has room.
#[inline(always)]
pub(crate) unsafe fn recv_direct(c: &Hchan, sg: *const Sudog, elem: *mut u8, size: usize) {
    // SAFETY: the sender is parked, so its element is the waker's to take (W3).
    unsafe {
        if c.dataqsiz == 0 {
            move_elem((*sg).elem, elem, size);
        } else {
            c.buf_rotate(elem, (*sg).elem, size);
        }
        (*sg).success.set(true);
    }
}

/// Step 5.
///
/// # Safety
///
/// The channel's lock is held, and is released here; `elem` as for [`chanrecv`].
#[inline(never)]
pub(crate) unsafe fn recv_wait(c: &Hchan, elem: *mut u8, wait: Wait) -> Received {
    let gp = getg();
    let sg = Sudog::in_g(gp, elem, is_claimed(gp, wait));
    // SAFETY: the sudog is this wait's until it has been dequeued or removed.
    match unsafe { park(gp, c, &c.recvq, sg, wait, WaitReason::ChanReceive) } {
        Woken::Served => Received::Received,
        Woken::Closed => Received::Closed,
        Woken::TimedOut => Received::TimedOut,
        Woken::Refused => Received::Refused,
    }
}
