//! Go's `test/chan/*.go`, and `closedchan.go`, `chancap.go`, `ken/chan.go` and `ken/chan1.go` beside it.
//!
//! Not here: `select2.go`, which watches the collector's statistics.

mod common;
#[path = "go_test_chan/powser.rs"]
mod powser;
#[path = "go_test_chan/selects.rs"]
mod selects;
#[path = "go_test_chan/sieve.rs"]
mod sieve;

use common::{Rng, at_each_size, panic_message, until_parked};
use gort::sync::WaitGroup;
use gort::{
    Chan, Receiver, RecvOperand, SendOperand, Sender, TryRecvError, TrySendError, chan, go, select, yield_now,
};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

/// Each value is sent to one of four channels and forwarded. None comes twice, so of a select one arm is
/// done.
#[test]
fn doubleselect() {
    const N: usize = if cfg!(debug_assertions) { 10_000 } else { 100_000 };
    at_each_size(|| {
        let c: [Chan<usize>; 4] = std::array::from_fn(|_| chan(0));
        let (merged, muxes) = (chan::<usize>(0), WaitGroup::new());
        for c in &c {
            let (c, merged) = (c.clone(), merged.clone());
            muxes.go(move || c.iter().for_each(|v| merged.send(v)));
        }
        let sender = go!(send_to_any(c, N));
        let all = merged.clone();
        go!(move || {
            muxes.wait();
            all.close();
        });
        let mut seen = vec![false; N];
        for v in &merged {
            assert!(!std::mem::replace(&mut seen[v], true), "{v} came twice");
        }
        assert!(seen.into_iter().all(|s| s), "a value is lost");
        sender.join().unwrap();
    });
}

fn send_to_any(c: [Chan<usize>; 4], n: usize) {
    for i in 0..n {
        select! {
            send(c[0], i) => {}
            send(c[1], i) => {}
            send(c[2], i) => {}
            send(c[3], i) => {}
        }
    }
    c.iter().for_each(Chan::close);
}

#[test]
fn fifo_buffered() {
    at_each_size(|| {
        let ch = chan::<usize>(10);
        (0..10).for_each(|i| ch.send(i));
        (0..10).for_each(|i| assert_eq!(ch.recv(), Some(i)));
    });
}

/// Goroutines receive in turn, each when the one before it has.
#[test]
fn fifo_unbuffered_daisy_chain() {
    const N: usize = 10;
    at_each_size(|| {
        let ch = chan::<usize>(0);
        let start = chan::<()>(0);
        let mut end = start.clone();
        let mut links = Vec::new();
        for i in 0..N {
            let (ch, before, after) = (ch.clone(), end, chan::<()>(0));
            end = after.clone();
            links.push(go!(move || {
                before.recv();
                let got = ch.recv();
                after.send(());
                (i, got)
            }));
        }
        start.send(());
        (0..N).for_each(|i| ch.send(i));
        assert_eq!(end.recv(), Some(()));
        for h in links {
            let (i, got) = h.join().unwrap();
            assert_eq!(got, Some(i));
        }
    });
}

/// A value goes down a chain of ten thousand goroutines.
#[test]
fn goroutines() {
    at_each_size(|| {
        let leftmost = chan::<i32>(0);
        let mut right = leftmost.clone();
        for _ in 0..10_000 {
            let left = right;
            right = chan(0);
            let from = right.clone();
            go!(move || left.send(from.recv().unwrap()));
        }
        go!(move || right.send(1));
        assert_eq!(leftmost.recv(), Some(1));
    });
}

/// Operations that do not wait, before and after a partner waits, for several types.
#[test]
fn nonblock() {
    at_each_size(|| {
        for cap in [0, 1] {
            tries_meet_a_partner(cap, 123_i32, 234);
            tries_meet_a_partner(cap, 123_456_i64, 234_567);
            tries_meet_a_partner(cap, true, false);
            tries_meet_a_partner(cap, "hello".to_owned(), "hello again".to_owned());
        }
    });
}

fn tries_meet_a_partner<T>(cap: usize, there: T, back: T)
where
    T: Clone + Debug + PartialEq + Send + 'static,
{
    let c = chan::<T>(cap);
    assert_eq!(c.try_recv(), Err(TryRecvError::Empty));
    if cap == 0 {
        assert_eq!(c.try_send(there.clone()), Err(TrySendError::Full(there.clone())));
    }
    let receiver = go!(c.clone().recv());
    until_parked(&receiver, "chan receive");
    c.try_send(there.clone()).unwrap();
    assert_eq!(receiver.join().unwrap(), Some(there));

    let sender = go!(c.clone().send(back.clone()));
    if cap == 0 {
        until_parked(&sender, "chan send");
        assert_eq!(c.try_recv().as_ref(), Ok(&back));
        sender.join().unwrap();
    } else {
        sender.join().unwrap();
        assert_eq!(c.try_recv().as_ref(), Ok(&back));
    }
    assert_eq!(c.try_recv(), Err(TryRecvError::Empty));
}

