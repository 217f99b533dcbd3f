//! What is promised of stacks: an overflow is reported and ends the process, nothing else is taken for one; a goroutine
//! that there can be no stack for is refused, and the others go on; memory is taken as it is used, and given back.

mod common;

use common::child::{Ended, in_child, limit, memory};
use common::{Ledger, Rng, dig_here, eventually, message, panic_message, until_parked};
use gort::sync::WaitGroup;
use gort::{
    Builder, Chan, JoinHandle, chan, go, goroutine_id, max_procs, num_goroutines, scope, select, yield_now,
};
use gort_scheduler::{DEFAULT_STACK, MAX_STACK, MIN_STACK};
use std::hint::black_box;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use std::{env, fs, mem, ptr, thread};

const MIB: u64 = 1 << 20;

/// What the parent has set for the child.
fn var(name: &str) -> String {
    env::var(name).unwrap()
}

// -- An overflow --

/// Runs the body as the main goroutine of a child, with 1, 2 and 64 Ps. A goroutine in it overflows its stack, after it
/// has introduced itself.
#[track_caller]
fn overflows(test: &str, body: fn()) {
    for procs in ["1", "2", "64"] {
        let ended = in_child(test, &[("GORT_MAXPROCS", procs)], || {
            gort::run(body);
            eprintln!("survived");
        });
        by_an_overflow(ended);
    }
}

/// What a goroutine says of itself before its stack overflows: who it is, in which line it was spawned, and what size of
/// stack it has asked for.
fn introduce(name: Option<&str>, line: u32, stack: usize) {
    let (id, name) = (goroutine_id().unwrap(), name.map_or(String::new(), |name| format!(" {name:?}")));
    eprintln!("I am goroutine {id}{name}, of line {line}, with {stack} bytes.");
}

/// Says that an overflow ended the process, and was reported once, at the very end, for a goroutine that had introduced
/// itself.
#[track_caller]
fn by_an_overflow(ended: Ended) {
    let ended = ended.by_signal(libc::SIGABRT).says(1, "fatal error: stack overflow\n").says(0, "survived");
    assert!(ended.text.ends_with("fatal error: stack overflow\n"), "something follows:\n{}", ended.excerpt());

    let reports: Vec<_> = ended.text.lines().filter_map(|l| l.strip_suffix(": stack overflow")).collect();
    let [who, _] = *reports else { panic!("not one report:\n{}", ended.excerpt()) };
    let mut all = ended.text.lines().filter(|l| l.starts_with("I am "));
    let it = all.find(|l| l["I am ".len()..].split(',').next() == Some(who));
    let it = it.unwrap_or_else(|| panic!("{who} has not introduced itself:\n{}", ended.excerpt()));
    let (line, stack) = (number_after(it, "of line "), number_after(it, "with "));

    let origin = ended.line("spawned at");
    assert!(origin.contains(&format!("runtime/tests/stacks.rs:{line}:")), "{origin}, but {it}");
    let size = number_after(origin, "a stack of ");
    assert!((stack..=2 * stack + (128 << 10)).contains(&size), "{origin}, but {it}");

    // The functions on top of its stack, the test's among them.
    let (_, functions) =
        ended.text.split_once("\nIts topmost functions:\n").unwrap_or_else(|| panic!("{}", ended.excerpt()));
    assert!(functions.contains("stacks::") || functions.contains("dig_here"), "{}", ended.excerpt());

    let remedy = ended.line("GORT_STACK_SIZE=");
    let more = number_after(remedy, "go!(stack_size = ");
    assert!(more > size && more == number_after(remedy, "GORT_STACK_SIZE="), "{remedy}, but {origin}");
}

/// The number that follows `what`.
#[track_caller]
fn number_after(line: &str, what: &str) -> usize {
    let (_, rest) = line.split_once(what).unwrap_or_else(|| panic!("no {what:?} in {line}"));
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap()
}

/// Goroutines that wait, with stacks beside that of one that overflows.
fn neighbours() {
    let hold = chan::<()>(0);
    for _ in 0..40 {
        drop(go!(hold.clone().recv()));
    }
    yield_now();
}

#[test]
fn an_overflow_by_recursion_is_reported() {
    overflows("an_overflow_by_recursion_is_reported", || {
        neighbours();
        let line = line!() + 1;
        let h = go!(name = "deep", {
            introduce(Some("deep"), line, DEFAULT_STACK);
            dig_here(usize::MAX)
        });
        let _ = h.join();
    });
}

/// With what a reader needs to see which recursion it was: the function once, however deep, and who called it.
#[test]
fn an_overflow_names_the_functions_on_top_of_the_stack() {
    #[inline(never)]
    fn digs(n: usize) -> usize {
        black_box(black_box(n) + if n == 0 { 0 } else { digs(n - 1) })
    }
    #[inline(never)]
    fn even(n: usize) -> usize {
        black_box(black_box(n) + if n == 0 { 0 } else { odd(n - 1) })
    }
    #[inline(never)]
    fn odd(n: usize) -> usize {
        black_box(black_box(n) + if n == 0 { 0 } else { even(n - 1) })
    }
    #[inline(never)]
    fn the_one_that_digs(f: fn(usize) -> usize) {
        assert!(black_box(f(usize::MAX)) > 0);
    }
    let test = "an_overflow_names_the_functions_on_top_of_the_stack";
    for which in ["one", "two", "in the heap"] {
        let ended = in_child(test, &[("GORT_TEST_WHICH", which)], || {
            let f: fn(usize) -> usize = match &*var("GORT_TEST_WHICH") {
                "one" => digs,
                "two" => even,
                // The lock of the heap may be held then.
                _ => {
                    #[inline(never)]
                    fn allocates(n: usize) -> usize {
                        if n == 0 {
                            return 0;
                        }
                        let values = black_box(vec![n; 3]);
                        black_box(values[0] + allocates(n - 1))
                    }
                    allocates
                }
            };
            gort::run(|| the_one_that_digs(f));
        });
        let ended = ended.by_signal(libc::SIGABRT).says(1, "fatal error: stack overflow\n");
        let (_, functions) =
            ended.text.split_once("\nIts topmost functions:\n").unwrap_or_else(|| panic!("{}", ended.text));
        let lines: Vec<_> = functions.lines().collect();
        match which {
            "one" => {
                let digs = lines.iter().position(|l| l.contains("::digs") && l.ends_with(" times)"));
                let digs = digs.unwrap_or_else(|| panic!("{}", ended.text));
                assert!(
                    digs <= 2 && lines[digs + 1..].iter().any(|l| l.contains("the_one_that_digs")),
                    "{}",
                    ended.text
                );
            }
            "two" => {
                assert!(functions.contains("::even\n") && functions.contains("::odd\n"), "{}", ended.text);
                assert!(lines.len() < 24 && lines.contains(&"\t..."), "{}", ended.text);
            }
            _ => assert!(functions.contains("::allocates"), "{}", ended.text),
        }
    }
}

