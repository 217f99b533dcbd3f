//! [`Context`]: what makes a piece of memory a stack that one can switch to, and the two switches.
//!
//! `resume` leaves the M's own stack for the context's, `suspend` goes back. Each saves where it was in the context and goes
//! on where the other one was last: two functions of an equal form, a coroutine. There are two implementations:
//!
//! - On x86-64 our own (`x86_64.rs`), a dozen instructions, from any of which a signal's handler may walk the stack.
//! - Elsewhere, and when a sanitizer must be told of each switch, `corosensei`'s (`coroutine.rs`).
//!
//! **Why our own.** A processor predicts a `ret` by a stack of its own of the calls before it. corosensei, made for
//! coroutines that suspend in their outermost function, enters a coroutine with a `call` and leaves it with a `ret`. A goroutine
//! suspends some calls deep, in `recv` or `lock`. So the `ret` of its switch is predicted to go where the innermost of those
//! calls came from, and after the next resume the entry that its `call` left is in the way of the returns from `recv` and what
//! called it: three wrong guesses for each switch, of some 20 cycles each. Ours jump in both directions and leave the
//! predictor's stack alone. When the M's way from one goroutine to the next returns from as many functions as it calls, as it
//! does, the next goroutine finds there the calls that the one before made; they are its own if both stand in the same
//! operation. In turns with corosensei, ns per operation (sieve: µs per prime; medians of 9, two Ps, Intel Xeon under KVM):
//!
//! | row | `call` and `ret` | jumps |
//! | --- | ---: | ---: |
//! | sieve | 198 | 148 |
//! | ring | 102 | 80 |
//! | chan_sync | 108 | 76 |
//! | chan_prod_cons_0 | 103 | 88 |
//! | yield_10k | 101 | 92 |
//! | create_goroutines | 74.5 | 74.2 |

#[cfg(all(target_arch = "x86_64", not(gort_sanitize)))]
mod x86_64;
#[cfg(all(target_arch = "x86_64", not(gort_sanitize)))]
pub use x86_64::Context;

#[cfg(not(all(target_arch = "x86_64", not(gort_sanitize))))]
mod coroutine;
#[cfg(not(all(target_arch = "x86_64", not(gort_sanitize))))]
pub use coroutine::Context;

use super::coro::StackHead;

/// What runs on a stack: it never returns, and does not unwind.
pub type Host = extern "C" fn(&StackHead) -> !;

/// Why a goroutine left its stack: the word that travels from it to g0. What goes with it lies in the M.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Switch {
    /// `gopark`: run the commit, then the G waits.
    Park,
    /// `gosched`: to the tail of the local run queue.
    Yield,
    /// Its time slice is over: to the global queue.
    Preempt,
    /// Its body is done; the stack is free.
    Exit,
    /// Run a function on g0 and come back at once.
    OnG0,
}
