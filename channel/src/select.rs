//! Waiting at several channels at once (Go's `selectgo`).
//!
//! 1. **Orders.** The poll order is a random permutation of the arms (source order for a biased select), without the
//!    nil ones. The lock order is by the address of the channel, so that two selects never wait for each other's
//!    locks. All channels are locked, each once.
//! 2. **Pass 0**, for a random choice only, in poll order: an arm that looks as if it could go on, without any lock, is
//!    tried with the lock of its own channel. If it can, it is the first of its order that could, so it may be chosen.
//!    Whatever else happens is left to the next pass: that *no* arm can go on must be seen in one atomic moment, and
//!    so must be, for a biased select, that an earlier one cannot.
//! 3. **Pass 1**, in poll order: the first arm that can go on is done, as `send` and `recv` do it, all locks are
//!    released, and the other side is readied. With all channels locked this is one atomic moment.
//! 4. No arm can: with `default` (or a deadline in the past), unlock and say so.
//! 5. **Pass 2**, in lock order: a sudog for each arm goes into its channel's queue. Then the goroutine parks, and the
//!    commit unlocks all channels, each once, from copies of the pointers.
//! 6. Whoever wins `win_select` serves one arm and readies the goroutine; all others skip its sudogs. The timer is one
//!    of those who compete.
//! 7. **Pass 3**: locks all again and takes the other sudogs out of their queues. The sudog in `param` is the winner;
//!    no param means the deadline.
//!
//! X1: A select never meets itself: its own sudogs are enqueued after pass 1, and in pass 1 its own goroutine is in no
//! queue.
//!
//! X2: The frame with cases, orders and sudogs is left only after pass 3 has held every lock, and the commit releases
//! each lock with its last look at that channel; so the commit never looks at a frame that is gone, and nobody finds
//! a sudog of a frame that is gone.
//!
//! **Differs from Go**: pass 0, which most selects of a busy program end with, at the price of one lock; no sudog cache, the sudogs lie in the frame; the winner needs no look at `g.waiting`, since
//! each sudog is in the same place of its array as its arm.

use crate::hchan::Hchan;
use crate::park::{Wait, block_forever, blocks, unblocks};
use crate::recv::recv_direct;
use crate::send::send_direct;
use crate::timer::TimerChan;
use crate::waitq::{self, Sudog, WaitQ};
use gort_scheduler::g::{G, WaitReason};
use gort_scheduler::memory;
use gort_scheduler::proc::timers::tell;
use gort_scheduler::proc::{getg, gopark, pin};
use gort_scheduler::time::sleep::gopark_until;
use std::mem::MaybeUninit;
use std::ptr;

/// Which way an arm goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dir {
    /// It sends the element at `elem`.
    Send,
    /// It receives into `elem`.
    Recv,
}

/// An arm (Go's `scase`).
#[derive(Clone, Copy, Debug)]
pub struct Scase<'a> {
    c: Option<&'a Hchan>,
    elem: *mut u8,
    dir: Dir,
}

impl<'a> Scase<'a> {
    /// An arm; on a nil channel if there is no `c`.
    ///
    /// # Safety
    ///
    /// Until the select is over: for `Send`, `elem` holds an element of the channel's type, given away if this arm is
    /// the one and was successful; for `Recv`, `elem` has room for one.
    pub unsafe fn new(c: Option<&'a Hchan>, elem: *mut u8, dir: Dir) -> Scase<'a> {
        Scase { c, elem, dir }
    }

    /// The place of its channel in the lock order.
    fn addr(&self) -> usize {
        self.c.map_or(0, Hchan::order)
    }

    fn queue(&self) -> Option<&'a WaitQ> {
        self.c.map(|c| if self.dir == Dir::Send { &c.sendq } else { &c.recvq })
    }
}

/// Which arm was done. `success` is false for a send that found the channel closed (its element is still the
/// caller's) and for a receive from a closed and drained channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The arm.
    pub index: usize,
    /// See above.
    pub success: bool,
}

