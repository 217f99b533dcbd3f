//! Timers: for each P a heap of deadlines (Go's `timers`), run by whoever looks for work.
//!
//! - [`clock`]: the time. [`heap`]: the data structure, tested apart. [`sleep`]: what goroutines do with it. [`func`]: a
//!   timer that calls something. Which heap, and who is told: `proc::timers`.
//!
//! A [`Timer`] wakes a G, or calls a function on g0. A waking timer lies on the stack of the G that waits (a plain thread
//! needs none: it sleeps on its note with a deadline); the others lie in what they belong to, a function timer or a
//! channel, which says how it is kept alive ([`Kind`]).
//!
//! ```text
//!   arm (its owner)                 run_due (any M of the scheduler, sysmon)      disarm (its owner)
//!   lock the heap; push; unlock     lock; take out what is due;                   lock; still in the heap?
//!   the new first? tell the         win_select, or `pin`; unlock                  take it out : it has fired
//!   keeper, or do it later          ready, or `fire`
//! ```
//!
//! **Owner.** One at a time arms and disarms a timer: the G that waits, or whoever holds the lock of the thing that it
//! belongs to. `heap`, where it lies or lay last, is the owner's; `key` is written under the lock of that heap.
//!
//! I1: A timer's memory is touched under its heap's lock only, and only while it is in the heap; what is needed after that
//! was copied, or is kept alive by `pin`, under the lock. So after `disarm` has returned, or after the timer has
//! fired, its owner may take the memory away.
//!
//! I2: Between a wake-up by the timer and one by anything else, `G::win_select` decides, under the heap's lock for
//! the timer: a firing that has left the heap has won or lost already, and cannot claim a later wait of the same G.
//!
//! I3: Of a disarm and a firing exactly one takes the timer out, and says so.
//!
//! I4: Heaps are never freed. A scheduler that ends empties its heaps and closes them, and leaves them to the next one. What
//! belongs to nothing of that scheduler moves: a function timer or a timer channel is armed anew where plain threads arm theirs, for
//! the same time, by its owner's lock ([`Kind::ended`]), so that a stop or a reset finds it in the one heap or in the other. A waking
//! timer that was in a heap finds itself disarmed; its G never runs again. Whoever comes too late with a timer of the first kind is told
//! ([`Put::Closed`]), and arms it there as well.
//!
//! Lock order: a channel's lock or a function timer's, then a heap's. What a timer calls runs with none of them.
//!
//! Who looks: an M that has found no work, and every few passes under load, at its own P's heap and, in turns, at
//! others (`find_runnable`); sysmon, when all Ms are busy; the **keeper**, one sleeping M that wakes at the first
//! deadline of all heaps, when a P is idle ([`keeper`](crate::keeper)). So a P that is idle, or takes no part any longer
//! (`set_max_procs`), keeps its timers: they are in view of all as before.
//!
//! **Differs from Go**: a timer that is stopped or changed leaves its place at once, instead of being marked and swept
//! later; so memory is freed at once, and deadlines that do not count any more wake nobody.
//!
//! **Rejected**: one heap for all (its lock is on every sleep of every P); a lock in each timer beside the heap's (a third
//! line for each firing; here the owner has one already, or needs none).

pub mod clock;
pub mod func;
pub mod heap;
#[cfg(not(loom))]
pub mod sleep;
#[cfg(loom)]
pub use crate::model::sleep;

use crate::g::G;
use crate::memory::{self, Short};
pub use crate::proc::timers::Firing;
use crate::sync::Spinning;
use crate::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use crate::throw::fatal;
use clock::Nanos;
use crossbeam_utils::CachePadded;
use heap::{Heap, Key};
use std::cell::Cell;
use std::ptr;

/// A deadline and what happens then; see the module.
pub struct Timer {
    /// The heap that it is in, or was in last.
    heap: AtomicPtr<Timers>,
    key: Cell<Key>,
    what: What,
}

