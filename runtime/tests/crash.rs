//! How a process ends, or goes on, after the worst: each case runs in a process of its own, which is this
//! test binary once more.

mod common;

use common::{message, panic_message};
use gort::{Builder, PanicPolicy, Runtime, chan, channel, go, max_procs, scope, select, yield_now};
use std::env;
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::panic::catch_unwind;
use std::process::{Command, Output, Stdio, exit};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Names the test whose body a child is to run.
const CHILD: &str = "GORT_TEST_CHILD";
/// How long a child may take; only one that hangs takes that long.
const LIMIT: Duration = Duration::from_secs(60);

/// What became of a child.
struct Ended {
    out: Output,
    text: String,
}

/// Runs the body in a child, which ends with status 0 if the body returns. `test` is the name of the calling
/// test.
#[track_caller]
fn in_child(test: &str, vars: &[(&str, &str)], body: impl FnOnce()) -> Ended {
    if env::var_os(CHILD).is_some_and(|name| name == test) {
        limit(libc::RLIMIT_CORE, 0);
        body();
        exit(0);
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env_remove("GORT_MAXPROCS").env_remove("GORT_STACK_SIZE");
    command.env("RUST_BACKTRACE", "0").env(CHILD, test).envs(vars.iter().copied());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (tell, told) = mpsc::channel();
    let waits = thread::spawn(move || tell.send(child.wait_with_output()).unwrap());
    let ended = told.recv_timeout(LIMIT);
    if ended.is_err() {
        // SAFETY: sends a signal, to a child that has not been waited for.
        unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
    }
    let out = ended.unwrap_or_else(|_| told.recv().unwrap()).unwrap();
    waits.join().unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_ne!(out.status.signal(), Some(libc::SIGKILL), "the child hung:\n{text}");
    Ended { out, text }
}

impl Ended {
    /// Says that it ended with this status.
    #[track_caller]
    fn with_status(self, status: i32) -> Ended {
        assert_eq!(self.out.status.code(), Some(status), "{}:\n{}", self.out.status, self.text);
        self
    }

    /// Says that stderr has this text, so many times.
    #[track_caller]
    fn says(self, times: usize, what: &str) -> Ended {
        assert_eq!(self.text.matches(what).count(), times, "{what:?} in:\n{}", self.text);
        self
    }

    /// The one line of stderr that has this text.
    #[track_caller]
    fn line(&self, what: &str) -> &str {
        let mut lines = self.text.lines().filter(|l| l.contains(what));
        let line = lines.next().unwrap_or_else(|| panic!("no {what:?} in:\n{}", self.text));
        assert!(lines.next().is_none(), "{what:?} more than once in:\n{}", self.text);
        line
    }
}

/// Sets a limit of the process.
fn limit(resource: libc::__rlimit_resource_t, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: reads the one struct.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
}

/// What /proc/self/status says of the process's memory, in bytes.
fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix(what)).unwrap();
    let kib = line.trim_start_matches(':').trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() << 10
}

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
    assert_eq!(ended.out.status.signal(), Some(libc::SIGABRT), "{}", ended.text);
    ended.says(1, "the first").says(1, "the second");
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

/// Uses the stack down to `depth` bytes below `from`.
#[inline(never)]
fn dig(from: usize, depth: usize) -> u64 {
    let room = black_box([1_u8; 512]);
    let here = std::ptr::from_ref(&room).addr();
    let deeper = if from.wrapping_sub(here) < depth { dig(from, depth) } else { 0 };
    deeper + u64::from(black_box(room)[511])
}

