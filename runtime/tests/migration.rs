//! Where a goroutine goes on after a wait: anywhere, on its own thread (`migrate(false)`), or elsewhere each time.

mod common;

use common::child::{in_child, listen};
use common::{SIZES, Watchdog, eventually, until_parked};
use gort::sync::WaitGroup;
use gort::time::sleep;
use gort::{Runtime, chan, go, max_procs, select, yield_now};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{ThreadId, current};
use std::time::Duration;

/// Runs `body` at each number of Ps, on a runtime whose goroutines stay on their threads.
#[track_caller]
fn staying(body: impl Fn() + Sync) {
    for procs in SIZES {
        let _watch = Watchdog::arm(&format!("migrate(false), {procs} Ps"));
        let rt = Runtime::builder().max_procs(procs).migrate(false).build().unwrap();
        rt.run(&body);
        assert_eq!(rt.shutdown_timeout(Duration::from_secs(20)), 0, "goroutines are left, at {procs} Ps");
    }
}

/// Does every kind of wait, and after each calls `after` with its name.
fn waits(rounds: usize, mut after: impl FnMut(&str)) {
    let (ch, answers) = (chan(0), chan(0));
    let (rx, tx) = (ch.clone(), answers.clone());
    let echo = go!(move || {
        for v in &rx {
            tx.send(v);
        }
    });
    let never = chan::<()>(0);
    for i in 0..rounds {
        ch.send(i);
        after("send");
        assert_eq!(answers.recv(), Some(i));
        after("recv");
        ch.send(i);
        select! {
            recv(never) -> _ => unreachable!(),
            recv(answers) -> v => assert_eq!(v, Some(i)),
        }
        after("select");
        yield_now();
        after("yield");
        go!(yield_now()).join().unwrap();
        after("join");
        if i % 10 == 0 {
            sleep(Duration::from_micros(50));
            after("sleep");
            assert!(never.recv_timeout(Duration::from_micros(50)).is_err());
            after("recv_timeout");
        }
    }
    ch.close();
    echo.join().unwrap();
}

#[test]
fn with_migrate_false_a_goroutine_stays_on_its_thread() {
    staying(|| {
        let workers: Vec<_> = (0..8)
            .map(|_| {
                go!(|| {
                    let home = current().id();
                    waits(50, |what| assert_eq!(current().id(), home, "moved by a {what}"));
                })
            })
            .collect();
        workers.into_iter().for_each(|w| w.join().unwrap());
    });
}

#[test]
fn with_migrate_false_a_thread_locals_borrow_may_be_held_over_a_wait() {
    thread_local! {
        static SUMS: RefCell<Vec<(u64, usize)>> = const { RefCell::new(Vec::new()) };
    }
    staying(|| {
        let wg = WaitGroup::new();
        for _ in 0..20 {
            wg.go(|| {
                let me = gort::goroutine_id().unwrap().to_string().parse().unwrap();
                let at = SUMS.with_borrow_mut(|sums| {
                    sums.push((me, 0));
                    sums.len() - 1
                });
                waits(10, |_| SUMS.with_borrow_mut(|sums| sums[at].1 += 1));
                assert_eq!(SUMS.with_borrow(|sums| sums[at]), (me, 10 * 5 + 2));
            });
        }
        wg.wait();
    });
}

#[test]
fn with_migrate_false_goroutines_that_have_not_started_are_taken_by_others() {
    let _watch = Watchdog::arm("stealing");
    let rt = Runtime::builder().max_procs(4).migrate(false).build().unwrap();
    rt.run(|| {
        let (ran, enough) = (Arc::new(AtomicUsize::new(0)), 100);
        for _ in 0..enough {
            let ran = ran.clone();
            drop(go!(move || ran.fetch_add(1, SeqCst)));
        }
        // Stays on its P without a call: all of them must be run elsewhere.
        while ran.load(SeqCst) < enough {
            std::hint::spin_loop();
        }
    });
}

