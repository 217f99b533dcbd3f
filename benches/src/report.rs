//! The sections of the page: tables, means, and what was lost.

use crate::case::{Case, Part, Told, Value, What};
use crate::chart::Bar;
use crate::contender::{Contender, Role};
use crate::options::Options;
use crate::page::{Section, facts};
use crate::table::{Table, geometric_mean, number};
use gort_bench_harness::programs::Says;
use std::fmt::Write;

/// What a run has given.
pub struct Report<'a> {
    /// Who was measured, in the order of the columns.
    pub contenders: &'a [Contender],
    /// Who was not there.
    pub missing: &'a [Missing],
    /// What was measured.
    pub cases: &'a [Case],
    /// How.
    pub options: &'a Options,
}

/// Who was not there.
pub struct Missing {
    /// What its column would be called.
    pub name: String,
    /// Why.
    pub why: String,
}

/// A figure of a case, with what everybody gave.
struct Line<'a> {
    told: Told,
    case: &'a Case,
    go: Option<Value>,
    gort: Option<Value>,
    /// The fastest of the peers that did all of it, by name.
    best: Option<(&'a str, f64)>,
    /// One for each contender.
    all: Vec<Option<Value>>,
}

impl Line<'_> {
    /// What gort takes, as a part of what Go takes.
    fn to_go(&self) -> Option<f64> {
        let go = whole(self.go).filter(|_| self.told.says != Says::Fact)?;
        Some(whole(self.gort)? / go)
    }

    /// What gort takes, as a part of what the best peer takes.
    fn to_best(&self) -> Option<f64> {
        Some(whole(self.gort)? / self.best?.1)
    }
}

/// A value that can be compared: with all that was asked for.
fn whole(v: Option<Value>) -> Option<f64> {
    v.filter(|v| v.fewer.is_none()).map(|v| v.median)
}

impl Part {
    /// The heading of its section, by which the section is known.
    pub const fn heading(self) -> &'static str {
        match self {
            Part::Runtime => "Channels and goroutines",
            Part::Sync => "Locks, and waiting for each other",
            Part::Time => "Timers",
            Part::Programs => "Programs",
            Part::Scaling => "Scaling",
        }
    }

    const fn about(self) -> &'static str {
        match self {
            Part::Runtime => {
                "Go's benchmarks of its package `runtime`, and the same operations with gort and with the libraries that\n\
                 can express them. The names are Go's, in snake case."
            }
            Part::Sync => "Go's benchmarks of its package `sync`, and the same operations with gort.",
            Part::Time => {
                "Go's benchmarks of the timers in its package `time`, and the same operations with gort."
            }
            Part::Programs => {
                "Larger programs, in Go, gort and other libraries; `ns` and `µs` are for each operation.\n\
                 \n\
                 - `skynet`: a tree with ten children at each node adds up the numbers of its leaves, a million of them.\n\
                 - `ring`: a token goes round 503 goroutines; each hop.\n\
                 - `sieve`: a goroutine for each prime takes out its multiples; each of 2500 primes.\n\
                 - `fan_in`: 1000 goroutines send on one unbuffered channel; each item.\n\
                 - `mpmc_4x4`: four send and four receive, with room for 128; each item.\n\
                 - `yield_10k`: 10,000 goroutines yield 100 times; each time.\n\
                 - `spawn_run`: goroutines that do nothing, 10,000 at a time, a million in all; each.\n\
                 - `park_million`: a million goroutines are started and wait for one channel, and the memory that each\n\
                 \x20 takes; `close_million`: the channel is closed, until all have gone on; each.\n\
                 - `ping_1khz`: every millisecond a goroutine tells another one the time; how late it is there, and the\n\
                 \x20 processor time for each.\n\
                 - `ticker_1ms`: how late a ticker is when nothing else runs.\n\
                 \n\
                 A number in brackets says that it was measured with so many instead, because with more the library failed,\n\
                 or was not tried; such a value is compared with nothing."
            }
            Part::Scaling => {
                "What operations cost beside more and more goroutines that are parked, timers that are pending and channels\n\
                 that are there (the best of three times 100,000 operations); and with more and more Ps, whatever the number of\n\
                 processors. Nanoseconds for each operation, seconds for `skynet`."
            }
        }
    }
}