#[test]
fn an_overflow_by_a_large_frame_is_reported() {
    #[inline(never)]
    fn large() -> u8 {
        let room = black_box([0_u8; DEFAULT_STACK + (64 << 10)]);
        room[black_box(17)]
    }
    overflows("an_overflow_by_a_large_frame_is_reported", || {
        neighbours();
        let line = line!() + 1;
        let h = go!(move || {
            introduce(None, line, DEFAULT_STACK);
            large()
        });
        let _ = h.join();
    });
}

#[test]
fn an_overflow_by_a_frame_larger_than_many_stacks_is_reported() {
    #[inline(never)]
    fn larger() -> u8 {
        let room = black_box([0_u8; 4 << 20]);
        room[black_box(17)]
    }
    overflows("an_overflow_by_a_frame_larger_than_many_stacks_is_reported", || {
        neighbours();
        let line = line!() + 1;
        let h = go!(move || {
            introduce(None, line, DEFAULT_STACK);
            larger()
        });
        let _ = h.join();
    });
}

#[test]
fn an_overflow_of_the_main_goroutine_is_reported() {
    for procs in ["1", "2", "64"] {
        let test = "an_overflow_of_the_main_goroutine_is_reported";
        let ended = in_child(test, &[("GORT_MAXPROCS", procs)], || {
            let line = line!() + 1;
            gort::run(|| {
                introduce(Some("main"), line, DEFAULT_STACK);
                dig_here(usize::MAX)
            });
            eprintln!("survived");
        });
        by_an_overflow(ended);
    }
}

#[test]
fn an_overflow_in_an_arm_of_select_is_reported() {
    overflows("an_overflow_in_an_arm_of_select_is_reported", || {
        let (ready, never) = (chan::<()>(0), chan::<u64>(0));
        let on = ready.clone();
        let line = line!() + 1;
        let h = go!(name = "chooser", {
            introduce(Some("chooser"), line, DEFAULT_STACK);
            select! {
                recv(on) -> _ => dig_here(usize::MAX),
                recv(never) -> v => v.unwrap_or(0),
            }
        });
        until_parked(&h, "select");
        ready.send(());
        let _ = h.join();
    });
}

