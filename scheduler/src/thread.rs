//! The G of a plain OS thread: made when the thread first takes part in an operation, given back when it ends.
//!
//! Only plain threads and g0 come here, never a goroutine's stack (`getg` looks at the stack pointer first). The
//! accessor is still never inlined and holds an empty `asm!`, so that no caller's code keeps the variable's address.
//!
//! **The end.** Destructors of other thread-locals may take part in operations, in whatever order they run. So the G is given back
//! by the destructor of a POSIX key, which the system calls when those of thread-locals have run, and calls again if the thread
//! has used the library once more in the destructor of another key, which has got it a new G. Keys have so many turns and
//! no more; a thread that uses the library in the last one ends unseen, and its G is given back by `threads` (T2).
//!
//! `parking_lot` has a thread-local of its own for a thread that waits for a lock. Were it made in the destructor of
//! a key, when those of thread-locals have run, nothing would end it, and the table of all that may wait would grow
//! for ever. So it is made with the G ([`be_known_to_locks`]).
//!
//! **Rejected**: the destructor of a thread-local (those of others that run after it get the thread another G, and nothing gives
//! that one back).

use crate::g::G;
use crate::gpool;
use crate::sched::with_all;
use crate::sync::thread_local;
use crate::threads;
use std::cell::Cell;

thread_local! {
    static THREAD_G: Cell<Option<&'static G>> = const { Cell::new(None) };
}

/// Returns the thread's G to the pool. Called when the thread ends.
#[expect(clippy::disallowed_methods, reason = "the thread ends; see the module")]
fn give_back() {
    if let Some(gp) = THREAD_G.with(Cell::take) {
        threads::user_ends(gp);
        gp.end_thread();
        gpool::put_shared(gp);
        // It might have woken somebody, and now will not.
        with_all(|all| all.iter().for_each(|sched| sched.sysmon.nudge()));
    }
}

/// Has `parking_lot` make what a thread needs to wait for a lock: a wait of no time.
#[cfg(not(shuttle))]
fn be_known_to_locks() {
    let mutex = parking_lot::Mutex::new(());
    let _timed_out = parking_lot::Condvar::new().wait_for(&mut mutex.lock(), std::time::Duration::ZERO);
}

/// Has [`give_back`] called when the calling thread ends.
#[cfg(not(shuttle))]
fn call_at_end() {
    use std::ffi::c_void;
    use std::sync::OnceLock;

    extern "C" fn at_end(_: *mut c_void) {
        give_back();
    }

    static KEY: OnceLock<Option<libc::pthread_key_t>> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: `key` is a place for the answer, and the function lives as long as the program.
        (unsafe { libc::pthread_key_create(&raw mut key, Some(at_end)) } == 0).then_some(key)
    });
    if let Some(key) = *key {
        // Not null, or the destructor would not be called. If there is no memory, the thread ends unseen.
        // SAFETY: the key was made above, and is never deleted.
        unsafe { libc::pthread_setspecific(key, std::ptr::dangling::<u8>().cast()) };
    }
}

#[cfg(shuttle)]
thread_local! {
    static GIVE_BACK: GiveBack = const { GiveBack };
}

/// A model's threads have no keys. Their thread-locals go in the order in which they came.
#[cfg(shuttle)]
struct GiveBack;

#[cfg(shuttle)]
impl Drop for GiveBack {
    fn drop(&mut self) {
        give_back();
    }
}

#[cfg(shuttle)]
#[expect(clippy::disallowed_methods, reason = "not on a goroutine's stack; see the module")]
pub(crate) fn call_at_end() {
    let _ = GIVE_BACK.try_with(|_| ());
}

/// The calling thread's G.
#[inline(never)]
#[expect(clippy::disallowed_methods, reason = "not on a goroutine's stack; see the module")]
pub fn thread_g() -> &'static G {
    // SAFETY: does nothing; see the module.
    unsafe { std::arch::asm!("", options(nostack, preserves_flags)) };
    #[cfg(shuttle)]
    call_at_end();
    if let Some(gp) = THREAD_G.with(Cell::get) {
        return gp;
    }
    // Before anything is done for the thread.
    let gp = threads::reserve().and_then(|()| gpool::get_shared()).unwrap_or_else(|short| short.refuse());
    gp.become_thread();
    threads::user_begins(gp);
    THREAD_G.with(|mine| mine.set(Some(gp)));
    #[cfg(not(shuttle))]
    {
        be_known_to_locks();
        call_at_end();
    }
    gp
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::thread;

    struct AtEnd;

    impl Drop for AtEnd {
        fn drop(&mut self) {
            thread_g();
        }
    }

    std::thread_local!(static AT_END: AtEnd = const { AtEnd });

    /// Gs that plain threads have.
    fn taken() -> usize {
        let mut n = 0;
        gpool::for_each(|gp| n += usize::from(gp.is_thread()));
        n
    }

    #[test]
    fn a_thread_gives_back_the_g_that_its_destructors_have_got_it() {
        const THREADS: usize = 300;
        let before = taken();
        for n in 0..THREADS {
            let ends = thread::spawn(move || {
                // Before its first use or after it.
                let first = || AT_END.with(|_| ());
                let then = || _ = thread_g();
                if n % 2 == 0 { (first(), then()) } else { (then(), first()) }
            });
            ends.join().unwrap();
        }
        // Other tests have threads as well.
        assert!(taken() < before + THREADS / 4, "{} of {THREADS} are left", taken() - before);
    }
}
