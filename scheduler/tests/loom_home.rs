//! Models of goroutines that run on one M only (`home`): whoever is put there is run, whatever the M was about to do.
//! One that is slept over is an M that sleeps for ever, which loom reports as a deadlock.
#![cfg(loom)]

use gort_scheduler::home::Home;
use gort_scheduler::idle::{Idle, PutP};
use gort_scheduler::note::Note;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

const NONE: usize = usize::MAX;

struct M {
    home: Home<usize>,
    note: Note,
    nextp: AtomicUsize,
}

/// A scheduler with one P.
struct Sched {
    idle: Idle<usize>,
    ms: Vec<M>,
}

impl Sched {
    fn new(ms: usize) -> Arc<Sched> {
        let m = |_| M { home: Home::default(), note: Note::new(), nextp: AtomicUsize::new(NONE) };
        Arc::new(Sched { idle: Idle::try_new(1).unwrap(), ms: (0..ms).map(m).collect() })
    }

    /// As `wake::go_home`.
    fn ready(&self, m: usize, gp: usize) {
        if self.ms[m].home.put(gp, false) {
            self.ms[m].note.wakeup();
        }
    }

    /// As `wake::release_p`.
    fn release_p(&self) {
        if let PutP::To(m) = self.idle.put_p(0) {
            // An exchange where the real code stores; see the models of `idle`.
            self.ms[m].nextp.swap(0, Ordering::AcqRel);
            self.ms[m].note.wakeup();
        }
    }

    /// As `find_runnable` and its `sleep`, until the M has run `n` goroutines. Begins without a P.
    fn m(&self, me: usize, n: usize) {
        let m = &self.ms[me];
        for run in 0..n {
            loop {
                if !m.home.lie_down() {
                    self.wait_for_p(me);
                } else {
                    self.stopm(me);
                }
                m.home.get_up();
                let got = m.home.take();
                if got.is_none() {
                    self.release_p();
                    continue;
                }
                assert_eq!(got, Some((run, false)), "out of order");
                break;
            }
            self.release_p();
        }
    }

    /// As `locked::find`: an M with a P whose one goroutine waits passes the P on, and runs it when it is ready.
    fn locked_m(&self, me: usize, n: usize) {
        let m = &self.ms[me];
        self.release_p();
        for run in 0..n {
            if m.home.lie_down() {
                while m.home.is_empty() {
                    m.note.sleep();
                }
            }
            self.wait_for_p(me);
            m.home.get_up();
            assert_eq!(m.home.take(), Some((run, false)), "no other goroutine runs here");
            self.release_p();
        }
    }

    fn stopm(&self, me: usize) {
        let m = &self.ms[me];
        self.idle.put_m(me);
        loop {
            if m.nextp.swap(NONE, Ordering::Acquire) != NONE {
                return;
            }
            if !m.home.is_empty() && self.idle.remove_m(&me) {
                return self.wait_for_p(me);
            }
            m.note.sleep();
        }
    }

    fn wait_for_p(&self, me: usize) {
        if self.idle.want_p(me).is_some() {
            return;
        }
        while self.ms[me].nextp.swap(NONE, Ordering::Acquire) == NONE {
            self.ms[me].note.sleep();
        }
    }
}

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

#[test]
fn who_is_readied_for_an_m_that_falls_asleep_is_run() {
    check(3, || {
        let sched = Sched::new(1);
        let m = {
            let sched = sched.clone();
            thread::spawn(move || sched.m(0, 2))
        };
        sched.ready(0, 0);
        sched.ready(0, 1);
        m.join().unwrap();
        assert_eq!(sched.idle.npidle(), 1);
    });
}

#[test]
fn two_ms_with_work_of_their_own_share_one_p() {
    check(3, || {
        let sched = Sched::new(2);
        let ms = [0, 1].map(|me| {
            let sched = sched.clone();
            thread::spawn(move || sched.m(me, 1))
        });
        sched.ready(0, 0);
        sched.ready(1, 0);
        for m in ms {
            m.join().unwrap();
        }
        assert_eq!((sched.idle.npidle(), sched.idle.nwanting()), (1, 0));
    });
}

#[test]
fn a_locked_m_runs_its_goroutine_whenever_that_is_readied() {
    check(2, || {
        let sched = Sched::new(2);
        assert_eq!(sched.idle.get_p(), Some(0));
        let locked = {
            let sched = sched.clone();
            thread::spawn(move || sched.locked_m(0, 2))
        };
        // Another M wants the P that is passed on.
        let other = {
            let sched = sched.clone();
            thread::spawn(move || sched.m(1, 1))
        };
        sched.ready(0, 0);
        sched.ready(1, 0);
        sched.ready(0, 1);
        locked.join().unwrap();
        other.join().unwrap();
        assert_eq!((sched.idle.npidle(), sched.idle.nwanting()), (1, 0));
    });
}
