//! The cases of Go's `time/sleep_test.go` and `time/tick_test.go`, re-expressed under their names.
//!
//! Left out, because there is nothing like it here: `zero_timer_stop_panics`, `zero_timer_reset_panics`, `issue5745`,
//! `manual_ticker`, `ticker_stop_with_direct_initialization` (timers and tickers that were not made by their functions),
//! `overflow_period_runtime_timer` (a timer of Go's runtime with a period of its own; see `overflow_sleep`), negative
//! durations, and everything about the wall clock. `timer_gc` counts what is freed by dropping instead of the allocations that a
//! collector leaves. Periods and counts are smaller where Go takes seconds, for each case runs at four sizes.

mod common;

use common::{Ledger, Rng, SIZES, at_each_size, at_size, on_both};
use gort::sync::WaitGroup;
use gort::time::{Ticker, Timer, after, after_func, sleep, tick};
use gort::{Chan, Receiver, chan, go, select};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

const NANO: Duration = Duration::from_nanos(1);
const MICRO: Duration = Duration::from_micros(1);
const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Go's `newTimerFunc`: a function timer with a channel of its own.
struct TimerFunc {
    timer: Timer,
    c: Chan<Instant>,
}

fn new_timer_func(d: Duration) -> TimerFunc {
    let c = chan(1);
    let tx = c.clone();
    TimerFunc { timer: after_func(d, move || _ = tx.try_send(Instant::now())), c }
}

#[test]
fn sleep_() {
    on_both(|| {
        let delay = 10 * MS;
        let start = Instant::now();
        sleep(delay);
        assert!(start.elapsed() >= delay);
    });
}

#[test]
fn after_func_() {
    fn f(i: i32, c: Chan<bool>) {
        if i > 0 {
            let next = c.clone();
            after_func(Duration::ZERO, move || f(i - 1, next.clone()));
            sleep(10 * MS);
        } else {
            c.send(true);
        }
    }
    on_both(|| {
        let c = chan(0);
        let tx = c.clone();
        after_func(Duration::ZERO, move || f(10, tx.clone()));
        assert_eq!(c.recv(), Some(true));
    });
}

#[test]
fn ticker_stress() {
    on_both(|| {
        let ticker = Ticker::new(NANO);
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let h = go!(move || while !seen.load(SeqCst) {
            sleep(NANO);
        });
        assert_eq!(ticker.c().iter().take(100).count(), 100);
        stop.store(true, SeqCst);
        h.join().unwrap();
    });
}

#[test]
fn ticker_concurrent_stress() {
    on_both(|| {
        let ticker = Ticker::new(NANO);
        let wg = WaitGroup::new();
        for _ in 0..10 {
            let c = ticker.c().clone();
            wg.go(move || assert_eq!(c.iter().take(100).count(), 100));
        }
        wg.wait();
    });
}

#[test]
fn after_func_starvation() {
    at_each_size(|| {
        let n = gort::set_max_procs(1);
        let stop = Arc::new(AtomicBool::new(false));
        let wg = WaitGroup::new();
        let c = chan(1);
        let (tx, seen) = (c.clone(), stop.clone());
        wg.go(move || {
            while !seen.load(SeqCst) {
                tx.send(true);
            }
            tx.close();
        });
        wg.go(move || for _ in &c {});
        after_func(MICRO, move || stop.store(true, SeqCst));
        wg.wait();
        gort::set_max_procs(n);
    });
}

#[test]
fn after_() {
    on_both(|| {
        let delay = 10 * MS;
        let start = Instant::now();
        let end = after(delay).recv().unwrap();
        assert!(start.elapsed() >= delay && end >= start + delay);
    });
}

#[test]
fn after_tick() {
    on_both(|| {
        let start = Instant::now();
        for _ in 0..10 {
            after(2 * MS).recv();
        }
        assert!(start.elapsed() >= 20 * MS);
    });
}

