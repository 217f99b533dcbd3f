//! The list of goroutines, as Go prints it, without stacks.

use crate::g::{G, GoroutineId, Status};
use crate::gpool;
use crate::sync::atomic::Ordering;
use std::fmt;
use std::panic::Location;

/// A goroutine at some moment.
#[derive(Clone, Debug)]
pub struct GoroutineInfo {
    /// Its number.
    pub id: GoroutineId,
    /// What it does: `running`, `runnable`, or why it waits.
    pub state: &'static str,
    /// Its name.
    pub name: Option<String>,
    /// Where it was spawned.
    pub spawned_at: Option<&'static Location<'static>>,
}

impl fmt::Display for GoroutineInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "goroutine {} [{}]:", self.id, self.state)?;
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        if let Some(at) = self.spawned_at {
            write!(f, "\n\tspawned at {at}")?;
        }
        Ok(())
    }
}

fn info(gp: &'static G) -> Option<GoroutineInfo> {
    let state = match gp.status() {
        Status::Idle | Status::Dead => return None,
        Status::Runnable => "runnable",
        Status::Running if gp.in_syscall.load(Ordering::Relaxed) => "syscall",
        Status::Running => "running",
        Status::Waiting => gp.wait_reason().as_str(),
    };
    // A plain thread has no scheduler.
    gp.sched()?;
    Some(GoroutineInfo { id: gp.id(), state, name: gp.name(), spawned_at: gp.spawned_at() })
}

/// All goroutines of the process, each as it was at some moment of the call.
pub fn goroutines() -> Vec<GoroutineInfo> {
    let mut all = Vec::new();
    gpool::for_each(|gp| all.extend(info(gp)));
    all.sort_by_key(|g| g.id);
    all
}

/// Writes the goroutines one by one, in no order, without collecting them first.
pub fn dump(out: &mut dyn fmt::Write) {
    gpool::for_each(|gp| {
        if let Some(info) = info(gp) {
            // In one piece, so that goroutines and what other threads write do not mix.
            let _ = out.write_str(&format!("{info}\n\n"));
        }
    });
}
