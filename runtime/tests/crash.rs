//! How a process ends, or goes on, after the worst: each case runs in a process of its own (`common::child`). The ends
//! that stacks bring about are in `stacks.rs`.

mod common;

use common::child::in_child;
use common::{dig_here, message, panic_message};
use gort::{PanicPolicy, Runtime, chan, channel, go, max_procs, scope, select, yield_now};
use std::env;
use std::panic::catch_unwind;
use std::process::exit;
use std::thread;

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
    let ended = ended.with_status(0).says(1, "boom 4711");
    let id = ended.line("the id is ").trim_start_matches("the id is ").trim_end_matches('.').to_owned();
    let report = ended.line("spawned at");
    assert!(report.contains(&format!("goroutine {id} ")), "{report}");
    assert!(report.contains("\"worker\""), "{report}");
    assert!(report.contains(&format!("crash.rs:{LINE}:")), "{report}");
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
    let ended = ended.with_status(0).says(1, "nobody joins this");
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
    ended.with_status(0).says(1, "in a scope").says(1, "spawned at");
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
    ended.with_status(0).says(10, "gives up").says(10, "spawned at").says(1, "they went on");
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
    let ended = ended.with_status(2).says(1, "the last words");
    let report = ended.line("spawned at");
    assert!(report.contains("\"fatal one\"") && report.contains(&format!("crash.rs:{LINE}:")), "{report}");
}

#[test]
fn the_abort_policy_holds_for_scoped_goroutines() {
    let ended = in_child("the_abort_policy_holds_for_scoped_goroutines", &[], || {
        let rt = Runtime::builder().max_procs(2).panic_policy(PanicPolicy::Abort).build().unwrap();
        rt.run(|| scope(|s| s.go(|| panic!("the last words")).join().is_err()));
    });
    ended.with_status(2).says(1, "the last words").says(1, "spawned at");
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
