//! The program's allocator refuses: each operation then ends in an error, in a panic that can be caught, or in a message of ours
//! with a status, and what runs beside it goes on. Each allocation of an operation is refused in turn, until none is left.

mod common;

use common::child::{Ended, in_child};
use gort::time::{after, after_func, sleep};
use gort::{Builder, Chan, Runtime, chan, go};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

struct Refusing;

/// Allocations that are granted before the refusal; `OFF` for all.
static GRANTED: AtomicUsize = AtomicUsize::new(OFF);
const OFF: usize = usize::MAX;
/// The thread whose allocations count; 0 for all.
static THREAD: AtomicI32 = AtomicI32::new(0);
/// Whether all that come after are refused as well.
static FOR_GOOD: AtomicBool = AtomicBool::new(false);
/// All that are larger are refused as well, on all threads.
static LARGEST: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Refusals so far.
static REFUSED: AtomicUsize = AtomicUsize::new(0);

fn refuses(bytes: usize) -> bool {
    if bytes > LARGEST.load(SeqCst) {
        return true;
    }
    let left = GRANTED.load(SeqCst);
    if left == OFF {
        return false;
    }
    let thread = THREAD.load(SeqCst);
    // SAFETY: takes nothing and cannot fail.
    if thread != 0 && thread != unsafe { libc::gettid() } {
        return false;
    }
    let next = if left > 0 {
        left - 1
    } else if FOR_GOOD.load(SeqCst) {
        0
    } else {
        OFF
    };
    if GRANTED.compare_exchange(left, next, SeqCst, SeqCst).is_err() {
        return refuses(bytes);
    }
    REFUSED.fetch_add(usize::from(left == 0), SeqCst);
    left == 0
}

// SAFETY: the system's allocator, or null.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        if refuses(layout.size()) { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(p, layout) };
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        if refuses(size) { std::ptr::null_mut() } else { unsafe { System.realloc(p, layout, size) } }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// Does `op` with an allocation of this thread refused, the one after `n`, or all from there on. Whether one was.
fn refusing<T>(n: usize, for_good: bool, op: impl FnOnce() -> T) -> (bool, T) {
    let before = REFUSED.load(SeqCst);
    FOR_GOOD.store(for_good, SeqCst);
    // SAFETY: takes nothing and cannot fail.
    THREAD.store(unsafe { libc::gettid() }, SeqCst);
    GRANTED.store(n, SeqCst);
    let value = op();
    GRANTED.store(OFF, SeqCst);
    (REFUSED.load(SeqCst) > before, value)
}

/// A goroutine that was there before, and answers.
struct Bystander(Chan<u32>, Chan<u32>);

impl Bystander {
    fn begin() -> Bystander {
        let (ask, answer) = (chan(0), chan(0));
        let (asked, answers) = (ask.clone(), answer.clone());
        go!(move || {
            while let Some(n) = asked.recv() {
                answers.send(n + 1);
            }
        });
        Bystander(ask, answer)
    }

    fn is_well(&self) {
        self.0.send(1);
        assert_eq!(self.1.recv(), Some(2));
    }
}

/// How often an allocation is refused that fails an operation.
const TIMES: usize = 8;

/// Refuses each allocation of `op` in turn. It gives whether it has failed, in a way that it can tell. What a failure leaves to be
/// used, the next call need not allocate; so each is refused some times.
fn in_turn(op: impl Fn() -> bool) {
    let bystander = Bystander::begin();
    bystander.is_well();
    let mut failed = 0;
    for n in 0.. {
        for _ in 0..TIMES {
            let (refused, outcome) = refusing(n, false, || catch_unwind(AssertUnwindSafe(&op)));
            bystander.is_well();
            let ok = match outcome {
                Ok(ok) => ok,
                Err(payload) => {
                    let text = payload.downcast_ref::<String>().expect("a message of ours");
                    assert!(text.contains("no memory for"), "{text}");
                    false
                }
            };
            assert!(ok || refused, "it failed by itself");
            failed += usize::from(!ok);
            if !refused {
                eprintln!("{n} allocations, {failed} failures");
                return;
            }
            if ok {
                break;
            }
        }
    }
}

