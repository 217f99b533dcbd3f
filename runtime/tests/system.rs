//! What the system gives and refuses: what the threads of a runtime inherit, limits, and filters of system
//! calls that are put up when goroutines run already.

mod common;

use common::child::{in_child, limit, memory};
use gort::sync::{Mutex, WaitGroup};
use gort::{Builder, Runtime, blocking, chan, go, lock_os_thread};
use std::fs;
use std::hint::black_box;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

const PS: (&str, &str) = ("GORT_MAXPROCS", "2");

/// Keeps the allocator from reserving 64 MiB of addresses for each thread.
const ONE_HEAP: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

/// What the parent has set for the child.
fn var(name: &str) -> String {
    std::env::var(name).unwrap()
}

// -- What threads inherit --

/// What a thread has of its own and hands down to those that it starts: its nice value, CPUs, signal mask,
/// directory and host name.
fn state_of(tid: libc::pid_t) -> String {
    // SAFETY: takes two numbers.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, tid as libc::id_t) };
    let status = fs::read_to_string(format!("/proc/self/task/{tid}/status")).unwrap();
    let lines = status.lines().filter(|l| l.starts_with("SigBlk") || l.starts_with("Cpus_allowed:"));
    let cwd = fs::read_link(format!("/proc/self/task/{tid}/cwd")).unwrap();
    let uts = fs::read_link(format!("/proc/self/task/{tid}/ns/uts")).unwrap();
    format!("{nice} {:?} {cwd:?} {uts:?}", lines.collect::<Vec<_>>())
}

fn state() -> String {
    // SAFETY: takes nothing and cannot fail.
    state_of(unsafe { libc::gettid() })
}

fn state_of_first_thread() -> String {
    loop {
        let state = state_of(std::process::id() as libc::pid_t);
        // All signals are blocked for a moment while the C library starts a thread.
        if !state.contains("ffffffff") {
            return state;
        }
        std::thread::yield_now();
    }
}

/// Changes what a thread may change of itself. A namespace only if the test may.
fn change_this_thread() {
    // SAFETY: changes this thread; the sets live across the calls that take them.
    unsafe {
        assert_eq!(libc::setpriority(libc::PRIO_PROCESS, 0, 7), 0);
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&cpus), &raw mut cpus), 0);
        let last = (0..libc::CPU_SETSIZE as usize).rev().find(|cpu| libc::CPU_ISSET(*cpu, &cpus)).unwrap();
        libc::CPU_ZERO(&mut cpus);
        libc::CPU_SET(last, &mut cpus);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&cpus), &raw const cpus), 0);
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut signals);
        libc::sigaddset(&raw mut signals, libc::SIGUSR1);
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut()), 0);
        libc::unshare(libc::CLONE_NEWUTS);
    }
}

/// The states of the threads that run so many goroutines at once, each on its own.
fn states_of_threads(n: usize) -> Vec<String> {
    let together = Arc::new(Barrier::new(n));
    let look = || {
        let together = together.clone();
        go!(move || {
            blocking(|| together.wait());
            state()
        })
    };
    let all: Vec<_> = (0..n).map(|_| look()).collect();
    all.into_iter().map(|h| h.join().unwrap()).collect()
}

#[test]
fn a_thread_that_a_goroutine_has_changed_hands_nothing_down() {
    let test = "a_thread_that_a_goroutine_has_changed_hands_nothing_down";
    for procs in ["1", "2", "64"] {
        in_child(test, &[("GORT_MAXPROCS", procs)], || {
            let first = state_of_first_thread();
            gort::run(|| {
                let _mine = lock_os_thread();
                change_this_thread();
                // SAFETY: changes this thread: it has a working directory of its own.
                unsafe { libc::unshare(libc::CLONE_FS) };
                std::env::set_current_dir("/").unwrap();
                assert_ne!(state(), first);
                for seen in states_of_threads(16) {
                    assert_eq!(seen, first);
                }
                // Nor does a second runtime take anything along.
                let rt = Runtime::builder().max_procs(2).build().unwrap();
                for seen in rt.run(|| states_of_threads(4)) {
                    assert_eq!(seen, first);
                }
            });
        })
        .with_status(0)
        .says(0, "gort:");
    }
}

