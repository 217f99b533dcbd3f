//! Go's own benchmarks in a library of tasks: those that it can express.

use super::{Channel, Group, Shared, Tasks, group};
use crate::rows::CALLS;
use gort_bench_harness::{Bench, Row, Share, local_work};
use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

pub(super) fn rows<L: Tasks>() -> Vec<Row> {
    vec![
        Row::new("make_chan_byte", "MakeChan/Byte", make_chan::<L, u8>),
        Row::new("make_chan_int", "MakeChan/Int", make_chan::<L, isize>),
        Row::new("make_chan_ptr", "MakeChan/Ptr", make_chan::<L, Option<&'static u8>>),
        Row::new("make_chan_struct_0", "MakeChan/Struct/0", make_chan::<L, ()>),
        Row::new("make_chan_struct_32", "MakeChan/Struct/32", make_chan::<L, [i64; 4]>),
        Row::new("make_chan_struct_40", "MakeChan/Struct/40", make_chan::<L, [i64; 5]>),
        Row::new("chan_uncontended", "ChanUncontended", chan_uncontended::<L>),
        Row::new("chan_contended", "ChanContended", chan_contended::<L>),
        Row::new("chan_sync", "ChanSync", |b| chan_sync::<L>(b, 0)).batch(2 * CALLS),
        Row::new("chan_sync_work", "ChanSyncWork", |b| chan_sync::<L>(b, 1000)).batch(2 * CALLS),
        prod_cons("chan_prod_cons_0", |b| chan_prod_cons::<L>(b, 0, 0)),
        prod_cons("chan_prod_cons_10", |b| chan_prod_cons::<L>(b, 10, 0)),
        prod_cons("chan_prod_cons_100", |b| chan_prod_cons::<L>(b, 100, 0)),
        prod_cons("chan_prod_cons_work_0", |b| chan_prod_cons::<L>(b, 0, 100)),
        prod_cons("chan_prod_cons_work_10", |b| chan_prod_cons::<L>(b, 10, 100)),
        prod_cons("chan_prod_cons_work_100", |b| chan_prod_cons::<L>(b, 100, 100)),
        Row::new("chan_creation", "ChanCreation", chan_creation::<L>),
        Row::new("chan_sem", "ChanSem", chan_sem::<L>),
        Row::new("create_goroutines", "CreateGoroutines", |b| create_goroutines::<L>(b, 1)),
        Row::new("create_goroutines_parallel", "CreateGoroutinesParallel", |b| {
            create_goroutines::<L>(b, b.procs as u64);
        }),
        Row::new("create_goroutines_capture", "CreateGoroutinesCapture", create_goroutines_capture::<L>),
        Row::new("create_goroutines_single", "CreateGoroutinesSingle", create_goroutines_single::<L>),
    ]
}

fn prod_cons(name: &'static str, op: fn(&Bench)) -> Row {
    Row::new(name, "ChanProdCons", op).batch(CALLS)
}

/// Go's `RunParallel`: as many tasks as threads share the operations.
fn run_parallel<L: Tasks, F: Future<Output = ()> + Send + 'static>(b: &Bench, body: impl Fn(Share) -> F) {
    let shares = b.shares();
    let bodies: Vec<F> = (0..b.procs).map(|_| body(shares.share())).collect();
    L::run(async move {
        let (all, rest) = group::<L>();
        for body in bodies {
            let member = all.clone();
            L::spawn(async move {
                body.await;
                drop(member);
            });
        }
        rest.wait(all).await;
    });
}

/// A channel with room for eight is made, and the one before it goes.
fn make_chan<L: Tasks, T: Send + 'static>(b: &Bench) {
    let n = b.n;
    L::run(async move {
        let mut x = None;
        for _ in 0..n {
            x = black_box(Some(L::Single::make::<T>(8)));
        }
        drop(x);
    });
}

/// 100 values into a channel, and out again.
async fn fill_and_drain<C: Channel>(tx: &C::Tx<isize>, rx: &mut C::Rx<isize>) {
    for _ in 0..100 {
        C::send(tx, 0).await;
    }
    for _ in 0..100 {
        C::recv(rx).await;
    }
}

/// Each task has a channel of its own.
fn chan_uncontended<L: Tasks>(b: &Bench) {
    run_parallel::<L, _>(b, |share| async move {
        let (tx, mut rx) = L::Single::make(100);
        for () in share {
            fill_and_drain::<L::Single>(&tx, &mut rx).await;
        }
    });
}

/// All share one.
fn chan_contended<L: Tasks>(b: &Bench) {
    let (tx, rx) = L::Shared::make(100 * b.procs);
    run_parallel::<L, _>(b, |share| {
        let (tx, mut rx) = (tx.clone(), L::Shared::another(&rx));
        async move {
            for () in share {
                fill_and_drain::<L::Shared>(&tx, &mut rx).await;
            }
        }
    });
}