/// It has ended by itself, and nothing has spoken but this library.
#[track_caller]
fn ended_well(ended: Ended) -> Ended {
    ended.with_status(0).says(0, "memory allocation of").says(1, " failures\n")
}

const ONE_P: (&str, &str) = ("GORT_MAXPROCS", "1");

fn big(n: usize) -> [usize; 40] {
    black_box([n; 40])
}

#[test]
fn a_spawn_that_is_refused_memory_is_an_error_or_a_panic_and_harms_nobody() {
    let test = "a_spawn_that_is_refused_memory_is_an_error_or_a_panic_and_harms_nobody";
    ended_well(in_child(test, &[ONE_P], || {
        gort::run(|| {
            in_turn(|| {
                let big = big(1);
                // More than any list has room for.
                let all = chan::<()>(0);
                let mut handles: [Option<gort::JoinHandle<usize>>; 300] = [const { None }; 300];
                let mut ok = true;
                for place in &mut handles {
                    let gate = all.clone();
                    let spawned = Builder::new().go(move || {
                        gate.recv();
                        big[39]
                    });
                    match spawned {
                        Ok(handle) => *place = Some(handle),
                        Err(e) => {
                            assert_eq!(e.kind(), ErrorKind::OutOfMemory);
                            assert!(e.to_string().contains("no memory for"), "{e}");
                            ok = false;
                            break;
                        }
                    }
                }
                all.close();
                for handle in handles.into_iter().flatten() {
                    assert_eq!(handle.join().unwrap(), 1);
                }
                ok
            });
        });
    }))
    .says(0, "fatal error");
}

#[test]
fn a_go_that_is_refused_memory_panics_with_what_there_was_none_for() {
    let test = "a_go_that_is_refused_memory_panics_with_what_there_was_none_for";
    ended_well(in_child(test, &[ONE_P], || {
        gort::run(|| {
            in_turn(|| {
                let big = big(1);
                go!(move || big[39]).join().unwrap() == 1
            });
        });
    }));
}

#[test]
fn a_result_that_there_is_no_memory_for_is_said_to_be_lost() {
    let test = "a_result_that_there_is_no_memory_for_is_said_to_be_lost";
    ended_well(in_child(test, &[ONE_P], || {
        gort::run(|| {
            in_turn(|| match go!(|| big(2)).join() {
                Ok(value) => value[39] == 2,
                Err(payload) => {
                    let text = payload.downcast_ref::<&str>().unwrap();
                    assert_eq!(*text, "no memory for the goroutine's result");
                    false
                }
            });
        });
    }))
    .says(TIMES, "gort: the result of goroutine ");
}

#[test]
fn a_channel_that_is_refused_memory_is_a_panic_that_names_its_size() {
    let test = "a_channel_that_is_refused_memory_is_a_panic_that_names_its_size";
    ended_well(in_child(test, &[ONE_P], || {
        gort::run(|| {
            in_turn(|| {
                let ch = chan::<u64>(100);
                ch.send(1);
                ch.recv() == Some(1)
            });
        });
    }))
    .says(TIMES, "makechan: no memory for a channel of ");
}

#[test]
fn timers_that_are_refused_memory_are_panics_and_those_that_are_armed_fire() {
    let test = "timers_that_are_refused_memory_are_panics_and_those_that_are_armed_fire";
    ended_well(in_child(test, &[ONE_P], || {
        gort::run(|| {
            in_turn(|| {
                let early = after(Duration::from_millis(1));
                sleep(Duration::from_millis(1));
                let late = after(Duration::from_millis(1));
                assert!(late.recv().is_some() && early.recv().is_some());
                true
            });
        });
    }));
}

