//! The rows and programs in other libraries. `benches/README.md` says what stands for what.
//!
//! Each library is a feature, with a program of that name. [`rows`] is for libraries whose operations block, and [`tasks`]
//! for those whose operations are futures: there each row and each program is written once for all of them, as a user of
//! such a library would.

#[cfg(any(feature = "async-executor", feature = "tokio"))]
mod async_channel;
#[cfg(feature = "async-executor")]
pub mod async_executor;
#[cfg(feature = "crossbeam")]
pub mod crossbeam;
#[cfg(feature = "go-lib")]
pub mod go_lib;
#[cfg(feature = "kanal")]
pub mod kanal;
#[cfg(feature = "kanal-async")]
pub mod kanal_async;
#[cfg(feature = "may")]
pub mod may;
pub mod rows;
pub mod tasks;
pub mod threads;
#[cfg(any(feature = "kanal-async", feature = "tokio"))]
pub mod tokio;

use gort_bench_harness::Host;
use gort_bench_harness::child::Measures;
use std::env;
use std::process::ExitCode;

/// The `main` of each program.
pub fn main(measures: &Measures<impl Host>) -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    measures.main(&args)
}

/// The crates of a library, each with the release that is built in.
pub fn versions(crates: &[&str]) -> String {
    let told = crates.iter().map(|name| format!("{name} {}", version(name).unwrap_or("of unknown release")));
    told.collect::<Vec<_>>().join(" and ")
}

fn version(name: &str) -> Option<&'static str> {
    let line = format!("name = \"{name}\"");
    let mut lines = include_str!("../Cargo.lock").lines().skip_while(|l| *l != line);
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_those_of_the_lock_file() {
        assert!(versions(&["tokio", "kanal"]).starts_with("tokio 1."));
        assert!(versions(&["tokio", "kanal"]).contains(" and kanal 0."));
        assert_eq!(versions(&["gort"]), "gort of unknown release");
    }

    /// Measures everything once, as shortly as it goes.
    #[allow(dead_code, reason = "without a feature there is nothing to measure")]
    fn try_all(measures: &Measures<impl Host>) {
        let procs = std::thread::available_parallelism().map_or(1, |n| n.get()).to_string();
        for row in &measures.rows {
            let said = measures.obey(&["row", row.name, &procs, "1"]).unwrap();
            assert!(said.parse::<f64>().unwrap() > 0.0, "{}: {said}", row.name);
        }
        for program in gort_bench_harness::programs::PROGRAMS {
            if (measures.program)(program.kind).is_some() {
                let said = measures.obey(&["program", program.name, &procs, "100"]).unwrap();
                assert_eq!(said.split(' ').count(), program.figures.len(), "{}: {said}", program.name);
            }
        }
    }

    #[cfg(feature = "async-executor")]
    #[test]
    fn async_executor_can_do_what_it_lists() {
        try_all(&async_executor::measures());
    }

    #[cfg(feature = "crossbeam")]
    #[test]
    fn crossbeam_can_do_what_it_lists() {
        try_all(&crossbeam::measures());
    }

    #[cfg(feature = "go-lib")]
    #[test]
    fn go_lib_can_do_what_it_lists() {
        try_all(&go_lib::measures());
    }

    #[cfg(feature = "kanal")]
    #[test]
    fn kanal_can_do_what_it_lists() {
        try_all(&kanal::measures());
    }

    #[cfg(feature = "kanal-async")]
    #[test]
    fn kanal_async_can_do_what_it_lists() {
        try_all(&kanal_async::measures());
    }

    #[cfg(feature = "may")]
    #[test]
    fn may_can_do_what_it_lists() {
        try_all(&may::measures());
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn tokio_can_do_what_it_lists() {
        try_all(&tokio::measures());
    }
}
