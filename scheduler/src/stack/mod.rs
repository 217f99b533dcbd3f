//! Goroutine stacks: where they come from, how a stack pointer leads back to its G, and the switch itself.
//!
//! ```text
//!   low addresses                                                          high addresses
//!   | guard (64 KiB, no access) | usable, committed by touching ...      | StackHead |
//!   ^ slot start                                        stack grows  <---^           ^ slot end
//! ```
//!
//! - [`arena`] reserves address space and cuts it into aligned slots.
//! - [`coro`] runs a corosensei coroutine in a slot, and holds the [`coro::StackHead`] at the slot's end.
//! - [`pool`] keeps free stacks.
//!
//! A stack is made once, with a coroutine in it that runs one goroutine after another, and is never unmapped. So a
//! [`Stack`] handle is a plain `'static` pointer, and memory that some stale pointer still names (a thread-local's
//! address kept over a migration, a value in an abandoned goroutine) stays mapped.

pub mod arena;
pub mod coro;
pub mod pool;

pub use coro::{Stack, Switch, current_head};
