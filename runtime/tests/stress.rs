//! Seeded stress: random graphs of goroutines, plain threads and channels, with select, deadlines and closes, and in some rounds goroutines
//! that compute, block, hold their threads and change the number of Ps; every value is accounted for. The seed is printed by a failure, and `GORT_STRESS_SEED` runs it again;
//! `GORT_STRESS_SECS` says for how long to go on (a few seconds by default). Half of the rounds run with random ready order.

mod common;

use common::{Ledger, Rng, Token, Watchdog};
use gort::sync::WaitGroup;
use gort::{Receiver, Runtime, Select, Sender, channel, go, select};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|v| v.parse().ok())
}

/// What a round adds up.
#[derive(Default)]
struct Account {
    sent: AtomicUsize,
    received: AtomicUsize,
    returned: AtomicUsize,
}

#[test]
fn no_value_is_lost_or_doubled_in_random_graphs() {
    let budget = Duration::from_secs(env("GORT_STRESS_SECS").unwrap_or(4));
    let start = Instant::now();
    let mut seed = env("GORT_STRESS_SEED").unwrap_or(1);
    loop {
        round(seed);
        if env("GORT_STRESS_SEED").is_some() || start.elapsed() > budget {
            return;
        }
        seed += 1;
    }
}

/// One random graph: some senders, some receivers, some of each on plain threads, over a few channels.
fn round(seed: u64) {
    let _watch = Watchdog::arm(&format!("GORT_STRESS_SEED={seed}"));
    let mut rng = Rng(seed);
    let procs = [1, 2, 3, 4, 8, 64][rng.below(6)];
    let mut builder = common::builder(procs);
    if rng.below(2) == 0 {
        builder = builder.random_order(seed);
    }
    let rt = builder.build().unwrap();
    let ledger = Ledger::default();
    let account = Arc::new(Account::default());

    let nchans = 1 + rng.below(4);
    let (txs, rxs): (Vec<_>, Vec<_>) =
        (0..nchans).map(|_| channel::<Token>([0, 0, 1, 3, 64][rng.below(5)])).unzip();
    let (nsenders, nreceivers, each) = (1 + rng.below(12), 1 + rng.below(12), rng.below(200));
    // A few rounds are cut short: the receivers go, or a channel is closed, while senders are at it.
    let cut = [Cut::Never, Cut::Never, Cut::ReceiversGo, Cut::Close][rng.below(4)];

    let senders: Vec<_> = (0..nsenders)
        .map(|i| {
            let (txs, ledger, account, seed) = (txs.clone(), ledger.clone(), account.clone(), rng.next());
            let body = move || send_all(&txs, &ledger, &account, Rng(seed), each);
            start(&rt, i, body)
        })
        .collect();
    let receivers: Vec<_> = (0..nreceivers)
        .map(|i| {
            let (rxs, account, seed) = (rxs.clone(), account.clone(), rng.next());
            let limit = if matches!(cut, Cut::ReceiversGo) { each / 2 } else { usize::MAX };
            let body = move || receive_all(rxs, &account, Rng(seed), limit);
            start(&rt, i, body)
        })
        .collect();
    drop(rxs);
    let disturbers: Vec<_> = (0..[0, 0, 3][rng.below(3)])
        .map(|_| {
            let seed = rng.next();
            rt.go(move || disturb(Rng(seed)))
        })
        .collect();
    if matches!(cut, Cut::Close) {
        txs[rng.below(nchans)].close();
    }
    drop(txs);
    senders.into_iter().chain(receivers).for_each(Started::join);
    disturbers.into_iter().for_each(|h| h.join().unwrap());

    assert_eq!(rt.shutdown_timeout(Duration::from_secs(20)), 0, "goroutines are left, seed {seed}");
    ledger.assert_settled();
    let (sent, received, returned) =
        (account.sent.load(SeqCst), account.received.load(SeqCst), account.returned.load(SeqCst));
    assert_eq!(sent + returned, ledger.made(), "seed {seed}");
    match cut {
        Cut::Never | Cut::Close => assert_eq!(sent, received, "seed {seed}"),
        // What was buffered when the last receiver went is dropped.
        Cut::ReceiversGo => assert!(received <= sent, "seed {seed}"),
    }
}

/// Takes Ps away from the others, in every way there is.
fn disturb(mut rng: Rng) {
    for _ in 0..4 {
        match rng.below(6) {
            0 => gort::blocking(|| std::thread::sleep(Duration::from_millis(rng.below(3) as u64))),
            1 => std::thread::sleep(Duration::from_millis(rng.below(25) as u64)),
            2 => {
                let until = Instant::now() + Duration::from_millis(rng.below(25) as u64);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
            }
            3 => _ = gort::set_max_procs(1 + rng.below(6)),
            4 => {
                let _mine = gort::lock_os_thread();
                gort::time::sleep(Duration::from_micros(rng.below(500) as u64));
                gort::yield_now();
            }
            // Ends with its thread locked, which is then never used again.
            _ => drop(go!(|| std::mem::forget(gort::lock_os_thread())).join()),
        }
    }
}

#[derive(Clone, Copy)]
enum Cut {
    Never,
    ReceiversGo,
    Close,
}

/// A goroutine, or one time in four a plain thread.
enum Started {
    Goroutine(gort::JoinHandle<()>),
    Thread(std::thread::JoinHandle<()>),
}

impl Started {
    fn join(self) {
        match self {
            Started::Goroutine(h) => h.join().unwrap(),
            Started::Thread(h) => h.join().unwrap(),
        }
    }
}