/// What a direction of a channel cannot do must not compile. Where a method or an implementation is absent,
/// these lines choose a stand-in; if it were there, they would be ambiguous, or of another type.
#[test]
fn perm() {
    struct Absent;
    trait NoSend<T> {
        fn send(&self, _: T) -> Absent {
            Absent
        }
        fn close(&self) -> Absent {
            Absent
        }
    }
    impl<T> NoSend<T> for Receiver<T> {}
    trait NoRecv<T> {
        fn recv(&self) -> Absent {
            Absent
        }
        fn iter(&self) -> Absent {
            Absent
        }
    }
    impl<T> NoRecv<T> for Sender<T> {}

    macro_rules! assert_not_impl {
        ($($t:ty: $bound:path),+ $(,)?) => {$({
            struct Here;
            trait Either<A> {
                fn of() {}
            }
            impl<T> Either<()> for T {}
            impl<T: $bound> Either<Here> for T {}
            <$t as Either<_>>::of();
        })+};
    }
    assert_not_impl!(
        Receiver<i32>: SendOperand,
        Sender<i32>: RecvOperand,
        Sender<i32>: IntoIterator,
        &'static Sender<i32>: IntoIterator,
        Receiver<i32>: Into<Chan<i32>>,
        Sender<i32>: Into<Chan<i32>>,
        Sender<i32>: Into<Receiver<i32>>,
        Receiver<i32>: Into<Sender<i32>>,
    );

    at_each_size(|| {
        let c = chan::<i32>(1);
        let (cs, cr) = (c.sender(), c.receiver());
        let _: [Absent; 2] = [cr.send(0), NoSend::<i32>::close(&cr)];
        let _: [Absent; 2] = [cs.recv(), cs.iter()];
        c.send(1);
        assert_eq!(cr.recv(), Some(1));
        cs.send(2).unwrap();
        assert_eq!(c.recv(), Some(2));
        select! {
            send(cs, 3) => {}
            recv(cr) -> v => panic!("{v:?} from an empty channel"),
        }
        select! {
            send(c, 4) => panic!("sent to a full channel"),
            recv(cr) -> v => assert_eq!(v, Some(3)),
        }
        cs.close();
        assert!(c.is_closed());
        assert_eq!(cr.iter().count(), 0);
    });
}

/// Operations where an operand is itself the result of an operation.
#[test]
fn sendstmt() {
    at_each_size(|| {
        let (cc, c) = (chan::<Chan<i32>>(1), chan::<i32>(1));
        cc.send(c.clone());
        select! {
            send(cc.recv().unwrap(), 2) => {}
            default => panic!("the channel that was received had room"),
        }
        assert_eq!(c.recv(), Some(2));
    });
}

/// Values without a size still are counted.
#[test]
fn zerosize() {
    fn check<T: Send + Copy + Debug + PartialEq + 'static>(v: T) {
        for cap in [0, 1, 3] {
            let c = chan::<T>(cap);
            (0..cap).for_each(|_| c.send(v));
            assert_eq!((c.len(), c.cap()), (cap, cap));
            assert_eq!(c.try_send(v), Err(TrySendError::Full(v)));
            let h = go!(c.clone().send(v));
            (0..=cap).for_each(|_| assert_eq!(c.recv(), Some(v)));
            h.join().unwrap();
            assert_eq!(c.try_recv(), Err(TryRecvError::Empty));
        }
    }
    at_each_size(|| {
        check(());
        check([0_u64; 0]);
    });
}

// ---- closedchan.go ----

/// The ways to write an operation: by itself, as the only arm of a select, and among others.
trait Spelling {
    fn send(c: &Chan<i32>, x: i32);
    /// False if it would have blocked.
    fn nbsend(c: &Chan<i32>, x: i32) -> bool;
    fn recv(c: &Chan<i32>) -> Option<i32>;
    /// The outer `None` if it would have blocked.
    fn nbrecv(c: &Chan<i32>) -> Option<Option<i32>>;
}

struct Direct;
struct OneArm;
struct MoreArms;

