//! What the kernel says of an OS thread of this process.

use crate::time::clock::Nanos;
use std::fs;

/// The calling thread's number.
pub fn gettid() -> libc::pid_t {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// The processor time that a thread has used; 0 if there is no such thread.
pub fn cpu_time(tid: libc::pid_t) -> Nanos {
    // As the kernel builds the clock of one thread (`CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED`).
    let clock = (!tid << 3) | 6;
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid place for the answer.
    match unsafe { libc::clock_gettime(clock, &raw mut ts) } {
        0 => Nanos(ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64),
        _ => Nanos(0),
    }
}

/// True if a thread has a core, or waits for one; false if it sleeps in the kernel, or nobody knows.
pub fn is_runnable(tid: libc::pid_t) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/self/task/{tid}/stat")) else { return false };
    // The name in parentheses may hold anything.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    state == Some('R')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn a_thread_that_computes_is_told_from_one_that_sleeps() {
        let me = gettid();
        let before = cpu_time(me);
        assert!(is_runnable(me));
        while cpu_time(me).since(before) < 1_000_000 {}
        let ((tell, told), (wake, woken)) = (mpsc::channel(), mpsc::channel::<()>());
        let sleeper = thread::spawn(move || {
            tell.send(gettid()).unwrap();
            woken.recv()
        });
        let tid = told.recv().unwrap();
        while is_runnable(tid) {
            thread::sleep(Duration::from_millis(1));
        }
        wake.send(()).unwrap();
        sleeper.join().unwrap().unwrap();
        assert_eq!(cpu_time(1 << 28), Nanos(0), "no such thread");
    }
}
