//! The life of goroutines in great numbers, in gort, in Go and in other Rust libraries: the rows of the program
//! `compare_million`.
//!
//! A [`Scenario`] is measured in a process of its own and gives one number for each of its [`Figure`]s. `measure.rs`
//! has the measurements for all Rust libraries, over what `library.rs` says they have in common; `million.go` has them
//! for Go ([`GO_SOURCE`]).

mod gort;
mod library;
mod measure;
mod memory;

#[cfg(feature = "peers")]
mod go_lib;
#[cfg(feature = "peers")]
mod may;

use library::Library;
use std::any::Any;
use std::{panic, process};

/// How many goroutines `spawn_run` has at a time.
const BATCH: u64 = 10_000;
/// How many children a node of `skynet` has.
const CHILDREN: u64 = 10;

/// The measurements in Go. The program takes a scenario's name and a count, and writes the figures in one line.
pub const GO_SOURCE: &str = include_str!("million.go");

/// The Rust libraries that are built in. The first is ours.
pub const LIBRARIES: &[Entry] = &[
    Entry::of::<gort::Gort>("gort", env!("CARGO_PKG_VERSION")),
    #[cfg(feature = "peers")]
    Entry::of::<may::May>("may", may::VERSION),
    #[cfg(feature = "peers")]
    Entry::of::<go_lib::GoLib>("go-lib", go_lib::VERSION),
];

/// A library that can be measured in this process.
pub struct Entry {
    /// The crate's name.
    pub name: &'static str,
    /// The crate's version.
    pub version: &'static str,
    measure: fn(&Scenario, u64) -> Vec<f64>,
}

impl Entry {
    const fn of<L: Library>(name: &'static str, version: &'static str) -> Entry {
        Entry { name, version, measure: |scenario, count| scenario.measurement::<L>()(count) }
    }

    /// Measures a scenario with so many goroutines: one number for each of its figures. Once in a process.
    pub fn measure(&self, scenario: &Scenario, count: u64) -> Vec<f64> {
        (self.measure)(scenario, count)
    }
}

/// What one process measures.
pub struct Scenario {
    /// The name of its first row.
    pub name: &'static str,
    /// One for each number that it gives, in their order.
    pub figures: &'static [Figure],
    /// How many goroutines to try next if the library fails, from the largest.
    pub fallbacks: &'static [u64],
    kind: Kind,
}

/// A number that a scenario gives.
pub struct Figure {
    /// The row it belongs to.
    pub row: &'static str,
    /// What the number is.
    pub unit: &'static str,
}

#[derive(Clone, Copy)]
enum Kind {
    ParkAndClose,
    SpawnRun,
    Skynet,
}

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "park_million",
        figures: &[
            Figure { row: "park_million", unit: "ns" },
            Figure { row: "", unit: "VmRSS bytes" },
            Figure { row: "", unit: "VmPTE bytes" },
            Figure { row: "", unit: "lines of maps" },
            Figure { row: "close_million", unit: "ns" },
        ],
        fallbacks: &[30_000],
        kind: Kind::ParkAndClose,
    },
    Scenario {
        name: "spawn_run",
        figures: &[Figure { row: "spawn_run", unit: "ns" }],
        fallbacks: &[],
        kind: Kind::SpawnRun,
    },
    Scenario {
        name: "skynet",
        figures: &[Figure { row: "skynet", unit: "s" }],
        fallbacks: &[100_000, 10_000],
        kind: Kind::Skynet,
    },
];

impl Scenario {
    fn measurement<L: Library>(&self) -> fn(u64) -> Vec<f64> {
        match self.kind {
            Kind::ParkAndClose => measure::park_and_close::<L>,
            Kind::SpawnRun => measure::spawn_run::<L>,
            Kind::Skynet => measure::skynet::<L>,
        }
    }
}

/// From now on a panic in any goroutine ends the process. Where it ended its goroutine only, the measurement would
/// wait for that one for ever.
pub fn fail_at_panics() {
    panic::set_hook(Box::new(|panic| fail(panic.payload())));
}

fn fail(payload: &dyn Any) -> ! {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    println!("{}", text.or_else(|| payload.downcast_ref().copied()).unwrap_or("a panic"));
    process::exit(1)
}

#[cfg(all(test, feature = "peers"))]
mod tests {
    use super::*;

    #[test]
    fn the_releases_are_those_that_are_built_in() {
        let manifest = include_str!("../../Cargo.toml");
        for peer in &LIBRARIES[1..] {
            let line = format!("{} = {{ version = \"={}\"", peer.name, peer.version);
            assert!(manifest.contains(&line), "no {line}");
        }
    }
}
