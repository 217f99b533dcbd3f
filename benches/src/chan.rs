//! The rows of Go's `runtime/chan_test.go`.

use crate::harness::{Bench, Row, RunParallel};
use gort::sync::WaitGroup;
use gort::{Chan, chan, go, select};
use gort_bench_harness::local_work;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// What Go calls `CallsPerSched`: so many operations are drawn from the shared count at a time.
const CALLS: u64 = 1000;
const HOUR: Duration = Duration::from_secs(3600);

/// In the order of Go's file.
pub const ROWS: &[Row] = &[
    Row::new("make_chan_byte", "MakeChan/Byte", make_chan::<u8>),
    Row::new("make_chan_int", "MakeChan/Int", make_chan::<isize>),
    Row::new("make_chan_ptr", "MakeChan/Ptr", make_chan::<Option<&'static u8>>),
    Row::new("make_chan_struct_0", "MakeChan/Struct/0", make_chan::<()>),
    Row::new("make_chan_struct_32", "MakeChan/Struct/32", make_chan::<[i64; 4]>),
    Row::new("make_chan_struct_40", "MakeChan/Struct/40", make_chan::<[i64; 5]>),
    Row::new("chan_nonblocking", "ChanNonblocking", chan_nonblocking),
    Row::new("select_uncontended", "SelectUncontended", select_uncontended),
    Row::new("select_sync_contended", "SelectSyncContended", select_sync_contended),
    Row::new("select_async_contended", "SelectAsyncContended", select_async_contended),
    Row::new("select_nonblock", "SelectNonblock", select_nonblock),
    Row::new("chan_uncontended", "ChanUncontended", chan_uncontended),
    Row::new("chan_contended", "ChanContended", chan_contended),
    Row::new("chan_sync", "ChanSync", |b| chan_sync(b, 0)).batch(2 * CALLS),
    Row::new("chan_sync_work", "ChanSyncWork", |b| chan_sync(b, 1000)).batch(2 * CALLS),
    Row::new("chan_prod_cons_0", "ChanProdCons0", |b| chan_prod_cons(b, 0, 0)).batch(CALLS),
    Row::new("chan_prod_cons_10", "ChanProdCons10", |b| chan_prod_cons(b, 10, 0)).batch(CALLS),
    Row::new("chan_prod_cons_100", "ChanProdCons100", |b| chan_prod_cons(b, 100, 0)).batch(CALLS),
    Row::new("chan_prod_cons_work_0", "ChanProdConsWork0", |b| chan_prod_cons(b, 0, 100)).batch(CALLS),
    Row::new("chan_prod_cons_work_10", "ChanProdConsWork10", |b| chan_prod_cons(b, 10, 100)).batch(CALLS),
    Row::new("chan_prod_cons_work_100", "ChanProdConsWork100", |b| chan_prod_cons(b, 100, 100)).batch(CALLS),
    Row::new("select_prod_cons", "SelectProdCons", select_prod_cons).batch(CALLS),
    Row::new("receive_data_from_closed_chan", "ReceiveDataFromClosedChan", receive_data_from_closed_chan),
    Row::new("chan_creation", "ChanCreation", chan_creation),
    Row::new("chan_sem", "ChanSem", chan_sem),
    Row::new("chan_popular", "ChanPopular", chan_popular),
    Row::new("chan_closed", "ChanClosed", chan_closed),
];

/// A channel with room for eight is made, and the one before it goes.
fn make_chan<T: Send>(b: &Bench) {
    let mut x = Chan::<T>::nil();
    for _ in 0..b.n {
        x = black_box(chan::<T>(8));
    }
    x.close();
}

/// A receive that finds nothing.
fn chan_nonblocking(b: &Bench) {
    let myc = chan::<isize>(0);
    b.run_parallel(|share| {
        for () in share {
            select! {
                recv(myc) -> _ => {}
                default => {}
            }
        }
    });
}

/// A token goes to and fro between two channels.
fn select_uncontended(b: &Bench) {
    b.run_parallel(|share| {
        let (myc1, myc2) = (chan::<isize>(1), chan::<isize>(1));
        myc1.send(0);
        for () in share {
            select! {
                recv(myc1) -> _ => myc2.send(0),
                recv(myc2) -> _ => myc1.send(0),
            }
        }
    });
}

/// A receive from any of three channels, to all of which others send.
fn select_sync_contended(b: &Bench) {
    let (myc1, myc2, myc3) = (chan::<isize>(0), chan::<isize>(0), chan::<isize>(0));
    let done = chan::<isize>(0);
    b.run_parallel(|share| {
        let (c1, c2, c3, stop) = (myc1.clone(), myc2.clone(), myc3.clone(), done.clone());
        go!(move || {
            loop {
                select! {
                    send(c1, 0) => {}
                    send(c2, 0) => {}
                    send(c3, 0) => {}
                    recv(stop) -> _ => return,
                }
            }
        });
        for () in share {
            select! {
                recv(myc1) -> _ => {}
                recv(myc2) -> _ => {}
                recv(myc3) -> _ => {}
            }
        }
    });
    done.close();
}

/// As many tokens as goroutines go to and fro between two channels that all share.
fn select_async_contended(b: &Bench) {
    let procs = gort::max_procs();
    let (myc1, myc2) = (chan::<isize>(procs), chan::<isize>(procs));
    b.run_parallel(|share| {
        myc1.send(0);
        for () in share {
            select! {
                recv(myc1) -> _ => myc2.send(0),
                recv(myc2) -> _ => myc1.send(0),
            }
        }
    });
}

/// Four tries, none of which goes through (but for the first of the last kind).
fn select_nonblock(b: &Bench) {
    let (myc1, myc2) = (chan::<isize>(0), chan::<isize>(0));
    let (myc3, myc4) = (chan::<isize>(1), chan::<isize>(1));
    b.run_parallel(|share| {
        for () in share {
            select! {
                recv(myc1) -> _ => {}
                default => {}
            }
            select! {
                send(myc2, 0) => {}
                default => {}
            }
            select! {
                recv(myc3) -> _ => {}
                default => {}
            }
            select! {
                send(myc4, 0) => {}
                default => {}
            }
        }
    });
}

/// 100 values into a channel, and out again.
fn fill_and_drain(myc: &Chan<isize>) {
    for _ in 0..100 {
        myc.send(0);
    }
    for _ in 0..100 {
        myc.recv();
    }
}

/// Each goroutine has a channel of its own.
fn chan_uncontended(b: &Bench) {
    b.run_parallel(|share| {
        let myc = chan(100);
        for () in share {
            fill_and_drain(&myc);
        }
    });
}

/// All share one.
fn chan_contended(b: &Bench) {
    let myc = chan(100 * gort::max_procs());
    b.run_parallel(|share| {
        for () in share {
            fill_and_drain(&myc);
        }
    });
}

/// Two goroutines hand values to each other.
fn chan_sync(b: &Bench, work: usize) {
    let left = Arc::new(AtomicI64::new((b.n / CALLS) as i64));
    let (c, myc) = (chan::<bool>(2), chan::<isize>(0));
    for _ in 0..2 {
        let (left, c, myc) = (left.clone(), c.clone(), myc.clone());
        go!(move || {
            loop {
                let i = left.fetch_sub(1, Ordering::Relaxed) - 1;
                if i < 0 {
                    break;
                }
                for _ in 0..CALLS {
                    if i % 2 == 0 {
                        myc.recv();
                        local_work(work);
                        myc.send(0);
                        local_work(work);
                    } else {
                        myc.send(0);
                        local_work(work);
                        myc.recv();
                        local_work(work);
                    }
                }
            }
            c.send(true);
        });
    }
    for _ in 0..2 {
        c.recv();
    }
}

/// As many producers and as many consumers as Ps. A value of 0 tells one consumer to stop.
fn chan_prod_cons(b: &Bench, cap: usize, work: usize) {
    let procs = gort::max_procs();
    let left = Arc::new(AtomicI64::new((b.n / CALLS) as i64));
    let (c, myc) = (chan::<bool>(2 * procs), chan::<isize>(cap));
    for _ in 0..procs {
        let (left, done, tx) = (left.clone(), c.clone(), myc.clone());
        go!(move || {
            while left.fetch_sub(1, Ordering::Relaxed) > 0 {
                for _ in 0..CALLS {
                    local_work(work);
                    tx.send(1);
                }
            }
            tx.send(0);
            done.send(false);
        });
        let (done, rx) = (c.clone(), myc.clone());
        go!(move || {
            while rx.recv() != Some(0) {
                local_work(work);
            }
            done.send(false);
        });
    }
    for _ in 0..2 * procs {
        c.recv();
    }
}

/// The same with a select, which also waits for a timer and for a channel where nothing happens.
fn select_prod_cons(b: &Bench) {
    let procs = gort::max_procs();
    let left = Arc::new(AtomicI64::new((b.n / CALLS) as i64));
    let (c, myc, myclose) = (chan::<bool>(2 * procs), chan::<isize>(128), chan::<bool>(0));
    for _ in 0..procs {
        let (left, done, tx, quit) = (left.clone(), c.clone(), myc.clone(), myclose.clone());
        go!(move || {
            let timer = gort::time::after(HOUR);
            while left.fetch_sub(1, Ordering::Relaxed) > 0 {
                for _ in 0..CALLS {
                    local_work(100);
                    select! {
                        send(tx, 1) => {}
                        recv(timer) -> _ => {}
                        recv(quit) -> _ => {}
                    }
                }
            }
            tx.send(0);
            done.send(false);
        });
        let (done, rx, quit) = (c.clone(), myc.clone(), myclose.clone());
        go!(move || {
            let timer = gort::time::after(HOUR);
            loop {
                select! {
                    recv(rx) -> v => {
                        if v == Some(0) {
                            break;
                        }
                    }
                    recv(timer) -> _ => {}
                    recv(quit) -> _ => {}
                }
                local_work(100);
            }
            done.send(false);
        });
    }
    for _ in 0..2 * procs {
        c.recv();
    }
}

/// What is left in a channel that is closed.
fn receive_data_from_closed_chan(b: &Bench) {
    let ch = chan::<()>(b.n as usize);
    for _ in 0..b.n {
        ch.send(());
    }
    ch.close();
    b.reset_timer();
    for () in &ch {}
}

/// A channel is made, used once, and goes.
fn chan_creation(b: &Bench) {
    b.run_parallel(|share| {
        for () in share {
            let myc = chan::<isize>(1);
            myc.send(0);
            myc.recv();
        }
    });
}

/// A channel as a semaphore.
fn chan_sem(b: &Bench) {
    let myc = chan::<()>(gort::max_procs());
    b.run_parallel(|share| {
        for () in share {
            myc.send(());
            myc.recv();
        }
    });
}

/// A thousand goroutines wait for one channel that all share and one of their own; their own get a value each.
fn chan_popular(b: &Bench) {
    const N: usize = 1000;
    let c = chan::<bool>(0);
    let mut own = Vec::new();
    let wg = WaitGroup::new();
    wg.add(N as isize);
    let n = b.n;
    for _ in 0..N {
        let d = chan::<bool>(0);
        own.push(d.clone());
        let (c, wg) = (c.clone(), wg.clone());
        go!(move || {
            for _ in 0..n {
                select! {
                    recv(c) -> _ => {}
                    recv(d) -> _ => {}
                }
            }
            wg.done();
        });
    }
    for _ in 0..n {
        for d in &own {
            d.send(true);
        }
    }
    wg.wait();
}

/// A receive from a channel that is closed.
fn chan_closed(b: &Bench) {
    let c = chan::<()>(0);
    c.close();
    b.run_parallel(|share| {
        for () in share {
            select! {
                recv(c) -> _ => {}
                default => unreachable!("a closed channel is ready"),
            }
        }
    });
}
