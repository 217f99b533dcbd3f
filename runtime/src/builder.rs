//! [`Runtime`]: a scheduler of one's own, beside the global one.

use crate::global;
use crate::go::{JoinHandle, spawn_unchecked, spawn_with};
use crate::sigquit::{self, Watch};
use gort_scheduler::config::{Config, Deadlock, Migration, OtherThreads, PanicPolicy};
use gort_scheduler::g::Bound;
use gort_scheduler::memory;
use gort_scheduler::proc::newproc::{Deadlocked, Options};
use gort_scheduler::proc::{deadlock, getg, pin, shutdown};
use gort_scheduler::sched::Sched;
use std::io;
use std::panic::resume_unwind;
use std::time::Duration;

/// A scheduler of one's own, with its own goroutines and limits. Most programs need none: [`go`](crate::go()) and
/// [`run`](crate::run) use the global one.
///
/// Dropping it is [`Runtime::shutdown_timeout`] with no time to wait. It may be dropped anywhere: in a destructor while a goroutine
/// unwinds, in one of a thread-local, and on one of its own goroutines, which may hold the last handle to what owns it. The
/// latter does not wait: a thread of the runtime ends it, and the goroutine stops at its next scheduling point like the others.
///
/// ```
/// let rt = gort::Runtime::builder().max_procs(2).build()?;
/// let sum = rt.run(|| {
///     let ch = gort::chan(0);
///     for i in 1..=3 {
///         gort::go!(ch.clone().send(i));
///     }
///     ch.iter().take(3).sum::<i32>()
/// });
/// assert_eq!(sum, 6);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Runtime {
    sched: &'static Sched,
    /// There while SIGQUIT is to write a dump for this runtime.
    watch: Option<Watch>,
}

/// The settings of a [`Runtime`]. From [`Runtime::builder`].
///
/// What is not set has its default. For the global runtime ([`build_global`](Self::build_global)) it is first looked for in
/// the environment:
///
/// | method | variable | values |
/// | --- | --- | --- |
/// | [`max_procs`](Self::max_procs) | `GORT_MAXPROCS` | a number from 1 to 4096 |
/// | [`stack_size`](Self::stack_size) | `GORT_STACK_SIZE` | bytes, from 16384 to 1073741824 |
/// | [`max_threads`](Self::max_threads) | `GORT_MAX_THREADS` | a number from 1 |
/// | [`panic_policy`](Self::panic_policy) | `GORT_PANIC` | `contain`, `abort` |
/// | [`deadlock`](Self::deadlock) | `GORT_DEADLOCK` | `panic`, `exit`, `ignore` |
/// | [`migrate`](Self::migrate), [`migrate_always`](Self::migrate_always) | `GORT_MIGRATE` | `0`, `1`, `always` |
/// | [`dump_on_sigquit`](Self::dump_on_sigquit) | `GORT_SIGQUIT` | `0`, `1` |
///
/// And for every runtime, [`build`](Self::build)'s too:
///
/// | method | variable | values |
/// | --- | --- | --- |
/// | [`other_threads`](Self::other_threads) | `GORT_OTHER_THREADS` | `doubt`, `idle` |
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RuntimeBuilder {
    pub(crate) max_procs: Option<usize>,
    pub(crate) stack_size: Option<usize>,
    pub(crate) max_threads: Option<usize>,
    pub(crate) panic_policy: Option<PanicPolicy>,
    pub(crate) deadlock: Option<Deadlock>,
    pub(crate) migration: Option<Migration>,
    pub(crate) dump_on_sigquit: Option<bool>,
    other_threads: Option<OtherThreads>,
    thread_name: Option<String>,
    random_order: Option<u64>,
}

impl RuntimeBuilder {
    /// How many goroutines run at once (`GOMAXPROCS`). By default as many as the CPUs that this process may use.
    ///
    /// ```
    /// assert!(gort::Runtime::builder().max_procs(0).build().is_err());
    /// ```
    pub fn max_procs(mut self, n: usize) -> RuntimeBuilder {
        self.max_procs = Some(n);
        self
    }

