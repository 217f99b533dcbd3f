//! What the command lines of the comparisons have in common.

use crate::harness::procs_from_env;
use std::path::PathBuf;
use std::process::ExitCode;

/// The end of a usage message: the options of [`Options`].
pub const USAGE: &str = "  \
--rounds N        that many rounds
  --procs P         Ps on all sides; by default GORT_MAXPROCS, or 2
  --no-go           without Go
  --write FILE      also write the result to this page, in place of its section there
  --list            only list the rows
";

/// The options that every comparison has.
pub struct Options {
    /// How often everything is measured.
    pub rounds: usize,
    /// How many Ps each side gets.
    pub procs: usize,
    /// The page to write the section to.
    pub write: Option<PathBuf>,
    go: bool,
    parts: Vec<String>,
}

impl Options {
    /// What holds without any option.
    pub fn new(rounds: usize) -> Options {
        Options { rounds, procs: procs_from_env(), write: None, go: true, parts: Vec::new() }
    }

    /// Takes an argument, and its value from those that follow it.
    pub fn take(&mut self, arg: String, rest: &mut impl Iterator<Item = String>) -> Result<(), String> {
        match arg.as_str() {
            "--rounds" => self.rounds = positive(&arg, rest)?,
            "--procs" => self.procs = positive(&arg, rest)?,
            "--no-go" => self.go = false,
            "--write" => self.write = Some(value(&arg, rest)?.into()),
            _ if arg.starts_with('-') => return Err(format!("there is no option {arg}; see --help")),
            _ => self.parts.push(arg),
        }
        Ok(())
    }

    /// Whether the row of that name is to be measured. It may have its package before it: `sync/mutex_spin`.
    pub fn wants(&self, row: &str) -> bool {
        let name = row.rsplit('/').next().unwrap_or(row);
        let is_of =
            |part: &String| if part.contains('/') { row.starts_with(part) } else { name.contains(part) };
        self.parts.is_empty() || self.parts.iter().any(is_of)
    }

    /// Those of the rows that are to be measured: at least one.
    pub fn wanted<T>(&self, rows: impl Iterator<Item = T>, name: fn(&T) -> &str) -> Result<Vec<T>, String> {
        let rows: Vec<T> = rows.filter(|row| self.wants(name(row))).collect();
        if rows.is_empty() { Err("no row has such a name; --list shows them".to_owned()) } else { Ok(rows) }
    }

    /// What `find` finds of Go, unless the comparison is to do without it, or must.
    pub fn go<T>(&self, find: impl FnOnce() -> Result<T, String>) -> Option<T> {
        let found = self.go.then(find)?;
        found.map_err(|problem| eprintln!("Go's column stays empty: {problem}")).ok()
    }
}

/// The value of an option.
pub fn value(name: &str, rest: &mut impl Iterator<Item = String>) -> Result<String, String> {
    rest.next().ok_or(format!("{name} wants a value"))
}

/// The value of an option that must be a number above 0.
pub fn positive(name: &str, rest: &mut impl Iterator<Item = String>) -> Result<usize, String> {
    let value = value(name, rest)?;
    match value.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("{name} wants a number above 0, not {value:?}")),
    }
}

/// How a comparison ends that has told its result, or what kept it from one. False: a measurement failed.
pub fn exit_code(done: Result<bool, String>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, String> {
        let mut args = args.iter().map(|&arg| arg.to_owned());
        let mut options = Options::new(5);
        while let Some(arg) = args.next() {
            options.take(arg, &mut args)?;
        }
        Ok(options)
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
        // The end of a package's name is not its beginning.
        assert!(options.wants("time/stop_chan") && !options.wants("runtime/stop"));
        let options = parse(&["sync"]).unwrap();
        assert!(options.wants("runtime/chan_sync") && !options.wants("sync/mutex"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |args: &[&str]| parse(args).err().unwrap();
        assert_eq!(refused(&["--rounds"]), "--rounds wants a value");
        assert_eq!(refused(&["--procs", "0"]), "--procs wants a number above 0, not \"0\"");
        assert_eq!(refused(&["--fast"]), "there is no option --fast; see --help");
    }
}
