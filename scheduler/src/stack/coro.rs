//! A stack with the context that lives on it, and the switch onto it and off it.
//!
//! On a stack one goroutine runs after another: it is resumed with [`StackHead::g`] set, runs that G's body, and
//! suspends with [`Switch::Exit`]; the next resume finds the next G. So recycling a stack costs two stores, and what runs on
//! it never returns and is never dropped.
//!
//! Ownership: `resume` needs the exclusive right to the stack. Whoever holds a `Stack` that is not bound to a G has
//! it (pool); for a bound one the M that moved the G from Runnable to Running has it (see `g`).
//!
//! Who leaves a stack to come back later leaves a [`Record`] of its registers in its frame, and says in the head where it is,
//! so that others can walk the stack meanwhile (`unwind`). A record is good from the G's change to Waiting or Runnable
//! until its change to Running.

use super::class::GUARD;
use super::record::Record;
use super::{arena, pool};
use crate::g::{self, G};
use crate::local::Locals;
// Not the model's: stacks outlive an execution, and these words are for dumps only.
use super::switch::{Context, Host, Switch};
use crate::sync::prefetch;
use corosensei::stack::valgrind::ValgrindStackRegistration;
use corosensei::stack::{Stack as CoroStack, StackPointer};
use std::cell::Cell;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// Bytes at the end of a stack that belong to the [`StackHead`]. A context that tells a sanitizer of its switches is larger.
pub const HEAD: usize = if cfg!(gort_sanitize) { 128 } else { 64 };
const _: () =
    assert!(size_of::<StackHead>() <= HEAD && HEAD.is_multiple_of(corosensei::stack::STACK_ALIGNMENT));

/// Lines of the cache, from the end of the slot, that a goroutine which parked in a channel's operation has its frames
/// in. By measurement, optimised.
const PARKED_LINES: usize = 8;

/// What lies at the end of every stack, in one line of the cache.
#[repr(C)]
pub struct StackHead {
    /// The G that this stack is bound to, null while it is free. Written by the owner of the stack, read by whoever
    /// runs on it.
    g: Cell<*const G>,
    pub(super) context: Context,
    /// The goroutine's local variables, null while it has none. Written by whoever runs on the stack.
    locals: Cell<*mut Locals>,
    class: u8,
    /// How often a record was left, so that who walks the stack sees that it was in use meanwhile. Written by whoever runs
    /// on the stack.
    parks: AtomicU16,
    /// The last record's distance from the head; 0 before the first. Written as `parks` is.
    record: AtomicU32,
}

/// Where a stack's last record is; equal ones are the same record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    parks: u16,
    /// Where the slot's usable part ends.
    pub top: usize,
    /// Where the record is. In a slot that has changed hands meanwhile it may be anything.
    pub record: usize,
}

impl StackHead {
    /// The G whose stack ends at `end`, if one is bound.
    ///
    /// # Safety
    ///
    /// `end` is the end of a stack on which somebody runs.
    #[inline]
    pub unsafe fn g_at(end: usize) -> Option<&'static G> {
        // SAFETY: somebody runs in the slot, so its head is there; G memory is never freed.
        unsafe { (*((end - HEAD) as *const StackHead)).g.get().as_ref() }
    }
}

/// A stack: the slot, its coroutine and its head. Copies name the same stack; see the module for who may use it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(transparent)]
pub struct Stack(NonNull<StackHead>);

// SAFETY: a stack is memory; which thread may use it is the protocol's business (module docs), not the handle's.
unsafe impl Send for Stack {}

/// The usable part of a slot, by where the slot starts.
#[derive(Debug)]
pub struct Slot(usize);

