//! The switch by `corosensei`, where there is none of our own, and under sanitizers, which its feature `sanitizer` tells.

use super::{Host, Switch};
use crate::stack::coro::{Slot, StackHead};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, UnsafeCell};
use std::mem::ManuallyDrop;

/// A coroutine that runs the host.
pub struct Context {
    /// Where it suspends; written by the coroutine when it first runs.
    yielder: Cell<*const Yielder<(), Switch>>,
    /// Never dropped: that would unwind its stack.
    coroutine: UnsafeCell<ManuallyDrop<Coroutine<(), Switch, (), Slot>>>,
}

impl Context {
    /// For a stack in `slot`, whose first resume calls `host` with `head`.
    ///
    /// # Safety
    ///
    /// The slot is the caller's, open and unused; `head` is where the context will be, and stays.
    pub unsafe fn new(slot: Slot, head: *const StackHead, host: Host) -> Context {
        let head = head.expose_provenance();
        let coroutine = Coroutine::with_stack(slot, move |yielder: &Yielder<(), Switch>, ()| {
            // SAFETY: the head is at the end of the very stack that this runs on.
            let head = unsafe { &*std::ptr::with_exposed_provenance::<StackHead>(head) };
            head.context.yielder.set(yielder);
            host(head)
        });
        let coroutine = UnsafeCell::new(ManuallyDrop::new(coroutine));
        Context { yielder: Cell::new(std::ptr::null()), coroutine }
    }

    /// Goes on on the stack, until it suspends.
    ///
    /// # Safety
    ///
    /// The stack is suspended, and the caller's to run; it is not on it.
    #[inline(always)]
    pub unsafe fn resume(&self) -> Switch {
        // SAFETY: the caller's promise.
        match unsafe { (*self.coroutine.get()).resume(()) } {
            CoroutineResult::Yield(why) => why,
            CoroutineResult::Return(()) => crate::throw!("a stack's coroutine has returned"),
        }
    }

    /// Goes back to where the stack was resumed, and returns when it is resumed again.
    ///
    /// # Safety
    ///
    /// The caller runs on the stack.
    #[inline(always)]
    pub unsafe fn suspend(&self, why: Switch) {
        // SAFETY: the caller runs on the stack, so its coroutine has set the yielder.
        unsafe { (*self.yielder.get()).suspend(why) }
    }
}
