#![doc = include_str!("README.md")]

mod dump;
mod find_runnable;
pub mod newproc;
mod park;
mod schedule;
pub mod shutdown;
pub(crate) mod sysmon;
pub mod waiting;
mod wake;

pub(crate) use dump::last_words;
pub use dump::{Dump, GoroutineInfo, dump, goroutines};
pub use newproc::{Goroutine, try_spawn};
pub(crate) use park::systemstack;
pub use park::{getg, gopark, goready, gosched, preempt_check, preempt_point};
pub(crate) use schedule::schedule;
pub use waiting::Commit;
pub(crate) use waiting::park_thread_until;
