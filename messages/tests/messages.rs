//! Common mistakes with `go!`, `select!`, `scope` and `run`, and what the compiler says to them: the user's own line, and a
//! sentence that says what to do.
//!
//! In `cases/ours` the sentences are the macros'. In `cases/rustc` they are the compiler's, and change with its versions: these are
//! compared where the version is [`RECORDED`] only. `TRYBUILD=overwrite` records both anew; read what comes out.

use std::env;
use std::process::Command;

/// The version of the compiler whose words are in `cases/rustc`.
const RECORDED: &str = "rustc 1.95.";

#[test]
fn common_mistakes_are_told_at_the_users_own_line() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/cases/ours/*.rs");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("cargo has found it").stdout;
    let version = String::from_utf8_lossy(&version);
    if version.starts_with(RECORDED) {
        cases.compile_fail("tests/cases/rustc/*.rs");
    } else {
        eprintln!("the compiler's own words are not compared: {version} is not {RECORDED}");
    }
}
