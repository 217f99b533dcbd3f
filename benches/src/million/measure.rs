//! The measurements, for any [`Library`]. `million.go` has the same ones, line by line.

use super::library::Library;
use super::memory::Memory;
use super::{BATCH, CHILDREN, Kind};
use crate::harness::procs_from_env;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// From a goroutine's last step before its receive until it has really parked: longer than any scheduler takes.
const SETTLE: Duration = Duration::from_millis(100);

/// How far a crowd of goroutines has come.
#[derive(Default)]
struct Crowd {
    /// How many are about to receive.
    arrived: AtomicU64,
    /// How many have received.
    gone: AtomicU64,
}

/// Goroutines that all receive from one channel, and then that channel's close. ns, bytes of memory, bytes of page
/// tables for each goroutine; lines of the process's maps; ns for each from the close to the end.
pub(super) fn park_and_close<L: Library>(count: u64) -> Vec<f64> {
    let crowd: &'static Crowd = Box::leak(Box::default());
    let before = Memory::now();
    start::<L>(Kind::ParkAndClose);
    let (park, tx) = L::run(move || park::<L>(crowd, count));
    sleep(SETTLE);
    let after = Memory::now();
    let close = L::run(move || {
        let begin = Instant::now();
        L::close(tx);
        wait_for::<L>(&crowd.gone, count);
        begin.elapsed()
    });
    let each = |total: f64| total / count as f64;
    vec![
        ns_each(park, count),
        each(after.rss - before.rss),
        each(after.page_tables - before.page_tables),
        after.maps,
        ns_each(close, count),
    ]
}

fn park<L: Library>(crowd: &'static Crowd, count: u64) -> (Duration, L::Sender) {
    let (tx, rx) = L::channel();
    let begin = Instant::now();
    for _ in 0..count {
        let rx = rx.clone();
        L::spawn(move || {
            crowd.arrived.fetch_add(1, Ordering::Relaxed);
            assert_eq!(L::recv(&rx), None);
            crowd.gone.fetch_add(1, Ordering::Relaxed);
        });
    }
    wait_for::<L>(&crowd.arrived, count);
    (begin.elapsed(), tx)
}

fn wait_for<L: Library>(counter: &AtomicU64, count: u64) {
    // Nothing is read but the counter itself, so no order is needed.
    while counter.load(Ordering::Relaxed) < count {
        L::yield_now();
    }
}

/// Goroutines that only tell a wait group that they ran, one batch after the other. ns for each.
pub(super) fn spawn_run<L: Library>(count: u64) -> Vec<f64> {
    start::<L>(Kind::SpawnRun);
    let batch = BATCH.min(count);
    let took = L::run(move || {
        let begin = Instant::now();
        for _ in 0..count / batch {
            let group = L::group(batch);
            for _ in 0..batch {
                let member = group.clone();
                L::spawn(move || L::done(member));
            }
            L::wait(group);
        }
        begin.elapsed()
    });
    vec![ns_each(took, count)]
}

/// A tree of goroutines that tell their parents their sums. Seconds.
pub(super) fn skynet<L: Library>(leaves: u64) -> Vec<f64> {
    start::<L>(Kind::Skynet);
    let (took, sum) = L::run(move || {
        let begin = Instant::now();
        let (tx, rx) = L::channel();
        L::spawn(move || node::<L>(tx, 0, leaves));
        let sum = L::recv(&rx);
        (begin.elapsed(), sum)
    });
    assert_eq!(sum, Some(leaves * (leaves - 1) / 2));
    vec![took.as_secs_f64()]
}

/// The node of `skynet` over so many leaves, from the one with that number.
fn node<L: Library>(parent: L::Sender, first: u64, leaves: u64) {
    if leaves == 1 {
        return L::send(&parent, first);
    }
    let (tx, rx) = L::channel();
    let share = leaves / CHILDREN;
    for child in 0..CHILDREN {
        let tx = tx.clone();
        L::spawn(move || node::<L>(tx, first + child * share, share));
    }
    let sum = (0..CHILDREN).filter_map(|_| L::recv(&rx)).sum();
    L::send(&parent, sum);
}

/// Starts the library, and has it run something.
fn start<L: Library>(kind: Kind) {
    L::start(procs_from_env(), kind);
    L::run(|| ());
}

fn ns_each(took: Duration, count: u64) -> f64 {
    took.as_nanos() as f64 / count as f64
}

#[cfg(test)]
mod tests {
    use super::super::{LIBRARIES, SCENARIOS};

    #[test]
    fn every_scenario_gives_its_figures() {
        for scenario in SCENARIOS {
            // The first is gort. The others want a process of their own.
            let figures = LIBRARIES[0].measure(scenario, 1000);
            assert_eq!(figures.len(), scenario.figures.len(), "{}", scenario.name);
        }
    }
}
