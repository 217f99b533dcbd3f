//! The typed handles: [`Chan`] (Go's `chan T`), [`Sender`] (`chan<- T`) and [`Receiver`] (`<-chan T`). What they do is in
//! `counted`.

use crate::counted::{BOTH, Counted, RECEIVER, SENDER};
use crate::error::{RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
use crate::hchan::Hchan;
use crate::iter::{IntoIter, Iter, TryIter};
use crate::park::Wait;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// The traits that all three handles have alike; they ask nothing of `T`.
macro_rules! handle_traits {
    ($name:ident, $role:expr) => {
        impl<T> Clone for $name<T> {
            /// Another handle to the same channel.
            fn clone(&self) -> $name<T> {
                $name(self.0.share::<{ $role }>())
            }
        }

        impl<T> PartialEq for $name<T> {
            /// The same channel, or both nil.
            fn eq(&self, other: &$name<T>) -> bool {
                self.0 == other.0
            }
        }

        impl<T> Eq for $name<T> {}

        impl<T> Hash for $name<T> {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.0.hash(state);
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(stringify!($name), f)
            }
        }
    };
}

handle_traits!(Chan, BOTH);
handle_traits!(Sender, SENDER);
handle_traits!(Receiver, RECEIVER);

/// Go's `chan T`: a handle that sends, receives and closes, to the letter as in Go.
///
/// | operation | nil channel | closed channel | open channel |
/// | --- | --- | --- | --- |
/// | [`close`](Chan::close) | panics | panics | closes, and wakes every waiter |
/// | [`recv`](Chan::recv) | blocks for ever | drains the buffer, then `None` | blocks until a value or the close |
/// | [`send`](Chan::send) | blocks for ever | panics | blocks until taken or buffered |
///
/// Clones are the same channel. Values arrive in the order in which they were sent; parked receivers and parked
/// senders are served first come, first served. Every operation works on a goroutine, which it parks, and on a plain
/// OS thread, which it blocks.
///
/// ```
/// let ch = gort::chan::<i32>(0);
/// let tx = ch.clone();
/// gort::go!(move || tx.send(42));
/// assert_eq!(ch.recv(), Some(42));
/// ```
pub struct Chan<T>(Counted<T, BOTH>);

/// Go's `chan<- T`, with Rust's ownership: the sending half of a channel.
///
/// When the last of them goes, and no [`Chan`] is left, the channel closes by itself.
///
/// ```
/// let (tx, rx) = gort::channel::<i32>(1);
/// tx.send(1).unwrap();
/// drop(tx);
/// assert_eq!((rx.recv(), rx.recv()), (Some(1), None));
/// ```
pub struct Sender<T>(Counted<T, SENDER>);

/// Go's `<-chan T`, with Rust's ownership: the receiving half of a channel.
///
/// When the last of them goes, and no [`Chan`] is left, senders get their values back, also those that are parked;
/// values that are still buffered are dropped.
///
/// ```
/// let (tx, rx) = gort::channel::<i32>(0);
/// drop(rx);
/// assert_eq!(tx.send(7).unwrap_err().into_inner(), 7);
/// ```
pub struct Receiver<T>(Counted<T, RECEIVER>);

/// Makes a channel with a buffer of `cap` values (Go's `make(chan T, cap)`).
///
/// # Panics
///
/// `makechan: size out of range` when such a buffer cannot exist; `makechan: no memory for a channel of N bytes` when there is
/// none for it.
///
/// ```
/// let ch = gort::chan(2);
/// ch.send("a");
/// ch.send("b");
/// assert!(ch.is_full());
/// ```
#[track_caller]
pub fn chan<T: Send>(cap: usize) -> Chan<T> {
    Chan(Counted::make(cap))
}

/// Makes a channel with a buffer of `cap` values, as the two halves of Rust's channels.
///
/// # Panics
///
/// As [`chan`].
///
/// ```
/// let (tx, rx) = gort::channel(8);
/// for i in 0..3 {
///     let tx = tx.clone();
///     gort::go!(move || tx.send(i).unwrap());
/// }
/// drop(tx); // the goroutines' clones are left: the channel closes when the last of them is done
/// assert_eq!(rx.iter().sum::<i32>(), 3);
/// ```
#[track_caller]
pub fn channel<T: Send>(cap: usize) -> (Sender<T>, Receiver<T>) {
    let ch = chan(cap);
    (ch.sender(), ch.receiver())
}

impl<T> Chan<T> {
    /// Makes a channel: the same as [`chan`].
    ///
    /// # Panics
    ///
    /// As [`chan`].
    ///
    /// ```
    /// assert_eq!(gort::Chan::<u8>::new(3).cap(), 3);
    /// ```
    #[track_caller]
    pub fn new(cap: usize) -> Chan<T>
    where
        T: Send,
    {
        chan(cap)
    }

