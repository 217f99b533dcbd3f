//! [`Sched`]: one scheduler, a value. Its Ps, its queues, its timers, and how it begins and ends.
//!
//! A scheduler is leaked while it runs, so that Gs, Ms and Ps can name each other with `'static` references, and is
//! freed by `proc::shutdown` when nothing can name it any more: every M has left, sysmon has ended, no caller from
//! elsewhere is still inside, and no goroutine is abandoned in it. If one of these does not hold it stays leaked. A G
//! that has ended may still hold the address, and compares it at most ([`G::runs_on`](crate::g::G::runs_on)).

use crate::config::{Config, ConfigError};
use crate::globq::GlobQueue;
use crate::idle::Idle;
use crate::keeper::Keeper;
use crate::m::M;
use crate::p::P;
use crate::proc::sysmon::Sysmon;
use crate::stack::class;
use crate::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use crate::time::Timers;
use crossbeam_utils::CachePadded;

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
    pub(crate) allp: Box<[P]>,
    /// The global queue: what comes from plain threads, what overflows a local queue, what was preempted.
    pub(crate) globq: CachePadded<GlobQueue>,
    pub(crate) idle: CachePadded<Idle<&'static M>>,
    pub(crate) timers: CachePadded<Timers>,
    pub(crate) keeper: CachePadded<Keeper<M>>,
    pub(crate) sysmon: Sysmon,
    pub(crate) state: AtomicU8,
    /// Ms that serve this scheduler, or are on their way to it.
    pub(crate) attached: AtomicU32,
    /// Callers from elsewhere (plain threads, other schedulers' goroutines) that are about to put a goroutine into the
    /// global queue, or to wake an M for it: it may have run and ended before they are through.
    pub(crate) visitors: AtomicU32,
    /// Goroutines spawned by plain threads, and unstarted ones dropped at the end; beside the Ps' own counts.
    pub(crate) spawned_outside: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

impl std::fmt::Debug for Sched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sched").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Sched {
    /// Starts a scheduler. Its Ms start when there is work.
    ///
    /// # Errors
    ///
    /// When a setting is out of range.
    pub fn start(config: Config) -> Result<&'static Sched, ConfigError> {
        config.check()?;
        let (n, order) = (config.max_procs, config.random_order);
        Ok(Box::leak(Box::new(Sched {
            stack_class: class::class_of(config.stack_size).map_err(ConfigError::StackSize)?,
            config,
            allp: (0..n).map(|id| P::new(id, order)).collect(),
            globq: CachePadded::default(),
            idle: CachePadded::new(Idle::new(n)),
            timers: CachePadded::new(Timers::new()),
            keeper: CachePadded::default(),
            sysmon: Sysmon::new(),
            state: AtomicU8::new(OPEN),
            attached: AtomicU32::new(0),
            visitors: AtomicU32::new(0),
            spawned_outside: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        })))
    }

    /// How many Ps it has.
    pub fn max_procs(&self) -> usize {
        self.allp.len()
    }

    /// The setting.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// True once nothing runs any more; every M looks before it runs a goroutine.
    #[inline]
    pub(crate) fn stopped(&self) -> bool {
        // ORDERING: Acquire; what matters is that an M that goes to sleep sees it (`proc::shutdown`).
        self.state.load(Ordering::Acquire) == STOPPED
    }

    /// How many goroutines exist: spawned and not finished. Exact when none is being spawned or finishing.
    pub fn num_goroutines(&self) -> usize {
        // Finished before spawned, so that a goroutine that passes by meanwhile is counted, not missed.
        // ORDERING: Acquire, pairs with the Release in `bump`.
        let finished: u64 = self.allp.iter().map(|p| p.counts.finished.load(Ordering::Acquire)).sum::<u64>()
            + self.dropped.load(Ordering::Acquire);
        let spawned: u64 = self.allp.iter().map(|p| p.counts.spawned.load(Ordering::Acquire)).sum::<u64>()
            + self.spawned_outside.load(Ordering::Acquire);
        spawned.saturating_sub(finished) as usize
    }
}
