//! Who has a lock, for reports.
//!
//! A lock is three bytes, in which there is no room for a name, and most locks are never waited for. So in builds with debug
//! assertions whoever takes a lock leaves a mark in a table beside: of which lock, and where the taker's stack pointer is. From
//! that a report finds the stack, and the goroutine on it (`stack::arena`). Locks of which two share a place in the table forget
//! the one that was taken before. Other builds know no holders: the table's lines would go from core to core with each lock.
//!
//! A mark outlives its goroutine if that ends without opening the lock (a guard that was forgotten). Then the report names
//! nobody, or a goroutine that has its stack now.
//!
//! Looking at a lock needs a proof that it is there: it is borrowed as long as a goroutine waits for it, and that can be told
//! under the lock of its queue (R2 of `root`).

use super::root::{Purpose, Sudog};
use super::{Mutex, RWMutex, mix, root_for};
use crate::g::{G, Status, WaitReason};
use crate::stack::arena;
use crate::symbols::Map;
use std::mem::offset_of;
use std::ptr;
// Never a model's: nobody decides anything by it.
use std::sync::atomic::{AtomicU64, Ordering};

/// Waits of a queue that are searched for one goroutine.
const SEARCHED: usize = 1000;

/// Who has a lock.
#[derive(Clone, Copy)]
pub(crate) enum Holder {
    Goroutine(&'static G),
    /// None of ours: it took the lock on a stack that is no goroutine's.
    Thread,
}

/// Places for marks. In the high half of each which lock it is of, in the low half a part of a stack pointer, all of it that
/// matters, as [`arena::with_mark`] knows.
static MARKS: [AtomicU64; 4096] = [const { AtomicU64::new(0) }; 4096];

/// The place of a lock's mark, and how the lock is told from others there.
fn place(lock: &Mutex) -> (&'static AtomicU64, u64) {
    let mixed = mix(ptr::from_ref(lock).cast());
    (&MARKS[mixed as usize % MARKS.len()], mixed >> 32)
}

/// The caller has taken the lock.
#[inline(always)]
pub(super) fn mark(lock: &Mutex) {
    if cfg!(debug_assertions) {
        let (place, lock) = place(lock);
        let page = (crate::stack::stack_pointer() >> arena::MARK_SHIFT) as u32;
        // Relaxed: nothing follows from it.
        place.store(lock << 32 | u64::from(page), Ordering::Relaxed);
    }
}

/// Who took this lock last, if that is known.
pub(super) fn of(lock: &Mutex) -> Option<Holder> {
    let (place, lock) = place(lock);
    let mark = place.load(Ordering::Relaxed);
    if mark >> 32 != lock || mark as u32 == 0 {
        return None;
    }
    match arena::with_mark(mark as u32) {
        Some(end) => crate::stack::g_at(end).map(Holder::Goroutine),
        None => Some(Holder::Thread),
    }
}

/// Who has the lock that a goroutine waits for; `None` if it waits for no lock, or nobody knows. What was found out of a lock is
/// kept in `known`.
pub(crate) fn holder(gp: &'static G, known: &mut Map<usize, Option<Holder>>) -> Option<Holder> {
    let reason = gp.wait_reason();
    let is_lock = matches!(
        reason,
        WaitReason::SyncMutexLock | WaitReason::SyncRWMutexLock | WaitReason::SyncRWMutexRLock
    );
    if gp.status() != Status::Waiting || !is_lock {
        return None;
    }
    let place = gp.wait_place().cast::<u8>().wrapping_add(offset_of!(Sudog, size));
    // SAFETY: a word of a G, which is never freed. The goroutine may go on and write it meanwhile: volatile, so that it is one load
    // of whatever is there, which only counts if the goroutine is then found in the queue of that address.
    let addr = unsafe { place.cast::<usize>().read_volatile() };
    if let Some(&holder) = known.get(&addr) {
        return holder;
    }
    let at = ptr::with_exposed_provenance::<u8>(addr);
    // A writer that waits for readers is in another queue; who they are nobody knows.
    let purpose = if reason == WaitReason::SyncRWMutexRLock { Purpose::Read } else { Purpose::Lock };
    let mut queue = match purpose {
        Purpose::Read => root_for(at.wrapping_add(RWMutex::READERS_AT)),
        _ => root_for(at.wrapping_add(Mutex::WAITERS_AT)),
    };
    let key = queue.key;
    let wait = queue.root().wait_of(key, gp, SEARCHED)?;
    if (wait.purpose, wait.size) != (purpose, addr) {
        return None;
    }
    // SAFETY: the goroutine waits for this lock, and is in its queue, which is locked: so the lock is borrowed.
    let holder = unsafe {
        match purpose {
            Purpose::Read => (*at.cast::<RWMutex>()).holder(),
            _ => (*at.cast::<Mutex>()).holder(),
        }
    };
    drop(queue);
    known.insert(addr, holder);
    holder
}
