//! What the public API promises of goroutines: starting, joining, scopes, wait groups, sleeping,
//! and runtimes of one's own.

mod common;

use common::child::in_child;
use common::{
    SIZES, Watchdog, at_each_size, at_size, dig_here, eventually, message, on_both, panic_message,
    until_parked,
};
use gort::sync::WaitGroup;
use gort::{
    Builder, GoroutineId, JoinHandle, Runtime, chan, channel, go, goroutine_id, max_procs, num_goroutines,
    scope, select, time, yield_now,
};
use std::collections::HashSet;
use std::hint::black_box;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(20);

/// How many OS threads the process has.
fn tasks() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

fn runtime(procs: usize) -> Runtime {
    Runtime::builder().max_procs(procs).build().unwrap()
}

// -- what a goroutine runs on --

/// Deep enough for returns that were predicted wrongly, with values in all kinds of registers over the waits.
#[inline(never)]
fn sums(depth: u32, seed: u64) -> (u64, f64) {
    let [mut a, mut b, mut c, mut d, mut e, mut f] = [1, 2, 3, 4, 5, 6].map(|n| seed.wrapping_mul(n));
    let mut g = seed as f64 + 0.5;
    for turn in 0..3 {
        yield_now();
        (a, b, c, d, e, f) = (b ^ turn, c, d, e, f, a);
        g = g * 1.5 - black_box(1.0);
    }
    if depth == 0 {
        return (a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f, g);
    }
    let (n, x) = sums(depth - 1, seed + 1);
    (n ^ a.rotate_left(1) ^ b ^ c ^ d ^ e ^ f, x + g)
}

#[test]
fn what_a_goroutine_computes_survives_its_waits() {
    at_each_size(|| {
        let together: Vec<_> = (0..40_u32).map(|i| go!(move || sums(i % 7, i.into()))).collect();
        let alone: Vec<_> = (0..40_u32).map(|i| sums(i % 7, i.into())).collect();
        for (join, alone) in together.into_iter().zip(alone) {
            assert_eq!(join.join().unwrap(), alone);
        }
    });
}

#[test]
fn a_goroutine_begins_on_an_aligned_stack() {
    #[repr(align(16))]
    struct Aligned([u8; 16]);
    on_both(|| {
        let join = go!(|| {
            let local = black_box(Aligned([1; 16]));
            let at = std::ptr::from_ref(black_box(&local)).addr();
            yield_now();
            (at, local.0[15])
        });
        let (at, last) = join.join().unwrap();
        assert_eq!((at % 16, last), (0, 1));
    });
}

#[test]
fn a_backtrace_ends_where_the_goroutine_begins() {
    #[inline(never)]
    fn a_function_of_the_goroutine() -> String {
        std::backtrace::Backtrace::force_capture().to_string()
    }
    let text = gort::run(|| {
        yield_now();
        go!(a_function_of_the_goroutine).join().unwrap()
    });
    assert!(text.contains("a_function_of_the_goroutine"), "{text}");
    // On x86-64 the scheduler is no caller of it.
    assert!(
        cfg!(not(target_arch = "x86_64")) || cfg!(gort_sanitize) || !text.contains("schedule::schedule"),
        "{text}"
    );
}

// -- run --

#[test]
fn run_gives_what_its_function_returns() {
    on_both(|| {
        assert_eq!(gort::run(|| 6 * 7), 42);
        assert_eq!(gort::run(|| vec![1; 1000]).len(), 1000);
        gort::run(|| ());
        assert_eq!(gort::run(|| [7_u64; 200])[199], 7);
    });
    SIZES.iter().for_each(|&procs| assert_eq!(runtime(procs).run(|| String::from("s")), "s"));
}

#[test]
fn run_may_borrow() {
    on_both(|| {
        let mut list = vec![1, 2];
        let word = String::from("word");
        let len = gort::run(|| {
            list.push(3);
            word.len()
        });
        assert_eq!((list.len(), len), (3, 4));
    });
}

#[test]
fn run_is_a_goroutine() {
    assert_eq!(goroutine_id(), None);
    assert!(gort::run(goroutine_id).is_some());
    at_each_size(|| {
        let me = goroutine_id();
        assert!(me.is_some() && gort::run(goroutine_id) != me);
    });
}

#[test]
fn a_panic_in_run_resumes_on_the_caller() {
    on_both(|| {
        for _ in 0..3 {
            assert_eq!(panic_message(|| gort::run(|| panic!("number {}", 5))), "number 5");
        }
        let payload = catch_unwind(|| gort::run(|| resume_unwind(Box::new(17_u8)))).unwrap_err();
        assert_eq!(*payload.downcast::<u8>().unwrap(), 17);
        assert_eq!(gort::run(|| 1), 1);
    });
    for procs in SIZES {
        let rt = runtime(procs);
        assert_eq!(panic_message(|| rt.run(|| panic!("one"))), "one");
        assert_eq!(rt.run(|| 1), 1);
    }
}

#[test]
fn run_may_be_nested() {
    on_both(|| {
        assert_eq!(gort::run(|| gort::run(|| gort::run(|| 3) + 1) + 1), 5);
    });
    for procs in SIZES {
        let (a, b) = (runtime(procs), runtime(procs));
        assert_eq!(a.run(|| b.run(|| a.run(|| gort::run(|| 3) + 1) + 1) + 1), 6);
    }
}

