//! Go's `sync/cond_test.go`, case by case. Not here: `TestCondCopy`; a condition variable that somebody waits on is
//! borrowed, and cannot be moved.

mod common;

use common::{at_each_size, at_size};
use gort::sync::{Condvar, Mutex};
use gort::{chan, go, yield_now};
use std::sync::Arc;

#[test]
fn test_cond_signal() {
    at_each_size(|| {
        let pair = Arc::new((Mutex::new(()), Condvar::new()));
        let n = 2;
        let (running, awake) = (chan(n), chan(n));
        for _ in 0..n {
            let (pair, running, awake) = (pair.clone(), running.clone(), awake.clone());
            go!(move || {
                let (m, c) = &*pair;
                let mut held = m.lock();
                running.send(true);
                c.wait(&mut held);
                awake.send(true);
            });
        }
        // Wait for everyone to run.
        (0..n).for_each(|_| _ = running.recv());
        let (m, c) = &*pair;
        for _ in 0..n {
            assert!(awake.try_recv().is_err(), "a goroutine is not asleep");
            let held = m.lock();
            assert!(c.notify_one());
            drop(held);
            // Deadlocks if no goroutine wakes up.
            awake.recv();
            assert!(awake.try_recv().is_err(), "too many goroutines are awake");
        }
        assert!(!c.notify_one());
    });
}

#[test]
fn test_cond_signal_generations() {
    at_each_size(|| {
        let pair = Arc::new((Mutex::new(()), Condvar::new()));
        let n = 100;
        let (running, awake) = (chan(n), chan(n));
        for i in 0..n {
            gort::go({
                let (pair, running, awake) = (pair.clone(), running.clone(), awake.clone());
                move || {
                    let (m, c) = &*pair;
                    let mut held = m.lock();
                    running.send(true);
                    c.wait(&mut held);
                    awake.send(i);
                }
            });
            if i > 0 {
                assert_eq!(awake.recv(), Some(i - 1), "the wrong goroutine woke up");
            }
            running.recv();
            let held = pair.0.lock();
            pair.1.notify_one();
            drop(held);
        }
        assert_eq!(awake.recv(), Some(n - 1));
    });
}

#[test]
fn test_cond_broadcast() {
    at_each_size(|| {
        let n = 200;
        let pair = Arc::new((Mutex::new(false), Condvar::new()));
        let (running, awake) = (chan(n), chan(n));
        let waiters: Vec<_> = (0..n)
            .map(|g| {
                let (pair, running, awake) = (pair.clone(), running.clone(), awake.clone());
                go!(move || {
                    let (m, c) = &*pair;
                    let mut exit = m.lock();
                    while !*exit {
                        running.send(g);
                        c.wait(&mut exit);
                        awake.send(g);
                    }
                })
            })
            .collect();
        let (m, c) = &*pair;
        for i in 0..n {
            // Deadlocks unless n are running.
            (0..n).for_each(|_| _ = running.recv());
            if i == n - 1 {
                *m.lock() = true;
            }
            assert!(awake.try_recv().is_err(), "a goroutine is not asleep");
            let held = m.lock();
            assert_eq!(c.notify_all(), n);
            drop(held);
            let mut seen = vec![false; n];
            for _ in 0..n {
                let g = awake.recv().unwrap();
                assert!(!std::mem::replace(&mut seen[g], true), "a goroutine woke up twice");
            }
        }
        waiters.into_iter().for_each(|w| w.join().unwrap());
        assert!(running.try_recv().is_err(), "a goroutine did not exit");
        assert_eq!(c.notify_all(), 0);
    });
}

#[test]
fn test_race() {
    at_each_size(|| {
        let pair = Arc::new((Mutex::new(0), Condvar::new()));
        let first = gort::go({
            let pair = pair.clone();
            move || {
                let (m, c) = &*pair;
                let mut x = m.lock();
                *x = 1;
                c.wait(&mut x);
                assert_eq!(*x, 2);
                *x = 3;
                c.notify_one();
            }
        });
        let second = gort::go({
            let pair = pair.clone();
            move || {
                let (m, c) = &*pair;
                loop {
                    let mut x = m.lock();
                    if *x == 1 {
                        *x = 2;
                        c.notify_one();
                        return;
                    }
                    drop(x);
                    yield_now();
                }
            }
        });
        let third = gort::go({
            let pair = pair.clone();
            move || {
                let (m, c) = &*pair;
                loop {
                    let mut x = m.lock();
                    if *x == 2 {
                        c.wait(&mut x);
                        assert_eq!(*x, 3);
                        return;
                    }
                    if *x == 3 {
                        return;
                    }
                    drop(x);
                    yield_now();
                }
            }
        });
        [first, second, third].into_iter().for_each(|g| g.join().unwrap());
    });
}

/// Go's case, with the first waiter a goroutine or a plain thread.
fn signal_stealing(rounds: usize, first_is_thread: bool) {
    for _ in 0..rounds {
        let pair = Arc::new((Mutex::new(false), Condvar::new()));
        // Start a waiter.
        let ch = chan(0);
        let first = {
            let (pair, ch) = (pair.clone(), ch.clone());
            move || {
                let (m, c) = &*pair;
                let mut held = m.lock();
                ch.send(());
                c.wait(&mut held);
                drop(held);
                ch.send(());
            }
        };
        if first_is_thread {
            std::thread::spawn(first);
        } else {
            go!(first);
        }
        ch.recv();
        let (m, c) = &*pair;
        drop(m.lock());
        // The waiter waits: it had the mutex when it sent, and we have had it since. Now one broadcasts while another
        // begins to wait. The new waiter may be notified or not, but the first one has to be.
        let broadcaster = gort::go({
            let pair = pair.clone();
            move || pair.1.notify_all()
        });
        let second = gort::go({
            let pair = pair.clone();
            move || {
                let (m, c) = &*pair;
                c.wait_while(&mut m.lock(), |done| !*done);
            }
        });
        // The first waiter is notified.
        ch.recv();
        // Release the second one in case it was not.
        *m.lock() = true;
        c.notify_all();
        second.join().unwrap();
        assert!(broadcaster.join().unwrap() >= 1);
    }
}

#[test]
fn test_cond_signal_stealing() {
    at_each_size(|| signal_stealing(1000, false));
}

#[test]
fn test_cond_signal_stealing_from_a_plain_thread() {
    at_size(2, || signal_stealing(200, true));
}
