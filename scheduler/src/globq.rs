//! [`GlobQueue`]: the queue that all Ps share (Go's `sched.runq`): what comes from plain threads, what a local queue has no
//! room for, what was preempted.
//!
//! A ring under the short lock. All that goes in or out in numbers does so in one turn of it, and nobody who looks for
//! work takes it to find the queue empty. Whoever puts something in and wants it to be found by a sleeping M follows the
//! handshake of `idle`: the length is stored before its fence.
//!
//! **Rejected**: `crossbeam_deque::Injector`, a list of blocks. A million goroutines that are spawned at once have the C
//! library extend its heap for each few blocks, a page at a time, against the page faults of their stacks (their spawning
//! took 0.7 s, and takes 0.2 s); and a list through the Gs, as Go has it, which reads a line of each to take some out.

use crate::memory::{self, Short};
use crate::runq::Gp;
use crate::sync::Spinning;
use crate::sync::atomic::{AtomicUsize, Ordering};
use std::collections::VecDeque;

/// A ring that was once larger than this is given back when it is empty.
const KEPT: usize = 4096;

/// Room that is had before it is needed: two queues of Ps.
const AHEAD: usize = 256;
/// What a want of memory names.
const WHAT: &str = "the queue of runnable goroutines";

/// See the module.
#[derive(Debug)]
pub struct GlobQueue {
    ring: Spinning<VecDeque<Gp>>,
    /// Changed under the lock.
    len: AtomicUsize,
}

impl Default for GlobQueue {
    /// Empty.
    fn default() -> GlobQueue {
        GlobQueue { ring: Spinning::new(VecDeque::new()), len: AtomicUsize::new(0) }
    }
}

/// A ring with the room that is had before it is needed.
fn empty() -> Result<VecDeque<Gp>, Short> {
    let mut ring = VecDeque::new();
    ring.try_reserve(AHEAD).map_err(|_| Short::of(WHAT, AHEAD * size_of::<Gp>()))?;
    Ok(ring)
}

impl GlobQueue {
    /// Empty, with some room.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn with_room() -> Result<GlobQueue, Short> {
        Ok(GlobQueue { ring: Spinning::new(empty()?), len: AtomicUsize::new(0) })
    }

    /// Puts one at the end.
    pub fn push(&self, gp: Gp) {
        self.extend(std::iter::once(gp));
    }

    /// Puts some at the end, in their order.
    pub fn extend(&self, gps: impl Iterator<Item = Gp>) {
        let mut ring = self.ring.lock();
        if let (_, Some(most)) = gps.size_hint() {
            memory::grow_ahead(WHAT, &mut *ring, most, AHEAD);
            ring.extend(gps);
        } else {
            for gp in gps {
                memory::grow_ahead(WHAT, &mut *ring, 1, AHEAD);
                ring.push_back(gp);
            }
        }
        // Relaxed: a hint; for sleepers see the module.
        self.len.store(ring.len(), Ordering::Relaxed);
    }

    /// Takes up to `n` from the front; calls `f` with each, under the lock.
    pub fn take(&self, n: usize, f: impl FnMut(Gp)) {
        if self.is_empty() {
            return;
        }
        let mut ring = self.ring.lock();
        let n = n.min(ring.len());
        ring.drain(..n).for_each(f);
        self.len.store(ring.len(), Ordering::Relaxed);
        let idle = (ring.is_empty() && ring.capacity() > KEPT).then(empty).and_then(Result::ok);
        let idle = idle.map(|small| std::mem::replace(&mut *ring, small));
        drop(ring);
        drop(idle);
    }

    /// Takes out those that `f` is true for; the others stay, in their order. Under the lock, so that nobody finds the queue empty
    /// meanwhile.
    pub fn take_out(&self, f: impl Fn(&Gp) -> bool) -> Vec<Gp> {
        let mut out = Vec::new();
        let mut ring = self.ring.lock();
        for _ in 0..ring.len() {
            match ring.pop_front() {
                Some(gp) if f(&gp) => {
                    memory::grow(WHAT, &mut out, 1);
                    out.push(gp);
                }
                gp => ring.extend(gp),
            }
        }
        self.len.store(ring.len(), Ordering::Relaxed);
        out
    }

    /// How many there were at some moment.
    #[inline]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// True if there was nobody at some moment.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
