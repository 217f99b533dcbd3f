//! What is asked of the kernel for stacks: address space, guards, pages and their return.
//!
//! **Guards** come in two kinds, chosen once, when the first region is reserved:
//!
//! - [`Guards::Advise`]: `MADV_GUARD_INSTALL`, Linux 6.13 and later. The pages of a guard are marked in the page tables, no
//!   mapping is split: a million stacks lie in one. One call installs the guards of many slots where the kernel lets
//!   `process_madvise` work on the caller itself by a constant (`PIDFD_SELF`); else one call each.
//! - [`Guards::Protect`]: before that. `mprotect` takes the access to each guard away, which makes two mappings per slot;
//!   `vm.max_map_count` then bounds the number of stacks ([`slots_allowed`]).
//!
//! A filter that the program puts up later may have the kernel refuse the first kind from then on: then it is
//! the second for what comes after.
//!
//! The environment variable `GORT_STACK_GUARD=mprotect` chooses the second kind on any kernel, for tests.
//!
//! **Trust.** Emulators and sandboxes answer calls that they do not know with success. So a kind is taken only if a page that was
//! guarded by it cannot be read any more, which the kernel is asked to do, because it answers with an error where we would
//! get a signal. If neither kind holds, the program is told so, and goes on.
//!
//! **Return.** [`discard`] gives pages back and keeps guards and page tables; [`reset`] makes a range as new, which frees
//! the page tables as well. `MADV_DONTNEED` and not `MADV_FREE`: it costs the same per page when many are given back at once
//! (docs/benchmarks.md), and what `MADV_FREE` has given back still counts as resident until memory is short, which
//! reads as a leak.

use super::class::GUARD;
use crate::env;
use crate::throw::report;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

/// A range of addresses.
pub type Span = Range<usize>;

/// How guards are made; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Guards {
    /// `MADV_GUARD_INSTALL`.
    Advise = 1,
    /// `mprotect`.
    Protect = 2,
}

const MADV_GUARD_INSTALL: libc::c_int = 102;
const MADV_POPULATE_WRITE: libc::c_int = 23;
/// The calling process, for calls that take a pidfd (Linux 6.14; not in older headers).
const PIDFD_SELF_PROCESS: libc::c_int = -10_001;
/// Ranges in one `process_madvise`.
const BATCH: usize = 64;
/// What is not taken for stacks where memory is counted: without any the program can no longer even say what is wrong.
const HEADROOM: usize = 128 << 20;
/// What a thread takes: its stack and its part of the heap.
const PER_THREAD: usize = 4 << 20;
/// The part of a limited address space (`ulimit -v`) that is not taken for stacks, if [`HEADROOM`] and the
/// threads need as much.
const LEFT: usize = 8;
/// Of the mappings that the kernel allows, the part that is left to the rest of the program.
const MAPPINGS_LEFT: usize = 16;

static GUARDS: AtomicU8 = AtomicU8::new(0);

/// The kind of guards that this process uses. The first call decides.
pub fn guards() -> Guards {
    // Relaxed: all that decide come to the same answer.
    match GUARDS.load(Ordering::Relaxed) {
        1 => return Guards::Advise,
        2 => return Guards::Protect,
        _ => {}
    }
    let forced = env::choice("GORT_STACK_GUARD", &[("mprotect", Guards::Protect)]);
    let advise = forced.is_none() && holds(Guards::Advise).unwrap_or(false);
    let kind = if advise { Guards::Advise } else { Guards::Protect };
    // Without memory for a trial nothing is known, and who needs a stack will hear of that.
    let trusted = advise || holds(Guards::Protect).unwrap_or(true);
    if GUARDS.swap(kind as u8, Ordering::Relaxed) == 0 && !trusted {
        report(format_args!("{UNGUARDED}"));
    }
    kind
}

