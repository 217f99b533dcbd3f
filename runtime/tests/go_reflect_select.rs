//! Go's `TestSelect` and its neighbours in `reflect/all_test.go`, over [`gort::Select`].
//!
//! Every select that can be made of ten kinds of arms and a `default`, each arm at most once. A model says
//! which of the arms may be chosen; what came of the chosen one, and what is left in the others, is checked.
//! Where none is ready a goroutine helps, at once or when the select has blocked. The order of the arms, and
//! who is helped, are random with a fixed seed.
//!
//! **Differs from Go**: a send to a closed channel is chosen like any other and gives its value back.

mod common;

use common::{Rng, at_each_size, eventually, panic_message};
use gort::{
    Chan, JoinHandle, Receiver, Select, Selected, SendError, Sender, TryRecvError, TrySendError, chan, go,
};
use gort_scheduler::proc::goroutines;
use std::collections::HashSet;
use std::fmt::Debug;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    ReadySend,
    ReadyRecv,
    BlockingSend,
    BlockingRecv,
    ZeroSend,
    ZeroRecv,
    NilSend,
    NilRecv,
    ClosedSend,
    ClosedRecv,
}

use Kind::*;

impl Kind {
    fn is_ready(self) -> bool {
        matches!(self, ReadySend | ReadyRecv | ClosedSend | ClosedRecv)
    }

    fn sends(self) -> bool {
        matches!(self, ReadySend | BlockingSend | ZeroSend | NilSend | ClosedSend)
    }
}

/// What the channels carry.
trait Value: Clone + Debug + PartialEq + Send + 'static {
    fn of(n: usize) -> Self;
}

impl Value for usize {
    fn of(n: usize) -> usize {
        n
    }
}

impl Value for String {
    fn of(n: usize) -> String {
        n.to_string()
    }
}

/// An arm over a channel of some type.
struct Case<T> {
    kind: Kind,
    ch: Chan<T>,
    /// The nil halves, for the kinds that Go calls zero.
    zero: (Sender<T>, Receiver<T>),
    val: T,
}

impl<T: Value> Case<T> {
    fn boxed(kind: Kind, n: usize) -> Box<dyn Arm> {
        let val = T::of(n);
        let ch = match kind {
            ReadySend | ReadyRecv => chan(1),
            BlockingSend | BlockingRecv | ClosedSend | ClosedRecv => chan(0),
            ZeroSend | ZeroRecv | NilSend | NilRecv => Chan::nil(),
        };
        match kind {
            ReadyRecv => ch.send(val.clone()),
            ClosedSend | ClosedRecv => ch.close(),
            _ => {}
        }
        Box::new(Case { kind, ch, zero: (Sender::nil(), Receiver::nil()), val })
    }

    /// Nobody waits on the channel any more.
    fn has_no_waiters(&self) {
        assert_eq!(self.ch.try_send(self.val.clone()), Err(TrySendError::Full(self.val.clone())));
        assert_eq!(self.ch.try_recv(), Err(TryRecvError::Empty));
    }
}

/// A [`Case`] of any type.
trait Arm {
    fn kind(&self) -> Kind;
    fn add<'a>(&'a self, select: &mut Select<'a>) -> usize;
    /// The other side of a blocking operation.
    fn partner(&self) -> Box<dyn FnOnce() + Send>;
    fn check_chosen(&self, selected: &Selected);
    fn check_not_chosen(&self, select: &mut Select<'_>, index: usize);
}

impl<T: Value> Arm for Case<T> {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn add<'a>(&'a self, select: &mut Select<'a>) -> usize {
        match self.kind {
            ZeroSend => select.send(&self.zero.0, self.val.clone()),
            ZeroRecv => select.recv(&self.zero.1),
            kind if kind.sends() => select.send(&self.ch, self.val.clone()),
            _ => select.recv(&self.ch),
        }
    }

    fn partner(&self) -> Box<dyn FnOnce() + Send> {
        let (ch, val) = (self.ch.clone(), self.val.clone());
        match self.kind {
            BlockingSend => Box::new(move || assert_eq!(ch.recv(), Some(val))),
            BlockingRecv => Box::new(move || ch.send(val)),
            kind => panic!("{kind:?} needs no partner"),
        }
    }

    fn check_chosen(&self, selected: &Selected) {
        match self.kind {
            ReadySend => {
                assert_eq!(selected.sent::<T>(), Ok(()));
                assert_eq!(self.ch.try_recv().as_ref(), Ok(&self.val));
            }
            BlockingSend => {
                assert_eq!(selected.sent::<T>(), Ok(()));
                self.has_no_waiters();
            }
            ClosedSend => assert_eq!(selected.sent::<T>(), Err(SendError(self.val.clone()))),
            ReadyRecv | BlockingRecv => {
                assert_eq!(selected.received::<T>().as_ref(), Some(&self.val));
                assert!(self.ch.is_empty());
            }
            ClosedRecv => assert_eq!(selected.received::<T>(), None),
            ZeroSend | ZeroRecv | NilSend | NilRecv => panic!("{:?} was chosen", self.kind),
        }
    }

