//! Go's `sync/mutex_test.go`, case by case. Not here: `TestSemaphore`, which is about what Go's mutex is made of, and
//! `TestMutexMisuse`: a guard unlocks once.

mod common;

use common::at_each_size;
use gort::sync::Mutex;
use gort::{Chan, chan, go, select, time};
use std::sync::Arc;
use std::time::Duration;

fn hammer_mutex(m: &Mutex<u64>, loops: usize) -> u64 {
    let mut locked = 0;
    for i in 0..loops {
        if i % 3 == 0 {
            if let Some(mut n) = m.try_lock() {
                *n += 1;
                locked += 1;
            }
            continue;
        }
        *m.lock() += 1;
        locked += 1;
    }
    locked
}

#[test]
fn test_mutex() {
    at_each_size(|| {
        let m = Arc::new(Mutex::new(0));
        let held = m.lock();
        assert!(m.try_lock().is_none(), "try_lock succeeded with the mutex locked");
        drop(held);
        assert!(m.try_lock().is_some(), "try_lock failed with the mutex unlocked");

        let c = chan(0);
        for _ in 0..10 {
            gort::go({
                let (m, c) = (m.clone(), c.clone());
                move || c.send(hammer_mutex(&m, 1000))
            });
        }
        let locked: u64 = (0..10).map(|_| c.recv().unwrap()).sum();
        assert_eq!(*m.lock(), locked);
    });
}

#[test]
fn test_mutex_with_plain_threads() {
    at_each_size(|| {
        let m = Arc::new(Mutex::new(0));
        let c: Chan<u64> = chan(0);
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let m = m.clone();
                std::thread::spawn(move || hammer_mutex(&m, 1000))
            })
            .collect();
        for _ in 0..7 {
            let (m, c) = (m.clone(), c.clone());
            go!(move || c.send(hammer_mutex(&m, 1000)));
        }
        let mut locked: u64 = (0..7).map(|_| c.recv().unwrap()).sum();
        gort::blocking(|| {
            for t in threads {
                locked += t.join().unwrap();
            }
        });
        assert_eq!(*m.lock(), locked);
    });
}

#[test]
fn test_mutex_fairness() {
    at_each_size(|| {
        let mu = Arc::new(Mutex::new(()));
        let stop: Chan<()> = chan(0);
        let hog = gort::go({
            let (mu, stop) = (mu.clone(), stop.clone());
            move || loop {
                let held = mu.lock();
                time::sleep(Duration::from_micros(100));
                drop(held);
                select! {
                    recv(stop) -> _ => return,
                    default => {},
                }
            }
        });
        let done = chan(1);
        gort::go({
            let (mu, done) = (mu.clone(), done.clone());
            move || {
                for _ in 0..10 {
                    time::sleep(Duration::from_micros(100));
                    drop(mu.lock());
                }
                done.send(true);
            }
        });
        select! {
            recv(done) -> _ => {},
            recv(time::after(Duration::from_secs(10))) -> _ => panic!("can't acquire the mutex in 10 seconds"),
        }
        stop.close();
        hog.join().unwrap();
    });
}
