//! Size classes: how large the slots of stacks are, and which one a wanted size needs.
//!
//! Class 0 is the default, and its slot is as small as a guard and a useful stack allow, because a parked goroutine
//! pays for it: its touched page, and its share of a page of page tables, which the kernel keeps for each 2 MiB
//! of address space that has a page or a guard in it. The other classes double, from 256 KiB to 2 GiB.
//!
//! | slot | usable | page tables per parked goroutine |
//! | --- | --- | --- |
//! | 256 KiB | 190 KiB | 512 B |
//! | 196 KiB (the default, optimised) | 130 KiB | 392 B |
//! | 172 KiB | 106 KiB | 344 B |
//!
//! The smallest would do for the 100 KiB that are promised, and saves one percent of a parked goroutine. 130 KiB is a little
//! more than the threads of musl have, with which most Rust programs get by.
//!
//! **Without optimisation** frames hold many copies of their values, and what runs in 130 KiB in a release does not in a test.
//! So with debug assertions class 0 has 962 KiB, which is what crates that recurse need at their own limits (docs/safety.md
//! has the table); the slots make 2 KiB of page tables for each parked goroutine, and there is room for 1.8 million.
//!
//! An odd number of pages, so that the one page that each parked goroutine touches falls into every set of the TLB in
//! turn; at a power of two all of them would compete for a few sets (touching the pages of 200,000 stacks one after the
//! other took 48 ns each at 256 KiB, 36 ns at 172 KiB).
//!
//! For the same reason not all stacks begin at the end of their slots ([`shift`]): the lines that a parked goroutine needs when
//! it goes on would all be at the same places of their pages, and compete for a fifth of the sets of the caches. They begin in
//! eight places, up to 1792 bytes below the end, which leaves 2.2 KiB of the first page in the worst case. (A ring of 503
//! goroutines took 104 ns for each hop before, 91 after; the prime sieve 194 µs for each prime before, 176 after.)

use std::fmt;

/// Bytes without access at the low end of each slot. More than a page, because functions that were compiled without
/// stack probes (C, assembly) may step over one page.
pub const GUARD: usize = 64 << 10;
/// Stacks begin at so many different distances from the ends of their slots, this far apart.
const SHIFTS: usize = 8;
const SHIFT: usize = 256;
/// What a stack cannot use above its guard, at most.
const UNUSABLE: usize = (SHIFTS - 1) * SHIFT + super::coro::HEAD;
/// The slot of class 0. A multiple of the largest page that the architecture is run with.
const DEFAULT_SLOT: usize = match (cfg!(debug_assertions), cfg!(target_arch = "x86_64")) {
    (false, true) => 196 << 10,
    (false, false) => 192 << 10,
    (true, true) => 1028 << 10,
    (true, false) => 1088 << 10,
};
/// The slot of class 1. Classes whose slots are smaller than the default's are not used.
const SECOND_SLOT: usize = 256 << 10;
/// The largest slot is 2 GiB, for stacks of up to 1 GiB and more.
pub const CLASSES: usize = 15;

/// What a goroutine's stack is when nobody says: all that class 0 has.
pub const DEFAULT_STACK: usize = usable(0);
/// Below this no stack can run a panic's unwinding and its report.
pub const MIN_STACK: usize = 16 << 10;
/// What `stack_size` may be at most.
pub const MAX_STACK: usize = 1 << 30;

/// The class whose stacks have at least `size` usable bytes.
///
/// # Errors
///
/// [`StackSizeError`] when the size is out of range.
pub fn class_of(size: usize) -> Result<u8, StackSizeError> {
    if !(MIN_STACK..=MAX_STACK).contains(&size) {
        return Err(StackSizeError { size });
    }
    if size <= DEFAULT_STACK {
        return Ok(0);
    }
    let slot = (size + GUARD + UNUSABLE).next_power_of_two().max(SECOND_SLOT);
    Ok((slot / SECOND_SLOT).trailing_zeros() as u8 + 1)
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
#[inline]
pub const fn slot_size(class: u8) -> usize {
    if class == 0 { DEFAULT_SLOT } else { SECOND_SLOT << (class - 1) }
}

/// Usable bytes of a stack of this class.
pub const fn usable(class: u8) -> usize {
    slot_size(class) - GUARD - UNUSABLE
}

/// How far below its slot's end the stack of slot number `n` of its region begins.
#[inline]
pub const fn shift(n: usize) -> usize {
    n % SHIFTS * SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_a_class_that_holds_it() {
        for size in [MIN_STACK, 100 << 10, DEFAULT_STACK, DEFAULT_STACK + 1, 192 << 10, 1 << 20, MAX_STACK] {
            let class = class_of(size).unwrap();
            assert!((class as usize) < CLASSES);
            assert!(usable(class) >= size, "{size} in class {class}");
            assert!((0..class).all(|smaller| usable(smaller) < size), "{size} in class {class}");
        }
        assert_eq!(class_of(DEFAULT_STACK), Ok(0));
        assert_ne!(class_of(DEFAULT_STACK + 1), Ok(0));
    }

    #[test]
    fn the_default_has_what_is_promised() {
        const { assert!(DEFAULT_STACK >= (100 << 10) + 4096) };
    }

    #[test]
    fn sizes_out_of_range_are_refused_by_name() {
        for size in [0, 1, MIN_STACK - 1, MAX_STACK + 1, usize::MAX] {
            let err = class_of(size).unwrap_err().to_string();
            assert!(err.contains(&format!("{size} bytes")) && err.contains("16384..=1073741824"), "{err}");
        }
    }
}
