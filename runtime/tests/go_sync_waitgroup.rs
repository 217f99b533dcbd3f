//! Go's `sync/waitgroup_test.go`, case by case. `TestWaitGroupAlign` has no counterpart: alignment is the compiler's business.

mod common;

use common::child::in_child;
use common::{at_each_size, on_both, panic_message};
use gort::sync::WaitGroup;
use gort::{PanicPolicy, Runtime, chan, go};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

fn wait_group(wg1: &WaitGroup, wg2: &WaitGroup) {
    let n = 16;
    wg1.add(n);
    wg2.add(n);
    let exited = chan(n as usize);
    for _ in 0..n {
        let (wg1, wg2, exited) = (wg1.clone(), wg2.clone(), exited.clone());
        go!(move || {
            wg1.done();
            wg2.wait();
            exited.send(true);
        });
    }
    wg1.wait();
    for _ in 0..n {
        assert!(exited.try_recv().is_err(), "the group was released too soon");
        wg2.done();
    }
    // Blocks if somebody was not let go.
    (0..n).for_each(|_| _ = exited.recv());
}

#[test]
fn test_wait_group() {
    on_both(|| {
        let (wg1, wg2) = (WaitGroup::new(), WaitGroup::new());
        // Several times, to see that what is left behind is in order.
        (0..8).for_each(|_| wait_group(&wg1, &wg2));
    });
}

#[test]
fn test_wait_group_misuse() {
    on_both(|| {
        let wg = WaitGroup::new();
        wg.add(1);
        wg.done();
        assert_eq!(panic_message(|| wg.done()), "sync: negative WaitGroup counter");
        // It is as it was.
        wg.wait();
    });
}

#[test]
fn test_wait_group_race() {
    at_each_size(|| {
        for _ in 0..1000 {
            let (wg, n) = (WaitGroup::new(), Arc::new(AtomicI32::new(0)));
            for _ in 0..2 {
                wg.add(1);
                let (wg, n) = (wg.clone(), n.clone());
                go!(move || {
                    n.fetch_add(1, SeqCst);
                    wg.done();
                });
            }
            wg.wait();
            assert_eq!(n.load(SeqCst), 2, "a spurious wake-up");
        }
    });
}

#[test]
fn test_wait_group_go() {
    at_each_size(|| {
        let (wg, i) = (WaitGroup::new(), Arc::new(AtomicI32::new(0)));
        wg.go({
            let i = i.clone();
            move || _ = i.fetch_add(1, SeqCst)
        });
        wg.wait();
        assert_eq!(i.load(SeqCst), 1);
    });
}

/// Where a panic is the end of the process, `wait` does not return before that.
#[test]
fn test_issue76126() {
    let ended = in_child("test_issue76126", &[], || {
        let rt = Runtime::builder().max_procs(4).panic_policy(PanicPolicy::Abort).build().unwrap();
        rt.run(|| {
            let wg = WaitGroup::new();
            wg.go(|| panic!("not to be waited for"));
            wg.wait();
            eprintln!("Wait returned");
        });
    });
    ended.with_status(2).says(2, "not to be waited for").says(0, "Wait returned");
}