    fn check_not_chosen(&self, select: &mut Select<'_>, index: usize) {
        if self.kind.sends() {
            assert_eq!(select.unsent::<T>(index).as_ref(), Some(&self.val), "{:?}", self.kind);
        }
        match self.kind {
            ReadySend => assert!(self.ch.is_empty(), "sent, but not chosen"),
            ReadyRecv => assert_eq!(self.ch.try_recv().as_ref(), Ok(&self.val)),
            BlockingSend | BlockingRecv => self.has_no_waiters(),
            _ => {}
        }
    }
}

/// A select to be tried.
struct Shape {
    kinds: Vec<Kind>,
    /// Those of them that a helper may make ready.
    helped: Vec<Kind>,
    default: bool,
}

impl Shape {
    /// How many there are: eight arms that are there or not, two that may also be there with a helper, and
    /// the default.
    const COUNT: usize = (1 << 8) * 9 * 2;

    fn nth(mut n: usize) -> Shape {
        let mut digit = |radix| {
            let d = n % radix;
            n /= radix;
            d
        };
        let mut shape = Shape { kinds: Vec::new(), helped: Vec::new(), default: digit(2) == 1 };
        for kind in [BlockingSend, BlockingRecv] {
            let d = digit(3);
            shape.kinds.extend((d > 0).then_some(kind));
            shape.helped.extend((d > 1).then_some(kind));
        }
        for kind in [ReadySend, ReadyRecv, ZeroSend, ZeroRecv, NilSend, NilRecv, ClosedSend, ClosedRecv] {
            shape.kinds.extend((digit(2) == 1).then_some(kind));
        }
        let can_go_on = !shape.helped.is_empty() || shape.kinds.iter().any(|k| k.is_ready());
        shape.default |= !can_go_on;
        shape
    }

    fn blocks(&self) -> bool {
        !self.default && !self.kinds.iter().any(|k| k.is_ready())
    }

    /// Runs it; the kind that was chosen.
    fn run(mut self, rng: &mut Rng) -> Option<Kind> {
        for i in (1..self.kinds.len()).rev() {
            self.kinds.swap(i, rng.below(i + 1));
        }
        let make = |&kind: &Kind| {
            let n = rng.below(1000);
            if n.is_multiple_of(2) { Case::<usize>::boxed(kind, n) } else { Case::<String>::boxed(kind, n) }
        };
        let arms: Vec<_> = self.kinds.iter().map(make).collect();
        let helper = self.blocks().then(|| {
            let helped = self.helped[rng.below(self.helped.len())];
            let arm = arms.iter().find(|arm| arm.kind() == helped).unwrap();
            (helped, help(arm.partner(), rng.below(2) == 0))
        });

        let mut select = Select::new();
        for (i, arm) in arms.iter().enumerate() {
            assert_eq!(arm.add(&mut select), i);
        }
        let selected = if self.default { select.try_select() } else { Some(select.select()) };
        let chosen = selected.as_ref().map(Selected::index);
        let helped = helper.map(|(kind, h)| {
            h.join().unwrap();
            kind
        });
        let may = |kind: Kind| kind.is_ready() || helped == Some(kind);
        match chosen {
            Some(i) => assert!(may(self.kinds[i]), "arm {i} of {:?} was chosen", self.kinds),
            None => assert!(!self.kinds.iter().any(|&k| may(k)), "none of {:?} was chosen", self.kinds),
        }
        for (i, arm) in arms.iter().enumerate() {
            match &selected {
                Some(selected) if selected.index() == i => arm.check_chosen(selected),
                _ => arm.check_not_chosen(&mut select, i),
            }
        }
        chosen.map(|i| self.kinds[i])
    }
}

/// Does a partner's part in a goroutine, at once or when the caller has blocked in its select.
fn help(partner: Box<dyn FnOnce() + Send>, when_blocked: bool) -> JoinHandle<()> {
    let me = gort::goroutine_id().unwrap();
    go!(move || {
        if when_blocked {
            eventually("the select blocks", || {
                goroutines().iter().any(|g| g.id == me && g.state == "select")
            });
        }
        partner();
    })
}

#[test]
fn select() {
    at_each_size(|| {
        let mut rng = Rng(20_09_11_10);
        let mut chosen = HashSet::new();
        for n in 0..Shape::COUNT {
            // Those that block are few, and the most is to be seen in them.
            let times = if Shape::nth(n).blocks() { 5 } else { 1 };
            chosen.extend((0..times).map(|_| Shape::nth(n).run(&mut rng)));
        }
        let all = [ReadySend, ReadyRecv, BlockingSend, BlockingRecv, ClosedSend, ClosedRecv].map(Some);
        assert!(chosen.contains(&None) && all.iter().all(|kind| chosen.contains(kind)), "{chosen:?}");
    });
}

#[test]
fn select_max_cases() {
    const MAX: usize = 65_536;
    at_each_size(|| {
        let closed = chan::<i32>(0);
        closed.close();
        let mut select = Select::new();
        (0..MAX).for_each(|i| assert_eq!(select.recv(&closed), i));
        assert_eq!(select.select().received::<i32>(), None);
        select.recv(&closed);
        assert_eq!(panic_message(|| select.select()), "select: too many cases (max 65536)");
    });
}

/// A select with nothing but a default takes it.
#[test]
fn select_nop() {
    at_each_size(|| assert!(Select::new().try_select().is_none()));
}
