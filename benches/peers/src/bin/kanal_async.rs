//! Measures `kanal` on `tokio`.

use std::process::ExitCode;

fn main() -> ExitCode {
    gort_bench_peers::main(&gort_bench_peers::kanal_async::measures())
}
