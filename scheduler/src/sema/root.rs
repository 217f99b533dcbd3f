//! [`SemaRoot`]: the waits of one bucket of the table, by address (Go's `semaRoot`).
//!
//! The waits at one address are a ring, first come, first served; its first one, the **head**, stands for the address in a
//! search tree. Everything within a ring is O(1). Go keeps its tree balanced by chance (a treap); here the keys are
//! addresses that were mixed well, so a tree that branches on their bits (a digital search tree) is balanced by itself, needs no
//! rotations, and is never deeper than a key has bits:
//!
//! ```text
//!            top
//!             |
//!            [k1] <-> w <-> w          any key
//!         0 /    \ 1
//!        [k2]    [k3] <-> w            keys whose first bit is 0, keys whose first bit is 1
//!           \ 1
//!           [k4]                       keys that begin with 01
//! ```
//!
//! R1: A root and the links of the sudogs in it are touched under its bucket's lock only.
//!
//! R2: A sudog in a root is alive. It lies in its G, and its wait is over only when it was taken out: by a waker
//! ([`SemaRoot::dequeue`]) or by its own G under the lock ([`SemaRoot::remove`]); or never, if its wait is void
//! (`proc::deadlock`, `proc::shutdown`), and then its place stays for ever.
//!
//! R3: Whoever dequeues a sudog has the right to ready its G, once: for a wait that may end otherwise because it has won
//! `win_select`, for a simple wait because a sudog is dequeued once.
//!
//! R4: The head of a ring stands where the bits of its key lead. Two keys differ in some bit, so each finds a place.

use crate::g::{G, INLINE};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// What no waker says.
pub(crate) const NO_WORD: u8 = u8::MAX;

/// What a wait is for, and so who must be told if its goroutine never comes back from it (S4 of `sema`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Purpose {
    /// Nothing that others could have in its place.
    Event,
    /// A `Mutex`.
    Lock,
    /// A `RWMutex`, for reading.
    Read,
    /// The same for writing, with its mutex.
    Write,
    /// A notification of a `NotifyList`.
    Notification,
    /// Permits of a `Semaphore`.
    Permits,
}

/// One wait; see the module.
#[derive(Debug)]
pub(crate) struct Sudog {
    pub g: &'static G,
    /// The address, mixed. Of a head; what the others have may be outdated, but for waits for permits. Written under the lock.
    key: AtomicU64,
    /// The ring.
    next: Cell<*const Sudog>,
    prev: Cell<*const Sudog>,
    /// The tree; of a head.
    child: [Cell<*const Sudog>; 2],
    /// The wait may end in another way than by a waker, who must win its select.
    claimed: bool,
    linked: Cell<bool>,
    head: Cell<bool>,
    /// The G is off its stack, or on its way, and must be readied. Written under the lock.
    pub parked: Cell<bool>,
    pub purpose: Purpose,
    /// How many permits it waits for, or the address of what it waits for.
    pub size: usize,
    /// What the waker says. Written under the lock by who has the right to ready, read by the woken.
    pub word: Cell<u8>,
}

impl Sudog {
    /// A wait that is in no root, in the place that the calling G has for its one wait.
    #[inline]
    pub fn in_g(g: &'static G, claimed: bool, parked: bool, purpose: Purpose, size: usize) -> &'static Sudog {
        const { assert!(size_of::<Sudog>() <= size_of::<[usize; INLINE]>()) };
        let place = g.wait_place().cast::<Sudog>();
        let sg = Sudog {
            g,
            key: AtomicU64::new(0),
            next: Cell::new(ptr::null()),
            prev: Cell::new(ptr::null()),
            child: [const { Cell::new(ptr::null()) }; 2],
            claimed,
            linked: Cell::new(false),
            head: Cell::new(false),
            parked: Cell::new(parked),
            purpose,
            size,
            word: Cell::new(NO_WORD),
        };
        // SAFETY: the caller is `g`, in no other wait; the place is large and aligned enough, and never freed.
        unsafe {
            place.write(sg);
            &*place
        }
    }

    /// Whether the wait, which is out of its queue, is still open; then the caller must ready it (R3). Under the lock.
    pub fn claim(&self) -> bool {
        // One that may end otherwise may have done so, and not come here yet to leave.
        !self.g.waits_are_void() && (!self.claimed || self.g.win_select())
    }

    /// True if [`Sudog::claim`] would fail.
    fn is_over(&self) -> bool {
        self.g.waits_are_void() || (self.claimed && self.g.select_is_won())
    }

    /// See the field.
    #[inline]
    pub fn key(&self) -> u64 {
        // Relaxed: written under the lock; what is read without it does not change while the wait lasts.
        self.key.load(Ordering::Relaxed)
    }

    #[inline]
    fn set_key(&self, key: u64) {
        self.key.store(key, Ordering::Relaxed);
    }

    /// It is in a root. Under the lock.
    pub fn is_linked(&self) -> bool {
        self.linked.get()
    }
}

/// The waits of one bucket; see the module.
#[derive(Debug)]
pub(crate) struct SemaRoot {
    top: Cell<*const Sudog>,
}

/// The place in the tree where a head is, or would be.
type Link = *const Cell<*const Sudog>;

// Throughout: called under the bucket's lock (R1), so the sudogs that the links name are alive (R2).
impl SemaRoot {
    /// Nobody waits.
    pub const fn new() -> SemaRoot {
        SemaRoot { top: Cell::new(ptr::null()) }
    }

