//! The rows of Go's package `sync`: `cond_test.go`, `mutex_test.go`, `once_test.go`, `oncefunc_test.go`,
//! `runtime_sema_test.go`, `rwmutex_test.go` and `waitgroup_test.go`.
//!
//! What stands for what:
//!
//! - `OnceFunc` and `OnceValue`: a [`LazyLock`]; what they are compared with in Go, a `Once` beside a variable: a [`Once`],
//!   or a [`OnceLock`]. `OnceValues` would be the same rows again, since two values are one here; and `v=Make` measures an
//!   allocation where there is none.
//! - The runtime's semaphores, on which Go's `sync` is built: a [`Semaphore`], which promises more. Whoever comes first is
//!   served first; with Go's, who is running may overtake who was woken.
//! - Arrays of 32 and 128 KiB on Go's stacks, which grow: vectors.
//!
//! Left out: the rows of `sync.Map` and `sync.Pool`, which have no counterpart.

use crate::harness::{Bench, Row, RunParallel};
use gort::sync::{Condvar, LazyLock, Mutex, Once, OnceLock, RwLock, Semaphore, WaitGroup};
use gort::{Chan, chan, go};
use gort_bench_harness::{double_and_halve, local_work};
use std::hint::black_box;
use std::sync::Arc;

/// In the order of Go's files.
pub const ROWS: &[Row] = &[
    Row::new("cond_1", "Cond1", |b| cond(b, 1)),
    Row::new("cond_2", "Cond2", |b| cond(b, 2)),
    Row::new("cond_4", "Cond4", |b| cond(b, 4)),
    Row::new("cond_8", "Cond8", |b| cond(b, 8)),
    Row::new("cond_16", "Cond16", |b| cond(b, 16)),
    Row::new("cond_32", "Cond32", |b| cond(b, 32)),
    Row::new("uncontended_semaphore", "UncontendedSemaphore", uncontended_semaphore),
    Row::new("contended_semaphore", "ContendedSemaphore", contended_semaphore).on_ps(2).batch(2),
    Row::new("mutex_uncontended", "MutexUncontended", mutex_uncontended),
    Row::new("mutex", "Mutex", |b| mutex(b, 1, 0)),
    Row::new("mutex_slack", "MutexSlack", |b| mutex(b, 10, 0)),
    Row::new("mutex_work", "MutexWork", |b| mutex(b, 1, 100)),
    Row::new("mutex_work_slack", "MutexWorkSlack", |b| mutex(b, 10, 100)),
    Row::new("mutex_no_spin", "MutexNoSpin", mutex_no_spin),
    Row::new("mutex_spin", "MutexSpin", mutex_spin),
    Row::new("once", "Once", once),
    Row::new("once_func_once", "OnceFunc/v=Once", once_func_once),
    Row::new("once_func_global", "OnceFunc/v=Global", once_func_global),
    Row::new("once_func_local", "OnceFunc/v=Local", once_func_local),
    Row::new("once_value_once", "OnceValue/v=Once", once_value_once),
    Row::new("once_value_global", "OnceValue/v=Global", once_value_global),
    Row::new("once_value_local", "OnceValue/v=Local", once_value_local),
    Row::new("sema_uncontended", "SemaUncontended", sema_uncontended),
    Row::new("sema_synt_nonblock", "SemaSyntNonblock", |b| sema(b, false, 0)),
    Row::new("sema_synt_block", "SemaSyntBlock", |b| sema(b, true, 0)),
    Row::new("sema_work_nonblock", "SemaWorkNonblock", |b| sema(b, false, 100)),
    Row::new("sema_work_block", "SemaWorkBlock", |b| sema(b, true, 100)),
    Row::new("rwmutex_uncontended", "RWMutexUncontended", rwmutex_uncontended),
    Row::new("rwmutex_write_100", "RWMutexWrite100", |b| rwmutex(b, 0, 100)),
    Row::new("rwmutex_write_10", "RWMutexWrite10", |b| rwmutex(b, 0, 10)),
    Row::new("rwmutex_work_write_100", "RWMutexWorkWrite100", |b| rwmutex(b, 100, 100)),
    Row::new("rwmutex_work_write_10", "RWMutexWorkWrite10", |b| rwmutex(b, 100, 10)),
    Row::new("waitgroup_uncontended", "WaitGroupUncontended", waitgroup_uncontended),
    Row::new("waitgroup_add_done", "WaitGroupAddDone", |b| waitgroup_add_done(b, 0)),
    Row::new("waitgroup_add_done_work", "WaitGroupAddDoneWork", |b| waitgroup_add_done(b, 100)),
    Row::new("waitgroup_wait", "WaitGroupWait", |b| waitgroup_wait(b, 0)),
    Row::new("waitgroup_wait_work", "WaitGroupWaitWork", |b| waitgroup_wait(b, 100)),
    Row::new("waitgroup_actually_wait", "WaitGroupActuallyWait", waitgroup_actually_wait),
];

