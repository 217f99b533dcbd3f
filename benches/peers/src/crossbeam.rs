//! `crossbeam-channel` on threads.

use crate::rows::{CALLS, Of, measures as of, run_parallel};
use crate::threads::{Channels, Threads};
use crossbeam_channel::{Receiver, Sender, after, bounded, select, tick};
use gort_bench_harness::child::Measures;
use gort_bench_harness::{Bench, Row, local_work};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// Its channels.
pub struct Crossbeam;

/// What can be measured of it.
pub fn measures() -> Measures<Of<Threads<Crossbeam>>> {
    of(crate::versions(&["crossbeam-channel"]), selects())
}

impl Channels for Crossbeam {
    type Sender<T: Send + 'static> = Sender<T>;
    type Receiver<T: Send + 'static> = Receiver<T>;

    fn channel<T: Send + 'static>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        bounded(capacity)
    }

    fn send<T: Send + 'static>(tx: &Sender<T>, v: T) {
        assert!(tx.send(v).is_ok());
    }

    fn recv<T: Send + 'static>(rx: &Receiver<T>) -> Option<T> {
        rx.recv().ok()
    }

    fn ticks(period: Duration) -> impl FnMut() {
        let ticks = tick(period);
        move || assert!(ticks.recv().is_ok())
    }
}

fn selects() -> Vec<Row> {
    vec![
        Row::new("chan_nonblocking", "ChanNonblocking", chan_nonblocking),
        Row::new("select_uncontended", "SelectUncontended", select_uncontended),
        Row::new("select_sync_contended", "SelectSyncContended", select_sync_contended),
        Row::new("select_async_contended", "SelectAsyncContended", select_async_contended),
        Row::new("select_nonblock", "SelectNonblock", select_nonblock),
        Row::new("select_prod_cons", "SelectProdCons", select_prod_cons).batch(CALLS),
    ]
}

/// A receive that finds nothing.
fn chan_nonblocking(b: &Bench) {
    let (_tx, rx) = bounded::<isize>(0);
    run_parallel::<Threads<Crossbeam>, _>(b, |share| {
        let rx = rx.clone();
        move || {
            for () in share {
                assert!(rx.try_recv().is_err());
            }
        }
    });
}

/// A token goes to and fro between two channels.
fn select_uncontended(b: &Bench) {
    run_parallel::<Threads<Crossbeam>, _>(b, |share| {
        move || {
            let ((tx1, rx1), (tx2, rx2)) = (bounded::<isize>(1), bounded::<isize>(1));
            Crossbeam::send(&tx1, 0);
            for () in share {
                select! {
                    recv(rx1) -> _ => Crossbeam::send(&tx2, 0),
                    recv(rx2) -> _ => Crossbeam::send(&tx1, 0),
                }
            }
        }
    });
}

/// A receive from any of three channels, to all of which others send.
fn select_sync_contended(b: &Bench) {
    let ((tx1, rx1), (tx2, rx2), (tx3, rx3)) = (bounded(0), bounded(0), bounded(0));
    let (done_tx, done) = bounded::<isize>(0);
    run_parallel::<Threads<Crossbeam>, _>(b, |share| {
        let (tx1, rx1, tx2, rx2, tx3, rx3, done) =
            (tx1.clone(), rx1.clone(), tx2.clone(), rx2.clone(), tx3.clone(), rx3.clone(), done.clone());
        move || {
            let (tx1, tx2, tx3, stop) = (tx1.clone(), tx2.clone(), tx3.clone(), done.clone());
            thread::spawn(move || {
                loop {
                    select! {
                        send(tx1, 0) -> _ => {}
                        send(tx2, 0) -> _ => {}
                        send(tx3, 0) -> _ => {}
                        recv(stop) -> _ => return,
                    }
                }
            });
            for () in share {
                select! {
                    recv(rx1) -> v => assert_eq!(v, Ok(0)),
                    recv(rx2) -> v => assert_eq!(v, Ok(0)),
                    recv(rx3) -> v => assert_eq!(v, Ok(0)),
                }
            }
        }
    });
    drop(done_tx);
}

/// As many tokens as threads go to and fro between two channels that all share.
fn select_async_contended(b: &Bench) {
    let ((tx1, rx1), (tx2, rx2)) = (bounded::<isize>(b.procs), bounded::<isize>(b.procs));
    run_parallel::<Threads<Crossbeam>, _>(b, |share| {
        let (tx1, rx1, tx2, rx2) = (tx1.clone(), rx1.clone(), tx2.clone(), rx2.clone());
        move || {
            Crossbeam::send(&tx1, 0);
            for () in share {
                select! {
                    recv(rx1) -> _ => Crossbeam::send(&tx2, 0),
                    recv(rx2) -> _ => Crossbeam::send(&tx1, 0),
                }
            }
        }
    });
}

/// Four tries, none of which goes through (but for the first of the last kind).
fn select_nonblock(b: &Bench) {
    let ((_tx1, rx1), (tx2, _rx2)) = (bounded::<isize>(0), bounded::<isize>(0));
    let ((_tx3, rx3), (tx4, _rx4)) = (bounded::<isize>(1), bounded::<isize>(1));
    run_parallel::<Threads<Crossbeam>, _>(b, |share| {
        let (rx1, tx2, rx3, tx4) = (rx1.clone(), tx2.clone(), rx3.clone(), tx4.clone());
        move || {
            for () in share {
                let _ = rx1.try_recv();
                let _ = tx2.try_send(0);
                let _ = rx3.try_recv();
                let _ = tx4.try_send(0);
            }
        }
    });
}

/// As `chan_prod_cons` with a select, which also waits for a timer and for a channel where nothing happens.
fn select_prod_cons(b: &Bench) {
    let left = Arc::new(AtomicI64::new((b.n / CALLS) as i64));
    let ((tx, rx), (_open, quit)) = (bounded::<isize>(128), bounded::<bool>(0));
    thread::scope(|s| {
        for _ in 0..b.procs {
            s.spawn(|| {
                let timer = after(HOUR);
                while left.fetch_sub(1, Ordering::Relaxed) > 0 {
                    for _ in 0..CALLS {
                        local_work(100);
                        select! {
                            send(tx, 1) -> _ => {}
                            recv(timer) -> _ => {}
                            recv(quit) -> _ => {}
                        }
                    }
                }
                Crossbeam::send(&tx, 0);
            });
            s.spawn(|| {
                let timer = after(HOUR);
                loop {
                    select! {
                        recv(rx) -> v => if v == Ok(0) { break },
                        recv(timer) -> _ => {}
                        recv(quit) -> _ => {}
                    }
                    local_work(100);
                }
            });
        }
    });
}
