//! `kanal` on threads.

use crate::rows::{Of, measures as of, run_parallel};
use crate::threads::{Channels, Threads};
use gort_bench_harness::child::Measures;
use gort_bench_harness::{Bench, Metronome, Row};
use kanal::{Receiver, Sender, bounded};
use std::thread;
use std::time::Duration;

/// Its channels.
pub struct Kanal;

/// What can be measured of it.
pub fn measures() -> Measures<Of<Threads<Kanal>>> {
    of(crate::versions(&["kanal"]), vec![Row::new("chan_nonblocking", "ChanNonblocking", chan_nonblocking)])
}

impl Channels for Kanal {
    type Sender<T: Send + 'static> = Sender<T>;
    type Receiver<T: Send + 'static> = Receiver<T>;

    fn channel<T: Send + 'static>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        bounded(capacity)
    }

    fn send<T: Send + 'static>(tx: &Sender<T>, v: T) {
        assert!(tx.send(v).is_ok());
    }

    fn recv<T: Send + 'static>(rx: &Receiver<T>) -> Option<T> {
        rx.recv().ok()
    }

    /// It has none.
    fn ticks(period: Duration) -> impl FnMut() {
        let mut metronome = Metronome::new(period);
        move || thread::sleep(metronome.next_pause())
    }
}

/// A receive that finds nothing.
fn chan_nonblocking(b: &Bench) {
    let (_tx, rx) = bounded::<isize>(0);
    run_parallel::<Threads<Kanal>, _>(b, |share| {
        let rx = rx.clone();
        move || {
            for () in share {
                assert!(matches!(rx.try_recv(), Ok(None)));
            }
        }
    });
}
