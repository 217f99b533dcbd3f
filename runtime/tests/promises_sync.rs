//! What `gort::sync` promises of its locks, its condition variable and its wait group, at each number of Ps.

mod common;

use common::{
    Rng, Watchdog, at_each_size, at_size, builder, eventually, message, on_both, panic_message, until_parked,
};
use gort::sync::{
    Condvar, ErrGroup, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, WaitGroup,
};
use gort::{JoinHandle, chan, go, time, yield_now};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// Short enough to come while others are at it.
const A_MOMENT: Duration = Duration::from_micros(50);
/// Never reached.
const LONG: Duration = Duration::from_secs(600);

const MUTEX: &str = "sync.Mutex.Lock";
const READ: &str = "sync.RWMutex.RLock";
const WRITE: &str = "sync.RWMutex.Lock";
const COND: &str = "sync.Cond.Wait";
const WAIT: &str = "sync.WaitGroup.Wait";

/// Starts a goroutine, and waits until it waits for this reason.
#[track_caller]
fn parked<T: Send + 'static>(reason: &str, f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let h = gort::go(f);
    until_parked(&h, reason);
    h
}

#[track_caller]
fn join_all<T: Send + 'static>(handles: Vec<JoinHandle<T>>) -> Vec<T> {
    handles.into_iter().map(|h| h.join().unwrap()).collect()
}

// ---- types ----

/// `Asks::<T>::IS` is true if T is Send: the inherent constant goes before the trait's, and exists only then.
struct AsksSend<T: ?Sized>(std::marker::PhantomData<T>);
trait Otherwise {
    const IS: bool = false;
}
impl<T: ?Sized> Otherwise for T {}
impl<T: ?Sized + Send> AsksSend<T> {
    const IS: bool = true;
}

