//! Where an M finds its next goroutine (Go's `findRunnable`): one function per source, in Go's order.
//!
//! 1. Timers, if it is time to look.
//! 2. Nowhere, if the P sits out (`crowd`): its goroutines are left to others. Else the global queue, every 61st time slice, and
//!    every other time that a slice was used up.
//! 3. Goroutines that run on this M only (`home`), in turns with the next.
//! 4. `runnext`, then the local queue.
//! 5. The global queue, a fair share of it.
//! 6. Other Ps' queues (spinning).
//! 7. Other Ps' timers.
//! 8. Nothing: give the P up, look once more, keep the clock or sleep.
//!
//! An M that has goroutines of its own but no P waits in line for one. The busy Ms see that, every 61st time slice and
//! whenever one is used up, and give theirs to the first in line.
//!
//! **Spinning.** An M in step 6 is counted in `nmspinning`, so that submitters need not wake another one. It looks at
//! every victim four times, a microsecond or two apart; what stands still between two looks is stolen, and `runnext` if it
//! does so at all of them. Of a victim that is *coarse*, whose goroutines run for some microseconds, it takes either at once if nothing
//! moves there for a fifth of a microsecond: who hands over a value and then waits is through in less. One that has
//! stolen a `runnext` looks longer and more often the next time, victims or not: goroutines that compute for some
//! microseconds between two hand-overs come again, and a sleeping M would be woken too late for them
//! (docs/wake-policy.md).
//!
//! An M that is about to sleep while timers are pending becomes the [`Keeper`](crate::keeper::Keeper), if there is none.

use super::schedule::{acquirep, reacquire};
use super::wake::{self, STEAL_COST};
use super::{crowd, handoffp, locked, procresize, shutdown, timers};
use crate::idle::Spinner;
use crate::keeper::{Armed, Kept};
use crate::m::{Errand, M};
use crate::p::{COARSE, P};
use crate::runq::{FULL, Gp, Seen};
use crate::sched::Sched;
use crate::sync::atomic::Ordering;
use crate::sync::spin_hint;
use crate::time::clock::Nanos;
use std::ptr;

/// A goroutine to run. `inherit`: it goes on in the time slice of the one before it.
pub(super) struct Found {
    pub gp: Gp,
    pub inherit: bool,
}

/// How often the global queue is looked at first, as in Go: a prime, so that it does not beat with the program.
const GLOBAL_EVERY: u32 = 61;
/// Pauses between two looks at the victims, of some 40 ns each. In a model one lets others run.
const PAUSES: u32 = if cfg!(shuttle) { 1 } else { 40 };
/// The same for an M that was lucky, or for a victim that is coarse. By measurement, as the next (docs/wake-policy.md).
const FEW_PAUSES: u32 = if cfg!(shuttle) { 1 } else { 5 };
/// Pauses until a thief gives up: four looks, as in Go.
const PATIENCE: u32 = 4 * PAUSES;
/// The same for an M that was lucky.
const LUCKY_PATIENCE: u32 = 32 * PAUSES;

/// The next goroutine for this M, which sleeps until there is one. `None`: the scheduler has stopped, and the M holds
/// nothing of it any more.
pub(super) fn find_runnable(sched: &'static Sched, mp: &'static M) -> Option<Found> {
    let found = find(sched, mp);
    if found.is_some()
        && let Some(pp) = mp.try_p()
    {
        timers::pay(sched, pp);
    }
    found
}

fn find(sched: &'static Sched, mp: &'static M) -> Option<Found> {
    let mut spinner = None;
    // Whoever was given a P runs a goroutine before it gives the P to others: else Ms could hand it round for ever.
    let mut has_run = true;
    loop {
        if sched.stopped() {
            leave(sched, mp, spinner);
            return None;
        }
        if mp.exclusive.get() {
            return locked::find(sched, mp);
        }
        let Some(pp) = mp.try_p() else {
            sleep(sched, mp, false);
            has_run = false;
            continue;
        };
        match mp.take_errand() {
            Errand::None => {}
            Errand::Spin(token) => spinner = Some(token),
            Errand::Run(gp, inherit) => return Some(Found { gp, inherit }),
        }
        timers::run_timers(sched, pp);
        if (sched.idle.nwanting() > 0 && has_run && its_time_for_others(pp)) || procresize::is_over(sched, pp)
        {
            give_up_and_sleep(sched, mp, spinner.take());
            has_run = false;
            continue;
        }
        // SAFETY: this M holds the P.
        if std::mem::take(unsafe { &mut pp.owned().sits_out })
            && spinner.is_none()
            && mp.home.is_empty()
            && crowd::others_are_busy(sched)
        {
            sit_out(sched, mp);
            has_run = false;
            continue;
        }
        if let Some(found) = global_now_and_then(sched, mp, pp)
            .or_else(|| if mp.home.is_empty() { local(pp) } else { home_and_local(sched, mp, pp) })
            .or_else(|| global(sched, pp))
        {
            reset_spinning(sched, spinner);
            return Some(found);
        }
        if spinner.is_none() {
            spinner = sched.idle.start_spinning();
        }
        if spinner.is_some()
            && let Some(gp) = steal(sched, mp, pp)
        {
            reset_spinning(sched, spinner);
            return Some(Found { gp, inherit: false });
        }
        if timers::steal_timers(sched, pp) {
            continue;
        }
        give_up_and_sleep(sched, mp, spinner.take());
    }
}

