//! A million goroutines wait on one channel, and are released by its close. What does that cost?
//!
//! Not a thread each: a goroutine that waits leaves its OS thread to the next one. What it keeps is its **stack**,
//! which is its own: more than 100 KiB of addresses. Addresses are free. The kernel puts memory behind them page by
//! page, a page being 4 KiB on most machines, when a page is first touched; and a goroutine that waits in `recv` has
//! touched one page only, the topmost, since stacks grow downwards. So a million of them take some 4 GB. On top of
//! that come what `gort` notes of each, and the kernel's page tables, by which the processor finds the page behind an
//! address.
//!
//! The lowest addresses of each stack, its **guard**, nobody may touch. A recursion that goes too deep hits the
//! guard, and the program ends; without one it would go on, and write into the stack of another goroutine. Since
//! Linux 6.13 a guard is a mark in the page tables. Before, it cost a mapping: an entry in the kernel's list of what
//! lies where, of which a process may have 65,530.

use gort::sync::WaitGroup;
use gort::time::{after, sleep};
use gort::{Chan, JoinHandle, chan, go, num_goroutines, select};
use gort_examples::memory::{Usage, available, page_size};
use gort_examples::{Opt, argument, say};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use std::fs;
use std::io::{IsTerminal, stdout};
use std::time::{Duration, Instant};

/// Bytes that a goroutine needs beside its page: its share of the page tables, and what gort notes of it.
const BESIDE: u64 = 1 << 10;
/// Bytes that gort keeps of each goroutine that has ended, for the next one to use: the notes.
const KEPT: u64 = 200;
/// Bytes of stacks that gort keeps for the next ones, some hundreds, however many there were.
const KEPT_STACKS: u64 = 2 << 20;
/// The kernel gets the memory back in the background, up to a second later. Nothing is lost if we do not wait for it.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() {
    let wanted = argument(
        "A million goroutines wait on one channel, and are released by its close; prints what that costs.",
        Opt { name: "GOROUTINES", default: 1_000_000, range: 1..=4_000_000, about: "how many" },
    );
    let count = with_enough_memory(with_enough_mappings(wanted));
    gort::run(|| park_and_release(count).print());
}

fn park_and_release(count: usize) -> Costs {
    let progress = Progress::new(count);
    let before = Usage::now();

    // Nobody ever sends on this channel: whoever receives from it waits until it is closed.
    let gate = chan::<()>(0);
    let (parked, finished) = (WaitGroup::new(), WaitGroup::new());
    parked.add(count as isize);
    finished.add(count as isize);

    let start = Instant::now();
    for _ in 0..count {
        // Clones are the same channel and the same groups, for the goroutine to own.
        let (gate, parked, finished) = (gate.clone(), parked.clone(), finished.clone());
        go!(move || {
            parked.done();
            gate.recv();
            finished.done();
        });
    }
    // When this goes on, all but the very last ones wait already.
    parked.wait();
    let spawning = start.elapsed();
    let peak = Usage::now();

    progress.now("releasing");
    let start = Instant::now();
    gate.close();
    finished.wait();
    let releasing = start.elapsed();

    progress.now("returning memory");
    let memory = wait_for_return(before.resident, peak.resident, count);
    progress.end();
    Costs { count: count as u64, before, peak, spawning, releasing, memory }
}

/// Waits until the kernel has most of the memory back that has been used since `before`.
fn wait_for_return(before: u64, peak: u64, count: usize) -> Kept {
    let little = peak.saturating_sub(before) / 10 + KEPT * count as u64 + KEPT_STACKS;
    let start = Instant::now();
    loop {
        let bytes = Usage::now().resident.saturating_sub(before);
        let waited = start.elapsed();
        if bytes <= little || waited >= PATIENCE {
            return Kept { bytes, waited, little: bytes <= little };
        }
        sleep(Duration::from_millis(100));
    }
}

/// Memory that the kernel does not have back yet.
struct Kept {
    bytes: u64,
    waited: Duration,
    /// Whether it is as little as we waited for.
    little: bool,
}

/// What was measured.
struct Costs {
    count: u64,
    before: Usage,
    /// When all were parked.
    peak: Usage,
    spawning: Duration,
    releasing: Duration,
    memory: Kept,
}