/// How often the first thread has come into the handler, and out of it.
static ENTERED: AtomicUsize = AtomicUsize::new(0);
static LEFT: AtomicUsize = AtomicUsize::new(0);

/// Takes some milliseconds.
unsafe extern "C" fn dawdles(_: libc::c_int) {
    ENTERED.fetch_add(1, SeqCst);
    let end = Instant::now() + Duration::from_millis(4);
    while Instant::now() < end {}
    LEFT.fetch_add(1, SeqCst);
}

#[test]
fn what_the_first_thread_blocks_in_a_handler_is_handed_to_nobody() {
    let test = "what_the_first_thread_blocks_in_a_handler_is_handed_to_nobody";
    for _ in 0..10 {
        in_child(test, &[PS], || {
            // SAFETY: reads the struct; the handler reads a clock and counts.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = dawdles as *const () as usize;
                libc::sigfillset(&raw mut action.sa_mask);
                assert_eq!(libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut()), 0);
            }
            let clean = state();
            std::thread::spawn(|| {
                for n in 1.. {
                    // SAFETY: sends a signal, to the first thread of this process.
                    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::getpid(), libc::SIGUSR2) };
                    while LEFT.load(SeqCst) < n {
                        std::thread::yield_now();
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            while ENTERED.load(SeqCst) == LEFT.load(SeqCst) {
                std::thread::yield_now();
            }
            gort::run(move || assert_eq!(states_of_threads(2), [clean.clone(), clean]));
            // SAFETY: nothing is left to do; the handler still runs.
            unsafe { libc::_exit(0) };
        })
        .with_status(0);
    }
}

#[test]
fn a_changed_thread_of_the_program_that_is_the_first_user_hands_nothing_down() {
    let test = "a_changed_thread_of_the_program_that_is_the_first_user_hands_nothing_down";
    in_child(test, &[PS], || {
        let first = state_of_first_thread();
        std::thread::spawn(move || {
            change_this_thread();
            gort::run(|| {
                for seen in states_of_threads(8) {
                    assert_eq!(seen, first);
                }
            });
        })
        .join()
        .unwrap();
    })
    .with_status(0)
    .says(0, "gort:");
}

#[test]
fn a_thread_of_the_program_that_uses_a_runtime_hands_nothing_down() {
    let test = "a_thread_of_the_program_that_uses_a_runtime_hands_nothing_down";
    in_child(test, &[PS], || {
        let first = state_of_first_thread();
        gort::run(|| {});
        std::thread::spawn(move || {
            change_this_thread();
            gort::run(|| {
                for seen in states_of_threads(8) {
                    assert_eq!(seen, first);
                }
            });
        })
        .join()
        .unwrap();
    })
    .with_status(0)
    .says(0, "gort:");
}

#[test]
fn what_cannot_be_undone_of_the_first_users_thread_is_reported() {
    let test = "what_cannot_be_undone_of_the_first_users_thread_is_reported";
    let ended = in_child(test, &[PS], || {
        std::thread::spawn(|| {
            refuse(&[libc::SYS_ptrace], libc::EPERM, Whom::Thread);
            gort::run(|| {});
        })
        .join()
        .unwrap();
    })
    .with_status(0)
    .says(1, "gort: ");
    let line = ended.line("gort: ");
    assert!(line.contains("differs") && line.contains("seccomp filters"), "{line}");
}

#[test]
fn max_procs_is_what_the_process_may_use_whoever_asks() {
    in_child("max_procs_is_what_the_process_may_use_whoever_asks", &[], || {
        let n = std::thread::available_parallelism().unwrap().get();
        std::thread::spawn(move || {
            change_this_thread();
            assert_eq!(std::thread::available_parallelism().unwrap().get(), 1);
            assert_eq!(gort::run(gort::max_procs), n);
        })
        .join()
        .unwrap();
    })
    .with_status(0);
}

// -- Filters --

/// Whose calls are refused.
#[derive(PartialEq)]
enum Whom {
    Thread,
    Process,
}