#[test]
fn run_may_be_called_from_several_threads_at_once() {
    let together = |run: &(dyn Fn(&(dyn Fn() + Sync)) + Sync)| {
        // Nobody gets through before all of them are there.
        let (here, gate) = (WaitGroup::new(), WaitGroup::new());
        here.add(8);
        gate.add(1);
        thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    run(&|| {
                        here.done();
                        gate.wait();
                    })
                });
            }
            here.wait();
            gate.done();
        });
    };
    together(&|f| gort::run(f));
    for procs in SIZES {
        let rt = runtime(procs);
        together(&|f| rt.run(f));
    }
}

#[test]
fn what_run_started_goes_on_after_it() {
    let ch = chan::<u32>(0);
    let tx = ch.clone();
    gort::run(move || drop(go!(move || (0..1000).for_each(|i| tx.send(i)))));
    assert!(ch.iter().take(1000).eq(0..1000));
    for procs in SIZES {
        let rt = runtime(procs);
        let tx = ch.clone();
        rt.run(move || drop(go!(move || (0..1000).for_each(|i| tx.send(i)))));
        assert!(ch.iter().take(1000).eq(0..1000));
        assert_eq!(rt.shutdown_timeout(LONG), 0);
    }
}

#[test]
fn run_returns_although_others_wait_for_ever() {
    for procs in SIZES {
        let rt = runtime(procs);
        let value = rt.run(|| {
            let h = go!(|| select! {});
            until_parked(&h, "select (no cases)");
            9
        });
        assert_eq!((value, rt.num_goroutines()), (9, 1));
        assert_eq!(rt.shutdown_timeout(Duration::ZERO), 1);
    }
}

// -- go, join --

#[test]
fn join_gives_the_result() {
    on_both(|| {
        assert_eq!(go(|| 6 * 7).join().unwrap(), 42);
        assert_eq!(go!(move || String::from("s")).join().unwrap(), "s");
        go!(|| ()).join().unwrap();
        let late = chan::<u8>(0);
        let rx = late.clone();
        let h = go!(move || rx.recv());
        until_parked(&h, "chan receive");
        let waits = go!(move || h.join().unwrap());
        until_parked(&waits, "join");
        late.send(5);
        assert_eq!(waits.join().unwrap(), Some(5));
    });
}

#[test]
fn join_gives_the_panic() {
    on_both(|| {
        let h = go!(|| -> u8 { panic!("at {}", "work") });
        assert_eq!(message(&*h.join().unwrap_err()), "at work");
        let h = go!(|| -> u8 { resume_unwind(Box::new(3_i64)) });
        assert_eq!(*h.join().unwrap_err().downcast::<i64>().unwrap(), 3);
        assert_eq!(go(|| 1).join().unwrap(), 1, "the rest goes on");
    });
}

#[test]
fn is_finished_turns_true_when_the_goroutine_has_ended() {
    on_both(|| {
        for panics in [false, true] {
            let hold = chan::<()>(0);
            let rx = hold.clone();
            let h = go!(move || {
                rx.recv();
                if panics {
                    panic!("at its end");
                }
            });
            until_parked(&h, "chan receive");
            assert!(!h.is_finished());
            hold.close();
            eventually("it ends", || h.is_finished());
            assert_eq!(h.join().is_err(), panics);
        }
    });
}

#[test]
fn a_handle_may_be_joined_anywhere() {
    fn send_and_sync<T: Send + Sync>(_: &T) {}
    at_each_size(|| {
        let h = go!(|| 1);
        send_and_sync(&h);
        let joins = thread::spawn(move || h.join().unwrap());
        eventually("the thread has joined it", || joins.is_finished());
        assert_eq!(joins.join().unwrap(), 1);
        let h = go!(|| 2);
        assert_eq!(gort::run(move || h.join().unwrap()), 2);
        let h = gort::run(|| go!(|| 3));
        assert_eq!(h.join().unwrap(), 3);
    });
}

#[test]
fn a_detached_goroutine_goes_on() {
    on_both(|| {
        let (tx, rx) = channel::<u32>(0);
        for i in 0..100 {
            let tx = tx.clone();
            drop(go!(move || tx.send(i).unwrap()));
        }
        drop(tx);
        assert_eq!(rx.iter().sum::<u32>(), 4950);
    });
}

#[test]
fn ids_are_unique_and_known_inside() {
    let all = Arc::new(Mutex::new(HashSet::new()));
    let seen = all.clone();
    on_both(move || {
        let handles: Vec<_> = (0..1000).map(|_| go!(goroutine_id)).collect();
        for h in handles {
            let id: GoroutineId = h.id();
            assert_eq!(h.join().unwrap(), Some(id));
            assert!(seen.lock().unwrap().insert(id), "{id} was given twice");
        }
        let nested = go!(|| (0..100).map(|_| go!(goroutine_id).join().unwrap().unwrap()).collect::<Vec<_>>());
        for id in nested.join().unwrap() {
            assert!(seen.lock().unwrap().insert(id), "{id} was given twice");
        }
        if let Some(id) = goroutine_id() {
            assert!(seen.lock().unwrap().insert(id), "{id} was given twice");
        }
    });
    assert_eq!(all.lock().unwrap().len(), 5 * 1100 + SIZES.len());
}

#[test]
fn ids_can_be_compared_and_printed() {
    fn plain<T: Copy + Eq + std::hash::Hash + Ord + std::fmt::Debug + std::fmt::Display + Send + Sync>(_: T) {
    }
    let h = go!(|| ());
    plain(h.id());
    assert!(h.id().to_string().parse::<u64>().is_ok(), "{}", h.id());
    assert!(format!("{h:?}").contains(&h.id().to_string()));
    h.join().unwrap();
}

#[test]
fn go_on_a_plain_thread_uses_the_global_runtime() {
    let procs = max_procs();
    assert_eq!(go(max_procs).join().unwrap(), procs);
    assert_eq!(gort::run(max_procs), procs);
    let inside = thread::spawn(|| go!(|| go!(goroutine_id).join().unwrap()).join().unwrap());
    assert!(inside.join().unwrap().is_some());
}

