//! How runtimes and their threads end: whoever is the last, wherever that is, and nothing of them is left.

mod common;

use common::{Ledger, builder, eventually, message, panic_message};
use gort::{Runtime, go};
use gort_scheduler::sched::count;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
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

// -- The last handle, wherever it is dropped --

/// Gives `dropper` the last handle to a runtime, on one of its goroutines, at each size; the runtime must be freed. What its join
/// gave.
#[track_caller]
fn last_handle_on_its_own_goroutine<T: Send + 'static>(
    dropper: impl Fn(Arc<Runtime>) -> T + Send + Sync + 'static,
    check: impl Fn(thread::Result<T>),
) {
    let _alone = alone();
    eventually("earlier runtimes are gone", || count() == 0);
    let dropper = Arc::new(dropper);
    for procs in common::SIZES {
        let _watch = common::Watchdog::arm("the last handle");
        for _ in 0..5 {
            let rt = Arc::new(builder(procs).build().unwrap());
            let (ours_is_gone, it_is) = mpsc::channel();
            let (handle, dropper) = (rt.clone(), dropper.clone());
            let h = rt.go(move || {
                it_is.recv().unwrap();
                dropper(handle)
            });
            drop(rt);
            ours_is_gone.send(()).unwrap();
            check(h.join());
            eventually("the runtime is freed", || count() == 0);
        }
    }
}

#[test]
fn a_goroutine_that_drops_the_last_handle_to_its_runtime_goes_on_to_its_next_scheduling_point() {
    last_handle_on_its_own_goroutine(
        |rt| {
            drop(rt);
            let refused = panic_message(|| go(|| ()));
            assert!(refused.contains("has been shut down"), "{refused}");
            42
        },
        |result| assert_eq!(result.unwrap(), 42),
    );
}

#[test]
fn a_goroutine_that_unwinds_may_drop_the_last_handle_to_its_runtime() {
    last_handle_on_its_own_goroutine(
        |rt| -> () {
            let _last = rt;
            panic!("a bug in one goroutine")
        },
        |result| assert_eq!(message(&*result.unwrap_err()), "a bug in one goroutine"),
    );
}

/// Where a guard ends, a goroutine that has been asked to give way meanwhile does so: it is abandoned then.
fn went_on_or_was_abandoned(result: thread::Result<()>) {
    if let Err(payload) = result {
        assert_eq!(message(&*payload), "the goroutine's runtime was shut down");
    }
}

#[test]
fn a_goroutine_that_must_not_be_suspended_may_drop_the_last_handle_to_its_runtime() {
    last_handle_on_its_own_goroutine(
        |rt| {
            let _stay = gort::no_suspend();
            drop(rt);
        },
        went_on_or_was_abandoned,
    );
}

#[test]
fn a_locked_goroutine_may_drop_the_last_handle_to_its_runtime() {
    last_handle_on_its_own_goroutine(
        |rt| {
            let _mine = gort::lock_os_thread();
            drop(rt);
        },
        |result| result.unwrap(),
    );
}

#[test]
fn the_last_handle_may_go_in_a_blocking_call() {
    // Back from the call the goroutine may have to wait for a P, and then it is abandoned.
    last_handle_on_its_own_goroutine(|rt| gort::blocking(|| drop(rt)), |_| ());
}

#[test]
fn the_last_handle_may_be_in_a_local_of_the_goroutine() {
    gort::goroutine_local! {
        static HELD: Mutex<Option<Arc<Runtime>>> = Mutex::new(None);
    }
    last_handle_on_its_own_goroutine(
        |rt| HELD.with(|held| *held.lock().unwrap() = Some(rt)),
        |result| result.unwrap(),
    );
}

#[test]
fn the_last_handle_may_be_in_a_result_that_nobody_takes() {
    let _alone = alone();
    for procs in common::SIZES {
        let rt = Arc::new(builder(procs).build().unwrap());
        let (ours_is_gone, it_is) = mpsc::channel();
        let handle = rt.clone();
        drop(rt.go(move || {
            it_is.recv().unwrap();
            handle
        }));
        drop(rt);
        ours_is_gone.send(()).unwrap();
        eventually("the runtime is freed", || count() == 0);
    }
}

