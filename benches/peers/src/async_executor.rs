//! `async-channel` on `async-executor`, with the timers of `async-io`.

use crate::async_channel::AsyncChannel;
use crate::tasks::{Of, Tasks, measures as of};
use async_executor::StaticExecutor;
use async_io::{Timer, block_on};
use futures_lite::{StreamExt, future};
use gort_bench_harness::child::Measures;
use std::future::{Future, pending};
use std::sync::Once;
use std::thread;
use std::time::{Duration, Instant};

static EXECUTOR: StaticExecutor = StaticExecutor::new();
static STARTED: Once = Once::new();

/// Its tasks.
pub struct AsyncExecutor;

/// What can be measured of it.
pub fn measures() -> Measures<Of<AsyncExecutor>> {
    of(crate::versions(&["async-executor", "async-channel", "async-io"]), Vec::new())
}

impl Tasks for AsyncExecutor {
    type Single = AsyncChannel;
    type Shared = AsyncChannel;

    fn start(procs: usize) {
        STARTED.call_once(|| {
            for _ in 0..procs {
                thread::spawn(|| block_on(EXECUTOR.run(pending::<()>())));
            }
        });
    }

    fn run<T: Send + 'static>(f: impl Future<Output = T> + Send + 'static) -> T {
        future::block_on(EXECUTOR.spawn(f))
    }

    fn spawn(f: impl Future<Output = ()> + Send + 'static) {
        EXECUTOR.spawn(f).detach();
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        future::yield_now()
    }

    async fn sleep(d: Duration) {
        Timer::after(d).await;
    }

    async fn ticks(period: Duration, count: u64) -> Vec<Duration> {
        let begin = Instant::now();
        let mut ticks = Timer::interval(period);
        let mut came = Vec::new();
        for _ in 0..count {
            ticks.next().await;
            came.push(begin.elapsed());
        }
        came
    }
}
