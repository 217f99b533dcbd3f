//! Walking the stack of a goroutine that is not running, without resuming it (Go's `traceback`).
//!
//! A goroutine that leaves its stack leaves a [`Record`] there of where it is. From it `framehop` goes from frame to frame
//! by the unwind tables of the loaded modules, as an unwinding would, but with a function to read memory that is ours.
//!
//! U1: Only words between the record's stack pointer and the head of the same slot are read. They stay mapped whatever
//! becomes of the goroutine, and the guard is not among them. So whatever the words are, a walk ends and does no harm.
//!
//! U2: The goroutine may be readied while its stack is walked. The words that are read then are whatever it left there
//! at that moment; who walks asks before and after whether it has stayed ([`parked`]), and throws such a walk away.
//!
//! U3: The tables are read in place. A module can only be unloaded when no stack has a frame of it, so those that a walk
//! comes to stay; the list of modules is made anew for each dump.

use crate::g::{G, GoroutineId, Status};
use crate::stack::arena::{locate, stack_end};
use crate::stack::class::GUARD;
use crate::stack::coro::{HEAD, Mark};
use crate::stack::record::{Record, WORDS};
pub(crate) use framehop::MustNotAllocateDuringUnwind;
use framehop::{
    AllocationPolicy, CacheNative, ExplicitModuleSectionInfo, FrameAddress, MayAllocateDuringUnwind, Module,
    UnwindRegsNative, Unwinder as _, UnwinderNative,
};
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{Ordering, fence};

/// Frames of a stack that are looked at, from the top; as many as Go prints.
pub(crate) const MAX_FRAMES: usize = 100;

/// Bytes at the end of a stack in which only its root has its frame. What corosensei's has beyond it is the M's, and how to get
/// there takes an expression that is evaluated anew each time.
const ROOT: usize = 64;

/// Registers of code that a signal has interrupted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupted {
    pub pc: usize,
    pub sp: usize,
    pub fp: usize,
    /// Where the function returns to, as long as it has not saved that.
    #[cfg(target_arch = "aarch64")]
    pub lr: usize,
}

/// The bytes of a loaded module.
type Bytes = &'static [u8];

/// A goroutine that is off its stack, and which stay there it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parked {
    id: GoroutineId,
    status: Status,
    mark: Mark,
}

/// Asks whether a goroutine is off its stack, and has been on it. As long as the answer stays the same it is where it was.
pub(crate) fn parked(gp: &'static G) -> Option<Parked> {
    // The status first: with the Acquire in it what the goroutine left before it is seen.
    let status = gp.status();
    if !matches!(status, Status::Waiting | Status::Runnable) {
        return None;
    }
    let mark = gp.stack()?.mark()?;
    Some(Parked { id: gp.id(), status, mark })
}

impl Parked {
    /// True if the goroutine has been off its stack all the time since.
    pub(crate) fn still(&self, gp: &'static G) -> bool {
        // ORDERING: Acquire: the words of the stack were read before. It pairs with the Release of the statuses that
        // bring the goroutine back to its stack; that its own plain stores come after those is only likely, and the worst is a
        // report that mixes two stacks.
        fence(Ordering::Acquire);
        parked(gp).as_ref() == Some(self)
    }

    /// True if it waits, and is not only to be run.
    pub(crate) fn waits(&self) -> bool {
        self.status == Status::Waiting
    }

    /// The record, and the part of the stack that is in use.
    pub(crate) fn record(&self) -> Option<(Record, Range<usize>)> {
        let (_, slot) = locate(self.mark.top)?;
        let usable = slot.start + GUARD..stack_end(slot.start)? - HEAD;
        let mut words = [0; WORDS];
        for (i, word) in words.iter_mut().enumerate() {
            *word = read_word(&usable, self.mark.record.wrapping_add(i * size_of::<usize>()))?;
        }
        let record = Record::from(words);
        usable.contains(&record.sp).then_some((record, record.sp..usable.end))
    }
}

/// The usable part of the calling goroutine's stack from its record upwards.
pub(crate) fn own_stack(record: &Record) -> Option<Range<usize>> {
    Some(record.sp..stack_end(record.sp)? - HEAD)
}

/// Reads a word of a stack (U1).
fn read_word(within: &Range<usize>, at: usize) -> Option<usize> {
    let end = at.checked_add(size_of::<usize>())?;
    if at < within.start || end > within.end || !at.is_multiple_of(size_of::<usize>()) {
        return None;
    }
    // SAFETY: an aligned word of the usable part of a slot, which was opened when the slot was handed out and stays mapped and
    // readable. A goroutine may write it meanwhile (U2): volatile, so that it is one load of whatever is there.
    Some(unsafe { ptr::with_exposed_provenance::<usize>(at).read_volatile() })
}

/// What is needed to walk stacks. With [`MustNotAllocateDuringUnwind`] a walk is allowed in a signal handler.
pub(crate) struct Unwinder<P: AllocationPolicy = MayAllocateDuringUnwind> {
    native: UnwinderNative<Bytes, P>,
    cache: Box<CacheNative<P>>,
}

impl<P: AllocationPolicy> Unwinder<P> {
    /// With the modules that are loaded now.
    pub(crate) fn new() -> Unwinder<P> {
        let mut native = UnwinderNative::new();
        modules().into_iter().for_each(|module| native.add_module(module));
        Unwinder { native, cache: Box::new(CacheNative::new_in()) }
    }