// SAFETY: `key` is touched under the lock of the heap that the timer is in, or by the owner while it is in none; all
// else is constant or atomic.
unsafe impl Sync for Timer {}
// SAFETY: as above; a timer belongs to no thread.
unsafe impl Send for Timer {}

enum What {
    Wake(&'static G),
    Call(&'static Kind),
}

/// What a timer that is no waking one is part of. The functions are called with its address.
#[derive(Debug)]
pub struct Kind {
    /// It has just been taken out, because it is due: keeps it alive until `fire` lets go of it. Under the heap's lock: no more
    /// than a count.
    pub pin: unsafe fn(*const Timer),
    /// Its heap ends, in which it still is: the same, until `ended` lets go of it.
    pub hold: unsafe fn(*const Timer),
    /// It was due. On g0, or on sysmon; must not block, and runs no user code.
    pub fire: unsafe fn(*const Timer, &mut Firing),
    /// Its scheduler has ended before it was due: takes it out of this heap ([`Timer::leave`]), as its owner, and puts it where it is
    /// served. Not on g0.
    pub ended: unsafe fn(*const Timer, &'static Timers),
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer").finish_non_exhaustive()
    }
}

impl Timer {
    fn new(what: What) -> Timer {
        Timer { heap: AtomicPtr::new(ptr::null_mut()), key: Cell::new(Key::NONE), what }
    }

    /// A timer, not armed, that readies `gp` if it wins its select.
    pub fn wake(gp: &'static G) -> Timer {
        Timer::new(What::Wake(gp))
    }

    /// A timer, not armed, that is part of something of this kind.
    pub fn call(kind: &'static Kind) -> Timer {
        Timer::new(What::Call(kind))
    }

    fn heap(&self) -> Option<&'static Timers> {
        // Relaxed: the owner's.
        // SAFETY: null or a heap, and heaps are never freed (I4).
        unsafe { self.heap.load(Ordering::Relaxed).as_ref() }
    }

    /// Takes it out of its heap. False if it is in none: it has fired, or was never armed. Called by its owner.
    pub fn disarm(&self) -> bool {
        let Some(timers) = self.heap() else { return false };
        let mut inner = timers.inner.lock();
        let key = self.key.get();
        let armed = key != Key::NONE;
        if armed {
            inner.heap.remove(key);
            self.key.set(Key::NONE);
            timers.changed(&inner.heap);
        }
        armed
    }

    /// Takes it out of this very heap, which ends. Its deadline; `None` if it was not there. Called by its owner.
    pub fn leave(&self, from: &'static Timers) -> Option<Nanos> {
        if !self.heap().is_some_and(|heap| ptr::eq(heap, from)) {
            return None;
        }
        let mut inner = from.inner.lock();
        let key = self.key.get();
        (key != Key::NONE).then(|| {
            let when = inner.heap.when(key);
            inner.heap.remove(key);
            self.key.set(Key::NONE);
            from.changed(&inner.heap);
            when
        })
    }

    /// Whether it is in a heap, at some moment. Called by its owner, who alone could arm it meanwhile.
    pub fn is_armed(&self) -> bool {
        self.heap().is_some_and(|timers| {
            let _inner = timers.inner.lock();
            self.key.get() != Key::NONE
        })
    }
}

/// A timer in the heap.
type Armed = *const Timer;

/// A heap and its first deadline.
pub struct Timers {
    /// On a line of its own: looked at by every M that looks for work.
    first: CachePadded<AtomicU64>,
    inner: Spinning<Inner>,
}

struct Inner {
    heap: Heap<Armed>,
    /// Its scheduler has ended.
    closed: bool,
}

/// What became of a timer that was to be armed.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Its deadline is the first of its heap now: the keeper must be told, by the caller or by whom it leaves that to.
    First,
    /// Nothing is owed.
    Later,
    /// It is not armed: the heap's scheduler has ended.
    Closed,
}