/// Two tasks hand values to each other: through one channel where it has no room, else through two.
fn chan_sync<L: Tasks>(b: &Bench, work: usize) {
    let n = b.n;
    L::run(async move {
        if L::Shared::RENDEZVOUS {
            let (tx, rx) = L::Shared::make(0);
            let other = (tx.clone(), L::Shared::another(&rx));
            hand_over::<L, L::Shared>(n, work, [(tx, rx), other]).await;
        } else {
            let ((tx1, rx1), (tx2, rx2)) = (L::Single::make(0), L::Single::make(0));
            hand_over::<L, L::Single>(n, work, [(tx1, rx2), (tx2, rx1)]).await;
        }
    });
}

async fn hand_over<L: Tasks, C: Channel>(n: u64, work: usize, ends: [(C::Tx<isize>, C::Rx<isize>); 2]) {
    let left = Arc::new(AtomicI64::new((n / CALLS) as i64));
    let (all, rest) = group::<L>();
    for (tx, mut rx) in ends {
        let (left, member) = (left.clone(), all.clone());
        L::spawn(async move {
            loop {
                let i = left.fetch_sub(1, Ordering::Relaxed) - 1;
                if i < 0 {
                    break;
                }
                for _ in 0..CALLS {
                    if i % 2 == 0 {
                        C::recv(&mut rx).await;
                        local_work(work);
                        C::send(&tx, 0).await;
                        local_work(work);
                    } else {
                        C::send(&tx, 0).await;
                        local_work(work);
                        C::recv(&mut rx).await;
                        local_work(work);
                    }
                }
            }
            drop(member);
        });
    }
    rest.wait(all).await;
}

/// As many producers and as many consumers as threads. A value of 0 tells one consumer to stop.
fn chan_prod_cons<L: Tasks>(b: &Bench, capacity: usize, work: usize) {
    let (n, procs) = (b.n, b.procs);
    L::run(async move {
        let left = Arc::new(AtomicI64::new((n / CALLS) as i64));
        let (tx, rx) = L::Shared::make::<isize>(capacity);
        let (all, rest) = group::<L>();
        for _ in 0..procs {
            let (left, tx, member) = (left.clone(), tx.clone(), all.clone());
            L::spawn(async move {
                while left.fetch_sub(1, Ordering::Relaxed) > 0 {
                    for _ in 0..CALLS {
                        local_work(work);
                        L::Shared::send(&tx, 1).await;
                    }
                }
                L::Shared::send(&tx, 0).await;
                drop(member);
            });
            let (mut rx, member) = (L::Shared::another(&rx), all.clone());
            L::spawn(async move {
                while L::Shared::recv(&mut rx).await != Some(0) {
                    local_work(work);
                }
                drop(member);
            });
        }
        rest.wait(all).await;
    });
}

/// A channel is made, used once, and goes.
fn chan_creation<L: Tasks>(b: &Bench) {
    run_parallel::<L, _>(b, |share| async move {
        for () in share {
            let (tx, mut rx) = L::Single::make::<isize>(1);
            L::Single::send(&tx, 0).await;
            L::Single::recv(&mut rx).await;
        }
    });
}

/// A channel as a semaphore.
fn chan_sem<L: Tasks>(b: &Bench) {
    let (tx, rx) = L::Shared::make::<()>(b.procs);
    run_parallel::<L, _>(b, |share| {
        let (tx, mut rx) = (tx.clone(), L::Shared::another(&rx));
        async move {
            for () in share {
                L::Shared::send(&tx, ()).await;
                L::Shared::recv(&mut rx).await;
            }
        }
    });
}

/// Tasks each of which starts the next one and ends: so many chains.
fn create_goroutines<L: Tasks>(b: &Bench, chains: u64) {
    fn link<L: Tasks>(n: u64, member: Group<L>) {
        if n == 0 {
            drop(member);
        } else {
            L::spawn(async move { link(n - 1, member) });
        }
    }
    let n = b.n;
    L::run(async move {
        let (all, rest) = group::<L>();
        for _ in 0..chains {
            let member = all.clone();
            L::spawn(async move { link(n / chains, member) });
        }
        rest.wait(all).await;
    });
}

/// Four tasks with some captured variables, and a wait for them.
fn create_goroutines_capture<L: Tasks>(b: &Bench) {
    const N: u64 = 4;
    static BAD: AtomicBool = AtomicBool::new(false);
    let (n, bad) = (b.n, black_box::<&'static AtomicBool>(&BAD));
    L::run(async move {
        for _ in 0..n {
            let (all, rest) = group::<L>();
            for i in 0..N {
                let member = all.clone();
                L::spawn(async move {
                    if black_box(i) >= N {
                        bad.store(true, Ordering::Relaxed);
                    }
                    drop(member);
                });
            }
            rest.wait(all).await;
        }
    });
}

/// Many tasks, all started by one.
fn create_goroutines_single<L: Tasks>(b: &Bench) {
    let n = b.n;
    L::run(async move {
        let (all, rest) = group::<L>();
        for _ in 0..n {
            let member = all.clone();
            L::spawn(async move { drop(member) });
        }
        rest.wait(all).await;
    });
}
