//! The global runtime: started when it is first needed, with the settings of the environment, and never ended.

use crate::builder::Runtime;
use gort_scheduler::config::{Config, MAX_PROCS, Migration};
use gort_scheduler::g::G;
use gort_scheduler::proc::getg;
use gort_scheduler::sched::Sched;
use gort_scheduler::throw::report;
use std::env;
use std::sync::OnceLock;

static GLOBAL: OnceLock<Runtime> = OnceLock::new();

/// The global runtime.
pub(crate) fn global() -> &'static Runtime {
    GLOBAL.get_or_init(|| {
        let config = from_env(
            |name| env::var_os(name).map(|v| v.to_string_lossy().into_owned()),
            |problem| {
                report(format_args!("gort: {problem}"));
            },
        );
        match Sched::start(config) {
            Ok(sched) => Runtime::over(sched),
            Err(e) => unreachable!("the defaults are usable: {e}"),
        }
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

/// The default settings, changed by what `var` says of `GORT_MAXPROCS`, `GORT_STACK_SIZE` and `GORT_MIGRATE`. What
/// cannot be used is told to `problem`, and the default stays.
fn from_env(var: impl Fn(&str) -> Option<String>, mut problem: impl FnMut(String)) -> Config {
    let mut config = Config::default();
    let mut set = |name: &str, what: &str, change: fn(&mut Config, &str) -> Option<()>| {
        let Some(value) = var(name).filter(|v| !v.is_empty()) else { return };
        let mut changed = config.clone();
        if change(&mut changed, value.trim()).is_some() && changed.check().is_ok() {
            config = changed;
        } else {
            problem(format!("{name}={value:?} is not {what}; the default is used"));
        }
    };
    set("GORT_MAXPROCS", &format!("a number from 1 to {MAX_PROCS}"), |c, v| {
        c.max_procs = v.parse().ok()?;
        Some(())
    });
    let sizes =
        format!("a number of bytes from {} to {}", gort_scheduler::MIN_STACK, gort_scheduler::MAX_STACK);
    set("GORT_STACK_SIZE", &sizes, |c, v| {
        c.stack_size = v.parse().ok()?;
        Some(())
    });
    set("GORT_MIGRATE", "0 (never), 1, or `always` (for tests)", |c, v| {
        c.migration = match v {
            "0" => Migration::Never,
            "1" => Migration::Free,
            "always" => Migration::Always,
            _ => return None,
        };
        Some(())
    });
    config
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

    fn with(vars: &[(&str, &str)]) -> (Config, Vec<String>) {
        let mut problems = Vec::new();
        let var = |name: &str| vars.iter().find(|v| v.0 == name).map(|v| v.1.to_owned());
        let config = from_env(var, |p| problems.push(p));
        (config, problems)
    }

    #[test]
    fn usable_variables_are_used() {
        let (config, problems) = with(&[("GORT_MAXPROCS", "3"), ("GORT_STACK_SIZE", " 1048576 ")]);
        assert_eq!((config.max_procs, config.stack_size, problems.len()), (3, 1 << 20, 0));
        for (value, migration) in
            [("0", Migration::Never), ("1", Migration::Free), ("always", Migration::Always)]
        {
            let (config, problems) = with(&[("GORT_MIGRATE", value)]);
            assert_eq!((config.migration, problems.len()), (migration, 0));
        }
        let (config, problems) = with(&[("GORT_MAXPROCS", "")]);
        assert_eq!((config.max_procs, problems.len()), (Config::default().max_procs, 0));
    }

    #[test]
    fn unusable_variables_are_named_and_the_default_stays() {
        for value in ["0", "-1", "two", "1.5", "99999999999999999999", "5000"] {
            let (config, problems) = with(&[("GORT_MAXPROCS", value)]);
            assert_eq!(config.max_procs, Config::default().max_procs);
            assert!(
                problems.len() == 1 && problems[0].contains("GORT_MAXPROCS") && problems[0].contains(value)
            );
        }
        let (config, problems) = with(&[("GORT_MIGRATE", "no")]);
        assert_eq!(config.migration, Migration::Free);
        assert!(problems[0].contains("GORT_MIGRATE=\"no\""), "{problems:?}");
        let (config, problems) = with(&[("GORT_STACK_SIZE", "100")]);
        assert_eq!(config.stack_size, Config::default().stack_size);
        assert!(
            problems[0].contains("GORT_STACK_SIZE=\"100\"") && problems[0].contains("16384"),
            "{problems:?}"
        );
    }
}
