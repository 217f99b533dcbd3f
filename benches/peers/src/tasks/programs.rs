//! The programs in a library of tasks: the counterpart of the harness's `programs/measure.rs`, line by line.

use super::{Channel, Shared, Tasks, group};
use gort_bench_harness::Metronome;
use gort_bench_harness::programs::{
    BATCH, CAPACITY, CHILDREN, ENDS, Kind, Measurement, NODES, PERIOD, SENDERS, SETTLE, YIELDS, ns_each,
    ping_figures, ticker_figures,
};
use gort_bench_harness::usage::{Memory, cpu};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub(super) fn measurement<L: Tasks>(kind: Kind) -> Option<Measurement> {
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

/// How far a crowd of tasks has come.
#[derive(Default)]
struct Crowd {
    /// How many are about to receive.
    arrived: AtomicU64,
    /// How many have received.
    gone: AtomicU64,
}

fn park_and_close<L: Tasks>(count: u64, procs: usize) -> Vec<f64> {
    let crowd: &'static Crowd = Box::leak(Box::default());
    let before = Memory::now();
    start::<L>(procs);
    let (park, tx) = L::run(async move {
        let (tx, rx) = L::Shared::make::<u64>(0);
        let begin = Instant::now();
        for _ in 0..count {
            let mut rx = L::Shared::another(&rx);
            L::spawn(async move {
                crowd.arrived.fetch_add(1, Ordering::Relaxed);
                assert_eq!(L::Shared::recv(&mut rx).await, None);
                crowd.gone.fetch_add(1, Ordering::Relaxed);
            });
        }
        wait_for::<L>(&crowd.arrived, count).await;
        (begin.elapsed(), tx)
    });
    sleep(SETTLE);
    let after = Memory::now();
    let close = L::run(async move {
        let begin = Instant::now();
        drop(tx);
        wait_for::<L>(&crowd.gone, count).await;
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

async fn wait_for<L: Tasks>(counter: &AtomicU64, count: u64) {
    // Nothing is read but the counter itself, so no order is needed.
    while counter.load(Ordering::Relaxed) < count {
        L::yield_now().await;
    }
}

fn spawn_run<L: Tasks>(count: u64, procs: usize) -> Vec<f64> {
    start::<L>(procs);
    let batch = BATCH.min(count);
    let took = L::run(async move {
        let begin = Instant::now();
        for _ in 0..count / batch {
            let (all, rest) = group::<L>();
            for _ in 0..batch {
                let member = all.clone();
                L::spawn(async move { drop(member) });
            }
            rest.wait(all).await;
        }
        begin.elapsed()
    });
    vec![ns_each(took, count)]
}

fn skynet<L: Tasks>(leaves: u64, procs: usize) -> Vec<f64> {
    start::<L>(procs);
    let (took, sum) = L::run(async move {
        let begin = Instant::now();
        let (tx, mut rx) = L::Single::make(0);
        node::<L>(tx, 0, leaves);
        let sum = L::Single::recv(&mut rx).await;
        (begin.elapsed(), sum)
    });
    assert_eq!(sum, Some(leaves * (leaves - 1) / 2));
    vec![took.as_secs_f64()]
}

/// Starts the node over so many leaves, from the one with that number.
fn node<L: Tasks>(parent: <L::Single as Channel>::Tx<u64>, first: u64, leaves: u64) {
    L::spawn(async move {
        if leaves == 1 {
            return L::Single::send(&parent, first).await;
        }
        let (tx, mut rx) = L::Single::make(0);
        let share = leaves / CHILDREN;
        for child in 0..CHILDREN {
            node::<L>(tx.clone(), first + child * share, share);
        }
        let mut sum = 0;
        for _ in 0..CHILDREN {
            sum += L::Single::recv(&mut rx).await.unwrap_or_default();
        }
        L::Single::send(&parent, sum).await;
    });
}

fn ring<L: Tasks>(hops: u64, procs: usize) -> Vec<f64> {
    /// The token that ends the ring.
    const END: u64 = u64::MAX;
    start::<L>(procs);
    let took = L::run(async move {
        let (done_tx, mut done_rx) = L::Single::make::<u64>(0);
        let (first_tx, first_rx) = L::Single::make::<u64>(0);
        let (all, rest) = group::<L>();
        let mut left = Some(first_rx);
        for node in 0..NODES {
            let last = node + 1 == NODES;
            let (right, next_left) = if last {
                (first_tx.clone(), None)
            } else {
                let (tx, rx) = L::Single::make(0);
                (tx, Some(rx))
            };
            let Some(mut from) = std::mem::replace(&mut left, next_left) else {
                unreachable!("only the last has none")
            };
            let (done, member) = (done_tx.clone(), all.clone());
            L::spawn(async move {
                loop {
                    match L::Single::recv(&mut from).await {
                        Some(0) => L::Single::send(&done, 0).await,
                        Some(END) => {
                            if !last {
                                L::Single::send(&right, END).await;
                            }
                            break;
                        }
                        Some(token) => L::Single::send(&right, token - 1).await,
                        None => unreachable!("nobody closes the ring"),
                    }
                }
                drop(member);
            });
        }
        let begin = Instant::now();
        L::Single::send(&first_tx, hops).await;
        L::Single::recv(&mut done_rx).await;
        let took = begin.elapsed();
        L::Single::send(&first_tx, END).await;
        rest.wait(all).await;
        took
    });
    vec![ns_each(took, hops)]
}

fn sieve<L: Tasks>(primes: u64, procs: usize) -> Vec<f64> {
    start::<L>(procs);
    let took = L::run(async move {
        let stop = Arc::new(AtomicBool::new(false));
        let (tx, mut rx) = L::Single::make::<u64>(0);
        let begin = Instant::now();
        let stopped = stop.clone();
        L::spawn(async move {
            for number in 2.. {
                // Nothing else is read because of it.
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                L::Single::send(&tx, number).await;
            }
        });
        for _ in 0..primes {
            let Some(prime) = L::Single::recv(&mut rx).await else { unreachable!("there are more numbers") };
            let (tx, next) = L::Single::make::<u64>(0);
            let mut numbers = rx;
            rx = next;
            L::spawn(async move {
                while let Some(number) = L::Single::recv(&mut numbers).await {
                    if number % prime != 0 {
                        L::Single::send(&tx, number).await;
                    }
                }
            });
        }
        let took = begin.elapsed();
        stop.store(true, Ordering::Relaxed);
        while L::Single::recv(&mut rx).await.is_some() {}
        took
    });
    vec![ns_each(took, primes) / 1e3]
}

fn fan_in<L: Tasks>(items: u64, procs: usize) -> Vec<f64> {
    start::<L>(procs);
    let each = items.div_ceil(SENDERS);
    let took = L::run(async move {
        let (tx, mut rx) = L::Single::make::<u64>(0);
        let begin = Instant::now();
        for _ in 0..SENDERS {
            let tx = tx.clone();
            L::spawn(async move {
                for item in 0..each {
                    L::Single::send(&tx, item).await;
                }
            });
        }
        for _ in 0..each * SENDERS {
            L::Single::recv(&mut rx).await;
        }
        begin.elapsed()
    });
    vec![ns_each(took, each * SENDERS)]
}

fn mpmc<L: Tasks>(items: u64, procs: usize) -> Vec<f64> {
    start::<L>(procs);
    let each = items.div_ceil(ENDS);
    let took = L::run(async move {
        let (tx, rx) = L::Shared::make::<u64>(CAPACITY);
        let (all, rest) = group::<L>();
        let begin = Instant::now();
        for _ in 0..ENDS {
            let (tx, member) = (tx.clone(), all.clone());
            L::spawn(async move {
                for item in 0..each {
                    L::Shared::send(&tx, item).await;
                }
                drop(member);
            });
            let (mut rx, member) = (L::Shared::another(&rx), all.clone());
            L::spawn(async move {
                for _ in 0..each {
                    assert!(L::Shared::recv(&mut rx).await.is_some());
                }
                drop(member);
            });
        }
        rest.wait(all).await;
        begin.elapsed()
    });
    vec![ns_each(took, each * ENDS)]
}

fn yields<L: Tasks>(tasks: u64, procs: usize) -> Vec<f64> {
    start::<L>(procs);
    let took = L::run(async move {
        let (all, rest) = group::<L>();
        let begin = Instant::now();
        for _ in 0..tasks {
            let member = all.clone();
            L::spawn(async move {
                for _ in 0..YIELDS {
                    L::yield_now().await;
                }
                drop(member);
            });
        }
        rest.wait(all).await;
        begin.elapsed()
    });
    vec![ns_each(took, tasks * YIELDS)]
}

fn ping<L: Tasks>(pings: u64, procs: usize) -> Vec<f64> {
    start::<L>(procs);
    let (late, cpu) = L::run(async move {
        let (tx, mut rx) = L::Single::make::<Instant>(0);
        let (late_tx, mut late_rx) = L::Single::make::<Vec<Duration>>(0);
        L::spawn(async move {
            let mut late = Vec::new();
            for _ in 0..pings {
                late.extend(L::Single::recv(&mut rx).await.map(|sent| sent.elapsed()));
            }
            L::Single::send(&late_tx, late).await;
        });
        let before = cpu();
        let mut metronome = Metronome::new(PERIOD);
        for _ in 0..pings {
            L::sleep(metronome.next_pause()).await;
            L::Single::send(&tx, Instant::now()).await;
        }
        let late = L::Single::recv(&mut late_rx).await.unwrap_or_default();
        (late, cpu() - before)
    });
    ping_figures(late, cpu)
}

fn ticker<L: Tasks>(count: u64, procs: usize) -> Vec<f64> {
    start::<L>(procs);
    ticker_figures(&L::run(L::ticks(PERIOD, count)))
}

/// Starts the library, and has it run something.
fn start<L: Tasks>(procs: usize) {
    L::start(procs);
    L::run(async {});
}