#[test]
fn after_stop() {
    on_both(|| {
        after_func(10 * MS, || ());
        let (t0, f0) = (Timer::new(HOUR), new_timer_func(HOUR));
        let c1 = chan(1);
        let tx = c1.clone();
        let t1 = after_func(HOUR, move || tx.send(true));
        let c2 = after(20 * MS);
        assert!(t0.stop() && f0.timer.stop() && t1.stop());
        c2.recv();
        select! {
            recv(t0.c()) -> _ => panic!("event 0 was not stopped"),
            recv(f0.c) -> _ => panic!("event 0 was not stopped"),
            recv(c1) -> _ => panic!("event 1 was not stopped"),
            default => {}
        }
        assert!(!t1.stop(), "stop returned true twice");
    });
}

#[test]
fn after_queuing() {
    const SLOTS: [u32; 13] = [5, 3, 6, 6, 6, 1, 1, 2, 7, 9, 4, 8, 0];
    fn order(delta: Duration, func: bool) -> Result<(), String> {
        let result = chan(SLOTS.len());
        let t0 = Instant::now();
        for slot in SLOTS {
            let result = result.clone();
            if func {
                after_func(slot * delta, move || result.send((slot, Instant::now())));
            } else {
                let c = after(slot * delta);
                go!(move || result.send((slot, c.recv().unwrap())));
            }
        }
        let got: Vec<_> = SLOTS.iter().map(|_| result.recv().unwrap()).collect();
        for (slot, t) in &got {
            assert!(*t >= t0 + *slot * delta, "too early");
        }
        let slots: Vec<_> = got.iter().map(|g| g.0).collect();
        if slots.is_sorted() { Ok(()) } else { Err(format!("out of order: {slots:?}")) }
    }
    on_both(|| {
        for func in [false, true] {
            // Goroutines of neighbouring slots may overtake each other where a thread is off its core for that long.
            let mut delta = 2 * MS;
            while let Err(e) = order(delta, func) {
                delta *= 3;
                assert!(delta < SEC, "{e}");
            }
        }
    });
}

#[test]
fn timer_stop_stress() {
    at_each_size(|| {
        let fired = Arc::new(AtomicUsize::new(0));
        let wg = WaitGroup::new();
        for _ in 0..100 {
            let fired = fired.clone();
            wg.go(move || {
                let timer = after_func(SEC * 60, move || _ = fired.fetch_add(1, SeqCst));
                sleep(10 * MS);
                assert!(timer.stop());
            });
        }
        wg.wait();
        assert_eq!(fired.load(SeqCst), 0);
    });
}

#[test]
fn sleep_zero_deadlock() {
    at_each_size(|| {
        let c = chan(0);
        let done = c.clone();
        go!(move || {
            (0..100).for_each(|_| gort::yield_now());
            done.send(true);
        });
        for _ in 0..100 {
            sleep(Duration::ZERO);
            let tmp = chan(1);
            tmp.send(true);
            tmp.recv();
        }
        c.recv();
    });
}

#[test]
fn reset() {
    fn reset(d: Duration) -> Result<(), &'static str> {
        let t0 = Timer::new(2 * d);
        sleep(d);
        if !t0.reset(3 * d) {
            return Err("resetting an unfired timer returned false");
        }
        sleep(2 * d);
        if t0.c().try_recv().is_ok() {
            return Err("the timer fired early");
        }
        sleep(2 * d);
        assert!(t0.c().try_recv().is_ok(), "the reset timer did not fire");
        assert!(!t0.reset(50 * MS), "resetting a received timer returned true");
        Ok(())
    }
    on_both(|| {
        let mut d = 2 * MS;
        while let Err(e) = reset(d) {
            d *= 2;
            assert!(d < 10 * SEC, "{e}");
        }
    });
}

#[test]
fn overflow_sleep() {
    on_both(|| {
        for big in [Duration::MAX, Duration::from_nanos(u64::MAX), Duration::from_nanos(i64::MAX as u64)] {
            select! {
                recv(after(big)) -> _ => panic!("a big time limit has passed"),
                recv(tick(big)) -> _ => panic!("a big period has passed"),
                recv(after(2 * MS)) -> _ => {}
            }
        }
    });
    // A goroutine that sleeps that long is abandoned.
    for procs in SIZES {
        let rt = common::builder(procs).build().unwrap();
        for big in [Duration::MAX, Duration::from_nanos(i64::MAX as u64)] {
            rt.go(move || {
                sleep(big);
                std::process::abort();
            });
        }
        rt.run(|| after(5 * MS).recv());
        assert_eq!(rt.shutdown_timeout(Duration::ZERO), 2);
    }
}

