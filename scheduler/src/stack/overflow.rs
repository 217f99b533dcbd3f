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
//! printed is read from memory that is never freed. Then it walks the stack, from the registers that the signal has interrupted,
//! and names the topmost functions; what it needs for that was made before, with the modules that were loaded then. Should the walk go
//! wrong, what matters has been said.

use super::arena;
use super::class::{GUARD, MAX_STACK, usable};
use super::coro::{HEAD, StackHead};
use super::{mapping, names};
use crate::g::G;
use crate::throw::Stderr;
use crate::unwind::{Interrupted, MustNotAllocateDuringUnwind, Unwinder};
use parking_lot::Mutex;
use std::cell::UnsafeCell;
use std::fmt::{self, Write};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Once, OnceLock};

/// Room for the handler, which makes names readable that may be long, and for whatever it passes a signal on to. Only touched pages
/// cost memory.
const ALT_STACK: usize = 256 << 10;
/// Functions that are named, and frames that are looked at for them: one that calls itself is named once.
const NAMED: usize = 16;
const FRAMES: usize = 100_000;
/// Names that are looked up, each of which takes a millisecond or more.
const LOOKUPS: usize = 64;

/// The signals, and who had them before us. Written before our handler is there, constant from then on.
struct Old([UnsafeCell<MaybeUninit<libc::sigaction>>; 2]);

// SAFETY: see `Old`.
unsafe impl Sync for Old {}

const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];
static OLD: Old = Old([const { UnsafeCell::new(MaybeUninit::uninit()) }; 2]);

/// Makes the calling M ready to report an overflow. Once for each M, on its own thread. The result is for
/// [`forget_m`].
pub fn prepare_m() -> AltStacks {
    static INSTALLED: Once = Once::new();
    let alt_stacks = give_alt_stack();
    unblock();
    INSTALLED.call_once(install);
    alt_stacks
}

/// The mappings of an M's alternate stacks, with their guards: ours, and the one of `std` whose place it took.
pub struct AltStacks([Range<usize>; 2]);

/// An alternate stack of our own, whatever `std` gave: it is as large as we need, and as old as the M.
fn give_alt_stack() -> AltStacks {
    let page = mapping::page_size();
    let mut alt_stacks = AltStacks([0..0, 0..0]);
    let Ok(at) = mapping::reserve(page + ALT_STACK) else { return alt_stacks };
    // SAFETY: a mapping that nobody else knows; its first page stays without access.
    unsafe {
        let stack = (at + page) as *mut libc::c_void;
        if libc::mprotect(stack, ALT_STACK, libc::PROT_READ | libc::PROT_WRITE) == 0 {
            let alt = libc::stack_t { ss_sp: stack, ss_flags: 0, ss_size: ALT_STACK };
            let mut former: libc::stack_t = std::mem::zeroed();
            if libc::sigaltstack(&raw const alt, &raw mut former) == 0 {
                alt_stacks = AltStacks([at..at + page + ALT_STACK, mapping_of(&former).unwrap_or(0..0)]);
            }
        }
    }
    alt_stacks
}

/// The mapping of an alternate stack that `std` has made, as far as can be seen: of the size that `std` takes, on
/// a guard page.
fn mapping_of(alt: &libc::stack_t) -> Option<Range<usize>> {
    let page = mapping::page_size();
    let start = alt.ss_sp.addr();
    // SAFETY: takes a number.
    let least = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
    (alt.ss_flags & libc::SS_DISABLE == 0
        && alt.ss_size == least.max(libc::SIGSTKSZ)
        && start.is_multiple_of(page)
        && mapping::is_guard(start - page))
    .then(|| start - page..start + alt.ss_size.next_multiple_of(page))
}