#[test]
fn the_last_handle_may_be_with_a_timer_of_the_runtime() {
    let _alone = alone();
    for procs in common::SIZES {
        let rt = Arc::new(builder(procs).build().unwrap());
        let (fired, fires) = mpsc::channel();
        let mut last = Some(rt.clone());
        rt.run(move || {
            gort::time::after_func(Duration::from_millis(1), move || {
                // Not before the other handle is gone.
                thread::sleep(Duration::from_millis(2));
                drop(last.take());
                fired.send(()).unwrap();
            });
        });
        drop(rt);
        fires.recv().unwrap();
        eventually("the runtime is freed", || count() == 0);
    }
}

#[test]
fn what_never_ran_is_dropped_by_the_end_that_a_goroutine_brings() {
    let ledger = Ledger::default();
    let seen = ledger.clone();
    last_handle_on_its_own_goroutine(
        move |rt| {
            for _ in 0..100 {
                let token = ledger.token();
                // Most do not come to run; those that do wait, and keep nothing.
                drop(rt.go(move || drop(token)));
            }
            drop(rt);
        },
        |result| result.unwrap(),
    );
    eventually("all are dropped", || seen.dropped() == seen.made());
    seen.assert_settled();
}

#[test]
fn a_runtime_may_be_dropped_by_a_goroutine_of_another_that_unwinds_blocks_or_must_not_be_suspended() {
    let _alone = alone();
    for procs in common::SIZES {
        let _watch = common::Watchdog::arm("dropped on another one's goroutine");
        let outer = builder(procs).build().unwrap();
        let inner = move || {
            let rt = builder(procs).build().unwrap();
            let h = rt.go(|| gort::time::sleep(Duration::from_millis(1)));
            h.join().unwrap();
            rt
        };
        let unwinds = outer.go(move || {
            let _rt = inner();
            panic!("on the way out");
        });
        assert_eq!(message(&*unwinds.join().unwrap_err()), "on the way out");
        outer.go(move || gort::blocking(|| drop(inner()))).join().unwrap();
        outer
            .go(move || {
                let rt = inner();
                let _stay = gort::no_suspend();
                drop(rt);
            })
            .join()
            .unwrap();
        drop(outer);
        eventually("all are freed", || count() == 0);
    }
}

#[test]
fn a_runtime_may_be_dropped_in_a_destructor_of_a_thread_local() {
    thread_local! {
        static RUNTIME: Cell<Option<Runtime>> = const { Cell::new(None) };
    }
    let _alone = alone();
    for procs in common::SIZES {
        thread::spawn(move || {
            let rt = builder(procs).build().unwrap();
            rt.go(gort::yield_now).join().unwrap();
            drop(rt.go(|| gort::Chan::<()>::nil().recv()));
            RUNTIME.set(Some(rt));
        })
        .join()
        .unwrap();
        eventually("the runtime has ended", || count() == 0);
    }
}

#[test]
fn shutting_down_on_an_own_goroutine_panics_and_ends_the_runtime() {
    last_handle_on_its_own_goroutine(
        |rt| {
            let rt = Arc::into_inner(rt).unwrap();
            let text = panic_message(AssertUnwindSafe(|| rt.shutdown_timeout(Duration::from_secs(1))));
            assert!(text.contains("by one of its own goroutines"), "{text}");
        },
        |result| result.unwrap(),
    );
}

/// The wait of a goroutine that a deadlock has ended lies in the queue for longer than its runtime lives.
#[test]
fn a_channel_outlives_the_runtime_of_a_deadlock() {
    let test = "a_channel_outlives_the_runtime_of_a_deadlock";
    common::child::in_child(test, &[("GORT_OTHER_THREADS", "idle")], || {
        let ch = gort::chan::<Box<u32>>(0);
        for _ in 0..20 {
            let rt = builder(2).build().unwrap();
            let text = panic_message(|| rt.run(|| ch.recv()));
            assert!(text.contains("deadlock"), "{text}");
            drop(rt);
            eventually("the runtime is freed", || count() == 0);
        }
        assert!(catch_unwind(|| ch.try_send(Box::new(1))).unwrap().is_err(), "nobody waits");
        let taken = thread::spawn({
            let ch = ch.clone();
            move || ch.recv()
        });
        ch.send(Box::new(2));
        assert_eq!(taken.join().unwrap(), Some(Box::new(2)));
    })
    .with_status(0);
}

// -- Goroutines that end with their threads locked --

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// So many goroutines end, one after another, with their threads locked.
fn end_locked(n: usize) {
    for _ in 0..n {
        go(|| std::mem::forget(gort::lock_os_thread())).join().unwrap();
    }
}

