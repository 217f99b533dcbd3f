//! [`Case`]: one thing to measure, and what the contenders gave.

use crate::contender::{Contender, Measurement, Role};
use crate::harness::{Metric, Row};
use crate::table::median;
use crate::{PACKAGES, Package};
use gort_bench_harness::programs::{LOADS, PROGRAMS, Program, Says};
use std::collections::VecDeque;
use std::time::Duration;

/// What can be measured.
#[derive(Clone, Copy)]
pub enum What {
    /// One of Go's benchmarks.
    Row(&'static Package, &'static Row),
    /// A program.
    Program(&'static Program),
}

/// A figure, with what is needed to tell it.
#[derive(Clone, Copy)]
pub struct Told {
    /// The row of the table.
    pub row: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// What it says.
    pub says: Says,
}

impl What {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            What::Row(_, row) => row.name,
            What::Program(program) => program.name,
        }
    }

    /// Its figures.
    pub fn figures(&self) -> Vec<Told> {
        match self {
            What::Row(_, row) => {
                let says = if row.metric == Metric::Time { Says::Time } else { Says::Delay };
                vec![Told { row: row.name, unit: "ns", says }]
            }
            What::Program(program) => {
                let told = program.figures.iter();
                told.map(|f| Told { row: f.row, unit: f.unit, says: f.says }).collect()
            }
        }
    }
}

/// A section of the page, and the cases that belong to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Go's package `runtime`.
    Runtime,
    /// Go's package `sync`.
    Sync,
    /// Go's package `time`.
    Time,
    /// The programs.
    Programs,
    /// The same with more and more of something.
    Scaling,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 5] = [Part::Runtime, Part::Sync, Part::Time, Part::Programs, Part::Scaling];

    /// What comes before the slash in the name of a case.
    pub const fn name(self) -> &'static str {
        match self {
            Part::Runtime => "runtime",
            Part::Sync => "sync",
            Part::Time => "time",
            Part::Programs => "programs",
            Part::Scaling => "scaling",
        }
    }
}

/// Something to measure.
pub struct Case {
    /// Where it is told.
    pub part: Part,
    /// What is measured.
    pub what: What,
    /// With how many processors.
    pub procs: usize,
    /// With what count; 0 for a row.
    pub count: u64,
    /// One for each contender, in their order.
    pub results: Vec<Results>,
}

/// What a contender gave.
#[derive(Default)]
pub struct Results {
    /// The counts to try, from the largest. The first is the one in use: those before it failed. Empty: it is not measured.
    counts: VecDeque<u64>,
    /// The figures of each round.
    rounds: Vec<Vec<f64>>,
    /// The counts that failed, and why.
    pub problems: Vec<(u64, String)>,
}

/// A median, and with how many it was measured where that is fewer than was asked for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Value {
    /// The median of the rounds.
    pub median: f64,
    /// With how many instead.
    pub fewer: Option<u64>,
}

/// The rows whose costs are told for each number of Ps.
const ON_PS: [&str; 6] = [
    "chan_sync",
    "chan_prod_cons_10",
    "chan_contended",
    "create_goroutines",
    "wakeup_parallel_spinning_10us",
    "mutex",
];

/// How much there is to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// About two minutes for everything.
    Quick,
    /// All of it.
    Full,
}

impl Extent {
    /// The numbers of Ps.
    const fn ps(self) -> &'static [usize] {
        match self {
            Extent::Quick => &[1, 4, 64],
            Extent::Full => &[1, 2, 4, 8, 16, 64],
        }
    }

    /// The sizes of loads.
    const fn loads(self) -> &'static [u64] {
        match self {
            Extent::Quick => &[1000, 100_000],
            Extent::Full => &[1000, 100_000, 1_000_000],
        }
    }

    const fn count(self, program: &Program) -> u64 {
        match self {
            Extent::Quick => program.quick,
            Extent::Full => program.count,
        }
    }
}

impl Case {
    fn new(part: Part, what: What, procs: usize, count: u64) -> Case {
        Case { part, what, procs, count, results: Vec::new() }
    }

