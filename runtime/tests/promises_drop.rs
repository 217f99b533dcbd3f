//! What the page of the public API promises of values: none is lost or doubled, whatever way a channel, a
//! select or a goroutine ends.

mod common;

use common::{Ledger, Rng, Token, at_each_size, eventually, message, on_both, panic_message, until_parked};
use gort::sync::WaitGroup;
use gort::{
    Chan, Select, SendTimeoutError, Sender, TrySendError, chan, channel, go, num_goroutines, select,
    select_biased,
};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

/// Runs the body with a fresh ledger, on a plain thread and at each size, and waits until everything that it
/// made is dropped: a detached goroutine may still be at it.
#[track_caller]
fn settled(body: impl Fn(&Ledger) + Sync) {
    on_both(|| {
        let ledger = Ledger::default();
        body(&ledger);
        eventually("everything is dropped", || ledger.dropped() >= ledger.made());
        assert!(ledger.made() > 0, "the test made nothing");
        ledger.assert_settled();
    });
}

// -- Channels --

#[test]
fn a_received_value_is_the_receivers() {
    settled(|ledger| {
        for cap in [0, 3] {
            let ch = chan(cap);
            let (tx, l) = (ch.clone(), ledger.clone());
            let h = go!(move || (0..10).for_each(|_| tx.send(l.token())));
            for _ in 0..10 {
                let before = ledger.dropped();
                let v: Token = ch.recv().unwrap();
                assert_eq!(ledger.dropped(), before, "not before it is let go");
                drop(v);
                assert_eq!(ledger.dropped(), before + 1);
            }
            h.join().unwrap();
        }
    });
}

#[test]
fn values_in_the_buffer_go_with_the_last_handle() {
    settled(|ledger| {
        // Also when the elements run around the end of the buffer.
        for shift in 0..5 {
            let ch = chan(4);
            for _ in 0..shift {
                ch.send(ledger.token());
                drop(ch.recv());
            }
            (0..4).for_each(|_| ch.send(ledger.token()));
            let other = ch.clone();
            drop(ch);
            let before = ledger.dropped();
            assert_eq!((other.len(), ledger.made()), (4, before + 4));
            drop(other);
            assert_eq!(ledger.dropped(), before + 4);
        }
    });
}

#[test]
fn values_in_the_buffer_of_a_closed_channel_go_with_the_last_handle() {
    settled(|ledger| {
        let ch = chan(4);
        (0..4).for_each(|_| ch.send(ledger.token()));
        ch.close();
        assert_eq!(ledger.dropped(), 0, "they can still be received");
        drop(ch.recv());
        drop(ch);
        ledger.assert_settled();
    });
}

#[test]
fn values_in_the_buffer_go_with_the_last_receiver() {
    settled(|ledger| {
        let (tx, rx) = channel(4);
        (0..4).for_each(|_| assert!(tx.send(ledger.token()).is_ok()));
        drop(rx);
        ledger.assert_settled();
        assert!(tx.send(ledger.token()).is_err());
        drop(tx);
    });
}

#[test]
fn values_in_the_buffer_outlive_the_last_sender() {
    settled(|ledger| {
        let (tx, rx) = channel(4);
        (0..4).for_each(|_| assert!(tx.send(ledger.token()).is_ok()));
        drop(tx);
        assert_eq!(ledger.dropped(), 0);
        assert_eq!(rx.iter().count(), 4);
    });
}

#[test]
fn a_sender_parked_at_the_close_drops_its_value_with_its_panic() {
    settled(|ledger| {
        for cap in [0, 1] {
            let ch = chan(cap);
            (0..cap).for_each(|_| ch.send(ledger.token()));
            let parked: Vec<_> = (0..3).map(|_| go!(ch.clone().send(ledger.token()))).collect();
            parked.iter().for_each(|h| until_parked(h, "chan send"));
            ch.close();
            for h in parked {
                assert_eq!(message(&*h.join().unwrap_err()), "send on closed channel");
            }
            assert_eq!(ledger.made() - ledger.dropped(), cap);
        }
    });
}

