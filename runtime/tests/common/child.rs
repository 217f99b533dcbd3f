//! Cases that take a process of their own, because they end it or change what belongs to all of it: limits, signals,
//! the environment. The process is this test binary once more, told to run the one test.

use std::env;
use std::fs::File;
use std::io::{Read, Write, stdout};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio, exit};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Names the test whose body a child is to run.
const CHILD: &str = "GORT_TEST_CHILD";
/// What runs a child, where the system cannot: an emulator and its options.
const RUNNER: &str = "GORT_TEST_RUNNER";
/// What a child says first: it has found the test.
const BEGUN: &str = "the child begins";
/// How long a child may take; only one that hangs takes that long.
const LIMIT: Duration = Duration::from_secs(120);

/// What became of a child.
#[derive(Debug)]
pub struct Ended {
    pub out: Output,
    /// Its stderr.
    pub text: String,
}

/// Runs the body in a child, which ends with status 0 if the body returns. `test` is the name of the calling test,
/// which does this in one place only: the child runs the first body that it comes to.
#[track_caller]
pub fn in_child(test: &str, vars: &[(&str, &str)], body: impl FnOnce()) -> Ended {
    child(test, vars, &["--nocapture"], body)
}

/// The same under a harness that captures what the test prints.
#[track_caller]
#[allow(dead_code, reason = "not every test needs it")]
pub fn in_capturing_child(test: &str, vars: &[(&str, &str)], body: impl FnOnce()) -> Ended {
    child(test, vars, &[], body)
}

#[track_caller]
fn child(test: &str, vars: &[(&str, &str)], more: &[&str], body: impl FnOnce()) -> Ended {
    if env::var_os(CHILD).is_some_and(|name| name == test) {
        // Not captured.
        stdout().write_all(format!("{BEGUN}\n").as_bytes()).unwrap();
        limit(libc::RLIMIT_CORE, 0);
        body();
        exit(0);
    }
    let exe = env::current_exe().unwrap();
    let mut command = match env::var(RUNNER) {
        Ok(runner) => {
            let mut words = runner.split_whitespace();
            let mut command = Command::new(words.next().unwrap());
            command.args(words).arg(exe);
            command
        }
        Err(_) => Command::new(exe),
    };
    command.args(["--exact", test, "--include-ignored", "--test-threads=1"]).args(more);
    for name in [
        "GORT_MAXPROCS",
        "GORT_STACK_SIZE",
        "GORT_STACK_GUARD",
        "GORT_MAX_THREADS",
        "GORT_PANIC",
        "GORT_DEADLOCK",
        "GORT_SIGQUIT",
        "GORT_OTHER_THREADS",
    ] {
        command.env_remove(name);
    }
    command.env("RUST_BACKTRACE", "0").env(CHILD, test).envs(vars.iter().copied());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (tell, told) = mpsc::channel();
    let waits = thread::spawn(move || tell.send(child.wait_with_output()).unwrap());
    let ended = told.recv_timeout(LIMIT);
    if ended.is_err() {
        // SAFETY: sends a signal, to a child that has not been waited for.
        unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
    }
    let out = ended.unwrap_or_else(|_| told.recv().unwrap()).unwrap();
    waits.join().unwrap();
    let mut text = String::from_utf8_lossy(&out.stderr).into_owned();
    if env::var_os(RUNNER).is_some() {
        // Of a signal that ends the process the emulator speaks as well.
        text = text.split_inclusive('\n').filter(|line| !line.starts_with("qemu: ")).collect();
    }
    let begun = String::from_utf8_lossy(&out.stdout).contains(BEGUN);
    let ended = Ended { out, text };
    assert_ne!(ended.out.status.signal(), Some(libc::SIGKILL), "the child hung:\n{}", ended.excerpt());
    assert!(begun, "no test of the name {test}");
    ended
}

impl Ended {
    /// Its stderr for a report of failure: not all of a long list of goroutines.
    pub fn excerpt(&self) -> String {
        self.text.chars().take(10_000).collect()
    }

    /// Says that it ended with this status.
    #[track_caller]
    pub fn with_status(self, status: i32) -> Ended {
        assert_eq!(self.out.status.code(), Some(status), "{}:\n{}", self.out.status, self.excerpt());
        self
    }

    /// Says that this signal ended it.
    #[track_caller]
    pub fn by_signal(self, signal: libc::c_int) -> Ended {
        assert_eq!(self.out.status.signal(), Some(signal), "{}:\n{}", self.out.status, self.excerpt());
        self
    }

    /// Says that stderr has this text, so many times.
    #[track_caller]
    pub fn says(self, times: usize, what: &str) -> Ended {
        assert_eq!(self.text.matches(what).count(), times, "{what:?} in:\n{}", self.excerpt());
        self
    }

    /// The one line of stderr that has this text.
    #[track_caller]
    pub fn line(&self, what: &str) -> &str {
        let mut lines = self.text.lines().filter(|l| l.contains(what));
        let line = lines.next().unwrap_or_else(|| panic!("no {what:?} in:\n{}", self.excerpt()));
        assert!(lines.next().is_none(), "{what:?} more than once in:\n{}", self.excerpt());
        line
    }
}

/// Has stderr be read on a thread of its own from here on, which passes it along. What it gives is called to wait until
/// stderr has said something, once for each text, in the order in which they come.
pub fn listen() -> impl FnMut(&str) {
    let (mut reads, writes) = std::io::pipe().unwrap();
    // SAFETY: duplicates descriptors that are open.
    let old = unsafe { File::from_raw_fd(libc::dup(2)) };
    // SAFETY: as above; what was descriptor 2 is `old` now.
    assert_eq!(unsafe { libc::dup2(writes.as_raw_fd(), 2) }, 2);
    let (tell, told) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = reads.read(&mut bytes) {
            let _ = (&old).write_all(&bytes[..n]);
            let _ = tell.send(bytes[..n].to_vec());
        }
    });
    let mut text = String::new();
    move |what| {
        while !text.contains(what) {
            text += &String::from_utf8_lossy(&told.recv().unwrap());
        }
        text.drain(..text.find(what).unwrap() + what.len());
    }
}

/// What the C library numbers resources with.
#[cfg(target_env = "gnu")]
pub type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
pub type Resource = libc::c_int;

/// Sets a limit of the process.
pub fn limit(resource: Resource, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: reads the one struct.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
}

/// What /proc/self/status says of the process's memory, in bytes.
pub fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix(what)).unwrap();
    let kib = line.trim_start_matches(':').trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() << 10
}