fn dig_here(depth: usize) -> u64 {
    let top = black_box(0_u8);
    dig(std::ptr::from_ref(&top).addr(), depth)
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

// -- Stacks --

/// Says that it was ended by a signal as a bad access is, and not by the end of its body.
#[track_caller]
fn by_a_signal(ended: &Ended) {
    let signal = ended.out.status.signal();
    assert!(
        [Some(libc::SIGSEGV), Some(libc::SIGBUS), Some(libc::SIGABRT)].contains(&signal),
        "{}:\n{}",
        ended.out.status,
        ended.text
    );
    assert_eq!(ended.text.matches("survived").count(), 0);
}

#[test]
fn a_stack_overflow_ends_the_process_by_a_signal() {
    let ended = in_child("a_stack_overflow_ends_the_process_by_a_signal", &[], || {
        gort::run(|| {
            // Neighbours, that it must not write into.
            let hold = chan::<()>(0);
            for _ in 0..10 {
                drop(go!(hold.clone().recv()));
            }
            yield_now();
            let _ = go!(name = "deep", || dig_here(usize::MAX)).join();
        });
        eprintln!("survived");
    });
    by_a_signal(&ended);
}

#[test]
fn a_stack_overflow_of_the_main_goroutine_ends_the_process_by_a_signal() {
    let ended = in_child("a_stack_overflow_of_the_main_goroutine_ends_the_process_by_a_signal", &[], || {
        gort::run(|| dig_here(usize::MAX));
        eprintln!("survived");
    });
    by_a_signal(&ended);
}

#[test]
fn a_stack_overflow_of_a_large_stack_ends_the_process_by_a_signal() {
    let ended = in_child("a_stack_overflow_of_a_large_stack_ends_the_process_by_a_signal", &[], || {
        let _ = Builder::new().stack_size(1 << 20).go(|| dig_here(usize::MAX)).unwrap().join();
        eprintln!("survived");
    });
    by_a_signal(&ended);
}

#[test]
fn a_frame_larger_than_the_stack_ends_the_process_by_a_signal() {
    #[inline(never)]
    fn large() -> u8 {
        let room = black_box([1_u8; 4 << 20]);
        room[black_box(17)]
    }
    let ended = in_child("a_frame_larger_than_the_stack_ends_the_process_by_a_signal", &[], || {
        gort::run(|| {
            let hold = chan::<()>(0);
            for _ in 0..40 {
                drop(go!(hold.clone().recv()));
            }
            yield_now();
            let _ = go!(|| large()).join();
        });
        eprintln!("survived");
    });
    by_a_signal(&ended);
}

/// Says that it ended because there was no memory for a stack.
#[track_caller]
fn for_want_of_a_stack(ended: Ended) {
    let ended = ended.with_status(2).says(0, "survived");
    // Two OS threads may come to it at the same time, each for its goroutine.
    let line = ended.text.lines().find(|l| l.contains("fatal error")).expect("a fatal error");
    assert!(line.contains("stack"), "{line}");
    let limits = ["ulimit", "memory", "vm.max_map_count"];
    assert!(limits.iter().any(|l| line.contains(l)), "names no limit: {line}");
}

/// Starts goroutines that stay, more than the limits of these tests allow.
fn start_too_many() {
    gort::run(|| {
        let hold = chan::<()>(0);
        for i in 0..200_000 {
            drop(go!(hold.clone().recv()));
            if i % 100 == 0 {
                yield_now();
            }
        }
        eprintln!("survived");
    });
}

#[test]
fn no_address_space_for_stacks_is_a_fatal_error() {
    let ended = in_child("no_address_space_for_stacks_is_a_fatal_error", &[("GORT_MAXPROCS", "2")], || {
        limit(libc::RLIMIT_AS, memory("VmSize") + (2 << 30));
        start_too_many();
    });
    for_want_of_a_stack(ended);
}

#[test]
fn no_address_space_for_a_large_stack_is_a_fatal_error() {
    let test = "no_address_space_for_a_large_stack_is_a_fatal_error";
    let ended = in_child(test, &[("GORT_MAXPROCS", "2")], || {
        gort::run(|| {
            // What is there goes on; what is new has no room.
            assert_eq!(go!(|| 1).join().unwrap(), 1);
            limit(libc::RLIMIT_AS, memory("VmSize") + (512 << 20));
            assert_eq!(go!(|| 2).join().unwrap(), 2);
            let h = go!(stack_size = 1 << 30, || 3);
            assert_eq!(h.join().unwrap(), 3);
            eprintln!("survived");
        });
    });
    for_want_of_a_stack(ended);
}

#[test]
fn no_memory_for_stacks_is_a_fatal_error() {
    let ended = in_child("no_memory_for_stacks_is_a_fatal_error", &[("GORT_MAXPROCS", "2")], || {
        gort::run(|| assert_eq!(go!(|| 1).join().unwrap(), 1));
        limit(libc::RLIMIT_DATA, memory("VmData") + (512 << 20));
        start_too_many();
    });
    for_want_of_a_stack(ended);
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
