//! Closing with many senders and one receiver: the receiver says "stop" by closing a second channel.
//!
//! The data channel is never closed: a sender that came late would panic. Each sender waits for two things at once,
//! the stop signal and room for its next value. The receiver prints what it gets, and stops at the largest value.

use gort::sync::WaitGroup;
use gort::{chan, go, select};
use gort_examples::{Opt, Random, options, say};

fn main() {
    let [senders, max] = options(
        "Many senders send random values to one receiver, which tells them to stop at the value MAX - 1.",
        [
            Opt { name: "senders", default: 1000, range: 1..=1_000_000, about: "goroutines that send" },
            Opt { name: "max", default: 100_000, range: 1..=usize::MAX, about: "MAX: values are below this" },
        ],
    );
    gort::run(|| {
        let data = chan::<usize>(100);
        let stop = chan::<()>(0);

        let sending = WaitGroup::new();
        for _ in 0..senders {
            let (data, stop) = (data.clone(), stop.clone());
            sending.go(move || {
                let mut random = Random::new();
                loop {
                    select! {
                        recv(stop) -> _ => return,
                        send(data, random.below(max)) => {}
                    }
                }
            });
        }

        let receiver = go!(move || {
            for value in &data {
                if value == max - 1 {
                    say!("send stop signal to senders.");
                    stop.close();
                    return;
                }
                say!("{value}");
            }
        });

        receiver.join().expect("the receiver does not panic");
        sending.wait();
    });
}
