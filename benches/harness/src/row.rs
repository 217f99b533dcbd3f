//! [`Row`]: one of Go's benchmarks; [`Bench`] and [`Share`]: what it is given.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// What a row does. The whole of it is timed, unless it says otherwise.
pub type Op = fn(&Bench);

/// A benchmark.
pub struct Row {
    /// Its name here.
    pub name: &'static str,
    /// Go's name of it, without `Benchmark`.
    pub go: &'static str,
    /// What is told of it.
    pub metric: Metric,
    pub(crate) op: Op,
    pub(crate) procs: Option<usize>,
    pub(crate) batch: u64,
    /// The fewest Ps it makes sense with.
    least: usize,
}

/// What a row measures, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metric {
    /// The time for each operation.
    Time,
    /// How late timers are on average, whatever else the operations do.
    Lateness,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 2] = [Metric::Time, Metric::Lateness];

    /// What Go's benchmarks call its unit.
    pub const fn go_unit(self) -> &'static str {
        match self {
            Metric::Time => "ns/op",
            Metric::Lateness => "avg-late-ns",
        }
    }
}

impl Row {
    /// A row for as many Ps as the runner has.
    pub const fn new(name: &'static str, go: &'static str, op: Op) -> Row {
        Row { name, go, metric: Metric::Time, op, procs: None, batch: 1, least: 1 }
    }

    /// It sets `GOMAXPROCS` to so many by itself.
    pub const fn on_ps(mut self, procs: usize) -> Row {
        self.procs = Some(procs);
        self
    }

    /// It [reports](Bench::report) how late timers were. As in Go, it runs only with two Ps or more, each with a CPU.
    pub const fn lateness(mut self) -> Row {
        self.metric = Metric::Lateness;
        self
    }

    /// As in Go, it runs only with two Ps or more.
    pub const fn in_parallel(mut self) -> Row {
        self.least = 2;
        self
    }

    /// It does its operations `batch` at a time and leaves out what remains.
    pub const fn batch(mut self, batch: u64) -> Row {
        self.batch = batch;
        self
    }

    /// Whether it makes sense with so many Ps.
    pub fn runs_on(&self, procs: usize) -> bool {
        let cpus = available_parallelism().map_or(1, |n| n.get());
        procs >= self.least && (self.metric == Metric::Time || (2..=cpus).contains(&procs))
    }
}

/// What a running row is given (Go's `testing.B`).
pub struct Bench {
    /// How many operations to do.
    pub n: u64,
    /// How many processors there are for them.
    pub procs: usize,
    grain: u64,
    start: Cell<Instant>,
    elapsed: Cell<Option<Duration>>,
    pub(crate) reported: Cell<Option<f64>>,
}

impl Bench {
    pub(crate) fn new(n: u64, grain: u64, procs: usize) -> Bench {
        let (elapsed, reported) = (Cell::new(None), Cell::new(None));
        Bench { n, procs, grain, start: Cell::new(Instant::now()), elapsed, reported }
    }

    pub(crate) fn took(&self) -> Duration {
        self.elapsed.get().unwrap_or_else(|| self.start.get().elapsed())
    }

    /// What was done so far does not count.
    pub fn reset_timer(&self) {
        self.start.set(Instant::now());
    }

    /// What is done from now on does not count.
    pub fn stop_timer(&self) {
        self.elapsed.set(Some(self.start.get().elapsed()));
    }

    /// Tells these nanoseconds instead of the time per operation (Go's `ReportMetric`).
    pub fn report(&self, nanos: f64) {
        self.reported.set(Some(nanos));
    }

    /// The operations, to be shared: a [`Share`] for each goroutine of Go's `RunParallel`.
    pub fn shares(&self) -> Shares {
        Shares { drawn: Arc::default(), n: self.n, grain: self.grain }
    }
}

/// Operations that goroutines share, each drawing some 100 µs of them at a time.
#[derive(Clone)]
pub struct Shares {
    drawn: Arc<AtomicU64>,
    n: u64,
    grain: u64,
}

impl Shares {
    /// The share of one more goroutine.
    pub fn share(&self) -> Share {
        Share { of: self.clone(), left: 0 }
    }
}

/// One goroutine's share of the operations: one turn each (Go's `testing.PB`).
pub struct Share {
    of: Shares,
    left: u64,
}

impl Share {
    fn draw(&mut self) -> bool {
        let Shares { drawn, n, grain } = &self.of;
        let before = drawn.fetch_add(*grain, Ordering::Relaxed);
        self.left = (*grain).min(n.saturating_sub(before));
        self.left > 0
    }
}

impl Iterator for Share {
    type Item = ();

    #[inline]
    fn next(&mut self) -> Option<()> {
        if self.left == 0 && !self.draw() {
            return None;
        }
        self.left -= 1;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_the_whole() {
        for (n, grain) in [(0, 1), (1, 1), (1000, 7), (12_345, 10_000)] {
            let shares = Bench::new(n, grain, 2).shares();
            let (mut one, mut other) = (shares.share(), shares.share());
            let mut drawn = 0;
            while one.next().is_some() {
                drawn += 1 + other.by_ref().take(2).count() as u64;
            }
            assert_eq!(drawn + other.count() as u64, n);
        }
    }
}
