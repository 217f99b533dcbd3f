//! The beginning and the end of a goroutine: [`try_spawn`] (Go's `newproc`), `goexit`, and the [`Goroutine`] that joins it.
//!
//! **Body.** A closure of up to eight words lies in the G itself, a larger one in a box; its result takes the same
//! place. So a spawn is a G from the P's free list and a push, without an allocation.
//!
//! **Join.** One word in the G, shared by the goroutine's end and its handle:
//!
//! ```text
//!   RUNNING --goexit--> DONE            the handle reads the result, and frees the G
//!   RUNNING --drop----> DETACHED        goexit frees the G; the result is dropped on the goroutine's stack
//!   RUNNING --join----> address of the joining G --goexit--> DONE, and the joiner is readied
//!   RUNNING, or a joiner's address --shutdown--> ABANDONED, and the joiner is readied; nobody frees the G
//!   the same --deadlock--> DEADLOCKED, as ABANDONED
//! ```
//!
//! J1: `goexit` exchanges the word on g0, when the goroutine is off its stack and the stack unbound. Whoever then finds
//! DONE owns the G alone, and may free it for reuse.
//!
//! J2: User code (the drop of a closure or a result) never runs on g0 of a living scheduler. If a handle goes after
//! the goroutine has left its result and before `goexit`, the goroutine is resumed once more to drop it.
//!
//! J3: What the goroutine wrote is seen by who joins it: Release in the exchange, Acquire in the joiner's look.

use super::deadlock::{begin_wait, may_ready};
use super::park::{getg, preempt_check, systemstack};
use super::pin;
use super::wake::{HeldP, inject_new, ready_from_g0, runqput};
use crate::config::PanicPolicy;
use crate::fork;
use crate::g::{BodyVtable, Bound, G, GoroutineId, INLINE, Phase, Rare, Status, WaitReason, casgstatus};
use crate::gpool;
use crate::local;
use crate::m::M;
use crate::memory::{self, Short};
use crate::p::{P, bump};
use crate::panics;
use crate::runq::Gp;
use crate::sched::{OPEN, Sched};
use crate::stack::{Stack, class, pool};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::per_process;
use crate::throw::report;
use std::any::Any;
use std::io;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit, align_of, size_of};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr;

const RUNNING: usize = 0;
const DONE: usize = 1;
const DETACHED: usize = 2;
pub(super) const ABANDONED: usize = 3;
pub(super) const DEADLOCKED: usize = 4;

/// What a join of a goroutine says that its runtime took away.
const SHUT_DOWN: &str = "the goroutine's runtime was shut down";

/// What a join says of a result that there was no memory for.
const LOST: &str = "no memory for the goroutine's result";

/// What a join of a main goroutine gives that waits for what never comes (`deadlock`).
#[derive(Debug)]
pub struct Deadlocked;

/// Goroutine numbers that a P takes at once, as in Go.
const GOID_BATCH: u64 = 16;
per_process! {
    static NEXT_GOID: AtomicU64 = AtomicU64::new(1);
}

/// How a goroutine is spawned.
#[derive(Debug, Default)]
pub struct Options {
    /// For reports.
    pub name: Option<Box<str>>,
    /// Usable bytes of stack; the scheduler's setting if `None`.
    pub stack_size: Option<usize>,
    /// What the closure may borrow from. The panic of a main goroutine is not reported, it will be raised again on the caller.
    pub bound: Bound,
    /// Of a main goroutine: the number of its `run`. It has a name.
    pub run: u64,
    /// Of a scoped goroutine: the main one that it is under.
    pub under: Option<&'static G>,
}

/// What a goroutine leaves.
type Outcome<T> = std::thread::Result<T>;

