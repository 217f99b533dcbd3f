//! What happens when a goroutine runs out of stack: a message that names it, then the end of the process.
//!
//! A handler of SIGSEGV and SIGBUS runs on an alternate stack of the M, since the goroutine's has no room left.
//!
//! 1. The address of the fault lies in the guard of a slot, and the stack pointer in the same slot: the goroutine whose
//!    head is at the slot's end has overflowed. The handler says so and aborts. It never returns, and nothing is
//!    unwound: locks would stay held, and what was half done would be used.
//! 2. Anything else is somebody else's: a null pointer, a plain thread's own guard, a signal that was sent. It goes to
//!    the handler that was there before, `std`'s as a rule.
//!
//! The handler takes no lock, allocates nothing, and reads no thread-local: a slot is found by arithmetic, and what is
//! printed is read from memory that is never freed.

use super::arena;
use super::class::{GUARD, MAX_STACK, usable};
use super::coro::StackHead;
use super::mapping;
use crate::g::G;
use crate::throw::Stderr;
use std::cell::UnsafeCell;
use std::fmt::{self, Write};
use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// Room for the handler, and for whatever it passes a signal on to.
const ALT_STACK: usize = 64 << 10;

/// The signals, and who had them before us. Written before our handler is there, constant from then on.
struct Old([UnsafeCell<MaybeUninit<libc::sigaction>>; 2]);

// SAFETY: see `Old`.
unsafe impl Sync for Old {}

const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];
static OLD: Old = Old([const { UnsafeCell::new(MaybeUninit::uninit()) }; 2]);

/// Makes the calling M ready to report an overflow. Once for each M, on its own thread.
pub fn prepare_m() {
    static INSTALLED: Once = Once::new();
    give_alt_stack();
    unblock();
    INSTALLED.call_once(install);
}

/// An alternate stack of our own, whatever `std` gave: it is as large as we need, and as old as the M.
fn give_alt_stack() {
    let page = mapping::page_size();
    let Ok(at) = mapping::reserve(page + ALT_STACK) else { return };
    // SAFETY: a mapping that nobody else knows; its first page stays without access.
    unsafe {
        let stack = (at + page) as *mut libc::c_void;
        if libc::mprotect(stack, ALT_STACK, libc::PROT_READ | libc::PROT_WRITE) == 0 {
            let alt = libc::stack_t { ss_sp: stack, ss_flags: 0, ss_size: ALT_STACK };
            libc::sigaltstack(&raw const alt, std::ptr::null_mut());
        }
    }
}

/// A program that waits for its signals on a thread of its own has all others block them; but a fault that is blocked
/// ends the process without a word.
fn unblock() {
    // SAFETY: fills the set in, and changes this thread's mask.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        SIGNALS.iter().for_each(|signal| _ = libc::sigaddset(&raw mut set, *signal));
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
}

