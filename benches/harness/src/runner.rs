//! [`Runner`]: runs a row as Go's `testing` package runs a benchmark, so that a time per operation means the same.

use crate::row::{Bench, Metric, Row};
use std::cell::Cell;
use std::env;
use std::time::Duration;

/// Where rows run.
pub trait Host {
    /// Runs that as the main goroutine, with that many processors, and waits for it.
    fn run(&self, procs: usize, job: Job) -> Outcome;
}

/// The operations of a row.
pub type Job = Box<dyn FnOnce() -> Outcome + Send>;

/// What came of some operations.
pub struct Outcome {
    took: Duration,
    reported: Option<f64>,
}

/// Runs rows.
pub struct Runner<H> {
    host: H,
    procs: usize,
    /// The row that ran last, with its operations and how long they took.
    last: Cell<Option<(&'static str, u64, Duration)>>,
}

impl<H: Host> Runner<H> {
    /// A runner with that many Ps.
    pub fn new(host: H, procs: usize) -> Runner<H> {
        Runner { host, procs, last: Cell::new(None) }
    }

    /// Does `n` operations of a row. How long they took.
    pub fn run(&self, row: &Row, n: u64) -> Duration {
        let whole = n.next_multiple_of(row.batch);
        let took = self.run_whole(row, whole).took;
        took.mul_f64(n as f64 / whole as f64)
    }

    /// Does more and more operations of a row, until they take `budget`. What the row measures, in nanoseconds, in the
    /// last try.
    pub fn measure(&self, row: &Row, budget: Duration) -> f64 {
        const MAX: u64 = 1_000_000_000;
        let mut n = 1;
        loop {
            let whole = u64::next_multiple_of(n, row.batch);
            let Outcome { took, reported } = self.run_whole(row, whole);
            if took >= budget || n >= MAX {
                return reported.unwrap_or(took.as_nanos() as f64 / whole as f64);
            }
            // A fifth more than it should need, and no wild jumps: the first tries say little.
            let enough = 1.2 * budget.as_secs_f64() / took.as_secs_f64().max(1e-9) * whole as f64;
            n = (enough as u64).clamp(n + 1, n * 100).min(MAX);
        }
    }

    fn run_whole(&self, row: &Row, n: u64) -> Outcome {
        let grain = match self.last.get() {
            Some((name, n, took)) if name == row.name => 100_000 * n / (took.as_nanos() as u64).max(1),
            _ => 1,
        };
        let (op, procs) = (row.op, row.procs.unwrap_or(self.procs));
        let job = move || {
            let b = Bench::new(n, grain.clamp(1, 10_000), procs);
            op(&b);
            Outcome { took: b.took(), reported: b.reported.get() }
        };
        let outcome = self.host.run(procs, Box::new(job));
        assert_eq!(
            outcome.reported.is_some(),
            row.metric != Metric::Time,
            "{} reports what it measures",
            row.name
        );
        self.last.set(Some((row.name, n, outcome.took)));
        outcome
    }
}

/// How many Ps to measure with: `GORT_MAXPROCS`, or 2.
pub fn procs_from_env() -> usize {
    env::var("GORT_MAXPROCS").ok().and_then(|v| v.trim().parse().ok()).filter(|&n| n > 0).unwrap_or(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// The calling thread.
    struct Here;

    impl Host for Here {
        fn run(&self, _: usize, job: Job) -> Outcome {
            job()
        }
    }

    #[test]
    fn a_row_has_the_processors_that_it_wants() {
        let row = Row::new("on_3", "", |b| assert_eq!(b.procs, 3)).on_ps(3);
        Runner::new(Here, 2).run(&row, 1);
    }

    #[test]
    fn what_is_reported_counts() {
        let row = Row::new("late", "", |b| b.report(4711.0)).lateness();
        assert_eq!(Runner::new(Here, 2).measure(&row, Duration::ZERO), 4711.0);
        assert!(!row.runs_on(1));
    }

    #[test]
    fn a_time_is_one_of_an_operation() {
        let pause = |b: &Bench| (0..b.n).for_each(|_| thread::sleep(Duration::from_micros(100)));
        let row = Row::new("pause", "", pause).batch(10);
        let nanos = Runner::new(Here, 1).measure(&row, Duration::from_millis(20));
        assert!(nanos >= 100_000.0, "{nanos}");
        assert!(Runner::new(Here, 1).run(&row, 1) >= Duration::from_micros(100));
    }
}
