//! The first of several answers, or none in time: a context with a deadline over goroutines that each take their time.
//!
//! Whoever answers first wins. The others are told to stop by the context, by its deadline or because the answer is
//! there, whatever they wait for; and nobody is left behind when `wait` returns.

use gort::context::{Context, background, with_timeout};
use gort::sync::{Mutex, WaitGroup};
use gort::time::after;
use gort::{Sender, channel, select};
use gort_examples::{Opt, options, say};
use std::sync::Arc;
use std::time::Duration;

fn main() {
    let [replicas, fastest, deadline] = options(
        "Asks several replicas at once, takes the first answer, and gives up at a deadline.",
        [
            Opt { name: "replicas", default: 5, range: 1..=100_000, about: "how many are asked" },
            Opt { name: "fastest", default: 10, range: 0..=60_000, about: "milliseconds of the fastest one" },
            Opt { name: "deadline", default: 200, range: 0..=60_000, about: "milliseconds to wait" },
        ],
    );
    let millis = |n: usize| Duration::from_millis(n as u64);
    gort::run(|| {
        let (ctx, cancel) = with_timeout(&background(), millis(deadline));
        let (tx, rx) = channel(0);
        let stopped = Arc::new(Mutex::new(0));
        let wg = WaitGroup::new();
        for replica in 0..replicas {
            // The last one is the fastest.
            let thinks = millis(fastest * (replicas - replica));
            let (ctx, tx, stopped) = (ctx.clone(), tx.clone(), stopped.clone());
            wg.go(move || {
                if !answer(&ctx, &tx, replica, thinks) {
                    *stopped.lock() += 1;
                }
            });
        }
        let first = select! {
            recv(rx) -> replica => replica,
            recv(ctx.done()) -> _ => None,
        };
        cancel();
        wg.wait();
        match first {
            Some(replica) => say!("replica {replica} was the first of {replicas}"),
            None => say!("nobody answered: {}", ctx.err().expect("it is over")),
        }
        say!("{} stopped without an answer", *stopped.lock());
    });
}

/// Thinks, and answers if somebody still listens; whether somebody did.
fn answer(ctx: &Context, tx: &Sender<usize>, replica: usize, thinks: Duration) -> bool {
    select! {
        recv(after(thinks)) -> _ => {}
        recv(ctx.done()) -> _ => return false,
    }
    select! {
        send(tx, replica) -> sent => sent.is_ok(),
        recv(ctx.done()) -> _ => false,
    }
}
