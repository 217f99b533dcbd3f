//! Go's `context_test.go` and `x_test.go`, under the same names. The cases that look into the tree (`ParentFinishesChild`,
//! `ChildFinishesFirst`, `CancelRemoves`) are in `src/context/tests.rs`.
//!
//! Left out, with the reason: `CustomContextGoroutines`, `CustomContextPropagation`, `CustomContextCause`, all of `afterfunc_test.go`,
//! and the rows with an `otherContext`: a context is a type here, not an interface, so there are none of others.
//! `WithValueChecksKey`, `InvalidDerivedFail`: a missing key or parent does not compile. `Allocs`: Go's limits are about Go's
//! allocator. `DeadlineExceededSupportsTimeout` and `...IsNetError`: about Go's `net.Error`.

#![allow(clippy::redundant_closure, reason = "clippy takes for a function what only derefs to one")]

mod common;

use common::{Rng, at_each_size, on_both};
use gort::context::{
    CancelFunc, Cause, Context, ContextError, after_func, background, cause, todo, with_cancel,
    with_cancel_cause, with_deadline, with_timeout, with_timeout_cause, with_value, without_cancel,
};
use gort::sync::WaitGroup;
use gort::time::after;
use gort::{Receiver, TryRecvError, chan, go, select, yield_now};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(1);
const VERY_LONG: Duration = Duration::from_secs(1000 * 3600);
/// By then whatever should happen has happened.
const QUIESCENT: Duration = Duration::from_secs(60);

use ContextError::{Canceled, DeadlineExceeded};

#[track_caller]
fn assert_blocks(done: &Receiver<()>) {
    assert!(done.try_recv() == Err(TryRecvError::Empty), "done should block");
}

#[track_caller]
fn assert_closed(done: &Receiver<()>) {
    assert!(done.try_recv() == Err(TryRecvError::Closed), "done should not block");
}

#[track_caller]
fn assert_comes<T>(rx: &Receiver<T>) {
    let came = select! {
        recv(rx) -> _ => true,
        recv(after(QUIESCENT)) -> _ => false,
    };
    assert!(came, "it should have happened by now");
}

#[test]
fn test_background() {
    on_both(|| {
        let c = background();
        assert_blocks(&c.done());
        assert_eq!(format!("{c:?}"), "context.Background");
    });
}

#[test]
fn test_todo() {
    on_both(|| {
        let c = todo();
        assert_blocks(&c.done());
        assert_eq!(format!("{c:?}"), "context.TODO");
    });
}

#[test]
fn test_with_cancel() {
    on_both(|| {
        let (c1, cancel) = with_cancel(&background());
        assert_eq!(format!("{c1:?}"), "context.Background.WithCancel");
        let (c2, _cancel2) = with_cancel(&c1);
        for c in [&c1, &c2] {
            assert!(c.done() != Receiver::nil());
            assert_eq!(c.err(), None);
            assert_blocks(&c.done());
        }
        cancel();
        for c in [&c1, &c2] {
            assert_closed(&c.done());
            assert_eq!(c.err(), Some(Canceled));
        }
    });
}

#[track_caller]
fn check_deadline(c: &Context, name: &str) {
    assert_comes(&c.done());
    assert_eq!(c.err(), Some(DeadlineExceeded), "{name}");
}

#[test]
fn test_deadline() {
    on_both(|| {
        let soon = || Instant::now() + SHORT;
        let (c, _cancel) = with_deadline(&background(), soon());
        assert!(format!("{c:?}").starts_with("context.Background.WithDeadline("));
        check_deadline(&c, "WithDeadline");

        let (o, _cancel) = with_deadline(&background(), soon());
        let (c, _cancel) = with_deadline(&o, Instant::now() + VERY_LONG);
        check_deadline(&c, "WithDeadline+WithDeadline");

        if let Some(past) = Instant::now().checked_sub(SHORT) {
            let (c, _cancel) = with_deadline(&background(), past);
            check_deadline(&c, "WithDeadline+inthepast");
        }
        let (c, _cancel) = with_deadline(&background(), Instant::now());
        check_deadline(&c, "WithDeadline+now");
    });
}

#[test]
fn test_timeout() {
    on_both(|| {
        let (c, _cancel) = with_timeout(&background(), SHORT);
        assert!(format!("{c:?}").starts_with("context.Background.WithDeadline("));
        check_deadline(&c, "WithTimeout");

        let (o, _cancel) = with_timeout(&background(), SHORT);
        let (c, _cancel) = with_timeout(&o, VERY_LONG);
        check_deadline(&c, "WithTimeout+WithTimeout");
    });
}

