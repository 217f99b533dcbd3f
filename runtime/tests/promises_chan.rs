//! What the page of the public API promises of channels: the table of operations, order, ownership, time
//! limits, sizes.

mod common;

use common::{at_each_size, message, on_both, panic_message, until_parked};
use gort::sync::WaitGroup;
use gort::{
    Chan, Receiver, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, TrySendError, chan, channel,
    go, select,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::error::Error;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const NO_TIME: Duration = Duration::ZERO;
const SHORT: Duration = Duration::from_millis(2);
/// Longer than any test may take.
const LONG: Duration = Duration::from_secs(3600);

/// A plain thread, and a way to see that it sleeps.
struct Plain<T> {
    handle: thread::JoinHandle<T>,
    task: String,
}

fn plain<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Plain<T> {
    let (tell, told) = mpsc::channel();
    let handle = thread::spawn(move || {
        tell.send(std::fs::read_link("/proc/thread-self").unwrap()).unwrap();
        f()
    });
    let task = format!("/proc/{}/status", told.recv().unwrap().display());
    Plain { handle, task }
}

impl<T> Plain<T> {
    /// Waits until the thread sleeps and has not run for a while: until it blocks in what it was told to do.
    #[track_caller]
    fn until_blocked(&self) {
        let mut before = (String::new(), 0);
        common::eventually("the thread blocks", || {
            let status = std::fs::read_to_string(&self.task).unwrap();
            let now: String =
                status.lines().filter(|l| l.starts_with("State") || l.contains("_ctxt_switches")).collect();
            before =
                if now == before.0 && now.contains("(sleeping)") { (now, before.1 + 1) } else { (now, 0) };
            before.1 >= 10
        });
    }

    fn join(self) -> thread::Result<T> {
        self.handle.join()
    }
}

// -- The table of operations --

#[test]
fn close_of_a_nil_channel_panics() {
    on_both(|| {
        assert_eq!(panic_message(|| Chan::<u8>::nil().close()), "close of nil channel");
        assert_eq!(panic_message(|| Chan::<u8>::default().close()), "close of nil channel");
        assert_eq!(panic_message(|| Chan::<u8>::nil().sender().close()), "close of nil channel");
        assert_eq!(panic_message(|| Sender::<u8>::nil().close()), "close of nil channel");
    });
}

#[test]
fn close_of_a_closed_channel_panics() {
    on_both(|| {
        for cap in [0, 3] {
            let ch = chan::<u8>(cap);
            ch.close();
            assert_eq!(panic_message(|| ch.close()), "close of closed channel");
            assert_eq!(panic_message(|| ch.sender().close()), "close of closed channel");
            let (tx, rx) = channel::<u8>(cap);
            tx.close();
            assert_eq!(panic_message(|| tx.close()), "close of closed channel");
            assert!(rx.is_closed() && tx.is_closed());
        }
    });
}

#[test]
fn try_close_says_whether_it_closed() {
    on_both(|| {
        assert!(!Chan::<u8>::nil().try_close());
        assert!(!Sender::<u8>::nil().try_close());
        let ch = chan::<u8>(0);
        assert!(!ch.is_closed());
        assert!(ch.try_close());
        assert!(!ch.try_close() && !ch.sender().try_close());
        assert!(ch.is_closed());
        let (tx, _rx) = channel::<u8>(0);
        assert!(tx.try_close());
        assert!(!tx.try_close());
    });
}

#[test]
fn of_many_who_close_one_succeeds() {
    on_both(|| {
        let ch = chan::<u8>(0);
        let closed = Arc::new(AtomicUsize::new(0));
        let wg = WaitGroup::new();
        for _ in 0..20 {
            let (ch, closed) = (ch.clone(), closed.clone());
            wg.go(move || {
                closed.fetch_add(ch.try_close() as usize, SeqCst);
            });
        }
        wg.wait();
        assert_eq!(closed.load(SeqCst), 1);
    });
}

#[test]
fn send_on_a_closed_channel_panics() {
    on_both(|| {
        // Unbuffered, with room, and full.
        for (cap, buffered) in [(0, 0), (2, 1), (1, 1)] {
            let ch = chan::<u8>(cap);
            (0..buffered).for_each(|_| ch.send(1));
            ch.close();
            assert_eq!(panic_message(|| ch.send(1)), "send on closed channel");
            assert_eq!(ch.len(), buffered, "nothing was added");
        }
    });
}

#[test]
fn a_sender_gets_its_value_back_from_a_closed_channel() {
    on_both(|| {
        for (cap, buffered) in [(0, 0), (2, 1), (1, 1)] {
            let (tx, rx) = channel::<String>(cap);
            (0..buffered).for_each(|_| tx.send("buffered".into()).unwrap());
            tx.close();
            assert_eq!(tx.send("back".into()).unwrap_err().into_inner(), "back");
            assert_eq!(rx.len(), buffered, "nothing was added");
        }
    });
}

#[test]
fn a_parked_sender_panics_when_its_channel_is_closed() {
    on_both(|| {
        for cap in [0, 2] {
            let ch = chan::<usize>(cap);
            (0..cap).for_each(|i| ch.send(i));
            let parked: Vec<_> = (0..3).map(|i| go!(ch.clone().send(100 + i))).collect();
            parked.iter().for_each(|h| until_parked(h, "chan send"));
            let tx = ch.clone();
            let blocked = plain(move || tx.send(200));
            blocked.until_blocked();
            ch.close();
            for h in parked {
                assert_eq!(message(&*h.join().unwrap_err()), "send on closed channel");
            }
            assert_eq!(message(&*blocked.join().unwrap_err()), "send on closed channel");
            assert_eq!(ch.iter().collect::<Vec<_>>(), (0..cap).collect::<Vec<_>>(), "only what was buffered");
        }
    });
}

#[test]
fn a_parked_sender_half_gets_its_value_back_when_the_channel_is_closed() {
    on_both(|| {
        for cap in [0, 2] {
            let (tx, rx) = channel::<usize>(cap);
            (0..cap).for_each(|i| tx.send(i).unwrap());
            let parked = (0..3).map(|i| {
                let tx = tx.clone();
                go!(move || tx.send(100 + i).unwrap_err().into_inner())
            });
            let parked: Vec<_> = parked.collect();
            parked.iter().for_each(|h| until_parked(h, "chan send"));
            let tx2 = tx.clone();
            let blocked = plain(move || tx2.send(200).unwrap_err().into_inner());
            blocked.until_blocked();
            tx.close();
            for (i, h) in parked.into_iter().enumerate() {
                assert_eq!(h.join().unwrap(), 100 + i);
            }
            assert_eq!(blocked.join().unwrap(), 200);
            assert_eq!(rx.iter().collect::<Vec<_>>(), (0..cap).collect::<Vec<_>>());
        }
    });
}

#[test]
fn recv_drains_a_closed_channel_and_then_says_none_at_once() {
    on_both(|| {
        for cap in [0, 1, 5] {
            let (ch, (tx, rx)) = (chan(cap), channel(cap));
            for i in 0..cap {
                ch.send(i);
                tx.send(i).unwrap();
            }
            ch.close();
            tx.close();
            for i in 0..cap {
                assert_eq!((ch.recv(), rx.recv()), (Some(i), Some(i)));
            }
            for _ in 0..3 {
                assert_eq!((ch.recv(), rx.recv()), (None, None));
            }
        }
    });
}

#[test]
fn recv_blocks_until_a_value_or_the_close() {
    on_both(|| {
        for cap in [0, 1] {
            let ch = chan::<u32>(cap);
            for end in [Some(7), None] {
                let rx = ch.receiver();
                let parked = go!(move || rx.recv());
                until_parked(&parked, "chan receive");
                assert!(!parked.is_finished());
                match end {
                    Some(v) => ch.send(v),
                    None => ch.close(),
                }
                assert_eq!(parked.join().unwrap(), end);
            }
        }
    });
}

#[test]
fn recv_on_a_plain_thread_blocks_until_a_value_or_the_close() {
    on_both(|| {
        let ch = chan::<u32>(0);
        for end in [Some(7), None] {
            let rx = ch.clone();
            let blocked = plain(move || rx.recv());
            blocked.until_blocked();
            match end {
                Some(v) => ch.send(v),
                None => ch.close(),
            }
            assert_eq!(blocked.join().unwrap(), end);
        }
    });
}

#[test]
fn send_blocks_until_taken_or_buffered() {
    on_both(|| {
        let taken = chan::<u32>(0);
        let h = go!(taken.clone().send(1));
        until_parked(&h, "chan send");
        assert_eq!(taken.len(), 0, "a parked sender's value is not buffered");
        assert_eq!(taken.recv(), Some(1));
        h.join().unwrap();

        let buffered = chan::<u32>(2);
        buffered.send(1);
        buffered.send(2);
        let h = go!(buffered.clone().send(3));
        until_parked(&h, "chan send");
        assert_eq!(buffered.recv(), Some(1));
        h.join().unwrap();
        assert_eq!(buffered.len(), 2, "the parked sender's value took the free place");
        assert_eq!((buffered.recv(), buffered.recv()), (Some(2), Some(3)));
    });
}

#[test]
fn send_on_a_plain_thread_blocks_until_taken() {
    on_both(|| {
        let ch = chan::<u32>(0);
        let tx = ch.clone();
        let blocked = plain(move || tx.send(1));
        blocked.until_blocked();
        assert_eq!(ch.recv(), Some(1));
        blocked.join().unwrap();
    });
}

#[test]
fn operations_on_nil_block_goroutines_for_ever() {
    for procs in common::SIZES {
        let rt = common::builder(procs).build().unwrap();
        let receives = "chan receive (nil chan)";
        let sends = "chan send (nil chan)";
        let parked = [
            (rt.go(|| _ = Chan::<u8>::nil().recv()), receives),
            (rt.go(|| _ = Receiver::<u8>::nil().recv()), receives),
            (rt.go(|| _ = Chan::<u8>::nil().recv_timeout(Duration::MAX)), receives),
            (rt.go(|| Chan::<u8>::nil().iter().for_each(drop)), receives),
            (rt.go(|| Chan::<u8>::nil().send(1)), sends),
            (rt.go(|| _ = Sender::<u8>::nil().send(1)), sends),
            (rt.go(|| _ = Chan::<u8>::nil().send_timeout(1, Duration::MAX)), sends),
        ];
        for (h, reason) in &parked {
            until_parked(h, reason);
        }
        assert_eq!(rt.num_goroutines(), parked.len());
        assert_eq!(rt.shutdown_timeout(SHORT), parked.len(), "all of them stay parked");
    }
}

#[test]
fn operations_on_nil_block_plain_threads_for_ever() {
    let blocked = [
        plain(|| _ = Chan::<u8>::nil().recv()),
        plain(|| _ = Receiver::<u8>::nil().recv()),
        plain(|| Chan::<u8>::nil().send(1)),
        plain(|| _ = Sender::<u8>::nil().send(1)),
    ];
    for t in &blocked {
        t.until_blocked();
    }
    // The threads stay until the process ends.
    assert!(blocked.iter().all(|t| !t.handle.is_finished()));
}

#[test]
fn a_nil_handle_gives_nil_handles_and_is_empty_and_full() {
    on_both(|| {
        let nil = Chan::<u8>::nil();
        assert!(nil.is_nil() && nil.clone().is_nil() && !chan::<u8>(0).is_nil());
        assert!(!nil.is_closed() && !nil.sender().is_closed() && !nil.receiver().is_closed());
        assert_eq!((nil.len(), nil.cap()), (0, 0));
        assert!(nil.is_empty() && nil.is_full());
        assert_eq!(nil.sender(), Sender::nil());
        assert_eq!(nil.receiver(), Receiver::nil());
    });
}

#[test]
fn close_wakes_every_waiter() {
    on_both(|| {
        for cap in [0, 4] {
            let ch = chan::<u32>(cap);
            let receivers: Vec<_> = (0..50).map(|_| go!(ch.clone().recv())).collect();
            receivers.iter().for_each(|h| until_parked(h, "chan receive"));
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let rx = ch.receiver();
                    plain(move || rx.recv())
                })
                .collect();
            threads.iter().for_each(Plain::until_blocked);
            ch.close();
            receivers.into_iter().for_each(|h| assert_eq!(h.join().unwrap(), None));
            threads.into_iter().for_each(|t| assert_eq!(t.join().unwrap(), None));

            let (tx, _rx) = channel::<u32>(cap);
            (0..cap).for_each(|_| tx.send(0).unwrap());
            let senders: Vec<_> = (0..50).map(|i| go!(tx.clone().send(i))).collect();
            senders.iter().for_each(|h| until_parked(h, "chan send"));
            tx.close();
            for (i, h) in (0..).zip(senders) {
                assert_eq!(h.join().unwrap().unwrap_err().into_inner(), i);
            }
        }
    });
}