#[test]
fn zero_timer() {
    let n = if cfg!(debug_assertions) { 2000 } else { 50_000 };
    on_both(|| {
        let cached = new_timer_func(HOUR);
        for _ in 0..n {
            let s = Instant::now();
            Timer::new(Duration::ZERO).c().recv();
            new_timer_func(Duration::ZERO).c.recv();
            cached.timer.reset(Duration::ZERO);
            cached.c.recv();
            assert!(s.elapsed() < 10 * SEC);
        }
    });
}

#[test]
fn timer_modified_earlier() {
    on_both(|| {
        for _ in 0..200 {
            let t = new_timer_func(HOUR);
            for _ in 0..10 {
                if !t.timer.stop() {
                    t.c.recv();
                }
                t.timer.reset(Duration::ZERO);
            }
            assert!(t.c.recv_timeout(60 * SEC).is_ok(), "the timer was lost");
        }
    });
}

#[test]
fn adjust_timers() {
    let seed = AtomicU64::new(1);
    on_both(|| {
        let mut rng = Rng(seed.fetch_add(1, SeqCst));
        let mut timers: Vec<_> = (0..100).map(|_| (0, None::<TimerFunc>)).collect();
        while !timers.is_empty() {
            let i = rng.below(timers.len());
            let (state, slot) = &mut timers[i];
            let t = slot.get_or_insert_with(|| new_timer_func(Duration::ZERO));
            match *state {
                0 => {}
                1 => _ = t.c.recv(),
                2 | 4 | 6 => assert!(!t.timer.reset(60 * (*state) * SEC), "should not be active"),
                3 | 5 | 7 => assert!(t.timer.stop()),
                8 => assert!(!t.timer.reset(Duration::ZERO)),
                9 => assert!(t.c.recv_timeout(60 * SEC).is_ok()),
                _ => {
                    timers.swap_remove(i);
                    continue;
                }
            }
            timers[i].0 += 1;
        }
    });
}

fn stop_reset_result(stop_or_reset: fn(&Timer) -> bool) {
    let (n, rounds) = if cfg!(debug_assertions) { (100, 10) } else { (1000, 20) };
    at_each_size(|| {
        let start = chan::<()>(0);
        let wg = WaitGroup::new();
        for _ in 0..n {
            let start = start.clone();
            wg.go(move || {
                start.recv();
                for _ in 0..rounds {
                    let (timer1, timer2) = (Timer::new(MS), Timer::new(MS));
                    let other = select! {
                        recv(timer1.c()) -> _ => &timer2,
                        recv(timer2.c()) -> _ => &timer1,
                    };
                    if !stop_or_reset(other) {
                        other.c().recv();
                    }
                }
            });
        }
        start.close();
        wg.wait();
    });
}

#[test]
fn stop_result() {
    stop_reset_result(Timer::stop);
}

#[test]
fn reset_result() {
    stop_reset_result(|timer| timer.reset(HOUR));
}

#[test]
fn multi_wakeup_ticker() {
    let n = if cfg!(debug_assertions) { 500 } else { 10_000 };
    at_each_size(|| {
        let timer = Ticker::new(MICRO);
        let wg = WaitGroup::new();
        for _ in 0..gort::max_procs() {
            let c = timer.c().clone();
            wg.go(move || {
                for _ in 0..n {
                    select! {
                        recv(c) -> _ => {}
                        recv(after(MS)) -> _ => {}
                    }
                }
            });
        }
        wg.wait();
    });
}

#[test]
fn multi_wakeup_timer() {
    at_each_size(|| {
        let timer = Arc::new(Timer::new(NANO));
        let wg = WaitGroup::new();
        for _ in 0..gort::max_procs() {
            let timer = timer.clone();
            wg.go(move || {
                for _ in 0..1000 {
                    let _ = timer.c().try_recv();
                    timer.reset(NANO);
                }
            });
        }
        wg.wait();
    });
}

