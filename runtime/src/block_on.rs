//! Waiting for a future (Rust's, of which Go has none): the goroutine parks until the future's waker fires.

use gort_scheduler::g::WaitReason;
use gort_scheduler::gate::Gate;
use gort_scheduler::memory;
use gort_scheduler::proc::deadlock::Outside;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// True when the future wants to be polled.
struct Signal(Gate<bool>);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.update(|woken| (*woken = true, true));
    }
}

/// Runs a future to its end: parks the calling goroutine, or blocks the calling thread, whenever it is not ready.
///
/// The future may be of any kind that brings its own reactor or needs none. Those that are built on one runtime (`tokio`'s
/// sockets and timers) must be polled within that runtime.
///
/// # Panics
///
/// With the future's panic.
///
/// ```
/// let five = gort::run(|| gort::block_on(async { 2 + 3 }));
/// assert_eq!(five, 5);
/// ```
#[track_caller]
pub fn block_on<F: IntoFuture>(future: F) -> F::Output {
    let signal = memory::arc("a future", Signal(Gate::new(false)));
    let waker = Waker::from(signal.clone());
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future.into_future());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        // Whoever has a clone of the waker may use it; if nobody has one, nobody ever will.
        let _outside = (Arc::strong_count(&signal) > 2).then(Outside::begin);
        signal.0.wait(WaitReason::BlockOn, |woken| *woken);
        signal.0.update(|woken| (*woken = false, false));
    }
}