/// Starts a goroutine.
///
/// # Errors
///
/// - `InvalidInput` when the stack size is out of range;
/// - `OutOfMemory` when there can be no stack for it, or no memory; the message names the limit.
///
/// # Panics
///
/// When the scheduler has been shut down.
///
/// # Safety
///
/// `me` is the caller. What `f` borrows lives until the goroutine has ended, on whatever way the caller is left; `f`
/// and its result may be used on another thread than the caller's.
#[track_caller]
#[inline]
pub unsafe fn try_spawn<F, T>(
    me: &'static G,
    sched: &'static Sched,
    options: Options,
    f: F,
) -> io::Result<Goroutine<T>>
where
    F: FnOnce() -> T,
{
    let class = match options.stack_size {
        None => sched.stack_class,
        Some(size) => class::class_of(size).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?,
    };
    assert!(
        sched.state.load(Ordering::Acquire) == OPEN,
        "cannot start a goroutine: its runtime has been shut down"
    );
    let held = HeldP::of(me, sched);
    let here = held.as_ref().map(HeldP::p);
    if here.is_none() {
        // Before the first lock, which somebody may have held who is not in the child.
        fork::check();
    }
    let parts = prepare(sched, here, class, options)?;
    // SAFETY: the caller is a goroutine on the M that holds this P; for the rest, its promise.
    let goroutine = unsafe { newproc(here, true, sched, class, parts, Location::caller(), f) };
    drop(held);
    // One that does nothing but spawn would else keep its P, or go on without one, for as long as it likes.
    preempt_check(me);
    Ok(goroutine)
}

/// Starts a goroutine for a timer, with the P that the caller holds or without one; next, or at the tail. It has no handle.
///
/// # Errors
///
/// When there can be no stack for it, or no memory, or the scheduler takes no goroutines any more; with the data.
pub(super) fn spawn_at<D, F>(
    here: Option<&'static P>,
    next: bool,
    sched: &'static Sched,
    at: &'static Location<'static>,
    data: D,
    f: F,
) -> Result<(), D>
where
    D: Send + 'static,
    F: FnOnce(D) + Send + 'static,
{
    let class = sched.stack_class;
    if sched.state.load(Ordering::Acquire) != OPEN {
        return Err(data);
    }
    let Ok(parts) = prepare(sched, here, class, Options::default()) else { return Err(data) };
    // SAFETY: the caller holds the P; the function borrows nothing and may go anywhere.
    drop(unsafe { newproc(here, next, sched, class, parts, at, move || f(data)) });
    Ok(())
}

/// The start of a goroutine (Go's `newproc1`), which runs next on this P, or is put at its tail.
///
/// # Safety
///
/// The caller's M holds the P `here`, and keeps it, and a stack has been admitted. For `f` as for [`try_spawn`].
#[inline]
unsafe fn newproc<F, T>(
    here: Option<&'static P>,
    next: bool,
    sched: &'static Sched,
    class: u8,
    parts: Parts<F>,
    at: &'static Location<'static>,
    f: F,
) -> Goroutine<T>
where
    F: FnOnce() -> T,
{
    let Parts { gp, boxed, rare, options } = parts;
    let id = match here {
        // SAFETY: the caller is a goroutine on the M that holds this P; nothing switches stacks in the block.
        Some(pp) => unsafe {
            let owned = pp.owned();
            if owned.goids.0 == owned.goids.1 {
                // Relaxed: only uniqueness counts.
                let first = NEXT_GOID.fetch_add(GOID_BATCH, Ordering::Relaxed);
                owned.goids = (first, first + GOID_BATCH);
            }
            owned.goids.0 += 1;
            owned.goids.0 - 1
        },
        None => NEXT_GOID.fetch_add(1, Ordering::Relaxed),
    };
    // The G is Idle and ours until it is put into a queue. Relaxed throughout: the queue publishes it.
    gp.id.store(id, Ordering::Relaxed);
    gp.sched.store(ptr::from_ref(sched).cast_mut(), Ordering::Relaxed);
    gp.spawned_at.store(ptr::from_ref(at).cast_mut(), Ordering::Relaxed);
    gp.join.store(RUNNING, Ordering::Relaxed);
    gp.stack_class.set(class);
    gp.bound.set(options.bound);
    gp.panic_aborts.set(sched.config.panic_policy == PanicPolicy::Abort);
    gp.wired.set(false);
    gp.locks.set(0);
    gp.pins.set(0);
    gp.in_syscall.store(false, Ordering::Relaxed);
    gp.set_name(rare);
    if options.bound == Bound::Scope {
        gp.under.set(options.under);
    }
    gp.vtable.set(Some(&Body::<F, T>::VTABLE));
    // SAFETY: the G is ours, and its body holds nothing.
    unsafe { put_body(gp, boxed, f) };
    gp.phase.set(Phase::Unstarted);
    casgstatus(gp, Status::Idle, Status::Runnable);
    match here {
        Some(pp) => {
            bump(&pp.counts.spawned);
            runqput(sched, pp, Gp(gp), next);
        }
        None => {
            sched.spawned_outside.fetch_add(1, Ordering::Release);
            inject_new(sched, Gp(gp));
        }
    }
    Goroutine { gp, result: PhantomData }
}

