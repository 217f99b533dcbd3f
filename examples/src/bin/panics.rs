//! What becomes of a goroutine's panic: it is told on stderr, with the goroutine, the place and the text, and handed to
//! whoever joins; the others go on. With GORT_PANIC=abort it ends the program, as in Go.

use gort::{chan, go};
use gort_examples::{Opt, options, say};

fn main() {
    let [workers] = options(
        "Starts workers of which every third panics, and asks what became of each.",
        [Opt { name: "workers", default: 6, range: 1..=1000, about: "how many are started" }],
    );
    gort::run(|| {
        let done = chan(workers);
        let all: Vec<_> = (1..=workers)
            .map(|n| {
                let done = done.clone();
                go!(name = format!("worker {n}"), {
                    assert!(n % 3 != 0, "{n} is a multiple of three");
                    done.send(n);
                    n * n
                })
            })
            .collect();
        for (n, worker) in (1..).zip(all) {
            match worker.join() {
                Ok(square) => say!("worker {n}: {square}"),
                // The payload, as for a thread: the text of the panic, if it has one.
                Err(payload) => match payload.downcast_ref::<String>() {
                    Some(text) => say!("worker {n} panicked: {text}"),
                    None => say!("worker {n} panicked"),
                },
            }
        }
        say!("{} of {workers} were done", done.len());
    });
}
