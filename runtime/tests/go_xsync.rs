//! The tests of Go's `x/sync`: `errgroup`, `semaphore`, `singleflight`, under the same names.
//!
//! Differs from Go: a semaphore has no size, since more may be released than was ever there, so `Acquire` of too much waits in the
//! queue like every other (`DoesntBlockIfTooBig` is about the opposite; here the promise is that it goes on when enough is
//! released), and releasing too much is an overflow of the counter (`TestWeightedPanic`). `Wait` of a group raises a panic of its
//! goroutines again, where Go's process would have ended.
//!
//! Left out, with the reason: `DoChan` and what is about it: `go!` and a channel do it; `GoexitDo`: there is no Goexit;
//! `ForgetUnshared`: x/sync has none.

mod common;

use common::{at_each_size, on_both, panic_message, until_parked};
use gort::context::{Cause, ContextError, background, cause, with_cancel, with_timeout};
use gort::sync::{ErrGroup, Semaphore, SingleFlight, WaitGroup};
use gort::{chan, go, max_procs, select, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

fn error(text: &str) -> Cause {
    Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(text))
}

// -- errgroup --

#[test]
fn test_zero_group() {
    on_both(|| {
        let cases: [&[Option<u32>]; 6] = [
            &[],
            &[None],
            &[Some(1)],
            &[Some(1), None],
            &[Some(1), None, Some(2)],
            &[None, Some(2), Some(1)],
        ];
        for errors in cases {
            let g = ErrGroup::new();
            let mut first = None;
            for &e in errors {
                g.go(move || e.map_or(Ok(()), Err));
                // One after the other, so that it is clear which is the first.
                first = first.or(e);
                let got = g.wait();
                assert_eq!(got.err(), e);
            }
            let g = ErrGroup::new();
            for &e in errors {
                g.go(move || e.map_or(Ok(()), Err));
            }
            let got = g.wait().err();
            assert_eq!(got.is_some(), first.is_some());
            assert!(got.is_none() || errors.contains(&got));
        }
    });
}

#[test]
fn test_with_context() {
    on_both(|| {
        let doom = "group_test: doomed";
        for (errors, want) in [(vec![], None), (vec![None], None), (vec![Some(doom)], Some(doom))] {
            let (g, ctx) = ErrGroup::with_context(&background());
            for e in errors {
                g.go(move || e.map_or(Ok(()), Err));
            }
            assert_eq!(g.wait().err(), want);
            // It is cancelled by the first error, or by the end of the wait.
            assert_eq!(ctx.err(), Some(ContextError::Canceled));
            assert!(ctx.done().recv().is_none());
        }
    });
}

#[test]
fn test_try_go() {
    on_both(|| {
        let g = ErrGroup::<()>::new();
        const N: usize = 42;
        g.set_limit(N);
        let ch = chan::<()>(0);
        let waits = || {
            let ch = ch.clone();
            move || {
                ch.recv();
                Ok(())
            }
        };
        for n in 0..N {
            assert!(g.try_go(waits()), "TryGo should succeed but got refused at the {n}-th call");
        }
        assert!(!g.try_go(waits()), "TryGo is expected to fail but succeeded");
        ch.close();
        g.wait().unwrap();

        assert!(g.try_go(|| Ok(())));
        g.wait().unwrap();

        g.set_limit(1);
        let ch = chan::<()>(0);
        assert!(g.try_go({
            let ch = ch.clone();
            move || {
                ch.recv();
                Ok(())
            }
        }));
        assert!(!g.try_go(|| Ok(())));
        ch.send(());
        g.wait().unwrap();

        g.set_limit(0);
        for _ in 0..1 << 10 {
            assert!(!g.try_go(|| Ok(())));
        }
        g.wait().unwrap();
    });
}

#[test]
fn test_go_limit() {
    on_both(|| {
        const LIMIT: isize = 10;
        let g = ErrGroup::<String>::new();
        g.set_limit(LIMIT as usize);
        let active = Arc::new(AtomicIsize::new(0));
        for _ in 0..=1 << 10 {
            let active = active.clone();
            g.go(move || {
                let n = active.fetch_add(1, SeqCst) + 1;
                if n > LIMIT {
                    return Err(format!("saw {n} active goroutines; want ≤ {LIMIT}"));
                }
                yield_now();
                active.fetch_sub(1, SeqCst);
                Ok(())
            });
        }
        g.wait().unwrap();
    });
}

#[test]
fn test_cancel_cause() {
    on_both(|| {
        let doom = error("group_test: doomed");
        for (errors, want) in [
            (vec![], "context canceled"),
            (vec![None], "context canceled"),
            (vec![Some(doom.clone()), None], "group_test: doomed"),
        ] {
            let (g, ctx) = ErrGroup::<Cause>::with_context(&background());
            for e in errors {
                g.try_go(move || e.map_or(Ok(()), Err));
            }
            let _ = g.wait();
            assert_eq!(cause(&ctx).unwrap().to_string(), want);
        }
    });
}