/// The tables of a section, and what comes into each. The first two have means: their rows are of a kind.
const TABLES: [(&str, &[Says]); 3] =
    [("", &[Says::Time]), ("lateness", &[Says::Delay]), ("memory", &[Says::Memory, Says::Fact])];

impl<'a> Report<'a> {
    /// The sections that something was measured for.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        Part::ALL.into_iter().filter(|&part| self.cases.iter().any(|case| case.part == part))
    }

    /// The section of a part. `chart` is the file of its chart, as the page has to call it.
    pub fn section(&self, part: Part, chart: Option<&str>) -> Section {
        let mut section = Section::new(part.heading());
        section.push(part.about());
        section.push(self.how(part));
        if let Some(chart) = chart {
            section.push(format!("![gort's part of Go's and of the best peer's time]({chart})"));
        }
        match part {
            Part::Scaling => self.scaling(&mut section),
            _ => self.tables(part, &mut section),
        }
        let lost = self.lost(part);
        if !lost.is_empty() {
            section.push(lost);
        }
        let problems = self.problems(part);
        if !problems.is_empty() {
            section.push("What failed:");
            section.push(problems.join("\n"));
        }
        section
    }

    /// How it was measured, with whom, on what and when.
    fn how(&self, part: Part) -> String {
        let Options { rounds, benchtime, procs, .. } = self.options;
        let mut how = String::from("All ran in turns on one machine");
        let _ = match part {
            Part::Scaling => write!(how, "; "),
            _ => write!(how, ", with {procs} processors each; "),
        };
        let _ = match rounds {
            1 => write!(how, "a cell is one measurement"),
            _ => write!(how, "a cell is the median of {rounds} rounds"),
        };
        if part != Part::Programs {
            let _ = write!(how, " of at least {} ms", benchtime.as_millis());
        }
        how.push_str(". Less is better; single rows vary by a quarter from run to run.\n");
        if self.options.extent == crate::case::Extent::Quick && matches!(part, Part::Programs | Part::Scaling)
        {
            how.push_str("**A quick run: the programs had smaller counts** (`compare --list`).\n");
        }
        let has_peers = matches!(part, Part::Runtime | Part::Programs);
        for Missing { name, why } in self.missing.iter().filter(|who| who.name == "Go" || has_peers) {
            let _ = writeln!(how, "**{name} was not there when this was measured: {why}.**");
        }
        let is_here =
            |at: usize| self.cases.iter().any(|case| case.part == part && case.results[at].is_expected());
        let here = self.contenders.iter().enumerate().filter(|(at, _)| is_here(*at));
        let versions: Vec<String> = here
            .map(|(_, who)| match who.role {
                Role::Peer => format!("`{}`: {}", who.name, who.version),
                _ => who.version.clone(),
            })
            .collect();
        how + &format!("\nMeasured {}; {}.", facts(), versions.join("; "))
    }

    fn lines(&self, part: Part) -> Vec<Line<'_>> {
        let cases = self.cases.iter().filter(|case| case.part == part);
        cases.flat_map(|case| (0..case.what.figures().len()).map(|at| self.line(case, at))).collect()
    }

    fn line<'b>(&'b self, case: &'b Case, figure: usize) -> Line<'b> {
        let all: Vec<Option<Value>> = case.results.iter().map(|r| r.value(figure)).collect();
        let who = || self.contenders.iter().zip(&all);
        let of = |role| who().find(|(who, _)| who.role == role).and_then(|(_, value)| *value);
        let peers = who().filter(|(who, _)| who.role == Role::Peer);
        let best = peers.filter_map(|(who, value)| Some((who.name.as_str(), whole(*value)?)));
        let told = case.what.figures()[figure];
        let best = best.min_by(|a, b| a.1.total_cmp(&b.1)).filter(|_| told.says != Says::Fact);
        Line { told, case, go: of(Role::Go), gort: of(Role::Gort), best, all }
    }

    fn tables(&self, part: Part, section: &mut Section) {
        let lines = self.lines(part);
        for (name, says) in TABLES {
            let lines: Vec<&Line> = lines.iter().filter(|line| says.contains(&line.told.says)).collect();
            if !lines.is_empty() {
                if !name.is_empty() {
                    section.push(format!("### {}: {name}", part.heading()));
                }
                section.push(summary(&lines, name != "memory"));
            }
        }
        let peers: Vec<usize> =
            (0..self.contenders.len()).filter(|&at| self.contenders[at].role == Role::Peer).collect();
        let has_peer = |line: &&Line| peers.iter().any(|&at| line.case.results[at].is_expected());
        let lines: Vec<&Line> = lines.iter().filter(has_peer).collect();
        if !lines.is_empty() {
            section.push(format!("### {}: each library", part.heading()));
            let names = peers.iter().map(|&at| self.contenders[at].name.as_str());
            let mut table = Table::new(&["row", "unit", "gort"].into_iter().chain(names).collect::<Vec<_>>());
            for line in lines {
                let cells = peers.iter().map(|&at| match line.all[at] {
                    None if line.case.results[at].is_expected() => "-".to_owned(),
                    value => cell(value),
                });
                let first = [line.told.row.to_owned(), line.told.unit.to_owned(), cell(line.gort)];
                table.push(first.into_iter().chain(cells));
            }
            section.push(table);
        }
    }

    /// A table for the loads and one for the Ps, with a column for each size.
    fn scaling(&self, section: &mut Section) {
        let lines = self.lines(Part::Scaling);
        let is_load = |line: &&Line| matches!(line.case.what, What::Program(p) if p.figures.len() > 1);
        let (loads, ps): (Vec<&Line>, Vec<&Line>) = lines.iter().partition(is_load);
        let of_load = |line: &Line| match line.case.what {
            What::Program(load) => {
                (format!("{} beside {}", line.told.row, load.what), line.case.count as usize)
            }
            What::Row(_, row) => (row.name.to_owned(), line.case.count as usize),
        };
        let of_ps = |line: &Line| (line.told.row.to_owned(), line.case.procs);
        if !loads.is_empty() {
            section.push("Beside so many:");
            section.push(self.pivot(&loads, of_load));
        }
        if !ps.is_empty() {
            section.push("With so many Ps:");
            section.push(self.pivot(&ps, of_ps));
        }
    }

    fn pivot(&self, lines: &[&Line], place: impl Fn(&Line) -> (String, usize)) -> Table {
        let (mut rows, mut sizes) = (Vec::new(), Vec::new());
        for (row, size) in lines.iter().map(|line| place(line)) {
            if !rows.contains(&row) {
                rows.push(row);
            }
            if !sizes.contains(&size) {
                sizes.push(size);
            }
        }
        sizes.sort();
        let heads: Vec<String> =
            ["row", "who"].map(str::to_owned).into_iter().chain(sizes.iter().map(usize::to_string)).collect();
        let mut table = Table::new(&heads.iter().map(String::as_str).collect::<Vec<_>>());
        for row in &rows {
            for (at, who) in self.contenders.iter().enumerate().filter(|(_, who)| who.role != Role::Peer) {
                let values = sizes.iter().map(|size| {
                    let line = lines.iter().find(|line| place(line) == (row.clone(), *size));
                    line.map_or(String::new(), |line| line.all[at].map_or("-".to_owned(), |v| cell(Some(v))))
                });
                let first = [row.clone(), who.name.clone()];
                table.push(first.into_iter().chain(values));
            }
        }
        table
    }

    /// The rows of a part in which gort is not the fastest; empty if there are none.
    pub fn lost(&self, part: Part) -> String {
        let lines = self.lines(part);
        // What does not show in two digits is no loss.
        let is_lost = |ratio: f64| ratio >= 1.005;
        let list = |ratio: &dyn Fn(&Line) -> Option<(f64, String)>| -> Vec<String> {
            let mut lost: Vec<(f64, String)> =
                lines.iter().filter_map(ratio).filter(|(ratio, _)| is_lost(*ratio)).collect();
            lost.sort_by(|a, b| b.0.total_cmp(&a.0));
            lost.into_iter().map(|(_, text)| text).collect()
        };
        let to_go = list(&|line| line.to_go().map(|r| (r, format!("`{}` {r:.2}", label(line)))));
        let to_best = list(&|line| {
            let (ratio, (who, _)) = (line.to_best()?, line.best?);
            Some((ratio, format!("`{}` {ratio:.2} ({who})", label(line))))
        });
        let mut text = String::new();
        if !to_go.is_empty() {
            let _ = writeln!(text, "Lost to Go (gort/Go): {}.", to_go.join(", "));
        }
        if !to_best.is_empty() {
            let blank = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{blank}Lost to the best peer (gort/peer): {}.", to_best.join(", "));
        }
        text
    }

    /// The bars of a part's chart: all that is a time.
    pub fn bars(&self, part: Part) -> Vec<Bar> {
        let is_time = |line: &&Line| matches!(line.told.says, Says::Time | Says::Delay);
        let bar = |line: &Line| Bar { label: label(line), to_go: line.to_go(), to_best: line.to_best() };
        let lines = self.lines(part);
        lines
            .iter()
            .filter(is_time)
            .map(bar)
            .filter(|bar| bar.to_go.is_some() || bar.to_best.is_some())
            .collect()
    }

    /// The items of a list: for each reason of a contender one.
    fn problems(&self, part: Part) -> Vec<String> {
        let mut items = Vec::new();
        for case in self.cases.iter().filter(|case| case.part == part) {
            for (who, results) in self.contenders.iter().zip(&case.results) {
                for same in results.problems.chunk_by(|a, b| a.1 == b.1) {
                    let counts: Vec<String> = same.iter().map(|(count, _)| count.to_string()).collect();
                    let with =
                        if case.count == 0 { String::new() } else { format!(" with {}", counts.join(", ")) };
                    items.push(format!("- {}, `{}`{with}: {}", who.name, case.what.name(), same[0].1));
                }
            }
        }
        items
    }
}