/// True at the slices after which an M gives its P to one that waits in line.
fn its_time_for_others(pp: &'static P) -> bool {
    let w = &*pp.watched;
    w.slice_over.load(Ordering::Relaxed) || w.schedtick.load(Ordering::Relaxed).is_multiple_of(GLOBAL_EVERY)
}

/// Every 61st time slice, and every other time that a slice was used up, one from the global queue, so that a busy local
/// queue does not starve it. Not every time: what used its slice up may be in the global queue itself, and would come
/// back before those who wait in the local one.
fn global_now_and_then(sched: &'static Sched, mp: &'static M, pp: &'static P) -> Option<Found> {
    let w = &*pp.watched;
    // Relaxed: sysmon's request may be seen late.
    let over = w.slice_over.load(Ordering::Relaxed);
    let runq = &pp.runq;
    if over {
        // The chain ends: those who wait go first, here and in the global queue.
        if let Some(gp) = runq.take_runnext() {
            runq.put_tail(gp);
            if runq.len() >= FULL {
                runq.spill(&sched.globq);
            }
        }
        mp.home.demote();
    }
    let every = if over { 2 } else { GLOBAL_EVERY };
    if sched.globq.is_empty() || !w.schedtick.load(Ordering::Relaxed).is_multiple_of(every) {
        return None;
    }
    runq.refill(&sched.globq, 1).map(|gp| Found { gp, inherit: false })
}

/// A goroutine of this M, or of the P: in every other time slice these come first, or those.
#[cold]
fn home_and_local(sched: &'static Sched, mp: &'static M, pp: &'static P) -> Option<Found> {
    // Relaxed: this M writes it.
    if pp.watched.schedtick.load(Ordering::Relaxed).is_multiple_of(2) {
        home(sched, mp).or_else(|| local(pp))
    } else {
        local(pp).or_else(|| home(sched, mp))
    }
}

/// A goroutine of this M.
fn home(sched: &'static Sched, mp: &'static M) -> Option<Found> {
    loop {
        let (gp, inherit) = mp.home.take()?;
        if gp.0.runs_on(sched) {
            return Some(Found { gp, inherit });
        }
        // From an earlier scheduler of this M.
        shutdown::leave_behind(gp);
    }
}

/// `runnext`, then the head of the local queue.
fn local(pp: &'static P) -> Option<Found> {
    let next = pp.runq.take_runnext().map(|gp| Found { gp, inherit: true });
    next.or_else(|| pp.runq.get().map(|gp| Found { gp, inherit: false }))
}

/// This P's share of the global queue.
fn global(sched: &'static Sched, pp: &'static P) -> Option<Found> {
    if sched.globq.is_empty() {
        return None;
    }
    let gp = pp.runq.refill(&sched.globq, share(sched));
    gp.map(|gp| Found { gp, inherit: false })
}

fn share(sched: &'static Sched) -> usize {
    let busy = sched.max_procs().saturating_sub(sched.idle.npidle() as usize).max(1);
    (sched.globq.len() / busy + 1).min(FULL / 2)
}

/// This P's share of the global queue, to the tail of a local one that is short. A goroutine that yields to it would else be back
/// before those in the global queue were looked at, for 60 slices.
pub(super) fn take_share(sched: &'static Sched, pp: &'static P) {
    if sched.globq.is_empty() {
        return;
    }
    if pp.runq.len() < FULL / 2 {
        pp.runq.append(&sched.globq, share(sched));
    }
}

