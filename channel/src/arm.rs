//! The typed arms of a select: what `select!` and [`Select`](crate::Select) make of their operands, in safe code.
//!
//! An arm owns the value to be sent, or the place for what is received, until the select is over, and then gives the
//! outcome out. What was not taken out is dropped with the arm: a received value that nobody asks for, and the value
//! of a send that was not chosen. An arm that sends *from a place* borrows the place instead ([`FromArm`]), and leaves
//! what is in it alone unless it is chosen.

use crate::error::{SendError, TryRecvError, TrySendError};
use crate::handle::{Chan, Inner, Receiver, Sender, send_on_closed};
use crate::hchan::Hchan;
use crate::park::Wait;
use crate::select::{Dir, Order, Scase, select_array};
use gort_scheduler::proc::preempt_point;
use std::any::type_name;
use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr;

mod sealed {
    /// Keeps the operand traits to our own types, on which the arms' soundness rests.
    pub trait Sealed {}
    impl<T> Sealed for super::Chan<T> {}
    impl<T> Sealed for super::Sender<T> {}
    impl<T> Sealed for super::Receiver<T> {}
    impl<S: Sealed + ?Sized> Sealed for &S {}
}

/// What may stand in `recv(..)`: [`Chan`], [`Receiver`], and references to them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand in `recv(..)`",
    label = "expected a `Chan` or a `Receiver` of this library, or a reference to one"
)]
pub trait RecvOperand: sealed::Sealed {
    /// What is received.
    type Item;
    #[doc(hidden)]
    fn hchan(&self) -> Option<&Hchan>;
    #[doc(hidden)]
    #[track_caller]
    fn recv(&self) -> Option<Self::Item>;
    #[doc(hidden)]
    fn try_recv(&self) -> Option<Option<Self::Item>>;
}

/// What may stand in `send(.., value)`: [`Chan`], [`Sender`], and references to them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand in `send(.., value)`",
    label = "expected a `Chan` or a `Sender` of this library, or a reference to one"
)]
pub trait SendOperand: sealed::Sealed {
    /// What is sent.
    type Item;
    /// A closed channel is a panic, unless the arm asks for the result.
    #[doc(hidden)]
    const PANICS: bool;
    #[doc(hidden)]
    fn hchan(&self) -> Option<&Hchan>;
    #[doc(hidden)]
    #[track_caller]
    fn send(&self, v: Self::Item) -> Result<(), SendError<Self::Item>>;
    #[doc(hidden)]
    fn try_send(&self, v: Self::Item) -> Option<Result<(), SendError<Self::Item>>>;
}

macro_rules! recv_operand {
    ($name:ident) => {
        #[diagnostic::do_not_recommend]
        impl<T> RecvOperand for $name<T> {
            type Item = T;
            #[inline]
            fn hchan(&self) -> Option<&Hchan> {
                self.inner()
            }
            #[inline]
            #[track_caller]
            fn recv(&self) -> Option<T> {
                $name::recv(self)
            }
            #[inline]
            fn try_recv(&self) -> Option<Option<T>> {
                match $name::try_recv(self) {
                    Ok(v) => Some(Some(v)),
                    Err(TryRecvError::Closed) => Some(None),
                    Err(TryRecvError::Empty) => None,
                }
            }
        }
    };
}

recv_operand!(Chan);
recv_operand!(Receiver);

#[diagnostic::do_not_recommend]
impl<R: RecvOperand + ?Sized> RecvOperand for &R {
    type Item = R::Item;
    #[inline]
    fn hchan(&self) -> Option<&Hchan> {
        (**self).hchan()
    }
    #[inline]
    #[track_caller]
    fn recv(&self) -> Option<R::Item> {
        (**self).recv()
    }
    #[inline]
    fn try_recv(&self) -> Option<Option<R::Item>> {
        (**self).try_recv()
    }
}