/// The kernel refuses what it did before.
#[cold]
fn advise_no_more() {
    if GUARDS.swap(Guards::Protect as u8, Ordering::Relaxed) == Guards::Advise as u8 {
        report(format_args!(
            "gort: the kernel refuses madvise(MADV_GUARD_INSTALL) from now on (a seccomp filter?): each new stack takes two memory \
             mappings, of which vm.max_map_count allows {}",
            max_map_count()
        ));
    }
}

const UNGUARDED: &str = "\
gort: stacks have no guards here: the system says that pages cannot be accessed any more, and they can. A goroutine that runs
out of its stack goes on in the memory of others, and nobody notices. An emulator or a sandbox may be the reason; leave stacks
more room there (GORT_STACK_SIZE)";

/// Tries a guard on a mapping of its own: whether it could be made, and keeps its memory from being read.
///
/// # Errors
///
/// The kernel's, if there is no memory to try it on.
fn holds(kind: Guards) -> io::Result<bool> {
    let at = map_anywhere(GUARD)?;
    let span = at..at + GUARD;
    let held = protect(&span, libc::PROT_READ | libc::PROT_WRITE).map(|()| {
        guard_all(kind, std::iter::once(span.clone())).is_ok()
            && !is_readable(span.start)
            && !is_readable(span.end - page_size())
    });
    // SAFETY: just mapped, and nobody else knows it.
    unsafe { libc::munmap(at as *mut libc::c_void, GUARD) };
    held
}

/// Whether a page is mapped that cannot be read.
pub fn is_guard(at: usize) -> bool {
    let mut has = 0_u8;
    // SAFETY: writes a byte for the one page.
    let mapped = unsafe { libc::mincore(at as *mut libc::c_void, page_size(), &raw mut has) == 0 };
    mapped && !is_readable(at)
}

/// Whether the kernel can read zeros there, as a set of signals: that no more of them be blocked.
fn is_readable(at: usize) -> bool {
    // SAFETY: the kernel reads its set of 8 bytes there or says that it cannot; no signals in it, nothing changes. (Not by way of
    // the C library, which looks at the set itself.)
    unsafe {
        let set = std::ptr::with_exposed_provenance::<u8>(at);
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, set, std::ptr::null_mut::<u8>(), 8_usize)
            == 0
    }
}

/// How many slots the kernel's limit of mappings allows; no bound with [`Guards::Advise`].
pub fn slots_allowed() -> usize {
    if guards() == Guards::Advise {
        return usize::MAX;
    }
    max_map_count() / MAPPINGS_LEFT * (MAPPINGS_LEFT - 1) / 2
}

/// `vm.max_map_count`, or what it is by default.
pub fn max_map_count() -> usize {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    text.ok().and_then(|t| t.trim().parse().ok()).unwrap_or(65_530)
}

/// Bytes of a page.
pub fn page_size() -> usize {
    // SAFETY: asks for a constant.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// What this process's address space may be, if it is limited (`ulimit -v`).
pub fn address_limit() -> Option<usize> {
    limit_of(libc::RLIMIT_AS)
}

/// What the C library numbers resources with.
#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

fn limit_of(resource: Resource) -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes the struct.
    let ok = unsafe { libc::getrlimit(resource, &raw mut limit) } == 0;
    (ok && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur as usize)
}

/// Address space without access, memory or commitment.
///
/// # Errors
///
/// The kernel's.
pub fn reserve(len: usize) -> io::Result<usize> {
    let at = map_anywhere(len)?;
    no_huge_pages(&(at..at + len));
    Ok(at)
}