    /// Its name, with its section: `sync/mutex_spin`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.part.name(), self.what.name())
    }

    /// Whether it can be measured with so many Ps.
    pub fn makes_sense(&self) -> bool {
        match self.what {
            What::Row(_, row) => row.runs_on(self.procs),
            What::Program(_) => true,
        }
    }

    /// All that there is, in the order of the page.
    pub fn all(procs: usize, extent: Extent) -> Vec<Case> {
        let mut all = Vec::new();
        for (package, part) in PACKAGES.iter().zip([Part::Runtime, Part::Sync, Part::Time]) {
            all.extend(package.rows().map(|row| Case::new(part, What::Row(package, row), procs, 0)));
        }
        for program in PROGRAMS {
            all.push(Case::new(Part::Programs, What::Program(program), procs, extent.count(program)));
        }
        for load in LOADS {
            let what = What::Program(load);
            all.extend(extent.loads().iter().map(|&n| Case::new(Part::Scaling, what, procs, n)));
        }
        let rows = ON_PS.iter().filter_map(|name| row(name));
        for what in rows.chain(Program::named("skynet").map(What::Program)) {
            let count = if let What::Program(program) = what { extent.count(program) } else { 0 };
            all.extend(extent.ps().iter().map(|&ps| Case::new(Part::Scaling, what, ps, count)));
        }
        all
    }

    /// Takes note of who is measured.
    pub fn enter(&mut self, contenders: &[Contender]) {
        let results = contenders.iter().map(|who| {
            let is_here = who.can(self.what) && !(self.part == Part::Scaling && who.role == Role::Peer);
            let mut counts = VecDeque::new();
            if is_here {
                counts.push_back(self.count);
                if let What::Program(program) = self.what {
                    counts.extend(program.fallbacks.iter().filter(|&&less| less < self.count));
                }
            }
            Results { counts, ..Results::default() }
        });
        self.results = results.collect();
    }

    /// Has the contender with that number run it once. After a failure, what was measured so far of it does not count, and
    /// fewer are tried.
    pub fn add_round(&mut self, at: usize, who: &Contender, benchtime: Duration, limit: Duration) {
        let (what, procs) = (self.what, self.procs);
        self.results[at].add(&mut |count| who.run(&Measurement { what, procs, count, benchtime, limit }));
    }
}

fn row(name: &str) -> Option<What> {
    PACKAGES.iter().find_map(|package| {
        let row = package.rows().find(|row| row.name == name)?;
        Some(What::Row(package, row))
    })
}

impl Results {
    fn add(&mut self, run: &mut dyn FnMut(u64) -> Result<Vec<f64>, String>) {
        while let Some(&count) = self.counts.front() {
            match run(count) {
                Ok(figures) => return self.rounds.push(figures),
                Err(problem) => {
                    self.problems.push((count, problem));
                    self.counts.pop_front();
                    self.rounds.clear();
                }
            }
        }
    }

    /// Whether it was to be measured at all.
    pub fn is_expected(&self) -> bool {
        !self.counts.is_empty() || !self.problems.is_empty()
    }

    /// The figure with that number.
    pub fn value(&self, figure: usize) -> Option<Value> {
        let values: Vec<f64> = self.rounds.iter().map(|figures| figures[figure]).collect();
        let fewer = self.counts.front().copied().filter(|_| !self.problems.is_empty());
        median(&values).map(|median| Value { median, fewer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a contender gives that can do as many as `limit`.
    fn results(limit: u64) -> Results {
        let mut results = Results { counts: [1_000_000, 100_000, 10_000].into(), ..Results::default() };
        for round in 0..3 {
            results.add(&mut |count| {
                if count > limit { Err("no".to_owned()) } else { Ok(vec![f64::from(round)]) }
            });
        }
        results
    }

    #[test]
    fn fewer_are_tried_until_it_works() {
        assert_eq!(results(1_000_000).value(0), Some(Value { median: 1.0, fewer: None }));
        let less = results(100_000);
        assert_eq!(less.value(0), Some(Value { median: 1.0, fewer: Some(100_000) }));
        assert_eq!(less.problems, [(1_000_000, "no".to_owned())]);
        let none = results(10);
        assert_eq!((none.value(0), none.problems.len(), none.is_expected()), (None, 3, true));
        assert!(!Results::default().is_expected());
    }

    #[test]
    fn all_that_is_told_of_more_ps_is_a_row() {
        assert!(ON_PS.iter().all(|name| row(name).is_some()));
    }
}
