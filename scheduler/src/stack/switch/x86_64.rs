//! The switch on x86-64.
//!
//! ```text
//!   a suspended stack            one that has not run yet
//!   |  ...           |           | the head          |
//!   |  where to jump |           | the host          |
//!   |  rbp           |           | in `root`         |
//!   |  rbx           | <- sp     | 0                 |
//!                                | 0                 | <- sp
//! ```
//!
//! The M's own stack looks like a suspended one while it waits in `resume`. All other registers that a
//! function must keep are named as overwritten, so the compiler saves those that it needs, and no others.
//! Floating-point modes are not saved: who changes them changes them for the thread.
//!
//! # Walks from signal handlers
//!
//! A profiler's signal comes at any instruction, and its handler walks the stack by the unwind tables. So the
//! tables are right at each instruction:
//!
//! 1. A function that switches jumps to `leave_g0` or `leave_stack`, with the address where it goes on in
//!    `rax`, and is jumped back to. On both sides of these jumps the stack pointer and `rbp` are its own, so
//!    its table holds, whichever of the two the compiler finds the frame by.
//! 2. The two have tables of their own, as if they were called functions: the caller's stack pointer follows
//!    from theirs, and the return address, `rbp` and `rbx` are in registers or at known places on the stack.
//! 3. One instruction changes the stack pointer, when all that the table names lies in memory on both stacks,
//!    in the same places. So one row of the table describes the stack that is left before it, and the stack
//!    that is entered after it.
//! 4. `root` is the outermost frame of each stack. Its table says that it has no caller, so walks end there,
//!    and so do chains of frame pointers. A return address stands for the instruction before it: hence the
//!    `nop` at its beginning.
//!
//! Inline code cannot have this. Directives within a function's code would have to say how that function
//! finds its frame, which only the compiler knows, and between the change of the stack pointer and the jump
//! the frame is another function's. A `call` and a `ret` in place of the jumps cost what [`switch`](super)
//! says. The jump to code that is not inline costs nothing that could be measured: per operation on one P, in
//! turns with the same instructions inline (minimum of 5 times 1500 batches, ns), a ping-pong over two
//! channels takes 81.9 (inline: 81.3), the same with five calls around each side 89.3 (88.9), two goroutines
//! that yield in turns 55.2 (58.2), a spawn and its join 54.6 (57.7).
//!
//! In a Rust `dylib` the jump goes through the linker's table of jumps, in whose two instructions a walk may
//! end early.

use super::{Host, Switch};
use crate::stack::coro::{Slot, StackHead};
use std::arch::{asm, naked_asm};
use std::cell::Cell;

/// The stack pointers of two stacks of which one is suspended: `inner`, or, while that runs, `outer`.
#[derive(Debug)]
#[repr(C)]
pub struct Context {
    inner: Cell<*mut usize>,
    outer: Cell<*mut usize>,
}

impl Context {
    /// For a stack in `slot`, whose first resume calls `host` with `head`.
    ///
    /// # Safety
    ///
    /// The slot is the caller's, open and unused; `head` is where the context will be, and stays.
    pub unsafe fn new(slot: Slot, head: *const StackHead, host: Host) -> Context {
        let begin = root as *const () as usize + ROOT_BEGINS;
        let words = [0, 0, begin, host as *const () as usize, head.expose_provenance()];
        let sp = std::ptr::with_exposed_provenance_mut::<usize>(slot.high()).wrapping_sub(words.len());
        // SAFETY: the slot's highest words, by the caller's promise ours. What `leave_g0` and `root` pop leaves
        // the stack pointer at its end, a multiple of 16, as a call needs it.
        unsafe { sp.cast::<[usize; 5]>().write(words) };
        Context { inner: Cell::new(sp), outer: Cell::new(std::ptr::null_mut()) }
    }

    /// Goes on on the stack, until it suspends.
    ///
    /// # Safety
    ///
    /// The stack is suspended, and the caller's to run; it is not on it.
    #[inline(always)]
    pub unsafe fn resume(&self) -> Switch {
        let why: usize;
        // SAFETY: the stack pointer in `inner` is that of a stack which `new` or `suspend` has left, as the drawing has it.
        // Whatever `suspend` comes back with is as it was here, but for the registers that are named.
        unsafe {
            asm!(
                "lea rax, [rip + 2f]",
                "jmp {switch}",
                "2:",
                switch = sym leave_g0,
                in("rdx") self,
                lateout("rdi") why,
                lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
                clobber_abi("sysv64"),
            );
        }
        match why {
            0 => Switch::Park,
            1 => Switch::Yield,
            2 => Switch::Preempt,
            3 => Switch::Exit,
            _ => Switch::OnG0,
        }
    }

    /// Goes back to where the stack was resumed, and returns when it is resumed again.
    ///
    /// # Safety
    ///
    /// The caller runs on the stack.
    #[inline(always)]
    pub unsafe fn suspend(&self, why: Switch) {
        // SAFETY: the stack pointer in `outer` is that of the `resume` that this runs in.
        unsafe {
            asm!(
                "lea rax, [rip + 2f]",
                "jmp {switch}",
                "2:",
                switch = sym leave_stack,
                in("rdx") self,
                inlateout("rdi") why as usize => _,
                lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
                clobber_abi("sysv64"),
            );
        }
    }
}

/// The switch itself: saves in one field of the context where it was, and goes on where the other one says.
macro_rules! switch {
    ($(#[$doc:meta])* $name:ident saves $from:ident, goes on at $to:ident) => {
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// Jumped to, with the context in `rdx` and where to go on in `rax`; the other stack is suspended.
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            naked_asm!(
                ".cfi_startproc",
                ".cfi_def_cfa rsp, 0",
                ".cfi_register rip, rax",
                "push rax",
                ".cfi_def_cfa_offset 8",
                ".cfi_offset rip, -8",
                "push rbp",
                ".cfi_def_cfa_offset 16",
                ".cfi_offset rbp, -16",
                "push rbx",
                ".cfi_def_cfa_offset 24",
                ".cfi_offset rbx, -24",
                "mov [rdx + {from}], rsp",
                "mov rsp, [rdx + {to}]",
                "pop rbx",
                ".cfi_def_cfa_offset 16",
                ".cfi_same_value rbx",
                "pop rbp",
                ".cfi_def_cfa_offset 8",
                ".cfi_same_value rbp",
                "pop rax",
                ".cfi_def_cfa_offset 0",
                ".cfi_register rip, rax",
                "jmp rax",
                ".cfi_endproc",
                from = const std::mem::offset_of!(Context, $from),
                to = const std::mem::offset_of!(Context, $to),
            )
        }
    };
}

switch! {
    /// From the M's own stack to the context's.
    leave_g0 saves outer, goes on at inner
}
switch! {
    /// From the context's stack back to the M's own.
    leave_stack saves inner, goes on at outer
}

/// Bytes of [`root`] before its first instruction that is run.
const ROOT_BEGINS: usize = 1;

/// Where a stack begins: calls the host, the first word on it, with the head, the second.
///
/// # Safety
///
/// Gone on at, past its first instruction, by `resume`, on a stack as `new` has made it.
#[unsafe(naked)]
unsafe extern "C" fn root() -> ! {
    naked_asm!(
        ".cfi_startproc",
        // No caller: backtraces end here.
        ".cfi_undefined rip",
        "nop",
        "pop rax",
        "pop rdi",
        "call rax",
        "ud2",
        ".cfi_endproc",
    )
}
