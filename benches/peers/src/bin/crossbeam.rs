//! Measures `crossbeam-channel` on threads.

use std::process::ExitCode;

fn main() -> ExitCode {
    gort_bench_peers::main(&gort_bench_peers::crossbeam::measures())
}
