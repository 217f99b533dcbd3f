//! What the page of the public API promises of `select!`, `select_biased!` and `Select`.

mod common;

use common::{SIZES, at_each_size, eventually, message, on_both, panic_message, until_parked};
use gort::sync::WaitGroup;
use gort::{
    Chan, Receiver, Select, SendError, Sender, chan, channel, go, num_goroutines, select, select_biased, time,
};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(3600);

/// A channel that always has a value: of a type of size zero the buffer is as good as endless.
fn ready() -> Chan<()> {
    let ch = chan(usize::MAX);
    (0..1000).for_each(|_| ch.send(()));
    ch.close();
    ch
}

/// Says that the counts are what equal chances give. The bound is passed by chance once in some ten million
/// times.
#[track_caller]
fn assert_uniform(counts: &[usize]) {
    let total: usize = counts.iter().sum();
    let expected = total as f64 / counts.len() as f64;
    let chi2: f64 = counts.iter().map(|&n| (n as f64 - expected).powi(2) / expected).sum();
    // The distribution has k - 1 degrees of freedom (mean k - 1, variance twice that), and for k = 2 the
    // longest tail.
    let k = (counts.len() - 1) as f64;
    let bound = k + 8.0 * (2.0 * k).sqrt() + 20.0;
    assert!(chi2 < bound, "chi-square {chi2:.1} is above {bound:.1}: {counts:?}");
}

// -- The choice --

#[test]
fn of_several_ready_arms_each_has_the_same_chance() {
    on_both(|| {
        let (a, b, c, d) = (ready(), ready(), ready(), ready());
        let mut two = [0; 2];
        let mut three = [0; 3];
        let mut four = [0; 4];
        for _ in 0..12_000 {
            two[select! { recv(a) -> _ => 0, recv(b) -> _ => 1 }] += 1;
            three[select! { recv(a) -> _ => 0, recv(b) -> _ => 1, recv(c) -> _ => 2, default => 9 }] += 1;
            four[select! { recv(a) -> _ => 0, recv(b) -> _ => 1, recv(c) -> _ => 2, recv(d) -> _ => 3 }] += 1;
        }
        assert_uniform(&two);
        assert_uniform(&three);
        assert_uniform(&four);
    });
}

#[test]
fn a_timer_that_is_due_has_the_chance_of_any_ready_arm() {
    on_both(|| {
        let busy = chan::<u32>(1);
        let closed = chan::<u32>(0);
        closed.close();
        // Both others are ready at each select, for as long as it takes.
        let end = Instant::now() + Duration::from_secs(60);
        let ticker = gort::time::Ticker::new(Duration::from_micros(100));
        let mut ticks = 0;
        while ticks < 20 {
            assert!(Instant::now() < end, "{ticks} ticks in a minute of selects");
            busy.try_send(1).unwrap_or(());
            select! {
                recv(busy) -> _ => {}
                recv(closed) -> _ => {}
                recv(ticker.c()) -> _ => ticks += 1,
            }
        }
        let once = gort::time::Timer::new(Duration::from_millis(1));
        loop {
            assert!(Instant::now() < end, "the timer was not chosen");
            let mut select = gort::Select::new();
            select.recv(&closed);
            let at = select.recv(once.c());
            if select.select().index() == at {
                break;
            }
        }
    });
}

#[test]
fn sends_and_receives_have_the_same_chance() {
    on_both(|| {
        let (source, sink) = (ready(), chan::<()>(usize::MAX));
        let mut counts = [0; 3];
        for _ in 0..12_000 {
            let i = select! {
                send(sink, ()) => 0,
                recv(source) -> _ => 1,
                send(sink.sender(), ()) -> res => { res.unwrap(); 2 }
            };
            counts[i] += 1;
        }
        assert_uniform(&counts);
    });
}

#[test]
fn arms_that_are_not_ready_do_not_shift_the_chances() {
    on_both(|| {
        let (a, b, c) = (ready(), ready(), ready());
        let (never, nil, full) = (chan::<()>(0), Chan::<()>::nil(), chan::<u8>(0));
        let mut counts = [0; 3];
        for _ in 0..12_000 {
            let i = select! {
                recv(a) -> _ => 0,
                recv(never) -> _ => unreachable!(),
                recv(nil) -> _ => unreachable!(),
                send(full, 1) => unreachable!(),
                recv(b) -> _ => 1,
                send(nil, ()) => unreachable!(),
                recv(c) -> _ => 2,
            };
            counts[i] += 1;
        }
        assert_uniform(&counts);
    });
}

#[test]
fn the_dynamic_form_gives_each_ready_arm_the_same_chance() {
    on_both(|| {
        let all: Vec<_> = (0..8).map(|_| ready()).collect();
        let mut select = Select::new();
        all.iter().for_each(|ch| _ = select.recv(ch));
        let mut counts = [0; 8];
        for _ in 0..4000 {
            counts[select.select().index()] += 1;
            counts[select.try_select().unwrap().index()] += 1;
            counts[select.select_timeout(SHORT).unwrap().index()] += 1;
        }
        assert_uniform(&counts);
    });
}

#[test]
fn the_same_channel_in_several_arms_has_the_chance_of_each() {
    on_both(|| {
        let (a, b) = (ready(), ready());
        let mut counts = [0; 4];
        for _ in 0..12_000 {
            counts[select! {
                recv(a) -> _ => 0,
                recv(b) -> _ => 1,
                recv(a) -> _ => 2,
                recv(a) -> _ => 3,
            }] += 1;
        }
        assert_uniform(&counts);
    });
}

#[test]
fn a_biased_select_takes_the_first_ready_arm() {
    on_both(|| {
        let (never, a, b) = (chan::<()>(0), ready(), ready());
        let sink = chan::<()>(usize::MAX);
        for _ in 0..500 {
            let i = select_biased! { recv(never) -> _ => 0, recv(a) -> _ => 1, recv(b) -> _ => 2 };
            assert_eq!(i, 1);
            let i =
                select_biased! { recv(Chan::<u8>::nil()) -> _ => 0, send(sink, ()) => 1, recv(a) -> _ => 2 };
            assert_eq!(i, 1);
            // `default` comes last wherever it stands.
            let i =
                select_biased! { default => 0, recv(never) -> _ => 1, recv(b) -> _ => 2, recv(a) -> _ => 3 };
            assert_eq!(i, 2);
            let i = select_biased! { recv(never) -> _ => 0, default => 1 };
            assert_eq!(i, 1);
            let i = select_biased! { recv(never) -> _ => 0, send(never, ()) => 2, default => 1 };
            assert_eq!(i, 1);
        }
    });
}

