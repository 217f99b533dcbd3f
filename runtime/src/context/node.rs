//! [`Node`]: a context in its tree, and how a cancellation goes down from it.
//!
//! ```text
//!   background <--parent-- with_value <--parent-- with_cancel A <--parent-- with_value <--parent-- with_cancel B
//!                                                      ^                                             |
//!                                                      +------------------- above -------------------+
//!                                                      A's children: B (Weak)
//! ```
//!
//! A node keeps its parent alive, so a handle keeps all contexts above it. Downwards a node knows only its *children*: the nodes
//! that it cancels (those whose `above` it is), the functions of `after_func`, and `done` channels, see below. A node among its
//! children lives as long as somebody has a handle to it, or to what cancels it; when it goes it takes itself out.
//!
//! **Cancelling** goes through a subtree in three passes, none of which holds more than one lock, or wakes anybody under one:
//!
//! 1. *Mark*, from above to below: the first to come writes why, and from which cause; a child takes both from its parent.
//!    Children stay linked, so whoever comes meanwhile from further above goes through the same nodes.
//! 2. *Close* the `done` of all that were gone through, also those that another one has marked.
//! 3. *Unlink*, stop the timers, start the functions.
//!
//! C1: A marked node gets no more children, and no other reason. Both are decided under its lock.
//!
//! C2: When a cancellation returns, every node below that it could find is marked and closed, by whomever. What it did not
//! find had been unlinked, and so closed, before.
//!
//! C3: Who sees a reason (`err`) finds `done` closed, and the other way round: `err` closes it before it answers.
//!
//! **What is left of a node that nobody has.** Somebody may still wait for its `done`, or have a function registered. In
//! Go the context lives on for them, since its parent and its timer know it. Here they pass to the context above, which will do for
//! them exactly what would have been done; if there was a deadline, a fresh node takes them, kept by its timer alone.
//! Without either nothing can ever cancel the node: the channel stays open, the functions go.
//!
//! **Rejected**: holding each node's lock while its children are cancelled, as Go does (the wake-ups would be under spin locks,
//! and a chain of 100,000 contexts needs as many locks, or that much stack); one lock for each tree (all requests of a server
//! would meet at it).
//!
//! **Differs from Go**: a context that was dropped without being cancelled leaves its parent and stops its timer, where Go's
//! stays until the parent is cancelled (what `go vet` calls a lost cancel).

use super::after_func::AfterFunc;
use super::children::{Child, Children};
use super::{Cause, Context, ContextError};
use crate::time::{self, Timer};
use gort_channel::{Receiver, Sender, channel};
use gort_scheduler::memory;
use gort_scheduler::sync::Spinning;
use gort_scheduler::sync::atomic::{AtomicU8, Ordering};
use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

/// Not cancelled.
const LIVE: u8 = 0;
const CANCELED: u8 = 1;
const DEADLINE_EXCEEDED: u8 = 2;
/// With one of the other two: `done` is closed.
const CLOSED: u8 = 4;

/// A context that is not a root.
pub(super) struct Node {
    pub parent: Context,
    /// The nearest context above that can be cancelled, if its cancellation passes to this one. One of the parents.
    pub above: Option<Arc<Node>>,
    /// Its own, or that of a context above.
    pub deadline: Option<Instant>,
    pub kind: Kind,
}