impl Spelling for Direct {
    fn send(c: &Chan<i32>, x: i32) {
        c.send(x);
    }
    fn nbsend(c: &Chan<i32>, x: i32) -> bool {
        match c.try_send(x) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => false,
            // What is a panic in Go is an error that gives the value back.
            Err(TrySendError::Closed(v)) => {
                assert_eq!(v, x);
                panic!("send on closed channel")
            }
        }
    }
    fn recv(c: &Chan<i32>) -> Option<i32> {
        c.recv()
    }
    fn nbrecv(c: &Chan<i32>) -> Option<Option<i32>> {
        match c.try_recv() {
            Ok(v) => Some(Some(v)),
            Err(TryRecvError::Closed) => Some(None),
            Err(TryRecvError::Empty) => None,
        }
    }
}

impl Spelling for OneArm {
    fn send(c: &Chan<i32>, x: i32) {
        select! { send(c, x) => {} }
    }
    fn nbsend(c: &Chan<i32>, x: i32) -> bool {
        select! { default => false, send(c, x) => true }
    }
    fn recv(c: &Chan<i32>) -> Option<i32> {
        select! { recv(c) -> v => v }
    }
    fn nbrecv(c: &Chan<i32>) -> Option<Option<i32>> {
        select! { default => None, recv(c) -> v => Some(v) }
    }
}

impl Spelling for MoreArms {
    fn send(c: &Chan<i32>, x: i32) {
        let dummy = chan::<()>(0);
        select! { send(c, x) => {} recv(dummy) -> _ => unreachable!() }
    }
    fn nbsend(c: &Chan<i32>, x: i32) -> bool {
        let dummy = chan::<()>(0);
        select! { default => false, recv(dummy) -> _ => unreachable!(), send(c, x) => true }
    }
    fn recv(c: &Chan<i32>) -> Option<i32> {
        let dummy = chan::<()>(0);
        select! { recv(dummy) -> _ => unreachable!(), recv(c) -> v => v }
    }
    fn nbrecv(c: &Chan<i32>) -> Option<Option<i32>> {
        let dummy = chan::<()>(0);
        select! { recv(dummy) -> _ => unreachable!(), default => None, recv(c) -> v => Some(v) }
    }
}

#[test]
fn closedchan() {
    at_each_size(|| {
        closed::<Direct>();
        closed::<OneArm>();
        closed::<MoreArms>();
        assert_eq!(panic_message(|| Chan::<i32>::nil().close()), "close of nil channel");
        let ch = chan::<i32>(0);
        ch.close();
        assert_eq!(panic_message(|| ch.close()), "close of closed channel");
    });
}

fn closed<S: Spelling>() {
    let sync = chan::<i32>(0);
    sync.close();
    closed_and_empty::<S>(&sync);
    for blocking in [true, false] {
        let buffered = chan::<i32>(2);
        buffered.send(1);
        buffered.close();
        let first = if blocking { S::recv(&buffered) } else { S::nbrecv(&buffered).unwrap() };
        assert_eq!(first, Some(1), "what was sent before the close");
        closed_and_empty::<S>(&buffered);
    }
}

fn closed_and_empty<S: Spelling>(c: &Chan<i32>) {
    for _ in 0..3 {
        assert_eq!(S::recv(c), None);
        assert_eq!(S::nbrecv(c), Some(None));
    }
    assert_eq!(panic_message(|| S::nbsend(c, 1)), "send on closed channel");
    assert_eq!(S::recv(c), None, "the value should be gone");
    assert_eq!(panic_message(|| S::send(c, 2)), "send on closed channel");
    assert_eq!(S::recv(c), None, "the value should be gone");
}

// ---- chancap.go ----

#[test]
fn chancap() {
    at_each_size(|| {
        let c = chan::<i32>(10);
        assert_eq!((c.len(), c.cap()), (0, 10));
        (0..3).for_each(|i| c.send(i));
        assert_eq!((c.len(), c.cap()), (3, 10));
        let c = chan::<i32>(0);
        assert_eq!((c.len(), c.cap()), (0, 0));
        assert_eq!((Chan::<i32>::nil().len(), Chan::<i32>::nil().cap()), (0, 0));

        let too_large = "makechan: size out of range";
        assert_eq!(panic_message(|| chan::<i32>(usize::MAX)), too_large);
        assert_eq!(panic_message(|| chan::<i32>(usize::MAX / 4 + 1)), too_large);
        assert_eq!(panic_message(|| chan::<u8>(isize::MAX as usize + 1)), too_large);
        assert_eq!(panic_message(|| chan::<[u8; 1 << 15]>(1 << 48)), too_large);
        assert_eq!(chan::<()>(usize::MAX).cap(), usize::MAX);
    });
}