#[test]
fn a_biased_select_waits_like_any_other() {
    on_both(|| {
        let (a, b) = (chan::<u32>(0), chan::<u32>(0));
        let (ra, rb) = (a.clone(), b.clone());
        let h = go!(move || select_biased! { recv(ra) -> v => (0, v), recv(rb) -> v => (1, v) });
        until_parked(&h, "select");
        b.send(5);
        assert_eq!(h.join().unwrap(), (1, Some(5)));
    });
}

// -- Which arms are ready --

#[test]
fn one_channel_in_several_arms_is_served_once() {
    on_both(|| {
        for parked in [false, true] {
            let (ch, out) = (chan::<u32>(0), chan::<u32>(0));
            let rx = ch.clone();
            let h = go!(move || select! {
                recv(rx) -> v => v,
                recv(rx) -> v => v,
                recv(rx) -> v => v,
            });
            if parked {
                until_parked(&h, "select");
            }
            ch.send(1);
            assert_eq!(h.join().unwrap(), Some(1));
            assert!(ch.try_send(2).is_err(), "nobody is left in the queue");

            let tx = out.clone();
            let h = go!(move || select! { send(tx, 1) => 1, send(tx, 2) => 2 });
            if parked {
                until_parked(&h, "select");
            }
            let got = out.recv().unwrap();
            assert_eq!(h.join().unwrap(), got);
            assert!(out.try_recv().is_err(), "nobody is left in the queue");
        }
    });
}

#[test]
fn a_select_never_meets_itself() {
    on_both(|| {
        let ch = chan::<u32>(0);
        let both = |ch: Chan<u32>| {
            move || {
                select! {
                    send(ch, 1) => None,
                    recv(ch) -> v => Some(v),
                }
            }
        };
        select! {
            send(ch, 1) => unreachable!(),
            recv(ch) -> _ => unreachable!(),
            default => {}
        }
        let h = go(both(ch.clone()));
        until_parked(&h, "select");
        assert_eq!(ch.recv(), Some(1));
        assert_eq!(h.join().unwrap(), None);
        let h = go(both(ch.clone()));
        until_parked(&h, "select");
        ch.send(7);
        assert_eq!(h.join().unwrap(), Some(Some(7)));
        // Two of them meet each other.
        let (a, b) = (go(both(ch.clone())), go(both(ch.clone())));
        let mut got = [a.join().unwrap(), b.join().unwrap()];
        got.sort();
        assert_eq!(got, [None, Some(Some(1))]);
    });
}

#[test]
fn crowds_of_selects_in_both_directions_meet_in_pairs() {
    on_both(|| {
        let (a, b) = (chan::<usize>(0), chan::<usize>(0));
        let (sent, received) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let wg = WaitGroup::new();
        for me in 0..10 {
            let (a, b, sent, received) = (a.clone(), b.clone(), sent.clone(), received.clone());
            wg.go(move || {
                for _ in 0..200 {
                    select! {
                        send(a, me) => _ = sent.fetch_add(1, SeqCst),
                        recv(a) -> v => {
                            assert_ne!(v, Some(me), "a select met itself");
                            received.fetch_add(1, SeqCst);
                        }
                        send(b, me) => _ = sent.fetch_add(1, SeqCst),
                        recv(b) -> v => {
                            assert_ne!(v, Some(me), "a select met itself");
                            received.fetch_add(1, SeqCst);
                        }
                    }
                }
            });
        }
        // At the end one of them may be left alone with some turns to go: with an even number of turns in
        // all, its rest is met here.
        let done = chan::<()>(0);
        let (all, tell) = (wg.clone(), done.clone());
        go!(move || {
            all.wait();
            tell.close();
        });
        let mut here = 0_usize;
        loop {
            select! {
                recv(done) -> _ => break,
                recv(time::after(Duration::from_millis(5))) -> _ => {
                    select! {
                        recv(a) -> _ => here += 1,
                        recv(b) -> _ => here += 1,
                        recv(done) -> _ => break,
                    }
                }
            }
        }
        let (sent, received) = (sent.load(SeqCst), received.load(SeqCst));
        assert_eq!(sent + received, 2000);
        assert_eq!(sent, received + here);
    });
}

#[test]
fn nil_arms_are_never_ready() {
    on_both(|| {
        let ch = chan::<u32>(1);
        let (nil, tx, rx) = (Chan::<u32>::nil(), Sender::<u32>::nil(), Receiver::<u32>::nil());
        for i in 0..100 {
            ch.send(i);
            let got = select! {
                recv(nil) -> _ => unreachable!(),
                send(nil, 1) => unreachable!(),
                recv(rx) -> _ => unreachable!(),
                send(tx, 1) -> _ => unreachable!(),
                recv(ch) -> v => v,
            };
            assert_eq!(got, Some(i));
        }
        let waited = select! { recv(nil) -> _ => 0, send(tx, 1) => 1, default => 2 };
        assert_eq!(waited, 2);
        let mut select = Select::new();
        select.recv(&nil);
        select.send(&tx, 1);
        assert!(select.try_select().is_none());
        assert!(select.select_timeout(SHORT).is_none());
    });
}

#[test]
fn default_is_taken_if_nothing_is_ready_and_only_then() {
    on_both(|| {
        let (ch, full) = (chan::<u32>(1), chan::<u32>(1));
        full.send(0);
        for _ in 0..100 {
            assert_eq!(select! { recv(ch) -> _ => 0, send(full, 1) => 1, default => 2 }, 2);
            assert_eq!(select! { default => 2, recv(ch) -> _ => 0 }, 2);
            assert_eq!(select! { send(full, 1) => 0, default => 2 }, 2);
            assert_eq!(select! { default => 2 }, 2);
            ch.send(5);
            assert_eq!(select! { send(full, 1) => 0, default => 2, recv(ch) -> v => v.unwrap() }, 5);
            ch.send(6);
            assert_eq!(select! { recv(ch) -> v => v.unwrap(), default => 2 }, 6);
        }
    });
}

