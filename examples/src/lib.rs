//! What the example programs share: options on the command line, lines of output, random numbers, memory.

pub mod memory;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Write};
use std::ops::RangeInclusive;
use std::process::exit;

/// An option that takes a number: `--name N` or `--name=N`.
#[derive(Clone, Debug)]
pub struct Opt {
    /// Without the two dashes.
    pub name: &'static str,
    /// What it is when it is not given.
    pub default: usize,
    /// What it may be.
    pub range: RangeInclusive<usize>,
    /// For `--help`.
    pub about: &'static str,
}

/// The program's options as given on the command line, in the order of `opts`. `about` says what the program shows.
///
/// `--help` prints both and ends the program. A mistake ends it with a message on stderr and exit status 2.
pub fn options<const N: usize>(about: &str, opts: [Opt; N]) -> [usize; N] {
    command_line(|args| parse(args, &opts), |program| help(program, about, &opts))
}

/// The one argument of a program that has no options: a number, `program N`, which need not be given. `arg.name` is
/// what the help calls it. Otherwise as [`options`].
pub fn argument(about: &str, arg: Opt) -> usize {
    command_line(|args| parse_argument(args, &arg), |program| argument_help(program, about, &arg))
}

/// What `parse` makes of the command line; `None` asks for `help`.
fn command_line<T>(
    parse: impl FnOnce(&mut dyn Iterator<Item = String>) -> Result<Option<T>, String>,
    help: impl FnOnce(&str) -> String,
) -> T {
    let mut args = std::env::args_os().map(|a| a.to_string_lossy().into_owned());
    let program = args.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    match parse(&mut args) {
        Ok(Some(values)) => values,
        Ok(None) => {
            say(format_args!("{}", help(program)));
            exit(0)
        }
        Err(mistake) => {
            eprintln!("{program}: {mistake}; `{program} --help` lists what there is");
            exit(2)
        }
    }
}

/// The values; `None` if help is asked for.
fn parse<const N: usize>(
    args: impl IntoIterator<Item = String>,
    opts: &[Opt; N],
) -> Result<Option<[usize; N]>, String> {
    let mut values = opts.each_ref().map(|opt| opt.default);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--help" || arg == "-h" {
            return Ok(None);
        }
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        let known = name.strip_prefix("--").and_then(|name| opts.iter().position(|opt| opt.name == name));
        let Some(i) = known else { return Err(format!("unknown argument `{arg}`")) };
        let Some(value) = value.or_else(|| args.next()) else {
            return Err(format!("`{arg}` wants a number"));
        };
        values[i] = number(&value, name, &opts[i].range)?;
    }
    Ok(Some(values))
}

/// The value; `None` if help is asked for.
fn parse_argument(args: impl IntoIterator<Item = String>, arg: &Opt) -> Result<Option<usize>, String> {
    let mut value = None;
    for text in args {
        if text == "--help" || text == "-h" {
            return Ok(None);
        }
        if value.is_some() || text.starts_with("--") {
            return Err(format!("unknown argument `{text}`"));
        }
        value = Some(number(&text, arg.name, &arg.range)?);
    }
    Ok(Some(value.unwrap_or(arg.default)))
}

/// Reads a number, which may be written as in Rust: `1_000_000`.
fn number(text: &str, name: &str, range: &RangeInclusive<usize>) -> Result<usize, String> {
    text.replace('_', "").parse().ok().filter(|n| range.contains(n)).ok_or_else(|| {
        format!("`{text}` for {name} is not a number from {} to {}", range.start(), range.end())
    })
}

fn help(program: &str, about: &str, opts: &[Opt]) -> String {
    let mut text = format!("{about}\n\nUsage: {program} [OPTIONS]\n\nOptions:\n");
    for Opt { name, default, range, about } in opts {
        let (low, high) = (range.start(), range.end());
        text += &format!("  {:<16} {about}, {low} to {high} (default {default})\n", format!("--{name} N"));
    }
    text + HELP_LINE
}

fn argument_help(program: &str, about: &str, Opt { name, default, range, about: what }: &Opt) -> String {
    let (low, high) = (range.start(), range.end());
    format!(
        "{about}\n\nUsage: {program} [{name}]\n\nArguments:\n  \
         {name:<16} {what}, {low} to {high} (default {default})\n\nOptions:\n{HELP_LINE}"
    )
}

