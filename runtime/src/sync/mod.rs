//! Waiting for each other without a channel.

mod barrier;
mod condvar;
mod err_group;
mod lazy_lock;
mod mutex;
mod once;
mod once_lock;
mod rwlock;
mod semaphore;
mod single_flight;
mod waitgroup;

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use err_group::{ErrGroup, ErrScope};
pub use lazy_lock::LazyLock;
pub use mutex::{MappedMutexGuard, Mutex, MutexGuard, RawMutex};
pub use once::{Once, OnceState};
pub use once_lock::OnceLock;
pub use rwlock::{
    MappedRwLockReadGuard, MappedRwLockWriteGuard, RawRwLock, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
pub use semaphore::{Semaphore, SemaphoreGuard};
pub use single_flight::SingleFlight;
pub use waitgroup::WaitGroup;

use gort_scheduler::time::clock::Nanos;
use std::time::Instant;

/// A point of `std`'s monotonic clock as one of ours.
fn nanos(at: Instant) -> Nanos {
    Nanos::now().after(at.saturating_duration_since(Instant::now()))
}
