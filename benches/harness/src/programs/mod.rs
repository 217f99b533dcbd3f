//! The programs: larger than a row of Go's, and each measured in a process of its own.
//!
//! A [`Program`] is run with a count and gives one number for each of its [`Figure`]s. `measure.rs` has the measurements for
//! every [`Library`](crate::Library); Go's are in `benches/go`, line by line the same, and those of tasks in `benches/peers`.

mod measure;

pub use measure::measurement;

use std::time::Duration;

/// How many goroutines `spawn_run` has at a time.
pub const BATCH: u64 = 10_000;
/// How many children a node of `skynet` has.
pub const CHILDREN: u64 = 10;
/// How many nodes are in the ring.
pub const NODES: u64 = 503;
/// How many send in `fan_in`.
pub const SENDERS: u64 = 1000;
/// How many send in `mpmc_4x4`, and how many receive.
pub const ENDS: u64 = 4;
/// What the channel of `mpmc_4x4` holds.
pub const CAPACITY: usize = 128;
/// How often each goroutine of `yield_10k` yields.
pub const YIELDS: u64 = 100;
/// From one ping or tick to the next.
pub const PERIOD: Duration = Duration::from_millis(1);
/// From a goroutine's last step before its receive until it has really parked: longer than any scheduler takes.
pub const SETTLE: Duration = Duration::from_millis(100);

/// Runs a program with that count and so many processors: its figures, in its order.
pub type Measurement = fn(u64, usize) -> Vec<f64>;

/// What one process measures.
pub struct Program {
    /// The name of its first row.
    pub name: &'static str,
    /// One for each number that it gives, in their order.
    pub figures: &'static [Figure],
    /// What there are `count` of.
    pub what: &'static str,
    /// How many there are.
    pub count: u64,
    /// How many when it has to be quick.
    pub quick: u64,
    /// How many to try next if a library fails, from the largest.
    pub fallbacks: &'static [u64],
    /// Which it is.
    pub kind: Kind,
}

/// A number that a program gives.
pub struct Figure {
    /// The row it belongs to.
    pub row: &'static str,
    /// What the number is.
    pub unit: &'static str,
    /// What it says.
    pub says: Says,
}

/// What a figure is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Says {
    /// How long an operation takes.
    Time,
    /// How late something is, or how much processor time it costs to wait for it.
    Delay,
    /// How much memory there is for each goroutine.
    Memory,
    /// Something to know, which is neither good nor bad.
    Fact,
}

impl Figure {
    const fn new(row: &'static str, unit: &'static str, says: Says) -> Figure {
        Figure { row, unit, says }
    }

    /// So many nanoseconds; `None` if it is not a time.
    pub fn nanos(&self, v: f64) -> Option<f64> {
        match self.unit {
            "ns" => Some(v),
            "µs" => Some(1e3 * v),
            "s" => Some(1e9 * v),
            _ => None,
        }
    }
}

/// The programs there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Goroutines park, and are released.
    ParkAndClose,
    /// Goroutines come and go.
    SpawnRun,
    /// A tree of goroutines.
    Skynet,
    /// A ring of goroutines.
    Ring,
    /// The prime sieve.
    Sieve,
    /// Many send, one receives.
    FanIn,
    /// Some send, some receive.
    Mpmc,
    /// Goroutines yield.
    Yield,
    /// One goroutine tells another something now and then.
    Ping,
    /// A ticker ticks.
    Ticker,
    /// Operations beside goroutines that are parked.
    Parked,
    /// Operations beside timers that are pending.
    Timers,
    /// Operations beside channels that are there.
    Channels,
}

