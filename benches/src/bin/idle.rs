//! The processor time of a program that does nothing: many goroutines wait, and so does everything else.
//!
//! `idle [GOROUTINES] [SECONDS]`; 100,000 and 10 by default.

use gort_bench_harness::usage::cpu;
use std::env;
use std::thread;
use std::time::Duration;

fn number(nth: usize, otherwise: u64) -> u64 {
    env::args().nth(nth).map_or(otherwise, |arg| arg.parse().expect("a number"))
}

fn main() {
    let (goroutines, seconds) = (number(1, 100_000), number(2, 10));
    let hold = gort::chan::<()>(0);
    // The main goroutine waits too, for what this thread may send: as in a server without a request.
    let (ready, quit) = (gort::chan::<()>(0), gort::chan::<()>(0));
    let runs = {
        let (hold, ready, quit) = (hold.clone(), ready.clone(), quit.clone());
        thread::spawn(move || {
            gort::run(move || {
                for _ in 0..goroutines {
                    gort::go!(hold.clone().recv());
                }
                ready.send(());
                quit.recv();
            });
        })
    };
    ready.recv();
    // Memory that the start has used goes back in the meantime.
    thread::sleep(Duration::from_secs(5));
    let before = cpu();
    thread::sleep(Duration::from_secs(seconds));
    let used = cpu() - before;
    let part = used.as_secs_f64() / seconds as f64;
    println!(
        "{goroutines} goroutines, {seconds} s: {used:?} of processor time, {:.4} % of a core",
        part * 100.0
    );
    quit.send(());
    runs.join().expect("the main goroutine ends");
}
