//! The list of goroutines as Go prints it, with their stacks.
//!
//! 1. [`Dump::capture`] looks at one goroutine after the other, and walks the stacks of those that are off it (`unwind`).
//!    What it keeps is a group for all that look the same, and each different stack once, as numbers: a million goroutines
//!    that wait in one place take no more room than a hundred.
//! 2. [`Dump::next_piece`] makes text of one group at a time, with names for the numbers (`symbols`).
//!
//! Each goroutine is shown as it was at some moment of the first step; they go on meanwhile. Both steps run off the
//! goroutine's stack; what is done with the pieces does not, so it may park.
//!
//! **Differs from Go**, which stops the world: a goroutine that runs on another thread has no stack to show, nor has one that
//! does not stay off its stack for as long as a look takes. Go prints equal goroutines one by one.

use super::park::systemstack;
use crate::g::{G, GoroutineId, Status};
use crate::gpool;
use crate::stack::current_head;
use crate::stack::record::Record;
use crate::symbols::{Map, Symbols};
use crate::sync::atomic::Ordering;
use crate::time::clock::Nanos;
use crate::unwind::{self, MAX_FRAMES, Parked, Unwinder};
use std::collections::BinaryHeap;
use std::fmt::{self, Write};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr;

/// Goroutines of a group that are listed one by one.
const LISTED: usize = 100;
/// Looks at a goroutine that does not stay where it is.
const TRIES: usize = 4;
/// What [`last_words`] wants to have of memory before it tries for stacks.
const ROOM: usize = 32 << 20;

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
        write!(f, "{}", Header { id: self.id, state: self.state, minutes: 0, name: self.name.as_deref() })?;
        if let Some(at) = self.spawned_at {
            write!(f, "\n\tspawned at {at}")?;
        }
        Ok(())
    }
}

/// A goroutine's first line.
struct Header<'a> {
    id: GoroutineId,
    state: &'static str,
    minutes: u32,
    name: Option<&'a str>,
}

impl fmt::Display for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "goroutine {} [{}", self.id, self.state)?;
        if self.minutes > 0 {
            write!(f, ", {} minutes", self.minutes)?;
        }
        f.write_str("]:")?;
        self.name.map_or(Ok(()), |name| write!(f, " {name:?}"))
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
    // A plain thread has no scheduler. Relaxed: only whether there is one.
    if gp.sched.load(Ordering::Relaxed).is_null() {
        return None;
    }
    Some(GoroutineInfo { id: gp.id(), state, name: gp.name(), spawned_at: gp.spawned_at() })
}

/// All goroutines of the process, each as it was at some moment of the call.
pub fn goroutines() -> Vec<GoroutineInfo> {
    let mut all = Vec::new();
    gpool::for_each(|gp| all.extend(info(gp)));
    all.sort_by_key(|g| g.id);
    all
}

/// Writes the goroutines one by one, in no order and without stacks, and collects nothing first.
fn list(out: &mut dyn fmt::Write) {
    gpool::for_each(|gp| {
        if let Some(info) = info(gp) {
            // In one piece, so that goroutines and what other threads write do not mix.
            let _ = out.write_str(&format!("{info}\n\n"));
        }
    });
}

/// Writes all goroutines of the process with their stacks, as far as the writer goes along.
pub fn dump(out: &mut dyn fmt::Write) {
    write_all(Dump::capture(), out);
}

fn write_all(mut dump: Dump, out: &mut dyn fmt::Write) {
    while let Some(piece) = dump.next_piece() {
        if out.write_str(&piece).is_err() {
            return;
        }
    }
}

/// [`dump`] when the process ends for want of something: if that is memory, there are no stacks.
pub(crate) fn last_words(out: &mut dyn fmt::Write) {
    let room = Vec::<u8>::new().try_reserve_exact(ROOM).is_ok();
    if room { dump(out) } else { list(out) }
}

