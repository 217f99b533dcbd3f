//! Waiting for each other without a channel.

mod barrier;
mod lazy_lock;
mod once;
mod once_lock;
mod waitgroup;

pub use barrier::{Barrier, BarrierWaitResult};
pub use lazy_lock::LazyLock;
pub use once::{Once, OnceState};
pub use once_lock::OnceLock;
pub use waitgroup::WaitGroup;