/// Has the kernel refuse these system calls from now on.
fn refuse(calls: &[libc::c_long], errno: i32, whom: Whom) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    // The number of the call is the first word of what the filter is shown.
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for call in calls {
        let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        filter.push(libc::sock_filter { code, jt: 0, jf: 1, k: *call as u32 });
        filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32));
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let flags = if whom == Whom::Process { libc::SECCOMP_FILTER_FLAG_TSYNC } else { 0 };
    // SAFETY: the program describes the filter, which lives across the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        assert_eq!(libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program), 0);
    }
}

/// Waits until every other thread of the process sleeps. So none is just starting: while it sets up its signal stack `std` ends
/// the process where a call is refused.
fn until_no_thread_starts() {
    let sleeps = |task: &std::path::Path| {
        let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
    };
    common::eventually("all other threads sleep", || {
        // SAFETY: takes nothing and cannot fail.
        let own = unsafe { libc::gettid() }.to_string();
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        tasks.filter(|task| !task.ends_with(&own)).all(|task| sleeps(&task))
    });
}

/// The error number that the child is to refuse calls with.
fn errno() -> i32 {
    var("GORT_TEST_ERRNO").parse().unwrap()
}

const ERRNOS: [(&str, &str); 2] = [("GORT_TEST_ERRNO", "1"), ("GORT_TEST_ERRNO", "38")];

/// Computes until told to stop, without a call to the library.
fn spin(stop: &AtomicBool) {
    while !stop.load(SeqCst) {
        black_box(0);
    }
}

/// Goroutines that exchange values, wait for a lock, sleep, block and end. How many of them were started.
fn a_bit_of_all(n: usize) -> usize {
    let (values, lock, wg) = (chan(0), Arc::new(Mutex::new(0)), WaitGroup::new());
    let mut started = 0;
    for i in 0..n {
        let (values, lock, done) = (values.clone(), lock.clone(), wg.clone());
        wg.add(1);
        let body = move || {
            for _ in 0..50 {
                *lock.lock() += 1;
                gort::yield_now();
            }
            if i % 10 == 0 {
                blocking(|| std::thread::sleep(Duration::from_millis(1)));
                gort::time::sleep(Duration::from_millis(1));
            }
            values.send(i);
            done.done();
        };
        match Builder::new().go(body) {
            Ok(_) => started += 1,
            Err(_) => wg.done(),
        }
    }
    let got: Vec<usize> = values.iter().take(started).collect();
    wg.wait();
    assert_eq!((got.len(), *lock.lock()), (started, 50 * started));
    started
}

/// Goroutines that compute and give way at no time lose their processors, as ever.
fn hogs_do_not_stop_the_others() {
    let stop = Arc::new(AtomicBool::new(false));
    let hogs: Vec<_> = (0..3)
        .map(|_| {
            let stop = stop.clone();
            go!(move || spin(&stop))
        })
        .collect();
    assert_eq!(a_bit_of_all(20), 20);
    stop.store(true, SeqCst);
    hogs.into_iter().for_each(|h| h.join().unwrap());
}

#[test]
fn a_filter_that_denies_membarrier_costs_fences_and_no_more() {
    let test = "a_filter_that_denies_membarrier_costs_fences_and_no_more";
    for errno_is in ERRNOS {
        for migrate in ["0", "1", "always"] {
            let ended = in_child(test, &[PS, errno_is, ("GORT_MIGRATE", migrate)], || {
                gort::run(|| {
                    a_bit_of_all(20);
                    refuse(&[libc::SYS_membarrier], errno(), Whom::Process);
                    a_bit_of_all(200);
                    if var("GORT_MIGRATE") != "0" {
                        hogs_do_not_stop_the_others();
                    }
                    gort::set_max_procs(1);
                    gort::set_max_procs(3);
                    assert_eq!(a_bit_of_all(50), 50);
                });
            })
            .with_status(0);
            // Where nobody computes, nobody need have asked for a barrier.
            let said = ended.text.matches("gort: the kernel refuses membarrier(2)").count();
            assert!(said == 1 || migrate == "0" && said == 0, "{}", ended.excerpt());
        }
    }
}