/// What is known of a goroutine's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Trace {
    /// That of this number.
    Stack(u32),
    Running,
    NotStarted,
    /// It did not stay.
    Moved,
    /// There is none to be read.
    Unknown,
}

/// All that goroutines of one group have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    state: &'static str,
    minutes: u32,
    name: Option<String>,
    trace: Trace,
    spawned_at: Option<&'static Location<'static>>,
}

#[derive(Debug, Default)]
struct Group {
    /// The smallest numbers, [`LISTED`] at most.
    ids: BinaryHeap<u64>,
    /// All of them.
    count: usize,
}

impl Group {
    fn add(&mut self, id: GoroutineId) {
        self.count += 1;
        if self.ids.len() < LISTED {
            self.ids.push(id.0);
        } else if let Some(mut largest) = self.ids.peek_mut().filter(|largest| **largest > id.0) {
            *largest = id.0;
        }
    }
}

/// The goroutines of the process as they were, to be made text of; see the module.
#[derive(Debug)]
pub struct Dump {
    /// By their smallest numbers, the last one first.
    groups: Vec<(Vec<u64>, usize, Key)>,
    stacks: Vec<Box<[usize]>>,
    symbols: Symbols,
    /// What is said of goroutines whose thread is blocked (`stranded`).
    stranded: Option<String>,
}

impl Dump {
    /// Looks at all goroutines.
    #[inline(never)]
    pub fn capture() -> Dump {
        // The calling goroutine's own stack stays as it is while it waits for what runs on g0.
        let own = current_head().map(|gp| (gp, Record::here()));
        systemstack(|| {
            let mut capture = Capture {
                own,
                now: Nanos::now().seconds(),
                unwinder: Unwinder::new(),
                pcs: Vec::with_capacity(MAX_FRAMES),
                stacks: Map::default(),
                groups: Map::default(),
            };
            gpool::for_each(|gp| capture.add(gp));
            capture.finish()
        })
    }

    /// The text of the next goroutines that look the same: their first lines, the stack, where they were spawned, an empty
    /// line. `None` when all have been.
    pub fn next_piece(&mut self) -> Option<String> {
        let Some((ids, count, key)) = self.groups.pop() else {
            return self.stranded.take();
        };
        Some(systemstack(|| self.text(&ids, count, &key)))
    }

    fn text(&mut self, ids: &[u64], count: usize, key: &Key) -> String {
        let mut text = String::new();
        for &id in ids {
            let name = key.name.as_deref();
            let header = Header { id: GoroutineId(id), state: key.state, minutes: key.minutes, name };
            let _ = writeln!(text, "{header}");
        }
        match key.trace {
            Trace::Stack(n) => {
                let pcs = &self.stacks[n as usize];
                self.symbols.write_stack(pcs, &mut text);
                if pcs.len() == MAX_FRAMES {
                    text.push_str("...additional frames elided...\n");
                }
            }
            Trace::Running => {
                text.push_str("\tgoroutine running on another thread; stack unavailable\n");
            }
            Trace::NotStarted => text.push_str("\tgoroutine has not started\n"),
            Trace::Moved => text.push_str("\tgoroutine ran meanwhile; stack unavailable\n"),
            Trace::Unknown => text.push_str("\tstack unavailable\n"),
        }
        if let Some(at) = key.spawned_at {
            let _ = writeln!(text, "\tspawned at {at}");
        }
        if count > ids.len() {
            let more = count - ids.len();
            let _ = writeln!(text, "\t... and {more} more goroutines with this stack, {count} in all");
        }
        text.push('\n');
        text
    }
}

