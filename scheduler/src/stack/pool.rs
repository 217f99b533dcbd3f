//! Free stacks: a hot cache per P, and a shared depot per size class behind it.
//!
//! Last in, first out, and left untouched: the stack that was used last is warm in this core's cache, so goroutines
//! that run to completion one after another use one stack. Stacks of more than [`CACHED`]'s classes are rare and go
//! straight to the depot. What lies in a depot for long goes back to the kernel (`scavenge`).
//!
//! The cache also holds admissions (`arena`, A1) that it has taken in advance, one for each goroutine that will be
//! spawned here, or that has ended here. Where address space or memory is limited an idle P keeps neither
//! ([`StackCache::go_idle`]).
//!
//! All of this runs on g0, except [`StackCache::admit_cached`].

use super::Stack;
use super::arena;
use super::class::{CLASSES, slot_size};
use super::mapping;
use super::scavenge;
use crate::memory::{self, List};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;

/// Classes whose stacks a P keeps for itself: up to 512 KiB.
const CACHED: usize = 3;
/// Stacks that a P makes at once, at most.
const BATCH: usize = 64;
/// Of the stacks that a P has taken so far, the part that it takes in advance when it needs another one.
const AHEAD: usize = 8;

/// The shared free stacks of a class, with their pages.
struct Depot {
    /// Last used at the back.
    free: VecDeque<Stack>,
    /// The fewest that were in it since [`mark`]: so many at the front nobody has needed.
    low: usize,
}

static DEPOTS: [Mutex<Depot>; CLASSES] =
    [const { Mutex::new(Depot { free: VecDeque::new(), low: 0 }) }; CLASSES];

impl Depot {
    fn pop_into(&mut self, stacks: &mut Vec<Stack>, n: usize) {
        let keep = self.free.len().saturating_sub(n);
        room_for(stacks, self.free.len() - keep);
        stacks.extend(self.free.drain(keep..));
        self.low = self.low.min(keep);
    }
}

/// Stacks that stay in the depot however long nobody needs them: about a megabyte's.
const fn reserve(class: u8) -> usize {
    if class == 0 { 256 } else { 0 }
}

/// Takes up to `n` stacks out of the depot that nobody has needed since [`mark`].
pub(super) fn take_idle(class: u8, n: usize) -> Vec<Stack> {
    let mut depot = DEPOTS[class as usize].lock();
    let n = depot.low.saturating_sub(reserve(class)).min(n);
    let mut idle = Vec::new();
    if idle.try_reserve_exact(n).is_err() {
        return idle;
    }
    depot.low -= n;
    idle.extend(depot.free.drain(..n));
    idle
}

/// Takes the stack that was used last, for a caller without a cache.
pub(super) fn take_one(class: u8) -> Option<Stack> {
    let mut one = Vec::new();
    DEPOTS[class as usize].lock().pop_into(&mut one, 1);
    one.pop()
}

/// Begins a new period for [`take_idle`]. True if there are stacks that may turn out to be idle.
pub(super) fn mark(class: u8) -> bool {
    let mut depot = DEPOTS[class as usize].lock();
    depot.low = depot.free.len();
    depot.low > reserve(class)
}

/// What a want of memory names.
const WHAT: &str = "the lists of free stacks";
/// Stacks that a list of them has room for before it needs it.
const SPARE: usize = 15;

/// A list of stacks can take so many more.
fn room_for(list: &mut impl List, n: usize) {
    memory::grow_ahead(WHAT, list, n, SPARE);
}

fn give(class: u8, stacks: impl ExactSizeIterator<Item = Stack>) {
    if stacks.len() == 0 {
        return;
    }
    let mut depot = DEPOTS[class as usize].lock();
    room_for(&mut depot.free, stacks.len());
    depot.free.extend(stacks);
    let many = depot.free.len() > reserve(class);
    drop(depot);
    if many {
        scavenge::wake();
    }
}

/// Lets a goroutine have a stack of this class, for a caller without a P. Not on a goroutine's stack.
///
/// # Errors
///
/// As [`arena::admit`].
pub fn admit_shared(class: u8) -> io::Result<()> {
    arena::admit(class, 1)
}

/// Takes a stack back that no G is bound to, from a caller without a P. Not on a goroutine's stack.
pub fn put_shared(stack: Stack) {
    give(stack.class(), std::iter::once(stack));
}

/// Takes an admission back from a goroutine that never ran, for a caller without a P. Not on a goroutine's stack.
pub fn dismiss_shared(class: u8) {
    arena::dismiss(class, 1);
}

