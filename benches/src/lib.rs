//! The operations of Go's own benchmarks, written for gort, and the comparison with Go and with other libraries.
//!
//! [`chan`], [`proc`](mod@proc), [`sync`] and [`time`] hold the rows, named as in Go; [`loads`] has what is measured beside
//! very many goroutines, timers and channels; [`harness`] puts gort into the harness that all libraries share. The
//! criterion benches and the program `compare` run the same rows. The other modules are for that program.

pub mod case;
pub mod chan;
pub mod chart;
pub mod contender;
pub mod go;
pub mod harness;
pub mod loads;
pub mod options;
pub mod page;
pub mod peers;
pub mod proc;
pub mod process;
pub mod report;
pub mod sync;
pub mod table;
pub mod time;

use gort_bench_harness::programs::measurement;
use harness::{Gort, Measures, Row};

/// A package of Go's, with rows that stand for its benchmarks.
pub struct Package {
    /// Its import path.
    pub name: &'static str,
    files: &'static [&'static [Row]],
}

/// All rows.
pub static PACKAGES: [Package; 3] = [
    Package { name: "runtime", files: &[chan::ROWS, proc::ROWS] },
    Package { name: "sync", files: &[sync::ROWS] },
    Package { name: "time", files: &[time::ROWS] },
];

impl Package {
    /// Its rows, in the order of Go's files.
    pub fn rows(&self) -> impl Iterator<Item = &'static Row> {
        self.files.iter().copied().flatten()
    }
}

/// What can be measured of gort.
pub fn gort() -> Measures<Gort> {
    Measures {
        version: format!("gort {}", env!("CARGO_PKG_VERSION")),
        rows: PACKAGES.iter().flat_map(Package::rows).collect(),
        host: Gort::default(),
        program: |kind| loads::measurement(kind).or_else(|| measurement::<Gort>(kind)),
    }
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
            let runner = Runner::new(Gort::default(), procs);
            for row in rows().filter(|row| row.runs_on(procs)) {
                let nanos = runner.measure(row, Duration::from_micros(10));
                assert!(nanos > 0.0, "{} with {procs} Ps: {nanos}", row.name);
            }
        }
    }

    #[test]
    fn a_process_is_told_what_to_measure() {
        let gort = gort();
        let list = gort.obey(&["list"]).unwrap();
        assert!(list.starts_with("gort ") && list.contains("\nchan_sync\n") && list.contains("\nparked\n"));
        assert!(gort.obey(&["row", "skynet", "2", "1"]).is_err());
        assert!(gort.obey(&["program", "chan_sync", "2", "1"]).is_err());
        assert!(gort.obey(&["row", "chan_sync", "two", "1"]).is_err());
    }
}