/// What a goroutine of closure `F` is made of: had before anything is changed.
struct Parts<F> {
    /// Idle, and ours.
    gp: &'static G,
    boxed: Boxed<F>,
    rare: Option<Box<Rare>>,
    /// Without the name.
    options: Options,
}

impl<F> Parts<F> {
    /// The caller holds the P, if there is one.
    #[inline]
    fn new(here: Option<&'static P>, mut options: Options) -> Result<Parts<F>, Short> {
        let boxed = boxed("a goroutine's closure")?;
        let rare = match options.name.take() {
            Some(name) => Some(Rare::named(name, options.run)?),
            None => None,
        };
        // Last: it need not be given back.
        let gp = match here {
            // SAFETY: the caller is a goroutine on the M that holds this P; nothing switches stacks in the call.
            Some(pp) => unsafe { pp.owned().gcache.get()? },
            None => gpool::get_shared()?,
        };
        Ok(Parts { gp, boxed, rare, options })
    }
}

/// [`admit`], and the parts.
#[inline]
fn prepare<F>(
    sched: &'static Sched,
    here: Option<&'static P>,
    class: u8,
    options: Options,
) -> io::Result<Parts<F>> {
    admit(sched, here, class)?;
    Parts::new(here, options).map_err(|short| no_parts(here, class, short))
}

#[cold]
#[inline(never)]
fn no_parts(here: Option<&'static P>, class: u8, short: Short) -> io::Error {
    systemstack(|| match here {
        // SAFETY: the caller is a goroutine on the M that holds this P.
        Some(pp) => unsafe { pp.owned().stacks.dismiss(class) },
        None => pool::dismiss_shared(class),
    });
    short.into()
}

/// Lets a new goroutine have a stack later. The caller holds the P, if there is one.
#[inline]
fn admit(sched: &'static Sched, here: Option<&'static P>, class: u8) -> io::Result<()> {
    // SAFETY: the caller's M holds the P.
    if here.is_some_and(|pp| unsafe { pp.owned().stacks.admit_cached(class) }) {
        return Ok(());
    }
    admit_slow(sched, here, class)
}

#[cold]
#[inline(never)]
fn admit_slow(sched: &'static Sched, here: Option<&'static P>, class: u8) -> io::Result<()> {
    let ask = || match here {
        // SAFETY: the caller is a goroutine on the M that holds this P.
        Some(pp) => unsafe { pp.owned().stacks.admit(class) },
        None => pool::admit_shared(class),
    };
    systemstack(|| {
        ask().or_else(|_| {
            // What idle Ps keep is given back first.
            // SAFETY: nobody holds an idle P, or can get hold of it while it is visited.
            sched.idle.visit(|p| unsafe { sched.allp[p].owned().stacks.give_all() });
            ask()
        })
    })
}

/// True if a value lies in the G itself.
const fn fits<V>() -> bool {
    size_of::<V>() <= INLINE * size_of::<usize>() && align_of::<V>() <= align_of::<usize>()
}

/// The place of a value that does not fit.
type Boxed<V> = Option<Box<MaybeUninit<V>>>;

