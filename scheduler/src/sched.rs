//! [`Sched`]: one scheduler, a value. Its Ps, its queues, and how it begins and ends.
//!
//! A scheduler is leaked while it runs, so that Gs, Ms and Ps can name each other with `'static` references, and is
//! freed by `proc::shutdown` when nothing can name it any more: its owner has ended it, every M has left, sysmon has ended,
//! no caller from elsewhere is still inside (`Visit`), and no goroutine is abandoned in it. Whoever leaves last frees it,
//! however late that is; with an abandoned goroutine it stays leaked. A G that has ended may still hold the address, and
//! compares it at most ([`G::runs_on`](crate::g::G::runs_on)).

use crate::config::{Config, ConfigError, MAX_PROCS, OtherThreads};
use crate::cxx;
use crate::fork;
use crate::gate::Gate;
use crate::globq::GlobQueue;
use crate::idle::Idle;
use crate::keeper::Keeper;
use crate::m::{self, M};
use crate::memory::{self, Short};
use crate::p::AllP;
use crate::panics;
use crate::proc::shutdown;
use crate::proc::sysmon::{self, Sysmon};
use crate::proc::systemstack;
use crate::stack::class;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Spinning, membarrier, per_process};
use crate::visitors::Visitors;
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use std::io;
use std::ptr;

/// Takes new goroutines.
pub(crate) const OPEN: u8 = 0;
/// Refuses new goroutines, lets the old ones finish.
pub(crate) const CLOSING: u8 = 1;
/// Runs nothing any more.
pub(crate) const STOPPED: u8 = 2;

/// A scheduler; see the module.
pub struct Sched {
    pub(crate) config: Config,
    pub(crate) stack_class: u8,
    pub(crate) allp: AllP,
    /// The global queue: what comes from plain threads, what overflows a local queue, what was preempted.
    pub(crate) globq: CachePadded<GlobQueue>,
    pub(crate) idle: CachePadded<Idle<&'static M>>,
    pub(crate) keeper: CachePadded<Keeper<M>>,
    pub(crate) sysmon: Sysmon,
    /// On a line of its own: every waker looks whether the one that it serves can go on (`proc::shutdown`).
    pub(crate) state: CachePadded<AtomicU8>,
    /// One of its own goroutines has ended it, and sysmon does the rest. Written before the state.
    pub(crate) orphaned: AtomicBool,
    /// Ms that serve this scheduler, or are on their way to it.
    pub(crate) attached: AtomicU32,
    /// Those Ms.
    pub(crate) ms: Spinning<Vec<&'static M>>,
    /// Callers of `run` whose main goroutine has not ended.
    pub(crate) nmains: AtomicU32,
    /// Ms that have retired from it (`proc::locked`) and whose threads sleep for ever.
    pub(crate) nretired: AtomicU32,
    /// Ms of `attached` that sleep because the goroutine that has them for itself waits.
    pub(crate) nlocked_asleep: AtomicU32,
    /// Ms whose P was taken because their goroutine ran for too long, and that have not come back.
    pub(crate) nhogs: AtomicU32,
    /// The system has given no thread since sysmon last looked.
    pub(crate) refused: AtomicBool,
    /// One caller at a time changes the number of Ps.
    pub(crate) resizing: Gate<bool>,
    /// When a P last sat out (`proc::crowd`).
    pub(crate) sat_out: AtomicU64,
    /// Who uses it beside its Ms; see [`Visit`].
    visitors: CachePadded<Visitors>,
    /// Goroutines that began or ended without a P, beside the Ps' own counts: spawned by plain threads, say, or dropped
    /// before they ran.
    pub(crate) spawned_outside: CachePadded<AtomicU64>,
    pub(crate) finished_outside: CachePadded<AtomicU64>,
}

/// Schedulers that may be started at the same time, with room in lists for all of them.
const AHEAD: usize = 8;

/// The schedulers of the process, but those that everybody has left.
static ALL: Mutex<Vec<&'static Sched>> = Mutex::new(Vec::new());

