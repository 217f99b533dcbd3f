//! The address space that stacks live in: one region per size class, cut into slots aligned to their size.
//!
//! Class k has slots of `MIN_SLOT << k` bytes, the lowest [`GUARD`] bytes of each without access. A region is
//! reserved without memory (`PROT_NONE`) when its class is first used, as large as the process's limits allow, and
//! made accessible slot by slot; only touched pages cost memory. Regions are never given back.
//!
//! From any stack pointer, [`slot_end`] gives the slot by arithmetic, without a thread-local and without a lock:
//! region bounds are written once, before any stack of the region exists, so whoever runs on such a stack sees them
//! (the hand-over of its G orders that); a plain thread that reads an old zero gets "not a goroutine", which is true.
//!
//! Guards: `madvise(MADV_GUARD_INSTALL)` on Linux 6.13 and later, which splits no mapping; `mprotect` before that,
//! two mappings per stack, so `vm.max_map_count` bounds the number of stacks there.

use crate::sync::atomic::{AtomicUsize, Ordering};
use std::fmt;
use std::io;

/// Bytes without access at the low end of each slot. More than a page, because functions that were compiled without
/// stack probes (C, assembly) may step over one page.
pub const GUARD: usize = 64 << 10;
/// The slot of the smallest class: with the guard taken off, 192 KiB are usable, of which only touched pages exist.
pub const MIN_SLOT: usize = 256 << 10;
/// The largest slot is 2 GiB, for stacks of up to 1 GiB and more.
pub const CLASSES: usize = 14;
/// What a goroutine's stack is when nobody says: the smallest class, all of it.
pub const DEFAULT_STACK: usize = MIN_SLOT - GUARD - super::coro::HEAD;
/// Below this no stack can run a panic's unwinding and its report.
pub const MIN_STACK: usize = 16 << 10;
/// What `stack_size` may be at most.
pub const MAX_STACK: usize = 1 << 30;

/// Address space of a region when nothing forbids it: 4 Mi stacks of the smallest class.
const REGION: usize = 1 << 40;

const MADV_GUARD_INSTALL: libc::c_int = 102;

/// The class whose stacks have at least `size` usable bytes.
///
/// # Errors
///
/// [`StackSizeError`] when no class fits or the size is below [`MIN_STACK`].
pub fn class_of(size: usize) -> Result<u8, StackSizeError> {
    if !(MIN_STACK..=MAX_STACK).contains(&size) {
        return Err(StackSizeError { size });
    }
    let slot = (size + GUARD + super::coro::HEAD).next_power_of_two().max(MIN_SLOT);
    Ok((slot / MIN_SLOT).trailing_zeros() as u8)
}

/// A stack size that no goroutine can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackSizeError {
    size: usize,
}

impl fmt::Display for StackSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a stack size of {} bytes is outside {MIN_STACK}..={MAX_STACK}", self.size)
    }
}

impl std::error::Error for StackSizeError {}

/// Bytes of a slot of this class.
const fn slot_size(class: u8) -> usize {
    MIN_SLOT << class
}

/// A region's bounds, as stack pointers look them up. All zero until the class is first used.
struct Bounds {
    low: AtomicUsize,
    len: AtomicUsize,
}

static REGIONS: [Bounds; CLASSES] =
    [const { Bounds { low: AtomicUsize::new(0), len: AtomicUsize::new(0) } }; CLASSES];

/// The end of the slot that an address lies in, if it lies in a region.
#[inline]
pub fn slot_end(addr: usize) -> Option<usize> {
    // Relaxed: see the module; the bounds are constant for whoever runs in the region.
    let b = &REGIONS[0];
    if addr.wrapping_sub(b.low.load(Ordering::Relaxed)) < b.len.load(Ordering::Relaxed) {
        return Some((addr | (MIN_SLOT - 1)) + 1);
    }
    slot_end_large(addr)
}

/// [`slot_end`] for the classes above the smallest.
fn slot_end_large(addr: usize) -> Option<usize> {
    (1..CLASSES as u8).find_map(|class| {
        let b = &REGIONS[class as usize];
        (addr.wrapping_sub(b.low.load(Ordering::Relaxed)) < b.len.load(Ordering::Relaxed))
            .then(|| (addr | (slot_size(class) - 1)) + 1)
    })
}

/// Where the next slot of each class comes from. Used on g0 only.
static NEXT: [parking_lot::Mutex<usize>; CLASSES] = [const { parking_lot::Mutex::new(0) }; CLASSES];

/// A fresh slot: `(start, end)`, guarded and readable.
///
/// # Errors
///
/// What the kernel refused, with the limit that it most likely was.
pub fn new_slot(class: u8) -> io::Result<(usize, usize)> {
    let mut next = NEXT[class as usize].lock();
    let size = slot_size(class);
    if *next == 0 {
        *next = reserve(class)?;
    }
    let b = &REGIONS[class as usize];
    let end_of_region = b.low.load(Ordering::Relaxed) + b.len.load(Ordering::Relaxed);
    if end_of_region - *next < size {
        return Err(io::Error::other(format!(
            "all {} bytes of address space for stacks of this size are in use (see ulimit -v)",
            b.len.load(Ordering::Relaxed)
        )));
    }
    let start = *next;
    open(start, size)?;
    *next += size;
    Ok((start, start + size))
}

