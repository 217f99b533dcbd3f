//! `kanal` on `tokio`'s runtime.

use crate::tasks::{Channel, Of, Shared, Tasks, measures as of};
use crate::tokio as on;
use gort_bench_harness::child::Measures;
use kanal::{AsyncReceiver, AsyncSender, bounded_async};
use std::future::Future;
use std::time::Duration;

/// Its channels, and tokio's tasks.
pub struct KanalOnTokio;

/// What can be measured of it.
pub fn measures() -> Measures<Of<KanalOnTokio>> {
    of(crate::versions(&["kanal", "tokio"]), Vec::new())
}

impl Tasks for KanalOnTokio {
    type Single = Kanal;
    type Shared = Kanal;

    fn start(procs: usize) {
        on::start(procs);
    }

    fn run<T: Send + 'static>(f: impl Future<Output = T> + Send + 'static) -> T {
        on::run(f)
    }

    fn spawn(f: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(f);
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        tokio::task::yield_now()
    }

    fn sleep(d: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(d)
    }

    fn ticks(period: Duration, count: u64) -> impl Future<Output = Vec<Duration>> + Send {
        on::ticks(period, count)
    }
}

/// Its channels.
pub struct Kanal;

impl Channel for Kanal {
    const RENDEZVOUS: bool = true;

    type Tx<T: Send + 'static> = AsyncSender<T>;
    type Rx<T: Send + 'static> = AsyncReceiver<T>;

    fn make<T: Send + 'static>(capacity: usize) -> (AsyncSender<T>, AsyncReceiver<T>) {
        bounded_async(capacity)
    }

    async fn send<T: Send + 'static>(tx: &AsyncSender<T>, v: T) {
        assert!(tx.send(v).await.is_ok());
    }

    async fn recv<T: Send + 'static>(rx: &mut AsyncReceiver<T>) -> Option<T> {
        rx.recv().await.ok()
    }
}

impl Shared for Kanal {
    fn another<T: Send + 'static>(rx: &AsyncReceiver<T>) -> AsyncReceiver<T> {
        rx.clone()
    }
}
