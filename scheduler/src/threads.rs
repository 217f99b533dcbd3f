//! Which OS threads of the process could still wake a goroutine, as far as one can know (`proc::deadlock`).
//!
//! - **Ours**: Ms, sysmon and the like. What they do shows elsewhere.
//! - **Users**: plain threads that have taken part in an operation. As long as one lives it may take part in another one;
//!   unless it waits in `run` for its main goroutine.
//! - Threads that were there before the library was first used, and have not used it: they have no handle to anything of ours,
//!   unless one was sent to them. They count only if they have worked since the `run` in question began, for longer than it
//!   takes to fall asleep, or are at work now: they may have been sent something. The process's first thread does not, as
//!   long as it has not used the library: it is the one of test harnesses and the like.
//! - All others: a goroutine, or a user, may have started them with a handle that they will use later. Nobody knows.

use crate::g::{G, Status, WaitReason};
use crate::os::{cpu_time, gettid, is_runnable};
use crate::time::clock::Nanos;
use parking_lot::Mutex;
use std::fs;

#[derive(Clone, Copy)]
enum Kind {
    Ours,
    User(&'static G),
}

struct Threads {
    /// Those that were there at first; `None` before the first use.
    before: Option<Vec<libc::pid_t>>,
    known: Vec<(libc::pid_t, Kind)>,
    /// The `run`s that have not ended: their numbers, and what the threads of `before` had worked when they began.
    runs: Vec<(u64, Vec<Nanos>)>,
    next_run: u64,
    /// How many known threads have ended.
    ended: u64,
}

/// As much work as nobody needs who does nothing but fall asleep.
const WORK: u64 = 1_000_000;

static THREADS: Mutex<Threads> =
    Mutex::new(Threads { before: None, known: Vec::new(), runs: Vec::new(), next_run: 1, ended: 0 });

/// Who could still wake a goroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// Nobody.
    None,
    /// A thread that has used the library.
    Users,
    /// A thread of which nobody knows.
    Unknown,
}

/// All threads of the process; `None` if the system does not say.
fn all() -> Option<Vec<libc::pid_t>> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    tasks.map(|task| task.ok()?.file_name().to_str()?.parse().ok()).collect()
}

impl Threads {
    /// Notes who is there, at the first use of the library.
    fn begin(&mut self) {
        if self.before.is_none() {
            self.before = Some(all().unwrap_or_default());
        }
    }

    fn position(&self, tid: libc::pid_t) -> Option<usize> {
        self.known.iter().position(|known| known.0 == tid)
    }
}

/// The library is used for the first time, or again.
pub fn first_use() {
    THREADS.lock().begin();
}

/// A thread of ours, until this is dropped on it.
#[derive(Debug)]
pub struct Ours(());

impl Ours {
    /// The calling thread is one of ours.
    pub fn begin() -> Ours {
        let mut threads = THREADS.lock();
        threads.begin();
        threads.known.push((gettid(), Kind::Ours));
        Ours(())
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        end();
    }
}

/// The calling thread takes part in its first operation, with this G.
pub fn user_begins(gp: &'static G) {
    let tid = gettid();
    let mut threads = THREADS.lock();
    threads.begin();
    // It may be one of ours.
    if threads.position(tid).is_none() {
        threads.known.push((tid, Kind::User(gp)));
    }
}

/// The calling thread ends.
pub fn end() {
    let mut threads = THREADS.lock();
    if let Some(at) = threads.position(gettid()) {
        threads.known.swap_remove(at);
        threads.ended += 1;
    }
}

/// How many known threads have ended: with it goes what [`others`] may have said of them.
pub fn ended() -> u64 {
    THREADS.lock().ended
}

/// A `run` begins; its number.
pub fn run_begins() -> u64 {
    let mut threads = THREADS.lock();
    threads.begin();
    let number = threads.next_run;
    threads.next_run += 1;
    // Under a model threads are not the system's.
    let before = if cfg!(shuttle) { &[] } else { threads.before.as_deref().unwrap_or_default() };
    let work = before.iter().map(|tid| cpu_time(*tid)).collect();
    threads.runs.push((number, work));
    number
}

/// It ends.
pub fn run_ends(number: u64) {
    THREADS.lock().runs.retain(|run| run.0 != number);
}

/// Who could still wake the main goroutine of this `run`, at some moment of the call.
pub fn others(run: u64) -> Others {
    let threads = THREADS.lock();
    let acts = |kind| match kind {
        Kind::Ours => false,
        Kind::User(gp) => gp.status() != Status::Waiting || gp.wait_reason() != WaitReason::Run,
    };
    if threads.known.iter().any(|known| acts(known.1)) {
        return Others::Users;
    }
    let before = threads.before.as_deref().unwrap_or_default();
    let Some((_, work)) = threads.runs.iter().find(|other| other.0 == run) else { return Others::Unknown };
    let works = |(tid, then): (&libc::pid_t, &Nanos)| cpu_time(*tid).since(*then) > WORK || is_runnable(*tid);
    // SAFETY: takes nothing and cannot fail.
    let first = unsafe { libc::getpid() };
    let strangers = |(tid, _): &(&libc::pid_t, &Nanos)| **tid != first && threads.position(**tid).is_none();
    if before.iter().zip(work).filter(strangers).any(works) {
        return Others::Unknown;
    }
    match all() {
        Some(all) if all.iter().all(|tid| before.contains(tid) || threads.position(*tid).is_some()) => {
            Others::None
        }
        _ => Others::Unknown,
    }
}
