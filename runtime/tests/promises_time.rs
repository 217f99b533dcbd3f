//! What the library promises of time: each sentence of its documentation, at each number of Ps.

mod common;

use common::{at_each_size, on_both};
use gort::time::{self, Ticker, Timer, after_func};
use gort::{GoroutineId, Receiver, RecvTimeoutError, Select, TryRecvError, select, select_biased};
use gort_scheduler::proc::goroutines;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn after_func_calls_once_for_each_arming() {
    at_each_size(|| {
        let (tx, rx) = gort::channel(10);
        let timer = after_func(MS, move || tx.send(()).unwrap());
        assert_eq!(rx.recv(), Some(()));
        assert!(!timer.stop());
        for d in [MS, Duration::ZERO, Duration::from_nanos(1)] {
            assert!(!timer.reset(d));
            assert_eq!(rx.recv(), Some(()));
        }
        assert!(!timer.reset(LONG));
        assert!(timer.reset(MS));
        assert_eq!(rx.recv(), Some(()));
        assert_eq!(rx.recv_timeout(5 * MS), Err(gort::RecvTimeoutError::Timeout));
    });
}

#[test]
fn a_stopped_function_timer_does_not_fire_and_is_freed() {
    at_each_size(|| {
        let kept = Arc::new(());
        for d in [LONG, Duration::MAX] {
            let held = kept.clone();
            let timer = after_func(d, move || _ = &held);
            assert_eq!(Arc::strong_count(&kept), 2);
            assert!(timer.stop());
            assert!(!timer.stop());
            drop(timer);
            assert_eq!(Arc::strong_count(&kept), 1, "a stopped timer is kept");
        }
    });
}

#[test]
fn dropping_the_timer_of_after_func_leaves_it_armed() {
    at_each_size(|| {
        let (tx, rx) = gort::channel(1);
        drop(after_func(2 * MS, move || tx.send(()).unwrap()));
        assert_eq!(rx.recv(), Some(()));
        // When it has fired, its function is gone, and so is the sender in it.
        assert_eq!(rx.recv(), None);
    });
}

#[test]
fn overlapping_firings_are_called_one_after_the_other() {
    at_each_size(|| {
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (tx, rx) = gort::channel(0);
        let (i, m) = (inside.clone(), most.clone());
        let timer = after_func(LONG, move || {
            m.fetch_max(i.fetch_add(1, SeqCst) + 1, SeqCst);
            time::sleep(MS);
            i.fetch_sub(1, SeqCst);
            tx.send(()).unwrap();
        });
        for _ in 0..5 {
            timer.reset(Duration::ZERO);
        }
        for _ in 0..5 {
            assert_eq!(rx.recv(), Some(()));
        }
        assert_eq!(most.load(SeqCst), 1);
        assert!(!timer.stop());
    });
}

#[test]
fn function_timers_of_a_runtime_that_ends_are_stopped_and_freed_as_any() {
    let kept = Arc::new(());
    for procs in common::SIZES {
        let rt = common::builder(procs).build().unwrap();
        let set = |d| {
            let held = kept.clone();
            rt.run(|| after_func(d, move || _ = &held))
        };
        let (timer, soon) = (set(LONG), set(5 * MS));
        rt.shutdown_timeout(Duration::from_secs(10));
        assert!(timer.stop() && !timer.stop());
        drop((timer, soon));
        common::eventually("what they hold is freed", || Arc::strong_count(&kept) == 1);
    }
}

fn until_it_waits(id: GoroutineId) {
    while !goroutines().iter().any(|g| g.id == id && g.state == "chan receive") {
        gort::yield_now();
    }
}

/// Nothing is there, and nothing comes.
#[track_caller]
fn assert_silent(rx: &Receiver<Instant>) {
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(rx.recv_timeout(5 * MS), Err(RecvTimeoutError::Timeout));
    assert_eq!((rx.len(), rx.cap(), rx.is_closed()), (0, 0, false));
}

#[test]
fn a_timer_gives_the_instant_at_which_it_was_due_once() {
    on_both(|| {
        let start = Instant::now();
        let timer = Timer::new(2 * MS);
        let made = Instant::now();
        time::sleep(10 * MS);
        let at = timer.c().recv().unwrap();
        assert!(at >= start + 2 * MS && at <= made + 2 * MS, "not when it was received");
        assert_silent(timer.c());
        assert!(!timer.stop());
        assert!(!timer.reset(MS));
        assert!(timer.c().recv().is_some());
    });
}