#[test]
fn goroutines_that_compute_when_membarrier_is_denied_lose_their_processors() {
    let test = "goroutines_that_compute_when_membarrier_is_denied_lose_their_processors";
    for procs in ["1", "2", "4"] {
        in_child(test, &[("GORT_MAXPROCS", procs), ERRNOS[0]], || {
            gort::run(|| {
                let (runs, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
                let hog = {
                    let (runs, stop) = (runs.clone(), stop.clone());
                    go!(move || {
                        runs.store(true, SeqCst);
                        spin(&stop);
                    })
                };
                spin(&runs);
                refuse(&[libc::SYS_membarrier], errno(), Whom::Process);
                hogs_do_not_stop_the_others();
                stop.store(true, SeqCst);
                hog.join().unwrap();
                a_bit_of_all(20);
            });
        })
        .with_status(0)
        .says(1, "gort: the kernel refuses membarrier(2)");
    }
}

/// Each with what it must not break: those that exist go on, and what cannot be is an error of whoever asks
/// for it.
#[test]
fn a_filter_that_denies_what_the_runtime_asks_for_harms_nobody_who_runs() {
    let test = "a_filter_that_denies_what_the_runtime_asks_for_harms_nobody_who_runs";
    let clone = format!("{},{}", libc::SYS_clone, libc::SYS_clone3);
    let alone = [
        libc::SYS_madvise,
        libc::SYS_process_madvise,
        libc::SYS_mprotect,
        libc::SYS_munmap,
        libc::SYS_prctl,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_gettid,
        libc::SYS_openat,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_prlimit64,
        libc::SYS_clock_gettime,
        libc::SYS_mmap,
    ];
    let all = alone
        .map(|call| call.to_string())
        .into_iter()
        .chain([clone, format!("{},{}", libc::SYS_madvise, libc::SYS_process_madvise)]);
    for calls in all {
        for errno_is in ERRNOS {
            let ended = in_child(test, &[PS, errno_is, ("GORT_TEST_CALLS", &calls)], || {
                gort::run(|| {
                    assert_eq!(a_bit_of_all(20), 20);
                    let calls: Vec<_> =
                        var("GORT_TEST_CALLS").split(',').map(|n| n.parse().unwrap()).collect();
                    until_no_thread_starts();
                    refuse(&calls, errno(), Whom::Process);
                    let started = a_bit_of_all(500);
                    // Without new stacks, as many as there are idle ones within reach of this P.
                    if !calls.contains(&libc::SYS_mprotect) && !calls.contains(&libc::SYS_mmap) {
                        assert_eq!(started, 500);
                    }
                    eprintln!("all is well");
                });
            });
            ended.with_status(0).says(1, "all is well");
        }
    }
}

#[test]
fn a_stack_that_a_filter_denies_is_refused_and_the_error_says_why() {
    let test = "a_stack_that_a_filter_denies_is_refused_and_the_error_says_why";
    for errno_is in ERRNOS {
        in_child(test, &[PS, errno_is], || {
            gort::run(|| {
                refuse(&[libc::SYS_mprotect], errno(), Whom::Process);
                let large = Builder::new().stack_size(1 << 20).go(|| {}).unwrap_err();
                assert_eq!(large.kind(), ErrorKind::OutOfMemory);
                assert!(large.to_string().contains("the kernel refuses"), "{large}");
                assert_eq!(go!(|| 7).join().unwrap(), 7);
            });
        })
        .with_status(0);
    }
}

#[test]
fn a_filter_that_denies_futex_ends_the_process_with_a_message() {
    let test = "a_filter_that_denies_futex_ends_the_process_with_a_message";
    for errno_is in ERRNOS {
        in_child(test, &[PS, errno_is], || {
            gort::run(|| {
                refuse(&[libc::SYS_futex], errno(), Whom::Process);
                gort::time::sleep(Duration::from_millis(50));
                a_bit_of_all(100);
            });
        })
        .with_status(2)
        .says(1, "fatal error: the kernel refuses futex(2)");
    }
}

// -- Limits --

/// Has the process be another user's, with no thread but its own, and so many more that it may start.
fn may_start(threads: u64) {
    let there_are = fs::read_dir("/proc/self/task").unwrap().count() as u64;
    limit(libc::RLIMIT_NPROC, there_are + threads);
    // Nobody's, with luck; the limit counts the threads of all processes of a user, and is none for root.
    let nobody = 1_000_000_000 + std::process::id();
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::setresuid(nobody, nobody, nobody) }, 0, "the test must run as root");
}

fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn says_what_and_why(e: &std::io::Error) {
    let text = e.to_string();
    assert!(text.starts_with("cannot start an OS thread: ") && text.contains("ulimit -u"), "{text}");
}

#[test]
fn a_runtime_without_threads_is_refused_and_the_limit_named() {
    let test = "a_runtime_without_threads_is_refused_and_the_limit_named";
    if !is_root() {
        return;
    }
    for threads in ["0", "1", "2"] {
        in_child(test, &[PS, ("GORT_TEST_THREADS", threads)], || {
            may_start(var("GORT_TEST_THREADS").parse().unwrap());
            for _ in 0..3 {
                says_what_and_why(&Runtime::builder().build().unwrap_err());
            }
            says_what_and_why(&Runtime::builder().build_global().unwrap_err());
            eprintln!("nothing is harmed");
            gort::run(|| unreachable!("there is no thread to run it"));
        })
        .with_status(2)
        .says(1, "nothing is harmed")
        .says(1, "fatal error: cannot start the global runtime: ")
        .says(1, "ulimit -u");
    }
}

#[test]
fn a_runtime_with_the_threads_that_it_needs_and_no_more_runs() {
    let test = "a_runtime_with_the_threads_that_it_needs_and_no_more_runs";
    if !is_root() {
        return;
    }
    for threads in ["3", "4", "6"] {
        in_child(test, &[PS, ("GORT_TEST_THREADS", threads)], || {
            may_start(var("GORT_TEST_THREADS").parse().unwrap());
            gort::run(|| {
                assert_eq!(a_bit_of_all(500), 500);
                eprintln!("all is well");
            });
        })
        .with_status(0)
        .says(1, "all is well");
    }
}

#[test]
fn goroutines_need_no_descriptors() {
    for when in ["before", "after"] {
        let vars = [PS, ("GORT_TEST_WHEN", when)];
        in_child("goroutines_need_no_descriptors", &vars, || {
            let none = || limit(libc::RLIMIT_NOFILE, 0);
            if var("GORT_TEST_WHEN") == "before" {
                none();
            }
            gort::run(|| {
                none();
                assert_eq!(a_bit_of_all(100), 100);
                hogs_do_not_stop_the_others();
            });
        })
        .with_status(0);
    }
}

#[test]
fn a_limited_address_space_is_left_to_the_rest_of_the_program() {
    let test = "a_limited_address_space_is_left_to_the_rest_of_the_program";
    // Of the smaller limit a fifth at most is for their stacks, which are larger in debug builds.
    let (few, slot) = if cfg!(debug_assertions) { (20, 1028 << 10) } else { (100, 196 << 10) };
    for megabytes in ["600", "1000", "1500"] {
        for procs in ["2", "8"] {
            in_child(test, &[("GORT_MAXPROCS", procs), ("GORT_TEST_LIMIT", megabytes), ONE_HEAP], || {
                let mb = 1 << 20;
                let all = var("GORT_TEST_LIMIT").parse::<u64>().unwrap() * mb;
                limit(libc::RLIMIT_AS, all);
                gort::run(|| {
                    assert_eq!(a_bit_of_all(few), few);
                    // A little more than half of what is left, which the stacks would have had.
                    let left = all - memory("VmSize");
                    assert!(left > all / 2, "{} MB of {} MB are left", left / mb, all / mb);
                    let heap: Vec<Vec<u8>> = (0..left * 6 / 10 / mb).map(|_| vec![1; mb as usize]).collect();
                    assert_eq!(a_bit_of_all(few), few);
                    drop(heap);
                    // And the stacks grow, up to their part.
                    let (hold, mut handles) = (chan::<()>(0), Vec::new());
                    let e = loop {
                        let hold = hold.clone();
                        match Builder::new().go(move || hold.recv()) {
                            Ok(h) => handles.push(h),
                            Err(e) => break e,
                        }
                    };
                    assert!(e.to_string().contains("ulimit -v"), "{e}");
                    let most = all / 2 / slot;
                    assert!(handles.len() as u64 > most / 3, "{} of {most} stacks", handles.len());
                    hold.close();
                    handles.into_iter().for_each(|h| _ = h.join().unwrap());
                });
            })
            .with_status(0);
        }
    }
}
