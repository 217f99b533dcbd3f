//! What the public API promises of `context`.

#![allow(clippy::redundant_closure, reason = "clippy takes for a function what only derefs to one")]

mod common;

use common::{Ledger, Rng, at_each_size, eventually, on_both, until_parked};
use gort::context::{
    self, CancelCauseFunc, CancelFunc, Context, ContextError, StopFunc, after_func, background, cause,
    with_cancel, with_cancel_cause, with_deadline, with_timeout, with_timeout_cause, with_value,
    without_cancel,
};
use gort::sync::WaitGroup;
use gort::{Receiver, TryRecvError, chan, go, scope, select, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(3600);

fn is_done(ctx: &Context) -> bool {
    let closed = ctx.done().try_recv() == Err(TryRecvError::Closed);
    assert_eq!(closed, ctx.err().is_some());
    closed
}

#[test]
fn the_roots_are_never_done() {
    on_both(|| {
        for ctx in [background(), context::todo()] {
            assert!(!is_done(&ctx) && ctx.done() == Receiver::nil());
            assert!(ctx.deadline().is_none() && ctx.value::<u8>().is_none() && cause(&ctx).is_none());
        }
    });
}

#[test]
fn cancel_is_called_like_a_function_from_anywhere_and_as_often_as_one_likes() {
    struct Holder {
        cancel: CancelFunc,
    }
    on_both(|| {
        let (ctx, cancel) = with_cancel(&background());
        let clone: CancelFunc = cancel.clone();
        let holder = Holder { cancel: cancel.clone() };
        go!(move || clone()).join().unwrap();
        assert!(is_done(&ctx));
        cancel();
        cancel();
        (holder.cancel)();
        let f: &dyn Fn() = &*cancel;
        f();
        assert_eq!(ctx.err(), Some(ContextError::Canceled));

        let (ctx, cancel) = with_cancel(&background());
        gort::blocking(|| thread::spawn(move || cancel()).join().unwrap());
        assert!(is_done(&ctx));

        let (ctx, cancel): (Context, CancelCauseFunc) = with_cancel_cause(&background());
        cancel.clone()(Some(Arc::new(std::fmt::Error)));
        cancel(None);
        assert!(cause(&ctx).unwrap().is::<std::fmt::Error>());
    });
}

#[test]
fn dropping_what_cancels_does_not_cancel() {
    on_both(|| {
        let (ctx, cancel) = with_cancel(&background());
        drop(cancel.clone());
        drop(cancel);
        assert!(!is_done(&ctx));
        let (ctx, _) = with_timeout(&background(), LONG);
        assert!(!is_done(&ctx));
    });
}

#[test]
fn cancelling_a_parent_cancels_its_children_before_it_returns() {
    on_both(|| {
        let (root, cancel) = with_cancel(&background());
        let mut tree = vec![root.clone()];
        for n in 0..500 {
            let parent = tree[n / 3].clone();
            tree.push(match n % 4 {
                0 => with_value(&parent, n),
                1 => with_timeout(&parent, LONG).0,
                2 => with_cancel_cause(&parent).0,
                _ => with_cancel(&parent).0,
            });
        }
        let apart = without_cancel(&tree[400]);
        assert!(!tree.iter().any(is_done));
        cancel();
        assert!(tree.iter().all(is_done) && !is_done(&apart));
    });
}

#[test]
fn who_cancels_while_another_one_does_finds_all_below_done_when_it_returns() {
    at_each_size(|| {
        for round in 0..200 {
            let (root, cancel_root) = with_cancel(&background());
            let (mid, cancel_mid) = with_cancel(&root);
            let leaves: Vec<Context> = (0..20)
                .map(|n| {
                    let (below, _) = with_cancel(&mid);
                    (0..n % 4).fold(below, |ctx, _| with_cancel(&ctx).0)
                })
                .collect();
            let dones: Vec<Receiver<()>> = leaves.iter().map(Context::done).collect();
            let check = |cancel: CancelFunc| {
                let (leaves, dones) = (leaves.clone(), dones.clone());
                move || {
                    cancel();
                    assert!(dones.iter().all(|done| done.try_recv() == Err(TryRecvError::Closed)), "{round}");
                    assert!(leaves.iter().all(|ctx| ctx.err().is_some()));
                }
            };
            let one = thread::spawn(check(cancel_mid));
            let two = go(check(cancel_root));
            two.join().unwrap();
            gort::blocking(|| one.join().unwrap());
        }
    });
}

#[test]
fn done_is_the_same_channel_each_time() {
    on_both(|| {
        let (ctx, cancel) = with_cancel(&background());
        let value = with_value(&ctx, 1);
        assert!(ctx.done() == ctx.done() && value.done() == ctx.done());
        let before = ctx.done();
        cancel();
        assert!(ctx.done() == before);
        let (ctx, cancel) = with_cancel(&background());
        cancel();
        assert!(ctx.done() == ctx.done() && is_done(&ctx));
    });
}

#[test]
fn goroutines_and_threads_wait_for_done() {
    on_both(|| {
        let (ctx, cancel) = with_cancel(&background());
        let (waiting, woken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let wait = || {
            let (ctx, waiting, woken) = (ctx.clone(), waiting.clone(), woken.clone());
            move || {
                let ch = chan::<u8>(0);
                waiting.fetch_add(1, SeqCst);
                select! {
                    recv(ch) -> _ => unreachable!(),
                    recv(ctx.done()) -> closed => assert!(closed.is_none()),
                }
                assert_eq!(ctx.err(), Some(ContextError::Canceled));
                woken.fetch_add(1, SeqCst);
            }
        };
        let goroutines: Vec<_> = (0..10).map(|_| go(wait())).collect();
        let threads: Vec<_> = (0..4).map(|_| thread::spawn(wait())).collect();
        eventually("all wait", || waiting.load(SeqCst) == 14);
        assert_eq!(woken.load(SeqCst), 0);
        cancel();
        goroutines.into_iter().for_each(|h| h.join().unwrap());
        gort::blocking(|| threads.into_iter().for_each(|t| t.join().unwrap()));
    });
}

#[test]
fn a_deadline_comes() {
    on_both(|| {
        let start = Instant::now();
        let (ctx, cancel) = with_timeout(&background(), SOON);
        let below = with_value(&ctx, 1);
        assert!(ctx.deadline().unwrap() >= start + SOON && below.deadline() == ctx.deadline());
        assert_eq!(below.done().recv(), None);
        assert!(start.elapsed() >= SOON);
        assert_eq!(below.err(), Some(ContextError::DeadlineExceeded));
        cancel();
        assert_eq!(ctx.err(), Some(ContextError::DeadlineExceeded));
        assert_eq!(cause(&ctx).unwrap().to_string(), "context deadline exceeded");

        let (ctx, _cancel) = with_timeout_cause(&background(), SOON, Arc::new(std::fmt::Error));
        ctx.done().recv();
        assert!(cause(&with_cancel(&ctx).0).unwrap().is::<std::fmt::Error>());
    });
}

#[test]
fn a_deadline_that_has_passed_is_done_at_once() {
    on_both(|| {
        for ctx in
            [with_timeout(&background(), Duration::ZERO).0, with_deadline(&background(), Instant::now()).0]
        {
            assert!(is_done(&ctx));
            assert_eq!(ctx.err(), Some(ContextError::DeadlineExceeded));
        }
    });
}

#[test]
fn the_longest_duration_is_no_deadline() {
    on_both(|| {
        let (ctx, cancel) = with_timeout(&background(), Duration::MAX);
        assert!(ctx.deadline().is_none() && !is_done(&ctx));
        cancel();
        assert!(is_done(&ctx));
    });
}

#[test]
fn the_earlier_deadline_counts() {
    on_both(|| {
        let now = Instant::now();
        let (outer, _cancel) = with_deadline(&background(), now + LONG);
        let (later, _cancel) = with_deadline(&outer, now + 2 * LONG);
        let (earlier, _cancel) = with_deadline(&outer, now + LONG / 2);
        assert_eq!(later.deadline(), Some(now + LONG));
        assert_eq!(earlier.deadline(), Some(now + LONG / 2));
        assert_eq!(without_cancel(&earlier).deadline(), None);
    });
}

#[test]
fn a_value_is_found_by_its_type_the_nearest_first() {
    #[derive(Debug, PartialEq)]
    struct Name(String);
    on_both(|| {
        let ctx = with_value(&background(), Name("outer".into()));
        let (below, cancel) = with_cancel(&ctx);
        let hidden = with_value(&below, Name("inner".into()));
        let number = with_value(&hidden, 7_u64);
        assert_eq!(ctx.value::<Name>().unwrap().0, "outer");
        assert_eq!(below.value::<Name>().unwrap().0, "outer");
        assert_eq!(number.value::<Name>().unwrap().0, "inner");
        assert_eq!((number.value::<u64>().as_deref(), number.value::<i64>()), (Some(&7), None));
        cancel();
        assert_eq!(without_cancel(&number).value::<Name>().unwrap().0, "inner");
    });
}

#[test]
fn values_are_dropped_with_their_contexts() {
    on_both(|| {
        let ledger = Ledger::default();
        let ctx = with_value(&background(), ledger.token());
        let (below, cancel) = with_cancel(&ctx);
        drop(ctx);
        let kept = below.value::<common::Token>();
        drop(below);
        cancel();
        assert_eq!(ledger.dropped(), 0);
        drop((cancel, kept));
        ledger.assert_settled();
    });
}

#[test]
fn a_function_runs_once_when_the_context_is_done_or_never_if_it_was_stopped() {
    on_both(|| {
        for n in 0..100 {
            let (ctx, cancel) = with_cancel(&background());
            let ran = Arc::new(AtomicUsize::new(0));
            let (theirs, done) = (ran.clone(), WaitGroup::new());
            done.add(1);
            let counted = done.clone();
            let stop: StopFunc = after_func(&ctx, move || {
                theirs.fetch_add(1, SeqCst);
                counted.done();
            });
            let again = stop.clone();
            let stopped = scope(|s| {
                let stops = s.go(|| {
                    (0..n % 3).for_each(|_| yield_now());
                    stop()
                });
                let cancels = s.go(|| cancel());
                cancels.join().unwrap();
                stops.join().unwrap()
            });
            assert!(!again());
            if !stopped {
                done.wait();
            }
            assert_eq!(ran.load(SeqCst), usize::from(!stopped));
        }
    });
}

#[test]
fn a_function_of_a_context_that_is_never_done_is_stopped_once() {
    on_both(|| {
        let ledger = Ledger::default();
        let token = ledger.token();
        let stop = after_func(&background(), move || _ = &token);
        assert!(stop() && !stop());
        ledger.assert_settled();
    });
}

#[test]
fn what_somebody_waits_for_comes_though_nobody_has_the_context() {
    on_both(|| {
        // From the deadline.
        let done = {
            let (ctx, _cancel) = with_timeout(&background(), SOON);
            with_value(&ctx, 1).done()
        };
        assert_eq!(done.recv(), None);
        let (tx, ran) = gort::channel::<&str>(1);
        let _ = after_func(&with_timeout(&background(), SOON).0, move || tx.send("ran").unwrap());
        assert_eq!(ran.recv(), Some("ran"));

        // From above, through contexts of which several are gone.
        let (root, cancel) = with_cancel_cause(&background());
        let (tx, ran) = gort::channel::<&str>(1);
        let (done, timed, stopped) = {
            let (a, _) = with_cancel(&root);
            let (b, _) = with_cancel(&with_value(&a, 1));
            let (c, _) = with_timeout(&b, LONG);
            let _ = after_func(&c, move || tx.send("ran").unwrap());
            let stop = after_func(&b, || unreachable!("it was stopped"));
            (b.done(), c.done(), stop)
        };
        assert!(stopped());
        assert_eq!((done.try_recv(), timed.try_recv()), (Err(TryRecvError::Empty), Err(TryRecvError::Empty)));
        cancel(None);
        assert_eq!(
            (done.try_recv(), timed.try_recv()),
            (Err(TryRecvError::Closed), Err(TryRecvError::Closed))
        );
        assert_eq!(ran.recv(), Some("ran"));

        // Without either it can't come, as in Go.
        let done = with_cancel(&background()).0.done();
        assert_eq!(done.try_recv(), Err(TryRecvError::Empty));
        let ledger = Ledger::default();
        let token = ledger.token();
        let _ = after_func(&with_cancel(&background()).0, move || _ = &token);
        ledger.assert_settled();
    });
}

#[test]
fn a_context_that_is_dropped_or_cancelled_leaves_its_timer() {
    // The closure of a timer that is still armed would be found by the shutdown's leak check of what the function owns.
    on_both(|| {
        let ledger = Ledger::default();
        for n in 0..1000 {
            let (ctx, cancel) = with_timeout(&background(), LONG);
            let ctx = with_value(&ctx, ledger.token());
            let token = ledger.token();
            let stop = after_func(&ctx, move || _ = &token);
            if n % 2 == 0 {
                cancel();
            } else {
                stop();
            }
        }
        eventually("all is dropped", || ledger.made() == ledger.dropped());
        ledger.assert_settled();
    });
}

#[test]
fn contexts_are_made_cancelled_and_dropped_at_once_from_everywhere() {
    at_each_size(|| {
        let (root, cancel) = with_cancel(&background());
        let (stop, ran, registered) =
            (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0), AtomicUsize::new(0));
        let ran = Arc::new(ran);
        let registered = Arc::new(registered);
        let work = |seed: u64| {
            let (root, stop, ran, registered) = (root.clone(), stop.clone(), ran.clone(), registered.clone());
            move || {
                let mut rng = Rng(seed);
                let mut own: Vec<(Context, CancelFunc)> = Vec::new();
                let mut waits: Vec<Receiver<()>> = Vec::new();
                while !stop.load(SeqCst) {
                    let parent =
                        if own.is_empty() { root.clone() } else { own[rng.below(own.len())].0.clone() };
                    match rng.below(8) {
                        0 | 1 => own.push(with_cancel(&parent)),
                        2 => own.push(with_timeout(&parent, Duration::from_micros(rng.below(500) as u64))),
                        3 => {
                            registered.fetch_add(1, SeqCst);
                            let ran = ran.clone();
                            let _ = after_func(&parent, move || _ = ran.fetch_add(1, SeqCst));
                        }
                        4 => waits.push(parent.done()),
                        5 if !own.is_empty() => own.swap_remove(rng.below(own.len())).1(),
                        6 if own.len() > 20 => own.truncate(10),
                        _ => yield_now(),
                    }
                    if waits.len() > 50 {
                        waits.truncate(25);
                    }
                }
                waits
            }
        };
        let goroutines: Vec<_> = (0..4).map(|n| go(work(n))).collect();
        let threads: Vec<_> = (4..6).map(|n| thread::spawn(work(n))).collect();
        gort::time::sleep(Duration::from_millis(100));
        stop.store(true, SeqCst);
        let mut waits: Vec<Receiver<()>> = Vec::new();
        goroutines.into_iter().for_each(|h| waits.extend(h.join().unwrap()));
        gort::blocking(|| threads.into_iter().for_each(|t| waits.extend(t.join().unwrap())));
        cancel();
        // All of them are below the root, whatever has become of their contexts.
        for done in waits {
            assert_eq!(done.recv(), None);
        }
        eventually("all functions have run", || ran.load(SeqCst) == registered.load(SeqCst));
    });
}

#[test]
fn a_wait_for_done_looks_like_a_receive_in_a_dump() {
    at_each_size(|| {
        let (ctx, cancel) = with_cancel(&background());
        let h = go(move || ctx.done().recv());
        until_parked(&h, "chan receive");
        cancel();
        assert_eq!(h.join().unwrap(), None);
    });
}

#[test]
fn what_is_printed_is_what_go_prints() {
    on_both(|| {
        let (a, _cancel) = with_cancel(&context::todo());
        assert_eq!(format!("{a:?}"), "context.TODO.WithCancel");
        let b = without_cancel(&with_value(&a, 5_u8));
        assert_eq!(format!("{b:?}"), "context.TODO.WithCancel.WithValue(u8).WithoutCancel");
        let (c, _cancel) = with_timeout(&b, LONG);
        let text = format!("{c:?}");
        assert!(text.contains(".WithoutCancel.WithDeadline([") && text.ends_with("s])"), "{text}");
        assert_eq!(ContextError::Canceled.to_string(), "context canceled");
        assert_eq!(ContextError::DeadlineExceeded.to_string(), "context deadline exceeded");
    });
}

#[test]
fn waiting_for_a_context_gives_the_reason_and_a_check_is_an_error_from_then_on() {
    on_both(|| {
        let (ctx, cancel) = with_cancel(&context::background());
        assert_eq!((ctx.check(), context::background().check()), (Ok(()), Ok(())));
        let waits = ctx.clone();
        let h = go(move || waits.wait());
        until_parked(&h, "chan receive");
        cancel();
        assert_eq!(h.join().unwrap(), ContextError::Canceled);
        assert_eq!((ctx.wait(), ctx.check()), (ContextError::Canceled, Err(ContextError::Canceled)));
        let (late, _cancel) = with_timeout(&context::background(), Duration::from_millis(1));
        assert_eq!(late.wait(), ContextError::DeadlineExceeded);
        assert_eq!(with_value(&late, 1_u8).check(), Err(ContextError::DeadlineExceeded));
    });
}