    /// Usable bytes of a goroutine's stack, from 16 KiB to 1 GiB; at least that much. Only touched pages cost memory.
    ///
    /// ```
    /// let rt = gort::Runtime::builder().stack_size(1 << 20).build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> RuntimeBuilder {
        self.stack_size = Some(bytes);
        self
    }

    /// The name of the OS threads, `gort` by default; the system shows its first 15 bytes.
    ///
    /// ```
    /// let rt = gort::Runtime::builder().thread_name("crawler").build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn thread_name(mut self, name: impl Into<String>) -> RuntimeBuilder {
        self.thread_name = Some(name.into());
        self
    }

    /// What happens when a goroutine panics; [`PanicPolicy::Contain`] by default.
    ///
    /// ```
    /// let rt = gort::Runtime::builder().panic_policy(gort::PanicPolicy::Abort).build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn panic_policy(mut self, policy: PanicPolicy) -> RuntimeBuilder {
        self.panic_policy = Some(policy);
        self
    }

    /// Whether a goroutine that has started may go on on another OS thread after a wait: yes by default. With `false` it
    /// stays on the thread that started it, and only goroutines that have not started are taken by whoever is free: for
    /// programs that are built on thread-local state. docs/safety.md says what that is worth, and what it costs.
    ///
    /// With `false` **hold no lock of `std`, `parking_lot` or C over a wait**: if another goroutine of the same thread wants it
    /// meanwhile, it blocks the thread, and the holder, which can go on nowhere else, never releases it. Such a hang is named on
    /// stderr after a second, and by [`dump`](crate::runtime::dump). The locks of [`gort::sync`](crate::sync) may be held over a wait.
    ///
    /// ```
    /// use std::thread::current;
    /// let rt = gort::Runtime::builder().max_procs(4).migrate(false).build()?;
    /// let stayed = rt.go(|| {
    ///     let home = current().id();
    ///     gort::time::sleep(std::time::Duration::from_millis(1));
    ///     home == current().id()
    /// });
    /// assert!(stayed.join().unwrap());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn migrate(mut self, yes: bool) -> RuntimeBuilder {
        self.migration = Some(if yes { Migration::Free } else { Migration::Never });
        self
    }

    /// What happens when all goroutines wait for what can never come; [`Deadlock::Panic`] by default.
    ///
    /// ```
    /// let rt = gort::Runtime::builder().deadlock(gort::Deadlock::Ignore).build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn deadlock(mut self, policy: Deadlock) -> RuntimeBuilder {
        self.deadlock = Some(policy);
        self
    }

    /// What is thought of OS threads that have never used the library, when all goroutines are asleep: by default what
    /// `GORT_OTHER_THREADS` says, `doubt` or `idle`, and without that [`OtherThreads::Doubt`]: one of them might wake a goroutine, so
    /// there is no alarm, only a note on stderr after a second.
    ///
    /// [`OtherThreads::Idle`] is a promise that they wake nobody, for tests: under `cargo test` the main thread is one of them.
    ///
    /// ```
    /// use gort::OtherThreads;
    /// use std::panic::{AssertUnwindSafe, catch_unwind};
    /// let rt = gort::Runtime::builder().other_threads(OtherThreads::Idle).build()?;
    /// let dead = catch_unwind(AssertUnwindSafe(|| rt.run(|| gort::chan::<()>(0).recv())));
    /// assert!(dead.unwrap_err().downcast_ref::<String>().unwrap().contains("deadlock"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn other_threads(mut self, others: OtherThreads) -> RuntimeBuilder {
        self.other_threads = Some(others);
        self
    }

    /// The most OS threads that this runtime may have: 10,000 by default, as in Go. One is needed for each P, and one for
    /// each goroutine that blocks in a call or computes for long. Needing more ends the process with status 2, after a
    /// message that names the limit, and the list of goroutines: a program that needs more is stuck, or will be.
    ///
    /// ```
    /// let rt = gort::Runtime::builder().max_threads(500).build()?;
    /// assert!(gort::Runtime::builder().max_threads(0).build().is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn max_threads(mut self, n: usize) -> RuntimeBuilder {
        self.max_threads = Some(n);
        self
    }

    /// For tests: after every wait a goroutine goes on on another OS thread than before, so that code that counts on
    /// its thread shows it. Slow.
    ///
    /// ```
    /// use std::thread::current;
    /// let rt = gort::Runtime::builder().max_procs(1).migrate_always().build()?;
    /// let moved = rt.go(|| {
    ///     let before = current().id();
    ///     gort::yield_now();
    ///     before != current().id()
    /// });
    /// assert!(moved.join().unwrap());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn migrate_always(mut self) -> RuntimeBuilder {
        self.migration = Some(Migration::Always);
        self
    }

    /// For tests: goroutines that become ready are run in random order, so that a program that counts on the usual
    /// order shows it. With one P the same seed gives the same order, as long as no time slice ends.
    ///
    /// ```
    /// let rt = gort::Runtime::builder().max_procs(1).random_order(42).build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn random_order(mut self, seed: u64) -> RuntimeBuilder {
        self.random_order = Some(seed);
        self
    }

    /// Whether SIGQUIT (Ctrl-\\ in a terminal, `kill -QUIT`) writes [all goroutines with their stacks](crate::runtime::dump)
    /// to stderr: not by default. The process goes on, where a Go program would end.
    ///
    /// This holds as long as any runtime that was built so exists; after that the signal ends the process as it would have without.
    /// The dump is of all runtimes of the process.
    ///
    /// ```
    /// let rt = gort::Runtime::builder().dump_on_sigquit(true).build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn dump_on_sigquit(mut self, yes: bool) -> RuntimeBuilder {
        self.dump_on_sigquit = Some(yes);
        self
    }

    /// Starts the runtime, with the OS threads that it cannot do without: one that runs goroutines, one that
    /// watches it, and, once in a process, one that starts all others. More are made when there is work for
    /// them.
    ///
    /// If this is the first use of the library, and not on the process's first thread, that thread's signal
    /// mask, affinity and priority are those of the threads that run goroutines; what else they inherit is in
    /// docs/safety.md.
    ///
    /// # Errors
    ///
    /// `InvalidInput` naming the setting that is out of range. The system's error if it gives no thread (or,
    /// with [`dump_on_sigquit`](Self::dump_on_sigquit), no pipe), naming the limits; nothing is started then.
    ///
    /// ```
    /// let err = gort::Runtime::builder().stack_size(1).build().unwrap_err();
    /// assert!(err.to_string().contains("stack size of 1 bytes"));
    /// ```
    pub fn build(self) -> io::Result<Runtime> {
        let config = self.config()?;
        let watch = self.watch()?;
        Runtime::start(config, watch)
    }

    /// Makes these the settings of the global runtime, the one that [`run`](crate::run) and [`go`](crate::go()) use, and starts
    /// it. Without this call it is started at its first use.
    ///
    /// What the builder says holds, whatever the environment says: the program knows what it needs. What the builder leaves open
    /// is the operator's: the variable, if there is one, else the default. So a program that would rather have the operator
    /// decide sets nothing.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if the global runtime has been started, by another call or by its first use: it stays as it is. Else as
    /// [`build`](Self::build). A variable that cannot be used is no error: it is named on stderr, and the default is used.
    ///
    /// ```
    /// gort::Runtime::builder().max_procs(2).build_global()?;
    /// assert_eq!(gort::run(gort::max_procs), 2);
    ///
    /// let again = gort::Runtime::builder().max_procs(4).build_global();
    /// assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn build_global(self) -> io::Result<()> {
        global::build(self)
    }

    /// The scheduler's settings.
    ///
    /// # Errors
    ///
    /// `InvalidInput` naming the setting that is out of range.
    pub(crate) fn config(&self) -> io::Result<Config> {
        let default = Config::new(self.max_procs);
        let config = Config {
            max_procs: default.max_procs,
            stack_size: self.stack_size.unwrap_or(default.stack_size),
            thread_name: match &self.thread_name {
                Some(name) => memory::try_text("the name of threads", name)?.into_string().into(),
                None => default.thread_name,
            },
            panic_policy: self.panic_policy.unwrap_or(default.panic_policy),
            deadlock: self.deadlock.unwrap_or(default.deadlock),
            other_threads: self.other_threads,
            migration: self.migration.unwrap_or(default.migration),
            max_threads: self.max_threads.unwrap_or(default.max_threads),
            random_order: self.random_order,
        };
        config.check().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        Ok(config)
    }

    /// The runtime's part in [`dump_on_sigquit`](Self::dump_on_sigquit).
    ///
    /// # Errors
    ///
    /// When there is no pipe or no thread to be had.
    pub(crate) fn watch(&self) -> io::Result<Option<Watch>> {
        self.dump_on_sigquit.unwrap_or(false).then(sigquit::watch).transpose()
    }
}

