//! [`M`]: an OS thread that runs goroutines.
//!
//! An M belongs to a scheduler while it runs its goroutines, and to the process-wide pool of sleeping Ms between two
//! schedulers. What its thread has in memory is never freed while the process lives: code that kept the address of one of its
//! thread-locals over a park would otherwise touch freed memory. `M`s are leaked for the same reason. So threads do not end;
//! the thread of an M that retires (`proc::locked`) ends for the kernel alone ([`os::leave_behind`]).
//!
//! An M runs on its own stack (**g0**) while it looks for work, and on a goroutine's stack while it runs one.

use crate::g::G;
use crate::handoff::{Entered, Handoff};
use crate::home::Home;
use crate::idle::Spinner;
use crate::keeper::Watch;
use crate::memory::{self, Short};
use crate::note::Note;
use crate::os;
use crate::p::P;
use crate::proc::Commit;
use crate::proc::crowd::Met;
use crate::runq::Gp;
use crate::sched::Sched;
use crate::stack::record::Record;
use crate::stack::{Switch, overflow};
use crate::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::sync::per_process;
use crate::template::{self, Begun};
use crate::threads::Ours;
use parking_lot::Mutex;
use std::cell::Cell;
use std::io;
use std::mem::ManuallyDrop;
use std::ptr;

/// A function to be called on g0, and its argument.
pub(crate) type OnG0 = (unsafe fn(*mut ()), *mut ());

/// What an M is given beside a P.
#[derive(Debug, Default)]
pub(crate) enum Errand {
    /// Nothing: it has its own reasons.
    #[default]
    None,
    /// It has been counted as a spinner.
    Spin(Spinner),
    /// This goroutine first; whether it goes on in the time slice of the one before it.
    Run(Gp, bool),
}

/// An OS thread; see the module. Its ends share no line with what is of others.
#[repr(align(64))]
pub struct M {
    /// Its thread, once that has begun.
    pub(crate) tid: AtomicI32,
    /// Where it sleeps, idle or in the pool.
    pub(crate) note: Note,
    /// The P that it holds; null while it has none. Written by the M in the runtime, read by who wants to take it.
    p: AtomicPtr<P>,
    /// The scheduler that it serves. Written and read by the M's own thread.
    pub(crate) sched: Cell<Option<&'static Sched>>,
    /// How the P is taken from it while its goroutine runs.
    pub(crate) handoff: Handoff,
    /// The goroutine that has it for itself (Go's `lockedg`), null if none has. Written by the M's own thread, and counted by others.
    pub(crate) lockedg: AtomicPtr<G>,
    /// Where that one is put when it is ready.
    pub(crate) locked: Home<Gp>,
    /// Goroutines that have started here and stay here (`Migration::Never`).
    pub(crate) nhome: Cell<usize>,
    /// A goroutine has ended while it had the M locked: it serves its own goroutines only, and then nobody any more.
    pub(crate) retires: Cell<bool>,
    /// `lockedg` is not null, or it retires: what the M looks at before each goroutine.
    pub(crate) exclusive: Cell<bool>,
    /// The P that its waker gives it: what a sleeping M waits for. Written last by the waker (Release), taken by the
    /// M (Acquire); a wake-up of the note without it means nothing.
    nextp: AtomicPtr<P>,
    /// What it is woken for. Written by the waker before `nextp`.
    errand: Cell<Errand>,
    /// There may be something in `errand`: it was given a P and has not looked yet.
    woken: Cell<bool>,
    /// What an M in the pool waits for. Handed over as `nextp` is.
    nextsched: AtomicPtr<Sched>,
    /// Goroutines that run here and nowhere else.
    pub(crate) home: Home<Gp>,
    /// As [`Watch`] has it.
    until: AtomicU64,
    /// What goes with a switch to g0 (Go's `waitunlockf`, `waitlock`). Written by the G, read on g0, same thread.
    pub(crate) waitunlockf: Cell<Option<Commit>>,
    pub(crate) waitlock: Cell<*mut ()>,
    /// Why it left its stack, as `Switch::OnG0` has it: a function and its argument.
    pub(crate) on_g0: Cell<Option<OnG0>>,
    /// It stole what stood still the last time that it looked (`find_runnable`). The M's own.
    pub(crate) lucky: Cell<bool>,
    /// How it got on with others lately. The M's own.
    pub(crate) met: Cell<Met>,
    rng: Cell<u64>,
}

// SAFETY: the cells belong to the M's own thread (a G that runs on it included, since it is the same thread), except
// `errand` and `woken`, which the one waker that took the M out of a list writes before `nextp`, and the M reads after it.
unsafe impl Sync for M {}

impl std::fmt::Debug for M {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("M").finish_non_exhaustive()
    }
}

impl Watch for M {
    fn until(&self) -> &AtomicU64 {
        &self.until
    }
}

impl PartialEq for M {
    fn eq(&self, other: &M) -> bool {
        ptr::eq(self, other)
    }
}

