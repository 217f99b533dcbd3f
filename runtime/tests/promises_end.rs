//! What the page of the public API promises of the end of a runtime: nothing goes to those who are abandoned with it, and what
//! belongs to others outlives it.

mod common;

use common::{Ledger, Rng, SIZES, Watchdog, at_size, builder, eventually, until_parked};
use gort::context::{self, Context, ContextError, background, with_cancel, with_timeout};
use gort::sync::{Barrier, Condvar, Mutex, Once, OnceLock, RwLock, Semaphore, SingleFlight, WaitGroup};
use gort::{
    JoinHandle, RecvTimeoutError, Runtime, Select, TryRecvError, TrySendError, chan, channel, go, select,
    time,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);
/// For what comes in milliseconds.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs the body for each size of the runtimes that it ends, under a watchdog.
#[track_caller]
fn for_each_size(body: impl Fn(usize)) {
    let _watch = Watchdog::arm("the end of a runtime");
    SIZES.into_iter().for_each(body);
}

/// Ends a runtime in which goroutines wait for this reason: those that `spawn` starts.
#[track_caller]
fn abandon<T>(
    procs: usize,
    reason: &str,
    spawn: impl FnOnce(&Runtime) -> Vec<JoinHandle<T>>,
) -> Vec<JoinHandle<T>> {
    let rt = builder(procs).build().unwrap();
    let waiting = spawn(&rt);
    waiting.iter().for_each(|h| until_parked(h, reason));
    assert_eq!(rt.shutdown_timeout(Duration::ZERO), waiting.len());
    waiting
}

/// Waits on a plain thread until it is known to wait; the thread.
fn waiting_thread<T: Send + 'static>(
    begun: impl Fn() -> bool,
    f: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let h = thread::spawn(f);
    eventually("the thread waits", begun);
    h
}

// -- Channels --

#[test]
fn a_send_does_not_go_to_a_receiver_whose_runtime_has_ended() {
    for_each_size(|procs| {
        for cap in [0, 1] {
            for timed in [false, true] {
                let ch = chan::<String>(cap);
                drop(abandon(procs, "chan receive", |rt| {
                    let receiver = || {
                        let rx = ch.clone();
                        rt.go(move || match timed {
                            true => drop(rx.recv_timeout(LONG)),
                            false => drop(rx.recv()),
                        })
                    };
                    (0..3).map(|_| receiver()).collect()
                }));
                for n in 0..cap {
                    assert_eq!(ch.try_send("buffered".into()), Ok(()), "{n}");
                }
                assert_eq!(ch.try_send("x".into()), Err(TrySendError::Full("x".into())));
                assert!(ch.send_timeout("x".into(), Duration::ZERO).unwrap_err().is_timeout());
                // The next live receiver is served.
                (0..cap).for_each(|_| assert_eq!(ch.recv().unwrap(), "buffered"));
                at_size(procs, || {
                    let rx = ch.clone();
                    let h = go!(move || rx.recv());
                    until_parked(&h, "chan receive");
                    assert_eq!(ch.try_send("live".into()), Ok(()));
                    assert_eq!(h.join().unwrap().unwrap(), "live");
                });
            }
        }
    });
}

