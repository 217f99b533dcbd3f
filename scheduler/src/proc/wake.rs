//! Making goroutines runnable, and deciding when another M is woken for them.
//!
//! **Where it goes.** A readied or new goroutine goes into the `runnext` of the caller's P; without a P, into the
//! global queue. Work in there is found by nobody in particular, so putting it there follows the handshake of `idle` to
//! the letter.
//!
//! **Who is woken.** Work in a local queue has an M that is awake and will run it; waking another M makes sense only
//! if the work would *wait longer where it is than the move costs*. A move costs a futex call here, some microseconds
//! of wake-up there, and cache lines that change cores. The expected wait is the length of the queue times the
//! time that this P's goroutines take between two switches ([`crate::p::Estimate`], measured).
//!
//! - Goroutines that hand values to each other switch every hundred nanoseconds: their queue is gone before a thief
//!   is awake. Nobody is woken, and they stay together in one core's cache.
//! - Goroutines that compute for tens of microseconds get another M as soon as one of them waits.
//! - A fast P whose goroutine suddenly computes for long, with others behind it, makes no call into the runtime:
//!   sysmon sees its switch counter stand still, and wakes a thief for it (`sysmon`). So does a P that has measured
//!   nothing yet, and counts as fast: the goroutines of a program spread once one of them is seen to compute.
//! - Goroutines that are in each other's way are not taken apart, however many they are (`crowd`).
//!
//! **What a thief takes.** The same comparison, seen from outside (`find_runnable`): a victim that will be through
//! with its queue soon is left alone; one whose counter stands still is stolen from, `runnext` last of all.
//!
//! **Rejected**: waking for every ready and stealing every backlog, as Go does (a pair that exchanges values is torn
//! apart by each thief and pays two cross-core moves per value; docs/wake-policy.md has the numbers); a fixed backlog
//! (right for channel traffic, but two goroutines of a millisecond each would run one after the other); counting a P
//! that has measured nothing as slow (its goroutines spread at the start, run slower for it, and so stay spread).

use super::waiting::make_runnable;
use super::{crowd, procresize, shutdown};
use crate::fork;
use crate::g::{G, Status};
use crate::gpool;
use crate::idle::{PutP, Spinner, Wake};
use crate::m::{self, Errand, M};
use crate::os;
use crate::p::P;
use crate::runq::{FULL, Gp};
use crate::sched::Sched;
use crate::stack;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::throw::report;
use std::ptr;

/// What moving a goroutine to another M costs, in nanoseconds: the sleeping M's wake-up, and that what it shares with
/// those it leaves must change cores from then on. By measurement (docs/wake-policy.md).
const WAKE_COST: u64 = 10_000;
/// The same for a thief that is awake. Not less: goroutines that exchange values run slower once they are apart, so with
/// a lower threshold they look worth taking apart because they are. By measurement.
pub(super) const STEAL_COST: u64 = 10_000;

/// Puts a goroutine that has just become Runnable into a queue. `me` is the caller, if that is a goroutine.
#[inline]
pub(super) fn ready(me: Option<&'static G>, gp: &'static G) {
    if stays(gp, true) {
        return;
    }
    let sched = gp.sched().expect("a goroutine has a scheduler");
    match me.and_then(|me| HeldP::of(me, sched)) {
        Some(pp) => runqput(sched, pp.p(), Gp(gp), true),
        None => inject(sched, Gp(gp)),
    }
}

/// Readies a parked goroutine from g0, where `goready` would not know the P: next, or at the tail.
///
/// The caller owns the right to ready `gp`, and its M holds `pp`, if that is given.
pub(super) fn ready_from_g0(sched: &'static Sched, pp: Option<&'static P>, gp: &'static G, next: bool) {
    // Asked before: see `make_runnable`.
    let here = gp.runs_on(sched);
    // SAFETY: the caller owns the right.
    if unsafe { make_runnable(gp) } {
        return;
    }
    if !here {
        ready(None, gp);
    } else if !stays(gp, false) {
        put(sched, pp, gp, next);
    }
}

/// Puts a Runnable goroutine into the queue of the P that the caller holds, or, without one, into the global queue.
pub(super) fn put(sched: &'static Sched, pp: Option<&'static P>, gp: &'static G, next: bool) {
    match pp {
        Some(pp) => runqput(sched, pp, Gp(gp), next),
        None => inject(sched, Gp(gp)),
    }
}

/// Puts a Runnable goroutine that runs on one M only (`home`) where that M will find it; false if it is no such one.
/// `next`: if that is the caller's own M, it runs next.
#[inline]
pub(super) fn stays(gp: &'static G, next: bool) -> bool {
    let wired = gp.wired.get();
    if wired {
        go_home(gp, next);
    }
    wired
}