#[test]
fn a_closed_channel_is_ready_to_receive() {
    on_both(|| {
        let (ch, never) = (chan::<u32>(2), chan::<u32>(0));
        ch.send(1);
        ch.close();
        for want in [Some(1), None, None] {
            assert_eq!(select! { recv(ch) -> v => v, recv(never) -> _ => unreachable!() }, want);
        }
        assert_eq!(select! { recv(ch) -> v => v }, None);
        assert_eq!(select! { recv(ch) -> v => v, default => unreachable!() }, None);
        // And when it is closed while the select waits.
        let (rx, quiet) = (never.clone(), never.receiver());
        let h = go!(move || select! { recv(rx) -> v => v, recv(quiet) -> v => v });
        until_parked(&h, "select");
        never.close();
        assert_eq!(h.join().unwrap(), None);
    });
}

#[test]
fn a_send_arm_on_a_closed_chan_panics() {
    const SAYS: &str = "send on closed channel";
    on_both(|| {
        let (ch, never) = (chan::<u32>(1), chan::<u32>(0));
        ch.close();
        assert_eq!(panic_message(|| select! { send(ch, 1) => {} }), SAYS);
        assert_eq!(panic_message(|| select! { send(ch, 1) => {}, default => {} }), SAYS);
        assert_eq!(panic_message(|| select! { send(ch, 1) => {}, recv(never) -> _ => {} }), SAYS);
        assert_eq!(panic_message(|| select_biased! { send(&ch, 1) => {}, recv(never) -> _ => {} }), SAYS);
        // And when it is closed while the select waits.
        let (tx, quiet) = (never.clone(), chan::<u8>(0));
        let h = go!(move || select! { send(tx, 1) => {}, recv(quiet) -> _ => {} });
        until_parked(&h, "select");
        never.close();
        assert_eq!(message(&*h.join().unwrap_err()), SAYS);
    });
}

#[test]
fn a_send_arm_with_a_result_gives_the_value_of_a_closed_channel_back() {
    fn back(r: Result<(), SendError<u32>>) -> u32 {
        r.unwrap_err().into_inner()
    }
    on_both(|| {
        let (ch, never) = (chan::<u32>(1), chan::<u32>(0));
        let tx = ch.sender();
        assert_eq!(select! { send(ch, 1) -> r => r, recv(never) -> _ => unreachable!() }, Ok(()));
        ch.close();
        assert_eq!(select! { send(ch, 2) -> r => back(r) }, 2);
        assert_eq!(select! { send(tx, 3) -> r => back(r) }, 3);
        assert_eq!(select! { send(ch, 4) -> r => back(r), default => unreachable!() }, 4);
        assert_eq!(select! { send(&tx, 5) -> r => back(r), recv(never) -> _ => unreachable!() }, 5);
        let (tx, quiet) = (never.clone(), chan::<u8>(0));
        let h = go!(move || select! { send(tx, 6) -> r => back(r), recv(quiet) -> _ => unreachable!() });
        until_parked(&h, "select");
        never.close();
        assert_eq!(h.join().unwrap(), 6);
    });
}

#[test]
fn a_send_arm_on_a_sender_of_a_closed_channel_drops_the_error() {
    on_both(|| {
        let ledger = common::Ledger::default();
        let (tx, rx) = channel(1);
        tx.close();
        assert_eq!(select! { send(tx, ledger.token()) => 1 }, 1);
        assert_eq!(select! { send(tx, ledger.token()) => 1, recv(Chan::<u8>::nil()) -> _ => 2 }, 1);
        assert_eq!(ledger.made(), 2);
        ledger.assert_settled();
        drop(rx);
    });
}

#[test]
fn with_the_last_receiver_gone_a_send_arm_is_ready_with_an_error() {
    on_both(|| {
        let (tx, rx) = channel::<u32>(0);
        let other = tx.clone();
        let h = go!(move || select! {
            send(other, 7) -> r => r.unwrap_err().into_inner(),
            recv(Chan::<u8>::nil()) -> _ => unreachable!(),
        });
        until_parked(&h, "select");
        drop(rx);
        assert_eq!(h.join().unwrap(), 7);
        let got = select! { send(tx, 8) -> r => r.unwrap_err().into_inner(), default => unreachable!() };
        assert_eq!(got, 8);
    });
}

#[test]
fn a_select_without_arms_that_can_be_ready_blocks_for_ever() {
    for procs in SIZES {
        let rt = common::builder(procs).build().unwrap();
        let parked = [
            (rt.go(|| select! {}), "select (no cases)"),
            (rt.go(|| select! { recv(Chan::<u8>::nil()) -> _ => {}, send(Chan::nil(), 1) => {} }), "select"),
            (rt.go(|| _ = Select::new().select()), "select (no cases)"),
            (rt.go(|| select_biased! {}), "select (no cases)"),
        ];
        parked.iter().for_each(|(h, reason)| until_parked(h, reason));
        // A single nil arm may be an ordinary operation, by any name.
        let one = rt.go(|| select! { recv(Chan::<u8>::nil()) -> _ => {} });
        let two = rt.go(|| select! { send(Sender::nil(), 1) => {} });
        let ids = [one.id(), two.id()];
        eventually("both are parked", || {
            let all = gort_scheduler::proc::goroutines();
            let ours = all.iter().filter(|g| ids.contains(&g.id));
            ours.filter(|g| !["running", "runnable"].contains(&g.state)).count() == 2
        });
        assert_eq!(rt.shutdown_timeout(SHORT), parked.len() + 2);
    }
}

// -- A send from a place --

