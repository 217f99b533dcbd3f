//! The address space that stacks live in: one region per size class, cut into slots of one size.
//!
//! A region is reserved without memory when its class is first used, 1 TiB if the address space is not
//! limited, and made accessible from its low end in steps that grow; only touched pages cost memory. It is
//! never unmapped.
//!
//! Where it is limited (`ulimit -v`) what is reserved is missing elsewhere: to the heap, whose arenas take 64
//! MiB each, and to the stacks of threads. So there a region begins small, at a place where it can grow, and
//! is reserved in the same steps ([`Region::grow`]), up to a part of the limit ([`Region::most`]) and as long
//! as some room is left to the others.
//!
//! From any address, [`locate`] and [`stack_end`] give the slot by arithmetic, without a thread-local and
//! without a lock: a region's start is written before any stack of it exists, and its length before any stack
//! beyond the old one, so whoever runs on such a stack sees them (the hand-over of its G orders that); a
//! plain thread that reads old ones gets "not a goroutine", which is true.
//!
//! **Free slots** are in one of two sets: *fresh* ones have neither guard nor page, *cold* ones have their guard, but no
//! page. (A free slot with pages is a [`super::Stack`], see `pool`.)
//!
//! ```text
//!   fresh --take: guard--> in use --give_back: discard--> cold --take--> in use
//!     ^                                                    |
//!     +---- a run of CLOSE bytes or more: reset -----------+
//! ```
//!
//! **Admission.** A goroutine gets its stack at its first run, when it is too late to say no. So each spawn is
//! admitted first ([`admit`]), and what limits the number of stacks is met there, as an error.
//!
//! A1: Whoever was admitted finds a slot. Caches of free stacks hold slots back that others may need; all caches
//! together hold at most an eighth of a region ([`cache_limit`]), and at most the other seven eighths are admitted.
//! Slots on their way back from the depot to the free ones ([`Return`]) are held by nobody, and whoever was
//! admitted may need just these: who finds none else waits until they have come ([`take`]).
//! The slots of those who are admitted, and what the caches may hold beside, are made accessible at once, so a kernel
//! that counts memory which may be used (strict overcommit, `RLIMIT_DATA`) says no there as well.
//!
//! Admissions that lie unused in a cache are refused to others. So who is refused has the idle Ps give up theirs, and
//! asks again; and while memory is scarce ([`is_scarce`]) Ps that work keep none.
//!
//! The atomics here are never a model's: like the address space they outlive its executions (`sync`).
//!
//! A2: A slot is handed out by one `take` and comes back by one [`Return`]; in between it is in neither set.
//!
//! A3 (nobody overlooks a slot): The depot is looked at once more under the region's lock, when both sets are
//! empty. What leaves it for a set is counted as away first, under the same lock, until it is there.

use super::class::{CLASSES, GUARD, shift, slot_size, usable};
use super::mapping::{self, Guards, Span};
use super::runs::Runs;
use crossbeam_utils::CachePadded;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Address space of a region when nothing forbids it: 6 million stacks of the smallest class, 2 million of those that builds with
/// debug assertions have.
const REGION: usize = if cfg!(debug_assertions) { 2 << 40 } else { 1 << 40 };
/// Slots are made accessible so many bytes at a time at least, and as many as are accessible already, up to `MAX_STEP`.
const MIN_STEP: usize = 32 << 20;
const MAX_STEP: usize = 1 << 30;
/// Cold slots that make a run of so many bytes are made fresh again, for the sake of their page tables.
const CLOSE: usize = 32 << 20;
/// Bytes in one system call that locks the address space.
const PIECE: usize = 128 << 20;

/// A region's bounds, as stack pointers look them up. All zero until the class is first used.
struct Bounds {
    low: AtomicUsize,
    len: AtomicUsize,
}

static BOUNDS: [Bounds; CLASSES] =
    [const { Bounds { low: AtomicUsize::new(0), len: AtomicUsize::new(0) } }; CLASSES];

impl Bounds {
    /// The address's distance from the region's start, if it is in the region.
    #[inline]
    fn offset(&self, addr: usize) -> Option<usize> {
        // Relaxed: see the module; for whoever runs in the region the start is constant, and the length great
        // enough.
        let offset = addr.wrapping_sub(self.low.load(Ordering::Relaxed));
        (offset < self.len.load(Ordering::Relaxed)).then_some(offset)
    }
}