#[test]
fn no_value_is_received_from_a_sender_whose_runtime_has_ended() {
    for_each_size(|procs| {
        for cap in [0, 2] {
            for timed in [false, true] {
                let ch = chan(cap);
                (0..cap).for_each(|_| ch.send("buffered"));
                drop(abandon(procs, "chan send", |rt| {
                    let sender = || {
                        let tx = ch.clone();
                        rt.go(move || match timed {
                            true => drop(tx.send_timeout("dead", LONG)),
                            false => tx.send("dead"),
                        })
                    };
                    (0..3).map(|_| sender()).collect()
                }));
                assert_eq!((ch.len(), ch.is_full()), (cap, true));
                at_size(procs, || {
                    let tx = ch.clone();
                    let h = go!(move || tx.send("live"));
                    until_parked(&h, "chan send");
                    (0..cap).for_each(|_| assert_eq!(ch.try_recv(), Ok("buffered")));
                    assert_eq!(ch.try_recv(), Ok("live"));
                    h.join().unwrap();
                });
                assert_eq!(ch.try_recv(), Err(TryRecvError::Empty));
                assert_eq!(ch.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
            }
        }
    });
}

#[test]
fn no_value_comes_from_or_goes_to_a_select_whose_runtime_has_ended() {
    for_each_size(|procs| {
        let (a, b) = (chan(0), chan(0));
        drop(abandon(procs, "select", |rt| {
            let both = || {
                let (a, b) = (a.clone(), b.clone());
                rt.go(move || select! { send(a, "dead") => {}, recv(b) -> _ => {} })
            };
            vec![both(), both()]
        }));
        assert_eq!(a.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(b.try_send("x"), Err(TrySendError::Full("x")));
        let chosen = select! {
            recv(a) -> _ => 1,
            send(b, "x") => 2,
            default => 0,
        };
        assert_eq!(chosen, 0);
        let mut sel = Select::new();
        sel.recv(&a);
        sel.send(&b, "x");
        assert!(sel.try_select().is_none());
        at_size(procs, || {
            let (ra, sb) = (a.clone(), b.clone());
            let h = go!(move || select! { recv(ra) -> v => v, send(sb, "live") => None });
            until_parked(&h, "select");
            a.send("a");
            assert_eq!(h.join().unwrap(), Some("a"));
        });
    });
}

#[test]
fn the_values_of_a_timer_go_to_those_who_live() {
    for_each_size(|procs| {
        let ticks = time::tick(Duration::from_millis(2));
        drop(abandon(procs, "select", |rt| {
            let wait = || {
                let (ticks, never) = (ticks.clone(), gort::Receiver::<()>::nil());
                // It may have a tick before the end, and then waits for the next.
                rt.go(move || while select! { recv(ticks) -> _ => true, recv(never) -> _ => false } {})
            };
            vec![wait(), wait()]
        }));
        assert!(ticks.recv().is_some());
        at_size(procs, || assert!(ticks.recv().is_some()));
        // One value there is, and it is not the dead one's.
        let once = time::Timer::new(LONG);
        let rx = once.c().clone();
        drop(abandon(procs, "chan receive", |rt| vec![rt.go(move || rx.recv())]));
        assert!(once.reset(Duration::ZERO));
        assert!(once.c().recv().is_some());
    });
}

#[test]
fn a_close_leaves_those_whose_runtime_has_ended_where_they_are() {
    for_each_size(|procs| {
        let ch = chan::<()>(0);
        let hs = abandon(procs, "chan receive", |rt| {
            let receiver = || {
                let rx = ch.clone();
                rt.go(move || rx.recv())
            };
            vec![receiver(), receiver()]
        });
        ch.close();
        for h in hs {
            until_parked(&h, "chan receive");
            assert!(h.join().is_err());
        }
        assert_eq!(ch.recv(), None);
    });
}

/// What is given before the end is its receiver's, though that may be abandoned with it. What is given after goes to nobody who is
/// dead: it is received here, or comes back.
#[test]
fn values_that_race_with_the_end_of_runtimes_are_not_lost_after_it() {
    for_each_size(|procs| {
        for round in 0..if procs == 64 { 10 } else { 40 } {
            let (tx, rx) = channel::<bool>(round % 3);
            let (ended, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let feeder = {
                let (ended, done) = (ended.clone(), done.clone());
                thread::spawn(move || {
                    let mut sent = [0, 0];
                    while !done.load(SeqCst) {
                        let after = ended.load(SeqCst);
                        let ok = tx.send_timeout(after, Duration::from_micros(50)).is_ok();
                        sent[usize::from(after)] += usize::from(ok);
                    }
                    sent
                })
            };
            let rt = builder(procs).build().unwrap();
            let n = 8;
            // The second: by one that still runs, to its next scheduling point.
            let received = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
            for i in 0..n {
                let (rx, received) = (rx.clone(), received.clone());
                rt.go(move || {
                    let never = chan::<()>(0);
                    loop {
                        let got = match i % 3 {
                            0 => rx.recv(),
                            1 => rx.recv_timeout(LONG).ok(),
                            _ => select! { recv(rx) -> v => v, recv(never) -> _ => unreachable!() },
                        };
                        let Some(after) = got else { return };
                        received[usize::from(after)].fetch_add(1, SeqCst);
                    }
                });
            }
            eventually("some are received", || received[0].load(SeqCst) > round);
            drop(rt);
            ended.store(true, SeqCst);
            let mut got = [0, 0];
            while got[1] < 20 {
                let after = rx.recv().unwrap();
                got[usize::from(after)] += 1;
            }
            done.store(true, SeqCst);
            rx.iter().for_each(|after| got[usize::from(after)] += 1);
            let sent = feeder.join().unwrap();
            let [before, after] = [0, 1].map(|when| received[when].load(SeqCst) + got[when]);
            assert_eq!(after, sent[1], "values that were sent after the end are lost");
            assert!(
                (before..=before + n).contains(&sent[0]),
                "{sent:?} sent, {before} received before the end"
            );
        }
    });
}

// -- Locks and their kin --

#[test]
fn a_lock_that_only_the_dead_wait_for_is_free() {
    for_each_size(|procs| {
        let m = Arc::new(Mutex::new(()));
        let held = m.lock();
        drop(abandon(procs, "sync.Mutex.Lock", |rt| {
            let theirs = || {
                let m = m.clone();
                rt.go(move || drop(m.lock()))
            };
            (0..3).map(|_| theirs()).collect()
        }));
        drop(held);
        assert!(m.try_lock().is_some());
        (0..3).for_each(|_| drop(m.lock()));
        assert!(m.try_lock_for(Duration::ZERO).is_some());
    });
}

#[test]
fn a_starving_lock_is_not_handed_to_the_dead() {
    for_each_size(|procs| {
        let m = Arc::new(Mutex::new(()));
        let held = m.lock();
        let theirs = |rt: &Runtime| {
            let m = m.clone();
            rt.go(move || drop(m.lock()))
        };
        drop(abandon(procs, "sync.Mutex.Lock", |rt| {
            let hs: Vec<_> = (0..3).map(|_| theirs(rt)).collect();
            // Long enough for the first to lose, once it has been woken, and to have the lock handed over.
            hs.iter().for_each(|h| until_parked(h, "sync.Mutex.Lock"));
            thread::sleep(Duration::from_millis(5));
            hs
        }));
        let live = waiting_thread(|| true, {
            let m = m.clone();
            move || drop(m.lock())
        });
        gort::sync::MutexGuard::unlock_fair(held);
        live.join().unwrap();
        assert!(m.try_lock().is_some());
    });
}

#[test]
fn a_dead_writer_keeps_no_reader_out() {
    for_each_size(|procs| {
        for timed in [false, true] {
            let l = Arc::new(RwLock::new(()));
            let reading = l.read();
            drop(abandon(procs, "sync.RWMutex.Lock", |rt| {
                let writer = || {
                    let l = l.clone();
                    rt.go(move || match timed {
                        true => drop(l.try_write_for(LONG)),
                        false => drop(l.write()),
                    })
                };
                vec![writer(), writer()]
            }));
            assert!(l.try_read().is_some(), "the writer that waits is dead");
            drop(l.read());
            assert!(l.try_write().is_none());
            drop(reading);
            assert!(l.try_write().is_some());
            drop(l.write());
        }
    });
}

#[test]
fn a_dead_reader_is_not_counted() {
    for_each_size(|procs| {
        let l = Arc::new(RwLock::new(()));
        let writing = l.write();
        drop(abandon(procs, "sync.RWMutex.RLock", |rt| {
            let reader = || {
                let l = l.clone();
                rt.go(move || drop(l.read()))
            };
            vec![reader(), reader()]
        }));
        drop(writing);
        assert!(l.try_write().is_some());
    });
}

#[test]
fn readers_that_wait_behind_a_dead_writer_go_on() {
    for_each_size(|procs| {
        let l = Arc::new(RwLock::new(()));
        let reading = l.read();
        let rt = builder(procs).build().unwrap();
        let theirs = l.clone();
        let writer = rt.go(move || drop(theirs.write()));
        until_parked(&writer, "sync.RWMutex.Lock");
        at_size(procs, || {
            let ours = l.clone();
            let reader = go!(move || drop(ours.read()));
            until_parked(&reader, "sync.RWMutex.RLock");
            assert_eq!(rt.shutdown_timeout(Duration::ZERO), 1);
            reader.join().unwrap();
        });
        drop(reading);
    });
}

#[test]
fn permits_go_to_those_who_live() {
    for_each_size(|procs| {
        let sem = Arc::new(Semaphore::new(2));
        sem.acquire(1);
        let rt = builder(procs).build().unwrap();
        let theirs = sem.clone();
        let first = rt.go(move || theirs.acquire(2));
        until_parked(&first, "semacquire");
        at_size(procs, || {
            // Too many for it are for nobody behind it, until it is dead.
            let ours = sem.clone();
            let second = go!(move || ours.acquire(1));
            until_parked(&second, "semacquire");
            assert_eq!(rt.shutdown_timeout(Duration::ZERO), 1);
            second.join().unwrap();
        });
        sem.release(2);
        assert_eq!(sem.available(), 2);
        assert!(sem.try_acquire(2));
    });
}

#[test]
fn a_notification_goes_to_one_who_lives() {
    for_each_size(|procs| {
        let pair = Arc::new((Mutex::new(()), Condvar::new()));
        let waits = |pair: &Arc<(Mutex<()>, Condvar)>| {
            let pair = pair.clone();
            move || pair.1.wait(&mut pair.0.lock())
        };
        drop(abandon(procs, "sync.Cond.Wait", |rt| vec![rt.go(waits(&pair)), rt.go(waits(&pair))]));
        let live = waits(&pair);
        at_size(procs, || {
            let h = go(live);
            until_parked(&h, "sync.Cond.Wait");
            assert!(pair.1.notify_one());
            h.join().unwrap();
        });
        assert!(!pair.1.notify_one());
        assert_eq!(pair.1.notify_all(), 0);
    });
}

#[test]
fn a_wait_group_and_a_once_go_on_without_the_dead() {
    for_each_size(|procs| {
        let wg = WaitGroup::new();
        wg.add(1);
        let theirs = wg.clone();
        drop(abandon(procs, "sync.WaitGroup.Wait", |rt| vec![rt.go(move || theirs.wait())]));
        let ours = waiting_thread(|| true, {
            let wg = wg.clone();
            move || wg.wait()
        });
        wg.done();
        ours.join().unwrap();
        wg.add(1);
        wg.done();
        wg.wait();

        let once = Arc::new((Once::new(), OnceLock::<u8>::new(), SingleFlight::<u8, u8>::new()));
        let (tx, rx) = channel::<()>(0);
        let begun = Arc::new(AtomicBool::new(false));
        let runner = thread::spawn({
            let (once, begun) = (once.clone(), begun.clone());
            move || {
                let call = || {
                    begun.store(true, SeqCst);
                    rx.recv().map_or(7, |()| 8)
                };
                once.0.call_once(|| _ = once.1.get_or_init(|| once.2.call(1, call).0));
            }
        });
        eventually("it runs", || begun.load(SeqCst));
        let waits = |which: usize| {
            let once = once.clone();
            move || match which {
                0 => once.0.call_once(|| ()),
                1 => drop(once.1.get_or_init(|| 9)),
                _ => drop(once.2.call(1, || 9)),
            }
        };
        let rt = builder(procs).build().unwrap();
        let hs = [rt.go(waits(0)), rt.go(waits(1)), rt.go(waits(2))];
        for (h, reason) in hs.iter().zip(["sync.Once.Do", "sync.Once.Do", "singleflight.Group.Do"]) {
            until_parked(h, reason);
        }
        assert_eq!(rt.shutdown_timeout(Duration::ZERO), 3);
        let ours = waiting_thread(|| true, waits(0));
        tx.close();
        runner.join().unwrap();
        ours.join().unwrap();
        assert_eq!(once.1.get(), Some(&7));
    });
}

#[test]
fn the_dead_have_not_come_to_a_barrier() {
    for_each_size(|procs| {
        let barrier = Arc::new(Barrier::new(3));
        let first = {
            let barrier = barrier.clone();
            thread::spawn(move || barrier.wait().is_leader())
        };
        let theirs = barrier.clone();
        drop(abandon(procs, "sync.Barrier.Wait", |rt| vec![rt.go(move || theirs.wait().is_leader())]));
        // The thread may come at any time.
        let leaders = at_size(procs, || {
            let ours = barrier.clone();
            let second = go!(move || ours.wait().is_leader());
            until_parked(&second, "sync.Barrier.Wait");
            u32::from(barrier.wait().is_leader()) + u32::from(second.join().unwrap())
        });
        assert_eq!(leaders + u32::from(first.join().unwrap()), 1);
    });
}

#[test]
fn a_join_of_the_dead_ends_and_a_join_by_the_dead_wakes_nobody() {
    for_each_size(|procs| {
        at_size(procs, || {
            let (tx, rx) = channel::<()>(0);
            let child = go!(move || rx.recv());
            let joiner = abandon(procs, "join", |rt| vec![rt.go(move || child.join().unwrap())]);
            drop(tx);
            eventually("the child has ended", || gort::num_goroutines() == 1);
            for h in joiner {
                until_parked(&h, "join");
                assert!(h.join().is_err());
            }
        });
    });
}

// -- Timers that belong to nothing of the runtime --

const SOON: Duration = Duration::from_millis(20);

/// The error of a context, when it is done.
#[track_caller]
fn end_of(ctx: &Context) -> ContextError {
    assert_eq!(ctx.done().recv_timeout(LIMIT), Err(RecvTimeoutError::Closed), "it is not done");
    ctx.err().expect("it is done")
}

#[test]
fn a_deadline_outlives_the_runtime_that_made_the_context() {
    for_each_size(|procs| {
        let rt = builder(procs).build().unwrap();
        let (tx, rx) = channel(1);
        let (ctx, below, cancel, asked_before) = rt.run(|| {
            let (ctx, _) = with_timeout(&background(), SOON);
            let (below, cancel) = with_cancel(&ctx);
            drop(context::after_func(&below, move || tx.send("ran").unwrap()));
            let (other, _) = with_timeout(&background(), SOON);
            (ctx, below, cancel, (other.done(), other))
        });
        drop(rt);
        assert_eq!(end_of(&below), ContextError::DeadlineExceeded);
        assert_eq!(end_of(&ctx), ContextError::DeadlineExceeded);
        assert_eq!(rx.recv(), Some("ran"));
        assert_eq!(asked_before.0.recv_timeout(LIMIT), Err(RecvTimeoutError::Closed));
        assert_eq!(asked_before.1.err(), Some(ContextError::DeadlineExceeded));
        cancel();
    });
}

#[test]
fn a_deadline_that_comes_while_the_runtime_ends_is_heard_there() {
    for_each_size(|procs| {
        let rt = builder(procs).build().unwrap();
        let h = rt.go(|| {
            let (ctx, _) = with_timeout(&background(), SOON);
            _ = ctx.done().recv();
            ctx.err()
        });
        until_parked(&h, "chan receive");
        // Nothing new may be started here any more.
        assert_eq!(rt.shutdown_timeout(LIMIT), 0);
        assert_eq!(h.join().unwrap(), Some(ContextError::DeadlineExceeded));
    });
}

#[test]
fn what_waits_for_a_context_is_started_though_the_runtime_of_its_cancel_ends() {
    for_each_size(|procs| {
        let (ctx, cancel) = with_cancel(&background());
        let (tx, rx) = channel(1);
        drop(context::after_func(&ctx, move || tx.send("ran").unwrap()));
        let rt = builder(procs).build().unwrap();
        let (refused, may_go) = (Arc::new(AtomicBool::new(false)), chan::<()>(0));
        let (said, go_on) = (refused.clone(), may_go.clone());
        rt.go(move || {
            go_on.recv();
            // Until nothing can be started here.
            while std::panic::catch_unwind(|| drop(go(|| ()))).is_ok() {
                gort::yield_now();
            }
            said.store(true, SeqCst);
            cancel();
        });
        may_go.send(());
        assert_eq!(rt.shutdown_timeout(LIMIT), 0);
        assert!(refused.load(SeqCst));
        assert_eq!(rx.recv_timeout(LIMIT), Ok("ran"));
    });
}

#[test]
fn a_function_timer_outlives_the_runtime_that_set_it() {
    for_each_size(|procs| {
        let rt = builder(procs).build().unwrap();
        let ledger = Ledger::default();
        let (tx, rx) = channel(10);
        let set = |d: Duration, what: &'static str| {
            let (tx, token) = (tx.clone(), ledger.token());
            rt.run(|| {
                time::after_func(d, move || {
                    let _token = &token;
                    tx.send(what).unwrap();
                })
            })
        };
        let (soon, stopped, forever, again) =
            (set(SOON, "soon"), set(LONG, "stopped"), set(Duration::MAX, "for ever"), set(LONG, "again"));
        drop(rt);
        assert!(stopped.stop() && !stopped.stop());
        assert_eq!(rx.recv_timeout(LIMIT), Ok("soon"));
        assert!(again.reset(Duration::from_millis(1)), "it was to come");
        assert_eq!(rx.recv_timeout(LIMIT), Ok("again"));
        assert!(!soon.stop() && !again.stop() && forever.stop());
        drop((soon, stopped, forever, again, tx));
        eventually("the functions are dropped", || ledger.dropped() == 4);
        assert_eq!(rx.recv(), None);
    });
}

#[test]
fn a_stop_that_races_with_the_end_has_the_timer_or_its_function_runs() {
    for_each_size(|procs| {
        let mut rng = Rng(procs as u64);
        for _ in 0..if procs == 64 { 20 } else { 100 } {
            let rt = builder(procs).build().unwrap();
            let ran = Arc::new(AtomicUsize::new(0));
            let timers: Vec<_> = (0..20)
                .map(|_| {
                    let (ran, d) = (ran.clone(), Duration::from_micros(rng.below(300) as u64));
                    rt.run(|| time::after_func(d, move || _ = ran.fetch_add(1, SeqCst)))
                })
                .collect();
            let pause = rng.below(300) as u64;
            let stopper = thread::spawn(move || {
                thread::sleep(Duration::from_micros(pause));
                timers.iter().filter(|timer| timer.stop()).count()
            });
            thread::sleep(Duration::from_micros(rng.below(300) as u64));
            drop(rt);
            let stopped = stopper.join().unwrap();
            eventually("each is stopped or runs", || stopped + ran.load(SeqCst) >= 20);
            assert_eq!(stopped + ran.load(SeqCst), 20);
        }
    });
}

/// One step each: whoever has computed for long stops after it.
#[test]
fn the_last_step_of_an_abandoned_goroutine_sets_a_timer_for_others() {
    for_each_size(|procs| {
        let timer = Arc::new(time::Timer::new(LONG));
        let (running, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (tx, rx) = channel(1);
        let rt = builder(procs).build().unwrap();
        let t = timer.clone();
        let steps: [Box<dyn FnOnce() + Send>; 3] = [
            Box::new(move || _ = t.reset(SOON)),
            Box::new(|| drop(time::after_func(SOON, move || tx.send(()).unwrap()))),
            Box::new(|| drop(time::after_func(LONG, || ()))),
        ];
        let steps_taken = steps.len();
        for step in steps {
            let (r, e) = (running.clone(), ended.clone());
            rt.go(move || {
                r.fetch_add(1, SeqCst);
                while !e.load(SeqCst) {
                    std::hint::spin_loop();
                }
                step();
            });
        }
        eventually("they run", || running.load(SeqCst) == steps_taken);
        at_size(procs, || {
            let c = timer.c().clone();
            let waiting = go!(move || c.recv_timeout(LIMIT).is_ok());
            until_parked(&waiting, "chan receive");
            drop(rt);
            ended.store(true, SeqCst);
            assert!(waiting.join().unwrap());
            assert_eq!(rx.recv_timeout(LIMIT), Ok(()));
        });
    });
}
