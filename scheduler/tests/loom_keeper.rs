//! Models of the keeper of the clock (`keeper`): Ms that fall asleep against one that arms a timer. When all of them
//! rest, either no timer is left or one of them is going to wake for the first one.
#![cfg(loom)]

use gort_scheduler::idle::{Idle, PutP};
use gort_scheduler::keeper::{Armed, Keeper, Kept, Watch};
use gort_scheduler::time::clock::Nanos;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// An M, which is its own number.
struct M {
    me: usize,
    until: AtomicU64,
}

impl Watch for M {
    fn until(&self) -> &AtomicU64 {
        &self.until
    }
}

/// Who sleeps, and who was woken.
#[derive(Default)]
struct Beds {
    resting: usize,
    signalled: [bool; 2],
    morning: bool,
}

/// With two heaps, of which the first deadlines are.
struct Sched {
    keeper: Keeper<M>,
    firsts: [AtomicU64; 2],
    beds: Mutex<Beds>,
    bell: Condvar,
}

impl Sched {
    fn new(first: u64) -> Arc<Sched> {
        Arc::new(Sched {
            keeper: Keeper::new(),
            firsts: [AtomicU64::new(first), AtomicU64::new(Nanos::NEVER.0)],
            beds: Mutex::new(Beds::default()),
            bell: Condvar::new(),
        })
    }

    fn first(&self) -> Nanos {
        self.firsts.iter().map(|first| Nanos(first.load(Ordering::Acquire))).min().unwrap()
    }

    /// As `Sched::timer_is_first`, in the second heap; the caller falls asleep itself afterwards, and so is the M that would be woken.
    fn arm(&self, when: u64) {
        self.arm_untold(when);
        if let Armed::TooLate(mp) = self.keeper.armed(|| self.first()) {
            self.beds.lock().unwrap().signalled[mp.me] = true;
            self.bell.notify_all();
        }
    }

    /// A timer is armed by one that looks for work next.
    fn arm_untold(&self, when: u64) {
        self.firsts[1].store(when, Ordering::Release);
    }

    /// A timer is taken out of the first heap, which tells nobody.
    fn disarm(&self) {
        self.firsts[0].store(Nanos::NEVER.0, Ordering::Release);
    }

    fn rest(&self, me: usize) {
        let mut beds = self.beds.lock().unwrap();
        beds.resting += 1;
        self.bell.notify_all();
        while !beds.signalled[me] && !beds.morning {
            beds = self.bell.wait(beds).unwrap();
        }
        beds.signalled[me] = false;
        beds.resting -= 1;
    }

    /// As `find_runnable`'s `sleep`.
    fn fall_asleep(&self, mp: &'static M, over: impl Fn(Nanos) -> bool) -> Kept {
        let morning = || self.beds.lock().unwrap().morning;
        let wake = |other: &M| {
            self.beds.lock().unwrap().signalled[other.me] = true;
            self.bell.notify_all();
        };
        let first = || self.first();
        let kept = self.keeper.keep(mp, first, |w| morning() || over(w), |_| self.rest(mp.me), wake);
        if kept == Kept::Nothing && !morning() {
            self.rest(mp.me);
        }
        kept
    }

    /// Waits until `n` Ms rest for good, and calls `check` then.
    fn night(&self, n: usize, check: impl FnOnce()) {
        let mut beds = self.beds.lock().unwrap();
        while beds.resting < n || beds.signalled.contains(&true) {
            beds = self.bell.wait(beds).unwrap();
        }
        check();
        beds.morning = true;
        self.bell.notify_all();
    }

    fn is_kept(&self) -> bool {
        self.first() == Nanos::NEVER
            || self.keeper.get().is_some_and(|mp| mp.until.load(Ordering::Relaxed) <= self.first().0)
    }
}

fn m(me: usize) -> &'static M {
    Box::leak(Box::new(M { me, until: AtomicU64::new(0) }))
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Two Ms fall asleep, the second after `doing` something.
fn two_fall_asleep(first: u64, doing: fn(&Sched)) {
    check(move || {
        let sched = Sched::new(first);
        let ms = [0, 1].map(|me| {
            let sched = sched.clone();
            let mp = m(me);
            thread::spawn(move || {
                if me == 1 {
                    doing(&sched);
                }
                let _ = sched.fall_asleep(mp, |_| false);
            })
        });
        sched.night(2, || assert!(sched.is_kept(), "a deadline is slept through"));
        ms.into_iter().for_each(|m| m.join().unwrap());
    });
}

#[test]
fn who_arms_a_timer_and_falls_asleep_leaves_somebody_to_wake_for_it() {
    two_fall_asleep(Nanos::NEVER.0, |sched| sched.arm(100));
}

#[test]
fn a_keeper_that_leaves_for_want_of_timers_does_not_miss_the_next_one() {
    two_fall_asleep(50, |sched| {
        sched.disarm();
        sched.arm(100);
    });
}

#[test]
fn an_earlier_timer_wakes_the_keeper() {
    two_fall_asleep(100, |sched| sched.arm(50));
}

#[test]
fn who_arms_a_timer_and_tells_nobody_keeps_it_before_it_sleeps() {
    two_fall_asleep(Nanos::NEVER.0, |sched| sched.arm_untold(100));
}

#[test]
fn who_finds_a_keeper_tells_it_of_what_it_has_armed_before_it_sleeps() {
    two_fall_asleep(100, |sched| sched.arm_untold(50));
}

#[test]
fn a_due_timer_finds_the_p_that_was_given_up_meanwhile() {
    check(|| {
        let sched = Sched::new(50);
        let idle = Arc::new(Idle::<usize>::try_new(1).unwrap());
        assert_eq!(idle.get_p(), Some(0));
        // By the clock of the first M the timer is due. The second looked a moment ago, when it was not.
        let due = {
            let (sched, idle, mp) = (sched.clone(), idle.clone(), m(0));
            thread::spawn(move || {
                let kept = sched.keeper.keep(mp, || sched.first(), |_| true, |_| (), |_| ());
                (kept == Kept::Over).then(|| idle.get_p()).flatten().is_some()
            })
        };
        let other = {
            let (sched, mp) = (sched.clone(), m(1));
            thread::spawn(move || {
                assert_eq!(idle.put_p(0), PutP::Idle);
                let kept = sched.fall_asleep(mp, |_| false);
                assert_ne!(kept, Kept::Taken);
                // In the morning every keeper leaves.
                kept == Kept::Over
            })
        };
        let fired = due.join().unwrap();
        sched.night(1, || assert!(fired || sched.is_kept(), "a due timer is left to nobody"));
        other.join().unwrap();
    });
}

#[test]
fn a_keeper_is_taken_once() {
    check(|| {
        let sched = Sched::new(50);
        let keeper = {
            let sched = sched.clone();
            let mp = m(0);
            thread::spawn(move || sched.keeper.keep(mp, || sched.first(), |_| true, |_| (), |_| ()))
        };
        let taken = sched.keeper.take().is_some();
        let kept = keeper.join().unwrap();
        assert_eq!(kept, if taken { Kept::Taken } else { Kept::Over });
        assert!(sched.keeper.get().is_none());
    });
}