#[test]
fn locks_are_shared_and_guards_are_not_sent() {
    fn shared<T: Send + Sync>() {}
    shared::<Mutex<std::cell::Cell<i32>>>();
    shared::<RwLock<i32>>();
    shared::<Condvar>();
    shared::<WaitGroup>();
    const {
        assert!(AsksSend::<Mutex<i32>>::IS);
        assert!(!AsksSend::<MutexGuard<'static, i32>>::IS);
        assert!(!AsksSend::<RwLockReadGuard<'static, i32>>::IS);
        assert!(!AsksSend::<RwLockWriteGuard<'static, i32>>::IS);
        assert!(!AsksSend::<Mutex<std::rc::Rc<i32>>>::IS);
    }
}

static COUNT: Mutex<usize> = Mutex::new(0);
static TABLE: RwLock<[usize; 2]> = RwLock::new([0; 2]);
static CHANGED: Condvar = Condvar::new();

#[test]
fn locks_can_be_statics_and_are_small() {
    assert!(size_of::<Mutex<u8>>() <= 4 && size_of::<Condvar>() == 1);
    on_both(|| {
        *COUNT.lock() += 1;
        TABLE.write()[1] += 1;
        assert_eq!(TABLE.read()[1], *COUNT.lock());
        assert_eq!(CHANGED.notify_all(), 0);
    });
    assert_eq!(format!("{:?} {:?}", Mutex::new(1), RwLock::new(2)), "Mutex { data: 1 } RwLock { data: 2 }");
}

// ---- mutex ----

#[test]
fn a_panic_opens_the_lock_and_poisons_nothing() {
    on_both(|| {
        let (m, l) = (Mutex::new(0), RwLock::new(0));
        panic_message(|| {
            let mut n = m.lock();
            *n += 1;
            panic!("with the mutex");
        });
        panic_message(|| {
            let mut n = l.write();
            *n += 1;
            panic!("with the write lock");
        });
        panic_message(|| {
            let _n = l.read();
            panic!("with the read lock");
        });
        assert_eq!((*m.lock(), *l.write()), (1, 1));
    });
}

#[test]
fn a_guard_may_be_held_over_a_wait_and_on_another_thread() {
    let rt = builder(4).migrate_always().build().unwrap();
    rt.run(|| {
        let m = Arc::new(Mutex::new(0));
        let hs: Vec<_> = (0..20)
            .map(|_| {
                let m = m.clone();
                go!(move || {
                    let mut threads = Vec::new();
                    for _ in 0..20 {
                        let mut n = m.lock();
                        threads.push(thread::current().id());
                        time::sleep(Duration::from_micros(10));
                        threads.push(thread::current().id());
                        *n += 1;
                    }
                    threads.chunks(2).any(|pair| pair[0] != pair[1])
                })
            })
            .collect();
        assert!(join_all(hs).contains(&true), "nobody was on two threads with the guard");
        assert_eq!(*m.lock(), 400);
    });
}

#[test]
fn who_waits_for_a_mutex_gets_it_first_come_first_served() {
    at_each_size(|| {
        let m = Arc::new(Mutex::new(Vec::new()));
        let held = m.lock();
        let hs: Vec<_> = (0..50)
            .map(|i| {
                let m = m.clone();
                parked(MUTEX, move || m.lock().push(i))
            })
            .collect();
        drop(held);
        join_all(hs);
        assert_eq!(*m.lock(), (0..50).collect::<Vec<_>>());
    });
}

#[test]
fn a_fair_unlock_hands_the_lock_over() {
    at_each_size(|| {
        let m = Arc::new(Mutex::new(Vec::new()));
        let mut held = m.lock();
        let other = {
            let m = m.clone();
            parked(MUTEX, move || m.lock().push("other"))
        };
        held.push("first");
        MutexGuard::unlock_fair(held);
        m.lock().push("first");
        other.join().unwrap();
        assert_eq!(*m.lock(), ["first", "other", "first"]);
    });
}

#[test]
fn who_has_waited_for_a_millisecond_gets_the_lock_whoever_else_is_at_it() {
    at_each_size(|| {
        let (m, stop) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(false)));
        let hogs: Vec<_> = (0..3)
            .map(|_| {
                let (m, stop) = (m.clone(), stop.clone());
                go!(move || {
                    while !stop.load(SeqCst) {
                        let _held = m.lock();
                        let begun = Instant::now();
                        while begun.elapsed() < Duration::from_micros(100) {}
                    }
                })
            })
            .collect();
        // Beside three that take it again at once.
        for _ in 0..20 {
            drop(m.lock());
            yield_now();
        }
        stop.store(true, SeqCst);
        join_all(hogs);
    });
}

#[test]
fn a_lock_is_waited_for_until_the_deadline_and_not_longer() {
    on_both(|| {
        let (m, l) = (Arc::new(Mutex::new(())), Arc::new(RwLock::new(())));
        let begun = Instant::now();
        let d = Duration::from_millis(2);
        {
            let _held = (m.lock(), l.write());
            assert!(m.try_lock_for(d).is_none() && m.try_lock_until(Instant::now() + d).is_none());
            assert!(l.try_read_for(d).is_none() && l.try_read_until(Instant::now() + d).is_none());
            assert!(l.try_write_for(d).is_none() && l.try_write_until(Instant::now() + d).is_none());
            assert!(begun.elapsed() >= 6 * d, "given up too early");
            assert!(m.try_lock_for(Duration::ZERO).is_none() && l.try_read_until(begun).is_none());
        }
        {
            let _held = l.read();
            assert!(l.try_write_for(d).is_none() && l.try_write_for(Duration::ZERO).is_none());
            assert!(l.try_read_for(d).is_some(), "the writer has left something behind");
        }
        // Open ones are taken though the deadline has passed.
        assert!(m.try_lock_until(begun).is_some() && l.try_read_for(Duration::ZERO).is_some());
        assert!(l.try_write_until(begun).is_some());
    });
}

#[test]
fn a_lock_that_opens_before_the_deadline_is_taken() {
    at_each_size(|| {
        let (m, l) = (Arc::new(Mutex::new(0)), Arc::new(RwLock::new(0)));
        let held = (m.lock(), l.write());
        let hs = vec![
            {
                let m = m.clone();
                parked(MUTEX, move || *m.try_lock_for(LONG).unwrap() += 1)
            },
            {
                let m = m.clone();
                parked(MUTEX, move || *m.try_lock_for(Duration::MAX).unwrap() += 1)
            },
            {
                let l = l.clone();
                parked(READ, move || assert!(l.try_read_for(LONG).is_some()))
            },
            {
                let l = l.clone();
                parked(WRITE, move || *l.try_write_until(Instant::now() + LONG).unwrap() += 1)
            },
        ];
        drop(held);
        join_all(hs);
        assert_eq!((*m.lock(), *l.read()), (2, 1));
    });
}

/// Some give up at any moment, some do not, some are plain threads; all who do not give up get it.
#[test]
fn those_who_give_up_take_no_wake_up_along() {
    at_each_size(|| {
        let m = Arc::new(Mutex::new(0));
        let hammer = |seed: u64| {
            let m = m.clone();
            move || {
                let (mut rng, mut locked) = (Rng(seed), 0);
                for i in 0..500 {
                    let held = match rng.below(3) {
                        0 => m.try_lock_for(A_MOMENT),
                        1 => m.try_lock_for(Duration::from_nanos(rng.next() % 20_000)),
                        _ => Some(m.lock()),
                    };
                    let Some(mut n) = held else { continue };
                    *n += 1;
                    locked += 1;
                    if i % 50 == 0 {
                        // With the lock.
                        yield_now();
                    }
                }
                locked
            }
        };
        let threads: Vec<_> = (0..2).map(|i| thread::spawn(hammer(i))).collect();
        let hs: Vec<_> = (2..10).map(|i| gort::go(hammer(i))).collect();
        let mut locked: usize = join_all(hs).into_iter().sum();
        locked += gort::blocking(|| threads.into_iter().map(|t| t.join().unwrap()).sum::<usize>());
        assert_eq!(*m.lock(), locked);
    });
}

#[test]
fn a_hundred_thousand_goroutines_at_one_mutex() {
    for procs in [1, 4] {
        at_size(procs, || {
            let m = Arc::new(Mutex::new(0));
            let (wg, n) = (WaitGroup::new(), 100_000);
            let held = m.lock();
            for _ in 0..n {
                let m = m.clone();
                wg.go(move || *m.lock() += 1);
            }
            yield_now();
            drop(held);
            wg.wait();
            assert_eq!(*m.lock(), n);
        });
    }
}

#[test]
fn a_hundred_thousand_goroutines_at_as_many_mutexes() {
    at_size(2, || {
        let n = 100_000;
        let locks: Arc<Vec<Mutex<usize>>> = Arc::new((0..n).map(Mutex::new).collect());
        let held: Vec<_> = locks.iter().map(|m| m.lock()).collect();
        let (wg, begun) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
        for i in 0..n {
            let (locks, begun) = (locks.clone(), begun.clone());
            wg.go(move || {
                begun.fetch_add(1, SeqCst);
                *locks[i].lock() += 1;
            });
        }
        eventually("all have begun", || begun.load(SeqCst) == n);
        drop(held);
        wg.wait();
        assert!(locks.iter().enumerate().all(|(i, m)| *m.lock() == i + 1));
    });
}

// ---- readers and writers ----

#[test]
fn a_writer_that_waits_stops_new_readers_and_goes_before_them() {
    at_each_size(|| {
        let l = Arc::new(RwLock::new(Vec::new()));
        let first = l.read();
        let writer = {
            let l = l.clone();
            parked(WRITE, move || l.write().push("writer"))
        };
        assert!(l.try_read().is_none(), "a reader overtakes the writer");
        let reader = {
            let l = l.clone();
            parked(READ, move || assert_eq!(*l.read(), ["writer"]))
        };
        drop(first);
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn readers_that_waited_go_before_the_next_writer() {
    at_each_size(|| {
        let l = Arc::new(RwLock::new(0));
        let mut held = l.write();
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let l = l.clone();
                parked(READ, move || *l.read())
            })
            .collect();
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let l = l.clone();
                parked(WRITE, move || *l.write() += 1)
            })
            .collect();
        *held = 7;
        drop(held);
        assert_eq!(join_all(readers), [7; 3]);
        join_all(writers);
        assert_eq!(*l.read(), 9);
    });
}

