//! Go's own benchmarks in a library whose operations block: those that it can express. Those with a select are beside the
//! library that has one.

use gort_bench_harness::child::Measures;
use gort_bench_harness::programs::{Kind, measurement};
use gort_bench_harness::{Bench, Host, Job, Library, Outcome, Row, Share, local_work};
use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// What Go calls `CallsPerSched`: so many operations are drawn from the shared count at a time.
pub const CALLS: u64 = 1000;

/// All that a library can: with those rows of its own.
pub fn measures<L: Library>(version: String, own: Vec<Row>) -> Measures<Of<L>> {
    let rows = rows::<L>().into_iter().chain(own).map(|row| &*Box::leak(Box::new(row)));
    Measures { version, rows: rows.collect(), host: Of(PhantomData), program: measurement::<L> }
}

/// Runs rows with a library.
pub struct Of<L>(PhantomData<L>);

impl<L: Library> Host for Of<L> {
    fn run(&self, procs: usize, job: Job) -> Outcome {
        L::start(procs, Kind::SpawnRun);
        L::run(job)
    }
}

fn rows<L: Library>() -> Vec<Row> {
    let mut rows = vec![
        Row::new("chan_uncontended", "ChanUncontended", chan_uncontended::<L>),
        Row::new("chan_contended", "ChanContended", chan_contended::<L>),
        Row::new("receive_data_from_closed_chan", "ReceiveDataFromClosedChan", receive_from_closed::<L>),
        Row::new("chan_creation", "ChanCreation", chan_creation::<L>),
        Row::new("create_goroutines", "CreateGoroutines", |b| create_goroutines::<L>(b, 1)),
        Row::new("create_goroutines_parallel", "CreateGoroutinesParallel", |b| {
            create_goroutines::<L>(b, b.procs as u64);
        }),
        Row::new("create_goroutines_capture", "CreateGoroutinesCapture", create_goroutines_capture::<L>),
        Row::new("create_goroutines_single", "CreateGoroutinesSingle", create_goroutines_single::<L>),
    ];
    if L::BOUNDED {
        rows.extend([
            Row::new("make_chan_byte", "MakeChan/Byte", make_chan::<L, u8>),
            Row::new("make_chan_int", "MakeChan/Int", make_chan::<L, isize>),
            Row::new("make_chan_ptr", "MakeChan/Ptr", make_chan::<L, Option<&'static u8>>),
            Row::new("make_chan_struct_0", "MakeChan/Struct/0", make_chan::<L, ()>),
            Row::new("make_chan_struct_32", "MakeChan/Struct/32", make_chan::<L, [i64; 4]>),
            Row::new("make_chan_struct_40", "MakeChan/Struct/40", make_chan::<L, [i64; 5]>),
            Row::new("chan_sync", "ChanSync", |b| chan_sync::<L>(b, 0)).batch(2 * CALLS),
            Row::new("chan_sync_work", "ChanSyncWork", |b| chan_sync::<L>(b, 1000)).batch(2 * CALLS),
            prod_cons("chan_prod_cons_0", |b| chan_prod_cons::<L>(b, 0, 0)),
            prod_cons("chan_prod_cons_10", |b| chan_prod_cons::<L>(b, 10, 0)),
            prod_cons("chan_prod_cons_100", |b| chan_prod_cons::<L>(b, 100, 0)),
            prod_cons("chan_prod_cons_work_0", |b| chan_prod_cons::<L>(b, 0, 100)),
            prod_cons("chan_prod_cons_work_10", |b| chan_prod_cons::<L>(b, 10, 100)),
            prod_cons("chan_prod_cons_work_100", |b| chan_prod_cons::<L>(b, 100, 100)),
            Row::new("chan_sem", "ChanSem", chan_sem::<L>),
        ]);
    }
    rows
}

fn prod_cons(name: &'static str, op: fn(&Bench)) -> Row {
    Row::new(name, "ChanProdCons", op).batch(CALLS)
}

/// Go's `RunParallel`: as many goroutines as processors share the operations.
pub fn run_parallel<L: Library, F: FnOnce() + Send + 'static>(b: &Bench, body: impl Fn(Share) -> F) {
    let (shares, all) = (b.shares(), L::group(b.procs as u64));
    for _ in 0..b.procs {
        let (body, member) = (body(shares.share()), all.clone());
        L::spawn(move || {
            body();
            L::done(member);
        });
    }
    L::wait(all);
}

/// A channel with room for eight is made, and the one before it goes.
fn make_chan<L: Library, T: Send + 'static>(b: &Bench) {
    let mut x = None;
    for _ in 0..b.n {
        x = black_box(Some(L::channel::<T>(8)));
    }
    drop(x);
}

/// 100 values into a channel, and out again.
fn fill_and_drain<L: Library>(tx: &L::Sender<isize>, rx: &L::Receiver<isize>) {
    for _ in 0..100 {
        L::send(tx, 0);
    }
    for _ in 0..100 {
        L::recv(rx);
    }
}

