//! [`timeout`]: a future that has so much time.

use super::{Timer, after_func};
use crate::block_on;
use gort_scheduler::memory;
use std::future::{IntoFuture, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use std::{error, fmt};

/// What [`timeout`] gives when the time was over first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit has passed")
    }
}

impl error::Error for Elapsed {}

/// Stops the timer on whatever way it goes.
struct Stops(Timer);

impl Drop for Stops {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Runs a future to its end, as [`block_on`](crate::block_on()), but for no longer than about `d`. The future is dropped where it
/// stands when the time is over. A future that is ready at once is, whatever the time.
///
/// Operations of this library need no such thing: channels have `recv_timeout`, and a `select!` has
/// [`after`](crate::time::after()).
///
/// # Errors
///
/// When the time was over first.
///
/// # Panics
///
/// With the future's panic.
///
/// ```
/// use gort::time::timeout;
/// use std::future::{pending, ready};
/// use std::time::Duration;
/// assert_eq!(timeout(Duration::from_secs(1), ready(5)), Ok(5));
/// assert!(timeout(Duration::from_millis(1), pending::<()>()).is_err());
/// ```
#[track_caller]
pub fn timeout<F: IntoFuture>(d: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future.into_future());
    let over = memory::arc("a timeout", AtomicBool::new(false));
    let mut timer = None;
    block_on(poll_fn(|cx| {
        // ORDERING: Acquire, pairs with the Release below: what the future's own wakers did before is seen by its last poll.
        let is_over = over.load(Ordering::Acquire);
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if is_over {
            return Poll::Ready(Err(Elapsed(())));
        }
        timer.get_or_insert_with(|| {
            let (over, waker) = (over.clone(), cx.waker().clone());
            Stops(after_func(d, move || {
                over.store(true, Ordering::Release);
                waker.wake_by_ref();
            }))
        });
        Poll::Pending
    }))
}
