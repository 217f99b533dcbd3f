//! What the kernel says of an OS thread of this process, and what one thread can take over from another.

use crate::time::clock::Nanos;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

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

/// The process's first thread, which counts as the process where a thread is meant.
pub fn first_thread() -> libc::pid_t {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getpid() }
}

/// How many CPUs the process may use: those that its first thread may, and no more than the control group's
/// quota. Not on a goroutine's stack.
pub fn process_cpus() -> usize {
    let here = || std::thread::available_parallelism().map_or(1, |n| n.get());
    let first = affinity(first_thread());
    // `std` knows the quota, but asks for the calling thread's affinity.
    if let Some(first) = first
        && affinity(0).is_some_and(|own| own != first)
        && let Ok(thread) = std::thread::Builder::new().spawn(move || {
            set_affinity(&first);
            here()
        })
        && let Ok(n) = thread.join()
    {
        return n;
    }
    here()
}

/// The CPUs that a thread may use, one bit each.
type Cpus = [u64; 128];

/// The affinity of a thread; 0 is the calling one.
fn affinity(tid: libc::pid_t) -> Option<Cpus> {
    let mut cpus = [0; 128];
    // SAFETY: the set is as large as is said.
    let got = unsafe { libc::sched_getaffinity(tid, size_of_val(&cpus), cpus.as_mut_ptr().cast()) };
    (got == 0).then_some(cpus)
}

/// Changes that of the calling thread; false if the kernel does not.
fn set_affinity(cpus: &Cpus) -> bool {
    // SAFETY: the set is as large as is said.
    unsafe { libc::sched_setaffinity(0, size_of_val(cpus), cpus.as_ptr().cast()) == 0 }
}

/// Sees to it that a thread has left its core, for a moment at least, since this call began; false if that
/// cannot be done. A thread passes a full barrier there, as `membarrier(2)` too relies on.
///
/// The caller goes to each CPU that the thread may use, and so is in its place for a moment, unless it has
/// gone elsewhere, for which it must leave its core as well.
pub fn has_been_off_its_core(tid: libc::pid_t) -> bool {
    let (Some(theirs), Some(own)) = (affinity(tid), affinity(0)) else { return false };
    let mut everywhere = true;
    for cpu in 0..theirs.len() * 64 {
        let mut one: Cpus = [0; 128];
        one[cpu / 64] = theirs[cpu / 64] & 1 << (cpu % 64);
        everywhere = everywhere && (one[cpu / 64] == 0 || set_affinity(&one));
    }
    set_affinity(&own) && everywhere
}

/// Gives the calling thread the signal mask, the affinity, the priority and the namespaces of another one, as
/// far as it may.
pub fn become_like(other: libc::pid_t) {
    copy_signal_mask(other);
    if let Some(cpus) = affinity(other)
        && affinity(0) != Some(cpus)
    {
        set_affinity(&cpus);
    }
    copy_priority(other);
    for name in NAMESPACES {
        if link(other, name) != link(gettid(), name) {
            let _ = enter(other, name);
        }
    }
}

