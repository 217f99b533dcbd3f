//! Closing a channel that has one sender: the sender closes it, however many receivers there are.
//!
//! First one receiver, with Go's `Chan` and its `close`. Then several receivers, with Rust's two halves: there the
//! channel closes by itself when the sender goes, and nobody can close it twice or send after that.

use gort::{chan, channel, go};
use gort_examples::{Opt, options, say};

fn main() {
    let [values, receivers] = options(
        "The only sender of a channel closes it: for one receiver, then for several.",
        [
            Opt { name: "values", default: 100, range: 0..=100_000_000, about: "values to send" },
            Opt {
                name: "receivers",
                default: 4,
                range: 1..=1_000_000,
                about: "receivers in the second part",
            },
        ],
    );
    gort::run(|| {
        one_receiver(values);
        many_receivers(values, receivers);
    });
}

/// 1:1.
fn one_receiver(values: usize) {
    let data = chan(0);
    let sender = data.clone();
    go!(move || {
        (0..values).for_each(|value| sender.send(value));
        sender.close();
    });
    let (mut count, mut sum) = (0, 0);
    for value in &data {
        count += 1;
        sum += value;
    }
    say!("one receiver: {count} values, sum {sum}");
}

/// 1:M.
fn many_receivers(values: usize, receivers: usize) {
    let (sender, data) = channel(0);
    let handles: Vec<_> = (0..receivers)
        .map(|_| {
            let data = data.clone();
            go!(move || data.iter().fold((0, 0), |(count, sum), value: usize| (count + 1, sum + value)))
        })
        .collect();
    go!(move || {
        for value in 0..values {
            sender.send(value).expect("the receivers are there until the channel is closed");
        }
        // `sender` goes here, and that closes the channel.
    });
    let (mut count, mut sum) = (0, 0);
    for (i, handle) in handles.into_iter().enumerate() {
        let (its_count, its_sum) = handle.join().expect("a receiver does not panic");
        say!("receiver {i}: {its_count} values");
        count += its_count;
        sum += its_sum;
    }
    say!("{receivers} receivers: {count} values, sum {sum}");
}
