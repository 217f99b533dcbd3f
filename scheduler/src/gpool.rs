//! Where Gs come from and go: slabs that are never freed, free lists over them, and the walk over all of them
//! (Go's `allgs`, `gfget`, `gfput`).
//!
//! A P keeps some free Gs for itself; the rest are in one list under a short lock. Slabs form a list that only
//! grows, so [`for_each`] needs no lock.

use crate::g::G;
use crate::sync::Spinning;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Gs made at once.
const SLAB: usize = 64;
/// Free Gs that a P keeps, and the number it takes or gives at once.
const CACHE: usize = 64;
const BATCH: usize = CACHE / 2;

struct Slab {
    gs: [G; SLAB],
    next: *const Slab,
}

static SLABS: AtomicPtr<Slab> = AtomicPtr::new(std::ptr::null_mut());

/// A list through `schedlink`.
#[derive(Debug, Default)]
struct GList {
    head: Option<&'static G>,
    len: usize,
}

impl GList {
    fn push(&mut self, gp: &'static G) {
        gp.schedlink.set(self.head);
        self.head = Some(gp);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<&'static G> {
        let gp = self.head?;
        self.head = gp.schedlink.take();
        self.len -= 1;
        Some(gp)
    }
}

#[cfg(not(loom))]
static FREE: Spinning<GList> = Spinning::new(GList { head: None, len: 0 });

/// A P's own free Gs.
#[derive(Debug, Default)]
pub struct GCache {
    list: GList,
}

#[cfg(not(loom))]
impl GCache {
    /// A free G.
    #[inline]
    pub fn get(&mut self) -> &'static G {
        self.list.pop().unwrap_or_else(|| self.refill())
    }

    #[cold]
    fn refill(&mut self) -> &'static G {
        {
            let mut free = FREE.lock();
            for _ in 0..BATCH {
                let Some(gp) = free.pop() else { break };
                self.list.push(gp);
            }
        }
        if self.list.len == 0 {
            for gp in grow() {
                self.list.push(gp);
            }
        }
        self.list.pop().expect("just filled")
    }

    /// Takes an idle G.
    #[inline]
    pub fn put(&mut self, gp: &'static G) {
        self.list.push(gp);
        if self.list.len > CACHE {
            self.give(BATCH);
        }
    }

    #[cold]
    fn give(&mut self, n: usize) {
        let mut free = FREE.lock();
        for _ in 0..n {
            let Some(gp) = self.list.pop() else { break };
            free.push(gp);
        }
    }
}

#[cfg(not(loom))]
impl Drop for GCache {
    fn drop(&mut self) {
        self.give(usize::MAX);
    }
}

/// A free G for a caller without a P.
#[cfg(not(loom))]
pub fn get_shared() -> &'static G {
    if let Some(gp) = FREE.lock().pop() {
        return gp;
    }
    let mut fresh = grow();
    let gp = fresh.next().expect("a slab is not empty");
    let mut free = FREE.lock();
    fresh.for_each(|gp| free.push(gp));
    gp
}

/// Takes an idle G from a caller without a P.
#[cfg(not(loom))]
pub fn put_shared(gp: &'static G) {
    FREE.lock().push(gp);
}

/// A new slab's Gs, all idle.
fn grow() -> impl Iterator<Item = &'static G> {
    let slab = Box::leak(Box::new(Slab { gs: std::array::from_fn(|_| G::new()), next: std::ptr::null() }));
    let mut head = SLABS.load(Ordering::Relaxed);
    loop {
        slab.next = head;
        // ORDERING: Release, pairs with the Acquire in `for_each`; publishes the slab.
        match SLABS.compare_exchange(head, slab, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => break,
            Err(now) => head = now,
        }
    }
    let slab: &'static Slab = slab;
    slab.gs.iter()
}

/// Looks at every G that was ever made.
pub fn for_each(mut f: impl FnMut(&'static G)) {
    // ORDERING: Acquire, pairs with the Release in `grow`.
    let mut slab = SLABS.load(Ordering::Acquire) as *const Slab;
    // SAFETY: slabs are leaked, so every pointer of the list is valid for ever.
    while let Some(s) = unsafe { slab.as_ref() } {
        s.gs.iter().for_each(&mut f);
        slab = s.next;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_g_is_handed_out_once_and_seen_by_all() {
        let mut cache = GCache::default();
        let mut seen = HashSet::new();
        let gs: Vec<&'static G> = (0..5 * CACHE).map(|_| cache.get()).collect();
        for gp in &gs {
            assert!(seen.insert(std::ptr::from_ref(*gp)), "handed out twice");
        }
        let mut all = HashSet::new();
        for_each(|gp| {
            all.insert(std::ptr::from_ref(gp));
        });
        assert!(seen.is_subset(&all));
        gs.into_iter().for_each(|gp| cache.put(gp));
        assert!(cache.list.len <= CACHE + 1);
    }
}
