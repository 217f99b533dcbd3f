//! Iterating over what a channel gives (Go's `for v := range ch`).

use crate::handle::{Chan, Receiver};
use std::fmt;
use std::iter::FusedIterator;

/// Who can be received from: what [`Iter`] borrows.
#[derive(Clone, Copy)]
enum Source<'a, T> {
    Chan(&'a Chan<T>),
    Receiver(&'a Receiver<T>),
}

impl<'a, T> From<&'a Chan<T>> for Source<'a, T> {
    fn from(ch: &'a Chan<T>) -> Self {
        Source::Chan(ch)
    }
}

impl<'a, T> From<&'a Receiver<T>> for Source<'a, T> {
    fn from(rx: &'a Receiver<T>) -> Self {
        Source::Receiver(rx)
    }
}

/// Blocks for each value; ends when the channel is closed and drained. From [`Chan::iter`] and [`Receiver::iter`].
pub struct Iter<'a, T>(Source<'a, T>);

impl<'a, T> Iter<'a, T> {
    #[allow(private_bounds, reason = "made by the handles only")]
    pub(crate) fn new(source: impl Into<Source<'a, T>>) -> Iter<'a, T> {
        Iter(source.into())
    }
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;
    #[track_caller]
    fn next(&mut self) -> Option<T> {
        match self.0 {
            Source::Chan(ch) => ch.recv(),
            Source::Receiver(rx) => rx.recv(),
        }
    }
}

impl<T> FusedIterator for Iter<'_, T> {}

impl<T> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Iter(..)")
    }
}

/// Gives what is there, and ends instead of blocking. From [`Receiver::try_iter`].
pub struct TryIter<'a, T>(&'a Receiver<T>);

impl<'a, T> TryIter<'a, T> {
    pub(crate) fn new(rx: &'a Receiver<T>) -> TryIter<'a, T> {
        TryIter(rx)
    }
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;
    #[track_caller]
    fn next(&mut self) -> Option<T> {
        self.0.try_recv().ok()
    }
}

impl<T> fmt::Debug for TryIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TryIter(..)")
    }
}

/// As [`Iter`], and keeps the channel's receiving half. From `into_iter`.
#[derive(Clone)]
pub struct IntoIter<T>(Receiver<T>);

impl<T> IntoIter<T> {
    pub(crate) fn new(rx: Receiver<T>) -> IntoIter<T> {
        IntoIter(rx)
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;
    #[track_caller]
    fn next(&mut self) -> Option<T> {
        self.0.recv()
    }
}

impl<T> FusedIterator for IntoIter<T> {}

impl<T> fmt::Debug for IntoIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IntoIter(..)")
    }
}
