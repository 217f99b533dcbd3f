#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
// README's links lead to the pages of a release; here, to those that are built with this one. The first definition counts.
//! [docs/behaviour.md]: crate::docs::behaviour
//! [docs/crates.md]: crate::docs::crates
//! [docs/guide.md]: crate::docs::guide
//! [docs/operating.md]: crate::docs::operating
//! [docs/phrase-book.md]: crate::docs::phrase_book
//! [docs/questions.md]: crate::docs::questions
//! [docs/safety.md]: crate::docs::safety
//!
#![doc = include_str!("../README.md")]

/// Macros that share their name with a module inside export no module.
///
/// ```compile_fail
/// use gort::select::Scase;
/// ```
#[cfg(doctest)]
struct Inside;

mod block_on;
#[cfg(doctest)]
mod bounds;
mod builder;
pub mod context;
#[cfg(doc)]
pub mod docs;
mod global;
mod go;
mod go_macro;
mod local;
mod os_thread;
pub mod runtime;
mod scope;
mod sigquit;
pub mod sync;
pub mod time;

pub use block_on::block_on;
pub use builder::{Runtime, RuntimeBuilder};
pub use global::run;
pub use go::{Builder, JoinHandle, go, goroutine_id, max_procs, num_goroutines, set_max_procs, yield_now};
#[doc(hidden)]
pub use go_macro::__go_built;
#[doc(hidden)]
pub use gort_channel::{__private, __select};
pub use gort_channel::{
    Chan, IntoIter, Iter, Receiver, RecvOperand, RecvTimeoutError, Select, Selected, SendError, SendOperand,
    SendTimeoutError, Sender, TryIter, TryRecvError, TrySendError, chan, channel, select, select_biased,
};
pub use gort_scheduler::config::{Deadlock, OtherThreads, PanicPolicy};
pub use gort_scheduler::g::GoroutineId;
pub use gort_scheduler::local::{AccessError, LocalKey};
pub use os_thread::{NoSuspendGuard, OsThreadGuard, blocking, lock_os_thread, no_suspend};
pub use scope::{Scope, ScopedJoinHandle, scope};
