//! Go's channels and select, after `chan.go` and `select.go`.
//!
//! This crate is the channel half of [`gort`](https://docs.rs/gort), which programs use and which re-exports all that
//! is public here. It reaches the scheduler through its verbs alone (`getg`, `gopark`, `goready`, the atomics and the
//! lock).
//!
//! `hchan`: the channel. `waitq`: who waits. `send`, `recv`, `select`: the operations. `counted`: when a channel ends. `timer`: channels that tell the time. `handle`: the typed face.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod arm;
mod counted;
mod error;
mod handle;
mod hchan;
mod iter;
mod park;
mod recv;
mod select;
mod select_dyn;
mod select_macro;
mod send;
#[doc(hidden)]
pub mod timer;
mod waitq;

pub use arm::{RecvOperand, SendOperand};
pub use error::{RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
pub use handle::{Chan, Receiver, Sender, chan, channel};
pub use iter::{IntoIter, Iter, TryIter};
pub use select_dyn::{Select, Selected};

/// What the macros write. Not for use.
#[doc(hidden)]
pub mod __private {
    pub use crate::arm::{
        Arm, from_arm, recv_arm, recv_one, select_arms, send_arm, send_one, try_recv_one, try_send_one,
    };
    pub use crate::select::Order;

    /// `select! {}`.
    #[track_caller]
    pub fn block_forever() -> ! {
        crate::park::block_forever(gort_scheduler::g::WaitReason::SelectNoCases)
    }

    /// The outcome of the chosen arm.
    #[inline]
    pub fn outcome<V>(v: Option<V>) -> V {
        v.unwrap_or_else(|| no_arm())
    }

    /// Where a select cannot come.
    #[cold]
    #[inline(never)]
    pub fn no_arm() -> ! {
        gort_scheduler::throw!("a select has lost its arm")
    }
}
