//! The real scheduler under shuttle: real goroutines on their stacks, on Ms that are threads of the model, which chooses
//! at every atomic operation who goes on. See docs/architecture.md, "The scheduler in a model".
//!
//! Every case runs at each of [`SETTINGS`] under [`SCHEDULES`] schedules, or `GORT_SHUTTLE_SCHEDULES`; a failure prints the
//! seed of its schedule, and `GORT_SHUTTLE_SEED=<seed> GORT_SHUTTLE_SCHEDULES=1` with the name of the case runs that
//! one again. Where a broken invariant ends the process, the seed that was printed last and as many schedules do.
//!
//! An execution is over when every thread has ended, those of the runtime too; if one cannot, that is a deadlock and
//! fails the case. So each case also says that its runtime's threads all end.
#![cfg(shuttle)]

use gort::sync::{
    Barrier, Condvar, ErrGroup, Mutex, MutexGuard, Once, OnceLock, RwLock, Semaphore, WaitGroup,
};
use gort::{Runtime, RuntimeBuilder, chan, channel, context, select, time};
use shuttle::rand::RngCore;
use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId, UncontrolledNondeterminismCheckScheduler};
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner, thread};
use std::collections::BTreeMap;
use std::env;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::thread::panicking;
use std::time::Duration;

/// Ps and where goroutines go on.
const SETTINGS: [(usize, Migrate); 5] =
    [(1, Migrate::Free), (2, Migrate::Free), (3, Migrate::Free), (2, Migrate::Always), (2, Migrate::Never)];

#[derive(Clone, Copy, Debug)]
enum Migrate {
    Free,
    Always,
    Never,
}

/// Schedules for each setting.
const SCHEDULES: usize = 600;
/// More steps than any schedule of these cases takes: who takes more runs in circles.
const STEPS: usize = 1_000_000;

/// Who goes on at each step, by one seed for each execution. Two ways in turns, because they find different faults:
///
/// - **runs**: a thread goes on for some steps, then any other one does. How many is chosen for each execution, from 1 to
///   some hundreds: what takes one switch at the wrong moment and then much to happen elsewhere needs long ones.
/// - **ranks** (PCT): the runnable thread of the first rank goes on, and comes last from a few steps on that are
///   chosen in advance. So a thread may stand still in the middle of something until all others can do no more.
#[derive(Debug)]
struct Chance {
    left: usize,
    seed: u64,
    state: u64,
    /// A thread goes on with so many chances to one. 0: by ranks.
    run: u64,
    ranks: BTreeMap<usize, u64>,
    last: u64,
    changes: Vec<usize>,
    step: usize,
}

/// Steps at which a thread comes last, at most.
const CHANGES: u64 = 6;

impl Chance {
    fn new(seed: u64, schedules: usize) -> Chance {
        Chance {
            left: schedules,
            seed,
            state: seed,
            run: 0,
            ranks: BTreeMap::new(),
            last: 0,
            changes: Vec::new(),
            step: 0,
        }
    }

    /// splitmix64.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.draw() % n as u64) as usize
    }
}

impl Scheduler for Chance {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.left = self.left.checked_sub(1)?;
        if self.step > 0 {
            // The seed that was asked for is the first one's.
            self.state = self.seed;
            self.seed = self.draw();
        }
        self.state = self.seed;
        self.step = 0;
        self.last = 1 << 32;
        self.ranks.clear();
        let way = self.draw();
        self.run = if way & 1 == 0 { 0 } else { 1 << ((way >> 1) % 9) };
        // Executions have some thousand steps; the changes come anywhere in the first so many of them.
        let within = 1 << (6 + (way >> 8) % 8);
        self.changes = (0..(way >> 16) % (CHANGES + 1)).map(|_| self.below(within)).collect();
        Some(Schedule::new(self.seed))
    }

    fn next_task(&mut self, runnable: &[&Task], current: Option<TaskId>, yields: bool) -> Option<TaskId> {
        self.step += 1;
        if self.run > 0 {
            let stays = !yields && self.draw() % self.run != 0;
            let stays = current.filter(|c| stays && runnable.iter().any(|t| t.id() == *c));
            return stays.or_else(|| Some(runnable[self.below(runnable.len())].id()));
        }
        if let Some(current) = current
            && (yields || self.changes.contains(&self.step))
        {
            self.last += 1;
            self.ranks.insert(current.into(), self.last);
        }
        for t in runnable {
            if !self.ranks.contains_key(&t.id().into()) {
                let rank = self.draw() >> 32;
                self.ranks.insert(t.id().into(), rank);
            }
        }
        runnable.iter().map(|t| t.id()).min_by_key(|id| self.ranks[&usize::from(*id)])
    }

    fn next_u64(&mut self) -> u64 {
        self.draw()
    }
}

