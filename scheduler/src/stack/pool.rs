//! Free stacks: a hot cache per P, and a shared depot per size class behind it.
//!
//! Last in, first out, and left untouched: the stack that was used last is warm in this core's cache, so goroutines
//! that run to completion one after another use one stack. Only the smallest class is cached per P; larger stacks
//! are rare and go straight to the depot. All of this runs on g0.

use super::Stack;
use super::arena::CLASSES;
use parking_lot::Mutex;
use std::io;

/// Stacks that a P keeps for itself, and half of which it gives away when it has too many.
const CACHE: usize = 64;

static DEPOT: [Mutex<Vec<Stack>>; CLASSES] = [const { Mutex::new(Vec::new()) }; CLASSES];

/// A P's hot stacks of the smallest class.
#[derive(Debug, Default)]
pub struct StackCache {
    stacks: Vec<Stack>,
}

impl StackCache {
    /// A free stack of this class: hot, from the depot, or new.
    ///
    /// # Errors
    ///
    /// As [`Stack::new`].
    pub fn get(&mut self, class: u8) -> io::Result<Stack> {
        if class == 0 {
            if let Some(s) = self.stacks.pop() {
                return Ok(s);
            }
            let mut depot = DEPOT[0].lock();
            let keep = depot.len().saturating_sub(CACHE / 2);
            self.stacks.extend(depot.drain(keep..));
            drop(depot);
            return self.stacks.pop().map_or_else(|| Stack::new(0), Ok);
        }
        let free = DEPOT[class as usize].lock().pop();
        free.map_or_else(|| Stack::new(class), Ok)
    }

    /// Takes a stack back that no G is bound to.
    pub fn put(&mut self, stack: Stack) {
        if stack.class() != 0 {
            DEPOT[stack.class() as usize].lock().push(stack);
            return;
        }
        if self.stacks.len() >= CACHE {
            DEPOT[0].lock().extend(self.stacks.drain(..CACHE / 2));
        }
        self.stacks.push(stack);
    }
}

impl Drop for StackCache {
    fn drop(&mut self) {
        DEPOT[0].lock().append(&mut self.stacks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_handed_out_once_and_comes_back_warm() {
        let mut cache = StackCache::default();
        let held: Vec<Stack> = (0..3 * CACHE).map(|_| cache.get(0).unwrap()).collect();
        for (i, s) in held.iter().enumerate() {
            assert!(!held[..i].contains(s), "handed out twice");
        }
        let last = *held.last().unwrap();
        held.into_iter().for_each(|s| cache.put(s));
        assert!(cache.stacks.len() <= CACHE);
        assert_eq!(cache.get(0).unwrap(), last);
        cache.put(last);
    }

    #[test]
    fn large_stacks_are_pooled_apart() {
        let mut cache = StackCache::default();
        let big = cache.get(3).unwrap();
        cache.put(big);
        assert_ne!(cache.get(0).unwrap(), big);
        assert_eq!(cache.get(3).unwrap(), big);
    }
}
