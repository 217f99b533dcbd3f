//! The cases of Go's `runtime/proc_test.go` that are about goroutines and run queues.
//!
//! Out are those about the garbage collector and about stopping the world, which are not there; about
//! `LockOSThread`, system calls and the network poller, and about loops that never call the runtime.
//!
//! Goroutines that spin for each other let the OS thread give way in between. That is no call of the runtime,
//! so it proves as much about the Ps, and a machine with fewer CPUs than Ps does not spin for nothing.

mod common;

use common::{at_each_size, at_size, eventually, until_parked};
use gort::{Chan, chan, go, select, time, yield_now};
use gort_scheduler::g::G;
use gort_scheduler::proc::{getg, goroutines};
use gort_scheduler::runq::{self, Gp, RunQueue};
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// A goroutine that never blocks, but gives way, hears what is sent to it.
#[test]
fn yield_progress() {
    at_each_size(|| {
        let (c, ack) = (chan::<()>(0), chan::<()>(0));
        let rounds = Arc::new(AtomicUsize::new(0));
        let spinner = {
            let (c, ack, rounds) = (c.clone(), ack.clone(), rounds.clone());
            go!(move || loop {
                select! {
                    recv(c) -> _ => return ack.send(()),
                    default => yield_now(),
                }
                rounds.fetch_add(1, SeqCst);
            })
        };
        eventually("the spinner has gone round", || rounds.load(SeqCst) > 100);
        c.send(());
        assert_eq!(ack.recv(), Some(()));
        spinner.join().unwrap();
    });
}

/// Spins until `ok`, without a call of the runtime.
fn spin_until(ok: impl Fn() -> bool) {
    while !ok() {
        std::thread::yield_now();
    }
}

/// The part of the p-th of `procs` goroutines that hand a token round three times. All must run at once.
fn pass_the_token(token: &AtomicUsize, p: usize, procs: usize) {
    for lap in 0..3 {
        let mine = procs * lap + p;
        spin_until(|| token.load(SeqCst) == mine);
        token.store(mine + 1, SeqCst);
    }
}

/// As many goroutines as Ps all run at the same time.
#[test]
fn goroutine_parallelism() {
    const TRIES: usize = 3;
    for procs in [2, 3, 4] {
        at_size(procs, || {
            for _ in 0..TRIES {
                let token = Arc::new(AtomicUsize::new(0));
                let handles: Vec<_> = (0..procs)
                    .map(|p| {
                        let token = token.clone();
                        go!(move || pass_the_token(&token, p, procs))
                    })
                    .collect();
                handles.into_iter().for_each(|h| h.join().unwrap());
                assert_eq!(token.load(SeqCst), 3 * procs);
            }
        });
    }
}

/// The same when goroutines start goroutines, with Ps that have just run something, are idle, or both.
#[test]
fn goroutine_parallelism2() {
    const PROCS: usize = 4;
    const TRIES: usize = 3;
    for (load, timers) in [(false, false), (true, false), (false, true), (true, true)] {
        at_size(PROCS, || {
            for _ in 0..TRIES {
                if load {
                    run_on_all_ps(PROCS);
                }
                // Go opens a listener, so that an idle P waits in the poller. Here one waits for a timer.
                let pending = timers.then(|| time::after(Duration::from_secs(60)));
                token_among_grandchildren(PROCS);
                drop(pending);
            }
        });
    }
}

/// When it returns, the threads of the Ps are on their way to sleep.
fn run_on_all_ps(procs: usize) {
    let done = chan::<()>(0);
    let arrived = Arc::new(AtomicUsize::new(0));
    for _ in 0..procs {
        let (done, arrived) = (done.clone(), arrived.clone());
        go!(move || {
            if arrived.fetch_add(1, SeqCst) + 1 == procs {
                return done.send(());
            }
            spin_until(|| arrived.load(SeqCst) == procs);
        });
    }
    done.recv();
}

fn token_among_grandchildren(procs: usize) {
    let done = chan::<()>(0);
    let token = Arc::new(AtomicUsize::new(0));
    for parent in 0..procs / 2 {
        let (done, token) = (done.clone(), token.clone());
        go!(move || {
            for child in 0..2 {
                let (done, token) = (done.clone(), token.clone());
                go!(move || {
                    pass_the_token(&token, parent * 2 + child, procs);
                    done.send(());
                });
            }
        });
    }
    assert_eq!(done.iter().take(procs).count(), procs);
    assert_eq!(token.load(SeqCst), 3 * procs);
}

/// Goroutines that keep each other busy do not keep a timer from firing.
#[test]
fn timer_fairness() {
    at_each_size(|| {
        let (c, done) = (chan::<()>(0), chan::<()>(0));
        let senders = [(); 2].map(|()| go!(send_until_closed(c.clone(), done.clone())));
        let timer = time::after(Duration::from_millis(20));
        let mut received = 0;
        loop {
            select! {
                recv(c) -> _ => received += 1,
                recv(timer) -> _ => break,
            }
        }
        assert!(received > 0, "the senders were not heard in 20 ms");
        done.close();
        senders.into_iter().for_each(|h| h.join().unwrap());
    });
}

