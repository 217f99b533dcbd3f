//! The crate `go-lib`. Its processors are those of `GOMAXPROCS`.

use super::library::Library;
use super::{Kind, fail};
use go_lib::chan::{Receiver, Sender, chan};
use go_lib::sync::WaitGroup;
use std::sync::Arc;

/// The release that Cargo.toml asks for.
pub(super) const VERSION: &str = "0.6.3";

pub(super) struct GoLib;

impl Library for GoLib {
    type Sender = Sender<u64>;
    type Receiver = Receiver<u64>;
    type Group = Arc<WaitGroup>;

    /// The library keeps the panics of its goroutines from the hook.
    fn start(procs: usize, _: Kind) {
        go_lib::set_panic_handler(|payload| fail(payload.as_ref()));
        GoLib::run(move || assert_eq!(go_lib::gomaxprocs(), procs));
    }

    /// What `#[go_lib::main]` makes of a function: the attribute takes no closure.
    fn run<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
        go_lib::__main_entry(f)
    }

    fn spawn(f: impl FnOnce() + Send + 'static) {
        go_lib::go!(f);
    }

    fn yield_now() {
        go_lib::gosched();
    }

    fn channel() -> (Sender<u64>, Receiver<u64>) {
        chan(0)
    }

    fn send(tx: &Sender<u64>, v: u64) {
        tx.send(v);
    }

    fn recv(rx: &Receiver<u64>) -> Option<u64> {
        rx.recv()
    }

    fn close(tx: Sender<u64>) {
        tx.close();
    }

    fn group(members: u64) -> Arc<WaitGroup> {
        let wg = WaitGroup::new();
        wg.add(members as i64);
        Arc::new(wg)
    }

    fn done(member: Arc<WaitGroup>) {
        member.done();
    }

    fn wait(group: Arc<WaitGroup>) {
        group.wait();
    }
}
