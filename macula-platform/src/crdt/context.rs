//! The causal context: which updates have been seen.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Bound;

use macula_core::replica::ReplicaId;

use super::dot::Dot;

/// A set of dots, as spans of consecutive ones.
///
/// The span of a replica that begins at 1 is its entry in a version vector; all others are the
/// cloud: dots that came before some that are older. Spans that touch are one span, always, so that
/// two equal sets are equal in memory and in bytes. It takes memory in proportion to the spans: in a
/// bucket that is in step with its peers, one for each replica that ever wrote.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Context {
    /// From the first dot of a span to the counter of its last.
    spans: BTreeMap<Dot, u64>,
}

impl Context {
    /// Whether the dot has been seen.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        self.before(dot).is_some_and(|(_, last)| dot.counter <= last)
    }

    /// Whether all that `other` has seen has been seen.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        other.spans().all(|(first, last)| self.before(first).is_some_and(|(_, seen)| last <= seen))
    }

    /// Whether nothing has been seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// How many spans there are, which is what it takes memory for.
    #[must_use]
    pub fn spans_len(&self) -> usize {
        self.spans.len()
    }

    /// The spans in order: the first dot of each, and the counter of its last.
    pub fn spans(&self) -> impl Iterator<Item = (Dot, u64)> {
        self.spans.iter().map(|(&first, &last)| (first, last))
    }

    /// The replicas of which something has been seen, in order.
    pub fn replicas(&self) -> impl Iterator<Item = ReplicaId> {
        let mut last = None;
        self.spans.keys().map(|dot| dot.replica).filter(move |&replica| {
            let new = last != Some(replica);
            last = Some(replica);
            new
        })
    }

    /// The greatest counter of a replica that has been seen; 0 if there is none.
    #[must_use]
    pub fn last(&self, replica: ReplicaId) -> u64 {
        self.before(Dot { replica, counter: u64::MAX }).map_or(0, |(_, last)| last)
    }

    /// Up to which counter all of a replica's updates have been seen; 0 if not even the first.
    #[must_use]
    pub fn contiguous(&self, replica: ReplicaId) -> u64 {
        self.spans.get(&Dot { replica, counter: 1 }).copied().unwrap_or(0)
    }

    /// Notes that a dot has been seen. Says whether that is new.
    pub fn insert(&mut self, dot: Dot) -> bool {
        self.insert_span(dot, dot.counter)
    }

    /// Notes that a dot has been seen, and those that follow it up to the counter `last`. Says
    /// whether any of them is new.
    pub fn insert_span(&mut self, first: Dot, last: u64) -> bool {
        if last < first.counter {
            return false;
        }
        let replica = first.replica;
        let before = self.spans.range_mut(..=first).next_back();
        let start = match before.filter(|(start, _)| start.replica == replica) {
            Some((_, until)) if *until >= last => return false,
            Some((&start, until)) if *until >= first.counter.saturating_sub(1) => {
                *until = last;
                start
            }
            Some(_) | None => {
                self.spans.insert(first, last);
                first
            }
        };
        self.swallow(start, last);
        true
    }

    /// Makes the span at `start`, which ends at `last`, one with those after it that it touches.
    fn swallow(&mut self, start: Dot, mut last: u64) {
        loop {
            let touched = Dot { replica: start.replica, counter: last.saturating_add(1) };
            let after = (Bound::Excluded(start), Bound::Included(touched));
            let Some((&next, &until)) = self.spans.range(after).next() else {
                return;
            };
            self.spans.remove(&next);
            if until > last {
                last = until;
                self.spans.insert(start, last);
            }
        }
    }

    /// Sees all that `other` has seen. Says whether any of it is new.
    pub fn join(&mut self, other: &Self) -> bool {
        other.spans().fold(false, |new, (first, last)| self.insert_span(first, last) || new)
    }

    /// What both have seen.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let mut both = Self::default();
        let (mut ours, mut theirs) = (self.spans().peekable(), other.spans().peekable());
        while let (Some(&(a, a_last)), Some(&(b, b_last))) = (ours.peek(), theirs.peek()) {
            if a.replica == b.replica {
                both.insert_span(a.max(b), a_last.min(b_last));
            }
            if (a.replica, a_last) <= (b.replica, b_last) {
                ours.next();
            } else {
                theirs.next();
            }
        }
        both
    }

    /// What has been seen here and not by `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for (first, last) in self.spans() {
            let replica = first.replica;
            let mut from = Some(first.counter);
            let inside = Dot { replica, counter: last };
            let start = other.before(first).map_or(first, |(start, _)| start);
            for (&seen, &until) in other.spans.range(start..=inside) {
                if let (Some(counter), Some(end)) = (from, seen.counter.checked_sub(1)) {
                    rest.insert_span(Dot { replica, counter }, end);
                }
                from = from.max(until.checked_add(1)).filter(|_| until < u64::MAX);
            }
            if let Some(counter) = from {
                rest.insert_span(Dot { replica, counter }, last);
            }
        }
        rest
    }

    /// The same dots in parts of at most `spans_max` spans.
    pub fn parts(&self, spans_max: usize) -> impl Iterator<Item = Self> {
        let mut spans = self.spans().peekable();
        std::iter::from_fn(move || {
            spans.peek()?;
            Some(Self { spans: spans.by_ref().take(spans_max.max(1)).collect() })
        })
    }

    /// Forgets a replica, of which no dot may be live any more, here or with anybody.
    pub fn forget(&mut self, replica: ReplicaId) {
        let whole = Dot { replica, counter: 0 }..=Dot { replica, counter: u64::MAX };
        let spans: Vec<Dot> = self.spans.range(whole).map(|(&first, _)| first).collect();
        for first in spans {
            self.spans.remove(&first);
        }
    }

    /// The span of the same replica that begins at `dot` or before it.
    fn before(&self, dot: Dot) -> Option<(Dot, u64)> {
        let (&first, &last) = self.spans.range(..=dot).next_back()?;
        (first.replica == dot.replica).then_some((first, last))
    }
}