impl Drop for Chance {
    fn drop(&mut self) {
        if panicking() {
            eprintln!("failed with GORT_SHUTTLE_SEED={}, after {} steps", self.seed, self.step);
        }
    }
}

fn builder((procs, migrate): (usize, Migrate)) -> RuntimeBuilder {
    let builder = Runtime::builder().max_procs(procs);
    match migrate {
        Migrate::Free => builder,
        Migrate::Always => builder.migrate_always(),
        Migrate::Never => builder.migrate(false),
    }
}

fn number(name: &str, default: impl FnOnce() -> u64) -> u64 {
    env::var(name).map_or_else(|_| default(), |n| n.parse().expect("a number"))
}

/// Runs a case under many schedules.
fn check(case: fn(RuntimeBuilder)) {
    let schedules = number("GORT_SHUTTLE_SCHEDULES", || SCHEDULES as u64) as usize;
    for setting in SETTINGS {
        run(setting, case, |seed| Chance::new(seed, schedules));
    }
}

fn run<S: Scheduler + 'static>(
    setting: (usize, Migrate),
    case: fn(RuntimeBuilder),
    scheduler: impl Fn(u64) -> S,
) {
    let seed = number("GORT_SHUTTLE_SEED", || RandomState::new().hash_one(0));
    // Said now, for ends of the process without a last word.
    eprintln!("{setting:?} from GORT_SHUTTLE_SEED={seed}");
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    Runner::new(scheduler(seed), config).run(move || case(builder(setting)));
}

/// Ends a runtime that has nothing left to run.
fn end(rt: Runtime) {
    assert_eq!(rt.shutdown_timeout(Duration::from_millis(50)), 0, "goroutines were left");
}

#[test]
fn two_goroutines_pass_a_value_to_and_fro() {
    check(ping_pong);
}

#[test]
fn the_same_seed_gives_the_same_schedule() {
    for setting in SETTINGS {
        run(setting, ping_pong, |seed| UncontrolledNondeterminismCheckScheduler::new(Chance::new(seed, 20)));
    }
}

fn ping_pong(builder: RuntimeBuilder) {
    let rt = builder.build().unwrap();
    let sum = rt.run(|| {
        let (ping, pong) = (chan(0), chan(0));
        let (there, back) = (ping.clone(), pong.clone());
        let echo = gort::go(move || {
            for n in there.iter() {
                back.send(n + 1);
            }
        });
        let mut n = 0;
        for _ in 0..4 {
            ping.send(n);
            n = pong.recv().unwrap();
        }
        ping.close();
        echo.join().unwrap();
        n
    });
    assert_eq!(sum, 4);
    end(rt);
}

#[test]
fn every_value_of_many_producers_comes_to_one_consumer_once() {
    check(|builder| {
        const PRODUCERS: usize = 3;
        const EACH: usize = 3;
        let rt = builder.build().unwrap();
        let mut all = rt.run(|| {
            let (tx, rx) = channel(1);
            for p in 0..PRODUCERS {
                let tx = tx.clone();
                gort::go(move || (0..EACH).for_each(|i| tx.send(p * EACH + i).unwrap()));
            }
            drop(tx);
            let consumers: Vec<_> = (0..2)
                .map(|_| {
                    let rx = rx.clone();
                    gort::go(move || rx.iter().collect::<Vec<_>>())
                })
                .collect();
            let mut all = Vec::new();
            for consumer in consumers {
                let got = consumer.join().unwrap();
                for p in 0..PRODUCERS {
                    assert!(got.iter().filter(|v| *v / EACH == p).is_sorted(), "out of order: {got:?}");
                }
                all.extend(got);
            }
            all
        });
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..PRODUCERS * EACH), "{all:?}");
        end(rt);
    });
}