#[test]
fn a_parked_sender_gets_its_value_back_once() {
    settled(|ledger| {
        for by_close in [true, false] {
            let (tx, rx) = channel(1);
            assert!(tx.send(ledger.token()).is_ok());
            let parked: Vec<_> = (0..3).map(|_| go!(tx.clone().send(ledger.token()))).collect();
            parked.iter().for_each(|h| until_parked(h, "chan send"));
            if by_close {
                tx.close();
            } else {
                drop(rx);
            }
            let before = ledger.dropped();
            let back: Vec<Token> =
                parked.into_iter().map(|h| h.join().unwrap().unwrap_err().into_inner()).collect();
            assert_eq!(ledger.dropped(), before);
            drop(back);
            assert_eq!(ledger.dropped(), before + 3);
        }
    });
}

#[test]
fn a_send_on_a_closed_channel_drops_its_value_with_its_panic() {
    settled(|ledger| {
        let ch = chan(1);
        ch.close();
        assert_eq!(panic_message(|| ch.send(ledger.token())), "send on closed channel");
        ledger.assert_settled();
    });
}

#[test]
fn a_failed_try_send_gives_the_value_back() {
    settled(|ledger| {
        let (full, closed) = (chan(1), chan(1));
        full.send(ledger.token());
        closed.close();
        let Err(TrySendError::Full(v)) = full.try_send(ledger.token()) else { panic!("the channel is full") };
        let Err(TrySendError::Closed(w)) = closed.try_send(ledger.token()) else { panic!("it is closed") };
        let Err(TrySendError::Full(x)) = Chan::nil().try_send(ledger.token()) else { panic!("it is nil") };
        assert_eq!(ledger.dropped(), 0);
        drop((v, w, x));
        assert_eq!(ledger.dropped(), 3);
        drop(full.try_send(ledger.token()));
        assert_eq!(ledger.dropped(), 4, "an error that is dropped drops the value");
    });
}

#[test]
fn a_send_that_timed_out_gives_the_value_back() {
    settled(|ledger| {
        for d in [Duration::ZERO, SHORT] {
            let ch = chan(0);
            let before = ledger.dropped();
            let Err(SendTimeoutError::Timeout(v)) = ch.send_timeout(ledger.token(), d) else {
                panic!("nobody receives");
            };
            let Err(SendTimeoutError::Timeout(w)) = Chan::nil().send_timeout(ledger.token(), d) else {
                panic!("it is nil");
            };
            assert_eq!(ledger.dropped(), before);
            drop((v, w));
            assert_eq!(ledger.dropped(), before + 2);
        }
        let (tx, rx) = channel(0);
        let h = go!(tx.send_timeout(ledger.token(), LONG));
        until_parked(&h, "chan send");
        drop(rx);
        assert!(h.join().unwrap().unwrap_err().is_closed());
    });
}

#[test]
fn values_that_race_with_the_end_of_the_receivers_are_settled() {
    settled(|ledger| {
        for cap in [0, 1, 4] {
            for round in 0..21 {
                let (tx, rx) = channel(cap);
                let wg = WaitGroup::new();
                for _ in 0..3 {
                    let (tx, ledger) = (tx.clone(), ledger.clone());
                    wg.go(move || while tx.send(ledger.token()).is_ok() {});
                }
                drop(tx);
                let got = rx.iter().take(round % 7).count();
                assert_eq!(got, round % 7);
                drop(rx);
                wg.wait();
            }
        }
        ledger.assert_settled();
    });
}

#[test]
fn values_that_race_with_the_close_are_settled() {
    settled(|ledger| {
        for cap in [0, 1, 4] {
            for round in 0..21 {
                let (tx, rx) = channel(cap);
                let wg = WaitGroup::new();
                for _ in 0..3 {
                    let (tx, ledger) = (tx.clone(), ledger.clone());
                    wg.go(move || while tx.send(ledger.token()).is_ok() {});
                }
                let closer = tx.clone();
                let got = rx.iter().take(round % 7).count();
                assert_eq!(got, round % 7);
                wg.go(move || closer.close());
                rx.iter().for_each(drop);
                wg.wait();
                assert_eq!(ledger.made(), ledger.dropped());
            }
        }
        ledger.assert_settled();
    });
}