/// What it adds to its parent.
pub(super) enum Kind {
    Cancel(Cancel),
    /// A value, and the name of its type.
    Value(Arc<dyn Any + Send + Sync>, &'static str),
    WithoutCancel,
}

/// What can be cancelled.
pub(super) struct Cancel {
    /// It has a deadline of its own, and this is the cause to be given when that has passed.
    pub timed: Option<Timed>,
    /// Why it was cancelled. Written under the lock of `inner`; `CLOSED` is added later.
    state: AtomicU8,
    /// Made when somebody asks for it, under the lock and while it is live.
    done: OnceLock<Done>,
    inner: Spinning<Inner>,
}

/// What comes with a deadline of its own.
pub(super) struct Timed {
    pub at: Instant,
    pub cause: Option<Cause>,
    /// The timer alone keeps the node; without it nothing comes at the deadline any more.
    pub kept: bool,
}

struct Done {
    tx: Sender<()>,
    rx: Receiver<()>,
}

struct Inner {
    cause: Option<Cause>,
    children: Children,
    /// Its number among the children of the node above.
    number: Option<usize>,
    timer: Option<Timer>,
}

/// What [`Node::register`] answers.
pub(super) enum Registered {
    At(usize),
    /// The node was cancelled before, for this.
    Done(ContextError, Option<Cause>),
}

impl Cancel {
    fn new(timed: Option<Timed>) -> Cancel {
        let inner = Inner { cause: None, children: Children::new(), number: None, timer: None };
        Cancel { timed, state: AtomicU8::new(LIVE), done: OnceLock::new(), inner: Spinning::new(inner) }
    }

    fn reason(&self) -> Option<ContextError> {
        // ORDERING: Acquire, pairs with the Releases in `mark` and `close`.
        match self.state.load(Ordering::Acquire) & !CLOSED {
            LIVE => None,
            CANCELED => Some(ContextError::Canceled),
            _ => Some(ContextError::DeadlineExceeded),
        }
    }

    /// Why it is done; then `done` is closed (C3).
    pub fn err(&self) -> Option<ContextError> {
        let err = self.reason()?;
        self.close();
        Some(err)
    }

    pub fn cause(&self) -> Option<Cause> {
        let err = self.err()?;
        Some(self.inner.lock().cause.clone().unwrap_or_else(|| memory::arc("a context", err)))
    }

    /// Writes the reason, if there is none. The caller holds the lock that `inner` is under.
    fn mark(&self, inner: &mut Inner, err: ContextError, cause: Option<&Cause>) {
        if self.reason().is_none() {
            inner.cause = cause.cloned();
            let state = match err {
                ContextError::Canceled => CANCELED,
                ContextError::DeadlineExceeded => DEADLINE_EXCEEDED,
            };
            // ORDERING: Release, pairs with the Acquire in `reason`.
            self.state.store(state, Ordering::Release);
        }
    }

    /// Closes `done`. It has been marked, so whether there is a channel is settled.
    fn close(&self) {
        if self.state.load(Ordering::Acquire) & CLOSED == 0 {
            if let Some(done) = self.done.get() {
                done.tx.try_close();
            }
            // ORDERING: Release, pairs with the Acquire above: who finds the flag has nothing to do.
            self.state.fetch_or(CLOSED, Ordering::Release);
        }
    }

    /// The channel that is closed when it is cancelled.
    pub fn done(&self) -> Receiver<()> {
        if let Some(done) = self.done.get() {
            return done.rx.clone();
        }
        let (tx, rx) = channel(0);
        let fresh = Done { tx, rx };
        let inner = self.inner.lock();
        // Under the lock: whoever marks it after this finds the channel. What is left over goes after the lock.
        let left = if self.reason().is_none() { self.done.set(fresh).err() } else { Some(fresh) };
        drop(inner);
        drop(left);
        self.done.get().map_or_else(closed, |done| done.rx.clone())
    }
}

/// The `done` of all that were cancelled before anybody asked for theirs.
fn closed() -> Receiver<()> {
    static CLOSED: OnceLock<Receiver<()>> = OnceLock::new();
    CLOSED
        .get_or_init(|| {
            let (tx, rx) = channel(0);
            tx.close();
            rx
        })
        .clone()
}

impl Node {
    /// A context below `parent` that can be cancelled, and is if that is.
    pub fn cancel_below(parent: &Context, timed: Option<Timed>) -> Arc<Node> {
        let parent = parent.clone();
        let above = parent.canceller().cloned();
        let deadline = timed.as_ref().map(|timed| timed.at).or(parent.deadline());
        let kind = Kind::Cancel(Cancel::new(timed));
        let node = memory::arc("a context", Node { parent, above, deadline, kind });
        if let Some(above) = &node.above {
            match above.register(Child::Context(Arc::downgrade(&node))) {
                // Nobody asks for the number before this: the node is not given to anybody yet.
                Registered::At(number) => node.cancel().inner.lock().number = Some(number),
                Registered::Done(err, cause) => cancel(&node, err, cause),
            }
        }
        node
    }

