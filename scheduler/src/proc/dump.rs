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
//! does not stay off its stack for as long as a look takes. Go prints equal goroutines one by one, and does not say how much of
//! its stack each has needed: its stacks grow.

use super::park::systemstack;
use crate::g::{G, GoroutineId, Status};
use crate::gpool;
use crate::sema;
use crate::stack::arena::{locate, stack_end};
use crate::stack::class::{GUARD, usable};
use crate::stack::record::Record;
use crate::stack::{current_head, mapping};
use crate::symbols::{Map, Symbols};
use crate::sync::atomic::Ordering;
use crate::throw::Text;
use crate::time::clock::Nanos;
use crate::unwind::{self, MAX_FRAMES, Parked, Unwinder};
use std::collections::BinaryHeap;
use std::fmt::{self, Write};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr;

/// Goroutines of a group that are listed, each with a first line of its own if these are all.
const LISTED: usize = 10;
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

/// The first line of many goroutines: how many, what they do, and the first of their numbers.
struct Heading<'a> {
    count: usize,
    state: &'static str,
    minutes: u32,
    name: Option<&'a str>,
    ids: &'a [u64],
}

impl fmt::Display for Heading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} goroutines [{}", self.count, self.state)?;
        if self.minutes > 0 {
            write!(f, ", {} minutes", self.minutes)?;
        }
        f.write_str("]")?;
        self.name.map_or(Ok(()), |name| write!(f, " {name:?}"))?;
        f.write_str(":")?;
        self.ids.iter().enumerate().try_for_each(|(i, id)| {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma} {id}")
        })?;
        if self.ids.len() < self.count { f.write_str(", ...") } else { Ok(()) }
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

/// Writes the goroutines in no order and without stacks, and collects nothing first: only those that look the same and come one
/// after the other are put together.
fn list(out: &mut dyn fmt::Write) {
    let mut run = Run::default();
    gpool::for_each(|gp| {
        if let Some(info) = info(gp) {
            if !run.takes(&info) {
                run.write(out);
                run = Run::default();
            }
            run.add(info);
        }
    });
    run.write(out);
}

/// Goroutines that look the same and come one after the other.
#[derive(Default)]
struct Run {
    first: Option<GoroutineInfo>,
    ids: [u64; LISTED],
    count: usize,
}

impl Run {
    fn takes(&self, info: &GoroutineInfo) -> bool {
        self.first.as_ref().is_none_or(|first| {
            (first.state, &first.name, first.spawned_at) == (info.state, &info.name, info.spawned_at)
        })
    }

    fn add(&mut self, info: GoroutineInfo) {
        if let Some(place) = self.ids.get_mut(self.count) {
            *place = info.id.0;
        }
        self.count += 1;
        self.first.get_or_insert(info);
    }

    fn write(&self, out: &mut dyn fmt::Write) {
        let Some(first) = &self.first else { return };
        let ids = &self.ids[..self.count.min(LISTED)];
        let lines = |text: &mut dyn fmt::Write| {
            first_lines(text, ids, self.count, first.state, 0, first.name.as_deref())?;
            if let Some(at) = first.spawned_at {
                writeln!(text, "\tspawned at {at}")?;
            }
            text.write_char('\n')
        };
        // In one piece, so that goroutines and what other threads write do not mix; if there is memory for one.
        let mut text = Text::default();
        let _ = match lines(&mut text) {
            Ok(()) => out.write_str(&text.0),
            Err(fmt::Error) => lines(out),
        };
    }
}

/// Writes the first lines of `count` goroutines that look the same, `ids` the first of them.
fn first_lines(
    text: &mut dyn fmt::Write,
    ids: &[u64],
    count: usize,
    state: &'static str,
    minutes: u32,
    name: Option<&str>,
) -> fmt::Result {
    if count > LISTED {
        return writeln!(text, "{}", Heading { count, state, minutes, name, ids });
    }
    ids.iter().try_for_each(|&id| writeln!(text, "{}", Header { id: GoroutineId(id), state, minutes, name }))
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
    holder: Option<Holder>,
    spawned_at: Option<&'static Location<'static>>,
}

/// Who has the lock that a goroutine waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Goroutine(u64, Option<String>),
    /// The one that waits.
    Itself,
    Thread,
}

impl Holder {
    fn of(gp: &'static G, holder: sema::Holder) -> Option<Holder> {
        match holder {
            sema::Holder::Goroutine(holder) if ptr::eq(holder, gp) => Some(Holder::Itself),
            sema::Holder::Goroutine(holder) => info(holder).map(|i| Holder::Goroutine(i.id.0, i.name)),
            sema::Holder::Thread => Some(Holder::Thread),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Goroutine(id, None) => write!(f, "goroutine {id}"),
            Holder::Goroutine(id, Some(name)) => write!(f, "goroutine {id} {name:?}"),
            Holder::Itself => f.write_str("this goroutine itself"),
            Holder::Thread => f.write_str("a plain thread"),
        }
    }
}

