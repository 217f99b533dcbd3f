//! What the benchmarks share: the operations of Go's own benchmarks, written for gort, and what measures them.
//!
//! [`chan`], [`proc`](mod@proc), [`sync`] and [`time`] hold the rows, named as in Go; [`harness`] runs them as Go's
//! `testing` package does. The criterion benches and the comparison with Go run the same rows. [`million`] has the rows of the other
//! comparison. [`options`], [`process`], [`go`], [`table`] and [`page`] are for both comparisons.

pub mod chan;
pub mod go;
pub mod harness;
pub mod million;
pub mod options;
pub mod page;
pub mod proc;
pub mod process;
pub mod sync;
pub mod table;
pub mod time;

use harness::Row;
use std::arch::asm;

/// A package of Go's, with rows that stand for its benchmarks.
pub struct Package {
    /// Its import path.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    files: &'static [&'static [Row]],
}

/// All rows.
pub static PACKAGES: [Package; 3] = [
    Package { name: "runtime", about: "Channels and goroutines", files: &[chan::ROWS, proc::ROWS] },
    Package { name: "sync", about: "Locks, and waiting for each other", files: &[sync::ROWS] },
    Package { name: "time", about: "Timers", files: &[time::ROWS] },
];

impl Package {
    /// Its rows, in the order of Go's files.
    pub fn rows(&self) -> impl Iterator<Item = &'static Row> {
        self.files.iter().copied().flatten()
    }
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

/// Work that does have a result in Go's benchmarks: `n` times the number is doubled and halved.
#[inline]
pub fn double_and_halve(mut number: isize, n: usize) -> isize {
    for _ in 0..n {
        number = opaque(number.wrapping_mul(2) as usize) as isize / 2;
    }
    number
}

/// The same number, but the compiler does not know. Unlike `black_box`, which takes it through memory, it stays in
/// its register.
#[inline]
fn opaque(mut n: usize) -> usize {
    // SAFETY: there is no instruction in it.
    unsafe { asm!("/* {0} */", inout(reg) n, options(pure, nomem, nostack, preserves_flags)) };
    n
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::Runner;
    use std::collections::HashSet;
    use std::time::Duration;

    fn rows() -> impl Iterator<Item = &'static Row> {
        PACKAGES.iter().flat_map(Package::rows)
    }

    #[test]
    fn each_row_has_a_name_of_its_own() {
        let names: HashSet<&str> = rows().map(|row| row.name).collect();
        assert_eq!(names.len(), rows().count());
        let go: HashSet<(&str, &str)> =
            PACKAGES.iter().flat_map(|p| p.rows().map(move |row| (p.name, row.go))).collect();
        assert_eq!(go.len(), rows().count());
    }

    #[test]
    fn every_row_measures_something() {
        for procs in [1, 2] {
            let runner = Runner::new(procs);
            for row in rows().filter(|row| row.runs_on(procs)) {
                let nanos = runner.measure(row, Duration::from_micros(10));
                assert!(nanos > 0.0, "{} with {procs} Ps: {nanos}", row.name);
            }
        }
    }

    #[test]
    fn numbers_survive_work() {
        assert_eq!(double_and_halve(7, 100), 7);
        assert_eq!(double_and_halve(-7, 100), -7);
        assert_eq!(double_and_halve(isize::MAX, 1), -1);
    }
}
