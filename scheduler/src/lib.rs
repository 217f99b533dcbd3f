//! The scheduler of `gort`: goroutines on OS threads through processors, after Go's `proc.go`.
//!
//! This crate is the inside of [`gort`](https://docs.rs/gort): programs use the facade. It knows nothing of channels;
//! what is built on it reaches it through a handful of verbs:
//!
//! | verb | what it does |
//! | --- | --- |
//! | [`getg`](proc::getg) | the calling goroutine, or the plain thread's stand-in |
//! | [`gopark`](proc::gopark) | leaves the stack, then runs a commit that lets the wakers at it |
//! | [`gopark_until`](time::sleep::gopark_until) | the same with a deadline |
//! | [`goready`](proc::goready) | makes a parked goroutine runnable, next on this P |
//! | [`gosched`](proc::gosched), [`preempt_point`](proc::preempt_point) | give way |
//! | [`try_spawn`](proc::try_spawn) | starts a goroutine |
//!
//! Base: [`sync`], [`note`], [`throw`](mod@throw), [`config`], `stack`. Nouns: [`g`], `m`, `p`, [`runq`], [`globq`], [`home`],
//! [`idle`], [`keeper`], [`sched`]. Verbs: [`proc`]. Services: [`time`], [`sema`].

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![cfg_attr(any(loom, shuttle), allow(dead_code, missing_docs, reason = "models use a part of it"))]

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("gort runs on Linux on x86_64 and aarch64");

#[cfg(not(loom))]
pub mod config;
#[cfg(not(loom))]
mod cxx;
pub mod doze;
#[cfg(not(loom))]
mod env;
#[cfg(not(loom))]
mod fork;
pub mod g;
pub mod gate;
pub mod globq;
#[cfg(not(loom))]
mod gpool;
#[cfg(not(loom))]
pub mod handlers;
pub mod handoff;
pub mod home;
pub mod idle;
pub mod keeper;
#[cfg(not(loom))]
pub mod local;
#[cfg(not(loom))]
mod m;
pub mod memory;
#[cfg(loom)]
pub mod model;
pub mod note;
pub mod once;
#[cfg(not(loom))]
mod os;
#[cfg(not(loom))]
mod p;
#[cfg(not(loom))]
mod panics;
#[cfg(not(loom))]
pub mod proc;
#[cfg(loom)]
pub use model::proc;
pub mod runq;
#[cfg(not(loom))]
pub mod sched;
pub mod sema;
#[cfg(not(loom))]
mod stack;
#[cfg(not(loom))]
mod symbols;
pub mod sync;
#[cfg(not(loom))]
pub mod template;
#[cfg(not(loom))]
mod thread;
#[cfg(not(loom))]
pub mod threads;
pub mod throw;
pub mod time;
#[cfg(not(loom))]
mod tls_probe;
#[cfg(not(loom))]
mod unwind;
pub mod visitors;

#[cfg(not(loom))]
pub use stack::class::{DEFAULT_STACK, MAX_STACK, MIN_STACK, StackSizeError, class_of};