#[test]
fn a_value_is_taken_from_its_place_only_if_its_arm_is_chosen() {
    on_both(|| {
        let (full, free, ready) = (chan::<String>(0), chan::<String>(1), chan::<()>(1));
        let mut next = Some(String::from("kept"));
        ready.send(());
        select! {
            send(full, from next) => unreachable!(),
            recv(ready) -> _ => {}
        }
        assert_eq!(next.as_deref(), Some("kept"));
        select! {
            send(full, from next) => unreachable!(),
            default => {}
        }
        assert_eq!(next.as_deref(), Some("kept"));
        select! {
            send(free, from next) => {}
            recv(ready) -> _ => unreachable!(),
        }
        assert_eq!((next, free.recv().as_deref()), (None, Some("kept")));
    });
}

#[test]
fn a_parked_select_leaves_the_value_in_its_place_until_it_is_served() {
    at_each_size(|| {
        for served in [true, false] {
            let (out, other) = (chan::<String>(0), chan::<i32>(0));
            let (o, i) = (out.clone(), other.clone());
            let h = go!(move || {
                let mut next = Some(String::from("kept"));
                let got = select! {
                    send(o, from next) => None,
                    recv(i) -> v => v,
                };
                (got, next)
            });
            until_parked(&h, "select");
            if served {
                assert_eq!(out.recv().as_deref(), Some("kept"));
                assert_eq!(h.join().unwrap(), (None, None));
            } else {
                other.send(7);
                assert_eq!(h.join().unwrap(), (Some(7), Some(String::from("kept"))));
            }
        }
    });
}

#[test]
fn a_send_from_an_empty_place_is_never_ready() {
    on_both(|| {
        let (ch, other) = (chan::<i32>(1), chan::<i32>(1));
        let mut none: Option<i32> = None;
        assert!(select! { send(ch, from none) => false, default => true });
        assert!(select_biased! { send(ch, from none) => false, default => true });
        other.send(1);
        assert_eq!(select! { send(ch, from none) => None, recv(other) -> v => v }, Some(1));
        other.send(2);
        assert_eq!(select_biased! { send(ch, from none) => None, recv(other) -> v => v }, Some(2));
        // Not even if the channel is closed, or has lost its receivers.
        let (tx, rx) = channel::<i32>(1);
        drop(rx);
        ch.close();
        let mut neither = None;
        assert!(select! { send(ch, from none) => false, send(tx, from neither) => false, default => true });
    });
}

#[test]
fn a_select_with_an_empty_place_only_blocks_for_ever() {
    for procs in SIZES {
        let (ch, gone) = (chan::<i32>(1), Arc::new(AtomicBool::new(false)));
        let (out, g) = (ch.clone(), gone.clone());
        let rt = common::builder(procs).build().unwrap();
        let h = rt.go(move || {
            let mut none = None;
            select! { send(out, from none) => g.store(true, SeqCst) }
        });
        until_parked(&h, "select");
        assert_eq!(rt.shutdown_timeout(SHORT), 1);
        assert!(!gone.load(SeqCst) && ch.is_empty());
    }
}

#[test]
fn a_biased_select_sends_from_the_first_place_that_has_a_value() {
    on_both(|| {
        let (a, b, c) = (chan::<i32>(1), chan::<i32>(1), chan::<i32>(1));
        let (mut x, mut y, mut z) = (None, Some(2), Some(3));
        let which = select_biased! {
            send(a, from x) => 'a',
            send(b, from y) => 'b',
            send(c, from z) => 'c',
        };
        assert_eq!((which, x, y, z, b.recv()), ('b', None, None, Some(3), Some(2)));
    });
}

#[test]
fn a_place_may_be_a_field_an_element_or_behind_a_reference() {
    struct Stage {
        out: Chan<i32>,
        next: Option<i32>,
        inner: [Option<i32>; 2],
    }
    impl Stage {
        fn push(&mut self) {
            select! { send(self.out, from self.next) => {} }
            select! { send(self.out, from self.inner[1]) -> sent => sent.unwrap() }
        }
    }
    fn push(out: &Chan<i32>, place: &mut Option<i32>) {
        select! {
            send(out, from *place) => {},
            default => unreachable!(),
        }
    }
    on_both(|| {
        let mut stage = Stage { out: chan(3), next: Some(1), inner: [Some(2), Some(3)] };
        stage.push();
        assert_eq!((stage.next, stage.inner), (None, [Some(2), None]));
        push(&stage.out, &mut stage.inner[0]);
        assert_eq!(stage.inner, [None; 2]);
        stage.out.close();
        assert!(stage.out.iter().eq([1, 3, 2]));
    });
}

#[test]
fn an_arm_may_assign_to_its_place() {
    on_both(|| {
        let ch = chan::<i32>(5);
        let mut next = Some(0);
        while let Some(n) = next {
            select! {
                send(ch, from next) => next = (n < 4).then_some(n + 1),
            }
        }
        ch.close();
        assert!(ch.iter().eq(0..5));
    });
}

#[test]
fn a_variable_named_from_is_a_value() {
    on_both(|| {
        let ch = chan::<i32>(9);
        let from = 3;
        let add = |n: i32| from + n;
        select! { send(ch, from) => {} }
        select! { send(ch, from,) -> _ => {} }
        select! { send(ch, from + 1) => {} }
        select! { send(ch, from - 1) => {} }
        select! { send(ch, add(from)) => {}, default => {} }
        {
            let from = |n: i32| n * 10;
            select! { send(ch, from(2)) => {} }
        }
        ch.close();
        assert!(ch.iter().eq([3, 3, 4, 2, 6, 20]));
    });
}

#[test]
fn a_send_from_a_place_to_a_closed_channel_takes_the_value_and_gives_it_back() {
    on_both(|| {
        let (ch, (tx, rx)) = (chan::<String>(1), channel::<String>(1));
        ch.close();
        drop(rx);
        let word = || Some(String::from("word"));
        let (mut a, mut b, mut c, mut d) = (word(), word(), word(), word());
        let of_chan = select! { send(ch, from a) -> res => res };
        let of_sender =
            select! { send(tx, from b) -> res => res, recv(Chan::<()>::nil()) -> _ => unreachable!() };
        assert_eq!((of_chan, a), (Err(SendError("word".into())), None));
        assert_eq!((of_sender, b), (Err(SendError("word".into())), None));
        select! { send(tx, from c) => {} }
        assert_eq!(c, None, "the error was dropped");
        assert_eq!(panic_message(|| select! { send(ch, from d) => {} }), "send on closed channel");
        assert_eq!(d, None, "the arm was chosen");
    });
}

