//! Models of park against ready, with a cell in the place of the goroutine's registers: the switch off a stack writes
//! it, the switch onto the stack reads it. Status, commit and lock are the real code.
#![cfg(loom)]

use gort_scheduler::g::{G, Status, WaitReason, casgstatus};
use gort_scheduler::model::proc::waiting::{commit_park, make_runnable, park_thread_until};
use gort_scheduler::model::proc::{getg, goready};
use gort_scheduler::model::{end_thread, new_g};
use gort_scheduler::sync::{SpinLock, Spinning};
use gort_scheduler::time::clock::Nanos;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::ptr;

/// A goroutine that waits at one lock-protected place, its registers, and the queue that it is readied into.
struct Machine {
    gp: &'static G,
    registers: UnsafeCell<u32>,
    lock: SpinLock,
    waiting: UnsafeCell<bool>,
    ready: Spinning<Option<&'static G>>,
}

impl Machine {
    fn new() -> Arc<Machine> {
        Arc::new(Machine {
            gp: new_g(),
            registers: UnsafeCell::new(0),
            lock: SpinLock::new(),
            waiting: UnsafeCell::new(false),
            ready: Spinning::new(None),
        })
    }

    /// The goroutine's half of a park, on its own stack: it can be found from the unlock on.
    fn enqueue(&self) {
        self.lock.lock();
        // SAFETY: under the lock.
        self.waiting.with_mut(|p| unsafe { *p = true });
    }

    fn save_registers(&self) {
        // SAFETY: the model checks that nobody else is at them.
        self.registers.with_mut(|p| unsafe { *p += 1 });
    }

    fn commit(&self) {
        // SAFETY: the commit of this model's park.
        unsafe { commit_park(self.gp, Some(unlock), ptr::from_ref(&self.lock).cast_mut().cast()) };
    }

    /// Readies the goroutine if it waits.
    fn wake(&self) -> bool {
        self.lock.lock();
        // SAFETY: under the lock.
        let found = self.waiting.with_mut(|p| unsafe { std::mem::replace(&mut *p, false) });
        self.lock.unlock();
        if found {
            // SAFETY: taken out under the lock, so the right is ours.
            let _woken = unsafe { make_runnable(self.gp) };
            *self.ready.lock() = Some(self.gp);
        }
        found
    }

    /// Another M: takes the goroutine from the queue and switches to it.
    fn resume(&self) -> bool {
        let Some(gp) = self.ready.lock().take() else { return false };
        casgstatus(gp, Status::Runnable, Status::Running);
        // SAFETY: the model checks that the registers are saved and nobody else is at them.
        self.registers.with_mut(|p| unsafe {
            assert_eq!(*p, 1, "resumed before its registers were saved");
        });
        true
    }
}

unsafe fn unlock(_gp: &'static G, lock: *mut ()) -> bool {
    // SAFETY: the lock of a machine that the model keeps alive.
    unsafe { (*lock.cast::<SpinLock>()).unlock() };
    true
}

#[test]
fn a_g_readied_while_it_parks_is_resumed_with_its_registers_saved() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let machine = Machine::new();
        let other = {
            let machine = machine.clone();
            thread::spawn(move || machine.wake() && machine.resume())
        };
        machine.enqueue();
        machine.save_registers();
        machine.commit();
        // If the other one came too early, it is readied here.
        machine.wake();
        let here = machine.resume();
        let there = other.join().unwrap();
        let late = machine.resume();
        assert_eq!([here, there, late].into_iter().filter(|r| *r).count(), 1, "resumed exactly once");
    });
}

#[test]
#[should_panic]
fn a_commit_before_the_switch_is_caught_by_this_model() {
    loom::model(|| {
        let machine = Machine::new();
        let other = {
            let machine = machine.clone();
            thread::spawn(move || machine.wake() && machine.resume())
        };
        machine.enqueue();
        machine.commit();
        machine.save_registers();
        machine.resume();
        other.join().unwrap();
    });
}

#[test]
fn a_plain_thread_sees_what_its_waker_left_and_a_late_wakeup_harms_nobody() {
    loom::model(|| {
        // Two waits in a row, each readied by another thread that leaves a word: the first one's wake-up of the note
        // may come as late as in the second wait.
        let gp = new_g();
        let words: Arc<[UnsafeCell<u32>; 2]> = Arc::new([UnsafeCell::new(0), UnsafeCell::new(0)]);
        for i in 0..2 {
            // SAFETY: the commit starts the waker, which readies us once.
            unsafe {
                let start: Box<dyn FnOnce()> = Box::new({
                    let words = words.clone();
                    move || {
                        thread::spawn(move || {
                            // SAFETY: read by the woken only.
                            words[i].with_mut(|p| *p = 7);
                            // SAFETY: the one waker of this wait.
                            goready(gp);
                        });
                    }
                });
                let mut start = Some(start);
                park_thread_until(gp, Some(run), (&raw mut start).cast(), WaitReason::Zero, Nanos::NEVER);
                words[i].with(|p| assert_eq!(*p, 7));
            }
        }
    });

    unsafe fn run(_gp: &'static G, start: *mut ()) -> bool {
        // SAFETY: points to the closure in the parked frame.
        let start = unsafe { (*start.cast::<Option<Box<dyn FnOnce()>>>()).take() };
        start.unwrap()();
        true
    }
}

#[test]
fn one_of_several_wakers_wins_a_select() {
    loom::model(|| {
        let gp = new_g();
        gp.begin_select();
        let others: Vec<_> = (0..2).map(|_| thread::spawn(move || gp.win_select())).collect();
        let won = others.into_iter().map(|t| t.join().unwrap()).filter(|won| *won).count();
        assert_eq!(won, 1);
    });
}

#[test]
fn threads_have_gs_of_their_own() {
    loom::model(|| {
        let here = getg();
        let there = thread::spawn(getg).join().unwrap();
        assert!(!ptr::eq(here, there) && ptr::eq(here, getg()));
    });
}

#[test]
fn a_thread_that_ends_as_it_is_readied_is_not_taken_for_a_goroutine() {
    loom::model(|| {
        let gp = new_g();
        // SAFETY: a park without a commit; its one waker is below.
        unsafe { commit_park(gp, None, ptr::null_mut()) };
        // SAFETY: as above.
        let waker = thread::spawn(move || unsafe { make_runnable(gp) });
        // It may look before it sleeps.
        while gp.status() != Status::Runnable {
            thread::yield_now();
        }
        end_thread(gp);
        assert!(waker.join().unwrap(), "a thread");
    });
}