fn install() {
    for (signal, old) in SIGNALS.into_iter().zip(&OLD.0) {
        // SAFETY: the handler does only what is allowed in one; nobody reads `old` before it is there.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), (*old.get()).as_mut_ptr());
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

unsafe extern "C" fn handler(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel's arguments; a positive code is a fault, and has an address.
    let (fault, addr, sp) =
        unsafe { ((*info).si_code > 0, (*info).si_addr() as usize, stack_pointer(context)) };
    if fault
        && let Some((class, slot)) = arena::locate(addr)
        && addr < slot.start + GUARD
        && slot.contains(&sp)
        && let Some(end) = arena::stack_end(slot.start)
        // SAFETY: somebody runs on the stack, so its head is there.
        && let Some(gp) = unsafe { StackHead::g_at(end) }
    {
        overflown(gp, class);
    }
    // SAFETY: the kernel's arguments.
    unsafe { pass_on(signal, info, context) };
}

/// The stack pointer of the code that was interrupted.
///
/// # Safety
///
/// `context` is what the kernel gave to a signal handler.
unsafe fn stack_pointer(context: *mut libc::c_void) -> usize {
    // SAFETY: the caller's promise.
    let machine = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
    #[cfg(target_arch = "x86_64")]
    return machine.gregs[libc::REG_RSP as usize] as usize;
    #[cfg(target_arch = "aarch64")]
    return machine.sp as usize;
}

/// Says who it was, and aborts. The first one speaks, should there be several.
fn overflown(gp: &'static G, class: u8) -> ! {
    static FIRST: AtomicBool = AtomicBool::new(true);
    while !FIRST.swap(false, Ordering::Relaxed) {
        // SAFETY: sleeps.
        unsafe { libc::pause() };
    }
    let mut text = Text::default();
    let _ = message(&mut text, gp, class);
    let _ = Stderr.write_str(text.as_str());
    std::process::abort()
}

fn message(text: &mut Text, gp: &'static G, class: u8) -> fmt::Result {
    write!(text, "goroutine {}", gp.id())?;
    gp.with_name(|name| name.map_or(Ok(()), |name| write!(text, " {name:?}")))?;
    writeln!(text, ": stack overflow")?;
    if let Some(at) = gp.spawned_at() {
        writeln!(text, "It was spawned at {at}, with a stack of {} bytes.", usable(class))?;
    }
    if usable(class) < MAX_STACK {
        let more = (4 * usable(class)).next_power_of_two().min(MAX_STACK);
        writeln!(
            text,
            "For a larger one: go!(stack_size = {more}, ...), or for all goroutines GORT_STACK_SIZE={more} or \
             Runtime::builder().stack_size({more})."
        )?;
    }
    writeln!(text, "\nfatal error: stack overflow")
}

/// A message in a place of fixed size; what does not fit is left out.
struct Text {
    bytes: [u8; 1024],
    len: usize,
}

impl Default for Text {
    fn default() -> Text {
        Text { bytes: [0; 1024], len: 0 }
    }
}

impl Text {
    fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.len]).unwrap_or("stack overflow\n")
    }
}

impl Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = self.bytes.len() - self.len;
        let n = (0..=room.min(s.len())).rev().find(|&n| s.is_char_boundary(n)).unwrap_or(0);
        self.bytes[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

/// Calls the handler that was there before, or does what the system does where there was none.
///
/// # Safety
///
/// The arguments are the kernel's.
unsafe fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(i) = SIGNALS.iter().position(|s| *s == signal) else { return };
    // SAFETY: written before the handler was there.
    let old = unsafe { (*OLD.0[i].get()).assume_init_ref() };
    // SAFETY: the kernel's argument.
    let sent = unsafe { (*info).si_code <= 0 };
    match old.sa_sigaction {
        libc::SIG_IGN if sent => return,
        // A fault cannot be ignored.
        libc::SIG_DFL | libc::SIG_IGN => set_default(signal),
        // SAFETY: with the flag it is a function of three arguments, without of one; whoever installed it said so.
        f if old.sa_flags & libc::SA_SIGINFO != 0 => unsafe {
            type Action = unsafe extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            std::mem::transmute::<usize, Action>(f)(signal, info, context);
        },
        // SAFETY: as above.
        f => unsafe { std::mem::transmute::<usize, unsafe extern "C" fn(libc::c_int)>(f)(signal) },
    }
    // With the default action, set here or by the other handler (`std`'s does so), a fault ends the process when the
    // instruction is tried again. A signal that was sent is not tried again.
    if sent && is_default(signal) {
        // SAFETY: allowed in a handler.
        unsafe { libc::raise(signal) };
    }
}

fn set_default(signal: libc::c_int) {
    // SAFETY: allowed in a handler.
    unsafe {
        let mut default: libc::sigaction = std::mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal, &raw const default, std::ptr::null_mut());
    }
}

fn is_default(signal: libc::c_int) -> bool {
    // SAFETY: allowed in a handler; writes the struct.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut now);
        now.sa_sigaction == libc::SIG_DFL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_is_cut_at_a_character() {
        let mut text = Text::default();
        for _ in 0..1000 {
            text.write_str("äö").unwrap();
        }
        assert!(text.as_str().len() <= 1024 && text.as_str().starts_with("äöä"));
    }
}
