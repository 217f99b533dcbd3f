//! `may`.
//!
//! It has no unbuffered channel, none with a bound and none that is closed. `mpmc` comes nearest: it is unbounded, has many
//! receivers, and all of them are woken when the last sender goes. Its select may run two of its arms, and is left out.

use crate::rows::{Of, measures as of};
use gort_bench_harness::Library;
use gort_bench_harness::child::Measures;
use gort_bench_harness::programs::{BATCH, Kind};
use may::coroutine;
use may::sync::WaitGroup;
use may::sync::mpmc::{Receiver, Sender, channel};
use std::panic::resume_unwind;
use std::time::Duration;

/// Its coroutines.
pub struct May;

/// What can be measured of it.
pub fn measures() -> Measures<Of<May>> {
    of(crate::versions(&["may"]), Vec::new())
}

impl Library for May {
    type Sender<T: Send + 'static> = Sender<T>;
    type Receiver<T: Send + 'static> = Receiver<T>;
    type Group = WaitGroup;

    const BOUNDED: bool = false;

    /// The pool is filled when the library starts and keeps stacks up to its capacity; it gives back what is more.
    fn start(procs: usize, kind: Kind) {
        let config = may::config();
        config.set_workers(procs);
        match kind {
            // The stacks are made while the time is taken, as by the others.
            Kind::ParkAndClose => config.set_pool_capacity(1),
            _ => config.set_pool_capacity(BATCH as usize),
        };
    }

    fn run<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
        may::go!(f).join().unwrap_or_else(|payload| resume_unwind(payload))
    }

    fn spawn(f: impl FnOnce() + Send + 'static) {
        may::go!(f);
    }

    fn yield_now() {
        coroutine::yield_now();
    }

    fn sleep(d: Duration) {
        coroutine::sleep(d);
    }

    fn channel<T: Send + 'static>(_: usize) -> (Sender<T>, Receiver<T>) {
        channel()
    }

    fn send<T: Send + 'static>(tx: &Sender<T>, v: T) {
        assert!(tx.send(v).is_ok());
    }

    fn recv<T: Send + 'static>(rx: &Receiver<T>) -> Option<T> {
        rx.recv().ok()
    }

    fn close<T: Send + 'static>(tx: Sender<T>) {
        drop(tx);
    }

    /// It counts its clones.
    fn group(_: u64) -> WaitGroup {
        WaitGroup::new()
    }

    fn done(member: WaitGroup) {
        drop(member);
    }

    fn wait(group: WaitGroup) {
        group.wait();
    }
}
