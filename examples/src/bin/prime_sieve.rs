//! The prime sieve of Go's tour: a chain of goroutines, each of which filters out the multiples of one prime.
//!
//! A goroutine per prime, an unbuffered channel between each two. The end needs no signal: when the last receiver of
//! a channel goes, its sender gets an error, ends, and so gives up the channel before it.

use gort::sync::WaitGroup;
use gort::{Receiver, Sender, channel};
use gort_examples::{Opt, options, say};

fn main() {
    let [n] = options(
        "A sieve of chained goroutines prints the first N primes.",
        [Opt { name: "primes", default: 100, range: 0..=100_000, about: "primes to print" }],
    );
    gort::run(|| {
        let chain = WaitGroup::new();
        let (tx, mut numbers) = channel(0);
        chain.go(move || generate(tx));
        for _ in 0..n {
            let prime = numbers.recv().expect("numbers come as long as somebody receives");
            say!("{prime}");
            let (tx, filtered) = channel(0);
            let all = std::mem::replace(&mut numbers, filtered);
            chain.go(move || filter(all, tx, prime));
        }
        drop(numbers);
        chain.wait();
    });
}

/// Sends 2, 3, 4, ...
fn generate(tx: Sender<u64>) {
    for i in 2.. {
        if tx.send(i).is_err() {
            return;
        }
    }
}

/// Passes on what `prime` does not divide.
fn filter(numbers: Receiver<u64>, tx: Sender<u64>, prime: u64) {
    for i in &numbers {
        if !i.is_multiple_of(prime) && tx.send(i).is_err() {
            return;
        }
    }
}
