#![doc = include_str!("README.md")]

mod dump;
mod find_runnable;
pub mod newproc;
mod park;
mod schedule;
pub mod shutdown;
pub(crate) mod sysmon;
mod wake;

pub use dump::{dump, goroutines};
pub use newproc::{Goroutine, spawn, spawn_unchecked};
pub(crate) use park::park_thread_until;
pub use park::{getg, gopark, goready, gosched, preempt_check, preempt_point};
pub(crate) use schedule::schedule;
