//! Measures `go-lib`.

use std::process::ExitCode;

fn main() -> ExitCode {
    gort_bench_peers::main(&gort_bench_peers::go_lib::measures())
}
