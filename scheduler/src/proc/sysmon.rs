//! sysmon: the thread without a P that watches the Ps (Go's `sysmon` and `retake`).
//!
//! - A P on the same time slice for 10 ms: asks its goroutine to give way at its next operation, and its `runnext`
//!   chain to end (`slice_over`). If it has not, and has used a millisecond of its core since, or its thread sleeps in a
//!   call that nobody announced, the P is taken (`handoff`). A thread that has no core at the moment is left alone: another
//!   one would not get one either.
//! - A P whose goroutine has been in the same blocking call for a whole look: is taken if somebody needs it, that is, if
//!   goroutines wait for it or no other P is free for what may come; after 10 ms in any case.
//! - A P whose switch counter stood still between two looks while goroutines wait in its queue or the global one, with another
//!   P idle: wakes a thief. This is what bounds the wait behind a goroutine that computes (`wake`).
//! - Timers that are due while every M is busy: fires them. Timers that are not due yet: has somebody keep the clock for them, if
//!   nobody does. So that others may leave that to it, it says when it will look next ([`Sysmon::looks_before`]).
//! - An M that could not be started, because the system gave no thread: looks whether one that there is should have been woken.
//! - Goroutines that stay on a thread which another one blocks: says so (`stranded`).
//! - The seconds that parks are stamped with ([`Nanos::note`]): keeps them fresh.
//!
//! It looks every 20 µs after something happened, then less and less often: every 100 µs while a P is idle and another
//! one works, so that a backlog is seen soon; every millisecond while a goroutine is in a blocking call or was asked to give
//! way; every 10 ms while all work or none does. When all have been idle for a while it looks whether they will ever be woken
//! (`deadlock`) and sleeps until a P gets busy ([`Doze`]), so an idle program uses no CPU.
//!
//! When the scheduler stops it leaves. If one of the scheduler's own goroutines has ended it, it does before what is the owner's to
//! do (`shutdown`).
//!
//! **Hogs.** Each P that is taken from a goroutine that computes means one more thread. A program with thousands of such
//! goroutines would end up with thousands of threads, which serve it no better than some. So from [`HOGS`] on that have not
//! come back, the slice gets longer with their number squared: new ones are taken off ever more slowly.

use super::deadlock::{self, Doubt, Verdict};
use super::{handoffp, shutdown, stranded, systemstack, timers, wake};
use crate::doze::Doze;
use crate::os;
use crate::p::P;
use crate::sched::Sched;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use crate::template;
use crate::threads::{self, Ours};
use crate::time::clock::Nanos;
use crate::tls_probe::Probe;
use std::io;
use std::time::Duration;

const SHORTEST: Duration = Duration::from_micros(20);
/// Between two looks while a P is idle and another one works.
const WATCHFUL: Duration = Duration::from_micros(100);
const LONGEST: Duration = Duration::from_millis(10);
/// Between two looks while a P is held by a blocking call or by a goroutine that was asked to give way.
const IMPATIENT: Duration = Duration::from_millis(1);
/// Looks at the shortest interval before it grows.
const PATIENCE: u32 = 50;
/// Between two looks at what may be a deadlock, at most. They get rarer as it lasts, so that it is found late by no more than it has
/// lasted, and an idle program is not woken for it all the time.
const DOUBT: Duration = Duration::from_secs(10);
/// For so long all Ps are idle before it sleeps for good.
const DROWSY: Duration = Duration::from_millis(100);
/// Between the first deadline and the look that sees whether it was slept through.
const GRACE: Duration = Duration::from_micros(100);
/// Between a look and a deadline that somebody must be woken for.
const NEAR: Duration = Duration::from_micros(200);
/// A goroutine's time slice (Go's `forcePreemptNS`).
const SLICE: u64 = 10_000_000;
/// So many Ms may be out with goroutines that do not give way before others are given more time. By judgement: a few dozen
/// threads per core share it well.
const HOGS: u64 = 64;

/// What others see of sysmon.
#[derive(Debug)]
pub(crate) struct Sysmon {
    doze: Doze,
    pub(super) ended: AtomicBool,
    /// When it will look next, at the latest; if that is past it may be never. Written by sysmon.
    next_look: AtomicU64,
}

impl Sysmon {
    pub(crate) fn new() -> Sysmon {
        Sysmon { doze: Doze::new(), ended: AtomicBool::new(false), next_look: AtomicU64::new(0) }
    }

