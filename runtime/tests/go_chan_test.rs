//! Go's `runtime/chan_test.go` and `runtime/chanbarrier_test.go`, case by case.
//!
//! Where Go sleeps so that a goroutine has surely blocked, these wait until the list of goroutines says so.
//! Go's cases about a stack that moves under a blocked operation are here about one that must not: what lies
//! on a parked stack is intact after all that happened elsewhere meanwhile.

mod common;

use common::{Ledger, Token, at_each_size, at_size, until_parked};
use gort::chan as make;
use gort::sync::WaitGroup;
use gort::{Chan, JoinHandle, TryRecvError, TrySendError, go, select, yield_now};
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};

// ---- chan_test.go ----

#[test]
fn chan() {
    at_each_size(|| {
        for cap in 0..20 {
            receive_from_empty_blocks(cap);
            send_to_full_blocks(cap);
            closed_drains_and_then_gives_nothing(cap);
            close_unblocks_receive(cap);
            hundred_in_order(cap);
            many_to_many(cap);
            len_and_cap(cap);
        }
    });
}

fn receive_from_empty_blocks(cap: usize) {
    let c = make::<i32>(cap);
    let receivers = [go!(c.clone().recv()), go!(c.clone().recv())];
    receivers.iter().for_each(|h| until_parked(h, "chan receive"));
    assert_eq!(c.try_recv(), Err(TryRecvError::Empty), "cap {cap}");
    select! {
        recv(c) -> v => panic!("cap {cap}: {v:?} from an empty channel"),
        default => {}
    }
    assert!(receivers.iter().all(|h| !h.is_finished()), "cap {cap}");
    c.send(7);
    c.send(7);
    for h in receivers {
        assert_eq!(h.join().unwrap(), Some(7), "cap {cap}");
    }
}

fn send_to_full_blocks(cap: usize) {
    let c = make::<usize>(cap);
    (0..cap).for_each(|i| c.send(i));
    let h = go!(c.clone().send(cap));
    until_parked(&h, "chan send");
    assert_eq!(c.try_send(99), Err(TrySendError::Full(99)), "cap {cap}");
    select! {
        send(c, 99) => panic!("cap {cap}: sent to a full channel"),
        default => {}
    }
    assert!(!h.is_finished(), "cap {cap}");
    assert_eq!(c.recv(), Some(0), "cap {cap}");
    h.join().unwrap();
    let rest: Vec<_> = c.receiver().try_iter().collect();
    assert!(rest.into_iter().eq(1..=cap), "cap {cap}");
}

fn closed_drains_and_then_gives_nothing(cap: usize) {
    let c = make::<usize>(cap);
    (0..cap).for_each(|i| c.send(i));
    c.close();
    for i in 0..cap {
        assert_eq!(c.recv(), Some(i), "cap {cap}");
    }
    assert_eq!(c.recv(), None, "cap {cap}");
    assert_eq!(c.try_recv(), Err(TryRecvError::Closed), "cap {cap}");
}

fn close_unblocks_receive(cap: usize) {
    let c = make::<i32>(cap);
    let h = go!(c.clone().recv());
    until_parked(&h, "chan receive");
    c.close();
    assert_eq!(h.join().unwrap(), None, "cap {cap}");
}

/// Once with receives, once with the iterator.
fn hundred_in_order(cap: usize) {
    let c = make::<i32>(cap);
    let send_all = || {
        let c = c.clone();
        go!(move || (0..100).for_each(|i| c.send(i)))
    };
    let first = send_all();
    for i in 0..100 {
        assert_eq!(c.recv(), Some(i), "cap {cap}");
    }
    let second = send_all();
    assert!(c.iter().take(100).eq(0..100), "cap {cap}");
    first.join().unwrap();
    second.join().unwrap();
}

/// Four goroutines send the same thousand numbers each, four receive a thousand each.
fn many_to_many(cap: usize) {
    const P: usize = 4;
    const L: usize = 1000;
    let c = make::<usize>(cap);
    let mut senders = Vec::new();
    let mut receivers: Vec<JoinHandle<Vec<usize>>> = Vec::new();
    for _ in 0..P {
        let (tx, rx) = (c.clone(), c.clone());
        senders.push(go!(move || (0..L).for_each(|i| tx.send(i))));
        receivers.push(go!(move || rx.iter().take(L).collect()));
    }
    let mut seen = [0; L];
    for v in receivers.into_iter().flat_map(|h| h.join().unwrap()) {
        seen[v] += 1;
    }
    assert_eq!(seen, [P; L], "cap {cap}");
    senders.into_iter().for_each(|h| h.join().unwrap());
}