#[cold]
#[inline(never)]
fn go_home(gp: &'static G, next: bool) {
    let mp = super::park::getm(gp);
    let here = stack::current_head().is_some_and(|me| ptr::eq(super::park::getm(me), mp));
    let home = if gp.locks.get() > 0 { &mp.locked } else { &mp.home };
    if home.put(Gp(gp), next && here) {
        mp.note.wakeup();
    }
}

/// The P of a goroutine that is in the runtime, and so keeps its P, while this lives (`handoff`).
pub(super) struct HeldP {
    mp: &'static M,
    pp: &'static P,
}

impl HeldP {
    /// The caller's P, if it is a goroutine of this scheduler and its P has not been taken.
    #[inline]
    pub fn current(sched: &'static Sched) -> Option<HeldP> {
        HeldP::of(stack::current_head()?, sched)
    }

    /// [`HeldP::current`] for a caller that knows its G, which may be a plain thread's.
    #[inline]
    pub fn of(me: &'static G, sched: &'static Sched) -> Option<HeldP> {
        if !me.runs_on(sched) {
            return None;
        }
        let mp = super::park::getm(me);
        mp.enter();
        let pp = mp.try_p();
        if pp.is_none() {
            mp.handoff.exit();
        }
        pp.map(|pp| HeldP { mp, pp })
    }

    #[inline]
    pub fn p(&self) -> &'static P {
        self.pp
    }
}

impl Drop for HeldP {
    #[inline]
    fn drop(&mut self) {
        self.mp.handoff.exit();
    }
}

/// Puts a goroutine into the local queue: next, or at the tail. The caller holds the P.
#[inline]
pub(super) fn runqput(sched: &'static Sched, pp: &'static P, gp: Gp, next: bool) {
    // SAFETY: the caller holds the P; the reference ends here, before anything can switch stacks.
    let next = next && !unsafe { pp.owned() }.shuffles();
    if next {
        pp.runq.put_next(gp);
    } else {
        pp.runq.put_tail(gp);
    }
    let len = pp.runq.len();
    if len >= FULL {
        pp.runq.spill(&sched.globq);
    }
    wake_for_backlog(sched, pp, len + 1);
}

/// Wakes an M if the last of `waiting` goroutines on this P would wait longer than the move costs.
#[inline]
fn wake_for_backlog(sched: &'static Sched, pp: &'static P, waiting: usize) {
    if sched.idle.npidle() == 0 || sched.idle.nmspinning() != 0 {
        return;
    }
    // Some switches ago, which will do.
    // SAFETY: the caller holds the P.
    let now = || unsafe { pp.owned() }.window.0;
    if waiting as u64 * pp.watched.estimate.nanos() >= WAKE_COST && !crowd::stays_together(pp, now) {
        wakep(sched);
    }
}

/// Puts a goroutine into the global queue. For callers without a P, and for what was preempted.
///
/// From the push on the goroutine may run and end, and its scheduler be shut down; the visit keeps it from being freed.
/// Until the push the goroutine does.
pub(super) fn inject(sched: &'static Sched, gp: Gp) {
    submit(sched, gp, shutdown::abandon_queued);
}

/// The same for one that has just been made, by who makes it.
pub(super) fn inject_new(sched: &'static Sched, gp: Gp) {
    submit(sched, gp, shutdown::drop_queued);
}

/// `late` clears the queue if the scheduler has stopped: all its Ms may have looked for the last time.
fn submit(sched: &'static Sched, gp: Gp, late: fn(&'static Sched)) {
    fork::check();
    let _visit = sched.visit();
    sched.globq.push(gp);
    let wake = sched.idle.submitted();
    start(sched, wake);
    if sched.stopped() {
        late(sched);
    }
}

/// Wakes an M to look for work, if a P is idle and nobody looks. On any stack.
#[cold]
#[inline(never)]
pub(super) fn wakep(sched: &'static Sched) {
    let wake = sched.idle.wakep();
    start(sched, wake);
}

/// Does what the handshake asks for.
#[inline]
pub(super) fn start(sched: &'static Sched, wake: Wake<&'static M>) {
    match wake {
        Wake::Nobody => {}
        Wake::Sleeper(mp, p) => give_p(mp, &sched.allp[p], Errand::Spin(Spinner::from_wakep())),
        Wake::NewM(p) => {
            let errand = Errand::Spin(Spinner::from_wakep());
            match sched.keeper.take() {
                Some(mp) => give_p(mp, &sched.allp[p], errand),
                None => start_new_m(sched, &sched.allp[p], errand),
            }
        }
    }
}

