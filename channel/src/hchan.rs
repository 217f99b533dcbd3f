//! [`Hchan`]: the channel itself, as `chan.go` has it.
//!
//! ```text
//!   Hchan { lock, qcount, dataqsiz, elemsize, state, sendx, recvx, recvq, sendq }  | buf: dataqsiz elements |
//!   one allocation ------------------------------------------------------------------------------------->
//! ```
//!
//! It knows elements as bytes of `elemsize`; the handles (`counted`) give them their type. Elements are moved bit by
//! bit, and each is owned by exactly one place at any time: the sender's frame, the buffer, or the receiver's frame.
//!
//! Invariants, under the lock:
//!
//! - H1: At most one of `sendq` and `recvq` has open waits, but for one goroutine that selects on both.
//! - H2: `qcount > 0` implies that no open wait is in `recvq`; `qcount < dataqsiz` implies that none is in `sendq`.
//! - H3: The `qcount` slots of `buf` from `recvx` on, around the end, hold elements; the others hold nothing.
//! - H4: `CLOSED` and `NO_RECEIVERS` are set once, never cleared. Once one of them is set, `sendq` has no open waits;
//!   once `CLOSED` is set, nor has `recvq`, but for those that the closer is about to take out: nobody else looks there.
//!
//! Without the lock, `state`, `qcount` and the queues' first may be looked at. Since none of the `state` bits is ever
//! cleared, "empty, then not closed" means that the channel was open and empty at the moment of the first look
//! (Acquire there, Release at each change).
//!
//! The lock is held for a handful of loads, stores and one move of an element; never over user code, and never over
//! readying: a waker takes the wait out under the lock and readies it after.
//!
//! **Differs from Go**: no race detector; what makes a timer channel lies in the place of its buffer (`timer`); a second closing state, `NO_RECEIVERS`, in which
//! senders get their values back, for handles with Rust's ownership.

use crate::timer::{Fallback, TimerChan};
use crate::waitq::{ReadyList, WaitQ};
use gort_scheduler::memory;
use gort_scheduler::proc::getg;
use gort_scheduler::sync::SpinLock;
use gort_scheduler::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use gort_scheduler::time::clock::Nanos;
#[cfg(not(loom))]
use std::alloc::dealloc;
use std::alloc::{Layout, alloc};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::time::Instant;

/// Closed by somebody, or by the end of the last sender.
const CLOSED: u8 = 1;
/// The last receiver has gone.
const NO_RECEIVERS: u8 = 2;

/// Parked receivers that a close takes out and readies at once: few enough for what was just looked at of each to be in
/// the cache still, and for the lock to be held shortly, however many there are.
const CLOSE_AT_ONCE: usize = 64;

/// A channel; see the module.
pub struct Hchan {
    pub(crate) lock: SpinLock,
    state: AtomicU8,
    /// Elements in the buffer.
    qcount: AtomicUsize,
    /// Slots of the buffer.
    pub(crate) dataqsiz: usize,
    pub(crate) elemsize: usize,
    buf: *mut u8,
    sendx: Cell<usize>,
    recvx: Cell<usize>,
    pub(crate) recvq: WaitQ,
    pub(crate) sendq: WaitQ,
    /// Who may still use it; see `counted`.
    pub(crate) handles: AtomicU64,
    pub(crate) sides: AtomicU32,
    /// In the place of the buffer lies what makes it a timer channel (`timer`).
    timed: bool,
    #[cfg_attr(loom, allow(dead_code, reason = "a model keeps what is freed"))]
    layout: Layout,
    #[cfg(any(loom, shuttle))]
    order: usize,
    /// In a model the memory stays, so that a late look at it is seen ([`Hchan::assert_alive`]).
    #[cfg(loom)]
    freed: std::sync::atomic::AtomicBool,
}

