//! The functions and lines that program counters stand for, and which of them a reader of a stack wants to see.

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A function in which a frame is; for inlined ones there are several to a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    /// Its path without the hash, as far as the program's symbols say; with little debug information without its modules.
    pub name: String,
    /// The source file and the line in it.
    pub at: Option<String>,
    kind: Kind,
}

/// Whose a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    User,
    /// Of the crate whose names users know: shown between functions of theirs.
    Facade,
    /// The runtime's own, and that of what its locks are made of.
    Inside,
    /// What runs the goroutine's closure: `Body::run` in `newproc`.
    Body,
    /// The standard library's.
    Glue,
}

/// A map without random keys, which would be a thread-local's; nobody chooses what is looked up here.
pub(crate) type Map<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// Answers, kept for the time of a dump.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    known: Map<usize, Vec<Symbol>>,
}

impl Symbols {
    /// Writes the frames of a stack, each in two lines as Go does. Needs some hundred KiB of stack, takes locks and reads
    /// thread-locals (the symbolizer's): not on a goroutine's stack.
    pub(crate) fn write_stack(&mut self, pcs: &[usize], out: &mut String) {
        for &pc in pcs {
            self.known.entry(pc).or_insert_with(|| resolve(pc));
        }
        let all: Vec<&Symbol> = pcs.iter().flat_map(|pc| &self.known[pc]).collect();
        let kinds: Vec<Kind> = all.iter().map(|s| s.kind).collect();
        for symbol in &all[shown(&kinds)] {
            let Symbol { name, at, .. } = symbol;
            let _ = match at {
                Some(at) => writeln!(out, "{name}(...)\n\t{at}"),
                None => writeln!(out, "{name}(...)"),
            };
        }
    }
}

/// Asks the symbolizer. What it does not know is named after its place in the program's file, so that others can tell.
#[inline(never)]
fn resolve(pc: usize) -> Vec<Symbol> {
    let mut found = Vec::new();
    // It reads the program's files, which may be anything.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // It looks one byte before, as is right for return addresses; the record's address stands for the one before
        // it as well.
        backtrace::resolve(std::ptr::without_provenance_mut(pc), |symbol| {
            let Some(name) = symbol.name() else { return };
            let name = format!("{name:#}");
            let file = symbol.filename().map(|file| file.display().to_string());
            let kind = kind(&name, file.as_deref());
            let at = file.map(|file| symbol.lineno().map_or(file.clone(), |line| format!("{file}:{line}")));
            found.push(Symbol { name, at, kind });
        });
    }));
    if found.is_empty() {
        found.push(Symbol { name: place(pc), at: None, kind: Kind::User });
    }
    found
}

/// The file that an address is of, and how far into the module it is.
fn place(pc: usize) -> String {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: fills the struct if it says so; the name is a C string then.
    let known = unsafe {
        (libc::dladdr(std::ptr::without_provenance(pc), info.as_mut_ptr()) != 0).then(|| {
            let info = info.assume_init();
            (std::ffi::CStr::from_ptr(info.dli_fname).to_string_lossy(), info.dli_fbase as usize)
        })
    };
    match known {
        Some((file, base)) => format!("{file}+{:#x}", pc.wrapping_sub(base)),
        None => format!("{pc:#x}"),
    }
}

/// Of the functions of a stack, innermost first, those that are shown: without ours in which the goroutine waits, whose names
/// its state says, and without what is below its body. Where there is none of the user's, the facade's; all, if nothing
/// else were left.
fn shown(kinds: &[Kind]) -> Range<usize> {
    let root = kinds.iter().rposition(|&kind| kind == Kind::Body).unwrap_or(kinds.len());
    let wanted = if kinds[..root].contains(&Kind::User) { Kind::User } else { Kind::Facade };
    let end = kinds[..root].iter().rposition(|&kind| kind == wanted).map_or(0, |last| last + 1);
    // Functions of std between frames of ours are ours, too.
    let waits = kinds[..end].iter().take_while(|&&kind| kind != wanted).count();
    let start = kinds[..waits].iter().rposition(|&kind| kind != Kind::Glue).map_or(0, |last| last + 1);
    if start < end { start..end } else { 0..kinds.len() }
}

/// Whose a function is: by its path, or, where debug information leaves that out, by its file.
fn kind(name: &str, file: Option<&str>) -> Kind {
    let krate = match name.split_once("::") {
        Some((before, _))
            if !before.contains("{closure") && !before.trim_start_matches('<').contains('<') =>
        {
            Some(crate_of(name))
        }
        _ => None,
    };
    let krate = krate.or_else(|| file.and_then(crate_of_file)).unwrap_or_else(|| crate_of(name));
    match krate {
        "gort_scheduler" if is_body(name, file) => Kind::Body,
        "gort_scheduler" | "gort_channel" | "corosensei" | "lock_api" => Kind::Inside,
        "gort" => Kind::Facade,
        "core" | "std" | "alloc" | "__rust_try" => Kind::Glue,
        _ => Kind::User,
    }
}

/// The crate of a function's path, or of the type whose method it is.
fn crate_of(name: &str) -> &str {
    let path = name.trim_start_matches(['<', '&', '*', '(', '[']);
    let path = path.strip_prefix("mut ").or_else(|| path.strip_prefix("dyn ")).unwrap_or(path);
    path.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or(path)
}

