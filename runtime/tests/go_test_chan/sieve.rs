//! `sieve1.go` and `sieve2.go`: the primes below 100 from chains of goroutines that would go on for ever. The
//! chains are of senders and receivers, so they end, link by link, when the last receiver is dropped.

use crate::common::at_each_size;
use gort::{Receiver, SendError, Sender, channel, go, select};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

const PRIMES: [u64; 25] =
    [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97];

fn check(primes: Receiver<u64>) {
    assert_eq!(primes.iter().take(PRIMES.len()).collect::<Vec<_>>(), PRIMES);
}

/// Each prime filters its multiples out of what the next one sees.
#[test]
fn sieve1() {
    at_each_size(|| {
        let (tx, primes) = channel(0);
        let last = go!(filter_chain(tx));
        check(primes);
        assert_eq!(last.join().unwrap(), Err(SendError(101)), "nobody asks for the next one");
    });
}

fn filter_chain(primes: Sender<u64>) -> Result<(), SendError<u64>> {
    let mut from = from_goroutine(0, |tx| (2..).try_for_each(|n| tx.send(n)));
    loop {
        let prime = from.recv().unwrap();
        primes.send(prime)?;
        from =
            from_goroutine(0, move |tx| from.iter().filter(|n| n % prime != 0).try_for_each(|n| tx.send(n)));
    }
}

/// What a goroutine sends until nobody receives any more.
fn from_goroutine<F>(cap: usize, f: F) -> Receiver<u64>
where
    F: FnOnce(Sender<u64>) -> Result<(), SendError<u64>> + Send + 'static,
{
    let (tx, rx) = channel(cap);
    go!(move || f(tx));
    rx
}

/// Composites are merged from streams of multiples, in a heap, and taken out of the odd numbers. What is left
/// feeds the heap through a queue without bounds.
#[test]
fn sieve2() {
    at_each_size(|| {
        let (out, primes) = channel(10);
        out.send(2).unwrap();
        out.send(3).unwrap();
        let (feedback, found) = channel(10);
        feedback.send(3).unwrap();
        let composites = from_goroutine(50, |tx| merge_multiples(found, tx));
        let last = go!(take_out(composites, queue_without_bounds(feedback), out));
        check(primes);
        assert!(last.join().unwrap().is_err(), "nobody asks for the next one");
    });
}

/// Odd multiples of a prime, and the first of them. Ordered by that, the smallest on top of a heap.
struct Multiples {
    head: u64,
    rest: Receiver<u64>,
}

impl Multiples {
    fn key(&self) -> Reverse<u64> {
        Reverse(self.head)
    }
}

impl PartialEq for Multiples {
    fn eq(&self, other: &Multiples) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Multiples {}

impl PartialOrd for Multiples {
    fn partial_cmp(&self, other: &Multiples) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Multiples {
    fn cmp(&self, other: &Multiples) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

fn step_by(cap: usize, first: u64, step: u64) -> Receiver<u64> {
    from_goroutine(cap, move |tx| (first..).step_by(step as usize).try_for_each(|n| tx.send(n)))
}

/// The smallest head, which its stream replaces by the next.
fn next_min(heap: &mut BinaryHeap<Multiples>) -> u64 {
    let mut top = heap.peek_mut().unwrap();
    let next = top.rest.recv().unwrap();
    std::mem::replace(&mut top.head, next)
}

fn merge_multiples(primes: Receiver<u64>, composites: Sender<u64>) -> Result<(), SendError<u64>> {
    let mut heap = BinaryHeap::new();
    let mut min = 15;
    for p in &primes {
        let rest = step_by(10, p * p, 2 * p);
        let head = rest.recv().unwrap();
        while min < head {
            composites.send(min)?;
            min = next_min(&mut heap);
        }
        while min == head {
            min = next_min(&mut heap);
        }
        composites.send(head)?;
        heap.push(Multiples { head: rest.recv().unwrap(), rest });
    }
    Ok(())
}

fn take_out(
    composites: Receiver<u64>,
    feedback: Sender<u64>,
    out: Sender<u64>,
) -> Result<(), SendError<u64>> {
    let odds = step_by(50, 5, 2);
    let mut p = odds.recv().unwrap();
    loop {
        let c = composites.recv().unwrap();
        while p < c {
            feedback.send(p)?;
            out.send(p)?;
            p = odds.recv().unwrap();
        }
        if p == c {
            p = odds.recv().unwrap();
        }
    }
}

/// Sending to it never blocks for long: a goroutine keeps what `out` does not take yet. While it keeps
/// nothing, the arm that sends is nil.
fn queue_without_bounds(out: Sender<u64>) -> Sender<u64> {
    let (tx, rx) = channel(10);
    go!(move || {
        let (nil, mut queue) = (Sender::nil(), VecDeque::new());
        loop {
            let (to, first) = match queue.front() {
                Some(&first) => (&out, first),
                None => (&nil, 0),
            };
            select! {
                recv(rx) -> v => match v {
                    Some(v) => queue.push_back(v),
                    None => return,
                },
                send(to, first) -> sent => match sent {
                    Ok(()) => drop(queue.pop_front()),
                    Err(_) => return,
                },
            }
        }
    });
    tx
}