/// Where the stack ends that an address lies in, if it lies in a region: somewhat below the end of its slot (`class`).
#[inline(always)]
pub fn stack_end(addr: usize) -> Option<usize> {
    match BOUNDS[0].offset(addr) {
        Some(offset) => Some(stack_end_in(0, addr, offset)),
        None => stack_end_elsewhere(addr),
    }
}

/// [`stack_end`] for an address outside the first region.
#[inline(never)]
fn stack_end_elsewhere(addr: usize) -> Option<usize> {
    (1..CLASSES as u8).find_map(|class| Some(stack_end_in(class, addr, BOUNDS[class as usize].offset(addr)?)))
}

#[inline(always)]
fn stack_end_in(class: u8, addr: usize, offset: usize) -> usize {
    let (slot, low) = (slot_size(class), addr - offset);
    let n = offset / slot;
    low + (n + 1) * slot - shift(n)
}

/// The slot that an address lies in, and its class. For any stack, a signal handler's too.
pub fn locate(addr: usize) -> Option<(u8, Span)> {
    (0..CLASSES as u8).find_map(|class| Some((class, locate_in(class, addr)?)))
}

fn locate_in(class: u8, addr: usize) -> Option<Span> {
    let offset = BOUNDS[class as usize].offset(addr)?;
    let slot = slot_size(class);
    let start = addr - offset % slot;
    Some(start..start + slot)
}

/// Bits of an address that a mark leaves out at the low end; it has 32.
pub const MARK_SHIFT: u32 = 12;

/// The end of the stack that a mark is of ([`MARK_SHIFT`]), if it is of one of ours, which has been in use then. A mark repeats
/// itself every 16 TiB, of which a region is a part. Not on a goroutine's stack.
pub fn with_mark(mark: u32) -> Option<usize> {
    const PERIOD: usize = 1 << (32 + MARK_SHIFT);
    const { assert!(REGION < PERIOD) };
    (0..CLASSES as u8).find_map(|class| {
        let region = lock(class);
        // Regions and slots are whole pages, so the page of a stack pointer is in its slot.
        let offset = ((mark as usize) << MARK_SHIFT).wrapping_sub(region.low) % PERIOD;
        let is_open = offset / slot_size(class) < region.open;
        is_open.then(|| stack_end_in(class, region.low + offset, offset))
    })
}

/// The book-keeping of a class. Slots are numbered from the region's low end.
struct Region {
    class: u8,
    low: usize,
    /// Slots that are reserved; 0 until the class is used.
    total: usize,
    /// Slots that may be reserved.
    most: usize,
    /// Slots below this are accessible.
    open: usize,
    fresh: Runs,
    cold: Runs,
    /// Goroutines that may bind a stack.
    admitted: usize,
    /// Slots, or more than there are, in nobody's hands but those of a [`Return`], or of [`close`].
    away: usize,
    /// How often some have come back from there.
    returns: usize,
}

static REGIONS: [Mutex<Region>; CLASSES] = [const { Mutex::new(Region::new()) }; CLASSES];

/// Rung when some of a class have come back.
static BELLS: [Condvar; CLASSES] = [const { Condvar::new() }; CLASSES];

/// Slots of each class that have a guard or are promised to somebody: what `slots_allowed` bounds.
static TAKEN: [AtomicUsize; CLASSES] = [const { AtomicUsize::new(0) }; CLASSES];

/// [`Region::most`] of each class, for who has no lock.
static MOST: [AtomicUsize; CLASSES] = [const { AtomicUsize::new(0) }; CLASSES];

/// Caches of free stacks in the process, and stacks that each of them may hold in a class. Few in a model, which has many
/// schedulers after each other, and leaks those that end with abandoned goroutines.
static CACHES: AtomicUsize = AtomicUsize::new(0);
const CACHE: usize = if cfg!(shuttle) { 2 } else { 64 };
/// The part of a region that all caches together may hold.
const CACHED: usize = 8;

/// A cache of free stacks comes into being; see [`cache_limit`].
pub fn cache_begins() {
    CACHES.fetch_add(1, Ordering::Relaxed);
}

/// A cache has given back what it had.
pub fn cache_ends() {
    CACHES.fetch_sub(1, Ordering::Relaxed);
}

