//! Which OS threads of the process could still wake a goroutine, as far as one can know (`proc::deadlock`).
//!
//! - **Ours**: Ms, sysmon and the like. What they do shows elsewhere.
//! - **Users**: plain threads that have taken part in an operation. As long as one lives it may take part in another one;
//!   unless it waits in `run` for its main goroutine.
//! - **Strangers**: all others. A stranger may have been given a handle by other means than this library (a job for a thread
//!   pool, a static, a C library's callback), whenever it was started and whatever it does at the moment. So a live stranger is
//!   a doubt; unless the program says that its strangers wake nobody ([`OtherThreads::Idle`]).
//!
//! T1 (no live thread is missed): the kernel's list of threads is not read at one moment, and ends early where a thread ends under
//! the reader. So the list counts only if it has as many threads as the kernel counts afterwards. A thread that is not in such
//! a list was started after it was read, or by one that is in it and has ended since. Whoever started it is a user or a stranger, since
//! of ours only Ms run other code, and what they do shows. A user that was seen cannot end meanwhile, because `end` waits for
//! the lock; and a stranger that was seen is a doubt, alive or not.
//!
//! T2 (a number is no identity): the system gives the number of a thread that has ended to another one. A thread leaves the table
//! when it ends (`thread`, [`Ours`]). One that ended in a way that nobody saw (a bare `exit` system call, no key for a destructor)
//! is recognised by its number that is not there, or whose thread was started after the table had it. It is taken
//! out when somebody looks, and when the thread that has the number now comes to be known.

use crate::config::OtherThreads;
use crate::g::{G, Status, WaitReason};
use crate::gpool;
use crate::memory::{self, Short};
use crate::os;
use crate::time::clock::Nanos;
use parking_lot::Mutex;

#[derive(Clone, Copy)]
enum Kind {
    Ours,
    User(&'static G),
}

struct Known {
    kind: Kind,
    /// When it came to be known, on the clock that the kernel stamps the start of threads with.
    since: Nanos,
}

struct Threads {
    known: Table,
    /// How many known threads have ended.
    ended: u64,
}

/// The known threads by number, in its order. A map of `std` cannot be asked to grow.
struct Table(Vec<(libc::pid_t, Known)>);

impl Table {
    fn place(&self, tid: libc::pid_t) -> Result<usize, usize> {
        self.0.binary_search_by_key(&tid, |(tid, _)| *tid)
    }

    fn get(&self, tid: libc::pid_t) -> Option<&Known> {
        self.place(tid).ok().map(|at| &self.0[at].1)
    }

    fn insert(&mut self, tid: libc::pid_t, known: Known) {
        match self.place(tid) {
            Ok(at) => self.0[at].1 = known,
            Err(at) => {
                memory::grow(WHAT, &mut self.0, 1);
                self.0.insert(at, (tid, known));
            }
        }
    }

    fn remove(&mut self, tid: libc::pid_t) -> Option<Known> {
        self.place(tid).ok().map(|at| self.0.remove(at).1)
    }
}

/// What a want of memory names.
const WHAT: &str = "the list of threads that use the library";
/// Threads that may begin at the same time, with room for all of them.
const AHEAD: usize = 16;

/// Has room for a thread that begins.
///
/// # Errors
///
/// When there is no memory.
pub(crate) fn reserve() -> Result<(), Short> {
    let mut threads = THREADS.lock();
    let bytes = AHEAD * size_of::<(libc::pid_t, Known)>();
    threads.known.0.try_reserve(AHEAD).map_err(|_| Short::of(WHAT, bytes))
}

static THREADS: Mutex<Threads> = Mutex::new(Threads { known: Table(Vec::new()), ended: 0 });

/// Who could still wake a goroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// Nobody.
    None,
    /// A thread that has used the library.
    Users,
    /// A thread of which nothing is known, and no other.
    Strangers,
}

/// Whether the thread that was known by this number at that time is alive.
fn is_alive(tid: libc::pid_t, since: Nanos) -> bool {
    os::started(tid).is_some_and(|started| started <= since)
}

impl Threads {
    fn add(&mut self, kind: Kind) {
        self.known.insert(os::gettid(), Known { kind, since: os::boot_time() });
    }

    fn remove(&mut self, tid: libc::pid_t) -> Option<Known> {
        let known = self.known.remove(tid);
        self.ended += u64::from(known.is_some());
        known
    }

    /// Forgets a thread that has ended unseen.
    fn bury(&mut self, tid: libc::pid_t) {
        if let Some(Known { kind: Kind::User(gp), .. }) = self.remove(tid) {
            // One that ended within a wait may still be found by a waker.
            if gp.status() == Status::Running {
                gp.end_thread();
                gpool::put_shared(gp);
            }
        }
    }

    /// Whether a living user is not in `run`. Those that have ended unseen are forgotten on the way.
    fn users(&mut self) -> bool {
        let acts = |known: &Known| match known.kind {
            Kind::Ours => false,
            Kind::User(gp) => gp.status() != Status::Waiting || gp.wait_reason() != WaitReason::Run,
        };
        while let Some(&(tid, ref known)) = self.known.0.iter().find(|(_, known)| acts(known)) {
            if is_alive(tid, known.since) {
                return true;
            }
            self.bury(tid);
        }
        false
    }