    /// Puts the program counters of a stack into `pcs`: first the record's, then the return addresses, up to
    /// [`MAX_FRAMES`].
    pub(crate) fn walk(&mut self, record: &Record, stack: &Range<usize>, pcs: &mut Vec<usize>) {
        let regs = self.registers(record);
        self.frames(record.pc, regs, stack, |pc| {
            pcs.push(pc);
            pcs.len() < MAX_FRAMES
        });
    }

    /// Calls `each` with the program counters of a stack of which a signal has interrupted the topmost function, as long as it
    /// says that it wants more. `stack` is the part that may be read.
    pub(crate) fn walk_interrupted(
        &mut self,
        at: &Interrupted,
        stack: &Range<usize>,
        each: impl FnMut(usize) -> bool,
    ) {
        #[cfg(target_arch = "x86_64")]
        let regs = UnwindRegsNative::new(at.pc as u64, at.sp as u64, at.fp as u64);
        #[cfg(target_arch = "aarch64")]
        let regs = {
            let highest = self.native.max_known_code_address();
            let mask = framehop::aarch64::PtrAuthMask::from_max_known_address(highest);
            UnwindRegsNative::new_with_ptr_auth_mask(mask, at.lr as u64, at.sp as u64, at.fp as u64)
        };
        self.frames(at.pc, regs, stack, each);
    }

    fn frames(
        &mut self,
        pc: usize,
        mut regs: UnwindRegsNative,
        stack: &Range<usize>,
        mut each: impl FnMut(usize) -> bool,
    ) {
        let mut read = |at: u64| read_word(stack, at as usize).map(|word| word as u64).ok_or(());
        let mut frame = FrameAddress::from_instruction_pointer(pc as u64);
        loop {
            if !each(frame.address() as usize) || regs.sp() as usize + ROOT >= stack.end {
                return;
            }
            let Ok(Some(back)) = self.native.unwind_frame(frame, &mut regs, &mut self.cache, &mut read)
            else {
                return;
            };
            let Some(caller) = FrameAddress::from_return_address(back) else { return };
            frame = caller;
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn registers(&self, record: &Record) -> UnwindRegsNative {
        UnwindRegsNative::new(record.pc as u64, record.sp as u64, record.fp as u64)
    }

    /// A function that switches stacks has saved its link register in its frame, so what is in it does not count.
    #[cfg(target_arch = "aarch64")]
    fn registers(&self, record: &Record) -> UnwindRegsNative {
        // Return addresses may be signed in the bits that no address has.
        let highest = self.native.max_known_code_address();
        let mask = framehop::aarch64::PtrAuthMask::from_max_known_address(highest);
        UnwindRegsNative::new_with_ptr_auth_mask(mask, 0, record.sp as u64, record.fp as u64)
    }
}

/// The modules of the process that have unwind tables.
fn modules() -> Vec<Module<Bytes>> {
    let mut found: Vec<Module<Bytes>> = Vec::new();
    // SAFETY: `visit` has the type that is asked for, and takes the pointer for what it is.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found
}

/// # Safety
///
/// Called by `dl_iterate_phdr` with a `Vec<Module<Bytes>>`.
unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    found: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the caller's promise; the headers are those of a loaded module.
    let (base, headers, found) = unsafe {
        let info = &*info;
        let headers: &[_] = match info.dlpi_phnum {
            0 => &[],
            n => std::slice::from_raw_parts(info.dlpi_phdr, n.into()),
        };
        (info.dlpi_addr as usize, headers, &mut *found.cast::<Vec<Module<Bytes>>>())
    };
    // SAFETY: these are the headers of a loaded module.
    found.extend(unsafe { module(base, headers) });
    0
}

#[cfg(target_pointer_width = "64")]
type Header = libc::Elf64_Phdr;

/// A module, from where it is loaded and its headers.
///
/// # Safety
///
/// The module is loaded there, and stays as long as the answer is used (U3).
unsafe fn module(base: usize, headers: &[Header]) -> Option<Module<Bytes>> {
    let loaded = |h: &Header| h.p_vaddr as usize..(h.p_vaddr + h.p_memsz) as usize;
    let segments = || headers.iter().filter(|h| h.p_type == libc::PT_LOAD).map(loaded);
    let all = segments().map(|s| s.start).min()?..segments().map(|s| s.end).max()?;
    let index = loaded(headers.iter().find(|h| h.p_type == libc::PT_GNU_EH_FRAME)?);
    let bytes = |range: &Range<usize>| {
        // SAFETY: within a loaded segment of the module, which nobody writes.
        unsafe { std::slice::from_raw_parts(ptr::with_exposed_provenance(base + range.start), range.len()) }
    };
    let hdr: Bytes = bytes(&index);
    // The index begins with its version, the encodings of what follows, and where the tables are: as linkers write it, four
    // bytes relative to themselves (DW_EH_PE_pcrel | DW_EH_PE_sdata4).
    let [1, 0x1b, _, _, a, b, c, d, ..] = *hdr else { return None };
    let tables = (index.start + 4).checked_add_signed(i32::from_le_bytes([a, b, c, d]) as isize)?;
    // How long they are is not said; they end with their segment at the latest.
    let tables = tables..segments().find(|s| s.contains(&tables))?.end;
    let svma = |range: &Range<usize>| Some(range.start as u64..range.end as u64);
    let sections = ExplicitModuleSectionInfo {
        base_svma: 0,
        eh_frame_hdr_svma: svma(&index),
        eh_frame_hdr: Some(hdr),
        eh_frame_svma: svma(&tables),
        eh_frame: Some(bytes(&tables)),
        ..Default::default()
    };
    let range = (base + all.start) as u64..(base + all.end) as u64;
    Some(Module::new(String::new(), range, base as u64, sections))
}
