//! How far a group has come, and of which groups it was made.

use std::collections::BTreeMap;

use macula_core::replica::ReplicaId;

use super::message::{option, put_option};
use super::roster::{count, first_u64, word};
use crate::crdt::codec::{DecodeError, Decoder, Encoder};

/// Of how many groups a bucket may have come together.
const LINEAGES_MAX: usize = 16;

/// How many collections there were, and which: members that could not reach each other and were given up
/// may have collected as often, and not the same. The later of two is the greater one; of two that are as late,
/// that of more members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(in crate::crdt) struct Epoch {
    /// How many there were.
    number: u64,
    /// How many members made the last one.
    by: u64,
    /// The hash of the last one and of all before it; 0 for none.
    tag: u64,
}

impl Epoch {
    /// An epoch with any tag.
    #[cfg(test)]
    pub(in crate::crdt) const fn numbered(number: u64) -> Self {
        Self { number, by: number, tag: number }
    }

    /// How many collections there were.
    pub(in crate::crdt) const fn number(self) -> u64 {
        self.number
    }

    pub(in crate::crdt) fn encode(self, out: &mut Encoder) {
        out.number(self.number);
        out.number(self.by);
        out.bytes(&self.tag.to_be_bytes());
    }

    pub(in crate::crdt) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { number: from.number()?, by: from.number()?, tag: word(from)? })
    }
}

/// What was collected: replicas that are forgotten, each up to its last dot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::crdt) struct Collection {
    /// The epoch that ends with it.
    pub(in crate::crdt) before: Epoch,
    /// How many members made it.
    pub(in crate::crdt) by: u64,
    pub(in crate::crdt) departed: Vec<(ReplicaId, u64)>,
}

impl Collection {
    /// The epoch that begins with it.
    pub(in crate::crdt) fn epoch(&self) -> Epoch {
        let mut out = Encoder::default();
        self.encode(&mut out);
        let mut hash = blake3::Hasher::new();
        hash.update(&out.finish());
        let number = self.before.number.saturating_add(1);
        Epoch { number, by: self.by, tag: first_u64(&hash) }
    }

    pub(in crate::crdt) fn encode(&self, out: &mut Encoder) {
        self.before.encode(out);
        out.number(self.by);
        out.number(count(self.departed.len()));
        for (replica, last) in &self.departed {
            out.replica(*replica);
            out.number(*last);
        }
    }

    pub(in crate::crdt) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (before, by) = (Epoch::decode(from)?, from.number()?);
        let mut departed = Vec::new();
        for _ in 0..from.number()? {
            departed.push((from.replica()?, from.number()?));
        }
        Ok(Self { before, by, departed })
    }
}

/// How a group came to be a part of another one: a member of it came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Crossing {
    /// The epoch that it left.
    left: Epoch,
    /// The epoch to which it came.
    came: Epoch,
}

/// The groups of which one was made: those that it is, which have never collected apart, and those of which
/// a member has come over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::crdt) struct Lineages(BTreeMap<u64, Option<Crossing>>);

impl Lineages {
    /// The groups that this one is.
    fn own(&self) -> impl Iterator<Item = u64> {
        self.0.iter().filter(|(_, left)| left.is_none()).map(|(lineage, _)| *lineage)
    }

    /// A name of what this group is; none as long as nothing was written.
    pub(in crate::crdt) fn name(&self) -> Option<u64> {
        self.own().next()
    }

    /// Whether two groups are one in part.
    pub(in crate::crdt) fn shares(&self, other: &Self) -> bool {
        other.own().any(|lineage| self.0.get(&lineage) == Some(&None))
    }

    /// Whether one of another group, which has come to `epoch`, has missed more than the last collection of this
    /// group, which is the end of `last`, or has collected something else meanwhile.
    ///
    /// One of a group that was left is no stranger to what was known before, and not to what was collected
    /// after the first time since: it counted as a member then.
    pub(in crate::crdt) fn have_passed(
        &self,
        (now, last): (Epoch, Epoch),
        epoch: Epoch,
        other: &Self,
    ) -> bool {
        let is_past = |lineage| match self.0.get(&lineage) {
            Some(None) => true,
            Some(Some(Crossing { left, came })) => epoch < *left || (*came != now && *came != last),
            None => false,
        };
        epoch < now && epoch != last && other.own().any(is_past)
    }

    /// Comes over to another group.
    pub(in crate::crdt) fn cross(&mut self, (left, came): (Epoch, Epoch), to: &Self) {
        for crossing in self.0.values_mut() {
            crossing.get_or_insert(Crossing { left, came });
        }
        for lineage in to.own() {
            // It may have been left before.
            self.0.remove(&lineage);
        }
        self.join(to);
    }

    /// Another group is this one too. Says whether that is new.
    pub(in crate::crdt) fn are(&mut self, lineage: u64) -> bool {
        self.note(lineage, None)
    }

    /// All that another member knows of. Says whether that changed anything.
    pub(in crate::crdt) fn join(&mut self, other: &Self) -> bool {
        other.0.iter().fold(false, |changed, (lineage, left)| self.note(*lineage, *left) || changed)
    }

