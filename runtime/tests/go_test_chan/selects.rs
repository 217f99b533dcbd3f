//! `select.go` to `select8.go`: what a select evaluates, when it blocks, and what it leaves in the queues.

use crate::common::{SIZES, Watchdog, at_each_size, eventually, panic_message, until_parked};
use gort::{Chan, JoinHandle, chan, go, select, yield_now};
use gort_scheduler::proc::goroutines;
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// The values of all sends are evaluated each time, also where the channel is nil.
#[test]
fn select() {
    fn send_to_both(mut a: Chan<u32>, mut b: Chan<u32>, value: impl Fn() -> u32, next: impl Fn()) -> usize {
        let mut sent = 0;
        loop {
            select! {
                send(a, value()) => {
                    sent += 1;
                    a = Chan::nil();
                }
                send(b, value()) => {
                    sent += 1;
                    b = Chan::nil();
                }
                default => return sent,
            }
            next();
        }
    }
    at_each_size(|| {
        let (counter, shift) = (Cell::new(0), Cell::new(0));
        let value = || {
            counter.set(counter.get() + 1);
            1 << shift.get()
        };
        let next = || shift.set(shift.get() + 1);
        let (a, b) = (chan(1), chan(1));
        assert_eq!(send_to_both(a.clone(), b.clone(), value, next), 2);
        assert_eq!(a.recv().unwrap() | b.recv().unwrap(), 3);
        assert_eq!(send_to_both(a, Chan::nil(), value, next), 1);
        assert_eq!(counter.get(), 2 * 3 + 2 * 2);
    });
}

// ---- select3.go ----

/// Each of these blocks for ever.
const BLOCK: [(&str, fn()); 10] = [
    ("send to nil", || Chan::nil().send(7)),
    ("receive from nil", || assert_eq!(Chan::<i32>::nil().recv(), None)),
    ("receive with no sender", || assert_eq!(chan::<i32>(0).recv(), None)),
    ("select without arms", || select! {}),
    ("select, receive from nil", || select! { recv(Chan::<i32>::nil()) -> _ => {} }),
    ("select, send to nil", || select! { send(Chan::nil(), 7) => {} }),
    ("select, both on nil", || {
        let nil = Chan::nil();
        select! {
            recv(nil) -> _ => {}
            send(nil, 7) => {}
        }
    }),
    ("select, receive with no sender", || select! { recv(chan::<i32>(0)) -> _ => {} }),
    ("select, send with no receiver", || select! { send(chan(0), 7) => {} }),
    ("select that sees itself", || {
        let c = chan(0);
        select! {
            send(c, 1) => {}
            recv(c) -> _ => {}
        }
    }),
];

/// Each of these comes to its end.
const DO_NOT_BLOCK: [(&str, fn()); 11] = [
    ("send with room", || chan(1).send(7)),
    ("receive from closed", || (0..10).for_each(|_| assert_eq!(closed().recv(), None))),
    ("default alone", || select! { default => {} }),
    (
        "default, receive from nil",
        || select! { recv(Chan::<i32>::nil()) -> _ => unreachable!(), default => {} },
    ),
    ("default, send to nil", || select! { send(Chan::nil(), 7) => unreachable!(), default => {} }),
    ("select, send with room", || select! { send(chan(1), 7) => {} default => unreachable!() }),
    ("select, receive what is there", || {
        let ch = chan(1);
        ch.send(7);
        select! {
            recv(ch) -> v => assert_eq!(v, Some(7)),
            default => unreachable!(),
        }
    }),
    ("select, receive from closed", || select! { recv(closed()) -> v => assert_eq!(v, None) }),
    ("select, receive from closed or nil", || {
        select! {
            recv(Chan::<i32>::nil()) -> _ => unreachable!(),
            recv(closed()) -> v => assert_eq!(v, None),
        }
    }),
    ("select, receive from closed, default", || {
        select! {
            recv(closed()) -> v => assert_eq!(v, None),
            default => unreachable!(),
        }
    }),
    ("select, send with room or to nil", || {
        select! {
            send(Chan::nil(), 7) => unreachable!(),
            send(chan(1), 7) => {}
        }
    }),
];

/// Each of these panics.
const PANIC: [(&str, fn()); 4] = [
    ("send to closed", || closed().send(7)),
    ("select, send to closed", || select! { send(closed(), 7) => {} }),
    ("select, send to closed, default", || select! { send(closed(), 7) => {} default => {} }),
    ("select, send to closed or nil", || {
        select! {
            send(closed(), 7) => {}
            send(Chan::nil(), 7) => {}
        }
    }),
];

fn closed() -> Chan<i32> {
    let ch = chan(0);
    ch.close();
    ch
}