#[test]
fn every_way_to_receive_waits_for_a_timer() {
    on_both(|| {
        let c = gort::chan::<i32>(0);
        assert!(time::after(MS).recv().is_some());
        assert!(time::after(MS).recv_timeout(LONG).is_ok());
        assert!(time::after(LONG).recv_timeout(MS).is_err());
        assert_eq!(time::tick(MS).iter().take(3).count(), 3);
        let rx = time::after(MS);
        while rx.try_recv().is_err() {
            gort::yield_now();
        }
        assert!(select! { recv(c) -> _ => false, recv(time::after(MS)) -> at => at.is_some() });
        assert!(
            select! { recv(time::after(LONG)) -> _ => false, recv(&time::after(MS)) -> at => at.is_some() }
        );
        assert!(select_biased! { recv(c) -> _ => false, recv(time::after(MS)) -> at => at.is_some() });
        assert!(select! { recv(time::after(LONG)) -> _ => false, default => true });
        assert!(select! { recv(time::after(Duration::ZERO)) -> _ => true, default => false });
        let (long, short) = (time::after(LONG), time::after(MS));
        let mut sel = Select::new();
        sel.recv(&long);
        let i = sel.recv(&short);
        let done = sel.select();
        assert_eq!(done.index(), i);
        assert!(done.received::<Instant>().is_some());
        assert!(sel.select_timeout(MS).is_none());
        assert!(sel.try_select().is_none());
    });
}

#[test]
fn after_a_stop_or_a_reset_nothing_older_is_received() {
    on_both(|| {
        for _ in 0..20 {
            // Due and not received.
            let timer = Timer::new(Duration::ZERO);
            assert!(timer.stop());
            assert!(!timer.stop());
            assert_eq!(timer.c().try_recv(), Err(TryRecvError::Empty));
            assert!(!timer.reset(Duration::ZERO));
            let start = Instant::now();
            assert!(timer.reset(MS));
            assert!(timer.c().recv().unwrap() >= start + MS);
            let ticker = Ticker::new(Duration::from_nanos(1));
            ticker.stop();
            assert_eq!(ticker.c().try_recv(), Err(TryRecvError::Empty));
            let start = Instant::now();
            ticker.reset(MS);
            assert!(ticker.c().recv().unwrap() >= start + MS);
        }
        let timer = Timer::new(Duration::ZERO);
        timer.stop();
        assert_silent(timer.c());
    });
}

#[test]
fn a_reset_is_heard_by_those_who_wait() {
    at_each_size(|| {
        for thread in [false, true] {
            let timer = Arc::new(Timer::new(LONG));
            let waits = timer.clone();
            let (tx, rx) = gort::channel(1);
            let body = move || tx.send(waits.c().recv().is_some()).unwrap();
            if thread {
                std::thread::spawn(body);
            } else {
                gort::go!(body);
            }
            time::sleep(MS);
            // Sooner, later, off and on.
            timer.reset(MS * 10_000);
            timer.stop();
            timer.reset(LONG);
            timer.reset(MS);
            assert_eq!(rx.recv(), Some(true));
        }
    });
}

#[test]
fn of_many_receivers_one_has_the_value_and_the_first_comes_first() {
    at_each_size(|| {
        let timer = Timer::new(LONG);
        let (tx, rx) = gort::channel(10);
        let waits: Vec<_> = (0..5)
            .map(|i| {
                let (c, tx) = (timer.c().clone(), tx.clone());
                let h = gort::go!(move || {
                    assert!(c.recv().is_some());
                    tx.send(i).unwrap();
                });
                until_it_waits(h.id());
                h
            })
            .collect();
        for i in 0..5 {
            timer.reset(Duration::from_micros(10));
            assert_eq!(rx.recv(), Some(i));
            assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        }
        waits.into_iter().for_each(|h| h.join().unwrap());
    });
}