    fn note(&mut self, lineage: u64, left: Option<Crossing>) -> bool {
        let is_last = self.own().nth(1).is_none();
        if let Some(own) = self.0.get_mut(&lineage) {
            // A group is something, whatever somebody says.
            let is_later = *own < left && !(own.is_none() && is_last);
            if is_later {
                *own = left;
            }
            return is_later;
        }
        if self.0.len() >= LINEAGES_MAX {
            // One that is past for longest is missed least.
            let past = self.0.iter().filter_map(|(lineage, left)| Some(((*left)?, *lineage)));
            match past.min() {
                Some((_, oldest)) if left.is_none() => drop(self.0.remove(&oldest)),
                _ => return false,
            }
        }
        self.0.insert(lineage, left);
        true
    }

    pub(in crate::crdt) fn encode(&self, out: &mut Encoder) {
        out.number(count(self.0.len()));
        for (lineage, crossing) in &self.0 {
            out.bytes(&lineage.to_be_bytes());
            put_option(out, crossing.as_ref(), |out, Crossing { left, came }| {
                left.encode(out);
                came.encode(out);
            });
        }
    }

    pub(in crate::crdt) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut lineages = BTreeMap::new();
        let len = from.number()?;
        if len > count(LINEAGES_MAX) {
            return Err(from.form("too many lineages"));
        }
        for _ in 0..len {
            let lineage = word(from)?;
            let crossing = option(from, |from| {
                Ok(Crossing { left: Epoch::decode(from)?, came: Epoch::decode(from)? })
            })?;
            if lineages.last_key_value().is_some_and(|(before, _)| *before >= lineage) {
                return Err(from.form("lineages out of order"));
            }
            lineages.insert(lineage, crossing);
        }
        Ok(Self(lineages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(number: u64, tag: u64) -> Epoch {
        Epoch { number, by: 1, tag }
    }

    #[test]
    fn two_collections_after_the_same_are_two_epochs() {
        let replica = |node| ReplicaId { node, incarnation: 1 };
        let collected = |before, by, node| {
            Collection { before, by, departed: vec![(replica(node), 3)] }.epoch()
        };
        let after = |before, node| collected(before, 2, node);
        let (one, other) = (after(Epoch::default(), 1), after(Epoch::default(), 2));
        assert_eq!((one.number(), other.number()), (1, 1));
        assert_ne!(one, other);
        assert_eq!(one, after(Epoch::default(), 1));
        assert_ne!(after(one, 3), after(other, 3));
        assert!(one < after(other, 3) && other < after(one, 3));
        let by_more = collected(Epoch::default(), 3, 9);
        assert!(one < by_more && other < by_more, "of more members it is later");
    }

    #[test]
    fn what_was_left_is_past_and_nobody_is_missed_who_went_on_there() {
        let (mut over, mut other) = (Lineages::default(), Lineages::default());
        over.are(1);
        let stayed = over.clone();
        other.are(2);
        assert!(!over.shares(&other) && over.shares(&stayed));
        over.cross((epoch(5, 9), epoch(7, 1)), &other);
        assert!(over.shares(&other) && !over.shares(&stayed) && !stayed.shares(&over));
        assert_eq!(over.name(), Some(2));
        // Who was with it when it came over has missed nothing, nor has who went on.
        let came = (epoch(7, 1), epoch(6, 1));
        assert!(!over.have_passed(came, epoch(5, 9), &stayed));
        assert!(!over.have_passed(came, epoch(6, 0), &stayed));
        assert!(over.have_passed(came, epoch(4, 99), &stayed));
        assert!(over.have_passed(came, epoch(5, 1), &other));
        assert!(
            !over.have_passed(came, epoch(6, 1), &other)
                && !over.have_passed(came, epoch(9, 1), &other)
        );
        // What is collected later it can miss, but for the last.
        assert!(!over.have_passed((epoch(8, 1), epoch(7, 1)), epoch(5, 9), &stayed));
        assert!(over.have_passed((epoch(9, 1), epoch(8, 1)), epoch(5, 9), &stayed));
        // What one member has left all have.
        assert!(other.join(&over) && !other.join(&over));
        assert_eq!(other, over);
        assert!(!over.are(1), "left, and nobody comes back to it");
        // But that group may go on, and one that has come over comes back.
        over.cross((epoch(7, 1), epoch(9, 4)), &stayed);
        assert_eq!(
            (over.name(), over.shares(&stayed), over.shares(&other)),
            (Some(1), true, false)
        );
        // A group is something.
        let mut own = stayed.clone();
        assert!(own.join(&other) && own.shares(&stayed), "{own:?}");
    }

    #[test]
    fn lineages_are_bounded_and_come_back_from_their_bytes() {
        let mut all = Lineages::default();
        for lineage in 0..count(LINEAGES_MAX) {
            all.are(lineage);
            all.cross((epoch(lineage + 1, 0), epoch(90, 0)), &Lineages::default());
        }
        assert!(all.are(100), "the one that is past for longest goes");
        let crossing = Crossing { left: epoch(1, 1), came: epoch(2, 2) };
        assert!(!all.join(&Lineages(BTreeMap::from([(101, Some(crossing))]))));
        assert_eq!((all.0.len(), all.0.contains_key(&0)), (LINEAGES_MAX, false));
        let mut out = Encoder::default();
        all.encode(&mut out);
        let bytes = out.finish();
        let mut from = Decoder::new(&bytes).unwrap();
        assert_eq!(Lineages::decode(&mut from).unwrap(), all);
        from.finish().unwrap();
    }
}