    fn find(&self, key: u64) -> Link {
        let mut link: Link = &raw const self.top;
        let mut bits = key;
        // SAFETY: R1, R2: links lie in the root or in sudogs that are in it.
        unsafe {
            loop {
                let sg = (*link).get();
                if sg.is_null() || (*sg).key() == key {
                    return link;
                }
                link = &raw const (*sg).child[(bits >> 63) as usize];
                bits <<= 1;
            }
        }
    }

    /// Puts a wait at the end of its ring, or at the front.
    ///
    /// # Safety
    ///
    /// Under the lock. `sg` is in no root, and stays in place until it has been taken out.
    pub unsafe fn enqueue(&mut self, sg: &'static Sudog, key: u64, front: bool) {
        let link = self.find(key);
        let sg: *const Sudog = sg;
        // SAFETY: R1, R2, and the caller's promise for `sg`.
        unsafe {
            (*sg).linked.set(true);
            (*sg).set_key(key);
            let head = (*link).get();
            if head.is_null() {
                (*sg).next.set(sg);
                (*sg).prev.set(sg);
                (*sg).head.set(true);
                (*link).set(sg);
                return;
            }
            let tail = (*head).prev.get();
            (*sg).next.set(head);
            (*sg).prev.set(tail);
            (*tail).next.set(sg);
            (*head).prev.set(sg);
            if front {
                replace(link, head, sg);
            }
        }
    }

    /// Takes out the first wait of a ring that is still open; the caller must ready it (R3). With whether it was the last.
    ///
    /// # Safety
    ///
    /// Under the lock.
    pub unsafe fn dequeue(&mut self, key: u64) -> Option<(&'static Sudog, bool)> {
        // SAFETY: R1, R2; a sudog that is dequeued stays in place until it is readied.
        unsafe {
            loop {
                let link = self.find(key);
                let sg = (*link).get();
                if sg.is_null() {
                    return None;
                }
                let alone = (*sg).next.get() == sg;
                unlink_head(link, sg);
                if (*sg).claim() {
                    return Some((&*sg, alone));
                }
            }
        }
    }

    /// The first wait of a ring that is still open, as far as can be seen; those before it are taken out.
    ///
    /// # Safety
    ///
    /// Under the lock.
    pub unsafe fn first_open(&mut self, key: u64) -> Option<&'static Sudog> {
        // SAFETY: R1, R2.
        unsafe {
            loop {
                let link = self.find(key);
                let sg = (*link).get();
                if sg.is_null() {
                    return None;
                }
                if !(*sg).is_over() {
                    return Some(&*sg);
                }
                unlink_head(link, sg);
            }
        }
    }

    /// How many wait there.
    pub fn len(&self, key: u64) -> usize {
        // SAFETY: R1, R2.
        unsafe {
            let head = (*self.find(key)).get();
            let (mut n, mut sg) = (0, head);
            while !sg.is_null() {
                n += 1;
                sg = (*sg).next.get();
                if sg == head {
                    break;
                }
            }
            n
        }
    }

    /// The wait of this G, if it is among the first `most` there.
    pub fn wait_of(&self, key: u64, gp: &G, most: usize) -> Option<&Sudog> {
        // SAFETY: R1, R2.
        unsafe {
            let head = (*self.find(key)).get();
            let mut sg = head;
            for _ in 0..most {
                if sg.is_null() {
                    return None;
                }
                if ptr::eq((*sg).g, gp) {
                    return Some(&*sg);
                }
                sg = (*sg).next.get();
                if sg == head {
                    return None;
                }
            }
            None
        }
    }

