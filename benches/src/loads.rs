//! What some operations cost beside a load: very many goroutines that are parked, timers that are pending, or channels
//! that are there. `benches/go/loads.go` has the same, line by line.

use gort::sync::WaitGroup;
use gort::time::{Timer, after_func};
use gort::{Chan, Runtime, chan, go};
use gort_bench_harness::programs::{Kind, Measurement, ns_each};
use std::hint::black_box;
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);
/// How many operations there are of each sort, in each of the tries.
const OPERATIONS: u64 = 100_000;
/// The best of so many tries counts: the load is the same in all.
const TRIES: usize = 3;

/// How a load is measured; `None` of another kind of program.
pub fn measurement(kind: Kind) -> Option<Measurement> {
    match kind {
        Kind::Parked => Some(|count, procs| beside(procs, || parked(count))),
        Kind::Timers => Some(|count, procs| beside(procs, || pending(count))),
        Kind::Channels => Some(|count, procs| beside(procs, || channels(count))),
        _ => None,
    }
}

/// Makes the load, and measures beside it: ns for each operation.
fn beside<T>(procs: usize, load: impl FnOnce() -> T + Send) -> Vec<f64> {
    let rt = match Runtime::builder().max_procs(procs).build() {
        Ok(rt) => rt,
        Err(e) => panic!("no runtime with {procs} Ps: {e}"),
    };
    rt.run(move || {
        let load = load();
        let figures = [hand_over, create, start_and_stop, yields].map(best).to_vec();
        drop(load);
        figures
    })
}

fn best(operations: fn()) -> f64 {
    let one = |_| {
        let begin = Instant::now();
        operations();
        ns_each(begin.elapsed(), OPERATIONS)
    };
    (0..TRIES).map(one).fold(f64::INFINITY, f64::min)
}

/// So many goroutines that wait. They end when what is returned is dropped.
fn parked(count: u64) -> impl Drop {
    struct Release(Chan<()>);
    impl Drop for Release {
        fn drop(&mut self) {
            self.0.close();
        }
    }
    let (hold, ready) = (chan::<()>(0), WaitGroup::new());
    ready.add(count as isize);
    for _ in 0..count {
        let (hold, ready) = (hold.clone(), ready.clone());
        go!(move || {
            ready.done();
            hold.recv();
        });
    }
    ready.wait();
    Release(hold)
}

/// So many timers that are an hour from firing.
fn pending(count: u64) -> Vec<Timer> {
    (0..count).map(|_| after_func(HOUR, || ())).collect()
}

/// So many channels.
fn channels(count: u64) -> Vec<Chan<u64>> {
    (0..count).map(|_| chan(1)).collect()
}

/// A value goes from one goroutine to another.
fn hand_over() {
    let c = chan::<u64>(0);
    let tx = c.clone();
    go!(move || (0..OPERATIONS).for_each(|i| tx.send(i)));
    (0..OPERATIONS).for_each(|_| assert!(c.recv().is_some()));
}

/// A goroutine starts the next one and ends.
fn create() {
    fn link(n: u64, done: Chan<()>) {
        if n == 0 {
            done.send(());
        } else {
            go!(move || link(n - 1, done));
        }
    }
    let done = chan(0);
    link(OPERATIONS, done.clone());
    done.recv();
}

/// A timer is started and stopped.
fn start_and_stop() {
    for _ in 0..OPERATIONS {
        black_box(after_func(HOUR, || ())).stop();
    }
}

/// Two goroutines yield.
fn yields() {
    let all = WaitGroup::new();
    for _ in 0..2 {
        all.go(|| (0..OPERATIONS / 2).for_each(|_| gort::yield_now()));
    }
    all.wait();
}

#[cfg(test)]
mod tests {
    use super::*;
    use gort_bench_harness::programs::LOADS;

    #[test]
    fn every_load_gives_its_figures() {
        for load in LOADS {
            let Some(measure) = measurement(load.kind) else { panic!("no {}", load.name) };
            assert_eq!(measure(10, 2).len(), load.figures.len(), "{}", load.name);
        }
    }
}
