//! Goroutines that stay on their thread (`Migration::Never`), while another one blocks it.
//!
//! A goroutine that holds a lock of `std`, or of C, over a wait stays on its M. If another goroutine of that M then blocks the
//! thread for the lock, the P is taken from the M, and all others go on; but the holder is ready and can run nowhere
//! else, so the lock is never released. Nothing can be done about it: a goroutine that changed its thread would break what the mode
//! is for. So it is said: once for each scheduler by sysmon, if it lasts for a second ([`Watch`]), and in each dump.
//!
//! **Rejected**: starting no goroutine on an M to which one that waits belongs (each goroutine that waits would be a thread; which
//! of them holds a lock cannot be seen); running the holder elsewhere while its thread is blocked (its thread-locals are in use there).
//!
//! What is looked at: the queue of the M (`home`) is not empty, a goroutine is running on it or has locked it, and the thread
//! sleeps in the kernel, all at about the same moment. An M that waits in line for a P runs none.

use crate::config::Migration;
use crate::g::{G, GoroutineId, Status};
use crate::gpool;
use crate::m::M;
use crate::os;
use crate::sched::Sched;
use crate::sync::atomic::Ordering;
use crate::throw::report;
use crate::time::clock::Nanos;
use std::fmt::Write;
use std::time::Duration;

/// Goroutines that are named.
const NAMED: usize = 10;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How long it lasts before it is said.
const PATIENCE: u64 = 1_000_000_000;

const REMEDY: &str = "\
If it waits for a lock of `std` that one of them holds, or for one of them with the thread locked, none of them ever goes on: with \
`migrate(false)` do neither. The locks of `gort::sync` may be held over a wait (docs/safety.md, \"Staying on a thread\").";

/// What sysmon remembers of it.
pub(super) struct Watch {
    next: Nanos,
    /// Ms whose thread has not run while goroutines waited for it: since when, and the processor time that it had used then.
    asleep: Vec<(&'static M, Nanos, Nanos)>,
    /// How long it lasts before all goroutines are searched for the one that blocks it.
    patience: u64,
    said: bool,
}

impl Watch {
    pub(super) fn new(sched: &'static Sched) -> Watch {
        // A model's threads are not the system's.
        let said = cfg!(shuttle) || sched.config.migration != Migration::Never;
        Watch { next: Nanos(0), asleep: Vec::new(), patience: PATIENCE, said }
    }

    /// Looks, unless it did a moment ago. Whether it should look again soon, whatever happens until then.
    pub(super) fn look(&mut self, sched: &'static Sched) -> bool {
        if self.said {
            return false;
        }
        let now = Nanos::now();
        if now >= self.next {
            self.next = now.after(PAUSE);
            let before = std::mem::take(&mut self.asleep);
            for mp in with_home(sched) {
                let cpu = os::cpu_time(mp.tid.load(Ordering::Relaxed));
                let known = before.iter().find(|(other, _, then)| std::ptr::eq(*other, mp) && *then == cpu);
                self.asleep.push(known.copied().unwrap_or((mp, now, cpu)));
            }
            if let Some((mp, ..)) =
                self.asleep.iter().find(|(_, since, _)| now.since(*since) >= self.patience)
            {
                // If it is something else (it waits in line for a P), it is not worth a search each second.
                self.patience *= 2;
                if let Some(text) = describe(mp) {
                    self.said = true;
                    report(format_args!("gort: {text}. This has lasted for a second. {REMEDY}"));
                }
            }
        }
        !self.asleep.is_empty()
    }
}

/// The Ms for which goroutines of their own wait.
fn with_home(sched: &'static Sched) -> Vec<&'static M> {
    sched.ms.lock().iter().copied().filter(|mp| !mp.home.is_empty()).collect()
}

/// The goroutine that runs on an M, or waits and has it locked.
fn blocker(mp: &'static M) -> Option<&'static G> {
    let mut found = None;
    gpool::for_each(|gp| {
        let blocks = match gp.status() {
            Status::Running => true,
            // The status first: of a G that waits all else is constant.
            Status::Waiting => gp.locks.get() > 0,
            _ => false,
        };
        // The M of a plain thread's G is one that it had as a goroutine's.
        if blocks && !gp.is_thread() && std::ptr::eq(gp.m.load(Ordering::Relaxed), mp) {
            found = Some(gp);
        }
    });
    found
}

/// Which goroutines wait for the thread of this M, and which one blocks it; `None` if it is not so.
fn describe(mp: &'static M) -> Option<String> {
    let tid = mp.tid.load(Ordering::Relaxed);
    let by = blocker(mp).filter(|_| !os::is_runnable(tid))?;
    let mut waiting: Vec<GoroutineId> = Vec::new();
    mp.home.for_each(|gp| waiting.push(gp.0.id()));
    if waiting.is_empty() {
        return None;
    }
    let mut text = format!("OS thread {tid} is blocked by goroutine {}", by.id());
    if let Some(name) = by.name() {
        let _ = write!(text, " {name:?}");
    }
    if let Some(at) = by.spawned_at() {
        let _ = write!(text, " (spawned at {at})");
    }
    let many = waiting.len() > 1;
    text.push_str(if many { ", and goroutines " } else { ", and goroutine " });
    for (i, id) in waiting.iter().take(NAMED).enumerate() {
        let _ = write!(text, "{}{id}", if i == 0 { "" } else { ", " });
    }
    if waiting.len() > NAMED {
        let _ = write!(text, " and {} more", waiting.len() - NAMED);
    }
    text.push_str(if many { ", which are ready and stay" } else { ", which is ready and stays" });
    text.push_str(" on that thread, cannot run");
    Some(text)
}

/// What a dump says of all schedulers.
pub(super) fn for_dump() -> Option<String> {
    let ms = crate::sched::try_with_all(|all| {
        let never = all.iter().filter(|sched| sched.config.migration == Migration::Never && !sched.stopped());
        never.flat_map(|sched| with_home(sched)).collect::<Vec<_>>()
    })?;
    let mut text = String::new();
    for mp in ms {
        if let Some(line) = describe(mp) {
            let _ = writeln!(text, "{line}");
        }
    }
    (!text.is_empty()).then_some(text)
}