impl FromIterator<Dot> for Context {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut context = Self::default();
        context.extend(dots);
        context
    }
}

impl Extend<Dot> for Context {
    fn extend<I: IntoIterator<Item = Dot>>(&mut self, dots: I) {
        for dot in dots {
            self.insert(dot);
        }
    }
}

impl Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let spans = self.spans().map(|(first, last)| match last - first.counter {
            0 => first.to_string(),
            _ => format!("{first}-{last}"),
        });
        f.debug_set().entries(spans).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Context, Dot};
    use macula_core::replica::ReplicaId;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn dot() -> impl Strategy<Value = Dot> {
        (0..2_u64, 0..2_u64, 1..12_u64).prop_map(|(node, incarnation, counter)| Dot {
            replica: ReplicaId { node, incarnation },
            counter,
        })
    }

    fn dots() -> impl Strategy<Value = BTreeSet<Dot>> {
        prop::collection::btree_set(dot(), 0..24)
    }

    fn members(context: &Context) -> BTreeSet<Dot> {
        context
            .spans()
            .flat_map(|(first, last)| {
                (first.counter..=last).map(move |counter| Dot { counter, ..first })
            })
            .collect()
    }

    fn of(dots: &BTreeSet<Dot>) -> Context {
        dots.iter().copied().collect()
    }

    proptest! {
        /// It is a set of dots: everything it can be asked agrees with one that is spelled out.
        #[test]
        fn it_is_a_set_of_dots(a in dots(), b in dots(), one in dot()) {
            let (x, y) = (of(&a), of(&b));
            prop_assert_eq!(members(&x), a.clone());
            prop_assert_eq!(x.contains(one), a.contains(&one));
            prop_assert_eq!(x.includes(&y), a.is_superset(&b));
            prop_assert_eq!(x.meet(&y), of(&(&a & &b)));
            prop_assert_eq!(x.minus(&y), of(&(&a - &b)));
            let mut joined = x.clone();
            prop_assert_eq!(joined.join(&y), !a.is_superset(&b));
            prop_assert_eq!(joined, of(&(&a | &b)));
            let greatest = a.iter().filter(|dot| dot.replica == one.replica).map(|dot| dot.counter);
            let parts: Vec<Context> = x.parts(2).collect();
            prop_assert!(parts.iter().all(|part| part.spans_len() <= 2));
            prop_assert_eq!(parts.iter().flat_map(members).collect::<BTreeSet<_>>(), a.clone());
            prop_assert_eq!(x.last(one.replica), greatest.max().unwrap_or(0));
            let next = (1..).find(|&counter| !a.contains(&Dot { counter, ..one })).unwrap();
            prop_assert_eq!(x.contiguous(one.replica), next - 1);
            let replicas: BTreeSet<_> = a.iter().map(|dot| dot.replica).collect();
            prop_assert!(x.replicas().eq(replicas));
            let mut without = x;
            without.forget(one.replica);
            let rest: BTreeSet<_> =
                a.iter().copied().filter(|dot| dot.replica != one.replica).collect();
            prop_assert_eq!(without, of(&rest));
        }

        /// However it came about, there is one form.
        #[test]
        fn spans_that_touch_are_one(a in prop::collection::vec(dot(), 0..24)) {
            let forwards: Context = a.iter().copied().collect();
            let backwards: Context = a.iter().rev().copied().collect();
            prop_assert_eq!(&forwards, &backwards);
            let spans: Vec<_> = forwards.spans().collect();
            for pair in spans.windows(2) {
                let ((a, last), (b, _)) = (pair[0], pair[1]);
                prop_assert!(a.replica < b.replica || last + 1 < b.counter);
            }
        }
    }

    #[test]
    fn the_end_of_the_counters_is_survived() {
        let replica = ReplicaId { node: 1, incarnation: 1 };
        let mut context = Context::default();
        assert!(context.insert_span(Dot { replica, counter: u64::MAX - 1 }, u64::MAX));
        assert!(context.insert_span(Dot { replica, counter: 1 }, u64::MAX - 2));
        assert_eq!(context.spans_len(), 1);
        assert_eq!(context.contiguous(replica), u64::MAX);
        assert!(!context.insert_span(Dot { replica, counter: 5 }, 4));
        assert_eq!(context.minus(&context.clone()), Context::default());
    }
}