#[test]
fn select3() {
    for procs in SIZES {
        let _watch = Watchdog::arm(&format!("select3, {procs} Ps"));
        let rt = crate::common::builder(procs).build().unwrap();
        rt.run(|| {
            let blocked = BLOCK.map(|(what, f)| (what, go!(f())));
            for (what, f) in DO_NOT_BLOCK {
                assert!(go!(f()).join().is_ok(), "{what}");
            }
            for (what, f) in PANIC {
                assert_eq!(panic_message(f), "send on closed channel", "{what}");
            }
            blocked.iter().for_each(|(what, h)| until_blocked(what, h));
            (0..10).for_each(|_| yield_now());
            blocked.iter().for_each(|(what, h)| assert!(!h.is_finished(), "{what}"));
        });
        assert_eq!(rt.shutdown_timeout(Duration::ZERO), BLOCK.len(), "at {procs} Ps");
    }
}

fn until_blocked(what: &str, h: &JoinHandle<()>) {
    let waits = |state| state != "running" && state != "runnable";
    eventually(&format!("blocks: {what}"), || goroutines().iter().any(|g| g.id == h.id() && waits(g.state)));
}

/// Where to put what is received is found out only when the arm has been chosen.
#[test]
fn select4() {
    fn place<'a>(log: &RefCell<Vec<&'static str>>, name: &'static str, x: &'a mut i32) -> &'a mut i32 {
        log.borrow_mut().push(name);
        x
    }
    at_each_size(|| {
        let (c, c1) = (chan::<i32>(1), chan::<i32>(0));
        c.send(42);
        let (log, mut x) = (RefCell::new(Vec::new()), 0);
        select! {
            recv(c1) -> v => *place(&log, "c1", &mut x) = v.unwrap(),
            recv(c) -> v => {
                assert!(log.borrow().is_empty(), "evaluated before the choice");
                *place(&log, "c", &mut x) = v.unwrap();
            }
        }
        assert_eq!((x, log.into_inner()), (42, vec!["c"]));
    });
}

// ---- select5.go ----

/// Which operands were evaluated, in order.
#[derive(Default)]
struct Trace(RefCell<Vec<u32>>);

impl Trace {
    fn at<T>(&self, mark: u32, v: T) -> T {
        self.0.borrow_mut().push(mark);
        v
    }

    #[track_caller]
    fn expect(&self, marks: &[u32], what: &str) {
        assert_eq!(self.0.take(), marks, "evaluated in {what}");
    }
}

/// Calls `$run!([marks] [arms])` with the arms given and every subset of the others, which bring their marks.
macro_rules! each_subset {
    ($run:ident $marks:tt $arms:tt) => { $run!($marks $arms) };
    ($run:ident [$($marks:tt)*] [$($arms:tt)*] { [$($mark:tt)*] $($arm:tt)* } $($rest:tt)*) => {
        each_subset!($run [$($marks)*] [$($arms)*] $($rest)*);
        each_subset!($run [$($marks)* $($mark)*] [$($arms)* $($arm)*] $($rest)*);
    };
}

/// One receive that can go on, spelled in every way.
#[test]
fn select5_recv() {
    at_each_size(|| {
        let (c, dummy, nil) = (chan::<i32>(1), chan::<i32>(0), Chan::<i32>::nil());
        let (t, mut n) = (Trace::default(), 0);
        c.send(n);
        assert_eq!(t.at(1, &c).recv(), Some(n));
        t.expect(&[1], "a receive");
        macro_rules! run {
            ([$($mark:tt)*] [$($arm:tt)*]) => {
                n += 1;
                c.send(n);
                let got = select! { $($arm)* };
                assert_eq!(got, Some(n), "{}", stringify!($($arm)*));
                t.expect(&[$($mark),*], stringify!($($arm)*));
            };
        }
        macro_rules! with_others {
            ($($arm:tt)*) => {
                each_subset!(run [1] [$($arm)*]
                    { [2 3] send(t.at(2, &dummy), t.at(3, 1)) => panic!("dummy send"), }
                    { [4] recv(t.at(4, &dummy)) -> _ => panic!("dummy receive"), }
                    { [5 6] send(t.at(5, &nil), t.at(6, 1)) => panic!("nil send"), }
                    { [7] recv(t.at(7, &nil)) -> _ => panic!("nil receive"), });
            };
        }
        with_others!(recv(t.at(1, &c)) -> v => v,);
        with_others!(default => panic!("default"), recv(t.at(1, &c)) -> v => v,);
        with_others!(recv(t.at(1, &c)) -> v => v, default => panic!("default"),);
        assert_eq!(n, 3 * 16);
    });
}