#[test]
fn a_thousand_sleepers_are_refused_before_they_sleep_or_wake_in_time() {
    let test = "a_thousand_sleepers_are_refused_before_they_sleep_or_wake_in_time";
    ended_well(in_child(test, &[ONE_P], || {
        gort::run(|| {
            in_turn(|| {
                let done = chan::<bool>(1000);
                let mut begun = 0;
                for _ in 0..1000 {
                    let tell = done.clone();
                    let sleeper = move || {
                        let slept = catch_unwind(|| sleep(Duration::from_millis(1)));
                        tell.send(slept.is_ok());
                    };
                    begun += usize::from(Builder::new().go(sleeper).is_ok());
                }
                let mut slept = 0;
                for _ in 0..begun {
                    slept += usize::from(done.recv() == Some(true));
                }
                slept == 1000
            });
        });
    }))
    .says(0, "fatal error");
}

#[test]
fn a_runtime_that_is_refused_memory_is_an_error_and_the_next_one_runs() {
    let test = "a_runtime_that_is_refused_memory_is_an_error_and_the_next_one_runs";
    ended_well(in_child(test, &[ONE_P], || {
        gort::run(|| {
            // What there is once in a process.
            drop(Runtime::builder().build().unwrap());
            in_turn(|| {
                let builder = Runtime::builder().max_procs(4).thread_name(String::new());
                match builder.build() {
                    Ok(rt) => {
                        GRANTED.store(OFF, SeqCst);
                        rt.run(|| 1) == 1
                    }
                    Err(e) => {
                        assert_eq!(e.kind(), ErrorKind::OutOfMemory, "{e}");
                        assert!(e.to_string().contains("no memory for"), "{e}");
                        false
                    }
                }
            });
        });
    }));
}

#[test]
fn more_processors_are_refused_before_there_is_one() {
    let test = "more_processors_are_refused_before_there_is_one";
    ended_well(in_child(test, &[ONE_P], || {
        gort::run(|| {
            in_turn(|| {
                let before = gort::set_max_procs(gort::max_procs() + 1);
                gort::max_procs() == before + 1
            });
            // Those that were made for a call that was refused are not waited for.
            gort::set_max_procs(1);
            assert_eq!(gort::set_max_procs(3), 1);
        });
    }));
}

#[test]
fn where_there_is_no_memory_any_more_the_process_ends_with_a_message_of_ours() {
    let test = "where_there_is_no_memory_any_more_the_process_ends_with_a_message_of_ours";
    for n in ["0", "1", "2", "3"] {
        for what in ["go", "chan", "sleep"] {
            let ended = in_child(test, &[ONE_P, ("N", n), ("WHAT", what)], || {
                let var = |name| std::env::var(name).unwrap();
                let (n, what) = (var("N").parse().unwrap(), var("WHAT"));
                gort::run(|| {
                    let big = big(1);
                    let (_, ()) = refusing(n, true, || match &*what {
                        "go" => _ = go!(move || big[39]),
                        "chan" => _ = chan::<u64>(100),
                        _ => sleep(Duration::from_millis(1)),
                    });
                });
            });
            assert_eq!(
                ended.text.matches("memory allocation of").count(),
                0,
                "{n} {what}: {}",
                ended.excerpt()
            );
            match ended.out.status.code() {
                Some(0) => {}
                Some(2) => assert!(ended.line("fatal error: ").contains("memory")),
                _ => panic!("{n} {what}: {}: {}", ended.out.status, ended.excerpt()),
            }
        }
    }
}

#[test]
fn a_function_timer_that_is_refused_memory_is_a_panic() {
    let test = "a_function_timer_that_is_refused_memory_is_a_panic";
    in_child(test, &[ONE_P], || {
        gort::run(|| {
            let bystander = Bystander::begin();
            let fired = chan::<()>(1);
            let tell = fired.clone();
            let refused = refusing(0, false, || {
                catch_unwind(AssertUnwindSafe(|| after_func(Duration::from_millis(1), move || tell.send(()))))
            });
            let (true, Err(payload)) = refused else { panic!("it was not refused") };
            assert!(payload.downcast_ref::<String>().unwrap().starts_with("no memory for another timer"));
            bystander.is_well();
            let tell = fired.clone();
            after_func(Duration::from_millis(1), move || tell.send(()));
            fired.recv();
        });
    })
    .with_status(0);
}