// -- Order --

#[test]
fn values_arrive_in_the_order_sent() {
    on_both(|| {
        for cap in [0, 1, 7, 100] {
            let (tx, rx) = channel(cap);
            let h = go!(move || (0..1000).for_each(|i| tx.send(i).unwrap()));
            assert!(rx.iter().eq(0..1000), "capacity {cap}");
            h.join().unwrap();
        }
    });
}

#[test]
fn values_of_each_sender_arrive_in_its_order() {
    on_both(|| {
        let (tx, rx) = channel(3);
        for who in 0..8_usize {
            let tx = tx.clone();
            go!(move || (0..200).for_each(|i| tx.send((who, i)).unwrap()));
        }
        drop(tx);
        let mut next = [0; 8];
        for (who, i) in rx {
            assert_eq!(i, next[who]);
            next[who] += 1;
        }
        assert_eq!(next, [200; 8]);
    });
}

#[test]
fn parked_receivers_are_served_first_come_first_served() {
    on_both(|| {
        for cap in [0, 3] {
            let ch = chan::<usize>(cap);
            let parked: Vec<_> = (0..10)
                .map(|_| {
                    let h = go!(ch.clone().recv());
                    until_parked(&h, "chan receive");
                    h
                })
                .collect();
            (0..parked.len()).for_each(|i| ch.send(i));
            for (i, h) in parked.into_iter().enumerate() {
                assert_eq!(h.join().unwrap(), Some(i));
            }
        }
    });
}