#[test]
fn an_overflow_in_a_deep_drop_is_reported() {
    struct Node(#[expect(dead_code, reason = "dropped")] Option<Box<Node>>);
    overflows("an_overflow_in_a_deep_drop_is_reported", || {
        let list = (0..200_000).fold(None, |next, _| Some(Box::new(Node(next))));
        let line = line!() + 1;
        let h = go!(name = "dropper", {
            introduce(Some("dropper"), line, DEFAULT_STACK);
            drop(black_box(list));
        });
        let _ = h.join();
    });
}

#[test]
fn an_overflow_while_unwinding_is_reported() {
    struct Digs;
    impl Drop for Digs {
        fn drop(&mut self) {
            dig_here(usize::MAX);
        }
    }
    overflows("an_overflow_while_unwinding_is_reported", || {
        let line = line!() + 1;
        let h: JoinHandle<()> = go!(name = "falling", {
            introduce(Some("falling"), line, DEFAULT_STACK);
            let _digs = Digs;
            panic!("on the way down");
        });
        let _ = h.join();
    });
}

#[test]
fn an_overflow_of_a_megabyte_is_reported() {
    overflows("an_overflow_of_a_megabyte_is_reported", || {
        let line = line!() + 1;
        let h = go!(name = "large", stack_size = 1 << 20, {
            introduce(Some("large"), line, 1 << 20);
            dig_here(usize::MAX)
        });
        let _ = h.join();
    });
}

#[test]
fn an_overflow_of_64_megabytes_is_reported() {
    overflows("an_overflow_of_64_megabytes_is_reported", || {
        let line = line!() + 1;
        let h = go!(name = "larger", stack_size = 64 << 20, {
            introduce(Some("larger"), line, 64 << 20);
            dig_here(usize::MAX)
        });
        let _ = h.join();
    });
}

#[test]
fn an_overflow_after_parks_and_on_another_thread_is_reported() {
    overflows("an_overflow_after_parks_and_on_another_thread_is_reported", || {
        let line = line!() + 1;
        let h = go!(name = "wanderer", {
            introduce(Some("wanderer"), line, DEFAULT_STACK);
            for i in 0..100 {
                let ch = chan(0);
                go!(ch.clone().send(i));
                assert_eq!(ch.recv(), Some(i));
            }
            if max_procs() > 1 && env::var_os("GORT_MIGRATE").is_none_or(|v| v != "0") {
                migrate();
            }
            dig_here(usize::MAX)
        });
        let _ = h.join();
    });
}

/// Parks until the caller goes on on another OS thread. Not with one P.
fn migrate() {
    let first = this_thread();
    while this_thread() == first {
        // Whoever wakes the caller keeps its own thread until the caller goes on.
        let (wake, awake) = (chan(0), Arc::new(AtomicBool::new(false)));
        let (tx, seen) = (wake.clone(), awake.clone());
        go!(move || {
            tx.send(());
            while !seen.load(SeqCst) {
                thread::yield_now();
            }
        });
        wake.recv();
        awake.store(true, SeqCst);
    }
}

fn this_thread() -> libc::pid_t {
    // SAFETY: asks for a number.
    unsafe { libc::gettid() }
}

#[test]
fn of_several_overflows_at_the_same_time_one_is_reported() {
    overflows("of_several_overflows_at_the_same_time_one_is_reported", || {
        let gate = chan::<()>(0);
        let all: Vec<_> = (0..16)
            .map(|_| {
                let gate = gate.clone();
                let line = line!() + 1;
                go!(name = "one of many", {
                    introduce(Some("one of many"), line, DEFAULT_STACK);
                    gate.recv();
                    dig_here(usize::MAX)
                })
            })
            .collect();
        all.iter().for_each(|h| until_parked(h, "chan receive"));
        gate.close();
        all.into_iter().for_each(|h| drop(h.join()));
    });
}

#[test]
fn an_overflow_is_reported_with_guards_of_mprotect() {
    let test = "an_overflow_is_reported_with_guards_of_mprotect";
    let ended = in_child(test, &[("GORT_MAXPROCS", "2"), MPROTECT], || {
        gort::run(|| {
            neighbours();
            let line = line!() + 1;
            let h = go!(name = "deep", {
                introduce(Some("deep"), line, DEFAULT_STACK);
                dig_here(usize::MAX)
            });
            let _ = h.join();
        });
        eprintln!("survived");
    });
    by_an_overflow(ended);
}

/// Has the kernel answer system calls with success and do nothing, as sandboxes and emulators may: those of a number whose
/// argument of some place is that value.
#[cfg(target_arch = "x86_64")]
fn pretend(calls: &[(libc::c_long, u32, u32)]) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut filter = Vec::new();
    for &(number, place, value) in calls {
        filter.extend([
            step(LOAD, 0, 0, 0),
            step(EQUAL, number as u32, 0, 3),
            step(LOAD, 16 + 8 * place, 0, 0),
            step(EQUAL, value, 0, 1),
            step(RETURN, libc::SECCOMP_RET_ERRNO, 0, 0),
        ]);
    }
    filter.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: for this thread and those that it starts; the program is read in the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

/// `MADV_GUARD_INSTALL`.
#[cfg(target_arch = "x86_64")]
const ADVICE: [(libc::c_long, u32, u32); 2] =
    [(libc::SYS_madvise, 2, 102), (libc::SYS_process_madvise, 3, 102)];

/// An emulator that has these answers itself, and no filters, runs the tests of aarch64.
#[cfg(target_arch = "x86_64")]
#[test]
fn guards_that_the_system_only_pretends_to_make_are_not_relied_on() {
    let test = "guards_that_the_system_only_pretends_to_make_are_not_relied_on";
    let ended = in_child(test, &[("GORT_MAXPROCS", "2")], || {
        pretend(&ADVICE);
        gort::run(|| {
            neighbours();
            let line = line!() + 1;
            let h = go!(name = "deep", {
                introduce(Some("deep"), line, DEFAULT_STACK);
                dig_here(usize::MAX)
            });
            let _ = h.join();
        });
        eprintln!("survived");
    });
    by_an_overflow(ended.says(0, "no guards here"));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn where_no_guard_holds_the_program_is_told_and_goes_on() {
    let test = "where_no_guard_holds_the_program_is_told_and_goes_on";
    for guard in ["", "mprotect"] {
        let vars = [("GORT_STACK_GUARD", guard)];
        let ended = in_child(test, if guard.is_empty() { &[] } else { &vars }, || {
            pretend(&[ADVICE[0], ADVICE[1], (libc::SYS_mprotect, 2, libc::PROT_NONE as u32)]);
            assert_eq!(gort::run(|| go!(stack_size = 1 << 20, || 7).join().unwrap()), 7);
        });
        ended.with_status(0).says(1, "gort: stacks have no guards here");
    }
}

#[test]
fn an_overflow_is_reported_although_the_program_has_blocked_all_signals() {
    let test = "an_overflow_is_reported_although_the_program_has_blocked_all_signals";
    let ended = in_child(test, &[("GORT_MAXPROCS", "2")], || {
        // As programs do that have one thread take the signals: the threads that are made after this inherit it.
        // SAFETY: fills in the set, and reads it.
        unsafe {
            let mut all = mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, ptr::null_mut());
        }
        gort::run(|| {
            let line = line!() + 1;
            let h = go!(name = "deaf", {
                introduce(Some("deaf"), line, DEFAULT_STACK);
                dig_here(usize::MAX)
            });
            let _ = h.join();
        });
        eprintln!("survived");
    });
    by_an_overflow(ended);
}

#[test]
fn a_panic_near_the_end_of_a_stack_unwinds() {
    struct Dropped<'a>(&'a AtomicUsize);
    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    /// Panics 100 KiB below `from`, `made` frames deep.
    #[inline(never)]
    fn down(from: usize, made: usize, dropped: &AtomicUsize) -> usize {
        let _dropped = Dropped(dropped);
        let room = black_box([1_u8; 512]);
        let depth = from - ptr::from_ref(&room).addr();
        assert!(depth < 100 << 10, "{made} frames deep");
        down(from, made + 1, dropped) + usize::from(black_box(room)[0])
    }
    for backtrace in ["0", "1", "full"] {
        let test = "a_panic_near_the_end_of_a_stack_unwinds";
        let ended = in_child(test, &[("GORT_MAXPROCS", "2"), ("RUST_BACKTRACE", backtrace)], || {
            let dropped = Arc::new(AtomicUsize::new(0));
            for _ in 0..3 {
                dropped.store(0, SeqCst);
                let counted = dropped.clone();
                let h = go!(move || {
                    let top = black_box(0_u8);
                    down(ptr::from_ref(&top).addr(), 1, &counted)
                });
                let said = message(&*h.join().unwrap_err());
                assert_eq!(said, format!("{} frames deep", dropped.load(SeqCst)));
                assert!(dropped.load(SeqCst) > 10);
                assert!(go!(|| dig_here(100 << 10)).join().unwrap() > 10);
            }
        });
        ended.with_status(0).says(6, " frames deep").says(3, "spawned at");
    }
}

// -- What is not an overflow --

/// Says that this signal ended it, as it would have without goroutines.
#[track_caller]
fn by_a_plain(signal: libc::c_int, ended: Ended) {
    ended.by_signal(signal).says(0, "goroutine").says(0, "overflow").says(0, "survived");
}

/// Where no program has anything: a field behind a null pointer.
const NOWHERE: usize = 8;

fn read(addr: usize) -> u8 {
    // SAFETY: none, or none until a handler has made it accessible: a fault is what the callers want.
    unsafe { ptr::with_exposed_provenance::<u8>(black_box(addr)).read_volatile() }
}

fn write(addr: usize, value: u8) {
    // SAFETY: as in `read`.
    unsafe { ptr::with_exposed_provenance_mut::<u8>(black_box(addr)).write_volatile(value) }
}

/// Installs a handler of a signal, which no other one interrupts: a function of one argument, or of three with
/// `SA_SIGINFO`.
fn handle(signal: libc::c_int, handler: usize, flags: libc::c_int) {
    // SAFETY: reads the struct; the caller's handler does what is allowed in one.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        (action.sa_sigaction, action.sa_flags) = (handler, flags);
        libc::sigfillset(&raw mut action.sa_mask);
        assert_eq!(libc::sigaction(signal, &raw const action, ptr::null_mut()), 0);
    }
}

