//! [`G`]: a goroutine, or a plain OS thread that takes part in one of our operations.
//!
//! A status is an owner: it says where the G is, and who may touch its stack.
//!
//! | status | where it is | its stack belongs to |
//! | --- | --- | --- |
//! | `Idle` | in a G pool, or being made by its spawner | it has none |
//! | `Runnable` | in exactly one run queue, `runnext`, the global queue, or on its way there | nobody, until the M that takes it out |
//! | `Running` | on one M, with a P or, in a blocking call or when it was taken (`handoff`), without | that M |
//! | `Waiting` | in the wait queues or timers that its park put it in | nobody; whoever owns the right to ready it may make it Runnable |
//! | `Dead` | finished; its result waits for the `Join` | it has none |
//!
//! ```text
//!   Idle -> Runnable -> Running -> Dead -> Idle
//!              ^  ^        |  |
//!              |  +--------+  |  gosched, preempted, a park that its commit called off
//!              +-- Waiting <--+  gopark; goready
//! ```
//!
//! I1: Every transition is made by the one owner of the old status, in [`casgstatus`], which checks it. It needs no
//! read-modify-write: the hand-over from owner to owner (a queue, a lock) orders the loads and stores. Only a parked
//! plain thread looks at a status that another one is about to change, its own, to see whether it was readied: the
//! store is a Release and its look an Acquire, so that it sees what its waker left.
//!
//! I2: The memory of a G is never freed, only recycled (`gpool`). A late look at a G (a dump, sysmon's preempt flag)
//! reads atomics of another goroutine at worst.
//!
//! A plain thread's G has no stack of ours and is never in a run queue: it is `Running` or `Waiting`, and readying
//! it wakes the thread.

#[cfg(not(loom))]
use crate::m::M;
use crate::memory;
#[cfg(not(loom))]
use crate::memory::Short;
#[cfg(loom)]
use crate::model::{M, Sched};
use crate::note::Note;
#[cfg(not(loom))]
use crate::panics::Seen;
#[cfg(not(loom))]
use crate::sched::Sched;
#[cfg(not(loom))]
use crate::stack::{Stack, StackHead};
use crate::sync::Spinning;
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(not(loom))]
use crossbeam_utils::CachePadded;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::mem::MaybeUninit;
use std::panic::Location;

/// Where a goroutine is in its life; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Not made yet, or done with.
    Idle,
    /// In a run queue.
    Runnable,
    /// On an M.
    Running,
    /// Parked.
    Waiting,
    /// Finished, not collected yet.
    Dead,
}

impl Status {
    fn from_u8(n: u8) -> Status {
        [Status::Idle, Status::Runnable, Status::Running, Status::Waiting, Status::Dead][n as usize]
    }
}

/// Why a goroutine waits, in Go's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum WaitReason {
    /// No reason given.
    Zero,
    /// A receive.
    ChanReceive,
    /// A send.
    ChanSend,
    /// A receive from a nil channel.
    ChanReceiveNilChan,
    /// A send to a nil channel.
    ChanSendNilChan,
    /// A select.
    Select,
    /// A select with no arms.
    SelectNoCases,
    /// A sleep.
    Sleep,
    /// A semaphore.
    Semacquire,
    /// A wait group.
    SyncWaitGroupWait,
    /// A mutex.
    SyncMutexLock,
    /// A lock of many readers or one writer, for reading.
    SyncRWMutexRLock,
    /// The same, for writing.
    SyncRWMutexLock,
    /// A condition variable.
    SyncCondWait,
    /// A join.
    Join,
    /// A `run`, for its main goroutine.
    Run,
    /// A future.
    BlockOn,
    /// The end of somebody else's initialisation.
    SyncOnceDo,
    /// A barrier.
    SyncBarrierWait,
    /// A call of the same key.
    SyncSingleFlightDo,
}

impl WaitReason {
    const ALL: [WaitReason; 20] = [
        WaitReason::Zero,
        WaitReason::ChanReceive,
        WaitReason::ChanSend,
        WaitReason::ChanReceiveNilChan,
        WaitReason::ChanSendNilChan,
        WaitReason::Select,
        WaitReason::SelectNoCases,
        WaitReason::Sleep,
        WaitReason::Semacquire,
        WaitReason::SyncWaitGroupWait,
        WaitReason::SyncMutexLock,
        WaitReason::SyncRWMutexRLock,
        WaitReason::SyncRWMutexLock,
        WaitReason::SyncCondWait,
        WaitReason::Join,
        WaitReason::Run,
        WaitReason::BlockOn,
        WaitReason::SyncOnceDo,
        WaitReason::SyncBarrierWait,
        WaitReason::SyncSingleFlightDo,
    ];

