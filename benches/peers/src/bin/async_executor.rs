//! Measures `async-channel` on `async-executor`.

use std::process::ExitCode;

fn main() -> ExitCode {
    gort_bench_peers::main(&gort_bench_peers::async_executor::measures())
}
