//! [`Home`]: the goroutines that are ready to run on one M and on no other.
//!
//! Used when goroutines that have started stay on their OS thread (`Migration::Never`), and to hand a goroutine to a
//! certain M. Anybody may put; the M alone takes. A put finds the M running, and then it will look here in its next
//! pass through `find_runnable`; or asleep, with or without a way to get a P, and then it must be woken to see to that.
//!
//! HM1 (no put is slept over): putter: the goroutine is put in, fence, `asleep` is read. M: `asleep` is stored, fence,
//! the queue is looked at. One of the two sees the other. A woken M gets itself a P, or waits in line for one
//! ([`Idle::want_p`](crate::idle::Idle::want_p)).
//!
//! **Rejected**: waking through the idle lists, as for other work (any sleeping M would do there; here the waker would
//! have to search the lists for the one, and the clock's keeper is in none); binding the P to the M as well (a P that is
//! taken from a blocked M could not run anything else).
//!
//! Checked by the model in `tests/loom_home.rs`.

use crate::memory;
use crate::sync::Spinning;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::collections::VecDeque;

/// Room that is had before it is needed.
const AHEAD: usize = 16;

/// A queue for one M; see the module.
#[derive(Debug)]
pub struct Home<T> {
    queue: Spinning<Queue<T>>,
    /// How many are in the queue; changed under its lock.
    len: AtomicUsize,
    asleep: AtomicBool,
}

#[derive(Debug)]
struct Queue<T> {
    /// Runs next, in the time slice of the one before it (`runnext`).
    next: Option<T>,
    rest: VecDeque<T>,
}

impl<T> Queue<T> {
    fn put_last(&mut self, t: Option<T>) {
        if let Some(t) = t {
            memory::grow_ahead("the queue of an OS thread's goroutines", &mut self.rest, 1, AHEAD);
            self.rest.push_back(t);
        }
    }
}

impl<T> Default for Home<T> {
    /// Empty; the M is awake.
    fn default() -> Home<T> {
        Home {
            queue: Spinning::new(Queue { next: None, rest: VecDeque::new() }),
            len: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
        }
    }
}

impl<T> Home<T> {
    /// Puts one in: next, which sends who was next to the end, or at the end. True: the M may be asleep, and its note
    /// must be signalled.
    #[must_use]
    pub fn put(&self, t: T, next: bool) -> bool {
        let mut queue = self.queue.lock();
        let last = if next { queue.next.replace(t) } else { Some(t) };
        queue.put_last(last);
        self.len.fetch_add(1, Ordering::Relaxed);
        drop(queue);
        // ORDERING: pairs with the fence in `lie_down` (HM1).
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed)
    }

    /// Takes one out; whether it was the next one. Called by the M.
    pub fn take(&self) -> Option<(T, bool)> {
        if self.is_empty() {
            return None;
        }
        let mut queue = self.queue.lock();
        let got = match queue.next.take() {
            Some(t) => Some((t, true)),
            None => queue.rest.pop_front().map(|t| (t, false)),
        };
        self.len.fetch_sub(usize::from(got.is_some()), Ordering::Relaxed);
        got
    }

    /// Looks at all that are in it. Called by anybody.
    pub fn for_each(&self, f: impl FnMut(&T)) {
        let queue = self.queue.lock();
        queue.next.iter().chain(&queue.rest).for_each(f);
    }

    /// Sends who is next to the end: the time slice is over.
    pub fn demote(&self) {
        let mut queue = self.queue.lock();
        let next = queue.next.take();
        queue.put_last(next);
    }

    /// True if there was nobody at some moment.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // Relaxed: a hint, but for `lie_down`, which has the fence of HM1.
        self.len.load(Ordering::Relaxed) == 0
    }

    /// The M is about to sleep. False: there is somebody here.
    #[must_use]
    pub fn lie_down(&self) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        // ORDERING: pairs with the fence in `put` (HM1).
        fence(Ordering::SeqCst);
        self.is_empty()
    }

    /// The M is awake and has a P.
    pub fn get_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}