#[test]
fn values_that_race_with_time_limits_are_settled() {
    settled(|ledger| {
        let (tx, rx) = channel(1);
        let wg = WaitGroup::new();
        for seed in 0..3 {
            let (tx, ledger) = (tx.clone(), ledger.clone());
            wg.go(move || {
                let mut rng = Rng(seed);
                for _ in 0..100 {
                    drop(tx.send_timeout(ledger.token(), Duration::from_micros(rng.below(100) as u64)));
                }
            });
        }
        drop(tx);
        let mut rng = Rng(7);
        while !(rx.is_closed() && rx.is_empty()) {
            drop(rx.recv_timeout(Duration::from_micros(rng.below(100) as u64)));
        }
        wg.wait();
        ledger.assert_settled();
    });
}

#[test]
fn values_in_channels_in_channels_go_with_the_outermost() {
    settled(|ledger| {
        let outer = chan::<Chan<Chan<Token>>>(2);
        for _ in 0..2 {
            let middle = chan(3);
            for _ in 0..3 {
                let inner = chan(4);
                (0..4).for_each(|_| inner.send(ledger.token()));
                middle.send(inner);
            }
            outer.send(middle);
        }
        assert_eq!((ledger.made(), ledger.dropped()), (24, 0));
        drop(outer.recv());
        assert_eq!(ledger.dropped(), 12);
        drop(outer);
        assert_eq!(ledger.dropped(), 24);
    });
}

#[test]
fn a_sender_in_its_own_channel_goes_with_the_last_receiver() {
    struct Node {
        _back: Sender<Node>,
        _token: Token,
    }
    settled(|ledger| {
        let (tx, rx) = channel::<Node>(3);
        for _ in 0..3 {
            let node = Node { _back: tx.clone(), _token: ledger.token() };
            assert!(tx.try_send(node).is_ok());
        }
        drop(tx);
        drop(rx);
        ledger.assert_settled();
    });
}

#[test]
fn the_drop_of_an_element_may_use_channels() {
    struct Tells(Sender<Token>, Option<Token>);
    impl Drop for Tells {
        fn drop(&mut self) {
            assert!(self.0.send(self.1.take().unwrap()).is_ok());
        }
    }
    settled(|ledger| {
        let (tell, told) = channel(0);
        let (tx, rx) = channel(4);
        for _ in 0..4 {
            assert!(tx.send(Tells(tell.clone(), Some(ledger.token()))).is_ok());
        }
        drop(tell);
        // The drops park: each waits until it is heard.
        let h = go!(move || drop(rx));
        assert_eq!(told.iter().count(), 4);
        h.join().unwrap();
        assert!(tx.is_closed());
    });
}

/// Its drop panics, if it is told to.
struct Bomb {
    armed: bool,
    _token: Token,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.armed {
            panic!("the drop of an element panics");
        }
    }
}

#[test]
fn an_element_whose_drop_panics_leaves_no_other_behind() {
    settled(|ledger| {
        for whole in [true, false] {
            for shift in 0..4 {
                for armed in 0..4 {
                    let (tx, rx) = channel(4);
                    let bomb = |armed| Bomb { armed, _token: ledger.token() };
                    for _ in 0..shift {
                        assert!(tx.send(bomb(false)).is_ok());
                        drop(rx.recv());
                    }
                    (0..4).for_each(|i| assert!(tx.send(bomb(i == armed)).is_ok()));
                    let said = if whole {
                        // The last handle of all, of a channel that is closed.
                        tx.close();
                        drop(tx);
                        panic_message(move || drop(rx))
                    } else {
                        let said = panic_message(move || drop(rx));
                        assert!(tx.is_closed());
                        assert!(tx.send(bomb(false)).is_err());
                        said
                    };
                    assert_eq!(said, "the drop of an element panics");
                    ledger.assert_settled();
                }
            }
        }
    });
}

