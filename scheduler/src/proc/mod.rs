#![doc = include_str!("README.md")]

#[cfg(not(loom))]
pub(crate) mod crowd;
pub mod deadlock;
mod dump;
mod find_runnable;
mod handoffp;
pub mod locked;
pub mod newproc;
mod park;
pub mod pin;
pub mod procresize;
mod schedule;
pub mod shutdown;
pub mod spin;
mod stranded;
pub mod syscall;
pub(crate) mod sysmon;
pub mod timers;
pub mod waiting;
mod wake;

#[cfg(not(shuttle))]
pub(crate) use dump::last_words;
pub use dump::{Dump, GoroutineInfo, dump, goroutines};
pub use newproc::{Goroutine, try_spawn};
pub use park::{current, getg, gopark, goready, goready_by, gosched, preempt_point};
pub(crate) use park::{getm, systemstack};
pub(crate) use schedule::schedule;
pub use waiting::Commit;
pub(crate) use waiting::park_thread_until;
