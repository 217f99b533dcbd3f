//! The measurements, for any [`Library`]. `benches/go` has the same ones, line by line.

use super::{
    BATCH, CAPACITY, CHILDREN, ENDS, Kind, Measurement, NODES, PERIOD, SENDERS, SETTLE, YIELDS, ns_each,
    ping_figures, ticker_figures,
};
use crate::library::{Library, Metronome};
use crate::usage::{Memory, cpu};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How a library measures that program; `None` if it cannot express it.
pub fn measurement<L: Library>(kind: Kind) -> Option<Measurement> {
    // Without a bound there is nothing that makes the faster side wait.
    let needs_bound = matches!(kind, Kind::Sieve | Kind::FanIn | Kind::Mpmc);
    if needs_bound && !L::BOUNDED {
        return None;
    }
    Some(match kind {
        Kind::ParkAndClose => park_and_close::<L>,
        Kind::SpawnRun => spawn_run::<L>,
        Kind::Skynet => skynet::<L>,
        Kind::Ring => ring::<L>,
        Kind::Sieve => sieve::<L>,
        Kind::FanIn => fan_in::<L>,
        Kind::Mpmc => mpmc::<L>,
        Kind::Yield => yields::<L>,
        Kind::Ping => ping::<L>,
        Kind::Ticker => ticker::<L>,
        Kind::Parked | Kind::Timers | Kind::Channels => return None,
    })
}

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
fn park_and_close<L: Library>(count: u64, procs: usize) -> Vec<f64> {
    no_more_than::<L>(Kind::ParkAndClose, count);
    let crowd: &'static Crowd = Box::leak(Box::default());
    let before = Memory::now();
    start::<L>(procs, Kind::ParkAndClose);
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

fn park<L: Library>(crowd: &'static Crowd, count: u64) -> (Duration, L::Sender<u64>) {
    let (tx, rx) = L::channel::<u64>(0);
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
fn spawn_run<L: Library>(count: u64, procs: usize) -> Vec<f64> {
    no_more_than::<L>(Kind::SpawnRun, count);
    start::<L>(procs, Kind::SpawnRun);
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
fn skynet<L: Library>(leaves: u64, procs: usize) -> Vec<f64> {
    no_more_than::<L>(Kind::Skynet, leaves);
    start::<L>(procs, Kind::Skynet);
    let (took, sum) = L::run(move || {
        let begin = Instant::now();
        let (tx, rx) = L::channel(0);
        L::spawn(move || node::<L>(tx, 0, leaves));
        let sum = L::recv(&rx);
        (begin.elapsed(), sum)
    });
    assert_eq!(sum, Some(leaves * (leaves - 1) / 2));
    vec![took.as_secs_f64()]
}

/// The node of `skynet` over so many leaves, from the one with that number.
fn node<L: Library>(parent: L::Sender<u64>, first: u64, leaves: u64) {
    if leaves == 1 {
        return L::send(&parent, first);
    }
    let (tx, rx) = L::channel(0);
    let share = leaves / CHILDREN;
    for child in 0..CHILDREN {
        let tx = tx.clone();
        L::spawn(move || node::<L>(tx, first + child * share, share));
    }
    let sum = (0..CHILDREN).filter_map(|_| L::recv(&rx)).sum();
    L::send(&parent, sum);
}

/// A token goes round a ring of goroutines, and counts down. ns for each hop.
fn ring<L: Library>(hops: u64, procs: usize) -> Vec<f64> {
    /// The token that ends the ring.
    const END: u64 = u64::MAX;
    no_more_than::<L>(Kind::Ring, hops);
    start::<L>(procs, Kind::Ring);
    let took = L::run(move || {
        let (done_tx, done_rx) = L::channel::<u64>(0);
        let (first_tx, mut left) = L::channel::<u64>(0);
        let all = L::group(NODES);
        for node in 0..NODES {
            let last = node + 1 == NODES;
            let (right, next_left) = if last { (first_tx.clone(), left.clone()) } else { L::channel(0) };
            let (from, done, member) = (left, done_tx.clone(), all.clone());
            left = next_left;
            L::spawn(move || {
                loop {
                    match L::recv(&from) {
                        Some(0) => L::send(&done, 0),
                        Some(END) => {
                            if !last {
                                L::send(&right, END);
                            }
                            break;
                        }
                        Some(token) => L::send(&right, token - 1),
                        None => unreachable!("nobody closes the ring"),
                    }
                }
                L::done(member);
            });
        }
        let begin = Instant::now();
        L::send(&first_tx, hops);
        L::recv(&done_rx);
        let took = begin.elapsed();
        L::send(&first_tx, END);
        L::wait(all);
        took
    });
    vec![ns_each(took, hops)]
}

/// A goroutine for each prime takes its multiples out of the numbers that the one before it lets through. µs for each
/// prime.
fn sieve<L: Library>(primes: u64, procs: usize) -> Vec<f64> {
    no_more_than::<L>(Kind::Sieve, primes);
    start::<L>(procs, Kind::Sieve);
    let took = L::run(move || {
        let stop = Arc::new(AtomicBool::new(false));
        let (tx, mut rx) = L::channel::<u64>(0);
        let begin = Instant::now();
        let stopped = stop.clone();
        L::spawn(move || {
            for number in 2.. {
                // Nothing else is read because of it.
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                L::send(&tx, number);
            }
            L::close(tx);
        });
        for _ in 0..primes {
            let Some(prime) = L::recv(&rx) else { unreachable!("there are more numbers") };
            let (tx, next) = L::channel::<u64>(0);
            let numbers = rx;
            rx = next;
            L::spawn(move || {
                while let Some(number) = L::recv(&numbers) {
                    if number % prime != 0 {
                        L::send(&tx, number);
                    }
                }
                L::close(tx);
            });
        }
        let took = begin.elapsed();
        stop.store(true, Ordering::Relaxed);
        while L::recv(&rx).is_some() {}
        took
    });
    vec![ns_each(took, primes) / 1e3]
}

/// Many goroutines send on one unbuffered channel. ns for each item.
fn fan_in<L: Library>(items: u64, procs: usize) -> Vec<f64> {
    start::<L>(procs, Kind::FanIn);
    let each = items.div_ceil(SENDERS);
    let took = L::run(move || {
        let (tx, rx) = L::channel::<u64>(0);
        let begin = Instant::now();
        for _ in 0..SENDERS {
            let tx = tx.clone();
            L::spawn(move || (0..each).for_each(|item| L::send(&tx, item)));
        }
        for _ in 0..each * SENDERS {
            L::recv(&rx);
        }
        begin.elapsed()
    });
    vec![ns_each(took, each * SENDERS)]
}

/// Some send on one channel with room, and as many receive. ns for each item.
fn mpmc<L: Library>(items: u64, procs: usize) -> Vec<f64> {
    start::<L>(procs, Kind::Mpmc);
    let each = items.div_ceil(ENDS);
    let took = L::run(move || {
        let (tx, rx) = L::channel::<u64>(CAPACITY);
        let all = L::group(2 * ENDS);
        let begin = Instant::now();
        for _ in 0..ENDS {
            let (tx, member) = (tx.clone(), all.clone());
            L::spawn(move || {
                (0..each).for_each(|item| L::send(&tx, item));
                L::done(member);
            });
            let (rx, member) = (rx.clone(), all.clone());
            L::spawn(move || {
                (0..each).for_each(|_| assert!(L::recv(&rx).is_some()));
                L::done(member);
            });
        }
        L::wait(all);
        begin.elapsed()
    });
    vec![ns_each(took, each * ENDS)]
}

/// Goroutines yield. ns for each time.
fn yields<L: Library>(goroutines: u64, procs: usize) -> Vec<f64> {
    no_more_than::<L>(Kind::Yield, goroutines);
    start::<L>(procs, Kind::Yield);
    let took = L::run(move || {
        let all = L::group(goroutines);
        let begin = Instant::now();
        for _ in 0..goroutines {
            let member = all.clone();
            L::spawn(move || {
                (0..YIELDS).for_each(|_| L::yield_now());
                L::done(member);
            });
        }
        L::wait(all);
        begin.elapsed()
    });
    vec![ns_each(took, goroutines * YIELDS)]
}

/// One goroutine sleeps until the next millisecond and sends the time; how late it is when the other one has it. µs: in
/// the middle, of 99 %, of 99.9 %; and the processor time for each.
fn ping<L: Library>(pings: u64, procs: usize) -> Vec<f64> {
    start::<L>(procs, Kind::Ping);
    let (late, cpu) = L::run(move || {
        let (tx, rx) = L::channel::<Instant>(0);
        let (late_tx, late_rx) = L::channel::<Vec<Duration>>(0);
        L::spawn(move || {
            let late = (0..pings).filter_map(|_| L::recv(&rx)).map(|sent| sent.elapsed()).collect();
            L::send(&late_tx, late);
        });
        let before = cpu();
        let mut metronome = Metronome::new(PERIOD);
        for _ in 0..pings {
            L::sleep(metronome.next_pause());
            L::send(&tx, Instant::now());
        }
        let late = L::recv(&late_rx).unwrap_or_default();
        (late, cpu() - before)
    });
    ping_figures(late, cpu)
}

/// How late a ticker is when nothing else runs. µs, in the middle.
fn ticker<L: Library>(count: u64, procs: usize) -> Vec<f64> {
    start::<L>(procs, Kind::Ticker);
    let ticks: Vec<Duration> = L::run(move || {
        let begin = Instant::now();
        let mut tick = L::ticks(PERIOD);
        let one = |_| {
            tick();
            begin.elapsed()
        };
        (0..count).map(one).collect()
    });
    ticker_figures(&ticks)
}

/// Starts the library, and has it run something.
fn start<L: Library>(procs: usize, kind: Kind) {
    L::start(procs, kind);
    L::run(|| ());
}

/// Gives up where a library is not meant for so many.
fn no_more_than<L: Library>(kind: Kind, count: u64) {
    let most = L::most(kind);
    assert!(count <= most, "not tried with more than {most}");
}