    /// As Go prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            WaitReason::Zero => "waiting",
            WaitReason::ChanReceive => "chan receive",
            WaitReason::ChanSend => "chan send",
            WaitReason::ChanReceiveNilChan => "chan receive (nil chan)",
            WaitReason::ChanSendNilChan => "chan send (nil chan)",
            WaitReason::Select => "select",
            WaitReason::SelectNoCases => "select (no cases)",
            WaitReason::Sleep => "sleep",
            WaitReason::Semacquire => "semacquire",
            WaitReason::SyncWaitGroupWait => "sync.WaitGroup.Wait",
            WaitReason::SyncMutexLock => "sync.Mutex.Lock",
            WaitReason::SyncRWMutexRLock => "sync.RWMutex.RLock",
            WaitReason::SyncRWMutexLock => "sync.RWMutex.Lock",
            WaitReason::SyncCondWait => "sync.Cond.Wait",
            WaitReason::Join => "join",
            WaitReason::Run => "run",
            WaitReason::BlockOn => "block on",
            WaitReason::SyncOnceDo => "sync.Once.Do",
            WaitReason::SyncBarrierWait => "sync.Barrier.Wait",
            WaitReason::SyncSingleFlightDo => "singleflight.Group.Do",
        }
    }
}

/// The number of a goroutine: unique in the process, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoroutineId(pub(crate) u64);

impl fmt::Display for GoroutineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for GoroutineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GoroutineId({})", self.0)
    }
}

/// Words of a closure, or of a result, that lie in the G itself; what is larger is boxed.
pub const INLINE: usize = 8;

/// What differs between goroutines of different closure types; see `newproc`.
pub(crate) struct BodyVtable {
    /// Takes the closure out, runs it, and leaves its result. On the goroutine's stack.
    pub run: unsafe fn(&'static G),
    /// Drops the closure of a goroutine that never ran.
    pub drop_unstarted: unsafe fn(&'static G),
    /// Drops the result that nobody asked for. On the goroutine's stack.
    pub drop_result: unsafe fn(&'static G),
}

/// What a goroutine's closure may borrow from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Bound {
    /// Nothing.
    #[default]
    Free,
    /// The frame of a `scope` in a main goroutine, or in one that is bound like this; and so what that may borrow from.
    Scope,
    /// The caller of a `run`, whose function it is: a panic in it is the caller's, and so is a deadlock.
    Main,
}

/// What the goroutine does when it is next resumed from its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The body holds the closure.
    Unstarted,
    /// The body holds nothing but the record of a wait (`G::wait_place`).
    Started,
    /// The same, and it is a wait at an address (`sema`) that the goroutine has not come back from.
    AtAddress,
    /// The body holds the result.
    HasResult,
    /// The body holds nothing any more.
    Empty,
}

/// A goroutine or a plain thread; see the module. Laid out in the order written, on lines of 64 bytes.
#[repr(C, align(64))]
pub struct G {
    // -- What every operation looks at: one line, all that a waker touches. --
    status: AtomicU8,
    /// It is asked to give way, at its next operation that does not park. See [`G::ask_to_give_way`].
    preempt: AtomicBool,
    /// No stack of ours: the G of a plain thread.
    is_thread: AtomicBool,
    wait_reason: AtomicU8,
    /// 0 while a wait on several things (select, a timed wait) is undecided; the waker that makes it 1 owns the
    /// right to ready this G.
    select_done: AtomicU32,
    /// The M that runs it. Written by that M on g0, read by the G itself.
    pub(crate) m: AtomicPtr<M>,
    /// What the waker leaves for the woken (Go's `g.param`): the sudog that was served, null for a time-out.
    /// Written by whoever owns the right to ready, read after the wake-up.
    param: AtomicPtr<()>,
    #[cfg(not(loom))]
    stack: AtomicPtr<StackHead>,
    /// The scheduler that it belongs to; null for a plain thread. Constant while it lives.
    pub(crate) sched: AtomicPtr<Sched>,
    /// See `join`.
    pub(crate) join: AtomicUsize,
    /// For random choices. The G's own.
    rng: Cell<u64>,
    /// What the body holds.
    pub(crate) phase: Cell<Phase>,
    pub(crate) stack_class: Cell<u8>,
    pub(crate) bound: Cell<Bound>,
    /// A panic that nobody catches ends the process (`PanicPolicy::Abort`).
    pub(crate) panic_aborts: Cell<bool>,
    /// It has started, and runs on its M and on no other.
    pub(crate) wired: Cell<bool>,
    /// How often it has locked its M, which then runs nothing else (Go's `lockedm`).
    pub(crate) locks: Cell<u8>,
    /// How many `no_suspend` guards of it live.
    pub(crate) pins: Cell<u8>,
    /// It is in a blocking call, or waits inside one. Written by itself, read by sysmon.
    pub(crate) in_syscall: AtomicBool,