impl Runtime {
    /// The default settings, to be changed.
    ///
    /// ```
    /// let rt = gort::Runtime::builder().build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// Starts one with settings that have been checked.
    ///
    /// # Errors
    ///
    /// When the system gives no thread; names the limits.
    pub(crate) fn start(config: Config, watch: Option<Watch>) -> io::Result<Runtime> {
        Sched::start(config).map(|sched| Runtime { sched, watch })
    }

    pub(crate) fn sched(&self) -> &'static Sched {
        self.sched
    }

    /// Runs `f` as a main goroutine of this runtime and blocks until it is done. What it spawned may go on after.
    ///
    /// `f` may borrow from the caller. It and its result are `Send`, as they are for [`run`](crate::run).
    ///
    /// # Panics
    ///
    /// With f's panic; with `all goroutines are asleep - deadlock!` and the list of goroutines when nothing can ever wake `f`
    /// (see [`Deadlock`]).
    ///
    /// ```
    /// let rt = gort::Runtime::builder().build()?;
    /// let mut n = 1;
    /// rt.run(|| n += 1); // f may borrow
    /// assert_eq!(n, 2);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// ```compile_fail,E0277
    /// let rt = gort::Runtime::builder().build().unwrap();
    /// let counted = rt.run(|| std::rc::Rc::new(1)); // an `Rc` is not `Send`
    /// ```
    #[track_caller]
    pub fn run<F, T>(&self, f: F) -> T
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        let me = getg();
        // Now, while there is nothing yet that the caller would have to wait for.
        if !pin::may_park(me) {
            pin::refuse(me);
        }
        let running = self.sched.begin_run();
        let options = Options {
            name: Some(memory::try_text("a goroutine's name", "main").unwrap_or_else(|short| short.refuse())),
            bound: Bound::Main,
            run: running.number(),
            ..Options::default()
        };
        // SAFETY: the caller is blocked until the goroutine has ended or will never run again (`deadlock`), so what `f`
        // borrows outlives it. F and T are Send.
        let main = unsafe { spawn_unchecked(me, self.sched, options, f) };
        match main.join_main() {
            Ok(value) => value,
            Err(payload) if payload.is::<Deadlocked>() => panic!("{}", deadlock::report()),
            Err(payload) => resume_unwind(payload),
        }
    }

    /// Starts a goroutine of this runtime, from wherever the caller is.
    ///
    /// ```
    /// let rt = gort::Runtime::builder().build()?;
    /// assert_eq!(rt.go(|| 6 * 7).join().unwrap(), 42);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn go<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn_with(getg(), self.sched, Options::default(), f)
    }

    /// How many goroutines of this runtime exist: spawned and not ended.
    ///
    /// ```
    /// let rt = gort::Runtime::builder().build()?;
    /// assert_eq!(rt.num_goroutines(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn num_goroutines(&self) -> usize {
        self.sched.num_goroutines()
    }

    /// Ends the runtime: refuses new goroutines, waits for at most `d` for those that exist, and stops the rest at
    /// their next scheduling point. How many were abandoned.
    ///
    /// An abandoned goroutine never runs again; it is not unwound, and what it owns is leaked, as in Go when main
    /// returns. Goroutines that never ran are dropped, closure and all, and not counted.
    ///
    /// What an abandoned goroutine waits for never comes to it: no value, lock or permit that is given once the runtime has ended
    /// goes there. The next that waits and lives is served, or nobody.
    ///
    /// # Panics
    ///
    /// When it is called on one of its own goroutines, which cannot wait for themselves to end. The runtime ends all the same, as if it
    /// had been dropped.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let rt = gort::Runtime::builder().build()?;
    /// rt.go(|| gort::Chan::<()>::nil().recv());
    /// rt.go(|| gort::time::sleep(Duration::from_millis(1)));
    /// assert_eq!(rt.shutdown_timeout(Duration::from_millis(100)), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn shutdown_timeout(mut self, d: Duration) -> usize {
        let sched = self.sched;
        assert!(!shutdown::is_own(sched), "a runtime cannot be shut down by one of its own goroutines");
        let watch = self.watch.take();
        std::mem::forget(self);
        let left = shutdown::shutdown(sched, d);
        drop(watch);
        left
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        shutdown::end(self.sched);
    }
}