impl Costs {
    fn print(&self) {
        let Costs { count, before, peak, memory, .. } = self;
        say!("{} goroutines parked on one channel, then released by its close:", HumanCount(*count));
        self.time("spawn and park", self.spawning);
        self.bytes("resident memory", peak.resident.saturating_sub(before.resident));
        self.bytes("page tables", peak.page_tables.saturating_sub(before.page_tables));
        row("memory mappings", peak.mappings, format!("{} before", before.mappings));
        row("OS threads", peak.threads, format!("{} before", before.threads));
        self.time("close until all end", self.releasing);
        let word = if memory.little { "after" } else { "still, after" };
        row("resident after that", HumanBytes(memory.bytes), format!("{word} {}", seconds(memory.waited)));
    }

    /// A line with a time, in all and for each.
    fn time(&self, what: &str, time: Duration) {
        row(what, seconds(time), format!("{} ns each", time.as_nanos() / u128::from(self.count)));
    }

    /// A line with a size, in all and for each.
    fn bytes(&self, what: &str, bytes: u64) {
        row(what, HumanBytes(bytes), format!("{} B each", bytes / self.count));
    }
}

/// A line of the table.
fn row(what: &str, value: impl ToString, note: impl ToString) {
    say!("  {what:<20} {:>12}   {:>14}", value.to_string(), note.to_string());
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

/// A bar on the terminal that shows how many goroutines there are. A goroutine of its own draws it.
struct Progress {
    bar: ProgressBar,
    stop: Chan<()>,
    drawing: JoinHandle<()>,
}

impl Progress {
    fn new(count: usize) -> Progress {
        // Drawn on stderr, if that is a terminal. If stdout is not, somebody collects the results: then no bar either.
        let bar = if stdout().is_terminal() { ProgressBar::new(count as u64) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{msg:>16} [{bar:40}] {human_pos} goroutines");
        bar.set_style(style.expect("the template is correct"));
        bar.set_message("spawning");
        let stop = chan(0);
        let drawing = go!(draw(bar.clone(), stop.clone()));
        Progress { bar, stop, drawing }
    }

    /// Says what goes on from now.
    fn now(&self, what: &'static str) {
        self.bar.set_message(what);
    }

    /// Takes the bar away.
    fn end(self) {
        self.stop.close();
        self.drawing.join().expect("the bar can be drawn");
        self.bar.finish_and_clear();
    }
}

/// Moves the bar twenty times a second, until `stop` is closed.
fn draw(bar: ProgressBar, stop: Chan<()>) {
    loop {
        select! {
            recv(stop) -> _ => return,
            recv(after(Duration::from_millis(50))) -> _ => bar.set_position(num_goroutines() as u64),
        }
    }
}

/// As many goroutines as there is memory for: all, or as many as half of what is available will hold. It is for us to
/// ask. Linux promises more memory than there is, and when too much of it is then used, it kills.
fn with_enough_memory(wanted: usize) -> usize {
    let each = page_size() + BESIDE;
    let (need, available) = (wanted as u64 * each, available());
    if need <= available {
        return wanted;
    }
    let why = format!("need {} of memory, {} are available", HumanBytes(need), HumanBytes(available));
    fewer(wanted, available / 2 / each, &why)
}

/// As many goroutines as there are mappings for. Only older kernels need any for guards (see the top): two for each
/// goroutine. Some must be left for the rest of the program.
fn with_enough_mappings(wanted: usize) -> usize {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let mappings: u64 = read("/proc/sys/vm/max_map_count").trim().parse().unwrap_or(65_530);
    let need = wanted as u64 * 3;
    if version >= (6, 13) || need <= mappings {
        return wanted;
    }
    fewer(wanted, mappings / 3, &format!("need Linux 6.13, or `sysctl -w vm.max_map_count={need}`"))
}

/// Says why there will be fewer goroutines than wanted.
fn fewer(wanted: usize, fit: u64, why: &str) -> usize {
    let fit = fit.max(1);
    say!("{} goroutines {why}; taking {}", HumanCount(wanted as u64), HumanCount(fit));
    fit as usize
}
