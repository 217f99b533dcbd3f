//! A 4-ary min-heap of deadlines, any entry of which can be taken out by its key.
//!
//! Four children to a node, as in Go's timer heap: half the levels of a binary heap, and the children of a node
//! share a cache line or two. Equal deadlines come out in any order.
//!
//! ```text
//!   entries   | when, key | ...      the heap
//!   places    | index of the entry | ...      by key; of a free key: the next free one
//!   items     | item | ...      by key
//! ```
//!
//! An entry that makes room for another one has its new index written to `places`, a dense table: with a million timers
//! that is four bytes in a line that is shared with its neighbours, where a word in each displaced timer would be a
//! cache miss for each level. Entries are moved into a hole, not exchanged.

use super::clock::Nanos;
use std::collections::TryReserveError;

const ARITY: usize = 4;
const NO_KEY: u32 = u32::MAX;

/// Names an entry as long as it is in the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u32);

impl Key {
    /// Of no entry.
    pub const NONE: Key = Key(NO_KEY);
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    when: Nanos,
    key: u32,
}

/// The heap; see the module.
#[derive(Debug)]
pub struct Heap<T> {
    entries: Vec<Entry>,
    places: Vec<u32>,
    items: Vec<T>,
    free: u32,
}

impl<T: Copy> Heap<T> {
    /// An empty heap.
    pub const fn new() -> Heap<T> {
        Heap { entries: Vec::new(), places: Vec::new(), items: Vec::new(), free: NO_KEY }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The first deadline.
    #[inline]
    pub fn first(&self) -> Option<Nanos> {
        self.entries.first().map(|e| e.when)
    }

    /// What comes first.
    pub fn first_item(&self) -> Option<T> {
        self.entries.first().map(|e| self.items[e.key as usize])
    }

    /// The deadline of an entry.
    pub fn when(&self, Key(key): Key) -> Nanos {
        self.entries[self.places[key as usize] as usize].when
    }

    /// Room for `n` more entries.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    #[inline]
    pub fn reserve(&mut self, n: usize) -> Result<(), TryReserveError> {
        if self.entries.capacity() - self.entries.len() < n { self.grow(n) } else { Ok(()) }
    }

    #[cold]
    fn grow(&mut self, n: usize) -> Result<(), TryReserveError> {
        let room = (2 * self.entries.capacity()).max(self.entries.len() + n);
        // The entries last: where they have room, so have the others.
        self.items.try_reserve_exact(room - self.items.len())?;
        self.places.try_reserve_exact(room - self.places.len())?;
        self.entries.try_reserve_exact(room - self.entries.len())
    }

    /// Puts an entry in; its key.
    pub fn push(&mut self, when: Nanos, item: T) -> Key {
        let key = self.free;
        let key = if key == NO_KEY {
            let key = u32::try_from(self.items.len()).ok().filter(|k| *k != NO_KEY).expect("too many timers");
            self.items.push(item);
            self.places.push(0);
            key
        } else {
            self.free = self.places[key as usize];
            self.items[key as usize] = item;
            key
        };
        let at = self.entries.len();
        let entry = Entry { when, key };
        self.entries.push(entry);
        self.up(at, entry);
        Key(key)
    }

    /// Takes the first entry out if its deadline is not after `now`.
    pub fn pop_due(&mut self, now: Nanos) -> Option<T> {
        let first = self.entries.first()?;
        (first.when <= now).then_some(Key(first.key)).map(|key| self.remove(key))
    }

    /// Takes an entry out. Its key names nothing any more.
    pub fn remove(&mut self, Key(key): Key) -> T {
        let at = self.places[key as usize] as usize;
        debug_assert_eq!(self.entries[at].key, key, "the key names nothing");
        let last = self.entries.pop().expect("a key names an entry");
        if at < self.entries.len() {
            self.put(at, last);
        }
        self.places[key as usize] = self.free;
        self.free = key;
        self.items[key as usize]
    }

    /// Gives an entry another deadline.
    pub fn change(&mut self, Key(key): Key, when: Nanos) {
        let at = self.places[key as usize] as usize;
        debug_assert_eq!(self.entries[at].key, key, "the key names nothing");
        self.put(at, Entry { when, key });
    }

    /// Puts an entry into the hole at `at`, or where it belongs from there.
    fn put(&mut self, at: usize, entry: Entry) {
        if self.up(at, entry) == at {
            self.down(at, entry);
        }
    }

    /// Moves the hole at `at` up to where `entry` belongs, and puts it there.
    fn up(&mut self, mut at: usize, entry: Entry) -> usize {
        while at > 0 {
            let parent = (at - 1) / ARITY;
            let above = self.entries[parent];
            if above.when <= entry.when {
                break;
            }
            self.set(at, above);
            at = parent;
        }
        self.set(at, entry);
        at
    }

    /// As [`Heap::up`], down.
    fn down(&mut self, mut at: usize, entry: Entry) {
        loop {
            let first = at * ARITY + 1;
            let children = first..(first + ARITY).min(self.entries.len());
            let Some(least) = children.min_by_key(|&c| self.entries[c].when) else { break };
            let below = self.entries[least];
            if entry.when <= below.when {
                break;
            }
            self.set(at, below);
            at = least;
        }
        self.set(at, entry);
    }

    #[inline]
    fn set(&mut self, at: usize, entry: Entry) {
        self.entries[at] = entry;
        self.places[entry.key as usize] = at as u32;
    }
}

impl<T: Copy> Default for Heap<T> {
    fn default() -> Heap<T> {
        Heap::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_gives_what_a_sorted_list_gives(ops in proptest::collection::vec((0..4u8, 0..50u64), 1..400)) {
            let mut heap = Heap::new();
            // Deadline, item, key.
            let mut model: Vec<(u64, usize, Key)> = Vec::new();
            for (i, (op, n)) in ops.iter().enumerate() {
                match op {
                    0 => {
                        let key = heap.push(Nanos(*n), i);
                        prop_assert!(model.iter().all(|m| m.2 != key), "a key names two entries");
                        model.push((*n, i, key));
                    }
                    1 => {
                        let got = heap.pop_due(Nanos(*n));
                        let want = model.iter().map(|m| m.0).min().filter(|m| m <= n);
                        prop_assert_eq!(got.is_some(), want.is_some());
                        if let (Some(item), Some(want)) = (got, want) {
                            let k = model.iter().position(|m| m.1 == item).unwrap();
                            prop_assert_eq!(model.swap_remove(k).0, want);
                        }
                    }
                    2 if !model.is_empty() => {
                        let k = *n as usize % model.len();
                        heap.change(model[k].2, Nanos(*n * 7 % 50));
                        model[k].0 = *n * 7 % 50;
                    }
                    _ if !model.is_empty() => {
                        let (_, item, key) = model.swap_remove(*n as usize % model.len());
                        prop_assert_eq!(heap.remove(key), item);
                    }
                    _ => {}
                }
                prop_assert_eq!(heap.first().map(|n| n.0), model.iter().map(|m| m.0).min());
                prop_assert_eq!(heap.len(), model.len());
                for m in &model {
                    let at = heap.places[m.2.0 as usize] as usize;
                    prop_assert_eq!((heap.entries[at].when, heap.items[m.2.0 as usize]), (Nanos(m.0), m.1));
                }
            }
            // What is left comes out in order, and the keys were used again.
            prop_assert!(heap.items.len() <= ops.len());
            let mut last = Nanos(0);
            while let Some(first) = heap.first() {
                prop_assert!(first >= last);
                last = first;
                prop_assert!(heap.pop_due(Nanos::NEVER).is_some());
            }
        }
    }
}