/// The same, with nothing mapped behind it that would keep it from growing ([`extend`]). Several regions may
/// be asked for, which are told by number.
///
/// # Errors
///
/// The kernel's; also where it has no such place.
pub fn reserve_alone(number: usize, len: usize) -> io::Result<usize> {
    // The kernel maps from the top of the address space downwards, and the heap is near its middle: far below
    // the top is nothing.
    let top = map_anywhere(page_size())?;
    // SAFETY: just mapped, and nobody else knows it.
    unsafe { libc::munmap(top as *mut libc::c_void, page_size()) };
    let mut last = io::Error::from(io::ErrorKind::OutOfMemory);
    for far in [16 << 40, 64 << 30_usize] {
        let at = top.saturating_sub(far) + number * (far / super::class::CLASSES.next_power_of_two());
        let at = at & !((2 << 20) - 1);
        match map_at(at, len) {
            Ok(()) => return Ok(at),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Reserves `span`, which begins where a reserved one ends, if the rest of the program is left some memory.
///
/// # Errors
///
/// The kernel's; also where something else is there already.
pub fn extend(span: &Span, threads: usize) -> io::Result<()> {
    map_at(span.start, span.len())?;
    check_headroom(threads).inspect_err(|_| {
        // SAFETY: just mapped, and nobody else knows it.
        unsafe { libc::munmap(span.start as *mut libc::c_void, span.len()) };
    })
}

fn map_at(at: usize, len: usize) -> io::Result<()> {
    let flags = ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: a new mapping, in place of none.
    let p = unsafe { libc::mmap(at as *mut libc::c_void, len, libc::PROT_NONE, flags, -1, 0) };
    if p == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    if p as usize != at {
        // A kernel before 4.17, which takes the address as a wish.
        // SAFETY: just mapped, and nobody else knows it.
        unsafe { libc::munmap(p, len) };
        return Err(io::Error::from(io::ErrorKind::AlreadyExists));
    }
    no_huge_pages(&(at..at + len));
    Ok(())
}

fn map_anywhere(len: usize) -> io::Result<usize> {
    // SAFETY: a new mapping at an address of the kernel's choice.
    let p = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, ANONYMOUS, -1, 0) };
    if p == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(p as usize) }
}

const ANONYMOUS: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

/// Huge pages would commit 2 MiB for a goroutine that touches one page. Failing is no harm.
fn no_huge_pages(span: &Span) {
    // SAFETY: changes no contents.
    unsafe { libc::madvise(span.start as *mut libc::c_void, span.len(), libc::MADV_NOHUGEPAGE) };
}

/// Makes reserved address space accessible, if the rest of the program is left some memory, so many threads included that
/// may be started yet.
///
/// # Errors
///
/// The kernel's, where it counts what may be used (`RLIMIT_DATA`, strict overcommit): out of memory. Then the span is as
/// it was.
pub fn open(span: &Span, threads: usize) -> io::Result<()> {
    protect(span, libc::PROT_READ | libc::PROT_WRITE)?;
    check_headroom(threads).inspect_err(|_| {
        let _ = protect(span, libc::PROT_NONE);
    })
}

/// Whether the kernel would let the program have some more memory: for its heap, and the stacks of its threads.
fn check_headroom(threads: usize) -> io::Result<()> {
    let data = limit_of(libc::RLIMIT_DATA).map_or(usize::MAX, |limit| limit / 2);
    let space = address_limit().map_or(usize::MAX, |limit| limit / LEFT);
    // In a model all threads are one.
    let threads = if cfg!(shuttle) { 1 } else { threads };
    let len = (HEADROOM + threads * PER_THREAD).min(data).min(space);
    // SAFETY: a new mapping at an address of the kernel's choice, and gone at once.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let p = libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if p == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        libc::munmap(p, len);
    }
    Ok(())
}

/// Guards the slots that make up `span`.
///
/// # Errors
///
/// The kernel's; then no slot may be used.
pub fn guard(span: &Span, slot: usize) -> io::Result<()> {
    let guards_of = || span.clone().step_by(slot).map(|at| at..at + GUARD);
    if guards() == Guards::Advise {
        match guard_all(Guards::Advise, guards_of()) {
            Err(e) if e.raw_os_error() != Some(libc::ENOMEM) => advise_no_more(),
            answer => return answer,
        }
    }
    guard_all(Guards::Protect, guards_of())
}