#[test]
fn a_select_that_must_not_park_leaves_the_value_in_its_place() {
    at_each_size(|| {
        let (a, b) = (chan::<String>(0), chan::<()>(0));
        let mut next = Some(String::from("kept"));
        let _stay = gort::no_suspend();
        let said = panic_message(|| select! { send(a, from next) => {}, recv(b) -> _ => {} });
        assert!(said.contains("NoSuspendGuard"), "{said}");
        assert!(panic_message(|| select! { send(a, from next) => {} }).contains("NoSuspendGuard"));
        assert_eq!(next.as_deref(), Some("kept"));
    });
}

#[test]
fn a_dynamic_select_sends_from_a_place() {
    on_both(|| {
        let (full, ch) = (chan::<String>(0), chan::<String>(1));
        let word = |w: &str| Some(w.to_owned());
        let (mut none, mut kept, mut sent) = (None, word("kept"), word("sent"));
        let mut select = Select::new();
        let empty = select.send_from(&ch, &mut none);
        let waits = select.send_from(&full, &mut kept);
        let goes = select.send_from(&ch, &mut sent);
        let done = select.select();
        assert_eq!((done.index(), done.sent::<String>()), (goes, Ok(())));
        assert_eq!(ch.recv().as_deref(), Some("sent"));
        assert!(select.try_select().is_none(), "one place is empty now, and one was");
        assert!(select.select_timeout(SHORT).is_none());
        assert_eq!(select.unsent::<String>(goes), None);
        assert_eq!(select.unsent::<String>(empty), None);
        full.close();
        let done = select.select();
        assert_eq!((done.index(), done.sent::<String>()), (waits, Err(SendError("kept".into()))));
        drop(select);
        assert_eq!((none, kept, sent), (None, None, None));

        let (nil, mut back) = (Chan::nil(), word("back"));
        let mut select = Select::new();
        let i = select.send_from(&nil, &mut back);
        let said = panic_message(|| select.unsent::<u8>(i));
        assert!(said.contains("u8") && said.contains("String"), "{said}");
        assert_eq!(select.unsent::<String>(i).as_deref(), Some("back"));
        drop(select);
        assert_eq!(back, None);
    });
}

#[test]
fn a_fan_out_from_a_place_loses_and_doubles_nothing() {
    const EACH: usize = 300;
    at_each_size(|| {
        let (input, left, right) = (chan::<usize>(0), chan::<usize>(0), chan::<usize>(2));
        let sums =
            [left.clone(), right.clone()].map(|ch| go!(move || ch.iter().map(|n| n + 1).sum::<usize>()));
        let makers: Vec<_> = (0..3)
            .map(|_| {
                let tx = input.clone();
                go!(move || (0..EACH).for_each(|n| tx.send(n)))
            })
            .collect();
        let mut i = input.clone();
        let relay = go!(move || {
            // Two places, each with a channel of its own, and a queue between.
            let (mut queue, mut a, mut b) = (std::collections::VecDeque::new(), None, None);
            while !i.is_nil() || a.is_some() || b.is_some() {
                select! {
                    recv(i) -> v => match v {
                        Some(v) => queue.push_back(v),
                        None => i = Chan::nil(),
                    },
                    send(left, from a) => {},
                    send(right, from b) => {},
                }
                a = a.or_else(|| queue.pop_front());
                b = b.or_else(|| queue.pop_front());
            }
            left.close();
            right.close();
        });
        makers.into_iter().for_each(|h| h.join().unwrap());
        input.close();
        relay.join().unwrap();
        let sum: usize = sums.into_iter().map(|h| h.join().unwrap()).sum();
        assert_eq!(sum, 3 * (EACH * (EACH + 1) / 2));
    });
}

// -- Operands --

#[test]
fn operands_and_values_are_evaluated_once_in_source_order() {
    on_both(|| {
        let order = Mutex::new(Vec::new());
        let note = |n: u32| order.lock().unwrap().push(n);
        let (a, b, c) = (chan::<u32>(0), chan::<u32>(0), chan::<u32>(1));
        fn pick<'a>(note: &dyn Fn(u32), n: u32, ch: &'a Chan<u32>) -> &'a Chan<u32> {
            note(n);
            ch
        }
        let value = |n: u32| {
            note(n);
            n
        };
        // With one that is ready, with none and a default, and after a wait.
        select! {
            recv(pick(&note, 1, &a)) -> _ => unreachable!(),
            send(pick(&note, 2, &b), value(3)) => unreachable!(),
            send(pick(&note, 4, &c), value(5)) => note(8),
            send(pick(&note, 6, &b), value(7)) -> _ => unreachable!(),
        }
        assert_eq!(std::mem::take(&mut *order.lock().unwrap()), [1, 2, 3, 4, 5, 6, 7, 8]);
        select! {
            recv(pick(&note, 1, &a)) -> _ => unreachable!(),
            default => note(9),
            send(pick(&note, 2, &c), value(3)) => unreachable!(),
        }
        assert_eq!(std::mem::take(&mut *order.lock().unwrap()), [1, 2, 3, 9]);
        let tx = a.clone();
        let h = go!(move || tx.send(1));
        select! {
            recv(pick(&note, 1, &a)) -> _ => note(4),
            send(pick(&note, 2, &c), value(3)) => unreachable!(),
        }
        assert_eq!(std::mem::take(&mut *order.lock().unwrap()), [1, 2, 3, 4]);
        h.join().unwrap();
        // A single arm, too.
        let h = go!(a.clone().recv());
        select! { send(pick(&note, 1, &a), value(2)) => note(3) }
        assert_eq!(h.join().unwrap(), Some(2));
        assert_eq!(std::mem::take(&mut *order.lock().unwrap()), [1, 2, 3]);
        select! { recv(pick(&note, 1, &c)) -> v => assert_eq!(v, Some(5)), default => unreachable!() }
        assert_eq!(std::mem::take(&mut *order.lock().unwrap()), [1]);
    });
}

