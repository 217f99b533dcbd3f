//! Goroutines in great numbers in Go, gort and other Rust libraries, side by side: `benches/README.md` says how to
//! run it.
//!
//! Every measurement is a process of its own, in turns; of the rounds the median counts. A library that fails with a
//! million goroutines is measured with fewer, if that works.

use gort_benches::go::{Go, go_process};
use gort_benches::million::{GO_SOURCE, LIBRARIES, SCENARIOS, Scenario, fail_at_panics};
use gort_benches::options::{self, exit_code, positive, value};
use gort_benches::page::{Section, facts};
use gort_benches::process::{TOO_LONG, output, this_program};
use gort_benches::table::{Table, median, number};
use std::collections::VecDeque;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: compare_million [OPTIONS] [PART-OF-A-NAME]...

Measures what has one of the parts in the name of its first row; without any, all.

  --count N         so many goroutines, a power of ten; 1000000 by default
";

/// How many goroutines there are, unless fewer are asked for.
const MILLION: u64 = 1_000_000;

struct Options {
    common: options::Options,
    count: u64,
    task: Task,
}

enum Task {
    Compare,
    List,
    Help,
    /// One scenario of a library, in this process: what the comparison starts itself for.
    Measure(Measure),
}

struct Measure {
    library: String,
    scenario: String,
    count: u64,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options { common: options::Options::new(3), count: MILLION, task: Task::Compare };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--count" => options.count = power_of_ten(&arg, &mut args)?,
                "--list" => options.task = Task::List,
                "--measure" => {
                    let library = value(&arg, &mut args)?;
                    let scenario = value(&arg, &mut args)?;
                    let count = positive(&arg, &mut args)? as u64;
                    options.task = Task::Measure(Measure { library, scenario, count });
                }
                "-h" | "--help" => options.task = Task::Help,
                _ => options.common.take(arg, &mut args)?,
            }
        }
        Ok(options)
    }
}

fn power_of_ten(name: &str, rest: &mut impl Iterator<Item = String>) -> Result<u64, String> {
    let n = positive(name, rest)? as u64;
    match 10_u64.pow(n.ilog10()) == n {
        true => Ok(n),
        false => Err(format!("{name} wants a power of ten, not {n}")),
    }
}

fn main() -> ExitCode {
    exit_code(Options::parse(env::args().skip(1)).and_then(|options| match &options.task {
        Task::Help => {
            print!("{USAGE}{}", options::USAGE);
            Ok(true)
        }
        Task::List => {
            let figures = SCENARIOS.iter().flat_map(|scenario| scenario.figures);
            figures.for_each(|figure| println!("{:15} {}", figure.row, figure.unit));
            Ok(true)
        }
        Task::Measure(what) => measure(what).map(|()| true),
        Task::Compare => compare(&options),
    }))
}

/// The counterpart of the program in Go: writes the figures in one line.
fn measure(what: &Measure) -> Result<(), String> {
    let library = LIBRARIES.iter().find(|library| library.name == what.library);
    let library = library.ok_or(format!("there is no library {}", what.library))?;
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == what.scenario);
    let scenario = scenario.ok_or(format!("there is no scenario {}", what.scenario))?;
    fail_at_panics();
    let figures: Vec<String> =
        library.measure(scenario, what.count).iter().map(|figure| figure.to_string()).collect();
    println!("{}", figures.join(" "));
    Ok(())
}

/// The comparison. False if a measurement failed that must not.
fn compare(options: &Options) -> Result<bool, String> {
    let scenarios = options.common.wanted(SCENARIOS.iter(), |scenario| scenario.name)?;
    let go = options.common.go(GoProgram::find);
    let contenders = contenders(go.as_ref())?;
    let cases = scenarios.iter().flat_map(|scenario| contenders.iter().map(move |who| (scenario, who)));
    let mut cases: Vec<Case> = cases.map(|(scenario, who)| Case::new(scenario, who, options.count)).collect();

    let rounds = options.common.rounds;
    for round in 0..rounds {
        for cases in cases.chunk_by_mut(same_scenario) {
            // Who comes first changes from round to round.
            let (last, first) = cases.split_at_mut(round % contenders.len());
            for case in first.iter_mut().chain(last) {
                eprintln!("round {} of {rounds}: {} of {}", round + 1, case.scenario.name, case.who.name);
                case.add_round(|case, count| case.who.run(case.scenario, count, options.common.procs));
            }
        }
    }

    let section = section(&contenders, &cases, go.as_ref(), options);
    print!("{}", section.text());
    if let Some(path) = &options.common.write {
        section.write(path)?;
    }
    Ok(cases.iter().all(|case| case.who.may_fail || case.problems.is_empty()))
}