/// All programs.
pub const PROGRAMS: &[Program] = &[
    Program {
        name: "skynet",
        figures: &[Figure::new("skynet", "s", Says::Time)],
        what: "leaves",
        count: 1_000_000,
        quick: 100_000,
        fallbacks: &[100_000, 10_000, 1000],
        kind: Kind::Skynet,
    },
    Program {
        name: "ring",
        figures: &[Figure::new("ring", "ns", Says::Time)],
        what: "hops",
        count: 500_000,
        quick: 50_000,
        fallbacks: &[50_000],
        kind: Kind::Ring,
    },
    Program {
        name: "sieve",
        figures: &[Figure::new("sieve", "µs", Says::Time)],
        what: "primes",
        count: 2500,
        quick: 1000,
        fallbacks: &[1000, 300],
        kind: Kind::Sieve,
    },
    Program {
        name: "fan_in",
        figures: &[Figure::new("fan_in", "ns", Says::Time)],
        what: "items",
        count: 500_000,
        quick: 100_000,
        fallbacks: &[],
        kind: Kind::FanIn,
    },
    Program {
        name: "mpmc_4x4",
        figures: &[Figure::new("mpmc_4x4", "ns", Says::Time)],
        what: "items",
        count: 4_000_000,
        quick: 400_000,
        fallbacks: &[],
        kind: Kind::Mpmc,
    },
    Program {
        name: "yield_10k",
        figures: &[Figure::new("yield_10k", "ns", Says::Time)],
        what: "goroutines",
        count: 10_000,
        quick: 10_000,
        fallbacks: &[1000],
        kind: Kind::Yield,
    },
    Program {
        name: "spawn_run",
        figures: &[Figure::new("spawn_run", "ns", Says::Time)],
        what: "goroutines",
        count: 1_000_000,
        quick: 100_000,
        fallbacks: &[100_000, 10_000],
        kind: Kind::SpawnRun,
    },
    Program {
        name: "park_million",
        figures: &[
            Figure::new("park_million", "ns", Says::Time),
            Figure::new("park_million, VmRSS", "bytes", Says::Memory),
            Figure::new("park_million, VmPTE", "bytes", Says::Memory),
            Figure::new("park_million, maps", "lines", Says::Fact),
            Figure::new("close_million", "ns", Says::Time),
        ],
        what: "goroutines",
        count: 1_000_000,
        quick: 100_000,
        fallbacks: &[30_000, 10_000, 1000],
        kind: Kind::ParkAndClose,
    },
    Program {
        name: "ping_1khz",
        figures: &[
            Figure::new("ping_1khz, p50", "µs", Says::Delay),
            Figure::new("ping_1khz, p99", "µs", Says::Delay),
            Figure::new("ping_1khz, p99.9", "µs", Says::Delay),
            Figure::new("ping_1khz, CPU for each", "µs", Says::Delay),
        ],
        what: "pings",
        count: 3000,
        quick: 1000,
        fallbacks: &[],
        kind: Kind::Ping,
    },
    Program {
        name: "ticker_1ms",
        figures: &[Figure::new("ticker_1ms, p50 late", "µs", Says::Delay)],
        what: "ticks",
        count: 1000,
        quick: 300,
        fallbacks: &[],
        kind: Kind::Ticker,
    },
];

/// Some operations beside a load, which is their count. They are for Go and gort.
pub const LOADS: &[Program] = &[
    load("parked", "goroutines", Kind::Parked),
    load("timers", "timers", Kind::Timers),
    load("channels", "channels", Kind::Channels),
];

const fn load(name: &'static str, what: &'static str, kind: Kind) -> Program {
    const FIGURES: &[Figure] = &[
        Figure::new("hand over a value", "ns", Says::Time),
        Figure::new("create a goroutine", "ns", Says::Time),
        Figure::new("start and stop a timer", "ns", Says::Time),
        Figure::new("yield", "ns", Says::Time),
    ];
    Program { name, figures: FIGURES, what, count: 1_000_000, quick: 100_000, fallbacks: &[], kind }
}

impl Program {
    /// The program of that name.
    pub fn named(name: &str) -> Option<&'static Program> {
        PROGRAMS.iter().chain(LOADS).find(|program| program.name == name)
    }

    /// How many operations a run with that count has, each of which takes what the figures of times say.
    pub fn operations(&self, count: u64) -> u64 {
        match self.kind {
            Kind::Skynet => 1,
            Kind::Yield => count * YIELDS,
            _ => count,
        }
    }
}

/// Nanoseconds for each.
pub fn ns_each(took: Duration, count: u64) -> f64 {
    took.as_nanos() as f64 / count as f64
}

/// The figures of `ping_1khz`.
pub fn ping_figures(mut late: Vec<Duration>, cpu: Duration) -> Vec<f64> {
    let count = late.len() as u64;
    late.sort();
    vec![
        micros(quantile(&late, 0.5)),
        micros(quantile(&late, 0.99)),
        micros(quantile(&late, 0.999)),
        ns_each(cpu, count) / 1e3,
    ]
}

/// The figure of `ticker_1ms`, of the times since its start at which the ticks came.
pub fn ticker_figures(ticks: &[Duration]) -> Vec<f64> {
    let late = |tick: &Duration| Duration::from_nanos((tick.as_nanos() % PERIOD.as_nanos()) as u64);
    let mut late: Vec<Duration> = ticks.iter().map(late).collect();
    late.sort();
    vec![micros(quantile(&late, 0.5))]
}

fn micros(d: Duration) -> f64 {
    d.as_nanos() as f64 / 1e3
}

/// What so large a part of these is not above. They are sorted.
fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let at = (sorted.len() as f64 * part).ceil() as usize;
    sorted[at.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let us = |n| Duration::from_micros(n);
        let figures = ping_figures((1..=1000).rev().map(us).collect(), us(5000));
        assert_eq!(figures, [500.0, 990.0, 999.0, 5.0]);
        assert_eq!(quantile(&[us(3)], 0.999), us(3));
        assert_eq!(ticker_figures(&[us(1010), us(2020), us(4030)]), [20.0]);
    }

    #[test]
    fn each_program_has_a_name_of_its_own_and_smaller_counts_to_fall_back_to() {
        for program in PROGRAMS.iter().chain(LOADS) {
            assert_eq!(Program::named(program.name).map(|found| found.kind), Some(program.kind));
            let counts = [&[program.count], program.fallbacks].concat();
            assert!(counts.is_sorted_by(|a, b| a > b), "{}", program.name);
            assert!(program.quick <= program.count);
        }
    }
}
