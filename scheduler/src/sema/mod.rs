//! Sleep and wake by address: what mutexes and their kin wait on (Go's `sema.go`).
//!
//! | file | what |
//! | --- | --- |
//! | `root` | the waits of one bucket, by address |
//! | here | the table of buckets; parking at an address |
//! | [`mutex`] | [`Mutex`]: Go's, with its normal and its starving mode |
//! | [`rwmutex`] | [`RWMutex`]: readers together, or one writer |
//! | [`notify`] | [`NotifyList`]: what a condition variable waits on |
//! | [`waitgroup`] | [`WaitGroup`]: counter and waiters in one word |
//! | [`semaphore`] | [`Semaphore`]: permits, several at a time, first come, first served |
//!
//! A lock is a few bytes, and who waits for it is not written in it but in a table that the process has once: the
//! address, mixed, names a bucket, and in the bucket a queue.
//!
//! S1: **What a lock's word says of its queue is changed under the bucket's lock.** Who is about to park takes the bucket's lock,
//! says so in the word, looks once more whether it must wait, and parks; the commit of the park opens the bucket. Who opens
//! the lock looks at the word and, if somebody waits, takes the bucket's lock. Between the two stands a full fence on both
//! sides, so one of them sees the other.
//!
//! S2: **A wake-up reaches somebody.** A wait can be over before its waker comes (a deadline), or void (`proc::deadlock`), or
//! its goroutine abandoned with its scheduler. Whoever dequeues passes over these, and whoever finds nobody puts that into the word before it opens the bucket. So
//! nothing is handed to one who has left.
//!
//! S3: **A waiter that leaves by itself** (a deadline) does so under the bucket's lock, and corrects the word.
//!
//! S4: **A waiter that never comes back** ([`leave_behind`]): its scheduler has ended, or its wait is void. It may stand in the way
//! of others (the first at a semaphore, a writer that waits for readers to go), or have been given before the end what it does not
//! know of (a lock, permits, the turn to look at an open lock). As soon as nobody can run it any more it is taken out of the queue,
//! and what it was given goes back, as if it had gone on and let go at once. Its record says what it waited for; that still exists,
//! because the frame that borrows it does. Until then S2 keeps everything from it that has not been given yet.
//!
//! Lock order: a bucket's lock, then the heap's of timers. Nobody is readied under a bucket's lock, and no user code runs.
//!
//! # Differs from Go
//!
//! Go's `semacquire` waits for a count to be above zero, and the users count waiters in words of their own. A waiter
//! that gives up, of which Go has none, would have to be taken from two counts at once. So here a queue is asked, not counted.
//!
//! Tested by `tests/loom_sema.rs` and the models of each file; the tree by `root`'s own tests.

#[cfg(not(loom))]
mod holder;
pub mod mutex;
pub mod notify;
mod root;
pub mod rwmutex;
pub mod semaphore;
pub mod waitgroup;

#[cfg(not(loom))]
pub(crate) use holder::{Holder, holder};
pub use mutex::Mutex;
pub use notify::NotifyList;
pub use rwmutex::RWMutex;
pub use semaphore::Semaphore;
pub use waitgroup::WaitGroup;

use crate::g::{G, Phase, WaitReason};
use crate::proc::deadlock::begin_wait;
use crate::proc::{current, gopark, goready_by};
use crate::sync::SpinLock;
use crate::time::clock::Nanos;
use crate::time::sleep::gopark_until;
use crossbeam_utils::CachePadded;
use root::{NO_WORD, Purpose, SemaRoot, Sudog};
use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;

/// Go has 251; a power of two makes the choice a mask.
#[cfg(not(loom))]
const BUCKETS: usize = 256;
/// In a model all addresses meet in one bucket.
#[cfg(loom)]
const BUCKETS: usize = 1;

struct Bucket {
    lock: SpinLock,
    root: UnsafeCell<SemaRoot>,
}

// SAFETY: the root is reached under the lock only (R1 of `root`); what its pointers name lives in Gs, which are never freed.
unsafe impl Sync for Bucket {}
// SAFETY: as above.
unsafe impl Send for Bucket {}