/// True if there is a region that all the caches together could use up: then Ps that are idle keep nothing.
pub fn is_tight() -> bool {
    TIGHT.load(Ordering::Relaxed) || is_scarce()
}

/// True from when the kernel refuses memory for more slots until it grants some: then nobody takes admissions in advance,
/// or keeps those of goroutines that have ended.
#[inline]
pub fn is_scarce() -> bool {
    SCARCE.load(Ordering::Relaxed)
}

static TIGHT: AtomicBool = AtomicBool::new(false);
/// On a line of its own: read at the end of every goroutine.
static SCARCE: CachePadded<AtomicBool> = CachePadded::new(AtomicBool::new(false));
/// Slots of a region that count as plenty.
const PLENTY: usize = 1 << 18;

/// How many free stacks, and how many admissions, of a class a cache may keep (A1). It may hold twice as many while it
/// gives or takes.
pub fn cache_limit(class: u8) -> usize {
    let caches = CACHES.load(Ordering::Relaxed).max(1);
    let most = MOST[class as usize].load(Ordering::Relaxed);
    (most.min(mapping::slots_allowed()) / (2 * CACHED * caches)).min(CACHE)
}

/// Lets `n` more goroutines have a stack of this class (A1). Not on a goroutine's stack.
///
/// # Errors
///
/// `OutOfMemory`, naming the limit.
pub fn admit(class: u8, n: usize) -> io::Result<()> {
    let mut region = lock(class);
    region.reserve(class)?;
    region.admit(n)
}

/// Takes back what [`admit`] allowed.
pub fn dismiss(class: u8, n: usize) {
    let mut region = lock(class);
    region.admitted -= n;
    region.count_taken();
}

/// What [`take`] has found.
pub enum Found<S> {
    /// A run of slots.
    Slots(Span),
    /// What the caller looked for in the depot.
    Stack(S),
}

/// A run of up to `n` free slots, guarded, without pages (A2), for callers that were admitted; or what `depot`
/// gives, which is asked under the lock whether some have been put there since the caller looked (A3). May wait
/// for the scavenger. Not on a goroutine's stack.
///
/// # Errors
///
/// What the kernel refused.
pub fn take<S>(class: u8, n: usize, mut depot: impl FnMut() -> Option<S>) -> io::Result<Found<S>> {
    let mut region = lock(class);
    loop {
        if let Some(run) = region.cold.take(n) {
            return Ok(Found::Slots(region.span(&run)));
        }
        if let Some(stack) = depot() {
            return Ok(Found::Stack(stack));
        }
        let returns = region.returns;
        let refused = match region.take_fresh(n) {
            Ok(run) => {
                let span = region.span(&run);
                drop(region);
                let Err(e) = mapping::guard(&span, slot_size(class)) else {
                    return Ok(Found::Slots(span));
                };
                let _ = mapping::reset(&span);
                region = lock(class);
                region.put_fresh(run);
                io::Error::new(e.kind(), format!("the kernel refuses a guard: {e}"))
            }
            Err(e) => e,
        };
        if region.returns == returns {
            if region.away == 0 {
                return Err(refused);
            }
            BELLS[class as usize].wait(&mut region);
        }
    }
}

/// Slots that are about to come back: who needs one, and finds none else, waits for them (A1).
#[must_use = "somebody may wait for them"]
pub struct Return {
    class: u8,
    most: usize,
}

impl Return {
    /// Up to `most` slots will come back. To be called before they are taken from where others find them.
    pub fn begin(class: u8, most: usize) -> Return {
        lock(class).away += most;
        Return { class, most }
    }

    /// Takes the slots back, given by their starts in rising order, and returns their memory to the kernel.
    pub fn finish(self, starts: &[usize]) {
        let class = self.class;
        debug_assert!(starts.len() <= self.most);
        let slot = slot_size(class);
        mapping::discard(starts.iter().map(|start| start + GUARD..start + slot));
        for run in starts.chunk_by(|a, b| a + slot == *b) {
            let mut region = lock(class);
            let first = region.number(run[0]);
            let whole = region.cold.insert(first..first + run.len());
            region.came_back(run.len());
            if whole.len() * slot >= CLOSE {
                close(region, whole);
            }
        }
        lock(class).came_back(self.most - starts.len());
    }
}

/// Takes free slots back that nobody else could find, as [`Return::finish`] does.
pub fn give_back(class: u8, starts: &[usize]) {
    Return::begin(class, starts.len()).finish(starts);
}

