//! Tasks: libraries whose operations are futures.

mod programs;
mod rows;

use gort_bench_harness::child::Measures;
use gort_bench_harness::{Host, Job, Outcome, Row};
use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

/// Channels between tasks.
pub trait Channel: 'static {
    /// Whether a channel without room exists, in which a sender meets its receiver. Where not, it has room for one value.
    const RENDEZVOUS: bool;

    /// Sends on a channel. The last one closes it.
    type Tx<T: Send + 'static>: Clone + Send + Sync + 'static;
    /// Receives from a channel.
    type Rx<T: Send + 'static>: Send + Sync + 'static;

    /// A channel with that capacity.
    fn make<T: Send + 'static>(capacity: usize) -> (Self::Tx<T>, Self::Rx<T>);

    /// Sends a value.
    fn send<T: Send + 'static>(tx: &Self::Tx<T>, v: T) -> impl Future<Output = ()> + Send;

    /// Receives a value: `None` if the channel is closed.
    fn recv<T: Send + 'static>(rx: &mut Self::Rx<T>) -> impl Future<Output = Option<T>> + Send;
}

/// Channels with many receivers.
pub trait Shared: Channel {
    /// Another receiver of the same channel.
    fn another<T: Send + 'static>(rx: &Self::Rx<T>) -> Self::Rx<T>;
}

/// A library with tasks.
pub trait Tasks: 'static {
    /// Its channels with one receiver, where that is enough.
    type Single: Channel;
    /// Its channels with many receivers.
    type Shared: Shared;

    /// Starts the library with that many threads, if it is not there yet.
    fn start(procs: usize);

    /// Runs a main task and waits for it. Called on a plain thread, one after the other.
    fn run<T: Send + 'static>(f: impl Future<Output = T> + Send + 'static) -> T;

    /// Starts a task that nobody joins.
    fn spawn(f: impl Future<Output = ()> + Send + 'static);

    /// Lets others run.
    fn yield_now() -> impl Future<Output = ()> + Send;

    /// Waits that long.
    fn sleep(d: Duration) -> impl Future<Output = ()> + Send;

    /// When so many ticks of a ticker came, since its start.
    fn ticks(period: Duration, count: u64) -> impl Future<Output = Vec<Duration>> + Send;
}

/// All that a library can: with those rows of its own.
pub fn measures<L: Tasks>(version: String, own: Vec<Row>) -> Measures<Of<L>> {
    let rows = rows::rows::<L>().into_iter().chain(own).map(|row| &*Box::leak(Box::new(row)));
    Measures { version, rows: rows.collect(), host: Of(PhantomData), program: programs::measurement::<L> }
}

/// Runs rows with a library. What they do on the calling thread is to start a main task.
pub struct Of<L>(PhantomData<L>);

impl<L: Tasks> Host for Of<L> {
    fn run(&self, procs: usize, job: Job) -> Outcome {
        L::start(procs);
        job()
    }
}

/// What all its members have: it is closed when the last of them has dropped it.
pub struct Group<L: Tasks>(<L::Single as Channel>::Tx<()>);

/// What waits for the members of a group.
pub struct Rest<L: Tasks>(<L::Single as Channel>::Rx<()>);

impl<L: Tasks> Clone for Group<L> {
    fn clone(&self) -> Self {
        Group(self.0.clone())
    }
}

/// A wait group.
pub fn group<L: Tasks>() -> (Group<L>, Rest<L>) {
    let (tx, rx) = L::Single::make(1);
    (Group(tx), Rest(rx))
}

impl<L: Tasks> Rest<L> {
    /// Waits until no member has the group any more, nor the caller.
    pub async fn wait(mut self, group: Group<L>) {
        drop(group);
        assert!(L::Single::recv(&mut self.0).await.is_none());
    }
}
