//! Goroutine stacks: where they come from, how a stack pointer leads back to its G, and the switch itself.
//!
//! ```text
//!   low addresses                                                          high addresses
//!   | guard (64 KiB, no access) | usable, committed by touching ...      | StackHead |
//!   ^ slot start                                        stack grows  <---^           ^ slot end
//! ```
//!
//! - [`class`]: the sizes there are.
//! - [`arena`] reserves address space, cuts it into slots and says how many goroutines may have one.
//! - [`mapping`]: the calls to the kernel.
//! - [`switch`] goes from one stack to another; [`coro`] runs goroutines on one, and holds the [`coro::StackHead`] at
//!   its end.
//! - [`record`]: what a goroutine that leaves its stack leaves there of its registers.
//! - [`overflow`] reports a goroutine that has run into its guard; [`names`] names the functions that it was in.
//! - [`pool`] keeps free stacks; [`scavenge`] gives back the memory of those that nobody needs.
//!
//! A free slot becomes a [`Stack`] when its context is put in, which runs one goroutine after another. A `Stack` handle
//! is a plain `'static` pointer: the address space is never unmapped, and the stack of an abandoned goroutine is never
//! used again, so what it has lent stays valid.

pub mod arena;
pub mod class;
pub mod coro;
pub mod mapping;
mod names;
pub mod overflow;
pub mod pool;
pub mod record;
mod runs;
mod scavenge;
pub mod switch;

pub use coro::{Stack, StackHead, current_head, g_at, stack_pointer};
pub use switch::Switch;
