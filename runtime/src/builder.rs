//! [`Runtime`]: a scheduler of one's own, beside the global one.

use crate::go::{JoinHandle, spawn_unchecked, spawn_with};
use crate::sigquit::{self, Watch};
use gort_scheduler::config::{Config, Deadlock, Migration, PanicPolicy};
use gort_scheduler::g::Bound;
use gort_scheduler::proc::newproc::{Deadlocked, Options};
use gort_scheduler::proc::shutdown::shutdown;
use gort_scheduler::proc::{deadlock, getg, pin};
use gort_scheduler::sched::Sched;
use std::io;
use std::panic::resume_unwind;
use std::time::Duration;

/// A scheduler of one's own, with its own goroutines and limits. Most programs need none: [`go`](crate::go()) and
/// [`run`](crate::run) use the global one.
///
/// Dropping it is [`Runtime::shutdown_timeout`] with no time to wait.
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
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RuntimeBuilder {
    config: Config,
    dump_on_sigquit: bool,
}

impl RuntimeBuilder {
    /// How many goroutines run at once (`GOMAXPROCS`). By default as many as the CPUs that this process may use.
    ///
    /// ```
    /// assert!(gort::Runtime::builder().max_procs(0).build().is_err());
    /// ```
    pub fn max_procs(mut self, n: usize) -> RuntimeBuilder {
        self.config.max_procs = n;
        self
    }

    /// Usable bytes of a goroutine's stack, from 16 KiB to 1 GiB; at least that much. Only touched pages cost memory.
    ///
    /// ```
    /// let rt = gort::Runtime::builder().stack_size(1 << 20).build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> RuntimeBuilder {
        self.config.stack_size = bytes;
        self
    }

    /// The name of the OS threads, `gort` by default; the system shows its first 15 bytes.
    ///
    /// ```
    /// let rt = gort::Runtime::builder().thread_name("crawler").build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn thread_name(mut self, name: impl Into<String>) -> RuntimeBuilder {
        self.config.thread_name = name.into();
        self
    }

    /// What happens when a goroutine panics; [`PanicPolicy::Contain`] by default.
    ///
    /// ```
    /// let rt = gort::Runtime::builder().panic_policy(gort::PanicPolicy::Abort).build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn panic_policy(mut self, policy: PanicPolicy) -> RuntimeBuilder {
        self.config.panic_policy = policy;
        self
    }

    /// Whether a goroutine that has started may go on on another OS thread after a wait: yes by default. With `false` it
    /// stays on the thread that started it, and only goroutines that have not started are taken by whoever is free: for
    /// programs that are built on thread-local state. docs/safety.md says what that is worth, and what it costs.
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
        self.config.migration = if yes { Migration::Free } else { Migration::Never };
        self
    }

    /// What happens when all goroutines wait for what can never come; [`Deadlock::Panic`] by default.
    ///
    /// ```
    /// let rt = gort::Runtime::builder().deadlock(gort::Deadlock::Ignore).build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn deadlock(mut self, policy: Deadlock) -> RuntimeBuilder {
        self.config.deadlock = policy;
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
        self.config.max_threads = n;
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
        self.config.migration = Migration::Always;
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
        self.config.random_order = Some(seed);
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
        self.dump_on_sigquit = yes;
        self
    }

    /// Starts the runtime. OS threads are made when there is work for them.
    ///
    /// # Errors
    ///
    /// `InvalidInput` naming the setting that is out of range. With [`dump_on_sigquit`](Self::dump_on_sigquit), the system's error
    /// if there is no pipe or thread to be had.
    ///
    /// ```
    /// let err = gort::Runtime::builder().stack_size(1).build().unwrap_err();
    /// assert!(err.to_string().contains("stack size of 1 bytes"));
    /// ```
    pub fn build(self) -> io::Result<Runtime> {
        let invalid = |e| io::Error::new(io::ErrorKind::InvalidInput, e);
        self.config.check().map_err(invalid)?;
        let watch = if self.dump_on_sigquit { Some(sigquit::watch()?) } else { None };
        Sched::start(self.config).map(|sched| Runtime { sched, watch }).map_err(invalid)
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

    pub(crate) fn over(sched: &'static Sched) -> Runtime {
        Runtime { sched, watch: None }
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
            name: Some("main".into()),
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
    /// # Panics
    ///
    /// When it is called on one of its own goroutines.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let rt = gort::Runtime::builder().build()?;
    /// rt.go(|| gort::Chan::<()>::nil().recv());
    /// rt.go(|| gort::time::sleep(Duration::from_millis(1)));
    /// assert_eq!(rt.shutdown_timeout(Duration::from_millis(100)), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown_timeout(mut self, d: Duration) -> usize {
        let (sched, watch) = (self.sched, self.watch.take());
        std::mem::forget(self);
        let left = end(sched, d);
        drop(watch);
        left
    }
}

#[track_caller]
fn end(sched: &'static Sched, d: Duration) -> usize {
    let own = getg().sched().is_some_and(|s| std::ptr::eq(s, sched));
    assert!(!own, "a runtime cannot be shut down, or dropped, by one of its own goroutines");
    shutdown(sched, d)
}

impl Drop for Runtime {
    fn drop(&mut self) {
        end(self.sched, Duration::ZERO);
    }
}
