#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![doc = include_str!("../README.md")]

mod builder;
mod global;
mod go;
mod go_macro;
pub mod runtime;
mod scope;
mod sigquit;
pub mod sync;
pub mod time;

pub use builder::{Runtime, RuntimeBuilder};
pub use global::run;
pub use go::{Builder, JoinHandle, go, goroutine_id, max_procs, num_goroutines, yield_now};
#[doc(hidden)]
pub use go_macro::__go_built;
#[doc(hidden)]
pub use gort_channel::{__private, __select};
pub use gort_channel::{
    Chan, IntoIter, Iter, Receiver, RecvOperand, RecvTimeoutError, Select, Selected, SendError, SendOperand,
    SendTimeoutError, Sender, TryIter, TryRecvError, TrySendError, chan, channel, select, select_biased,
};
pub use gort_scheduler::config::PanicPolicy;
pub use gort_scheduler::g::GoroutineId;
pub use scope::{Scope, ScopedJoinHandle, scope};
