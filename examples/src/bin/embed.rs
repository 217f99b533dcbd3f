//! Goroutines inside an ordinary program: OS threads and goroutines meet on the same channels.
//!
//! There is no `gort::run` here. A `std::thread` hands out the work, goroutines do it, and the main thread, an
//! ordinary one too, collects. The first `go!` starts the runtime. What blocks a goroutine parks it; what blocks a
//! thread blocks that thread, which the scheduler does not need.

use gort::{channel, go};
use gort_examples::{Opt, options, say};
use std::thread;

fn main() {
    let [limit, goroutines] = options(
        "A plain thread hands out numbers, goroutines compute, the main thread collects: the longest Collatz chain.",
        [
            Opt { name: "limit", default: 10_000, range: 2..=10_000_000, about: "starts are below this" },
            Opt { name: "goroutines", default: 100, range: 1..=1_000_000, about: "goroutines that compute" },
        ],
    );
    let (jobs, work) = channel::<u64>(64);
    let (done, results) = channel::<(u32, u64)>(64);

    // An ordinary thread, which knows of goroutines no more than the channel it sends on.
    let producer = thread::spawn(move || {
        for start in 1..limit as u64 {
            jobs.send(start).expect("the goroutines receive until we close");
        }
    });

    for _ in 0..goroutines {
        let (work, done) = (work.clone(), done.clone());
        go!(move || {
            for start in work {
                done.send((chain_length(start), start)).expect("main receives until we are done");
            }
        });
    }
    // Only the goroutines are left as senders: the results end when the last of them does.
    drop(done);

    let (mut count, mut longest) = (0, (0, 0));
    for (length, start) in results {
        count += 1;
        // Of equally long ones the smallest.
        if length > longest.0 || length == longest.0 && start < longest.1 {
            longest = (length, start);
        }
    }
    producer.join().expect("the producer does not panic");
    say!("{count} results from {goroutines} goroutines");
    say!("the longest Collatz chain below {limit} starts at {} and has {} numbers", longest.1, longest.0);
}

/// How many numbers lead from `n` to 1 (halve if even, else triple and add one), both included.
fn chain_length(mut n: u64) -> u32 {
    let mut length = 1;
    while n != 1 {
        n = if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 };
        length += 1;
    }
    length
}