#[test]
fn parked_senders_are_served_first_come_first_served() {
    on_both(|| {
        for cap in [0, 3] {
            let ch = chan::<usize>(cap);
            (0..cap).for_each(|i| ch.send(i));
            let parked: Vec<_> = (0..10)
                .map(|i| {
                    let h = go!(ch.clone().send(cap + i));
                    until_parked(&h, "chan send");
                    h
                })
                .collect();
            for i in 0..cap + parked.len() {
                assert_eq!(ch.recv(), Some(i));
            }
            parked.into_iter().for_each(|h| h.join().unwrap());
        }
    });
}

#[test]
fn goroutines_and_threads_stand_in_one_queue() {
    on_both(|| {
        let ch = chan::<usize>(0);
        let (mut goroutines, mut threads) = (Vec::new(), Vec::new());
        for i in 0..6 {
            let rx = ch.clone();
            if i % 2 == 0 {
                let h = go!(move || rx.recv());
                until_parked(&h, "chan receive");
                goroutines.push((i, h));
            } else {
                let t = plain(move || rx.recv());
                t.until_blocked();
                threads.push((i, t));
            }
        }
        (0..6).for_each(|i| ch.send(i));
        goroutines.into_iter().for_each(|(i, h)| assert_eq!(h.join().unwrap(), Some(i)));
        threads.into_iter().for_each(|(i, t)| assert_eq!(t.join().unwrap(), Some(i)));
    });
}

#[test]
fn who_gave_up_waiting_is_passed_over() {
    on_both(|| {
        let ch = chan::<usize>(0);
        let park = |timed: bool| {
            let rx = ch.clone();
            let h = go!(move || if timed { rx.recv_timeout(SHORT).ok() } else { rx.recv() });
            if !timed {
                until_parked(&h, "chan receive");
            }
            (timed, h)
        };
        let waiting: Vec<_> = [true, false, true, true, false, true].map(park).into();
        common::eventually("the timed ones give up", || {
            waiting.iter().all(|(timed, h)| h.is_finished() == *timed)
        });
        ch.send(1);
        ch.send(2);
        let got: Vec<_> = waiting.into_iter().map(|(_, h)| h.join().unwrap()).collect();
        assert_eq!(got, [None, Some(1), None, None, Some(2), None]);
    });
}

// -- Goroutines and plain threads --

#[test]
fn goroutines_and_threads_meet_on_one_channel() {
    on_both(|| {
        const EACH: u64 = 500;
        for cap in [0, 8] {
            let (tx, rx) = channel::<u64>(cap);
            let send_all = |tx: Sender<u64>| move || (1..=EACH).for_each(|i| tx.send(i).unwrap());
            let senders: Vec<_> = (0..2).map(|_| thread::spawn(send_all(tx.clone()))).collect();
            (0..4).for_each(|_| drop(go(send_all(tx.clone()))));
            drop(tx);
            let add_all = |rx: Receiver<u64>| move || rx.iter().sum::<u64>();
            let threads: Vec<_> = (0..2).map(|_| thread::spawn(add_all(rx.clone()))).collect();
            let goroutines: Vec<_> = (0..4).map(|_| go(add_all(rx.clone()))).collect();
            let mut sum = 0;
            goroutines.into_iter().for_each(|h| sum += h.join().unwrap());
            threads.into_iter().for_each(|t| sum += t.join().unwrap());
            senders.into_iter().for_each(|t| t.join().unwrap());
            assert_eq!(sum, 6 * EACH * (EACH + 1) / 2);
        }
    });
}