per_process! {
    static NEXT_SEED: AtomicU32 = AtomicU32::new(1);
}

impl M {
    fn new() -> M {
        let seed = u64::from(NEXT_SEED.fetch_add(1, Ordering::Relaxed));
        M {
            tid: AtomicI32::new(0),
            note: Note::new(),
            p: AtomicPtr::new(ptr::null_mut()),
            sched: Cell::new(None),
            handoff: Handoff::new(),
            lockedg: AtomicPtr::new(ptr::null_mut()),
            locked: Home::default(),
            nhome: Cell::new(0),
            retires: Cell::new(false),
            exclusive: Cell::new(false),
            nextp: AtomicPtr::new(ptr::null_mut()),
            errand: Cell::new(Errand::None),
            woken: Cell::new(false),
            nextsched: AtomicPtr::new(ptr::null_mut()),
            home: Home::default(),
            until: AtomicU64::new(0),
            waitunlockf: Cell::new(None),
            waitlock: Cell::new(ptr::null_mut()),
            on_g0: Cell::new(None),
            lucky: Cell::new(false),
            met: Cell::new(Met::default()),
            rng: Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        }
    }

    /// The P that this M holds. Called on the M's thread, in the runtime, while it has one.
    #[inline]
    pub(crate) fn p(&self) -> &'static P {
        self.try_p().expect("an M without a P runs something that needs one")
    }

    /// The P that this M holds, if any. Called on the M's thread, in the runtime.
    #[inline]
    pub(crate) fn try_p(&self) -> Option<&'static P> {
        // Relaxed: this thread's own.
        // SAFETY: set by `set_p`, and Ps outlive the Ms that hold them (`sched`).
        unsafe { self.p.load(Ordering::Relaxed).as_ref() }
    }

    /// Whether it holds this P, as somebody else sees it (`handoff`, H2).
    pub(crate) fn seems_to_hold(&self, pp: &P) -> bool {
        ptr::eq(self.p.load(Ordering::Relaxed), pp)
    }

    /// Changes the P that this M holds. Called on the M's thread, in the runtime.
    pub(crate) fn set_p(&self, pp: Option<&'static P>) {
        // Relaxed: published by `Handoff::exit`.
        self.p.store(pp.map_or(ptr::null_mut(), |pp| ptr::from_ref(pp).cast_mut()), Ordering::Relaxed);
    }

    /// Comes into the runtime. Then it has its P, or, if that was taken, none.
    #[inline]
    pub(crate) fn enter(&self) {
        match self.handoff.enter() {
            Entered::Kept => {}
            Entered::Asked => self.share(),
            Entered::Lost { hog } => self.lost_p(hog),
        }
    }

    /// A thief could not borrow the P.
    #[cold]
    #[inline(never)]
    fn share(&self) {
        if let Some(pp) = self.try_p() {
            pp.share_for_a_while();
        }
    }

    #[cold]
    #[inline(never)]
    fn lost_p(&self, hog: bool) {
        debug_assert!(self.try_p().is_some(), "only who has a P can lose it");
        self.set_p(None);
        if hog && let Some(sched) = self.sched.get() {
            sched.nhogs.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Gives a sleeping M a P. The caller has taken the M out of the list that it slept in, and wakes it after this.
    pub(crate) fn set_nextp(&self, pp: &'static P, errand: Errand) {
        self.errand.set(errand);
        self.woken.set(true);
        // ORDERING: Release, pairs with the Acquire in `take_nextp`.
        self.nextp.store(ptr::from_ref(pp).cast_mut(), Ordering::Release);
    }

    /// The P that a waker gave, if one did. Called on the M's thread.
    pub(crate) fn take_nextp(&self) -> Option<&'static P> {
        // ORDERING: Acquire, pairs with the Release in `set_nextp`.
        // SAFETY: null or a P of this M's scheduler.
        unsafe { self.nextp.swap(ptr::null_mut(), Ordering::Acquire).as_ref() }
    }

    /// What the M was woken for, once. Called on the M's thread, after [`M::take_nextp`].
    #[inline]
    pub(crate) fn take_errand(&self) -> Errand {
        if self.woken.get() {
            self.woken.set(false);
            return self.errand.take();
        }
        Errand::None
    }

    /// A random number (xorshift64*), for the choice of victims and the like.
    #[inline]
    pub(crate) fn cheaprand(&self) -> u32 {
        let mut x = self.rng.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.rng.set(x);
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// Suspends the goroutine that runs on this M, whose stack the caller is on.
    ///
    /// # Safety
    ///
    /// `gp` is that goroutine; what `why` needs is in the M's fields.
    #[inline(always)]
    pub(crate) unsafe fn switch_to_g0(gp: &'static G, why: Switch) {
        let stack = gp.stack().expect("a running goroutine has a stack");
        // Kept in this frame until the goroutine is back. A call on g0 needs none: the goroutine goes on running.
        let record;
        if why != Switch::OnG0 {
            record = Record::here();
            stack.leave(&record);
        }
        // SAFETY: we run on it.
        unsafe { stack.suspend(why) };
    }
}

/// Ms that no scheduler uses.
static POOL: Mutex<Vec<&'static M>> = Mutex::new(Vec::new());

/// Ms that the system has given no thread for.
static WITHOUT_THREAD: Mutex<Vec<&'static M>> = Mutex::new(Vec::new());

/// What is done where the system gives no thread: with the P, the errand and the reason.
pub(crate) type Refused = fn(&'static Sched, &'static P, Errand, io::Error);

/// Has an M work for `sched` with this P: one from the pool, or a new thread, from the template. If there is
/// none to be had, `refused` is called, on the template or by this call. Not to be called on a goroutine's
/// stack.
pub(crate) fn start_m(sched: &'static Sched, pp: &'static P, errand: Errand, refused: Refused) {
    let pooled = POOL.lock().pop();
    let mp = match pooled.map_or_else(new_m, Ok) {
        Ok(mp) => mp,
        Err(short) => return refused(sched, pp, errand, short.into()),
    };
    mp.set_nextp(pp, errand);
    // ORDERING: Release, pairs with the Acquire in `take_nextsched`.
    mp.nextsched.store(ptr::from_ref(sched).cast_mut(), Ordering::Release);
    if pooled.is_some() {
        mp.note.wakeup();
        return;
    }
    let no_thread = move |e| {
        let (pp, errand) = (mp.take_nextp().expect("it was given above"), mp.take_errand());
        mp.nextsched.store(ptr::null_mut(), Ordering::Relaxed);
        // Its thread never began, so nobody else knows it.
        WITHOUT_THREAD.lock().push(mp);
        refused(sched, pp, errand, e);
    };
    template::start(&sched.config.thread_name, move || mstart(mp), no_thread);
}

/// Sees to it that there is an M in the pool. Not to be called on a goroutine's stack.
///
/// # Errors
///
/// When the system gives no thread; names the limits.
pub(crate) fn have_one(name: &str) -> io::Result<()> {
    // In a model Ms end with their scheduler.
    if cfg!(shuttle) || !POOL.lock().is_empty() {
        return Ok(());
    }
    let mp = new_m()?;
    let begins = move |begun: Begun| {
        POOL.lock().push(mp);
        begun.tell();
        mstart(mp);
    };
    template::start_and_wait(name, begins).inspect_err(|_| WITHOUT_THREAD.lock().push(mp))
}

/// One that no thread has.
///
/// # Errors
///
/// When there is no memory.
fn new_m() -> Result<&'static M, Short> {
    const WHAT: &str = "an OS thread";
    /// How many there are.
    static MADE: AtomicUsize = AtomicUsize::new(0);
    if cfg!(shuttle) {
        return Ok(Box::leak(Box::new(M::new())));
    }
    if let Some(left) = WITHOUT_THREAD.lock().pop() {
        return Ok(left);
    }
    // Whoever puts one into a list allocates nothing, as long as few are made at the same time.
    let most = MADE.load(Ordering::Relaxed) + 8;
    for list in [&POOL, &WITHOUT_THREAD] {
        let mut list = list.lock();
        let more = most.saturating_sub(list.len());
        list.try_reserve(more).map_err(|_| Short::of(WHAT, more * size_of::<&M>()))?;
    }
    let mp = memory::try_box(WHAT, M::new()).map_err(|(short, _)| short)?;
    MADE.fetch_add(1, Ordering::Relaxed);
    Ok(Box::leak(mp))
}