#[test]
fn a_receiver_that_unwinds_takes_the_buffer_along() {
    settled(|ledger| {
        let (tx, rx) = channel(8);
        (0..8).for_each(|_| assert!(tx.send(ledger.token()).is_ok()));
        let h = go!(move || {
            let _first = rx.recv();
            panic!("the receiver panics");
        });
        assert!(h.join().is_err());
        assert!(tx.send(ledger.token()).is_err());
        ledger.assert_settled();
    });
}

// -- select --

#[test]
fn the_value_of_a_send_not_chosen_is_dropped_by_the_end_of_the_select() {
    settled(|ledger| {
        let (full, ready, open) = (chan(1), chan(1), chan(1));
        full.send(ledger.token());
        ready.send(1);
        select! {
            send(full, ledger.token()) => unreachable!(),
            recv(ready) -> v => {
                assert_eq!(v, Some(1));
                assert!(ledger.dropped() <= 1);
            }
        }
        assert_eq!(ledger.dropped(), 1);
        select! {
            send(full, ledger.token()) => unreachable!(),
            default => {},
        }
        assert_eq!(ledger.dropped(), 2);
        select_biased! {
            send(Chan::nil(), ledger.token()) => unreachable!(),
            send(open, ledger.token()) => {},
            send(open, ledger.token()) => unreachable!(),
        }
        assert_eq!((ledger.dropped(), open.len()), (4, 1));
        drop(open.recv());
        assert_eq!(ledger.dropped(), 5);
    });
}

#[test]
fn the_values_of_a_select_that_parked_are_settled() {
    settled(|ledger| {
        let (a, b, c) = (chan(0), chan(0), chan::<Token>(0));
        let (ra, sc) = (a.clone(), c.clone());
        let l = ledger.clone();
        for i in 0..100 {
            let (a, b, c, l2) = (a.clone(), b.clone(), c.clone(), l.clone());
            let h = go!(move || select! {
                send(a, l2.token()) => 0,
                send(b, l2.token()) => 1,
                recv(c) -> v => { drop(v); 2 }
            });
            if i % 10 == 0 {
                until_parked(&h, "select");
            }
            let want = i % 2 * 2;
            if want == 0 {
                drop(ra.recv().unwrap());
            } else {
                sc.send(l.token());
            }
            assert_eq!(h.join().unwrap(), want);
        }
        ledger.assert_settled();
    });
}

#[test]
fn a_received_value_that_the_arm_ignores_is_dropped() {
    settled(|ledger| {
        let ch = chan(2);
        ch.send(ledger.token());
        ch.send(ledger.token());
        select! { recv(ch) -> _ => {} }
        assert_eq!(ledger.dropped(), 1);
        select! {
            recv(ch) -> _ => {},
            recv(Chan::<u8>::nil()) -> _ => unreachable!(),
        }
        assert_eq!(ledger.dropped(), 2);
    });
}

#[test]
fn an_arm_that_panics_or_leaves_drops_what_it_has() {
    fn leaves(ledger: &Ledger, ch: &Chan<Token>) -> Option<()> {
        select! {
            recv(ch) -> v => {
                let _v = v?;
                None?;
            },
            send(Chan::nil(), ledger.token()) => unreachable!(),
        }
        unreachable!()
    }
    settled(|ledger| {
        let ch = chan(2);
        ch.send(ledger.token());
        ch.send(ledger.token());
        let said = panic_message(|| {
            select! {
                recv(ch) -> v => {
                    let _v = v.unwrap();
                    panic!("in the arm");
                },
                send(Chan::nil(), ledger.token()) => unreachable!(),
            }
        });
        assert_eq!(said, "in the arm");
        assert_eq!(ledger.dropped(), 2);
        assert!(leaves(ledger, &ch).is_none());
        ledger.assert_settled();
        for turn in 0..4 {
            ch.send(ledger.token());
            select! {
                recv(ch) -> _v => if turn == 2 { break } else { continue },
                send(Chan::nil(), ledger.token()) => unreachable!(),
            }
        }
        assert_eq!(ledger.made(), 4 + 2 * 3);
        ledger.assert_settled();
    });
}

