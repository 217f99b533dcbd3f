//! What a sanitizer must report, or its silence about the other tests means nothing: `.ci/sanitize` runs each of the ignored
//! tests by itself and looks for the report. And what it must not report.

#![cfg(gort_sanitize)]

use gort::sync::WaitGroup;
use gort::{Runtime, go};
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

static mut COUNT: usize = 0;

/// Each waits for the other one, without any order of memory, and so they run on two threads.
fn meet(here: &AtomicUsize) {
    here.fetch_add(1, Relaxed);
    while here.load(Relaxed) < 2 {
        spin_loop();
    }
}

#[test]
#[ignore = "a data race"]
fn a_data_race_of_two_goroutines() {
    static HERE: AtomicUsize = AtomicUsize::new(0);
    let racer = || {
        meet(&HERE);
        // SAFETY: it is not: the other one writes as well.
        unsafe { COUNT += 1 };
    };
    Runtime::builder().max_procs(4).build().unwrap().run(|| {
        let others = [go!(racer), go!(racer)];
        others.map(|h| h.join().unwrap());
    });
}

#[test]
#[ignore = "a use of freed memory"]
fn a_use_of_freed_memory_in_a_goroutine() {
    Runtime::builder().max_procs(1).build().unwrap().run(|| {
        let read = go!(|| {
            let gone = black_box(Box::new(7)).as_ref() as *const i32;
            gort::yield_now();
            // SAFETY: it is not: the box has been dropped.
            unsafe { gone.read_volatile() }
        });
        black_box(read.join().unwrap());
    });
}

#[test]
#[ignore = "a write past the end of a local variable"]
fn a_write_past_a_local_of_a_goroutine() {
    Runtime::builder().max_procs(1).build().unwrap().run(|| {
        let write = go!(|| {
            let mut room = [0_u8; 16];
            let start = black_box(room.as_mut_ptr());
            gort::yield_now();
            // SAFETY: it is not: the array ends before.
            unsafe { start.add(16).write_volatile(1) };
            black_box(room);
        });
        write.join().unwrap();
    });
}

/// What must not be reported: the scavenger takes idle stacks from under their coroutines, and the frames that these left
/// there are nobody's.
#[test]
fn stacks_that_were_given_back_are_used_again() {
    const N: isize = 3000;
    Runtime::builder().max_procs(2).build().unwrap().run(|| {
        for _ in 0..3 {
            let (here, gate, all) = (WaitGroup::new(), WaitGroup::new(), WaitGroup::new());
            here.add(N);
            gate.add(1);
            for _ in 0..N {
                let (here, gate) = (here.clone(), gate.clone());
                all.go(move || {
                    let room = black_box([1_u8; 2000]);
                    here.done();
                    gate.wait();
                    black_box(room);
                });
            }
            here.wait();
            gate.done();
            all.wait();
            // Two periods of the scavenger.
            gort::time::sleep(Duration::from_millis(1200));
        }
    });
}
