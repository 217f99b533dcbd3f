//! [`Children`]: what a context has to cancel when it is cancelled, each found again in one step.

use super::after_func::AfterFunc;
use super::node::Node;
use gort_channel::Sender;
use std::sync::{Arc, Weak};

/// Something that a context cancels.
#[derive(Clone)]
pub(super) enum Child {
    /// A context below it, as long as anybody has it.
    Context(Weak<Node>),
    /// A function that is to run.
    Func(Arc<AfterFunc>),
    /// The `done` of a context below it that nobody has any more, though somebody still waits for it.
    Done(Sender<()>),
}

impl Child {
    /// True if nobody would notice.
    pub fn is_idle(&self) -> bool {
        match self {
            Child::Context(_) => false,
            Child::Func(f) => !f.is_pending(),
            // No receiver is left.
            Child::Done(done) => done.is_closed(),
        }
    }
}

/// Children by number. A free place has the number of the next one.
#[derive(Default)]
pub(super) struct Children {
    places: Vec<Place>,
    free: Option<usize>,
}

enum Place {
    Taken(Child),
    Free(Option<usize>),
}

impl Children {
    pub const fn new() -> Children {
        Children { places: Vec::new(), free: None }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Puts a child in; its number. Where the table would have to grow, what nobody would notice leaves it first, for `idle`.
    pub fn insert(&mut self, child: Child, idle: &mut Vec<Child>) -> usize {
        if self.free.is_none() && self.places.len() == self.places.capacity() {
            self.sweep(idle);
        }
        match self.free {
            Some(number) => {
                let Place::Free(next) = std::mem::replace(&mut self.places[number], Place::Taken(child))
                else {
                    unreachable!("it is in the list of free places")
                };
                self.free = next;
                number
            }
            None => {
                self.places.push(Place::Taken(child));
                self.places.len() - 1
            }
        }
    }

    fn sweep(&mut self, idle: &mut Vec<Child>) {
        let full = self.places.len();
        for number in 0..full {
            if matches!(&self.places[number], Place::Taken(child) if child.is_idle()) {
                idle.extend(self.remove(number));
            }
        }
        // The next sweep comes after as many insertions as this one has looked at places, or a quarter of it.
        if idle.len() < full / 4 {
            self.places.reserve(full);
        }
    }

    /// Takes the child of this number out, if it is there.
    pub fn remove(&mut self, number: usize) -> Option<Child> {
        match self.places.get_mut(number) {
            Some(place @ Place::Taken(_)) => {
                let Place::Taken(child) = std::mem::replace(place, Place::Free(self.free)) else {
                    return None;
                };
                self.free = Some(number);
                Some(child)
            }
            _ => None,
        }
    }

    pub fn into_iter(self) -> impl Iterator<Item = Child> {
        self.places.into_iter().filter_map(|place| match place {
            Place::Taken(child) => Some(child),
            Place::Free(_) => None,
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Child> {
        self.places.iter().filter_map(|place| match place {
            Place::Taken(child) => Some(child),
            Place::Free(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Child {
        Child::Context(Weak::new())
    }

    #[test]
    fn places_are_used_again() {
        let mut children = Children::new();
        let mut idle = Vec::new();
        let numbers: Vec<usize> = (0..10).map(|_| children.insert(context(), &mut idle)).collect();
        assert_eq!(children.len(), 10);
        for number in numbers {
            assert!(children.remove(number).is_some() && children.remove(number).is_none());
        }
        assert_eq!((children.len(), children.iter().count()), (0, 0));
        for _ in 0..1000 {
            let number = children.insert(context(), &mut idle);
            assert!(number < 10);
            children.remove(number);
        }
    }

    #[test]
    fn what_nobody_would_notice_makes_room() {
        let mut children = Children::new();
        let mut idle = Vec::new();
        let waiting = gort_channel::channel(0);
        children.insert(Child::Done(waiting.0), &mut idle);
        for _ in 0..10_000 {
            children.insert(Child::Done(gort_channel::channel(0).0), &mut idle);
            idle.clear();
        }
        assert!(children.places.len() < 16, "{}", children.places.len());
        let waited_for = children.iter().filter(|child| !child.is_idle()).count();
        assert_eq!(waited_for, 1);
        assert!(waiting.1.try_recv().is_err());
    }
}
