//! [`Gate`]: a small state that goroutines and plain threads wait on until somebody opens it.
//!
//! What Go builds of a mutex and a semaphore: the state is looked at and changed under a short lock; who must wait
//! parks in a queue, in its own frame, and the commit of its park opens the lock. Whoever opens the gate takes the
//! whole queue under the lock and readies it after, first come, first served.
//!
//! A waiter is in the queue under the lock, until it is taken out by whoever then readies it, once. (If its wait is void, of
//! which `proc::deadlock` and `proc::shutdown` tell, nobody does, and its frame stays for ever.) Closures that look
//! at the state run under the lock: they are short, park nowhere and run no user code.
//!
//! Tested by `tests/loom_once.rs`.

use crate::g::{G, WaitReason};
use crate::proc::deadlock::{begin_wait, may_ready};
use crate::proc::{getg, gopark, goready, pin};
use crate::sync::SpinLock;
use std::cell::{Cell, UnsafeCell};
use std::ptr;

struct Waiter {
    g: &'static G,
    next: Cell<*const Waiter>,
}

struct Inner<S> {
    state: S,
    first: *const Waiter,
    last: *const Waiter,
}

impl<S> Inner<S> {
    const fn new(state: S) -> UnsafeCell<Inner<S>> {
        UnsafeCell::new(Inner { state, first: ptr::null(), last: ptr::null() })
    }

    /// Takes the void waits out of the queue; how many there were. Under the lock.
    fn take_out_void(&mut self) -> usize {
        let (mut void, mut before, mut at) = (0, ptr::null::<Waiter>(), self.first);
        // SAFETY: who is in the queue is parked, for ever if its wait is void, so what the links name is alive.
        while let Some(waiter) = unsafe { at.as_ref() } {
            let next = waiter.next.get();
            if !waiter.g.waits_are_void() {
                before = at;
            } else {
                void += 1;
                // SAFETY: as above.
                match unsafe { before.as_ref() } {
                    Some(before) => before.next.set(next),
                    None => self.first = next,
                }
            }
            at = next;
        }
        self.last = before;
        void
    }
}

/// See the module.
pub struct Gate<S> {
    lock: SpinLock,
    inner: UnsafeCell<Inner<S>>,
}

// SAFETY: the state and the queue are reached under the lock only; waiters are parked while they are in the queue.
unsafe impl<S: Send> Sync for Gate<S> {}
// SAFETY: as above; a gate that is moved has no waiters, since those borrow it.
unsafe impl<S: Send> Send for Gate<S> {}

impl<S> std::fmt::Debug for Gate<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl<S> Gate<S> {
    /// A gate with nobody waiting.
    #[cfg(not(loom))]
    pub const fn new(state: S) -> Gate<S> {
        Gate { lock: SpinLock::new(), inner: Inner::new(state) }
    }

    /// A gate with nobody waiting.
    #[cfg(loom)]
    pub fn new(state: S) -> Gate<S> {
        Gate { lock: SpinLock::new(), inner: Inner::new(state) }
    }

    /// Looks at the state or changes it. If `f` says true with its answer, all who wait are readied.
    #[inline]
    pub fn update<R>(&self, f: impl FnOnce(&mut S) -> (R, bool)) -> R {
        self.update_inner(|inner| f(&mut inner.state))
    }

    fn update_inner<R>(&self, f: impl FnOnce(&mut Inner<S>) -> (R, bool)) -> R {
        self.lock.lock();
        // SAFETY: under the lock.
        let inner = unsafe { &mut *self.inner.get() };
        let (answer, open) = f(inner);
        let mut waiter = ptr::null();
        if open {
            waiter = std::mem::replace(&mut inner.first, ptr::null());
            inner.last = ptr::null();
        }
        self.lock.unlock();
        while !waiter.is_null() {
            // SAFETY: taken out of the queue by us alone, and parked until readied here; the link is read before.
            unsafe {
                let (g, next) = ((*waiter).g, (*waiter).next.get());
                if may_ready(g) {
                    goready(g);
                }
                waiter = next;
            }
        }
        answer
    }

    /// [`Gate::update`] for a state that counts who waits: `f` is told how many void waits were found in the queue. They are in it
    /// no longer.
    pub fn update_counted<R>(&self, f: impl FnOnce(&mut S, usize) -> (R, bool)) -> R {
        self.update_inner(|inner| {
            let void = inner.take_out_void();
            f(&mut inner.state, void)
        })
    }

    /// Waits until the gate is opened, unless `may_pass` says that there is no need.
    #[track_caller]
    pub fn wait(&self, reason: WaitReason, may_pass: impl FnOnce(&S) -> bool) {
        self.lock.lock();
        // SAFETY: under the lock.
        let inner = unsafe { &mut *self.inner.get() };
        if may_pass(&inner.state) {
            self.lock.unlock();
            return;
        }
        let gp = getg();
        if !pin::may_park(gp) {
            self.lock.unlock();
            pin::refuse(gp);
        }
        let waiter = Waiter { g: gp, next: Cell::new(ptr::null()) };
        begin_wait(gp);
        if inner.last.is_null() {
            inner.first = &raw const waiter;
        } else {
            // SAFETY: under the lock, so the last one is still parked.
            unsafe { (*inner.last).next.set(&raw const waiter) };
        }
        inner.last = &raw const waiter;
        // SAFETY: whoever opens the gate takes us out and readies us, once; the frame stays until then.
        unsafe { gopark(gp, Some(unlock), (&raw const self.lock).cast_mut().cast(), reason) };
    }
}

/// Off the stack: lets those at the gate who open it.
///
/// # Safety
///
/// `lock` is a gate's held lock.
unsafe fn unlock(_gp: &'static G, lock: *mut ()) -> bool {
    // SAFETY: the waiter borrows the gate and is woken after this unlock at the earliest.
    unsafe { (*lock.cast::<SpinLock>()).unlock() };
    true
}