#[test]
fn test_panic() {
    on_both(|| {
        let (g, ctx) = ErrGroup::<u32>::with_context(&background());
        g.go(|| panic!("group_test: panic"));
        let done = ctx.done();
        g.go(move || {
            done.recv();
            Err(1)
        });
        assert_eq!(panic_message(|| g.wait()), "group_test: panic");
        assert_eq!(g.wait(), Ok(()));
    });
}

// -- semaphore --

fn hammer(sem: &Semaphore, n: usize, loops: usize) {
    for _ in 0..loops {
        sem.acquire(n);
        yield_now();
        sem.release(n);
    }
}

#[test]
fn test_weighted() {
    at_each_size(|| {
        let n = max_procs();
        let loops = 2000 / n;
        let sem = Arc::new(Semaphore::new(n));
        let wg = WaitGroup::new();
        for i in 0..n {
            let sem = sem.clone();
            wg.go(move || hammer(&sem, i, loops));
        }
        wg.wait();
        assert_eq!(sem.available(), n);
    });
}

#[test]
fn test_weighted_panic() {
    on_both(|| {
        let sem = Semaphore::new(1);
        assert_eq!(panic_message(|| sem.release(usize::MAX)), "semaphore: too many permits");
        assert_eq!(sem.available(), 1);
    });
}

#[test]
fn test_weighted_try_acquire() {
    on_both(|| {
        let sem = Semaphore::new(2);
        let mut tries = vec![sem.try_acquire(1)];
        tries.push({
            sem.acquire(1);
            sem.try_acquire(1)
        });
        sem.release(2);
        tries.push(sem.try_acquire(1));
        tries.push({
            sem.acquire(1);
            sem.try_acquire(1)
        });
        assert_eq!(tries, [true, false, true, false]);
    });
}

#[test]
fn test_weighted_acquire() {
    on_both(|| {
        let sem = Semaphore::new(2);
        let try_acquire = |n| {
            let (ctx, _cancel) = with_timeout(&background(), Duration::from_millis(10));
            sem.acquire_context(n, &ctx).is_ok()
        };
        let mut tries = vec![try_acquire(1)];
        sem.acquire(1);
        tries.push(try_acquire(1));
        sem.release(2);
        tries.push(try_acquire(1));
        sem.acquire(1);
        tries.push(try_acquire(1));
        assert_eq!(tries, [true, false, true, false]);
    });
}

#[test]
fn test_weighted_doesnt_block_if_too_big() {
    // Here it does: see the head of the file. A context, or enough permits, end it.
    on_both(|| {
        const N: usize = 2;
        let sem = Arc::new(Semaphore::new(N));
        let (ctx, cancel) = with_cancel(&background());
        let too_big = go({
            let (sem, ctx) = (sem.clone(), ctx.clone());
            move || sem.acquire_context(N + 1, &ctx)
        });
        until_parked(&too_big, "semacquire");
        let g = ErrGroup::<()>::new();
        for _ in 0..6 {
            let sem = sem.clone();
            g.go(move || {
                sem.acquire(1);
                yield_now();
                sem.release(1);
                Ok(())
            });
        }
        cancel();
        g.wait().unwrap();
        assert_eq!(too_big.join().unwrap(), Err(ContextError::Canceled));
        assert_eq!(sem.available(), N);
    });
}

#[test]
fn test_large_acquire_doesnt_starve() {
    at_each_size(|| {
        let n = max_procs();
        let sem = Arc::new(Semaphore::new(n));
        let running = Arc::new(AtomicUsize::new(1));
        let wg = WaitGroup::new();
        for _ in 0..n {
            sem.acquire(1);
            let (sem, running) = (sem.clone(), running.clone());
            wg.go(move || {
                while running.load(SeqCst) == 1 {
                    yield_now();
                    sem.release(1);
                    sem.acquire(1);
                }
                sem.release(1);
            });
        }
        sem.acquire(n);
        running.store(0, SeqCst);
        sem.release(n);
        wg.wait();
        assert_eq!(sem.available(), n);
    });
}

#[test]
fn test_alloc_cancel_doesnt_starve() {
    on_both(|| {
        let sem = Arc::new(Semaphore::new(10));
        // Something is held, so that the big one waits.
        sem.acquire(1);
        let (ctx, cancel) = with_cancel(&background());
        let big = go({
            let sem = sem.clone();
            move || sem.acquire_context(10, &ctx)
        });
        until_parked(&big, "semacquire");
        let small = go({
            let sem = sem.clone();
            move || sem.acquire(1)
        });
        until_parked(&small, "semacquire");
        assert!(!small.is_finished() && !sem.try_acquire(1));
        // The big one goes away, and the small one need wait for nobody.
        cancel();
        small.join().unwrap();
        assert!(big.join().unwrap().is_err());
        assert_eq!(sem.available(), 8);
    });
}

