//! What is done where the program's allocator refuses. `std` ends the process there, with words of its own.
//!
//! - On the way of a caller's operation it is asked first, by [`try_box`], [`try_text`] or `try_reserve`, and the operation
//!   fails before it has changed anything: with an error, or by [`Short::refuse`].
//! - A list that grows where nobody can be told (under a lock, on g0) grows ahead of the need. If it cannot, that is noted
//!   (`note_short`), and operations that would need more of it fail as above, until there is memory again ([`check`]).
//! - If such a list is full all the same, the process ends: [`grow`].
//! - Where only `std` can allocate (an `Arc`, a thread) it is tried first whether there would be room ([`room`]). Another
//!   thread may take it in between.

use crate::throw::fatal;
use std::alloc::{Layout, alloc, dealloc};
use std::collections::{TryReserveError, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What `std` needs for a panic or an error with a message, about.
const MESSAGE: usize = 1024;
/// What must be free for [`check`] to believe that lists can grow again.
const PLENTY: usize = 64 << 10;

/// There is no memory for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    what: &'static str,
    bytes: usize,
}

impl Short {
    /// So many bytes for this.
    #[cold]
    pub fn of(what: &'static str, bytes: usize) -> Short {
        Short { what, bytes }
    }

    /// For an operation that has no error: panics, or ends the process if there is no memory for that either.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub fn refuse(self) -> ! {
        refuse(format_args!("{self}"))
    }
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Short { what, bytes } = self;
        write!(
            f,
            "no memory for {what}: the allocator refuses {bytes} bytes (see ulimit -v, ulimit -d, the control group's memory)"
        )
    }
}

impl std::error::Error for Short {}

impl From<Short> for io::Error {
    /// `OutOfMemory`; with the message, if there is memory for one.
    #[cold]
    fn from(short: Short) -> io::Error {
        match room("an error", MESSAGE) {
            Ok(()) => io::Error::new(io::ErrorKind::OutOfMemory, short),
            Err(_) => io::Error::from(io::ErrorKind::OutOfMemory),
        }
    }
}

/// Panics with a message that speaks of a want of memory, or ends the process with it if a panic cannot be had.
#[cold]
#[inline(never)]
#[track_caller]
pub fn refuse(message: fmt::Arguments<'_>) -> ! {
    if room("a panic", MESSAGE).is_err() {
        fatal(message);
    }
    panic!("{message}")
}

/// Whether there is so much memory at this moment.
///
/// # Errors
///
/// If not.
pub fn room(what: &'static str, bytes: usize) -> Result<(), Short> {
    drop(try_alloc(what, Layout::from_size_align(bytes, 16).map_err(|_| Short::of(what, bytes))?)?);
    Ok(())
}

/// Memory with nothing in it.
struct Block(*mut u8, Layout);

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.0, self.1) };
    }
}

fn try_alloc(what: &'static str, layout: Layout) -> Result<Block, Short> {
    debug_assert!(layout.size() > 0);
    // SAFETY: not empty.
    let p = std::hint::black_box(unsafe { alloc(layout) });
    if p.is_null() { Err(Short::of(what, layout.size())) } else { Ok(Block(p, layout)) }
}

/// A box of `v`.
///
/// # Errors
///
/// When there is no memory; with `v`.
pub fn try_box<T>(what: &'static str, v: T) -> Result<Box<T>, (Short, T)> {
    match try_box_for(what) {
        Ok(place) => Ok(Box::write(place, v)),
        Err(short) => Err((short, v)),
    }
}

/// A box for a value to come.
///
/// # Errors
///
/// When there is no memory.
pub fn try_box_for<T>(what: &'static str) -> Result<Box<std::mem::MaybeUninit<T>>, Short> {
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        return Ok(Box::new_uninit());
    }
    let block = std::mem::ManuallyDrop::new(try_alloc(what, layout)?);
    // SAFETY: allocated with the layout of a `T`, and nobody else has it.
    Ok(unsafe { Box::from_raw(block.0.cast()) })
}

/// An `Arc` of `v`.
///
/// # Errors
///
/// When there is no memory.
pub fn try_arc<T>(what: &'static str, v: T) -> Result<Arc<T>, Short> {
    // The counts lie before it.
    room(what, size_of::<T>() + 2 * size_of::<usize>().max(align_of::<T>()))?;
    Ok(Arc::new(v))
}

