//! How much work of one kind is done at a time, and how much waits.

use std::collections::VecDeque;

/// Lets so many in, lets so many wait, and turns the others away.
#[derive(Debug)]
pub(crate) struct Gate<T> {
    running: usize,
    running_max: usize,
    waiting: VecDeque<T>,
    waiting_max: usize,
}

/// What becomes of one that comes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry<T> {
    /// It is let in.
    Runs(T),
    /// It waits.
    Waits,
    /// It is turned away.
    Full(T),
}

impl<T> Gate<T> {
    /// For `running_max` at a time, of which there is one at least, while `waiting_max` wait.
    pub(crate) fn new(running_max: usize, waiting_max: usize) -> Self {
        let running_max = running_max.max(1);
        Self { running: 0, running_max, waiting: VecDeque::new(), waiting_max }
    }

    /// One comes. Those that wait in vain make room for it, and are given back.
    pub(crate) fn enter(&mut self, one: T, is_over: impl Fn(&T) -> bool) -> (Entry<T>, Vec<T>) {
        let mut over = Vec::new();
        if self.running < self.running_max {
            self.running += 1;
            return (Entry::Runs(one), over);
        }
        if self.waiting.len() >= self.waiting_max {
            let waiting = std::mem::take(&mut self.waiting);
            for one in waiting {
                if is_over(&one) {
                    over.push(one);
                } else {
                    self.waiting.push_back(one);
                }
            }
        }
        if self.waiting.len() >= self.waiting_max {
            return (Entry::Full(one), over);
        }
        self.waiting.push_back(one);
        (Entry::Waits, over)
    }

    /// One leaves; the next that is let in, if one waits.
    pub(crate) fn leave(&mut self) -> Option<T> {
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.running = self.running.saturating_sub(1);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Gate};
    use proptest::prelude::*;

    #[test]
    fn some_run_some_wait_and_the_others_are_turned_away() {
        let mut gate = Gate::new(2, 1);
        let never = |_: &u32| false;
        assert_eq!(gate.enter(1, never), (Entry::Runs(1), vec![]));
        assert_eq!(gate.enter(2, never), (Entry::Runs(2), vec![]));
        assert_eq!(gate.enter(3, never), (Entry::Waits, vec![]));
        assert_eq!(gate.enter(4, never), (Entry::Full(4), vec![]));
        assert_eq!(gate.enter(5, |one| *one == 3), (Entry::Waits, vec![3]));
        assert_eq!(gate.leave(), Some(5));
        assert_eq!((gate.leave(), gate.leave()), (None, None));
        assert_eq!(gate.running, 0);
        assert_eq!(Gate::new(0, 0).enter(1, never).0, Entry::Runs(1), "one at least");
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_no_more_run_than_may(
            running_max in 1..4_usize,
            waiting_max in 0..4_usize,
            comes in proptest::collection::vec(any::<bool>(), 0..60),
        ) {
            let mut gate = Gate::new(running_max, waiting_max);
            let (mut running, mut waiting) = (0, 0);
            for (number, comes) in comes.into_iter().enumerate() {
                if comes {
                    match gate.enter(number, |_| false).0 {
                        Entry::Runs(_) => running += 1,
                        Entry::Waits => waiting += 1,
                        Entry::Full(_) => {
                            prop_assert!(running == running_max && waiting == waiting_max);
                        }
                    }
                } else if running > 0 {
                    match gate.leave() {
                        Some(_) => waiting -= 1,
                        None => running -= 1,
                    }
                }
                prop_assert!(running <= running_max && waiting <= waiting_max);
                prop_assert!(waiting == 0 || running == running_max);
            }
        }
    }
}
