//! gort itself.

use super::Kind;
use super::library::Library;
use gort::sync::WaitGroup;
use gort::{Chan, Runtime, chan};
use std::sync::OnceLock;

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

pub(super) struct Gort;

impl Library for Gort {
    type Sender = Chan<u64>;
    type Receiver = Chan<u64>;
    type Group = WaitGroup;

    fn start(procs: usize, _: Kind) {
        RUNTIME.get_or_init(|| match Runtime::builder().max_procs(procs).build() {
            Ok(rt) => rt,
            Err(e) => panic!("no runtime with {procs} Ps: {e}"),
        });
    }

    fn run<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
        let Some(rt) = RUNTIME.get() else { panic!("not started") };
        rt.run(f)
    }

    fn spawn(f: impl FnOnce() + Send + 'static) {
        gort::go!(f);
    }

    fn yield_now() {
        gort::yield_now();
    }

    fn channel() -> (Chan<u64>, Chan<u64>) {
        let ch = chan(0);
        (ch.clone(), ch)
    }

    fn send(tx: &Chan<u64>, v: u64) {
        tx.send(v);
    }

    fn recv(rx: &Chan<u64>) -> Option<u64> {
        rx.recv()
    }

    fn close(tx: Chan<u64>) {
        tx.close();
    }

    fn group(members: u64) -> WaitGroup {
        let wg = WaitGroup::new();
        wg.add(members as isize);
        wg
    }

    fn done(member: WaitGroup) {
        member.done();
    }

    fn wait(group: WaitGroup) {
        group.wait();
    }
}