/// Makes a run of cold slots fresh, piece by piece. What is in neither set meanwhile still has its mappings, and whoever
/// needs a slot takes a fresh one, which needs more: who is refused those waits for it ([`take`]).
fn close(mut region: MutexGuard<'static, Region>, whole: Range<usize>) {
    let class = region.class;
    let (slot, last) = (slot_size(class), whole.end - 1);
    let mut rest = whole;
    loop {
        region.cold.remove(&rest);
        let cut = rest.end.min(rest.start + (PIECE / slot).max(1));
        let piece = rest.start..cut;
        if cut < rest.end {
            region.cold.insert(cut..rest.end);
        }
        let span = region.span(&piece);
        let n = piece.len();
        region.away += n;
        drop(region);
        let fresh = mapping::reset(&span).is_ok();
        region = lock(class);
        if !fresh {
            // What cannot be reset is as it was.
            region.cold.insert(piece);
            region.came_back(n);
            return;
        }
        region.put_fresh(piece);
        region.came_back(n);
        // Others have taken some of the rest, or all, or put more beside it.
        match region.cold.run_with(last) {
            Some(run) => rest = run,
            None => return,
        }
    }
}

fn lock(class: u8) -> MutexGuard<'static, Region> {
    REGIONS[class as usize].lock()
}

impl Region {
    const fn new() -> Region {
        Region {
            class: 0,
            low: 0,
            total: 0,
            most: 0,
            open: 0,
            fresh: Runs::new(),
            cold: Runs::new(),
            admitted: 0,
            away: 0,
            returns: 0,
        }
    }

    fn span(&self, run: &Range<usize>) -> Span {
        let slot = slot_size(self.class);
        self.low + run.start * slot..self.low + run.end * slot
    }

    fn number(&self, start: usize) -> usize {
        (start - self.low) / slot_size(self.class)
    }