/// Reserves the class's region; the start of its first slot.
fn reserve(class: u8) -> io::Result<usize> {
    let slot = slot_size(class);
    let mut len = REGION;
    loop {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let p = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len + slot,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if p != libc::MAP_FAILED {
            // Huge pages would commit 2 MiB for a goroutine that touches one page. Failing is no harm.
            // SAFETY: the range was just mapped.
            unsafe { libc::madvise(p, len + slot, libc::MADV_NOHUGEPAGE) };
            let low = (p as usize).next_multiple_of(slot);
            let b = &REGIONS[class as usize];
            b.len.store(len, Ordering::Relaxed);
            b.low.store(low, Ordering::Relaxed);
            return Ok(low);
        }
        let err = io::Error::last_os_error();
        len /= 4;
        if len < slot {
            return Err(io::Error::new(
                err.kind(),
                format!("no address space for a stack of {slot} bytes (see ulimit -v): {err}"),
            ));
        }
    }
}

/// Makes a slot accessible above its guard.
fn open(start: usize, size: usize) -> io::Result<()> {
    // One mapping grows over all open slots if the guards need no protection of their own.
    if guards_by_madvise(start, size)? {
        return Ok(());
    }
    protect(start + GUARD, size - GUARD, libc::PROT_READ | libc::PROT_WRITE)
}

/// Opens the whole slot and asks the kernel for a guard inside it; false where the kernel cannot.
fn guards_by_madvise(start: usize, size: usize) -> io::Result<bool> {
    const UNKNOWN: usize = 0;
    const YES: usize = 1;
    const NO: usize = 2;
    static SUPPORTED: AtomicUsize = AtomicUsize::new(UNKNOWN);
    // Relaxed: every prober comes to the same answer.
    if SUPPORTED.load(Ordering::Relaxed) == NO {
        return Ok(false);
    }
    protect(start, size, libc::PROT_READ | libc::PROT_WRITE)?;
    // SAFETY: the range is ours and holds nothing.
    if unsafe { libc::madvise(start as *mut libc::c_void, GUARD, MADV_GUARD_INSTALL) } == 0 {
        SUPPORTED.store(YES, Ordering::Relaxed);
        return Ok(true);
    }
    let err = io::Error::last_os_error();
    protect(start, GUARD, libc::PROT_NONE)?;
    if SUPPORTED.load(Ordering::Relaxed) == YES {
        // It worked before: this is about memory (page tables), not about the kernel's age.
        return Err(io::Error::new(err.kind(), format!("no memory to guard a stack: {err}")));
    }
    SUPPORTED.store(NO, Ordering::Relaxed);
    Ok(true)
}

/// `mprotect` with an error that names the limit.
fn protect(start: usize, len: usize, prot: libc::c_int) -> io::Result<()> {
    // SAFETY: the range lies in a region, in a slot that nobody uses yet.
    if unsafe { libc::mprotect(start as *mut libc::c_void, len, prot) } == 0 {
        return Ok(());
    }
    let err = io::Error::last_os_error();
    Err(io::Error::new(
        err.kind(),
        format!(
            "cannot map a stack of {len} bytes: {err} (memory, overcommit, or vm.max_map_count mappings ran out)"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_a_class_that_holds_it() {
        for size in [MIN_STACK, 100 << 10, DEFAULT_STACK, DEFAULT_STACK + 1, 1 << 20, 64 << 20, MAX_STACK] {
            let class = class_of(size).unwrap();
            assert!((class as usize) < CLASSES);
            assert!(slot_size(class) - GUARD - super::super::coro::HEAD >= size, "{size} in class {class}");
        }
        assert_eq!(class_of(DEFAULT_STACK), Ok(0));
        assert_eq!(class_of(DEFAULT_STACK + 1), Ok(1));
    }

    #[test]
    fn sizes_out_of_range_are_refused_by_name() {
        for size in [0, 1, MIN_STACK - 1, MAX_STACK + 1, usize::MAX] {
            let err = class_of(size).unwrap_err().to_string();
            assert!(err.contains(&format!("{size} bytes")) && err.contains("16384..=1073741824"), "{err}");
        }
    }

    #[test]
    fn an_address_leads_to_its_slot() {
        for class in [0, 1, 4] {
            let (start, end) = new_slot(class).unwrap();
            let (start2, _) = new_slot(class).unwrap();
            assert_eq!(end - start, slot_size(class));
            assert!(start % slot_size(class) == 0 && start2 != start);
            for addr in [start, start + GUARD, end - 1] {
                assert_eq!(slot_end(addr), Some(end));
            }
            // SAFETY: the last word of a slot is usable and nobody else's.
            unsafe { ((end - 8) as *mut u64).write_volatile(1) };
            // SAFETY: so is the first one above the guard.
            unsafe { ((start + GUARD) as *mut u64).write_volatile(1) };
        }
        let here = 0;
        assert_eq!(slot_end(&raw const here as usize), None);
    }
}