/// A place for a value, if it does not fit.
#[inline]
fn boxed<V>(what: &'static str) -> Result<Boxed<V>, Short> {
    if fits::<V>() { Ok(None) } else { memory::try_box_for(what).map(Some) }
}

/// Moves a value into the body.
///
/// # Safety
///
/// The caller owns the G, and its body holds nothing. The place comes from [`boxed`].
#[inline]
unsafe fn put_body<V>(gp: &G, place: Boxed<V>, v: V) {
    let at = gp.body.get();
    // SAFETY: the body is large and aligned enough for what fits, and for a pointer.
    unsafe {
        match place {
            Some(place) if !fits::<V>() => at.cast::<*mut V>().write(Box::into_raw(Box::write(place, v))),
            _ => at.cast::<V>().write(v),
        }
    }
}

/// Leaves the outcome of the goroutine, which runs. If it does not fit and there is no memory for it, it is dropped, and the
/// body says so.
///
/// # Safety
///
/// As for [`put_body`].
#[inline]
unsafe fn put_outcome<T>(gp: &'static G, outcome: Outcome<T>) {
    match boxed("a goroutine's result") {
        // SAFETY: the caller's promise.
        Ok(place) => unsafe { put_body(gp, place, outcome) },
        Err(short) => {
            drop_caught(gp, outcome);
            report(format_args!("gort: the result of goroutine {} is lost: {short}", gp.id()));
            // SAFETY: the caller's promise; it holds a pointer, as it does not fit.
            unsafe { gp.body.get().cast::<*mut Outcome<T>>().write(ptr::null_mut()) };
        }
    }
}

/// Takes what [`put_outcome`] has left out of the body.
///
/// # Safety
///
/// The caller owns the G, which is in phase HasResult.
#[inline]
unsafe fn take_outcome<T>(gp: &G) -> Outcome<T> {
    // SAFETY: the caller's promise: a pointer, if it does not fit.
    if !fits::<Outcome<T>>() && unsafe { gp.body.get().cast::<*mut Outcome<T>>().read() }.is_null() {
        return Err(Box::new(LOST));
    }
    // SAFETY: the caller's promise.
    unsafe { take_body(gp) }
}

/// Moves the value out of the body.
///
/// # Safety
///
/// The caller owns the G, and its body holds a `V` that [`put_body`] put there.
#[inline]
unsafe fn take_body<V>(gp: &G) -> V {
    let at = gp.body.get();
    // SAFETY: the caller's promise.
    unsafe { if fits::<V>() { at.cast::<V>().read() } else { *Box::from_raw(at.cast::<*mut V>().read()) } }
}

/// The functions for goroutines of closure `F` with result `T`.
struct Body<F, T>(PhantomData<(F, T)>);

impl<F: FnOnce() -> T, T> Body<F, T> {
    const VTABLE: BodyVtable =
        BodyVtable { run: Self::run, drop_unstarted: Self::drop_unstarted, drop_result: Self::drop_result };

    /// # Safety
    ///
    /// On the G's own stack, in phase Unstarted.
    unsafe fn run(gp: &'static G) {
        // SAFETY: the phase says that the closure is there, and the goroutine owns its G.
        let f: F = unsafe { take_body(gp) };
        gp.phase.set(Phase::Started);
        let outcome: Outcome<T> = catch_unwind(AssertUnwindSafe(f));
        if let Err(payload) = &outcome {
            panicked(gp, &**payload);
        }
        // ORDERING: Acquire, pairs with the Release of a handle that went away.
        if gp.join.load(Ordering::Acquire) == DETACHED {
            drop_caught(gp, outcome);
            end_locals(gp);
            gp.phase.set(Phase::Empty);
        } else {
            end_locals(gp);
            // SAFETY: the closure has been taken out.
            unsafe { put_outcome(gp, outcome) };
            gp.phase.set(Phase::HasResult);
        }
    }

    /// # Safety
    ///
    /// The caller owns the G, which is in phase Unstarted.
    unsafe fn drop_unstarted(gp: &'static G) {
        // SAFETY: the phase says that the closure is there.
        let f: F = unsafe { take_body(gp) };
        gp.phase.set(Phase::Empty);
        drop_caught(gp, f);
    }