/// Half of a victim's queue, or its `runnext`; see the module.
fn steal(sched: &'static Sched, mp: &'static M, pp: &'static P) -> Option<Gp> {
    let n = sched.allp.len();
    // What each victim looked like at the last look, and for how many pauses it has. Of more Ps than these any that come
    // first this time; the others are stolen from on their backlogs alone.
    const SEEN: usize = 64;
    let mut seen = [((0u32, Seen::NOTHING), 0); SEEN];
    let lucky = mp.lucky.replace(false);
    let patience = if lucky { LUCKY_PATIENCE } else { PATIENCE };
    let start = mp.cheaprand() as usize % n;
    // How long this has taken, and the last pause.
    let (mut waited, mut pause) = (0, 0);
    while waited < patience {
        let mut waiting = false;
        let mut few = lucky;
        for i in 0..n {
            let v = (start + i) % n;
            let victim = &sched.allp[v];
            if ptr::eq(victim, pp) || victim.runq.is_empty() {
                continue;
            }
            waiting = true;
            let coarse = victim.watched.estimate.nanos() >= COARSE;
            few |= coarse;
            let switches = victim.watched.switches.load(Ordering::Relaxed);
            let runnext = victim.runq.look_at_runnext();
            let look = (switches, runnext);
            let stood = seen.get_mut(i).map_or(0, |(last, stood)| {
                *stood = if *last == look { *stood + pause } else { 0 };
                *last = look;
                *stood
            });
            let still = stood >= if coarse { FEW_PAUSES } else { PAUSES };
            if (still || worth_stealing(victim))
                && let Some(gp) = handoffp::steal_half(victim, still, &pp.runq)
            {
                return Some(gp);
            }
            // Its P is stuck in another goroutine: for some microseconds, or for some that are expected.
            if still
                && (coarse || stood >= 3 * PAUSES)
                && let Some(gp) = handoffp::steal_runnext(victim, runnext)
            {
                mp.lucky.set(true);
                return Some(gp);
            }
        }
        if !sched.globq.is_empty() {
            return pp.runq.refill(&sched.globq, 1);
        }
        if !waiting && !lucky {
            return None;
        }
        pause = if few { FEW_PAUSES } else { PAUSES };
        (0..pause).for_each(|_| spin_hint());
        waited += pause;
    }
    None
}

/// True if the last in the victim's queue would wait longer than the move costs.
fn worth_stealing(victim: &P) -> bool {
    let wait = victim.runq.len() as u64 * victim.watched.estimate.nanos();
    wait >= STEAL_COST && !crowd::stays_together(victim, Nanos::now)
}

/// The M has found work: it stops spinning, and wakes another one if there is more than it can do.
fn reset_spinning(sched: &'static Sched, spinner: Option<Spinner>) {
    let Some(spinner) = spinner else { return };
    if sched.idle.stop_spinning(spinner) && (!sched.globq.is_empty() || any_worth_stealing(sched)) {
        wake::wakep(sched);
    }
}

/// True if some P has more than it will soon be through with.
fn any_worth_stealing(sched: &'static Sched) -> bool {
    sched.allp.iter().any(worth_stealing)
}

/// Steps 1 to 5 of the handshake (`idle`): gives the P up, looks once more, sleeps. Comes back with a P, or because
/// the scheduler has stopped, with whatever it then holds.
fn give_up_and_sleep(sched: &'static Sched, mp: &'static M, spinner: Option<Spinner>) {
    let untold = give_up(sched, mp);
    let last = spinner.is_some_and(|s| sched.idle.stop_spinning(s));
    // Backlogs are the last spinner's business alone, else all that find no victim would run in circles here.
    if is_work(sched) || (last && any_worth_stealing(sched)) {
        take_again_or_sleep(sched, mp, untold);
    } else {
        sleep(sched, mp, untold);
    }
}

/// The same for a P that leaves its work to others (`crowd`, I1). The M does not spin.
fn sit_out(sched: &'static Sched, mp: &'static M) {
    let untold = give_up(sched, mp);
    // More, if the limit has just been lowered.
    let all_idle = sched.idle.npidle() as usize >= sched.max_procs();
    if all_idle && is_work(sched) {
        take_again_or_sleep(sched, mp, untold);
    } else {
        sleep(sched, mp, untold);
    }
}

/// Step 1. Whether the keeper has yet to be told of what was armed here; that debt is paid before the sleep (`keep_the_clock`).
fn give_up(sched: &'static Sched, mp: &'static M) -> bool {
    let pp = mp.p();
    // SAFETY: this M holds the P.
    let owned = unsafe { pp.owned() };
    owned.stacks.go_idle();
    let untold = std::mem::take(&mut owned.untold);
    mp.set_p(None);
    wake::release_p(sched, pp);
    untold
}

