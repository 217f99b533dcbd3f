//! Models of timer channels: a firing against receivers that come and go, and against a stop and a reset (C1 to C3 of `timer`).
//! The clock is the model's; beside the timer, a channel wakes the receiver, so that it never waits for a firing that was too
//! early for it.
#![cfg(loom)]

use gort_channel::timer::{make, reset, stop};
use gort_channel::{Chan, Receiver, chan, select};
use gort_scheduler::model::proc::timers::heap;
use gort_scheduler::model::{Sched, set_now};
use gort_scheduler::time::Firing;
use gort_scheduler::time::clock::Nanos;
use loom::thread;
use std::time::Instant;

const DUE: Nanos = Nanos(10);
const LATER: u64 = 20;

fn fallback() -> &'static Sched {
    static FALLBACK: Sched = Sched::new();
    &FALLBACK
}

/// A timer channel that is due at DUE, and what wakes who waits for it otherwise.
fn model(period: u64, f: impl Fn(Receiver<Instant>, Chan<usize>) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        set_now(1);
        f(make(DUE, period, fallback), chan(1));
        assert_eq!(heap().first(), Nanos::NEVER, "nobody waits, and the timer is armed");
    });
}

/// It becomes LATER, and somebody looks at the timers.
fn time_passes() -> thread::JoinHandle<()> {
    thread::spawn(|| {
        set_now(LATER);
        heap().run_due(Nanos(LATER), &mut Firing::default());
    })
}

/// Whether the timer's value came.
fn receives(rx: &Receiver<Instant>, ch: &Chan<usize>) -> bool {
    select! {
        recv(rx) -> _ => true,
        recv(ch) -> _ => false,
    }
}

fn receiver(rx: &Receiver<Instant>, ch: &Chan<usize>) -> thread::JoinHandle<bool> {
    let (rx, ch) = (rx.clone(), ch.clone());
    thread::spawn(move || receives(&rx, &ch))
}

#[test]
fn a_value_is_received_or_still_there() {
    model(0, |rx, ch| {
        let (r, t) = (receiver(&rx, &ch), time_passes());
        ch.send(1);
        t.join().unwrap();
        let got = r.join().unwrap();
        assert_eq!(rx.try_recv().is_ok(), !got);
        assert!(rx.try_recv().is_err());
    });
}

#[test]
fn the_last_receiver_may_go_while_the_timer_fires() {
    model(0, |rx, ch| {
        let t = time_passes();
        let tx = ch.clone();
        let r = thread::spawn(move || receives(&rx, &ch));
        tx.send(1);
        r.join().unwrap();
        t.join().unwrap();
    });
}

#[test]
fn two_receivers_of_one_value() {
    model(0, |rx, ch| {
        let ch2 = chan(1);
        let (a, b) = (receiver(&rx, &ch), receiver(&rx, &ch2));
        set_now(LATER);
        heap().run_due(Nanos(LATER), &mut Firing::default());
        ch.send(1);
        ch2.send(1);
        let got = usize::from(a.join().unwrap()) + usize::from(b.join().unwrap());
        assert_eq!(got + usize::from(rx.try_recv().is_ok()), 1);
    });
}

#[test]
fn a_stop_or_a_receiver_has_the_value() {
    model(0, |rx, ch| {
        let (r, t) = (receiver(&rx, &ch), time_passes());
        let stopped = stop(&rx);
        ch.send(1);
        let got = r.join().unwrap();
        assert!(stopped != got);
        assert!(rx.try_recv().is_err(), "a stale value");
        t.join().unwrap();
        assert!(!stop(&rx));
    });
}

#[test]
fn a_reset_brings_one_more_value_exactly_if_the_old_one_was_received() {
    model(0, |rx, ch| {
        let (r, t) = (receiver(&rx, &ch), time_passes());
        let was = reset(&rx, Nanos(15), 0);
        ch.send(1);
        let mut values = usize::from(r.join().unwrap());
        t.join().unwrap();
        values += usize::from(rx.try_recv().is_ok());
        assert_eq!(values, if was { 1 } else { 2 });
    });
}

#[test]
fn a_ticker_goes_on_whoever_receives() {
    model(7, |rx, ch| {
        let (r, t) = (receiver(&rx, &ch), time_passes());
        ch.send(1);
        t.join().unwrap();
        let got = r.join().unwrap();
        // Due at 10; then at 24, which has not come.
        assert_eq!(rx.try_recv().is_ok(), !got);
        assert!(rx.try_recv().is_err());
        set_now(30);
        assert!(rx.try_recv().is_ok());
    });
}