#[test]
fn a_bad_access_of_a_goroutine_is_no_overflow() {
    for access in ["read", "write"] {
        let test = "a_bad_access_of_a_goroutine_is_no_overflow";
        let ended = in_child(test, &[("GORT_MAXPROCS", "2"), ("GORT_TEST_ACCESS", access)], || {
            let reads = var("GORT_TEST_ACCESS") == "read";
            let h = go!(move || if reads { _ = read(NOWHERE) } else { write(NOWHERE, 1) });
            let _ = h.join();
            eprintln!("survived");
        });
        by_a_plain(libc::SIGSEGV, ended);
    }
}

/// Writes into the guard of a goroutine that is parked, and whose frame is here.
fn write_into_guard(frame: usize) {
    // The frame is at the upper end of its slot; from there down is its stack, and then 64 KiB of guard.
    write(frame - DEFAULT_STACK - (32 << 10), 1);
}

#[test]
fn a_stray_write_into_a_guard_is_not_its_goroutines_overflow() {
    for writer in ["thread", "goroutine"] {
        let test = "a_stray_write_into_a_guard_is_not_its_goroutines_overflow";
        let ended = in_child(test, &[("GORT_MAXPROCS", "2"), ("GORT_TEST_WRITER", writer)], || {
            let (at, hold) = (chan(0), chan::<()>(0));
            let (tx, held) = (at.clone(), hold.clone());
            let victim = go!(move || {
                let local = black_box(0_u8);
                tx.send(ptr::from_ref(&local).expose_provenance());
                held.recv();
            });
            let frame = at.recv().unwrap();
            until_parked(&victim, "chan receive");
            if var("GORT_TEST_WRITER") == "thread" {
                write_into_guard(frame);
            } else {
                let _ = go!(move || write_into_guard(frame)).join();
            }
            eprintln!("survived");
        });
        by_a_plain(libc::SIGSEGV, ended);
    }
}

unsafe extern "C" fn leaves(_: libc::c_int) {
    // SAFETY: allowed in a handler.
    unsafe { libc::_exit(7) };
}

unsafe extern "C" fn leaves_if_told_where(
    _: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel's arguments; allowed in a handler.
    unsafe { libc::_exit(if (*info).si_addr().addr() == NOWHERE && !context.is_null() { 7 } else { 8 }) };
}

#[test]
fn a_fault_goes_to_the_handler_that_the_program_had_before() {
    for (kind, place) in [("1", "goroutine"), ("3", "goroutine"), ("1", "thread"), ("3", "thread")] {
        let test = "a_fault_goes_to_the_handler_that_the_program_had_before";
        let vars = [("GORT_MAXPROCS", "2"), ("GORT_TEST_ARGUMENTS", kind), ("GORT_TEST_PLACE", place)];
        let ended = in_child(test, &vars, || {
            if var("GORT_TEST_ARGUMENTS") == "1" {
                handle(libc::SIGSEGV, leaves as *const () as usize, 0);
            } else {
                handle(libc::SIGSEGV, leaves_if_told_where as *const () as usize, libc::SA_SIGINFO);
            }
            go!(|| ()).join().unwrap();
            if var("GORT_TEST_PLACE") == "goroutine" {
                let _ = go!(|| read(NOWHERE)).join();
            } else {
                read(NOWHERE);
            }
            eprintln!("survived");
        });
        assert_eq!(ended.with_status(7).text, "");
    }
}

static REPAIRED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn repairs(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel's argument; makes a page of the test's own accessible.
    unsafe {
        libc::mprotect((*info).si_addr(), 1, libc::PROT_READ | libc::PROT_WRITE);
    }
    REPAIRED.fetch_add(1, SeqCst);
}

#[test]
fn a_goroutine_goes_on_after_a_fault_that_the_programs_handler_repairs() {
    let test = "a_goroutine_goes_on_after_a_fault_that_the_programs_handler_repairs";
    let ended = in_child(test, &[("GORT_MAXPROCS", "2")], || {
        handle(libc::SIGSEGV, repairs as *const () as usize, libc::SA_SIGINFO | libc::SA_ONSTACK);
        const PAGES: usize = 100;
        const PAGE: usize = 64 << 10;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping.
        let at = unsafe { libc::mmap(ptr::null_mut(), PAGES * PAGE, libc::PROT_NONE, flags, -1, 0) };
        let at = at.expose_provenance();
        let sum = gort::run(|| {
            let all: Vec<_> = (0..PAGES)
                .map(|i| {
                    go!(move || {
                        yield_now();
                        write(at + i * PAGE, i as u8);
                        yield_now();
                        usize::from(read(at + i * PAGE))
                    })
                })
                .collect();
            all.into_iter().map(|h| h.join().unwrap()).sum::<usize>()
        });
        assert_eq!((sum, REPAIRED.load(SeqCst)), (PAGES * (PAGES - 1) / 2, PAGES));
        // An overflow is one all the same.
        let line = line!() + 1;
        let h = go!(name = "deep", {
            introduce(Some("deep"), line, DEFAULT_STACK);
            dig_here(usize::MAX)
        });
        let _ = h.join();
        eprintln!("survived");
    });
    by_an_overflow(ended);
}

#[test]
fn the_overflow_of_a_plain_thread_is_reported_as_ever() {
    let test = "the_overflow_of_a_plain_thread_is_reported_as_ever";
    let ended = in_child(test, &[("GORT_MAXPROCS", "2")], || {
        go!(|| ()).join().unwrap();
        let plain = thread::Builder::new().name("plain".to_owned()).spawn(|| {
            go!(|| ()).join().unwrap();
            dig_here(usize::MAX)
        });
        let _ = plain.unwrap().join();
        eprintln!("survived");
    });
    let ended = ended.by_signal(libc::SIGABRT).says(0, "goroutine").says(0, "survived");
    assert!(ended.line("has overflowed its stack").contains("'plain'"), "{}", ended.text);
}

#[test]
fn a_sigsegv_that_is_sent_ends_the_process() {
    for how in ["raise in a goroutine", "raise", "kill"] {
        let test = "a_sigsegv_that_is_sent_ends_the_process";
        let ended = in_child(test, &[("GORT_MAXPROCS", "2"), ("GORT_TEST_HOW", how)], || {
            go!(|| ()).join().unwrap();
            // SAFETY: sends a signal.
            let raise = || unsafe { libc::raise(libc::SIGSEGV) };
            match &*var("GORT_TEST_HOW") {
                "raise" => assert_eq!(raise(), 0),
                "kill" => {
                    // SAFETY: sends a signal.
                    assert_eq!(unsafe { libc::kill(libc::getpid(), libc::SIGSEGV) }, 0);
                    // Any thread may get it, at any time.
                    thread::sleep(Duration::from_secs(10));
                }
                _ => assert_eq!(go!(raise).join().unwrap(), 0),
            }
            eprintln!("survived");
        });
        by_a_plain(libc::SIGSEGV, ended);
    }
}