#[test]
fn readers_come_together_and_a_writer_can_become_one() {
    at_each_size(|| {
        let l = Arc::new(RwLock::new(0));
        let mut held = l.write();
        let together = chan::<()>(0);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (l, together) = (l.clone(), together.clone());
                parked(READ, move || {
                    let n = l.read();
                    together.recv();
                    *n
                })
            })
            .collect();
        let writer = {
            let l = l.clone();
            parked(WRITE, move || *l.write() += 10)
        };
        *held += 1;
        let held = RwLockWriteGuard::downgrade(held);
        // Both have it beside us, or they would not take these.
        together.send(());
        together.send(());
        assert_eq!((join_all(readers), *held), (vec![1, 1], 1));
        assert!(!writer.is_finished(), "a writer has come between");
        drop(held);
        writer.join().unwrap();
        assert_eq!(*l.read(), 11);
    });
}

#[test]
fn neither_readers_nor_writers_are_kept_out() {
    at_each_size(|| {
        for writes in [true, false] {
            let (l, stop) = (Arc::new(RwLock::new(())), Arc::new(AtomicBool::new(false)));
            // Without a gap between them, if they could.
            let hogs: Vec<_> = (0..4)
                .map(|_| {
                    let (l, stop) = (l.clone(), stop.clone());
                    go!(move || {
                        while !stop.load(SeqCst) {
                            let held = (!writes).then(|| l.write());
                            let _held = (writes.then(|| l.read()), held);
                            yield_now();
                        }
                    })
                })
                .collect();
            for _ in 0..50 {
                if writes { drop(l.write()) } else { drop(l.read()) }
            }
            stop.store(true, SeqCst);
            join_all(hogs);
        }
    });
}