    /// # Safety
    ///
    /// On the G's own stack, in phase HasResult, when no handle is left.
    unsafe fn drop_result(gp: &'static G) {
        // SAFETY: the phase says that the result is there.
        let outcome: Outcome<T> = unsafe { take_outcome(gp) };
        gp.phase.set(Phase::Empty);
        drop_caught(gp, outcome);
        end_locals(gp);
    }
}

/// Drops the goroutine's local variables, at its root, with nothing of a wait or a result in its body.
fn end_locals(gp: &'static G) {
    let stack = gp.stack().expect("it runs on its stack");
    if !stack.locals().get().is_null() {
        local::end(stack.locals(), |value| drop_caught(gp, value));
    }
}

/// Drops a value at the root of a goroutine, where a panic has nowhere to go.
fn drop_caught<V>(gp: &'static G, v: V) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(v))) {
        panicked(gp, &*payload);
        // A payload whose own drop panics is not worth a third try.
        let _ = ManuallyDrop::new(payload);
    }
}

/// A panic has come to the goroutine's root.
#[cold]
#[inline(never)]
fn panicked(gp: &'static G, payload: &(dyn Any + Send)) {
    panics::write(gp, payload);
    panics::told(gp);
    if gp.panic_aborts.get() && gp.bound.get() != Bound::Main {
        panics::finish();
        // SAFETY: _exit runs no handlers; Go's exit status for a panic.
        unsafe { libc::_exit(2) };
    }
}

/// True while the calling goroutine unwinds, and the process ends when it has.
pub fn ends_the_process() -> bool {
    std::thread::panicking()
        && super::current().is_some_and(|gp| gp.panic_aborts.get() && gp.bound.get() != Bound::Main)
}

/// Reports a panic of the calling goroutine that was caught below its root, as one that was not.
pub fn report_panic(payload: &(dyn Any + Send)) {
    panicked(getg(), payload);
}

/// The end of a goroutine that has left its stack for good (J1). Runs on g0; the G is Dead and ours. True: it must
/// run once more, to drop its result (J2).
pub(super) fn goexit(mp: &'static M, gp: &'static G) -> bool {
    let sched = gp.sched().expect("a goroutine has a scheduler");
    let pp = mp.try_p();
    // ORDERING: Acquire, as in `run`.
    let mut state = gp.join.load(Ordering::Acquire);
    if state == DETACHED && gp.phase.get() == Phase::HasResult {
        return true;
    }
    let stack = gp.stack().expect("it has just left its stack");
    gp.set_stack(None);
    let class = stack.class();
    stack.bind(None);
    loop {
        if state == DETACHED {
            if gp.phase.get() == Phase::HasResult {
                // The handle went a moment ago.
                stack.bind(Some(gp));
                gp.set_stack(Some(stack));
                return true;
            }
            finished(sched, pp);
            casgstatus(gp, Status::Dead, Status::Idle);
            match pp {
                // SAFETY: this M holds the P; nobody else knows the G.
                Some(pp) => unsafe { pp.owned().gcache.put(gp) },
                None => gpool::put_shared(gp),
            }
            put_stack(pp, stack, class);
            return false;
        }
        // Counted before the word says so: who has joined it no longer finds it counted as alive.
        finished(sched, pp);
        // ORDERING: Release for the result and the count (J3), Acquire for what a joiner left.
        match gp.join.compare_exchange(state, DONE, Ordering::AcqRel, Ordering::Acquire) {
            Ok(RUNNING) => break,
            Ok(joiner) => {
                // SAFETY: a joining G put its address there, and parked; the exchange gave us the right to ready it.
                let joiner = unsafe { &*(joiner as *const G) };
                if may_ready(joiner) {
                    ready_from_g0(sched, pp, joiner, true);
                }
                break;
            }
            Err(now) => {
                not_finished(sched, pp);
                state = now;
            }
        }
    }
    put_stack(pp, stack, class);
    false
}