#[test]
fn a_ticker_keeps_its_phase_and_drops_what_a_slow_receiver_missed() {
    on_both(|| {
        let period = 3 * MS;
        let ticker = Ticker::new(period);
        let first = ticker.c().recv().unwrap();
        let received = Instant::now();
        time::sleep(4 * period);
        let back = Instant::now();
        let (late, next) = (ticker.c().recv().unwrap(), ticker.c().recv().unwrap());
        for t in [late, next] {
            assert_eq!((t - first).as_nanos() % period.as_nanos(), 0);
        }
        assert!(late > first && late <= received + period, "the first one missed is there");
        assert!(next > back, "and then those missed are over");
    });
}

#[test]
fn a_dropped_timer_or_ticker_is_stopped_for_clones_of_its_receiver() {
    on_both(|| {
        let rx = Timer::new(Duration::ZERO).c().clone();
        assert_silent(&rx);
        let rx = Ticker::new(Duration::from_nanos(1)).c().clone();
        assert_silent(&rx);
    });
}

#[test]
fn zero_is_at_once_and_max_is_for_ever() {
    on_both(|| {
        time::sleep(Duration::ZERO);
        assert!(time::after(Duration::ZERO).try_recv().is_ok());
        assert_silent(&time::after(Duration::MAX));
        let timer = Timer::new(Duration::MAX);
        assert!(timer.stop());
        assert!(!timer.reset(Duration::MAX));
        assert!(timer.reset(Duration::ZERO));
        assert!(timer.c().try_recv().is_ok());
        assert_silent(Ticker::new(Duration::MAX).c());
        assert!(time::tick(Duration::ZERO) == Receiver::nil());
        // Ends of the clock that are no ends yet.
        for nanos in [u64::MAX, u64::MAX - 1, u64::MAX / 2, i64::MAX as u64] {
            let d = Duration::from_nanos(nanos);
            let timer = Timer::new(d);
            assert!(timer.c().recv_timeout(MS).is_err());
            assert!(timer.stop());
            let f = after_func(d, || unreachable!());
            assert!(f.stop());
            let ticker = Ticker::new(d);
            assert!(ticker.c().recv_timeout(MS).is_err());
        }
        let ticker = Ticker::new(MS);
        ticker.reset(Duration::from_nanos(u64::MAX));
        assert_silent(ticker.c());
    });
}

#[test]
fn a_zero_period_panics() {
    at_each_size(|| {
        for f in [|| drop(Ticker::new(Duration::ZERO)), || Ticker::new(MS).reset(Duration::ZERO)] {
            let why = std::panic::catch_unwind(f).unwrap_err();
            assert!(why.downcast_ref::<&str>().unwrap().starts_with("non-positive interval for Ticker::"));
        }
    });
}

#[test]
fn the_channel_of_a_function_timer_is_nil() {
    let timer = after_func(LONG, || ());
    assert!(*timer.c() == Receiver::nil());
    timer.stop();
}

#[test]
fn a_receiver_outlives_the_runtime_that_made_it() {
    let _watch = common::Watchdog::arm("a receiver outlives the runtime that made it");
    for procs in common::SIZES {
        let rt = common::builder(procs).build().unwrap();
        let (soon, ticks) = rt.run(|| (time::after(20 * MS), time::tick(20 * MS)));
        let c = ticks.clone();
        let other = std::thread::spawn(move || c.recv().is_some());
        let (tx, rx) = gort::channel::<()>(0);
        // Armed in the runtime that goes, by one that waits there.
        let (c, d) = (soon.clone(), ticks.clone());
        rt.go(move || {
            drop(tx);
            select! { recv(c) -> _ => {}, recv(d) -> _ => {} }
        });
        rx.recv();
        drop(rt);
        assert!(ticks.recv().is_some());
        assert!(other.join().unwrap());
    }
}

#[test]
fn an_idle_p_and_one_that_is_gone_have_their_timers_served() {
    at_each_size(|| {
        let n = gort::max_procs();
        let (tx, rx) = gort::channel(1000);
        for i in 0..100 {
            let tx = tx.clone();
            gort::go!(move || drop(after_func(MS * (5 + i % 5), move || tx.send(()).unwrap())));
        }
        let sleepers: Vec<_> = (0..100).map(|_| gort::go!(|| time::sleep(5 * MS))).collect();
        drop(tx);
        gort::set_max_procs(1);
        assert_eq!(rx.iter().count(), 100);
        sleepers.into_iter().for_each(|h| h.join().unwrap());
        gort::set_max_procs(n);
    });
}