/// Wakes a sleeping M with a P. The caller has taken it out of the list that it slept in.
pub(super) fn give_p(mp: &'static M, pp: &'static P, errand: Errand) {
    mp.set_nextp(pp, errand);
    mp.note.wakeup();
}

/// Gives a P up: to an M that waits in line for one, to the idle list, or for good. The caller holds it, and is no
/// goroutine. What is in its queue, because it was to go to who waits in line, goes to the global one: that M may have got another
/// P meanwhile, and an idle P's queue is looked at by nobody. The caller looks at the global queue after this, as the handshake of
/// `idle` has it, or somebody does for it.
pub(super) fn release_p(sched: &'static Sched, pp: &'static P) {
    if !pp.runq.is_empty() {
        sched.globq.extend(pp.runq.drain());
    }
    // SAFETY: the caller holds the P.
    let untold = std::mem::take(unsafe { &mut pp.owned().untold });
    match sched.idle.put_p(pp.id) {
        PutP::Idle => {}
        PutP::To(mp) => give_p(mp, pp, Errand::None),
        PutP::Over => procresize::retire_p(sched, pp),
    }
    if untold {
        sched.timer_is_first();
    }
}

/// Starts an M that does not exist yet: on g0, because making a thread is no business of a goroutine's stack (its
/// size, and the thread-locals that `std` reads for it).
#[cold]
#[inline(never)]
pub(super) fn start_new_m(sched: &'static Sched, pp: &'static P, errand: Errand) {
    super::park::systemstack(|| {
        let before = sched.attached.fetch_add(1, Ordering::AcqRel);
        let retired = sched.nretired.load(Ordering::Relaxed);
        if (before + retired) as usize >= sched.config.max_threads {
            too_many(sched);
        }
        m::start_m(sched, pp, errand, go_on_without);
    });
}

/// As Go: a program that needs so many is stuck in blocking calls, or will be. Says what has them.
#[cold]
fn too_many(sched: &'static Sched) -> ! {
    let has_thread = |mp: &M| !mp.lockedg.load(Ordering::Relaxed).is_null();
    let locked = sched.ms.lock().iter().filter(|mp| has_thread(mp)).count();
    let (mut blocking, mut computing) = (0, 0);
    gpool::for_each(|gp| {
        if gp.status() != Status::Running || !gp.runs_on(sched) {
            return;
        }
        let mp = super::park::getm(gp);
        if has_thread(mp) {
            return;
        }
        let in_call =
            gp.in_syscall.load(Ordering::Relaxed) || !os::is_runnable(mp.tid.load(Ordering::Relaxed));
        *(if in_call { &mut blocking } else { &mut computing }) += 1;
    });
    let retired = sched.nretired.load(Ordering::Relaxed);
    let limit = sched.config.max_threads;
    crate::throw::fatal(format_args!(
        "thread exhaustion: goroutines need more than {limit} OS threads (`max_threads`). Of these {blocking} are in blocking calls, \
         {computing} compute, {locked} are locked to a goroutine, {retired} are retired (their goroutines ended locked)"
    ));
}

/// The system gives no thread. What there is to do is left to the Ms that there are, if there are any. On the
/// template, or where the thread was to be started.
fn go_on_without(sched: &'static Sched, pp: &'static P, errand: Errand, e: std::io::Error) {
    static SAID: AtomicBool = AtomicBool::new(false);
    let _visit = sched.visit();
    // ORDERING: AcqRel: whoever is the last sees what the others did.
    let last = sched.attached.fetch_sub(1, Ordering::AcqRel) == 1;
    if last && !sched.stopped() {
        crate::throw::fatal(format_args!("{e}; there is none to run goroutines"));
    }
    if !SAID.swap(true, Ordering::Relaxed) {
        report(format_args!("gort: {e}; goroutines go on with the threads that there are"));
    }
    release_p(sched, pp);
    match errand {
        Errand::None => {}
        Errand::Spin(token) => _ = sched.idle.stop_spinning(token),
        Errand::Run(gp, _) => {
            // It may go on where it ran before, with `Migration::Always` too.
            gp.0.m.store(std::ptr::null_mut(), Ordering::Relaxed);
            sched.globq.push(gp);
        }
    }
    if last {
        shutdown::none_is_left(sched);
    }
    // An M that was just falling asleep may have counted on the one that does not come.
    sched.refused.store(true, Ordering::Release);
    sched.sysmon.nudge();
}