/// What a line is called where it stands alone.
fn label(line: &Line) -> String {
    match (line.case.part, line.case.what) {
        (Part::Scaling, What::Program(load)) if load.figures.len() > 1 => {
            format!("{}, {} {}", line.told.row, line.case.count, load.what)
        }
        (Part::Scaling, _) => format!("{}, {} Ps", line.told.row, line.case.procs),
        _ => line.told.row.to_owned(),
    }
}

fn summary(lines: &[&Line], has_mean: bool) -> Table {
    let has_peers = lines.iter().any(|line| line.best.is_some());
    let mut heads = vec!["row", "unit", "Go", "gort", "gort/Go"];
    if has_peers {
        heads.extend(["best peer", "its", "gort/peer"]);
    }
    let mut table = Table::new(&heads);
    let ratio = |r: Option<f64>| r.map_or(String::new(), |r| format!("{r:.2}"));
    for line in lines {
        let mut cells =
            vec![line.told.row.to_owned(), line.told.unit.to_owned(), cell(line.go), cell(line.gort)];
        cells.push(ratio(line.to_go()));
        if has_peers {
            let (who, its) = line.best.map_or(Default::default(), |(who, its)| (who.to_owned(), number(its)));
            cells.extend([who, its, ratio(line.to_best())]);
        }
        table.push(cells);
    }
    let mean = |ratio: fn(&Line) -> Option<f64>| {
        let ratios: Vec<f64> = lines.iter().filter_map(|line| ratio(line)).collect();
        geometric_mean(&ratios).map_or(String::new(), |mean| format!("**{mean:.2}**"))
    };
    if has_mean {
        let none = String::new;
        let mut cells =
            vec!["**geometric mean**".to_owned(), none(), none(), none(), mean(|line| line.to_go())];
        if has_peers {
            cells.extend([none(), none(), mean(|line| line.to_best())]);
        }
        table.push(cells);
    }
    table
}

fn cell(v: Option<Value>) -> String {
    match v {
        None => String::new(),
        Some(Value { median, fewer: None }) => number(median),
        Some(Value { median, fewer: Some(fewer) }) => format!("{} ({fewer})", number(median)),
    }
}