// -- singleflight --

#[test]
fn test_do() {
    on_both(|| {
        let g = SingleFlight::new();
        assert_eq!(g.call("key", || "bar"), ("bar", false));
    });
}

#[test]
fn test_do_err() {
    on_both(|| {
        let g = SingleFlight::<&str, Result<(), &str>>::new();
        assert_eq!(g.call("key", || Err("Some error")), (Err("Some error"), false));
    });
}

#[test]
fn test_do_dup_suppress() {
    on_both(|| {
        const N: usize = 10;
        let g = Arc::new(SingleFlight::new());
        let (calls, ch) = (Arc::new(AtomicU32::new(0)), chan::<String>(0));
        let callers: Vec<_> = (0..N)
            .map(|_| {
                let (g, calls, ch) = (g.clone(), calls.clone(), ch.clone());
                go(move || {
                    g.call("key", || {
                        calls.fetch_add(1, SeqCst);
                        ch.recv().unwrap()
                    })
                })
            })
            .collect();
        common::eventually("all but one wait for the one", || {
            let list = gort_scheduler::proc::goroutines();
            let waits =
                |c: &gort::JoinHandle<_>, reason| list.iter().any(|g| g.id == c.id() && g.state == reason);
            let count = |reason| callers.iter().filter(|c| waits(c, reason)).count();
            count("chan receive") == 1 && count("singleflight.Group.Do") == N - 1
        });
        ch.send("bar".to_owned());
        for caller in callers {
            assert_eq!(caller.join().unwrap(), ("bar".to_owned(), true));
        }
        assert_eq!(calls.load(SeqCst), 1);
    });
}

#[test]
fn test_forget() {
    on_both(|| {
        let g = Arc::new(SingleFlight::new());
        let (started, unblock) = (chan::<()>(0), chan::<()>(0));
        let first = go({
            let (g, started, unblock) = (g.clone(), started.clone(), unblock.clone());
            move || {
                g.call("key", || {
                    started.close();
                    unblock.recv();
                    1
                })
            }
        });
        started.recv();
        g.forget(&"key");
        let (begun, unblock_second) = (chan::<()>(0), chan::<()>(0));
        let second = go({
            let (g, begun, unblock) = (g.clone(), begun.clone(), unblock_second.clone());
            move || {
                g.call("key", || {
                    begun.close();
                    unblock.recv();
                    2
                })
            }
        });
        begun.recv();
        unblock.close();
        assert_eq!(first.join().unwrap(), (1, false));
        // The first one did not take the second out of the table.
        let third = go({
            let g = g.clone();
            move || g.call("key", || 3)
        });
        until_parked(&third, "singleflight.Group.Do");
        unblock_second.close();
        assert_eq!((second.join().unwrap(), third.join().unwrap()), ((2, true), (2, true)));
        assert_eq!(g.call("key", || 4), (4, false));
    });
}

#[test]
fn test_panic_do() {
    on_both(|| {
        const N: usize = 5;
        let g = Arc::new(SingleFlight::<&str, u32>::new());
        let ch = chan::<()>(0);
        let (waiting, panics) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let callers: Vec<_> = (0..N)
            .map(|_| {
                let (g, ch, waiting, panics) = (g.clone(), ch.clone(), waiting.clone(), panics.clone());
                go(move || {
                    waiting.fetch_add(1, SeqCst);
                    let message = panic_message(|| {
                        g.call("key", || {
                            ch.recv();
                            panic!("invalid memory address")
                        })
                    });
                    assert_eq!(message, "invalid memory address");
                    panics.fetch_add(1, SeqCst);
                })
            })
            .collect();
        common::eventually("all have called", || waiting.load(SeqCst) == N);
        ch.close();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert_eq!(panics.load(SeqCst), N);
        // The key is free again.
        assert_eq!(g.call("key", || 1), (1, false));
    });
}

#[test]
fn test_a_call_that_waits_for_itself_panics() {
    on_both(|| {
        let g = SingleFlight::<u8, u8>::new();
        let message = panic_message(|| g.call(1, || g.call(1, || 2).0));
        assert_eq!(message, "single flight: a call waits for itself");
        assert_eq!(g.call(1, || g.call(2, || 3).0), (3, false));
    });
}

#[test]
fn test_values_need_not_be_sync() {
    on_both(|| {
        use std::cell::Cell;
        let g = Arc::new(SingleFlight::<u8, Cell<u8>>::new());
        let ch = chan::<()>(0);
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let (g, ch) = (g.clone(), ch.clone());
                go(move || {
                    g.call(1, || {
                        ch.recv();
                        Cell::new(7)
                    })
                    .0
                    .get()
                })
            })
            .collect();
        ch.close();
        select! { recv(ch) -> _ => {}, }
        callers.into_iter().for_each(|caller| assert_eq!(caller.join().unwrap(), 7));
    });
}