/// Counts a goroutine as ended: on the P that the M holds, or, if that was taken, beside.
fn finished(sched: &'static Sched, pp: Option<&'static P>) {
    match pp {
        Some(pp) => bump(&pp.counts.finished),
        None => _ = sched.finished_outside.fetch_add(1, Ordering::Release),
    }
}

/// Takes back a [`finished`] that came too early.
fn not_finished(sched: &'static Sched, pp: Option<&'static P>) {
    match pp {
        Some(pp) => {
            let counter = &pp.counts.finished;
            counter.store(counter.load(Ordering::Relaxed) - 1, Ordering::Release);
        }
        None => _ = sched.finished_outside.fetch_sub(1, Ordering::Release),
    }
}

/// Gives a free stack back, and its admission.
fn put_stack(pp: Option<&'static P>, stack: Stack, class: u8) {
    match pp {
        // SAFETY: this M holds the P.
        Some(pp) => unsafe {
            pp.owned().stacks.put(stack);
            pp.owned().stacks.dismiss(class);
        },
        None => {
            pool::put_shared(stack);
            pool::dismiss_shared(class);
        }
    }
}

/// Drops a goroutine that never ran, closure and all; its joiner gets an error. The caller took it out of a queue of
/// a scheduler that has stopped.
pub(super) fn drop_unstarted(gp: &'static G) {
    let sched = gp.sched().expect("a goroutine has a scheduler");
    let vtable = gp.vtable.get().expect("a goroutine has a body");
    // SAFETY: it is in phase Unstarted, and ours.
    unsafe { (vtable.drop_unstarted)(gp) };
    systemstack(|| pool::dismiss_shared(gp.stack_class.get()));
    casgstatus(gp, Status::Runnable, Status::Dead);
    sched.finished_outside.fetch_add(1, Ordering::Release);
    // ORDERING: as in `goexit`.
    match gp.join.swap(DONE, Ordering::AcqRel) {
        RUNNING => {}
        DETACHED => free(gp),
        // SAFETY: a joining G put its address there, and parked; the exchange gave us the right to ready it.
        joiner => unsafe { ready_joiner(joiner) },
    }
}

/// Readies the G that joins, unless its wait is void.
///
/// # Safety
///
/// `joiner` is the address of a G that a join has left, and the caller has the right to ready it.
unsafe fn ready_joiner(joiner: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let joiner = &*(joiner as *const G);
        if may_ready(joiner) {
            super::park::goready(joiner);
        }
    }
}

/// Tells whoever joins it, now or later, that a goroutine will not end any more. Its scheduler has stopped and no M is
/// left in it, or all that could wake it is gone, so it cannot end meanwhile. `why` is ABANDONED or DEADLOCKED.
pub(super) fn abandon(gp: &'static G, why: usize) {
    let mut state = gp.join.load(Ordering::Acquire);
    while ![DETACHED, DONE, ABANDONED, DEADLOCKED].contains(&state) {
        // ORDERING: as in `goexit`.
        match gp.join.compare_exchange(state, why, Ordering::AcqRel, Ordering::Acquire) {
            Ok(RUNNING) => return,
            // SAFETY: as in `drop_unstarted`.
            Ok(joiner) => return unsafe { ready_joiner(joiner) },
            Err(now) => state = now,
        }
    }
}

/// Gives a Dead G back that nobody else knows.
fn free(gp: &'static G) {
    casgstatus(gp, Status::Dead, Status::Idle);
    // Any P's cache will do; the G's own scheduler may be gone.
    match getg().sched().and_then(HeldP::current) {
        // SAFETY: the caller is a goroutine on the M that holds this P.
        Some(held) => unsafe { held.p().owned().gcache.put(gp) },
        None => gpool::put_shared(gp),
    }
}

/// The one handle to a goroutine and its result. Dropping it detaches the goroutine.
#[derive(Debug)]
pub struct Goroutine<T> {
    gp: &'static G,
    result: PhantomData<T>,
}

