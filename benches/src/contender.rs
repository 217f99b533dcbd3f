//! [`Contender`]: who is measured, and how its processes are started.

use crate::Package;
use crate::case::What;
use crate::go::{Go, go_process};
use crate::harness::Metric;
use crate::process::{output, this_program};
use crate::{PACKAGES, peers};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A library, or Go.
pub struct Contender {
    /// What its column is called.
    pub name: String,
    /// With its release.
    pub version: String,
    /// Its part in the comparison.
    pub role: Role,
    program: PathBuf,
    /// What goes before the arguments.
    first: &'static [&'static str],
    tests: Option<GoTests>,
    /// The rows and programs that it can express; `None`: all.
    can: Option<HashSet<String>>,
}

/// A part in the comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// What gort is compared with.
    Go,
    /// What is compared.
    Gort,
    /// What does some of it as well.
    Peer,
}

/// Go's own benchmarks, by package.
struct GoTests {
    go: Go,
    programs: BTreeMap<&'static str, PathBuf>,
}

/// One measurement.
pub struct Measurement {
    /// What is measured.
    pub what: What,
    /// With how many processors.
    pub procs: usize,
    /// With what count, if it is a program.
    pub count: u64,
    /// How long, if it is a row.
    pub benchtime: Duration,
    /// When it is given up.
    pub limit: Duration,
}

impl Contender {
    /// Go, with all that is measured of it.
    pub fn go() -> Result<Contender, String> {
        let go = Go::find()?;
        let mut programs = BTreeMap::new();
        for package in &PACKAGES {
            programs.insert(package.name, go.tests(package.name)?);
        }
        Ok(Contender {
            name: "Go".to_owned(),
            version: go.version.clone(),
            role: Role::Go,
            program: go.programs()?,
            first: &[],
            tests: Some(GoTests { go, programs }),
            can: None,
        })
    }

    /// gort, which is this program.
    pub fn gort() -> Result<Contender, String> {
        Contender::child("gort", Role::Gort, this_program()?, &["--child"])
    }

    /// A peer, built now.
    pub fn peer(name: &str) -> Result<Contender, String> {
        Contender::child(name, Role::Peer, peers::build(name)?, &[])
    }

    fn child(
        name: &str,
        role: Role,
        program: PathBuf,
        first: &'static [&'static str],
    ) -> Result<Contender, String> {
        let list = output(Command::new(&program).args(first).arg("list"), Duration::from_secs(10))?;
        let mut lines = list.lines().map(str::to_owned);
        let version = lines.next().ok_or("it does not tell its version")?;
        let (name, can) = (name.to_owned(), Some(lines.collect()));
        Ok(Contender { name, version, role, program, first, tests: None, can })
    }

    /// Whether it can express that.
    pub fn can(&self, what: What) -> bool {
        self.can.as_ref().is_none_or(|can| can.contains(what.name()))
    }

    /// The figures of a measurement.
    pub fn run(&self, m: &Measurement) -> Result<Vec<f64>, String> {
        let procs = m.procs.to_string();
        let (mut command, expected) = match (m.what, &self.tests) {
            (What::Row(package, row), Some(tests)) => {
                let mut command = tests.command(package, row.go);
                command.arg(format!("-test.benchtime={}ms", m.benchtime.as_millis()));
                command.arg(format!("-test.cpu={procs}"));
                let out = output(&mut command, m.limit)?;
                let figure = told(&out, row.metric);
                return figure.map(|v| vec![v]).ok_or(format!("no {} in {out:?}", row.metric.go_unit()));
            }
            (What::Program(program), Some(_)) => {
                let mut command = go_process(&self.program);
                command.args([program.name, &m.count.to_string()]).env("GOMAXPROCS", procs);
                (command, program.figures.len())
            }
            (What::Row(_, row), None) => {
                let mut command = Command::new(&self.program);
                command.args(self.first).args(["row", row.name, &procs]);
                command.arg(m.benchtime.as_millis().to_string());
                (command, 1)
            }
            (What::Program(program), None) => {
                let mut command = Command::new(&self.program);
                command.args(self.first).args(["program", program.name, &procs]);
                command.arg(m.count.to_string()).env("GOMAXPROCS", procs);
                (command, program.figures.len())
            }
        };
        let out = output(&mut command, m.limit)?;
        let figures: Result<Vec<f64>, _> = out.split_whitespace().map(str::parse).collect();
        figures.ok().filter(|f| f.len() == expected).ok_or(format!("not {expected} numbers: {out:?}"))
    }
}

impl GoTests {
    fn command(&self, package: &Package, benchmark: &str) -> Command {
        let pattern: Vec<String> =
            format!("Benchmark{benchmark}").split('/').map(|p| format!("^{p}$")).collect();
        let program: &Path = &self.programs[package.name];
        let mut command = go_process(program);
        command.current_dir(self.go.directory(package.name)).arg("-test.run=^$");
        command.arg(format!("-test.bench={}", pattern.join("/")));
        command
    }
}

/// What a benchmark of Go's tells: the number before its unit.
fn told(out: &str, metric: Metric) -> Option<f64> {
    let words: Vec<&str> = out.split_whitespace().collect();
    let unit = words.iter().position(|&word| word == metric.go_unit())?;
    words[unit.checked_sub(1)?].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_told_by_its_unit() {
        let out = "goos: linux\nBenchmarkMutex-2 \t 3852 \t 25.30 ns/op\t 0 B/op\t 0 allocs/op\nPASS\n";
        assert_eq!(told(out, Metric::Time), Some(25.3));
        assert_eq!(told(out, Metric::Lateness), None);
        let out = "BenchmarkParallelTimerLatency-2 52 \t 199673 avg-late-ns\t 2889357 max-late-ns\nPASS\n";
        assert_eq!(told(out, Metric::Lateness), Some(199_673.0));
        assert_eq!(told(out, Metric::Time), None);
        assert_eq!(told("ns/op", Metric::Time), None);
    }
}
