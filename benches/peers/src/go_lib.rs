//! `go-lib`. Its processors are those of `GOMAXPROCS`.

use crate::rows::{Of, measures as of, run_parallel};
use go_lib::chan::{Receiver, Sender, chan};
use go_lib::select;
use go_lib::sync::WaitGroup;
use gort_bench_harness::child::{Measures, fail};
use gort_bench_harness::programs::Kind;
use gort_bench_harness::{Bench, Library, Row};
use std::sync::Arc;
use std::time::Duration;

/// Its goroutines.
pub struct GoLib;

/// What can be measured of it.
pub fn measures() -> Measures<Of<GoLib>> {
    let own = vec![
        Row::new("chan_nonblocking", "ChanNonblocking", chan_nonblocking),
        Row::new("select_uncontended", "SelectUncontended", select_uncontended),
        Row::new("select_async_contended", "SelectAsyncContended", select_async_contended),
    ];
    of(crate::versions(&["go-lib"]), own)
}

impl Library for GoLib {
    type Sender<T: Send + 'static> = Sender<T>;
    type Receiver<T: Send + 'static> = Receiver<T>;
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

    fn sleep(d: Duration) {
        go_lib::sleep(d);
    }

    fn channel<T: Send + 'static>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        chan(capacity)
    }

    fn send<T: Send + 'static>(tx: &Sender<T>, v: T) {
        tx.send(v);
    }

    fn recv<T: Send + 'static>(rx: &Receiver<T>) -> Option<T> {
        rx.recv()
    }

    fn close<T: Send + 'static>(tx: Sender<T>) {
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

/// A receive that finds nothing.
fn chan_nonblocking(b: &Bench) {
    let (_tx, rx) = chan::<isize>(0);
    run_parallel::<GoLib, _>(b, |share| {
        let rx = rx.clone();
        move || {
            for () in share {
                assert!(rx.try_recv().is_none());
            }
        }
    });
}

/// A token goes to and fro between two channels.
fn select_uncontended(b: &Bench) {
    run_parallel::<GoLib, _>(b, |share| {
        move || {
            let ((tx1, rx1), (tx2, rx2)) = (chan::<isize>(1), chan::<isize>(1));
            tx1.send(0);
            for () in share {
                select! {
                    recv(rx1) -> _v => { tx2.send(0) }
                    recv(rx2) -> _v => { tx1.send(0) }
                }
            }
        }
    });
}

/// As many tokens as goroutines go to and fro between two channels that all share.
fn select_async_contended(b: &Bench) {
    let ((tx1, rx1), (tx2, rx2)) = (chan::<isize>(b.procs), chan::<isize>(b.procs));
    run_parallel::<GoLib, _>(b, |share| {
        let (tx1, rx1, tx2, rx2) = (tx1.clone(), rx1.clone(), tx2.clone(), rx2.clone());
        move || {
            tx1.send(0);
            for () in share {
                select! {
                    recv(rx1) -> _v => { tx2.send(0) }
                    recv(rx2) -> _v => { tx1.send(0) }
                }
            }
        }
    });
}