    /// Reserves address space, unless some has been.
    fn reserve(&mut self, class: u8) -> io::Result<()> {
        if self.total > 0 {
            return Ok(());
        }
        self.class = class;
        let slot = slot_size(self.class);
        // Of a limited address space the default class takes half at most, the others less.
        let part = if self.class == 0 { 2 } else { 8 };
        let limit = mapping::address_limit();
        let mut len = limit.map_or(REGION, |limit| (limit / part).min(REGION));
        let (low, first) = 'reserved: {
            let first = MIN_STEP.div_ceil(slot) * slot;
            if limit.is_some()
                && first < len
                && let Ok(low) = mapping::reserve_alone(class as usize, first)
            {
                break 'reserved (low, first);
            }
            loop {
                len -= len % slot;
                if len == 0 {
                    return Err(self.no_address_space());
                }
                match mapping::reserve(len) {
                    Ok(low) => break (low, len),
                    Err(_) => len /= 2,
                }
            }
        };
        self.low = low;
        self.total = first / slot;
        self.most = len / slot;
        if self.most.min(mapping::slots_allowed()) < PLENTY.min(REGION / slot) {
            TIGHT.store(true, Ordering::Relaxed);
        }
        MOST[self.class as usize].store(self.most, Ordering::Relaxed);
        let bounds = &BOUNDS[self.class as usize];
        bounds.low.store(low, Ordering::Relaxed);
        bounds.len.store(first, Ordering::Relaxed);
        Ok(())
    }

    /// Reserves as much as the first `n` slots take, which are no more than `most`.
    fn grow(&mut self, n: usize) -> io::Result<()> {
        let slot = slot_size(self.class);
        while self.total < n {
            let step = (self.total * slot).clamp(MIN_STEP, MAX_STEP).div_ceil(slot);
            let large = (self.total + step).max(n).min(self.most);
            let threads = CACHES.load(Ordering::Relaxed);
            let reserve = |to| mapping::extend(&self.span(&(self.total..to)), threads).map(|()| to);
            self.total = match reserve(large) {
                Ok(total) => total,
                Err(_) => reserve(n).map_err(|_| self.no_address_space())?,
            };
            BOUNDS[self.class as usize].len.store(self.total * slot, Ordering::Relaxed);
        }
        Ok(())
    }

    fn no_address_space(&self) -> io::Error {
        out_of_memory(format!("no address space for stacks of {} bytes (see ulimit -v)", usable(self.class)))
    }

    fn admit(&mut self, n: usize) -> io::Result<()> {
        let wanted = self.admitted + n;
        let most = self.most - self.most.div_ceil(CACHED);
        if wanted > most {
            return Err(out_of_memory(format!(
                "the address space for stacks of {} bytes holds no more than {most} (see ulimit -v)",
                usable(self.class),
            )));
        }
        if mapping::guards() == Guards::Protect {
            self.check_mappings(wanted)?;
        }
        // Caches hold back no more than these slots, nor more than have ever been in use and taken in advance.
        let held = (2 * cache_limit(self.class) * CACHES.load(Ordering::Relaxed)).min(2 * wanted);
        self.open((wanted + held).min(self.most))?;
        self.admitted = wanted;
        self.count_taken();
        Ok(())
    }

    /// Whether the kernel's limit of mappings allows so many slots in this class beside those of the others.
    fn check_mappings(&self, wanted: usize) -> io::Result<()> {
        let all: usize = TAKEN.iter().map(|t| t.load(Ordering::Relaxed)).sum();
        let others = all - TAKEN[self.class as usize].load(Ordering::Relaxed);
        let allowed = mapping::slots_allowed();
        let most = allowed - allowed.div_ceil(CACHED);
        if others + wanted <= most {
            return Ok(());
        }
        let limit = mapping::max_map_count();
        Err(out_of_memory(format!(
            "guards take two mappings per stack here, and vm.max_map_count = {limit} allows no more than {most} \
             stacks; raise it (sysctl -w vm.max_map_count={}) or use Linux 6.13 or later",
            limit * 4
        )))
    }

    /// Keeps [`TAKEN`] true. Slots keep their guards, and so their mappings, until they are fresh again.
    fn count_taken(&self) {
        let guarded = self.open - self.fresh.len();
        TAKEN[self.class as usize].store(guarded.max(self.admitted), Ordering::Relaxed);
    }

    /// A run of up to `n` fresh slots; more are made accessible if there is none.
    fn take_fresh(&mut self, n: usize) -> io::Result<Range<usize>> {
        if self.fresh.len() == 0 {
            self.open(self.open + 1)?;
        }
        let run = self.fresh.take(n).expect("some were just made accessible");
        self.count_taken();
        Ok(run)
    }

    /// So many slots are away no longer.
    fn came_back(&mut self, n: usize) {
        self.away -= n;
        self.returns += 1;
        BELLS[self.class as usize].notify_all();
    }

    fn put_fresh(&mut self, run: Range<usize>) {
        self.fresh.insert(run);
        self.count_taken();
    }

    /// Makes at least the first `n` slots accessible.
    ///
    /// # Errors
    ///
    /// The kernel's, with what it most likely means.
    fn open(&mut self, n: usize) -> io::Result<()> {
        if n > self.most {
            return Err(out_of_memory("all address space for stacks of this size is in use (A1)".to_owned()));
        }
        if n > self.total {
            self.grow(n)?;
        }
        while self.open < n {
            let slot = slot_size(self.class);
            let step = (self.open * slot).clamp(MIN_STEP, MAX_STEP).div_ceil(slot);
            let large = self.open..(self.open + step).max(n).min(self.total);
            let small = self.open..n;
            let threads = CACHES.load(Ordering::Relaxed);
            let opened = match mapping::open(&self.span(&large), threads) {
                Ok(()) => large,
                Err(_) => {
                    mapping::open(&self.span(&small), threads).map_err(|e| {
                        SCARCE.store(true, Ordering::Relaxed);
                        out_of_memory(format!(
                            "the kernel refuses memory for a stack of {} bytes: {e} (ulimit -d, ulimit -v, \
                             vm.overcommit_memory)",
                            usable(self.class)
                        ))
                    })?;
                    small
                }
            };
            SCARCE.store(false, Ordering::Relaxed);
            self.open = opened.end;
            self.fresh.insert(opened);
        }
        Ok(())
    }
}

