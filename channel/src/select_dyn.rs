//! [`Select`]: a select whose arms are known at run time only (Go's `reflect.Select`).

use crate::arm::{Arm, FromArm, RecvArm, RecvOperand, SendArm, SendOperand, from_arm, recv_arm, send_arm};
use crate::error::SendError;
use crate::park::Wait;
use crate::select::{Order, select_slice};
use gort_scheduler::proc::preempt_point;
use std::any::{Any, TypeId, type_name};
use std::cell::Cell;
use std::fmt;
use std::time::Duration;

/// The type of an arm's values.
#[derive(Clone, Copy)]
struct Carries {
    id: TypeId,
    name: &'static str,
}

impl Carries {
    fn of<T: 'static>() -> Carries {
        Carries { id: TypeId::of::<T>(), name: type_name::<T>() }
    }

    #[track_caller]
    fn check<T: 'static>(self, what: &str) {
        let asked = Carries::of::<T>();
        assert!(asked.id == self.id, "{what}::<{}>: the arm carries {}", asked.name, self.name);
    }
}

/// An arm that can say what it carries.
trait DynArm: Arm {
    fn take_outcome(&mut self) -> Box<dyn Any>;
    fn take_unsent(&mut self) -> Option<Box<dyn Any>>;
    fn carries(&self) -> Carries;
    fn sends(&self) -> bool;
}

impl<T: 'static> DynArm for RecvArm<'_, T> {
    fn take_outcome(&mut self) -> Box<dyn Any> {
        Box::new(self.received().flatten())
    }
    fn take_unsent(&mut self) -> Option<Box<dyn Any>> {
        None
    }
    fn carries(&self) -> Carries {
        Carries::of::<T>()
    }
    fn sends(&self) -> bool {
        false
    }
}

impl<T: 'static> DynArm for SendArm<'_, T> {
    fn take_outcome(&mut self) -> Box<dyn Any> {
        Box::new(self.sent().unwrap_or(Ok(())))
    }
    fn take_unsent(&mut self) -> Option<Box<dyn Any>> {
        self.unsent().map(|v| Box::new(v) as Box<dyn Any>)
    }
    fn carries(&self) -> Carries {
        Carries::of::<T>()
    }
    fn sends(&self) -> bool {
        true
    }
}

impl<T: 'static> DynArm for FromArm<'_, T> {
    fn take_outcome(&mut self) -> Box<dyn Any> {
        Box::new(self.sent().unwrap_or(Ok(())))
    }
    fn take_unsent(&mut self) -> Option<Box<dyn Any>> {
        self.unsent().map(|v| Box::new(v) as Box<dyn Any>)
    }
    fn carries(&self) -> Carries {
        Carries::of::<T>()
    }
    fn sends(&self) -> bool {
        true
    }
}

/// A select whose arms are added one by one (Go's `reflect.Select`).
///
/// The value of an arm that was not chosen stays in the `Select`, and is dropped with it unless [`unsent`](Select::unsent)
/// takes it out; what is sent [from a place](Select::send_from) stays in the place.
///
/// It may be used again: an arm that receives then receives again; one whose value was sent never is ready again.
///
/// ```
/// let chans: Vec<gort::Chan<i32>> = (0..10).map(|_| gort::chan(1)).collect();
/// chans[7].send(70);
/// let mut select = gort::Select::new();
/// for ch in &chans {
///     select.recv(ch);
/// }
/// let selected = select.select();
/// assert_eq!((selected.index(), selected.received::<i32>()), (7, Some(70)));
/// ```
#[derive(Default)]
pub struct Select<'a> {
    arms: Vec<Box<dyn DynArm + 'a>>,
}