#[test]
fn with_migrate_false_those_on_one_thread_take_turns() {
    let _watch = Watchdog::arm("turns");
    let rt = Runtime::builder().max_procs(1).migrate(false).build().unwrap();
    rt.run(|| {
        let done = Arc::new(AtomicBool::new(false));
        // A pair that hands a value to and fro without end, one that never waits but calls, and one that yields.
        let (ping, pong) = (chan::<()>(0), chan::<()>(0));
        let (a, b) = (ping.clone(), pong.clone());
        go!(move || while a.recv().is_some() {
            b.send(());
        });
        let (a, b, over) = (ping.clone(), pong, done.clone());
        go!(move || {
            while !over.load(SeqCst) {
                a.send(());
                b.recv();
            }
            a.close();
        });
        let (busy, over) = (chan::<()>(1), done.clone());
        go!(move || while !over.load(SeqCst) {
            let _ = busy.try_recv();
        });
        let over = done.clone();
        go!(move || while !over.load(SeqCst) {
            yield_now();
        });
        for _ in 0..20 {
            sleep(Duration::from_millis(1));
            go!(yield_now()).join().unwrap();
        }
        done.store(true, SeqCst);
    });
    assert_eq!(rt.shutdown_timeout(Duration::from_secs(20)), 0);
}

#[test]
fn with_migrate_false_a_plain_thread_wakes_them_where_they_are() {
    staying(|| {
        let (ch, n) = (chan(0), 64);
        let homes: Arc<Mutex<HashSet<ThreadId>>> = Arc::default();
        let wg = WaitGroup::new();
        for _ in 0..n {
            let (ch, homes) = (ch.clone(), homes.clone());
            wg.go(move || {
                let home = current().id();
                homes.lock().unwrap().insert(home);
                while ch.recv().is_some() {
                    assert_eq!(current().id(), home);
                }
            });
        }
        let tx = ch.clone();
        let outside = std::thread::spawn(move || {
            (0..1000).for_each(|i| tx.send(i));
            tx.close();
        });
        wg.wait();
        outside.join().unwrap();
        assert!(homes.lock().unwrap().len() <= max_procs() + 1);
    });
}

#[test]
fn with_migrate_false_an_abandoned_goroutine_never_runs_again() {
    let _watch = Watchdog::arm("abandoned");
    let (ch, ran) = (chan::<()>(0), Arc::new(AtomicBool::new(false)));
    let rt = Runtime::builder().max_procs(2).migrate(false).build().unwrap();
    let (rx, flag) = (ch.clone(), ran.clone());
    let parked = rt.go(move || {
        rx.recv();
        flag.store(true, SeqCst);
    });
    until_parked(&parked, "chan receive");
    assert_eq!(rt.shutdown_timeout(Duration::ZERO), 1);
    // Its thread goes on to serve other runtimes, and must not take it along.
    let next = Runtime::builder().max_procs(2).migrate(false).build().unwrap();
    next.run(|| {
        ch.close();
        waits(20, |_| {});
    });
    assert!(!ran.load(SeqCst));
    assert!(parked.join().is_err());
}

#[test]
fn with_migrate_always_every_wait_changes_the_thread() {
    for procs in SIZES {
        let _watch = Watchdog::arm(&format!("migrate_always, {procs} Ps"));
        let rt = Runtime::builder().max_procs(procs).migrate_always().build().unwrap();
        rt.run(|| {
            let last = Cell::new(current().id());
            waits(20, |what| {
                // The others need not have waited.
                if ["yield", "sleep", "recv_timeout"].contains(&what) {
                    assert_ne!(last.get(), current().id(), "a {what} left it where it was");
                }
                last.set(current().id());
            });
        });
        assert_eq!(rt.shutdown_timeout(Duration::from_secs(20)), 0);
    }
}

/// What `-C relocation-model=pie` is for; see docs/safety.md.
#[test]
fn a_thread_locals_value_after_a_wait_is_the_present_threads() {
    thread_local! {
        static ME: Cell<Option<ThreadId>> = const { Cell::new(None) };
    }
    #[inline(never)]
    fn mine() -> Option<ThreadId> {
        ME.get()
    }
    let rt = Runtime::builder().max_procs(2).migrate_always().build().unwrap();
    rt.run(|| {
        for _ in 0..200 {
            ME.set(Some(current().id()));
            let before = ME.get();
            yield_now();
            let after = ME.get();
            assert_ne!(before, after, "a value of the thread before the wait");
            assert_eq!(after, mine());
            assert!(after.is_none() || after == Some(current().id()));
        }
    });
}

