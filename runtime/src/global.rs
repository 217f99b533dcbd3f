//! The global runtime: started when it is first needed, or by `build_global`, and never ended. What its builder leaves open the
//! environment says; the environment has no say in other runtimes, whose settings are their makers'.

use crate::builder::{Runtime, RuntimeBuilder};
use crate::sigquit::Watch;
use gort_scheduler::config::{Deadlock, MAX_PROCS, Migration, PanicPolicy};
use gort_scheduler::g::G;
use gort_scheduler::proc::getg;
use gort_scheduler::sched::Sched;
use gort_scheduler::throw::{fatal, report};
use gort_scheduler::{MAX_STACK, MIN_STACK};
use std::env;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

static GLOBAL: OnceLock<Runtime> = OnceLock::new();
/// Held by who starts it: that may fail.
static STARTING: Mutex<()> = Mutex::new(());

/// The global runtime.
///
/// If there can be none, the process ends with a message: not every caller has a way to say so.
pub(crate) fn global() -> &'static Runtime {
    GLOBAL.get().unwrap_or_else(start_at_first_use)
}

#[cold]
fn start_at_first_use() -> &'static Runtime {
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    GLOBAL.get_or_init(|| {
        let settings = from_env(RuntimeBuilder::default(), env_var, problem);
        let started = settings.config().and_then(|c| Runtime::start(c, watch_of_operator(&settings)));
        started.unwrap_or_else(|e| fatal(format_args!("cannot start the global runtime: {e}")))
    })
}

/// Starts the global runtime with these settings; see [`RuntimeBuilder::build_global`].
///
/// # Errors
///
/// `AlreadyExists` if it has been started; `InvalidInput` when a setting is out of range; the system's when
/// it gives no thread, or no pipe for the SIGQUIT that the builder asks for.
pub(crate) fn build(settings: RuntimeBuilder) -> io::Result<()> {
    // The builder's own settings first: they are the caller's mistakes.
    settings.config()?;
    let exists = || {
        let message = "the global runtime runs already: its settings must come before the first `run`, `go!` or \
                       other operation that uses it";
        io::Error::new(io::ErrorKind::AlreadyExists, message)
    };
    if GLOBAL.get().is_some() {
        return Err(exists());
    }
    let asked = settings.watch()?;
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if GLOBAL.get().is_some() {
        return Err(exists());
    }
    let open = settings.dump_on_sigquit.is_none();
    let settings = from_env(settings, env_var, problem);
    let watch = if open { watch_of_operator(&settings) } else { asked };
    let runtime = Runtime::start(settings.config()?, watch)?;
    GLOBAL.set(runtime).map_err(|_| exists())
}

fn env_var(name: &str) -> Option<String> {
    env::var_os(name).map(|v| v.to_string_lossy().into_owned())
}

fn problem(problem: String) {
    report(format_args!("gort: {problem}"));
}

/// The dump on SIGQUIT, if it is asked for by a variable: nothing that a program would fail for.
fn watch_of_operator(settings: &RuntimeBuilder) -> Option<Watch> {
    settings.watch().unwrap_or_else(|e| {
        problem(format!("GORT_SIGQUIT=1 has no effect: {e}"));
        None
    })
}

/// The scheduler that `me` runs on; of a plain thread the global one.
#[inline]
pub(crate) fn sched_of(me: &'static G) -> &'static Sched {
    me.sched().unwrap_or_else(|| global().sched())
}

/// As [`sched_of`] the caller, but a global runtime that nobody has needed yet is not started for it.
pub(crate) fn current_if_any() -> Option<&'static Sched> {
    getg().sched().or_else(|| GLOBAL.get().map(Runtime::sched))
}

/// What the settings leave open, as far as `var` says it. A value that cannot be used is told to `problem`, and the setting
/// stays open.
fn from_env(
    mut settings: RuntimeBuilder,
    var: impl Fn(&str) -> Option<String>,
    mut problem: impl FnMut(String),
) -> RuntimeBuilder {
    let sizes = format!("a number of bytes from {MIN_STACK} to {MAX_STACK}");
    let mut set = |name: &str, what: &str, change: fn(&mut RuntimeBuilder, &str) -> Option<()>| {
        let Some(value) = var(name).filter(|v| !v.is_empty()) else { return };
        let mut changed = settings.clone();
        if change(&mut changed, value.trim()).is_some() && changed.config().is_ok() {
            settings = changed;
        } else {
            problem(format!("{name}={value:?} is not {what}; the default is used"));
        }
    };
    // A variable that has no say is not judged either.
    macro_rules! set {
        ($field:ident, $name:literal, $what:expr, $parse:expr) => {
            set($name, $what, |settings, value| {
                let parse: fn(&str) -> Option<_> = $parse;
                if settings.$field.is_none() {
                    settings.$field = Some(parse(value)?);
                }
                Some(())
            });
        };
    }
    set!(max_procs, "GORT_MAXPROCS", &format!("a number from 1 to {MAX_PROCS}"), |v| v.parse().ok());
    set!(stack_size, "GORT_STACK_SIZE", &sizes, |v| v.parse().ok());
    set!(max_threads, "GORT_MAX_THREADS", "a number from 1", |v| v.parse().ok());
    set!(panic_policy, "GORT_PANIC", "`contain` or `abort`", |v| match v {
        "contain" => Some(PanicPolicy::Contain),
        "abort" => Some(PanicPolicy::Abort),
        _ => None,
    });
    set!(deadlock, "GORT_DEADLOCK", "`panic`, `exit` or `ignore`", |v| match v {
        "panic" => Some(Deadlock::Panic),
        "exit" => Some(Deadlock::Exit),
        "ignore" => Some(Deadlock::Ignore),
        _ => None,
    });
    set!(migration, "GORT_MIGRATE", "0 (never), 1, or `always` (for tests)", |v| match v {
        "0" => Some(Migration::Never),
        "1" => Some(Migration::Free),
        "always" => Some(Migration::Always),
        _ => None,
    });
    set!(dump_on_sigquit, "GORT_SIGQUIT", "0 or 1", |v| match v {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    });
    settings
}