/// Takes over what another thread blocks, but not what it blocks for a moment only: in a signal handler, or in the
/// C library, which blocks all while it starts a thread. A moment ends between two looks. There is no need for a
/// second one if the calling thread, a copy of the one that started it, blocks no less.
#[expect(clippy::disallowed_methods, reason = "the template, which runs no goroutines, sleeps")]
fn copy_signal_mask(other: libc::pid_t) {
    const LOOKS: usize = 100;
    let mask_of = |tid| status_of(tid).as_deref().and_then(|status| field(status, "SigBlk")).and_then(hex);
    let own = mask_of(gettid()).unwrap_or(0);
    let mut blocked = u64::MAX;
    for _ in 0..LOOKS {
        let Some(now) = mask_of(other) else { return };
        blocked &= now;
        if blocked & !own == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    // SAFETY: fills the set in, and changes this thread's mask.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        (1..=64).filter(|n| blocked >> (n - 1) & 1 == 1).for_each(|n| _ = libc::sigaddset(&raw mut set, n));
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

fn hex(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

/// The policy and the nice value.
fn copy_priority(other: libc::pid_t) {
    // System calls, because not every C library has functions for all of them.
    // SAFETY: `param` is a valid place for the answer, and what the other calls take are numbers.
    unsafe {
        let mut param: libc::sched_param = std::mem::zeroed();
        let policy = libc::syscall(libc::SYS_sched_getscheduler, other);
        if policy >= 0
            && policy != libc::syscall(libc::SYS_sched_getscheduler, 0)
            && libc::syscall(libc::SYS_sched_getparam, other, &raw mut param) == 0
        {
            libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const param);
        }
        if nice(other) != nice(0) {
            libc::setpriority(libc::PRIO_PROCESS, 0, nice(other));
        }
    }
}

/// The nice value of a thread; 0 is the calling one.
fn nice(tid: libc::pid_t) -> libc::c_int {
    // SAFETY: takes two numbers.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, tid as libc::id_t) }
}

/// What a thread can be in one of its own of, in the kernel's words.
const NAMESPACES: [&str; 8] = [
    "ns/cgroup",
    "ns/ipc",
    "ns/mnt",
    "ns/net",
    "ns/pid_for_children",
    "ns/time_for_children",
    "ns/user",
    "ns/uts",
];

/// Has the calling thread enter a namespace of another one.
fn enter(other: libc::pid_t, name: &str) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let file = fs::File::open(format!("/proc/self/task/{other}/{name}"))?;
    // SAFETY: takes two numbers.
    match unsafe { libc::setns(file.as_raw_fd(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// In what two threads differ, of that which threads inherit. Nothing, if the system does not say.
pub fn differences(one: libc::pid_t, other: libc::pid_t) -> Vec<&'static str> {
    let mut all = Vec::new();
    let links = NAMESPACES.iter().chain(&["cwd", "root"]);
    all.extend(links.filter(|name| link(one, name) != link(other, name)));
    if let (Some(one), Some(other)) = (status_of(one), status_of(other)) {
        let fields = FIELDS.iter().filter(|(name, _)| field(&one, name) != field(&other, name));
        all.extend(fields.map(|(_, meaning)| *meaning));
    }
    if nice(one) != nice(other) {
        all.push("priority");
    }
    all.dedup();
    all
}

/// Lines of a thread's status that its threads inherit, and what they are.
const FIELDS: [(&str, &str); 11] = [
    ("Uid", "credentials"),
    ("Gid", "credentials"),
    ("Groups", "credentials"),
    ("CapInh", "capabilities"),
    ("CapPrm", "capabilities"),
    ("CapEff", "capabilities"),
    ("CapBnd", "capabilities"),
    ("NoNewPrivs", "no_new_privs"),
    ("Seccomp", "seccomp filters"),
    ("Seccomp_filters", "seccomp filters"),
    ("Cpus_allowed", "affinity"),
];

fn link(tid: libc::pid_t, name: &str) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/self/task/{tid}/{name}")).ok()
}

fn status_of(tid: libc::pid_t) -> Option<String> {
    fs::read_to_string(format!("/proc/self/task/{tid}/status")).ok()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Whether [`leave_behind`] can be used: glibc keeps what it knows of a thread in the thread's own memory, and expects in each of
/// its lists one that has ended meanwhile. musl has the kernel open a lock at a thread's end.
pub const CAN_LEAVE_BEHIND: bool = cfg!(all(target_env = "gnu", not(shuttle), not(gort_sanitize)));

/// Blocks all signals of the calling thread.
pub fn block_signals() {
    // SAFETY: fills the set in, and changes this thread's mask.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
}

/// Makes one mapping of the guard and the body of the calling thread's stack, which has ended its work and goes
/// on to [`leave_behind`]. A stack that is made below it later becomes part of the same mapping.
pub fn join_guard() {
    let Some(Own { low, guard }) = Own::find() else { return };
    // SAFETY: the guard, which nobody uses, lies below the stack. What the thread still does needs little of that.
    unsafe {
        let at = low.wrapping_byte_sub(guard);
        libc::mprotect(at, guard, libc::PROT_READ | libc::PROT_WRITE);
    }
}

/// The lower end of the calling thread's stack, and how long the guard below it is.
struct Own {
    low: *mut libc::c_void,
    guard: usize,
}

impl Own {
    fn find() -> Option<Own> {
        let (mut low, mut size, mut guard) = (std::ptr::null_mut(), 0, 0);
        // SAFETY: `attr` is filled in by the first call, and the others write into the variables above.
        unsafe {
            let mut attr = std::mem::zeroed();
            if libc::pthread_getattr_np(libc::pthread_self(), &raw mut attr) != 0 {
                return None;
            }
            libc::pthread_attr_getstack(&raw const attr, &raw mut low, &raw mut size);
            libc::pthread_attr_getguardsize(&raw const attr, &raw mut guard);
            libc::pthread_attr_destroy(&raw mut attr);
        }
        Some(Own { low, guard })
    }
}

/// Ends the calling thread for the kernel and for nobody else: no destructor of a thread-local runs, and its memory stays as it is,
/// but for the unused part of its stack. So what others know by address, its thread-locals, stays valid. Its signals are blocked.
///
/// The stack stays mapped: the C library has its bounds on a list, and a child of `fork` unmaps what lies between
/// them, whatever that is by then.
pub fn leave_behind() -> ! {
    const BELOW: usize = 2048;
    let here = 0_u8;
    // SAFETY: what lies so far below this frame, in the stack, holds nothing: the two calls here need less, and no
    // signal comes. A thread that ends by itself leaves no lock of the C library held.
    unsafe {
        if let Some(Own { low, .. }) = Own::find() {
            let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let end = ((&raw const here).addr() - BELOW) & !(page - 1);
            libc::madvise(low, end.saturating_sub(low.addr()), libc::MADV_DONTNEED);
        }
        loop {
            libc::syscall(libc::SYS_exit, 0);
        }
    }
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