#[test]
fn readers_and_writers_who_give_up_leave_nothing_behind() {
    at_each_size(|| {
        let (l, inside) = (Arc::new(RwLock::new(0)), Arc::new(AtomicUsize::new(0)));
        let hammer = |seed: u64| {
            let (l, inside) = (l.clone(), inside.clone());
            move || {
                let (mut rng, mut written) = (Rng(seed), 0);
                for _ in 0..400 {
                    let d = Duration::from_nanos(rng.next() % 30_000);
                    let read = match rng.below(4) {
                        0 => Some(l.read()),
                        1 => l.try_read_for(d),
                        _ => None,
                    };
                    if let Some(_held) = read {
                        assert!(inside.fetch_add(1, SeqCst) < 1000, "a reader beside a writer");
                        if rng.below(10) == 0 {
                            yield_now();
                        }
                        inside.fetch_sub(1, SeqCst);
                        continue;
                    }
                    let write = match rng.below(4) {
                        0 => Some(l.write()),
                        1 => l.try_write(),
                        _ => l.try_write_for(d),
                    };
                    if let Some(mut n) = write {
                        assert_eq!(inside.fetch_add(1000, SeqCst), 0, "a writer is not alone");
                        *n += 1;
                        written += 1;
                        inside.fetch_sub(1000, SeqCst);
                    }
                }
                written
            }
        };
        let threads: Vec<_> = (0..2).map(|i| thread::spawn(hammer(i))).collect();
        let hs: Vec<_> = (2..10).map(|i| gort::go(hammer(i))).collect();
        let mut written: usize = join_all(hs).into_iter().sum();
        written += gort::blocking(|| threads.into_iter().map(|t| t.join().unwrap()).sum::<usize>());
        assert!(!l.is_locked());
        assert_eq!(*l.write(), written);
    });
}

