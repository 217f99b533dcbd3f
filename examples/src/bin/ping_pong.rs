//! The price of a switch: two goroutines throw a ball to and fro over two unbuffered channels.
//!
//! A round is two sends and two receives, and two switches from one goroutine to the other.

use gort::{chan, go};
use gort_examples::{Opt, options, say};
use std::time::Instant;

fn main() {
    let [rounds] = options(
        "Two goroutines pass a value to and fro; prints the time of a round.",
        [Opt { name: "rounds", default: 200_000, range: 1..=1_000_000_000, about: "rounds to play" }],
    );
    let (took, last) = gort::run(|| {
        let (ping, pong) = (chan::<usize>(0), chan::<usize>(0));
        let (serve, back) = (ping.clone(), pong.clone());
        go!(move || {
            for ball in &serve {
                back.send(ball + 1);
            }
        });
        let start = Instant::now();
        let mut ball = 0;
        for _ in 0..rounds {
            ping.send(ball);
            ball = pong.recv().expect("the other one returns each ball");
        }
        let took = start.elapsed();
        ping.close();
        (took, ball)
    });
    assert_eq!(last, rounds, "each round adds one to the ball");
    say!("{rounds} rounds, {} ns per round", took.as_nanos() / rounds as u128);
}
