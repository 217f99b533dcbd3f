//! Go's `sync/rwmutex_test.go`, case by case. Its `RLocker` is `read` here.

mod common;

use common::{at_each_size, at_size};
use gort::sync::RwLock;
use gort::{Chan, chan, go, select};
use std::hint::black_box;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

fn do_test_parallel_readers(readers: usize, procs: usize) {
    at_size(procs, || {
        let m = Arc::new(RwLock::new(()));
        let (clocked, cunlock, cdone): (Chan<()>, Chan<()>, Chan<()>) = (chan(0), chan(0), chan(0));
        for _ in 0..readers {
            let (m, clocked, cunlock, cdone) = (m.clone(), clocked.clone(), cunlock.clone(), cdone.clone());
            go!(move || {
                let held = m.read();
                clocked.send(());
                cunlock.recv();
                drop(held);
                cdone.send(());
            });
        }
        // Wait for all parallel reads to succeed.
        (0..readers).for_each(|_| _ = clocked.recv());
        (0..readers).for_each(|_| cunlock.send(()));
        (0..readers).for_each(|_| _ = cdone.recv());
    });
}

#[test]
fn test_parallel_readers() {
    do_test_parallel_readers(1, 4);
    do_test_parallel_readers(3, 4);
    do_test_parallel_readers(4, 2);
}

fn reader(rwm: &RwLock<()>, iterations: usize, activity: &AtomicI32) {
    for _ in 0..iterations {
        let held = rwm.read();
        let n = activity.fetch_add(1, SeqCst) + 1;
        assert!((1..10_000).contains(&n), "read with {n}");
        (0..100).for_each(|i| _ = black_box(i));
        activity.fetch_sub(1, SeqCst);
        drop(held);
    }
}

fn writer(rwm: &RwLock<()>, iterations: usize, activity: &AtomicI32) {
    for _ in 0..iterations {
        let held = rwm.write();
        let n = activity.fetch_add(10_000, SeqCst) + 10_000;
        assert_eq!(n, 10_000, "written with {n}");
        (0..100).for_each(|i| _ = black_box(i));
        activity.fetch_sub(10_000, SeqCst);
        drop(held);
    }
}

/// Two writers among the readers, the last `threads` of which are plain threads.
fn hammer_rwmutex(procs: usize, readers: usize, threads: usize, iterations: usize) {
    at_size(procs, || {
        // Readers in it + 10000 * writers in it.
        let activity = Arc::new(AtomicI32::new(0));
        let rwm = Arc::new(RwLock::new(()));
        let cdone: Chan<bool> = chan(0);
        let hammer = |who: fn(&RwLock<()>, usize, &AtomicI32)| {
            let (rwm, activity, cdone) = (rwm.clone(), activity.clone(), cdone.clone());
            move || {
                let fine = catch_unwind(AssertUnwindSafe(|| who(&rwm, iterations, &activity)));
                cdone.send(fine.is_ok());
            }
        };
        let start = |f| _ = gort::go(f);
        start(hammer(writer));
        for _ in 0..readers / 2 {
            start(hammer(reader));
        }
        start(hammer(writer));
        for _ in readers / 2..readers {
            start(hammer(reader));
        }
        for i in 0..threads {
            std::thread::spawn(hammer(if i == 0 { writer } else { reader }));
        }
        for _ in 0..2 + readers + threads {
            assert_eq!(cdone.recv(), Some(true));
        }
        assert!(!rwm.is_locked());
    });
}

#[test]
fn test_rwmutex() {
    at_each_size(|| {
        let m = RwLock::new(());
        let held = m.write();
        assert!(m.try_write().is_none(), "try_write succeeded with the lock written");
        assert!(m.try_read().is_none(), "try_read succeeded with the lock written");
        drop(held);

        assert!(m.try_write().is_some(), "try_write failed with the lock open");
        let one = m.try_read().expect("the lock is open");
        let other = m.try_read().expect("the lock is read");
        assert!(m.try_write().is_none(), "try_write succeeded with the lock read");
        drop((one, other));
        assert!(!m.is_locked());
    });
    for (procs, readers) in
        [(1, 1), (1, 3), (1, 10), (4, 1), (4, 3), (4, 10), (10, 1), (10, 3), (10, 10), (10, 5)]
    {
        hammer_rwmutex(procs, readers, 0, 1000);
    }
}

#[test]
fn test_rwmutex_with_plain_threads() {
    for procs in [1, 2, 4, 64] {
        hammer_rwmutex(procs, 5, 3, 1000);
    }
}

#[test]
fn test_rlocker() {
    at_each_size(|| {
        let wl = Arc::new(RwLock::new(()));
        let (wlocked, rlocked) = (chan::<()>(1), chan::<()>(1));
        let n = 10;
        // Go's goroutine locks, and the test unlocks: here the guard is left behind for that.
        let other = gort::go({
            let (wl, wlocked, rlocked) = (wl.clone(), wlocked.clone(), rlocked.clone());
            move || {
                for _ in 0..n {
                    forget(wl.read());
                    forget(wl.read());
                    rlocked.send(());
                    forget(wl.write());
                    wlocked.send(());
                }
            }
        });
        for _ in 0..n {
            rlocked.recv();
            // SAFETY: the other goroutine has left two read locks behind.
            unsafe { wl.force_unlock_read() };
            select! {
                recv(wlocked) -> _ => panic!("it was not locked for reading"),
                default => {},
            }
            // SAFETY: as above.
            unsafe { wl.force_unlock_read() };
            wlocked.recv();
            select! {
                recv(rlocked) -> _ => panic!("the write lock was not respected"),
                default => {},
            }
            // SAFETY: the other goroutine has left the write lock behind.
            unsafe { wl.force_unlock_write() };
        }
        other.join().unwrap();
    });
}