/// Gives the alternate stacks of the calling M back, whose thread ends without `std`
/// ([`os::leave_behind`](crate::os::leave_behind)). Its signals are blocked.
pub fn forget_m(AltStacks(mappings): AltStacks) {
    // SAFETY: no signal comes, so no stack is in use. `std` gives its own back where a thread returns from its
    // function, which this one does not.
    unsafe {
        let off = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        if libc::sigaltstack(&raw const off, std::ptr::null_mut()) == 0 {
            for mapping in mappings.into_iter().filter(|mapping| !mapping.is_empty()) {
                libc::munmap(mapping.start as *mut libc::c_void, mapping.len());
            }
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

/// What a walk needs.
struct Walker {
    unwinder: Unwinder<MustNotAllocateDuringUnwind>,
    modules: Vec<names::Module>,
}

// SAFETY: the tables that it points to are those of loaded modules, the same for all threads.
unsafe impl Send for Walker {}

static WALKER: OnceLock<Mutex<Walker>> = OnceLock::new();

fn install() {
    WALKER.get_or_init(|| Mutex::new(Walker { unwinder: Unwinder::new(), modules: names::modules() }));
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
    let (fault, addr, at) =
        unsafe { ((*info).si_code > 0, (*info).si_addr() as usize, interrupted(context)) };
    if fault
        && let Some((class, slot)) = arena::locate(addr)
        && addr < slot.start + GUARD
        && slot.contains(&at.sp)
        && let Some(end) = arena::stack_end(slot.start)
        // SAFETY: somebody runs on the stack, so its head is there.
        && let Some(gp) = unsafe { StackHead::g_at(end) }
    {
        overflown(gp, class, &at, &(slot.start + GUARD..end - HEAD));
    }
    // SAFETY: the kernel's arguments.
    unsafe { pass_on(signal, info, context) };
}

/// The registers of the code that was interrupted.
///
/// # Safety
///
/// `context` is what the kernel gave to a signal handler.
unsafe fn interrupted(context: *mut libc::c_void) -> Interrupted {
    // SAFETY: the caller's promise.
    let machine = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
    #[cfg(target_arch = "x86_64")]
    return {
        let register = |n: libc::c_int| machine.gregs[n as usize] as usize;
        Interrupted { pc: register(libc::REG_RIP), sp: register(libc::REG_RSP), fp: register(libc::REG_RBP) }
    };
    #[cfg(target_arch = "aarch64")]
    return Interrupted {
        pc: machine.pc as usize,
        sp: machine.sp as usize,
        fp: machine.regs[29] as usize,
        lr: machine.regs[30] as usize,
    };
}

/// Says who it was, and aborts. The first one speaks, should there be several.
fn overflown(gp: &'static G, class: u8, at: &Interrupted, stack: &Range<usize>) -> ! {
    static FIRST: AtomicBool = AtomicBool::new(true);
    while !FIRST.swap(false, Ordering::Relaxed) {
        // SAFETY: sleeps.
        unsafe { libc::pause() };
    }
    let mut text = Text::default();
    let _ = message(&mut text, gp, class);
    let _ = Stderr.write_str(text.as_str());
    frames(at, stack);
    let _ = Stderr.write_str("\nfatal error: stack overflow\n");
    std::process::abort()
}

/// Writes the topmost functions of the stack.
fn frames(at: &Interrupted, stack: &Range<usize>) {
    let Some(mut walker) = WALKER.get().and_then(Mutex::try_lock) else { return };
    let Walker { unwinder, modules } = &mut *walker;
    let _ = Stderr.write_str("\nIts topmost functions:\n");
    let say = |line: &Text, times: usize| {
        let mut out = Text::default();
        let _ = match times {
            1 => writeln!(out, "\t{}", line.as_str()),
            _ => writeln!(out, "\t{} ({times} times)", line.as_str()),
        };
        let _ = Stderr.write_str(out.as_str());
    };
    let (mut line, mut times, mut named, mut frames, mut lookups) = (Text::default(), 0, 0, 0, 0);
    // Places in the function that `line` names.
    let (mut known, mut next) = ([0; 4], 0);
    unwinder.walk_interrupted(at, stack, |pc| {
        frames += 1;
        if !known.contains(&pc) {
            lookups += 1;
            let mut name = Text::default();
            let _ = names::write(modules, pc, &mut name);
            if name.as_str() != line.as_str() {
                if times > 0 {
                    say(&line, times);
                    named += 1;
                }
                (line, times, known) = (name, 0, [0; 4]);
            }
            known[next % known.len()] = pc;
            next += 1;
        }
        times += 1;
        named < NAMED && frames < FRAMES && lookups < LOOKUPS
    });
    if named < NAMED && times > 0 {
        say(&line, times);
    }
    if named == NAMED || frames == FRAMES || lookups == LOOKUPS {
        let _ = Stderr.write_str("\t...\n");
    }
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
    Ok(())
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
