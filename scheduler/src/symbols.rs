//! The functions and lines that program counters stand for, and which of them a reader of a stack wants to see.

use std::collections::HashMap;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A function in which a frame is; for inlined ones there are several to a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    /// Its path without the hash, as far as the program's symbols say.
    pub name: String,
    /// The source file and the line in it.
    pub at: Option<String>,
}

/// Answers, kept for the time of a dump.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    known: HashMap<usize, Vec<Symbol>>,
}

impl Symbols {
    /// Writes the frames of a stack, each in two lines as Go does. Needs some hundred KiB of stack, takes locks and reads
    /// thread-locals (the symbolizer's): not on a goroutine's stack.
    pub(crate) fn write_stack(&mut self, pcs: &[usize], out: &mut String) {
        for &pc in pcs {
            self.known.entry(pc).or_insert_with(|| resolve(pc));
        }
        let all: Vec<&Symbol> = pcs.iter().flat_map(|pc| &self.known[pc]).collect();
        let names: Vec<&str> = all.iter().map(|s| s.name.as_str()).collect();
        for symbol in &all[shown(&names)] {
            let Symbol { name, at } = symbol;
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
            let at = symbol.filename().map(|file| match symbol.lineno() {
                Some(line) => format!("{}:{line}", file.display()),
                None => file.display().to_string(),
            });
            found.push(Symbol { name: format!("{name:#}"), at });
        });
    }));
    if found.is_empty() {
        found.push(Symbol { name: place(pc), at: None });
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

/// Of the functions of a stack, innermost first, those that are shown: without the insides of the runtime in which the goroutine
/// waits, and without what is below its body. All, if nothing else were left.
fn shown(names: &[&str]) -> std::ops::Range<usize> {
    let root = names.iter().rposition(|name| is_body(name)).unwrap_or(names.len());
    let end =
        names[..root].iter().rposition(|name| !is_inside(name) && !is_glue(name)).map_or(0, |last| last + 1);
    // Calls of std's own between frames of ours are ours, too.
    let waits = names[..end].iter().take_while(|name| is_inside(name) || is_glue(name)).count();
    let start = names[..waits].iter().rposition(|name| is_inside(name)).map_or(0, |last| last + 1);
    if start < end { start..end } else { 0..names.len() }
}

/// The crate of a function's path, or of the type whose method it is.
fn crate_of(name: &str) -> &str {
    let path = name.trim_start_matches(['<', '&', '*', '(', '[']);
    let path = path.strip_prefix("mut ").or_else(|| path.strip_prefix("dyn ")).unwrap_or(path);
    path.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or(path)
}

/// What runs the goroutine's closure: `Body::run` in `newproc`.
fn is_body(name: &str) -> bool {
    crate_of(name) == "gort_scheduler" && name.contains("newproc::Body<") && name.ends_with(">::run")
}

fn is_inside(name: &str) -> bool {
    matches!(crate_of(name), "gort_scheduler" | "gort_channel" | "corosensei")
}

fn is_glue(name: &str) -> bool {
    matches!(crate_of(name), "core" | "std" | "alloc" | "__rust_try")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(names: &[&'a str]) -> Vec<&'a str> {
        names[shown(names)].to_vec()
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
        let user = ["std::thread::local::with", "app::wait", "gort::sync::WaitGroup::wait", "app::main"];
        let names = [&top[..], &user, &ROOT].concat();
        assert_eq!(of(&names), user);
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
    fn a_function_is_found_by_an_address_in_it() {
        let pc = of as *const () as usize + 1;
        let found = resolve(pc);
        assert!(found.iter().any(|s| s.name.contains("symbols::tests::of")), "{found:?}");
        assert_eq!(resolve(1), [Symbol { name: "0x1".to_owned(), at: None }]);
    }
}
