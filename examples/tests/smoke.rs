//! Runs every example as a newcomer would, and looks at what it prints.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Far more than any example needs; only a hang takes that long.
const LIMIT: Duration = Duration::from_secs(120);

const ALL: [&str; 10] = [
    env!("CARGO_BIN_EXE_close_many_senders"),
    env!("CARGO_BIN_EXE_close_moderator"),
    env!("CARGO_BIN_EXE_close_one_sender"),
    env!("CARGO_BIN_EXE_embed"),
    env!("CARGO_BIN_EXE_first_answer"),
    MILLION,
    env!("CARGO_BIN_EXE_ping_pong"),
    env!("CARGO_BIN_EXE_prime_sieve"),
    env!("CARGO_BIN_EXE_producer_consumer"),
    SOAK,
];

/// Those whose argument is a number without a name.
const MILLION: &str = env!("CARGO_BIN_EXE_million");
const SOAK: &str = env!("CARGO_BIN_EXE_soak");

/// Runs a program to its end; fails if it does not come to one.
fn output(program: &str, args: &[&str]) -> Output {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example starts");
    let reader = |mut pipe: Box<dyn Read + Send>| {
        let (tx, rx) = channel();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = tx.send(pipe.read_to_end(&mut bytes).map(|_| bytes));
        });
        rx
    };
    let stdout = reader(Box::new(child.stdout.take().unwrap()));
    let stderr = reader(Box::new(child.stderr.take().unwrap()));
    // The pipes end with the program.
    let [stdout, stderr] = [stdout, stderr].map(|rx| match rx.recv_timeout(LIMIT) {
        Ok(bytes) => bytes.expect("the output can be read"),
        Err(RecvTimeoutError::Timeout) => {
            child.kill().expect("the example can be killed");
            panic!("{program} {args:?} is not done after {LIMIT:?}");
        }
        Err(RecvTimeoutError::Disconnected) => panic!("the reading thread died"),
    });
    Output { status: child.wait().expect("the example has ended"), stdout, stderr }
}

/// What a program prints that must succeed and have nothing to complain of.
fn lines(program: &str, args: &[&str]) -> Vec<String> {
    let out = output(program, args);
    let (stdout, stderr) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert!(out.status.success() && stderr.is_empty(), "{program} {args:?}: {}, {stderr}", out.status);
    stdout.lines().map(str::to_owned).collect()
}

/// Takes the last line off.
#[track_caller]
fn last(lines: &mut Vec<String>) -> String {
    lines.pop().expect("it prints something")
}

/// All lines are numbers below `max`.
#[track_caller]
fn assert_values(lines: &[String], max: usize) {
    for line in lines {
        assert!(line.parse::<usize>().is_ok_and(|n| n < max), "{line:?} is not a value below {max}");
    }
}

#[test]
fn consumers_receive_every_number_once_and_then_exit() {
    let program = env!("CARGO_BIN_EXE_producer_consumer");
    let sizes: [(usize, usize, &[&str]); 3] = [
        (10, 10, &[]),
        (0, 3, &["--producers", "0", "--consumers", "3"]),
        (1000, 7, &["--producers=1000", "--consumers=7", "--capacity=0"]),
    ];
    for (producers, consumers, args) in sizes {
        let mut lines = lines(program, args);
        assert_eq!(last(&mut lines), "finish");
        let mut ids: Vec<usize> =
            lines.iter().filter_map(|l| l.strip_prefix("recive ")).map(|id| id.parse().unwrap()).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..producers));
        assert_eq!(lines.iter().filter(|l| *l == "consumer exist").count(), consumers);
        assert_eq!(lines.iter().filter(|l| *l == "closed").count(), 1);
        assert_eq!(lines.len(), producers + consumers + 1);
    }
}

#[test]
fn one_sender_closes_for_one_and_for_many_receivers() {
    let lines = lines(env!("CARGO_BIN_EXE_close_one_sender"), &["--values=1000", "--receivers", "3"]);
    assert_eq!(lines[0], "one receiver: 1000 values, sum 499500");
    assert_eq!(lines[4], "3 receivers: 1000 values, sum 499500");
    assert_eq!(lines.len(), 5);
}

#[test]
fn the_receiver_stops_many_senders() {
    let program = env!("CARGO_BIN_EXE_close_many_senders");
    for (args, max) in [(&[][..], 100_000), (&["--senders", "50", "--max", "1"], 1), (&["--max=100"], 100)] {
        let mut lines = lines(program, args);
        assert_eq!(last(&mut lines), "send stop signal to senders.");
        assert_values(&lines, max - 1);
    }
}

#[test]
fn the_moderator_stops_everybody() {
    let program = env!("CARGO_BIN_EXE_close_moderator");
    for (args, max) in [(&[][..], 100_000), (&["--senders=20", "--receivers=3", "--max=50"], 50)] {
        let mut lines = lines(program, args);
        let stopped = last(&mut lines);
        let by = stopped.strip_prefix("stopped by ").expect("it says who stopped it");
        let (who, id) = by.split_once('#').expect("who and which one");
        assert!((who == "sender" || who == "receiver") && id.parse::<usize>().is_ok(), "{by:?}");
        assert_values(&lines, max - 1);
        assert!(!lines.contains(&"0".to_owned()), "a 0 is never sent");
    }
}