#[cfg(not(loom))]
crate::sync::per_process! {
    static SEMTABLE: [CachePadded<Bucket>; BUCKETS] = [const {
        CachePadded::new(Bucket { lock: SpinLock::new(), root: UnsafeCell::new(SemaRoot::new()) })
    }; BUCKETS];
}
#[cfg(loom)]
loom::lazy_static! {
    static ref SEMTABLE: [CachePadded<Bucket>; BUCKETS] = std::array::from_fn(|_| {
        CachePadded::new(Bucket { lock: SpinLock::new(), root: UnsafeCell::new(SemaRoot::new()) })
    });
}

/// Mixes an address; no two have the same result. The low bits choose the bucket, the high ones the way in its tree.
#[inline]
fn mix(addr: *const ()) -> u64 {
    let x = addr.expose_provenance() as u64;
    let x = (x ^ (x >> 32)).wrapping_mul(MIXER);
    x ^ (x >> 29)
}

/// Undoes [`mix`].
fn unmix(key: u64) -> *const () {
    let x = (key ^ (key >> 29) ^ (key >> 58)).wrapping_mul(MIXER_INVERSE);
    std::ptr::with_exposed_provenance((x ^ (x >> 32)) as usize)
}

const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;
/// By Newton's iteration, each step of which doubles the number of bits that are right.
const MIXER_INVERSE: u64 = {
    let (mut inverse, mut bits) = (MIXER, 3);
    while bits < 64 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(MIXER.wrapping_mul(inverse)));
        bits *= 2;
    }
    inverse
};

/// The queue of an address, its bucket locked (Go's `rootFor`). Opened when this is dropped. While it lives no other bucket is
/// locked, nobody is readied and no user code runs.
pub struct Queue {
    bucket: &'static Bucket,
    key: u64,
}

/// A wait that was taken out of a queue. It must be readied, when no bucket is locked.
#[must_use]
#[derive(Debug)]
pub struct Dequeued {
    /// `None`: it is still awake, and finds out by itself.
    sg: Option<&'static Sudog>,
    /// Nobody waits behind it.
    pub last: bool,
}

/// The deadline has ended a wait, which is in no queue any more.
#[derive(Debug)]
pub struct Left {
    /// The queue, its bucket locked.
    pub queue: Queue,
    /// It was still in the queue. If not, somebody who looked for one to wake has passed it over.
    pub was_queued: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// Locks the queue of an address, which is only a name: nothing there is looked at.
#[inline]
pub fn root_for<T>(addr: *const T) -> Queue {
    let key = mix(addr.cast());
    let bucket = &SEMTABLE[key as usize % BUCKETS];
    bucket.lock.lock();
    Queue { bucket, key }
}

impl Drop for Queue {
    #[inline]
    fn drop(&mut self) {
        self.bucket.lock.unlock();
    }
}

impl Queue {
    #[inline]
    fn root(&mut self) -> &mut SemaRoot {
        // SAFETY: the bucket is locked while `self` lives, and the reference borrows it.
        unsafe { &mut *self.bucket.root.get() }
    }

    /// True if nobody waits here.
    pub fn is_empty(&mut self) -> bool {
        let key = self.key;
        self.root().is_empty(key)
    }

    /// Takes out the first whose wait is still open, saying `word`.
    pub fn dequeue(&mut self, word: u8) -> Option<Dequeued> {
        let key = self.key;
        // SAFETY: the bucket is locked.
        let (sg, last) = unsafe { self.root().dequeue(key) }?;
        sg.word.set(word);
        // One that is awake may be gone when the bucket is opened.
        Some(Dequeued { sg: sg.parked.get().then_some(sg), last })
    }

    /// How many are in the queue, those included whose wait is over.
    fn len(&mut self) -> usize {
        let key = self.key;
        self.root().len(key)
    }

    /// True if nobody waits here whose wait is still open. Those whose is not are taken out, up to the first.
    fn none_open(&mut self) -> bool {
        let key = self.key;
        // SAFETY: the bucket is locked.
        unsafe { self.root().first_open(key).is_none() }
    }

    /// As [`Queue::dequeue`], if `take` takes for the first what it needs (`Sudog::size`); `back` gives that back if its wait
    /// turns out to be over.
    fn dequeue_if(
        &mut self,
        word: u8,
        mut take: impl FnMut(usize) -> bool,
        mut back: impl FnMut(usize),
    ) -> Option<Dequeued> {
        let key = self.key;
        loop {
            // SAFETY: the bucket is locked.
            let sg = unsafe { self.root().first_open(key) }?;
            let size = sg.size;
            if !take(size) {
                return None;
            }
            // SAFETY: as above; it is in this queue.
            match unsafe { self.take_out(sg, word) } {
                Some(first) => return Some(first),
                None => back(size),
            }
        }
    }

