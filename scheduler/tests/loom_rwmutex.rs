//! Models of the lock for readers and writers: exclusion, and that each side goes on (else the model deadlocks).
#![cfg(loom)]

use gort_scheduler::model::sleep;
use gort_scheduler::sema::RWMutex;
use gort_scheduler::time::clock::Nanos;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

fn check(bound: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.check(model);
}

const SOME_TIME: Nanos = Nanos(u64::MAX - 1);

struct Guarded {
    lock: RWMutex,
    n: UnsafeCell<usize>,
}

impl Guarded {
    fn new() -> Arc<Guarded> {
        Arc::new(Guarded { lock: RWMutex::new(), n: UnsafeCell::new(0) })
    }

    fn get(&self) -> usize {
        // SAFETY: under the lock, which the model checks.
        self.n.with(|n| unsafe { *n })
    }

    fn add(&self) {
        // SAFETY: as above.
        self.n.with_mut(|n| unsafe { *n += 1 });
    }

    fn read(&self) -> usize {
        self.lock.rlock();
        let n = self.get();
        self.lock.runlock();
        n
    }

    fn write(&self) {
        self.lock.lock();
        self.add();
        self.lock.unlock();
    }

    fn settled(&self, n: usize) {
        assert!(self.lock.try_lock(), "nobody has it any more");
        assert_eq!(self.get(), n);
        self.lock.unlock();
        assert!(self.lock.try_rlock() && !self.lock.try_lock());
    }
}

#[test]
fn a_writer_is_alone_and_all_go_on() {
    check(3, || {
        let g = Guarded::new();
        let writer = {
            let g = g.clone();
            thread::spawn(move || g.write())
        };
        let reader = {
            let g = g.clone();
            thread::spawn(move || g.read())
        };
        g.read();
        writer.join().unwrap();
        reader.join().unwrap();
        g.settled(1);
    });
}

#[test]
fn two_writers_and_a_reader_that_comes_twice() {
    check(2, || {
        let g = Guarded::new();
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let g = g.clone();
                thread::spawn(move || g.write())
            })
            .collect();
        let first = g.read();
        let second = g.read();
        assert!(first <= second);
        writers.into_iter().for_each(|t| t.join().unwrap());
        g.settled(2);
    });
}

#[test]
fn a_writer_that_gives_up_lets_the_readers_in() {
    check(2, || {
        let g = Guarded::new();
        g.lock.rlock();
        let writer = {
            let g = g.clone();
            thread::spawn(move || {
                let got = g.lock.lock_until(SOME_TIME);
                if got {
                    g.add();
                    g.lock.unlock();
                }
                usize::from(got)
            })
        };
        let reader = {
            let g = g.clone();
            thread::spawn(move || g.read())
        };
        sleep::pass();
        g.lock.runlock();
        reader.join().unwrap();
        let got = writer.join().unwrap();
        g.settled(got);
    });
}

#[test]
fn a_writer_that_gives_up_lets_the_next_writer_in() {
    check(2, || {
        let g = Guarded::new();
        g.lock.rlock();
        let timed = {
            let g = g.clone();
            thread::spawn(move || {
                let got = g.lock.lock_until(SOME_TIME);
                if got {
                    g.lock.unlock();
                }
            })
        };
        let writer = {
            let g = g.clone();
            thread::spawn(move || g.write())
        };
        sleep::pass();
        g.lock.runlock();
        writer.join().unwrap();
        timed.join().unwrap();
        g.settled(1);
    });
}

#[test]
fn a_reader_that_gives_up_is_not_counted() {
    check(3, || {
        let g = Guarded::new();
        g.lock.lock();
        let timed = {
            let g = g.clone();
            thread::spawn(move || {
                let got = g.lock.rlock_until(SOME_TIME);
                if got {
                    g.lock.runlock();
                }
            })
        };
        let timer = thread::spawn(sleep::pass);
        g.add();
        g.lock.unlock();
        timer.join().unwrap();
        timed.join().unwrap();
        g.settled(1);
    });
}

#[test]
fn a_writer_that_becomes_a_reader_lets_no_writer_between() {
    check(3, || {
        let g = Guarded::new();
        g.lock.lock();
        let others: Vec<_> = [true, false]
            .into_iter()
            .map(|writes| {
                let g = g.clone();
                thread::spawn(move || if writes { g.write() } else { _ = g.read() })
            })
            .collect();
        g.add();
        g.lock.downgrade();
        assert_eq!(g.get(), 1);
        g.lock.runlock();
        others.into_iter().for_each(|t| t.join().unwrap());
        g.settled(2);
    });
}