    /// What there is to be cancelled of a node that can be.
    pub fn cancel(&self) -> &Cancel {
        match &self.kind {
            Kind::Cancel(cancel) => cancel,
            Kind::Value(..) | Kind::WithoutCancel => {
                unreachable!("only nodes that can be cancelled have children")
            }
        }
    }

    /// Adds a child, if it is not cancelled (C1).
    pub fn register(&self, child: Child) -> Registered {
        let cancel = self.cancel();
        // Dropped after the lock.
        let mut idle = Vec::new();
        let mut inner = cancel.inner.lock();
        match cancel.reason() {
            None => Registered::At(inner.children.insert(child, &mut idle)),
            Some(err) => {
                let cause = inner.cause.clone();
                drop(inner);
                Registered::Done(err, cause)
            }
        }
    }

    /// Takes a child out, if it is there.
    pub fn forget(&self, number: usize) {
        let child = self.cancel().inner.lock().children.remove(number);
        drop(child);
    }

    /// Leaves the children of the node above.
    fn unlink(&self) {
        let number = self.cancel().inner.lock().number.take();
        if let (Some(above), Some(number)) = (&self.above, number) {
            above.forget(number);
        }
    }

    /// How many children it has.
    #[cfg(test)]
    pub fn children(&self) -> usize {
        self.cancel().inner.lock().children.len()
    }

    /// Whether a timer is armed for it.
    #[cfg(test)]
    pub fn is_armed(&self) -> bool {
        self.cancel().inner.lock().timer.is_some()
    }
}

/// Cancels a node and all below it; see the module.
pub(super) fn cancel(root: &Arc<Node>, err: ContextError, cause: Option<Cause>) {
    let mut nodes: Vec<(Arc<Node>, ContextError, Option<Cause>)> = vec![(root.clone(), err, cause)];
    let mut functions: Vec<Arc<AfterFunc>> = Vec::new();
    let mut waited_for: Vec<Sender<()>> = Vec::new();
    // Mark.
    let mut next = 0;
    while let Some((node, err, cause)) = nodes.get(next) {
        let cancel = node.cancel();
        // Copied out under the lock, looked at after: a child whose last handle goes meanwhile must not go under the lock.
        let (children, err, cause) = {
            let mut inner = cancel.inner.lock();
            cancel.mark(&mut inner, *err, cause.as_ref());
            let children: Vec<Child> = inner.children.iter().cloned().collect();
            (children, cancel.reason().unwrap_or(*err), inner.cause.clone())
        };
        for child in children {
            match child {
                Child::Context(node) => nodes.extend(node.upgrade().map(|node| (node, err, cause.clone()))),
                Child::Func(f) => functions.push(f),
                Child::Done(done) => waited_for.push(done),
            }
        }
        next += 1;
    }
    // Close.
    for (node, ..) in &nodes {
        node.cancel().close();
    }
    for done in waited_for {
        done.try_close();
    }
    // Unlink.
    root.unlink();
    for (node, ..) in &nodes {
        let (children, timer) = {
            let mut inner = node.cancel().inner.lock();
            (mem::replace(&mut inner.children, Children::new()), inner.timer.take())
        };
        drop(children);
        if let Some(timer) = timer {
            timer.stop();
        }
    }
    call_all(functions);
}

/// Calls or starts them all. Where a goroutine is refused, the others are started nevertheless, and then the caller is told.
fn call_all(functions: Vec<Arc<AfterFunc>>) {
    // Those that are called here wake somebody, and need nothing.
    let (at_once, in_goroutines): (Vec<_>, Vec<_>) =
        functions.into_iter().partition(|f| f.is_called_at_once());
    at_once.iter().for_each(|f| f.start());
    let mut first = None;
    for f in in_goroutines {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| f.start())) {
            first.get_or_insert(payload);
        }
    }
    if let Some(payload) = first {
        resume_unwind(payload);
    }
}

