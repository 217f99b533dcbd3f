//! [`Runs`]: a set of slot numbers, as runs without gaps. Neighbours grow together, and the lowest go first.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of numbers as disjoint runs that do not touch; see the module.
#[derive(Debug, Default)]
pub struct Runs {
    /// First number of each run, and the number after its last.
    runs: BTreeMap<usize, usize>,
    len: usize,
}

impl Runs {
    /// The empty set.
    pub const fn new() -> Runs {
        Runs { runs: BTreeMap::new(), len: 0 }
    }

    /// How many numbers are in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds a run, none of which is in the set; the run that it is part of now.
    pub fn insert(&mut self, run: Range<usize>) -> Range<usize> {
        debug_assert!(!run.is_empty() && !self.overlaps(&run), "{run:?} is free already");
        self.len += run.len();
        let mut whole = run;
        if let Some((&start, &end)) = self.runs.range(..whole.start).next_back()
            && end == whole.start
        {
            whole.start = start;
        }
        if let Some(end) = self.runs.remove(&whole.end) {
            whole.end = end;
        }
        self.runs.insert(whole.start, whole.end);
        whole
    }

    /// Takes up to `n` numbers in one run, the lowest in the set.
    pub fn take(&mut self, n: usize) -> Option<Range<usize>> {
        let (start, end) = self.runs.pop_first()?;
        let cut = end.min(start + n);
        if cut < end {
            self.runs.insert(cut, end);
        }
        self.len -= cut - start;
        Some(start..cut)
    }

    /// The run that a number is in.
    pub fn run_with(&self, n: usize) -> Option<Range<usize>> {
        let (start, end) = self.runs.range(..=n).next_back()?;
        (n < *end).then_some(*start..*end)
    }

    /// Takes out a run that [`Runs::insert`] or [`Runs::run_with`] has returned.
    pub fn remove(&mut self, run: &Range<usize>) {
        let end = self.runs.remove(&run.start);
        debug_assert_eq!(end, Some(run.end));
        self.len -= run.len();
    }

    fn overlaps(&self, run: &Range<usize>) -> bool {
        self.runs.range(..run.end).next_back().is_some_and(|(_, &end)| end > run.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn neighbours_grow_together() {
        let mut runs = Runs::new();
        assert_eq!(runs.insert(0..2), 0..2);
        assert_eq!(runs.insert(4..6), 4..6);
        assert_eq!(runs.insert(2..4), 0..6);
        assert_eq!((runs.take(4), runs.len()), (Some(0..4), 2));
        runs.remove(&(4..6));
        assert_eq!((runs.take(1), runs.len()), (None, 0));
    }

    proptest! {
        /// Against a plain set, with runs given back in any order and size.
        #[test]
        fn behaves_as_a_set_that_gives_the_lowest_first(steps in prop::collection::vec((any::<bool>(), 1usize..20), 1..200)) {
            let (mut runs, mut model) = (Runs::new(), (0..500).collect::<BTreeSet<usize>>());
            runs.insert(0..500);
            let mut out: Vec<Range<usize>> = Vec::new();
            for (take, n) in steps {
                if take {
                    let got = runs.take(n);
                    prop_assert_eq!(got.as_ref().map(|r| r.start), model.first().copied());
                    if let Some(run) = got {
                        prop_assert!(run.len() <= n);
                        for i in run.clone() {
                            prop_assert!(model.remove(&i), "{} was not free", i);
                        }
                        out.push(run);
                    }
                } else if !out.is_empty() {
                    let run = out.swap_remove(n % out.len());
                    model.extend(run.clone());
                    let whole = runs.insert(run.clone());
                    prop_assert!(whole.start <= run.start && run.end <= whole.end);
                    prop_assert!(whole.clone().all(|i| model.contains(&i)));
                    prop_assert!(!model.contains(&whole.end) && (whole.start == 0 || !model.contains(&(whole.start - 1))));
                }
                prop_assert_eq!(runs.len(), model.len());
            }
        }
    }
}