#[test]
fn a_select_takes_each_value_once_and_sees_each_close() {
    check(|builder| {
        let rt = builder.build().unwrap();
        let (sum, closed) = rt.run(|| {
            let (a, b) = (chan::<usize>(0), chan::<usize>(1));
            for (ch, first) in [(a.clone(), 1), (b.clone(), 10)] {
                gort::go(move || {
                    ch.send(first);
                    ch.send(first);
                    ch.close();
                });
            }
            let (mut a, mut b) = (a, b);
            let (mut sum, mut closed) = (0, 0);
            while closed < 2 {
                select! {
                    recv(a) -> v => match v {
                        Some(v) => sum += v,
                        None => { closed += 1; a = gort::Chan::nil(); }
                    },
                    recv(b) -> v => match v {
                        Some(v) => sum += v,
                        None => { closed += 1; b = gort::Chan::nil(); }
                    },
                }
            }
            (sum, closed)
        });
        assert_eq!((sum, closed), (22, 2));
        end(rt);
    });
}

#[test]
fn two_selects_that_could_serve_each_other_do() {
    check(|builder| {
        let rt = builder.build().unwrap();
        rt.run(|| {
            let (a, b) = (chan::<usize>(0), chan::<usize>(0));
            let (a2, b2) = (a.clone(), b.clone());
            let other = gort::go(move || {
                select! {
                    send(a2, 1) => 10,
                    recv(b2) -> v => v.unwrap(),
                }
            });
            let mine = select! {
                recv(a) -> v => v.unwrap(),
                send(b, 2) => 20,
            };
            let other = other.join().unwrap();
            assert!([(1, 10), (20, 2)].contains(&(mine, other)), "{mine} {other}");
        });
        end(rt);
    });
}

/// A time of which chance says whether it is over before anything else happens.
fn a_moment() -> Duration {
    Duration::from_micros(shuttle::rand::thread_rng().next_u64() % 32)
}

#[test]
fn every_sleeper_wakes() {
    check(|builder| {
        let rt = builder.build().unwrap();
        rt.run(|| {
            let sleepers: Vec<_> =
                (0..3).map(|_| gort::go(|| (0..3).for_each(|_| gort::time::sleep(a_moment())))).collect();
            gort::time::sleep(a_moment());
            sleepers.into_iter().for_each(|s| s.join().unwrap());
        });
        end(rt);
    });
}

#[test]
fn a_receive_with_a_deadline_gets_the_value_or_leaves_it() {
    check(|builder| {
        let rt = builder.build().unwrap();
        rt.run(|| {
            let ch = chan::<usize>(0);
            let tx = ch.clone();
            let sender = gort::go(move || {
                gort::time::sleep(a_moment());
                tx.send_timeout(7, a_moment()).is_ok()
            });
            let got = ch.recv_timeout(a_moment()) == Ok(7);
            let then = select! {
                recv(ch) -> v => v == Some(7),
                recv(gort::time::after(a_moment())) -> _ => false,
            };
            assert!(!got || !then, "received twice");
            assert_eq!(sender.join().unwrap(), got || then);
        });
        end(rt);
    });
}

#[test]
fn plain_threads_and_goroutines_serve_each_other() {
    check(|builder| {
        let rt = builder.build().unwrap();
        let (to, from) = (chan::<usize>(0), chan::<usize>(0));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (to, from) = (to.clone(), from.clone());
                rt.go(move || {
                    for n in to.iter() {
                        from.send(2 * n);
                    }
                })
            })
            .collect();
        let threads: Vec<_> = (1..3)
            .map(|n| {
                let (to, from) = (to.clone(), from.clone());
                thread::spawn(move || {
                    to.send(n);
                    from.recv().unwrap()
                })
            })
            .collect();
        let sum: usize = threads.into_iter().map(|t| t.join().unwrap()).sum();
        assert_eq!(sum, 6);
        to.close();
        workers.into_iter().for_each(|w| w.join().unwrap());
        end(rt);
    });
}

#[test]
fn a_thread_that_was_served_may_end_at_once() {
    check(|builder| {
        let rt = builder.build().unwrap();
        let ch = chan::<usize>(0);
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let ch = ch.clone();
                thread::spawn(move || ch.recv().unwrap())
            })
            .collect();
        let sender = rt.go(move || (0..3).for_each(|n| ch.send(n)));
        let sum: usize = threads.into_iter().map(|t| t.join().unwrap()).sum();
        assert_eq!(sum, 3);
        sender.join().unwrap();
        end(rt);
    });
}