/// A dump that is being made.
struct Capture {
    /// The caller, if it is a goroutine, and where it is.
    own: Option<(&'static G, Record)>,
    now: u32,
    unwinder: Unwinder,
    /// The stack that is being looked at.
    pcs: Vec<usize>,
    /// Each different stack, and its number.
    stacks: Map<Box<[usize]>, u32>,
    groups: Map<Key, Group>,
}

impl Capture {
    /// Looks at a goroutine until it is the same before and after, or has gone on too often.
    fn add(&mut self, gp: &'static G) {
        for tries in 1..=TRIES {
            let parked = unwind::parked(gp);
            let Some(info) = info(gp) else { return };
            let found = if self.own.is_some_and(|(me, _)| ptr::eq(me, gp)) {
                Some((self.own_trace(), 0))
            } else if let Some(parked) = parked {
                let (trace, since) = self.parked_trace(&parked);
                parked.still(gp).then_some((trace, since.map_or(0, |s| self.now.saturating_sub(s) / 60)))
            } else {
                match (info.state, gp.stack()) {
                    ("running" | "syscall", _) => Some((Trace::Running, 0)),
                    ("runnable", None) => Some((Trace::NotStarted, 0)),
                    _ => None,
                }
            };
            let (trace, minutes) = match found {
                Some(found) => found,
                None if tries == TRIES => (Trace::Moved, 0),
                None => continue,
            };
            let GoroutineInfo { id, state, name, spawned_at } = info;
            self.groups.entry(Key { state, minutes, name, trace, spawned_at }).or_default().add(id);
            return;
        }
    }

    fn own_trace(&mut self) -> Trace {
        let Some((_, record)) = self.own else { return Trace::Unknown };
        unwind::own_stack(&record).map_or(Trace::Unknown, |stack| self.walk(&record, &stack))
    }

    /// The stack of a goroutine that is off it, and since when it waits, if it does.
    fn parked_trace(&mut self, parked: &Parked) -> (Trace, Option<u32>) {
        let Some((record, stack)) = parked.record() else { return (Trace::Unknown, None) };
        (self.walk(&record, &stack), parked.waits().then_some(record.since as u32))
    }

    /// The number of a stack.
    fn walk(&mut self, record: &Record, stack: &Range<usize>) -> Trace {
        self.pcs.clear();
        let (unwinder, pcs) = (&mut self.unwinder, &mut self.pcs);
        // The tables are those of whatever is loaded.
        let walked = catch_unwind(AssertUnwindSafe(|| unwinder.walk(record, stack, pcs)));
        if walked.is_err() || self.pcs.is_empty() {
            return Trace::Unknown;
        }
        let next = self.stacks.len() as u32;
        if let Some(&number) = self.stacks.get(self.pcs.as_slice()) {
            return Trace::Stack(number);
        }
        self.stacks.insert(self.pcs.as_slice().into(), next);
        Trace::Stack(next)
    }

    fn finish(self) -> Dump {
        let mut stacks = vec![Box::default(); self.stacks.len()];
        self.stacks.into_iter().for_each(|(pcs, number)| stacks[number as usize] = pcs);
        let sorted = |(key, group): (Key, Group)| (group.ids.into_sorted_vec(), group.count, key);
        let mut groups: Vec<_> = self.groups.into_iter().map(sorted).collect();
        groups.sort_by_key(|(ids, ..)| std::cmp::Reverse(ids[0]));
        Dump { groups, stacks, symbols: Symbols::default(), stranded: super::stranded::for_dump() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_line_is_as_gos() {
        let header =
            |minutes, name| Header { id: GoroutineId(7), state: "chan receive", minutes, name }.to_string();
        assert_eq!(header(0, None), "goroutine 7 [chan receive]:");
        assert_eq!(header(1, None), "goroutine 7 [chan receive, 1 minutes]:");
        assert_eq!(header(5, Some("a \"b\"")), r#"goroutine 7 [chan receive, 5 minutes]: "a \"b\"""#);
    }

    #[test]
    fn a_group_keeps_its_smallest_numbers() {
        let mut group = Group::default();
        for id in (1..=1000).rev().chain(2000..2010) {
            group.add(GoroutineId(id));
        }
        assert_eq!(group.count, 1010);
        assert_eq!(group.ids.into_sorted_vec(), (1..=LISTED as u64).collect::<Vec<_>>());
    }
}