    /// True if nobody waits there.
    pub fn is_empty(&self, key: u64) -> bool {
        // SAFETY: R1, R2.
        unsafe { (*self.find(key)).get().is_null() }
    }

    /// Takes a wait out, if it is still in; whether it was.
    ///
    /// # Safety
    ///
    /// Under the lock, by the G whose wait it is; `sg` was put into this root.
    pub unsafe fn remove(&mut self, sg: &'static Sudog) -> bool {
        if !sg.linked.get() {
            return false;
        }
        if sg.head.get() {
            // SAFETY: R4: that is where it is.
            unsafe { unlink_head(self.find(sg.key()), sg) };
        } else {
            // SAFETY: R1, R2.
            unsafe { unlink_inner(sg) };
        }
        true
    }

    /// Gives a whole ring another key: its waits are out of the way of those that come now.
    ///
    /// # Safety
    ///
    /// Under the lock. Nobody waits at `to`.
    pub unsafe fn rekey(&mut self, from: u64, to: u64) {
        let link = self.find(from);
        // SAFETY: R1, R2; the head goes from its place to the one of its new key (R4), with the ring.
        unsafe {
            let head = (*link).get();
            if head.is_null() {
                return;
            }
            cut(link, head);
            (*head).set_key(to);
            let link = self.find(to);
            debug_assert!((*link).get().is_null());
            (*link).set(head);
        }
    }
}

/// Takes a head out of the tree, its ring with it: the place goes to some leaf below, whose key leads there as well.
///
/// # Safety
///
/// Under the lock; `link` is the place of `head`.
unsafe fn cut(link: Link, head: *const Sudog) {
    // SAFETY: R1, R2.
    unsafe {
        let mut down = link;
        loop {
            let [left, right] = &(*(*down).get()).child;
            match (left.get().is_null(), right.get().is_null()) {
                (false, _) => down = left,
                (true, false) => down = right,
                (true, true) => break,
            }
        }
        let leaf = (*down).get();
        (*down).set(ptr::null());
        if leaf != head {
            adopt(link, head, leaf);
        }
        (*head).child.iter().for_each(|child| child.set(ptr::null()));
    }
}

/// Gives the place and the children of one head to another.
///
/// # Safety
///
/// Under the lock; `link` is the place of `old`.
unsafe fn adopt(link: Link, old: *const Sudog, new: *const Sudog) {
    // SAFETY: R1, R2.
    unsafe {
        (*new).child[0].set((*old).child[0].get());
        (*new).child[1].set((*old).child[1].get());
        (*link).set(new);
    }
}

/// Makes another one of its ring the head.
///
/// # Safety
///
/// Under the lock; `link` is the place of `head`.
unsafe fn replace(link: Link, head: *const Sudog, new: *const Sudog) {
    // SAFETY: R1, R2.
    unsafe {
        (*new).set_key((*head).key());
        (*head).head.set(false);
        (*new).head.set(true);
        adopt(link, head, new);
    }
}

/// # Safety
///
/// Under the lock; `link` is the place of `sg`.
unsafe fn unlink_head(link: Link, sg: *const Sudog) {
    // SAFETY: R1, R2.
    unsafe {
        let next = (*sg).next.get();
        if next == sg {
            cut(link, sg);
            (*sg).head.set(false);
            (*sg).linked.set(false);
        } else {
            replace(link, sg, next);
            unlink_inner(sg);
        }
    }
}