#[test]
fn a_hundred_thousand_readers_are_let_in_at_once() {
    at_size(2, || {
        let (l, wg, n) = (Arc::new(RwLock::new(0)), WaitGroup::new(), 100_000);
        let mut held = l.write();
        let sum = Arc::new(AtomicUsize::new(0));
        for _ in 0..n {
            let (l, sum) = (l.clone(), sum.clone());
            wg.go(move || _ = sum.fetch_add(*l.read(), SeqCst));
        }
        yield_now();
        *held = 1;
        drop(held);
        wg.wait();
        assert_eq!(sum.load(SeqCst), n);
    });
}

// ---- condition variables ----

#[test]
fn notifications_go_to_those_who_wait_first_come_first_served() {
    at_each_size(|| {
        let pair = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let hs: Vec<_> = (0..20)
            .map(|i| {
                let pair = pair.clone();
                parked(COND, move || {
                    let (m, c) = &*pair;
                    let mut order = m.lock();
                    // Some with a deadline that does not come.
                    if i % 2 == 0 {
                        c.wait(&mut order);
                    } else {
                        assert!(!c.wait_for(&mut order, LONG).timed_out());
                    }
                    order.push(i);
                })
            })
            .collect();
        let (m, c) = &*pair;
        for woken in 1..=20 {
            assert!(c.notify_one());
            eventually("the notified one has gone on", || m.lock().len() == woken);
        }
        assert!(!c.notify_one(), "nobody waits");
        join_all(hs);
        assert_eq!(*m.lock(), (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn a_wait_for_a_condition_ends_when_it_holds_or_at_the_deadline() {
    on_both(|| {
        let pair = Arc::new((Mutex::new(0), Condvar::new()));
        let (m, c) = &*pair;
        let mut n = m.lock();
        let (begun, d) = (Instant::now(), Duration::from_millis(2));
        assert!(c.wait_for(&mut n, d).timed_out());
        assert!(c.wait_until(&mut n, Instant::now() + d).timed_out());
        assert!(c.wait_while_for(&mut n, |n| *n == 0, d).timed_out());
        assert!(begun.elapsed() >= 3 * d, "given up too early");
        assert!(!c.wait_while_for(&mut n, |n| *n != 0, d).timed_out(), "it holds");
        let other = {
            let pair = pair.clone();
            go!(move || {
                for _ in 0..10 {
                    *pair.0.lock() += 1;
                    pair.1.notify_one();
                    yield_now();
                }
            })
        };
        c.wait_while(&mut n, |n| *n < 10);
        assert_eq!(*n, 10);
        drop(n);
        other.join().unwrap();
    });
}

/// As many waits are notified as there were notifications that found one, whatever the deadlines do.
#[test]
fn a_notification_or_a_deadline_ends_a_wait_and_no_notification_is_lost() {
    at_each_size(|| {
        let pair = Arc::new((Mutex::new(()), Condvar::new()));
        let (told, stop) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
        let hammer = |seed: u64| {
            let (pair, stop) = (pair.clone(), stop.clone());
            move || {
                let (mut rng, mut notified) = (Rng(seed), 0);
                for _ in 0..300 {
                    let mut held = pair.0.lock();
                    let d = Duration::from_nanos(rng.next() % 40_000);
                    notified += usize::from(!pair.1.wait_for(&mut held, d).timed_out());
                }
                let _ = stop;
                notified
            }
        };
        let threads: Vec<_> = (0..2).map(|i| thread::spawn(hammer(i))).collect();
        let hs: Vec<_> = (2..8).map(|i| gort::go(hammer(i))).collect();
        let notifier = {
            let (pair, stop) = (pair.clone(), stop.clone());
            go!(move || {
                let mut told = 0;
                while !stop.load(SeqCst) {
                    told += usize::from(pair.1.notify_one());
                    if told % 7 == 0 {
                        told += pair.1.notify_all();
                    }
                    yield_now();
                }
                told
            })
        };
        let mut notified: usize = join_all(hs).into_iter().sum();
        notified += gort::blocking(|| threads.into_iter().map(|t| t.join().unwrap()).sum::<usize>());
        stop.store(true, SeqCst);
        told.store(notifier.join().unwrap(), SeqCst);
        assert_eq!(notified, told.load(SeqCst));
        assert!(!pair.1.notify_one());
    });
}

#[test]
fn a_hundred_thousand_waits_end_by_one_notification() {
    at_size(2, || {
        let (pair, wg, n) = (Arc::new((Mutex::new(0), Condvar::new())), WaitGroup::new(), 100_000);
        for _ in 0..n {
            let pair = pair.clone();
            wg.go(move || {
                let mut count = pair.0.lock();
                *count += 1;
                pair.1.wait(&mut count);
            });
        }
        eventually("all wait", || *pair.0.lock() == n);
        assert_eq!(pair.1.notify_all(), n);
        wg.wait();
    });
}

// ---- wait groups ----

#[test]
fn a_group_counts_down_also_if_the_function_panics() {
    on_both(|| {
        let wg = WaitGroup::new();
        wg.go(|| panic!("expected by the test"));
        wg.wait();
    });
}

#[test]
fn a_count_that_does_not_fit_is_refused_and_stays() {
    on_both(|| {
        let wg = WaitGroup::default();
        wg.add(2);
        for n in [-3, isize::MIN, isize::MAX, i32::MAX as isize] {
            assert_eq!(panic_message(|| wg.add(n)), "sync: negative WaitGroup counter");
        }
        wg.done();
        wg.clone().add(-1);
        wg.wait();
    });
}

#[test]
fn a_group_that_is_used_again_too_early_is_found_out() {
    at_size(1, || {
        let wg = WaitGroup::new();
        wg.add(1);
        let waiter = {
            let wg = wg.clone();
            parked(WAIT, move || panic_message(|| wg.wait()))
        };
        wg.done();
        // It has not run yet.
        wg.add(1);
        let told = waiter.join().unwrap();
        assert_eq!(told, "sync: WaitGroup is reused before previous Wait has returned");
        wg.done();
        wg.wait();
    });
}

#[test]
fn a_hundred_thousand_waits_end_with_the_group() {
    at_size(2, || {
        let (begin, end, n) = (WaitGroup::new(), WaitGroup::new(), 100_000);
        begin.add(1);
        for _ in 0..n {
            let begin = begin.clone();
            end.go(move || begin.wait());
        }
        yield_now();
        begin.done();
        end.wait();
    });
}

// ---- all of them ----

#[test]
fn goroutines_and_plain_threads_meet() {
    at_each_size(|| {
        let pair = Arc::new((Mutex::new(0), Condvar::new(), RwLock::new(0)));
        let wg = WaitGroup::new();
        let rounds = 100;
        // Two who take turns, one a plain thread.
        let turn = |mine: usize| {
            let (pair, wg) = (pair.clone(), wg.clone());
            wg.add(1);
            move || {
                let (m, c, l) = &*pair;
                for _ in 0..rounds {
                    let mut n = m.lock();
                    c.wait_while(&mut n, |n| *n % 2 != mine);
                    *n += 1;
                    *l.write() += 1;
                    c.notify_one();
                }
                wg.done();
            }
        };
        thread::spawn(turn(0));
        gort::go(turn(1));
        wg.wait();
        assert_eq!((*pair.0.lock(), *pair.2.read()), (2 * rounds, 2 * rounds));
    });
}

#[test]
fn who_must_not_be_suspended_is_told_and_leaves_no_trace() {
    at_each_size(|| {
        let pair = Arc::new((Mutex::new(()), Condvar::new(), RwLock::new(())));
        let (m, c, l) = &*pair;
        let wg = WaitGroup::new();
        wg.add(1);
        let refused = |f: &dyn Fn()| {
            let message = panic_message(|| {
                let _stay = gort::no_suspend();
                f();
            });
            assert!(message.contains("NoSuspendGuard"), "{message}");
        };
        {
            let _stay = gort::no_suspend();
            // Without a wait they may.
            drop((m.lock(), l.write()));
            drop(l.read());
            c.notify_all();
        }
        let held = m.lock();
        refused(&|| drop(m.lock()));
        refused(&|| drop(m.try_lock_for(LONG)));
        drop(held);
        let mut held = m.lock();
        let again = catch_unwind(AssertUnwindSafe(|| {
            let _stay = gort::no_suspend();
            c.wait(&mut held);
        }));
        assert!(again.is_err() && m.is_locked());
        drop(held);
        let held = l.write();
        refused(&|| drop(l.read()));
        refused(&|| drop(l.write()));
        drop(held);
        let held = l.read();
        refused(&|| drop(l.write()));
        refused(&|| drop(l.try_write_for(LONG)));
        assert!(l.try_read().is_some(), "the writer was refused, and stops nobody");
        drop(held);
        refused(&|| wg.wait());
        wg.done();
        assert!(!m.is_locked() && !l.is_locked());
    });
}

#[test]
fn those_who_were_abandoned_with_their_runtime_are_passed_over() {
    let pair = Arc::new((Mutex::new(()), Condvar::new(), RwLock::new(())));
    let abandoned = builder(2).build().unwrap();
    let (held, write) = (pair.0.lock(), pair.2.write());
    abandoned.run(|| {
        for (reason, which) in [(MUTEX, 0), (READ, 1), (WRITE, 2), (COND, 3)] {
            let pair = pair.clone();
            drop(parked(reason, move || match which {
                0 => drop(pair.0.lock()),
                1 => drop(pair.2.read()),
                2 => drop(pair.2.write()),
                _ => pair.1.wait(&mut Mutex::new(()).lock()),
            }));
        }
    });
    assert_eq!(abandoned.shutdown_timeout(Duration::ZERO), 4);
    let _watch = Watchdog::arm("the waits after them");
    let live = builder(2).build().unwrap();
    let hs: Vec<_> = live.run(|| {
        [(MUTEX, 0), (READ, 1), (WRITE, 2), (COND, 3)]
            .into_iter()
            .map(|(reason, which)| {
                let pair = pair.clone();
                parked(reason, move || match which {
                    0 => drop(pair.0.lock()),
                    1 => drop(pair.2.read()),
                    2 => drop(pair.2.write()),
                    _ => pair.1.wait(&mut Mutex::new(()).lock()),
                })
            })
            .collect()
    });
    drop((held, write));
    live.run(|| {
        assert!(pair.1.notify_one());
        join_all(hs);
        assert!(!pair.1.notify_one());
    });
    assert_eq!(live.shutdown_timeout(Duration::from_secs(20)), 0, "goroutines are left");
    assert!(!pair.0.is_locked() && !pair.2.is_locked());
}

/// Its drop panics.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[test]
fn errors_and_panics_of_a_group_whose_drop_panics_end_no_process() {
    /// The panic that a group ends with; its payload is not dropped.
    fn panics(run: impl FnOnce() -> Result<(), Bomb>) -> Box<dyn std::any::Any + Send> {
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(outcome) => {
                std::mem::forget(outcome);
                panic!("it should have panicked")
            }
            Err(payload) => payload,
        }
    }
    on_both(|| {
        // The second error is dropped by the goroutine that gave it: a panic of that one.
        let payload = panics(|| ErrGroup::scope(|g| (0..3).for_each(|_| g.go(|| Err(Bomb)))));
        assert_eq!(message(&*payload), "dropped");
        let group = ErrGroup::new();
        (0..3).for_each(|_| group.go(|| Err(Bomb)));
        assert_eq!(message(&*panics(|| group.wait())), "dropped");
        // The first panic is raised again, the others are dropped.
        let payload = panics(|| ErrGroup::scope(|g| (0..3).for_each(|_| g.go(|| panic_any(Bomb)))));
        assert!(payload.is::<Bomb>());
        std::mem::forget(payload);
        // The body's panic goes before the goroutines' errors and panics.
        let payload = panics(|| {
            ErrGroup::scope(|g| {
                g.go(|| Err(Bomb));
                g.go(|| panic_any(Bomb));
                panic!("of the body")
            })
        });
        assert_eq!(message(&*payload), "of the body");
    });
}