macro_rules! send_operand {
    ($name:ident, $panics:literal) => {
        #[diagnostic::do_not_recommend]
        impl<T> SendOperand for $name<T> {
            type Item = T;
            const PANICS: bool = $panics;
            #[inline]
            fn hchan(&self) -> Option<&Hchan> {
                self.inner()
            }
            #[inline]
            #[track_caller]
            fn send(&self, v: T) -> Result<(), SendError<T>> {
                self.send_or_error(v)
            }
            #[inline]
            fn try_send(&self, v: T) -> Option<Result<(), SendError<T>>> {
                match $name::try_send(self, v) {
                    Ok(()) => Some(Ok(())),
                    Err(TrySendError::Closed(v)) => Some(Err(SendError(v))),
                    Err(TrySendError::Full(_)) => None,
                }
            }
        }
    };
}

send_operand!(Chan, true);
send_operand!(Sender, false);

#[diagnostic::do_not_recommend]
impl<S: SendOperand + ?Sized> SendOperand for &S {
    type Item = S::Item;
    const PANICS: bool = S::PANICS;
    #[inline]
    fn hchan(&self) -> Option<&Hchan> {
        (**self).hchan()
    }
    #[inline]
    #[track_caller]
    fn send(&self, v: S::Item) -> Result<(), SendError<S::Item>> {
        (**self).send(v)
    }
    #[inline]
    fn try_send(&self, v: S::Item) -> Option<Result<(), SendError<S::Item>>> {
        (**self).try_send(v)
    }
}

/// What the select made of an arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Another arm was chosen, or none yet.
    Open,
    /// This one was; the element has changed hands.
    Moved,
    /// This one was, and the channel is closed.
    Closed,
}

/// An arm that receives.
pub struct RecvArm<'a, T> {
    c: Option<&'a Hchan>,
    place: MaybeUninit<T>,
    outcome: Outcome,
}

/// An arm that sends.
pub struct SendArm<'a, T> {
    c: Option<&'a Hchan>,
    value: ManuallyDrop<T>,
    panics: bool,
    outcome: Outcome,
}

/// An arm that sends what is in a place, and takes it out only if it is chosen. While the place is empty the arm is as
/// good as one on a nil channel.
///
/// F1: From the moment at which a receiver has the value to [`Arm::done`], the bits of the value are still in the place.
/// Nothing looks there meanwhile, because the arm has the only reference, and nothing unwinds.
pub struct FromArm<'a, T> {
    c: Option<&'a Hchan>,
    place: &'a mut Option<T>,
    panics: bool,
    /// It was chosen: whether the value is gone, or the channel closed.
    outcome: Outcome,
}

/// Makes the arm of `recv(operand)`.
#[inline]
pub fn recv_arm<R: RecvOperand + ?Sized>(operand: &R) -> RecvArm<'_, R::Item> {
    RecvArm { c: operand.hchan(), place: MaybeUninit::uninit(), outcome: Outcome::Open }
}

/// Makes the arm of `send(operand, value)`.
#[inline]
pub fn send_arm<S: SendOperand + ?Sized>(operand: &S, value: S::Item) -> SendArm<'_, S::Item> {
    SendArm { c: operand.hchan(), value: ManuallyDrop::new(value), panics: S::PANICS, outcome: Outcome::Open }
}

/// Makes the arm of `send(operand, from place)`.
#[inline]
pub fn from_arm<'a, S: SendOperand + ?Sized>(
    operand: &'a S,
    place: &'a mut Option<S::Item>,
) -> FromArm<'a, S::Item> {
    FromArm { c: operand.hchan(), place, panics: S::PANICS, outcome: Outcome::Open }
}

/// An arm of any type, as the select sees it.
pub trait Arm {
    /// Its case, valid as long as the arm is neither moved nor used.
    #[doc(hidden)]
    fn scase(&mut self) -> Scase<'_>;
    /// It was chosen.
    #[doc(hidden)]
    fn done(&mut self, success: bool);
}