    // -- The body: closure, then result; in between the record of a wait. Owned as the stack is; see `Phase`. --
    pub(crate) body: UnsafeCell<[MaybeUninit<usize>; INLINE]>,

    // -- What is asked rarely. --
    pub(crate) vtable: Cell<Option<&'static BodyVtable>>,
    pub(crate) id: AtomicU64,
    /// Of a scoped goroutine the main one that it is under.
    pub(crate) under: Cell<Option<&'static G>>,
    /// Where a plain thread sleeps.
    note: Note,
    has_rare: AtomicBool,
    pub(crate) spawned_at: AtomicPtr<Location<'static>>,
    rare: Spinning<Option<Box<Rare>>>,
}

/// What few goroutines have.
#[derive(Default)]
pub(crate) struct Rare {
    name: Option<Box<str>>,
    /// Where its last `no_suspend` guard was taken.
    pinned_at: Option<&'static Location<'static>>,
    /// Of a main goroutine: the number of its `run`.
    run: u64,
    /// Its last panic.
    #[cfg(not(loom))]
    panic: Option<Seen>,
}

/// What is there, or a new one. `None` without memory for it: then a report knows less.
fn some_rare(rare: &mut Option<Box<Rare>>) -> Option<&mut Rare> {
    if rare.is_none() {
        *rare = memory::try_box("a report", Rare::default()).ok();
    }
    rare.as_deref_mut()
}

#[cfg(not(loom))]
impl Rare {
    /// A name, and of a main goroutine the number of its `run`.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub(crate) fn named(name: Box<str>, run: u64) -> Result<Box<Rare>, Short> {
        memory::try_box("a goroutine's name", Rare { name: Some(name), run, ..Rare::default() })
            .map_err(|(short, _)| short)
    }
}

// SAFETY: the atomics and the locked name are shared by type. The cells (`phase`, `wired`, the body,
// `under`, `rng`) belong to the owner that the status names (module docs): the maker of an Idle G, the M or the thread
// of a Running one, the `Join` of a Dead one; each hand-over between them goes through a queue, a lock, or the
// release/acquire pair of `join`.
unsafe impl Sync for G {}
// SAFETY: as above; nothing in a G belongs to an OS thread.
unsafe impl Send for G {}

impl fmt::Debug for G {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("G").field("id", &self.id()).field("status", &self.status()).finish_non_exhaustive()
    }
}

#[cfg(not(any(loom, shuttle)))]
const _: () = {
    assert!(size_of::<G>() == 3 * 64, "a G has three lines");
    assert!(std::mem::offset_of!(G, body) == 64, "what a waker touches is one line");
};

#[cfg(not(loom))]
crate::sync::per_process! {
    /// Goroutines that are asked to give way (`G::preempt`). Mostly none, which is all that most operations look at: that is
    /// cheaper than to find out who calls. Not the model's: who sees an old number gives way a little later.
    static ASKED: CachePadded<std::sync::atomic::AtomicU32> = CachePadded::new(std::sync::atomic::AtomicU32::new(0));
}

/// False if no goroutine of the process is asked to give way.
#[cfg(not(loom))]
#[inline]
pub(crate) fn somebody_is_asked() -> bool {
    ASKED.load(Ordering::Relaxed) != 0
}