/// Calls `f` with the list of schedulers; none of them is freed meanwhile. In a model the list is empty: it would outlive
/// the execution, and nobody needs it there.
pub(crate) fn with_all<R>(f: impl FnOnce(&mut Vec<&'static Sched>) -> R) -> R {
    if cfg!(shuttle) {
        return f(&mut Vec::new());
    }
    f(&mut ALL.lock())
}

/// [`with_all`] for who may have been called with the list: `None` if somebody has it.
pub(crate) fn try_with_all<R>(f: impl FnOnce(&mut Vec<&'static Sched>) -> R) -> Option<R> {
    if cfg!(shuttle) {
        return None;
    }
    ALL.try_lock().map(|mut all| f(&mut all))
}

impl std::fmt::Debug for Sched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sched").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Sched {
    /// Starts a scheduler, with the threads that it cannot do without: the template, sysmon and one M. More
    /// start when there is work.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when a setting is out of range; the system's when it gives no thread, naming the
    /// limits; `OutOfMemory` when there is no memory.
    pub fn start(mut config: Config) -> io::Result<&'static Sched> {
        let invalid = |e: ConfigError| io::Error::new(io::ErrorKind::InvalidInput, e);
        config.check().map_err(invalid)?;
        config.other_threads.get_or_insert_with(OtherThreads::from_env);
        let (n, order) = (config.max_procs, config.random_order);
        membarrier::prepare();
        fork::prepare();
        panics::prepare();
        systemstack(|| {
            cxx::look_for_runtime();
            m::have_one(&config.thread_name)
        })?;
        let allp = AllP::new(MAX_PROCS)?;
        allp.make(n, order)?;
        with_all(|all| {
            all.try_reserve(AHEAD).map_err(|_| Short::of("a runtime", AHEAD * size_of::<&Sched>()))?;
            shutdown::reserve(all.len() + AHEAD)
        })?;
        let sched = Sched {
            stack_class: class::class_of(config.stack_size)
                .map_err(|e| invalid(ConfigError::StackSize(e)))?,
            config,
            allp,
            globq: CachePadded::new(GlobQueue::with_room()?),
            idle: CachePadded::new(Idle::try_new(n)?),
            keeper: CachePadded::default(),
            sysmon: Sysmon::new(),
            state: CachePadded::new(AtomicU8::new(OPEN)),
            orphaned: AtomicBool::new(false),
            attached: AtomicU32::new(0),
            ms: Spinning::new(Vec::new()),
            nmains: AtomicU32::new(0),
            nretired: AtomicU32::new(0),
            nlocked_asleep: AtomicU32::new(0),
            nhogs: AtomicU32::new(0),
            refused: AtomicBool::new(false),
            resizing: Gate::new(false),
            sat_out: AtomicU64::new(0),
            visitors: CachePadded::default(),
            spawned_outside: CachePadded::default(),
            finished_outside: CachePadded::default(),
        };
        let sched: &'static Sched =
            Box::leak(memory::try_box("a runtime", sched).map_err(|(short, _)| short)?);
        if let Err(e) = sysmon::start(sched) {
            // SAFETY: it was leaked above, and the thread that would have known it never began.
            systemstack(|| drop(unsafe { Box::from_raw(ptr::from_ref(sched).cast_mut()) }));
            return Err(e);
        }
        with_all(|all| {
            memory::grow("the list of runtimes", all, 1);
            all.push(sched);
        });
        Ok(sched)
    }

    /// How many Ps take part (`GOMAXPROCS`). Changed by `proc::procresize`.
    pub fn max_procs(&self) -> usize {
        self.idle.limit()
    }

    /// The setting.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// True once nothing runs any more; every M looks before it runs a goroutine.
    #[inline]
    pub fn stopped(&self) -> bool {
        // ORDERING: Acquire; what matters is that an M that goes to sleep sees it (`proc::shutdown`).
        self.state.load(Ordering::Acquire) == STOPPED
    }

    /// The caller, who is none of the scheduler's Ms, uses it until this is dropped.
    #[inline]
    pub(crate) fn visit(&'static self) -> Visit {
        self.visitors.enter();
        Visit(self)
    }

    /// True if somebody visited it at some moment.
    pub(crate) fn is_visited(&self) -> bool {
        self.visitors.any()
    }

    /// The owner does not use the scheduler any more. True: it may be the last, and frees it ([`shutdown::free_those_left`]).
    #[must_use]
    pub(crate) fn let_go(&self) -> bool {
        self.visitors.let_go()
    }

    /// True once the owner, all Ms, sysmon and all visitors have left.
    pub(crate) fn all_have_left(&self) -> bool {
        // The visitors last: who gives up another hold does so during a visit, which is seen then, or its end is.
        self.attached.load(Ordering::Acquire) == 0 && self.sysmon.is_gone() && self.visitors.have_left()
    }

    /// A `run` begins; it ends when what this gives is dropped.
    pub fn begin_run(&'static self) -> Running {
        self.nmains.fetch_add(1, Ordering::Relaxed);
        // Relaxed: only that it is unique and higher counts.
        Running { sched: self, number: NEXT_RUN.fetch_add(1, Ordering::Relaxed) }
    }

    /// How many goroutines exist: spawned and not finished. Exact when none is being spawned or finishing.
    pub fn num_goroutines(&self) -> usize {
        // Finished before spawned, so that a goroutine that passes by meanwhile is counted, not missed.
        // ORDERING: Acquire, pairs with the Release in `bump`.
        let finished: u64 = self.allp.iter().map(|p| p.counts.finished.load(Ordering::Acquire)).sum::<u64>()
            + self.finished_outside.load(Ordering::Acquire);
        let spawned: u64 = self.allp.iter().map(|p| p.counts.spawned.load(Ordering::Acquire)).sum::<u64>()
            + self.spawned_outside.load(Ordering::Acquire);
        spawned.saturating_sub(finished) as usize
    }
}

/// A use of a scheduler by somebody who is none of its Ms (a plain thread, another scheduler's goroutine, sysmon), or by an M
/// that is just leaving. A goroutine that is put into a queue may run and end, and its scheduler be shut down, before
/// the caller that put it there is through; the visit keeps the scheduler from being freed.
#[derive(Debug)]
pub(crate) struct Visit(&'static Sched);

impl Drop for Visit {
    #[inline]
    fn drop(&mut self) {
        if self.0.visitors.leave() {
            shutdown::free_those_left();
        }
    }
}

/// How many schedulers the process has, but those that everybody has left.
#[doc(hidden)]
pub fn count() -> usize {
    with_all(|all| all.len())
}

per_process! {
    static NEXT_RUN: AtomicU64 = AtomicU64::new(1);
}

/// A `run` that has not ended.
#[derive(Debug)]
pub struct Running {
    sched: &'static Sched,
    number: u64,
}

impl Running {
    /// Unique in the process; later ones are higher.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.sched.nmains.fetch_sub(1, Ordering::Relaxed);
    }
}
