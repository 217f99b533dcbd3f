//! sysmon: the thread without a P that watches the Ps (Go's `sysmon`).
//!
//! - A P on the same time slice for 10 ms: asks its goroutine to give way at its next operation, and its `runnext`
//!   chain to end (`slice_over`).
//! - A P whose switch counter stood still between two looks while goroutines wait in its queue, with another P idle:
//!   wakes a thief. This is what bounds the wait behind a goroutine that computes (`wake`).
//! - Timers that are due while every M is busy: fires them.
//!
//! It looks every 20 µs after something happened, then less and less often: every 100 µs while a P is idle and another
//! one works, so that a backlog is seen soon; every 10 ms while all work or none does. When all have been idle for
//! a while it sleeps until a P gets busy, so an idle program uses no CPU.
//!
//! S1 (it does not sleep while a P is busy): sysmon: `asleep` is stored, fence, the idle count is read. An M that takes
//! a P: the idle count is stored, fence, `asleep` is read. One of the two sees the other.

use super::wake;
use crate::note::Note;
use crate::sched::Sched;
use crate::sync::atomic::{AtomicBool, Ordering, fence};
use crate::sync::thread;
use crate::time::clock::Nanos;
use crate::tls_probe::Probe;
use std::time::Duration;

const SHORTEST: Duration = Duration::from_micros(20);
/// Between two looks while a P is idle and another one works.
const WATCHFUL: Duration = Duration::from_micros(100);
const LONGEST: Duration = Duration::from_millis(10);
/// Looks at the shortest interval before it grows.
const PATIENCE: u32 = 50;
/// Looks at the longest interval, all Ps idle, before it sleeps for good.
const DROWSY: u32 = 10;
/// A goroutine's time slice (Go's `forcePreemptNS`).
const SLICE: u64 = 10_000_000;

/// What others see of sysmon.
#[derive(Debug)]
pub(crate) struct Sysmon {
    note: Note,
    asleep: AtomicBool,
    started: AtomicBool,
    pub(super) ended: AtomicBool,
}

impl Sysmon {
    pub(crate) fn new() -> Sysmon {
        Sysmon {
            note: Note::new(),
            asleep: AtomicBool::new(false),
            started: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }

    /// True if there is no sysmon that could still look at the scheduler.
    pub(super) fn is_gone(&self) -> bool {
        !self.started.load(Ordering::Acquire) || self.ended.load(Ordering::Acquire)
    }

    /// Has it look whether the scheduler has stopped.
    pub(super) fn wakeup(&self) {
        self.note.wakeup();
    }
}

/// An M has taken a P that was idle. Runs on g0.
pub(super) fn p_is_busy(sched: &'static Sched) {
    let sysmon = &sched.sysmon;
    // ORDERING: pairs with the fence in `deep_sleep` (S1).
    fence(Ordering::SeqCst);
    if sysmon.asleep.load(Ordering::Relaxed) && sysmon.asleep.swap(false, Ordering::Relaxed) {
        sysmon.note.wakeup();
    }
    if !sysmon.started.load(Ordering::Relaxed) && !sysmon.started.swap(true, Ordering::AcqRel) {
        let thread = thread::Builder::new().name("gort-sysmon".to_owned());
        let probe = Probe::begin(&sched.config);
        let watch = move || {
            if let Some(probe) = probe {
                probe.end();
            }
            run(sched);
        };
        if let Err(e) = thread.spawn(watch) {
            crate::throw::fatal(format_args!("cannot start the thread that watches the scheduler: {e}"));
        }
    }
}

/// What sysmon remembers of a P.
#[derive(Clone, Copy)]
struct Look {
    switches: u32,
    schedtick: u32,
    /// When this time slice was first seen.
    since: Nanos,
}

fn run(sched: &'static Sched) {
    // SAFETY: takes two numbers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    let now = Nanos::now();
    let mut looks = vec![Look { switches: 0, schedtick: 0, since: now }; sched.max_procs()];
    let mut delay = SHORTEST;
    let mut quiet = 0;
    while !sched.stopped() {
        sched.sysmon.note.sleep_until(Nanos::now().after(delay));
        let nidle = sched.idle.npidle() as usize;
        if nidle == sched.max_procs() {
            quiet += 1;
            delay = LONGEST;
            if quiet > DROWSY {
                deep_sleep(sched);
                quiet = 0;
                delay = SHORTEST;
            }
            continue;
        }
        sched.timers.run_due(|gp| {
            // SAFETY: the timer won the right to ready it.
            unsafe { super::goready(gp) };
        });
        let woken = look(sched, &mut looks, nidle);
        if woken {
            quiet = 0;
            delay = SHORTEST;
            continue;
        }
        quiet += 1;
        if quiet > PATIENCE || delay > SHORTEST {
            let longest = if nidle > 0 { WATCHFUL } else { LONGEST };
            delay = (delay * 2).min(longest);
        }
    }
    // ORDERING: Release: who frees the scheduler after this sees that we are through with it.
    sched.sysmon.ended.store(true, Ordering::Release);
}

/// Looks at every P once. True if it woke an M.
fn look(sched: &'static Sched, looks: &mut [Look], nidle: usize) -> bool {
    let now = Nanos::now();
    let mut stuck = false;
    for (pp, last) in sched.allp.iter().zip(looks) {
        let w = &*pp.watched;
        let (switches, schedtick) = (w.switches.load(Ordering::Relaxed), w.schedtick.load(Ordering::Relaxed));
        // SAFETY: null or a G, whose memory is never freed; if it has gone on meanwhile it gives way for nothing.
        let running = unsafe { w.curg.load(Ordering::Relaxed).as_ref() };
        // Between two goroutines nothing runs for a moment; only a P that does not switch either is idle.
        let moved = last.switches != switches;
        if last.schedtick != schedtick || (running.is_none() && !moved) {
            *last = Look { switches, schedtick, since: now };
            continue;
        }
        if now.since(last.since) >= SLICE {
            w.slice_over.store(true, Ordering::Relaxed);
            if let Some(gp) = running {
                gp.preempt.store(true, Ordering::Relaxed);
            }
        }
        stuck |= !moved && !pp.thief.is_empty();
        last.switches = switches;
    }
    if stuck && nidle > 0 && sched.idle.nmspinning() == 0 {
        wake::wakep(sched);
        return true;
    }
    false
}

/// Sleeps until a P gets busy or the scheduler stops.
fn deep_sleep(sched: &'static Sched) {
    let sysmon = &sched.sysmon;
    sysmon.asleep.store(true, Ordering::Relaxed);
    // ORDERING: pairs with the fence in `p_is_busy` (S1), and with the one in `shutdown`.
    fence(Ordering::SeqCst);
    while sysmon.asleep.load(Ordering::Relaxed)
        && sched.idle.npidle() as usize == sched.max_procs()
        && !sched.stopped()
    {
        sysmon.note.sleep();
    }
    sysmon.asleep.store(false, Ordering::Relaxed);
}