#[test]
fn the_sieve_prints_primes_only() {
    let program = env!("CARGO_BIN_EXE_prime_sieve");
    let primes: Vec<u64> = lines(program, &[]).iter().map(|l| l.parse().unwrap()).collect();
    assert!(primes.iter().copied().eq((2..=541).filter(|n| (2..*n).all(|d| n % d != 0))));
    assert_eq!(lines(program, &["--primes", "0"]).len(), 0);
}

#[test]
fn ping_pong_tells_the_time_of_a_round() {
    let mut lines = lines(env!("CARGO_BIN_EXE_ping_pong"), &["--rounds", "1000"]);
    let line = last(&mut lines);
    let nanos = line.strip_prefix("1000 rounds, ").and_then(|l| l.strip_suffix(" ns per round"));
    assert!(nanos.is_some_and(|n| n.parse::<u64>().is_ok()), "{line:?}");
}

#[test]
fn the_first_answer_stops_the_others() {
    let program = env!("CARGO_BIN_EXE_first_answer");
    // Whatever the machine is doing, one of them is first.
    let found = lines(program, &["--deadline=60000", "--replicas=100", "--fastest=1"]);
    assert!(found[0].starts_with("replica ") && found[0].ends_with(" was the first of 100"), "{found:?}");
    assert_eq!(found[1], "99 stopped without an answer");
    let late = lines(program, &["--deadline=1", "--replicas=3", "--fastest=60000"]);
    assert_eq!(late, ["nobody answered: context deadline exceeded", "3 stopped without an answer"]);
}

#[test]
fn threads_and_goroutines_share_the_work() {
    assert_eq!(
        lines(env!("CARGO_BIN_EXE_embed"), &[]),
        [
            "9999 results from 100 goroutines",
            "the longest Collatz chain below 10000 starts at 6171 and has 262 numbers"
        ]
    );
}

#[test]
fn a_million_counts_what_it_costs() {
    let lines = lines(MILLION, &["10_000"]);
    assert_eq!(lines[0], "10,000 goroutines parked on one channel, then released by its close:");
    let rows = [
        ("spawn and park", "ns each"),
        ("resident memory", "B each"),
        ("page tables", "B each"),
        ("memory mappings", "before"),
        ("OS threads", "before"),
        ("close until all end", "ns each"),
        ("resident after that", "s"),
    ];
    assert_eq!(lines.len(), 1 + rows.len());
    for (line, (what, unit)) in lines[1..].iter().zip(rows) {
        assert!(line.starts_with(&format!("  {what} ")) && line.ends_with(&format!(" {unit}")), "{line:?}");
    }
    // Each of them has touched a page of its stack at least.
    let resident: usize = lines[2].split_whitespace().rev().nth(2).unwrap().parse().unwrap();
    assert!(resident >= 4096, "{:?}", lines[2]);
}

#[test]
fn a_million_is_a_number() {
    for arg in ["many", "0", "1e6", "-5", "99_999_999_999"] {
        let out = output(MILLION, &[arg]);
        let stderr = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{arg}");
        assert!(stderr.contains(&format!("`{arg}` for GOROUTINES is not a number from 1 to")), "{stderr}");
        assert!(out.stdout.is_empty());
    }
    let out = output(MILLION, &["10", "20"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8(out.stderr).unwrap().contains("unknown argument `20`"));
}

#[test]
fn every_example_explains_itself() {
    for program in ALL {
        let help = lines(program, &["--help"]).join("\n");
        let name = program.rsplit('/').next().unwrap();
        let takes = match program {
            MILLION => "GOROUTINES",
            SOAK => "SECONDS",
            _ => "OPTIONS",
        };
        assert!(help.contains(&format!("Usage: {name} [{takes}]")) && help.contains("--help"), "{help}");
    }
}

#[test]
fn a_soak_says_its_seed_and_ends_as_it_began() {
    let out = output(SOAK, &["1"]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{}, {text}{}", out.status, String::from_utf8_lossy(&out.stderr));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("seed ") && lines[1].starts_with("start: "), "{text}");
    assert_eq!(lines.last(), Some(&"as at the start"));
}

#[test]
fn every_example_refuses_what_it_does_not_know() {
    for program in ALL {
        for arg in ["--no-such-option", "--help=1", "7"] {
            if [MILLION, SOAK].contains(&program) && arg == "7" {
                continue;
            }
            let out = output(program, &[arg]);
            let stderr = String::from_utf8(out.stderr).unwrap();
            assert_eq!(out.status.code(), Some(2), "{program} {arg}");
            assert!(
                stderr.contains(&format!("unknown argument `{arg}`")) && out.stdout.is_empty(),
                "{stderr}"
            );
        }
    }
    let out = output(env!("CARGO_BIN_EXE_close_moderator"), &["--receivers", "0"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8(out.stderr).unwrap().contains("`0` for --receivers is not a number from 1 to"));
}

#[test]
fn an_example_whose_reader_goes_ends_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_prime_sieve"))
        .args(["--primes", "100000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "2\n");
    // The reader is gone now.
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), String::from_utf8(out.stderr).unwrap()), (Some(141), String::new()));
}