impl Slot {
    /// A slot of the default class, for a stack that runs no goroutines.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn take() -> io::Result<Slot> {
        arena::admit(0, 1)?;
        match arena::take(0, 1, || pool::take_one(0)) {
            Ok(arena::Found::Slots(span)) => Ok(Slot(span.start)),
            Ok(arena::Found::Stack(stack)) => Ok(Slot::of(stack)),
            Err(e) => {
                arena::dismiss(0, 1);
                Err(e)
            }
        }
    }

    /// Gives back what [`Slot::take`] gave.
    pub fn give_back(self) {
        arena::give_back(0, &[self.0]);
        arena::dismiss(0, 1);
    }

    /// The slot of a stack whose contents nobody needs any more.
    pub fn of(stack: Stack) -> Slot {
        Slot(stack.retire())
    }

    /// A stack that runs `host` in place of goroutines.
    pub fn into_stack(self, host: Host) -> Stack {
        Stack::with_host(0, self.0, host)
    }

    /// Where a stack in it begins: the head is above that.
    pub fn high(&self) -> usize {
        end_of(self.0) - HEAD
    }

    /// Where a stack in it must have ended: the guard is below that.
    pub fn low(&self) -> usize {
        self.0 + GUARD
    }
}

// SAFETY: the slot has a guard at its low end and more than MIN_STACK usable bytes above it, and stays mapped.
unsafe impl CoroStack for Slot {
    fn base(&self) -> StackPointer {
        StackPointer::new(self.high()).expect("a slot is not at address 0")
    }
    fn limit(&self) -> StackPointer {
        StackPointer::new(self.low()).expect("a slot is not at address 0")
    }
}

impl Stack {
    /// Makes a stack of a free, guarded slot: puts its context in.
    pub fn new(class: u8, start: usize) -> Stack {
        let slot = Slot(start);
        // Valgrind is told that this is a stack, for as long as the process lives.
        let (low, usable) = (slot.low() as *mut u8, slot.high() - slot.low());
        std::mem::forget(ValgrindStackRegistration::new(low, usable));
        Stack::with_host(class, start, host)
    }

    fn with_host(class: u8, start: usize, host: Host) -> Stack {
        let slot = Slot(start);
        let head = slot.high() as *mut StackHead;
        // SAFETY: the slot is fresh, so the head's place and what is below it are ours alone, mapped and aligned (HEAD is).
        unsafe {
            head.write(StackHead {
                g: Cell::new(std::ptr::null()),
                context: Context::new(slot, head, host),
                locals: Cell::new(std::ptr::null_mut()),
                class,
                parks: AtomicU16::new(0),
                record: AtomicU32::new(0),
            });
            Stack(NonNull::new_unchecked(head))
        }
    }

    /// As a pointer, for [`Stack::from_ptr`].
    #[inline]
    pub fn as_ptr(self) -> *mut StackHead {
        self.0.as_ptr()
    }

    /// What [`Stack::as_ptr`] gave; `None` for null.
    #[inline]
    pub fn from_ptr(p: *mut StackHead) -> Option<Stack> {
        NonNull::new(p).map(Stack)
    }

    fn head(&self) -> &StackHead {
        // SAFETY: heads are written in `new` and stay until `retire`, which only the owner of a free stack calls.
        unsafe { self.0.as_ref() }
    }

    /// Makes a free slot of a free stack again, whose contents nobody needs; where it starts. The context is forgotten
    /// as it is: it stands between two goroutines, and owns nothing.
    pub fn retire(self) -> usize {
        debug_assert!(self.head().g.get().is_null(), "a G is bound to the stack");
        let head = self.0.as_ptr() as usize;
        let start = arena::locate(head).expect("a head lies in a slot").1.start;
        #[cfg(gort_sanitize)]
        sanitizer_forget(start + GUARD, head - (start + GUARD));
        start
    }

    /// The size class.
    pub fn class(self) -> u8 {
        self.head().class
    }

    /// Binds the stack to a G, or frees it. The caller owns the stack.
    pub fn bind(self, gp: Option<&'static G>) {
        self.head().g.set(gp.map_or(std::ptr::null(), std::ptr::from_ref));
    }

    /// Where the local variables of the goroutine are kept that runs on the stack. For that goroutine.
    #[inline]
    pub fn locals(&self) -> &Cell<*mut Locals> {
        &self.head().locals
    }

    /// Fetches the lines that a goroutine that parked in a channel's operation has its frames in.
    #[inline]
    pub fn prefetch(self) {
        for line in 0..PARKED_LINES {
            prefetch(self.0.as_ptr().cast::<u8>().wrapping_sub(64 * line));
        }
    }

