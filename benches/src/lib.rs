//! What the benchmarks share: the operations of Go's own benchmarks, written for gort, and what measures them.
//!
//! [`chan`] and [`proc`](mod@proc) hold the rows, named as in Go; [`harness`] runs them as Go's `testing` package
//! does. The criterion benches and the comparison with Go run the same rows. [`million`] has the rows of the other
//! comparison. [`options`], [`process`], [`go`], [`table`] and [`page`] are for both comparisons.

pub mod chan;
pub mod go;
pub mod harness;
pub mod million;
pub mod options;
pub mod page;
pub mod proc;
pub mod process;
pub mod table;

use std::arch::asm;

/// All rows, in the order of Go's files.
pub fn rows() -> impl Iterator<Item = &'static harness::Row> {
    chan::ROWS.iter().chain(proc::ROWS)
}

/// Work that takes `n` turns of an empty loop: what Go's compiler leaves of the work in Go's benchmarks, whose
/// results nobody uses (decrement, test, jump).
#[inline]
pub fn local_work(n: usize) {
    let mut left = n;
    while left > 0 {
        left = opaque(left - 1);
    }
}

/// The same number, but the compiler does not know. Unlike `black_box`, which takes it through memory, it stays in
/// its register.
#[inline]
fn opaque(mut n: usize) -> usize {
    // SAFETY: there is no instruction in it.
    unsafe { asm!("/* {0} */", inout(reg) n, options(pure, nomem, nostack, preserves_flags)) };
    n
}