/// So many are fired before the goroutines that they made ready have a turn.
const AT_ONCE: usize = 256;

// SAFETY: the pointers in the heap are dereferenced under its lock only, while what they name is alive (I1).
unsafe impl Sync for Timers {}
// SAFETY: as above; a timer belongs to no thread.
unsafe impl Send for Timers {}

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timers").field("first", &self.first()).finish_non_exhaustive()
    }
}

/// Heaps whose schedulers are gone.
#[cfg(not(any(loom, shuttle)))]
static SPARE: parking_lot::Mutex<Vec<&'static Timers>> = parking_lot::Mutex::new(Vec::new());

/// Room for timers that a heap has before it is needed: those who arm one have asked for memory before ([`may_arm`]), and may
/// be as many.
const AHEAD: usize = 16;
/// What a refusal names.
const WHAT: &str = "another timer";

/// Whether there is memory for a timer that the caller is about to make or to arm.
///
/// # Errors
///
/// When there is none.
#[inline]
pub fn may_arm() -> Result<(), Short> {
    memory::check(WHAT)
}

/// Room for one more, and for those to come.
#[inline]
fn make_room(heap: &mut Heap<Armed>) {
    if heap.reserve(1 + AHEAD).is_err() {
        no_room_ahead(heap);
    }
}

#[cold]
fn no_room_ahead(heap: &mut Heap<Armed>) {
    memory::note_short();
    if heap.reserve(1).is_err() {
        fatal(format_args!(
            "no memory for {WHAT}: the allocator refuses room for {} of them",
            heap.len() + 1
        ));
    }
}

/// Heaps that were made, at least.
#[cfg(not(any(loom, shuttle)))]
static MADE: AtomicU64 = AtomicU64::new(0);