#[test]
fn two_plain_threads_need_no_goroutine() {
    let ch = chan::<u32>(0);
    let back = chan::<u32>(0);
    let (rx, tx) = (ch.clone(), back.clone());
    let t = thread::spawn(move || (&rx).into_iter().for_each(|v| tx.send(2 * v)));
    for i in 0..2000 {
        ch.send(i);
        assert_eq!(back.recv(), Some(2 * i));
    }
    ch.close();
    t.join().unwrap();
}

// -- Trying, and limits in time --

#[test]
fn try_send_says_full_or_closed_and_gives_the_value_back() {
    on_both(|| {
        let (ch, (tx, rx)) = (chan::<u8>(1), channel::<u8>(1));
        assert_eq!(ch.try_send(1), Ok(()));
        assert_eq!(tx.try_send(1), Ok(()));
        assert_eq!(ch.try_send(2), Err(TrySendError::Full(2)));
        assert_eq!(tx.try_send(2), Err(TrySendError::Full(2)));
        ch.close();
        tx.close();
        assert_eq!(ch.try_send(3), Err(TrySendError::Closed(3)));
        assert_eq!(tx.try_send(3), Err(TrySendError::Closed(3)));
        assert_eq!((ch.recv(), rx.recv()), (Some(1), Some(1)));
        assert_eq!(Chan::nil().try_send(4), Err(TrySendError::Full(4)));
        assert_eq!(Sender::nil().try_send(4), Err(TrySendError::Full(4)));
        let unbuffered = chan::<u8>(0);
        assert_eq!(unbuffered.try_send(5), Err(TrySendError::Full(5)), "nobody receives");
    });
}

