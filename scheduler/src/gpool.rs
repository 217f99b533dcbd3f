//! Where Gs come from and go: slabs that are never freed, free lists over them, and the walk over all of them
//! (Go's `allgs`, `gfget`, `gfput`).
//!
//! A P keeps some free Gs for itself; the rest are in one list of batches under a short lock. Both are arrays: who links the Gs
//! to each other instead waits for each line of theirs that is in another processor's cache, one after the other, to find the
//! next.
//!
//! Slabs form a list that only grows, so [`for_each`] needs no lock. Each slab is as large as all before it together, up to
//! [`LARGEST`], and its Gs are made a few at a time: small allocations in great numbers would have the C library extend its
//! heap page by page, under the lock of the address space, which the page faults of new stacks need as well.

use crate::g::G;
use crate::memory::{self, Short};
use crate::sync::{Spinning, per_process};
use std::alloc::{Layout, alloc, dealloc};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Gs of the first slab and of the largest ones (6 MiB).
const SMALLEST: usize = 64;
const LARGEST: usize = 1 << 15;
/// Free Gs that a P keeps, and the number it takes or gives at once, and that is made at once.
const CACHE: usize = 64;
const BATCH: usize = CACHE / 2;
const _: () = assert!(
    SMALLEST.is_multiple_of(BATCH) && LARGEST.is_multiple_of(BATCH),
    "a slab has room for whole batches"
);
/// What a refusal names.
const WHAT: &str = "another goroutine";
/// Gs that are fetched ahead of their use.
const AHEAD: usize = 3;

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

type Batch = [&'static G; BATCH];

/// The shared free Gs. There is always room for all of them: who gives some back allocates nothing.
struct Free {
    batches: Vec<Batch>,
    /// Fewer than a batch.
    few: Vec<&'static G>,
    /// The slab that is not used up.
    slab: Option<&'static Slab>,
    /// Gs in all slabs, made or not.
    cap: usize,
}

per_process! {
    static FREE: Spinning<Free> = Spinning::new(Free { batches: Vec::new(), few: Vec::new(), slab: None, cap: 0 });
}

impl Free {
    /// Some free Gs, new ones if need be.
    fn take(&mut self) -> Result<Batch, Short> {
        match self.batches.pop() {
            Some(batch) => Ok(batch),
            None => self.grow(),
        }
    }

    /// A free G.
    fn take_one(&mut self) -> Result<&'static G, Short> {
        if self.few.is_empty() {
            let batch = self.take()?;
            self.few.extend(batch);
        }
        Ok(self.few.pop().expect("a batch has some"))
    }

    fn put_one(&mut self, gp: &'static G) {
        self.few.push(gp);
        if let Ok(batch) = Batch::try_from(&self.few[..]) {
            self.batches.push(batch);
            self.few.clear();
        }
    }

    /// Makes some Gs.
    #[cold]
    fn grow(&mut self) -> Result<Batch, Short> {
        let slab = match self.slab {
            Some(slab) if slab.len.load(Ordering::Relaxed) < slab.cap => slab,
            _ => self.new_slab()?,
        };
        let len = slab.len.load(Ordering::Relaxed);
        Ok(std::array::from_fn(|i| {
            // SAFETY: within the slab, which has room for whole batches. Its G at this place is not made yet; it is never freed.
            let gp = unsafe {
                let gp = slab.gs.add(len + i);
                gp.write(G::new());
                &*gp
            };
            // ORDERING: Release, pairs with the Acquire in `for_each`; publishes the G.
            slab.len.store(len + i + 1, Ordering::Release);
            gp
        }))
    }

    fn new_slab(&mut self) -> Result<&'static Slab, Short> {
        let cap = self.slab.map_or(SMALLEST, |last| (2 * last.cap).min(LARGEST));
        let layout = Layout::array::<G>(cap).expect("a slab of bounded size");
        let short = Short::of(WHAT, layout.size());
        let batches = (self.cap + cap) / BATCH;
        self.batches.try_reserve(batches - self.batches.len()).map_err(|_| short)?;
        self.few.try_reserve(BATCH).map_err(|_| short)?;
        // SAFETY: the layout is not empty.
        let gs = unsafe { alloc(layout) }.cast::<G>();
        if gs.is_null() {
            return Err(short);
        }
        let next = SLABS.load(Ordering::Relaxed);
        let slab = match memory::try_box(WHAT, Slab { gs, cap, len: AtomicUsize::new(0), next }) {
            Ok(slab) => Box::leak(slab),
            Err((short, _)) => {
                // SAFETY: allocated above with this layout, and nobody has it.
                unsafe { dealloc(gs.cast(), layout) };
                return Err(short);
            }
        };
        self.cap += cap;
        // ORDERING: Release, pairs with the Acquire in `for_each`; publishes the slab. Only the holder of the lock stores.
        SLABS.store(std::ptr::from_ref(slab).cast_mut(), Ordering::Release);
        self.slab = Some(slab);
        Ok(slab)
    }
}

