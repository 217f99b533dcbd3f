//! Producers and consumers on one channel, and two wait groups that say when to close it and when to stop.
//!
//! Ten producers send their number; ten consumers receive until the channel is closed and drained. The channel is
//! closed by the one who knows that all producers are done.

use gort::sync::WaitGroup;
use gort::{Chan, chan};
use gort_examples::{Opt, options, say};

fn main() {
    let [producers, consumers, capacity] = options(
        "Producers send their numbers to consumers over one channel.",
        [
            Opt { name: "producers", default: 10, range: 0..=1_000_000, about: "goroutines that send" },
            Opt { name: "consumers", default: 10, range: 1..=1_000_000, about: "goroutines that receive" },
            Opt { name: "capacity", default: 10, range: 0..=1_000_000, about: "values that fit the channel" },
        ],
    );
    gort::run(|| {
        let msg = chan(capacity);

        let consuming = WaitGroup::new();
        for _ in 0..consumers {
            let msg = msg.clone();
            consuming.go(move || consumer(msg));
        }

        let producing = WaitGroup::new();
        for i in 0..producers {
            let msg = msg.clone();
            producing.go(move || producer(i, msg));
        }

        producing.wait();
        msg.close();
        say!("closed");
        consuming.wait();
        say!("finish");
    });
}

fn producer(i: usize, msg: Chan<usize>) {
    msg.send(i);
}

fn consumer(msg: Chan<usize>) {
    for id in &msg {
        say!("recive {id}");
    }
    say!("consumer exist");
}