fn send_until_closed(c: Chan<()>, done: Chan<()>) {
    loop {
        select! {
            send(c, ()) => {}
            recv(done) -> _ => return,
        }
    }
}

/// The same with a system call in each round, and a timer for each goroutine.
#[test]
fn timer_fairness2() {
    at_each_size(|| {
        let (c, done) = (chan::<()>(0), chan::<()>(0));
        for _ in 0..2 {
            let (c, done) = (c.clone(), done.clone());
            go!(move || {
                let timer = time::after(Duration::from_millis(20));
                let mut null = File::open("/dev/null").unwrap();
                loop {
                    assert_eq!(null.read(&mut []).unwrap(), 0);
                    select! {
                        send(c, ()) => {}
                        recv(c) -> _ => {}
                        recv(timer) -> _ => return done.send(()),
                    }
                }
            });
        }
        assert_eq!(done.iter().take(2).count(), 2);
    });
}

/// A program begins with one goroutine, and the number agrees with the list.
#[test]
fn num_goroutine() {
    at_each_size(|| {
        assert_eq!(gort::num_goroutines(), 1);
        let quit = chan::<()>(0);
        let handles: Vec<_> = (0..20).map(|_| go!(quit.clone().recv())).collect();
        handles.iter().for_each(|h| until_parked(h, "chan receive"));
        let me = gort::goroutine_id().unwrap();
        let ours = |id| id == me || handles.iter().any(|h| h.id() == id);
        let listed = goroutines().iter().filter(|g| ours(g.id)).count();
        assert_eq!((listed, gort::num_goroutines()), (21, 21));
        quit.close();
        handles.into_iter().for_each(|h| assert_eq!(h.join().unwrap(), None));
        eventually("one goroutine is left", || gort::num_goroutines() == 1);
    });
}

/// On one P, a pair of goroutines that hand long work to and fro leaves as much time to a pair with short
/// work: who is readied goes on in the time slice of who readied it, and a pair's slice ends.
#[test]
fn ping_pong_hog() {
    const LIGHT: usize = 300;
    const FACTOR: usize = 20;
    at_size(1, || {
        let done = chan::<()>(0);
        let (hogs, lights) = (Pair::start(1000 * LIGHT, &done), Pair::start(LIGHT, &done));
        hogs.wake.send(());
        lights.wake.send(());
        time::sleep(Duration::from_millis(300));
        done.close();
        let (hog, light) = (hogs.end(), lights.end());
        let fair = hog / FACTOR <= light && light / FACTOR <= hog;
        assert!(fair, "the hogs did {hog}, the others {light}: more than {FACTOR} times apart");
    });
}

/// Two goroutines of which one at a time counts up to `limit` and then wakes the other.
struct Pair {
    wake: Chan<()>,
    count: Arc<AtomicUsize>,
}

impl Pair {
    fn start(limit: usize, done: &Chan<()>) -> Pair {
        let pair = Pair { wake: chan(0), count: Arc::new(AtomicUsize::new(0)) };
        for _ in 0..2 {
            let (wake, count, done) = (pair.wake.clone(), pair.count.clone(), done.clone());
            go!(move || loop {
                select! {
                    recv(done) -> _ => return,
                    recv(wake) -> _ => {
                        (0..limit).for_each(|i| {
                            black_box(i);
                        });
                        count.fetch_add(limit, SeqCst);
                        wake.send(());
                    }
                }
            });
        }
        pair
    }

    /// Takes the pair's turn out of the game, so that both can end.
    fn end(self) -> usize {
        assert_eq!(self.wake.recv(), Some(()));
        self.count.load(SeqCst)
    }
}

/// Far more Ps than CPUs.
#[test]
fn big_gomaxprocs() {
    at_size(1024, || {
        assert_eq!(gort::max_procs(), 1024);
        let c = chan::<usize>(0);
        for i in 0..4096 {
            let c = c.clone();
            go!(move || c.send(i));
        }
        assert_eq!(c.iter().take(4096).sum::<usize>(), 4096 * 4095 / 2);
    });
}

// ---- The run queue by itself ----

/// So many different goroutines, to be put into queues. Their memory stays, whatever becomes of them.
fn some_gs(n: usize) -> Vec<&'static G> {
    let gs = at_size(2, || {
        let (c, quit) = (chan::<&'static G>(0), chan::<()>(0));
        for _ in 0..n {
            let (c, quit) = (c.clone(), quit.clone());
            go!(move || {
                c.send(getg());
                quit.recv();
            });
        }
        let gs: Vec<_> = c.iter().take(n).collect();
        quit.close();
        gs
    });
    let mut addresses: Vec<_> = gs.iter().map(|&g| ptr::from_ref(g)).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), n);
    gs
}