fn len_and_cap(cap: usize) {
    let c = make::<usize>(cap);
    assert_eq!((c.len(), c.cap()), (0, cap));
    (0..cap).for_each(|i| c.send(i));
    assert_eq!((c.len(), c.cap()), (cap, cap));
}

/// How often two race for a moment that must not be.
const RACES: usize = if cfg!(debug_assertions) { 1000 } else { 20_000 };

/// Races `theirs` against `ours` over what `make` makes: first as Go does, with a new goroutine each time,
/// which as a rule runs when the caller parks; then with a plain thread that starts in the same moment.
fn race<C, F>(make: impl Fn() -> C, theirs: F, ours: impl Fn(&C))
where
    C: Clone + Send + Sync + 'static,
    F: Fn(C) + Copy + Send + Sync + 'static,
{
    for _ in 0..RACES {
        let c = make();
        let h = go!(theirs(c.clone()));
        ours(&c);
        h.join().unwrap();
    }
    let all: Vec<C> = (0..RACES).map(|_| make()).collect();
    let arrived = AtomicUsize::new(0);
    let meet = |round| {
        arrived.fetch_add(1, SeqCst);
        while arrived.load(SeqCst) < 2 * (round + 1) {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|s| {
        let thread = s.spawn(|| {
            // A panic must not leave the other one spinning.
            all.iter()
                .enumerate()
                .map(|(i, c)| {
                    meet(i);
                    catch_unwind(AssertUnwindSafe(|| theirs(c.clone()))).is_ok()
                })
                .filter(|fine| !fine)
                .count()
        });
        for (i, c) in all.iter().enumerate() {
            meet(i);
            ours(c);
        }
        assert_eq!(thread.join().unwrap(), 0, "failures on the plain thread");
    });
}

/// From the moment that the goroutine exists there is either a value or the close to be received.
#[test]
fn nonblock_recv_race() {
    let ready = || {
        let c = make::<i32>(1);
        c.send(1);
        c
    };
    let receives = |c: Chan<i32>| {
        select! {
            recv(c) -> _ => {}
            default => panic!("the channel was not ready"),
        }
    };
    let closes = |c: &Chan<i32>| {
        c.close();
        c.recv();
    };
    at_each_size(|| race(ready, receives, closes));
}

/// A select sees its channels at one moment: one of the two is ready at any time, so `default` never runs.
#[test]
fn nonblock_select_race() {
    at_each_size(|| one_of_two_is_ready(1, |c2| c2.send(1)));
}

/// The same with a close in place of the second send.
#[test]
fn nonblock_select_race2() {
    at_each_size(|| one_of_two_is_ready(0, Chan::close));
}

fn one_of_two_is_ready(cap: usize, make_ready: impl Fn(&Chan<i32>)) {
    let first_is_ready = || {
        let c1 = make::<i32>(1);
        c1.send(1);
        (c1, make::<i32>(cap))
    };
    let receives = |(c1, c2): (Chan<i32>, Chan<i32>)| {
        select! {
            recv(c1) -> _ => {}
            recv(c2) -> _ => {}
            default => panic!("no channel was ready"),
        }
    };
    race(first_is_ready, receives, |(c1, c2)| {
        make_ready(c2);
        let _ = c1.try_recv();
    });
}

/// Send and receive on one channel in one select: two goroutines that do it meet each other, and none itself.
#[test]
fn self_select() {
    at_each_size(|| {
        for cap in [0, 10] {
            let c = make::<usize>(cap);
            let handles = [0, 1].map(|p| go!(meet_the_other(c.clone(), p)));
            for h in handles {
                h.join().unwrap();
            }
        }
    });
}

fn meet_the_other(c: Chan<usize>, p: usize) {
    let check = |v: Option<usize>| assert!(c.cap() > 0 || v == Some(1 - p), "goroutine {p} received {v:?}");
    for i in 0..1000 {
        if p == 0 || i % 2 == 0 {
            select! {
                send(c, p) => {}
                recv(c) -> v => check(v),
            }
        } else {
            select! {
                recv(c) -> v => check(v),
                send(c, p) => {}
            }
        }
    }
}

/// Plain operations and selects on four channels in a chaos that cannot deadlock, as the numbers match.
#[test]
fn select_stress() {
    at_each_size(stress_four_channels);
    at_size(10, stress_four_channels);
}

/// What each plain goroutine sends or receives on its channel, and each select on every channel.
const STRESS: usize = 10_000;

fn stress_four_channels() {
    let c = [0, 0, 2, 3].map(make::<usize>);
    let wg = WaitGroup::new();
    for c in &c {
        let (tx, rx) = (c.clone(), c.clone());
        wg.go(move || (0..STRESS).for_each(|_| tx.send(0)));
        wg.go(move || rx.iter().take(STRESS).for_each(drop));
    }
    let (tx, rx) = (c.clone(), c.clone());
    let senders = go!(select_sends(tx));
    let receivers = go!(select_receives(rx));
    senders.join().unwrap();
    receivers.join().unwrap();
    wg.wait();
    assert!(c.iter().all(Chan::is_empty));
}

/// Counts one more on a channel, which becomes nil when its number is full.
fn count(n: &mut usize, c: &mut Chan<usize>) {
    *n += 1;
    if *n == STRESS {
        *c = Chan::nil();
    }
}

fn select_sends(mut c: [Chan<usize>; 4]) {
    let mut n = [0; 4];
    for _ in 0..4 * STRESS {
        select! {
            send(c[3], 0) => count(&mut n[3], &mut c[3]),
            send(c[2], 0) => count(&mut n[2], &mut c[2]),
            send(c[0], 0) => count(&mut n[0], &mut c[0]),
            send(c[1], 0) => count(&mut n[1], &mut c[1]),
        }
    }
    assert_eq!(n, [STRESS; 4]);
}

fn select_receives(mut c: [Chan<usize>; 4]) {
    let mut n = [0; 4];
    for _ in 0..4 * STRESS {
        select! {
            recv(c[0]) -> _ => count(&mut n[0], &mut c[0]),
            recv(c[1]) -> _ => count(&mut n[1], &mut c[1]),
            recv(c[2]) -> _ => count(&mut n[2], &mut c[2]),
            recv(c[3]) -> _ => count(&mut n[3], &mut c[3]),
        }
    }
    assert_eq!(n, [STRESS; 4]);
}

/// Two channels that are always ready, after two that never are: each is chosen half of the time.
#[test]
fn select_fairness() {
    const TRIALS: usize = 10_000;
    at_each_size(|| {
        let (c1, c2) = (make::<usize>(TRIALS + 1), make::<usize>(TRIALS + 1));
        for _ in 0..=TRIALS {
            c1.send(0);
            c2.send(1);
        }
        let (out, done) = (make(0), make(0));
        let h = go!(forward_what_is_ready(c1, c2, out.clone(), done.clone()));
        let mut counts = [0; 2];
        for which in out.iter().take(TRIALS) {
            counts[which] += 1;
        }
        // Ten standard deviations are a lot, but a mild bias would do no harm.
        let sigma = (TRIALS as f64 * 0.5 * 0.5).sqrt();
        let off = (counts[0] as f64 - TRIALS as f64 / 2.0).abs();
        assert!(off <= 10.0 * sigma, "unfair select: {counts:?}");
        done.close();
        h.join().unwrap();
    });
}

fn forward_what_is_ready(c1: Chan<usize>, c2: Chan<usize>, out: Chan<usize>, done: Chan<()>) {
    let (c3, c4) = (make::<usize>(0), make::<usize>(0));
    loop {
        let b = select! {
            recv(c3) -> b => b,
            recv(c4) -> b => b,
            recv(c1) -> b => b,
            recv(c2) -> b => b,
        };
        select! {
            send(out, b.unwrap()) => {}
            recv(done) -> _ => return,
        }
    }
}

/// Pointers to values of an unknown type, through all kinds of sends; those that are not sent are dropped.
#[test]
fn chan_send_interface() {
    type Any_ = Arc<dyn Any + Send + Sync>;
    struct Mt;
    at_each_size(|| {
        let m = Arc::new(Mt);
        let any = || m.clone() as Any_;
        let c = make::<Any_>(1);
        c.send(any());
        select! {
            send(c, any()) => panic!("the channel was full"),
            default => {}
        }
        assert!(c.try_send(any()).is_err());
        select! {
            send(c, any()) => panic!("the channel was full"),
            send(c, Arc::new(Mt) as Any_) => panic!("the channel was full"),
            default => {}
        }
        assert_eq!(Arc::strong_count(&m), 2, "one is in the channel, the others were dropped");
        let got = c.recv().unwrap().downcast::<Mt>().ok().unwrap();
        assert!(Arc::ptr_eq(&got, &m));
    });
}

/// One channel in two sends of a select: both values get their share.
#[test]
fn pseudo_random_send() {
    const N: usize = 100;
    at_each_size(|| {
        for cap in [0, N] {
            let c = make::<usize>(cap);
            let rx = c.clone();
            let h = go!(move || {
                let receive = |_| {
                    yield_now();
                    rx.recv().unwrap()
                };
                (0..N).map(receive).sum::<usize>()
            });
            for _ in 0..N {
                select! {
                    send(c, 1) => {}
                    send(c, 0) => {}
                }
            }
            let ones = h.join().unwrap();
            assert!((N / 10 + 1..N - N / 10).contains(&ones), "cap {cap}: {ones} ones of {N}");
        }
    });
}

/// Many goroutines drain one queue into another, out of step.
#[test]
fn multi_consumer() {
    const WORKERS: usize = 23;
    const ITEMS: usize = if cfg!(debug_assertions) { 27_183 } else { 271_828 };
    const PRIMES: [usize; 10] = [2, 3, 7, 11, 13, 17, 19, 23, 27, 31];
    at_each_size(|| {
        let (q, r) = (make::<usize>(WORKERS * 3), make::<usize>(WORKERS * 3));
        let workers = WaitGroup::new();
        for w in 0..WORKERS {
            let (q, r) = (q.clone(), r.clone());
            workers.go(move || {
                for v in &q {
                    if v == PRIMES[w % PRIMES.len()] {
                        yield_now();
                    }
                    r.send(v);
                }
            });
        }
        let results = r.clone();
        let feeder = go!(move || {
            (0..ITEMS).for_each(|i| q.send(PRIMES[i % PRIMES.len()]));
            q.close();
            workers.wait();
            results.close();
        });
        let (mut n, mut sum) = (0, 0);
        for v in &r {
            n += 1;
            sum += v;
        }
        let expected: usize = (0..ITEMS).map(|i| PRIMES[i % PRIMES.len()]).sum();
        assert_eq!((n, sum), (ITEMS, expected));
        feeder.join().unwrap();
    });
}

/// Uses `depth` KiB of stack and more, and hands `f`'s result up through all of it.
#[inline(never)]
fn deep<R>(depth: usize, f: &mut dyn FnMut() -> R) -> R {
    let mut frame = black_box([depth as u8; 1024]);
    let result = if depth == 0 { f() } else { deep(depth - 1, f) };
    frame = black_box(frame);
    assert!(frame.iter().all(|&b| b == depth as u8), "the stack is damaged");
    result
}

/// A value that shows whether it came over whole.
fn pattern(i: u64) -> [u64; 32] {
    std::array::from_fn(|k| i << 8 | k as u64)
}

/// The sender's value lies on a parked stack while the receiver uses its own up and down.
#[test]
fn shrink_stack_during_blocked_send() {
    const N: u64 = 10;
    at_each_size(|| {
        let c = make::<[u64; 32]>(0);
        let tx = c.clone();
        let sender = go!(move || {
            for i in 0..N {
                deep(i as usize, &mut || tx.send(pattern(i)));
                deep(20, &mut || ());
            }
        });
        for i in 0..N {
            until_parked(&sender, "chan send");
            deep(20, &mut || ());
            let got = deep((N - i) as usize, &mut || c.recv());
            assert_eq!(got, Some(pattern(i)));
        }
        sender.join().unwrap();
    });
}

/// Parking races with being received from, each time at another depth of the stack.
#[test]
fn no_shrink_stack_while_parking() {
    const N: u64 = 10;
    at_each_size(|| {
        for round in 0..200 {
            let c = make::<[u64; 32]>(0);
            let (tx, rx) = (c.clone(), c);
            let receiver = go!(move || {
                for i in 0..N {
                    yield_now();
                    let got = deep((round + i as usize) % 7, &mut || rx.recv());
                    assert_eq!(got, Some(pattern(i)));
                }
            });
            let sender = go!(move || {
                for i in 0..N {
                    deep((round + i as usize) % 5, &mut || tx.send(pattern(i)));
                    deep(20, &mut || ());
                }
            });
            receiver.join().unwrap();
            sender.join().unwrap();
        }
    });
}

/// A goroutine may be queued several times on one channel. When another arm wakes it, it leaves that queue as
/// it should be: it may wait for something else, and the next in the queue is served.
#[test]
fn select_duplicate_channel() {
    at_each_size(|| {
        let (c, d, e) = (make::<i32>(0), make::<i32>(0), make::<i32>(0));
        let quit = make::<i32>(0);
        let a = go!(wait_twice(c.clone(), d.clone(), e.clone(), quit.clone()));
        until_parked(&a, "select");
        let b = go!(c.clone().recv());
        until_parked(&b, "chan receive");
        d.send(7);
        assert_eq!(e.recv(), Some(9));
        until_parked(&a, "select");
        c.send(8);
        assert_eq!(b.join().unwrap(), Some(8));
        assert!(!a.is_finished());
        quit.close();
        a.join().unwrap();
    });
}

fn wait_twice(c: Chan<i32>, d: Chan<i32>, e: Chan<i32>, quit: Chan<i32>) {
    select! {
        recv(c) -> v => panic!("{v:?} from c"),
        recv(c) -> v => panic!("{v:?} from c"),
        recv(d) -> v => assert_eq!(v, Some(7)),
    }
    e.send(9);
    select! {
        recv(quit) -> v => assert_eq!(v, None),
        recv(quit) -> v => assert_eq!(v, None),
    }
}

/// A variable on the stack that holds a pointer to another one there, and that an arm would overwrite.
#[test]
fn select_stack_adjust() {
    at_each_size(|| {
        let (c, d) = (make(0), make(0));
        let handles = [false, true].map(|dup| go!(keep_a_pointer(c.clone(), d.clone(), dup)));
        handles.iter().for_each(|h| until_parked(h, "select"));
        // Without optimisation about 100 KiB, which is what every stack has.
        go!(move || deep(24, &mut || ())).join().unwrap();
        deep(24, &mut || ());
        d.close();
        for h in handles {
            h.join().unwrap();
        }
    });
}

fn keep_a_pointer(c: Chan<&'static AtomicI32>, d: Chan<&'static AtomicI32>, dup: bool) {
    deep(10, &mut || ());
    let val = AtomicI32::new(42);
    let mut cx: &AtomicI32 = &val;
    let (c2, d2) = if dup { (c.clone(), d.clone()) } else { (Chan::nil(), Chan::nil()) };
    select! {
        recv(c) -> v => cx = v.unwrap(),
        recv(c2) -> v => panic!("{v:?} from c"),
        recv(d) -> v => assert!(v.is_none()),
        recv(d2) -> v => assert!(v.is_none()),
    }
    assert!(ptr::eq(cx, &val), "the pointer has changed");
    assert_eq!(val.load(SeqCst), 42);
    cx.store(43, SeqCst);
    assert_eq!(val.load(SeqCst), 43);
}

// ---- chanbarrier_test.go ----

#[derive(Debug)]
struct MyError;

impl fmt::Display for MyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("my error")
    }
}