#[test]
fn try_recv_says_empty_or_closed() {
    on_both(|| {
        let (ch, (tx, rx)) = (chan::<u8>(1), channel::<u8>(1));
        assert_eq!(ch.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        ch.send(1);
        tx.send(1).unwrap();
        ch.close();
        tx.close();
        assert_eq!((ch.try_recv(), rx.try_recv()), (Ok(1), Ok(1)));
        assert_eq!(ch.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(Chan::<u8>::nil().try_recv(), Err(TryRecvError::Empty));
        assert_eq!(Receiver::<u8>::nil().try_recv(), Err(TryRecvError::Empty));
    });
}

#[test]
fn trying_meets_a_parked_partner() {
    on_both(|| {
        let ch = chan::<u8>(0);
        let h = go!(ch.clone().recv());
        until_parked(&h, "chan receive");
        assert_eq!(ch.try_send(1), Ok(()));
        assert_eq!(h.join().unwrap(), Some(1));
        let h = go!(ch.clone().send(2));
        until_parked(&h, "chan send");
        assert_eq!(ch.try_recv(), Ok(2));
        h.join().unwrap();
    });
}

#[test]
fn limits_of_no_time_are_as_trying() {
    on_both(|| {
        let ch = chan::<u8>(1);
        assert_eq!(ch.recv_timeout(NO_TIME), Err(RecvTimeoutError::Timeout));
        assert_eq!(ch.send_timeout(1, NO_TIME), Ok(()));
        assert_eq!(ch.send_timeout(2, NO_TIME), Err(SendTimeoutError::Timeout(2)));
        assert_eq!(ch.sender().send_timeout(2, NO_TIME), Err(SendTimeoutError::Timeout(2)));
        assert_eq!(ch.recv_timeout(NO_TIME), Ok(1));
        assert_eq!(ch.receiver().recv_timeout(NO_TIME), Err(RecvTimeoutError::Timeout));
        let unbuffered = chan::<u8>(0);
        let h = go!(unbuffered.clone().recv());
        until_parked(&h, "chan receive");
        assert_eq!(unbuffered.send_timeout(3, NO_TIME), Ok(()));
        assert_eq!(h.join().unwrap(), Some(3));
    });
}

#[test]
fn a_limit_passes_when_nobody_comes_and_not_before() {
    on_both(|| {
        let full = chan::<u8>(1);
        full.send(0);
        let (tx, rx) = channel::<u8>(0);
        let start = Instant::now();
        assert_eq!(rx.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        assert_eq!(tx.send_timeout(1, SHORT), Err(SendTimeoutError::Timeout(1)));
        assert_eq!(full.send_timeout(2, SHORT), Err(SendTimeoutError::Timeout(2)));
        assert_eq!(Chan::nil().send_timeout(3, SHORT), Err(SendTimeoutError::Timeout(3)));
        assert_eq!(Chan::<u8>::nil().recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        assert_eq!(Sender::nil().send_timeout(3, SHORT), Err(SendTimeoutError::Timeout(3)));
        assert_eq!(Receiver::<u8>::nil().recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        assert!(start.elapsed() >= 7 * SHORT, "a limit passed too early");
        assert_eq!((full.len(), full.recv()), (1, Some(0)));
    });
}

#[test]
fn a_partner_ends_a_wait_with_a_limit() {
    on_both(|| {
        for limit in [LONG, Duration::MAX] {
            let ch = chan::<u8>(0);
            let rx = ch.clone();
            let h = go!(move || rx.recv_timeout(limit));
            until_parked(&h, "chan receive");
            ch.send(1);
            assert_eq!(h.join().unwrap(), Ok(1));
            let tx = ch.clone();
            let h = go!(move || tx.send_timeout(2, limit));
            until_parked(&h, "chan send");
            assert_eq!(ch.recv(), Some(2));
            assert_eq!(h.join().unwrap(), Ok(()));

            let rx = ch.clone();
            let t = plain(move || rx.recv_timeout(limit));
            t.until_blocked();
            ch.send(3);
            assert_eq!(t.join().unwrap(), Ok(3));
            let tx = ch.clone();
            let t = plain(move || tx.send_timeout(4, limit));
            t.until_blocked();
            assert_eq!(ch.recv(), Some(4));
            assert_eq!(t.join().unwrap(), Ok(()));
        }
    });
}

#[test]
fn the_close_ends_a_wait_with_a_limit() {
    on_both(|| {
        for limit in [LONG, Duration::MAX] {
            let (empty, full) = (chan::<u8>(0), chan::<u8>(1));
            full.send(0);
            let rx = empty.clone();
            let receives = go!(move || rx.recv_timeout(limit));
            let tx = full.clone();
            let sends = go!(move || tx.send_timeout(1, limit));
            until_parked(&receives, "chan receive");
            until_parked(&sends, "chan send");
            empty.close();
            full.close();
            assert_eq!(receives.join().unwrap(), Err(RecvTimeoutError::Closed));
            assert_eq!(sends.join().unwrap(), Err(SendTimeoutError::Closed(1)));
            // And on what is closed already.
            assert_eq!(empty.recv_timeout(limit), Err(RecvTimeoutError::Closed));
            assert_eq!(empty.send_timeout(2, limit), Err(SendTimeoutError::Closed(2)));
            assert_eq!(full.recv_timeout(limit), Ok(0));
            assert_eq!(full.recv_timeout(limit), Err(RecvTimeoutError::Closed));
        }
    });
}

#[test]
fn a_value_that_comes_as_the_limit_passes_is_neither_lost_nor_doubled() {
    on_both(|| {
        let ch = chan::<u32>(0);
        let tx = ch.clone();
        let sender = go!(move || {
            let mut back = Vec::new();
            for i in 0..300 {
                if tx.send_timeout(i, Duration::from_micros(u64::from(i % 7) * 20)).is_err() {
                    back.push(i);
                }
            }
            tx.close();
            back
        });
        let mut got = Vec::new();
        let mut n = 0;
        loop {
            n += 1;
            match ch.recv_timeout(Duration::from_micros(n % 5 * 20)) {
                Ok(v) => got.push(v),
                Err(RecvTimeoutError::Timeout) => gort::yield_now(),
                Err(RecvTimeoutError::Closed) => break,
            }
        }
        let mut all = sender.join().unwrap();
        assert!(got.is_sorted());
        all.extend(got);
        all.sort_unstable();
        assert!(all.into_iter().eq(0..300));
    });
}

// -- Who is left --

#[test]
fn the_channel_closes_when_the_last_sender_goes() {
    on_both(|| {
        let (tx, rx) = channel::<u32>(4);
        let more: Vec<_> = (0..3).map(|_| tx.clone()).collect();
        tx.send(1).unwrap();
        drop(tx);
        for (i, tx) in (2..).zip(more) {
            assert!(!rx.is_closed());
            tx.send(i).unwrap();
        }
        assert!(rx.is_closed());
        assert_eq!(rx.iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    });
}

#[test]
fn a_parked_receiver_hears_that_the_last_sender_went() {
    on_both(|| {
        let (tx, rx) = channel::<u32>(0);
        let rx2 = rx.clone();
        let parked = go!(move || rx.recv());
        until_parked(&parked, "chan receive");
        let blocked = plain(move || rx2.recv());
        blocked.until_blocked();
        drop(tx);
        assert_eq!(parked.join().unwrap(), None);
        assert_eq!(blocked.join().unwrap(), None);
    });
}

#[test]
fn with_the_last_receiver_gone_senders_get_their_values_back() {
    on_both(|| {
        for cap in [0, 2] {
            let (tx, rx) = channel::<u32>(cap);
            let rx2 = rx.clone();
            drop(rx);
            assert!(!tx.is_closed(), "one receiver is left");
            drop(rx2);
            assert!(tx.is_closed());
            assert_eq!(tx.send(1).unwrap_err().into_inner(), 1);
            assert_eq!(tx.try_send(2), Err(TrySendError::Closed(2)));
            assert_eq!(tx.send_timeout(3, LONG), Err(SendTimeoutError::Closed(3)));
            assert_eq!(tx.send_timeout(4, NO_TIME), Err(SendTimeoutError::Closed(4)));
        }
    });
}

#[test]
fn parked_senders_get_their_values_back_when_the_last_receiver_goes() {
    on_both(|| {
        for cap in [0, 2] {
            let (tx, rx) = channel::<usize>(cap);
            (0..cap).for_each(|i| tx.send(i).unwrap());
            let parked: Vec<_> = (0..5).map(|i| go!(tx.clone().send(i))).collect();
            let tx2 = tx.clone();
            let timed = go!(move || tx2.send_timeout(70, LONG));
            let tx2 = tx.clone();
            let blocked = plain(move || tx2.send(80));
            parked.iter().for_each(|h| until_parked(h, "chan send"));
            until_parked(&timed, "chan send");
            blocked.until_blocked();
            drop(rx);
            for (i, h) in parked.into_iter().enumerate() {
                assert_eq!(h.join().unwrap().unwrap_err().into_inner(), i);
            }
            assert_eq!(timed.join().unwrap(), Err(SendTimeoutError::Closed(70)));
            assert_eq!(blocked.join().unwrap().unwrap_err().into_inner(), 80);
        }
    });
}

#[test]
fn a_chan_counts_as_a_sender() {
    on_both(|| {
        let ch = chan::<u32>(1);
        let (tx, rx) = (ch.sender(), ch.receiver());
        drop(tx);
        assert!(!rx.is_closed());
        ch.send(1);
        drop(ch);
        assert!(rx.is_closed());
        assert_eq!((rx.recv(), rx.recv()), (Some(1), None));
    });
}

#[test]
fn a_chan_counts_as_a_receiver() {
    on_both(|| {
        let ch = chan::<u32>(1);
        let (tx, rx) = (ch.sender(), ch.receiver());
        drop(rx);
        assert!(!tx.is_closed());
        assert_eq!(tx.try_send(1), Ok(()));
        drop(ch);
        assert!(tx.is_closed());
        assert_eq!(tx.try_send(2), Err(TrySendError::Closed(2)));
    });
}

#[test]
fn the_by_value_iterator_of_a_chan_counts_as_a_receiver_only() {
    on_both(|| {
        let ch = chan::<u32>(0);
        let wg = WaitGroup::new();
        for i in 0..10 {
            let ch = ch.clone();
            wg.go(move || ch.send(i));
        }
        // Were the iterator a sender too, this would not end.
        assert_eq!(ch.into_iter().sum::<u32>(), 45);
        wg.wait();

        let ch = chan::<u32>(1);
        let tx = ch.sender();
        let mut all = ch.into_iter();
        tx.send(1).unwrap();
        assert_eq!(all.next(), Some(1));
        drop(all);
        assert!(tx.is_closed(), "the iterator was the last receiver");
    });
}

#[test]
fn iterators_end_when_the_channel_is_closed_and_drained() {
    on_both(|| {
        let ch = chan(8);
        (0..8).for_each(|i| ch.send(i));
        ch.close();
        let mut got = Vec::new();
        for v in &ch {
            got.push(v);
            if v == 1 {
                break;
            }
        }
        got.extend(ch.iter().take(1));
        let rx = ch.receiver();
        for v in &rx {
            got.push(v);
            if v == 4 {
                break;
            }
        }
        got.extend(rx);
        assert!(got.into_iter().eq(0..8));
        let mut ended = ch.iter();
        assert_eq!((ended.next(), ended.next()), (None, None));
    });
}

#[test]
fn try_iter_gives_what_is_there() {
    on_both(|| {
        let (tx, rx) = channel(8);
        assert_eq!(rx.try_iter().count(), 0);
        (0..3).for_each(|i| tx.send(i).unwrap());
        assert!(rx.try_iter().eq(0..3));
        assert!(!rx.is_closed());
        tx.send(3).unwrap();
        drop(tx);
        assert!(rx.try_iter().eq(3..4));
    });
}

#[test]
fn the_ends_may_go_at_the_same_time() {
    on_both(|| {
        for _ in 0..200 {
            let (tx, rx) = channel::<Box<u32>>(2);
            tx.send(Box::new(1)).unwrap();
            let a = go!(move || drop(tx));
            let b = go!(move || drop(rx));
            a.join().unwrap();
            b.join().unwrap();
        }
    });
}

// -- What handles can be asked --

/// Can nothing but be sent.
struct Opaque;

fn hash(v: impl Hash) -> u64 {
    let mut h = DefaultHasher::new();
    v.hash(&mut h);
    h.finish()
}

#[test]
fn handles_are_equal_if_the_channel_is_the_same() {
    let (a, b) = (chan::<Opaque>(0), chan::<Opaque>(0));
    assert!(a == a.clone() && a != b);
    assert!(a.sender() == a.sender() && a.sender() != b.sender());
    assert!(a.receiver() == a.receiver() && a.receiver() != b.receiver());
    assert!(hash(&a) == hash(a.clone()));
    assert!(hash(a.sender()) == hash(a.sender()) && hash(a.receiver()) == hash(a.receiver()));
    let mut set = HashSet::from([a.clone(), a.clone(), b.clone()]);
    assert!(set.len() == 2 && set.contains(&a) && set.contains(&b));
    assert!(!set.contains(&Chan::nil()));
    set.insert(Chan::nil());
    assert!(set.contains(&Chan::default()));
}

#[test]
fn nil_equals_nil_and_nothing_else() {
    assert!(Chan::<Opaque>::nil() == Chan::nil() && Chan::<Opaque>::nil() == Chan::default());
    assert!(Sender::<Opaque>::nil() == Sender::nil() && Receiver::<Opaque>::nil() == Receiver::nil());
    assert!(chan::<Opaque>(0) != Chan::nil());
    assert!(chan::<Opaque>(0).sender() != Sender::nil());
    assert!(chan::<Opaque>(0).receiver() != Receiver::nil());
    assert_eq!(hash(Chan::<Opaque>::nil()), hash(Chan::<Opaque>::default()));
}

#[test]
fn debug_asks_nothing_of_the_element() {
    let ch = chan::<Opaque>(3);
    for text in [format!("{ch:?}"), format!("{:?}", ch.sender()), format!("{:?}", ch.receiver())] {
        assert!(!text.is_empty());
    }
    let nil = [
        format!("{:?}", Chan::<Opaque>::nil()),
        format!("{:?}", Sender::<Opaque>::nil()),
        format!("{:?}", Receiver::<Opaque>::nil()),
    ];
    assert!(nil.iter().all(|text| text.contains("nil")), "{nil:?}");
    let _ = format!("{:?} {:?}", ch.iter(), ch.receiver().try_iter());
    ch.close();
    let tx = ch.sender();
    let _ = format!("{:?} {:?}", tx.send(Opaque).unwrap_err(), tx.try_send(Opaque).unwrap_err());
    let _ = format!("{:?}", tx.send_timeout(Opaque, SHORT).unwrap_err());
}

#[test]
fn errors_are_errors_and_give_the_value_back() {
    fn is_error(e: impl Error + Send + Sync + 'static) {
        let text = e.to_string();
        assert!(!text.is_empty() && !text.ends_with('.'));
    }
    let (tx, rx) = channel::<u8>(1);
    is_error(rx.try_recv().unwrap_err());
    is_error(rx.recv_timeout(NO_TIME).unwrap_err());
    tx.send(0).unwrap();
    is_error(tx.try_send(1).unwrap_err());
    assert_eq!(tx.try_send(2).unwrap_err().into_inner(), 2);
    is_error(tx.send_timeout(3, NO_TIME).unwrap_err());
    assert_eq!(tx.send_timeout(4, NO_TIME).unwrap_err().into_inner(), 4);
    tx.close();
    is_error(tx.send(5).unwrap_err());
    assert_eq!(tx.send(6).unwrap_err().into_inner(), 6);
    is_error(tx.try_send(7).unwrap_err());
    is_error(tx.send_timeout(8, NO_TIME).unwrap_err());
    assert_eq!(rx.recv(), Some(0));
    is_error(rx.try_recv().unwrap_err());
    is_error(rx.recv_timeout(NO_TIME).unwrap_err());
}

#[test]
fn handles_may_be_shared_by_threads() {
    fn send_and_sync<T: Send + Sync>(_: &T) {}
    // Cell is Send and not Sync.
    let ch = chan::<Cell<u8>>(1);
    send_and_sync(&ch);
    send_and_sync(&ch.sender());
    send_and_sync(&ch.receiver());
    thread::scope(|s| {
        s.spawn(|| ch.send(Cell::new(3)));
        s.spawn(|| assert_eq!(ch.recv().unwrap().get(), 3));
    });
}

#[test]
fn len_and_cap_count_the_buffer() {
    on_both(|| {
        let ch = chan::<u32>(3);
        let (tx, rx) = (ch.sender(), ch.receiver());
        for n in 0..=3 {
            assert_eq!((ch.len(), tx.len(), rx.len()), (n, n, n));
            assert_eq!((ch.cap(), tx.cap(), rx.cap()), (3, 3, 3));
            assert_eq!((ch.is_empty(), ch.is_full()), (n == 0, n == 3));
            if n < 3 {
                ch.send(0);
            }
        }
        ch.close();
        assert_eq!((ch.len(), ch.cap()), (3, 3), "closing leaves the buffer");
        ch.recv();
        assert_eq!(ch.len(), 2);
        let unbuffered = Chan::<u32>::new(0);
        assert_eq!((unbuffered.len(), unbuffered.cap()), (0, 0));
        assert!(unbuffered.is_empty() && unbuffered.is_full());
    });
}

// -- Sizes --

/// The system's allocator, which counts the bytes that a thread got.
struct Noting;

thread_local! {
    static GOT: Cell<usize> = const { Cell::new(0) };
    /// What it was when the thread's last panic began: the report of a panic allocates.
    static GOT_AT_PANIC: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: passes everything on to `System`.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        let p = unsafe { System.alloc(layout) };
        if !p.is_null() {
            let _ = GOT.try_with(|got| got.set(got.get() + layout.size()));
        }
        p
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(p, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Noting = Noting;

#[test]
fn a_buffer_that_cannot_exist_panics_before_anything_is_allocated() {
    #[track_caller]
    fn refused_by<C>(make: fn(usize) -> C, cap: usize) {
        let before = GOT.get();
        assert_eq!(panic_message(|| make(cap)), "makechan: size out of range");
        assert_eq!(GOT_AT_PANIC.get(), before, "something was allocated");
    }
    #[track_caller]
    fn refused<T: Send>(cap: usize) {
        refused_by(chan::<T>, cap);
        refused_by(Chan::<T>::new, cap);
        refused_by(channel::<T>, cap);
    }
    // The first use of the library sets a hook as well, and no two threads may do that at once.
    gort::run(|| ());
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        GOT_AT_PANIC.set(GOT.get());
        report(info);
    }));
    #[repr(align(4096))]
    struct Page(#[allow(dead_code, reason = "takes room")] u8);
    const MAX: usize = isize::MAX as usize;

    refused::<u8>(usize::MAX);
    refused::<u8>(MAX + 1);
    refused::<u8>(MAX);
    refused::<u64>(usize::MAX);
    refused::<u64>(MAX);
    refused::<u64>(MAX / 8 + 1);
    refused::<u64>(MAX / 8);
    // The product wraps around to something small.
    refused::<u64>(usize::MAX / 8 + 1);
    refused::<u64>(usize::MAX / 8 + 2);
    refused::<u16>(1 << 63);
    refused::<[u8; 1 << 20]>(1 << 44);
    refused::<Page>(1 << 52);
    refused::<Page>(MAX / 4096);
    refused::<[u64; 3]>(usize::MAX / 24 + 1);
}

#[test]
fn a_goroutine_survives_a_capacity_out_of_range() {
    at_each_size(|| {
        let h = go!(|| chan::<u64>(usize::MAX).len());
        assert_eq!(message(&*h.join().unwrap_err()), "makechan: size out of range");
        assert_eq!(panic_message(|| chan::<u64>(usize::MAX)), "makechan: size out of range");
    });
}

#[test]
fn zero_sized_values_have_any_capacity() {
    #[derive(Debug, Default)]
    #[repr(align(64))]
    struct Aligned;
    fn count<T: Send + Default>(cap: usize) {
        let ch = chan::<T>(cap);
        assert_eq!((ch.cap(), ch.len()), (cap, 0));
        for n in 0..1000 {
            assert_eq!(ch.len(), n);
            ch.send(T::default());
        }
        assert!(!ch.is_full());
        assert_eq!((0..400).filter_map(|_| ch.recv()).count(), 400);
        ch.close();
        assert_eq!(ch.iter().count(), 600);
    }
    on_both(|| {
        for cap in [1 << 20, isize::MAX as usize, usize::MAX - 1, usize::MAX] {
            count::<()>(cap);
            count::<[u64; 0]>(cap);
            count::<Aligned>(cap);
        }
    });
}

#[test]
fn zero_sized_values_are_counted_by_a_small_buffer_too() {
    on_both(|| {
        let (tx, rx) = channel::<()>(2);
        assert_eq!(tx.try_send(()), Ok(()));
        assert_eq!(tx.try_send(()), Ok(()));
        assert_eq!(tx.try_send(()), Err(TrySendError::Full(())));
        let h = go!(tx.clone().send(()));
        until_parked(&h, "chan send");
        drop(tx);
        assert_eq!(rx.iter().count(), 3);
        h.join().unwrap().unwrap();
    });
}

/// A value that knows what must be in it, and where it may lie.
trait Checked: Send + 'static {
    fn make(seed: usize) -> Self;
    #[track_caller]
    fn check(&self, seed: usize);
}

fn at<T>(v: &T) -> usize {
    std::hint::black_box(std::ptr::from_ref(v)).addr()
}

macro_rules! sized {
    ($name:ident, $repr:meta, $elem:ty, $n:literal) => {
        #[$repr]
        struct $name([$elem; $n]);
        impl Checked for $name {
            fn make(seed: usize) -> Self {
                $name(std::array::from_fn(|i| (seed * 31 + i) as $elem))
            }
            fn check(&self, seed: usize) {
                assert_eq!(at(self) % align_of::<Self>(), 0, "an address out of alignment");
                assert!(
                    self.0.iter().enumerate().all(|(i, v)| *v == (seed * 31 + i) as $elem),
                    "content differs"
                );
            }
        }
    };
}

sized!(Byte, repr(C), u8, 1);
sized!(Three, repr(C), u8, 3);
sized!(Odd, repr(C), u8, 61);
sized!(Words, repr(C), u64, 3);
sized!(Wide, repr(C), u128, 2);
sized!(Large, repr(C), u64, 512);
sized!(Line, repr(align(64)), u8, 5);
sized!(Lines, repr(align(64)), u64, 100);
sized!(Page, repr(align(4096)), u8, 10);
sized!(Pages, repr(align(4096)), u64, 512);

/// Through the buffer and around its end.
#[inline(never)]
fn through_the_buffer<T: Checked>(cap: usize) {
    let ch = chan::<T>(cap);
    for round in 0..4 {
        (0..cap).for_each(|i| ch.send(T::make(10 * round + i)));
        (0..cap).for_each(|i| ch.recv().unwrap().check(10 * round + i));
        assert!(ch.try_send(T::make(99)).is_ok());
        ch.recv().unwrap().check(99);
    }
}

#[inline(never)]
fn from_a_parked_sender<T: Checked>(cap: usize) {
    let ch = chan::<T>(cap);
    (0..cap).for_each(|i| ch.send(T::make(i)));
    let tx = ch.clone();
    let parked = go!(stack_size = ROOMY, move || tx.send(T::make(cap)));
    until_parked(&parked, "chan send");
    (0..=cap).for_each(|i| ch.recv().unwrap().check(i));
    parked.join().unwrap();
}

#[inline(never)]
fn to_a_parked_receiver<T: Checked>() {
    let ch = chan::<T>(0);
    let rx = ch.clone();
    let parked = go!(stack_size = ROOMY, move || rx.recv().unwrap().check(8));
    until_parked(&parked, "chan receive");
    ch.send(T::make(8));
    parked.join().unwrap();
}

#[inline(never)]
fn from_select_to_select<T: Checked>() {
    let (ch, never) = (chan::<T>(0), chan::<u8>(0));
    let (rx, quiet) = (ch.clone(), never.clone());
    let parked = go!(stack_size = ROOMY, move || {
        select! {
            recv(rx) -> v => v.unwrap().check(9),
            recv(quiet) -> _ => unreachable!(),
        }
    });
    until_parked(&parked, "select");
    select! {
        send(ch, T::make(9)) => {},
        recv(never) -> _ => unreachable!(),
    }
    parked.join().unwrap();
}

#[inline(never)]
fn back_and_out<T: Checked>() {
    let (tx, _rx) = channel::<T>(0);
    tx.try_send(T::make(10)).unwrap_err().into_inner().check(10);
    go!(|| T::make(11)).join().unwrap().check(11);
}

/// Without optimisation a select copies its values around a good deal, and some of these are of 8 KiB.
const ROOMY: usize = 1 << 20;

fn carry<T: Checked>() {
    let carrier = go!(stack_size = ROOMY, || {
        for cap in [1, 3] {
            through_the_buffer::<T>(cap);
            from_a_parked_sender::<T>(cap);
        }
        from_a_parked_sender::<T>(0);
        to_a_parked_receiver::<T>();
        from_select_to_select::<T>();
        back_and_out::<T>();
    });
    carrier.join().unwrap();
}

#[test]
fn values_of_any_size_and_alignment_arrive_whole() {
    on_both(|| {
        carry::<Byte>();
        carry::<Three>();
        carry::<Odd>();
        carry::<Words>();
        carry::<Wide>();
        carry::<Large>();
        carry::<Line>();
        carry::<Lines>();
        carry::<Page>();
        carry::<Pages>();
    });
}

#[test]
fn what_stays_in_the_buffer_is_aligned_when_it_is_dropped() {
    #[repr(align(4096))]
    struct Looks(Arc<Mutex<Vec<usize>>>);
    impl Drop for Looks {
        fn drop(&mut self) {
            let at = at(self);
            self.0.lock().unwrap().push(at);
        }
    }
    on_both(|| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let ch = chan(4);
        (0..4).for_each(|_| ch.send(Looks(seen.clone())));
        drop(ch);
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 4);
        assert!(seen.iter().all(|at| at % 4096 == 0), "{seen:x?}");
    });
}