/// Runs `f` as the main goroutine of the global runtime, and blocks this OS thread until it returns.
///
/// As with Go's main, what `f` started may still be going on then; it goes on in the background until the process
/// ends. `run` may be called again, and from several threads.
///
/// `f` may borrow from the caller, who waits. It runs on another OS thread than the caller's, so it and its result are `Send`:
/// what belongs to one thread (an `Rc` that a thread-local shares, `stdout().lock()`) goes neither in nor out.
///
/// # Panics
///
/// With f's panic; with `all goroutines are asleep - deadlock!` and the list of goroutines when nothing can ever wake `f`
/// ([`Deadlock::Panic`](crate::Deadlock)).
///
/// ```
/// let greeting = String::from("hello");
/// let n = gort::run(|| {
///     let ch = gort::chan(0);
///     let tx = ch.clone();
///     gort::go!(move || tx.send(5));
///     ch.recv().unwrap() + greeting.len()
/// });
/// assert_eq!(n, 10);
/// ```
///
/// ```compile_fail,E0277
/// let counted = std::rc::Rc::new(1);
/// gort::run(|| println!("{counted}")); // an `Rc` is not `Send`
/// ```
#[track_caller]
pub fn run<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    global().run(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(builder: RuntimeBuilder, vars: &[(&str, &str)]) -> (RuntimeBuilder, Vec<String>) {
        let mut problems = Vec::new();
        let var = |name: &str| vars.iter().find(|v| v.0 == name).map(|v| v.1.to_owned());
        let settings = from_env(builder, var, |p| problems.push(p));
        (settings, problems)
    }

    fn with(name: &str, value: &str) -> (RuntimeBuilder, Vec<String>) {
        over(RuntimeBuilder::default(), &[(name, value)])
    }

    #[test]
    fn usable_variables_are_used() {
        let (settings, problems) =
            over(RuntimeBuilder::default(), &[("GORT_MAXPROCS", "3"), ("GORT_STACK_SIZE", " 1048576 ")]);
        assert_eq!((settings.max_procs, settings.stack_size, problems.len()), (Some(3), Some(1 << 20), 0));
        for (value, migration) in
            [("0", Migration::Never), ("1", Migration::Free), ("always", Migration::Always)]
        {
            let (settings, problems) = with("GORT_MIGRATE", value);
            assert_eq!((settings.migration, problems.len()), (Some(migration), 0));
        }
        for (value, policy) in
            [("panic", Deadlock::Panic), ("exit", Deadlock::Exit), ("ignore", Deadlock::Ignore)]
        {
            let (settings, problems) = with("GORT_DEADLOCK", value);
            assert_eq!((settings.deadlock, problems.len()), (Some(policy), 0));
        }
        for (value, policy) in [("contain", PanicPolicy::Contain), ("abort", PanicPolicy::Abort)] {
            let (settings, problems) = with("GORT_PANIC", value);
            assert_eq!((settings.panic_policy, problems.len()), (Some(policy), 0));
        }
        let (settings, problems) = with("GORT_MAX_THREADS", "77");
        assert_eq!((settings.max_threads, problems.len()), (Some(77), 0));
        let (settings, problems) = with("GORT_SIGQUIT", "1");
        assert_eq!((settings.dump_on_sigquit, problems.len()), (Some(true), 0));
        let (settings, problems) = with("GORT_MAXPROCS", "");
        assert_eq!((settings.max_procs, problems.len()), (None, 0));
    }

    #[test]
    fn unusable_variables_are_named_and_the_default_stays() {
        for value in ["0", "-1", "two", "1.5", "99999999999999999999", "5000"] {
            let (settings, problems) = with("GORT_MAXPROCS", value);
            assert_eq!(settings.max_procs, None);
            assert!(
                problems.len() == 1 && problems[0].contains("GORT_MAXPROCS") && problems[0].contains(value)
            );
        }
        for (name, value, says) in [
            ("GORT_MIGRATE", "no", "`always`"),
            ("GORT_STACK_SIZE", "100", "16384"),
            ("GORT_MAX_THREADS", "0", "from 1"),
            ("GORT_PANIC", "Abort", "`abort`"),
            ("GORT_DEADLOCK", "quit", "`exit`"),
            ("GORT_SIGQUIT", "yes", "0 or 1"),
        ] {
            let (settings, problems) = with(name, value);
            assert_eq!(format!("{settings:?}"), format!("{:?}", RuntimeBuilder::default()));
            let [problem] = &problems[..] else { panic!("{problems:?}") };
            assert!(problem.contains(&format!("{name}={value:?}")) && problem.contains(says), "{problem}");
        }
    }

    #[test]
    fn what_the_builder_says_holds_and_is_not_looked_up() {
        let builder = RuntimeBuilder::default().max_procs(2).deadlock(Deadlock::Ignore);
        let vars = [("GORT_MAXPROCS", "7"), ("GORT_DEADLOCK", "nonsense"), ("GORT_PANIC", "abort")];
        let (settings, problems) = over(builder, &vars);
        assert_eq!((settings.max_procs, settings.deadlock), (Some(2), Some(Deadlock::Ignore)));
        assert_eq!((settings.panic_policy, problems.len()), (Some(PanicPolicy::Abort), 0));
    }
}
