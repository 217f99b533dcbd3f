//! What the kernel says of an OS thread of this process.

use crate::time::clock::Nanos;
use std::fs;
use std::os::unix::fs::MetadataExt;

const THREADS: &str = "/proc/self/task";

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

/// The fields of a thread's `stat` (proc(5)) from the third on, its state.
fn stat<R>(tid: libc::pid_t, f: impl FnOnce(&mut dyn Iterator<Item = &str>) -> Option<R>) -> Option<R> {
    let stat = fs::read_to_string(format!("{THREADS}/{tid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    f(&mut rest.split_ascii_whitespace())
}

/// True if a thread has a core, or waits for one; false if it sleeps in the kernel, or nobody knows.
pub fn is_runnable(tid: libc::pid_t) -> bool {
    stat(tid, |fields| Some(fields.next()? == "R")).unwrap_or(false)
}

/// When a thread was started, on the clock of [`boot_time`], to a hundredth of a second and never later than it was; `None` if
/// there is no such thread.
pub fn started(tid: libc::pid_t) -> Option<Nanos> {
    // SAFETY: takes a number.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let ticks = stat(tid, |fields| fields.nth(19)?.parse::<u64>().ok())?;
    Some(Nanos(ticks * (1_000_000_000 / u64::try_from(per_second).ok()?.max(1))))
}

/// The time since the system came up.
pub fn boot_time() -> Nanos {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut ts) };
    Nanos(ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64)
}

/// How many threads the process has; `None` if the system does not say.
pub fn count_threads() -> Option<usize> {
    // As a folder's links are counted: two of its own, and one for each folder in it.
    (fs::metadata(THREADS).ok()?.nlink() as usize).checked_sub(2)
}

/// The threads of the process; `None` if the system does not say, or if they changed meanwhile.
pub fn threads() -> Option<Vec<libc::pid_t>> {
    let tasks = fs::read_dir(THREADS).ok()?;
    let all: Vec<_> =
        tasks.map(|task| task.ok()?.file_name().to_str()?.parse().ok()).collect::<Option<_>>()?;
    (count_threads()? == all.len()).then_some(all)
}

/// The name of a thread, as far as the system keeps it.
pub fn thread_name(tid: libc::pid_t) -> Option<String> {
    let name = fs::read(format!("{THREADS}/{tid}/comm")).ok()?;
    Some(String::from_utf8_lossy(name.trim_ascii_end()).into_owned())
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
        assert_eq!(started(1 << 28), None);
    }

    #[test]
    fn the_list_of_threads_has_all_of_them_and_their_times() {
        let before = boot_time();
        let (wake, woken) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let sleeper = thread::Builder::new().name("a) sleeper".to_owned());
        let sleeper = sleeper.spawn(move || {
            tell.send(gettid()).unwrap();
            woken.recv()
        });
        let tid = told.recv().unwrap();
        // Other tests start and end threads meanwhile.
        let all = std::iter::repeat_with(threads).flatten().next().unwrap();
        assert!(all.contains(&tid) && all.contains(&gettid()));
        assert_eq!(thread_name(tid).as_deref(), Some("a) sleeper"));
        let (started, tick) = (started(tid).unwrap(), 10_000_000);
        assert!(started <= boot_time() && before.0 - before.0 % tick <= started.0, "{started:?}");
        wake.send(()).unwrap();
        sleeper.unwrap().join().unwrap().unwrap();
    }
}