/// How much of a stack has memory: what was needed of it, by the goroutine or by those that had it before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Water {
    used: usize,
    of: usize,
}

impl Water {
    fn of(gp: &'static G) -> Option<Water> {
        let (class, slot) = locate(gp.stack()?.as_ptr() as usize)?;
        let end = stack_end(slot.start)?;
        let lowest = mapping::lowest_page(&(slot.start + GUARD..slot.end))?;
        Some(Water { used: end.saturating_sub(lowest), of: usable(class) })
    }
}

#[derive(Debug, Default)]
struct Group {
    /// The smallest numbers, [`LISTED`] at most.
    ids: BinaryHeap<u64>,
    /// All of them.
    count: usize,
    /// That of the deepest stack.
    water: Option<Water>,
}

impl Group {
    fn add(&mut self, id: GoroutineId, water: Option<Water>) {
        self.count += 1;
        self.water = self.water.max(water);
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
    groups: Vec<(Vec<u64>, Group, Key)>,
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
        // Its record is of this frame, which stays as well: one that is left is overwritten by what is called next.
        let here = Record::here();
        let own = current_head().map(|gp| (gp, here));
        systemstack(|| {
            let mut capture = Capture {
                own,
                now: Nanos::now().seconds(),
                unwinder: Unwinder::new(),
                pcs: Vec::with_capacity(MAX_FRAMES),
                stacks: Map::default(),
                locks: Map::default(),
                groups: Map::default(),
            };
            gpool::for_each(|gp| capture.add(gp));
            capture.finish()
        })
    }

    /// The text of the next goroutines that look the same: their first lines, the stack, where they were spawned, an empty
    /// line. `None` when all have been.
    pub fn next_piece(&mut self) -> Option<String> {
        let Some((ids, group, key)) = self.groups.pop() else {
            return self.stranded.take();
        };
        Some(systemstack(|| self.text(&ids, &group, &key)))
    }

    fn text(&mut self, ids: &[u64], group: &Group, key: &Key) -> String {
        let mut text = String::new();
        let _ = first_lines(&mut text, ids, group.count, key.state, key.minutes, key.name.as_deref());
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
        if let Some(holder) = &key.holder {
            let _ = writeln!(text, "\tlock held by {holder}");
        }
        if let Some(at) = key.spawned_at {
            let _ = writeln!(text, "\tspawned at {at}");
        }
        if let Some(Water { used, of }) = group.water {
            let _ = writeln!(text, "\tstack high water {} KiB of {} KiB", used.div_ceil(1024), of / 1024);
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
    /// The locks that were looked at, by address.
    locks: Map<usize, Option<sema::Holder>>,
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
            let holder = sema::holder(gp, &mut self.locks).and_then(|holder| Holder::of(gp, holder));
            let key = Key { state, minutes, name, trace, holder, spawned_at };
            self.groups.entry(key).or_default().add(id, Water::of(gp));
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
        let sorted = |(key, mut group): (Key, Group)| {
            let ids = std::mem::take(&mut group.ids).into_sorted_vec();
            (ids, group, key)
        };
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
    fn many_have_one_first_line() {
        let ids: Vec<u64> = (1..=LISTED as u64).collect();
        let heading =
            |minutes, name| Heading { count: 2000, state: "chan send", minutes, name, ids: &ids }.to_string();
        let numbers = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...";
        assert_eq!(heading(0, None), format!("2000 goroutines [chan send]: {numbers}"));
        let named = heading(5, Some("a"));
        assert_eq!(named, format!("2000 goroutines [chan send, 5 minutes] \"a\": {numbers}"));
    }

    #[test]
    fn a_list_puts_neighbours_together() {
        let info = |id, state| GoroutineInfo { id: GoroutineId(id), state, name: None, spawned_at: None };
        let mut run = Run::default();
        for id in 1..=12 {
            assert!(run.takes(&info(id, "sleep")));
            run.add(info(id, "sleep"));
        }
        assert!(!run.takes(&info(13, "join")));
        let mut text = String::new();
        run.write(&mut text);
        assert_eq!(text, "12 goroutines [sleep]: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...\n\n");
    }

    #[test]
    fn a_group_keeps_its_smallest_numbers() {
        let mut group = Group::default();
        for id in (1..=1000).rev().chain(2000..2010) {
            group.add(GoroutineId(id), None);
        }
        assert_eq!(group.count, 1010);
        assert_eq!(group.ids.into_sorted_vec(), (1..=LISTED as u64).collect::<Vec<_>>());
    }
}
