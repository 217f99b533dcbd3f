//! Go's benchmarks and gort's rows of the same names, side by side: `benches/README.md` says how to run it.
//!
//! Every measurement is a process of its own, Go's and gort's in turns, so that both meet the same noise; of the
//! rounds the median counts.

use gort_benches::go::{Go, go_process};
use gort_benches::harness::{Row, Runner};
use gort_benches::options::{self, exit_code, positive, value};
use gort_benches::page::{Section, facts};
use gort_benches::process::{TOO_LONG, output, this_program};
use gort_benches::rows;
use gort_benches::table::{Table, geometric_mean, median, number};
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

const USAGE: &str = "\
usage: compare [OPTIONS] [PART-OF-A-NAME]...

Runs the rows whose name contains one of the parts; without any, all.

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
            rows().for_each(|row| println!("{:30} {}", row.name, row.go));
            Ok(true)
        }
        Task::Measure(name) => measure(name, &options).map(|()| true),
        Task::Compare => compare(&options),
    }))
}

fn measure(name: &str, options: &Options) -> Result<(), String> {
    let row = rows().find(|row| row.name == name).ok_or(format!("there is no row {name}"))?;
    println!("{}", Runner::new(options.common.procs).ns_per_op(row, options.benchtime));
    Ok(())
}

/// The comparison. False if a measurement failed.
fn compare(options: &Options) -> Result<bool, String> {
    let rows = options.common.wanted(rows(), |row| row.name)?;
    let go = options.common.go(GoRows::find);
    let this = this_program()?;

    let rounds = options.common.rounds;
    let mut results: Vec<Measured> = rows.iter().map(|_| Measured::default()).collect();
    let mut fine = true;
    for round in 0..rounds {
        for (row, result) in rows.iter().zip(&mut results) {
            eprint!("\rround {} of {rounds}: {:40}", round + 1, row.name);
            // Who comes first changes from round to round.
            for turn in 0..2 {
                let (who, ns, into) = match (round + turn) % 2 {
                    0 => ("gort", run_gort(&this, row, options), &mut result.gort),
                    _ => match &go {
                        Some(go) => ("Go", go.run(row, options), &mut result.go),
                        None => continue,
                    },
                };
                match ns {
                    Ok(ns) => into.push(ns),
                    Err(problem) => {
                        eprintln!("\n{who}: {}: {problem}", row.name);
                        fine = false;
                    }
                }
            }
        }
    }
    eprintln!();

    let section = section(&rows, &results, go.as_ref(), options);
    print!("{}", section.text());
    if let Some(path) = &options.common.write {
        section.write(path)?;
    }
    Ok(fine)
}

/// Nanoseconds per operation, one for each round that went well.
#[derive(Default)]
struct Measured {
    go: Vec<f64>,
    gort: Vec<f64>,
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
    tests: PathBuf,
}

impl GoRows {
    fn find() -> Result<GoRows, String> {
        let go = Go::find()?;
        let tests = go.runtime_tests()?;
        Ok(GoRows { go, tests })
    }

    fn run(&self, row: &Row, options: &Options) -> Result<f64, String> {
        let pattern: Vec<String> =
            format!("Benchmark{}", row.go).split('/').map(|p| format!("^{p}$")).collect();
        let mut command = go_process(&self.tests);
        command.current_dir(self.go.runtime_directory()).arg("-test.run=^$");
        command.arg(format!("-test.bench={}", pattern.join("/")));
        command.arg(format!("-test.benchtime={}ms", options.benchtime.as_millis()));
        command.arg(format!("-test.cpu={}", options.common.procs));
        let out = output(&mut command, TOO_LONG)?;
        let words: Vec<&str> = out.split_whitespace().collect();
        let unit = words.iter().position(|&w| w == "ns/op").filter(|&at| at > 0);
        unit.and_then(|at| words[at - 1].parse().ok()).ok_or(format!("no time in {out:?}"))
    }
}

fn section(rows: &[&Row], results: &[Measured], go: Option<&GoRows>, options: &Options) -> Section {
    let mut section = Section::new("Go's own benchmarks");
    section.push(format!(
        "Go's benchmarks of its channels and goroutines, and the same operations with gort (the names are\n\
         Go's, in snake case). Both ran in turns on one machine; a cell is the median of {} rounds of at least\n\
         {} ms, in nanoseconds per operation, with {} processors (`ping_pong_hog`: one). Less is better; single\n\
         rows vary by a quarter from run to run. `benches/README.md` says how to repeat it.",
        options.common.rounds,
        options.benchtime.as_millis(),
        options.common.procs,
    ));
    if go.is_none() {
        section.push("**Go was not there when this was measured: its column is empty.**");
    }
    section.push(facts(go.map(|go| &go.go), []));
    section.push(table(rows, results, go.is_some()));
    section
}

fn table(rows: &[&Row], results: &[Measured], has_go: bool) -> Table {
    let mut table = Table::new(&["row", "Go ns/op", "gort ns/op", "gort/Go"]);
    let mut ratios = Vec::new();
    for (row, result) in rows.iter().zip(results) {
        let (theirs, ours) = (median(&result.go), median(&result.gort));
        let ratio = theirs.zip(ours).map(|(theirs, ours)| ours / theirs);
        ratios.extend(ratio);
        let cell = |v: Option<f64>, none: &str| v.map_or(none.to_owned(), number);
        table.push([
            row.name.to_owned(),
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