#[test]
fn go_in_a_goroutine_stays_in_its_runtime() {
    for procs in SIZES {
        at_size(procs, || {
            assert_eq!(max_procs(), procs);
            assert_eq!(go!(|| go!(max_procs).join().unwrap()).join().unwrap(), procs);
        });
        let rt = runtime(procs);
        assert_eq!(rt.go(max_procs).join().unwrap(), procs);
    }
}

#[test]
fn the_call_forms_evaluate_receiver_and_arguments_in_the_caller() {
    #[derive(Clone)]
    struct Adder(u32);
    impl Adder {
        fn add(self, a: u32, b: u32) -> (u32, Option<GoroutineId>) {
            (self.0 + a + b, goroutine_id())
        }
    }
    fn call(a: u32, b: u32) -> (u32, Option<GoroutineId>) {
        (a + b, goroutine_id())
    }
    on_both(|| {
        let me = goroutine_id();
        let order = Mutex::new(Vec::new());
        let note = |n: u32| {
            assert_eq!(goroutine_id(), me, "evaluated by the caller");
            order.lock().unwrap().push(n);
            n
        };
        let h = go!(call(note(1), note(2)));
        let id = h.id();
        assert_eq!(h.join().unwrap(), (3, Some(id)));
        let adder = |n| Adder(note(n));
        let h = go!(adder(3).clone().add(note(4), note(5)));
        let id = h.id();
        assert_eq!(h.join().unwrap(), (12, Some(id)));
        let (a, b) = (1, 2);
        let h = go!({
            let sum = a + b;
            (sum, goroutine_id())
        });
        let id = h.id();
        assert_eq!(h.join().unwrap(), (3, Some(id)));
        assert_eq!(*order.lock().unwrap(), [1, 2, 3, 4, 5]);
    });
}

#[test]
fn options_come_in_any_order_before_any_form() {
    fn double(n: u32) -> u32 {
        2 * n
    }
    on_both(|| {
        assert_eq!(go!(name = "a", move || 1).join().unwrap(), 1);
        assert_eq!(go!(stack_size = 1 << 20, name = String::from("b"), double(2)).join().unwrap(), 4);
        assert_eq!(go!(name = "c", stack_size = 1 << 20, { 5 }).join().unwrap(), 5);
        let hold = chan::<()>(0);
        let h = go!(name = "a named one", hold.clone().recv());
        until_parked(&h, "chan receive");
        let all = gort_scheduler::proc::goroutines();
        let g = all.iter().find(|g| g.id == h.id()).unwrap();
        assert_eq!(g.name.as_deref(), Some("a named one"));
        assert!(g.spawned_at.unwrap().file().ends_with("promises_go.rs"));
        hold.close();
        h.join().unwrap();
    });
}

#[test]
fn yielding_lets_the_others_run() {
    at_each_size(|| {
        let turns = Arc::new(AtomicUsize::new(0));
        let handles: Vec<_> = (0..4)
            .map(|_| {
                let turns = turns.clone();
                // Ends only if the others move on too.
                go!(move || {
                    turns.fetch_add(1, SeqCst);
                    while turns.load(SeqCst) < 4 {
                        yield_now();
                    }
                })
            })
            .collect();
        handles.into_iter().for_each(|h| h.join().unwrap());
    });
    yield_now();
}

#[test]
fn num_goroutines_is_exact_after_joins() {
    at_each_size(|| {
        assert_eq!(num_goroutines(), 1);
        for n in [1, 10, 1000] {
            let hold = chan::<()>(0);
            let handles: Vec<_> = (0..n).map(|_| go!(hold.clone().recv())).collect();
            assert_eq!(num_goroutines(), n + 1);
            hold.close();
            for (left, h) in (0..n).rev().zip(handles) {
                h.join().unwrap();
                assert!(num_goroutines() <= 1 + left);
            }
            assert_eq!(num_goroutines(), 1);
        }
        let h = go!(num_goroutines);
        assert_eq!(h.join().unwrap(), 2);
        assert!(go!(|| panic!("counted too")).join().is_err());
        assert_eq!(num_goroutines(), 1);
    });
    for procs in SIZES {
        let rt = runtime(procs);
        assert_eq!(rt.num_goroutines(), 0);
        let handles: Vec<_> = (0..100).map(|_| rt.go(|| ())).collect();
        handles.into_iter().for_each(|h| h.join().unwrap());
        assert_eq!(rt.num_goroutines(), 0);
        assert_eq!(rt.run(|| rt.num_goroutines()), 1);
        assert_eq!(rt.num_goroutines(), 0);
    }
}

// -- Sizes --

fn capture<const N: usize>(spawn: &impl Fn(Box<dyn FnOnce() -> u64 + Send>) -> u64) {
    let data: [u8; N] = std::array::from_fn(|i| i as u8);
    let sum: u64 = data.iter().map(|&b| u64::from(b)).sum();
    let h = go!(stack_size = 4 << 20, move || (
        black_box(data),
        black_box(&data).iter().map(|&b| u64::from(b)).sum()
    ));
    let (back, got): ([u8; N], u64) = h.join().unwrap();
    assert_eq!(got, sum);
    assert!(back == data);
    assert_eq!(spawn(Box::new(move || data.iter().map(|&b| u64::from(b)).sum())), sum);
}