#[test]
fn contexts_groups_and_scopes_that_are_refused_memory_are_panics() {
    let test = "contexts_groups_and_scopes_that_are_refused_memory_are_panics";
    in_child(test, &[ONE_P], || {
        gort::run(|| {
            let bystander = Bystander::begin();
            let root = gort::context::background();
            let (parent, _cancel) = gort::context::with_cancel(&root);
            let ops: [&dyn Fn(); 5] = [
                &|| drop(gort::context::with_cancel(&parent)),
                &|| drop(gort::context::with_timeout(&parent, Duration::from_secs(3600))),
                &|| drop(gort::context::after_func(&parent, || ())),
                &|| drop(gort::sync::ErrGroup::<()>::new()),
                &|| gort::scope(|_| ()),
            ];
            for op in ops {
                let (refused, outcome) = refusing(0, false, || catch_unwind(AssertUnwindSafe(op)));
                let text = outcome.unwrap_err();
                assert!(refused && text.downcast_ref::<String>().unwrap().starts_with("no memory for a"));
                bystander.is_well();
                op();
            }
        });
    })
    .with_status(0);
}

#[test]
fn processors_are_given_up_where_there_is_no_memory_for_a_timer() {
    let test = "processors_are_given_up_where_there_is_no_memory_for_a_timer";
    in_child(test, &[("GORT_MAXPROCS", "2")], || {
        gort::run(|| {
            let (runs, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let hog = {
                let (runs, stop) = (runs.clone(), stop.clone());
                go!(move || {
                    runs.store(true, SeqCst);
                    while !stop.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                })
            };
            while !runs.load(SeqCst) {
                std::hint::spin_loop();
            }
            LARGEST.store(8191, SeqCst);
            let arm = || _ = after_func(Duration::from_secs(3600), || ());
            while catch_unwind(arm).is_ok() {}
            // It waits until the other one's processor has been taken from it.
            assert_eq!(gort::set_max_procs(1), 2);
            LARGEST.store(usize::MAX, SeqCst);
            assert_eq!(gort::set_max_procs(2), 1);
            sleep(Duration::from_millis(1));
            stop.store(true, SeqCst);
            hog.join().unwrap();
        });
    })
    .with_status(0);
}

#[test]
fn a_cancel_that_no_goroutine_can_be_started_for_wakes_who_waits_for_the_context() {
    let test = "a_cancel_that_no_goroutine_can_be_started_for_wakes_who_waits_for_the_context";
    in_child(test, &[ONE_P], || {
        gort::run(|| {
            let (ctx, cancel) = gort::context::with_cancel(&gort::context::background());
            let _first = gort::context::after_func(&ctx, || ());
            let none = Arc::new(gort::sync::Semaphore::new(0));
            let waiter = {
                let (ctx, none) = (ctx.clone(), none.clone());
                go!(move || none.acquire_context(1, &ctx).is_err())
            };
            let _last = gort::context::after_func(&ctx, || ());
            gort::yield_now();
            let rt = Runtime::builder().max_procs(1).build().unwrap();
            let hold = chan::<()>(0);
            // Until there is no goroutine to be had, neither here nor for a caller without a processor.
            let wait = || {
                let wait = hold.clone();
                move || _ = wait.recv()
            };
            let mut held = Vec::with_capacity(1 << 16);
            while let (_, Ok(handle)) = refusing(0, false, || Builder::new().go(wait())) {
                held.push(handle);
            }
            LARGEST.store(4095, SeqCst);
            while let Ok(handle) = catch_unwind(AssertUnwindSafe(|| rt.go(wait()))) {
                held.push(handle);
            }
            let cancelled = catch_unwind(AssertUnwindSafe(&*cancel));
            LARGEST.store(usize::MAX, SeqCst);
            assert!(cancelled.is_err(), "a goroutine could be started");
            assert!(waiter.join().unwrap());
            hold.close();
            held.into_iter().for_each(|handle| handle.join().unwrap());
        });
    })
    .with_status(0);
}