/// One send that can go on, spelled in every way.
#[test]
fn select5_send() {
    at_each_size(|| {
        let (c, dummy, nil) = (chan::<i32>(1), chan::<i32>(0), Chan::<i32>::nil());
        let (t, mut n) = (Trace::default(), 0);
        t.at(1, &c).send(t.at(2, n));
        assert_eq!(c.recv(), Some(n));
        t.expect(&[1, 2], "a send");
        macro_rules! run {
            ([$($mark:tt)*] [$($arm:tt)*]) => {
                n += 1;
                select! { $($arm)* }
                assert_eq!(c.recv(), Some(n), "{}", stringify!($($arm)*));
                t.expect(&[$($mark),*], stringify!($($arm)*));
            };
        }
        macro_rules! with_others {
            ($($arm:tt)*) => {
                each_subset!(run [1 2] [$($arm)*]
                    { [3 4] send(t.at(3, &dummy), t.at(4, 1)) => panic!("dummy send"), }
                    { [5] recv(t.at(5, &dummy)) -> _ => panic!("dummy receive"), }
                    { [6 7] send(t.at(6, &nil), t.at(7, 1)) => panic!("nil send"), }
                    { [8] recv(t.at(8, &nil)) -> _ => panic!("nil receive"), });
            };
        }
        with_others!(send(t.at(1, &c), t.at(2, n)) => {});
        with_others!(default => panic!("default"), send(t.at(1, &c), t.at(2, n)) => {});
        with_others!(send(t.at(1, &c), t.at(2, n)) => {} default => panic!("default"),);
        assert_eq!(n, 3 * 16);
    });
}

/// Nothing can go on, so nothing but the operands is evaluated.
#[test]
fn select5_nonblock() {
    at_each_size(|| {
        let (dummy, nil) = (chan::<i32>(0), Chan::<i32>::nil());
        let (t, mut n) = (Trace::default(), 0);
        macro_rules! run {
            ([$($mark:tt)*] [$($arm:tt)*]) => {
                n += 1;
                let defaulted = select! { $($arm)* };
                assert!(defaulted, "{}", stringify!($($arm)*));
                t.expect(&[$($mark),*], stringify!($($arm)*));
            };
        }
        each_subset!(run [] [default => true,]
            { [1 2] send(t.at(1, &dummy), t.at(2, 1)) => false, }
            { [3 4] send(t.at(3, &nil), t.at(4, 1)) => false, }
            { [5] recv(t.at(5, &dummy)) -> _ => false, }
            { [6] recv(t.at(6, &dummy)) -> v => v.unwrap() < 0, }
            { [7] recv(t.at(7, &nil)) -> _ => false, }
            { [8] recv(t.at(8, &nil)) -> v => v.unwrap() < 0, });
        assert_eq!(n, 64);
    });
}

/// A select that waits last in a queue, and is woken through another arm, leaves the queue whole.
#[test]
fn select6() {
    at_each_size(|| {
        let (c1, c2, c3) = (chan::<i32>(0), chan::<i32>(0), chan::<i32>(0));
        let first = go!(c1.clone().recv());
        until_parked(&first, "chan receive");
        let second = {
            let (c1, c2, c3) = (c1.clone(), c2.clone(), c3.clone());
            go!(move || {
                select! {
                    recv(c1) -> _ => panic!("received what was not sent"),
                    recv(c2) -> v => c3.send(v.unwrap()),
                }
                c1.recv()
            })
        };
        until_parked(&second, "select");
        go!(c2.clone().send(1));
        assert_eq!(c3.recv(), Some(1));
        until_parked(&second, "chan receive");
        c1.send(2);
        c1.send(3);
        assert_eq!(first.join().unwrap(), Some(2));
        assert_eq!(second.join().unwrap(), Some(3));
    });
}

/// What is received may be thrown away: by each kind of receive, from each kind of send.
#[test]
fn select7() {
    let receives: [fn(Chan<i32>); 3] = [
        |c| {
            c.recv();
        },
        |c| select! { recv(c) -> _ => {} },
        |c| {
            let c2 = chan::<i32>(0);
            select! {
                recv(c) -> _ => {}
                recv(c2) -> _ => unreachable!(),
            }
        },
    ];
    let sends: [fn(Chan<i32>); 3] = [
        |c| c.send(1),
        |c| select! { send(c, 1) => {} },
        |c| {
            let c2 = chan::<i32>(0);
            select! {
                send(c, 1) => {}
                send(c2, 1) => unreachable!(),
            }
        },
    ];
    at_each_size(|| {
        for recv in receives {
            for send in sends {
                let c = chan(0);
                let h = go!(recv(c.clone()));
                yield_now();
                send(c);
                h.join().unwrap();
            }
        }
    });
}

/// `break` leaves what is around the select, in selects of every shape.
#[test]
#[allow(clippy::never_loop, reason = "the loops are there for the breaks")]
fn select8() {
    at_each_size(|| {
        let ch = chan::<i32>(3);
        (0..3).for_each(|_| ch.send(5));
        let mut broken = 0;
        loop {
            select! { recv(ch) -> _ => break }
        }
        broken += 1;
        loop {
            select! { default => break }
        }
        broken += 1;
        loop {
            select! { recv(ch) -> _ => break, default => unreachable!() }
        }
        broken += 1;
        'outer: loop {
            loop {
                select! {
                    recv(ch) -> _ => break 'outer,
                    send(Chan::nil(), 10) => unreachable!(),
                    default => unreachable!(),
                }
            }
        }
        broken += 1;
        assert_eq!((broken, ch.len()), (4, 0));
    });
}