    /// True if sysmon can look at the scheduler no more.
    pub(crate) fn is_gone(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// True if it will look around well before that deadline, which is in its heap, whatever happens until then; and then
    /// has somebody keep the clock for it, if nobody does.
    ///
    /// It looks after `next_look`, which is after the caller's look at the clock, which is after the caller's fence: so it
    /// finds the deadline there.
    pub(super) fn looks_before(&self, deadline: Nanos) -> bool {
        fence(Ordering::SeqCst);
        // Relaxed: an old one is past.
        let next = Nanos(self.next_look.load(Ordering::Relaxed));
        next.after(NEAR) <= deadline && Nanos::now() < next
    }

    /// If it sleeps because all Ps are idle, has it look around once more.
    pub(crate) fn nudge(&self) {
        self.doze.rouse();
    }

    /// Has it look whether the scheduler has stopped.
    pub(super) fn wakeup(&self) {
        self.doze.wakeup();
    }
}

/// Starts sysmon.
///
/// # Errors
///
/// When the system gives no thread; names the limits.
pub(crate) fn start(sched: &'static Sched) -> io::Result<()> {
    let probe = systemstack(|| Probe::begin(&sched.config));
    template::start_and_wait("gort-sysmon", move |begun| {
        if let Some(probe) = probe {
            probe.end();
        }
        let ours = Ours::begin();
        begun.tell();
        run(sched);
        drop(ours);
    })
}

/// An M has taken a P that was idle. Runs on g0.
pub(super) fn p_is_busy(sched: &'static Sched) {
    sched.sysmon.doze.rouse();
}

/// What sysmon remembers of a P.
#[derive(Clone, Copy)]
struct Look {
    switches: u32,
    schedtick: u32,
    syscalltick: u32,
    /// When this time slice was first seen.
    since: Nanos,
    /// When this blocking call was first seen.
    blocked_since: Nanos,
    asked: Option<Asked>,
}

/// A goroutine has been asked to give way.
#[derive(Clone, Copy)]
struct Asked {
    /// What its thread had used of its core then.
    cpu: Nanos,
    /// When to look what it does, and how long to wait after that.
    next: Nanos,
    wait: Duration,
}

/// What a look at all Ps found.
#[derive(Default)]
struct Seen {
    /// Something was done about it.
    acted: bool,
    /// Something may have to be done soon.
    impatient: bool,
}

fn run(sched: &'static Sched) {
    // SAFETY: takes two numbers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    let now = Nanos::now();
    let fresh =
        Look { switches: 0, schedtick: 0, syscalltick: 0, since: now, blocked_since: now, asked: None };
    let mut looks = vec![];
    let mut delay = SHORTEST;
    let mut delay_in_doubt = LONGEST;
    let mut doubt = Doubt::default();
    let mut stranded = stranded::Watch::new(sched);
    let mut quiet = 0;
    let mut idle_since = None;
    while !sched.stopped() {
        let until = end_of_nap(sched, delay);
        sched.sysmon.next_look.store(until.0, Ordering::Relaxed);
        sched.sysmon.doze.nap(until);
        // ORDERING: Acquire, pairs with the Release in `wake::go_on_without`: what its M was to run is seen.
        if sched.refused.swap(false, Ordering::Acquire) && (!sched.globq.is_empty() || sched.timer_is_due()) {
            wake::start(sched, sched.idle.submitted());
        }
        if sched.first_timer() != Nanos::NEVER {
            sched.timer_is_first();
        }
        let may_be_stranded = stranded.look(sched);
        let nidle = sched.idle.npidle() as usize;
        if nidle == sched.max_procs() {
            let now = Nanos::now();
            delay = LONGEST;
            if now >= idle_since.get_or_insert(now).after(DROWSY) {
                let ended = threads::ended();
                let verdict = deadlock::check(sched, &mut doubt);
                let until = if verdict == Verdict::Unsure || may_be_stranded {
                    delay_in_doubt = (delay_in_doubt * 2).min(DOUBT);
                    Nanos::now().after(delay_in_doubt)
                } else {
                    Nanos::NEVER
                };
                let all_idle = || sched.idle.npidle() as usize == sched.max_procs();
                let refused = || sched.refused.load(Ordering::Relaxed);
                let quiet_yet = || all_idle() && !refused() && !sched.stopped() && threads::ended() == ended;
                sched.sysmon.doze.sleep_while(quiet_yet, until);
                if until == Nanos::NEVER || !all_idle() {
                    idle_since = None;
                    quiet = 0;
                    delay = SHORTEST;
                }
            }
            continue;
        }
        idle_since = None;
        delay_in_doubt = LONGEST;
        if sched.timer_is_due() {
            timers::run_without_p(sched);
        }
        looks.resize(sched.allp.len(), fresh);
        let seen = look(sched, &mut looks, nidle);
        if seen.acted {
            quiet = 0;
            delay = SHORTEST;
            continue;
        }
        quiet += 1;
        if quiet > PATIENCE || delay > SHORTEST {
            let longest = if nidle > 0 {
                WATCHFUL
            } else if seen.impatient {
                IMPATIENT
            } else {
                LONGEST
            };
            delay = (delay * 2).min(longest);
        }
    }
    // Relaxed: published by the state.
    if sched.orphaned.load(Ordering::Relaxed) {
        shutdown::finish(sched);
    }
    let _visit = sched.visit();
    // ORDERING: Release: who frees the scheduler after this sees that we are through with it.
    sched.sysmon.ended.store(true, Ordering::Release);
}

/// How long it may sleep: not much longer than until the first deadline.
fn end_of_nap(sched: &'static Sched, delay: Duration) -> Nanos {
    let now = Nanos::now();
    let end = now.after(delay);
    match sched.first_timer() {
        Nanos::NEVER => end,
        first => end.min(first.max(now).after(GRACE)),
    }
}

/// Looks at every P once.
fn look(sched: &'static Sched, looks: &mut [Look], nidle: usize) -> Seen {
    let now = Nanos::now();
    let mut seen = Seen::default();
    now.note();
    let mut stuck = false;
    for (pp, last) in sched.allp.iter().zip(looks) {
        let w = &*pp.watched;
        let (switches, schedtick) = (w.switches.load(Ordering::Relaxed), w.schedtick.load(Ordering::Relaxed));
        // SAFETY: null or a G, whose memory is never freed; if it has gone on meanwhile it gives way for nothing.
        // ORDERING: Acquire, pairs with the Release in `schedule::run`.
        let running = unsafe { w.curg.load(Ordering::Acquire).as_ref() };
        // Between two goroutines nothing runs for a moment; only a P that does not switch either is idle.
        let moved = last.switches != switches;
        if let Some(gp) = running
            && gp.in_syscall.load(Ordering::Relaxed)
        {
            look_at_syscall(sched, pp, last, now, &mut seen);
        }
        if last.schedtick != schedtick || (running.is_none() && !moved) {
            (last.switches, last.schedtick, last.since, last.asked) = (switches, schedtick, now, None);
            continue;
        }
        if now.since(last.since) >= slice(sched) {
            w.slice_over.store(true, Ordering::Relaxed);
            // At the end of a blocking call it finds out by itself.
            if let Some(gp) = running
                && !gp.in_syscall.load(Ordering::Relaxed)
            {
                gp.ask_to_give_way();
            }
            if !moved {
                seen.acted |= look_at_hog(sched, pp, &mut last.asked, now);
            }
            seen.impatient = true;
        }
        let waiting = !pp.runq.is_empty() || !sched.globq.is_empty();
        stuck |= waiting && !moved;
        last.switches = switches;
    }
    if stuck && nidle > 0 && sched.idle.nmspinning() == 0 {
        wake::wakep(sched);
        seen.acted = true;
    }
    seen
}

/// Takes a P whose goroutine has been asked to give way and computes or sleeps all the same. True: it was taken.
fn look_at_hog(sched: &'static Sched, pp: &'static P, asked: &mut Option<Asked>, now: Nanos) -> bool {
    // SAFETY: null or an M, and Ms are never freed.
    let Some(mp) = (unsafe { pp.watched.m.load(Ordering::Relaxed).as_ref() }) else { return false };
    let tid = mp.tid.load(Ordering::Relaxed);
    let cpu = os::cpu_time(tid);
    let Some(before) = asked else {
        *asked = Some(Asked { cpu, next: now.after(IMPATIENT), wait: IMPATIENT });
        return false;
    };
    if now < before.next {
        return false;
    }
    let computes = u128::from(cpu.since(before.cpu)) >= IMPATIENT.as_nanos();
    if computes || !os::is_runnable(tid) {
        return handoffp::retake(sched, pp, computes);
    }
    before.wait *= 2;
    before.next = now.after(before.wait);
    false
}

/// Takes a P whose goroutine is in a blocking call, if it has been there at the last look and somebody needs the P.
fn look_at_syscall(sched: &'static Sched, pp: &'static P, last: &mut Look, now: Nanos, seen: &mut Seen) {
    let tick = pp.watched.syscalltick.load(Ordering::Relaxed);
    seen.impatient = true;
    if tick != last.syscalltick {
        (last.syscalltick, last.blocked_since) = (tick, now);
        return;
    }
    let others_free = sched.idle.npidle() + sched.idle.nmspinning() > 0;
    let needed = !others_free || sched.idle.nwanting() > 0 || handoffp::has_work(sched, pp);
    if needed || now.since(last.blocked_since) >= SLICE {
        seen.acted |= handoffp::retake(sched, pp, false);
    }
}

/// How long a goroutine runs before it is asked to give way; see the module.
fn slice(sched: &'static Sched) -> u64 {
    // Relaxed: a hint.
    let hogs = u64::from(sched.nhogs.load(Ordering::Relaxed)).max(HOGS);
    SLICE * hogs * hogs / (HOGS * HOGS)
}