impl<'a> Select<'a> {
    /// A select without arms, which blocks for ever.
    ///
    /// ```
    /// assert!(gort::Select::new().try_select().is_none());
    /// ```
    pub fn new() -> Select<'a> {
        Select { arms: Vec::new() }
    }

    fn add(&mut self, arm: impl DynArm + 'a) -> usize {
        self.arms.push(Box::new(arm));
        self.arms.len() - 1
    }

    /// Adds an arm that receives; its index.
    ///
    /// ```
    /// let (a, b) = (gort::chan::<i32>(1), gort::chan::<String>(1));
    /// let mut select = gort::Select::new();
    /// assert_eq!((select.recv(&a), select.recv(&b)), (0, 1));
    /// ```
    pub fn recv<R: RecvOperand + ?Sized>(&mut self, rx: &'a R) -> usize
    where
        R::Item: 'static,
    {
        self.add(recv_arm(rx))
    }

    /// Adds an arm that sends; its index.
    ///
    /// ```
    /// let ch = gort::chan(1);
    /// let mut select = gort::Select::new();
    /// let i = select.send(&ch, 5);
    /// assert_eq!(select.select().index(), i);
    /// assert_eq!(ch.recv(), Some(5));
    /// ```
    pub fn send<S: SendOperand + ?Sized>(&mut self, tx: &'a S, v: S::Item) -> usize
    where
        S::Item: 'static,
    {
        self.add(send_arm(tx, v))
    }

    /// Adds an arm that sends the value in a place; its index. The value is taken out only if the arm is chosen, and the
    /// arm is never ready while the place is empty.
    ///
    /// ```
    /// let (full, ch) = (gort::chan(0), gort::chan(1));
    /// let (mut a, mut b) = (Some(5), Some(6));
    /// let mut select = gort::Select::new();
    /// select.send_from(&full, &mut a);
    /// let i = select.send_from(&ch, &mut b);
    /// assert_eq!(select.select().index(), i);
    /// drop(select); // it borrows the places
    /// assert_eq!((a, b, ch.recv()), (Some(5), None, Some(6)));
    /// ```
    pub fn send_from<S: SendOperand + ?Sized>(&mut self, tx: &'a S, place: &'a mut Option<S::Item>) -> usize
    where
        S::Item: 'static,
    {
        self.add(from_arm(tx, place))
    }

    /// Blocks until one arm can go on, and does it; of several, one at random. Without arms, or with nil channels
    /// only, it blocks for ever.
    ///
    /// A send to a closed channel is chosen like any other, and [`Selected::sent`] has the error, also on a
    /// [`Chan`](crate::Chan).
    ///
    /// # Panics
    ///
    /// With more than 65,536 arms.
    ///
    /// ```
    /// let ch = gort::chan(1);
    /// ch.send(1);
    /// let mut select = gort::Select::new();
    /// select.recv(&ch);
    /// assert_eq!(select.select().received(), Some(1));
    /// ```
    #[track_caller]
    pub fn select(&mut self) -> Selected {
        match self.run(Wait::Forever) {
            Some(selected) => selected,
            None => gort_scheduler::throw!("a select that waits came back"),
        }
    }

    /// Does an arm that can go on at once, if there is one (a select with `default`).
    ///
    /// # Panics
    ///
    /// As [`Select::select`].
    ///
    /// ```
    /// let ch = gort::chan::<i32>(1);
    /// let mut select = gort::Select::new();
    /// select.recv(&ch);
    /// assert!(select.try_select().is_none());
    /// ```
    #[track_caller]
    pub fn try_select(&mut self) -> Option<Selected> {
        self.run(Wait::No)
    }

    /// [`Select::select`], waiting for at most `d`.
    ///
    /// # Panics
    ///
    /// As [`Select::select`].
    ///
    /// ```
    /// let ch = gort::chan::<i32>(1);
    /// let mut select = gort::Select::new();
    /// select.recv(&ch);
    /// assert!(select.select_timeout(std::time::Duration::from_millis(1)).is_none());
    /// ```
    #[track_caller]
    pub fn select_timeout(&mut self, d: Duration) -> Option<Selected> {
        self.run(Wait::at_most(d))
    }

    #[track_caller]
    fn run(&mut self, wait: Wait) -> Option<Selected> {
        let done = {
            let cases: Vec<_> = self.arms.iter_mut().map(|arm| arm.scase()).collect();
            select_slice(&cases, wait, Order::Random)
        };
        // At once, as in `select_arms`.
        let selected = done.map(|done| {
            let arm = &mut self.arms[done.index];
            arm.done(done.success);
            Selected {
                index: done.index,
                sends: arm.sends(),
                carries: arm.carries(),
                outcome: Cell::new(Some(arm.take_outcome())),
            }
        });
        preempt_point();
        selected
    }

    /// The value of a send arm, if it was not sent. The arm is never ready after that.
    ///
    /// # Panics
    ///
    /// When there is no such arm, or its value is of another type.
    ///
    /// ```
    /// let ch = gort::chan(0);
    /// let mut select = gort::Select::new();
    /// let i = select.send(&ch, String::from("back"));
    /// assert!(select.try_select().is_none());
    /// assert_eq!(select.unsent::<String>(i).unwrap(), "back");
    /// ```
    #[track_caller]
    pub fn unsent<T: 'static>(&mut self, index: usize) -> Option<T> {
        let Some(arm) = self.arms.get_mut(index) else { panic!("unsent: there is no arm {index}") };
        arm.carries().check::<T>("unsent");
        arm.take_unsent().and_then(|v| v.downcast::<T>().ok()).map(|v| *v)
    }
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select").field("arms", &self.arms.len()).finish()
    }
}