const HELP_LINE: &str = "  --help           says this";

/// Prints a line, as `println!` does; but if nobody reads the output any more (`| head`), the program ends quietly.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { $crate::say(format_args!($($arg)*)) };
}

/// The function behind [`say!`].
pub fn say(line: fmt::Arguments<'_>) {
    match writeln!(std::io::stdout(), "{line}") {
        Ok(()) => {}
        // What a shell shows for a program that SIGPIPE has ended.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => exit(141),
        Err(e) => panic!("cannot write to stdout: {e}"),
    }
}

/// A source of random numbers (xorshift64*). Each goroutine has its own.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A source that starts anywhere.
    pub fn new() -> Random {
        Random(RandomState::new().hash_one(0) | 1)
    }

    /// The source that gives the same numbers for the same seed.
    pub fn from_seed(seed: u64) -> Random {
        Random(seed | 1)
    }

    /// A random number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let random = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(random) * n as u128) >> 64) as usize
    }
}

impl Default for Random {
    fn default() -> Random {
        Random::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTS: [Opt; 2] = [
        Opt { name: "senders", default: 7, range: 1..=100, about: "goroutines that send" },
        Opt { name: "max", default: 1000, range: 2..=usize::MAX, about: "values are below this" },
    ];

    fn parse(args: &[&str]) -> Result<Option<[usize; 2]>, String> {
        super::parse(args.iter().map(|a| a.to_string()), &OPTS)
    }

    #[test]
    fn options_are_read_in_both_forms_and_in_any_order() {
        assert_eq!(parse(&[]), Ok(Some([7, 1000])));
        assert_eq!(parse(&["--max", "5", "--senders=100"]), Ok(Some([100, 5])));
        assert_eq!(parse(&["--senders", "1", "--senders", "2"]), Ok(Some([2, 1000])));
        assert_eq!(parse(&["--max", "5", "-h"]), Ok(None));
    }

    #[test]
    fn mistakes_are_named() {
        for (args, message) in [
            (&["--sender", "1"][..], "unknown argument `--sender`"),
            (&["7"], "unknown argument `7`"),
            (&["--max"], "`--max` wants a number"),
            (&["--senders", "0"], "`0` for --senders is not a number from 1 to 100"),
            (&["--senders=1e3"], "`1e3` for --senders is not a number from 1 to 100"),
            (&["--senders", "-1"], "`-1` for --senders is not a number from 1 to 100"),
            (
                &["--senders=99999999999999999999"],
                "`99999999999999999999` for --senders is not a number from 1 to 100",
            ),
        ] {
            assert_eq!(parse(args), Err(message.to_owned()));
        }
    }

    #[test]
    fn an_argument_is_a_number_and_need_not_be_there() {
        let arg = Opt { name: "GOROUTINES", default: 7, range: 1..=2_000_000, about: "how many" };
        let parse = |args: &[&str]| parse_argument(args.iter().map(|a| a.to_string()), &arg);
        assert_eq!(parse(&[]), Ok(Some(7)));
        assert_eq!(parse(&["1000"]), Ok(Some(1000)));
        assert_eq!(parse(&["1_000_000"]), Ok(Some(1_000_000)));
        assert_eq!(parse(&["5", "--help"]), Ok(None));
        for text in ["many", "", "_", "-1", "0", "1e6", "2_000_001", "99999999999999999999"] {
            let message = format!("`{text}` for GOROUTINES is not a number from 1 to 2000000");
            assert_eq!(parse(&[text]), Err(message));
        }
        assert_eq!(parse(&["5", "6"]), Err("unknown argument `6`".to_owned()));
        assert_eq!(parse(&["--goroutines"]), Err("unknown argument `--goroutines`".to_owned()));
    }

    #[test]
    fn random_numbers_stay_below_the_bound_and_reach_it() {
        let mut random = Random::new();
        let mut seen = [false; 5];
        (0..1000).for_each(|_| seen[random.below(5)] = true);
        assert_eq!(seen, [true; 5]);
    }
}
