//! Time: waiting for it, channels that tell it, and functions that it calls (Go's `time`).
//!
//! All of it works on goroutines and on plain threads.

mod after_func;
mod sleep;
mod timer;

pub use after_func::after_func;
pub use sleep::sleep;
pub use timer::{Timer, after};