#[test]
fn who_waits_on_a_thread_of_its_own_costs_no_processor() {
    let _watch = Watchdog::arm("idle");
    let rt = Runtime::builder().max_procs(4).migrate(false).build().unwrap();
    let ch = chan::<()>(0);
    let handles: Vec<_> = (0..16)
        .map(|_| {
            let rx = ch.clone();
            rt.go(move || rx.recv())
        })
        .collect();
    handles.iter().for_each(|h| until_parked(h, "chan receive"));
    let busy = rt.go(|| waits(200, |_| {}));
    busy.join().unwrap();
    ch.close();
    eventually("all have ended", || rt.num_goroutines() == 0);
    handles.into_iter().for_each(|h| assert_eq!(h.join().unwrap(), None));
}

/// Goroutines that stay on their thread, each of which holds one lock of `std` over a wait.
fn hold_a_lock_over_a_wait(rt: &Runtime) {
    let lock = Arc::new(Mutex::new(()));
    for _ in 0..20 {
        let lock = lock.clone();
        rt.go(move || {
            let _held = lock.lock().unwrap();
            sleep(Duration::from_millis(1));
        });
    }
}

#[test]
fn a_thread_blocked_by_a_lock_that_its_own_goroutine_holds_is_named_once() {
    let test = "a_thread_blocked_by_a_lock_that_its_own_goroutine_holds_is_named_once";
    in_child(test, &[], || {
        let mut until_said = listen();
        let rt = Runtime::builder().max_procs(2).migrate(false).build().unwrap();
        hold_a_lock_over_a_wait(&rt);
        until_said("is blocked by goroutine");
        until_said("\n");
        // And by each dump.
        let mut dump = Vec::new();
        gort::runtime::dump(&mut dump).unwrap();
        let dump = String::from_utf8(dump).unwrap();
        let named = dump.lines().filter(|line| {
            line.starts_with("OS thread ")
                && line.contains(" is blocked by goroutine ")
                && line.contains("on that thread, cannot run")
        });
        assert!(named.count() > 0, "{dump}");
        // A second one would come within the next looks.
        std::thread::sleep(Duration::from_secs(3));
        std::process::exit(0);
    })
    .with_status(0)
    .says(1, "is blocked by goroutine")
    .says(1, "If it waits for a lock of `std`");
}

#[test]
fn a_thread_blocked_while_it_is_locked_is_named() {
    in_child("a_thread_blocked_while_it_is_locked_is_named", &[], || {
        let mut until_said = listen();
        let rt = Runtime::builder().max_procs(1).migrate(false).build().unwrap();
        // The second one waits for the first, which has its home where that one has locked the thread.
        let ch = chan::<()>(0);
        let tx = ch.clone();
        rt.go(move || {
            sleep(Duration::from_millis(20));
            tx.send(());
        });
        rt.go(move || {
            let _mine = gort::lock_os_thread();
            ch.recv();
        });
        until_said("is blocked by goroutine 2");
        std::process::exit(0);
    })
    .with_status(0);
}

#[test]
fn a_thread_that_computes_or_comes_back_is_not_named() {
    in_child("a_thread_that_computes_or_comes_back_is_not_named", &[], || {
        let rt = Runtime::builder().max_procs(1).migrate(false).build().unwrap();
        rt.run(|| {
            let waits = go!(|| (0..10).for_each(|_| sleep(Duration::from_millis(1))));
            let begin = std::time::Instant::now();
            while begin.elapsed() < Duration::from_secs(2) {
                std::hint::spin_loop();
            }
            waits.join().unwrap();
            for _ in 0..8 {
                let waits = go!(|| sleep(Duration::from_millis(1)));
                yield_now();
                std::thread::sleep(Duration::from_millis(300));
                waits.join().unwrap();
            }
        });
    })
    .with_status(0)
    .says(0, "is blocked by");
}