/// Which arm of a [`Select`] was done, and what came of it.
pub struct Selected {
    index: usize,
    sends: bool,
    carries: Carries,
    outcome: Cell<Option<Box<dyn Any>>>,
}

impl Selected {
    /// The arm.
    ///
    /// ```
    /// let ch = gort::chan::<i32>(1);
    /// let mut select = gort::Select::new();
    /// select.send(&ch, 1);
    /// assert_eq!(select.select().index(), 0);
    /// ```
    pub fn index(&self) -> usize {
        self.index
    }

    /// What was received: `None` if the channel is closed and drained, and when it is asked for a second time.
    ///
    /// # Panics
    ///
    /// When the arm sends, or carries another type than `T`; the message has both names.
    ///
    /// ```
    /// let ch = gort::chan::<i32>(0);
    /// ch.close();
    /// let mut select = gort::Select::new();
    /// select.recv(&ch);
    /// assert_eq!(select.select().received::<i32>(), None);
    /// ```
    #[track_caller]
    pub fn received<T: 'static>(&self) -> Option<T> {
        assert!(!self.sends, "received::<{}>: arm {} sends", type_name::<T>(), self.index);
        self.carries.check::<T>("received");
        self.take::<Option<T>>().flatten()
    }

    /// How the send went.
    ///
    /// # Errors
    ///
    /// With the value, when the channel is closed or no receiver is left.
    ///
    /// # Panics
    ///
    /// When the arm receives, or carries another type than `T`; the message has both names.
    ///
    /// ```
    /// let ch = gort::chan::<i32>(0);
    /// ch.close();
    /// let mut select = gort::Select::new();
    /// select.send(&ch, 3);
    /// assert_eq!(select.select().sent::<i32>(), Err(gort::SendError(3)));
    /// ```
    #[track_caller]
    pub fn sent<T: 'static>(&self) -> Result<(), SendError<T>> {
        assert!(self.sends, "sent::<{}>: arm {} receives", type_name::<T>(), self.index);
        self.carries.check::<T>("sent");
        self.take::<Result<(), SendError<T>>>().unwrap_or(Ok(()))
    }

    fn take<V: 'static>(&self) -> Option<V> {
        self.outcome.take().and_then(|v| v.downcast::<V>().ok()).map(|v| *v)
    }
}

impl fmt::Debug for Selected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selected").field("index", &self.index).finish_non_exhaustive()
    }
}
