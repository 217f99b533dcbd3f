//! Where Gs come from and go: slabs that are never freed, free lists over them, and the walk over all of them
//! (Go's `allgs`, `gfget`, `gfput`).
//!
//! A P keeps some free Gs for itself; the rest are in one list under a short lock. Slabs form a list that only
//! grows, so [`for_each`] needs no lock. Each slab is as large as all before it together, up to [`LARGEST`], and its Gs are
//! made a few at a time: small allocations in great numbers would have the C library extend its heap page by page, under
//! the lock of the address space, which the page faults of new stacks need as well.

use crate::g::G;
use crate::sync::{Spinning, per_process};
use std::alloc::{Layout, alloc, handle_alloc_error};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Gs of the first slab and of the largest ones (6 MiB).
const SMALLEST: usize = 64;
const LARGEST: usize = 1 << 15;
/// Free Gs that a P keeps, and the number it takes or gives at once, and that is made at once.
const CACHE: usize = 64;
const BATCH: usize = CACHE / 2;

/// The memory of some Gs, the first `len` of which are made.
struct Slab {
    gs: *mut G,
    cap: usize,
    /// Changed under the lock of [`FREE`].
    len: AtomicUsize,
    next: *const Slab,
}

// SAFETY: the Gs up to `len` are `Sync`; those beyond are touched under the lock of `FREE` only.
unsafe impl Sync for Slab {}

per_process! {
    static SLABS: AtomicPtr<Slab> = AtomicPtr::new(std::ptr::null_mut());
}

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

/// The shared free Gs.
struct Free {
    list: GList,
    /// The slab that is not used up.
    slab: Option<&'static Slab>,
}

per_process! {
    static FREE: Spinning<Free> = Spinning::new(Free { list: GList { head: None, len: 0 }, slab: None });
}

impl Free {
    /// A free G, a new one if need be.
    fn pop(&mut self) -> &'static G {
        if self.list.len == 0 {
            self.grow();
        }
        self.list.pop().expect("some were just made")
    }

    /// Makes some Gs.
    #[cold]
    fn grow(&mut self) {
        let slab = match self.slab {
            Some(slab) if slab.len.load(Ordering::Relaxed) < slab.cap => slab,
            _ => self.new_slab(),
        };
        let len = slab.len.load(Ordering::Relaxed);
        for i in len..(len + BATCH).min(slab.cap) {
            // SAFETY: within the slab, whose G at this place is not made yet; it is never freed.
            unsafe {
                let gp = slab.gs.add(i);
                gp.write(G::new());
                self.list.push(&*gp);
            }
            // ORDERING: Release, pairs with the Acquire in `for_each`; publishes the G.
            slab.len.store(i + 1, Ordering::Release);
        }
    }

    fn new_slab(&mut self) -> &'static Slab {
        let cap = self.slab.map_or(SMALLEST, |last| (2 * last.cap).min(LARGEST));
        let layout = Layout::array::<G>(cap).expect("a slab of bounded size");
        // SAFETY: the layout is not empty.
        let gs = unsafe { alloc(layout) }.cast::<G>();
        if gs.is_null() {
            handle_alloc_error(layout);
        }
        let next = SLABS.load(Ordering::Relaxed);
        let slab: &'static Slab = Box::leak(Box::new(Slab { gs, cap, len: AtomicUsize::new(0), next }));
        // ORDERING: Release, pairs with the Acquire in `for_each`; publishes the slab. Only the holder of the lock stores.
        SLABS.store(std::ptr::from_ref(slab).cast_mut(), Ordering::Release);
        self.slab = Some(slab);
        slab
    }
}

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
        let mut free = FREE.lock();
        for _ in 1..BATCH {
            self.list.push(free.pop());
        }
        free.pop()
    }

    /// Takes an idle G.
    #[inline]
    pub fn put(&mut self, gp: &'static G) {
        self.list.push(gp);
        if self.list.len > CACHE {
            self.give(BATCH);
        }
    }

    /// Gives all of them back, for others.
    pub fn give_all(&mut self) {
        self.give(usize::MAX);
    }

    #[cold]
    fn give(&mut self, n: usize) {
        let mut free = FREE.lock();
        for _ in 0..n {
            let Some(gp) = self.list.pop() else { break };
            free.list.push(gp);
        }
    }
}

#[cfg(not(loom))]
impl Drop for GCache {
    fn drop(&mut self) {
        self.give_all();
    }
}

/// A free G for a caller without a P.
#[cfg(not(loom))]
pub fn get_shared() -> &'static G {
    FREE.lock().pop()
}

/// Takes an idle G from a caller without a P.
#[cfg(not(loom))]
pub fn put_shared(gp: &'static G) {
    FREE.lock().list.push(gp);
}

/// Looks at every G that was ever made.
pub fn for_each(mut f: impl FnMut(&'static G)) {
    // ORDERING: Acquire, pairs with the Release in `new_slab`.
    let mut slab = SLABS.load(Ordering::Acquire) as *const Slab;
    // SAFETY: slabs are leaked, so every pointer of the list is valid for ever.
    while let Some(s) = unsafe { slab.as_ref() } {
        // ORDERING: Acquire, pairs with the Release in `grow`.
        let made = s.len.load(Ordering::Acquire);
        // SAFETY: so many Gs of the slab are made, and never freed.
        unsafe { std::slice::from_raw_parts(s.gs, made) }.iter().for_each(&mut f);
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