    /// The nil channel: sends and receives block for ever, and no arm of a select on it is ever ready.
    ///
    /// ```
    /// let never = gort::Chan::<u8>::nil();
    /// assert!(never.is_nil() && never.try_recv().is_err());
    /// ```
    pub const fn nil() -> Chan<T> {
        Chan(Counted::NIL)
    }

    /// True for the nil channel.
    ///
    /// ```
    /// assert!(gort::Chan::<u8>::default().is_nil());
    /// ```
    pub fn is_nil(&self) -> bool {
        self.0.hchan().is_none()
    }

    /// Sends a value (Go's `ch <- v`): blocks until it is taken or buffered; on a nil channel for ever.
    ///
    /// # Panics
    ///
    /// `send on closed channel`, also if it is closed while the sender is parked. The value is dropped.
    ///
    /// ```
    /// let ch = gort::chan(1);
    /// ch.send('x');
    /// assert_eq!(ch.recv(), Some('x'));
    /// ```
    #[inline]
    #[track_caller]
    pub fn send(&self, v: T) {
        if let Err((_, v)) = self.0.send(v, Wait::Forever) {
            drop(v);
            send_on_closed();
        }
    }

    /// Receives a value (Go's `v, ok := <-ch`): blocks until there is one, or `None` once the channel is closed and
    /// drained; on a nil channel blocks for ever.
    ///
    /// ```
    /// let ch = gort::chan(1);
    /// ch.send(1);
    /// ch.close();
    /// assert_eq!((ch.recv(), ch.recv()), (Some(1), None));
    /// ```
    #[inline]
    #[track_caller]
    pub fn recv(&self) -> Option<T> {
        self.0.recv(Wait::Forever).ok()
    }

    /// The sending half: a handle that counts as a sender only.
    ///
    /// ```
    /// let ch = gort::chan(1);
    /// ch.sender().send(1).unwrap();
    /// assert_eq!(ch.len(), 1);
    /// ```
    pub fn sender(&self) -> Sender<T> {
        Sender(self.0.share::<SENDER>())
    }

    /// The receiving half: a handle that counts as a receiver only.
    ///
    /// ```
    /// let ch = gort::chan(1);
    /// ch.send(1);
    /// assert_eq!(ch.receiver().recv(), Some(1));
    /// ```
    pub fn receiver(&self) -> Receiver<T> {
        Receiver(self.0.share::<RECEIVER>())
    }
}

impl<T> Default for Chan<T> {
    /// The zero value of a channel is nil.
    fn default() -> Chan<T> {
        Chan::nil()
    }
}

#[cold]
#[inline(never)]
#[track_caller]
pub(crate) fn send_on_closed() -> ! {
    panic!("send on closed channel")
}

impl<T> Sender<T> {
    /// The nil channel's sending half.
    ///
    /// ```
    /// assert!(gort::Sender::<u8>::nil().try_send(1).unwrap_err().is_full());
    /// ```
    pub const fn nil() -> Sender<T> {
        Sender(Counted::NIL)
    }

    /// Sends a value: blocks until it is taken or buffered; on a nil channel for ever.
    ///
    /// # Errors
    ///
    /// With the value, when the channel is closed or no receiver is left, also if that happens while the sender is
    /// parked.
    ///
    /// ```
    /// let (tx, rx) = gort::channel(1);
    /// assert!(tx.send(1).is_ok());
    /// drop(rx);
    /// assert_eq!(tx.send(2), Err(gort::SendError(2)));
    /// ```
    #[inline]
    #[track_caller]
    pub fn send(&self, v: T) -> Result<(), SendError<T>> {
        self.0.send(v, Wait::Forever).map_err(|(_, v)| SendError(v))
    }

    /// True once no send can succeed any more: the channel is closed, or no receiver is left. False for nil.
    ///
    /// ```
    /// let (tx, rx) = gort::channel::<u8>(1);
    /// drop(rx);
    /// assert!(tx.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.0.hchan().is_some_and(Hchan::refuses_sends)
    }
}

impl<T> Sender<T> {
    /// Goes without closing the channel, even if it is the last sender: receivers then wait for ever. For timers that
    /// have fired.
    #[doc(hidden)]
    pub fn leave_open(self) {
        self.0.leave_open();
    }
}

impl<T> Receiver<T> {
    /// The nil channel's receiving half.
    ///
    /// ```
    /// assert!(gort::Receiver::<u8>::nil().try_recv().is_err());
    /// ```
    pub const fn nil() -> Receiver<T> {
        Receiver(Counted::NIL)
    }