// SAFETY: a handle gives the result, a T, to the one thread that joins; all else in it is atomic.
unsafe impl<T: Send> Send for Goroutine<T> {}
// SAFETY: through a shared handle only atomics can be read.
unsafe impl<T: Send> Sync for Goroutine<T> {}

impl<T> Goroutine<T> {
    /// Its number.
    pub fn id(&self) -> GoroutineId {
        self.gp.id()
    }

    /// True once it has ended: then [`Goroutine::join`] does not block. An abandoned one never has.
    pub fn is_finished(&self) -> bool {
        // ORDERING: Acquire (J3).
        self.gp.join.load(Ordering::Acquire) == DONE
    }

    /// Waits until it has ended; what it returned, or the panic that ended it.
    ///
    /// # Errors
    ///
    /// The payload of the goroutine's panic; a message, if its runtime was shut down before it ended.
    #[track_caller]
    pub fn join(self) -> Outcome<T> {
        self.wait(WaitReason::Join)
    }

    /// [`Goroutine::join`] of the main goroutine of a `run`.
    ///
    /// # Errors
    ///
    /// As [`Goroutine::join`]; or [`Deadlocked`].
    #[track_caller]
    pub fn join_main(self) -> Outcome<T> {
        self.wait(WaitReason::Run)
    }

    #[track_caller]
    fn wait(self, reason: WaitReason) -> Outcome<T> {
        let this = ManuallyDrop::new(self);
        let gp = this.gp;
        if !this.is_finished() {
            let me = getg();
            if !pin::may_park(me) {
                // The handle is gone; the goroutine goes on without it.
                drop(ManuallyDrop::into_inner(this));
                pin::refuse(me);
            }
            begin_wait(me);
            // SAFETY: `joining` lets exactly one waker know, the end of `gp`, or calls the park off.
            unsafe { super::gopark(me, Some(joining), ptr::from_ref(gp).cast_mut().cast(), reason) };
            debug_assert_eq!(me.status(), Status::Running);
        }
        // ORDERING: Acquire (J3).
        match gp.join.load(Ordering::Acquire) {
            ABANDONED => return Err(Box::new(SHUT_DOWN)),
            DEADLOCKED => return Err(Box::new(Deadlocked)),
            _ => {}
        }
        let outcome = match gp.phase.get() {
            // SAFETY: DONE makes the G ours (J1), and the phase says that the result is there.
            Phase::HasResult => unsafe { take_outcome(gp) },
            _ => Err(Box::new(SHUT_DOWN) as Box<dyn Any + Send>),
        };
        gp.phase.set(Phase::Empty);
        free(gp);
        outcome
    }
}

/// The commit of a join: leaves the joiner's address, unless the goroutine has ended meanwhile.
///
/// # Safety
///
/// `gp` is the G to be joined, by its only handle.
unsafe fn joining(me: &'static G, gp: *mut ()) -> bool {
    // SAFETY: G memory is never freed.
    let gp = unsafe { &*gp.cast::<G>() };
    let me = ptr::from_ref(me) as usize;
    // ORDERING: Release: the one who readies us sees us parked. Acquire if it has ended (J3).
    gp.join.compare_exchange(RUNNING, me, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

impl<T> Drop for Goroutine<T> {
    fn drop(&mut self) {
        let gp = self.gp;
        // ORDERING: Release: what the handle's holder did comes before the drop of the result. Acquire (J3).
        if let Err(state) = gp.join.compare_exchange(RUNNING, DETACHED, Ordering::AcqRel, Ordering::Acquire) {
            if state == ABANDONED || state == DEADLOCKED {
                return;
            }
            // DONE: the G is ours.
            if gp.phase.get() == Phase::HasResult {
                // SAFETY: the phase says that the result is there.
                let outcome: Outcome<T> = unsafe { take_outcome(gp) };
                gp.phase.set(Phase::Empty);
                // A panic in it is the goroutine's, not the caller's: it could as well have ended later.
                drop_caught(gp, outcome);
            }
            free(gp);
        }
    }
}