#[test]
fn an_arm_may_assign_to_a_channel_operand() {
    on_both(|| {
        let (mut a, mut b) = (chan(3), chan(5));
        (0..3).for_each(|i| a.send(i));
        (0..5).for_each(|i| b.send(10 * i));
        a.close();
        b.close();
        let (mut sum, mut ends) = (0, 0);
        while !a.is_nil() || !b.is_nil() {
            select! {
                recv(a) -> v => match v {
                    Some(v) => sum += v,
                    None => {
                        a = Chan::nil();
                        ends += 1;
                    }
                },
                recv(b) -> v => match v {
                    Some(v) => sum += v,
                    None => {
                        b = Chan::nil();
                        ends += 1;
                    }
                },
            }
        }
        assert_eq!((sum, ends), (103, 2));

        struct Stage {
            input: Chan<u32>,
            output: Chan<u32>,
            value: u32,
        }
        // The idiom of a stage that takes only when it has nothing to offer.
        let (source, sink) = (chan::<u32>(0), chan::<u32>(0));
        let (from, to) = (source.clone(), sink.clone());
        go!(move || {
            let mut stage = Stage { input: from.clone(), output: Chan::nil(), value: 0 };
            loop {
                select! {
                    recv(stage.input) -> v => match v {
                        Some(v) => {
                            stage.value = 2 * v;
                            stage.output = to.clone();
                            stage.input = Chan::nil();
                        }
                        None => return to.close(),
                    },
                    send(stage.output, stage.value) => {
                        stage.output = Chan::nil();
                        stage.input = from.clone();
                    }
                }
            }
        });
        go!(move || {
            (0..100).for_each(|i| source.send(i));
            source.close();
        });
        assert!(sink.iter().eq((0..100).map(|i| 2 * i)));
    });
}

#[test]
fn operands_may_be_temporaries() {
    on_both(|| {
        let ch = chan::<u32>(4);
        for i in 0..4 {
            select! {
                send(ch.clone().sender(), i) -> r => r.unwrap(),
                recv(Chan::<u8>::nil()) -> _ => unreachable!(),
            }
        }
        let list = [ch];
        for i in 0..4 {
            let got = select! {
                recv(list[0].receiver()) -> v => v,
                recv(&Receiver::<u32>::nil()) -> v => v,
            };
            assert_eq!(got, Some(i));
        }
        assert_eq!(select! { recv(ready().receiver()) -> v => v, recv(list[0]) -> _ => None }, Some(()));
    });
}

// -- Arms --

#[test]
fn break_continue_and_return_leave_the_select() {
    fn find(ch: &Chan<u32>, never: &Chan<u32>) -> Option<u32> {
        loop {
            select! {
                recv(ch) -> v => match v {
                    Some(v) if v % 7 == 6 => return Some(v),
                    Some(_) => continue,
                    None => break,
                },
                recv(never) -> _ => unreachable!(),
            }
        }
        None
    }
    on_both(|| {
        let (ch, never) = (chan(20), chan(0));
        (0..20).for_each(|i| ch.send(i));
        ch.close();
        assert_eq!(find(&ch, &never), Some(6));
        assert_eq!(find(&ch, &never), Some(13));
        assert_eq!(find(&ch, &never), None);
        let mut rounds = 0;
        'outer: loop {
            for _ in 0..3 {
                rounds += 1;
                select! {
                    recv(never) -> _ => unreachable!(),
                    default => match rounds {
                        5 => break 'outer,
                        2 | 4 => continue 'outer,
                        _ => {}
                    },
                }
            }
        }
        assert_eq!(rounds, 5);
        let mut turns = 0;
        let value = loop {
            select! {
                recv(ch) -> v => if turns == 2 { break v } else { turns += 1 },
                recv(never) -> _ => unreachable!(),
            }
        };
        assert_eq!(value, None);
    });
}

#[test]
fn the_question_mark_works_in_arms() {
    fn next(ch: &Chan<&str>, quit: &Chan<()>) -> Result<u32, Box<dyn std::error::Error>> {
        let n = select! {
            recv(ch) -> v => v.ok_or("closed")?.parse::<u32>()?,
            recv(quit) -> _ => Err("quit")?,
        };
        Ok(n + 1)
    }
    on_both(|| {
        let (ch, quit) = (chan(2), chan(1));
        ch.send("41");
        ch.send("no number");
        assert_eq!(next(&ch, &quit).unwrap(), 42);
        assert!(next(&ch, &quit).is_err());
        quit.send(());
        assert_eq!(next(&ch, &quit).unwrap_err().to_string(), "quit");
        ch.close();
        assert_eq!(next(&ch, &quit).unwrap_err().to_string(), "closed");
    });
}

#[test]
fn patterns_take_the_value_apart() {
    on_both(|| {
        let ch = chan::<(u32, String)>(4);
        ch.send((1, "one".into()));
        ch.send((2, "two".into()));
        ch.send((3, "three".into()));
        let n = select! { recv(ch) -> v => { let (n, _) = v.unwrap(); n } };
        let text = select! {
            recv(ch) -> mut v => v.take().unwrap().1,
            recv(Chan::<u8>::nil()) -> _ => unreachable!(),
        };
        let both = select! { recv(ch) -> v @ (Some(_) | None) => v.unwrap(), default => unreachable!() };
        assert_eq!((n, text.as_str(), both), (1, "two", (3, "three".into())));
    });
}

#[test]
fn thirty_two_arms_work() {
    macro_rules! each {
        ($select:ident, $chans:ident, $sink:ident) => {
            each!($select, $chans, $sink:
                0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30)
        };
        ($select:ident, $chans:ident, $sink:ident: $($n:literal)*) => {
            $select! {
                $(recv($chans[$n]) -> v => { assert_eq!(v, Some($n)); $n })*
                send($sink, 31) => 31
            }
        };
    }
    on_both(|| {
        let chans: Vec<_> = (0..31).map(|_| chan::<usize>(1)).collect();
        let sink = chan::<usize>(0);
        let h = {
            let (chans, sink) = (chans.clone(), sink.clone());
            go!(move || {
                for i in 0..62 {
                    chans[i % 31].send(i % 31);
                }
                assert_eq!(sink.recv(), Some(31));
            })
        };
        let mut counts = [0; 32];
        for round in 0..63 {
            let i =
                if round % 2 == 0 { each!(select, chans, sink) } else { each!(select_biased, chans, sink) };
            counts[i] += 1;
        }
        h.join().unwrap();
        assert_eq!(counts[31], 1);
        assert!(counts[..31].iter().all(|&n| n == 2), "{counts:?}");
    });
}

