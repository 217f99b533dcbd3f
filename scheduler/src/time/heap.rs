//! A 4-ary min-heap of deadlines whose entries know their place, so that any of them can be taken out.
//!
//! Four children to a node, as in Go's timer heap: half the levels of a binary heap, and the children of a node
//! share a cache line or two. Equal deadlines come out in any order.

use super::clock::Nanos;

const ARITY: usize = 4;

/// An entry that is told where it lies.
pub trait Indexed: Copy {
    /// It lies at this index now; `None`: it has left the heap.
    fn moved(self, index: Option<usize>);
}

/// The heap; see the module.
#[derive(Debug)]
pub struct Heap<T> {
    entries: Vec<(Nanos, T)>,
}

impl<T: Indexed> Heap<T> {
    /// An empty heap.
    pub const fn new() -> Heap<T> {
        Heap { entries: Vec::new() }
    }

    /// The first deadline.
    pub fn first(&self) -> Option<Nanos> {
        self.entries.first().map(|e| e.0)
    }

    /// Puts an entry in.
    pub fn push(&mut self, when: Nanos, entry: T) {
        self.entries.push((when, entry));
        self.up(self.entries.len() - 1);
    }

    /// Takes the first entry out if its deadline is not after `now`.
    pub fn pop_due(&mut self, now: Nanos) -> Option<T> {
        (self.first()? <= now).then(|| self.remove(0))
    }

    /// Takes out the entry at this index.
    pub fn remove(&mut self, index: usize) -> T {
        let (_, entry) = self.entries.swap_remove(index);
        entry.moved(None);
        if index < self.entries.len() {
            // What was last may belong further up or further down from here.
            if !self.up(index) {
                self.down(index);
            }
        }
        entry
    }

    /// Moves an entry up to where it belongs. True if it moved.
    fn up(&mut self, mut at: usize) -> bool {
        let start = at;
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if self.entries[parent].0 <= self.entries[at].0 {
                break;
            }
            self.entries.swap(parent, at);
            self.tell(at);
            at = parent;
        }
        self.tell(at);
        at != start
    }

    fn down(&mut self, mut at: usize) {
        loop {
            let children = at * ARITY + 1..(at * ARITY + 1 + ARITY).min(self.entries.len());
            let Some(least) = children.min_by_key(|&c| self.entries[c].0) else { break };
            if self.entries[at].0 <= self.entries[least].0 {
                break;
            }
            self.entries.swap(at, least);
            self.tell(at);
            at = least;
        }
        self.tell(at);
    }

    fn tell(&self, index: usize) {
        self.entries[index].1.moved(Some(index));
    }
}

impl<T: Indexed> Default for Heap<T> {
    fn default() -> Heap<T> {
        Heap::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    #[derive(Clone, Copy)]
    struct E<'a>(&'a Cell<Option<usize>>);

    impl Indexed for E<'_> {
        fn moved(self, index: Option<usize>) {
            self.0.set(index);
        }
    }

    proptest! {
        #[test]
        fn it_gives_what_a_sorted_list_gives(ops in proptest::collection::vec((0..3u8, 0..50u64), 1..300)) {
            let places: Vec<Cell<Option<usize>>> = ops.iter().map(|_| Cell::new(None)).collect();
            let mut heap = Heap::new();
            let mut model: Vec<(u64, usize)> = Vec::new();
            for (i, (op, n)) in ops.iter().enumerate() {
                match op {
                    0 => {
                        heap.push(Nanos(*n), E(&places[i]));
                        model.push((*n, i));
                    }
                    1 => {
                        let got = heap.pop_due(Nanos(*n)).map(|e| std::ptr::from_ref(e.0));
                        let want = model.iter().map(|m| m.0).min().filter(|m| m <= n);
                        match (got, want) {
                            (None, None) => {}
                            (Some(p), Some(want)) => {
                                let k = model.iter().position(|m| std::ptr::eq(&places[m.1], p)).unwrap();
                                prop_assert_eq!(model.remove(k).0, want);
                            }
                            _ => prop_assert!(false, "one of the two is empty"),
                        }
                    }
                    _ => if !model.is_empty() {
                        let (_, k) = model.swap_remove(*n as usize % model.len());
                        heap.remove(places[k].get().unwrap());
                        prop_assert!(places[k].get().is_none());
                    }
                }
                prop_assert_eq!(heap.first().map(|n| n.0), model.iter().map(|m| m.0).min());
                for m in &model {
                    prop_assert_eq!(heap.entries[places[m.1].get().unwrap()].0, Nanos(m.0));
                }
            }
        }
    }
}
