//! A soak: everything at once for as long as one likes, and at the end the process must be as it was at the start.
//!
//! Half of the time at 2 Ps, half at 8, a few dozen goroutines do rounds chosen at random: channels, `select!`, timers, locks and the
//! rest of `sync`, contexts, scopes, panics, locked goroutines, blocking calls, plain threads, runtimes made and dropped. Each
//! round checks its own results. What is compared at the end, and what may differ, says [`Usage::compare`].
//!
//! The rounds of a worker follow from the seed and the worker's number. How they interleave does not.

use gort::sync::{Barrier, Condvar, ErrGroup, Mutex, Once, RwLock, Semaphore, WaitGroup};
use gort::{Deadlock, Runtime, blocking, chan, channel, context, go, scope, select, time};
use gort_examples::{Opt, Random, argument, say};
use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{catch_unwind, panic_any};
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Goroutines that do rounds at once.
const WORKERS: u64 = 24;
/// A round that takes longer than this hangs.
const LIMIT: Duration = Duration::from_secs(120);
/// Between two panics that reach the root of a goroutine, and so are reported on stderr; and between two goroutines that end with
/// their threads locked.
const RARELY: Duration = Duration::from_secs(20);
/// How many goroutines end with their threads locked, in all: each leaves some memory behind (docs/safety.md),
/// which would hide what else grows.
const END_LOCKED: u64 = 10;
const MS: Duration = Duration::from_millis(1);

/// Rounds done.
static ROUNDS: AtomicU64 = AtomicU64::new(0);

fn main() {
    let seconds = argument(
        "Everything at once, half of the time at 2 Ps and half at 8; at the end the process must be as it was at the start.\n\
         GORT_SOAK_SEED=N repeats the rounds of a run.",
        Opt { name: "SECONDS", default: 2, range: 1..=1_000_000, about: "how long" },
    ) as u64;
    let seed = match std::env::var("GORT_SOAK_SEED") {
        Err(_) => Random::new().below(usize::MAX) as u64,
        Ok(text) => text.parse().unwrap_or_else(|_| {
            eprintln!("soak: GORT_SOAK_SEED={text:?} is not a number");
            exit(2)
        }),
    };
    say!("seed {seed}; {seconds} s, and some to warm up before and to settle after");
    // What the rounds panic with is expected; what is not ends the run by its assertion's message.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() != Some(&EXPECTED) {
            usual(info);
        }
    }));
    thread::spawn(watch);
    // Threads, the heap's arenas and stacks reach their largest number.
    for procs in [2, 8] {
        phase(procs, seed, Duration::from_secs((seconds / 20).clamp(1, 30)), None);
    }
    let start = settled(|usage| usage.goroutines == 0);
    say!("start: {start}");
    for procs in [2, 8] {
        phase(procs, seed, Duration::from_secs(seconds) / 2, Some(Instant::now()));
    }
    let end = settled(|usage| start.compare(usage).is_empty());
    say!("end: {end}; {} rounds", ROUNDS.load(Relaxed));
    let wrong = start.compare(&end);
    for line in &wrong {
        eprintln!("soak: {line}");
    }
    if !wrong.is_empty() {
        eprintln!("soak: FAILED, seed {seed}");
        exit(1);
    }
    say!("as at the start");
}