/// An M's thread: serves one scheduler after another, for ever.
fn mstart(mp: &'static M) {
    // Wake-ups at their time, not up to 50 microseconds later. Failing is no harm.
    // SAFETY: takes two numbers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    // Both until it retires.
    let alt_stacks = (!cfg!(shuttle)).then(overflow::prepare_m);
    let ours = ManuallyDrop::new(Ours::begin());
    mp.tid.store(os::gettid(), Ordering::Relaxed);
    loop {
        // ORDERING: Acquire, pairs with the Release in `start_m`.
        let sched = mp.nextsched.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: null, or a scheduler that waits for this M to attach (`sched`).
        if let Some(sched) = unsafe { sched.as_ref() } {
            crate::proc::schedule(sched, mp);
            if cfg!(shuttle) {
                // An execution is over when all its threads have ended.
                return;
            }
            if !mp.retires.get() {
                POOL.lock().push(mp);
            } else if os::CAN_LEAVE_BEHIND {
                os::block_signals();
                if let Some(all) = alt_stacks {
                    overflow::forget_m(all);
                }
                // The kernel may give its number to another thread.
                drop(ManuallyDrop::into_inner(ours));
                os::leave_behind();
            }
        } else {
            // One that has retired and cannot end sleeps here for ever.
            mp.note.sleep();
        }
    }
}