#[test]
fn ticker() {
    on_both(|| {
        let delta = 4 * MS;
        let t = Ticker::new(delta);
        let t0 = Instant::now();
        (0..5).for_each(|_| _ = t.c().recv());
        assert!(t0.elapsed() >= 4 * delta);
        let t1 = Instant::now();
        t.reset(delta * 2);
        (0..5).for_each(|_| _ = t.c().recv());
        assert!(t1.elapsed() >= 10 * delta);
        t.stop();
        sleep(4 * delta);
        assert!(t.c().try_recv().is_err(), "the ticker did not shut down");
    });
}

#[test]
fn teardown() {
    on_both(|| {
        for _ in 0..3 {
            let ticker = Ticker::new(2 * MS);
            ticker.c().recv();
            ticker.stop();
        }
    });
}

#[test]
fn tick_() {
    assert!(tick(Duration::ZERO) == Receiver::nil());
}

#[test]
#[should_panic = "non-positive interval for Ticker::new"]
fn new_ticker_lt_zero_duration() {
    Ticker::new(Duration::ZERO);
}

#[test]
#[should_panic = "non-positive interval for Ticker::reset"]
fn ticker_reset_lt_zero_duration() {
    Ticker::new(SEC).reset(Duration::ZERO);
}

#[test]
fn long_adjust_timers() {
    let (count, rounds) = if cfg!(debug_assertions) { (1000, 500) } else { (5000, 10_000) };
    at_each_size(|| {
        let wg = WaitGroup::new();
        (0..count).for_each(|_| wg.go(|| sleep(10 * MICRO)));
        (0..count / 10).for_each(|_| sleep(MICRO));
        let (in_q, out_q) = (chan::<usize>(0), chan::<usize>(0));
        let (from, to) = (in_q.clone(), out_q.clone());
        wg.go(move || {
            let mut q = std::collections::VecDeque::new();
            loop {
                let (send_to, first) = match q.front() {
                    Some(n) => (to.clone(), *n),
                    None => (Chan::nil(), 0),
                };
                select! {
                    send(send_to, first) => _ = q.pop_front(),
                    recv(from) -> v => match v {
                        Some(n) => q.push_back(n),
                        None => return,
                    }
                }
            }
        });
        for i in 0..rounds {
            (0..20).for_each(|n| in_q.send(n));
            for n in 0..20 {
                select! {
                    recv(out_q) -> got => assert_eq!(got, Some(n)),
                    recv(after(100 * SEC)) -> _ => panic!("no work after {i} rounds"),
                }
            }
        }
        in_q.close();
        wg.wait();
    });
}

#[test]
fn timer_gc() {
    on_both(|| {
        let ledger = Ledger::default();
        for _ in 0..1000 {
            drop((after(HOUR), tick(HOUR), Timer::new(HOUR), Ticker::new(HOUR)));
            let token = ledger.token();
            assert!(after_func(HOUR, move || _ = &token).stop());
        }
        ledger.assert_settled();
    });
}

/// What [`chan_state_machine`] does with a timer or a ticker.
trait AnyTimer: Send + Sync {
    const TICKS: bool;
    fn c(&self) -> &Receiver<Instant>;
    fn stop(&self) -> bool;
    fn reset(&self, d: Duration) -> bool;
}

impl AnyTimer for Timer {
    const TICKS: bool = false;
    fn c(&self) -> &Receiver<Instant> {
        Timer::c(self)
    }
    fn stop(&self) -> bool {
        Timer::stop(self)
    }
    fn reset(&self, d: Duration) -> bool {
        Timer::reset(self, d)
    }
}

struct TickerTimer(Ticker, AtomicBool);

impl AnyTimer for TickerTimer {
    const TICKS: bool = true;
    fn c(&self) -> &Receiver<Instant> {
        self.0.c()
    }
    fn stop(&self) -> bool {
        self.0.stop();
        !self.1.swap(true, SeqCst)
    }
    fn reset(&self, d: Duration) -> bool {
        self.0.reset(d);
        !self.1.swap(false, SeqCst)
    }
}

