//! Measures `may`.

use std::process::ExitCode;

fn main() -> ExitCode {
    gort_bench_peers::main(&gort_bench_peers::may::measures())
}