/// Each goroutine has a channel of its own.
fn chan_uncontended<L: Library>(b: &Bench) {
    run_parallel::<L, _>(b, |share| {
        move || {
            let (tx, rx) = L::channel(100);
            for () in share {
                fill_and_drain::<L>(&tx, &rx);
            }
        }
    });
}

/// All share one.
fn chan_contended<L: Library>(b: &Bench) {
    let (tx, rx) = L::channel(100 * b.procs);
    run_parallel::<L, _>(b, |share| {
        let (tx, rx) = (tx.clone(), rx.clone());
        move || {
            for () in share {
                fill_and_drain::<L>(&tx, &rx);
            }
        }
    });
}

/// Two goroutines hand values to each other.
fn chan_sync<L: Library>(b: &Bench, work: usize) {
    let left = Arc::new(AtomicI64::new((b.n / CALLS) as i64));
    let (tx, rx) = L::channel::<isize>(0);
    let all = L::group(2);
    for _ in 0..2 {
        let (left, tx, rx, member) = (left.clone(), tx.clone(), rx.clone(), all.clone());
        L::spawn(move || {
            loop {
                let i = left.fetch_sub(1, Ordering::Relaxed) - 1;
                if i < 0 {
                    break;
                }
                for _ in 0..CALLS {
                    if i % 2 == 0 {
                        L::recv(&rx);
                        local_work(work);
                        L::send(&tx, 0);
                        local_work(work);
                    } else {
                        L::send(&tx, 0);
                        local_work(work);
                        L::recv(&rx);
                        local_work(work);
                    }
                }
            }
            L::done(member);
        });
    }
    L::wait(all);
}

/// As many producers and as many consumers as processors. A value of 0 tells one consumer to stop.
fn chan_prod_cons<L: Library>(b: &Bench, capacity: usize, work: usize) {
    let left = Arc::new(AtomicI64::new((b.n / CALLS) as i64));
    let (tx, rx) = L::channel::<isize>(capacity);
    let all = L::group(2 * b.procs as u64);
    for _ in 0..b.procs {
        let (left, tx, member) = (left.clone(), tx.clone(), all.clone());
        L::spawn(move || {
            while left.fetch_sub(1, Ordering::Relaxed) > 0 {
                for _ in 0..CALLS {
                    local_work(work);
                    L::send(&tx, 1);
                }
            }
            L::send(&tx, 0);
            L::done(member);
        });
        let (rx, member) = (rx.clone(), all.clone());
        L::spawn(move || {
            while L::recv(&rx) != Some(0) {
                local_work(work);
            }
            L::done(member);
        });
    }
    L::wait(all);
}

/// What is left in a channel that is closed.
fn receive_from_closed<L: Library>(b: &Bench) {
    let (tx, rx) = L::channel::<()>(b.n as usize);
    for _ in 0..b.n {
        L::send(&tx, ());
    }
    L::close(tx);
    b.reset_timer();
    while L::recv(&rx).is_some() {}
}

/// A channel is made, used once, and goes.
fn chan_creation<L: Library>(b: &Bench) {
    run_parallel::<L, _>(b, |share| {
        move || {
            for () in share {
                let (tx, rx) = L::channel::<isize>(1);
                L::send(&tx, 0);
                L::recv(&rx);
            }
        }
    });
}

/// A channel as a semaphore.
fn chan_sem<L: Library>(b: &Bench) {
    let (tx, rx) = L::channel::<()>(b.procs);
    run_parallel::<L, _>(b, |share| {
        let (tx, rx) = (tx.clone(), rx.clone());
        move || {
            for () in share {
                L::send(&tx, ());
                L::recv(&rx);
            }
        }
    });
}

/// Goroutines each of which starts the next one and ends: so many chains.
fn create_goroutines<L: Library>(b: &Bench, chains: u64) {
    fn link<L: Library>(n: u64, member: L::Group) {
        if n == 0 {
            L::done(member);
        } else {
            L::spawn(move || link::<L>(n - 1, member));
        }
    }
    let all = L::group(chains);
    for _ in 0..chains {
        let (n, member) = (b.n / chains, all.clone());
        L::spawn(move || link::<L>(n, member));
    }
    L::wait(all);
}

/// Four goroutines with some captured variables, and a wait for them.
fn create_goroutines_capture<L: Library>(b: &Bench) {
    const N: u64 = 4;
    static BAD: AtomicBool = AtomicBool::new(false);
    let bad: &'static AtomicBool = black_box(&BAD);
    for _ in 0..b.n {
        let all = L::group(N);
        for i in 0..N {
            let member = all.clone();
            L::spawn(move || {
                if black_box(i) >= N {
                    bad.store(true, Ordering::Relaxed);
                }
                L::done(member);
            });
        }
        L::wait(all);
    }
}

/// Many goroutines, all started by one.
fn create_goroutines_single<L: Library>(b: &Bench) {
    let all = L::group(b.n);
    for _ in 0..b.n {
        let member = all.clone();
        L::spawn(move || L::done(member));
    }
    L::wait(all);
}