#[test]
#[cfg(target_env = "gnu")]
fn the_threads_of_goroutines_that_end_locked_end() {
    let test = "the_threads_of_goroutines_that_end_locked_end";
    common::child::in_child(test, &[("GORT_MAX_THREADS", "20")], || {
        end_locked(100);
        let (before, memory, maps) = (threads(), common::child::memory("VmRSS"), mappings());
        end_locked(1000);
        eventually("their threads are gone", || threads() <= before + 2);
        let left = common::child::memory("VmRSS").saturating_sub(memory) / 1000;
        assert!(left <= 16 << 10, "{left} bytes are left of each");
        let left = mappings().saturating_sub(maps);
        assert!(left <= 1500, "{left} mappings are left of 1000");
    })
    .with_status(0);
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// The C library goes through its list of threads in a child of `fork`, and where all threads change user.
#[test]
#[cfg(target_env = "gnu")]
fn the_process_goes_on_after_goroutines_that_end_locked() {
    common::child::in_child("the_process_goes_on_after_goroutines_that_end_locked", &[], || {
        end_locked(200);
        let threads_work = || {
            let all: Vec<_> = (0..50).map(|n| thread::spawn(move || n)).collect();
            all.into_iter().map(|t| t.join().unwrap()).sum::<i32>() == 1225
        };
        // SAFETY: the calls take numbers. The child has one thread, and uses only what the C library makes good
        // after a fork.
        unsafe {
            assert_eq!(libc::setuid(libc::getuid()), 0);
            let child = libc::fork();
            if child == 0 {
                libc::_exit(if threads_work() { 42 } else { 1 });
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 42), "{status:#x}");
        }
        assert!(threads_work());
        end_locked(200);
    })
    .with_status(0);
}

/// Code that keeps a reference to a variable of its thread over a wait reads that variable, also if the thread has ended meanwhile.
#[test]
#[expect(clippy::disallowed_methods, reason = "that is what is tested")]
fn a_threads_variables_outlive_a_goroutine_that_ends_locked() {
    struct Value(Vec<u64>);
    impl Drop for Value {
        fn drop(&mut self) {
            panic!("the variable of a thread that others may look at is dropped");
        }
    }
    thread_local! {
        static VALUE: Value = Value((0..1000).collect());
    }
    let test = "a_threads_variables_outlive_a_goroutine_that_ends_locked";
    common::child::in_child(test, &[], || {
        let rt = Runtime::builder().max_procs(1).build().unwrap();
        rt.run(|| {
            for _ in 0..50 {
                VALUE.with(|value| {
                    let before = thread::current().id();
                    // With one P it runs here, where this one waits.
                    end_locked(1);
                    end_locked(3);
                    assert_ne!(thread::current().id(), before, "the thread was not used again");
                    assert!(value.0.iter().copied().eq(0..1000));
                });
            }
        });
    })
    .with_status(0);
}

#[test]
fn a_goroutine_that_ends_locked_leaves_its_runtime_whole() {
    let _alone = alone();
    for procs in common::SIZES {
        let rt = builder(procs).build().unwrap();
        rt.run(|| end_locked(20));
        assert_eq!(rt.shutdown_timeout(Duration::from_secs(20)), 0);
        eventually("the runtime is freed", || count() == 0);
    }
}

#[test]
fn the_limit_of_threads_says_what_has_them() {
    let ended = common::child::in_child("the_limit_of_threads_says_what_has_them", &[], || {
        let rt = Runtime::builder().max_procs(2).max_threads(12).build().unwrap();
        rt.run(|| {
            for _ in 0..4 {
                let (locked, is) = (gort::chan::<()>(0), gort::chan::<()>(0));
                let tell = is.clone();
                go(move || {
                    let _mine = gort::lock_os_thread();
                    tell.send(());
                    locked.recv();
                });
                is.recv();
            }
            for _ in 0..20 {
                go(|| gort::blocking(|| thread::sleep(Duration::from_secs(60))));
            }
            gort::time::sleep(Duration::from_secs(60));
        });
    });
    let ended = ended.with_status(2).says(1, "more than 12 OS threads (`max_threads`)");
    let line = ended.line("thread exhaustion");
    let calls: usize =
        line.split(" are in blocking calls").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    // One may have been about to sleep for want of work.
    assert!((6..=8).contains(&calls) && line.contains("4 are locked to a goroutine"), "{line}");
}
