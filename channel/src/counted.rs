//! [`Counted`]: a counted pointer to a channel, or nil, and what the three public handles do through it.
//!
//! **Lifetime.** One word counts the handles that can send (low half) and those that can receive (high half); a `Chan`
//! counts in both. Whoever takes one half to zero does what that means (the last sender closes, the last receiver hands
//! the parked senders their values back and drops the buffer), and then gives up that *side*; whoever gives up the second
//! side frees the channel. So the two ends may go at the same time on two threads, and neither frees what the other still
//! works on. A half that is zero stays zero, since only a handle that counts in it makes another one.
//!
//! **nil** is a handle without a channel.

use crate::error::{RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError};
use crate::hchan::Hchan;
use crate::park::{Wait, wait_at_nil};
use crate::recv::{Received, chanrecv};
use crate::send::{Sent, chansend};
use gort_scheduler::g::WaitReason;
use gort_scheduler::proc::{getg, pin, preempt_point};
use gort_scheduler::sync::atomic::Ordering;
use std::alloc::Layout;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::{self, NonNull};
use std::time::Duration;

/// Counts as a sender.
pub(crate) const SENDER: u64 = 1;
/// Counts as a receiver.
pub(crate) const RECEIVER: u64 = 1 << 32;
/// Counts as both.
pub(crate) const BOTH: u64 = SENDER | RECEIVER;
/// More handles of one kind than this are taken for a leak in a loop, as in `Arc`.
const MAX_HANDLES: u64 = 1 << 31;

/// A counted pointer to a channel of `T`, or nil. `ROLE` says what it counts as.
pub(crate) struct Counted<T, const ROLE: u64> {
    c: Option<NonNull<Hchan>>,
    element: PhantomData<fn(T) -> T>,
}

// SAFETY: a handle moves values of T between threads, and nothing else; what it points to is shared by atomics and
// the channel's lock.
unsafe impl<T: Send, const ROLE: u64> Send for Counted<T, ROLE> {}
// SAFETY: every operation takes `&self` and is made for many threads at once.
unsafe impl<T: Send, const ROLE: u64> Sync for Counted<T, ROLE> {}
// A panic leaves a channel as it is: no code of T runs under its lock.
impl<T, const ROLE: u64> UnwindSafe for Counted<T, ROLE> {}
impl<T, const ROLE: u64> RefUnwindSafe for Counted<T, ROLE> {}

impl<T, const ROLE: u64> Counted<T, ROLE> {
    /// The handle that was counted when the channel was made.
    ///
    /// # Safety
    ///
    /// It is a channel of `T`, and has one handle of this role that nobody has made yet.
    pub(crate) unsafe fn from_raw(c: NonNull<Hchan>) -> Self {
        Counted { c: Some(c), element: PhantomData }
    }

    pub const NIL: Self = Counted { c: None, element: PhantomData };

    #[inline]
    pub fn hchan(&self) -> Option<&Hchan> {
        // SAFETY: this handle is counted, so the channel lives.
        self.c.map(|c| unsafe { c.as_ref() })
    }

    /// A new channel with a buffer of `cap` values.
    ///
    /// # Panics
    ///
    /// `makechan: size out of range`.
    #[track_caller]
    pub fn make(cap: usize) -> Self {
        Counted { c: Some(Hchan::makechan(Layout::new::<T>(), cap, ROLE)), element: PhantomData }
    }

    /// Another handle, which counts as `TO`: one of the things that this one counts as.
    pub fn share<const TO: u64>(&self) -> Counted<T, TO> {
        const { assert!(TO & ROLE == TO) };
        if let Some(c) = self.hchan() {
            // Relaxed, as in Arc: who makes a handle from a handle needs nothing but the count.
            let before = c.handles.fetch_add(TO, Ordering::Relaxed);
            if (before & (RECEIVER - 1)) >= MAX_HANDLES || (before >> 32) >= MAX_HANDLES {
                gort_scheduler::throw!("too many handles of one channel");
            }
        }
        Counted { c: self.c, element: PhantomData }
    }

    fn addr(&self) -> usize {
        self.c.map_or(0, |c| c.as_ptr() as usize)
    }

