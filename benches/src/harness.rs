//! Runs a row as Go's `testing` package runs a benchmark, so that a time per operation means the same.

use gort::Runtime;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::env;
use std::rc::Rc;
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
    op: Op,
    procs: Option<usize>,
    batch: u64,
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
        Row { name, go, metric: Metric::Time, op, procs: None, batch: 1 }
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

    /// It does its operations `batch` at a time and leaves out what remains.
    pub const fn batch(mut self, batch: u64) -> Row {
        self.batch = batch;
        self
    }

    /// Whether it makes sense with so many Ps.
    pub fn runs_on(&self, procs: usize) -> bool {
        let cpus = available_parallelism().map_or(1, |n| n.get());
        self.metric == Metric::Time || (2..=cpus).contains(&procs)
    }
}

/// What a running row is given (Go's `testing.B`).
pub struct Bench {
    /// How many operations to do.
    pub n: u64,
    grain: u64,
    start: Cell<Instant>,
    elapsed: Cell<Option<Duration>>,
    reported: Cell<Option<f64>>,
}

impl Bench {
    fn new(n: u64, grain: u64) -> Bench {
        let (elapsed, reported) = (Cell::new(None), Cell::new(None));
        Bench { n, grain, start: Cell::new(Instant::now()), elapsed, reported }
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

    /// Go's `RunParallel`: `max_procs` goroutines share the operations, each drawing some 100 µs of them at a time.
    pub fn run_parallel(&self, body: impl Fn(Share<'_>) + Sync) {
        self.run_parallel_by(1, body);
    }

    /// The same after Go's `SetParallelism`: that many goroutines for each P.
    pub fn run_parallel_by(&self, parallelism: usize, body: impl Fn(Share<'_>) + Sync) {
        let (n, grain, drawn) = (self.n, self.grain, AtomicU64::new(0));
        let share = || Share { drawn: &drawn, n, grain, left: 0 };
        gort::scope(|s| {
            for _ in 0..parallelism * gort::max_procs() {
                s.go(|| body(share()));
            }
        });
    }
}

/// One goroutine's share of the operations: one turn each (Go's `testing.PB`).
pub struct Share<'a> {
    drawn: &'a AtomicU64,
    n: u64,
    grain: u64,
    left: u64,
}

impl Share<'_> {
    fn draw(&mut self) -> bool {
        let before = self.drawn.fetch_add(self.grain, Ordering::Relaxed);
        self.left = self.grain.min(self.n.saturating_sub(before));
        self.left > 0
    }
}

impl Iterator for Share<'_> {
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

/// Runs rows.
pub struct Runner {
    procs: usize,
    /// By the number of their Ps.
    runtimes: RefCell<BTreeMap<usize, Rc<Runtime>>>,
    /// The row that ran last, with its operations and how long they took.
    last: Cell<Option<(&'static str, u64, Duration)>>,
}

/// What came of some operations.
struct Outcome {
    took: Duration,
    reported: Option<f64>,
}

impl Runner {
    /// A runner with that many Ps.
    pub fn new(procs: usize) -> Runner {
        Runner { procs, runtimes: RefCell::default(), last: Cell::new(None) }
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
        let outcome = self.runtime(row).run(|| {
            let b = Bench::new(n, grain.clamp(1, 10_000));
            (row.op)(&b);
            let took = b.elapsed.get().unwrap_or_else(|| b.start.get().elapsed());
            Outcome { took, reported: b.reported.get() }
        });
        assert_eq!(
            outcome.reported.is_some(),
            row.metric != Metric::Time,
            "{} reports what it measures",
            row.name
        );
        self.last.set(Some((row.name, n, outcome.took)));
        outcome
    }

    fn runtime(&self, row: &Row) -> Rc<Runtime> {
        let procs = row.procs.unwrap_or(self.procs);
        let builder = Runtime::builder().max_procs(procs).migrate(migrates_from_env());
        let build = || match builder.build() {
            Ok(rt) => Rc::new(rt),
            Err(e) => panic!("no runtime with {procs} Ps: {e}"),
        };
        self.runtimes.borrow_mut().entry(procs).or_insert_with(build).clone()
    }
}

/// Whether goroutines may change their threads: not with `GORT_MIGRATE=0`.
fn migrates_from_env() -> bool {
    env::var("GORT_MIGRATE").as_deref() != Ok("0")
}

/// How many Ps to measure with: `GORT_MAXPROCS`, or 2.
pub fn procs_from_env() -> usize {
    env::var("GORT_MAXPROCS").ok().and_then(|v| v.trim().parse().ok()).filter(|&n| n > 0).unwrap_or(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    static OPERATIONS: AtomicU64 = AtomicU64::new(0);
    static GOROUTINES: AtomicUsize = AtomicUsize::new(0);

    #[test]
    fn goroutines_share_the_operations() {
        let row = Row::new("shared", "", |b| {
            b.run_parallel_by(5, |share| {
                GOROUTINES.fetch_add(1, Ordering::Relaxed);
                OPERATIONS.fetch_add(share.count() as u64, Ordering::Relaxed);
            });
        });
        let runner = Runner::new(2);
        for n in [1, 2, 1000, 12_345] {
            OPERATIONS.store(0, Ordering::Relaxed);
            GOROUTINES.store(0, Ordering::Relaxed);
            runner.run(&row, n);
            assert_eq!(OPERATIONS.load(Ordering::Relaxed), n);
            assert_eq!(GOROUTINES.load(Ordering::Relaxed), 10);
        }
    }

    #[test]
    fn a_row_has_the_ps_that_it_wants() {
        let row = Row::new("on_3", "", |b| {
            assert_eq!(gort::max_procs(), 3);
            b.reset_timer();
        });
        Runner::new(2).run(&row.on_ps(3), 1);
    }

    #[test]
    fn what_is_reported_counts() {
        let row = Row::new("late", "", |b| b.report(4711.0)).lateness();
        assert_eq!(Runner::new(2).measure(&row, Duration::ZERO), 4711.0);
        assert!(!row.runs_on(1));
    }

    #[test]
    fn a_time_is_one_of_an_operation() {
        let pause = |b: &Bench| (0..b.n).for_each(|_| gort::time::sleep(Duration::from_micros(100)));
        let row = Row::new("pause", "", pause).batch(10);
        let nanos = Runner::new(1).measure(&row, Duration::from_millis(20));
        assert!(nanos >= 100_000.0, "{nanos}");
        assert!(Runner::new(1).run(&row, 1) >= Duration::from_micros(100));
    }
}