/// # Safety
///
/// Under the lock; `sg` is in a ring, and not its head.
unsafe fn unlink_inner(sg: *const Sudog) {
    // SAFETY: R1, R2.
    unsafe {
        let (prev, next) = ((*sg).prev.get(), (*sg).next.get());
        (*prev).next.set(next);
        (*next).prev.set(prev);
        (*sg).linked.set(false);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::g::G;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, VecDeque};

    fn waiting(claimed: bool) -> &'static Sudog {
        let gp: &'static G = Box::leak(Box::new(G::new()));
        gp.begin_select();
        Sudog::in_g(gp, claimed, true, Purpose::Event, 0)
    }

    #[derive(Clone, Debug)]
    enum Op {
        Enqueue {
            key: usize,
            front: bool,
        },
        Dequeue {
            key: usize,
        },
        /// The deadline of some wait comes, and then it leaves, or is passed over before it can.
        Leave {
            nth: usize,
            late: bool,
        },
        Rekey {
            from: usize,
            to: usize,
        },
    }

    /// Keys that differ in the first bit, in the last, and in between; more than there are waits in a ring, and fewer.
    fn keys() -> Vec<u64> {
        let mut keys = vec![0, 1, 2, 3, u64::MAX, u64::MAX - 1, 1 << 63, 1 << 62, 3 << 62];
        keys.extend((0..40).map(|i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).skip(1));
        keys
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let n = keys().len();
        let op = prop_oneof![
            5 => (0..n, any::<bool>()).prop_map(|(key, front)| Op::Enqueue { key, front }),
            3 => (0..n).prop_map(|key| Op::Dequeue { key }),
            2 => (any::<prop::sample::Index>(), any::<bool>())
                .prop_map(|(nth, late)| Op::Leave { nth: nth.index(1 << 20), late }),
            1 => (0..n, 0..n).prop_map(|(from, to)| Op::Rekey { from, to }),
        ];
        // Few keys at a time, so that rings get long.
        (1..n).prop_flat_map(move |few| {
            vec(op.clone(), 0..200).prop_map(move |mut ops| {
                for op in &mut ops {
                    match op {
                        Op::Enqueue { key, .. } | Op::Dequeue { key } => *key %= few,
                        Op::Rekey { from, to } => {
                            *from %= few;
                            *to %= few;
                        }
                        Op::Leave { .. } => {}
                    }
                }
                ops
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 5 } else { 500 }))]

        #[test]
        fn each_key_is_a_queue_of_its_own(ops in ops()) {
            let keys = keys();
            let mut root = SemaRoot::new();
            let mut model: BTreeMap<u64, VecDeque<&'static Sudog>> = BTreeMap::new();
            // SAFETY: one thread, which stands for the lock; sudogs are leaked.
            unsafe {
                for op in ops {
                    match op {
                        Op::Enqueue { key, front } => {
                            let sg = waiting(true);
                            root.enqueue(sg, keys[key], front);
                            let ring = model.entry(keys[key]).or_default();
                            if front { ring.push_front(sg) } else { ring.push_back(sg) }
                        }
                        Op::Dequeue { key } => {
                            let ring = model.entry(keys[key]).or_default();
                            // What cannot be won is passed over.
                            while ring.front().is_some_and(|sg| !sg.g.win_select()) {
                                ring.pop_front();
                            }
                            let want = ring.pop_front();
                            if let Some(want) = want {
                                // Give it back, for the root to win it.
                                want.g.begin_select();
                            }
                            let got = root.dequeue(keys[key]);
                            prop_assert_eq!(got.map(|(sg, _)| ptr::from_ref(sg)), want.map(ptr::from_ref));
                            if let Some((sg, last)) = got {
                                prop_assert_eq!(last, ring.is_empty());
                                prop_assert!(!sg.is_linked());
                            }
                        }
                        Op::Leave { nth, late } => {
                            let all: Vec<_> = model.values().flatten().copied().collect();
                            if all.is_empty() { continue }
                            let sg = all[nth % all.len()];
                            sg.g.win_select();
                            if !late {
                                prop_assert!(root.remove(sg));
                                prop_assert!(!root.remove(sg), "it is out");
                                model.values_mut().for_each(|ring| ring.retain(|other| !ptr::eq(*other, sg)));
                            }
                        }
                        Op::Rekey { from, to } => {
                            if root.is_empty(keys[to]) {
                                root.rekey(keys[from], keys[to]);
                                let ring = model.remove(&keys[from]).unwrap_or_default();
                                model.insert(keys[to], ring);
                            }
                        }
                    }
                    for &key in &keys {
                        prop_assert_eq!(root.is_empty(key), model.get(&key).is_none_or(VecDeque::is_empty));
                    }
                }
            }
        }
    }

    #[test]
    fn the_tree_of_many_addresses_is_shallow() {
        unsafe fn depth(sg: *const Sudog) -> usize {
            if sg.is_null() {
                return 0;
            }
            // SAFETY: in the root of the test.
            unsafe { 1 + depth((*sg).child[0].get()).max(depth((*sg).child[1].get())) }
        }
        let mut root = SemaRoot::new();
        let n = 1 << 12;
        for i in 0..n {
            // Addresses as an allocator gives them.
            let key = crate::sema::mix(ptr::without_provenance(0x7f00_0000_0000 + i * 48));
            // SAFETY: one thread, which stands for the lock; sudogs are leaked.
            unsafe { root.enqueue(waiting(false), key, false) };
        }
        // SAFETY: as above.
        let depth = unsafe { depth(root.top.get()) };
        assert!(depth <= 40, "{n} addresses are {depth} deep");
    }
}