    /// Takes out this one, if it is still in the queue and its wait is open, saying `word`.
    ///
    /// # Safety
    ///
    /// `sg` is in this queue, or its wait there is not over.
    unsafe fn take_out(&mut self, sg: &'static Sudog, word: u8) -> Option<Dequeued> {
        let key = self.key;
        // SAFETY: the bucket is locked.
        let claimed = unsafe { self.root().remove(sg) && sg.claim() };
        if !claimed {
            return None;
        }
        sg.word.set(word);
        Some(Dequeued { sg: sg.parked.get().then_some(sg), last: self.root().is_empty(key) })
    }

    /// Enqueues the caller, whose G is `gp`, at the front or at the end of the queue, and parks it. What its waker said.
    ///
    /// # Safety
    ///
    /// `gp` is the caller, in no other wait, and may park (`pin`).
    pub unsafe fn park(
        self,
        gp: &'static G,
        front: bool,
        deadline: Nanos,
        reason: WaitReason,
    ) -> Result<u8, Left> {
        // SAFETY: the caller's promise.
        unsafe { self.park_for((Purpose::Event, 0), gp, front, deadline, reason) }
    }

    /// [`Queue::park`] for what [`leave_behind`] may have to give back.
    ///
    /// # Safety
    ///
    /// As for [`Queue::park`]; what is waited for is what the purpose says, is at that address, and stays there while the caller
    /// waits.
    unsafe fn park_for(
        self,
        what: (Purpose, usize),
        gp: &'static G,
        front: bool,
        deadline: Nanos,
        reason: WaitReason,
    ) -> Result<u8, Left> {
        // SAFETY: the caller's promise.
        unsafe {
            let sg = self.enlist(what, gp, front, deadline, true);
            self.sleep(sg, deadline, reason)
        }
    }

    /// The first half of [`Queue::park`]: from when the bucket is opened on, the caller is found. `parked`: it will be parked by
    /// then.
    ///
    /// # Safety
    ///
    /// As for [`Queue::park_for`].
    unsafe fn enlist(
        &self,
        (purpose, size): (Purpose, usize),
        gp: &'static G,
        front: bool,
        deadline: Nanos,
        parked: bool,
    ) -> &'static Sudog {
        let timed = deadline != Nanos::NEVER;
        if timed {
            gp.begin_select();
        } else {
            begin_wait(gp);
        }
        let sg = Sudog::in_g(gp, timed || gp.may_borrow(), parked, purpose, size);
        // SAFETY: the bucket is locked; the sudog lies in the G until its wait is over.
        unsafe { (*self.bucket.root.get()).enqueue(sg, self.key, front) };
        sg
    }

    /// The second half of [`Queue::park`].
    ///
    /// # Safety
    ///
    /// As for [`Queue::park`]; `sg` is the caller's, enlisted here with this deadline, parked, and not dequeued.
    #[inline]
    unsafe fn sleep(self, sg: &'static Sudog, deadline: Nanos, reason: WaitReason) -> Result<u8, Left> {
        let (bucket, key, gp) = (self.bucket, self.key, sg.g);
        // The commit opens the bucket.
        let _open_later = ManuallyDrop::new(self);
        let lock = (&raw const bucket.lock).cast_mut().cast();
        let phase = gp.phase.replace(Phase::AtAddress);
        // SAFETY: whoever dequeues the sudog readies us, once (R3); the commit lets them at it.
        unsafe {
            if deadline == Nanos::NEVER {
                gopark(gp, Some(unlockf), lock, reason);
            } else if !gopark_until(gp, Some(unlockf), lock, reason, deadline) {
                gp.phase.set(phase);
                bucket.lock.lock();
                let mut queue = Queue { bucket, key };
                let was_queued = queue.root().remove(sg);
                return Err(Left { queue, was_queued });
            }
        }
        gp.phase.set(phase);
        gp.take_param();
        Ok(sg.word.get())
    }

