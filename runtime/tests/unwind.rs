//! Walks from signal handlers, as profilers and crash reporters make them: by the unwind tables, from any
//! instruction at which the signal has come, the switch between two stacks included.

#![cfg(target_arch = "x86_64")]

mod common;

use common::at_size;
use common::child::in_child;
use gort::{Chan, blocking, chan, go, yield_now};
use std::arch::naked_asm;
use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// What `_Unwind_Backtrace` says when it has come to a frame that has no caller.
const END_OF_STACK: c_int = 5;
/// The trap flag: a SIGTRAP after each instruction.
const TRAP_FLAG: usize = 1 << 8;

#[repr(C)]
struct Frame(u8);

unsafe extern "C-unwind" {
    fn _Unwind_Backtrace(
        visit: extern "C-unwind" fn(*mut Frame, *mut c_void) -> c_int,
        arg: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetRegionStart(frame: *mut Frame) -> usize;
    fn _Unwind_GetIP(frame: *mut Frame) -> usize;
    fn _Unwind_FindEnclosingFunction(pc: usize) -> usize;
}

/// The functions of a stack, the innermost first.
struct Walk {
    functions: [usize; 96],
    count: usize,
    status: c_int,
}

impl Walk {
    /// From the caller upwards, through the frame of a signal if the caller is its handler.
    fn here() -> Walk {
        extern "C-unwind" fn visit(frame: *mut Frame, walk: *mut c_void) -> c_int {
            // SAFETY: the frame is the one that is looked at, and the walk is `here`'s.
            unsafe {
                let walk = &mut *walk.cast::<Walk>();
                if _Unwind_GetIP(frame) != 0 && walk.count < walk.functions.len() {
                    walk.functions[walk.count] = _Unwind_GetRegionStart(frame);
                    walk.count += 1;
                }
            }
            0
        }
        let mut walk = Walk { functions: [0; 96], count: 0, status: 0 };
        // SAFETY: `visit` takes a walk.
        walk.status = unsafe { _Unwind_Backtrace(visit, (&raw mut walk).cast()) };
        walk
    }

    fn functions(&self) -> &[usize] {
        &self.functions[..self.count]
    }

    fn base(&self) -> usize {
        self.functions().last().copied().unwrap_or(0)
    }
}

/// A stack on which a goroutine has run.
struct Known {
    /// An address in the goroutine's first frames; 0 while this entry is free.
    top: AtomicUsize,
    /// The function that it runs, 0 if it runs none.
    body: AtomicUsize,
}

/// The mapping that goroutines' stacks lie in.
static REGION: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// Looks for the mapping of an address.
fn mapping_of(at: usize) -> [usize; 2] {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let ends = maps.lines().filter_map(|line| line.split_once(' ')?.0.split_once('-'));
    let mut ranges = ends.map(|(low, high)| [low, high].map(|end| usize::from_str_radix(end, 16).unwrap()));
    ranges.find(|&[low, high]| (low..high).contains(&at)).expect("the address is mapped")
}

static KNOWN: [Known; 8] = [const { Known { top: AtomicUsize::new(0), body: AtomicUsize::new(0) } }; 8];

impl Known {
    /// The stack of an address.
    fn find(at: usize) -> Option<&'static Known> {
        KNOWN.iter().find(|known| {
            let top = known.top.load(SeqCst);
            top != 0 && (top - (100 << 10)..top + (8 << 10)).contains(&at)
        })
    }

    /// Calls `f`, which is a part of `body`, and makes the caller's stack known as the one that it runs on.
    #[inline(always)]
    fn with<R>(body: usize, f: impl FnOnce() -> R) -> R {
        let here = (&raw const f) as usize;
        let known = Known::find(here).unwrap_or_else(|| {
            let free = KNOWN.iter().find(|known| known.top.load(SeqCst) == 0).expect("no entry is free");
            free.top.store(here, SeqCst);
            free
        });
        known.body.store(body, SeqCst);
        let result = f();
        known.body.store(0, SeqCst);
        result
    }
}

/// The outermost function of a plain thread, and of a goroutine.
static THREADS_BASE: AtomicUsize = AtomicUsize::new(0);
static GOROUTINES_BASE: AtomicUsize = AtomicUsize::new(0);

/// Every thread that steps ends it at its next instruction.
static ENOUGH: AtomicBool = AtomicBool::new(false);

/// Steps seen, from one stack to another.
static RESUMED: AtomicUsize = AtomicUsize::new(0);
static SUSPENDED: AtomicUsize = AtomicUsize::new(0);
static ENTERED: AtomicUsize = AtomicUsize::new(0);
static LEFT: AtomicUsize = AtomicUsize::new(0);
static WRONG: AtomicUsize = AtomicUsize::new(0);