impl<T> Arm for RecvArm<'_, T> {
    #[inline]
    fn scase(&mut self) -> Scase<'_> {
        debug_assert_eq!(self.outcome, Outcome::Open);
        // SAFETY: the operand traits are sealed, so the channel is one of T; the place has room for one.
        unsafe { Scase::new(self.c, self.place.as_mut_ptr().cast(), Dir::Recv) }
    }
    #[inline]
    fn done(&mut self, success: bool) {
        self.outcome = if success { Outcome::Moved } else { Outcome::Closed };
    }
}

impl<T> Arm for SendArm<'_, T> {
    #[inline]
    fn scase(&mut self) -> Scase<'_> {
        // A value that was sent by an earlier select is gone: the arm is as good as nil.
        let c = if self.outcome == Outcome::Moved { None } else { self.c };
        // SAFETY: as above; the value is there.
        unsafe { Scase::new(c, (&raw mut self.value).cast(), Dir::Send) }
    }
    #[inline]
    fn done(&mut self, success: bool) {
        self.outcome = if success { Outcome::Moved } else { Outcome::Closed };
    }
}

impl<T> Arm for FromArm<'_, T> {
    #[inline]
    fn scase(&mut self) -> Scase<'_> {
        debug_assert_eq!(self.outcome, Outcome::Open);
        let (c, elem) = match self.place.as_mut() {
            Some(value) => (self.c, ptr::from_mut(value)),
            None => (None, ptr::null_mut()),
        };
        // SAFETY: as above; if there is a channel, the value is there.
        unsafe { Scase::new(c, elem.cast(), Dir::Send) }
    }
    #[inline]
    fn done(&mut self, success: bool) {
        if success {
            // The value has been moved out, bit by bit (F1).
            std::mem::forget(self.place.take());
            self.outcome = Outcome::Moved;
        } else {
            self.outcome = Outcome::Closed;
        }
    }
}

impl<T> RecvArm<'_, T> {
    /// What was received, if this arm was chosen. The arm is open again.
    #[inline]
    pub fn received(&mut self) -> Option<Option<T>> {
        match std::mem::replace(&mut self.outcome, Outcome::Open) {
            Outcome::Open => None,
            // SAFETY: the outcome says that the place holds a value; it is taken out once.
            Outcome::Moved => Some(Some(unsafe { self.place.assume_init_read() })),
            Outcome::Closed => Some(None),
        }
    }
}

impl<T> Drop for RecvArm<'_, T> {
    #[inline]
    fn drop(&mut self) {
        drop(self.received());
    }
}

impl<T> SendArm<'_, T> {
    /// How the send went, if this arm was chosen.
    #[inline]
    #[track_caller]
    pub fn sent(&mut self) -> Option<Result<(), SendError<T>>> {
        match self.outcome {
            Outcome::Open => None,
            Outcome::Moved => Some(Ok(())),
            Outcome::Closed => {
                self.outcome = Outcome::Moved;
                // SAFETY: the value was not sent; the outcome keeps it from being taken twice.
                Some(Err(SendError(unsafe { ManuallyDrop::take(&mut self.value) })))
            }
        }
    }

    /// [`SendArm::sent`] for an arm that does not ask for the result.
    ///
    /// # Panics
    ///
    /// `send on closed channel`, on a [`Chan`].
    #[inline]
    #[track_caller]
    pub fn sent_or_panic(&mut self) -> Option<()> {
        // No closure: it would be the place that the panic names.
        let result = self.sent()?;
        error_is_a_panic(result, self.panics);
        Some(())
    }

    /// The value, if it was not sent.
    pub fn unsent(&mut self) -> Option<T> {
        if self.outcome == Outcome::Moved {
            return None;
        }
        self.outcome = Outcome::Moved;
        // SAFETY: as in `sent`.
        Some(unsafe { ManuallyDrop::take(&mut self.value) })
    }
}

impl<T> Drop for SendArm<'_, T> {
    #[inline]
    fn drop(&mut self) {
        drop(self.unsent());
    }
}

