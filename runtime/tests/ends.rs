//! How runtimes and their threads end: whoever is the last, wherever that is, and nothing of them is left.

mod common;

use common::{builder, eventually};
use gort_scheduler::sched::count;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// These tests count what the process has, so they go one after another.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A runtime whose goroutine holds its thread until something is sent.
fn held(procs: usize) -> (gort::Runtime, gort::JoinHandle<()>, mpsc::Sender<()>) {
    let rt = builder(procs).build().unwrap();
    let (release, released) = mpsc::channel();
    let (begun, begins) = mpsc::channel();
    let holds = rt.go(move || {
        begun.send(()).unwrap();
        _ = released.recv();
    });
    begins.recv().unwrap();
    (rt, holds, release)
}

// -- The last one frees the runtime --

#[test]
fn a_runtime_whose_threads_leave_late_is_freed_by_the_last_of_them() {
    let _alone = alone();
    eventually("earlier runtimes are gone", || count() == 0);
    for procs in common::SIZES {
        for _ in 0..10 {
            let (rt, holds, release) = held(procs);
            assert_eq!(rt.shutdown_timeout(Duration::ZERO), 1);
            assert_eq!(count(), 1, "its thread is still in it");
            release.send(()).unwrap();
            holds.join().unwrap();
            eventually("the last one to leave has freed it", || count() == 0);
        }
    }
}

#[test]
fn a_runtime_with_abandoned_goroutines_leaves_the_list_of_runtimes() {
    let _alone = alone();
    eventually("earlier runtimes are gone", || count() == 0);
    for procs in common::SIZES {
        let rt = builder(procs).build().unwrap();
        let h = rt.go(|| gort::Chan::<()>::nil().recv());
        common::until_parked(&h, "chan receive (nil chan)");
        assert_eq!(rt.shutdown_timeout(Duration::ZERO), 1);
        eventually("nobody looks at it any more", || count() == 0);
        assert!(h.join().is_err());
    }
}

/// Runtimes that end while their threads have no core to leave on: the memory of the process stays as it is.
#[test]
fn runtimes_made_and_dropped_under_load_leave_no_memory_behind() {
    let test = "runtimes_made_and_dropped_under_load_leave_no_memory_behind";
    common::child::in_child(test, &[], || {
        // A few threads more than there are at first, as their stacks and arenas stay.
        let rounds = |n: usize| {
            thread::scope(|s| {
                for _ in 0..4 {
                    s.spawn(|| {
                        for _ in 0..n {
                            let (rt, holds, release) = held(2);
                            drop(rt);
                            // From here on its thread leaves, whenever that is.
                            release.send(()).unwrap();
                            holds.join().unwrap();
                        }
                    });
                }
            });
            eventually("all have left", || count() == 0);
            common::child::memory("VmRSS")
        };
        let before = rounds(50);
        let after = rounds(200);
        // Each of the 800 runtimes is some 70 KB.
        assert!(after < before + (8 << 20), "from {before} to {after} bytes");
    })
    .with_status(0);
}
