//! [`after_func`]: a function that runs when a context is done (Go's `context.AfterFunc`).
//!
//! Whoever takes the function out, to run it or to stop it, has decided: it happens once. Where it is registered is only
//! needed to leave nothing behind.

use super::node::{Node, Registered};
use super::{Child, Context, StopFunc};
use crate::go::go_somewhere;
use gort_scheduler::memory;
use gort_scheduler::sync::Spinning;
use std::panic::Location;
use std::sync::{Arc, Weak};

type Function = Box<dyn FnOnce() + Send>;

/// A function that waits for a context.
pub(super) struct AfterFunc {
    /// It is called by who cancels the context, and not in a goroutine of its own.
    at_once: bool,
    /// Where it was registered, which is where its goroutine is said to have been spawned.
    at: &'static Location<'static>,
    f: Spinning<Option<Function>>,
    /// Among whose children it is, and at which number.
    home: Spinning<Option<(Weak<Node>, usize)>>,
}

impl AfterFunc {
    /// True until it has been started or stopped.
    pub fn is_pending(&self) -> bool {
        self.f.lock().is_some()
    }

    /// True if it is called by who cancels the context.
    pub fn is_called_at_once(&self) -> bool {
        self.at_once
    }

    /// Runs it, in a goroutine of its own if it may take long, unless that has been done, or it was stopped.
    pub fn start(&self) {
        let f = self.f.lock().take();
        match f {
            Some(f) if self.at_once => f(),
            Some(f) => go_somewhere(self.at, f),
            None => {}
        }
    }

    fn stop(&self) -> bool {
        let f = self.f.lock().take();
        let home = self.home.lock().take();
        if let Some((node, number)) = home
            && let Some(node) = node.upgrade()
        {
            node.forget(number);
        }
        f.is_some()
    }

    /// Registers it with a context. Where that is done, it is started.
    pub fn settle(self: Arc<Self>, node: &Arc<Node>) {
        // Under the lock: whoever stops it finds it where it is, or has stopped it before.
        let mut home = self.home.lock();
        if !self.is_pending() {
            return;
        }
        match node.register(Child::Func(self.clone())) {
            Registered::At(number) => *home = Some((Arc::downgrade(node), number)),
            Registered::Done(..) => {
                drop(home);
                self.start();
            }
        }
    }
}

/// Runs `f` in a goroutine of its own when `ctx` is done, at once if it is done already (Go's `context.AfterFunc`).
///
/// It gives a function that stops that: true if `f` will not run for having been stopped now, false if it has been started, or
/// stopped before. Stopping does not wait for an `f` that runs. Dropping that function changes nothing.
///
/// `f` runs even if nobody has `ctx` any more, if what cancels it is still to come: a deadline, a context above it.
///
/// ```
/// use gort::context;
/// let (ctx, cancel) = context::with_cancel(&context::background());
/// let (tx, rx) = gort::channel(1);
/// let stop = context::after_func(&ctx, move || tx.send("cleaned up").unwrap());
/// cancel();
/// assert_eq!(rx.recv(), Some("cleaned up"));
/// assert!(!stop());
/// ```
#[track_caller]
pub fn after_func<F>(ctx: &Context, f: F) -> StopFunc
where
    F: FnOnce() + Send + 'static,
{
    register(ctx, memory::boxed("a function to be called", f), false)
}

/// The same for a function that is called where the context is cancelled, or here if it is done: it is short and parks nowhere. It
/// may still run, or run yet, when the stop says false.
#[track_caller]
pub(crate) fn call_when_done<F>(ctx: &Context, f: F) -> StopFunc
where
    F: FnOnce() + Send + 'static,
{
    register(ctx, memory::boxed("a function to be called", f), true)
}

#[track_caller]
fn register(ctx: &Context, f: Function, at_once: bool) -> StopFunc {
    let (at, f) = (Location::caller(), Spinning::new(Some(f)));
    let new = AfterFunc { at_once, at, f, home: Spinning::new(None) };
    let func = memory::arc("a function to be called", new);
    let stopped = func.clone();
    let stop = StopFunc::new(move || stopped.stop());
    if let Some(node) = ctx.canceller() {
        func.settle(node);
    }
    stop
}