#[test]
fn a_sigsegv_that_is_sent_and_ignored_changes_nothing() {
    let test = "a_sigsegv_that_is_sent_and_ignored_changes_nothing";
    let ended = in_child(test, &[("GORT_MAXPROCS", "2")], || {
        handle(libc::SIGSEGV, libc::SIG_IGN, 0);
        let line = line!() + 1;
        let h = go!(name = "stoic", {
            // SAFETY: sends a signal.
            assert_eq!(unsafe { libc::raise(libc::SIGSEGV) }, 0);
            introduce(Some("stoic"), line, DEFAULT_STACK);
            dig_here(usize::MAX)
        });
        let _ = h.join();
        eprintln!("survived");
    });
    by_an_overflow(ended);
}

// -- Signals --

/// Handlers that ran on a goroutine's stack, and all of them.
static ON_GOROUTINES: AtomicUsize = AtomicUsize::new(0);
static HANDLED: AtomicUsize = AtomicUsize::new(0);
/// Between the lowest and the highest address that a goroutine has seen on its stack.
static LOWEST: AtomicUsize = AtomicUsize::new(usize::MAX);
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn counts(_: libc::c_int) {
    // As much of the stack as a handler may use on the alternate stacks of `std`'s threads.
    let room = black_box([1_u8; 1024]);
    let here = ptr::from_ref(&room).addr();
    HANDLED.fetch_add(usize::from(room[black_box(17)]), SeqCst);
    if (LOWEST.load(SeqCst)..HIGHEST.load(SeqCst)).contains(&here) {
        ON_GOROUTINES.fetch_add(1, SeqCst);
    }
}

fn show_stack() {
    let local = black_box(0_u8);
    let here = ptr::from_ref(&local).addr();
    LOWEST.fetch_min(here, SeqCst);
    HIGHEST.fetch_max(here, SeqCst);
}

/// Goroutines that start, park, are woken, sleep, move about and end; whether all that they were given has arrived.
fn a_round_of_everything(rng: &mut Rng) {
    let (first, ledger) = (chan(rng.below(3)), Ledger::default());
    let mut last = first.clone();
    for _ in 0..10 {
        let (rx, tx) = (last, chan(rng.below(3)));
        last = tx.clone();
        go!(move || {
            show_stack();
            for token in &rx {
                tx.send(token);
            }
            tx.close();
        });
    }
    let senders = WaitGroup::new();
    for _ in 0..20 {
        let (tx, ledger, nap) = (first.clone(), ledger.clone(), rng.below(4));
        senders.go(move || {
            for _ in 0..10 {
                tx.send(ledger.token());
                black_box(dig_here(20 << 10));
            }
            gort::time::sleep(Duration::from_micros(10 * nap as u64));
        });
    }
    go!(move || {
        senders.wait();
        first.close();
    });
    let mut got: Vec<_> = last.iter().map(|token| token.n).collect();
    got.sort_unstable();
    assert_eq!(got, (0..200).collect::<Vec<_>>());
    ledger.assert_settled();
}

/// Does it all while signals come as fast as timers and another thread send them, with these flags of the handler, until
/// enough have been handled, and so many of them on goroutines' stacks; how many that were. (Where the one thread that runs
/// goroutines hardly gets a core, few are.)
fn under_signals(flags: libc::c_int, enough: usize) -> usize {
    // No SA_RESTART: whatever waits in the kernel is interrupted.
    for signal in [libc::SIGALRM, libc::SIGPROF, libc::SIGUSR1] {
        handle(signal, counts as *const () as usize, flags);
    }
    let tick = libc::timeval { tv_sec: 0, tv_usec: 500 };
    let timer = libc::itimerval { it_interval: tick, it_value: tick };
    for which in [libc::ITIMER_REAL, libc::ITIMER_PROF] {
        // SAFETY: reads the struct.
        assert_eq!(unsafe { libc::setitimer(which, &raw const timer, ptr::null_mut()) }, 0);
    }
    let done = Arc::new(AtomicBool::new(false));
    let seen = done.clone();
    let sender = thread::spawn(move || {
        while !seen.load(SeqCst) {
            for task in fs::read_dir("/proc/self/task").unwrap() {
                let id: libc::pid_t = task.unwrap().file_name().to_str().unwrap().parse().unwrap();
                // SAFETY: sends a signal, to a thread of this process.
                unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, libc::SIGUSR1) };
            }
            thread::yield_now();
        }
    });
    let start = Instant::now();
    gort::run(|| {
        let mut rng = Rng(1);
        while start.elapsed() < Duration::from_millis(700)
            || HANDLED.load(SeqCst) < 200
            || ON_GOROUTINES.load(SeqCst) < enough
        {
            a_round_of_everything(&mut rng);
        }
    });
    done.store(true, SeqCst);
    sender.join().unwrap();
    ON_GOROUTINES.load(SeqCst)
}

/// Ends the child without what `exit` does: there `std` unmaps the main thread's alternate stack, and signals still come.
fn end_at_once() -> ! {
    // SAFETY: nothing is left to do.
    unsafe { libc::_exit(0) }
}

#[test]
fn goroutines_go_on_under_handlers_on_their_stacks() {
    for procs in ["1", "2", "64"] {
        let test = "goroutines_go_on_under_handlers_on_their_stacks";
        let ended = in_child(test, &[("GORT_MAXPROCS", procs)], || {
            under_signals(0, 20);
            end_at_once();
        });
        ended.with_status(0);
    }
}

#[test]
fn goroutines_go_on_under_handlers_on_alternate_stacks() {
    for procs in ["1", "2", "64"] {
        let test = "goroutines_go_on_under_handlers_on_alternate_stacks";
        let ended = in_child(test, &[("GORT_MAXPROCS", procs)], || {
            assert_eq!(under_signals(libc::SA_ONSTACK, 0), 0, "handlers ran on goroutines' stacks");
            end_at_once();
        });
        ended.with_status(0);
    }
}

// -- No stack for another goroutine --

/// Guards as kernels before 6.13 have them.
const MPROTECT: (&str, &str) = ("GORT_STACK_GUARD", "mprotect");
/// Keeps the allocator from reserving 64 MiB of addresses for each thread.
const ONE_HEAP: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

/// Goroutines that have been started, and return their places in this list. It has its memory from the beginning, so
/// that it is not what there is none for.
fn room_for_many() -> Vec<JoinHandle<usize>> {
    Vec::with_capacity(1 << 16)
}