#[test]
fn closures_and_results_may_be_of_any_size() {
    let body = || {
        let spawn = |f: Box<dyn FnOnce() -> u64 + Send>| go!(f).join().unwrap();
        capture::<0>(&spawn);
        capture::<1>(&spawn);
        capture::<8>(&spawn);
        capture::<55>(&spawn);
        capture::<56>(&spawn);
        capture::<57>(&spawn);
        capture::<63>(&spawn);
        capture::<64>(&spawn);
        capture::<65>(&spawn);
        capture::<1000>(&spawn);
        capture::<4096>(&spawn);
        capture::<{ 16 << 10 }>(&spawn);
        capture::<{ 64 << 10 }>(&spawn);
    };
    for procs in SIZES {
        let rt = Runtime::builder().max_procs(procs).stack_size(4 << 20).build().unwrap();
        rt.run(body);
        assert_eq!(rt.shutdown_timeout(LONG), 0);
    }
    // A thread of a test has 2 MiB.
    body();
}

#[test]
fn closures_and_results_of_some_kilobytes_fit_the_usual_stack() {
    on_both(|| {
        let data: [u64; 512] = std::array::from_fn(|i| i as u64);
        let h = go!(move || black_box(data).map(|v| v + 1));
        assert!(h.join().unwrap().iter().copied().eq(1..=512));
    });
}

#[test]
fn closures_and_results_keep_their_alignment() {
    #[derive(Clone, Copy)]
    #[repr(align(256))]
    struct Aligned(u8);
    fn aligned(v: &Aligned) -> bool {
        black_box(std::ptr::from_ref(v)).addr().is_multiple_of(256)
    }
    on_both(|| {
        let v = Aligned(7);
        let h = go!(move || {
            let inside = v;
            (aligned(&v) && aligned(&inside), v)
        });
        let (inside, back) = h.join().unwrap();
        assert!(inside && aligned(&back) && back.0 == 7);
    });
}

#[test]
fn a_goroutine_has_100_kib_of_stack_at_least() {
    at_each_size(|| {
        dig_here(100 << 10);
        let handles: Vec<_> = (0..20).map(|_| go!(|| dig_here(100 << 10))).collect();
        handles.into_iter().for_each(|h| assert!(h.join().unwrap() > 10));
    });
}

#[test]
fn a_goroutine_has_the_stack_that_it_asks_for() {
    const ENTRY: usize = 8 << 10;
    at_each_size(|| {
        for size in [16 << 10, 200 << 10, 256 << 10, 1 << 20, 8 << 20] {
            let h = Builder::new().stack_size(size).go(move || dig_here(size - ENTRY)).unwrap();
            assert!(h.join().unwrap() > 0);
            let h = go!(stack_size = size, dig_here(size - ENTRY));
            assert!(h.join().unwrap() > 0);
        }
    });
    for procs in SIZES {
        let rt = Runtime::builder().max_procs(procs).stack_size(8 << 20).build().unwrap();
        rt.run(|| {
            dig_here((8 << 20) - ENTRY);
            assert!(go!(|| dig_here((8 << 20) - ENTRY)).join().unwrap() > 0);
        });
    }
}

#[test]
fn the_stack_is_whole_after_parks() {
    at_each_size(|| {
        #[inline(never)]
        fn down(n: usize, ch: &gort::Chan<()>) -> usize {
            let local = black_box([n; 16]);
            if n == 0 {
                ch.recv();
            } else {
                let below = down(n - 1, ch);
                assert_eq!(below, n - 1);
            }
            assert_eq!(local, [n; 16]);
            n
        }
        let ch = chan(0);
        let handles: Vec<_> = (0..50)
            .map(|_| {
                let ch = ch.clone();
                go!(move || down(60, &ch))
            })
            .collect();
        (0..50).for_each(|_| ch.send(()));
        handles.into_iter().for_each(|h| assert_eq!(h.join().unwrap(), 60));
    });
}