#[cfg(not(loom))]
impl G {
    /// Asks it to give way at its next operation. A G that has gone on meanwhile does so for nothing.
    pub(crate) fn ask_to_give_way(&self) {
        // Exchanges, so that the number is that of the Gs; for a moment it may be off by one, or below 0.
        if !self.preempt.swap(true, Ordering::Relaxed) {
            ASKED.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether it is asked to.
    #[inline]
    pub(crate) fn is_asked(&self) -> bool {
        // Relaxed: a request may be seen late.
        self.preempt.load(Ordering::Relaxed)
    }

    /// It gives way, or need not any more.
    pub(crate) fn no_longer_asked(&self) {
        if self.preempt.swap(false, Ordering::Relaxed) {
            ASKED.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl G {
    pub(crate) fn new() -> G {
        G {
            status: AtomicU8::new(Status::Idle as u8),
            preempt: AtomicBool::new(false),
            is_thread: AtomicBool::new(false),
            wait_reason: AtomicU8::new(WaitReason::Zero as u8),
            select_done: AtomicU32::new(0),
            m: AtomicPtr::new(std::ptr::null_mut()),
            param: AtomicPtr::new(std::ptr::null_mut()),
            #[cfg(not(loom))]
            stack: AtomicPtr::new(std::ptr::null_mut()),
            sched: AtomicPtr::new(std::ptr::null_mut()),
            join: AtomicUsize::new(0),
            phase: Cell::new(Phase::Empty),
            stack_class: Cell::new(0),
            bound: Cell::new(Bound::Free),
            panic_aborts: Cell::new(false),
            wired: Cell::new(false),
            locks: Cell::new(0),
            pins: Cell::new(0),
            in_syscall: AtomicBool::new(false),
            vtable: Cell::new(None),
            body: UnsafeCell::new([MaybeUninit::uninit(); INLINE]),
            id: AtomicU64::new(0),
            under: Cell::new(None),
            rng: Cell::new(0),
            note: Note::new(),
            spawned_at: AtomicPtr::new(std::ptr::null_mut()),
            has_rare: AtomicBool::new(false),
            rare: Spinning::new(None),
        }
    }

    /// Makes this G, fresh or from the pool, the one of a plain thread.
    pub(crate) fn become_thread(&self) {
        self.is_thread.store(true, Ordering::Relaxed);
        #[cfg(not(loom))]
        self.no_longer_asked();
        self.bound.set(Bound::Free);
        self.pins.set(0);
        self.id.store(0, Ordering::Relaxed);
        self.sched.store(std::ptr::null_mut(), Ordering::Relaxed);
        self.status.store(Status::Running as u8, Ordering::Relaxed);
    }

    /// The end of [`G::become_thread`].
    pub(crate) fn end_thread(&self) {
        self.is_thread.store(false, Ordering::Relaxed);
        self.status.store(Status::Idle as u8, Ordering::Relaxed);
    }

    /// True for a plain thread's G.
    #[inline]
    pub fn is_thread(&self) -> bool {
        // Relaxed: constant while the G is somebody's.
        self.is_thread.load(Ordering::Relaxed)
    }

    /// Its number.
    pub fn id(&self) -> GoroutineId {
        // Relaxed: constant for all who have the G; a dump may see any.
        GoroutineId(self.id.load(Ordering::Relaxed))
    }

    /// Its status at some moment.
    #[inline]
    pub fn status(&self) -> Status {
        // ORDERING: Acquire, pairs with the Release in `casgstatus` (I1).
        Status::from_u8(self.status.load(Ordering::Acquire))
    }

    /// Why it waits or waited last.
    pub fn wait_reason(&self) -> WaitReason {
        WaitReason::ALL[self.wait_reason.load(Ordering::Relaxed) as usize]
    }

    /// True if it is a goroutine of this scheduler. For a G that has ended, too, whose own scheduler may be gone.
    #[inline]
    pub fn runs_on(&self, sched: &Sched) -> bool {
        std::ptr::eq(self.sched.load(Ordering::Relaxed), sched)
    }

    /// For dumps only.
    #[inline]
    pub(crate) fn set_wait_reason(&self, reason: WaitReason) {
        self.wait_reason.store(reason as u8, Ordering::Relaxed);
    }

    /// The scheduler that it runs on; `None` for a plain thread. Not to be asked of a G that has ended.
    #[inline]
    pub fn sched(&self) -> Option<&'static Sched> {
        // SAFETY: null, or a scheduler, which outlives the goroutines that have not ended (`sched`).
        unsafe { self.sched.load(Ordering::Relaxed).as_ref() }
    }

    /// True once the scheduler that it belongs to has ended: then its waits are void (`proc::shutdown`, "Void waits"). Whoever
    /// takes its wait out of a queue asks, under the lock of that queue, and passes it over. Of a plain thread: never.
    #[inline]
    pub fn waits_are_void(&self) -> bool {
        // Not in a model that has no scheduler that ends: each look at an atomic is a step of it.
        #[cfg(loom)]
        if !crate::model::schedulers_end() {
            return false;
        }
        self.sched().is_some_and(Sched::stopped)
    }

    /// Gives it a name, for reports, and takes away what an earlier goroutine of this G had.
    #[cfg(not(loom))]
    pub(crate) fn set_name(&self, rare: Option<Box<Rare>>) {
        if rare.is_some() || self.has_rare.load(Ordering::Relaxed) {
            self.has_rare.store(rare.is_some(), Ordering::Relaxed);
            let old = std::mem::replace(&mut *self.rare.lock(), rare);
            drop(old);
        }
    }

    /// Its name, if it has one.
    pub fn name(&self) -> Option<String> {
        if !self.has_rare.load(Ordering::Relaxed) {
            return None;
        }
        self.rare
            .lock()
            .as_ref()
            .and_then(|rare| memory::try_text("a name", rare.name.as_deref()?).ok())
            .map(String::from)
    }

    /// Calls `f` with its name, if it has one and nobody is at it just now. In a signal handler too.
    #[cfg(not(loom))]
    pub(crate) fn with_name<R>(&self, f: impl FnOnce(Option<&str>) -> R) -> R {
        match self.rare.try_lock() {
            Some(rare) => f(rare.as_ref().and_then(|rare| rare.name.as_deref())),
            None => f(None),
        }
    }

    /// Of a main goroutine, which has a name: the number of its `run`; later ones are higher.
    pub(crate) fn run_number(&self) -> u64 {
        self.rare.lock().as_ref().map_or(0, |rare| rare.run)
    }

    /// The main goroutine under which a scoped one was started.
    pub fn main_of(&'static self) -> Option<&'static G> {
        match self.bound.get() {
            Bound::Free => None,
            Bound::Scope => self.under.get(),
            Bound::Main => Some(self),
        }
    }

    /// Notes where it said that it must not be suspended.
    pub(crate) fn set_pinned_at(&self, at: &'static Location<'static>) {
        self.has_rare.store(true, Ordering::Relaxed);
        if let Some(rare) = some_rare(&mut self.rare.lock()) {
            rare.pinned_at = Some(at);
        }
    }

    /// Notes its panic, as the hook saw it.
    #[cfg(not(loom))]
    pub(crate) fn set_panic(&self, seen: Seen) {
        self.has_rare.store(true, Ordering::Relaxed);
        let old = some_rare(&mut self.rare.lock()).and_then(|rare| rare.panic.replace(seen));
        drop(old);
    }

    /// Calls `f` with what the hook saw of its last panic.
    #[cfg(not(loom))]
    pub(crate) fn with_panic<R>(&self, f: impl FnOnce(Option<&Seen>) -> R) -> R {
        f(self.rare.lock().as_ref().and_then(|rare| rare.panic.as_ref()))
    }

    /// Where it said so last.
    pub(crate) fn pinned_at(&self) -> Option<&'static Location<'static>> {
        self.rare.lock().as_ref().and_then(|rare| rare.pinned_at)
    }

    /// The stack that it is bound to. Exact for whoever owns the G, for others a hint.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn stack(&self) -> Option<Stack> {
        // Relaxed: handed over with the G.
        Stack::from_ptr(self.stack.load(Ordering::Relaxed))
    }

    /// Changes the stack that it is bound to. The caller owns the G.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn set_stack(&self, stack: Option<Stack>) {
        // Relaxed: as above.
        self.stack.store(stack.map_or(std::ptr::null_mut(), Stack::as_ptr), Ordering::Relaxed);
    }

    /// Where it was spawned.
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        // SAFETY: null or a `'static` location.
        unsafe { self.spawned_at.load(Ordering::Relaxed).as_ref() }
    }

    /// A place of one line of the cache, for the record of the one wait that a G can be in. It is the running G's own, and
    /// stays its own, or its waker's, until the wait is over; like all of a G it is never freed. Waits of many
    /// goroutines at one place so lie side by side in memory, and not each on a page of its own, as on their stacks.
    #[inline]
    pub fn wait_place(&self) -> *mut [usize; INLINE] {
        // While user code runs the closure has been taken out, and the result is not there yet.
        self.body.get().cast()
    }

    /// True if its closure may borrow: then a wait of it can become void (`proc::deadlock`), and every wait of it is one that
    /// wakers claim with [`G::win_select`].
    #[inline]
    pub fn may_borrow(&self) -> bool {
        self.bound.get() != Bound::Free
    }

    /// Starts a wait that only one of several wakers may end. Called by the G itself before any of them knows it.
    #[inline]
    pub fn begin_select(&self) {
        // Relaxed: published by the lock under which the wakers find this G.
        self.param.store(std::ptr::null_mut(), Ordering::Relaxed);
        self.select_done.store(0, Ordering::Relaxed);
    }

    /// A waker's claim on a G that waits for several things. True: the caller, and nobody else, must ready it.
    #[inline]
    pub fn win_select(&self) -> bool {
        // ORDERING: Relaxed is enough for the choice itself; what the winner writes for the woken travels with
        // `goready`, and every loser finds its own sudog gone under its own lock.
        self.select_done.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// True if somebody has won it, at some moment.
    #[inline]
    pub fn select_is_won(&self) -> bool {
        // Relaxed: as in `win_select`.
        self.select_done.load(Ordering::Relaxed) != 0
    }

    /// Leaves a word for the woken. The caller owns the right to ready it.
    #[inline]
    pub fn set_param(&self, param: *mut ()) {
        // Relaxed: ordered by `goready`.
        self.param.store(param, Ordering::Relaxed);
    }

    /// The word that the waker left, still there for [`G::take_param`].
    #[inline]
    pub fn peek_param(&self) -> *mut () {
        self.param.load(Ordering::Relaxed)
    }

    /// Takes the word that the waker left. Called by the woken G.
    #[inline]
    pub fn take_param(&self) -> *mut () {
        let p = self.param.load(Ordering::Relaxed);
        self.param.store(std::ptr::null_mut(), Ordering::Relaxed);
        p
    }

    /// A random number below `n`. Called by the G itself.
    #[inline]
    pub fn cheaprand_below(&self, n: usize) -> usize {
        (((self.cheaprand() >> 32) * n as u64) >> 32) as usize
    }

    /// A random number. Called by the G itself.
    #[inline]
    pub fn cheaprand(&self) -> u64 {
        // A Weyl sequence, started at the G's own address, through the finisher of splitmix64.
        let x = self.rng.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.rng.set(x);
        let mut z = x ^ crate::sync::salt(self);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Says that it will be readied or run soon.
    #[inline]
    pub fn prefetch(&self) {
        crate::sync::prefetch(self);
    }

    /// Says that its body will be looked at soon, and what it is.
    #[inline]
    pub(crate) fn prefetch_body(&self) {
        crate::sync::prefetch_to_write(&self.body);
        crate::sync::prefetch_to_write(&self.vtable);
    }

    /// Says that it will be made a new goroutine soon.
    #[inline]
    pub(crate) fn prefetch_all(&self) {
        crate::sync::prefetch_to_write(self);
        self.prefetch_body();
    }

    /// Where a plain thread sleeps and is woken.
    #[inline]
    pub(crate) fn note(&self) -> &Note {
        &self.note
    }
}

/// Moves a G from one status to the next. The caller owns it in the old one (I1).
#[inline]
pub fn casgstatus(gp: &G, old: Status, new: Status) {
    // Relaxed: the caller owns it.
    let found = gp.status.load(Ordering::Relaxed);
    if found != old as u8 {
        bad_status(gp, old, new);
    }
    // ORDERING: Release, pairs with the Acquire in `status` (I1).
    gp.status.store(new as u8, Ordering::Release);
}

#[cold]
#[inline(never)]
fn bad_status(gp: &G, old: Status, new: Status) -> ! {
    crate::throw!("goroutine {} moves from {old:?} to {new:?} but is {:?}", gp.id(), gp.status())
}

/// Runs what the G has to run from the root of its stack.
///
/// # Safety
///
/// Called on the G's own stack, which nothing else is on.
#[cfg(not(loom))]
pub(crate) unsafe fn run_body(gp: &'static G) {
    let vtable = gp.vtable.get().expect("a goroutine has a body");
    // SAFETY: the phase says which of the two the body holds, and we are on its stack.
    unsafe {
        match gp.phase.get() {
            Phase::Unstarted => (vtable.run)(gp),
            Phase::HasResult => (vtable.drop_result)(gp),
            Phase::Started | Phase::AtAddress | Phase::Empty => {
                crate::throw!("goroutine {} has nothing to run", gp.id())
            }
        }
    }
}