/// So many goroutines wait for one more to come, and it wakes them. One operation is a round of all.
fn cond(b: &Bench, waiters: i64) {
    /// In place of how many have come, when a goroutine has done all its rounds.
    const OVER: i64 = -1;
    let shared = Arc::new((Mutex::new(0), Condvar::new()));
    let done = chan::<bool>(0);
    let n = b.n;
    for _ in 0..=waiters {
        let (shared, done) = (shared.clone(), done.clone());
        go!(move || {
            let (id, c) = &*shared;
            for _ in 0..n {
                let mut id = id.lock();
                if *id == OVER {
                    break;
                }
                *id += 1;
                if *id == waiters + 1 {
                    *id = 0;
                    c.notify_all();
                } else {
                    c.wait(&mut id);
                }
            }
            let mut id = id.lock();
            *id = OVER;
            c.notify_all();
            drop(id);
            done.send(true);
        });
    }
    for _ in 0..=waiters {
        done.recv();
    }
}

/// Takes and gives back a permit, so many times.
fn hammer_semaphore(s: &Semaphore, loops: u64, done: &Chan<bool>) {
    for _ in 0..loops {
        s.acquire(1);
        s.release(1);
    }
    done.send(true);
}

fn uncontended_semaphore(b: &Bench) {
    hammer_semaphore(&Semaphore::new(1), b.n, &chan(2));
}

/// Two goroutines, one permit.
fn contended_semaphore(b: &Bench) {
    let s = Arc::new(Semaphore::new(1));
    let (c, loops) = (chan::<bool>(0), b.n / 2);
    b.reset_timer();
    for _ in 0..2 {
        let (s, c) = (s.clone(), c.clone());
        go!(move || hammer_semaphore(&s, loops, &c));
    }
    c.recv();
    c.recv();
}

/// Each goroutine has a mutex of its own.
fn mutex_uncontended(b: &Bench) {
    b.run_parallel(|share| {
        let mu = Mutex::new(());
        for () in share {
            drop(mu.lock());
        }
    });
}

/// All share one, which is held for no time, with work between.
fn mutex(b: &Bench, parallelism: usize, work: usize) {
    let mu = Mutex::new(());
    b.run_parallel_by(parallelism, |share| {
        for () in share {
            drop(mu.lock());
            local_work(work);
        }
    });
}

/// What a mutex guards: an amount goes from one account to the other.
type Accounts = Mutex<(u64, u64)>;

fn transfer(m: &Accounts) {
    let mut acc = m.lock();
    acc.0 = acc.0.wrapping_sub(100);
    acc.1 = acc.1.wrapping_add(100);
}

/// Every fourth word is changed.
fn touch(data: &mut [u64]) {
    for word in data.iter_mut().step_by(4) {
        *word += 1;
    }
    black_box(data);
}

/// Where spinning does not help: more goroutines than Ps, which give way between.
fn mutex_no_spin(b: &Bench) {
    let m = Accounts::default();
    b.run_parallel_by(4, |share| {
        let c = chan::<bool>(0);
        let mut data = vec![0; 4 << 10];
        for (i, ()) in share.enumerate() {
            if i % 4 == 0 {
                transfer(&m);
            } else {
                touch(&mut data);
                let c2 = c.clone();
                go!(move || c2.send(true));
                c.recv();
            }
        }
    });
}

/// Where it does: a goroutine for each P, with much data of its own in its core's cache.
fn mutex_spin(b: &Bench) {
    let m = Accounts::default();
    b.run_parallel(|share| {
        let mut data = vec![0; 16 << 10];
        for () in share {
            transfer(&m);
            touch(&mut data);
        }
    });
}