#[test]
fn settings_out_of_range_are_refused() {
    for size in [0, 1, (16 << 10) - 1, (1 << 30) + 1, usize::MAX] {
        let e = Builder::new().stack_size(size).go(|| ()).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
        assert!(e.to_string().contains(&size.to_string()), "{e}");
        let e = Runtime::builder().stack_size(size).build().unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
        assert!(e.to_string().contains(&size.to_string()), "{e}");
        let said = panic_message(|| go!(stack_size = size, || ()));
        assert!(said.contains(&size.to_string()), "{said}");
    }
    for procs in [0, usize::MAX] {
        let e = Runtime::builder().max_procs(procs).build().unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
        assert!(e.to_string().contains(&procs.to_string()), "{e}");
    }
    assert_eq!(
        Runtime::builder().thread_name("a\0b").build().unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}

#[test]
fn a_closure_that_is_refused_is_dropped() {
    let ledger = common::Ledger::default();
    let token = ledger.token();
    assert!(Builder::new().stack_size(1).go(move || drop(token)).is_err());
    ledger.assert_settled();
}

#[test]
fn threads_have_the_name_of_their_runtime() {
    let ended = in_child("threads_have_the_name_of_their_runtime", &[], || {
        let rt = Runtime::builder().thread_name("crawler").build().unwrap();
        let name = rt.run(|| std::fs::read_to_string("/proc/thread-self/comm").unwrap());
        assert_eq!(name.trim(), "crawler");
    });
    ended.with_status(0);
}

// -- scope --

#[test]
fn goroutines_of_a_scope_may_borrow() {
    on_both(|| {
        let words = [String::from("a"), String::from("bc")];
        let (mut left, mut right) = (0, 0);
        let total = scope(|s| {
            let a = s.go(|| {
                left = words[0].len();
                left
            });
            let b = s.go(|| {
                right = words[1].len();
                right
            });
            a.join().unwrap() + b.join().unwrap()
        });
        assert_eq!((left, right, total, words.len()), (1, 2, 3, 2));
    });
}

#[test]
fn a_scope_waits_for_its_goroutines() {
    on_both(|| {
        let (done, hold) = (AtomicUsize::new(0), chan::<()>(0));
        scope(|s| {
            for _ in 0..50 {
                s.go(|| {
                    hold.recv();
                    done.fetch_add(1, SeqCst);
                });
            }
            s.go(|| (0..50).for_each(|_| hold.send(())));
        });
        assert_eq!(done.load(SeqCst), 50);
    });
}

#[test]
fn goroutines_of_a_scope_may_start_others_in_it() {
    on_both(|| {
        let count = AtomicUsize::new(0);
        scope(|s| {
            for _ in 0..5 {
                s.go(|| {
                    for _ in 0..5 {
                        s.go(|| {
                            s.go(|| count.fetch_add(1, SeqCst));
                        });
                    }
                });
            }
        });
        assert_eq!(count.load(SeqCst), 25);
        let inner = scope(|s| s.go(|| scope(|t| t.go(|| 5).join().unwrap())).join().unwrap());
        assert_eq!(inner, 5);
    });
}

#[test]
fn a_scope_waits_even_if_its_body_panics() {
    on_both(|| {
        let (done, hold) = (AtomicBool::new(false), chan::<()>(1));
        let said = panic_message(|| {
            scope(|s| {
                s.go(|| {
                    hold.recv();
                    gort::yield_now();
                    done.store(true, SeqCst);
                });
                let h = s.go(|| panic!("another one"));
                eventually("it ends", || h.is_finished());
                hold.send(());
                panic!("the body");
            })
        });
        assert_eq!(said, "the body");
        assert!(done.load(SeqCst));
    });
}

#[test]
fn a_scope_panics_if_a_goroutine_did_that_nobody_joined() {
    on_both(|| {
        let said = panic_message(|| {
            scope(|s| {
                s.go(|| panic!("unheard"));
            })
        });
        assert_eq!(said, "a scoped goroutine panicked");
        // Joined, it is the joiner's business.
        let value = scope(|s| {
            let h = s.go(|| -> u8 { panic!("heard") });
            message(&*h.join().unwrap_err())
        });
        assert_eq!(value, "heard");
        // A handle that was kept and not joined.
        let said = panic_message(|| {
            scope(|s| {
                let h = s.go(|| panic!("unheard"));
                eventually("it ends", || h.is_finished());
                drop(h);
            })
        });
        assert_eq!(said, "a scoped goroutine panicked");
    });
}

#[test]
fn handles_of_a_scope_tell_about_their_goroutine() {
    on_both(|| {
        let hold = chan::<()>(0);
        scope(|s| {
            let h = s.go(|| {
                hold.recv();
                goroutine_id()
            });
            assert!(!h.is_finished());
            hold.send(());
            eventually("it ends", || h.is_finished());
            let id = h.id();
            assert_eq!(h.join().unwrap(), Some(id));
        });
    });
}

#[test]
fn a_scope_may_be_joined_by_many_goroutines_at_once() {
    at_each_size(|| {
        let all: Vec<JoinHandle<u64>> = (0..50)
            .map(|i| {
                go!(move || {
                    let numbers: Vec<u64> = (0..i).collect();
                    scope(|s| {
                        let parts = numbers.chunks(10);
                        let parts: Vec<_> = parts.map(|part| s.go(|| part.iter().sum::<u64>())).collect();
                        parts.into_iter().map(|h| h.join().unwrap()).sum()
                    })
                })
            })
            .collect();
        for (i, h) in (0_u64..).zip(all) {
            assert_eq!(h.join().unwrap(), i * i.saturating_sub(1) / 2);
        }
    });
}

// -- WaitGroup --

#[test]
fn a_wait_group_that_goes_negative_panics() {
    on_both(|| {
        const SAYS: &str = "sync: negative WaitGroup counter";
        let wg = WaitGroup::new();
        assert_eq!(panic_message(|| wg.done()), SAYS);
        wg.add(2);
        assert_eq!(panic_message(|| wg.add(-3)), SAYS);
        wg.add(-2);
        wg.wait();
        assert_eq!(panic_message(|| WaitGroup::default().add(isize::MIN)), SAYS);
    });
}

#[test]
fn a_wait_group_wakes_all_who_wait() {
    on_both(|| {
        let wg = WaitGroup::new();
        wg.wait();
        for _ in 0..3 {
            wg.add(2);
            let waiting: Vec<_> = (0..50)
                .map(|_| {
                    let wg = wg.clone();
                    go!(move || wg.wait())
                })
                .collect();
            waiting.iter().for_each(|h| until_parked(h, "sync.WaitGroup.Wait"));
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let wg = wg.clone();
                    thread::spawn(move || wg.wait())
                })
                .collect();
            wg.done();
            assert!(waiting.iter().all(|h| !h.is_finished()));
            assert!(threads.iter().all(|t| !t.is_finished()));
            wg.done();
            waiting.into_iter().for_each(|h| h.join().unwrap());
            threads.into_iter().for_each(|t| t.join().unwrap());
        }
    });
}

#[test]
fn a_wait_group_counts_its_goroutines_also_those_that_panic() {
    on_both(|| {
        let (wg, done) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
        for i in 0..100 {
            let done = done.clone();
            wg.go(move || {
                done.fetch_add(1, SeqCst);
                if i % 10 == 0 {
                    panic!("one of the group");
                }
            });
        }
        wg.wait();
        assert_eq!(done.load(SeqCst), 100);
        assert_eq!(panic_message(|| wg.done()), "sync: negative WaitGroup counter", "the count is 0 again");
    });
}