/// The thread of the last step, whether that was on a known stack, and whether a body ran there.
static LAST: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

/// Where the two pieces of code begin that change the stack: to the M's own, and to a goroutine's.
static SWITCHES: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// Of the last step: whether it was in one of these pieces, and whether its walk was wrong.
static IN_SWITCH: AtomicBool = AtomicBool::new(false);
static WAS_WRONG: AtomicBool = AtomicBool::new(false);

/// After each instruction: walks, and says what is wrong with the walk. It counts within the pieces of a switch and where a stack
/// begins, and one instruction before and after them. Elsewhere the tables are the compiler's alone, and not right at each
/// instruction (LLVM moves a comparison behind the release of a frame, and describes the frame as if it were still there).
extern "C" fn stepped(_signal: c_int, _info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's, for a handler with SA_SIGINFO.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let (pc, sp) = (registers[libc::REG_RIP as usize] as usize, registers[libc::REG_RSP as usize] as usize);
    if ENOUGH.load(SeqCst) {
        registers[libc::REG_EFL as usize] &= !(TRAP_FLAG as i64);
        return;
    }
    // SAFETY: only looks for a table. It takes the address for that behind a call.
    let function = unsafe { _Unwind_FindEnclosingFunction(pc + 1) };
    if function == 0 {
        // No function: the linker's code for a call to another module. Some linkers make no table for it.
        LAST[0].store(0, SeqCst);
        return;
    }
    let walk = Walk::here();
    let known = Known::find(sp);
    let body = known.map_or(0, |known| known.body.load(SeqCst));
    let on_goroutines = (REGION[0].load(SeqCst)..REGION[1].load(SeqCst)).contains(&sp);
    let base = if on_goroutines { &GOROUTINES_BASE } else { &THREADS_BASE };
    let right = walk.status == END_OF_STACK
        && walk.base() == base.load(SeqCst)
        && (body == 0 || walk.functions().contains(&body));
    // SAFETY: a system call without arguments.
    let thread = unsafe { libc::gettid() } as usize;
    let now = [thread, on_goroutines.into(), body];
    let last = [0, 1, 2].map(|i| LAST[i].swap(now[i], SeqCst));
    if last[0] == thread && last[1] != now[1] {
        SWITCHES[now[1]].store(function, SeqCst);
    }
    let in_switch = SWITCHES.iter().any(|switch| switch.load(SeqCst) == function);
    let was_in_switch = IN_SWITCH.swap(in_switch, SeqCst) && last[0] == thread;
    let was_wrong = WAS_WRONG.swap(!right, SeqCst) && last[0] == thread;
    let counts = in_switch || was_in_switch || function == GOROUTINES_BASE.load(SeqCst);
    let wrong = (!right && counts) || (was_wrong && in_switch && !was_in_switch);
    if wrong && WRONG.fetch_add(1, SeqCst) < 20 {
        eprintln!("at {pc:#x}, stack pointer {sp:#x}, on a goroutine's stack: {on_goroutines}");
        eprintln!(
            "  the walk, or the last one, is wrong; it ends with {} after {:x?}",
            walk.status,
            walk.functions()
        );
    }
    if last[0] == thread {
        match (last[1], now[1]) {
            (0, 1) if body == 0 => ENTERED.fetch_add(1, SeqCst),
            (0, 1) => RESUMED.fetch_add(1, SeqCst),
            (1, 0) if last[2] == 0 => LEFT.fetch_add(1, SeqCst),
            (1, 0) => SUSPENDED.fetch_add(1, SeqCst),
            _ => 0,
        };
    }
}

/// The calling thread steps from here on.
#[unsafe(naked)]
extern "C" fn step() {
    naked_asm!(
        ".cfi_startproc",
        "pushfq",
        ".cfi_adjust_cfa_offset 8",
        "or qword ptr [rsp], {flag}",
        "popfq",
        ".cfi_adjust_cfa_offset -8",
        "ret",
        ".cfi_endproc",
        flag = const TRAP_FLAG,
    )
}

fn handle(signal: c_int, handler: usize, flags: c_int) {
    // SAFETY: a handler of the type that the flags ask for.
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
    }
}

#[inline(never)]
fn child() {
    Known::with(child as fn() as usize, yield_now);
    black_box(());
}

#[inline(never)]
fn echo(from: &Chan<u32>, to: &Chan<u32>) {
    Known::with(echo as fn(&Chan<u32>, &Chan<u32>) as usize, || from.iter().for_each(|v| to.send(v)));
    black_box(());
}

