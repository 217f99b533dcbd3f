//! The bed that every integration test lies in: each body at 1, 2, 4 and 64 Ps, under a watchdog that lists the
//! goroutines instead of hanging, with a check that no goroutine is left behind.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod child;

use gort::{Runtime, RuntimeBuilder};
use gort_scheduler::proc::dump;
use gort_scheduler::throw::Stderr;
use std::fmt::Write;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The numbers of Ps at which bodies run.
pub const SIZES: [usize; 4] = [1, 2, 4, 64];

/// How long one body may take at one size. Generous: only a hang takes that long.
const LIMIT: Duration = Duration::from_secs(120);

/// The settings of a test's runtime: so many Ps, and goroutines that migrate as the variable GORT_MIGRATE says, so that
/// all tests can be run in each mode.
pub fn builder(procs: usize) -> RuntimeBuilder {
    let builder = Runtime::builder().max_procs(procs);
    match std::env::var("GORT_MIGRATE").as_deref() {
        Ok("0") => builder.migrate(false),
        Ok("always") => builder.migrate_always(),
        _ => builder,
    }
}

/// Runs `body` as the main goroutine of a fresh runtime, once per size. A goroutine that is still there when the body
/// has returned, and does not end within seconds, fails the test.
#[track_caller]
pub fn at_each_size(body: impl Fn() + Sync) {
    let site = Location::caller();
    for procs in SIZES {
        let _watch = Watchdog::arm(&format!("{site}, {procs} Ps"));
        let rt = builder(procs).build().expect("a runtime");
        rt.run(&body);
        assert_eq!(rt.shutdown_timeout(Duration::from_secs(20)), 0, "goroutines are left, at {procs} Ps");
    }
}

/// As [`at_each_size`] with one size, for bodies about a certain one.
#[track_caller]
pub fn at_size<T: Send>(procs: usize, body: impl FnOnce() -> T + Send) -> T {
    let _watch = Watchdog::arm(&format!("{}, {procs} Ps", Location::caller()));
    let rt = builder(procs).build().expect("a runtime");
    let got = rt.run(body);
    assert_eq!(rt.shutdown_timeout(Duration::from_secs(20)), 0, "goroutines are left, at {procs} Ps");
    got
}

/// Runs `body` on the calling plain thread, and then as a main goroutine at each size. On the plain thread what it
/// spawns goes to the global runtime.
#[track_caller]
pub fn on_both(body: impl Fn() + Sync) {
    {
        let _watch = Watchdog::arm(&format!("{}, plain thread", Location::caller()));
        body();
    }
    at_each_size(body);
}

/// Aborts the process with the list of goroutines if it is not dropped in time.
pub struct Watchdog(Arc<(Mutex<bool>, Condvar)>);

impl Watchdog {
    pub fn arm(what: &str) -> Watchdog {
        let state = Arc::new((Mutex::new(false), Condvar::new()));
        let (shared, what) = (state.clone(), what.to_owned());
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        std::thread::spawn(move || {
            let (done, bell) = &*shared;
            let (done, _) = bell
                .wait_timeout_while(lock(done), LIMIT, |done| !*done)
                .unwrap_or_else(PoisonError::into_inner);
            if !*done {
                let _ = write!(
                    Stderr,
                    "\nWATCHDOG: {test} ({what}) is not done after {LIMIT:?}. Goroutines:\n\n"
                );
                dump(&mut Stderr);
                std::process::abort();
            }
        });
        Watchdog(state)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The message of the panic that `f` ends with.
#[track_caller]
pub fn panic_message<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("expected a panic, but the call returned"),
        Err(payload) => message(&*payload),
    }
}

/// The message of a panic's payload.
pub fn message(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "<no string>".to_owned())
}

/// Waits until `ok` holds, giving way in between; fails after a generous while. For conditions that come true without
/// the caller's doing, such as "that goroutine has parked".
#[track_caller]
pub fn eventually(what: &str, mut ok: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !ok() {
        assert!(start.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        gort::time::sleep(Duration::from_micros(100));
    }
}

/// Waits until the goroutine waits for this reason, as the list of goroutines has it.
#[track_caller]
pub fn until_parked<T>(h: &gort::JoinHandle<T>, reason: &str) {
    let id = h.id();
    eventually(&format!("goroutine {id} waits for {reason}"), || {
        gort_scheduler::proc::goroutines().iter().any(|g| g.id == id && g.state == reason)
    });
}

/// Counts what was made and dropped, so that a test can say that everything was dropped exactly once.
#[derive(Clone, Default)]
pub struct Ledger(Arc<LedgerInner>);

#[derive(Default)]
struct LedgerInner {
    made: AtomicUsize,
    dropped: AtomicUsize,
    doubled: AtomicUsize,
}

/// A value that its [`Ledger`] counts.
pub struct Token {
    ledger: Ledger,
    drops: AtomicU32,
    pub n: usize,
    /// Memory of its own, so that a double drop is a double free.
    _heap: Box<usize>,
}

impl Ledger {
    pub fn token(&self) -> Token {
        let n = self.0.made.fetch_add(1, SeqCst);
        Token { ledger: self.clone(), drops: AtomicU32::new(0), n, _heap: Box::new(n) }
    }

    pub fn made(&self) -> usize {
        self.0.made.load(SeqCst)
    }

    pub fn dropped(&self) -> usize {
        self.0.dropped.load(SeqCst)
    }

    /// Everything that was made has been dropped, once.
    #[track_caller]
    pub fn assert_settled(&self) {
        assert_eq!(self.0.doubled.load(SeqCst), 0, "something was dropped twice");
        assert_eq!(self.made(), self.dropped(), "made and dropped differ");
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.drops.fetch_add(1, SeqCst) > 0 {
            self.ledger.0.doubled.fetch_add(1, SeqCst);
        }
        self.ledger.0.dropped.fetch_add(1, SeqCst);
    }
}

/// Uses the stack down to `depth` bytes below the caller's frame. Not 0.
pub fn dig_here(depth: usize) -> u64 {
    let top = black_box(0_u8);
    dig(std::ptr::from_ref(&top).addr(), depth)
}

#[inline(never)]
fn dig(from: usize, depth: usize) -> u64 {
    let room = black_box([1_u8; 512]);
    let here = std::ptr::from_ref(&room).addr();
    let deeper = if from.wrapping_sub(here) < depth { dig(from, depth) } else { 0 };
    deeper + u64::from(black_box(room)[511])
}

/// A sequence of numbers that is the same for the same seed (splitmix64).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}