#[test]
fn threads_and_goroutines_share_a_wait_group() {
    on_both(|| {
        let wg = WaitGroup::new();
        let done = Arc::new(AtomicUsize::new(0));
        wg.add(8);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (wg, done) = (wg.clone(), done.clone());
                thread::spawn(move || {
                    done.fetch_add(1, SeqCst);
                    wg.done();
                })
            })
            .collect();
        for _ in 0..4 {
            let (wg, done) = (wg.clone(), done.clone());
            go!(move || {
                done.fetch_add(1, SeqCst);
                wg.done();
            });
        }
        wg.wait();
        assert_eq!(done.load(SeqCst), 8);
        threads.into_iter().for_each(|t| t.join().unwrap());
    });
}

// -- Sleeping --

#[test]
fn sleep_lasts_at_least_as_long_as_it_is_told() {
    on_both(|| {
        for millis in [0, 1, 5] {
            let d = Duration::from_millis(millis);
            let start = Instant::now();
            time::sleep(d);
            assert!(start.elapsed() >= d);
        }
    });
}

#[test]
fn no_sleeper_wakes_before_its_time() {
    at_size(1, || {
        let ch = chan(10);
        let start = Instant::now();
        for i in [3, 1, 4, 2, 0] {
            let ch = ch.clone();
            go!(move || {
                let until = Duration::from_millis(20 + 5 * i);
                time::sleep(until.saturating_sub(start.elapsed()));
                ch.send((start.elapsed() >= until, i));
            });
        }
        let mut woken: Vec<_> = ch.iter().take(5).collect();
        // Several that are due when the machine comes back to them may go in any order.
        woken.sort();
        assert_eq!(woken, [(true, 0), (true, 1), (true, 2), (true, 3), (true, 4)]);
    });
}

#[test]
fn many_goroutines_sleep_at_once() {
    at_each_size(|| {
        let wg = WaitGroup::new();
        for i in 0..10_000_u64 {
            wg.go(move || time::sleep(Duration::from_micros(i % 5000)));
        }
        wg.wait();
    });
}

#[test]
fn sleep_for_ever_is_for_ever() {
    for procs in SIZES {
        let rt = runtime(procs);
        let h = rt.go(|| time::sleep(Duration::MAX));
        until_parked(&h, "sleep");
        assert_eq!(rt.shutdown_timeout(Duration::from_millis(2)), 1);
    }
}

#[test]
fn after_tells_the_time_once() {
    on_both(|| {
        for millis in [0, 2] {
            let d = Duration::from_millis(millis);
            let start = Instant::now();
            let rx = time::after(d);
            let told = rx.recv().unwrap();
            assert!(told >= start + d && told <= Instant::now());
            assert!(!rx.is_closed() && rx.try_recv() == Err(gort::TryRecvError::Empty));
        }
        let late = select! {
            recv(gort::Chan::<u8>::nil()) -> _ => false,
            recv(time::after(Duration::from_millis(1))) -> _ => true,
        };
        assert!(late);
        drop(time::after(Duration::from_secs(3600)));
    });
}

#[test]
fn after_for_ever_tells_nothing_and_is_not_closed() {
    on_both(|| {
        let never = time::after(Duration::MAX);
        assert!(!never.is_closed());
        assert_eq!(never.recv_timeout(Duration::from_millis(2)), Err(gort::RecvTimeoutError::Timeout));
    });
}

// -- Many --

#[test]
fn a_hundred_thousand_goroutines_wait_without_a_thread_each() {
    const N: usize = 100_000;
    let ended = in_child("a_hundred_thousand_goroutines_wait_without_a_thread_each", &[], || {
        at_each_size(|| {
            let hold = chan::<()>(0);
            let (arrived, released) = (Arc::new(AtomicUsize::new(0)), WaitGroup::new());
            for _ in 0..N {
                let (hold, arrived) = (hold.receiver(), arrived.clone());
                released.go(move || {
                    arrived.fetch_add(1, SeqCst);
                    assert_eq!(hold.recv(), None);
                });
            }
            eventually("all have arrived", || arrived.load(SeqCst) == N);
            assert_eq!(num_goroutines(), N + 1);
            let tasks = tasks();
            // A few more than there are Ps, since a P is taken from a thread that the system keeps from its core for long.
            assert!(tasks <= max_procs() + N / 100, "{tasks} OS threads at {} Ps", max_procs());
            hold.close();
            released.wait();
            eventually("all have ended", || num_goroutines() == 1);
        });
    });
    ended.with_status(0);
}

#[test]
fn a_chain_of_goroutines_passes_a_value_on() {
    at_each_size(|| {
        const N: u32 = 10_000;
        let first = chan::<u32>(0);
        let mut last = first.clone();
        for _ in 0..N {
            let (rx, tx) = (last, chan(0));
            last = tx.clone();
            go!(move || tx.send(rx.recv().unwrap() + 1));
        }
        first.send(0);
        assert_eq!(last.recv(), Some(N));
    });
}

#[test]
fn goroutines_spawn_goroutines() {
    fn tree(depth: u32) -> u32 {
        if depth == 0 {
            return 1;
        }
        let (a, b) = (go!(tree(depth - 1)), go!(tree(depth - 1)));
        a.join().unwrap() + b.join().unwrap()
    }
    on_both(|| assert_eq!(tree(11), 2048));
}

// -- Runtimes --