#[test]
fn an_operand_that_panics_drops_the_values_before_it() {
    settled(|ledger| {
        let ch = chan(4);
        fn bad() -> Token {
            panic!("in the operand")
        }
        let said = panic_message(|| {
            select! {
                send(ch, ledger.token()) => {},
                send(ch, ledger.token()) => {},
                send(ch, bad()) => {},
            }
        });
        assert_eq!(said, "in the operand");
        assert_eq!((ledger.made(), ch.len()), (2, 0));
        ledger.assert_settled();
    });
}

#[test]
fn a_value_in_a_place_is_dropped_once_wherever_its_select_ends() {
    settled(|ledger| {
        let (full, free, closed, word) = (chan(0), chan(1), chan(1), chan(1));
        closed.close();
        word.send(5);
        let mut place = Some(ledger.token());
        select! {
            send(full, from place) => unreachable!(),
            recv(word) -> _ => {}
        }
        select! {
            send(full, from place) => unreachable!(),
            default => {}
        }
        assert_eq!(ledger.dropped(), 0, "it stays in its place");
        select! { send(free, from place) => {} }
        assert!(place.is_none() && ledger.dropped() == 0, "it is in the channel");
        place = free.recv();
        let back = select! { send(closed, from place) -> res => res.unwrap_err() };
        assert!(place.is_none() && ledger.dropped() == 0, "it is in the error");
        place = Some(back.into_inner());
        assert_eq!(panic_message(|| select! { send(closed, from place) => {} }), "send on closed channel");
        assert_eq!((place.is_none(), ledger.dropped()), (true, 1));

        place = Some(ledger.token());
        let mut select = Select::new();
        select.send_from(&full, &mut place);
        assert!(select.try_select().is_none() && select.select_timeout(SHORT).is_none());
        drop(select);
        assert_eq!((place.is_some(), ledger.dropped()), (true, 1));
    });
}

#[test]
fn a_value_in_the_place_of_a_parked_select_is_settled() {
    settled(|ledger| {
        for end in 0..3 {
            let (ch, word) = (chan(0), chan::<i32>(0));
            let (tx, rx) = (ch.clone(), word.clone());
            let mut place = Some(ledger.token());
            let h = go!(move || select! {
                send(tx, from place) -> res => res.is_ok() && place.is_none(),
                recv(rx) -> _ => place.is_some(),
            });
            until_parked(&h, "select");
            match end {
                0 => drop(ch.recv()),
                1 => word.send(1),
                _ => ch.close(),
            }
            assert_eq!(h.join().unwrap(), end < 2);
        }
    });
}

#[test]
fn a_select_that_sends_on_a_closed_channel_settles_every_value() {
    settled(|ledger| {
        let ch = chan(1);
        ch.close();
        let tx = ch.sender();
        let said = panic_message(|| {
            select! {
                send(ch, ledger.token()) => unreachable!(),
                send(Chan::nil(), ledger.token()) => unreachable!(),
            }
        });
        assert_eq!(said, "send on closed channel");
        assert_eq!(ledger.dropped(), 2);
        // A Sender's error is dropped, or given.
        select! { send(tx, ledger.token()) => {} }
        assert_eq!(ledger.dropped(), 3);
        let back = select! {
            send(ch, ledger.token()) -> res => res.unwrap_err().into_inner(),
            send(Chan::nil(), ledger.token()) => unreachable!(),
        };
        assert_eq!(ledger.dropped(), 4);
        drop(back);
        assert_eq!(ledger.dropped(), 5);
    });
}

#[test]
fn a_parked_select_settles_its_values_at_the_close() {
    settled(|ledger| {
        for _ in 0..20 {
            let (ch, tx) = (chan(0), chan::<Token>(0));
            let l = ledger.clone();
            let (a, b) = (ch.clone(), tx.sender());
            let panics = go!(move || select! {
                send(a, l.token()) => {},
                recv(Chan::<u8>::nil()) -> _ => {},
            });
            let l = ledger.clone();
            let gives = go!(move || select! {
                send(b, l.token()) -> res => res.unwrap_err().into_inner(),
                recv(Chan::<u8>::nil()) -> _ => unreachable!(),
            });
            until_parked(&panics, "select");
            until_parked(&gives, "select");
            ch.close();
            tx.close();
            assert_eq!(message(&*panics.join().unwrap_err()), "send on closed channel");
            drop(gives.join().unwrap());
            ledger.assert_settled();
        }
    });
}