fn chan_state_machine<T: AnyTimer>(tim: T) {
    const SCHED: Duration = Duration::from_millis(2);
    const FAR: Duration = Duration::from_secs(10_000);
    let c = tim.c().clone();
    let no_tick = || assert!(c.try_recv().is_err(), "extra tick");
    let assert_tick = || assert!(c.recv_timeout(60 * SEC).is_ok(), "missing tick");
    let not_done = |done: &Chan<bool>| assert!(done.try_recv().is_err(), "early done");
    let wait_done = |done: &Chan<bool>| assert!(done.recv_timeout(60 * SEC).is_ok(), "never done");

    // Stop, then change a timer that is not in the heap.
    tim.stop();
    no_tick();
    tim.reset(FAR);
    no_tick();
    tim.reset(NANO);
    sleep(SCHED);
    assert_eq!((c.len(), c.cap()), (0, 0));
    assert_tick();
    sleep(SCHED);
    tim.reset(FAR);
    no_tick();

    // While it is in the heap, because a goroutine waits.
    tim.reset(FAR);
    let done = chan(1);
    let (c1, done1) = (c.clone(), done.clone());
    go!(move || {
        c1.recv();
        done1.send(true);
    });
    sleep(SCHED);
    not_done(&done);
    tim.reset(2 * FAR);
    sleep(SCHED);
    not_done(&done);
    tim.reset(NANO);
    wait_done(&done);
    if T::TICKS {
        assert_tick()
    } else {
        no_tick()
    }
    tim.stop();
    no_tick();

    // Two that select.
    tim.reset(FAR);
    let (done, stop, ended) = (chan(2), chan::<()>(0), chan(2));
    for _ in 0..2 {
        let (c, done, stop, ended) = (c.clone(), done.clone(), stop.clone(), ended.clone());
        go!(move || {
            select! {
                recv(c) -> _ => done.send(true),
                recv(stop) -> _ => {}
            }
            ended.send(true);
        });
    }
    sleep(SCHED);
    not_done(&done);
    tim.reset(SCHED / 2);
    wait_done(&done);
    tim.stop();
    stop.close();
    wait_done(&ended);
    wait_done(&ended);
    if T::TICKS {
        // The other one may have had a tick as well.
        let _ = done.try_recv();
    }
    not_done(&done);

    // Two that select while it is stopped.
    let (stop, ended) = (chan::<()>(0), chan(2));
    for _ in 0..2 {
        let (c, stop, ended) = (c.clone(), stop.clone(), ended.clone());
        go!(move || {
            select! {
                recv(c) -> _ => panic!("unexpected data"),
                recv(stop) -> _ => ended.send(true),
            }
        });
    }
    sleep(SCHED);
    stop.close();
    wait_done(&ended);
    wait_done(&ended);

    // No old value after a stop or a reset.
    tim.reset(NANO);
    sleep(SCHED);
    assert!(tim.stop());
    no_tick();
    tim.reset(HOUR);
    no_tick();
    assert!(tim.reset(NANO));
    assert_tick();
    sleep(SCHED);
    if T::TICKS {
        assert_tick()
    } else {
        no_tick()
    }
    assert_eq!(tim.reset(HOUR), T::TICKS);
    no_tick();
}

#[test]
fn chan_() {
    on_both(|| {
        chan_state_machine(Timer::new(10_000 * SEC));
        chan_state_machine(TickerTimer(Ticker::new(10_000 * SEC), AtomicBool::new(false)));
    });
}

#[test]
fn after_times() {
    on_both(|| {
        let start = Instant::now();
        let c = after(MS);
        let made = Instant::now();
        sleep(20 * MS);
        let at = c.recv().unwrap();
        assert!(at >= start + MS && at <= made + MS);
    });
}

#[test]
fn tick_times() {
    on_both(|| {
        let start = Instant::now();
        let c = tick(MS);
        let made = Instant::now();
        sleep(20 * MS);
        let at = c.recv().unwrap();
        assert!(at >= start + MS && at <= made + MS);
    });
}

/// Go's `TestParallelTimerLatency` in spirit: a timer of a P that computes is served by another one.
#[test]
fn a_timer_of_a_p_that_computes_is_served() {
    at_size(2, || {
        for _ in 0..20 {
            let over = Arc::new(AtomicBool::new(false));
            let flag = over.clone();
            after_func(MS, move || flag.store(true, SeqCst));
            while !over.load(SeqCst) {
                std::hint::spin_loop();
            }
        }
    });
}