#[test]
fn an_arm_may_select_again_and_park() {
    on_both(|| {
        let (a, b) = (chan::<u32>(0), chan::<u32>(0));
        let (ra, rb) = (a.clone(), b.clone());
        let h = go!(move || select! {
            recv(ra) -> v => v.unwrap() + select! {
                recv(rb) -> w => w.unwrap() + ra.recv().unwrap(),
                recv(Chan::<u8>::nil()) -> _ => unreachable!(),
            },
            recv(Chan::<u8>::nil()) -> _ => unreachable!(),
        });
        a.send(1);
        b.send(10);
        a.send(100);
        assert_eq!(h.join().unwrap(), 111);
    });
}

// -- The dynamic form --

#[test]
fn a_dynamic_select_does_one_of_its_arms() {
    on_both(|| {
        let (words, numbers, sink) = (chan::<String>(1), chan::<u64>(0), chan::<u8>(1));
        sink.send(0);
        let mut select = Select::new();
        assert_eq!(select.recv(&words), 0);
        assert_eq!(select.recv(&numbers), 1);
        assert_eq!(select.send(&sink, 9), 2);
        assert!(select.try_select().is_none());
        words.send("w".into());
        let done = select.select();
        assert_eq!((done.index(), done.received::<String>().as_deref()), (0, Some("w")));
        let tx = numbers.clone();
        let h = go!(move || tx.send(5));
        let done = select.select();
        assert_eq!((done.index(), done.received::<u64>()), (1, Some(5)));
        h.join().unwrap();
        assert_eq!(sink.recv(), Some(0));
        let done = select.select_timeout(LONG).unwrap();
        assert_eq!((done.index(), done.sent::<u8>()), (2, Ok(())));
        assert_eq!(sink.recv(), Some(9));
        assert!(select.try_select().is_none(), "what was sent is gone");
        words.close();
        assert_eq!(select.select().received::<String>(), None);
    });
}

#[test]
fn a_dynamic_send_to_a_closed_channel_is_an_error() {
    on_both(|| {
        let ch = chan::<u32>(1);
        let tx = ch.sender();
        ch.close();
        let mut select = Select::new();
        select.send(&ch, 1);
        assert_eq!(select.select().sent::<u32>().unwrap_err().into_inner(), 1);
        let mut select = Select::new();
        select.send(&tx, 2);
        assert_eq!(select.try_select().unwrap().sent::<u32>().unwrap_err().into_inner(), 2);
    });
}

#[test]
fn a_wrong_type_panics_with_both_names() {
    struct Wrong;
    on_both(|| {
        let (ch, sink) = (chan::<Vec<u16>>(1), chan::<i64>(1));
        ch.send(vec![]);
        let mut select = Select::new();
        let receives = select.recv(&ch);
        let done = select.select();
        assert_eq!(done.index(), receives);
        let said = panic_message(|| done.received::<Wrong>());
        assert!(said.contains("Wrong") && said.contains("Vec<u16>"), "{said}");
        panic_message(|| done.sent::<Vec<u16>>());

        let mut select = Select::new();
        let sends = select.send(&sink, 5);
        let said = panic_message(|| select.unsent::<Wrong>(sends));
        assert!(said.contains("Wrong") && said.contains("i64"), "{said}");
        let done = select.select();
        let said = panic_message(|| done.sent::<Wrong>());
        assert!(said.contains("Wrong") && said.contains("i64"), "{said}");
        panic_message(|| done.received::<i64>());
        assert_eq!(done.sent::<i64>(), Ok(()));
    });
}

#[test]
fn select_timeout_ends_after_its_time_and_not_before() {
    on_both(|| {
        let (a, b) = (chan::<u32>(0), chan::<u32>(0));
        let mut select = Select::new();
        select.recv(&a);
        select.send(&b, 1);
        for d in [Duration::ZERO, SHORT] {
            let start = Instant::now();
            assert!(select.select_timeout(d).is_none());
            assert!(start.elapsed() >= d);
        }
        assert!(Select::new().select_timeout(SHORT).is_none());
        assert!(Select::new().try_select().is_none());
        for limit in [LONG, Duration::MAX] {
            let rx = b.clone();
            let h = go!(move || rx.recv());
            let mut select = Select::new();
            select.recv(&a);
            select.send(&b, 1);
            assert_eq!(select.select_timeout(limit).unwrap().index(), 1);
            assert_eq!(h.join().unwrap(), Some(1));
        }
        assert!(a.try_send(1).is_err() && b.try_recv().is_err(), "nobody is left in a queue");
    });
}

#[test]
fn a_dynamic_select_may_be_used_again_and_again() {
    on_both(|| {
        let chans: Vec<_> = (0..5).map(|_| chan::<usize>(0)).collect();
        let wg = WaitGroup::new();
        for (i, ch) in chans.iter().enumerate() {
            let ch = ch.clone();
            wg.go(move || (0..100).for_each(|n| ch.send(100 * i + n)));
        }
        let mut select = Select::new();
        chans.iter().for_each(|ch| _ = select.recv(ch));
        let mut next = [0; 5];
        for _ in 0..500 {
            let done = select.select();
            let i = done.index();
            assert_eq!(done.received::<usize>(), Some(100 * i + next[i]));
            next[i] += 1;
        }
        assert_eq!(next, [100; 5]);
        assert!(select.try_select().is_none());
        wg.wait();
    });
}

