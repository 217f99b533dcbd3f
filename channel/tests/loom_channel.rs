//! Models of the channel: its real code over stand-ins for the scheduler's verbs, on two and three threads. Values are
//! loom's `Arc`s, so a value that is lost is reported as leaked, and one that is doubled as freed twice.
#![cfg(loom)]

use gort_channel::{Chan, chan, channel, select};
use gort_scheduler::g::{G, Status};
use gort_scheduler::model::Sched;
use gort_scheduler::model::sleep::{expire, pass};
use gort_scheduler::proc::getg;
use loom::sync::{Arc, Mutex};
use loom::thread;
use std::time::Duration;

type V = Arc<usize>;

fn v(n: usize) -> V {
    Arc::new(n)
}

fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

/// The value of a receive, which must have been sent.
fn some(v: Option<V>) -> usize {
    *v.expect("closed")
}

fn spawn_send(ch: &Chan<V>, n: usize) -> thread::JoinHandle<()> {
    let ch = ch.clone();
    thread::spawn(move || ch.send(v(n)))
}

#[test]
fn an_unbuffered_value_goes_from_frame_to_frame() {
    model(3, || {
        let ch = chan::<V>(0);
        let t = spawn_send(&ch, 1);
        assert_eq!(some(ch.recv()), 1);
        t.join().unwrap();
    });
}

#[test]
fn a_full_buffer_hands_its_head_out_and_takes_the_parked_senders_value() {
    model(3, || {
        let ch = chan::<V>(1);
        let tx = ch.clone();
        let t = thread::spawn(move || (1..=3).for_each(|n| tx.send(v(n))));
        for n in 1..=3 {
            assert_eq!(some(ch.recv()), n, "in the order sent");
        }
        t.join().unwrap();
    });
}

#[test]
fn two_receivers_get_one_value_each() {
    model(2, || {
        let ch = chan::<V>(0);
        let ts: Vec<_> = (0..2)
            .map(|_| {
                let ch = ch.clone();
                thread::spawn(move || some(ch.recv()))
            })
            .collect();
        ch.send(v(1));
        ch.send(v(2));
        let sum: usize = ts.into_iter().map(|t| t.join().unwrap()).sum();
        assert_eq!(sum, 3);
    });
}

#[test]
fn a_close_wakes_the_receiver_or_is_seen_by_it() {
    model(3, || {
        let ch = chan::<V>(0);
        let rx = ch.clone();
        let t = thread::spawn(move || rx.recv().is_none());
        ch.close();
        assert!(t.join().unwrap());
    });
}

#[test]
fn a_value_buffered_before_the_close_is_received_after_it() {
    model(3, || {
        let ch = chan::<V>(1);
        let rx = ch.clone();
        let t = thread::spawn(move || (some(rx.recv()), rx.recv().is_none()));
        ch.send(v(5));
        ch.close();
        assert_eq!(t.join().unwrap(), (5, true));
    });
}

#[test]
fn a_sender_parked_at_the_close_gets_its_value_back() {
    model(3, || {
        let (tx, rx) = channel::<V>(0);
        let t = {
            let tx = tx.clone();
            thread::spawn(move || tx.send(v(1)).map_err(|e| *e.into_inner()))
        };
        tx.close();
        assert_eq!(t.join().unwrap(), Err(1));
        assert!(rx.recv().is_none());
    });
}

#[test]
fn a_sender_gets_its_value_back_when_the_last_receiver_goes() {
    model(3, || {
        let (tx, rx) = channel::<V>(0);
        let t = thread::spawn(move || tx.send(v(1)).map_err(|e| *e.into_inner()));
        drop(rx);
        assert_eq!(t.join().unwrap(), Err(1));
    });
}

#[test]
fn the_two_ends_may_go_at_the_same_time() {
    model(3, || {
        let (tx, rx) = channel::<V>(2);
        tx.send(v(1)).unwrap();
        let t = thread::spawn(move || drop(rx));
        let _ = tx.send(v(2));
        drop(tx);
        t.join().unwrap();
    });
}

#[test]
fn the_last_sender_closes_for_a_receiver_that_waits() {
    model(3, || {
        let (tx, rx) = channel::<V>(1);
        let t = thread::spawn(move || rx.iter().map(|v| *v).sum::<usize>());
        tx.send(v(4)).unwrap();
        drop(tx);
        assert_eq!(t.join().unwrap(), 4);
    });
}

#[test]
fn a_try_recv_never_finds_a_channel_empty_that_was_drained_after_its_close() {
    model(3, || {
        // Go's TestNonblockRecvRace: the value is there, or the channel is closed by whoever took it.
        let ch = chan::<V>(1);
        ch.send(v(1));
        let rx = ch.clone();
        let t = thread::spawn(move || rx.try_recv().is_err_and(|e| e == gort_channel::TryRecvError::Empty));
        ch.close();
        drop(ch.recv());
        assert!(!t.join().unwrap(), "neither closed nor holding a value");
    });
}

#[test]
fn a_select_takes_one_of_two_values_and_leaves_the_other() {
    model(2, || {
        let (a, b) = (chan::<V>(1), chan::<V>(1));
        let (ta, tb) = (spawn_send(&a, 1), spawn_send(&b, 2));
        let first = select! {
            recv(a) -> v => some(v),
            recv(b) -> v => some(v),
        };
        let other = if first == 1 { some(b.recv()) } else { some(a.recv()) };
        assert_eq!(first + other, 3);
        ta.join().unwrap();
        tb.join().unwrap();
    });
}