    /// The threads that are not known; `None` if the system does not say.
    fn strangers(&self) -> Option<Vec<libc::pid_t>> {
        let mut all = os::threads()?;
        all.retain(|tid| self.known.get(*tid).is_none());
        Some(all)
    }
}

/// A thread of ours, until this is dropped on it.
#[derive(Debug)]
pub struct Ours(());

impl Ours {
    /// The calling thread is one of ours.
    pub fn begin() -> Ours {
        if !cfg!(shuttle) {
            THREADS.lock().add(Kind::Ours);
        }
        Ours(())
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        THREADS.lock().remove(os::gettid());
    }
}

/// The calling thread takes part in its first operation, with this G.
pub fn user_begins(gp: &'static G) {
    // A model's threads are one thread of the system.
    if cfg!(shuttle) {
        return;
    }
    let tid = os::gettid();
    let mut threads = THREADS.lock();
    match threads.known.get(tid).map(|known| known.kind) {
        // What an M, or sysmon, does on its own stack.
        Some(Kind::Ours) => return,
        Some(Kind::User(_)) => threads.bury(tid),
        None => {}
    }
    threads.add(Kind::User(gp));
}

/// The calling thread ends, or the part of its end in which it could use this G.
pub fn user_ends(gp: &'static G) {
    let tid = os::gettid();
    let mut threads = THREADS.lock();
    if let Some(Known { kind: Kind::User(other), .. }) = threads.known.get(tid)
        && std::ptr::eq(*other, gp)
    {
        threads.remove(tid);
    }
}

/// How many known threads have ended: with it goes what [`others`] may have said of them.
pub fn ended() -> u64 {
    THREADS.lock().ended
}

/// Who could still wake a main goroutine, at some moment of the call.
pub fn others(rule: OtherThreads) -> Others {
    let mut threads = THREADS.lock();
    if threads.users() {
        return Others::Users;
    }
    if rule == OtherThreads::Idle {
        return Others::None;
    }
    // Mostly the number alone tells.
    if os::count_threads().is_none_or(|n| n > threads.known.0.len()) {
        return Others::Strangers;
    }
    match threads.strangers() {
        Some(strangers) if strangers.is_empty() => Others::None,
        _ => Others::Strangers,
    }
}

/// The threads of which nothing is known, by number.
pub fn strangers() -> Vec<libc::pid_t> {
    THREADS.lock().strangers().unwrap_or_default()
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    /// A G as a plain thread has one, which the thread does not give back.
    fn user() -> &'static G {
        let gp = gpool::get_shared().unwrap();
        gp.become_thread();
        gp
    }

    fn known(tid: libc::pid_t) -> bool {
        THREADS.lock().known.get(tid).is_some()
    }

    #[test]
    fn a_thread_that_ended_unseen_is_forgotten_by_who_looks() {
        let unseen = thread::spawn(|| {
            user_begins(user());
            os::gettid()
        });
        let tid = unseen.join().unwrap();
        assert!(known(tid));
        // Other tests have users of their own, and one of them may be the first that is found.
        let mut threads = THREADS.lock();
        let others = std::mem::take(&mut threads.known.0);
        let (unseen, others) = others.into_iter().partition(|(other, _)| *other == tid);
        threads.known.0 = unseen;
        let found = threads.users();
        let left = std::mem::replace(&mut threads.known.0, others).len();
        assert!(!found && left == 0);
    }

    #[test]
    fn a_number_that_is_used_again_is_not_the_old_thread() {
        thread::spawn(|| {
            let (tid, old, new) = (os::gettid(), user(), user());
            // Known since the system came up, so another one had this number then.
            THREADS.lock().known.insert(tid, Known { kind: Kind::User(old), since: Nanos(0) });
            assert!(!is_alive(tid, Nanos(0)) && is_alive(tid, os::boot_time()));
            user_begins(new);
            let is_new = |known: &Known| matches!(known.kind, Kind::User(gp) if std::ptr::eq(gp, new));
            assert!(THREADS.lock().known.get(tid).is_some_and(is_new));
            assert_eq!(old.status(), Status::Idle, "its G was given back");
            user_ends(old);
            assert!(known(tid), "the old one's end is not the new one's");
            user_ends(new);
            assert!(!known(tid));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_is_a_stranger_until_it_is_known() {
        let ((tell, told), (go_on, wait)) = (mpsc::channel(), mpsc::channel::<()>());
        let other = thread::spawn(move || {
            tell.send(os::gettid()).unwrap();
            wait.recv().unwrap();
            let gp = user();
            user_begins(gp);
            tell.send(os::gettid()).unwrap();
            wait.recv().unwrap();
            user_ends(gp);
        });
        let tid = told.recv().unwrap();
        assert!(strangers().contains(&tid));
        assert_ne!(others(OtherThreads::Doubt), Others::None);
        go_on.send(()).unwrap();
        told.recv().unwrap();
        assert!(!strangers().contains(&tid));
        assert_eq!(others(OtherThreads::Idle), Others::Users);
        go_on.send(()).unwrap();
        other.join().unwrap();
    }
}