/// Which ready arm is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any, with equal chances.
    Random,
    /// The first in source order.
    Source,
}

/// Room that a select of up to `N` arms needs in its frame.
pub(crate) struct Room<'r> {
    sudogs: &'r mut [MaybeUninit<Sudog>],
    pollorder: &'r mut [u16],
    lockorder: &'r mut [u16],
}

/// The select, for a fixed number of arms, with its room on the stack. `None`: no arm could be done in the time that
/// `wait` gives.
#[inline]
#[track_caller]
pub fn select_array<const N: usize>(cases: &[Scase<'_>; N], wait: Wait, order: Order) -> Option<Done> {
    let mut sudogs = [const { MaybeUninit::uninit() }; N];
    let (mut pollorder, mut lockorder) = ([0; N], [0; N]);
    let room = Room { sudogs: &mut sudogs, pollorder: &mut pollorder, lockorder: &mut lockorder };
    selectgo(cases, room, wait, order)
}

/// What a want of memory names.
const WHAT: &str = "a select";

/// The select, for any number of arms.
///
/// # Panics
///
/// With more than 65,536 arms, as in Go; when there is no memory for its list of arms.
#[track_caller]
pub fn select_slice(cases: &[Scase<'_>], wait: Wait, order: Order) -> Option<Done> {
    let n = cases.len();
    assert!(n <= 1 << 16, "select: too many cases (max 65536)");
    let (mut sudogs, mut pollorder, mut lockorder) =
        (memory::list(WHAT, n), memory::list(WHAT, n), memory::list(WHAT, n));
    sudogs.resize_with(n, MaybeUninit::uninit);
    pollorder.resize(n, 0);
    lockorder.resize(n, 0);
    let room = Room { sudogs: &mut sudogs, pollorder: &mut pollorder, lockorder: &mut lockorder };
    selectgo(cases, room, wait, order)
}

/// The select itself.
#[track_caller]
fn selectgo(cases: &[Scase<'_>], room: Room<'_>, wait: Wait, order: Order) -> Option<Done> {
    let gp = getg();
    let Room { sudogs, pollorder, lockorder } = room;
    let n = match order {
        Order::Random => poll_order(cases, pollorder, few_from_one_draw(gp)),
        Order::Source => poll_order(cases, pollorder, |below| below - 1),
    };
    let pollorder = &pollorder[..n];
    if n == 0 && wait == Wait::Forever {
        block_forever(if cases.is_empty() { WaitReason::SelectNoCases } else { WaitReason::Select });
    }
    if order == Order::Random
        && let Some(done) = try_one_by_one(gp, cases, pollorder)
    {
        return Some(done);
    }
    let lockorder = lock_order(cases, pollorder, lockorder);
    let locks = Locks { cases, lockorder };

    if gp.is_thread() && wait != Wait::No {
        cases.iter().filter_map(|case| case.c?.timer()).for_each(|t| t.prepare(gp));
    }

    // Pass 1.
    locks.lock();
    for &i in pollorder {
        // SAFETY: all channels are locked.
        if let Some((success, partner)) = unsafe { try_case(&cases[i as usize]) } {
            locks.unlock();
            if let Some(sg) = partner {
                // SAFETY: dequeued and served by `try_case`.
                unsafe { waitq::ready_by(Some(gp), sg) };
            }
            return Some(Done { index: i as usize, success });
        }
    }
    if wait == Wait::No {
        locks.unlock();
        return None;
    }

    if !pin::may_park(gp) {
        locks.unlock();
        pin::refuse(gp);
    }

    // Pass 2.
    gp.begin_select();
    for &i in lockorder {
        let case = &cases[i as usize];
        let sg = sudogs[i as usize].write(Sudog::new(gp, case.elem, true));
        if let Some(q) = case.queue() {
            // SAFETY: the channel is locked; the sudog stays until pass 3 has taken it out.
            unsafe { q.enqueue(sg) };
        }
        if let Some(c) = case.c {
            _ = blocks(gp, c);
        }
    }
    let arg = (&raw const locks).cast_mut().cast();
    // SAFETY: the commit lets the wakers at us, and exactly one wins the select and readies us.
    unsafe {
        match wait {
            Wait::Until(deadline) => {
                _ = gopark_until(gp, Some(selparkcommit), arg, WaitReason::Select, deadline)
            }
            _ => gopark(gp, Some(selparkcommit), arg, WaitReason::Select),
        }
    }

    // Pass 3.
    let winner: *const Sudog = gp.take_param().cast_const().cast();
    locks.lock();
    let mut done = None;
    for &i in lockorder {
        let i = i as usize;
        // SAFETY: written in pass 2.
        let sg = unsafe { sudogs[i].assume_init_ref() };
        if ptr::eq(sg, winner) {
            done = Some(Done { index: i, success: sg.success.get() });
        } else if let Some(q) = cases[i].queue() {
            // SAFETY: the channel is locked, and the sudog is ours.
            unsafe { q.remove(sg) };
            cases[i].c.into_iter().for_each(unblocks);
        }
    }
    locks.unlock();
    debug_assert!(done.is_some() || wait.is_timed(), "woken by a sudog of another wait");
    done
}

/// Pass 0.
#[inline]
fn try_one_by_one(gp: &'static G, cases: &[Scase<'_>], pollorder: &[u16]) -> Option<Done> {
    for &i in pollorder {
        let case = &cases[i as usize];
        let Some(c) = case.c else { continue };
        let looks_ready = match case.dir {
            Dir::Send => c.refuses_sends() || !c.full(),
            Dir::Recv => !c.empty() || c.is_closed() || c.timer().is_some_and(TimerChan::may_be_due),
        };
        if !looks_ready {
            continue;
        }
        c.lock.lock();
        // SAFETY: its channel is locked.
        let tried = unsafe { try_case(case) };
        c.lock.unlock();
        if let Some((success, partner)) = tried {
            if let Some(sg) = partner {
                // SAFETY: dequeued and served by `try_case`.
                unsafe { waitq::ready_by(Some(gp), sg) };
            }
            return Some(Done { index: i as usize, success });
        }
    }
    None
}

/// Random numbers below `k`. Those below a few are made of 16 bits each of one draw: their chances are equal to within one in
/// some ten thousand.
#[inline]
fn few_from_one_draw(gp: &'static G) -> impl FnMut(usize) -> usize {
    const FEW: usize = 4;
    let mut bits = gp.cheaprand();
    move |k| {
        if k > FEW {
            return gp.cheaprand_below(k);
        }
        let part = bits as u16;
        bits >>= 16;
        (usize::from(part) * k) >> 16
    }
}

/// Writes the arms that are not nil in a random order (`pick(k)` is below `k`); how many they are.
#[inline]
fn poll_order(cases: &[Scase<'_>], pollorder: &mut [u16], mut pick: impl FnMut(usize) -> usize) -> usize {
    let mut n = 0;
    for (i, case) in cases.iter().enumerate() {
        if case.c.is_none() {
            continue;
        }
        // The shuffle of Fisher and Yates, as the list grows.
        let j = pick(n + 1);
        pollorder[n] = pollorder[j];
        pollorder[j] = i as u16;
        n += 1;
    }
    n
}

/// Writes the arms of `pollorder` by the address of their channels.
fn lock_order<'o>(cases: &[Scase<'_>], pollorder: &[u16], lockorder: &'o mut [u16]) -> &'o [u16] {
    let lockorder = &mut lockorder[..pollorder.len()];
    lockorder.copy_from_slice(pollorder);
    if lockorder.len() == 2 {
        if cases[lockorder[0] as usize].addr() > cases[lockorder[1] as usize].addr() {
            lockorder.swap(0, 1);
        }
    } else {
        lockorder.sort_unstable_by_key(|&i| cases[i as usize].addr());
    }
    lockorder
}

/// The channels of a select, in lock order.
#[derive(Clone, Copy)]
struct Locks<'s, 'a> {
    cases: &'s [Scase<'a>],
    lockorder: &'s [u16],
}

impl Locks<'_, '_> {
    fn lock(self) {
        let mut last = ptr::null();
        for &i in self.lockorder {
            if let Some(c) = self.cases[i as usize].c
                && !ptr::eq(c, last)
            {
                last = c;
                c.lock.lock();
            }
        }
    }

    /// From the last to the first, each once, at its first place. Nothing of the frame that holds the orders is
    /// looked at after the last unlock (X2).
    fn unlock(self) {
        self.unlock_each(|c| c.lock.unlock());
    }

    fn unlock_each(self, mut unlock: impl FnMut(&Hchan)) {
        let mut left = self.lockorder;
        while let [rest @ .., i] = left {
            let c = self.cases[*i as usize].c;
            let again = rest.last().map(|j| self.cases[*j as usize].addr()) == c.map(Hchan::order);
            left = rest;
            if let (false, Some(c)) = (again, c) {
                unlock(c);
            }
        }
    }
}

/// Off the stack: releases all channels. The lock that is released last is the first that the woken goroutine takes;
/// until then it cannot leave the frame that this reads.
///
/// # Safety
///
/// `locks` is the [`Locks`] of the parked select, all held.
unsafe fn selparkcommit(_gp: &'static G, locks: *mut ()) -> bool {
    // What the timers among them owe is all owed by this select, and so to one (C4 of `timer`).
    let mut owed = None;
    // SAFETY: the frame is alive until the last unlock; the copy is in this one.
    unsafe { *locks.cast::<Locks<'_, '_>>() }.unlock_each(|c| {
        owed = c.timer().and_then(TimerChan::take_debt).or(owed);
        c.lock.unlock();
    });
    tell(owed);
    true
}

/// Does an arm if it can go on at once: whether it was successful, and the partner to ready after the unlock.
///
/// # Safety
///
/// The arm's channel is locked.
unsafe fn try_case(case: &Scase<'_>) -> Option<(bool, Option<*const Sudog>)> {
    let c = case.c?;
    let size = c.elemsize;
    // SAFETY: locked; the elements by the promise of `Scase::new`.
    unsafe {
        match case.dir {
            Dir::Send => {
                if c.refuses_sends() {
                    return Some((false, None));
                }
                if let Some(sg) = c.recvq.dequeue() {
                    send_direct(sg, case.elem, size);
                    return Some((true, Some(sg)));
                }
                (c.qcount() < c.dataqsiz).then(|| {
                    c.buf_put(case.elem, size);
                    (true, None)
                })
            }
            Dir::Recv => {
                if let Some(sg) = c.sendq.dequeue() {
                    recv_direct(c, sg, case.elem, size);
                    return Some((true, Some(sg)));
                }
                if c.qcount() > 0 {
                    c.buf_take(case.elem, size);
                    return Some((true, None));
                }
                if let Some(t) = c.timer() {
                    return t.take_into(case.elem).then_some((true, None));
                }
                c.is_closed().then_some((false, None))
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::alloc::Layout;

    #[test]
    fn the_poll_order_leaves_nil_out_and_is_a_permutation() {
        let c = Hchan::makechan(Layout::new::<u8>(), 0, 0);
        // SAFETY: alive until freed below; the element is never touched.
        let case =
            |nil: bool| unsafe { Scase::new((!nil).then_some(c.as_ref()), ptr::null_mut(), Dir::Recv) };
        let cases = [case(false), case(true), case(false), case(false), case(true)];
        let mut order = [9; 5];
        let n = poll_order(&cases, &mut order, |k| k / 2);
        let mut got = order[..n].to_vec();
        got.sort_unstable();
        assert_eq!(got, [0, 2, 3]);
        assert_eq!(poll_order(&cases, &mut order, |k| k - 1), 3);
        assert_eq!(order[..3], [0, 2, 3], "source order");
        // SAFETY: nobody else has it.
        unsafe { Hchan::free(c) };
    }
}