#[test]
fn a_dynamic_select_owns_its_values_until_they_are_taken() {
    settled(|ledger| {
        let (full, ready, word) = (chan(1), chan(2), chan(1));
        full.send(ledger.token());
        ready.send(ledger.token());
        word.send(5);
        let mut select = Select::new();
        let sends = select.send(&full, ledger.token());
        let receives = select.recv(&ready);
        let done = select.select();
        assert_eq!((done.index(), ledger.dropped()), (receives, 0));
        drop(done.received::<Token>().unwrap());
        assert_eq!(ledger.dropped(), 1);
        assert!(done.received::<Token>().is_none(), "it can be taken once");

        // Given back by `unsent`, once.
        let back = select.unsent::<Token>(sends).unwrap();
        assert!(select.unsent::<Token>(sends).is_none());
        assert_eq!(ledger.dropped(), 1);
        drop(back);
        assert_eq!(ledger.dropped(), 2);

        // A result that nobody takes.
        ready.send(ledger.token());
        assert_eq!(select.select().index(), receives);
        assert_eq!(ledger.dropped(), 3);
        drop(select);

        // Dropped with an unsent value.
        let mut select = Select::new();
        select.send(&full, ledger.token());
        select.recv(&word);
        assert_eq!(select.select().received::<i32>(), Some(5));
        assert!(select.try_select().is_none());
        assert!(select.select_timeout(SHORT).is_none());
        assert_eq!(ledger.dropped(), 3);
        drop(select);
        assert_eq!(ledger.dropped(), 4);

        // Never run at all.
        let mut select = Select::new();
        select.send(&full, ledger.token());
        select.send(&ready, ledger.token());
        drop(select);
        assert_eq!(ledger.dropped(), 6);
    });
}

#[test]
fn a_dynamic_select_on_a_closed_channel_gives_the_value_back() {
    settled(|ledger| {
        let ch = chan(1);
        ch.close();
        let mut select = Select::new();
        select.send(&ch, ledger.token());
        let done = select.select();
        assert_eq!(ledger.dropped(), 0);
        drop(done.sent::<Token>().unwrap_err().into_inner());
        assert_eq!(ledger.dropped(), 1);
        drop(select);
        // The same, with nobody who asks.
        let mut select = Select::new();
        select.send(&ch, ledger.token());
        drop(select.select());
        drop(select);
        ledger.assert_settled();
    });
}

#[test]
fn a_question_of_the_wrong_type_loses_nothing() {
    settled(|ledger| {
        let ch = chan(1);
        ch.send(ledger.token());
        let mut select = Select::new();
        select.recv(&ch);
        let done = select.select();
        panic_message(|| done.received::<String>());
        assert_eq!(ledger.dropped(), 0);
        assert!(done.received::<Token>().is_some());
        let mut select = Select::new();
        let i = select.send(&ch, ledger.token());
        panic_message(AssertUnwindSafe(|| select.unsent::<String>(i)));
        assert!(select.unsent::<Token>(i).is_some());
    });
}

// -- Goroutines --

#[test]
fn a_joined_result_is_the_joiners() {
    settled(|ledger| {
        let l = ledger.clone();
        let h = go!(move || l.token());
        eventually("it ends", || h.is_finished());
        assert_eq!((ledger.made(), ledger.dropped()), (1, 0));
        let v = h.join().unwrap();
        assert_eq!(ledger.dropped(), 0);
        drop(v);
        assert_eq!(ledger.dropped(), 1);
    });
}

#[test]
fn a_detached_goroutines_result_is_dropped() {
    settled(|ledger| {
        for _ in 0..100 {
            let l = ledger.clone();
            go!(move || l.token());
            let l = ledger.clone();
            // Too large for the goroutine itself.
            go!(move || (l.token(), [0_u64; 100], l.token()));
        }
        eventually("all are dropped", || ledger.dropped() == 300);
    });
}

