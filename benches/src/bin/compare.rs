//! Go, gort and other libraries, side by side: `benches/README.md` says how to run it.
//!
//! Every measurement is a process of its own, in turns, so that all meet the same noise; of the rounds the median counts.

use gort_benches::case::{Case, Part};
use gort_benches::chart;
use gort_benches::contender::{Contender, Role};
use gort_benches::options::{Options, Task, USAGE};
use gort_benches::peers::PEERS;
use gort_benches::report::{Missing, Report};
use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let done = Options::parse(env::args().skip(1)).and_then(|options| match &options.task {
        Task::Help => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        Task::List => {
            list(&options);
            Ok(ExitCode::SUCCESS)
        }
        Task::Measure(name) => {
            let (procs, ms) = (options.procs.to_string(), options.benchtime.as_millis().to_string());
            let figure = gort_benches::gort().obey(&["row", name, &procs, &ms])?;
            println!("{figure}");
            Ok(ExitCode::SUCCESS)
        }
        Task::Child(args) => Ok(gort_benches::gort().main(args)),
        Task::Compare => compare(&options),
    });
    done.unwrap_or_else(|problem| {
        eprintln!("{problem}");
        ExitCode::FAILURE
    })
}

fn list(options: &Options) {
    let mut all = Case::all(options.procs, options.extent);
    all.retain(|case| options.wants(&case.name()));
    for case in all {
        let counts = if case.count == 0 { String::new() } else { format!("{} times, ", case.count) };
        println!("{:45} {counts}{} Ps", case.name(), case.procs);
    }
}

/// The comparison. It fails if something failed that must not: Go and gort.
fn compare(options: &Options) -> Result<ExitCode, String> {
    let mut cases = Case::all(options.procs, options.extent);
    cases.retain(|case| options.wants(&case.name()));
    cases.retain(Case::makes_sense);
    if cases.is_empty() {
        return Err("no row has such a name; --list shows them".to_owned());
    }
    let (contenders, missing) = contenders(options, &cases)?;
    cases.iter_mut().for_each(|case| case.enter(&contenders));

    for round in 0..options.rounds {
        for case in &mut cases {
            eprint!("\rround {} of {}: {:45}", round + 1, options.rounds, case.name());
            for turn in 0..contenders.len() {
                // Who comes first changes from round to round.
                let at = (round + turn) % contenders.len();
                case.add_round(at, &contenders[at], options.benchtime, LIMIT);
            }
        }
    }
    eprintln!();

    let report = Report { contenders: &contenders, missing: &missing, cases: &cases, options };
    for part in report.parts() {
        let chart = options.write.as_deref().map(|page| draw(&report, part, page)).transpose()?.flatten();
        let section = report.section(part, chart.as_deref());
        println!("{}", section.text());
        if let Some(page) = &options.write {
            section.write(page)?;
        }
    }
    summary(&report);
    let must = |at: usize| contenders[at].role != Role::Peer;
    let failed = cases.iter().flat_map(|case| case.results.iter().enumerate());
    let failed = failed.filter(|(at, results)| must(*at) && !results.problems.is_empty()).count();
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A measurement that takes longer is given up.
const LIMIT: Duration = Duration::from_secs(60);

/// Who can be measured, in the order of the columns, and who cannot, and why.
fn contenders(options: &Options, cases: &[Case]) -> Result<(Vec<Contender>, Vec<Missing>), String> {
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    let mut add = |name: &str, contender: Result<Contender, String>| match contender {
        Ok(contender) => there.push(contender),
        Err(why) => {
            eprintln!("without {name}: {why}");
            missing.push(Missing { name: name.to_owned(), why });
        }
    };
    if options.go {
        add("Go", Contender::go());
    }
    add("gort", Ok(Contender::gort()?));
    // They are nowhere else.
    if options.peers && cases.iter().any(|case| matches!(case.part, Part::Runtime | Part::Programs)) {
        for name in PEERS {
            eprintln!("building {name}");
            add(name, Contender::peer(name));
        }
    }
    Ok((there, missing))
}

/// Draws the chart of a part beside the page. Its file, as the page calls it; `None` if there is nothing to draw.
fn draw(report: &Report, part: Part, page: &Path) -> Result<Option<String>, String> {
    let bars = report.bars(part);
    if bars.is_empty() {
        return Ok(None);
    }
    let directory = page.with_extension("");
    fs::create_dir_all(&directory).map_err(|e| format!("cannot make {}: {e}", directory.display()))?;
    let file = format!("{}.svg", part.name());
    chart::draw(&directory.join(&file), part.heading(), &bars)?;
    let directory = directory.file_name().unwrap_or_default().to_string_lossy();
    Ok(Some(format!("{directory}/{file}")))
}

/// What was lost, all in one place.
fn summary(report: &Report) {
    for part in report.parts() {
        let lost = report.lost(part);
        if !lost.is_empty() {
            println!("{}:\n{lost}", part.heading());
        }
    }
}
