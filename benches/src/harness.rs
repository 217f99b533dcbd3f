//! The harness with gort in it: [`Gort`] runs rows on runtimes and programs on one of them; [`RunParallel`] is Go's.

use gort::Runtime;
use gort::sync::WaitGroup;
use gort::time::{Ticker, sleep};
use gort::{Chan, chan};
use gort_bench_harness::programs::Kind;
use gort_bench_harness::{Host, Job, Library, Outcome};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::env;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

pub use gort_bench_harness::child::Measures;
pub use gort_bench_harness::{Bench, Metric, Op, Row, Runner, Share, procs_from_env};

/// Go's `RunParallel`.
pub trait RunParallel {
    /// `max_procs` goroutines share the operations.
    fn run_parallel(&self, body: impl Fn(Share) + Sync) {
        self.run_parallel_by(1, body);
    }

    /// The same after Go's `SetParallelism`: that many goroutines for each P.
    fn run_parallel_by(&self, parallelism: usize, body: impl Fn(Share) + Sync);
}

impl RunParallel for Bench {
    fn run_parallel_by(&self, parallelism: usize, body: impl Fn(Share) + Sync) {
        let shares = self.shares();
        gort::scope(|s| {
            for _ in 0..parallelism * gort::max_procs() {
                s.go(|| body(shares.share()));
            }
        });
    }
}

/// gort itself.
#[derive(Default)]
pub struct Gort {
    /// By the number of their Ps.
    runtimes: RefCell<BTreeMap<usize, Rc<Runtime>>>,
}

impl Gort {
    fn runtime(&self, procs: usize) -> Rc<Runtime> {
        self.runtimes.borrow_mut().entry(procs).or_insert_with(|| Rc::new(runtime(procs))).clone()
    }
}

impl Host for Gort {
    fn run(&self, procs: usize, job: Job) -> Outcome {
        self.runtime(procs).run(job)
    }
}

fn runtime(procs: usize) -> Runtime {
    match Runtime::builder().max_procs(procs).migrate(migrates_from_env()).build() {
        Ok(rt) => rt,
        Err(e) => panic!("no runtime with {procs} Ps: {e}"),
    }
}

/// Whether goroutines may change their threads: not with `GORT_MIGRATE=0`.
fn migrates_from_env() -> bool {
    env::var("GORT_MIGRATE").as_deref() != Ok("0")
}

/// Where programs run: one runtime for the process.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

impl Library for Gort {
    type Sender<T: Send + 'static> = Chan<T>;
    type Receiver<T: Send + 'static> = Chan<T>;
    type Group = WaitGroup;

    fn start(procs: usize, _: Kind) {
        RUNTIME.get_or_init(|| runtime(procs));
    }

    fn run<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
        let Some(rt) = RUNTIME.get() else { panic!("not started") };
        rt.run(f)
    }

    fn spawn(f: impl FnOnce() + Send + 'static) {
        gort::go!(f);
    }

    fn yield_now() {
        gort::yield_now();
    }

    fn sleep(d: Duration) {
        sleep(d);
    }

    fn ticks(period: Duration) -> impl FnMut() {
        let ticker = Ticker::new(period);
        move || {
            ticker.c().recv();
        }
    }

    fn channel<T: Send + 'static>(capacity: usize) -> (Chan<T>, Chan<T>) {
        let ch = chan(capacity);
        (ch.clone(), ch)
    }

    fn send<T: Send + 'static>(tx: &Chan<T>, v: T) {
        tx.send(v);
    }

    fn recv<T: Send + 'static>(rx: &Chan<T>) -> Option<T> {
        rx.recv()
    }

    fn close<T: Send + 'static>(tx: Chan<T>) {
        tx.close();
    }

    fn group(members: u64) -> WaitGroup {
        let wg = WaitGroup::new();
        wg.add(members as isize);
        wg
    }

    fn done(member: WaitGroup) {
        member.done();
    }

    fn wait(group: WaitGroup) {
        group.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gort_bench_harness::programs::{PROGRAMS, measurement};
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

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
        let runner = Runner::new(Gort::default(), 2);
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
        let row = Row::new("on_3", "", |b| assert_eq!((gort::max_procs(), b.procs), (3, 3)));
        Runner::new(Gort::default(), 2).run(&row.on_ps(3), 1);
    }

    #[test]
    fn every_program_gives_its_figures() {
        for program in PROGRAMS {
            let Some(measure) = measurement::<Gort>(program.kind) else { panic!("no {}", program.name) };
            assert_eq!(measure(100, 2).len(), program.figures.len(), "{}", program.name);
        }
    }
}
