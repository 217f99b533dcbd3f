//! Go's benchmarks and gort's rows of the same names, side by side: `benches/README.md` says how to run it.
//!
//! Every measurement is a process of its own, Go's and gort's in turns, so that both meet the same noise; of the
//! rounds the median counts.

use gort_benches::go::{Go, go_process};
use gort_benches::harness::{Metric, Row, Runner};
use gort_benches::options::{self, exit_code, positive, value};
use gort_benches::page::{Section, facts};
use gort_benches::process::{TOO_LONG, output, this_program};
use gort_benches::table::{Table, geometric_mean, median, number};
use gort_benches::{PACKAGES, Package};
use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

const USAGE: &str = "\
usage: compare [OPTIONS] [PART-OF-A-NAME]...

Runs the rows whose name contains one of the parts, or, with its package, begins with it: `sync/` is all of sync.
Without any, all.

  --quick           3 rounds instead of 5
  --benchtime MS    time for each measurement, 200 by default
";

struct Options {
    common: options::Options,
    benchtime: Duration,
    task: Task,
}

enum Task {
    Compare,
    List,
    Help,
    /// One row of gort, in this process: what the comparison starts itself for.
    Measure(String),
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            common: options::Options::new(5),
            benchtime: Duration::from_millis(200),
            task: Task::Compare,
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => options.common.rounds = 3,
                "--benchtime" => options.benchtime = Duration::from_millis(positive(&arg, &mut args)? as u64),
                "--list" => options.task = Task::List,
                "--measure" => options.task = Task::Measure(value(&arg, &mut args)?),
                "-h" | "--help" => options.task = Task::Help,
                _ => options.common.take(arg, &mut args)?,
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    exit_code(Options::parse(env::args().skip(1)).and_then(|options| match &options.task {
        Task::Help => {
            print!("{USAGE}{}", options::USAGE);
            Ok(true)
        }
        Task::List => {
            cases().for_each(|case| println!("{:40} {}", case.name, case.row.go));
            Ok(true)
        }
        Task::Measure(name) => measure(name, &options).map(|()| true),
        Task::Compare => compare(&options),
    }))
}

/// A row that is compared.
struct Case {
    package: &'static Package,
    row: &'static Row,
    /// With its package: `sync/mutex_spin`.
    name: String,
    /// What was measured, one for each round that went well.
    go: Vec<f64>,
    gort: Vec<f64>,
}

/// All that can be compared.
fn cases() -> impl Iterator<Item = Case> {
    let of_package = |package: &'static Package| {
        package.rows().map(move |row| {
            let name = format!("{}/{}", package.name, row.name);
            Case { package, row, name, go: Vec::new(), gort: Vec::new() }
        })
    };
    PACKAGES.iter().flat_map(of_package)
}

/// Measures the row of that name, with or without its package.
fn measure(name: &str, options: &Options) -> Result<(), String> {
    let case = cases().find(|case| case.row.name == name || case.name == name);
    let row = case.ok_or(format!("there is no row {name}"))?.row;
    match row.runs_on(options.common.procs) {
        true => println!("{}", Runner::new(options.common.procs).measure(row, options.benchtime)),
        false => return Err(format!("{name} wants at least two Ps, and a CPU for each")),
    }
    Ok(())
}

/// The comparison. False if a measurement failed.
fn compare(options: &Options) -> Result<bool, String> {
    let wanted = options.common.wanted(cases(), |case| &case.name)?;
    let (mut cases, others): (Vec<Case>, Vec<Case>) =
        wanted.into_iter().partition(|case| case.row.runs_on(options.common.procs));
    for case in &others {
        eprintln!("without {}: it wants at least two Ps, and a CPU for each", case.name);
    }
    let go = options.common.go(|| GoRows::find(&cases));
    let this = this_program()?;

    let rounds = options.common.rounds;
    let mut fine = true;
    for round in 0..rounds {
        for case in &mut cases {
            eprint!("\rround {} of {rounds}: {:45}", round + 1, case.name);
            // Who comes first changes from round to round.
            for turn in 0..2 {
                let (who, nanos, into) = match (round + turn) % 2 {
                    0 => ("gort", run_gort(&this, case.row, options), &mut case.gort),
                    _ => match &go {
                        Some(go) => ("Go", go.run(case.package, case.row, options), &mut case.go),
                        None => continue,
                    },
                };
                match nanos {
                    Ok(nanos) => into.push(nanos),
                    Err(problem) => {
                        eprintln!("\n{who}: {}: {problem}", case.name);
                        fine = false;
                    }
                }
            }
        }
    }
    eprintln!();

    let section = section(&cases, go.as_ref(), options);
    print!("{}", section.text());
    if let Some(path) = &options.common.write {
        section.write(path)?;
    }
    Ok(fine)
}

fn run_gort(this: &Path, row: &Row, options: &Options) -> Result<f64, String> {
    let mut command = Command::new(this);
    command.args(["--measure", row.name]);
    command.args(["--benchtime", &options.benchtime.as_millis().to_string()]);
    command.args(["--procs", &options.common.procs.to_string()]);
    let out = output(&mut command, TOO_LONG)?;
    out.trim().parse().map_err(|_| format!("not a number: {out:?}"))
}

