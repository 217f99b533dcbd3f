//! [`SingleFlight`]: a call that is made once for all who want the same at the same time (Go's `x/sync/singleflight`).
//!
//! A table has the calls that are under way by key. Who finds none makes one, and runs it; who finds one waits for it. When it
//! ends, the call leaves the table first, so that nobody else comes to it, and then lets go on who waits. A call that was forgotten
//! does not take out the one that has its key by then.

use super::Mutex;
use gort_scheduler::g::{G, WaitReason};
use gort_scheduler::gate::Gate;
use gort_scheduler::proc::getg;
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Runs a function once for all callers that want the same at the same time, and gives its value to each of them (Go's
/// `singleflight.Group`).
///
/// ```
/// use gort::sync::{Barrier, SingleFlight};
/// use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
///
/// let (pages, loads) = (SingleFlight::new(), AtomicU32::new(0));
/// gort::scope(|s| {
///     for _ in 0..5 {
///         s.go(|| {
///             let (page, _shared) = pages.call("index", || {
///                 loads.fetch_add(1, SeqCst);
///                 gort::time::sleep(std::time::Duration::from_millis(1));
///                 "hello".to_owned()
///             });
///             assert_eq!(page, "hello");
///         });
///     }
/// });
/// assert!((1..=5).contains(&loads.into_inner()));
/// ```
pub struct SingleFlight<K, V> {
    calls: Mutex<HashMap<K, Arc<Call<V>>>>,
}

struct Call<V> {
    /// Who makes it.
    by: &'static G,
    /// Somebody else waits for it. Written and read under the lock of the table.
    shared: AtomicBool,
    /// True when there is an outcome.
    ended: Gate<bool>,
    /// Written by who makes it. In a lock, so that a V that is not `Sync` is cloned by one after the other.
    outcome: OnceLock<Result<Mutex<V>, Panicked>>,
}

impl<V> Call<V> {
    fn end(&self, outcome: Result<V, Panicked>) {
        let _ = self.outcome.set(outcome.map(Mutex::new));
        self.ended.update(|ended| (*ended = true, true));
    }

    /// What it gave, to one of several who have waited for it.
    #[track_caller]
    fn give(&self) -> V
    where
        V: Clone,
    {
        match self.outcome.get().expect("it has ended") {
            Ok(value) => value.lock().clone(),
            Err(Panicked(said)) => panic!("{said}"),
        }
    }
}

/// What the panic of a call said.
struct Panicked(String);

impl Panicked {
    fn from(payload: &(dyn Any + Send)) -> Panicked {
        let said = payload
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned());
        Panicked(said.unwrap_or_else(|| "a call that others wait for has panicked".to_owned()))
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<SingleFlight<u8, std::cell::Cell<u8>>>();
};

// What panics is a call, which leaves the table.
impl<K, V> UnwindSafe for SingleFlight<K, V> {}
impl<K, V> RefUnwindSafe for SingleFlight<K, V> {}

impl<K: Eq + Hash + Clone, V: Clone> SingleFlight<K, V> {
    /// With nothing under way.
    ///
    /// ```
    /// assert_eq!(gort::sync::SingleFlight::new().call("key", || 1), (1, false));
    /// ```
    pub fn new() -> SingleFlight<K, V> {
        SingleFlight { calls: Mutex::new(HashMap::new()) }
    }

    /// Runs `f`, unless a call with the same key is under way: then it waits for that one, and `f` is dropped. The value, and whether
    /// it was given to others as well (Go's `Group.Do`).
    ///
    /// # Panics
    ///
    /// With f's panic. All who waited for it panic too: with the same message, if it was one. Then the key is free.
    ///
    /// `single flight: a call waits for itself`, when `f` calls with its own key.
    ///
    /// ```
    /// let group = gort::sync::SingleFlight::new();
    /// assert_eq!(group.call(1, || "one"), ("one", false));
    /// assert_eq!(group.call(1, || "another"), ("another", false));
    /// ```
    #[track_caller]
    pub fn call<F>(&self, key: K, f: F) -> (V, bool)
    where
        F: FnOnce() -> V,
    {
        let me = getg();
        let mut calls = self.calls.lock();
        if let Some(call) = calls.get(&key) {
            let (call, own) = (call.clone(), ptr::eq(call.by, me));
            // Relaxed: the table's lock orders it.
            call.shared.fetch_or(!own, Ordering::Relaxed);
            drop(calls);
            assert!(!own, "single flight: a call waits for itself");
            call.ended.wait(WaitReason::SyncSingleFlightDo, |&ended| ended);
            return (call.give(), true);
        }
        let call = Arc::new(Call {
            by: me,
            shared: AtomicBool::new(false),
            ended: Gate::new(false),
            outcome: OnceLock::new(),
        });
        calls.insert(key.clone(), call.clone());
        drop(calls);
        let result = catch_unwind(AssertUnwindSafe(f));
        // What a key does when it is compared is the caller's business; but nobody is to wait for ever for it.
        let shared = catch_unwind(AssertUnwindSafe(|| self.remove(&key, &call)));
        match (result, shared) {
            (Ok(value), Ok(false)) => (value, false),
            (Ok(value), Ok(true)) => {
                call.end(Ok(value));
                (call.give(), true)
            }
            (Err(payload), _) | (_, Err(payload)) => {
                call.end(Err(Panicked::from(&*payload)));
                resume_unwind(payload)
            }
        }
    }

    /// Has the next call with this key run its function, whether one is under way or not (Go's `Group.Forget`). Who waits for that
    /// one gets its value.
    ///
    /// ```
    /// let group = gort::sync::SingleFlight::new();
    /// let inner = group.call("key", || {
    ///     group.forget(&"key");
    ///     group.call("key", || 1).0
    /// });
    /// assert_eq!(inner, (1, false));
    /// ```
    pub fn forget(&self, key: &K) {
        let call = self.calls.lock().remove(key);
        drop(call);
    }

    /// Takes the call out, if it has its key still. Whether somebody waits for it.
    fn remove(&self, key: &K, call: &Arc<Call<V>>) -> bool {
        let mut calls = self.calls.lock();
        let own = calls.get(key).is_some_and(|other| Arc::ptr_eq(other, call));
        let removed = if own { calls.remove_entry(key) } else { None };
        let shared = call.shared.load(Ordering::Relaxed);
        drop(calls);
        drop(removed);
        shared
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Default for SingleFlight<K, V> {
    fn default() -> SingleFlight<K, V> {
        SingleFlight::new()
    }
}

impl<K, V> fmt::Debug for SingleFlight<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight").finish_non_exhaustive()
    }
}