/// Starts goroutines that wait until `hold` is closed, until one is refused, which names one of the limits.
fn start_as_many_as_can_be(hold: &Chan<()>, all: &mut Vec<JoinHandle<usize>>, limits: &[&str]) -> String {
    loop {
        let (hold, i) = (hold.clone(), all.len());
        match Builder::new().go(move || hold.recv().map_or(i, |()| usize::MAX)) {
            Ok(h) => all.push(h),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::OutOfMemory, "{e}");
                let text = e.to_string();
                assert!(limits.iter().any(|l| text.contains(l)), "names none of {limits:?}: {text}");
                return text;
            }
        }
        if i % 64 == 0 {
            yield_now();
        }
    }
}

/// Joins them all; each must have returned its place in the list.
fn all_return(handles: &mut Vec<JoinHandle<usize>>) {
    for (i, h) in handles.drain(..).enumerate() {
        assert_eq!(h.join().unwrap(), i);
    }
}

/// The words in which `start` is refused. Something may have let go of a stack meanwhile, so that it is not: then `refill`
/// takes that.
fn refusal(refill: &mut dyn FnMut(), start: impl Fn()) -> String {
    loop {
        match catch_unwind(AssertUnwindSafe(&start)) {
            Ok(()) => refill(),
            Err(payload) => return message(&*payload),
        }
    }
}

/// What is promised when there can be no more goroutines, and after: to be called where a limit is in place that goes by
/// one of these names.
fn too_many_goroutines(limits: &[&str]) {
    // A plain thread, made while there is memory for one.
    let (ask, tell) = (chan::<fn()>(0), chan(0));
    let (asked, told) = (ask.clone(), tell.clone());
    let outsider = thread::spawn(move || {
        for start in &asked {
            tell.send(catch_unwind(start));
        }
    });
    let elsewhere = |start: fn()| {
        ask.send(start);
        told.recv().unwrap().unwrap_or_else(|payload| resume_unwind(payload));
    };
    gort::run(|| {
        let mut all = room_for_many();
        for _ in 0..2 {
            let hold = chan::<()>(0);
            let said =
                format!("cannot start a goroutine: {}", start_as_many_as_can_be(&hold, &mut all, limits));
            assert!(all.len() > 100, "{} goroutines and no more", all.len());

            // Whatever way a goroutine is started, it is refused in the same words, and nobody waits for it.
            let refill = &mut || {
                start_as_many_as_can_be(&hold, &mut all, limits);
            };
            let forms: [fn(); 7] = [
                || drop(go!(|| ())),
                || drop(go!(name = "extra", || ())),
                || drop(gort::go(|| ())),
                || gort::run(|| ()),
                || scope(|s| drop(s.go(|| ()))),
                || {
                    scope(|s| catch_unwind(AssertUnwindSafe(|| drop(s.go(|| ())))))
                        .unwrap_or_else(|p| resume_unwind(p))
                },
                || {
                    let group = WaitGroup::new();
                    let started = catch_unwind(AssertUnwindSafe(|| group.go(|| ())));
                    group.wait();
                    started.unwrap_or_else(|p| resume_unwind(p));
                },
            ];
            for form in forms {
                assert_eq!(refusal(refill, form), said);
                assert_eq!(refusal(refill, || elsewhere(form)), said);
            }

            // What it was given is dropped.
            refusal(refill, || {
                let ledger = Ledger::default();
                let token = ledger.token();
                let started = catch_unwind(AssertUnwindSafe(|| go!(move || drop(token))));
                if let Err(payload) = started {
                    ledger.assert_settled();
                    resume_unwind(payload);
                }
            });

            // The others go on.
            hold.close();
            let n = all.len();
            all_return(&mut all);

            // And so do new ones.
            all.extend((0..n / 2).map(|i| go!(move || i)));
            all_return(&mut all);
        }
        eventually("all have ended", || num_goroutines() == 1);
    });
    ask.close();
    outsider.join().unwrap();
}

/// Memory for some hundred goroutines and for threads: by the size of a stack, which is larger without optimisation.
const ROOM: u64 = if cfg!(debug_assertions) { 2048 * MIB } else { 512 * MIB };

#[test]
fn without_address_space_a_goroutine_is_refused_and_the_others_go_on() {
    for procs in ["1", "2"] {
        let test = "without_address_space_a_goroutine_is_refused_and_the_others_go_on";
        let ended = in_child(test, &[("GORT_MAXPROCS", procs), ONE_HEAP], || {
            limit(libc::RLIMIT_AS, memory("VmSize") + 512 * MIB);
            too_many_goroutines(&["ulimit -v"]);
        });
        ended.with_status(0);
    }
}

#[test]
fn without_memory_a_goroutine_is_refused_and_the_others_go_on() {
    for procs in ["1", "2"] {
        let test = "without_memory_a_goroutine_is_refused_and_the_others_go_on";
        let ended = in_child(test, &[("GORT_MAXPROCS", procs)], || {
            limit(libc::RLIMIT_DATA, memory("VmData") + ROOM);
            too_many_goroutines(&["ulimit -d", "vm.overcommit_memory"]);
        });
        ended.with_status(0);
    }
}

#[test]
fn without_memory_for_more_threads_goroutines_go_on_with_those_that_there_are() {
    let test = "without_memory_for_more_threads_goroutines_go_on_with_those_that_there_are";
    let ended = in_child(test, &[("GORT_MAXPROCS", "64")], || {
        limit(libc::RLIMIT_DATA, memory("VmData") + ROOM);
        too_many_goroutines(&["ulimit -d", "vm.overcommit_memory"]);
    });
    ended.with_status(0);
}

#[test]
fn without_memory_a_goroutine_is_refused_with_guards_of_mprotect_as_well() {
    for procs in ["1", "2"] {
        let test = "without_memory_a_goroutine_is_refused_with_guards_of_mprotect_as_well";
        let ended = in_child(test, &[("GORT_MAXPROCS", procs), MPROTECT], || {
            limit(libc::RLIMIT_DATA, memory("VmData") + ROOM);
            too_many_goroutines(&["ulimit -d", "vm.overcommit_memory"]);
        });
        ended.with_status(0);
    }
}

#[test]
fn without_mappings_a_goroutine_is_refused_and_the_others_go_on() {
    for procs in ["1", "2", "64"] {
        let test = "without_mappings_a_goroutine_is_refused_and_the_others_go_on";
        let ended = in_child(test, &[("GORT_MAXPROCS", procs), MPROTECT], || {
            too_many_goroutines(&["vm.max_map_count"]);
        });
        ended.with_status(0);
    }
}