    /// Takes out all who wait and readies them, saying `word`: first come, first readied. `counted` is told how many, batch
    /// by batch, before they are readied; the bucket is locked then.
    pub fn ready_all(mut self, word: u8, mut counted: impl FnMut(usize)) {
        let (bucket, key) = (self.bucket, self.key);
        let mut batch = [None; BATCH];
        // Those who come from now on are others: these get a key of their own, the address of what only this call has.
        let own = mix((&raw const batch).cast());
        // SAFETY: the bucket is locked, and nobody waits at what is in this frame.
        unsafe { self.root().rekey(key, own) };
        loop {
            // Few at a time: the bucket has other addresses.
            let mut n = 0;
            let mut done = false;
            while n < BATCH && !done {
                // SAFETY: the bucket is locked.
                let Some((sg, last)) = (unsafe { self.root().dequeue(own) }) else {
                    done = true;
                    break;
                };
                sg.word.set(word);
                batch[n] = sg.parked.get().then_some(sg);
                n += 1;
                done = last;
            }
            counted(n);
            drop(self);
            let me = current();
            for sg in batch[..n].iter_mut().filter_map(Option::take) {
                // SAFETY: dequeued above (R3).
                unsafe { ready(me, sg) };
            }
            if done {
                return;
            }
            bucket.lock.lock();
            self = Queue { bucket, key };
        }
    }
}

/// How many are taken from a queue under one hold of its bucket's lock.
const BATCH: usize = if cfg!(loom) { 1 } else { 32 };

/// Readies a dequeued wait.
///
/// # Safety
///
/// The caller has dequeued `sg`, which is parked, and not readied it yet (R3). `me` is as [`current`] has it.
#[inline]
unsafe fn ready(me: Option<&'static G>, sg: &'static Sudog) {
    let gp = sg.g;
    gp.set_param(std::ptr::from_ref(sg).cast_mut().cast());
    // SAFETY: the caller's promise.
    unsafe { goready_by(me, gp) };
}

impl Dequeued {
    /// Readies it. No bucket is locked.
    #[inline]
    pub fn ready(self) {
        if let Some(sg) = self.sg {
            // SAFETY: dequeued, and readied once, since `self` is used up (R3).
            unsafe { ready(current(), sg) };
        }
    }
}

/// S4: the goroutine never runs again. If it was in a wait at an address, it leaves that; more than once does no harm. Runs on g0, or
/// on a thread that is no goroutine's. No bucket is locked.
///
/// # Safety
///
/// Nobody runs the goroutine, now or later, and the frames that it waits in, or borrows from, are still there.
pub unsafe fn leave_behind(gp: &'static G) {
    if gp.phase.get() != Phase::AtAddress {
        return;
    }
    // SAFETY: the phase says what lies there; the goroutine does not run, so it stays.
    let sg = unsafe { &*gp.wait_place().cast::<Sudog>() };
    let of: *const () = std::ptr::with_exposed_provenance(sg.size);
    // SAFETY: the purpose says what is at the address, and it is borrowed by a frame that is still there.
    unsafe {
        match sg.purpose {
            Purpose::Event => {}
            Purpose::Lock => (*of.cast::<Mutex>()).leave_behind(sg),
            Purpose::Read => (*of.cast::<RWMutex>()).leave_behind_reader(sg),
            Purpose::Write => (*of.cast::<RWMutex>()).leave_behind_writer(sg),
            Purpose::Notification => (*of.cast::<NotifyList>()).leave_behind(sg),
            Purpose::Permits => (*Semaphore::of_address(unmix(sg.key()))).leave_behind(sg),
        }
    }
}

impl Queue {
    /// Takes the wait of one who never comes back out: whether it was still there, and what its waker said. Once, and then
    /// there is nothing more.
    ///
    /// # Safety
    ///
    /// `sg` is, or was, in this queue, and its goroutine is one that is left behind.
    unsafe fn bury(&mut self, sg: &'static Sudog) -> (bool, u8) {
        // SAFETY: the bucket is locked.
        let was_queued = unsafe { self.root().remove(sg) };
        (was_queued, sg.word.replace(NO_WORD))
    }
}

/// Off the stack: lets the wakers at the bucket.
///
/// # Safety
///
/// `lock` is the held lock of a bucket.
unsafe fn unlockf(_gp: &'static G, lock: *mut ()) -> bool {
    // SAFETY: buckets are never freed.
    unsafe { (*lock.cast::<SpinLock>()).unlock() };
    true
}