/// Parks, gives way, starts goroutines and sees them end, step by step.
#[inline(never)]
fn stepping() {
    Known::with(stepping as fn() as usize, || {
        GOROUTINES_BASE.store(Walk::here().base(), SeqCst);
        // A thread that steps cannot start another one, because signals are blocked meanwhile. So those that
        // may be needed, where this is slow, are there before.
        let begun = Arc::new(std::sync::Barrier::new(8));
        let spare = [(); 8].map(|()| {
            let begun = begun.clone();
            go!(move || blocking(|| begun.wait().is_leader()))
        });
        for one in spare {
            one.join().unwrap();
        }
        // Here and in the next two lines the stacks become known.
        let (there, here) = (chan::<u32>(0), chan::<u32>(0));
        let echo = {
            let (there, here) = (there.clone(), here.clone());
            go!(move || echo(&there, &here))
        };
        there.send(0);
        here.recv();
        go!(child()).join().unwrap();
        let region = mapping_of(KNOWN[0].top.load(SeqCst));
        REGION[0].store(region[0], SeqCst);
        REGION[1].store(region[1], SeqCst);
        let done = || [&RESUMED, &SUSPENDED, &ENTERED, &LEFT].iter().all(|seen| seen.load(SeqCst) > 0);
        while !done() && WRONG.load(SeqCst) == 0 {
            step();
            there.send(1);
            here.recv();
            go!(child()).join().unwrap();
            yield_now();
        }
        ENOUGH.store(true, SeqCst);
        there.close();
        echo.join().unwrap();
    });
    black_box(());
}

/// A goroutine is stepped through switches in both directions, a new goroutine's first one and its last one.
/// At every instruction the walk comes to the base of the stack that the processor is on, and through the
/// goroutine's body.
fn step_through_switches(handler_flags: c_int) {
    THREADS_BASE.store(thread::spawn(|| Walk::here().base()).join().unwrap(), SeqCst);
    handle(libc::SIGTRAP, stepped as *const () as usize, libc::SA_SIGINFO | handler_flags);
    at_size(1, stepping);
    assert_eq!(WRONG.load(SeqCst), 0);
    assert_ne!(THREADS_BASE.load(SeqCst), GOROUTINES_BASE.load(SeqCst));
}

static WALKS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn sampled(_signal: c_int) {
    black_box(Walk::here().base());
    WALKS.fetch_add(1, SeqCst);
}

/// Sends SIGPROF to one thread of the process after the other, until so many have been handled.
fn sample(walks: usize) {
    // SAFETY: plain system calls; a thread that has ended meanwhile gets no signal.
    let (process, me) = unsafe { (libc::getpid(), libc::gettid()) };
    while WALKS.load(SeqCst) < walks {
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            let Ok(thread) = task.unwrap().file_name().to_str().unwrap().parse::<libc::pid_t>() else {
                continue;
            };
            if thread != me {
                // SAFETY: as above.
                unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGPROF) };
            }
        }
    }
}

/// What goroutines do, with as many switches as possible. None panics: the unwinder's own last step, into the
/// frame that catches, is one that it cannot walk from, on any stack.
fn storm(over: &AtomicBool) {
    let values = chan::<u32>(0);
    gort::scope(|s| {
        for _ in 0..2 {
            s.go(|| values.iter().count());
            s.go(|| {
                while !over.load(SeqCst) {
                    yield_now();
                }
            });
        }
        while !over.load(SeqCst) {
            values.send(1);
            s.go(|| gort::time::sleep(Duration::from_micros(10)));
        }
        values.close();
    });
}

#[test]
fn a_profiler_may_walk_at_any_moment() {
    let test = || {
        handle(libc::SIGPROF, sampled as *const () as usize, libc::SA_RESTART);
        let over = AtomicBool::new(false);
        thread::scope(|s| {
            s.spawn(|| at_size(2, || storm(&over)));
            sample(50_000);
            over.store(true, SeqCst);
        });
    };
    in_child("a_profiler_may_walk_at_any_moment", &[], test).with_status(0);
}

#[test]
fn a_walk_is_right_at_each_instruction_of_a_switch() {
    in_child("a_walk_is_right_at_each_instruction_of_a_switch", &[], || step_through_switches(0))
        .with_status(0);
}

#[test]
fn so_it_is_from_an_alternate_stack() {
    in_child("so_it_is_from_an_alternate_stack", &[], || step_through_switches(libc::SA_ONSTACK))
        .with_status(0);
}
