//! The rows of timers in Go's package `time`: `sleep_test.go` and `tick_test.go`.
//!
//! All but those of lateness run beside timers that do not fire, as in Go (`beside_others`). The rows of lateness tell
//! how late timers were on average, while goroutines compute.
//!
//! A function for a timer, or a ticker that is dropped, is freed where Go leaves that to its collector.

use crate::harness::{Bench, Row, RunParallel, Share};
use crate::proc::{spin, warm_up_scheduler};
use gort::sync::WaitGroup;
use gort::time::{Ticker, Timer, after, after_func, sleep};
use gort::{Chan, chan, go};
use std::hint::spin_loop;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);
const MILLISECOND: Duration = Duration::from_millis(1);
const NANOSECOND: Duration = Duration::from_nanos(1);

/// In the order of Go's files.
pub const ROWS: &[Row] = &[
    Row::new("after_func_1000", "AfterFunc1000", after_func_1000),
    Row::new("after", "After", after_1ns),
    Row::new("stop_chan", "Stop/impl=chan", |b| stop(b, Timer::new)),
    Row::new("stop_func", "Stop/impl=func", |b| stop(b, timer_func)),
    Row::new("simultaneous_after_func_1000", "SimultaneousAfterFunc1000", simultaneous_after_func_1000),
    Row::new("start_stop_1000", "StartStop1000", start_stop_1000),
    Row::new("reset_chan", "Reset/impl=chan", |b| reset(b, Timer::new)),
    Row::new("reset_func", "Reset/impl=func", |b| reset(b, timer_func)),
    Row::new("sleep_1000", "Sleep1000", sleep_1000),
    Row::new("parallel_timer_latency", "ParallelTimerLatency", parallel_timer_latency).lateness(),
    Row::new(
        "staggered_ticker_latency_300us_1",
        "StaggeredTickerLatency/work-dur=300µs/tickers-per-P=1",
        |b| tickers(b, 300, 1),
    )
    .lateness(),
    Row::new(
        "staggered_ticker_latency_300us_2",
        "StaggeredTickerLatency/work-dur=300µs/tickers-per-P=2",
        |b| tickers(b, 300, 2),
    )
    .lateness(),
    Row::new(
        "staggered_ticker_latency_300us_3",
        "StaggeredTickerLatency/work-dur=300µs/tickers-per-P=3",
        |b| tickers(b, 300, 3),
    )
    .lateness(),
    Row::new(
        "staggered_ticker_latency_300us_4",
        "StaggeredTickerLatency/work-dur=300µs/tickers-per-P=4",
        |b| tickers(b, 300, 4),
    )
    .lateness(),
    Row::new(
        "staggered_ticker_latency_300us_5",
        "StaggeredTickerLatency/work-dur=300µs/tickers-per-P=5",
        |b| tickers(b, 300, 5),
    )
    .lateness(),
    Row::new(
        "staggered_ticker_latency_300us_6",
        "StaggeredTickerLatency/work-dur=300µs/tickers-per-P=6",
        |b| tickers(b, 300, 6),
    )
    .lateness(),
    Row::new(
        "staggered_ticker_latency_300us_7",
        "StaggeredTickerLatency/work-dur=300µs/tickers-per-P=7",
        |b| tickers(b, 300, 7),
    )
    .lateness(),
    Row::new(
        "staggered_ticker_latency_300us_8",
        "StaggeredTickerLatency/work-dur=300µs/tickers-per-P=8",
        |b| tickers(b, 300, 8),
    )
    .lateness(),
    Row::new(
        "staggered_ticker_latency_300us_9",
        "StaggeredTickerLatency/work-dur=300µs/tickers-per-P=9",
        |b| tickers(b, 300, 9),
    )
    .lateness(),
    Row::new(
        "staggered_ticker_latency_300us_10",
        "StaggeredTickerLatency/work-dur=300µs/tickers-per-P=10",
        |b| tickers(b, 300, 10),
    )
    .lateness(),
    Row::new("staggered_ticker_latency_2ms_1", "StaggeredTickerLatency/work-dur=2ms/tickers-per-P=1", |b| {
        tickers(b, 2000, 1)
    })
    .lateness(),
    Row::new("adjust_timers_10000", "AdjustTimers10000", adjust_timers_10000),
    Row::new("ticker", "Ticker", ticker),
    Row::new("ticker_reset", "TickerReset", ticker_reset),
    Row::new("ticker_reset_naive", "TickerResetNaive", ticker_reset_naive),
];