impl<T> FromArm<'_, T> {
    /// How the send went, if this arm was chosen. The arm is open again.
    #[inline]
    #[track_caller]
    pub fn sent(&mut self) -> Option<Result<(), SendError<T>>> {
        match std::mem::replace(&mut self.outcome, Outcome::Open) {
            Outcome::Open => None,
            Outcome::Moved => Some(Ok(())),
            Outcome::Closed => Some(self.place.take().map_or(Ok(()), |v| Err(SendError(v)))),
        }
    }

    /// [`FromArm::sent`] for an arm that does not ask for the result.
    ///
    /// # Panics
    ///
    /// `send on closed channel`, on a [`Chan`].
    #[inline]
    #[track_caller]
    pub fn sent_or_panic(&mut self) -> Option<()> {
        let result = self.sent()?;
        error_is_a_panic(result, self.panics);
        Some(())
    }

    /// The value, if it was not sent.
    pub fn unsent(&mut self) -> Option<T> {
        self.place.take()
    }
}

impl<T> fmt::Debug for RecvArm<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecvArm<{}>", type_name::<T>())
    }
}

impl<T> fmt::Debug for SendArm<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendArm<{}>", type_name::<T>())
    }
}

impl<T> fmt::Debug for FromArm<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FromArm<{}>", type_name::<T>())
    }
}

/// A select over these arms; the index of the chosen one. `default`: it does not wait.
#[inline]
#[track_caller]
pub fn select_arms<const N: usize>(
    mut arms: [&mut dyn Arm; N],
    default: bool,
    order: Order,
) -> Option<usize> {
    let done = {
        let cases = arms.each_mut().map(|arm| arm.scase());
        select_array(&cases, if default { Wait::No } else { Wait::Forever }, order)
    };
    // At once, so that no arm holds the bits of a value that is gone (F1).
    let chosen = done.map(|done| {
        arms[done.index].done(done.success);
        done.index
    });
    preempt_point();
    chosen
}

/// `select!` with one arm, which receives, and no default.
#[inline]
#[track_caller]
pub fn recv_one<R: RecvOperand + ?Sized>(operand: &R) -> Option<R::Item> {
    operand.recv()
}

/// `select!` with one arm, which receives, and a default.
#[inline]
pub fn try_recv_one<R: RecvOperand + ?Sized>(operand: &R) -> Option<Option<R::Item>> {
    operand.try_recv()
}

/// Drops what came back from a closed channel, and panics where that is the rule.
#[inline]
#[track_caller]
fn error_is_a_panic<T>(result: Result<(), SendError<T>>, panics: bool) {
    if result.is_err() && panics {
        drop(result);
        send_on_closed();
    }
}

/// `select!` with one arm, which sends, and no default; one function for each way to finish.
pub mod send_one {
    use super::{SendError, SendOperand, error_is_a_panic};

    /// The arm asks for the result.
    #[inline]
    #[track_caller]
    pub fn sent<S: SendOperand + ?Sized>(operand: &S, v: S::Item) -> Result<(), SendError<S::Item>> {
        operand.send(v)
    }

    /// It does not.
    #[inline]
    #[track_caller]
    pub fn sent_or_panic<S: SendOperand + ?Sized>(operand: &S, v: S::Item) {
        error_is_a_panic(operand.send(v), S::PANICS);
    }
}

/// `select!` with one arm, which sends, and a default.
pub mod try_send_one {
    use super::{SendError, SendOperand, error_is_a_panic};

    /// The arm asks for the result.
    #[inline]
    #[track_caller]
    pub fn sent<S: SendOperand + ?Sized>(operand: &S, v: S::Item) -> Option<Result<(), SendError<S::Item>>> {
        operand.try_send(v)
    }

    /// It does not.
    #[inline]
    #[track_caller]
    pub fn sent_or_panic<S: SendOperand + ?Sized>(operand: &S, v: S::Item) -> Option<()> {
        let result = operand.try_send(v)?;
        error_is_a_panic(result, S::PANICS);
        Some(())
    }
}
