//! The command line of a process that measures one row or program: what the comparison starts.
//!
//! `list` tells what there is, `row NAME PROCS MS` and `program NAME PROCS COUNT` measure: the figures come in one line.
//! A failure is told in one line, too, and by the exit status.

use crate::programs::{Kind, LOADS, Measurement, PROGRAMS, Program};
use crate::row::Row;
use crate::runner::{Host, Runner};
use std::any::Any;
use std::process::ExitCode;
use std::time::Duration;
use std::{panic, process};

/// What a program like that can measure.
pub struct Measures<H> {
    /// What is measured, with its version: `kanal 0.1.1`.
    pub version: String,
    /// Go's benchmarks.
    pub rows: Vec<&'static Row>,
    /// Where they run.
    pub host: H,
    /// How it measures each of the programs that it can express.
    pub program: fn(Kind) -> Option<Measurement>,
}

impl<H: Host> Measures<H> {
    /// The whole of `main`, with those arguments.
    pub fn main(&self, args: &[String]) -> ExitCode {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        match self.obey(&args) {
            Ok(said) => {
                println!("{said}");
                ExitCode::SUCCESS
            }
            Err(problem) => {
                println!("{problem}");
                ExitCode::FAILURE
            }
        }
    }

    /// Does what the arguments say. The answer.
    pub fn obey(&self, args: &[&str]) -> Result<String, String> {
        match *args {
            ["list"] => Ok(self.list()),
            ["row", name, procs, ms] => {
                let row = self.rows.iter().find(|row| row.name == name).ok_or(missing(name))?;
                fail_at_panics();
                let runner = Runner::new(&self.host, number(procs)? as usize);
                Ok(runner.measure(row, Duration::from_millis(number(ms)?)).to_string())
            }
            ["program", name, procs, count] => {
                let program = Program::named(name).and_then(|program| (self.program)(program.kind));
                let measure = program.ok_or(missing(name))?;
                fail_at_panics();
                let figures = measure(number(count)?, number(procs)? as usize);
                let figures: Vec<String> = figures.iter().map(f64::to_string).collect();
                Ok(figures.join(" "))
            }
            _ => Err("arguments: list | row NAME PROCS MILLISECONDS | program NAME PROCS COUNT".to_owned()),
        }
    }

    /// A line with the version, and one for each row and program.
    fn list(&self) -> String {
        let rows = self.rows.iter().map(|row| row.name);
        let can = |program: &&Program| (self.program)(program.kind).is_some();
        let programs = PROGRAMS.iter().chain(LOADS).filter(can).map(|program| program.name);
        [self.version.as_str()].into_iter().chain(rows).chain(programs).collect::<Vec<_>>().join("\n")
    }
}

impl<H: Host> Host for &H {
    fn run(&self, procs: usize, job: crate::Job) -> crate::Outcome {
        (**self).run(procs, job)
    }
}

/// From now on a panic in any goroutine ends the process. Where it ended its goroutine only, the measurement would
/// wait for that one for ever.
pub fn fail_at_panics() {
    panic::set_hook(Box::new(|panic| fail(panic.payload())));
}

/// Ends the process because of a panic with that payload.
pub fn fail(payload: &dyn Any) -> ! {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    println!("{}", text.or_else(|| payload.downcast_ref().copied()).unwrap_or("a panic"));
    process::exit(1)
}

fn missing(name: &str) -> String {
    format!("there is nothing that is called {name}")
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}