#[test]
fn timers_fire_while_every_goroutine_computes() {
    at_each_size(|| {
        let over = Arc::new(AtomicUsize::new(0));
        let flag = over.clone();
        // Fires while the goroutine that armed it computes, and all others do.
        let timer = after_func(MS, move || flag.store(1, SeqCst));
        let hogs: Vec<_> = (0..gort::max_procs().min(4))
            .map(|_| {
                let over = over.clone();
                gort::go!(move || while over.load(SeqCst) == 0 {
                    std::hint::spin_loop();
                })
            })
            .collect();
        hogs.into_iter().for_each(|h| h.join().unwrap());
        timer.stop();
    });
}

/// No timer is later than this on any machine that is not stuck. It is a bound on order as well: since none is early, one that
/// was due before another by more than this fires before it.
const LATENESS: Duration = Duration::from_secs(20);

/// Timers of random deadlines, by every means: none is lost, none fires twice or early, and all in order but for their lateness.
fn many(n: usize, within: Duration) {
    let seed = std::env::var("GORT_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    println!("seed {seed}");
    let mut rng = common::Rng(seed);
    let fired: Arc<Vec<AtomicUsize>> = Arc::new((0..n).map(|_| AtomicUsize::new(0)).collect());
    let late = Arc::new(AtomicUsize::new(0));
    let wg = gort::sync::WaitGroup::new();
    wg.add(n as isize);
    for i in 0..n {
        let d = Duration::from_nanos(rng.next() % within.as_nanos() as u64);
        let (fired, late, wg) = (fired.clone(), late.clone(), wg.clone());
        let start = Instant::now();
        let done = move || {
            let t = start.elapsed();
            assert!(t >= d, "too early");
            late.fetch_max((t - d).as_micros() as usize, SeqCst);
            fired[i].fetch_add(1, SeqCst);
            wg.done();
        };
        match i % 4 {
            0 | 1 => drop(after_func(d, done)),
            2 if i % 16 == 2 => drop(gort::go!(move || {
                time::sleep(d);
                done();
            })),
            3 if i % 16 == 3 => drop(gort::go!(move || {
                time::after(d).recv();
                done();
            })),
            _ => {
                // Moved once, or called off and on.
                let timer = after_func(if i % 3 == 0 { LONG } else { Duration::MAX }, done);
                assert!(if i % 5 == 0 { timer.stop() } else { true });
                timer.reset(d);
            }
        }
    }
    wg.wait();
    assert!(fired.iter().all(|f| f.load(SeqCst) == 1));
    let late = Duration::from_micros(late.load(SeqCst) as u64);
    println!("{n} timers within {within:?}: the latest was {late:?} late");
    assert!(late < LATENESS, "{late:?} late");
}

#[test]
fn many_timers_fire_once_each() {
    at_each_size(|| many(if cfg!(debug_assertions) { 4000 } else { 50_000 }, 50 * MS));
}

#[test]
#[ignore = "a million; run in an optimised build"]
fn a_million_timers_fire_once_each() {
    common::at_size(2, || many(1_000_000, Duration::from_secs(4)));
}

#[test]
fn a_time_limit_drops_the_future_and_a_future_that_ends_stops_the_timer() {
    on_both(|| {
        let ledger = common::Ledger::default();
        let token = ledger.token();
        let never = async move {
            let _token = token;
            std::future::pending::<()>().await
        };
        let start = Instant::now();
        assert!(time::timeout(2 * MS, never).is_err());
        assert!(start.elapsed() >= 2 * MS);
        ledger.assert_settled();
        // One that another goroutine ends.
        let (tx, rx) = gort::channel(1);
        let mut polled = false;
        let once = std::future::poll_fn(move |cx| {
            if std::mem::replace(&mut polled, true) {
                return Poll::Ready(5);
            }
            tx.send(cx.waker().clone()).unwrap();
            Poll::Pending
        });
        let h = gort::go!(move || {
            let waker: Waker = rx.recv().unwrap();
            waker.wake();
        });
        assert_eq!(time::timeout(LONG, once), Ok(5));
        h.join().unwrap();
    });
}
