//! [`Sudog`] and [`WaitQ`]: who waits at a channel.
//!
//! A sudog is one wait of one goroutine (or plain thread) at one channel. That of a send or a receive lies in its G
//! (`G::wait_place`), so that a close that wakes a million goes through the Gs and not through a page of stack for each;
//! those of a select lie in its frame. A wait queue is a doubly linked list of them, first come, first served.
//!
//! W1: A queue and the links of the sudogs in it are touched under the channel's lock only; [`WaitQ::is_empty`] may
//! look without it.
//!
//! W2: A sudog in a queue is alive. The operation is left only after the sudog was taken out: by the waker
//! ([`WaitQ::dequeue`], which leaves `linked` false) or by its own goroutine under the lock ([`WaitQ::remove`]); or never, if
//! its wait is void (`gort_scheduler::proc::deadlock`, `gort_scheduler::proc::shutdown`), and then its place stays for ever. Who
//! comes upon a void wait takes it out, and passes it over.
//!
//! W3: Whoever dequeues a sudog has the right to ready its goroutine, once: for a wait on several things because it
//! has won `win_select`, for a simple wait because a sudog is dequeued once. Until it is readied, `elem` and
//! `success` are the waker's.

use gort_scheduler::g::{G, INLINE};
use gort_scheduler::proc::{current, goready_by};
use gort_scheduler::sync::atomic::{AtomicPtr, Ordering};
use std::cell::Cell;
use std::ptr;

/// One wait; see the module.
#[derive(Debug)]
pub struct Sudog {
    /// Who waits.
    pub g: &'static G,
    /// The value to be sent, or the place to be filled; in the waiter's frame.
    pub elem: *mut u8,
    /// The goroutine waits for something else besides: its waker must win its select.
    pub is_select: bool,
    /// True if it was served, false if the channel closed. Written by the waker before it readies.
    pub success: Cell<bool>,
    linked: Cell<bool>,
    next: Cell<*const Sudog>,
    prev: Cell<*const Sudog>,
}

impl Sudog {
    /// A wait that is in no queue.
    #[inline]
    pub fn new(g: &'static G, elem: *mut u8, is_select: bool) -> Sudog {
        Sudog {
            g,
            elem,
            is_select,
            success: Cell::new(false),
            linked: Cell::new(false),
            next: Cell::new(ptr::null()),
            prev: Cell::new(ptr::null()),
        }
    }

    /// A wait that is in no queue, in the place that the calling goroutine has for its one wait.
    #[inline]
    pub fn in_g(g: &'static G, elem: *mut u8, is_select: bool) -> &'static Sudog {
        const { assert!(size_of::<Sudog>() <= size_of_val(&[0usize; INLINE])) };
        let place = g.wait_place().cast::<Sudog>();
        // SAFETY: the caller is `g`, in no other wait; the place is large and aligned enough, and never freed.
        unsafe {
            place.write(Sudog::new(g, elem, is_select));
            &*place
        }
    }
}

/// A queue of waits; see the module.
#[derive(Debug)]
pub struct WaitQ {
    first: AtomicPtr<Sudog>,
    last: Cell<*const Sudog>,
}

impl Default for WaitQ {
    /// An empty queue.
    fn default() -> WaitQ {
        WaitQ { first: AtomicPtr::new(ptr::null_mut()), last: Cell::new(ptr::null()) }
    }
}

impl WaitQ {
    /// True if nobody waits. Without the lock: at some moment.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // ORDERING: Acquire, pairs with the Release in `set_first`: who sees a waiter gone sees why.
        self.first.load(Ordering::Acquire).is_null()
    }

    #[inline]
    fn first(&self) -> *const Sudog {
        // Relaxed: under the lock.
        self.first.load(Ordering::Relaxed)
    }

    #[inline]
    fn set_first(&self, sg: *const Sudog) {
        self.first.store(sg.cast_mut(), Ordering::Release);
    }

    /// Puts a wait at the end.
    ///
    /// # Safety
    ///
    /// Under the channel's lock. `sg` is in no queue, and stays in place until it has been taken out.
    #[inline]
    pub unsafe fn enqueue(&self, sg: *const Sudog) {
        // SAFETY: the caller's promise, and W2 for the one that was last.
        unsafe {
            let last = self.last.get();
            (*sg).linked.set(true);
            (*sg).next.set(ptr::null());
            (*sg).prev.set(last);
            if last.is_null() {
                self.set_first(sg);
            } else {
                (*last).next.set(sg);
            }
            self.last.set(sg);
        }
    }