#[test]
fn test_canceled_timeout() {
    on_both(|| {
        let (o, _cancel) = with_timeout(&background(), Duration::from_secs(1000));
        let (c, cancel) = with_timeout(&o, VERY_LONG);
        cancel();
        assert_closed(&c.done());
        assert_eq!(c.err(), Some(Canceled));
    });
}

#[test]
fn test_values() {
    #[derive(Debug, PartialEq)]
    struct Key1(&'static str);
    #[derive(Debug, PartialEq)]
    struct Key2(&'static str);
    #[derive(Debug, PartialEq)]
    struct Key3(Option<&'static str>);
    #[track_caller]
    fn check(
        c: &Context,
        v1: Option<&'static str>,
        v2: Option<&'static str>,
        v3: Option<Option<&'static str>>,
    ) {
        assert_eq!(c.value::<Key1>().map(|v| v.0), v1);
        assert_eq!(c.value::<Key2>().map(|v| v.0), v2);
        assert_eq!(c.value::<Key3>().map(|v| v.0), v3);
    }
    on_both(|| {
        let c0 = background();
        check(&c0, None, None, None);
        let c1 = with_value(&c0, Key1("c1k1"));
        check(&c1, Some("c1k1"), None, None);
        let shown = format!("{c1:?}");
        assert!(shown.starts_with("context.Background.WithValue(") && shown.ends_with("Key1)"), "{shown}");
        let c2 = with_value(&c1, Key2("c2k2"));
        check(&c2, Some("c1k1"), Some("c2k2"), None);
        let c3 = with_value(&c2, Key3(Some("c3k3")));
        check(&c3, Some("c1k1"), Some("c2k2"), Some(Some("c3k3")));
        let c4 = with_value(&c3, Key1("c4k1"));
        check(&c4, Some("c4k1"), Some("c2k2"), Some(Some("c3k3")));
        let c5 = with_value(&c4, Key3(None));
        check(&c5, Some("c4k1"), Some("c2k2"), Some(None));
        check(&c3, Some("c1k1"), Some("c2k2"), Some(Some("c3k3")));
        let shown = format!("{c5:?}");
        assert_eq!(shown.matches(".WithValue(").count(), 5, "{shown}");
    });
}

#[test]
fn test_simultaneous_cancels() {
    at_each_size(|| {
        let (root, cancel) = with_cancel(&background());
        let mut tree: Vec<(Context, CancelFunc)> = vec![(root, cancel)];
        let mut next = 0;
        while tree.len() < 100 {
            for _ in 0..4 {
                let below = with_cancel(&tree[next].0);
                tree.push(below);
            }
            next += 1;
        }
        let mut rng = Rng(1);
        (1..tree.len()).for_each(|n| tree.swap(n, rng.below(n + 1)));
        let wg = WaitGroup::new();
        for (_, cancel) in &tree {
            let cancel = cancel.clone();
            wg.go(move || cancel());
        }
        (1..tree.len()).for_each(|n| tree.swap(n, rng.below(n + 1)));
        tree.iter().for_each(|(ctx, _)| assert_comes(&ctx.done()));
        wg.wait();
    });
}

#[test]
fn test_interlocked_cancels() {
    on_both(|| {
        let (parent, cancel_parent) = with_cancel(&background());
        let (child, cancel_child) = with_cancel(&parent);
        let waits = parent.done();
        let h = go!(move || {
            waits.recv();
            cancel_child();
        });
        cancel_parent();
        assert_comes(&child.done());
        h.join().unwrap();
    });
}

#[test]
fn test_layers_cancel() {
    on_both(|| (0..20).for_each(|seed| layers(seed, false)));
}

#[test]
fn test_layers_timeout() {
    on_both(|| (0..20).for_each(|seed| layers(seed, true)));
}

fn layers(seed: u64, timeout: bool) {
    // The type is the key, so layers of values are told apart by what is nearest.
    struct Layer(usize);
    let mut rng = Rng(seed);
    let (mut values, mut timers) = (0, 0);
    let mut cancels: Vec<CancelFunc> = Vec::new();
    let mut ctx = background();
    let mut i = 0;
    while i < 30 || timers == 0 || cancels.is_empty() || values == 0 {
        match rng.below(3) {
            0 => {
                values += 1;
                ctx = with_value(&ctx, Layer(values));
            }
            1 => {
                let (below, cancel) = with_cancel(&ctx);
                ctx = below;
                cancels.push(cancel);
            }
            _ => {
                let (below, cancel) = with_timeout(&ctx, if timeout { SHORT } else { VERY_LONG });
                ctx = below;
                cancels.push(cancel);
                timers += 1;
            }
        }
        i += 1;
    }
    let check_values = |when| assert_eq!(ctx.value::<Layer>().unwrap().0, values, "{when}, seed {seed}");
    if !timeout {
        assert_blocks(&ctx.done());
    }
    assert!(format!("{ctx:?}").starts_with("context.Background."));
    check_values("before cancel");
    if timeout {
        assert_comes(&ctx.done());
        check_values("after timeout");
    } else {
        cancels[rng.below(cancels.len())]();
        assert_closed(&ctx.done());
        check_values("after cancel");
    }
}

/// An error with a text.
fn error(text: &'static str) -> Cause {
    #[derive(Debug)]
    struct Text(&'static str);
    impl fmt::Display for Text {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }
    impl std::error::Error for Text {}
    Arc::new(Text(text))
}

fn cause_of(ctx: &Context) -> Option<String> {
    cause(ctx).map(|cause| cause.to_string())
}

#[test]
fn test_with_cancel_canceled_parent() {
    on_both(|| {
        let (parent, pcancel) = with_cancel_cause(&background());
        pcancel(Some(error("Because!")));
        let (c, _cancel) = with_cancel(&parent);
        assert_closed(&c.done());
        assert_eq!(c.err(), Some(Canceled));
        assert_eq!(cause_of(&c).as_deref(), Some("Because!"));
    });
}

#[test]
fn test_with_cancel_simultaneously_canceled_parent() {
    on_both(|| {
        for _ in 0..100 {
            let (parent, pcancel) = with_cancel_cause(&background());
            go!(move || pcancel(Some(error("Because!"))));
            let (c, _cancel) = with_cancel(&parent);
            assert_eq!(c.done().recv(), None);
            assert_eq!(c.err(), Some(Canceled));
            assert_eq!(cause_of(&c).as_deref(), Some("Because!"));
        }
    });
}

#[test]
fn test_cause() {
    const CANCELED: &str = "context canceled";
    const EXCEEDED: &str = "context deadline exceeded";
    const FOREVER: Duration = Duration::from_secs(1_000_000);
    #[track_caller]
    fn check(ctx: &Context, err: Option<ContextError>, cause: Option<&str>) {
        assert_eq!(ctx.err(), err);
        assert_eq!(cause_of(ctx).as_deref(), cause);
    }
    on_both(|| {
        check(&background(), None, None);
        check(&todo(), None, None);

        let (ctx, cancel) = with_cancel(&background());
        cancel();
        check(&ctx, Some(Canceled), Some(CANCELED));

        let (ctx, cancel) = with_cancel_cause(&background());
        cancel(Some(error("parentCause")));
        check(&ctx, Some(Canceled), Some("parentCause"));

        let (ctx, cancel) = with_cancel_cause(&background());
        cancel(None);
        check(&ctx, Some(Canceled), Some(CANCELED));

        // Parent cause before child.
        let (parent, cancel_parent) = with_cancel_cause(&background());
        let (ctx, cancel_child) = with_cancel_cause(&parent);
        cancel_parent(Some(error("parentCause")));
        cancel_child(Some(error("childCause")));
        check(&ctx, Some(Canceled), Some("parentCause"));

        // Parent cause after child.
        let (parent, cancel_parent) = with_cancel_cause(&background());
        let (ctx, cancel_child) = with_cancel_cause(&parent);
        cancel_child(Some(error("childCause")));
        cancel_parent(Some(error("parentCause")));
        check(&ctx, Some(Canceled), Some("childCause"));
        check(&parent, Some(Canceled), Some("parentCause"));

        // Parent cause before nil.
        let (parent, cancel_parent) = with_cancel_cause(&background());
        let (ctx, cancel_child) = with_cancel(&parent);
        cancel_parent(Some(error("parentCause")));
        cancel_child();
        check(&ctx, Some(Canceled), Some("parentCause"));

        // Parent cause after nil.
        let (parent, cancel_parent) = with_cancel_cause(&background());
        let (ctx, cancel_child) = with_cancel(&parent);
        cancel_child();
        cancel_parent(Some(error("parentCause")));
        check(&ctx, Some(Canceled), Some(CANCELED));

        // Child cause after nil.
        let (parent, cancel_parent) = with_cancel(&background());
        let (ctx, cancel_child) = with_cancel_cause(&parent);
        cancel_parent();
        cancel_child(Some(error("childCause")));
        check(&ctx, Some(Canceled), Some(CANCELED));

        // Child cause before nil.
        let (parent, cancel_parent) = with_cancel(&background());
        let (ctx, cancel_child) = with_cancel_cause(&parent);
        cancel_child(Some(error("childCause")));
        cancel_parent();
        check(&ctx, Some(Canceled), Some("childCause"));

        let (ctx, cancel) = with_timeout(&background(), Duration::ZERO);
        cancel();
        check(&ctx, Some(DeadlineExceeded), Some(EXCEEDED));

        let (ctx, cancel) = with_timeout(&background(), FOREVER);
        cancel();
        check(&ctx, Some(Canceled), Some(CANCELED));

        let (ctx, cancel) = with_timeout_cause(&background(), Duration::ZERO, error("tooSlow"));
        cancel();
        check(&ctx, Some(DeadlineExceeded), Some("tooSlow"));

        let (ctx, cancel) = with_timeout_cause(&background(), FOREVER, error("tooSlow"));
        cancel();
        check(&ctx, Some(Canceled), Some(CANCELED));

        // Stacked.
        let (parent, cancel) = with_cancel_cause(&background());
        let (ctx, _cancel) = with_timeout_cause(&parent, Duration::ZERO, error("tooSlow"));
        cancel(Some(error("finishedEarly")));
        check(&ctx, Some(DeadlineExceeded), Some("tooSlow"));

        // Stacked, canceled.
        let (parent, cancel) = with_cancel_cause(&background());
        let (ctx, _cancel) = with_timeout_cause(&parent, FOREVER, error("tooSlow"));
        cancel(Some(error("finishedEarly")));
        check(&ctx, Some(Canceled), Some("finishedEarly"));

        check(&without_cancel(&background()), None, None);

        let (ctx, cancel) = with_cancel_cause(&background());
        let ctx = without_cancel(&ctx);
        cancel(Some(error("finishedEarly")));
        check(&ctx, None, None);

        let (ctx, cancel) = with_timeout_cause(&background(), Duration::ZERO, error("tooSlow"));
        let ctx = without_cancel(&ctx);
        cancel();
        check(&ctx, None, None);
    });
}

#[test]
fn test_cause_race() {
    on_both(|| {
        let (ctx, cancel) = with_cancel_cause(&background());
        go!(move || cancel(Some(error("TestCauseRace"))));
        loop {
            if let Some(cause) = cause_of(&ctx) {
                assert_eq!(cause, "TestCauseRace");
                break;
            }
            yield_now();
        }
    });
}

#[test]
fn test_without_cancel() {
    on_both(|| {
        let ctx = without_cancel(&with_value(&background(), "value"));
        assert_eq!(ctx.deadline(), None);
        assert!(ctx.done() == Receiver::nil());
        assert_eq!(ctx.err(), None);
        assert_eq!(ctx.value::<&str>().as_deref(), Some(&"value"));
    });
}

#[test]
fn test_after_func_called_after_cancel() {
    on_both(|| {
        let (ctx, cancel) = with_cancel(&background());
        let (tx, called) = gort::channel::<()>(0);
        let stop = after_func(&ctx, move || drop(tx));
        select! {
            recv(called) -> _ => panic!("called before the context is done"),
            recv(after(SHORT)) -> _ => {},
        }
        cancel();
        assert_comes(&called);
        assert!(!stop());
    });
}

#[test]
fn test_after_func_called_after_timeout() {
    on_both(|| {
        let (ctx, _cancel) = with_timeout(&background(), SHORT);
        let (tx, called) = gort::channel::<()>(0);
        let _stop = after_func(&ctx, move || drop(tx));
        assert_comes(&called);
    });
}

#[test]
fn test_after_func_called_immediately() {
    on_both(|| {
        let (ctx, cancel) = with_cancel(&background());
        cancel();
        let (tx, called) = gort::channel::<()>(0);
        let _stop = after_func(&ctx, move || drop(tx));
        assert_comes(&called);
    });
}

#[test]
fn test_after_func_not_called_after_stop() {
    on_both(|| {
        let (ctx, cancel) = with_cancel(&background());
        let called = chan::<()>(1);
        let tx = called.clone();
        let stop = after_func(&ctx, move || tx.send(()));
        assert!(stop());
        cancel();
        assert!(called.recv_timeout(SHORT).is_err(), "called although it was stopped");
        assert!(!stop());
    });
}

#[test]
fn test_after_func_called_asynchronously() {
    on_both(|| {
        let (ctx, cancel) = with_cancel(&background());
        let (tx, rx) = gort::channel::<()>(0);
        let _stop = after_func(&ctx, move || _ = tx.send(()));
        cancel();
        assert_comes(&rx);
    });
}

#[test]
fn test_context_err_done_race() {
    on_both(|| {
        for _ in 0..10 {
            let (ctx, cancel) = with_cancel(&background());
            let done = ctx.done();
            let h = go!(move || cancel());
            while ctx.err().is_none() {
                std::hint::spin_loop();
            }
            assert_closed(&done);
            h.join().unwrap();
        }
    });
}