/// Free stacks of one class, with their pages, last used last.
#[derive(Debug, Default)]
struct Hot {
    stacks: Vec<Stack>,
    /// How many it may keep; looked up anew whenever they are reached.
    limit: usize,
    /// Stacks that came from the depot and are not in the processor's cache: so many are fetched ahead.
    cold: usize,
}

impl Hot {
    #[inline]
    fn pop(&mut self) -> Option<Stack> {
        let stack = self.stacks.pop()?;
        if self.cold > 0 {
            self.cold -= 1;
            if let Some(next) = self.stacks.last() {
                next.prefetch();
            }
        }
        Some(stack)
    }
}

/// Admissions taken in advance.
#[derive(Clone, Copy, Debug, Default)]
struct Admissions {
    n: usize,
    /// How many are taken at once, and kept; looked up anew whenever some are taken.
    limit: usize,
}

/// A P's hot stacks and admissions.
#[derive(Debug)]
pub struct StackCache {
    /// The stack of class 0 that was used last, apart from the others: goroutines that run to completion one after another
    /// need no more than this.
    top: Option<Stack>,
    hot: [Hot; CACHED],
    admissions: [Admissions; CLASSES],
    /// Stacks that were made for this cache.
    made: usize,
    /// It is counted among the caches that may need room (`arena`).
    counted: bool,
}

impl StackCache {
    /// An empty one.
    pub fn new() -> StackCache {
        arena::cache_begins();
        StackCache {
            top: None,
            hot: Default::default(),
            admissions: Default::default(),
            made: 0,
            counted: true,
        }
    }

    /// Lets a goroutine have a stack of this class, if that takes no call to the kernel. On any stack.
    #[inline]
    pub fn admit_cached(&mut self, class: u8) -> bool {
        let n = &mut self.admissions[class as usize].n;
        let ok = *n > 0;
        *n -= usize::from(ok);
        ok
    }

    /// Lets a goroutine have a stack of this class.
    ///
    /// # Errors
    ///
    /// As [`arena::admit`].
    pub fn admit(&mut self, class: u8) -> io::Result<()> {
        if self.admit_cached(class) {
            return Ok(());
        }
        arena::admit(class, 1)?;
        let keeps = (class as usize) < CACHED && !arena::is_scarce();
        let limit = if keeps { arena::cache_limit(class) } else { 0 };
        let ahead = if arena::admit(class, limit).is_ok() { limit } else { 0 };
        self.admissions[class as usize] = Admissions { n: ahead, limit };
        Ok(())
    }

    /// Takes an admission back, from a goroutine that has ended.
    #[inline]
    pub fn dismiss(&mut self, class: u8) {
        let own = &mut self.admissions[class as usize];
        own.n += 1;
        if own.n > 2 * own.limit || arena::is_scarce() {
            let keep = if arena::is_scarce() { 0 } else { own.limit };
            self.give_admissions(class, keep);
        }
    }

    #[cold]
    fn give_admissions(&mut self, class: u8, keep: usize) {
        let n = &mut self.admissions[class as usize].n;
        if *n > keep {
            arena::dismiss(class, *n - keep);
            *n = keep;
        }
    }

    /// The P is about to be idle: what others may need is not kept.
    #[inline]
    pub fn go_idle(&mut self) {
        if arena::is_tight() {
            self.give_all();
        }
    }

    /// Gives back all that it keeps, for others.
    #[cold]
    pub fn give_all(&mut self) {
        if let Some(top) = self.top.take() {
            give(0, std::iter::once(top));
        }
        for (class, hot) in self.hot.iter_mut().enumerate() {
            give(class as u8, hot.stacks.drain(..));
        }
        for class in 0..CLASSES as u8 {
            self.give_admissions(class, 0);
        }
    }

    /// A free stack of this class, for a goroutine that was admitted: hot, from the depot, or new.
    ///
    /// # Errors
    ///
    /// As [`arena::take`].
    #[inline]
    pub fn get(&mut self, class: u8) -> io::Result<Stack> {
        if class == 0
            && let Some(stack) = self.top.take()
        {
            return Ok(stack);
        }
        match self.hot.get_mut(class as usize).and_then(Hot::pop) {
            Some(stack) => Ok(stack),
            None => self.refill(class),
        }
    }