fn start(rt: &Runtime, i: usize, body: impl FnOnce() + Send + 'static) -> Started {
    if i % 4 == 3 { Started::Thread(std::thread::spawn(body)) } else { Started::Goroutine(rt.go(body)) }
}

fn send_all(txs: &[Sender<Token>], ledger: &Ledger, account: &Account, mut rng: Rng, each: usize) {
    for _ in 0..each {
        let tx = &txs[rng.below(txs.len())];
        let mut token = ledger.token();
        let result = match rng.below(5) {
            0 => loop {
                match tx.try_send(token) {
                    Ok(()) => break Ok(()),
                    Err(e) if e.is_closed() => break Err(e.into_inner()),
                    Err(e) => token = e.into_inner(),
                }
                gort::yield_now();
            },
            1 => loop {
                match tx.send_timeout(token, Duration::from_micros(rng.below(200) as u64)) {
                    Ok(()) => break Ok(()),
                    Err(e) if e.is_closed() => break Err(e.into_inner()),
                    Err(e) => token = e.into_inner(),
                }
            },
            2 => {
                // Whichever takes it first.
                let mut select = Select::new();
                txs.iter().for_each(|tx| {
                    if !tx.is_closed() {
                        select.send(tx, ledger.token());
                    }
                });
                let last = select.send(tx, token);
                let done = select.select();
                let sent = done.sent::<Token>();
                // The tokens of the other arms go with the select.
                let unsent = (0..=last).filter_map(|i| select.unsent::<Token>(i)).count();
                account.returned.fetch_add(unsent, SeqCst);
                sent.map_err(|e| e.into_inner())
            }
            _ => tx.send(token).map_err(|e| e.into_inner()),
        };
        match result {
            Ok(()) => account.sent.fetch_add(1, SeqCst),
            Err(_token) => account.returned.fetch_add(1, SeqCst),
        };
        if rng.below(16) == 0 {
            gort::yield_now();
        }
    }
}

fn receive_all(rxs: Vec<Receiver<Token>>, account: &Account, mut rng: Rng, limit: usize) {
    let mut open = rxs;
    let mut got = 0;
    while !open.is_empty() && got < limit {
        let i = rng.below(open.len());
        let value = match rng.below(4) {
            0 => match open[i].recv_timeout(Duration::from_micros(rng.below(300) as u64)) {
                Ok(v) => Some(v),
                Err(gort::RecvTimeoutError::Timeout) => continue,
                Err(gort::RecvTimeoutError::Closed) => None,
            },
            // A receiver that waits without a deadline waits at all its channels, else the senders could all wait at
            // another one.
            1 if open.len() == 2 => {
                let (at, v) = select! {
                    recv(open[0]) -> v => (0, v),
                    recv(open[1]) -> v => (1, v),
                };
                if v.is_none() {
                    open.swap_remove(at);
                    continue;
                }
                v
            }
            2 => select! {
                recv(open[i]) -> v => v,
                default => { gort::yield_now(); continue }
            },
            _ if open.len() == 1 => open[0].recv(),
            _ => {
                let (at, v) = receive_any(&open);
                if v.is_none() {
                    open.swap_remove(at);
                    continue;
                }
                v
            }
        };
        match value {
            Some(_token) => {
                account.received.fetch_add(1, SeqCst);
                got += 1;
            }
            None => drop(open.swap_remove(i)),
        }
    }
}

fn receive_any(open: &[Receiver<Token>]) -> (usize, Option<Token>) {
    let mut select = Select::new();
    open.iter().for_each(|rx| _ = select.recv(rx));
    let done = select.select();
    (done.index(), done.received())
}

/// Chains of goroutines that start each other, joined from the far end; each with a random amount of yielding.
#[test]
fn every_goroutine_of_a_random_tree_runs_once() {
    let start = Instant::now();
    let mut seed = env("GORT_STRESS_SEED").unwrap_or(1);
    while start.elapsed() < Duration::from_secs(2) {
        let _watch = Watchdog::arm(&format!("GORT_STRESS_SEED={seed}"));
        let mut rng = Rng(seed);
        let rt = common::builder([1, 2, 4, 64][rng.below(4)]).random_order(seed).build().unwrap();
        let leaves = Arc::new(AtomicUsize::new(0));
        let wg = WaitGroup::new();
        let want = rt.run(|| grow(&wg, &leaves, Rng(seed), 6));
        wg.wait();
        assert_eq!(leaves.load(SeqCst), want, "seed {seed}");
        assert_eq!(rt.shutdown_timeout(Duration::from_secs(20)), 0, "seed {seed}");
        seed += 1;
    }
}

/// Starts a random tree; how many leaves it will have.
fn grow(wg: &WaitGroup, leaves: &Arc<AtomicUsize>, mut rng: Rng, depth: usize) -> usize {
    if depth == 0 {
        let (leaves, yields) = (leaves.clone(), rng.below(4));
        wg.go(move || {
            (0..yields).for_each(|_| gort::yield_now());
            leaves.fetch_add(1, SeqCst);
        });
        return 1;
    }
    let children: Vec<_> = (0..1 + rng.below(3))
        .map(|_| {
            let (wg, leaves, rng) = (wg.clone(), leaves.clone(), Rng(rng.next()));
            go!(move || grow(&wg, &leaves, rng, depth - 1))
        })
        .collect();
    children.into_iter().map(|h| h.join().unwrap()).sum()
}
