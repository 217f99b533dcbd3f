//! What a scheduler is told when it is built.

use crate::env;
use crate::os;
use crate::proc::systemstack;
use crate::stack::class::{self, StackSizeError};
use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

/// More Ps than this help nobody, and each costs memory.
pub const MAX_PROCS: usize = 4096;

/// OS threads that a scheduler may have, by default; Go's number.
pub const MAX_THREADS: usize = 10_000;

/// What happens when a goroutine panics and nobody catches it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PanicPolicy {
    /// It is reported and handed to `join`; the rest goes on, as with `std::thread`.
    #[default]
    Contain,
    /// It is reported and ends the process with status 2, as in Go.
    Abort,
}

/// What happens when all goroutines wait, and nothing can ever wake one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deadlock {
    /// `run` panics, with the list of goroutines.
    #[default]
    Panic,
    /// The process ends with status 2, after the list of goroutines, as in Go.
    Exit,
    /// Nothing: everybody waits.
    Ignore,
}

/// What is thought of the OS threads of the process that have never used the library, when all goroutines are asleep.
///
/// Such a thread may have been given a channel or a waker by other means (a job for a thread pool that is older than the runtime, a
/// callback of a C library), and wake a goroutine with it, whatever it does at the moment. Under `cargo test` the main thread, which
/// waits for the tests, is one as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtherThreads {
    /// One of them might wake a goroutine, as long as it lives. If that is all that speaks against a deadlock, and all are asleep
    /// for a second, the report is written to stderr, once for each runtime, and the program goes on.
    #[default]
    Doubt,
    /// They wake nobody: a promise of the program's. If it is broken, [`Deadlock::Panic`] may leave `run` with what a goroutine has
    /// borrowed, and a thread that is still at work with that finds it freed; so say it for tests, and for programs whose
    /// threads are all known.
    Idle,
}

impl OtherThreads {
    /// What `GORT_OTHER_THREADS` says when it is first asked for.
    pub(crate) fn from_env() -> OtherThreads {
        static FROM_ENV: OnceLock<OtherThreads> = OnceLock::new();
        let choices = [("doubt", OtherThreads::Doubt), ("idle", OtherThreads::Idle)];
        *FROM_ENV.get_or_init(|| env::choice("GORT_OTHER_THREADS", &choices).unwrap_or_default())
    }
}

/// Where a goroutine that has started goes on after a wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Migration {
    /// Wherever there is a free P.
    #[default]
    Free,
    /// On the OS thread that started it. Goroutines that have not started yet are still taken by whoever is free. A lock of the
    /// thread's (`std`'s) that is held over a wait may never be released (`proc::stranded`).
    Never,
    /// On another OS thread each time, as far from the usual as can be: for tests. Where the system gives no other thread it goes
    /// on on its own.
    Always,
}

/// The settings of a scheduler. All fields have usable defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many goroutines run at once (`GOMAXPROCS`). By default the CPUs that the process's first thread
    /// may use, and no more than the control group's quota.
    pub max_procs: usize,
    /// Usable bytes of a goroutine's stack unless it asks for its own size.
    pub stack_size: usize,
    /// The name of the OS threads.
    pub thread_name: Cow<'static, str>,
    /// See [`PanicPolicy`].
    pub panic_policy: PanicPolicy,
    /// See [`Deadlock`].
    pub deadlock: Deadlock,
    /// See [`OtherThreads`]; `None` until the scheduler starts, and then as the environment says.
    pub other_threads: Option<OtherThreads>,
    /// See [`Migration`].
    pub migration: Migration,
    /// More OS threads than this are a fatal error, as in Go.
    pub max_threads: usize,
    /// Testing aid: ready goroutines in random order, from this seed; with one P the same order for the same seed.
    pub random_order: Option<u64>,
}

impl Config {
    /// The default settings, with so many Ps, or as many as the process has CPUs. Those are counted by `std`, which allocates.
    pub fn new(max_procs: Option<usize>) -> Config {
        Config {
            max_procs: max_procs.unwrap_or_else(|| systemstack(os::process_cpus).clamp(1, MAX_PROCS)),
            stack_size: class::DEFAULT_STACK,
            thread_name: Cow::Borrowed("gort"),
            panic_policy: PanicPolicy::default(),
            deadlock: Deadlock::default(),
            other_threads: None,
            migration: Migration::default(),
            max_threads: MAX_THREADS,
            random_order: None,
        }
    }
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// `max_procs` is 0 or above [`MAX_PROCS`].
    MaxProcs(usize),
    /// `max_threads` is 0.
    MaxThreads,
    /// The stack size is out of range.
    StackSize(StackSizeError),
    /// The thread name holds a NUL byte.
    ThreadName,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::MaxProcs(n) => write!(f, "max_procs of {n} is outside 1..={MAX_PROCS}"),
            ConfigError::MaxThreads => f.write_str("max_threads of 0 leaves nobody to run goroutines"),
            ConfigError::StackSize(e) => e.fmt(f),
            ConfigError::ThreadName => f.write_str("the thread name holds a NUL byte"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Says what cannot be.
    ///
    /// # Errors
    ///
    /// The first setting that is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.max_procs == 0 || self.max_procs > MAX_PROCS {
            return Err(ConfigError::MaxProcs(self.max_procs));
        }
        if self.max_threads == 0 {
            return Err(ConfigError::MaxThreads);
        }
        if self.thread_name.contains('\0') {
            return Err(ConfigError::ThreadName);
        }
        class::class_of(self.stack_size).map(|_| ()).map_err(ConfigError::StackSize)
    }
}