    #[inline]
    #[track_caller]
    pub fn send(&self, v: T, wait: Wait) -> Result<(), (Sent, T)> {
        let mut v = ManuallyDrop::new(v);
        let elem = (&raw mut v).cast::<u8>();
        let sent = match self.hchan() {
            // SAFETY: the channel is one of T; the value is given away if it was sent, and taken back below if not.
            Some(c) => unsafe { chansend::<T>(c, elem, wait) },
            None => {
                wait_at_nil(wait, WaitReason::ChanSendNilChan);
                if wait == Wait::No { Sent::Full } else { Sent::TimedOut }
            }
        };
        preempt_point();
        if sent == Sent::Sent {
            return Ok(());
        }
        let v = ManuallyDrop::into_inner(v);
        if sent == Sent::Refused {
            refused(v);
        }
        Err((sent, v))
    }

    #[inline(always)]
    #[track_caller]
    pub fn recv(&self, wait: Wait) -> Result<T, Received> {
        let mut place = MaybeUninit::<T>::uninit();
        let received = match self.hchan() {
            // SAFETY: the channel is one of T, and the place has room for one.
            Some(c) => unsafe { chanrecv::<T>(c, place.as_mut_ptr().cast(), wait) },
            None => {
                wait_at_nil(wait, WaitReason::ChanReceiveNilChan);
                if wait == Wait::No { Received::Empty } else { Received::TimedOut }
            }
        };
        preempt_point();
        if received == Received::Received {
            // SAFETY: the place holds a value, which is ours.
            return Ok(unsafe { place.assume_init() });
        }
        if received == Received::Refused {
            refused(());
        }
        Err(received)
    }

    pub fn try_send(&self, v: T) -> Result<(), TrySendError<T>> {
        self.send(v, Wait::No).map_err(|(why, v)| match why {
            Sent::Closed => TrySendError::Closed(v),
            _ => TrySendError::Full(v),
        })
    }

    #[track_caller]
    pub fn send_timeout(&self, v: T, d: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send(v, Wait::at_most(d)).map_err(|(why, v)| match why {
            Sent::Closed => SendTimeoutError::Closed(v),
            _ => SendTimeoutError::Timeout(v),
        })
    }

    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.recv(Wait::No).map_err(|why| match why {
            Received::Closed => TryRecvError::Closed,
            _ => TryRecvError::Empty,
        })
    }

    #[track_caller]
    pub fn recv_timeout(&self, d: Duration) -> Result<T, RecvTimeoutError> {
        self.recv(Wait::at_most(d)).map_err(|why| match why {
            Received::Closed => RecvTimeoutError::Closed,
            _ => RecvTimeoutError::Timeout,
        })
    }

    #[track_caller]
    pub fn close(&self) {
        let Some(c) = self.hchan() else { panic!("close of nil channel") };
        assert!(c.close(), "close of closed channel");
    }

    pub fn try_close(&self) -> bool {
        self.hchan().is_some_and(Hchan::close)
    }

    pub fn len(&self) -> usize {
        self.hchan().map_or(0, Hchan::qcount)
    }

    pub fn cap(&self) -> usize {
        self.hchan().map_or(0, |c| c.dataqsiz)
    }

    pub fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hchan() {
            None => write!(f, "{name}(nil)"),
            Some(c) => f
                .debug_struct(name)
                .field("len", &c.qcount())
                .field("cap", &c.dataqsiz)
                .field("closed", &c.is_closed())
                .finish(),
        }
    }
}

impl<T> Counted<T, SENDER> {
    /// Goes without closing the channel, even if it is the last sender.
    pub fn leave_open(self) {
        let this = ManuallyDrop::new(self);
        let Some(c) = this.c else { return };
        // SAFETY: this handle is counted until the subtraction.
        // ORDERING: as in `drop`.
        let left = unsafe { c.as_ref() }.handles.fetch_sub(SENDER, Ordering::AcqRel) - SENDER;
        if left & (RECEIVER - 1) == 0 {
            drop(GiveUp::<T> { c, sides: 1, element: PhantomData });
        }
    }
}

/// Drops elements that nobody owns any more.
///
/// # Safety
///
/// The slots hold elements of `T`, which the caller owns.
unsafe fn drop_elements<T>(runs: [(*mut u8, usize); 2]) {
    let [a, b] = runs.map(|(at, n)| ptr::slice_from_raw_parts_mut(at.cast::<T>(), n));
    // The second run goes even if a drop in the first one panics.
    struct Rest<T>(*mut [T]);
    impl<T> Drop for Rest<T> {
        fn drop(&mut self) {
            // SAFETY: as for the whole.
            unsafe { ptr::drop_in_place(self.0) };
        }
    }
    let _rest = Rest(b);
    // SAFETY: the caller's promise.
    unsafe { ptr::drop_in_place(a) };
}