impl std::fmt::Debug for Hchan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hchan")
            .field("qcount", &self.qcount())
            .field("dataqsiz", &self.dataqsiz)
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl Hchan {
    /// A channel of `cap` elements of this layout (Go's `makechan`), with the count of its first handles.
    ///
    /// # Panics
    ///
    /// - `makechan: size out of range` when such a buffer cannot exist;
    /// - `makechan: no memory for a channel of N bytes` when there is none.
    #[track_caller]
    pub fn makechan(elem: Layout, cap: usize, handles: u64) -> NonNull<Hchan> {
        let layout = elem
            .pad_to_align()
            .size()
            .checked_mul(cap)
            .and_then(|bytes| Layout::from_size_align(bytes, elem.align()).ok())
            .and_then(|buf| Layout::new::<Hchan>().extend(buf).ok());
        let Some((layout, offset)) = layout else { size_out_of_range() };
        // SAFETY: the layout is that of an Hchan and what comes after it.
        unsafe { Hchan::alloc(elem.size(), cap, handles, 2, false, layout, offset) }
    }

    /// A timer channel, whose handles are receivers.
    #[track_caller]
    pub(crate) fn maketimer(when: Nanos, period: u64, handles: u64, fallback: Fallback) -> NonNull<Hchan> {
        let Ok((layout, offset)) = Layout::new::<Hchan>().extend(Layout::new::<TimerChan>()) else {
            size_out_of_range()
        };
        // SAFETY: the layout is that of an Hchan and what comes after it, which is written before anyone knows the channel.
        unsafe {
            let c = Hchan::alloc(size_of::<Instant>(), 0, handles, 1, true, layout, offset);
            let t = TimerChan::new(c.as_ptr(), when, period, fallback);
            c.as_ref().buf.cast::<TimerChan>().write(t);
            c
        }
    }

    /// # Safety
    ///
    /// `layout` has room for an Hchan, and at `offset` for what is to be there.
    #[track_caller]
    unsafe fn alloc(
        elemsize: usize,
        cap: usize,
        handles: u64,
        sides: u32,
        timed: bool,
        layout: Layout,
        offset: usize,
    ) -> NonNull<Hchan> {
        // A plain thread that makes a channel is one that may use it: nothing is a deadlock while it lives.
        getg();
        // SAFETY: the layout has the size of an Hchan at least.
        let place = unsafe { alloc(layout) };
        let Some(c) = NonNull::new(place.cast::<Hchan>()) else { no_memory(layout.size()) };
        // SAFETY: freshly allocated with this layout, the buffer at the offset that `extend` gave.
        unsafe {
            c.write(Hchan {
                lock: SpinLock::new(),
                state: AtomicU8::new(0),
                qcount: AtomicUsize::new(0),
                dataqsiz: cap,
                elemsize,
                buf: place.add(offset),
                sendx: Cell::new(0),
                recvx: Cell::new(0),
                recvq: WaitQ::default(),
                sendq: WaitQ::default(),
                handles: AtomicU64::new(handles),
                sides: AtomicU32::new(sides),
                timed,
                layout,
                #[cfg(loom)]
                freed: std::sync::atomic::AtomicBool::new(false),
                #[cfg(any(loom, shuttle))]
                order: {
                    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(1);
                    NEXT.fetch_add(1, Ordering::Relaxed)
                },
            });
        }
        c
    }

    /// Frees a channel, not what is in its buffer.
    ///
    /// # Safety
    ///
    /// It came from [`Hchan::makechan`], and nobody uses it any more.
    pub unsafe fn free(c: NonNull<Hchan>) {
        #[cfg(loom)]
        // SAFETY: the caller's promise.
        unsafe {
            c.as_ref().assert_alive();
            c.as_ref().freed.store(true, Ordering::Relaxed);
        }
        #[cfg(not(loom))]
        // SAFETY: the caller's promise; an Hchan owns nothing but its own memory.
        unsafe {
            let layout = c.as_ref().layout;
            ptr::drop_in_place(c.as_ptr());
            dealloc(c.as_ptr().cast(), layout);
        }
    }

    /// In a model: panics if the channel has been freed.
    #[inline]
    pub(crate) fn assert_alive(&self) {
        #[cfg(loom)]
        assert!(!self.freed.load(Ordering::Relaxed), "the channel was freed while somebody had it");
    }

    /// The place of this channel in the order in which several are locked: its address.
    #[cfg(not(any(loom, shuttle)))]
    #[inline]
    pub(crate) fn order(&self) -> usize {
        ptr::from_ref(self) as usize
    }

    /// In a model the order of making, which is the same for every run of it.
    #[cfg(any(loom, shuttle))]
    pub(crate) fn order(&self) -> usize {
        self.order
    }

    /// Elements in the buffer, at some moment.
    #[inline]
    pub fn qcount(&self) -> usize {
        // ORDERING: Acquire, pairs with the Release in `set_qcount`; see the module.
        self.qcount.load(Ordering::Acquire)
    }

    #[inline]
    fn set_qcount(&self, n: usize) {
        self.qcount.store(n, Ordering::Release);
    }

    /// True once closed.
    #[inline]
    pub fn is_closed(&self) -> bool {
        // ORDERING: Acquire, pairs with the Release in `settle`.
        self.state.load(Ordering::Acquire) & CLOSED != 0
    }

    /// True once no send can succeed any more: closed, or nobody left to receive.
    #[inline]
    pub fn refuses_sends(&self) -> bool {
        // ORDERING: as above.
        self.state.load(Ordering::Acquire) != 0
    }

    /// True if a receive would find nothing, at some moment. Without the lock.
    #[inline]
    pub fn empty(&self) -> bool {
        if self.dataqsiz == 0 { self.sendq.is_empty() } else { self.qcount() == 0 }
    }

    /// True if a send to the open channel would block, at some moment. Without the lock.
    #[inline]
    pub fn full(&self) -> bool {
        if self.dataqsiz == 0 { self.recvq.is_empty() } else { self.qcount() == self.dataqsiz }
    }

    /// What makes it a timer channel, if it is one. Asked where an operation finds nothing.
    #[inline]
    pub(crate) fn timer(&self) -> Option<&TimerChan> {
        // SAFETY: `maketimer` has put it there.
        self.timed.then(|| unsafe { &*self.buf.cast::<TimerChan>() })
    }

    /// The address of slot `i`.
    #[inline]
    fn chanbuf(&self, i: usize, size: usize) -> *mut u8 {
        debug_assert!(i < self.dataqsiz && size == self.elemsize);
        // SAFETY: slot `i` lies in the buffer.
        unsafe { self.buf.add(i * size) }
    }

    #[inline]
    fn after(&self, i: usize) -> usize {
        if i + 1 == self.dataqsiz { 0 } else { i + 1 }
    }

    /// Moves an element into the tail of the buffer. `size` is `elemsize`, as a constant where it is known.
    ///
    /// # Safety
    ///
    /// Under the lock, with room in the buffer; the element at `elem` is the caller's to give.
    #[inline(always)]
    pub(crate) unsafe fn buf_put(&self, elem: *const u8, size: usize) {
        let sendx = self.sendx.get();
        // SAFETY: the slot is empty (H3), and the element fits.
        unsafe { move_elem(elem, self.chanbuf(sendx, size), size) };
        self.sendx.set(self.after(sendx));
        self.set_qcount(self.qcount.load(Ordering::Relaxed) + 1);
    }

    /// Moves the element at the head of the buffer out.
    ///
    /// # Safety
    ///
    /// Under the lock, with an element in the buffer; `dst` has room for it.
    #[inline(always)]
    pub(crate) unsafe fn buf_take(&self, dst: *mut u8, size: usize) {
        let recvx = self.recvx.get();
        // SAFETY: the slot holds an element (H3), which is the caller's from now on.
        unsafe { move_elem(self.chanbuf(recvx, size), dst, size) };
        self.recvx.set(self.after(recvx));
        self.set_qcount(self.qcount.load(Ordering::Relaxed) - 1);
    }

    /// Moves the head of a full buffer out and an element of a waiting sender in, which takes the same slot.
    ///
    /// # Safety
    ///
    /// Under the lock, with the buffer full; `dst` has room, and `elem` is the caller's to give.
    #[inline(always)]
    pub(crate) unsafe fn buf_rotate(&self, dst: *mut u8, elem: *const u8, size: usize) {
        let recvx = self.recvx.get();
        let slot = self.chanbuf(recvx, size);
        // SAFETY: the slot holds an element (H3); it is replaced by another one.
        unsafe {
            move_elem(slot, dst, size);
            move_elem(elem, slot, size);
        }
        self.recvx.set(self.after(recvx));
        self.sendx.set(self.recvx.get());
    }

    /// Closes the channel (Go's `closechan`). False if it was closed already.
    pub fn close(&self) -> bool {
        let mut list = ReadyList::default();
        self.lock.lock();
        if self.state.load(Ordering::Relaxed) & CLOSED != 0 {
            self.lock.unlock();
            return false;
        }
        self.settle(CLOSED);
        // SAFETY: under the lock.
        let mut all = unsafe { list.take(&self.recvq, CLOSE_AT_ONCE) };
        // SAFETY: under the lock.
        unsafe { list.take(&self.sendq, usize::MAX) };
        self.lock.unlock();
        list.ready_all();
        // Receivers that were left: a closed channel does not look at them any more, and none is added.
        while !all {
            let mut list = ReadyList::default();
            self.lock.lock();
            // SAFETY: under the lock.
            all = unsafe { list.take(&self.recvq, CLOSE_AT_ONCE) };
            self.lock.unlock();
            list.ready_all();
        }
        true
    }

    /// The last receiver has gone: parked senders get their values back, and what is in the buffer is nobody's.
    /// The slots that hold elements, in two runs (start, count); the caller owns these.
    pub fn lose_receivers(&self) -> [(*mut u8, usize); 2] {
        let mut list = ReadyList::default();
        self.lock.lock();
        self.settle(NO_RECEIVERS);
        // SAFETY: under the lock.
        unsafe { list.take(&self.sendq, usize::MAX) };
        let left = self.elements();
        self.set_qcount(0);
        self.lock.unlock();
        list.ready_all();
        left
    }

    /// The slots that hold elements, in two runs. For whoever holds the lock or the last handle.
    pub fn elements(&self) -> [(*mut u8, usize); 2] {
        let (n, from) = (self.qcount.load(Ordering::Relaxed), self.recvx.get());
        if n == 0 {
            return [(self.buf, 0); 2];
        }
        let first = n.min(self.dataqsiz - from);
        [(self.chanbuf(from, self.elemsize), first), (self.buf, n - first)]
    }

    fn settle(&self, bit: u8) {
        // ORDERING: Release: who sees the bit sees what its setter did before. Under the lock, so no exchange.
        self.state.store(self.state.load(Ordering::Relaxed) | bit, Ordering::Release);
    }
}

/// Moves an element. The usual sizes are constants to the compiler, for the callers to which the size is none.
///
/// # Safety
///
/// As for [`ptr::copy_nonoverlapping`].
#[inline(always)]
pub(crate) unsafe fn move_elem(from: *const u8, to: *mut u8, size: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match size {
            0 => {}
            1 => ptr::copy_nonoverlapping(from, to, 1),
            4 => ptr::copy_nonoverlapping(from, to, 4),
            8 => ptr::copy_nonoverlapping(from, to, 8),
            16 => ptr::copy_nonoverlapping(from, to, 16),
            _ => ptr::copy_nonoverlapping(from, to, size),
        }
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn size_out_of_range() -> ! {
    panic!("makechan: size out of range")
}

#[cold]
#[inline(never)]
#[track_caller]
fn no_memory(bytes: usize) -> ! {
    memory::refuse(format_args!("makechan: no memory for a channel of {bytes} bytes"))
}
