//! The command line of the comparison.

use crate::case::Extent;
use crate::harness::procs_from_env;
use std::path::PathBuf;
use std::time::Duration;

/// What `--help` says.
pub const USAGE: &str = "\
usage: compare [OPTIONS] [PART-OF-A-NAME]...

Measures what has one of the parts in its name, or, with its section, begins with it: `sync/` is all of sync.
Without any, all: some minutes to build, and about half an hour.

  --quick           one short round, with smaller counts: about two minutes
  --rounds N        that many rounds, 5 by default
  --benchtime MS    time for each row, 200 by default
  --procs P         Ps on all sides; by default GORT_MAXPROCS, or 2
  --no-go           without Go
  --no-peers        without the other libraries
  --write FILE      also write the result to this page, in place of its sections there, and its charts beside it
  --list            only list what there is
  --measure ROW     only measure that row of gort, in this process
";

/// The options.
pub struct Options {
    /// How often everything is measured.
    pub rounds: usize,
    /// How long each row is measured.
    pub benchtime: Duration,
    /// How much there is to measure.
    pub extent: Extent,
    /// How many Ps each side gets.
    pub procs: usize,
    /// The page to write the sections to.
    pub write: Option<PathBuf>,
    /// Whether Go is measured.
    pub go: bool,
    /// Whether other libraries are measured.
    pub peers: bool,
    /// What is to be done.
    pub task: Task,
    parts: Vec<String>,
}

/// What is to be done.
#[derive(PartialEq, Eq, Debug)]
pub enum Task {
    /// The comparison.
    Compare,
    /// Tell what could be measured.
    List,
    /// Tell the options.
    Help,
    /// Measure one row of gort here.
    Measure(String),
    /// What the comparison starts itself for.
    Child(Vec<String>),
}

impl Options {
    /// Reads the arguments.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            rounds: 0,
            benchtime: Duration::ZERO,
            extent: Extent::Full,
            procs: procs_from_env(),
            write: None,
            go: true,
            peers: true,
            task: Task::Compare,
            parts: Vec::new(),
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => options.extent = Extent::Quick,
                "--rounds" => options.rounds = positive(&arg, &mut args)?,
                "--benchtime" => options.benchtime = Duration::from_millis(positive(&arg, &mut args)? as u64),
                "--procs" => options.procs = positive(&arg, &mut args)?,
                "--no-go" => options.go = false,
                "--no-peers" => options.peers = false,
                "--write" => options.write = Some(value(&arg, &mut args)?.into()),
                "--list" => options.task = Task::List,
                "--measure" => options.task = Task::Measure(value(&arg, &mut args)?),
                "--child" => options.task = Task::Child(args.by_ref().collect()),
                "-h" | "--help" => options.task = Task::Help,
                _ if arg.starts_with('-') => return Err(format!("there is no option {arg}; see --help")),
                _ => options.parts.push(arg),
            }
        }
        let (rounds, benchtime) = match options.extent {
            // Shorter, and what ping_pong_hog measures is how its hog gives way once.
            Extent::Quick => (1, Duration::from_millis(50)),
            Extent::Full => (5, Duration::from_millis(200)),
        };
        if options.rounds == 0 {
            options.rounds = rounds;
        }
        if options.benchtime.is_zero() {
            options.benchtime = benchtime;
        }
        Ok(options)
    }

    /// Whether the case of that name, which has its section before it, is to be measured.
    pub fn wants(&self, case: &str) -> bool {
        let name = case.rsplit('/').next().unwrap_or(case);
        let is_of =
            |part: &String| if part.contains('/') { case.starts_with(part) } else { name.contains(part) };
        self.parts.is_empty() || self.parts.iter().any(is_of)
    }
}

fn value(name: &str, rest: &mut impl Iterator<Item = String>) -> Result<String, String> {
    rest.next().ok_or(format!("{name} wants a value"))
}

fn positive(name: &str, rest: &mut impl Iterator<Item = String>) -> Result<usize, String> {
    let value = value(name, rest)?;
    match value.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("{name} wants a number above 0, not {value:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, String> {
        Options::parse(args.iter().map(|&arg| arg.to_owned()))
    }

    #[test]
    fn rows_are_chosen_by_parts_of_their_names() {
        let options = parse(&["--rounds", "3", "sync", "select"]).unwrap();
        assert_eq!(options.rounds, 3);
        assert!(options.wants("chan_sync_work") && options.wants("select_nonblock"));
        assert!(!options.wants("chan_sem"));
        assert!(parse(&[]).unwrap().wants("chan_sem"));
    }

    #[test]
    fn a_part_with_a_slash_is_a_beginning() {
        let options = parse(&["sync/", "time/after", "time/st"]).unwrap();
        assert!(options.wants("sync/mutex") && options.wants("time/after_func_1000"));
        assert!(!options.wants("runtime/chan_sync") && !options.wants("time/simultaneous_after_func_1000"));
        // The end of a section's name is not its beginning.
        assert!(options.wants("time/stop_chan") && !options.wants("runtime/stop"));
        let options = parse(&["sync"]).unwrap();
        assert!(options.wants("runtime/chan_sync") && !options.wants("sync/mutex"));
    }

    #[test]
    fn quick_is_a_default() {
        let options = parse(&["--rounds", "4", "--quick"]).unwrap();
        assert_eq!((options.rounds, options.extent), (4, Extent::Quick));
        assert!(options.benchtime < parse(&[]).unwrap().benchtime);
        assert_eq!(parse(&["--child", "row", "--quick"]).unwrap().task, {
            Task::Child(vec!["row".to_owned(), "--quick".to_owned()])
        });
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |args: &[&str]| parse(args).err().unwrap();
        assert_eq!(refused(&["--rounds"]), "--rounds wants a value");
        assert_eq!(refused(&["--procs", "0"]), "--procs wants a number above 0, not \"0\"");
        assert_eq!(refused(&["--fast"]), "there is no option --fast; see --help");
    }
}