    /// Receives a value: blocks until there is one, or `None` once the channel is closed and drained; on a nil
    /// channel blocks for ever.
    ///
    /// ```
    /// let (tx, rx) = gort::channel(1);
    /// tx.send(1).unwrap();
    /// drop(tx);
    /// assert_eq!((rx.recv(), rx.recv()), (Some(1), None));
    /// ```
    #[inline]
    #[track_caller]
    pub fn recv(&self) -> Option<T> {
        self.0.recv(Wait::Forever).ok()
    }

    /// An iterator over what is there, which ends instead of blocking.
    ///
    /// ```
    /// let (tx, rx) = gort::channel(3);
    /// tx.send(1).unwrap();
    /// tx.send(2).unwrap();
    /// assert_eq!(rx.try_iter().collect::<Vec<_>>(), [1, 2]);
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter::new(self)
    }
}

/// What [`Chan`] and [`Sender`] have in common.
macro_rules! sending {
    ($name:ident, $mk:literal) => {
        impl<T> $name<T> {
            /// Sends a value if that is possible without waiting; a nil channel is full.
            ///
            /// # Errors
            ///
            /// `Full` or `Closed`, with the value.
            ///
            /// ```
            #[doc = $mk]
            /// assert!(tx.try_send(1).is_ok());
            /// assert_eq!(tx.try_send(2), Err(gort::TrySendError::Full(2)));
            /// tx.close();
            /// assert_eq!(tx.try_send(3), Err(gort::TrySendError::Closed(3)));
            /// # drop(ch);
            /// ```
            #[inline]
            pub fn try_send(&self, v: T) -> Result<(), TrySendError<T>> {
                self.0.try_send(v)
            }

            /// Sends a value, waiting for at most `d`; `Duration::MAX` is for ever.
            ///
            /// # Errors
            ///
            /// `Timeout` or `Closed`, with the value.
            ///
            /// ```
            /// # use std::time::Duration;
            #[doc = $mk]
            /// assert!(tx.send_timeout(1, Duration::ZERO).is_ok());
            /// assert!(tx.send_timeout(2, Duration::from_millis(1)).unwrap_err().is_timeout());
            /// # drop(ch);
            /// ```
            #[track_caller]
            pub fn send_timeout(&self, v: T, d: Duration) -> Result<(), SendTimeoutError<T>> {
                self.0.send_timeout(v, d)
            }

            /// Closes the channel: receivers get what is buffered and then `None`, sends panic or give an error,
            /// and everybody who is parked at it wakes.
            ///
            /// # Panics
            ///
            /// `close of closed channel`, `close of nil channel`.
            ///
            /// ```
            #[doc = $mk]
            /// tx.close();
            /// assert!(tx.is_closed());
            /// # drop(ch);
            /// ```
            #[track_caller]
            pub fn close(&self) {
                self.0.close();
            }

            /// Closes the channel if that is possible; false if it is nil or closed already.
            ///
            /// ```
            #[doc = $mk]
            /// assert_eq!((tx.try_close(), tx.try_close()), (true, false));
            /// # drop(ch);
            /// ```
            pub fn try_close(&self) -> bool {
                self.0.try_close()
            }
        }
    };
}

sending!(Chan, "let (ch, tx) = { let ch = gort::chan::<i32>(1); (ch.clone(), ch) };");
sending!(Sender, "let (ch, tx) = { let ch = gort::chan::<i32>(1); (ch.clone(), ch.sender()) };");

impl<T> Chan<T> {
    /// [`Chan::send`] that gives the value back where that one panics.
    #[inline]
    #[track_caller]
    pub(crate) fn send_or_error(&self, v: T) -> Result<(), SendError<T>> {
        self.0.send(v, Wait::Forever).map_err(|(_, v)| SendError(v))
    }
}

impl<T> Receiver<T> {
    pub(crate) fn from_counted(c: Counted<T, RECEIVER>) -> Receiver<T> {
        Receiver(c)
    }
}

impl<T> Sender<T> {
    #[inline]
    #[track_caller]
    pub(crate) fn send_or_error(&self, v: T) -> Result<(), SendError<T>> {
        self.send(v)
    }
}