#[test]
fn a_handle_that_goes_before_the_goroutine_ends_leaves_the_result_to_it() {
    settled(|ledger| {
        let hold = chan::<()>(0);
        let (l, held) = (ledger.clone(), hold.clone());
        let h = go!(move || {
            let v = l.token();
            held.recv();
            v
        });
        until_parked(&h, "chan receive");
        drop(h);
        assert_eq!(ledger.dropped(), 0);
        hold.close();
        eventually("the result is dropped", || ledger.dropped() == 1);
    });
}

#[test]
fn a_handle_that_goes_after_the_goroutine_has_ended_drops_the_result() {
    settled(|ledger| {
        let l = ledger.clone();
        let h = go!(move || l.token());
        eventually("it ends", || h.is_finished());
        assert_eq!(ledger.dropped(), 0);
        drop(h);
        assert_eq!(ledger.dropped(), 1);
    });
}

#[test]
fn a_handle_that_goes_while_the_goroutine_ends_drops_the_result_once() {
    settled(|ledger| {
        let mut rng = Rng(1);
        for _ in 0..2000 {
            let l = ledger.clone();
            let h = go!(move || l.token());
            for _ in 0..rng.below(300) {
                std::hint::spin_loop();
            }
            if rng.below(4) == 0 {
                gort::yield_now();
            }
            drop(h);
        }
        eventually("all are dropped", || ledger.dropped() == 2000);
    });
}

#[test]
fn a_handle_dropped_on_another_thread_while_the_goroutine_ends_drops_the_result_once() {
    settled(|ledger| {
        let (give, take) = channel::<gort::JoinHandle<Token>>(64);
        let dropper = thread::spawn(move || take.iter().for_each(drop));
        for _ in 0..2000 {
            let l = ledger.clone();
            assert!(give.send(go!(move || l.token())).is_ok());
        }
        drop(give);
        dropper.join().unwrap();
        eventually("all are dropped", || ledger.dropped() == 2000);
    });
}

#[test]
fn what_a_goroutine_captured_is_dropped_once() {
    fn drop_one(token: Token) -> usize {
        drop(token);
        0
    }
    settled(|ledger| {
        for size_is_large in [false, true] {
            let token = ledger.token();
            let h = if size_is_large {
                let room = [1_u8; 5000];
                go!(move || usize::from(room[4999]) + drop_one(token))
            } else {
                go!(move || 1 + drop_one(token))
            };
            assert_eq!(h.join().unwrap(), 1);
            ledger.assert_settled();
        }
        // Also when it panics, before its panic is handed out.
        let token = ledger.token();
        let h = go!(move || -> () {
            let _token = &token;
            panic!("with a token");
        });
        assert!(h.join().is_err());
        ledger.assert_settled();
    });
}

#[test]
fn a_panics_payload_is_handed_out_or_dropped() {
    settled(|ledger| {
        let token = ledger.token();
        let h = go!(move || -> () { panic_any(token) });
        let payload = h.join().unwrap_err();
        assert_eq!(ledger.dropped(), 0);
        assert!(payload.downcast::<Token>().is_ok());
        assert_eq!(ledger.dropped(), 1);

        let token = ledger.token();
        go!(move || -> () { resume_unwind(Box::new(token)) });
        eventually("a detached goroutine's payload is dropped", || ledger.dropped() == 2);

        let token = ledger.token();
        let h = go!(move || -> () { resume_unwind(Box::new(token)) });
        eventually("it ends", || h.is_finished());
        drop(h);
        assert_eq!(ledger.dropped(), 3);
    });
}

#[test]
fn the_payload_of_a_panic_in_run_is_handed_to_the_caller() {
    let ledger = Ledger::default();
    for procs in common::SIZES {
        let rt = common::builder(procs).build().unwrap();
        let token = ledger.token();
        let payload =
            catch_unwind(AssertUnwindSafe(|| rt.run(|| resume_unwind(Box::new(token))))).unwrap_err();
        assert!(payload.downcast_ref::<Token>().is_some());
        drop(payload);
        ledger.assert_settled();
    }
}