#[test]
fn a_dynamic_select_may_have_a_thousand_arms() {
    on_both(|| {
        let chans: Vec<_> = (0..1000).map(|_| chan::<usize>(0)).collect();
        let wg = WaitGroup::new();
        let mut select = Select::new();
        // Sends among the receives, and each tenth channel twice.
        for (i, ch) in chans.iter().enumerate() {
            if i % 2 == 0 {
                select.recv(ch)
            } else {
                select.send(ch, i)
            };
        }
        (0..1000).step_by(10).for_each(|i| _ = select.recv(&chans[i]));
        for (i, ch) in chans.iter().enumerate().step_by(7) {
            let ch = ch.clone();
            wg.go(move || if i % 2 == 0 { ch.send(i) } else { assert_eq!(ch.recv(), Some(i)) });
        }
        let mut seen = vec![false; 1000];
        for _ in 0..chans.iter().step_by(7).len() {
            let done = select.select();
            let i = if done.index() < 1000 { done.index() } else { (done.index() - 1000) * 10 };
            assert!(i % 7 == 0 && !std::mem::replace(&mut seen[i], true));
            if i % 2 == 0 {
                assert_eq!(done.received::<usize>(), Some(i));
            } else {
                assert_eq!(done.sent::<usize>(), Ok(()));
            }
        }
        wg.wait();
        assert!(select.try_select().is_none());
    });
}

// -- Together --

#[test]
fn plain_threads_select_too() {
    on_both(|| {
        let (a, b, quit) = (chan::<u64>(0), chan::<u64>(3), chan::<()>(0));
        let selects = {
            let (a, b, quit) = (a.clone(), b.clone(), quit.clone());
            move || {
                let mut sum = 0;
                loop {
                    select! {
                        recv(a) -> v => sum += v.unwrap(),
                        recv(b) -> v => sum += v.unwrap(),
                        recv(quit) -> _ => return sum,
                    }
                }
            }
        };
        let threads: Vec<_> = (0..2).map(|_| thread::spawn(selects.clone())).collect();
        let goroutines: Vec<_> = (0..2).map(|_| go(selects.clone())).collect();
        let wg = WaitGroup::new();
        for _ in 0..2 {
            let (a, b) = (a.clone(), b.clone());
            wg.go(move || {
                for i in 1..=300 {
                    select! {
                        send(a, i) => {},
                        send(b, i) => {},
                    }
                }
            });
        }
        wg.wait();
        eventually("the buffer is drained", || b.is_empty());
        quit.close();
        let mut sum = 0;
        goroutines.into_iter().for_each(|h| sum += h.join().unwrap());
        threads.into_iter().for_each(|t| sum += t.join().unwrap());
        assert_eq!(sum, 300 * 301);
    });
}

#[test]
fn crossed_selects_do_not_block_each_other() {
    on_both(|| {
        let (a, b) = (chan::<u32>(0), chan::<u32>(0));
        let wg = WaitGroup::new();
        let (a2, b2) = (a.clone(), b.clone());
        wg.go(move || {
            for i in 0..1000 {
                select! { send(a2, i) => {}, send(b2, i) => {} }
            }
        });
        for i in 0..1000 {
            let v = if i % 2 == 0 {
                select! { recv(b) -> v => v, recv(a) -> v => v }
            } else {
                select! { recv(a) -> v => v, recv(b) -> v => v }
            };
            assert_eq!(v, Some(i));
        }
        wg.wait();
    });
}

#[test]
fn selects_of_many_goroutines_lose_and_double_nothing() {
    at_each_size(|| {
        let chans: Arc<Vec<_>> = Arc::new((0..4).map(chan::<u64>).collect());
        let wg = WaitGroup::new();
        for g in 0..8 {
            let chans = chans.clone();
            wg.go(move || {
                for i in 0..250 {
                    let v = g * 250 + i;
                    select! {
                        send(chans[0], v) => {},
                        send(chans[1], v) => {},
                        send(chans[2], v) => {},
                        send(chans[3], v) => {},
                    }
                }
            });
        }
        let out = chan::<u64>(2000);
        for _ in 0..4 {
            let (chans, out) = (chans.clone(), out.clone());
            wg.go(move || {
                for _ in 0..500 {
                    out.send(select! {
                        recv(chans[3]) -> v => v.unwrap(),
                        recv(chans[0]) -> v => v.unwrap(),
                        recv(chans[2]) -> v => v.unwrap(),
                        recv(chans[1]) -> v => v.unwrap(),
                    });
                }
            });
        }
        wg.wait();
        let mut all: Vec<_> = out.receiver().try_iter().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..2000));
    });
}

#[test]
fn a_loop_of_select_with_default_gives_way() {
    at_each_size(|| {
        let (never, stop) = (chan::<u8>(0), Arc::new(AtomicBool::new(false)));
        let other = stop.clone();
        let h = go!(move || other.store(true, SeqCst));
        let start = Instant::now();
        while !stop.load(SeqCst) {
            select! {
                recv(never) -> _ => unreachable!(),
                send(never, 1) => unreachable!(),
                default => assert!(start.elapsed() < Duration::from_secs(30), "the other never ran"),
            }
        }
        h.join().unwrap();
        // The same with one arm, with the dynamic form, and with plain operations.
        let spins: [&dyn Fn(); 4] = [
            &|| select! { recv(never) -> _ => unreachable!(), default => {} },
            &|| assert!(Select::new().try_select().is_none()),
            &|| assert!(never.try_recv().is_err()),
            &|| assert!(never.try_send(1).is_err()),
        ];
        for spin in spins {
            stop.store(false, SeqCst);
            let other = stop.clone();
            let h = go!(move || other.store(true, SeqCst));
            let start = Instant::now();
            while !stop.load(SeqCst) {
                spin();
                assert!(start.elapsed() < Duration::from_secs(30), "the other never ran");
            }
            h.join().unwrap();
        }
        assert_eq!(num_goroutines(), 1);
    });
}

#[test]
fn a_timeout_arm_ends_the_wait() {
    on_both(|| {
        let never = chan::<u8>(0);
        let start = Instant::now();
        let timed_out = select! {
            recv(never) -> _ => false,
            recv(time::after(SHORT)) -> at => at.unwrap() >= start + SHORT,
        };
        assert!(timed_out && start.elapsed() >= SHORT);
        assert!(never.try_send(1).is_err(), "nobody is left in the queue");
    });
}