#[test]
fn without_room_for_a_large_stack_the_default_is_still_there() {
    for procs in ["1", "2"] {
        let test = "without_room_for_a_large_stack_the_default_is_still_there";
        let ended = in_child(test, &[("GORT_MAXPROCS", procs), ONE_HEAP], || {
            limit(libc::RLIMIT_AS, memory("VmSize") + 300 * MIB);
            gort::run(|| {
                assert_eq!(go!(|| 1).join().unwrap(), 1);
                let e = Builder::new().stack_size(1 << 30).go(|| 2).unwrap_err();
                assert_eq!(e.kind(), ErrorKind::OutOfMemory);
                assert!(e.to_string().contains("ulimit -v"), "{e}");
                let said = panic_message(|| go!(stack_size = 1 << 30, || 2));
                assert_eq!(said, format!("cannot start a goroutine: {e}"));
                all_return(&mut (0..100).map(|i| go!(move || i)).collect());
            });
        });
        ended.with_status(0);
    }
}

#[test]
fn a_refusal_is_reported_where_the_goroutine_was_to_be_started() {
    let test = "a_refusal_is_reported_where_the_goroutine_was_to_be_started";
    let ended = in_child(test, &[("GORT_MAXPROCS", "1"), ONE_HEAP], || {
        limit(libc::RLIMIT_AS, memory("VmSize") + 300 * MIB);
        gort::run(|| {
            let hold = chan::<()>(0);
            let mut all = room_for_many();
            let refill = &mut || {
                start_as_many_as_can_be(&hold, &mut all, &["ulimit -v"]);
            };
            refill();
            for (line, start) in [
                (line!(), (|| drop(go!(|| ()))) as fn()),
                (line!(), || drop(go!(name = "extra", || ()))),
                (line!(), || drop(gort::go(|| ()))),
                (line!(), || gort::run(|| ())),
                (line!(), || WaitGroup::new().go(|| ())),
                (line!(), || scope(|s| drop(s.go(|| ())))),
            ] {
                eprintln!("line {line}");
                refusal(refill, start);
            }
            hold.close();
            all_return(&mut all);
        });
    });
    let ended = ended.with_status(0);
    let (mut lines, mut reports) = (ended.text.lines(), 0);
    while let Some(line) = lines.by_ref().find_map(|l| l.strip_prefix("line ")) {
        let report = lines.by_ref().find(|l| l.contains("panicked at")).unwrap();
        assert!(report.contains(&format!("runtime/tests/stacks.rs:{line}:")), "{report}, and not {line}");
        reports += 1;
    }
    assert_eq!(reports, 6);
}

#[test]
fn stacks_that_nobody_uses_are_there_for_every_p() {
    let test = "stacks_that_nobody_uses_are_there_for_every_p";
    let ended = in_child(test, &[("GORT_MAXPROCS", "64"), ONE_HEAP], || {
        limit(libc::RLIMIT_AS, memory("VmSize") + 4096 * MIB);
        gort::run(|| {
            // Each sits on an OS thread, and so on a P, of its own while it starts another one.
            let meet = Arc::new(Barrier::new(64));
            let mut all = (0..64)
                .map(|i| {
                    let meet = meet.clone();
                    go!(move || {
                        meet.wait();
                        let started = Builder::new().stack_size(300 << 10).go(move || i);
                        meet.wait();
                        started.unwrap().join().unwrap()
                    })
                })
                .collect();
            all_return(&mut all);
        });
    });
    ended.with_status(0);
}

#[test]
fn runtimes_that_are_idle_do_not_keep_the_stacks_of_others() {
    let test = "runtimes_that_are_idle_do_not_keep_the_stacks_of_others";
    let ended = in_child(test, &[("GORT_MAXPROCS", "2"), ONE_HEAP], || {
        limit(libc::RLIMIT_AS, memory("VmSize") + 512 * MIB);
        let idle: Vec<_> = (0..40)
            .map(|_| {
                let rt = common::builder(1).build().unwrap();
                rt.run(|| {
                    let hold = chan::<()>(0);
                    // Not as many as there is room for: the runtime before this one may be about to be idle, and keeps a few yet.
                    let mut all = (0..175)
                        .map(|i| {
                            let hold = hold.clone();
                            go!(move || hold.recv().map_or(i, |()| 0))
                        })
                        .collect();
                    yield_now();
                    hold.close();
                    all_return(&mut all);
                });
                rt
            })
            .collect();
        gort::run(|| {
            let hold = chan::<()>(0);
            let mut all = room_for_many();
            start_as_many_as_can_be(&hold, &mut all, &["ulimit -v"]);
            hold.close();
            all_return(&mut all);
        });
        drop(idle);
    });
    ended.with_status(0);
}

// -- Memory --

/// What the process holds: its pages, and the tables of its pages.
fn held() -> u64 {
    memory("VmRSS") + memory("VmPTE")
}

fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// How many OS threads there are.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Whether guards cost no mappings here.
fn guards_are_advice() -> bool {
    const MADV_GUARD_INSTALL: libc::c_int = 102;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a mapping that nobody else knows.
    unsafe {
        let at = libc::mmap(ptr::null_mut(), 1 << 16, libc::PROT_NONE, flags, -1, 0);
        let ok = libc::madvise(at, 1 << 16, MADV_GUARD_INSTALL) == 0;
        libc::munmap(at, 1 << 16);
        ok
    }
}