impl Error for MyError {}

/// What a request comes back with, on the heap.
struct Async {
    resp: Option<Token>,
    err: Option<Box<dyn Error + Send>>,
    token: Token,
}

/// A goroutine hands over a pointer and is gone; the receiver looks at it a while later.
fn do_request(ledger: &Ledger, use_select: bool) -> Box<Async> {
    let (ch, done) = (make::<Box<Async>>(0), make::<()>(0));
    let (tx, token) = (ch.clone(), ledger.token());
    let answer = move || Box::new(Async { resp: None, err: Some(Box::new(MyError)), token });
    if use_select {
        go!(move || select! {
            send(tx, answer()) => {}
            recv(done) -> _ => {}
        });
    } else {
        go!(move || tx.send(answer()));
    }
    let r = ch.recv().unwrap();
    yield_now();
    r
}

fn chan_send_barrier_with(use_select: bool) {
    const OUTER: usize = 10;
    const INNER: usize = 1000;
    at_each_size(|| {
        let (wg, ledger) = (WaitGroup::new(), Ledger::default());
        for _ in 0..OUTER {
            let ledger = ledger.clone();
            wg.go(move || {
                for _ in 0..INNER {
                    let r = do_request(&ledger, use_select);
                    assert!(r.resp.is_none() && r.token.n < OUTER * INNER);
                    assert!(r.err.is_some_and(|e| (e as Box<dyn Error>).is::<MyError>()));
                    black_box(vec![0u8; 1 << 10]);
                }
            });
        }
        wg.wait();
        assert_eq!(ledger.made(), OUTER * INNER);
        ledger.assert_settled();
    });
}

#[test]
fn chan_send_select_barrier() {
    chan_send_barrier_with(true);
}

#[test]
fn chan_send_barrier() {
    chan_send_barrier_with(false);
}
