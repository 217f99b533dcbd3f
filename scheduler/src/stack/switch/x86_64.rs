//! The switch on x86-64.
//!
//! ```text
//!   a suspended stack            one that has not run yet
//!   |  ...           |           | address of `root` | <- sp
//!   |  rbp           |           | the host          |
//!   |  rbx           |           | the head          |
//!   |  where to jump | <- sp     |===================| the stack's end
//! ```
//!
//! The M's own stack looks like a suspended one while it waits in `resume`. All other registers that a function must keep
//! are named as overwritten, so the compiler saves those that it needs, and no others. Floating-point modes are not saved:
//! who changes them changes them for the thread.
//!
//! `root` is the outermost frame of each stack. Its unwind table says that it has no caller, so backtraces end there, and
//! so do chains of frame pointers.

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
        let words = [root as *const () as usize, host as *const () as usize, head.expose_provenance()];
        let sp = std::ptr::with_exposed_provenance_mut::<usize>(slot.high()).wrapping_sub(words.len());
        // SAFETY: the slot's highest words, by the caller's promise ours. What is popped in `root` leaves the stack
        // pointer at its end, a multiple of 16, as a call needs it.
        unsafe { sp.cast::<[usize; 3]>().write(words) };
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
                "push rbp",
                "push rbx",
                "lea rax, [rip + 2f]",
                "push rax",
                "mov [rdx + {outer}], rsp",
                "mov rsp, [rdx + {inner}]",
                "pop rax",
                "jmp rax",
                "2:",
                "pop rbx",
                "pop rbp",
                inner = const std::mem::offset_of!(Context, inner),
                outer = const std::mem::offset_of!(Context, outer),
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
                "push rbp",
                "push rbx",
                "lea rax, [rip + 2f]",
                "push rax",
                "mov [rdx + {inner}], rsp",
                "mov rsp, [rdx + {outer}]",
                "pop rax",
                "jmp rax",
                "2:",
                "pop rbx",
                "pop rbp",
                inner = const std::mem::offset_of!(Context, inner),
                outer = const std::mem::offset_of!(Context, outer),
                in("rdx") self,
                inlateout("rdi") why as usize => _,
                lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
                clobber_abi("sysv64"),
            );
        }
    }
}

/// Where a stack begins: calls the host, the second word on it, with the head, the third.
///
/// # Safety
///
/// Jumped to by `resume`, on a stack as `new` has made it.
#[unsafe(naked)]
unsafe extern "C" fn root() -> ! {
    naked_asm!(
        ".cfi_startproc",
        // No caller: backtraces end here.
        ".cfi_undefined rip",
        "xor ebp, ebp",
        "pop rax",
        "pop rdi",
        "call rax",
        "ud2",
        ".cfi_endproc",
    )
}