// ---- ken/chan.go ----

/// Values per channel.
const KEN: usize = 76;

/// Plain and select sends to plain and select receives on four channels, with yields at random.
#[test]
fn ken_chan() {
    at_each_size(|| {
        for cap in [0, 1, 10, 100] {
            for (select_send, select_recv) in [(false, false), (false, true), (true, false), (true, true)] {
                four_channels(cap, select_send, select_recv);
            }
        }
    });
}

fn four_channels(cap: usize, select_send: bool, select_recv: bool) {
    let c: [Chan<usize>; 4] = std::array::from_fn(|_| chan(cap));
    let mut counts = Vec::new();
    if select_send {
        counts.push(go!(selsend(c.clone())));
    } else {
        counts.extend((0..4).map(|k| go!(send(c[k].clone(), first(k)))));
    }
    if select_recv {
        counts.push(go!(selrecv(c.clone())));
    } else {
        counts.extend((0..4).map(|k| go!(recv(c[k].clone(), first(k)))));
    }
    let total: usize = counts.into_iter().map(|h| h.join().unwrap()).sum();
    assert_eq!(total, 2 * 4 * KEN);
}

/// The first value on the k-th channel.
fn first(k: usize) -> usize {
    100 * (k + 1)
}

fn yield_a_while(rng: &mut Rng, most: usize) {
    (0..=rng.below(most)).for_each(|_| yield_now());
}

fn send(c: Chan<usize>, v0: usize) -> usize {
    let mut rng = Rng(v0 as u64);
    for v in v0..v0 + KEN {
        yield_a_while(&mut rng, 10);
        c.send(v);
    }
    KEN
}

fn recv(c: Chan<usize>, v0: usize) -> usize {
    let mut rng = Rng(!v0 as u64);
    for v in v0..v0 + KEN {
        yield_a_while(&mut rng, 10);
        assert_eq!(c.recv(), Some(v));
    }
    KEN
}

/// A channel that has had its last value becomes nil.
fn selsend(mut c: [Chan<usize>; 4]) -> usize {
    let mut rng = Rng(1);
    let mut next: [usize; 4] = std::array::from_fn(first);
    let mut total = 0;
    while c.iter().any(|c| !c.is_nil()) {
        yield_a_while(&mut rng, 5);
        let k = select! {
            send(c[0], next[0]) => 0,
            send(c[1], next[1]) => 1,
            send(c[2], next[2]) => 2,
            send(c[3], next[3]) => 3,
        };
        total += 1;
        next[k] += 1;
        if next[k] == first(k) + KEN {
            c[k] = Chan::nil();
        }
    }
    total
}

fn selrecv(c: [Chan<usize>; 4]) -> usize {
    let mut rng = Rng(2);
    let mut next: [usize; 4] = std::array::from_fn(first);
    for _ in 0..4 * KEN {
        yield_a_while(&mut rng, 5);
        let (k, v) = select! {
            recv(c[0]) -> v => (0, v),
            recv(c[1]) -> v => (1, v),
            recv(c[2]) -> v => (2, v),
            recv(c[3]) -> v => (3, v),
        };
        assert_eq!(v, Some(next[k]));
        next[k] += 1;
    }
    4 * KEN
}

// ---- ken/chan1.go ----

/// One sends, ten receive: each message is received once, after it was sent.
#[test]
fn ken_chan1() {
    const N: usize = 1000;
    const M: usize = 10;
    at_each_size(|| {
        let c = chan::<usize>(2);
        let marks: Arc<[AtomicU8]> = (0..N).map(|_| AtomicU8::new(0)).collect();
        let receivers: Vec<_> = (0..M)
            .map(|_| {
                let (c, marks) = (c.clone(), marks.clone());
                let h = go!(move || loop {
                    select! {
                        recv(c) -> r => match r {
                            Some(r) => assert_eq!(marks[r].swap(2, SeqCst), 1),
                            None => return,
                        }
                    }
                });
                yield_now();
                h
            })
            .collect();
        for n in 0..N {
            assert_eq!(marks[n].swap(1, SeqCst), 0);
            c.send(n);
        }
        c.close();
        receivers.into_iter().for_each(|h| h.join().unwrap());
        assert!(marks.iter().all(|m| m.load(SeqCst) == 2), "a message is lost");
    });
}
