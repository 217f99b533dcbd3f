//! [`WaitGroup`]: waiting until a number of things are done (Go's `sync.WaitGroup`).

use crate::go::go;
use gort_scheduler::memory;
use gort_scheduler::proc::newproc::ends_the_process;
use gort_scheduler::sema;
use std::sync::Arc;

/// Waits until a number of things are done (Go's `sync.WaitGroup`). Clones are the same group.
///
/// A group may be used again once every wait of the last time has returned.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
/// static SUM: AtomicU32 = AtomicU32::new(0);
///
/// let wg = gort::sync::WaitGroup::new();
/// for i in 0..10 {
///     wg.go(move || { SUM.fetch_add(i, Relaxed); });
/// }
/// wg.wait();
/// assert_eq!(SUM.load(Relaxed), 45);
/// ```
#[derive(Clone, Debug)]
pub struct WaitGroup {
    state: Arc<sema::WaitGroup>,
}

impl Default for WaitGroup {
    /// As [`WaitGroup::new`].
    fn default() -> WaitGroup {
        WaitGroup::new()
    }
}

impl WaitGroup {
    /// A group with nothing to wait for.
    ///
    /// ```
    /// gort::sync::WaitGroup::new().wait();
    /// ```
    #[inline]
    pub fn new() -> WaitGroup {
        WaitGroup { state: memory::arc("a wait group", sema::WaitGroup::default()) }
    }

    /// Adds `n` things, or takes away `-n`. When the count comes to zero, all who wait go on. What is to be waited for is
    /// added before the wait begins.
    ///
    /// # Panics
    ///
    /// `sync: negative WaitGroup counter`, also if it would be above `i32::MAX`; the count is left as it was.
    /// `sync: WaitGroup misuse: Add called concurrently with Wait`, if this is found out.
    ///
    /// ```
    /// let wg = gort::sync::WaitGroup::new();
    /// wg.add(2);
    /// wg.add(-2);
    /// wg.wait();
    /// ```
    #[inline]
    #[track_caller]
    pub fn add(&self, n: isize) {
        // What does not fit is misuse as well.
        self.state.add(i32::try_from(n).unwrap_or(i32::MIN));
    }

    /// One thing is done: `add(-1)`.
    ///
    /// # Panics
    ///
    /// `sync: negative WaitGroup counter`.
    ///
    /// ```
    /// let wg = gort::sync::WaitGroup::new();
    /// wg.add(1);
    /// wg.done();
    /// ```
    #[inline]
    #[track_caller]
    pub fn done(&self) {
        self.add(-1);
    }

    /// Waits until the count is zero: parks the goroutine, or blocks the plain thread.
    ///
    /// # Panics
    ///
    /// `sync: WaitGroup is reused before previous Wait has returned`, if somebody else has gone on and added more before this
    /// wait could return.
    ///
    /// ```
    /// let wg = gort::sync::WaitGroup::new();
    /// wg.add(1);
    /// let done = wg.clone();
    /// gort::go!(move || done.done());
    /// wg.wait();
    /// ```
    #[inline]
    #[track_caller]
    pub fn wait(&self) {
        self.state.wait();
    }

    /// Starts a goroutine that counts as one thing until it ends, also if it panics (Go's `WaitGroup.Go`).
    ///
    /// ```
    /// let wg = gort::sync::WaitGroup::new();
    /// wg.go(|| println!("in a goroutine"));
    /// wg.wait();
    /// ```
    #[track_caller]
    pub fn go<F>(&self, f: F)
    where
        F: FnOnce() + Send + 'static,
    {
        struct Done(WaitGroup);
        impl Drop for Done {
            fn drop(&mut self) {
                // Nobody goes on after a panic that ends the process.
                if !ends_the_process() {
                    self.0.done();
                }
            }
        }
        self.add(1);
        let done = Done(self.clone());
        go(move || {
            let _done = done;
            f();
        });
    }
}
