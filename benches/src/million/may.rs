//! The crate `may`.
//!
//! It has no unbuffered channel and none that is closed. `mpmc` comes nearest: it is unbounded, has many receivers,
//! and all of them are woken when the last sender goes.

use super::library::Library;
use super::{BATCH, Kind};
use may::coroutine::yield_now;
use may::sync::WaitGroup;
use may::sync::mpmc::{Receiver, Sender, channel};
use std::panic::resume_unwind;

/// The release that Cargo.toml asks for.
pub(super) const VERSION: &str = "0.3.51";

pub(super) struct May;

impl Library for May {
    type Sender = Sender<u64>;
    type Receiver = Receiver<u64>;
    type Group = WaitGroup;

    /// The pool is filled when the library starts and keeps stacks up to its capacity; it gives back what is more.
    fn start(procs: usize, kind: Kind) {
        let config = may::config();
        config.set_workers(procs);
        match kind {
            // The stacks are made while the time is taken, as by the others.
            Kind::ParkAndClose => config.set_pool_capacity(1),
            Kind::SpawnRun | Kind::Skynet => config.set_pool_capacity(BATCH as usize),
        };
    }

    fn run<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
        may::go!(f).join().unwrap_or_else(|payload| resume_unwind(payload))
    }

    fn spawn(f: impl FnOnce() + Send + 'static) {
        may::go!(f);
    }

    fn yield_now() {
        yield_now();
    }

    fn channel() -> (Sender<u64>, Receiver<u64>) {
        channel()
    }

    fn send(tx: &Sender<u64>, v: u64) {
        assert!(tx.send(v).is_ok());
    }

    fn recv(rx: &Receiver<u64>) -> Option<u64> {
        rx.recv().ok()
    }

    fn close(tx: Sender<u64>) {
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