/// Go with the program of its measurements.
struct GoProgram {
    go: Go,
    program: PathBuf,
}

impl GoProgram {
    fn find() -> Result<GoProgram, String> {
        let go = Go::find()?;
        let program = go.program("million", GO_SOURCE)?;
        Ok(GoProgram { go, program })
    }
}

/// Who is measured: a program, and the arguments that go before the scenario's name and the count.
struct Contender {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<&'static str>,
    /// Whether it is known not to be able to do everything.
    may_fail: bool,
}

/// In the order of the columns.
fn contenders(go: Option<&GoProgram>) -> Result<Vec<Contender>, String> {
    let this = this_program()?;
    let go = go.map(|go| Contender {
        name: "Go",
        program: go.program.clone(),
        arguments: Vec::new(),
        may_fail: false,
    });
    let libraries = LIBRARIES.iter().enumerate().map(|(at, library)| Contender {
        name: library.name,
        program: this.clone(),
        arguments: vec!["--measure", library.name],
        may_fail: at > 0,
    });
    Ok(go.into_iter().chain(libraries).collect())
}

impl Contender {
    /// The figures of a scenario with so many goroutines.
    fn run(&self, scenario: &Scenario, count: u64, procs: usize) -> Result<Vec<f64>, String> {
        let mut command = go_process(&self.program);
        command.args(&self.arguments).args([scenario.name, &count.to_string()]);
        command.env("GORT_MAXPROCS", procs.to_string()).env("GOMAXPROCS", procs.to_string());
        let out = output(&mut command, TOO_LONG)?;
        let figures: Result<Vec<f64>, _> = out.split_whitespace().map(str::parse).collect();
        match figures {
            Ok(figures) if figures.len() == scenario.figures.len() => Ok(figures),
            _ => Err(format!("not {} numbers: {out:?}", scenario.figures.len())),
        }
    }
}

/// A contender in a scenario.
struct Case<'a> {
    scenario: &'a Scenario,
    who: &'a Contender,
    /// The counts to try, from the largest. The first is the one in use: those before it failed.
    counts: VecDeque<u64>,
    /// The figures of each round.
    rounds: Vec<Vec<f64>>,
    /// The counts that failed, and why.
    problems: Vec<(u64, String)>,
}

fn same_scenario(a: &Case, b: &Case) -> bool {
    a.scenario.name == b.scenario.name
}

impl Case<'_> {
    fn new<'a>(scenario: &'a Scenario, who: &'a Contender, count: u64) -> Case<'a> {
        let less = scenario.fallbacks.iter().copied().filter(|&less| less < count);
        let counts = [count].into_iter().chain(less).collect();
        Case { scenario, who, counts, rounds: Vec::new(), problems: Vec::new() }
    }

    /// Adds what `run` says of a count. After a failure, what was measured so far does not count, and fewer
    /// goroutines are tried.
    fn add_round(&mut self, run: impl Fn(&Case, u64) -> Result<Vec<f64>, String>) {
        while let Some(&count) = self.counts.front() {
            match run(self, count) {
                Ok(figures) => return self.rounds.push(figures),
                Err(problem) => {
                    eprintln!("failed with {count}: {problem}");
                    self.problems.push((count, problem));
                    self.counts.pop_front();
                    self.rounds.clear();
                }
            }
        }
    }

    /// The cell of a figure: its median, and the count if it is not the one that was asked for.
    fn cell(&self, figure: usize) -> String {
        let values: Vec<f64> = self.rounds.iter().map(|figures| figures[figure]).collect();
        let Some(middle) = median(&values) else { return "-".to_owned() };
        match self.counts.front() {
            Some(less) if !self.problems.is_empty() => format!("{} ({less})", number(middle)),
            _ => number(middle),
        }
    }
}