/// The operations of `body` in parallel, beside 32768 timers for each P that will not fire while it runs.
fn beside_others(b: &Bench, body: impl Fn(Share) + Sync) {
    let arm = || (0..1 << 15).map(|_| after_func(HOUR, || ())).collect::<Vec<_>>();
    let others: Vec<Vec<Timer>> = gort::scope(|s| {
        let arming: Vec<_> = (0..gort::max_procs()).map(|_| s.go(arm)).collect();
        arming.into_iter().map(|g| g.join().expect("timers can be armed")).collect()
    });
    b.reset_timer();
    b.run_parallel(body);
    b.stop_timer();
    others.iter().flatten().for_each(|t| {
        t.stop();
    });
}

/// A function that is called at once arms the next one, a thousand times.
fn after_func_1000(b: &Bench) {
    fn arm(n: u64, mut c: Chan<bool>) {
        after_func(Duration::ZERO, move || {
            let c = mem::take(&mut c);
            if n > 0 {
                arm(n - 1, c);
            } else {
                c.send(true);
            }
        });
    }
    beside_others(b, |share| {
        for () in share {
            let c = chan(0);
            arm(1000, c.clone());
            c.recv();
        }
    });
}

/// A wait for a nanosecond.
fn after_1ns(b: &Bench) {
    beside_others(b, |share| {
        for () in share {
            after(NANOSECOND).recv();
        }
    });
}

/// A timer that sends as one with a channel does, but from a function: Go's `newTimerFunc`.
fn timer_func(d: Duration) -> Timer {
    let c = chan(1);
    after_func(d, move || c.send(Instant::now()))
}

/// A timer is made and stopped.
fn stop(b: &Bench, timer: fn(Duration) -> Timer) {
    beside_others(b, |share| {
        for () in share {
            timer(Duration::from_secs(1)).stop();
        }
    });
}

/// A thousand functions at once, and a wait for them.
fn simultaneous_after_func_1000(b: &Bench) {
    const N: usize = 1000;
    beside_others(b, |share| {
        for () in share {
            let wg = WaitGroup::new();
            wg.add(N as isize);
            for _ in 0..N {
                let wg = wg.clone();
                after_func(Duration::ZERO, move || wg.done());
            }
            wg.wait();
        }
    });
}

/// A thousand timers are made, and then all are stopped.
fn start_stop_1000(b: &Bench) {
    beside_others(b, |share| {
        for () in share {
            let timers: Vec<Timer> = (0..1000).map(|_| after_func(HOUR, || ())).collect();
            for t in &timers {
                t.stop();
            }
        }
    });
}

/// A timer is put off again and again.
fn reset(b: &Bench, timer: fn(Duration) -> Timer) {
    beside_others(b, |share| {
        let t = timer(HOUR);
        for () in share {
            t.reset(HOUR);
        }
        t.stop();
    });
}

/// A thousand goroutines sleep for a nanosecond, and somebody waits for them.
fn sleep_1000(b: &Bench) {
    const N: usize = 1000;
    beside_others(b, |share| {
        for () in share {
            let wg = WaitGroup::new();
            wg.add(N as isize);
            for _ in 0..N {
                let wg = wg.clone();
                go!(move || {
                    sleep(NANOSECOND);
                    wg.done();
                });
            }
            wg.wait();
        }
    });
}

/// How late one timer was. Whoever handles it adds to it; it is read when all are done. A cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Late {
    nanos: AtomicU64,
    count: AtomicU64,
}

impl Late {
    fn for_each_of(timers: usize) -> Arc<[Late]> {
        (0..timers).map(|_| Late::default()).collect()
    }

