//! Processes that fork, exit and shut runtimes down while goroutines are there.

mod common;

use common::child::in_child;
use gort::{Runtime, chan, go};
use std::process::{Command, exit};
use std::time::Duration;

/// Forks; the child does `f` and ends with status 7. How it ended.
fn forked(f: impl FnOnce()) -> libc::c_int {
    // SAFETY: the child has one thread, and does what each test says of it.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0);
        if pid == 0 {
            f();
            libc::_exit(7);
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        status
    }
}

fn aborted(status: libc::c_int) -> bool {
    libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT
}

const SAYS: &str = "forked from one that runs goroutines";

#[test]
fn a_goroutine_that_parks_in_a_forked_child_ends_it_with_a_message() {
    in_child("a_goroutine_that_parks_in_a_forked_child_ends_it_with_a_message", &[], || {
        gort::run(|| {
            let status = forked(|| {
                chan::<i32>(0).recv();
            });
            assert!(aborted(status), "{status}");
            // The parent goes on.
            assert_eq!(go!(|| 1).join().unwrap(), 1);
        });
    })
    .with_status(0)
    .says(1, SAYS);
}

#[test]
fn spawning_in_a_forked_child_ends_it_with_a_message() {
    in_child("spawning_in_a_forked_child_ends_it_with_a_message", &[], || {
        gort::run(|| {
            assert!(aborted(forked(|| drop(go!(|| 1)))));
            assert!(aborted(forked(gort::yield_now)));
        });
        // On a plain thread as well.
        assert!(aborted(forked(|| drop(go!(|| 1)))));
        assert!(aborted(forked(|| _ = chan::<i32>(0).recv())));
    })
    .with_status(0)
    .says(4, SAYS);
}

#[test]
fn what_does_not_need_the_scheduler_works_in_a_forked_child() {
    in_child("what_does_not_need_the_scheduler_works_in_a_forked_child", &[], || {
        let body = || {
            let status = forked(|| {
                let ch = chan(1);
                ch.send(1);
                assert_eq!(ch.recv(), Some(1));
            });
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status}");
        };
        body();
        gort::run(body);
    })
    .with_status(0);
}

#[test]
fn commands_can_be_started_from_goroutines() {
    common::at_each_size(|| {
        let outputs: Vec<_> = (0..8)
            .map(|i| go!(move || Command::new("echo").arg(i.to_string()).output().unwrap().stdout))
            .collect();
        for (i, output) in outputs.into_iter().enumerate() {
            assert_eq!(output.join().unwrap(), format!("{i}\n").into_bytes());
        }
    });
}

#[test]
fn a_goroutine_may_end_the_process() {
    // With goroutines that stay on their threads main could be one of those that wait for the thread that computes.
    in_child("a_goroutine_may_end_the_process", &[("GORT_MIGRATE", "1")], || {
        gort::run(|| {
            for _ in 0..100 {
                go!(|| chan::<i32>(0).recv());
            }
            go!(|| loop {
                std::hint::black_box(0);
            });
            gort::time::sleep(Duration::from_millis(20));
            go!(|| exit(3)).join().unwrap();
        });
    })
    .with_status(3);
}

#[test]
fn shutting_one_runtime_down_does_not_touch_another() {
    let (a, b) = (Runtime::builder().build().unwrap(), Runtime::builder().build().unwrap());
    let (to_b, from_b) = (chan(0), chan(0));
    let echo = b.go({
        let (to_b, from_b) = (to_b.clone(), from_b.clone());
        move || {
            for v in &to_b {
                from_b.send(v);
            }
        }
    });
    // One that waits, one that computes, one that blocks, one that has its thread for itself.
    a.go(|| chan::<i32>(0).recv());
    a.go(|| {
        let _mine = gort::lock_os_thread();
        chan::<i32>(0).recv();
    });
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    a.go({
        let stop = stop.clone();
        move || while !stop.load(std::sync::atomic::Ordering::SeqCst) {}
    });
    a.go(|| gort::blocking(|| std::thread::sleep(Duration::from_millis(100))));
    std::thread::sleep(Duration::from_millis(30));
    assert!(a.shutdown_timeout(Duration::from_millis(10)) >= 3);
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    for i in 0..1000 {
        to_b.send(i);
        assert_eq!(from_b.recv(), Some(i));
    }
    to_b.close();
    echo.join().unwrap();
    assert_eq!(b.shutdown_timeout(Duration::from_secs(10)), 0);
}

#[test]
fn threads_are_used_again_by_the_next_runtime() {
    in_child("threads_are_used_again_by_the_next_runtime", &[], || {
        let tasks = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let mut first = 0;
        for round in 0..50 {
            let rt = Runtime::builder().max_procs(4).build().unwrap();
            rt.run(|| {
                let all: Vec<_> = (0..8)
                    .map(|_| go!(gort::blocking(|| std::thread::sleep(Duration::from_millis(2)))))
                    .collect();
                all.into_iter().for_each(|h| h.join().unwrap());
            });
            assert_eq!(rt.shutdown_timeout(Duration::from_secs(10)), 0);
            if round == 9 {
                first = tasks();
            }
        }
        let last = tasks();
        assert!(last <= first + 16, "{first} threads after 10 runtimes, {last} after 50");
    })
    .with_status(0);
}

#[test]
fn a_forked_child_waits_for_no_lock_whose_holder_is_not_in_it() {
    in_child("a_forked_child_waits_for_no_lock_whose_holder_is_not_in_it", &[], || {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let rt = Runtime::builder().max_procs(2).build().unwrap();
        // Starts goroutines by the hundred, so that stacks, admissions and Gs come and go.
        let churn = rt.go({
            let stop = stop.clone();
            move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let all: Vec<_> = (0..300).map(|_| go!(gort::yield_now)).collect();
                    all.into_iter().for_each(|h| h.join().unwrap());
                }
            }
        });
        go!(|| ()).join().unwrap();
        for _ in 0..100 {
            assert!(aborted(forked(|| drop(go!(|| 1)))));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        churn.join().unwrap();
    })
    .with_status(0);
}