fn out_of_memory(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn slots(class: u8, n: usize) -> Span {
        match take(class, n, || None::<()>).unwrap() {
            Found::Slots(span) => span,
            Found::Stack(()) => unreachable!(),
        }
    }

    fn all_slots(class: u8, n: usize, each: impl Fn(usize)) -> Vec<usize> {
        let mut starts = Vec::new();
        while starts.len() < n {
            starts.extend(slots(class, n - starts.len()).step_by(slot_size(class)));
            each(starts.len());
        }
        starts.sort_unstable();
        starts
    }

    #[test]
    fn an_address_leads_to_its_slot() {
        for class in [0, 1, 4] {
            admit(class, 2).unwrap();
            let one = slots(class, 1);
            let two = slots(class, 1);
            assert_eq!(one.len(), slot_size(class));
            assert!(one.start != two.start);
            for addr in [one.start, one.start + GUARD, one.end - 1] {
                assert_eq!(locate(addr), Some((class, one.clone())));
                assert_eq!(stack_end(addr), stack_end(one.start));
            }
            let end = stack_end(one.start).unwrap();
            assert!(one.start + GUARD + usable(class) < end && end <= one.end);
            for addr in [end - 8, one.start + GUARD] {
                // SAFETY: the first and the last word above the guard are usable, and nobody else's.
                unsafe { (addr as *mut u64).write_volatile(1) };
            }
            give_back(class, &[one.start.min(two.start), one.start.max(two.start)]);
            dismiss(class, 2);
        }
        let here = 0;
        assert_eq!(stack_end(&raw const here as usize), None);
    }

    #[test]
    fn what_comes_back_is_empty_and_guarded_or_fresh() {
        // A class that no other test uses, large enough for runs to be closed.
        const CLASS: u8 = 8;
        let n = 2 * CLOSE / slot_size(CLASS) + 1;
        admit(CLASS, n).unwrap();
        for _ in 0..2 {
            let starts = all_slots(CLASS, n, |_| {});
            assert!(starts.windows(2).all(|w| w[0] != w[1]), "handed out twice");
            for start in &starts {
                let top = (start + slot_size(CLASS) - 8) as *mut u64;
                // SAFETY: the last word of a slot that is ours.
                unsafe {
                    assert_eq!(top.read_volatile(), 0, "a page with somebody else's contents");
                    top.write_volatile(7);
                }
            }
            let (one, rest) = starts.split_at(1);
            give_back(CLASS, rest);
            give_back(CLASS, one);
            let region = lock(CLASS);
            assert_eq!(
                (region.cold.len(), region.fresh.len()),
                (0, region.open),
                "one long run is made fresh"
            );
        }
        dismiss(CLASS, n);
        assert_eq!(lock(CLASS).admitted, 0);
    }

    #[test]
    fn who_was_admitted_waits_for_slots_that_are_about_to_come_back() {
        // A class that no other test uses, whose region is small.
        const CLASS: u8 = 13;
        admit(CLASS, 1).unwrap();
        let most = lock(CLASS).most;
        let n = most - most.div_ceil(CACHED);
        admit(CLASS, n - 1).unwrap();
        let starts = all_slots(CLASS, n, |_| {});
        // As many may begin as have ended, when the scavenger has what these had.
        let returning = Return::begin(CLASS, n + 10);
        dismiss(CLASS, n);
        admit(CLASS, n).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let others = thread::spawn(move || all_slots(CLASS, n, |got| tell.send(got).unwrap()));
        // The caches' eighth is all that there is meanwhile.
        while told.recv().unwrap() < most - n {}
        (0..1000).for_each(|_| thread::yield_now());
        returning.finish(&starts);
        let starts = others.join().unwrap();
        assert!(starts.windows(2).all(|w| w[0] != w[1]), "handed out twice");
        give_back(CLASS, &starts);
        dismiss(CLASS, n);
        let region = lock(CLASS);
        assert_eq!((region.away, region.admitted), (0, 0));
    }

    #[test]
    fn what_was_put_into_the_depot_meanwhile_is_found() {
        const CLASS: u8 = 12;
        admit(CLASS, 1).unwrap();
        assert!(matches!(take(CLASS, 1, || Some(7)), Ok(Found::Stack(7))));
        dismiss(CLASS, 1);
    }

    #[test]
    fn who_is_not_admitted_is_told_the_limit() {
        const CLASS: u8 = CLASSES as u8 - 1;
        admit(CLASS, 1).unwrap();
        let err = admit(CLASS, usize::MAX >> 20).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::OutOfMemory);
        assert!(err.to_string().contains("address space") && err.to_string().contains("ulimit -v"), "{err}");
        dismiss(CLASS, 1);
    }
}
