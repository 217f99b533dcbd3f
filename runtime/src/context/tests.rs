//! What a context's tree looks like from inside: who is whose child, and that nothing is left behind. What it promises is in
//! `tests/go_context_test.rs` and `tests/promises_context.rs`.

use super::*;
use crate::{Runtime, TryRecvError};

const LONG: Duration = Duration::from_secs(3600);

fn children(ctx: &Context) -> usize {
    ctx.canceller().map_or(0, |node| node.children())
}

fn is_armed(ctx: &Context) -> bool {
    ctx.node().is_some_and(|node| node.is_armed())
}

fn same(a: Option<&Arc<Node>>, b: &Context) -> bool {
    a.is_some_and(|a| b.node().is_some_and(|b| Arc::ptr_eq(a, b)))
}

fn above(ctx: &Context) -> Option<&Arc<Node>> {
    ctx.node()?.above.as_ref()
}

/// Where there are timers.
fn in_goroutine(f: impl Fn() + Sync) {
    for procs in [1, 4] {
        Runtime::builder().max_procs(procs).build().unwrap().run(&f);
    }
}

#[test]
fn parent_finishes_child() {
    in_goroutine(|| {
        let (parent, cancel) = with_cancel(&background());
        let (cancel_child, _stop1) = with_cancel(&parent);
        let value_child = with_value(&parent, "value");
        let (timer_child, _stop2) = with_timeout(&value_child, LONG);
        let _stop3 = after_func(&parent, || {});
        for ctx in [&parent, &cancel_child, &value_child, &timer_child] {
            assert!(ctx.done().try_recv() == Err(TryRecvError::Empty), "{ctx:?} is done");
        }
        assert_eq!(children(&parent), 3);
        assert!(same(above(&cancel_child), &parent) && same(above(&timer_child), &parent));
        assert!(is_armed(&timer_child));
        cancel();
        assert_eq!(children(&parent), 0);
        assert!(!is_armed(&timer_child));
        let precancelled = with_value(&parent, "value");
        for ctx in [&parent, &cancel_child, &value_child, &timer_child, &precancelled] {
            assert!(ctx.done().try_recv() == Err(TryRecvError::Closed), "{ctx:?} is not done");
            assert_eq!(ctx.err(), Some(ContextError::Canceled));
        }
    });
}

#[test]
fn child_finishes_first() {
    in_goroutine(|| {
        let (cancelable, _stop) = with_cancel(&background());
        for parent in [background(), cancelable] {
            let (child, cancel) = with_cancel(&parent);
            assert!(parent.done().try_recv() == Err(TryRecvError::Empty));
            assert!(child.done().try_recv() == Err(TryRecvError::Empty));
            let has_parent = parent.canceller().is_some();
            assert_eq!(same(above(&child), &parent), has_parent);
            assert_eq!(children(&parent), usize::from(has_parent));
            cancel();
            assert_eq!(children(&parent), 0);
            assert!(child.done().try_recv() == Err(TryRecvError::Closed));
            assert_eq!(child.err(), Some(ContextError::Canceled));
            assert!(parent.done().try_recv() == Err(TryRecvError::Empty));
            assert_eq!(parent.err(), None);
        }
    });
}

#[test]
fn cancel_removes() {
    in_goroutine(|| {
        let (ctx, _stop) = with_cancel(&background());
        assert_eq!(children(&ctx), 0);
        let (_child, cancel) = with_cancel(&ctx);
        assert_eq!(children(&ctx), 1);
        cancel();
        assert_eq!(children(&ctx), 0);
        let (_child, cancel) = with_timeout(&ctx, LONG);
        assert_eq!(children(&ctx), 1);
        cancel();
        assert_eq!(children(&ctx), 0);
        let stop = after_func(&ctx, || {});
        assert_eq!(children(&ctx), 1);
        stop();
        assert_eq!(children(&ctx), 0);
    });
}

#[test]
fn a_context_that_nobody_has_leaves_nothing_in_its_parent() {
    in_goroutine(|| {
        let (parent, _cancel) = with_cancel(&background());
        for _ in 0..100_000 {
            let _ = with_cancel(&parent);
        }
        for _ in 0..1000 {
            let (child, cancel) = with_timeout(&parent, LONG);
            let _grandchild = with_value(&child, 1);
            drop((child, cancel));
        }
        assert_eq!(children(&parent), 0);
        // What cancels it is a handle.
        let (child, cancel) = with_cancel(&parent);
        drop(child);
        assert_eq!(children(&parent), 1);
        drop(cancel);
        assert_eq!(children(&parent), 0);
        // So is a context below it.
        let (child, cancel) = with_cancel(&parent);
        let below = with_value(&child, 1);
        drop((child, cancel));
        assert_eq!(children(&parent), 1);
        drop(below);
        assert_eq!(children(&parent), 0);
    });
}

#[test]
fn a_done_that_was_waited_for_in_vain_is_forgotten() {
    in_goroutine(|| {
        let (parent, _cancel) = with_cancel(&background());
        for _ in 0..100_000 {
            let done = with_cancel(&parent).0.done();
            drop(done);
        }
        assert!(children(&parent) < 100, "{}", children(&parent));
    });
}

#[test]
fn a_deadline_has_a_timer_only_where_it_is_needed() {
    in_goroutine(|| {
        let (ctx, _cancel) = with_timeout(&background(), LONG);
        assert!(is_armed(&ctx));
        let (later, _cancel) = with_timeout(&ctx, 2 * LONG);
        assert!(!is_armed(&later));
        assert_eq!(later.deadline(), ctx.deadline());
        let (earlier, _cancel) = with_timeout(&ctx, LONG / 2);
        assert!(is_armed(&earlier));
        let (never, _cancel) = with_timeout(&background(), Duration::MAX);
        assert!(!is_armed(&never) && never.deadline().is_none());
        let (passed, _cancel) = with_deadline(&background(), Instant::now());
        assert!(!is_armed(&passed) && passed.err() == Some(ContextError::DeadlineExceeded));
        let (parent, cancel) = with_cancel(&background());
        cancel();
        let (child, _cancel) = with_timeout(&parent, LONG);
        assert!(!is_armed(&child) && child.err() == Some(ContextError::Canceled));
    });
}

#[test]
fn a_chain_of_any_depth_is_cancelled_and_dropped_on_a_goroutines_stack() {
    const DEPTH: u32 = 200_000;
    in_goroutine(|| {
        let (root, cancel) = with_cancel(&background());
        let mut ctx = root.clone();
        for n in 0..DEPTH {
            ctx = if n % 3 == 0 { with_value(&ctx, n) } else { with_cancel(&ctx).0 };
        }
        assert_eq!(ctx.value::<u32>().as_deref(), Some(&(DEPTH - 1 - (DEPTH - 1) % 3)));
        assert!(format!("{ctx:?}").ends_with(".WithCancel"));
        assert_eq!(ctx.err(), None);
        cancel();
        assert_eq!(ctx.err(), Some(ContextError::Canceled));
        drop(ctx);
        // Not cancelled, and somebody waits below.
        let (mut ctx, _cancel) = with_cancel(&background());
        for _ in 0..DEPTH {
            ctx = with_cancel(&ctx).0;
        }
        let done = ctx.done();
        drop(ctx);
        assert!(done.try_recv() == Err(TryRecvError::Empty));
    });
}