/// What nobody in particular is bound to find.
fn is_work(sched: &'static Sched) -> bool {
    !sched.globq.is_empty() || sched.timer_is_due()
}

/// An idle P for an M that has seen work, if there is one.
fn take_again_or_sleep(sched: &'static Sched, mp: &'static M, untold: bool) {
    if !reacquire(sched, mp) {
        sleep(sched, mp, untold);
    } else if untold {
        // SAFETY: this M holds the P.
        unsafe { mp.p().owned().untold = true };
    }
}

/// Sleeps until there is a P for this M, which has none, or the scheduler has stopped.
/// `untold`: the keeper has not been told of what was armed here.
fn sleep(sched: &'static Sched, mp: &'static M, untold: bool) {
    let nextp = if mp.home.lie_down() {
        keep_the_clock(sched, mp).or_else(|| stopm(sched, mp))
    } else {
        if untold {
            sched.timer_is_first();
        }
        wait_for_p(sched, mp)
    };
    mp.home.get_up();
    if let Some(pp) = nextp {
        acquirep(sched, mp, pp);
    }
}

/// Waits in line for a P, because there is work here that no other M can do. `None`: the scheduler has stopped.
pub(super) fn wait_for_p(sched: &'static Sched, mp: &'static M) -> Option<&'static P> {
    if let Some(p) = sched.idle.want_p(mp) {
        return Some(&sched.allp[p]);
    }
    loop {
        if let Some(pp) = mp.take_nextp() {
            return Some(pp);
        }
        if sched.stopped() && sched.idle.unwant_p(&mp) {
            return None;
        }
        mp.note.sleep();
    }
}

/// Sleeps until the first timer is due, if nobody else does. A P if it was given or found one.
fn keep_the_clock(sched: &'static Sched, mp: &'static M) -> Option<&'static P> {
    let due = |when| when <= Nanos::now();
    let called = || !mp.home.is_empty();
    let kept = sched.keeper.keep(
        mp,
        || sched.first_timer(),
        |when| due(when) || called() || sched.stopped(),
        |when| _ = mp.note.sleep_until(when),
        |other| other.note.wakeup(),
    );
    match kept {
        Kept::Nothing => None,
        Kept::Over if called() => wait_for_p(sched, mp),
        Kept::Over => sched.idle.get_p().map(|p| &sched.allp[p]),
        Kept::Taken => loop {
            if let Some(pp) = mp.take_nextp() {
                return Some(pp);
            }
            mp.note.sleep();
        },
    }
}

/// Sleeps until somebody gives it a P (Go's `stopm`). `None`: the scheduler has stopped.
fn stopm(sched: &'static Sched, mp: &'static M) -> Option<&'static P> {
    sched.idle.put_m(mp);
    loop {
        if let Some(pp) = mp.take_nextp() {
            return Some(pp);
        }
        if (sched.stopped() || !mp.home.is_empty()) && sched.idle.remove_m(&mp) {
            return wait_for_p(sched, mp);
        }
        mp.note.sleep();
    }
}

/// The scheduler has stopped: the M lets go of it.
pub(super) fn leave(sched: &'static Sched, mp: &'static M, spinner: Option<Spinner>) {
    let woken_as = match mp.take_errand() {
        Errand::Spin(token) => Some(token),
        Errand::Run(gp, _) => {
            // For `drop_queued`.
            sched.globq.push(gp);
            None
        }
        Errand::None => None,
    };
    for token in spinner.into_iter().chain(woken_as) {
        let _last = sched.idle.stop_spinning(token);
    }
    if let Some(pp) = mp.try_p() {
        mp.set_p(None);
        wake::release_p(sched, pp);
    }
    std::iter::from_fn(|| mp.home.take().or_else(|| mp.locked.take()))
        .for_each(|(gp, _)| shutdown::leave_behind(gp));
    mp.nhome.set(0);
    // The thread of a goroutine that had it for itself, and is abandoned now, may be in an odd state.
    if !mp.lockedg.swap(ptr::null_mut(), Ordering::Relaxed).is_null() {
        mp.retires.set(true);
    }
    mp.exclusive.set(false);
    // What its last goroutine spawned, having passed the check before the end, is in no one else's hands.
    shutdown::drop_queued(sched);
}

impl Sched {
    /// A timer may have become the first one: sees to it that somebody will wake for it (K1).
    pub(crate) fn timer_is_first(&'static self) {
        match self.keeper.armed(|| self.first_timer()) {
            Armed::Kept => {}
            Armed::TooLate(mp) => mp.note.wakeup(),
            Armed::NoKeeper => wake::start(self, self.idle.submitted()),
        }
    }
}