#[test]
fn a_parked_select_is_served_once_though_both_its_channels_are_sent_to() {
    model(2, || {
        let (a, b) = (chan::<V>(0), chan::<V>(0));
        let t = {
            let (a, b) = (a.clone(), b.clone());
            thread::spawn(move || {
                let first = select! { recv(a) -> v => some(v), recv(b) -> v => some(v) };
                let other = if first == 1 { some(b.recv()) } else { some(a.recv()) };
                first + other
            })
        };
        let tb = spawn_send(&b, 2);
        a.send(v(1));
        tb.join().unwrap();
        assert_eq!(t.join().unwrap(), 3);
    });
}

#[test]
fn two_selects_that_lock_the_same_channels_do_not_deadlock() {
    model(2, || {
        let (a, b) = (chan::<V>(0), chan::<V>(0));
        let t = {
            let (a, b) = (a.clone(), b.clone());
            thread::spawn(move || select! { recv(b) -> v => some(v), recv(a) -> v => some(v) })
        };
        let sent = select! {
            send(a, v(1)) => 1,
            send(b, v(2)) => 2,
        };
        assert_eq!(t.join().unwrap(), sent);
    });
}

#[test]
fn a_select_hears_the_close_of_either_channel() {
    model(2, || {
        let (a, b) = (chan::<V>(0), chan::<V>(0));
        let t = {
            let (a, b) = (a.clone(), b.clone());
            thread::spawn(move || select! { recv(a) -> v => v.is_none(), recv(b) -> v => v.is_none() })
        };
        let tb = {
            let b = b.clone();
            thread::spawn(move || b.close())
        };
        a.close();
        assert!(t.join().unwrap());
        tb.join().unwrap();
    });
}

#[test]
fn a_deadline_and_a_sender_never_both_end_a_receive() {
    model(2, || {
        let (tx, rx) = channel::<V>(0);
        let sending = thread::spawn(move || tx.send(v(1)).is_ok());
        let timer = thread::spawn(expire);
        let got = rx.recv_timeout(Duration::from_secs(1)).ok().map(|v| *v);
        // Whatever came of it, the receiver may go; a sender that found none gets its value back.
        drop(rx);
        assert_eq!(sending.join().unwrap(), got.is_some(), "sent and received differ");
        assert!(!(timer.join().unwrap() && got.is_some()), "received after the deadline");
    });
}

#[test]
fn a_deadline_leaves_no_trace_in_the_channel() {
    model(2, || {
        let ch = chan::<V>(0);
        let timer = thread::spawn(expire);
        let waiting = {
            let ch = ch.clone();
            thread::spawn(move || ch.recv_timeout(Duration::from_secs(1)).ok().map(|v| *v))
        };
        timer.join().unwrap();
        // A receiver that has timed out must not be served; one that has not must be.
        let sent = ch.try_send(v(1)).is_ok();
        if !sent {
            ch.try_close();
        }
        let got = waiting.join().unwrap();
        assert_eq!(sent, got.is_some());
    });
}

/// A receive with a time limit, on a goroutine of this scheduler; the value.
fn receiver_of(sched: &'static Sched, ch: &Chan<V>) -> thread::JoinHandle<Option<usize>> {
    let ch = ch.clone();
    thread::spawn(move || {
        sched.adopt(getg());
        ch.recv_timeout(Duration::from_secs(1)).ok().map(|v| *v)
    })
}

#[test]
fn a_value_goes_to_a_receiver_before_the_end_of_its_scheduler_or_comes_back() {
    model(2, || {
        let sched = Sched::start();
        let ch = chan::<V>(0);
        let waiting = receiver_of(sched, &ch);
        let sending = {
            let ch = ch.clone();
            thread::spawn(move || ch.try_send(v(1)).is_ok())
        };
        sched.stop();
        assert!(ch.try_send(v(2)).is_err(), "given to one whose scheduler has ended");
        // So that its thread ends.
        pass();
        let sent = sending.join().unwrap();
        assert_eq!(waiting.join().unwrap(), sent.then_some(1));
    });
}

#[test]
fn a_receiver_behind_one_whose_scheduler_has_ended_is_served() {
    model(2, || {
        let sched = Sched::start();
        let ch = chan::<V>(0);
        let found: Arc<Mutex<Option<&'static G>>> = Arc::new(Mutex::new(None));
        let dead = {
            let (ch, found) = (ch.clone(), found.clone());
            thread::spawn(move || {
                sched.adopt(getg());
                *found.lock().unwrap() = Some(getg());
                ch.recv_timeout(Duration::from_secs(1)).ok().map(|v| *v)
            })
        };
        // One that still runs might take the value itself.
        while !found.lock().unwrap().is_some_and(|gp| gp.status() == Status::Waiting) {
            thread::yield_now();
        }
        let live = {
            let ch = ch.clone();
            thread::spawn(move || some(ch.recv()))
        };
        sched.stop();
        ch.send(v(1));
        assert_eq!(live.join().unwrap(), 1);
        pass();
        assert_eq!(dead.join().unwrap(), None);
    });
}

#[test]
fn the_value_of_a_sender_whose_scheduler_has_ended_stays_with_it() {
    model(2, || {
        let sched = Sched::start();
        let ch = chan::<V>(0);
        let sending = {
            let ch = ch.clone();
            thread::spawn(move || {
                sched.adopt(getg());
                ch.send_timeout(v(1), Duration::from_secs(1)).is_ok()
            })
        };
        let before = {
            let ch = ch.clone();
            thread::spawn(move || ch.try_recv().is_ok())
        };
        sched.stop();
        assert!(ch.try_recv().is_err());
        pass();
        assert_eq!(sending.join().unwrap(), before.join().unwrap());
    });
}