#[test]
fn two_runtimes_talk_over_one_channel() {
    for a_procs in SIZES {
        for b_procs in [1, 4] {
            let (a, b) = (runtime(a_procs), runtime(b_procs));
            let (ping, pong) = (chan::<u32>(0), chan::<u32>(0));
            let (rx, tx) = (ping.clone(), pong.clone());
            let answers = b.go(move || rx.iter().for_each(|v| tx.send(v + 1)));
            let sum = a.run(|| {
                let mut sum = 0;
                for i in 0..500 {
                    ping.send(i);
                    select! {
                        recv(pong) -> v => sum += v.unwrap(),
                        recv(time::after(LONG)) -> _ => panic!("no answer"),
                    }
                }
                sum
            });
            assert_eq!(sum, (1..=500).sum());
            ping.close();
            answers.join().unwrap();
            assert_eq!((a.shutdown_timeout(LONG), b.shutdown_timeout(LONG)), (0, 0));
        }
    }
}

#[test]
fn shutdown_counts_what_it_abandons() {
    for procs in SIZES {
        let rt = runtime(procs);
        let parked = [
            (rt.go(|| select! {}), "select (no cases)"),
            (rt.go(|| time::sleep(Duration::MAX)), "sleep"),
            (rt.go(|| chan::<()>(0).send(())), "chan send"),
        ];
        parked.iter().for_each(|(h, reason)| until_parked(h, reason));
        let ended: Vec<_> = (0..10).map(|_| rt.go(|| ())).collect();
        ended.into_iter().for_each(|h| h.join().unwrap());
        assert_eq!(rt.shutdown_timeout(Duration::from_millis(5)), 3);
    }
}

#[test]
fn shutdown_waits_for_those_who_end_in_time() {
    for procs in SIZES {
        let rt = runtime(procs);
        let done = Arc::new(AtomicUsize::new(0));
        for i in 0..100 {
            let done = done.clone();
            rt.go(move || {
                time::sleep(Duration::from_micros(i * 50));
                done.fetch_add(1, SeqCst);
            });
        }
        assert_eq!(rt.shutdown_timeout(LONG), 0);
        assert_eq!(done.load(SeqCst), 100);
    }
}

#[test]
fn shutdown_refuses_new_goroutines() {
    for procs in SIZES {
        let rt = runtime(procs);
        let (tell, told) = mpsc::channel();
        rt.go(move || {
            let said = loop {
                match catch_unwind(AssertUnwindSafe(|| go!(|| ()).join())) {
                    Ok(joined) => joined.unwrap(),
                    Err(payload) => break message(&*payload),
                }
            };
            tell.send(said).unwrap();
        });
        assert_eq!(rt.shutdown_timeout(LONG), 0, "those that exist may finish");
        let said = told.recv().unwrap();
        assert!(said.contains("shut down"), "{said}");
    }
}

#[test]
fn an_idle_runtime_ends_at_once() {
    for procs in SIZES {
        let rt = runtime(procs);
        assert_eq!(rt.run(|| 1), 1);
        let start = Instant::now();
        assert_eq!(rt.shutdown_timeout(Duration::from_secs(60)), 0);
        assert!(start.elapsed() < Duration::from_secs(30), "it waited for nothing");
    }
}

#[test]
fn dropping_a_runtime_abandons_what_waits() {
    for procs in SIZES {
        let rt = runtime(procs);
        let ch = chan::<u32>(0);
        let rx = ch.receiver();
        let h = rt.go(move || rx.recv());
        until_parked(&h, "chan receive");
        let start = Instant::now();
        drop(rt);
        assert!(start.elapsed() < Duration::from_secs(30), "it waited for a goroutine");
        assert!(!h.is_finished());
        // The abandoned one is in nobody's way.
        ch.close();
        let other = runtime(procs);
        assert_eq!(other.run(|| go!(|| 5).join().unwrap()), 5);
        assert!(!h.is_finished());
    }
}

#[test]
fn a_runtime_may_be_dropped_in_a_goroutine_of_another() {
    at_each_size(|| {
        let inner = runtime(2);
        assert_eq!(inner.run(|| go!(|| 5).join().unwrap()), 5);
        let h = inner.go(|| select! {});
        until_parked(&h, "select (no cases)");
        drop(inner);
        let inner = runtime(2);
        inner.go(|| time::sleep(Duration::from_millis(1)));
        assert_eq!(inner.shutdown_timeout(LONG), 0);
    });
}

#[test]
fn many_runtimes_one_after_another_share_their_threads() {
    let ended = in_child("many_runtimes_one_after_another_share_their_threads", &[], || {
        for i in 0..400 {
            let rt = runtime(4);
            let sum: u32 = rt.run(|| {
                let handles: Vec<_> = (0..20).map(|n| go!(move || n)).collect();
                handles.into_iter().map(|h| h.join().unwrap()).sum()
            });
            assert_eq!(sum, 190);
            if i % 2 == 0 {
                drop(rt);
            } else {
                assert_eq!(rt.shutdown_timeout(LONG), 0);
            }
        }
        let tasks = tasks();
        assert!(tasks <= 40, "{tasks} OS threads after 400 runtimes of 4 Ps");
    });
    ended.with_status(0);
}

#[test]
fn many_runtimes_at_once_do_not_disturb_each_other() {
    let all: Vec<_> = (0..20).map(|i| runtime(1 + i % 4)).collect();
    let handles: Vec<_> = all
        .iter()
        .map(|rt| {
            rt.go(|| {
                let ch = chan(1);
                (0..50).for_each(|i| drop(go!(ch.clone().send(i))));
                ch.iter().take(50).sum::<u32>()
            })
        })
        .collect();
    handles.into_iter().for_each(|h| assert_eq!(h.join().unwrap(), 1225));
    all.into_iter().for_each(|rt| assert_eq!(rt.shutdown_timeout(LONG), 0));
}

