//! Models of the sleep/wake handshake (`idle`): an M that runs out of work against those who submit some. A lost
//! wake-up is an M that sleeps for ever while the work lies there, which loom reports as a deadlock.
#![cfg(loom)]

use gort_scheduler::idle::{Idle, PutP, Spinner, Wake};
use gort_scheduler::note::Note;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

const NONE: usize = usize::MAX;

struct Sched {
    idle: Idle<usize>,
    /// Work that nobody in particular is bound to find: the injector.
    submitted: AtomicUsize,
    notes: Vec<Note>,
    nextp: Vec<AtomicUsize>,
    stopped: AtomicBool,
    done: Mutex<usize>,
    bell: Condvar,
}

impl Sched {
    fn new(procs: usize, ms: usize) -> Arc<Sched> {
        Arc::new(Sched {
            idle: Idle::try_new(procs).unwrap(),
            submitted: AtomicUsize::new(0),
            notes: (0..ms).map(|_| Note::new()).collect(),
            nextp: (0..ms).map(|_| AtomicUsize::new(NONE)).collect(),
            stopped: AtomicBool::new(false),
            done: Mutex::new(0),
            bell: Condvar::new(),
        })
    }

    fn submit(&self) {
        self.submitted.fetch_add(1, Ordering::Relaxed);
        self.wake(self.idle.submitted());
    }

    fn wake(&self, wake: Wake<usize>) {
        match wake {
            Wake::Nobody => {}
            Wake::Sleeper(m, p) => {
                // An exchange where the real code stores: loom lets a read-modify-write miss a store that it does
                // not follow by happens-before, even one that it must come after in the word's own order.
                self.nextp[m].swap(p, Ordering::AcqRel);
                self.notes[m].wakeup();
            }
            // As many Ms as there can be wake-ups exist from the start.
            Wake::NewM(_) => panic!("no M is asleep"),
        }
    }

    fn take(&self) -> bool {
        self.submitted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
    }

    /// An M: as `find_runnable` and its `sleep`. It is asleep, or has a P with which it `sits_out` first, and leaves a piece of work.
    fn m(&self, me: usize, mut held: usize, mut sits_out: bool) {
        let mut spinner = None;
        loop {
            if std::mem::take(&mut sits_out) {
                self.submitted.fetch_add(1, Ordering::Relaxed);
                assert_eq!(self.idle.put_p(held), PutP::Idle);
                held = NONE;
                if self.idle.npidle() as usize == self.idle.limit()
                    && self.submitted.load(Ordering::Relaxed) > 0
                    && let Some(p) = self.idle.get_p()
                {
                    held = p;
                    continue;
                }
                self.idle.put_m(me);
            }
            if held == NONE {
                // stopm
                loop {
                    held = self.nextp[me].swap(NONE, Ordering::Acquire);
                    if held != NONE {
                        spinner = Some(Spinner::from_wakep());
                        break;
                    }
                    if self.stopped.load(Ordering::Acquire) && self.idle.remove_m(&me) {
                        return;
                    }
                    self.notes[me].sleep();
                }
            }
            while self.take() {
                if let Some(s) = spinner.take()
                    && self.idle.stop_spinning(s)
                    && self.submitted.load(Ordering::Relaxed) > 0
                {
                    self.wake(self.idle.wakep());
                }
                *self.done.lock().unwrap() += 1;
                self.bell.notify_one();
            }
            // sleep
            assert_eq!(self.idle.put_p(held), PutP::Idle);
            held = NONE;
            if let Some(s) = spinner.take() {
                let _last = self.idle.stop_spinning(s);
            }
            if self.submitted.load(Ordering::Relaxed) > 0
                && let Some(p) = self.idle.get_p()
            {
                held = p;
                continue;
            }
            self.idle.put_m(me);
        }
    }

    fn wait_for(&self, n: usize) {
        let mut done = self.done.lock().unwrap();
        while *done < n {
            done = self.bell.wait(done).unwrap();
        }
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.notes.iter().for_each(Note::wakeup);
    }
}

/// Runs `submitting` beside `ms` sleeping Ms with `procs` Ps, until `n` pieces of work are done.
fn model(procs: usize, ms: usize, n: usize, submitting: impl Fn(Arc<Sched>) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let sched = Sched::new(procs, ms);
        (0..ms).for_each(|i| sched.idle.put_m(i));
        let threads: Vec<_> = (0..ms)
            .map(|i| {
                let sched = sched.clone();
                thread::spawn(move || sched.m(i, NONE, false))
            })
            .collect();
        submitting(sched.clone());
        sched.wait_for(n);
        sched.stop();
        threads.into_iter().for_each(|m| m.join().unwrap());
    });
}

#[test]
fn an_m_that_goes_to_sleep_sees_the_work_or_is_woken_for_it() {
    model(1, 2, 2, |sched| {
        sched.submit();
        sched.submit();
    });
}

#[test]
fn two_submitters_lose_no_wakeup_between_them() {
    model(1, 2, 2, |sched| {
        let other = {
            let sched = sched.clone();
            thread::spawn(move || sched.submit())
        };
        sched.submit();
        other.join().unwrap();
    });
}

#[test]
fn two_ms_with_a_p_each_lose_no_wakeup_between_them() {
    model(2, 2, 2, |sched| {
        sched.submit();
        sched.submit();
    });
}

/// Two Ms that have Ps, and nothing to do but what those of them leave that sit out.
fn sit_out(who: [bool; 2]) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let sched = Sched::new(2, 2);
        let threads: Vec<_> = (0..2)
            .map(|i| {
                let p = sched.idle.get_p().unwrap();
                let sched = sched.clone();
                thread::spawn(move || sched.m(i, p, who[i]))
            })
            .collect();
        sched.wait_for(who.iter().filter(|sits_out| **sits_out).count());
        sched.stop();
        threads.into_iter().for_each(|m| m.join().unwrap());
    });
}

#[test]
fn what_an_m_leaves_that_sits_out_is_done_by_one_that_falls_asleep() {
    sit_out([true, false]);
}

#[test]
fn of_two_ms_that_sit_out_one_does_what_both_leave() {
    sit_out([true, true]);
}

#[test]
fn a_p_above_the_limit_is_given_up_for_good_and_one_below_it_is_kept() {
    loom::model(|| {
        let idle = Arc::new(Idle::<usize>::try_new(2).unwrap());
        assert_eq!((idle.get_p(), idle.get_p()), (Some(0), Some(1)));
        let holder = {
            let idle = idle.clone();
            thread::spawn(move || {
                let over = idle.limit() == 1;
                if over {
                    assert_eq!(idle.put_p(1), PutP::Over);
                }
                over
            })
        };
        assert_eq!(idle.set_limit(1).unwrap(), []);
        if !holder.join().unwrap() {
            assert_eq!(idle.put_p(1), PutP::Over);
        }
        idle.retired(1);
        let seeker = {
            let idle = idle.clone();
            thread::spawn(move || {
                if let Some(p) = idle.get_p() {
                    assert!(p < idle.limit(), "given P {p}, which takes no part");
                }
            })
        };
        for p in idle.set_limit(2).unwrap() {
            assert_eq!(idle.put_p(p), PutP::Idle);
        }
        seeker.join().unwrap();
    });
}