    /// Takes out the first wait that is still open; the caller must serve and ready it (W3).
    ///
    /// # Safety
    ///
    /// Under the channel's lock.
    #[inline]
    pub unsafe fn dequeue(&self) -> Option<*const Sudog> {
        loop {
            let sg = self.first();
            if sg.is_null() {
                return None;
            }
            // SAFETY: W2.
            unsafe {
                self.unlink(sg);
                // One that waits for several things may have been served elsewhere, and not come here yet to leave. A void wait is
                // not claimed: its goroutine may have been readied before the end, for another one of its waits.
                let g = (*sg).g;
                if !g.waits_are_void() && (!(*sg).is_select || g.win_select()) {
                    return Some(sg);
                }
            }
        }
    }

    /// Whether some wait in it is such a one. Under the channel's lock.
    pub fn any(&self, what: impl Fn(&Sudog) -> bool) -> bool {
        let mut sg = self.first();
        // SAFETY: W1, W2.
        while let Some(wait) = unsafe { sg.as_ref() } {
            if what(wait) {
                return true;
            }
            sg = wait.next.get();
        }
        false
    }

    /// Takes a wait out, if it is still in.
    ///
    /// # Safety
    ///
    /// Under the channel's lock, by the goroutine whose wait it is; `sg` was put into this queue.
    #[inline]
    pub unsafe fn remove(&self, sg: *const Sudog) {
        // SAFETY: the caller's own sudog.
        unsafe {
            if (*sg).linked.get() {
                self.unlink(sg);
            }
        }
    }

    /// # Safety
    ///
    /// Under the channel's lock; `sg` is in this queue.
    #[inline]
    unsafe fn unlink(&self, sg: *const Sudog) {
        // SAFETY: the sudog and its neighbours are in the queue (W2).
        unsafe {
            let (prev, next) = ((*sg).prev.get(), (*sg).next.get());
            if prev.is_null() {
                self.set_first(next);
            } else {
                (*prev).next.set(next);
            }
            if next.is_null() {
                self.last.set(prev);
            } else {
                (*next).prev.set(prev);
            }
            (*sg).linked.set(false);
        }
    }
}

/// Waits that were taken out under the lock, to be readied after it: last in, first out, as in Go's `closechan`.
#[must_use]
#[derive(Debug)]
pub struct ReadyList {
    head: *const Sudog,
}

impl Default for ReadyList {
    /// Nobody.
    fn default() -> ReadyList {
        ReadyList { head: ptr::null() }
    }
}

impl ReadyList {
    /// Takes over up to `n` open waits of a queue, unserved. True if these were all.
    ///
    /// # Safety
    ///
    /// Under the channel's lock.
    pub unsafe fn take(&mut self, q: &WaitQ, n: usize) -> bool {
        for _ in 0..n {
            // SAFETY: under the lock; dequeued sudogs are ours (W3), so their links are free for this list.
            unsafe {
                let Some(sg) = q.dequeue() else { return true };
                (*sg).g.prefetch();
                (*sg).success.set(false);
                (*sg).next.set(self.head);
                self.head = sg;
            }
        }
        q.is_empty()
    }

    /// Readies them. The channel's lock is open.
    pub fn ready_all(self) {
        let me = current();
        let mut sg = self.head;
        while !sg.is_null() {
            // SAFETY: ours until readied (W3); the link is read before that.
            unsafe {
                let next = (*sg).next.get();
                ready_by(me, sg);
                sg = next;
            }
        }
    }
}

/// Readies the goroutine of a dequeued wait, which has been served or told that it was not.
///
/// # Safety
///
/// The caller has dequeued `sg` and not readied it yet (W3).
#[inline]
pub unsafe fn ready(sg: *const Sudog) {
    // SAFETY: the caller's promise.
    unsafe { ready_by(current(), sg) };
}

/// [`ready`] for a caller that knows who it is, as [`current`] has it.
///
/// # Safety
///
/// As for [`ready`].
#[inline]
pub unsafe fn ready_by(me: Option<&'static G>, sg: *const Sudog) {
    // SAFETY: the caller's promise.
    unsafe {
        let g = (*sg).g;
        g.set_param(sg.cast_mut().cast());
        goready_by(me, g);
    }
}