fn section(contenders: &[Contender], cases: &[Case], go: Option<&GoProgram>, options: &Options) -> Section {
    let mut section = Section::new("Goroutines in great numbers");
    section.push(introduction(options));
    if go.is_none() {
        section.push("**Go was not there when this was measured: it has no column.**");
    }
    let versions = LIBRARIES.iter().map(|library| (library.name, library.version.to_owned()));
    let maps = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or("unknown".to_owned());
    let more = versions.chain([("vm.max_map_count", maps.trim().to_owned())]);
    section.push(facts(go.map(|go| &go.go), more));
    section.push(table(contenders, cases));
    let problems = problems(cases);
    if !problems.is_empty() {
        section.push("What failed:");
        section.push(problems.join("\n"));
    }
    section
}

fn introduction(options: &Options) -> String {
    format!(
        "{} goroutines in Go, gort and what other Rust libraries have in their place. All ran in turns on one\n\
         machine with {} processors each; a cell is the median of {} rounds. `ns` is the time for each goroutine,\n\
         `bytes` how much the process grew for each, `s` seconds for all. Less is better.\n\
         \n\
         - `park_million`: goroutines are started, and each waits for a value from one unbuffered channel; the\n\
         \x20 memory when all are waiting, and the page tables beside it. `lines of maps` are the mappings of the\n\
         \x20 whole process.\n\
         - `close_million`: that channel is closed, until the last goroutine has gone on and is about to end.\n\
         - `spawn_run`: goroutines are started and do nothing, 10000 at a time, which are waited for.\n\
         - `skynet`: a tree of goroutines with ten children each adds up the numbers of its leaves, which are so\n\
         \x20 many, over channels.\n\
         \n\
         A number in brackets says that so many goroutines were measured instead, because with more the library\n\
         failed; `-`, that it failed with all. `benches/README.md` says what stands for what in which library.",
        options.count, options.common.procs, options.common.rounds,
    )
}

fn table(contenders: &[Contender], cases: &[Case]) -> Table {
    let heads: Vec<&str> = ["row", "unit"].into_iter().chain(contenders.iter().map(|who| who.name)).collect();
    let mut table = Table::new(&heads);
    for cases in cases.chunk_by(same_scenario) {
        for (at, figure) in cases[0].scenario.figures.iter().enumerate() {
            let cells = cases.iter().map(|case| case.cell(at));
            table.push([figure.row.to_owned(), figure.unit.to_owned()].into_iter().chain(cells));
        }
    }
    table
}

/// The items of a list.
fn problems(cases: &[Case]) -> Vec<String> {
    let of_case = |case: &Case| -> Vec<String> {
        let (who, what) = (case.who.name, case.scenario.name);
        case.problems.iter().map(|(count, why)| format!("- {who}, `{what}` with {count}: {why}")).collect()
    };
    cases.iter().flat_map(of_case).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A contender that can do as many as `limit`.
    fn case(limit: u64, rounds: usize) -> Vec<String> {
        let who = Contender { name: "it", program: PathBuf::new(), arguments: Vec::new(), may_fail: true };
        let scenario = &SCENARIOS[2];
        assert_eq!(scenario.fallbacks, [100_000, 10_000]);
        let mut case = Case::new(scenario, &who, MILLION);
        for round in 0..rounds {
            case.add_round(
                |_, count| if count > limit { Err("no".to_owned()) } else { Ok(vec![round as f64]) },
            );
        }
        let mut told = vec![case.cell(0)];
        told.extend(problems(&[case]));
        told
    }

    #[test]
    fn fewer_goroutines_are_tried_until_it_works() {
        assert_eq!(case(MILLION, 3), ["1.00"]);
        assert_eq!(case(100_000, 3), ["1.00 (100000)", "- it, `skynet` with 1000000: no"]);
        let told = case(10, 3);
        assert_eq!(told[0], "-");
        assert_eq!(told[3], "- it, `skynet` with 10000: no");
    }
}
