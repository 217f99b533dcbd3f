//! How a process ends, or goes on, after the worst: each case runs in a process of its own (`common::child`). The ends
//! that stacks bring about are in `stacks.rs`.

mod common;

use common::child::{in_capturing_child, in_child};
use common::{dig_here, message, panic_message};
use gort::context::{after_func, background, with_cancel};
use gort::{Deadlock, PanicPolicy, Runtime, chan, channel, go, max_procs, scope, select, yield_now};
use std::env;
use std::io::ErrorKind;
use std::panic::{self, catch_unwind, resume_unwind};
use std::process::exit;
use std::sync::{Barrier, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

// -- Panics --

#[test]
fn the_report_of_a_panic_names_the_goroutine() {
    const LINE: u32 = line!() + 5;
    let ended = in_child("the_report_of_a_panic_names_the_goroutine", &[], || {
        gort::run(|| {
            let told = chan::<()>(0);
            let heard = told.clone();
            let h = go!(name = "worker", {
                heard.recv();
                panic!("boom {}", 4711)
            });
            eprintln!("the id is {}.", h.id());
            told.close();
            let joined: thread::Result<()> = h.join();
            assert_eq!(message(&*joined.unwrap_err()), "boom 4711");
        });
    });
    let ended = ended.with_status(0).says(2, "boom 4711");
    let id = ended.line("the id is ").trim_start_matches("the id is ").trim_end_matches('.').to_owned();
    let report = ended.line("spawned at");
    assert!(report.contains(&format!("goroutine {id} ")), "{report}");
    assert!(report.contains("\"worker\""), "{report}");
    assert!(report.contains(&format!("crash.rs:{LINE}:")), "{report}");
}

#[test]
fn a_function_that_waits_for_a_context_is_spawned_where_it_was_given() {
    const LINE: u32 = line!() + 5;
    let ended = in_child("a_function_that_waits_for_a_context_is_spawned_where_it_was_given", &[], || {
        let (ctx, cancel) = with_cancel(&background());
        for _ in 0..2 {
            let (ran, waits) = channel::<()>(0);
            let _ = after_func(&ctx, move || {
                let _ran = ran;
                panic!("too late")
            });
            // It has waited the first time; the second time the context is done.
            cancel();
            assert_eq!(waits.recv(), None);
        }
    });
    ended.with_status(0).says(2, &format!(", spawned at {}:{LINE}:21: too late", file!()));
}

#[test]
fn the_report_of_a_panic_has_its_text_and_its_place() {
    const LINE: u32 = line!() + 5;
    // Without the hook's word, in which they are as well.
    let ended = in_child("the_report_of_a_panic_has_its_text_and_its_place", &[], || {
        panic::set_hook(Box::new(|_| ()));
        gort::run(|| {
            let _ = go!(name = "worker", || panic!("boom {}", 4711)).join();
            let _ = go!(|| panic!("as it is")).join();
            let _ = go!(|| panic::panic_any(4711)).join();
            // What is raised again is where it was first; what is raised without a hook is nowhere.
            let again = || resume_unwind(catch_unwind(|| panic!("again")).unwrap_err());
            let _ = go!(again).join();
            let other = || {
                drop(catch_unwind(|| panic!("caught")));
                resume_unwind(Box::new("raised"))
            };
            let _ = go!(other).join();
        });
    });
    let ended = ended.with_status(0).says(5, "goroutine ").says(0, "caught");
    let at = |line| format!("panicked at {}:{line}:", file!());
    let worker = ended.line("boom");
    assert!(worker.contains(&at(LINE)) && worker.ends_with(": boom 4711"), "{worker}");
    assert!(worker.contains(&format!("\"worker\" panicked at {}:{LINE}:", file!())), "{worker}");
    assert!(worker.contains(&format!("spawned at {}:{LINE}:", file!())), "{worker}");
    let literal = ended.line(": as it is");
    assert!(literal.contains(&at(LINE + 1)), "{literal}");
    let other = ended.line(": Box<dyn Any>");
    assert!(other.contains(&at(LINE + 2)), "{other}");
    let again = ended.line(": again");
    assert!(again.contains(&at(LINE + 4)), "{again}");
    let raised = ended.line(": raised");
    assert!(raised.contains(" panicked, spawned at "), "{raised}");
}

#[test]
fn a_hook_that_is_set_before_or_after_is_called() {
    let ended = in_child("a_hook_that_is_set_before_or_after_is_called", &[], || {
        let hook = |name: &'static str| panic::set_hook(Box::new(move |_| eprintln!("the {name} hook")));
        hook("first");
        let _ = go!(|| panic!("one")).join();
        // On a plain thread as well.
        let _ = thread::spawn(|| panic!("two")).join();
        hook("second");
        let _ = go!(|| panic!("three")).join();
    });
    ended.with_status(0).says(2, "the first hook").says(1, "the second hook").says(2, "spawned at");
}

/// A goroutine panics, and main ends while its hook is at work, by returning or by `exit`.
#[test]
fn the_report_of_a_panic_is_finished_before_the_process_ends() {
    let test = "the_report_of_a_panic_is_finished_before_the_process_ends";
    for (procs, policy) in [("1", "contain"), ("4", "contain"), ("4", "abort")] {
        let ended = in_child(test, &[("GORT_MAXPROCS", procs), ("GORT_PANIC", policy)], || {
            let (begun, begins) = mpsc::channel();
            panic::set_hook(Box::new(move |info| {
                let _ = begun.send(());
                // As a backtrace that takes its time.
                thread::sleep(Duration::from_millis(300));
                eprintln!("the end of the hook: {}", info.location().is_some());
            }));
            gort::run(|| drop(go!(|| panic!("the last words"))));
            begins.recv().unwrap();
        });
        let status = if policy == "abort" { 2 } else { 0 };
        ended.with_status(status).says(1, "the end of the hook: true").says(1, ": the last words");
    }
}

#[test]
fn a_hook_that_ends_the_process_is_not_waited_for() {
    let ended = in_child("a_hook_that_ends_the_process_is_not_waited_for", &[], || {
        let met = Barrier::new(2);
        panic::set_hook(Box::new(move |_| {
            met.wait();
            exit(5)
        }));
        let start = Instant::now();
        // SAFETY: the function looks at a clock.
        unsafe { libc::atexit(at_end) };
        static START: OnceLock<Instant> = OnceLock::new();
        extern "C" fn at_end() {
            eprintln!("it took {} s", START.get().unwrap().elapsed().as_secs());
        }
        START.set(start).unwrap();
        let all = [go!(|| panic!("one")), go!(|| panic!("two"))];
        all.into_iter().for_each(|h| drop(h.join()));
    });
    assert!(ended.with_status(5).text.contains("it took 0 s"));
}

#[test]
fn the_panic_of_a_detached_goroutine_is_reported() {
    const LINE: u32 = line!() + 3;
    let ended = in_child("the_panic_of_a_detached_goroutine_is_reported", &[], || {
        let (tx, rx) = channel::<()>(0);
        drop(go(move || {
            let _tx = &tx;
            panic!("nobody joins this");
        }));
        assert_eq!(rx.recv(), None);
        common::eventually("it has ended", || gort::num_goroutines() == 0);
    });
    let ended = ended.with_status(0).says(2, "nobody joins this");
    assert!(ended.line("spawned at").contains(&format!("crash.rs:{LINE}:")));
}

#[test]
fn the_panic_of_a_scoped_goroutine_is_reported_once() {
    let ended = in_child("the_panic_of_a_scoped_goroutine_is_reported_once", &[], || {
        let said = panic_message(|| {
            scope(|s| {
                s.go(|| panic!("in a scope"));
            })
        });
        assert_eq!(said, "a scoped goroutine panicked");
    });
    ended.with_status(0).says(2, "in a scope").says(1, "spawned at");
}

#[test]
fn a_panic_in_run_is_the_callers_and_reported_once() {
    let ended = in_child("a_panic_in_run_is_the_callers_and_reported_once", &[], || {
        assert_eq!(panic_message(|| gort::run(|| panic!("in run"))), "in run");
    });
    ended.with_status(0).says(1, "in run").says(0, "spawned at");
}

#[test]
fn after_panics_the_others_go_on() {
    let ended = in_child("after_panics_the_others_go_on", &[("GORT_MAXPROCS", "2")], || {
        let ch = chan::<u32>(0);
        let sum = gort::run(|| {
            for i in 0..100 {
                let tx = ch.clone();
                go!(move || {
                    assert!(i % 10 != 0, "number {i} gives up");
                    tx.send(i);
                });
            }
            ch.iter().take(90).sum::<u32>()
        });
        assert_eq!(sum, 4950 - 450);
        common::eventually("all have ended", || gort::num_goroutines() == 0);
        eprintln!("they went on");
    });
    ended.with_status(0).says(20, "gives up").says(10, "spawned at").says(1, "they went on");
}

#[test]
fn the_abort_policy_makes_a_panic_fatal() {
    const LINE: u32 = line!() + 4;
    let ended = in_child("the_abort_policy_makes_a_panic_fatal", &[], || {
        let rt = Runtime::builder().max_procs(2).panic_policy(PanicPolicy::Abort).build().unwrap();
        rt.run(|| {
            let h = go!(name = "fatal one", || panic!("the last words"));
            let _ = h.join();
            select! {}
        })
    });
    let ended = ended.with_status(2).says(2, "the last words");
    let report = ended.line("spawned at");
    assert!(report.contains("\"fatal one\"") && report.contains(&format!("crash.rs:{LINE}:")), "{report}");
}

#[test]
fn the_abort_policy_holds_for_scoped_goroutines() {
    let ended = in_child("the_abort_policy_holds_for_scoped_goroutines", &[], || {
        let rt = Runtime::builder().max_procs(2).panic_policy(PanicPolicy::Abort).build().unwrap();
        rt.run(|| scope(|s| s.go(|| panic!("the last words")).join().is_err()));
    });
    ended.with_status(2).says(2, "the last words").says(1, "spawned at");
}

#[test]
fn the_abort_policy_is_not_for_panics_that_are_caught() {
    let ended = in_child("the_abort_policy_is_not_for_panics_that_are_caught", &[], || {
        let rt = Runtime::builder().max_procs(2).panic_policy(PanicPolicy::Abort).build().unwrap();
        let caught = rt.go(|| catch_unwind(|| panic!("caught inside")).is_err());
        assert!(caught.join().unwrap());
        assert_eq!(panic_message(|| rt.run(|| panic!("the caller's"))), "the caller's");
    });
    ended.with_status(0).says(1, "caught inside").says(1, "the caller's");
}

#[test]
fn a_panic_while_unwinding_ends_the_process() {
    struct Again;
    impl Drop for Again {
        fn drop(&mut self) {
            panic!("the second");
        }
    }
    let ended = in_child("a_panic_while_unwinding_ends_the_process", &[], || {
        let h = go!(|| {
            let _again = Again;
            panic!("the first");
        });
        let _ = h.join();
    });
    ended.by_signal(libc::SIGABRT).says(1, "the first").says(1, "the second");
}

// -- The environment --

/// What the global runtime has when nobody says.
fn default_procs() -> usize {
    Runtime::builder().build().unwrap().run(max_procs)
}

#[test]
fn gort_maxprocs_sets_the_number_of_ps() {
    for (value, procs) in [("1", 1), ("3", 3), ("64", 64)] {
        let ended = in_child("gort_maxprocs_sets_the_number_of_ps", &[("GORT_MAXPROCS", value)], || {
            assert_eq!(max_procs().to_string(), env::var("GORT_MAXPROCS").unwrap());
            eprintln!("it has {}.", gort::run(max_procs));
        });
        ended.with_status(0).says(1, &format!("it has {procs}.")).says(0, "GORT_MAXPROCS");
    }
}

#[test]
fn an_unusable_gort_maxprocs_is_reported_and_the_default_used() {
    for value in ["abc", "0", "-1", "2.5", "1 2", "99999999999999999999", "0x4", "18446744073709551615"] {
        let test = "an_unusable_gort_maxprocs_is_reported_and_the_default_used";
        let ended = in_child(test, &[("GORT_MAXPROCS", value)], || {
            assert_eq!(gort::run(max_procs), default_procs());
        });
        let ended = ended.with_status(0);
        assert!(ended.line("GORT_MAXPROCS").contains(value), "{}", ended.text);
    }
}

#[test]
fn without_variables_nothing_is_reported() {
    let ended = in_child("without_variables_nothing_is_reported", &[], || {
        assert_eq!(gort::run(max_procs), default_procs());
        go!(|| ()).join().unwrap();
    });
    assert_eq!(ended.with_status(0).text, "");
}

#[test]
fn gort_stack_size_sets_the_size_of_stacks() {
    let ended =
        in_child("gort_stack_size_sets_the_size_of_stacks", &[("GORT_STACK_SIZE", "8388608")], || {
            assert!(gort::run(|| dig_here(8_380_000)) > 0);
            assert!(go!(|| dig_here(8_380_000)).join().unwrap() > 0);
        });
    ended.with_status(0).says(0, "GORT_STACK_SIZE");
}

#[test]
fn an_unusable_gort_stack_size_is_reported_and_the_default_used() {
    for value in ["lots", "0", "100", "-65536", "64k", "99999999999999"] {
        let test = "an_unusable_gort_stack_size_is_reported_and_the_default_used";
        let ended = in_child(test, &[("GORT_STACK_SIZE", value)], || {
            assert!(gort::run(|| dig_here(100 << 10)) > 0);
        });
        let ended = ended.with_status(0);
        assert!(ended.line("GORT_STACK_SIZE").contains(value), "{}", ended.text);
    }
}

/// Runs a panic in a goroutine that nobody joins, under the global runtime.
fn a_panic_of_nobody() {
    gort::run(|| {
        let (tx, rx) = channel::<()>(0);
        drop(go!(name = "nobody's", {
            let _tx = &tx;
            panic!("nobody joins this");
        }));
        rx.recv();
        common::eventually("it has ended", || gort::num_goroutines() == 1);
        eprintln!("it went on");
    });
}

#[test]
fn threads_take_no_capture_of_the_test_that_uses_the_library_first() {
    let test = "threads_take_no_capture_of_the_test_that_uses_the_library_first";
    let ended = in_capturing_child(test, &[], || {
        println!("of the test itself");
        a_panic_of_nobody();
    });
    // By the hook, and in the report.
    let ended = ended.with_status(0).says(2, "nobody joins this").says(1, "it went on");
    let out = String::from_utf8_lossy(&ended.out.stdout);
    assert!(!out.contains("of the test itself"), "{out}");
}

#[test]
fn gort_panic_abort_makes_a_panic_fatal() {
    let test = "gort_panic_abort_makes_a_panic_fatal";
    for (value, status) in [("abort", 2), ("contain", 0), ("", 0), ("ABORT", 0)] {
        let ended = in_child(test, &[("GORT_PANIC", value)], a_panic_of_nobody);
        let went_on = usize::from(status == 0);
        let ended = ended.with_status(status).says(2, "nobody joins this").says(went_on, "it went on");
        ended.says(usize::from(value == "ABORT"), "GORT_PANIC=\"ABORT\" is not `contain` or `abort`");
    }
}

#[test]
fn gort_deadlock_chooses_what_a_deadlock_does() {
    let test = "gort_deadlock_chooses_what_a_deadlock_does";
    for (value, status) in [("panic", 7), ("exit", 2), ("", 7), ("2", 7)] {
        let ended = in_child(test, &[("GORT_DEADLOCK", value), ("GORT_OTHER_THREADS", "idle")], || {
            let said = panic_message(|| gort::run(|| chan::<()>(0).recv()));
            assert!(said.starts_with("all goroutines are asleep - deadlock!"), "{said}");
            exit(7)
        });
        let ended = ended.with_status(status);
        ended.says(usize::from(value == "2"), "GORT_DEADLOCK=\"2\" is not `panic`, `exit` or `ignore`");
    }
}

#[test]
fn gort_max_threads_bounds_the_threads() {
    let ended = in_child(
        "gort_max_threads_bounds_the_threads",
        &[("GORT_MAX_THREADS", "6"), ("GORT_MAXPROCS", "2")],
        || {
            gort::run(|| {
                let all: Vec<_> = (0..20)
                    .map(|_| go!(|| gort::blocking(|| thread::sleep(Duration::from_secs(600)))))
                    .collect();
                all.into_iter().for_each(|h| h.join().unwrap());
            });
        },
    );
    let ended = ended.with_status(2);
    assert!(ended.line("fatal error: ").contains('6'), "{}", ended.excerpt());
}

#[test]
fn with_gort_sigquit_the_process_goes_on() {
    let ended = in_child("with_gort_sigquit_the_process_goes_on", &[("GORT_SIGQUIT", "1")], || {
        gort::run(|| {
            let hold = chan::<()>(0);
            let waits = hold.clone();
            let h = go!(name = "the waiter", move || waits.recv());
            common::until_parked(&h, "chan receive");
            // SAFETY: sends a signal. Without a handler it would end the process.
            assert_eq!(unsafe { libc::kill(libc::getpid(), libc::SIGQUIT) }, 0);
            hold.close();
            h.join().unwrap();
        });
    });
    ended.with_status(0);
}

#[test]
fn variables_of_the_whole_process_that_are_unusable_are_named() {
    for name in ["GORT_MEMBARRIER", "GORT_STACK_GUARD", "GORT_TLS_WARN"] {
        let test = "variables_of_the_whole_process_that_are_unusable_are_named";
        let ended = in_child(test, &[(name, "perhaps")], || gort::run(yield_now));
        let ended = ended.with_status(0);
        assert!(ended.line(name).contains("\"perhaps\" is not"), "{}", ended.text);
    }
}

#[test]
fn the_global_runtime_is_built_once() {
    let ended = in_child("the_global_runtime_is_built_once", &[("GORT_MAXPROCS", "5")], || {
        let builder = || Runtime::builder().max_procs(3).panic_policy(PanicPolicy::Abort);
        // What is refused leaves nothing behind.
        let bad = Runtime::builder().max_procs(0).build_global().unwrap_err();
        assert_eq!(bad.kind(), ErrorKind::InvalidInput);
        builder().build_global().unwrap();
        assert_eq!((max_procs(), gort::run(max_procs)), (3, 3));
        let again = builder().build_global().unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        assert!(again.to_string().contains("runs already"), "{again}");
        gort::run(|| assert!(builder().build_global().is_err()));
        // The other settings hold as well.
        let h = go!(|| panic!("the last words"));
        let _: thread::Result<()> = h.join();
    });
    ended.with_status(2).says(2, "the last words").says(0, "GORT_MAXPROCS");
}

#[test]
fn the_global_runtime_cannot_be_built_once_it_is_used() {
    let ended = in_child("the_global_runtime_cannot_be_built_once_it_is_used", &[], || {
        go!(|| ()).join().unwrap();
        let late = Runtime::builder().max_procs(3).build_global().unwrap_err();
        assert_eq!(late.kind(), ErrorKind::AlreadyExists);
    });
    ended.with_status(0);
}

#[test]
fn of_callers_that_build_the_global_runtime_one_succeeds() {
    let ended = in_child("of_callers_that_build_the_global_runtime_one_succeeds", &[], || {
        let build = |n| move || Runtime::builder().max_procs(n).build_global().ok().map(|()| n);
        let all: Vec<_> = (1..=16).map(|n| thread::spawn(build(n))).collect();
        let built: Vec<usize> = all.into_iter().filter_map(|h| h.join().unwrap()).collect();
        assert_eq!(built, [max_procs()]);
    });
    ended.with_status(0);
}

#[test]
fn what_the_builder_says_holds_and_the_rest_is_the_operators() {
    const ALL: [(&str, &str); 4] = [
        ("GORT_MAXPROCS", "5"),
        ("GORT_PANIC", "abort"),
        ("GORT_DEADLOCK", "nonsense"),
        ("GORT_STACK_SIZE", "1048576"),
    ];
    let test = "what_the_builder_says_holds_and_the_rest_is_the_operators";
    let ended = in_child(test, &ALL, || {
        let builder = Runtime::builder().panic_policy(PanicPolicy::Contain).deadlock(Deadlock::Ignore);
        builder.build_global().unwrap();
        assert_eq!(max_procs(), 5);
        assert!(go!(|| dig_here(1 << 20)).join().unwrap() > 0);
        a_panic_of_nobody();
        // A runtime of its own has nothing of the environment.
        assert_eq!(Runtime::builder().build().unwrap().run(max_procs), default_procs());
    });
    ended.with_status(0).says(1, "it went on").says(0, "GORT_");
}

// -- Ends --

#[test]
fn a_goroutine_may_exit_the_process() {
    for procs in ["1", "4"] {
        let ended = in_child("a_goroutine_may_exit_the_process", &[("GORT_MAXPROCS", procs)], || {
            gort::run(|| {
                // Others that wait, and others that run.
                let hold = chan::<()>(0);
                for _ in 0..10 {
                    drop(go!(hold.clone().recv()));
                    go!(|| {
                        loop {
                            yield_now();
                        }
                    });
                }
                go!(|| exit(7));
                select! {}
            })
        });
        ended.with_status(7);
    }
}

#[test]
fn the_main_goroutine_may_exit_the_process() {
    let ended = in_child("the_main_goroutine_may_exit_the_process", &[], || gort::run(|| exit(9)));
    ended.with_status(9);
}

#[test]
fn the_process_ends_although_goroutines_are_left() {
    for procs in ["1", "4"] {
        let ended =
            in_child("the_process_ends_although_goroutines_are_left", &[("GORT_MAXPROCS", procs)], || {
                gort::run(|| {
                    drop(go!(|| select! {}));
                    drop(go!(|| {
                        loop {
                            yield_now();
                        }
                    }));
                });
            });
        assert_eq!(ended.with_status(0).text, "");
    }
}