/// Has a node with a deadline of its own cancelled when that comes.
pub(super) fn arm(node: &Arc<Node>) {
    let cancel_of = node.cancel();
    let Some(timed) = cancel_of.timed.as_ref().filter(|_| cancel_of.reason().is_none()) else { return };
    let left = timed.at.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return cancel(node, ContextError::DeadlineExceeded, timed.cause.clone());
    }
    let (kept, known): (Option<Arc<Node>>, Weak<Node>) =
        (timed.kept.then(|| node.clone()), Arc::downgrade(node));
    let timer = time::after_func(left, move || {
        let _kept = &kept;
        if let Some(node) = known.upgrade() {
            let cause = node.cancel().timed.as_ref().and_then(|timed| timed.cause.clone());
            cancel(&node, ContextError::DeadlineExceeded, cause);
        }
    });
    let mut inner = cancel_of.inner.lock();
    if cancel_of.reason().is_none() {
        inner.timer = Some(timer);
    } else {
        // Cancelled meanwhile.
        drop(inner);
        timer.stop();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // One after another: a chain may be longer than the stack is deep.
        let mut parent = self.end();
        while let Some(mut node) = parent.into_last_node() {
            parent = node.end();
        }
    }
}

impl Node {
    /// The end of a node: it leaves the tree, and what somebody still waits for goes where it can come. What is left of it is
    /// nobody's, and has no parent; the parent that it had.
    fn end(&mut self) -> Context {
        if let Kind::Cancel(_) = &self.kind {
            self.unlink();
            let Kind::Cancel(cancel) = mem::replace(&mut self.kind, Kind::WithoutCancel) else {
                unreachable!()
            };
            self.bequeath(cancel);
        }
        // Never the last handle: it is one of the parents.
        self.above = None;
        mem::replace(&mut self.parent, Context::BACKGROUND)
    }

    /// Finds new places for what still waits for `cancel`, which was this node's.
    fn bequeath(&self, cancel: Cancel) {
        let reason = cancel.reason();
        let Cancel { timed, done, inner, .. } = cancel;
        let (children, timer) = {
            let mut inner = inner.lock();
            (mem::replace(&mut inner.children, Children::new()), inner.timer.take())
        };
        if let Some(timer) = timer {
            timer.stop();
        }
        if reason.is_some() {
            return;
        }
        // Contexts are not among them: they would have kept it.
        let mut heirs: Vec<Child> = children.into_iter().filter(|child| !child.is_idle()).collect();
        if let Some(Done { tx, rx }) = done.into_inner() {
            drop(rx);
            if !tx.is_closed() {
                heirs.push(Child::Done(tx));
            }
        }
        if heirs.is_empty() {
            return;
        }
        match (timed.filter(|timed| !timed.kept), &self.above) {
            (Some(timed), _) => {
                let node = Node::cancel_below(&self.parent, Some(Timed { kept: true, ..timed }));
                heirs.into_iter().for_each(|heir| settle(heir, &node));
                arm(&node);
            }
            (None, Some(above)) => heirs.into_iter().for_each(|heir| settle(heir, above)),
            (None, None) => {
                for heir in heirs {
                    if let Child::Done(tx) = heir {
                        tx.leave_open();
                    }
                }
            }
        }
    }
}

/// Registers what a node has left.
fn settle(heir: Child, node: &Arc<Node>) {
    match heir {
        Child::Func(f) => f.settle(node),
        Child::Done(tx) => {
            if let Registered::Done(..) = node.register(Child::Done(tx.clone())) {
                tx.try_close();
            }
        }
        Child::Context(_) => {}
    }
}