#[test]
fn a_result_whose_drop_panics_harms_nobody_else() {
    at_each_size(|| {
        let ledger = Ledger::default();
        for _ in 0..20 {
            let hold = chan::<()>(0);
            let (token, held) = (ledger.token(), hold.clone());
            let h = go!(move || {
                held.recv();
                Bomb { armed: true, _token: token }
            });
            until_parked(&h, "chan receive");
            drop(h);
            hold.close();
            // Here the result is the handle's; whether its panic comes out is left open.
            let token = ledger.token();
            let h = go!(move || Bomb { armed: true, _token: token });
            eventually("it ends", || h.is_finished());
            let _ = catch_unwind(AssertUnwindSafe(|| drop(h)));
        }
        eventually("all are dropped", || ledger.dropped() == 40);
        ledger.assert_settled();
        eventually("all have ended", || num_goroutines() == 1);
        assert_eq!(go!(|| 5).join().unwrap(), 5);
    });
}

#[test]
fn the_results_of_a_scope_are_dropped_before_it_returns() {
    settled(|ledger| {
        gort::scope(|s| {
            let joined = s.go(|| ledger.token());
            s.go(|| ledger.token());
            let dropped = s.go(|| [ledger.token(), ledger.token()]);
            drop(dropped);
            drop(joined.join().unwrap());
        });
        assert_eq!(ledger.made(), 4);
        ledger.assert_settled();
    });
}

#[test]
fn a_goroutine_that_never_ran_is_dropped_with_its_runtime() {
    // Whether a goroutine starts before the shutdown is a race; so one goroutine spawns many, and all is
    // tried again until some have lost it.
    for procs in common::SIZES {
        let unstarted = (0..200).any(|_| {
            let ledger = Ledger::default();
            let started = Arc::new(AtomicUsize::new(0));
            let rt = common::builder(procs).build().unwrap();
            let (l, count) = (ledger.clone(), started.clone());
            let spawner = rt.go(move || {
                loop {
                    for i in 0..200 {
                        let (token, count) = (l.token(), count.clone());
                        let large = [1_u8; 100];
                        go(move || {
                            let _token = &token;
                            count.fetch_add(usize::from(large[i % 100]), SeqCst);
                        });
                    }
                    gort::yield_now();
                }
            });
            eventually("some have started", || started.load(SeqCst) > 0);
            let joined = rt.go(|| ());
            let abandoned = rt.shutdown_timeout(Duration::ZERO);
            assert!(abandoned <= procs + 1, "{abandoned} goroutines that do not park are abandoned");
            // What was running goes on to its next scheduling point: its end, or the spawn that is refused.
            eventually("nothing is left", || {
                let made = ledger.made();
                made == ledger.dropped() && made == ledger.made()
            });
            for h in [joined, spawner].into_iter().filter(|h| h.is_finished()) {
                if let Err(payload) = h.join() {
                    assert!(message(&*payload).contains("shut down"));
                }
            }
            started.load(SeqCst) < ledger.made()
        });
        assert!(unstarted, "every goroutine started before the shutdown, at {procs} Ps");
    }
}

#[test]
fn an_abandoned_goroutine_is_not_unwound() {
    for procs in common::SIZES {
        let ledger = Ledger::default();
        let rt = common::builder(procs).build().unwrap();
        let went_on = Arc::new(AtomicBool::new(false));
        let ch = chan::<()>(0);
        let (l, rx, on) = (ledger.clone(), ch.clone(), went_on.clone());
        let h = rt.go(move || {
            let _token = l.token();
            rx.recv();
            on.store(true, SeqCst);
        });
        until_parked(&h, "chan receive");
        assert_eq!(rt.shutdown_timeout(Duration::ZERO), 1);
        // It is woken, and never runs.
        ch.close();
        let other = common::builder(procs).build().unwrap();
        other.run(|| (0..100).for_each(|_| go!(|| ()).join().unwrap()));
        assert!(!went_on.load(SeqCst) && !h.is_finished());
        assert_eq!((ledger.made(), ledger.dropped()), (1, 0), "what it owns is leaked");
    }
}