/// Runs goroutines that all wait at the same time; `look` is called then.
fn wait_together(n: usize, look: impl FnOnce()) {
    let (hold, arrived, sum) = (chan::<()>(0), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for i in 0..n {
        let (hold, arrived, sum) = (hold.clone(), arrived.clone(), sum.clone());
        drop(go!(move || {
            arrived.fetch_add(1, SeqCst);
            hold.recv();
            sum.fetch_add(i, SeqCst);
        }));
        if i % 64 == 0 {
            yield_now();
        }
    }
    eventually("all have arrived", || arrived.load(SeqCst) == n);
    look();
    hold.close();
    eventually("all have ended", || num_goroutines() == 1);
    assert_eq!(sum.load(SeqCst), n * (n - 1) / 2);
}

/// Has so many goroutines wait, says that each takes as little memory as is promised, and that they all end.
fn little_memory_each(n: usize) {
    gort::run(|| {
        go!(|| ()).join().unwrap();
        let before = held();
        wait_together(n, || {
            let each = (held() - before) / n as u64;
            // Without optimisation frames are larger, and may take two pages instead of one.
            let most = if cfg!(debug_assertions) { 9 << 10 } else { 5 << 10 };
            assert!(each < most, "{each} bytes each");
        });
    });
}

#[test]
fn two_hundred_thousand_goroutines_wait_at_a_page_each() {
    let test = "two_hundred_thousand_goroutines_wait_at_a_page_each";
    in_child(test, &[], || little_memory_each(200_000)).with_status(0);
}

#[test]
#[ignore = "5 GB of memory"]
fn a_million_goroutines_wait_at_a_page_each() {
    let test = "a_million_goroutines_wait_at_a_page_each";
    in_child(test, &[], || little_memory_each(1_000_000)).with_status(0);
}

#[test]
fn a_burst_of_goroutines_gives_its_memory_back() {
    for procs in ["1", "2", "64"] {
        let test = "a_burst_of_goroutines_gives_its_memory_back";
        let ended = in_child(test, &[("GORT_MAXPROCS", procs)], || {
            gort::run(|| {
                go!(|| ()).join().unwrap();
                let (before, maps) = (held(), mappings());
                for _ in 0..2 {
                    let mut peak = 0;
                    wait_together(20_000, || {
                        peak = held() - before;
                        let (more, threads) = (mappings() - maps, threads());
                        // An OS thread has some: its stack, an alternate one, a heap.
                        let few = more <= 100 + 8 * threads || !guards_are_advice();
                        assert!(few, "{more} more mappings, with {threads} threads");
                    });
                    eventually("three quarters have been given back", || {
                        held().saturating_sub(before) < peak / 4
                    });
                }
            });
        });
        ended.with_status(0);
    }
}

#[test]
fn guards_of_mprotect_do_for_thousands_of_goroutines() {
    for procs in ["1", "2", "64"] {
        let test = "guards_of_mprotect_do_for_thousands_of_goroutines";
        let ended = in_child(test, &[("GORT_MAXPROCS", procs), MPROTECT], || {
            gort::run(|| {
                let maps = mappings();
                for _ in 0..3 {
                    wait_together(5000, || {
                        assert!(mappings() > maps + 5000, "these are no guards of mprotect")
                    });
                    a_round_of_everything(&mut Rng(1));
                }
                every_size_at_once();
            });
        });
        ended.with_status(0);
    }
}

// -- Sizes --

/// Fills the stack down to `depth` bytes below `from` with a mark, waits there, and looks whether all of it is still as it
/// was; how many marks there were.
#[inline(never)]
fn mark(from: usize, depth: usize, with: u64, hold: &Chan<()>) -> usize {
    let room = black_box([with; 64]);
    let below = if from - ptr::from_ref(&room).addr() < depth {
        mark(from, depth, with, hold)
    } else {
        hold.recv();
        0
    };
    assert_eq!(black_box(room), [with; 64]);
    below + room.len()
}

/// Goroutines with stacks of all sizes, all deep down in their stacks at the same time.
fn every_size_at_once() {
    /// What the frames at the root of a goroutine take, and the last one here.
    const ROOT: usize = 8 << 10;
    /// More than this is asked for, but not used.
    const USED: usize = 8 << 20;
    let sizes = [
        MIN_STACK,
        MIN_STACK + 1,
        40_000,
        64 << 10,
        100 << 10,
        DEFAULT_STACK,
        DEFAULT_STACK + 1,
        150_000,
        192 << 10,
        256 << 10,
        500_000,
        1 << 20,
        3_000_000,
        8 << 20,
        64 << 20,
        500_000_000,
        MAX_STACK,
    ];
    let hold = chan::<()>(0);
    let (mut all, mut used) = (Vec::new(), 0);
    let before = held();
    for round in 0..3 {
        for (i, size) in sizes.into_iter().enumerate() {
            let depth = if size > USED { 64 << 10 } else { size - ROOT };
            let (held, n) = (hold.clone(), (round * sizes.len() + i) as u64);
            used += depth + ROOT;
            let h = go!(stack_size = size, move || {
                let top = black_box(0_u8);
                mark(ptr::from_ref(&top).addr(), depth, n, &held)
            });
            all.push((depth, h));
        }
    }
    all.iter().for_each(|(_, h)| until_parked(h, "chan receive"));
    let more = held() - before;
    assert!(more < 2 * used as u64 + 8 * MIB, "{more} bytes for {used}");
    hold.close();
    for (depth, h) in all {
        let marked = h.join().unwrap() * size_of::<u64>();
        assert!((depth / 8..=depth + ROOT).contains(&marked), "{marked} of {depth} bytes");
    }
}

#[test]
fn stacks_of_all_sizes_are_what_was_asked_for_and_cost_what_is_used() {
    for procs in ["1", "2", "64"] {
        let test = "stacks_of_all_sizes_are_what_was_asked_for_and_cost_what_is_used";
        let ended = in_child(test, &[("GORT_MAXPROCS", procs)], || {
            gort::run(|| (0..3).for_each(|_| every_size_at_once()));
        });
        ended.with_status(0);
    }
}

#[test]
fn a_stack_size_out_of_range_is_refused_and_the_range_is_named() {
    assert_eq!((MIN_STACK, MAX_STACK), (16 << 10, 1 << 30));
    common::at_each_size(|| {
        for size in [0, 1, MIN_STACK - 1, MAX_STACK + 1, usize::MAX] {
            let e = Builder::new().stack_size(size).go(|| ()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidInput);
            let text = e.to_string();
            for number in [size, MIN_STACK, MAX_STACK] {
                assert!(text.contains(&number.to_string()), "{number} is not in {text}");
            }
            let said = panic_message(|| go!(stack_size = size, || ()));
            assert_eq!(said, format!("cannot start a goroutine: {text}"));
        }
        for size in [MIN_STACK, MAX_STACK] {
            assert_eq!(go!(stack_size = size, || 1).join().unwrap(), 1);
        }
    });
}

#[test]
fn runtimes_that_end_with_abandoned_goroutines_keep_no_room_for_others() {
    in_child("runtimes_that_end_with_abandoned_goroutines_keep_no_room_for_others", &[], || {
        // Each P counts on some memory; 20,000 of them would count on more than the machine has.
        for _ in 0..320 {
            let rt = gort::Runtime::builder().max_procs(64).build().unwrap();
            rt.go(|| chan::<()>(0).recv());
            rt.go(|| ()).join().unwrap();
            assert_eq!(rt.shutdown_timeout(Duration::from_millis(1)), 1);
        }
        assert_eq!(gort::run(|| gort::go!(|| 1).join().unwrap()), 1);
    })
    .with_status(0);
}