#[test]
fn a_tree_of_goroutines_is_counted_to_its_last_leaf() {
    fn grow(depth: usize, leaves: &Arc<AtomicUsize>) {
        if depth == 0 {
            leaves.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let children: Vec<_> = (0..2)
            .map(|_| {
                let leaves = Arc::clone(leaves);
                gort::go(move || grow(depth - 1, &leaves))
            })
            .collect();
        gort::yield_now();
        children.into_iter().for_each(|c| c.join().unwrap());
    }
    check(|builder| {
        let rt = builder.build().unwrap();
        let leaves = Arc::new(AtomicUsize::new(0));
        rt.run(|| grow(3, &leaves));
        assert_eq!(leaves.load(Ordering::Relaxed), 8);
        end(rt);
    });
}

#[test]
fn a_wait_group_and_detached_goroutines_end() {
    check(|builder| {
        let rt = builder.build().unwrap();
        let done = rt.run(|| {
            let wg = gort::sync::WaitGroup::new();
            let done = Arc::new(AtomicUsize::new(0));
            for _ in 0..4 {
                let done = Arc::clone(&done);
                wg.go(move || {
                    gort::yield_now();
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
            wg.wait();
            done.load(Ordering::Relaxed)
        });
        assert_eq!(done, 4);
        end(rt);
    });
}

#[test]
fn a_runtime_ends_while_its_goroutines_wait_run_and_come() {
    check(|builder| {
        let rt = builder.build().unwrap();
        let ch = chan::<usize>(0);
        let parked = ch.clone();
        rt.go(move || parked.recv());
        rt.go(|| gort::time::sleep(Duration::from_secs(3600)));
        rt.go(|| (0..3).for_each(|_| gort::yield_now()));
        let abandoned = rt.shutdown_timeout(Duration::ZERO);
        assert!(abandoned <= 3);
        // Nobody, or somebody who will not run any more.
        let _ = ch.try_send(1);
    });
}

#[test]
fn a_runtime_ends_whose_last_handle_goes_on_one_of_its_goroutines() {
    check(|builder| {
        let rt = Arc::new(builder.build().unwrap());
        let (last, gone) = (rt.clone(), chan::<()>(0));
        let is_gone = gone.clone();
        let h = rt.go(move || {
            let parked = gone.clone();
            drop(last.go(move || parked.recv()));
            drop(last.go(gort::yield_now));
            let ours_is_gone = gone.recv().is_none();
            drop(last);
            ours_is_gone
        });
        drop(rt);
        is_gone.close();
        assert!(h.join().unwrap());
    });
}

#[test]
fn two_runtimes_wake_each_other_and_end() {
    check(|builder| {
        let (a, b) = (builder.clone().build().unwrap(), builder.build().unwrap());
        let (there, back) = (chan::<usize>(0), chan::<usize>(0));
        let (rx, tx) = (there.clone(), back.clone());
        let far = b.go(move || tx.send(rx.recv().unwrap() + 1));
        let got = a.run(|| {
            there.send(1);
            back.recv().unwrap()
        });
        assert_eq!(got, 2);
        end(a);
        far.join().unwrap();
        end(b);
    });
}

#[test]
fn goroutines_that_compute_or_block_lose_their_p_and_get_another() {
    check(|builder| {
        let rt = builder.build().unwrap();
        let ch = chan(0);
        let given = ch.clone();
        rt.run(move || {
            let all: Vec<_> = (0..3)
                .map(|i| {
                    let ch = given.clone();
                    gort::go(move || {
                        gort::blocking(|| ch.send(i));
                        // Comes into the runtime again and again, now with a P, now without.
                        let child = gort::go(move || i);
                        gort::yield_now();
                        assert_eq!(child.join().unwrap(), i);
                    })
                })
                .collect();
            let mut got: Vec<i32> = given.iter().take(3).collect();
            got.sort_unstable();
            assert_eq!(got, [0, 1, 2]);
            all.into_iter().for_each(|h| h.join().unwrap());
        });
        assert_eq!(rt.num_goroutines(), 0);
    });
}

#[test]
fn locked_goroutines_take_turns_with_the_others() {
    check(|builder| {
        let rt = builder.build().unwrap();
        // No goroutine on this side: one that has started on the thread that is locked would wait for it, if it may not go
        // elsewhere.
        {
            let (there, back) = (chan(0), chan(0));
            let (from, to) = (there.clone(), back.clone());
            let locked = rt.go(move || {
                let _mine = gort::lock_os_thread();
                for n in from.iter() {
                    gort::yield_now();
                    to.send(n + 1);
                }
            });
            let other = rt.go(gort::yield_now);
            for n in 0..3 {
                there.send(n);
                assert_eq!(back.recv(), Some(n + 1));
            }
            there.close();
            locked.join().unwrap();
            other.join().unwrap();
            // Takes its thread with it.
            rt.go(|| std::mem::forget(gort::lock_os_thread())).join().unwrap();
        }
    });
}

/// Two Ps with work in their queues are given up for one goroutine that waits in line for a P; the second becomes idle.
#[test]
fn what_is_in_the_queue_of_a_p_that_is_given_up_is_run() {
    check(|builder| {
        let rt = builder.max_procs(3).build().unwrap();
        rt.run(|| {
            let both: Vec<_> = (0..2)
                .map(|_| {
                    gort::go(|| {
                        let child = gort::go(|| ());
                        gort::blocking(thread::yield_now);
                        child.join().unwrap();
                    })
                })
                .collect();
            let locked = gort::lock_os_thread();
            gort::yield_now();
            drop(locked);
            both.into_iter().for_each(|one| one.join().unwrap());
        });
    });
}

/// In a model a P sits out whenever it was kept waiting at a channel's lock.
#[test]
fn what_a_p_leaves_that_sits_out_is_run_by_another() {
    check(|builder| {
        let rt = builder.build().unwrap();
        rt.run(|| {
            let (tx, rx) = channel(0);
            let senders: Vec<_> = (0..4)
                .map(|i| {
                    let tx = tx.clone();
                    gort::go(move || (0..2).for_each(|_| tx.send(i).unwrap()))
                })
                .collect();
            assert_eq!((0..8).map(|_| rx.recv().unwrap()).sum::<usize>(), 2 * (1 + 2 + 3));
            senders.into_iter().for_each(|sender| sender.join().unwrap());
        });
    });
}

#[test]
fn the_number_of_ps_changes_under_the_goroutines() {
    check(|builder| {
        let rt = builder.build().unwrap();
        rt.run(|| {
            let all: Vec<_> = (0..3)
                .map(|_| {
                    gort::go(|| {
                        gort::yield_now();
                        gort::go(gort::yield_now).join().unwrap();
                    })
                })
                .collect();
            for n in [1, 3, 2] {
                gort::set_max_procs(n);
                assert_eq!(gort::max_procs(), n);
            }
            all.into_iter().for_each(|h| h.join().unwrap());
        });
    });
}

/// A number that goroutines change together: who is at it finds nobody else there.
#[derive(Default)]
struct Guarded {
    inside: AtomicUsize,
    times: AtomicUsize,
}

impl Guarded {
    fn alone(&self) {
        assert_eq!(self.inside.fetch_add(1, Ordering::Relaxed), 0, "not alone");
        self.times.fetch_add(1, Ordering::Relaxed);
        self.inside.fetch_sub(1, Ordering::Relaxed);
    }

    fn times(&self) -> usize {
        self.times.load(Ordering::Relaxed)
    }
}

/// Goroutines that all do the same.
fn each<T: Send + 'static>(
    rt: &Runtime,
    n: usize,
    f: impl Fn(usize) -> T + Clone + Send + 'static,
) -> Vec<gort::JoinHandle<T>> {
    (0..n)
        .map(|i| {
            let f = f.clone();
            rt.go(move || f(i))
        })
        .collect()
}

/// What they all said.
fn joined<T>(handles: Vec<gort::JoinHandle<T>>) -> Vec<T> {
    handles.into_iter().map(|h| h.join().unwrap()).collect()
}

#[test]
fn a_mutex_is_held_by_one_and_wakes_all_who_wait() {
    check(|builder| {
        let rt = builder.build().unwrap();
        let shared = Arc::new((Mutex::new(()), Guarded::default()));
        let s = shared.clone();
        let patient = each(&rt, 2, move |_| {
            for _ in 0..2 {
                let _held = s.0.lock();
                s.1.alone();
                gort::yield_now();
            }
        });
        let s = shared.clone();
        let timed = each(&rt, 2, move |_| {
            let held = s.0.try_lock_for(a_moment());
            held.iter().for_each(|_| s.1.alone());
            usize::from(held.is_some())
        });
        let s = shared.clone();
        let thread = thread::spawn(move || {
            let _held = s.0.lock();
            s.1.alone();
        });
        joined(patient);
        thread.join().unwrap();
        let in_time: usize = joined(timed).into_iter().sum();
        assert_eq!(shared.1.times(), 5 + in_time);
        assert!(shared.0.try_lock().is_some(), "held by nobody, and not open");
        end(rt);
    });
}

#[test]
fn a_mutex_that_is_handed_over_reaches_who_waits() {
    check(|builder| {
        let rt = builder.build().unwrap();
        let shared = Arc::new((Mutex::new(()), Guarded::default()));
        let s = shared.clone();
        let fair = each(&rt, 2, move |_| {
            for _ in 0..2 {
                let held = s.0.lock();
                s.1.alone();
                MutexGuard::unlock_fair(held);
            }
        });
        let s = shared.clone();
        let timed = rt.go(move || s.0.try_lock_for(a_moment()).iter().for_each(|_| s.1.alone()));
        joined(fair);
        timed.join().unwrap();
        assert!((4..=5).contains(&shared.1.times()));
        assert!(shared.0.try_lock().is_some(), "held by nobody, and not open");
        end(rt);
    });
}

#[test]
fn a_writer_is_alone_and_readers_come_between() {
    check(|builder| {
        let rt = builder.build().unwrap();
        let shared = Arc::new((RwLock::new(()), Guarded::default()));
        let s = shared.clone();
        let writers = each(&rt, 2, move |i| {
            if i == 0 {
                let _held = s.0.write();
                s.1.alone();
                gort::yield_now();
                1
            } else {
                let held = s.0.try_write_for(a_moment());
                held.iter().for_each(|_| s.1.alone());
                usize::from(held.is_some())
            }
        });
        let s = shared.clone();
        let readers = each(&rt, 2, move |i| {
            for _ in 0..2 {
                let held = if i == 0 { Some(s.0.read()) } else { s.0.try_read_for(a_moment()) };
                if held.is_some() {
                    let before = s.1.times();
                    gort::yield_now();
                    assert_eq!(
                        (s.1.inside.load(Ordering::Relaxed), s.1.times()),
                        (0, before),
                        "a writer is there"
                    );
                }
            }
        });
        joined(readers);
        let written: usize = joined(writers).into_iter().sum();
        assert_eq!(shared.1.times(), written);
        assert!(shared.0.try_write().is_some(), "held by nobody, and not open");
        end(rt);
    });
}

#[test]
fn a_condition_that_has_come_true_is_seen_by_all_who_wait_for_it() {
    check(|builder| {
        let rt = builder.build().unwrap();
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let s = shared.clone();
        let patient = each(&rt, 2, move |_| {
            let mut permits = s.0.lock();
            while *permits == 0 {
                s.1.wait(&mut permits);
            }
            *permits -= 1;
        });
        let s = shared.clone();
        let timed = rt.go(move || {
            let mut permits = s.0.lock();
            if !s.1.wait_for(&mut permits, a_moment()).timed_out() {
                // It was meant for another one.
                s.1.notify_one();
            }
        });
        let s = shared.clone();
        let gives = rt.go(move || {
            for _ in 0..2 {
                *s.0.lock() += 1;
                s.1.notify_one();
                gort::yield_now();
            }
        });
        gives.join().unwrap();
        joined(patient);
        timed.join().unwrap();
        assert_eq!(*shared.0.lock(), 0);
        end(rt);
    });
}

#[test]
fn permits_are_somebodys_or_free_whatever_ends_a_wait_for_them() {
    check(|builder| {
        let rt = builder.build().unwrap();
        let sem = Arc::new(Semaphore::new(2));
        let (ctx, cancel) = context::with_cancel(&context::background());
        let held = Arc::new(AtomicUsize::new(0));
        let (s, h) = (sem.clone(), held.clone());
        let all = each(&rt, 4, move |i| {
            let k = 1 + i % 2;
            let got = match i {
                0 => s.acquire_timeout(k, a_moment()),
                1 => s.acquire_context(k, &ctx).is_ok(),
                _ => {
                    s.acquire(k);
                    true
                }
            };
            if got {
                assert!(h.fetch_add(k, Ordering::Relaxed) + k <= 2, "more than there are");
                gort::yield_now();
                h.fetch_sub(k, Ordering::Relaxed);
                s.release(k);
            }
        });
        let s = sem.clone();
        let thread = thread::spawn(move || {
            s.acquire(1);
            s.release(1);
        });
        cancel();
        joined(all);
        thread.join().unwrap();
        assert_eq!(sem.available(), 2);
        assert!(sem.try_acquire(2), "somebody is in the way");
        end(rt);
    });
}

#[test]
fn a_wait_group_is_used_again() {
    check(|builder| {
        let rt = builder.build().unwrap();
        let wg = WaitGroup::new();
        let done = Arc::new(AtomicUsize::new(0));
        for round in 1..3 {
            wg.add(2);
            let (own, d) = (wg.clone(), done.clone());
            let workers = each(&rt, 2, move |_| {
                d.fetch_add(1, Ordering::Relaxed);
                own.done();
            });
            let (own, d) = (wg.clone(), done.clone());
            let waits = rt.go(move || {
                own.wait();
                assert_eq!(d.load(Ordering::Relaxed), 2 * round);
            });
            wg.wait();
            assert_eq!(done.load(Ordering::Relaxed), 2 * round);
            waits.join().unwrap();
            joined(workers);
        }
        end(rt);
    });
}

#[test]
fn what_is_done_once_is_seen_by_all() {
    check(|builder| {
        let rt = builder.build().unwrap();
        let shared = Arc::new((Once::new(), OnceLock::new(), Guarded::default()));
        let s = shared.clone();
        let all = each(&rt, 3, move |i| {
            s.0.call_once(|| {
                gort::yield_now();
                s.2.alone();
            });
            assert_eq!(s.2.times(), 1);
            *s.1.get_or_init(|| {
                gort::yield_now();
                i
            })
        });
        let said = joined(all);
        assert!(said.iter().all(|i| Some(i) == shared.1.get()), "{said:?}");
        end(rt);
    });
}

#[test]
fn who_meet_at_a_barrier_go_on_together() {
    check(|builder| {
        let rt = builder.build().unwrap();
        let shared = Arc::new((Barrier::new(2), AtomicUsize::new(0)));
        let s = shared.clone();
        let all = each(&rt, 2, move |_| {
            (1..3)
                .filter(|round| {
                    s.1.fetch_add(1, Ordering::Relaxed);
                    let leads = s.0.wait().is_leader();
                    assert!(s.1.load(Ordering::Relaxed) >= 2 * round);
                    leads
                })
                .count()
        });
        assert_eq!(joined(all).into_iter().sum::<usize>(), 2, "one leads each round");
        end(rt);
    });
}

#[test]
fn a_timer_that_is_stopped_has_fired_or_never_does() {
    check(|builder| {
        let rt = builder.build().unwrap();
        rt.run(|| {
            let calls = Arc::new(AtomicUsize::new(0));
            let wg = WaitGroup::new();
            wg.add(1);
            let (c, w) = (calls.clone(), wg.clone());
            let timer = time::after_func(a_moment(), move || {
                c.fetch_add(1, Ordering::Relaxed);
                w.done();
            });
            gort::yield_now();
            if timer.stop() {
                assert_eq!(calls.load(Ordering::Relaxed), 0);
                assert!(!timer.stop() && !timer.reset(a_moment()));
            }
            // Now, or by the firing that could not be stopped.
            wg.wait();
            assert_eq!(calls.load(Ordering::Relaxed), 1);
        });
        end(rt);
    });
}

#[test]
fn a_value_of_a_timer_is_that_of_its_last_setting() {
    check(|builder| {
        let rt = builder.build().unwrap();
        rt.run(|| {
            let timer = Arc::new(time::Timer::new(a_moment()));
            let waits = {
                let timer = timer.clone();
                gort::go(move || timer.c().recv().is_some())
            };
            gort::yield_now();
            // Received already, or to come once.
            let to_come = timer.reset(a_moment());
            assert!(waits.join().unwrap());
            if to_come {
                assert!(!timer.stop(), "one was received, and there is another one");
            } else {
                assert!(timer.stop() || timer.c().try_recv().is_ok());
            }
            assert!(timer.c().try_recv().is_err());
        });
        end(rt);
    });
}

#[test]
fn a_ticker_ticks_until_it_is_stopped_whoever_waits() {
    check(|builder| {
        let rt = builder.build().unwrap();
        rt.run(|| {
            let ticker = Arc::new(time::Ticker::new(Duration::from_micros(3)));
            let all: Vec<_> = (0..2)
                .map(|_| {
                    let ticker = ticker.clone();
                    gort::go(move || (0..2).filter_map(|_| ticker.c().recv()).collect::<Vec<_>>())
                })
                .collect();
            let mut ticks: Vec<_> = all.into_iter().flat_map(|h| h.join().unwrap()).collect();
            assert_eq!(ticks.len(), 4);
            ticks.sort_unstable();
            ticks.dedup();
            assert_eq!(ticks.len(), 4, "a tick came twice");
            ticker.stop();
            assert!(ticker.c().try_recv().is_err());
            ticker.reset(Duration::from_micros(2));
            ticker.c().recv().unwrap();
        });
        end(rt);
    });
}

#[test]
fn a_context_is_cancelled_once_and_all_below_it() {
    check(|builder| {
        let rt = builder.build().unwrap();
        rt.run(|| {
            let (top, cancel) = context::with_cancel(&context::background());
            let (timed, _cancel) = context::with_timeout(&top, a_moment());
            let ran = chan::<()>(4);
            let tx = ran.clone();
            let stop = context::after_func(&timed, move || tx.send(()));
            let below = {
                let timed = timed.clone();
                gort::go(move || {
                    // Registered while, before or after the parent is cancelled.
                    let (ctx, _cancel) = context::with_cancel(&timed);
                    ctx.done().recv();
                    (ctx.err(), timed.err())
                })
            };
            let waits = {
                let done = timed.done();
                gort::go(move || done.recv())
            };
            gort::go(move || cancel());
            let (own, above) = below.join().unwrap();
            assert!(own.is_some() && own == above, "{own:?} {above:?}");
            assert_eq!(waits.join().unwrap(), None);
            if stop() {
                assert!(ran.try_recv().is_err());
            } else {
                ran.recv().unwrap();
            }
        });
        end(rt);
    });
}

#[test]
fn a_function_for_a_context_is_stopped_or_runs() {
    check(|builder| {
        let rt = builder.build().unwrap();
        rt.run(|| {
            let (top, cancel) = context::with_cancel(&context::background());
            let (ctx, cancel_ctx) = context::with_cancel(&top);
            let ran = chan::<()>(2);
            let tx = ran.clone();
            let stop = context::after_func(&ctx, move || tx.send(()));
            // Who still waits for it when nobody has it any more.
            let done = ctx.done();
            let drops = gort::go(move || drop(ctx));
            let cancels = [gort::go(move || cancel()), gort::go(move || cancel_ctx())];
            let stopped = stop();
            for h in cancels {
                h.join().unwrap();
            }
            drops.join().unwrap();
            assert_eq!(done.recv(), None);
            if stopped {
                assert!(ran.try_recv().is_err() && !stop());
            } else {
                ran.recv().unwrap();
            }
            assert!(ran.try_recv().is_err(), "it ran twice");
        });
        end(rt);
    });
}

#[test]
fn a_group_ends_with_its_first_error_and_runs_no_more_than_its_limit() {
    check(|builder| {
        let rt = builder.build().unwrap();
        rt.run(|| {
            let (group, ctx) = ErrGroup::<usize>::with_context(&context::background());
            group.set_limit(2);
            let at_once = Arc::new(AtomicUsize::new(0));
            for i in 0..3 {
                let (done, at_once) = (ctx.done(), at_once.clone());
                group.go(move || {
                    assert!(at_once.fetch_add(1, Ordering::Relaxed) < 2);
                    if i == 0 {
                        done.recv();
                    }
                    at_once.fetch_sub(1, Ordering::Relaxed);
                    if i == 1 { Err(i) } else { Ok(()) }
                });
            }
            assert_eq!(group.wait(), Err(1));
            assert!(ctx.err().is_some());
        });
        end(rt);
    });
}