fn once(b: &Bench) {
    let once = Once::new();
    b.run_parallel(|share| {
        for () in share {
            once.call_once(|| {});
        }
    });
}

fn once_func_once(b: &Bench) {
    static ONCE: Once = Once::new();
    for _ in 0..b.n {
        ONCE.call_once(|| {});
    }
}

fn once_func_global(b: &Bench) {
    static FUNC: LazyLock<()> = LazyLock::new(|| ());
    for _ in 0..b.n {
        LazyLock::force(&FUNC);
    }
}

fn once_func_local(b: &Bench) {
    let f = LazyLock::new(|| ());
    for _ in 0..b.n {
        LazyLock::force(&f);
    }
}

fn once_value_once(b: &Bench) {
    static VALUE: OnceLock<isize> = OnceLock::new();
    for _ in 0..b.n {
        assert_eq!(*VALUE.get_or_init(|| 42), 42);
    }
}

fn once_value_global(b: &Bench) {
    static VALUE: LazyLock<isize> = LazyLock::new(|| 42);
    for _ in 0..b.n {
        assert_eq!(*VALUE, 42);
    }
}

fn once_value_local(b: &Bench) {
    let value = LazyLock::new(|| 42);
    for _ in 0..b.n {
        assert_eq!(*value, 42);
    }
}

/// Each goroutine has a semaphore of its own.
fn sema_uncontended(b: &Bench) {
    b.run_parallel(|share| {
        let sem = Semaphore::new(0);
        for () in share {
            sem.release(1);
            sem.acquire(1);
        }
    });
}

/// All share one; if `block`, a permit for every second P goes for good, and so the goroutines must wait for each other.
fn sema(b: &Bench, block: bool, work: usize) {
    let sem = Arc::new(Semaphore::new(0));
    let taker = block.then(|| {
        let sem = sem.clone();
        go!(move || {
            for _ in 0..gort::max_procs() / 2 {
                sem.acquire(1);
            }
        })
    });
    b.run_parallel(|share| {
        for () in share {
            sem.release(1);
            local_work(work);
            sem.acquire(1);
        }
        sem.release(1);
    });
    if let Some(taker) = taker {
        taker.join().expect("it only waits");
    }
}

/// Two readers and then a writer, all the same goroutine.
fn rwmutex_uncontended(b: &Bench) {
    b.run_parallel(|share| {
        let rwm = RwLock::new(());
        for () in share {
            let first = rwm.read();
            let second = rwm.read();
            drop(second);
            drop(first);
            drop(rwm.write());
        }
    });
}

/// All share a lock; one in so many writes, and the others work while they hold it.
fn rwmutex(b: &Bench, work: usize, write_ratio: isize) {
    let rwm = RwLock::new(());
    // Go's compiler does not know it either where it divides by it.
    let write_ratio = black_box(write_ratio);
    b.run_parallel(|share| {
        let mut number = 0;
        for () in share {
            number += 1;
            if number % write_ratio == 0 {
                drop(rwm.write());
            } else {
                let reader = rwm.read();
                number = double_and_halve(number, work);
                drop(reader);
            }
        }
        black_box(number);
    });
}

/// Each goroutine has a group of its own.
fn waitgroup_uncontended(b: &Bench) {
    b.run_parallel(|share| {
        let wg = WaitGroup::new();
        for () in share {
            wg.add(1);
            wg.done();
            wg.wait();
        }
    });
}

/// All share one.
fn waitgroup_add_done(b: &Bench, work: usize) {
    let wg = WaitGroup::new();
    b.run_parallel(|share| {
        for () in share {
            wg.add(1);
            local_work(work);
            wg.done();
        }
    });
}

/// All share one, for which nobody has to wait.
fn waitgroup_wait(b: &Bench, work: usize) {
    let wg = WaitGroup::new();
    b.run_parallel(|share| {
        for () in share {
            wg.wait();
            local_work(work);
        }
    });
}

/// A goroutine is started and waited for.
fn waitgroup_actually_wait(b: &Bench) {
    b.run_parallel(|share| {
        for () in share {
            let wg = WaitGroup::new();
            wg.add(1);
            let wg2 = wg.clone();
            go!(move || wg2.done());
            wg.wait();
        }
    });
}