/// A P's own free Gs: the last that came goes first.
#[derive(Debug)]
pub struct GCache {
    gs: [Option<&'static G>; CACHE],
    len: usize,
    /// So many of the first were last used by others.
    cold: usize,
}

impl Default for GCache {
    fn default() -> GCache {
        GCache { gs: [None; CACHE], len: 0, cold: 0 }
    }
}

#[cfg(not(loom))]
impl GCache {
    /// A free G.
    ///
    /// # Errors
    ///
    /// When there is no memory for more of them.
    #[inline]
    pub fn get(&mut self) -> Result<&'static G, Short> {
        if self.len == 0 {
            self.refill()?;
        }
        self.len -= 1;
        if self.len < self.cold + AHEAD && self.cold > 0 {
            self.fetch(1);
        }
        Ok(self.gs[self.len].expect("there are so many"))
    }

    /// Has the processor fetch the next Gs that were used by others: each would be a wait for another processor's cache.
    fn fetch(&mut self, n: usize) {
        for gp in self.gs[self.cold - n..self.cold].iter().flatten() {
            gp.prefetch_all();
        }
        self.cold -= n;
    }

    #[cold]
    fn refill(&mut self) -> Result<(), Short> {
        // More goroutines need more room in queues, too.
        memory::check(WHAT)?;
        let batch = FREE.lock().take()?;
        for (place, gp) in self.gs.iter_mut().zip(batch) {
            *place = Some(gp);
        }
        (self.len, self.cold) = (BATCH, BATCH);
        self.fetch(AHEAD);
        Ok(())
    }

    /// Takes an idle G.
    #[inline]
    pub fn put(&mut self, gp: &'static G) {
        if self.len == CACHE {
            self.give();
        }
        self.gs[self.len] = Some(gp);
        self.len += 1;
    }

    /// Gives those that have not been used for longest to others.
    #[cold]
    fn give(&mut self) {
        let batch: Batch = std::array::from_fn(|i| self.gs[i].expect("there are so many"));
        self.gs.copy_within(BATCH.., 0);
        self.len -= BATCH;
        self.cold = self.cold.saturating_sub(BATCH);
        FREE.lock().batches.push(batch);
    }

    /// Gives all of them back, for others.
    pub fn give_all(&mut self) {
        let mut free = FREE.lock();
        self.gs[..self.len].iter().flatten().for_each(|gp| free.put_one(gp));
        (self.len, self.cold) = (0, 0);
    }
}

#[cfg(not(loom))]
impl Drop for GCache {
    fn drop(&mut self) {
        self.give_all();
    }
}

/// A free G for a caller without a P.
///
/// # Errors
///
/// When there is no memory for more of them.
#[cfg(not(loom))]
pub fn get_shared() -> Result<&'static G, Short> {
    memory::check(WHAT)?;
    FREE.lock().take_one()
}

/// Takes an idle G from a caller without a P.
#[cfg(not(loom))]
pub fn put_shared(gp: &'static G) {
    FREE.lock().put_one(gp);
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
        let gs: Vec<&'static G> = (0..5 * CACHE).map(|_| cache.get().unwrap()).collect();
        for gp in &gs {
            assert!(seen.insert(std::ptr::from_ref(*gp)), "handed out twice");
        }
        let mut all = HashSet::new();
        for_each(|gp| {
            all.insert(std::ptr::from_ref(gp));
        });
        assert!(seen.is_subset(&all));
        gs.into_iter().for_each(|gp| cache.put(gp));
        assert!(cache.len <= CACHE);
    }
}