/// Where in `gs` it is.
fn index(gs: &[&'static G], gp: Gp) -> usize {
    gs.iter().position(|&g| ptr::eq(g, gp.0)).expect("one of ours")
}

/// For every length, with the ring at all places: what is put at the tail is got in order, and nothing else.
#[test]
fn sched_local_queue() {
    let gs = some_gs(runq::FULL);
    let queue = RunQueue::default();
    for n in 0..gs.len() {
        queue.keep(n % 2 == 0);
        assert!(queue.get().is_none() && queue.is_empty(), "not empty before {n}");
        gs[..n].iter().for_each(|&g| queue.put_tail(Gp(g)));
        assert_eq!(queue.len(), n);
        for i in 0..n {
            assert!(ptr::eq(queue.peek(n - i - 1).unwrap(), gs[n - 1]) && queue.peek(n - i).is_none());
            assert_eq!(index(&gs, queue.get().unwrap()), i, "of {n}");
        }
        assert!(queue.get().is_none() && queue.is_empty(), "not empty after {n}");
    }
}

/// For every length: a thief takes half, the oldest ones, and none is lost or doubled.
#[test]
fn sched_local_queue_steal() {
    let gs = some_gs(runq::FULL);
    let (victim, own) = (RunQueue::default(), RunQueue::default());
    for n in 0..gs.len() {
        // A kept one is for who has borrowed the P, as nobody else has it here.
        let kept = n % 2 == 0;
        victim.keep(kept);
        gs[..n].iter().for_each(|&g| victim.put_tail(Gp(g)));
        let first = if kept { victim.take_half(&own) } else { victim.steal(&own) };
        let mut stolen: Vec<_> = first.into_iter().chain(drain(&own)).map(|gp| index(&gs, gp)).collect();
        let k = stolen.len();
        assert_eq!(k, n - n / 2, "stolen of {n}");
        stolen.sort();
        assert!(stolen.into_iter().eq(0..k), "the oldest {k} of {n} should be stolen");
        assert!(drain(&victim).map(|gp| index(&gs, gp)).eq(k..n), "the rest of {n} should be left in order");
    }
}

fn drain(q: &RunQueue) -> impl Iterator<Item = Gp> {
    std::iter::from_fn(|| q.get())
}

/// What is kept is not stolen, and all of it can be once it is shared.
#[test]
fn sched_local_queue_kept() {
    let gs = some_gs(3);
    let (victim, own) = (RunQueue::default(), RunQueue::default());
    victim.keep(true);
    victim.put_tail(Gp(gs[0]));
    victim.put_tail(Gp(gs[1]));
    victim.put_next(Gp(gs[2]));
    assert!(victim.steal(&own).is_none() && victim.steal_one().is_none() && victim.is_kept());
    assert!(victim.look_at_runnext().is_kept());
    victim.share();
    assert!(!victim.is_kept() && !victim.look_at_runnext().is_kept());
    assert_eq!(index(&gs, victim.steal(&own).unwrap()), 0);
    assert_eq!(index(&gs, victim.steal_one().unwrap()), 1);
    assert_eq!(index(&gs, victim.steal_runnext(victim.look_at_runnext()).unwrap()), 2);
    assert!(victim.is_empty() && own.is_empty());
}

/// `runnext` can be stolen once, and only by who has seen it there.
#[test]
fn sched_local_queue_steal_runnext() {
    let gs = some_gs(2);
    for kept in [false, true] {
        let queue = RunQueue::default();
        queue.keep(kept);
        let steal = |seen| if kept { queue.take_seen(seen) } else { queue.steal_runnext(seen) };
        assert!(!queue.put_next(Gp(gs[0])));
        let seen = queue.look_at_runnext();
        assert_eq!(seen.is_kept(), kept);
        assert!(queue.put_next(Gp(gs[1])), "the first one is displaced");
        assert!(steal(seen).is_none(), "it is not there any more");
        assert_eq!(index(&gs, steal(queue.look_at_runnext()).unwrap()), 1);
        assert!(queue.take_runnext().is_none());
        assert_eq!(index(&gs, queue.get().unwrap()), 0);
        assert!(queue.is_empty());
    }
}

/// With two in the queue and one of them taken, whichever way they were put, no moment looks empty.
#[test]
fn sched_local_queue_empty() {
    const ROUNDS: usize = if cfg!(debug_assertions) { 10_000 } else { 100_000 };
    let gs = some_gs(2);
    let queue = RunQueue::default();
    let (round, looked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            for i in 1..=ROUNDS {
                spin_until(|| round.load(SeqCst) == i);
                if queue.is_empty() {
                    failed.store(true, SeqCst);
                }
                looked.store(i, SeqCst);
            }
        });
        for i in 1..=ROUNDS {
            queue.keep(i & 4 == 0);
            put(&queue, gs[0], i & 1 == 0);
            round.store(i, SeqCst);
            queue.keep(i & 8 == 0);
            put(&queue, gs[1], i & 2 == 0);
            take(&queue);
            spin_until(|| looked.load(SeqCst) == i);
            take(&queue);
            assert!(queue.is_empty());
        }
    });
    assert!(!failed.load(SeqCst), "the queue seemed empty while a goroutine was in it");
}

fn put(queue: &RunQueue, g: &'static G, next: bool) {
    if next {
        queue.put_next(Gp(g));
    } else {
        queue.put_tail(Gp(g));
    }
}

fn take(queue: &RunQueue) {
    let got = queue.take_runnext().or_else(|| queue.get());
    assert!(got.is_some());
}
