//! The programs of `benches/peers`: what other libraries make of the rows. They are built when they are wanted.

use crate::process::{TOO_LONG, output, said, target_directory};
use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Their names, which are those of the programs and of the features that they need.
pub const PEERS: &[&str] = &["tokio", "async-executor", "kanal-async", "kanal", "crossbeam", "may", "go-lib"];

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// Builds a peer's program. One that cannot be built does not keep the others from it.
pub fn build(name: &str) -> Result<PathBuf, String> {
    let target = target_directory()?.join("peers");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(DIRECTORY).args(["build", "--quiet", "--locked", "--profile", "bench"]);
    cargo.args(["--features", name, "--bin", name, "--target-dir"]).arg(&target);
    output(&mut cargo, TOO_LONG * 10)?;
    let rustc = env::var("RUSTC").unwrap_or("rustc".to_owned());
    let version = said(&rustc, &["-vV"]).ok_or("rustc does not tell its host")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(target.join(host.ok_or("rustc has no host")?).join("release").join(name))
}