impl<T, const ROLE: u64> Drop for Counted<T, ROLE> {
    #[inline]
    fn drop(&mut self) {
        let Some(c) = self.c else { return };
        // The one handle that there is, both of whose halves it counts in: nobody can make another one, and no side has been
        // given up, since a half that is zero stays zero.
        // SAFETY: this handle is counted.
        // ORDERING: Acquire, pairs with the Release below: what all others did comes before the end.
        if ROLE == BOTH && unsafe { c.as_ref() }.handles.load(Ordering::Acquire) == BOTH {
            // SAFETY: nobody else has the channel of T.
            unsafe { free::<T>(c) };
            return;
        }
        // SAFETY: this handle is counted until the subtraction, and `last_of_a_side` says how long after.
        // ORDERING: Release: what this handle did comes before what the last one does; Acquire for the last one.
        let left = unsafe { c.as_ref() }.handles.fetch_sub(ROLE, Ordering::AcqRel) - ROLE;
        let no_sender = ROLE & SENDER != 0 && left & (RECEIVER - 1) == 0;
        let no_receiver = ROLE & RECEIVER != 0 && left >> 32 == 0;
        if no_sender || no_receiver {
            // SAFETY: this handle took these halves to zero.
            unsafe { last_of_a_side::<T>(c, no_sender, no_receiver) };
        }
    }
}

/// # Safety
///
/// The caller's handle, to a channel of `T`, took these halves of the count to zero.
#[cold]
#[inline(never)]
unsafe fn last_of_a_side<T>(c: NonNull<Hchan>, no_sender: bool, no_receiver: bool) {
    let sides = u32::from(no_sender) + u32::from(no_receiver);
    let _give_up = GiveUp::<T> { c, sides, element: PhantomData };
    // SAFETY: as above.
    let c = unsafe { c.as_ref() };
    match (no_sender, no_receiver) {
        (true, false) => _ = c.close(),
        // SAFETY: what was in the buffer is ours, and of type T.
        (false, true) => unsafe { drop_elements::<T>(c.lose_receivers()) },
        _ => {}
    }
}

/// Gives sides of a channel up at its end, also if the drop of an element panics. Whoever makes one took these halves
/// of the count to zero.
struct GiveUp<T> {
    c: NonNull<Hchan>,
    sides: u32,
    element: PhantomData<T>,
}

impl<T> Drop for GiveUp<T> {
    fn drop(&mut self) {
        // SAFETY: the channel lives until its second side is given up.
        // ORDERING: AcqRel: the one who frees sees that the other is through.
        let left = unsafe { self.c.as_ref() }.sides.fetch_sub(self.sides, Ordering::AcqRel);
        if left == self.sides {
            // SAFETY: no handle is left and both sides are through, so the channel of T is ours.
            unsafe { free::<T>(self.c) };
        }
    }
}

/// Frees a channel and what is in its buffer.
///
/// # Safety
///
/// It is a channel of `T`, and nobody else has it.
unsafe fn free<T>(c: NonNull<Hchan>) {
    /// Frees the memory also if the drop of an element panics.
    struct Free(NonNull<Hchan>);
    impl Drop for Free {
        fn drop(&mut self) {
            // SAFETY: nobody else has it.
            unsafe { Hchan::free(self.0) };
        }
    }
    let free = Free(c);
    // SAFETY: H3, and nobody else has it.
    unsafe { drop_elements::<T>(free.0.as_ref().elements()) };
}

impl<T, const ROLE: u64> PartialEq for Counted<T, ROLE> {
    fn eq(&self, other: &Self) -> bool {
        self.c == other.c
    }
}

impl<T, const ROLE: u64> Hash for Counted<T, ROLE> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.addr().hash(state);
    }
}

/// The operation would have to wait, and must not: the value of a send goes with the panic.
#[cold]
#[inline(never)]
#[track_caller]
fn refused<T>(_v: T) -> ! {
    pin::refuse(getg())
}
