//! `tokio`: its own channels where there is one receiver, and `async-channel`, which its documentation advises, where there
//! are more.

use crate::tasks::{Channel, Of, Tasks, measures as of};
use gort_bench_harness::child::Measures;
use gort_bench_harness::{Bench, Row};
use std::future::Future;
use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::{interval, sleep};

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Its tasks.
pub struct Tokio;

/// What can be measured of it.
pub fn measures() -> Measures<Of<Tokio>> {
    let own = vec![Row::new("select_uncontended", "SelectUncontended", select_uncontended)];
    of(crate::versions(&["tokio", "async-channel"]), own)
}

/// Starts its runtime with that many threads.
pub(crate) fn start(procs: usize) {
    RUNTIME.get_or_init(|| match Builder::new_multi_thread().worker_threads(procs).enable_time().build() {
        Ok(rt) => rt,
        Err(e) => panic!("no runtime: {e}"),
    });
}

/// Runs a main task on one of its threads.
pub(crate) fn run<T: Send + 'static>(f: impl Future<Output = T> + Send + 'static) -> T {
    let Some(rt) = RUNTIME.get() else { panic!("not started") };
    rt.block_on(rt.spawn(f)).unwrap_or_else(|e| resume_unwind(e.into_panic()))
}

/// When ticks came. The first is at the start.
pub(crate) async fn ticks(period: Duration, count: u64) -> Vec<Duration> {
    let begin = Instant::now();
    let mut ticks = interval(period);
    ticks.tick().await;
    let mut came = Vec::new();
    for _ in 0..count {
        ticks.tick().await;
        came.push(begin.elapsed());
    }
    came
}

impl Tasks for Tokio {
    type Single = Mpsc;
    type Shared = crate::async_channel::AsyncChannel;

    fn start(procs: usize) {
        start(procs);
    }

    fn run<T: Send + 'static>(f: impl Future<Output = T> + Send + 'static) -> T {
        run(f)
    }

    fn spawn(f: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(f);
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        tokio::task::yield_now()
    }

    fn sleep(d: Duration) -> impl Future<Output = ()> + Send {
        sleep(d)
    }

    fn ticks(period: Duration, count: u64) -> impl Future<Output = Vec<Duration>> + Send {
        ticks(period, count)
    }
}

/// Its channels with one receiver.
pub struct Mpsc;

impl Channel for Mpsc {
    const RENDEZVOUS: bool = false;

    type Tx<T: Send + 'static> = mpsc::Sender<T>;
    type Rx<T: Send + 'static> = mpsc::Receiver<T>;

    fn make<T: Send + 'static>(capacity: usize) -> (mpsc::Sender<T>, mpsc::Receiver<T>) {
        mpsc::channel(capacity.max(1))
    }

    async fn send<T: Send + 'static>(tx: &mpsc::Sender<T>, v: T) {
        assert!(tx.send(v).await.is_ok());
    }

    fn recv<T: Send + 'static>(rx: &mut mpsc::Receiver<T>) -> impl Future<Output = Option<T>> + Send {
        rx.recv()
    }
}

/// A token goes to and fro between two channels.
fn select_uncontended(b: &Bench) {
    let (shares, procs) = (b.shares(), b.procs);
    run(async move {
        let all = (0..procs).map(|_| {
            let share = shares.share();
            tokio::spawn(async move {
                let ((tx1, mut rx1), (tx2, mut rx2)) = (Mpsc::make::<isize>(1), Mpsc::make::<isize>(1));
                Mpsc::send(&tx1, 0).await;
                for () in share {
                    tokio::select! {
                        _ = rx1.recv() => Mpsc::send(&tx2, 0).await,
                        _ = rx2.recv() => Mpsc::send(&tx1, 0).await,
                    }
                }
            })
        });
        for one in all.collect::<Vec<_>>() {
            assert!(one.await.is_ok());
        }
    });
}
