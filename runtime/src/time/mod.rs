//! Time: waiting for it, channels that tell it, and functions that it calls (Go's `time`).
//!
//! All of it works on goroutines and on plain threads. Durations count from the call; zero is at once, and `Duration::MAX` is
//! for ever. Channels of timers follow the rules of Go 1.23: after a `stop` or `reset` nothing older is received, `len` and `cap`
//! are 0, and a timer that nobody waits for costs nothing.

mod after_func;
mod chan;
mod sleep;
mod ticker;
mod timeout;
mod timer;

pub use after_func::after_func;
pub use sleep::sleep;
pub use ticker::{Ticker, tick};
pub use timeout::{Elapsed, timeout};
pub use timer::{Timer, after};