    #[cold]
    fn refill(&mut self, class: u8) -> io::Result<Stack> {
        let limit = arena::cache_limit(class).max(1);
        let mut none = Hot::default();
        let (hot, room) = match self.hot.get_mut(class as usize) {
            Some(hot) => (hot, limit),
            None => (&mut none, 1),
        };
        let mut from_depot = || {
            DEPOTS[class as usize].lock().pop_into(&mut hot.stacks, room.div_ceil(2));
            hot.cold = hot.stacks.len();
            hot.pop()
        };
        if let Some(stack) = from_depot() {
            return Ok(stack);
        }
        let ahead = (self.made / AHEAD).clamp(1, room.min(BATCH));
        let slot = slot_size(class);
        let span = match arena::take(class, ahead, from_depot)? {
            arena::Found::Slots(span) => span,
            arena::Found::Stack(stack) => return Ok(stack),
        };
        if span.len() > slot {
            mapping::populate(&span, slot);
        }
        room_for(&mut hot.stacks, span.len() / slot);
        hot.stacks.extend(span.step_by(slot).map(|start| Stack::new(class, start)));
        self.made += hot.stacks.len();
        Ok(hot.stacks.pop().expect("a slot was taken"))
    }

    /// Takes a stack back that no G is bound to.
    #[inline]
    pub fn put(&mut self, stack: Stack) {
        let mut stack = stack;
        let class = stack.class();
        if class == 0 {
            match self.top.replace(stack) {
                None => return,
                Some(last) => stack = last,
            }
        }
        match self.hot.get_mut(class as usize) {
            Some(hot) if hot.stacks.len() < hot.limit => hot.stacks.push(stack),
            _ => self.put_many(stack),
        }
    }

    /// [`StackCache::put`] when there may be too many.
    #[cold]
    fn put_many(&mut self, stack: Stack) {
        let class = stack.class();
        let Some(hot) = self.hot.get_mut(class as usize) else {
            return give(class, std::iter::once(stack));
        };
        let limit = arena::cache_limit(class);
        let more = limit.saturating_sub(hot.stacks.len());
        memory::grow_ahead(WHAT, &mut hot.stacks, 1, more);
        // Up to its limit `put` does not ask.
        hot.limit = limit.min(hot.stacks.capacity());
        hot.stacks.push(stack);
        if hot.stacks.len() > hot.limit {
            let surplus = hot.stacks.len() - hot.limit / 2;
            give(class, hot.stacks.drain(..surplus));
        }
    }

    /// Gives back all that it keeps, and the room that is kept for it. It is not to be used any more.
    pub fn end(&mut self) {
        if self.counted {
            self.counted = false;
            self.give_all();
            arena::cache_ends();
        }
    }
}

impl Drop for StackCache {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn get(cache: &mut StackCache, class: u8) -> Stack {
        cache.admit(class).unwrap();
        cache.get(class).unwrap()
    }

    fn put(cache: &mut StackCache, stack: Stack) {
        // Asked first: what is given back may lose its contents at once.
        let class = stack.class();
        cache.put(stack);
        cache.dismiss(class);
    }

    #[test]
    fn a_stack_is_handed_out_once_and_comes_back_warm() {
        let mut cache = StackCache::new();
        let held: Vec<Stack> = (0..200).map(|_| get(&mut cache, 0)).collect();
        let last = *held.last().unwrap();
        held.into_iter().for_each(|s| put(&mut cache, s));
        assert!(cache.hot[0].stacks.len() <= cache.hot[0].limit);
        assert_eq!(get(&mut cache, 0), last);
        put(&mut cache, last);
    }

    #[test]
    fn large_stacks_are_pooled_apart() {
        let mut cache = StackCache::new();
        for class in [1, 3, 6] {
            let big = get(&mut cache, class);
            put(&mut cache, big);
            let small = get(&mut cache, 0);
            assert_ne!(small, big);
            put(&mut cache, small);
            let again = get(&mut cache, class);
            // A stack that the cache does not keep may have gone to another test, or back to the kernel.
            assert!(again == big || class as usize >= CACHED);
            assert_eq!(again.class(), class);
            put(&mut cache, again);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        /// Two Ps' caches that take and give stacks of mixed classes, with the scavenger in between.
        #[test]
        fn no_stack_is_handed_out_twice_and_all_come_back(
            steps in prop::collection::vec((0usize..2, 0u8..6, 1usize..40), 1..60)
        ) {
            let mut caches = [StackCache::new(), StackCache::new()];
            let mut held: Vec<Stack> = Vec::new();
            let mut out: HashSet<Stack> = HashSet::new();
            for (which, what, n) in steps {
                let cache = &mut caches[which];
                match what {
                    class @ 0..4 => for _ in 0..n {
                        let stack = get(cache, class);
                        prop_assert_eq!(stack.class(), class);
                        prop_assert!(out.insert(stack), "handed out twice");
                        held.push(stack);
                    },
                    4 => for stack in held.drain(held.len().saturating_sub(n)..) {
                        out.remove(&stack);
                        put(cache, stack);
                    },
                    _ => {
                        scavenge::marks();
                        scavenge::round();
                    }
                }
            }
            for stack in held {
                put(&mut caches[0], stack);
            }
        }
    }
}