/// The workers' rounds in a runtime of so many Ps. Tells how it goes if it is told when that began.
fn phase(procs: usize, seed: u64, d: Duration, tell: Option<Instant>) {
    let rt = Runtime::builder().max_procs(procs).deadlock(Deadlock::Ignore).build().expect("a runtime");
    let until = Instant::now() + d;
    let workers: Vec<_> = (0..WORKERS)
        .map(|n| {
            rt.go(move || {
                let mut random = Random::from_seed(seed ^ (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                // As many threads as may block at once.
                blocking(|| thread::sleep(20 * MS));
                while Instant::now() < until {
                    round(&mut random);
                    ROUNDS.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    if let Some(began) = tell {
        let every = (d / 10).clamp(Duration::from_secs(1), Duration::from_secs(60));
        while Instant::now() < until {
            thread::sleep(every.min(until.saturating_duration_since(Instant::now())));
            let now = Usage::now();
            say!("{procs} Ps, {} s: {} rounds; {now}", began.elapsed().as_secs(), ROUNDS.load(Relaxed));
        }
    }
    for worker in workers {
        if worker.join().is_err() {
            eprintln!("soak: FAILED, seed {seed}: a round's check failed; the message is above");
            exit(1);
        }
    }
    let left = rt.shutdown_timeout(LIMIT);
    if left > 0 {
        eprintln!("soak: FAILED, seed {seed}: {left} goroutines never ended");
        exit(1);
    }
}

/// Ends the process with a list of the goroutines if no round is done for long.
fn watch() {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        thread::sleep(Duration::from_secs(1));
        let now = ROUNDS.load(Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        if since.elapsed() > LIMIT {
            eprintln!("soak: FAILED: no round was done for {LIMIT:?}. The goroutines:\n");
            let _ = gort::runtime::dump(&mut std::io::stderr());
            exit(1);
        }
    }
}

// -- What is compared --

/// What the process uses.
struct Usage {
    resident_kib: u64,
    threads: u64,
    descriptors: u64,
    goroutines: usize,
    heap_kib: u64,
}

impl Usage {
    fn now() -> Usage {
        let count = |dir: &str| std::fs::read_dir(dir).map_or(0, |all| all.count() as u64);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident =
            status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        Usage {
            resident_kib: resident.unwrap_or(0),
            threads: count("/proc/self/task"),
            // Without the one of the directory that is read.
            descriptors: count("/proc/self/fd").saturating_sub(1),
            goroutines: gort::num_goroutines(),
            heap_kib: IN_USE.iter().map(|n| n.0.load(Relaxed)).sum::<i64>().max(0) as u64 / 1024,
        }
    }

    /// What differs at the end by more than it may. `self` is the start.
    fn compare(&self, end: &Usage) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |what: &str, start: u64, end: u64, more: u64, why: &str| {
            if end > start + more {
                wrong.push(format!(
                    "{what}: {start} at the start, {end} at the end, tolerated: {more} more, {why}"
                ));
            }
        };
        let why = "for what comes with a thread, and the lists that have room for the largest number so far";
        check("bytes of the heap in use, in KiB", self.heap_kib, end.heap_kib, HEAP_KIB, why);
        let why =
            "for what the allocator keeps for each thread, and its arenas, whose pieces fit less and less";
        let kib = 16 * 1024 + self.resident_kib / 4;
        check("resident size in KiB", self.resident_kib, end.resident_kib, kib, why);
        let why = "for moments at which more goroutines block at once than in any before; the threads stay in a pool";
        check("OS threads", self.threads, end.threads, 2 * WORKERS + LEFT_THREADS, why);
        check("descriptors", self.descriptors, end.descriptors, 0, "none");
        check("goroutines of the global runtime", self.goroutines as u64, end.goroutines as u64, 0, "none");
        wrong
    }
}

/// By how much the bytes in use of the heap may grow: 5 KiB for each thread more, and tables that double when there
/// is more at once than ever before. Between such steps they stay the same to a few hundred bytes.
///
/// The resident size tells less: it grows by some MiB within the first minutes and ever more slowly, because the C
/// library keeps pieces that were given back for each thread and each size, and has several arenas.
const HEAP_KIB: u64 = 1024;
/// Threads that goroutines leave which end with them locked.
const LEFT_THREADS: u64 = if cfg!(target_env = "gnu") { 0 } else { END_LOCKED };

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Usage { resident_kib, threads, descriptors, goroutines, heap_kib } = self;
        write!(
            f,
            "{resident_kib} KiB resident, {heap_kib} KiB of the heap in use, {threads} threads, {descriptors} descriptors, \
             {goroutines} goroutines"
        )
    }
}

/// What the process uses once that is as wanted, or after half a minute: idle stacks go back within seconds, and the last ones to
/// leave a runtime take their time.
fn settled(wanted: impl Fn(&Usage) -> bool) -> Usage {
    let since = Instant::now();
    loop {
        thread::sleep(100 * MS);
        let now = Usage::now();
        if wanted(&now) || since.elapsed() > Duration::from_secs(30) {
            return now;
        }
    }
}

/// The system's allocator, and how many bytes of it are in use: what the process has asked for and not given back.
struct Counts;

#[global_allocator]
static ALLOCATOR: Counts = Counts;

/// Several counters, so that threads seldom meet at one. Their sum counts.
static IN_USE: [Counter; 16] = [const { Counter(AtomicI64::new(0)) }; 16];

#[repr(align(128))]
struct Counter(AtomicI64);

fn count(at: *mut u8, bytes: i64) -> *mut u8 {
    if !at.is_null() {
        IN_USE[(at.addr() >> 12) % IN_USE.len()].0.fetch_add(bytes, Relaxed);
    }
    at
}

// SAFETY: each call is the system allocator's, with the caller's arguments.
unsafe impl GlobalAlloc for Counts {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        count(unsafe { System.alloc(layout) }, layout.size() as i64)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        count(unsafe { System.alloc_zeroed(layout) }, layout.size() as i64)
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        count(unsafe { System.realloc(at, layout, size) }, size as i64 - layout.size() as i64)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(at, -(layout.size() as i64));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

// -- The rounds --

fn round(random: &mut Random) {
    match random.below(64) {
        0..12 => channels(random),
        12..20 => selects(random),
        20..26 => timers(random),
        26..36 => locks(random),
        36..42 => contexts(random),
        42..48 => scopes(random),
        48..52 => panics(random),
        52..55 => locked(random),
        55..58 => blocks(random),
        58..61 => threads(random),
        _ => runtimes(random),
    }
}

/// Producers, consumers, one channel: what comes out is what went in.
fn channels(random: &mut Random) {
    let (producers, consumers, each) = (1 + random.below(4), 1 + random.below(4), random.below(50) as u64);
    let (tx, rx) = channel::<Box<u64>>(random.below(4));
    for _ in 0..producers {
        let tx = tx.clone();
        go!(move || (1..=each).for_each(|n| tx.send(Box::new(n)).expect("there are receivers")));
    }
    drop(tx);
    let takers: Vec<_> = (0..consumers)
        .map(|_| rx.clone())
        .map(|rx| go!(move || rx.iter().map(|n| *n).sum::<u64>()))
        .collect();
    let got: u64 = takers.into_iter().map(|h| h.join().expect("a consumer")).sum();
    assert_eq!(got, producers as u64 * each * (each + 1) / 2, "values were lost or doubled");
}

/// Two channels, a time limit and a default, until both are closed.
fn selects(random: &mut Random) {
    let (a, b) = (chan::<u64>(random.below(2)), chan::<u64>(random.below(2)));
    let each = 1 + random.below(30) as u64;
    for ch in [a.clone(), b.clone()] {
        go!(move || {
            (1..=each).for_each(|n| {
                select! {
                    send(ch, n) => {},
                    recv(time::after(LIMIT)) -> _ => panic!("nobody receives"),
                }
            });
            ch.close();
        });
    }
    let (mut a, mut b, mut sum) = (Some(a), Some(b), 0);
    while a.is_some() || b.is_some() {
        let (left, right) = (a.clone().unwrap_or_default(), b.clone().unwrap_or_default());
        select! {
            recv(left) -> n => match n {
                Some(n) => sum += n,
                None => a = None,
            },
            recv(right) -> n => match n {
                Some(n) => sum += n,
                None => b = None,
            },
            recv(time::after(LIMIT)) -> _ => panic!("nobody sends"),
        }
    }
    assert_eq!(sum, each * (each + 1), "values were lost or doubled");
}

fn timers(random: &mut Random) {
    let d = Duration::from_micros(random.below(2000) as u64);
    match random.below(5) {
        0 => time::sleep(d),
        1 => assert!(time::after(d).recv().is_some()),
        2 => {
            let ticker = time::Ticker::new(d + MS / 10);
            (0..3).for_each(|_| assert!(ticker.c().recv().is_some()));
        }
        3 => {
            let fired = chan(1);
            let tell = fired.clone();
            let timer = time::after_func(d, move || tell.send(()));
            if random.below(2) == 0 || !timer.stop() {
                assert!(fired.recv().is_some());
            }
        }
        _ => {
            let ch = chan::<()>(0);
            assert!(ch.recv_timeout(d).is_err());
        }
    }
}

/// Each part of `sync`, between goroutines of a wait group.
fn locks(random: &mut Random) {
    let n = 2 + random.below(6);
    let group = WaitGroup::new();
    match random.below(5) {
        0 => {
            let shared = Arc::new((Mutex::new(0), RwLock::new(0)));
            for _ in 0..n {
                let shared = shared.clone();
                group.go(move || {
                    *shared.0.lock() += 1;
                    gort::yield_now();
                    *shared.1.write() += 1;
                    assert!(*shared.1.read() > 0);
                });
            }
            group.wait();
            assert_eq!((*shared.0.lock(), *shared.1.read()), (n, n));
        }
        1 => {
            let shared = Arc::new((Mutex::new(false), Condvar::new()));
            for _ in 0..n {
                let shared = shared.clone();
                group.go(move || {
                    let mut ready = shared.0.lock();
                    while !*ready {
                        shared.1.wait(&mut ready);
                    }
                });
            }
            *shared.0.lock() = true;
            shared.1.notify_all();
            group.wait();
        }
        2 => {
            let permits = Arc::new(Semaphore::new(2));
            for i in 0..n {
                let permits = permits.clone();
                group.go(move || {
                    permits.acquire(1 + i % 2);
                    gort::yield_now();
                    permits.release(1 + i % 2);
                });
            }
            group.wait();
            assert_eq!(permits.available(), 2);
        }
        3 => {
            let shared = Arc::new((Barrier::new(n), Once::new(), AtomicU64::new(0)));
            for _ in 0..n {
                let shared = shared.clone();
                group.go(move || {
                    shared.1.call_once(|| _ = shared.2.fetch_add(1, Relaxed));
                    shared.0.wait();
                });
            }
            group.wait();
            assert_eq!(shared.2.load(Relaxed), 1);
        }
        _ => {
            let errors = ErrGroup::<usize>::new();
            for i in 0..n {
                errors.go(move || if i == 1 { Err(i) } else { Ok(()) });
            }
            assert_eq!(errors.wait(), Err(1));
        }
    }
}

fn contexts(random: &mut Random) {
    let (parent, cancel) = context::with_cancel(&context::background());
    let (child, _cancel) = context::with_timeout(&parent, Duration::from_micros(random.below(3000) as u64));
    let named = context::with_value(&child, 7_u64);
    let waits: Vec<_> = (0..1 + random.below(4))
        .map(|_| {
            let ctx = named.clone();
            go!(move || {
                assert!(ctx.done().recv().is_none());
                ctx.value::<u64>().map(|n| *n)
            })
        })
        .collect();
    if random.below(2) == 0 {
        cancel();
    }
    waits.into_iter().for_each(|h| assert_eq!(h.join().expect("a waiter"), Some(7)));
    assert!(child.err().is_some());
}

fn scopes(random: &mut Random) {
    let numbers: Vec<u64> = (0..1 + random.below(500) as u64).collect();
    let sum = AtomicU64::new(0);
    scope(|s| {
        for part in numbers.chunks(50) {
            s.go(|| _ = sum.fetch_add(part.iter().sum(), Relaxed));
        }
    });
    assert_eq!(sum.into_inner(), numbers.iter().sum::<u64>());
}

/// What the rounds panic with.
const EXPECTED: &str = "one of the panics of this program";

/// True once in a while, for one of all workers.
fn rarely(last: &AtomicU64) -> bool {
    static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let (now, then) =
        (BEGIN.get_or_init(Instant::now).elapsed().as_secs() + RARELY.as_secs(), last.load(Relaxed));
    now >= then + RARELY.as_secs() && last.compare_exchange(then, now, Relaxed, Relaxed).is_ok()
}

/// Unwinding over a wait; now and then to the root of the goroutine.
fn panics(random: &mut Random) {
    struct Receives(gort::Chan<()>);
    impl Drop for Receives {
        fn drop(&mut self) {
            self.0.recv();
        }
    }
    static LAST: AtomicU64 = AtomicU64::new(0);
    let ch = chan::<()>(0);
    let waits = ch.clone();
    let body = move || {
        let _waits = Receives(waits);
        panic_any(EXPECTED);
    };
    let to_the_root = rarely(&LAST);
    let h = go!(move || if to_the_root { body() } else { catch_unwind(body).expect_err("it panics") });
    if random.below(2) == 0 {
        gort::yield_now();
    }
    ch.close();
    assert_eq!(h.join().is_err(), to_the_root);
}

/// A goroutine with a thread of its own; now and then it ends with it.
fn locked(random: &mut Random) {
    static LAST: AtomicU64 = AtomicU64::new(0);
    static ENDED_LOCKED: AtomicU64 = AtomicU64::new(0);
    let ends_locked = ENDED_LOCKED.load(Relaxed) < END_LOCKED && rarely(&LAST);
    let d = Duration::from_micros(random.below(300) as u64);
    let h = go!(move || {
        let mine = gort::lock_os_thread();
        let before = thread::current().id();
        time::sleep(d);
        assert_eq!(thread::current().id(), before, "a locked goroutine has changed its thread");
        if ends_locked {
            ENDED_LOCKED.fetch_add(1, Relaxed);
            std::mem::forget(mine);
        }
    });
    h.join().expect("the locked one");
}

/// Calls that block the thread, announced and not.
fn blocks(random: &mut Random) {
    let d = Duration::from_micros(random.below(2000) as u64);
    match random.below(3) {
        0 => blocking(|| thread::sleep(d)),
        1 => thread::sleep(d),
        _ => {
            let text = blocking(|| std::fs::read_to_string("/proc/self/stat"));
            assert!(text.is_ok_and(|t| t.contains("soak")));
        }
    }
}

/// A plain thread on the other side, and a goroutine of the global runtime that it starts.
fn threads(random: &mut Random) {
    let n = random.below(20) as u64;
    let (tx, rx) = channel::<u64>(random.below(2));
    let thread = thread::spawn(move || {
        let global = go!(move || (0..n).for_each(|i| tx.send(i).expect("there is a receiver")));
        global.join().expect("the sender");
    });
    assert_eq!(rx.iter().sum::<u64>(), n * n.saturating_sub(1) / 2);
    blocking(|| thread.join()).expect("the thread");
}

/// A runtime, which ends in each of the ways.
fn runtimes(random: &mut Random) {
    let rt = Arc::new(
        Runtime::builder()
            .max_procs(1 + random.below(3))
            .migrate(random.below(4) > 0)
            .deadlock(Deadlock::Ignore)
            .build()
            .expect("a runtime"),
    );
    let pair = chan::<u64>(0);
    let answers = pair.clone();
    let h = rt.go(move || answers.recv());
    pair.send(1);
    assert_eq!(h.join().expect("the other runtime's goroutine"), Some(1));
    match random.below(4) {
        0 => drop(rt),
        1 => {
            let rt = Arc::into_inner(rt).expect("the only handle");
            rt.go(|| time::sleep(MS / 10));
            assert_eq!(rt.shutdown_timeout(LIMIT), 0);
        }
        2 => {
            // The last handle goes on one of its own goroutines.
            let (last, gone) = (rt.clone(), chan::<()>(0));
            let is_gone = gone.clone();
            let h = rt.go(move || {
                is_gone.recv();
                drop(last);
            });
            drop(rt);
            gone.close();
            h.join().expect("it ends by itself");
        }
        _ => {
            // It ends while a goroutine has its thread, which leaves later.
            let (begun, begins) = std::sync::mpsc::channel();
            let h = rt.go(move || {
                begun.send(()).expect("somebody waits");
                thread::sleep(2 * MS);
            });
            blocking(|| begins.recv()).expect("it begins");
            drop(rt);
            h.join().expect("it ends by itself");
        }
    }
}
