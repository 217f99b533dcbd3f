//! [`Threads`]: channels between threads. The processors are the machine's.

use gort_bench_harness::Library;
use gort_bench_harness::programs::Kind;
use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Channels that block threads.
pub trait Channels: 'static {
    /// Sends on a channel.
    type Sender<T: Send + 'static>: Clone + Send + 'static;
    /// Receives from a channel.
    type Receiver<T: Send + 'static>: Clone + Send + 'static;

    /// A channel with that capacity; with none, a sender meets its receiver.
    fn channel<T: Send + 'static>(capacity: usize) -> (Self::Sender<T>, Self::Receiver<T>);

    /// Sends a value.
    fn send<T: Send + 'static>(tx: &Self::Sender<T>, v: T);

    /// Receives a value: `None` if the channel is closed.
    fn recv<T: Send + 'static>(rx: &Self::Receiver<T>) -> Option<T>;

    /// Waits for one tick after the other.
    fn ticks(period: Duration) -> impl FnMut();
}

/// Threads with channels between them.
pub struct Threads<C>(PhantomData<C>);

/// A wait group of threads.
pub type Group = Arc<(Mutex<u64>, Condvar)>;

impl<C: Channels> Library for Threads<C> {
    type Sender<T: Send + 'static> = C::Sender<T>;
    type Receiver<T: Send + 'static> = C::Receiver<T>;
    type Group = Group;

    /// More threads are too much for most systems as they come, and the rest would take minutes.
    fn most(kind: Kind) -> u64 {
        match kind {
            Kind::ParkAndClose => 1000,
            Kind::Ring => 50_000,
            _ => 10_000,
        }
    }

    fn start(_: usize, _: Kind) {}

    fn run<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
        f()
    }

    fn spawn(f: impl FnOnce() + Send + 'static) {
        if let Err(e) = thread::Builder::new().spawn(f) {
            panic!("cannot start a thread: {e}");
        }
    }

    fn yield_now() {
        thread::yield_now();
    }

    fn sleep(d: Duration) {
        thread::sleep(d);
    }

    fn ticks(period: Duration) -> impl FnMut() {
        C::ticks(period)
    }

    fn channel<T: Send + 'static>(capacity: usize) -> (C::Sender<T>, C::Receiver<T>) {
        C::channel(capacity)
    }

    fn send<T: Send + 'static>(tx: &C::Sender<T>, v: T) {
        C::send(tx, v);
    }

    fn recv<T: Send + 'static>(rx: &C::Receiver<T>) -> Option<T> {
        C::recv(rx)
    }

    /// The last sender closes it.
    fn close<T: Send + 'static>(tx: C::Sender<T>) {
        drop(tx);
    }

    fn group(members: u64) -> Group {
        Arc::new((Mutex::new(members), Condvar::new()))
    }

    fn done(member: Group) {
        let (left, none) = &*member;
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        *left -= 1;
        if *left == 0 {
            none.notify_all();
        }
    }

    fn wait(group: Group) {
        let (left, none) = &*group;
        let left = left.lock().unwrap_or_else(PoisonError::into_inner);
        drop(none.wait_while(left, |left| *left > 0).unwrap_or_else(PoisonError::into_inner));
    }
}
