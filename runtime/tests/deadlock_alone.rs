//! Deadlocks in programs that have no test harness, whose main thread waits in `run`: no thread is left of which nothing is
//! known, and the report comes without any setting. The threads that there were before had destructors that use the library.
//!
//! Each case is this program once more, with the name of the case.

use gort::{chan, go};
use std::process::{Command, exit};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, ptr, thread};

/// Names the case that a child is to run.
const CASE: &str = "GORT_TEST_CASE";
const MESSAGE: &str = "all goroutines are asleep - deadlock!";

/// A use of the library.
fn use_it() {
    assert!(chan(1).try_send(1).is_ok());
}

/// Waits for ever.
fn wait() {
    gort::run(|| chan::<u8>(0).recv());
}

struct AtEnd;

impl Drop for AtEnd {
    fn drop(&mut self) {
        use_it();
    }
}

thread_local!(static AT_END: AtEnd = const { AtEnd });

fn plain() {
    wait();
}

fn older_threads_that_have_ended() {
    let idle = thread::spawn(|| ());
    use_it();
    idle.join().unwrap();
    thread::spawn(use_it).join().unwrap();
    wait();
}

fn a_destructor_that_was_there_before_the_first_use() {
    thread::spawn(|| {
        AT_END.with(|_| ());
        use_it();
    })
    .join()
    .unwrap();
    wait();
}

fn a_destructor_that_came_after_the_first_use() {
    thread::spawn(|| {
        use_it();
        AT_END.with(|_| ());
    })
    .join()
    .unwrap();
    wait();
}

fn a_destructor_that_is_the_first_use() {
    thread::spawn(|| AT_END.with(|_| ())).join().unwrap();
    wait();
}

/// As above, and all have been waiting for a while, so that only the end of the thread can have anyone look again.
fn a_destructor_that_runs_while_all_wait() {
    struct Slow;

    impl Drop for Slow {
        fn drop(&mut self) {
            use_it();
            thread::sleep(Duration::from_secs(1));
        }
    }

    thread_local!(static SLOW: Slow = const { Slow });
    thread::spawn(|| {
        SLOW.with(|_| ());
        use_it();
    });
    wait();
}

/// A destructor of a POSIX key, which is called in each of the turns that there are.
fn keys_that_use_it_in_every_turn() {
    static KEYS: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];
    static CALLS: AtomicU32 = AtomicU32::new(0);

    fn set(which: usize) {
        let value = ptr::without_provenance::<libc::c_void>(which + 1);
        // SAFETY: the key exists, and the value is a number.
        assert_eq!(unsafe { libc::pthread_setspecific(KEYS[which].load(SeqCst), value) }, 0);
    }

    extern "C" fn again(value: *mut libc::c_void) {
        CALLS.fetch_add(1, SeqCst);
        use_it();
        set(value.addr() - 1);
    }

    fn make(which: usize) {
        let mut key = 0;
        // SAFETY: `key` is a place for the answer.
        assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, Some(again)) }, 0);
        KEYS[which].store(key, SeqCst);
    }

    // One before the library's own, one after it.
    make(0);
    use_it();
    make(1);
    thread::spawn(|| {
        use_it();
        set(0);
        set(1);
    })
    .join()
    .unwrap();
    assert!(CALLS.load(SeqCst) > 2, "the destructors are called more than once");
    wait();
}

/// A thread that ends without any destructor.
fn a_thread_that_ends_unseen() {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        use_it();
        // SAFETY: takes nothing.
        tell.send(unsafe { libc::gettid() }).unwrap();
        // SAFETY: ends this thread only, which owns nothing that another one needs.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    let tid = told.recv().unwrap();
    while std::path::Path::new(&format!("/proc/self/task/{tid}")).exists() {
        thread::yield_now();
    }
    wait();
}

fn a_thread_that_is_in_run_as_well() {
    thread::spawn(wait);
    wait();
}

fn goroutines_that_started_threads() {
    gort::run(|| {
        for _ in 0..10 {
            go!(|| thread::spawn(use_it).join().unwrap());
        }
        chan::<u8>(0).recv();
    });
}

const CASES: &[(&str, fn())] = &[
    ("plain", plain),
    ("older_threads_that_have_ended", older_threads_that_have_ended),
    ("a_destructor_that_was_there_before_the_first_use", a_destructor_that_was_there_before_the_first_use),
    ("a_destructor_that_came_after_the_first_use", a_destructor_that_came_after_the_first_use),
    ("a_destructor_that_is_the_first_use", a_destructor_that_is_the_first_use),
    ("a_destructor_that_runs_while_all_wait", a_destructor_that_runs_while_all_wait),
    ("keys_that_use_it_in_every_turn", keys_that_use_it_in_every_turn),
    ("a_thread_that_ends_unseen", a_thread_that_ends_unseen),
    ("a_thread_that_is_in_run_as_well", a_thread_that_is_in_run_as_well),
    ("goroutines_that_started_threads", goroutines_that_started_threads),
];

/// How long a case may take, in seconds; only one that hangs takes that long.
const LIMIT: u32 = 60;

fn main() {
    if let Ok(case) = env::var(CASE) {
        // SAFETY: takes a number. The signal ends the process.
        unsafe { libc::alarm(LIMIT) };
        CASES.iter().find(|(name, _)| *name == case).expect("a case of this name").1();
        println!("{case} returned");
        exit(0);
    }
    // As the harness, which this is not, is asked by some tools.
    if env::args().any(|arg| arg == "--list") {
        return;
    }
    // An emulator's own threads are in the process as well, and nothing is known of them.
    let emulated = std::fs::read_dir("/proc/self/task").unwrap().count() > 1;
    let mut failed = false;
    for (name, _) in CASES {
        let mut command = Command::new(env::current_exe().unwrap());
        command.env(CASE, name).env_remove("GORT_OTHER_THREADS").env_remove("GORT_DEADLOCK");
        if emulated {
            command.env("GORT_OTHER_THREADS", "idle");
        }
        let out = command.env("RUST_BACKTRACE", "0").output().unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        // What a panic of `main` makes of it.
        let ok = out.status.code() == Some(101) && text.contains(MESSAGE) && !text.contains("note: all");
        println!("{name} is reported: {}", if ok { "ok" } else { "FAILED" });
        if !ok {
            failed = true;
            println!("{}:\n{text}", out.status);
        }
    }
    assert!(!failed, "not all deadlocks were reported");
}