/// Go with its own benchmarks.
struct GoRows {
    go: Go,
    /// By package.
    tests: BTreeMap<&'static str, PathBuf>,
}

impl GoRows {
    /// Go, with the benchmarks that these cases need.
    fn find(cases: &[Case]) -> Result<GoRows, String> {
        let go = Go::find()?;
        let mut tests = BTreeMap::new();
        for package in cases.iter().map(|case| case.package.name) {
            if !tests.contains_key(package) {
                tests.insert(package, go.tests(package)?);
            }
        }
        Ok(GoRows { go, tests })
    }

    fn run(&self, package: &Package, row: &Row, options: &Options) -> Result<f64, String> {
        let pattern: Vec<String> =
            format!("Benchmark{}", row.go).split('/').map(|p| format!("^{p}$")).collect();
        let mut command = go_process(&self.tests[package.name]);
        command.current_dir(self.go.directory(package.name)).arg("-test.run=^$");
        command.arg(format!("-test.bench={}", pattern.join("/")));
        command.arg(format!("-test.benchtime={}ms", options.benchtime.as_millis()));
        command.arg(format!("-test.cpu={}", options.common.procs));
        let out = output(&mut command, TOO_LONG)?;
        told(&out, row.metric).ok_or(format!("no {} in {out:?}", row.metric.go_unit()))
    }
}

/// What a benchmark of Go's tells: the number before its unit.
fn told(out: &str, metric: Metric) -> Option<f64> {
    let words: Vec<&str> = out.split_whitespace().collect();
    let unit = words.iter().position(|&word| word == metric.go_unit())?;
    words[unit.checked_sub(1)?].parse().ok()
}

fn section(cases: &[Case], go: Option<&GoRows>, options: &Options) -> Section {
    let mut section = Section::new("Go's own benchmarks");
    section.push(format!(
        "Go's benchmarks of its channels, goroutines, locks and timers, and the same operations with gort (the\n\
         names are Go's, in snake case). Both ran in turns on one machine; a cell is the median of {} rounds of at\n\
         least {} ms, in nanoseconds per operation, with {} processors (`ping_pong_hog`: one;\n\
         `contended_semaphore`: two). Less is better; single rows vary by a quarter from run to run.\n\
         `benches/README.md` says how to repeat it, and what is not the same.",
        options.common.rounds,
        options.benchtime.as_millis(),
        options.common.procs,
    ));
    if go.is_none() {
        section.push("**Go was not there when this was measured: its column is empty.**");
    }
    section.push(facts(go.map(|go| &go.go), []));
    for package in &PACKAGES {
        for metric in Metric::ALL {
            let is_here = |case: &&Case| case.package.name == package.name && case.row.metric == metric;
            let cases: Vec<&Case> = cases.iter().filter(is_here).collect();
            if !cases.is_empty() {
                let (about, name) = (package.about, package.name);
                section.push(match metric {
                    Metric::Time => format!("### {about} (`{name}`)"),
                    Metric::Lateness => format!(
                        "### {about}: lateness (`{name}`)\n\n\
                         How late timers were on average, while goroutines compute.",
                    ),
                });
                section.push(table(&cases, metric, go.is_some()));
            }
        }
    }
    section
}

fn table(cases: &[&Case], metric: Metric, has_go: bool) -> Table {
    let mut table = Table::new(&match metric {
        Metric::Time => ["row", "Go ns/op", "gort ns/op", "gort/Go"],
        Metric::Lateness => ["row", "Go ns late", "gort ns late", "gort/Go"],
    });
    let mut ratios = Vec::new();
    for case in cases {
        let (theirs, ours) = (median(&case.go), median(&case.gort));
        let ratio = theirs.zip(ours).map(|(theirs, ours)| ours / theirs);
        ratios.extend(ratio);
        let cell = |v: Option<f64>, none: &str| v.map_or(none.to_owned(), number);
        table.push([
            case.row.name.to_owned(),
            cell(theirs, if has_go { "failed" } else { "" }),
            cell(ours, "failed"),
            ratio.map_or(String::new(), |r| format!("{r:.2}")),
        ]);
    }
    if let Some(mean) = geometric_mean(&ratios) {
        table.push(["**geometric mean**".to_owned(), String::new(), String::new(), format!("**{mean:.2}**")]);
    }
    table
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

    #[test]
    fn each_package_has_a_mean_of_its_own() {
        let mut all: Vec<Case> = cases().collect();
        for case in &mut all {
            case.go = vec![100.0];
            case.gort = vec![match (case.package.name, case.row.metric) {
                ("runtime", _) => 25.0,
                ("sync", _) => 50.0,
                (_, Metric::Time) => 75.0,
                (_, Metric::Lateness) => 10.0,
            }];
        }
        let options = Options::parse(std::iter::empty()).unwrap();
        let text = section(&all, None, &options).text();
        let means: Vec<&str> = text.lines().filter(|line| line.contains("geometric mean")).collect();
        let ends = ["**0.25** |", "**0.50** |", "**0.75** |", "**0.10** |"];
        assert_eq!(means.len(), ends.len());
        assert!(means.iter().zip(ends).all(|(mean, end)| mean.ends_with(end)), "{means:?}");
    }
}
