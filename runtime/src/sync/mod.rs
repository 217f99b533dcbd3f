//! Waiting for each other without a channel.

mod waitgroup;

pub use waitgroup::WaitGroup;