impl Timers {
    /// An empty heap.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn make() -> Result<&'static Timers, Short> {
        #[cfg(not(any(loom, shuttle)))]
        let spare = || SPARE.lock().pop();
        #[cfg(not(any(loom, shuttle)))]
        if let Some(timers) = spare() {
            let mut inner = timers.inner.lock();
            if inner.heap.reserve(1 + AHEAD).is_err() {
                drop(inner);
                SPARE.lock().push(timers);
                return Err(Short::of(WHAT, 0));
            }
            inner.closed = false;
            drop(inner);
            return Ok(timers);
        }
        #[cfg(not(any(loom, shuttle)))]
        {
            // Whoever gives one back allocates nothing.
            let most = MADE.fetch_add(1, Ordering::Relaxed) as usize + 1;
            let mut spare = SPARE.lock();
            let more = most.saturating_sub(spare.len());
            spare.try_reserve(more).map_err(|_| Short::of(WHAT, more * size_of::<&Timers>()))?;
        }
        let mut heap = Heap::new();
        heap.reserve(1 + AHEAD).map_err(|_| Short::of(WHAT, 0))?;
        let timers = Timers {
            first: CachePadded::new(AtomicU64::new(Nanos::NEVER.0)),
            inner: Spinning::new(Inner { heap, closed: false }),
        };
        memory::try_box(WHAT, timers).map(|timers| &*Box::leak(timers)).map_err(|(short, _)| short)
    }

    /// Gives a heap to whoever makes one next. It has ended.
    pub(crate) fn give_back(&'static self) {
        debug_assert!(self.inner.lock().closed && self.first() == Nanos::NEVER);
        #[cfg(not(any(loom, shuttle)))]
        SPARE.lock().push(self);
    }

    /// The first deadline.
    #[inline]
    pub fn first(&self) -> Nanos {
        // ORDERING: Acquire, pairs with the Release in `changed`; a hint all the same.
        Nanos(self.first.load(Ordering::Acquire))
    }

    #[inline]
    fn changed(&self, heap: &Heap<Armed>) {
        let first = heap.first().unwrap_or(Nanos::NEVER).0;
        // Relaxed: under the lock. Others read this line on every pass.
        if self.first.load(Ordering::Relaxed) != first {
            self.first.store(first, Ordering::Release);
        }
    }

    /// Arms a timer.
    ///
    /// # Safety
    ///
    /// The caller owns the timer, which is not armed, and stays where it is until it has been disarmed or has fired.
    pub unsafe fn arm(&'static self, timer: *const Timer, when: Nanos) -> Put {
        // SAFETY: the caller's timer, not in any heap.
        unsafe { (*timer).heap.store(ptr::from_ref(self).cast_mut(), Ordering::Relaxed) };
        let mut inner = self.inner.lock();
        if inner.closed {
            return Put::Closed;
        }
        make_room(&mut inner.heap);
        let key = inner.heap.push(when, timer);
        // SAFETY: as above; under the lock.
        unsafe { (*timer).key.set(key) };
        self.put(&inner, when)
    }

    fn put(&self, inner: &Inner, when: Nanos) -> Put {
        let before = self.first.load(Ordering::Relaxed);
        self.changed(&inner.heap);
        if when.0 < before { Put::First } else { Put::Later }
    }

    /// Gives a timer another deadline, if it is in this very heap. Called by its owner.
    #[must_use]
    pub fn change(&'static self, timer: &Timer, when: Nanos) -> Option<Put> {
        if !timer.heap().is_some_and(|heap| ptr::eq(heap, self)) {
            return None;
        }
        let mut inner = self.inner.lock();
        let key = timer.key.get();
        (key != Key::NONE).then(|| {
            inner.heap.change(key, when);
            self.put(&inner, when)
        })
    }

    /// Fires what is due, up to a number of timers. True if that many have fired. Runs on an M's g0 or on sysmon.
    pub fn run_due(&self, now: Nanos, firing: &mut Firing) -> bool {
        for _ in 0..AT_ONCE {
            if self.first() > now {
                return false;
            }
            let mut inner = self.inner.lock();
            let Some(timer) = inner.heap.pop_due(now) else { return false };
            self.changed(&inner.heap);
            // SAFETY: it was in the heap a moment ago, and its owner needs the lock to take it away (I1).
            match unsafe {
                (*timer).key.set(Key::NONE);
                &(*timer).what
            } {
                What::Wake(gp) => {
                    let gp = *gp;
                    // Void (`proc::shutdown`), if an M comes late.
                    let won = !gp.waits_are_void() && gp.win_select();
                    drop(inner);
                    if won {
                        // No word is left for it (`begin_select` cleared the place): that means the time is over.
                        firing.ready(gp);
                    }
                }
                What::Call(kind) => {
                    let kind = *kind;
                    // SAFETY: under the lock, and just taken out; then it is alive until `fire` is through.
                    unsafe {
                        (kind.pin)(timer);
                        drop(inner);
                        (kind.fire)(timer, firing);
                    }
                }
            }
        }
        true
    }

    /// The heap's scheduler has ended: its timers are told, and no other one gets in. Not on g0.
    pub fn end(&'static self) {
        loop {
            let mut inner = self.inner.lock();
            inner.closed = true;
            let Some(timer) = inner.heap.first_item() else {
                inner.heap = Heap::new();
                self.changed(&inner.heap);
                return;
            };
            // SAFETY: it is in the heap, and its owner needs the lock to take it away (I1); from `hold` on it is alive until `ended`
            // is through. A waking timer belongs to an abandoned goroutine, whose stack is never freed.
            unsafe {
                match (*timer).what {
                    What::Wake(_) => {
                        inner.heap.remove((*timer).key.get());
                        (*timer).key.set(Key::NONE);
                        self.changed(&inner.heap);
                    }
                    What::Call(kind) => {
                        (kind.hold)(timer);
                        drop(inner);
                        (kind.ended)(timer, self);
                    }
                }
            }
        }
    }
}