    /// Says where the goroutine that is about to leave the stack has its record.
    #[inline(always)]
    pub fn leave(self, record: &Record) {
        let head = self.head();
        // Exposed, because it is read through an address that was computed (`unwind`).
        let at = (&raw const *record).expose_provenance();
        let below = self.0.as_ptr() as usize - at;
        // Relaxed: only who runs on the stack writes; readers are ordered by the status that follows (`casgstatus`).
        head.parks.store(head.parks.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        head.record.store(below as u32, Ordering::Relaxed);
    }

    /// Where the last record is, if one was ever left. For whoever looks at a goroutine that may go on at any moment.
    pub fn mark(self) -> Option<Mark> {
        // The slot may be another's by now, even free: then its head is a former one, or zeros; it is mapped in any case.
        let head = self.0.as_ptr();
        // SAFETY: these words of the head are atomic for all, and the memory stays mapped.
        let (parks, below) = unsafe {
            ((*head).parks.load(Ordering::Relaxed), (*head).record.load(Ordering::Relaxed) as usize)
        };
        let top = head as usize;
        (below != 0).then(|| Mark { parks, top, record: top.wrapping_sub(below) })
    }

    /// Switches onto the stack until its goroutine switches off.
    ///
    /// # Safety
    ///
    /// The caller runs on g0, has the exclusive right to the stack (module docs), and a G is bound to it.
    #[inline]
    pub unsafe fn resume(self) -> Switch {
        // SAFETY: the caller's promise; a stack that nobody runs is suspended.
        unsafe { self.head().context.resume() }
    }

    /// Switches off the stack, back to where it was resumed.
    ///
    /// # Safety
    ///
    /// The caller runs on this stack, and what `why` needs is in place (see `proc`).
    #[inline]
    pub unsafe fn suspend(self, why: Switch) {
        // SAFETY: the caller's promise.
        unsafe { self.head().context.suspend(why) }
    }
}

/// Tells the sanitizer that nobody is on this stack any more: it may have marks of the forgotten coroutine's frames, which the
/// next user of the memory would be reported for, or a fiber. (`.ci/sanitizers/fibers.c` has the same name for TSan.)
#[cfg(gort_sanitize)]
fn sanitizer_forget(limit: usize, len: usize) {
    unsafe extern "C" {
        fn __asan_unpoison_memory_region(at: *const u8, len: usize);
    }
    // SAFETY: the range is a free stack's.
    unsafe { __asan_unpoison_memory_region(limit as *const u8, len) };
}

/// The whole life of a stack. `head` is the head of the one that this runs on.
extern "C" fn host(head: &StackHead) -> ! {
    loop {
        // SAFETY: whoever resumes a stack has bound a G to it, whose body this is the one to run.
        unsafe { g::run_body(&*head.g.get()) };
        // SAFETY: we run on it.
        unsafe { head.context.suspend(Switch::Exit) };
    }
}

/// Where the stack in the slot that starts there ends.
fn end_of(start: usize) -> usize {
    arena::stack_end(start).expect("a slot lies in a region")
}

/// The stack pointer.
#[inline(always)]
pub fn stack_pointer() -> usize {
    let sp: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads one register.
    unsafe {
        std::arch::asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads one register.
    unsafe {
        std::arch::asm!("mov {}, sp", out(reg) sp, options(nomem, nostack, preserves_flags));
    }
    sp
}

/// The G whose stack the caller runs on, by arithmetic on the stack pointer; `None` on any other stack.
#[inline(always)]
pub fn current_head() -> Option<&'static G> {
    let end = arena::stack_end(stack_pointer())?;
    // SAFETY: the caller runs in this slot.
    unsafe { StackHead::g_at(end) }
}

/// The goroutine that is on the stack that ends there, which has been in use at some time.
pub fn g_at(end: usize) -> Option<&'static G> {
    // SAFETY: the head of a stack that has been in use stays mapped; of one that was given back it reads as zeros. The word is a
    // pointer that others may write meanwhile: volatile, so that it is one load. G memory is never freed.
    unsafe {
        (&raw const (*((end - HEAD) as *const StackHead)).g).cast::<*const G>().read_volatile().as_ref()
    }
}