#[test]
fn a_join_of_an_abandoned_goroutine_gets_an_error_before_and_after() {
    let _watch = Watchdog::arm("join of an abandoned goroutine");
    let rt = Runtime::builder().max_procs(2).build().unwrap();
    let (never, late) = (chan::<()>(0), chan::<()>(0));
    let start = |ch: &gort::Chan<()>| {
        let ch = ch.clone();
        rt.go(move || ch.recv())
    };
    let (early, later) = (start(&never), start(&late));
    until_parked(&early, "chan receive");
    until_parked(&later, "chan receive");
    let joiner = thread::spawn(move || early.join());
    assert_eq!(rt.shutdown_timeout(Duration::ZERO), 2);
    for outcome in [joiner.join().unwrap(), later.join()] {
        let payload = outcome.unwrap_err();
        assert_eq!(message(&*payload), "the goroutine's runtime was shut down");
    }
}

/// What a goroutine behind others may have to watch pass by: tens of milliseconds' worth, at any speed.
const MANY: usize = 30_000_000;

#[test]
fn a_chain_that_readies_itself_for_ever_lets_others_have_a_turn() {
    at_each_size(|| {
        let (tx, rx) = channel(0);
        let wg = WaitGroup::new();
        for _ in 0..3 {
            let tx = tx.clone();
            wg.go(move || while tx.send(1).is_ok() {});
        }
        let closer = tx.clone();
        wg.go(move || closer.close());
        drop(tx);
        assert!(rx.iter().count() < MANY, "the closer did not get a turn");
        wg.wait();
    });
}

#[test]
fn a_goroutine_in_the_global_queue_gets_a_turn_beside_a_chain() {
    for procs in SIZES {
        let _watch = Watchdog::arm("global queue beside a chain");
        let rt = runtime(procs);
        let (tx, rx) = channel(0);
        let chain = rt.go(move || rx.iter().count());
        let sender = {
            let tx = tx.clone();
            rt.go(move || while tx.send(1).is_ok() {})
        };
        // From a plain thread it goes into the global queue.
        (0..20).for_each(|_| rt.go(|| ()).join().unwrap());
        rt.go(move || tx.close()).join().unwrap();
        sender.join().unwrap();
        assert!(chain.join().unwrap() < 20 * MANY);
        assert_eq!(rt.shutdown_timeout(LONG), 0);
    }
}

#[test]
fn a_seed_gives_an_order_of_its_own_and_always_the_same() {
    let _watch = Watchdog::arm("an order without the end of a time slice");
    let order = |seed: Option<u64>| {
        loop {
            let builder = Runtime::builder().max_procs(1);
            let rt = seed.into_iter().fold(builder, |b, seed| b.random_order(seed)).build().unwrap();
            let start = Instant::now();
            let order = rt.run(|| {
                let ch = chan(50);
                (0..50).for_each(|i| _ = go!(ch.clone().send(i)));
                ch.iter().take(50).collect::<Vec<i32>>()
            });
            // The end of a time slice is no matter of the seed. There was none in so short a time.
            if start.elapsed() < Duration::from_millis(8) {
                return order;
            }
        }
    };
    assert_eq!(order(Some(1)), order(Some(1)));
    assert_ne!(order(Some(1)), order(Some(2)));
    assert_ne!(order(Some(1)), order(None));
    assert_eq!(order(None), order(None));
}

#[test]
fn a_runtime_may_go_while_its_last_waker_is_still_on_its_way_out() {
    let _watch = Watchdog::arm("drop against the last waker");
    for _ in 0..500 {
        let rt = runtime(1);
        let ch = chan(0);
        let receiver = {
            let ch = ch.clone();
            rt.go(move || ch.recv())
        };
        // The sender readies the receiver, which may have ended, and its runtime with it, before the send is through.
        let sender = thread::spawn(move || ch.send(1));
        assert_eq!(receiver.join().unwrap(), Some(1));
        drop(rt);
        sender.join().unwrap();
    }
}

#[test]
fn a_result_may_outlive_its_runtime() {
    struct PanicsOnDrop;
    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("dropped late");
        }
    }
    let rt = runtime(2);
    let (read, unread) = (rt.go(|| String::from("late")), rt.go(|| PanicsOnDrop));
    eventually("both have ended", || read.is_finished() && unread.is_finished());
    assert_eq!(rt.shutdown_timeout(LONG), 0);
    assert_eq!(read.join().unwrap(), "late");
    drop(unread);
}

#[test]
fn who_yields_lets_the_global_queue_go_first() {
    at_size(1, || {
        // More than a local queue holds, so that most of them are in the global one.
        let (n, ran) = (10_000, Arc::new(AtomicUsize::new(0)));
        for _ in 0..n {
            let ran = ran.clone();
            drop(go!(move || ran.fetch_add(1, SeqCst)));
        }
        let mut yields = 0;
        while ran.load(SeqCst) < n {
            yield_now();
            yields += 1;
        }
        // One that stays on its thread takes turns with those that have not started.
        assert!(yields <= 2 * n, "{yields} yields, while {n} goroutines waited to be run once");
    });
}

#[test]
fn no_deadline_is_slept_through_while_others_come_and_go() {
    at_each_size(|| {
        let ch = gort::chan(0);
        for i in 0..500 {
            // Arms a timer, and takes it out again at once: the M that wakes for it may just be leaving.
            let timed = go!(ch.clone().recv_timeout(Duration::from_secs(60)));
            ch.send(i);
            gort::time::sleep(Duration::from_micros(20));
            assert_eq!(timed.join().unwrap(), Ok(i));
        }
    });
}