    /// The timer was to fire then, and somebody handles it now.
    fn add(&self, expected: Instant) {
        let late = Instant::now().saturating_duration_since(expected);
        // Relaxed, here and in `mean`: the wait group orders them.
        self.nanos.fetch_add(late.as_nanos() as u64, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn mean(all: &[Late]) -> f64 {
        let sum =
            |of: fn(&Late) -> &AtomicU64| all.iter().map(|l| of(l).load(Ordering::Relaxed)).sum::<u64>();
        sum(|l| &l.nanos) as f64 / sum(|l| &l.count) as f64
    }
}

/// One goroutine arms timers and then computes: the other Ps, one for each timer, must see to them.
fn parallel_timer_latency(b: &Bench) {
    let procs = gort::max_procs();
    let timers = procs - 1;
    let late = Late::for_each_of(timers);
    warm_up_scheduler();
    // So long that whoever looks after everything has gone to sleep.
    spin(30 * MILLISECOND);
    b.reset_timer();
    let wg = WaitGroup::new();
    let fired = Arc::new(AtomicUsize::new(0));
    for _ in 0..b.n {
        wg.add(timers as isize);
        fired.store(0, Ordering::SeqCst);
        for timer in 0..timers {
            let (late, wg, fired) = (late.clone(), wg.clone(), fired.clone());
            let expected = Instant::now() + MILLISECOND;
            after_func(MILLISECOND, move || {
                late[timer].add(expected);
                fired.fetch_add(1, Ordering::SeqCst);
                until_all_fired(&fired, timers);
                wg.done();
            });
        }
        until_all_fired(&fired, timers);
        wg.wait();
        // The other Ps find nothing to do before the next round.
        spin(MILLISECOND);
    }
    b.report(Late::mean(&late));
}

fn until_all_fired(fired: &AtomicUsize, timers: usize) {
    while fired.load(Ordering::SeqCst) < timers {
        spin_loop();
    }
}

/// So many tickers for each P, of 3 ms; a goroutine waits for each and then computes.
fn tickers(b: &Bench, micros: u64, per_p: usize) {
    let (delay, work) = (3 * MILLISECOND, Duration::from_micros(micros));
    let procs = gort::max_procs();
    let tickers = procs * per_p;
    let late = Late::for_each_of(tickers);
    warm_up_scheduler();
    b.reset_timer();
    let n = b.n;
    let wg = WaitGroup::new();
    wg.add(tickers as isize);
    for which in 0..tickers {
        spin(delay / procs as u32);
        let mut expected = Instant::now() + delay;
        let ticker = Ticker::new(delay);
        let (late, wg) = (late.clone(), wg.clone());
        go!(move || {
            for _ in 0..n {
                ticker.c().recv();
                late[which].add(expected);
                expected += delay;
                spin(work);
            }
            wg.done();
            ticker.stop();
        });
    }
    wg.wait();
    b.report(Late::mean(&late));
}

/// Ten thousand timers; the last one fires, and the others are stopped.
fn adjust_timers_10000(b: &Bench) {
    const N: usize = 10_000;
    beside_others(b, |share| {
        for () in share {
            let timers: Vec<Timer> = (0..N).map(|_| after_func(HOUR, || {})).collect();
            timers[N - 1].reset(NANOSECOND);
            sleep(Duration::from_micros(1));
            for t in &timers {
                t.stop();
            }
        }
    });
}

/// A wait for the next tick, which is always due.
fn ticker(b: &Bench) {
    beside_others(b, |share| {
        let ticker = Ticker::new(NANOSECOND);
        for () in share {
            ticker.c().recv();
        }
        ticker.stop();
    });
}

fn ticker_reset(b: &Bench) {
    beside_others(b, |share| {
        let ticker = Ticker::new(NANOSECOND);
        for () in share {
            ticker.reset(2 * NANOSECOND);
        }
        ticker.stop();
    });
}

/// In place of a reset, another ticker.
fn ticker_reset_naive(b: &Bench) {
    beside_others(b, |share| {
        let mut ticker = Ticker::new(NANOSECOND);
        for () in share {
            ticker.stop();
            ticker = Ticker::new(2 * NANOSECOND);
        }
        ticker.stop();
    });
}