/// [`try_arc`] for an operation that has no error.
#[track_caller]
pub fn arc<T>(what: &'static str, v: T) -> Arc<T> {
    try_arc(what, v).unwrap_or_else(|short| short.refuse())
}

/// A box of `v`, for an operation that has no error.
#[track_caller]
pub fn boxed<T>(what: &'static str, v: T) -> Box<T> {
    try_box(what, v).unwrap_or_else(|(short, _)| short.refuse())
}

/// An empty list with room for `n`, for an operation that has no error.
#[track_caller]
pub fn list<T>(what: &'static str, n: usize) -> Vec<T> {
    let mut list = Vec::new();
    if list.try_reserve_exact(n).is_err() {
        Short::of(what, n.saturating_mul(size_of::<T>())).refuse();
    }
    list
}

/// The text in memory of its own.
///
/// # Errors
///
/// When there is no memory.
pub fn try_text(what: &'static str, text: &str) -> Result<Box<str>, Short> {
    let mut copy = String::new();
    copy.try_reserve_exact(text.len()).map_err(|_| Short::of(what, text.len()))?;
    copy.push_str(text);
    Ok(exact(what, copy)?.into_boxed_str())
}

/// The text with no room to spare, so that it is a `Box<str>` without another allocation.
///
/// # Errors
///
/// When there is no memory.
pub fn exact(what: &'static str, text: String) -> Result<String, Short> {
    if text.capacity() == text.len() {
        return Ok(text);
    }
    let mut copy = String::new();
    copy.try_reserve_exact(text.len()).map_err(|_| Short::of(what, text.len()))?;
    copy.push_str(&text);
    Ok(copy)
}

/// A list of `std` that can be asked to grow.
pub trait List {
    /// Grows by room for `n`, unless it has that.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    fn try_grow(&mut self, n: usize) -> Result<(), TryReserveError>;

    /// So many have room beside those that are in it.
    fn spare(&self) -> usize;
}

impl<T> List for Vec<T> {
    fn try_grow(&mut self, n: usize) -> Result<(), TryReserveError> {
        self.try_reserve(n)
    }

    fn spare(&self) -> usize {
        self.capacity() - self.len()
    }
}

impl<T> List for VecDeque<T> {
    fn try_grow(&mut self, n: usize) -> Result<(), TryReserveError> {
        self.try_reserve(n)
    }

    fn spare(&self) -> usize {
        self.capacity() - self.len()
    }
}

/// Room for `n` more where nobody can be told that there is none: then the process ends.
#[inline]
pub fn grow(what: &'static str, list: &mut impl List, n: usize) {
    if list.spare() < n {
        grow_now(what, list, n);
    }
}

#[cold]
#[inline(never)]
fn grow_now(what: &'static str, list: &mut impl List, n: usize) {
    if list.try_grow(n).is_err() {
        fatal(format_args!("no memory for {what}: the allocator refuses room for {n} more"));
    }
}

/// As [`grow`], with room for `ahead` more after that. If only that cannot be had, it is noted.
#[inline]
pub fn grow_ahead(what: &'static str, list: &mut impl List, n: usize, ahead: usize) {
    if list.spare() < n + ahead {
        grow_ahead_now(what, list, n, ahead);
    }
}

#[cold]
#[inline(never)]
fn grow_ahead_now(what: &'static str, list: &mut impl List, n: usize, ahead: usize) {
    if list.try_grow(n + ahead).is_err() {
        note_short();
        grow(what, list, n);
    }
}

/// A list could not grow ahead of the need.
static SHORT: AtomicBool = AtomicBool::new(false);

/// Notes that a list could not grow ahead of the need.
#[cold]
pub fn note_short() {
    SHORT.store(true, Ordering::Relaxed);
}

/// Whether there is memory for what grows with an operation that is about to begin.
///
/// # Errors
///
/// When there is none.
#[inline]
pub fn check(what: &'static str) -> Result<(), Short> {
    if SHORT.load(Ordering::Relaxed) { check_now(what) } else { Ok(()) }
}

#[cold]
#[inline(never)]
fn check_now(what: &'static str) -> Result<(), Short> {
    room(what, PLENTY)?;
    SHORT.store(false, Ordering::Relaxed);
    Ok(())
}