fn guard_all(kind: Guards, mut spans: impl Iterator<Item = Span>) -> io::Result<()> {
    match kind {
        Guards::Advise => advise_all(spans, MADV_GUARD_INSTALL),
        Guards::Protect => spans.try_for_each(|span| protect(&span, libc::PROT_NONE)),
    }
}

/// Has the kernel give the last page of each slot now, in one call, and not at the first touch of each. Failing is no
/// harm.
pub fn populate(span: &Span, slot: usize) {
    let page = page_size();
    let tops = span.clone().step_by(slot).map(|at| at + slot - page..at + slot);
    let _ = advise_all(tops, MADV_POPULATE_WRITE);
}

/// Gives the pages of slots back to the kernel; the guards stay.
pub fn discard(spans: impl Iterator<Item = Span>) {
    // The ranges are mapped and anonymous; what can fail is only the kernel's memory for splitting a mapping.
    let _ = advise_all(spans, libc::MADV_DONTNEED);
}

/// Makes a span as new: no pages, no guards, no page tables.
///
/// # Errors
///
/// The kernel's; then the span is as it was.
pub fn reset(span: &Span) -> io::Result<()> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let at = span.start as *mut libc::c_void;
    // SAFETY: replaces slots of ours that nobody uses.
    let p = unsafe { libc::mmap(at, span.len(), access, ANONYMOUS | libc::MAP_FIXED, -1, 0) };
    if p == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    no_huge_pages(span);
    Ok(())
}

/// The lowest page of a span that has memory; `None` if none has, or the kernel does not say.
pub fn lowest_page(span: &Span) -> Option<usize> {
    let page = page_size();
    let mut pages = [0_u8; 512];
    for start in span.clone().step_by(pages.len() * page) {
        let n = (span.end - start).div_ceil(page).min(pages.len());
        // SAFETY: writes a byte for each of `n` pages, for which there is room.
        if unsafe { libc::mincore(start as *mut libc::c_void, n * page, pages.as_mut_ptr()) } != 0 {
            return None;
        }
        if let Some(first) = pages[..n].iter().position(|has| has & 1 != 0) {
            return Some(start + first * page);
        }
    }
    None
}

/// The same advice for many ranges, in as few calls as the kernel lets us.
fn advise_all(mut spans: impl Iterator<Item = Span>, advice: libc::c_int) -> io::Result<()> {
    loop {
        let mut batch = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
        let mut n = 0;
        for span in spans.by_ref().take(BATCH) {
            batch[n] = libc::iovec {
                iov_base: std::ptr::with_exposed_provenance_mut(span.start),
                iov_len: span.len(),
            };
            n += 1;
        }
        if n == 0 {
            return Ok(());
        }
        advise_batch(&batch[..n], advice)?;
    }
}

fn advise_batch(batch: &[libc::iovec], advice: libc::c_int) -> io::Result<()> {
    let bytes: usize = batch.iter().map(|io| io.iov_len).sum();
    // SAFETY: the ranges are slots of ours; the advices destroy only the contents of slots that nobody uses.
    let done = unsafe {
        libc::syscall(libc::SYS_process_madvise, PIDFD_SELF_PROCESS, batch.as_ptr(), batch.len(), advice, 0)
    };
    if done == bytes as libc::c_long {
        return Ok(());
    }
    // Not known to this kernel, or refused, or done in part: one by one, which says what is wrong if something is.
    batch.iter().try_for_each(|io| {
        let start = io.iov_base as usize;
        advise(start..start + io.iov_len, advice)
    })
}

fn advise(span: Span, advice: libc::c_int) -> io::Result<()> {
    // SAFETY: as in `advise_batch`.
    match unsafe { libc::madvise(span.start as *mut libc::c_void, span.len(), advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn protect(span: &Span, access: libc::c_int) -> io::Result<()> {
    // SAFETY: the range lies in a region, in slots that nobody uses yet.
    match unsafe { libc::mprotect(span.start as *mut libc::c_void, span.len(), access) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