/// The crate of a source file, if it is one of those that matter here.
fn crate_of_file(file: &str) -> Option<&'static str> {
    // As the compiler names the standard library's files, without and with its sources installed.
    if file.starts_with("/rustc/") || file.contains("/rustlib/src/rust/library/") {
        return Some("std");
    }
    if let Some(other) = ["corosensei", "lock_api"].into_iter().find(|o| file.contains(&format!("/{o}-"))) {
        return Some(other);
    }
    let is_in = |dir: &str| file.strip_prefix(dir).is_some_and(|rest| rest.starts_with("/src/"));
    let ours = env!("CARGO_MANIFEST_DIR");
    if is_in(ours) {
        return Some("gort_scheduler");
    }
    let (channel, facade) = beside(ours)?;
    is_in(&channel).then_some("gort_channel").or(is_in(&facade).then_some("gort"))
}

/// The folders of the other two crates: beside this one's, in the workspace as in a registry, where they bear the crates' names
/// and versions.
fn beside(ours: &str) -> Option<(String, String)> {
    let (before, after) = ours.rsplit_once("scheduler")?;
    let facade = match before.strip_suffix("gort-") {
        Some(before) => format!("{before}gort{after}"),
        None => format!("{before}runtime{after}"),
    };
    Some((format!("{before}channel{after}"), facade))
}

fn is_body(name: &str, file: Option<&str>) -> bool {
    (name.contains("newproc::Body<") && name.ends_with(">::run"))
        || (name.starts_with("run<") && file.is_some_and(|f| f.ends_with("proc/newproc.rs")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(names: &[&'a str]) -> Vec<&'a str> {
        let kinds: Vec<Kind> = names.iter().map(|name| kind(name, None)).collect();
        names[shown(&kinds)].to_vec()
    }

    const ROOT: [&str; 4] = [
        "core::ops::function::FnOnce::call_once",
        "std::panic::catch_unwind",
        "gort_scheduler::proc::newproc::Body<F,T>::run",
        "gort_scheduler::stack::coro::host",
    ];

    #[test]
    fn the_insides_are_left_out() {
        let top = [
            "gort_scheduler::proc::park::gopark",
            "core::ptr::drop_in_place",
            "<gort_channel::handle::Chan<T> as core::fmt::Debug>::fmt",
        ];
        let user = ["std::thread::local::with", "app::wait", "gort::sync::Once::call_once", "app::main"];
        let names = [&top[..], &user, &ROOT].concat();
        assert_eq!(of(&names), user);
    }

    #[test]
    fn the_facade_and_what_locks_are_made_of_are_left_out_above_the_users() {
        let top = [
            "gort_scheduler::sema::mutex::Mutex::lock",
            "<gort::sync::mutex::RawMutex as lock_api::mutex::RawMutex>::lock",
            "lock_api::mutex::Mutex<R,T>::lock",
        ];
        let bottom = ["gort::scope::Body<F,T>::run"];
        let names = [&top[..], &["app::a", "app::main"], &bottom, &ROOT].concat();
        assert_eq!(of(&names), ["app::a", "app::main"]);
        let facade = ["gort::time::sleep", "gort::context::run"];
        assert_eq!(of(&[&["gort_scheduler::proc::park::gopark"], &facade[..], &ROOT].concat()), facade);
    }

    #[test]
    fn the_crates_lie_beside_each_other() {
        let of = |ours| beside(ours).unwrap();
        assert_eq!(of("/a/scheduler"), ("/a/channel".into(), "/a/runtime".into()));
        let in_registry = of("/r/gort-scheduler-0.1.0");
        assert_eq!(in_registry, ("/r/gort-channel-0.1.0".into(), "/r/gort-0.1.0".into()));
    }

    #[test]
    fn what_is_nothing_but_insides_is_shown_whole() {
        assert_eq!(of(&ROOT), ROOT);
        assert_eq!(of(&[]), [""; 0]);
    }

    #[test]
    fn a_stack_that_is_cut_has_no_root() {
        assert_eq!(of(&["gort_scheduler::proc::park::gopark", "app::a", "app::a"]), ["app::a"; 2]);
    }

    #[test]
    fn a_path_has_a_crate() {
        for name in ["a::b", "<a::B>::c", "<&mut a::B as c::D>::e", "<[a::B]>::c", "a"] {
            assert_eq!(crate_of(name), "a", "{name}");
        }
    }

    #[test]
    fn a_function_without_a_path_is_known_by_its_file() {
        let here = |file: &str| format!("{}/src/{file}", env!("CARGO_MANIFEST_DIR"));
        let kind_in = |name, file: &str| kind(name, Some(file));
        assert_eq!(kind_in("gopark", &here("proc/park.rs")), Kind::Inside);
        assert_eq!(kind_in("run<app::main::{closure_env#0}, ()>", &here("proc/newproc.rs")), Kind::Body);
        assert_eq!(
            kind_in("call_once<app::A, ()>", "/rustc/0123/library/core/src/ops/function.rs"),
            Kind::Glue
        );
        assert_eq!(kind_in("{closure#0}<app::A>", "/home/me/app/src/main.rs"), Kind::User);
        assert_eq!(kind_in("worker", "/home/me/app/src/main.rs"), Kind::User);
        assert_eq!(kind_in("recv", &here("x.rs").replace("scheduler", "channel")), Kind::Inside);
        assert_eq!(kind_in("wait", &here("x.rs").replace("scheduler", "runtime")), Kind::Facade);
        assert_eq!(kind_in("lock<R, T>", "/registry/lock_api-0.4.12/src/mutex.rs"), Kind::Inside);
    }

    #[test]
    fn a_function_is_found_by_an_address_in_it() {
        let pc = of as *const () as usize + 1;
        let found = resolve(pc);
        assert!(found.iter().any(|s| s.name.contains("symbols::tests::of")), "{found:?}");
        assert_eq!(resolve(1)[0].name, "0x1");
    }
}