/// What [`Chan`] and [`Receiver`] have in common.
macro_rules! receiving {
    ($name:ident, $mk:literal) => {
        impl<T> $name<T> {
            /// Receives a value if there is one; a nil channel is empty.
            ///
            /// # Errors
            ///
            /// `Empty`, or `Closed` once the channel is closed and drained.
            ///
            /// ```
            #[doc = $mk]
            /// assert_eq!(rx.try_recv(), Err(gort::TryRecvError::Empty));
            /// ch.send(1);
            /// ch.close();
            /// assert_eq!(rx.try_recv(), Ok(1));
            /// assert_eq!(rx.try_recv(), Err(gort::TryRecvError::Closed));
            /// ```
            #[inline]
            pub fn try_recv(&self) -> Result<T, TryRecvError> {
                self.0.try_recv()
            }

            /// Receives a value, waiting for at most `d`; `Duration::MAX` is for ever.
            ///
            /// # Errors
            ///
            /// `Timeout`, or `Closed` once the channel is closed and drained.
            ///
            /// ```
            /// # use std::time::Duration;
            #[doc = $mk]
            /// assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(gort::RecvTimeoutError::Timeout));
            /// ch.send(1);
            /// assert_eq!(rx.recv_timeout(Duration::ZERO), Ok(1));
            /// ```
            #[track_caller]
            pub fn recv_timeout(&self, d: Duration) -> Result<T, RecvTimeoutError> {
                self.0.recv_timeout(d)
            }

            /// An iterator over the values to come (Go's `for v := range ch`): it blocks for each, and ends when the
            /// channel is closed and drained.
            ///
            /// ```
            #[doc = $mk]
            /// ch.send(1);
            /// ch.close();
            /// assert_eq!(rx.iter().collect::<Vec<_>>(), [1]);
            /// ```
            pub fn iter(&self) -> Iter<'_, T> {
                Iter::new(self)
            }
        }

        impl<'a, T> IntoIterator for &'a $name<T> {
            type Item = T;
            type IntoIter = Iter<'a, T>;
            fn into_iter(self) -> Iter<'a, T> {
                self.iter()
            }
        }
    };
}

receiving!(Chan, "let (ch, rx) = { let ch = gort::chan::<i32>(1); (ch.clone(), ch) };");
receiving!(Receiver, "let (ch, rx) = { let ch = gort::chan::<i32>(1); (ch.clone(), ch.receiver()) };");

/// What all three have in common.
macro_rules! looking {
    ($name:ident) => {
        impl<T> $name<T> {
            /// How many values are buffered (Go's `len`), at some moment; 0 for nil.
            ///
            /// ```
            /// let ch = gort::chan(2);
            /// ch.send('a');
            /// assert_eq!((ch.len(), ch.sender().len(), ch.receiver().len()), (1, 1, 1));
            /// ```
            pub fn len(&self) -> usize {
                self.0.len()
            }

            /// How many values the buffer can hold (Go's `cap`); 0 for nil.
            ///
            /// ```
            /// assert_eq!(gort::chan::<u8>(7).cap(), 7);
            /// ```
            pub fn cap(&self) -> usize {
                self.0.cap()
            }

            /// `len() == 0`.
            ///
            /// ```
            /// assert!(gort::chan::<u8>(7).is_empty());
            /// ```
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// `len() == cap()`: always true for an unbuffered channel, as for a nil one.
            ///
            /// ```
            /// let ch = gort::chan(1);
            /// assert!(!ch.is_full());
            /// ch.send(1);
            /// assert!(ch.is_full() && gort::chan::<u8>(0).is_full());
            /// ```
            pub fn is_full(&self) -> bool {
                self.len() == self.cap()
            }
        }
    };
}

looking!(Chan);
looking!(Sender);
looking!(Receiver);

/// True once the channel is closed; values may still be buffered.
macro_rules! is_closed {
    ($name:ident) => {
        impl<T> $name<T> {
            /// True once the channel is closed; values may still be buffered. False for nil.
            ///
            /// ```
            /// let ch = gort::chan::<u8>(1);
            /// ch.close();
            /// assert!(ch.is_closed() && ch.receiver().is_closed());
            /// ```
            pub fn is_closed(&self) -> bool {
                self.0.hchan().is_some_and(Hchan::is_closed)
            }
        }
    };
}

is_closed!(Chan);
is_closed!(Receiver);

/// How the other files of the crate reach inside.
pub(crate) trait Inner {
    fn inner(&self) -> Option<&Hchan>;
}

macro_rules! inner {
    ($($name:ident)*) => {$(
        impl<T> Inner for $name<T> {
            #[inline]
            fn inner(&self) -> Option<&Hchan> {
                self.0.hchan()
            }
        }
    )*};
}

inner!(Chan Sender Receiver);

impl<T> IntoIterator for Chan<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;
    /// The iterator counts as a receiver only: once no other sender is left, the channel closes and it ends.
    fn into_iter(self) -> IntoIter<T> {
        IntoIter::new(self.receiver())
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;
    fn into_iter(self) -> IntoIter<T> {
        IntoIter::new(self)
    }
}
