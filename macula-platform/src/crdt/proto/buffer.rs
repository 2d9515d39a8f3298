//! Own changes that others have not acknowledged yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use macula_core::replica::ReplicaId;

use crate::crdt::bucket::KeyDelta;
use crate::crdt::context::Context;
use crate::crdt::dot::Dot;

/// How large a change becomes by joining others into it, in bytes.
const JOINED_LEN_MAX: usize = 4 << 10;

/// About how many bytes a span of a context takes.
const SPAN_LEN: usize = 12;

/// Sequence numbers, as the spans of a context have them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::crdt) struct Numbers(pub(in crate::crdt) Context);

impl Numbers {
    const fn dot(number: u64) -> Dot {
        Dot { replica: ReplicaId { node: 0, incarnation: 0 }, counter: number }
    }

    pub(in crate::crdt) fn has(&self, number: u64) -> bool {
        self.0.contains(Self::dot(number))
    }

    pub(in crate::crdt) fn insert(&mut self, number: u64) {
        self.0.insert(Self::dot(number));
    }

    /// Up to and with a number: all that were ever given.
    pub(in crate::crdt) fn insert_to(&mut self, number: u64) {
        self.0.insert_span(Self::dot(1), number);
    }

    pub(in crate::crdt) fn join(&mut self, other: &Self) {
        self.0.join(&other.0);
    }

    pub(in crate::crdt) fn includes(&self, other: &Self) -> bool {
        self.0.includes(&other.0)
    }

    pub(in crate::crdt) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them in order.
    pub(in crate::crdt) fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.spans().flat_map(|(first, last)| first.counter..=last)
    }
}

#[derive(Debug)]
struct Item {
    change: Arc<KeyDelta>,
    len: usize,
}

/// About how many bytes a change has on the wire.
pub(in crate::crdt) fn len_of(change: &KeyDelta) -> usize {
    let delta = &change.delta;
    16 + change.key.len() + delta.state.weight() + SPAN_LEN * delta.context.spans_len()
}

/// Own changes by their numbers, which begin at 1. Changes of one key that nobody was sent yet become
/// one, under the number of the first.
#[derive(Debug, Default)]
pub(in crate::crdt) struct Buffer {
    items: BTreeMap<u64, Item>,
    /// The number of the last change of each key that nobody was sent.
    unsent: BTreeMap<Arc<str>, u64>,
    last: u64,
    len: usize,
}

impl Buffer {
    /// An empty one that goes on after a number.
    pub(in crate::crdt) fn after(last: u64) -> Self {
        Self { last, ..Self::default() }
    }

    /// The number of the last change.
    pub(in crate::crdt) const fn last(&self) -> u64 {
        self.last
    }

    /// About how many bytes there are.
    pub(in crate::crdt) const fn len(&self) -> usize {
        self.len
    }

    /// The first number that is still here, or the next that there will be.
    pub(in crate::crdt) fn first(&self) -> u64 {
        self.items.first_key_value().map_or(self.last + 1, |(&number, _)| number)
    }

    /// The number of the last change, to which nothing is added from now on.
    pub(in crate::crdt) fn seal(&mut self) -> u64 {
        self.unsent.clear();
        self.last
    }

    /// Takes a change, and gives its number: that of an earlier one of which it has become a part.
    pub(in crate::crdt) fn push(&mut self, change: Arc<KeyDelta>) -> u64 {
        let len = len_of(&change);
        if let Some(&number) = self.unsent.get(&change.key)
            && let Some(item) = self.items.get_mut(&number)
            && item.len + len <= JOINED_LEN_MAX
            && Arc::make_mut(&mut item.change).join(&change)
        {
            self.len -= item.len;
            item.len = len_of(&item.change);
            self.len += item.len;
            return number;
        }
        self.last += 1;
        self.unsent.insert(Arc::clone(&change.key), self.last);
        self.len += len;
        self.items.insert(self.last, Item { change, len });
        self.last
    }

    /// The changes that are not among those numbers, from after one on, up to about so many bytes, and
    /// one at least if there is any. They count as sent.
    pub(in crate::crdt) fn next(
        &mut self,
        after: u64,
        except: &Numbers,
        len_max: usize,
    ) -> (Vec<Arc<KeyDelta>>, Numbers) {
        let (mut changes, mut numbers, mut len) = (Vec::new(), Numbers::default(), 0);
        for (&number, item) in self.items.range(after.saturating_add(1)..) {
            if except.has(number) {
                continue;
            }
            if !changes.is_empty() && len + item.len > len_max {
                break;
            }
            len += item.len;
            numbers.insert(number);
            if self.unsent.get(&item.change.key) == Some(&number) {
                self.unsent.remove(&item.change.key);
            }
            changes.push(Arc::clone(&item.change));
        }
        (changes, numbers)
    }

    /// Drops all before a number.
    pub(in crate::crdt) fn drop_before(&mut self, number: u64) {
        while let Some(first) = self.items.first_entry().filter(|first| *first.key() < number) {
            let (gone, item) = first.remove_entry();
            self.len -= item.len;
            if self.unsent.get(&item.change.key) == Some(&gone) {
                self.unsent.remove(&item.change.key);
            }
        }
    }

    /// Drops the oldest until so many bytes are left.
    pub(in crate::crdt) fn shrink(&mut self, len_max: usize) {
        while self.len > len_max {
            let first = self.first();
            self.drop_before(first + 1);
        }
    }

    /// Takes a replica out of what changes replace.
    pub(in crate::crdt) fn forget(&mut self, replicas: &[ReplicaId]) {
        for item in self.items.values_mut() {
            let of_any = |dot: Dot| replicas.contains(&dot.replica);
            if item.change.delta.context.spans().any(|(first, _)| of_any(first)) {
                let change = Arc::make_mut(&mut item.change);
                replicas.iter().for_each(|&replica| change.delta.context.forget(replica));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Buffer, Numbers};
    use crate::crdt::bucket::Bucket;
    use crate::crdt::limits::Limits;
    use crate::crdt::types::GCounter;
    use macula_core::replica::ReplicaId;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn changes_of_a_key_that_nobody_was_sent_are_one() {
        let mut bucket =
            Bucket::new(ReplicaId { node: 1, incarnation: 1 }, Limits::default()).unwrap();
        let mut count = |key: &str| {
            let now = Duration::from_secs(1);
            let made = bucket.update(key, now, |sum: &GCounter, write| sum.increment(1, write));
            Arc::new(made.unwrap())
        };
        let mut buffer = Buffer::default();
        let numbers = ["a", "b", "a", "a"].map(|key| buffer.push(count(key)));
        assert_eq!(numbers, [1, 2, 1, 1]);
        let (changes, sent) = buffer.next(0, &Numbers::default(), usize::MAX);
        assert_eq!(changes.iter().map(|change| &*change.key).collect::<Vec<_>>(), ["a", "b"]);
        // What was sent stays as it was sent, and what was sealed.
        assert_eq!([buffer.push(count("a")), buffer.seal(), buffer.push(count("a"))], [3, 3, 4]);
        let (changes, later) = buffer.next(0, &sent, usize::MAX);
        assert!(changes.len() == 2 && later.has(3) && later.has(4));
        // No more than so many bytes, and one at least.
        assert_eq!(buffer.next(0, &Numbers::default(), 1).0.len(), 1);
        buffer.drop_before(4);
        assert_eq!(buffer.first(), 4);
        buffer.shrink(0);
        assert_eq!((buffer.first(), buffer.len()), (5, 0));
    }
}
