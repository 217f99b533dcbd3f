//! [`WaitGroup`]: waiting until a number of things are done (Go's `sync.WaitGroup`).

use crate::go::go;
use gort_scheduler::g::WaitReason;
use gort_scheduler::gate::Gate;
use std::sync::Arc;

/// Waits until a number of things are done (Go's `sync.WaitGroup`). Clones are the same group.
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
    count: Arc<Gate<isize>>,
}

impl WaitGroup {
    /// A group with nothing to wait for.
    ///
    /// ```
    /// gort::sync::WaitGroup::new().wait();
    /// ```
    pub fn new() -> WaitGroup {
        WaitGroup { count: Arc::new(Gate::new(0)) }
    }

    /// Adds `n` things, or takes away `-n`. When the count comes to zero, all who wait go on.
    ///
    /// # Panics
    ///
    /// `sync: negative WaitGroup counter`.
    ///
    /// ```
    /// let wg = gort::sync::WaitGroup::new();
    /// wg.add(2);
    /// wg.add(-2);
    /// wg.wait();
    /// ```
    #[track_caller]
    pub fn add(&self, n: isize) {
        let fine = self.count.update(|count| match count.checked_add(n) {
            Some(sum) if sum >= 0 => {
                *count = sum;
                (true, sum == 0)
            }
            _ => (false, false),
        });
        assert!(fine, "sync: negative WaitGroup counter");
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
    #[track_caller]
    pub fn done(&self) {
        self.add(-1);
    }

    /// Waits until the count is zero: parks the goroutine, or blocks the plain thread.
    ///
    /// ```
    /// let wg = gort::sync::WaitGroup::new();
    /// wg.add(1);
    /// let done = wg.clone();
    /// gort::go!(move || done.done());
    /// wg.wait();
    /// ```
    pub fn wait(&self) {
        self.count.wait(WaitReason::SyncWaitGroupWait, |&count| count == 0);
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
                self.0.done();
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

impl Default for WaitGroup {
    fn default() -> WaitGroup {
        WaitGroup::new()
    }
}
