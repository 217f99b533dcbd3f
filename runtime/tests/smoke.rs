//! The first thing to look at when everything fails.

mod common;

use common::{at_each_size, on_both};
use gort::sync::WaitGroup;
use gort::{chan, go, select};

#[test]
fn a_value_goes_from_one_goroutine_to_another() {
    on_both(|| {
        let ch = chan(0);
        let tx = ch.clone();
        let h = go!(move || tx.send(42));
        assert_eq!(ch.recv(), Some(42));
        h.join().unwrap();
    });
}

#[test]
fn many_goroutines_meet_on_one_channel() {
    at_each_size(|| {
        const N: u64 = 10_000;
        let ch = chan::<u64>(16);
        let wg = WaitGroup::new();
        for i in 0..N {
            let ch = ch.clone();
            wg.go(move || ch.send(i));
        }
        let sum: u64 = ch.iter().take(N as usize).sum();
        assert_eq!(sum, N * (N - 1) / 2);
        wg.wait();
    });
}

#[test]
fn a_select_hears_both_sides() {
    at_each_size(|| {
        let (a, b, quit) = (chan::<u32>(0), chan::<u32>(4), chan::<()>(0));
        let wg = WaitGroup::new();
        for ch in [&a, &b] {
            let ch = ch.clone();
            wg.go(move || (1..=1000).for_each(|i| ch.send(i)));
        }
        let (all, done) = (wg.clone(), quit.clone());
        go!(move || {
            all.wait();
            done.close();
        });
        let mut sum = 0;
        loop {
            select! {
                recv(a) -> v => sum += v.unwrap(),
                recv(b) -> v => sum += v.unwrap(),
                recv(quit) -> _ => break,
            }
        }
        sum += b.receiver().try_iter().sum::<u32>();
        assert_eq!(sum, 1_001_000);
    });
}
