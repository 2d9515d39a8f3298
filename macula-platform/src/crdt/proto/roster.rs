//! Who holds a bucket: what each member knows of it, and how that comes together.

use std::collections::BTreeMap;

use crate::crdt::codec::{DecodeError, Decoder, Encoder};
use crate::crdt::context::Context;

/// What a node is to a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::crdt) enum Standing {
    /// It holds it, and writes as this incarnation or a later one.
    Holds(u64),
    /// It does not, or was given up. Of what it had written this was known.
    Retired(Context),
}

/// The latest word on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::crdt) struct Seat {
    /// Which word it is: it grows with each. Of two with one number the retirement counts.
    pub(in crate::crdt) version: u64,
    pub(in crate::crdt) standing: Standing,
}

impl Seat {
    /// As which incarnation the node writes.
    pub(in crate::crdt) const fn incarnation(&self) -> Option<u64> {
        match self.standing {
            Standing::Holds(incarnation) => Some(incarnation),
            Standing::Retired(_) => None,
        }
    }

    /// Takes a later word, or a part of one that this one lacks. Says whether that changed anything.
    fn join(&mut self, other: &Self) -> bool {
        if self.version != other.version {
            let later = self.version < other.version;
            if later {
                *self = other.clone();
            }
            return later;
        }
        match (&mut self.standing, &other.standing) {
            (Standing::Holds(own), Standing::Holds(theirs)) => {
                let later = *own < *theirs;
                *own = (*own).max(*theirs);
                later
            }
            (Standing::Retired(own), Standing::Retired(theirs)) => own.join(theirs),
            (own @ Standing::Holds(_), Standing::Retired(_)) => {
                own.clone_from(&other.standing);
                true
            }
            (Standing::Retired(_), Standing::Holds(_)) => false,
        }
    }
}

/// All nodes that hold a bucket or have held it. Two rosters are joined seat by seat, by what was said
/// later, so that all members come to have the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::crdt) struct Roster {
    seats: BTreeMap<u64, Seat>,
}

impl Roster {
    pub(in crate::crdt) fn seat(&self, node: u64) -> Option<&Seat> {
        self.seats.get(&node)
    }

    /// Whether a node holds the bucket.
    pub(in crate::crdt) fn holds(&self, node: u64) -> bool {
        self.incarnation(node).is_some()
    }

    /// As which incarnation a node that holds the bucket writes.
    pub(in crate::crdt) fn incarnation(&self, node: u64) -> Option<u64> {
        match self.seats.get(&node)?.standing {
            Standing::Holds(incarnation) => Some(incarnation),
            Standing::Retired(_) => None,
        }
    }

    /// Whether more is known of a node than a word of an earlier life of it says.
    pub(in crate::crdt) fn is_later(&self, node: u64, word: &Seat) -> bool {
        let Some(known) = self.seats.get(&node) else { return false };
        match (&known.standing, &word.standing) {
            (Standing::Holds(known_as), Standing::Holds(said)) => {
                said < known_as && word.version <= known.version
            }
            _ => false,
        }
    }

    /// Those who hold it, in order.
    pub(in crate::crdt) fn holders(&self) -> impl Iterator<Item = u64> {
        let holds = |seat: &Seat| matches!(seat.standing, Standing::Holds(_));
        self.seats.iter().filter(move |(_, seat)| holds(seat)).map(|(&node, _)| node)
    }

    /// Of which retired node how much was known.
    pub(in crate::crdt) fn known_of(&self, node: u64) -> Option<&Context> {
        match &self.seats.get(&node)?.standing {
            Standing::Holds(_) => None,
            Standing::Retired(known) => Some(known),
        }
    }

    /// Takes a word on a node. Says whether it changed anything.
    pub(in crate::crdt) fn join_seat(
        &mut self,
        node: u64,
        seat: &Seat,
        members_max: usize,
    ) -> bool {
        if let Some(own) = self.seats.get_mut(&node) {
            return own.join(seat);
        }
        if matches!(seat.standing, Standing::Holds(_)) && self.holders().count() >= members_max {
            return false;
        }
        self.seats.insert(node, seat.clone());
        true
    }

    /// Takes all of another roster. Says whether it changed anything.
    pub(in crate::crdt) fn join(&mut self, other: &Self, members_max: usize) -> bool {
        let seats = other.seats.iter();
        seats.fold(false, |new, (&node, seat)| self.join_seat(node, seat, members_max) || new)
    }

    /// Says for a node itself that it holds the bucket, whatever was said of it before. Says whether
    /// that was news.
    pub(in crate::crdt) fn sit(&mut self, node: u64, incarnation: u64) -> bool {
        let before = self.seats.get(&node);
        if before.is_some_and(|seat| seat.standing == Standing::Holds(incarnation)) {
            return false;
        }
        let version = before.map_or(1, |seat| seat.version.saturating_add(1));
        self.seats.insert(node, Seat { version, standing: Standing::Holds(incarnation) });
        true
    }

    /// Gives a node up that holds the bucket. Says whether it did.
    pub(in crate::crdt) fn retire(&mut self, node: u64, known: Context) -> bool {
        let Some(seat) = self.seats.get_mut(&node) else { return false };
        if matches!(seat.standing, Standing::Retired(_)) {
            return false;
        }
        seat.version = seat.version.saturating_add(1);
        seat.standing = Standing::Retired(known);
        true
    }

    /// Forgets retired nodes, the least first, until no more than so many are left.
    pub(in crate::crdt) fn trim(&mut self, retired_max: usize) {
        let retired = |(_, seat): &(_, &Seat)| matches!(seat.standing, Standing::Retired(_));
        let retired: Vec<u64> = self.seats.iter().filter(retired).map(|(&node, _)| node).collect();
        for node in retired.iter().take(retired.len().saturating_sub(retired_max)) {
            self.seats.remove(node);
        }
    }

    /// A number for who holds the bucket and as whom, and for nothing else.
    pub(in crate::crdt) fn hash(&self) -> u64 {
        let mut hash = blake3::Hasher::new();
        for (node, seat) in &self.seats {
            if let Standing::Holds(incarnation) = seat.standing {
                hash.update(&node.to_be_bytes()).update(&incarnation.to_be_bytes());
            }
        }
        first_u64(&hash)
    }

    pub(in crate::crdt) fn encode(&self, out: &mut Encoder) {
        out.number(count(self.seats.len()));
        for (node, seat) in &self.seats {
            out.bytes(&node.to_be_bytes());
            out.number(seat.version);
            match &seat.standing {
                Standing::Holds(incarnation) => {
                    out.byte(0);
                    out.number(*incarnation);
                }
                Standing::Retired(known) => {
                    out.byte(1);
                    out.context(known);
                }
            }
        }
    }

    pub(in crate::crdt) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut seats = BTreeMap::new();
        for _ in 0..from.number()? {
            let node = word(from)?;
            let version = from.number()?;
            let standing = match from.byte()? {
                0 => Standing::Holds(from.number()?),
                1 => Standing::Retired(from.context()?),
                _ => return Err(from.form("no standing of a member")),
            };
            seats.insert(node, Seat { version, standing });
        }
        Ok(Self { seats })
    }
}

pub(in crate::crdt) fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// The first 8 bytes of a hash.
pub(in crate::crdt) fn first_u64(hash: &blake3::Hasher) -> u64 {
    let mut first = [0; 8];
    hash.finalize_xof().fill(&mut first);
    u64::from_be_bytes(first)
}

/// Reads a number that was written as its 8 bytes.
pub(in crate::crdt) fn word(from: &mut Decoder<'_>) -> Result<u64, DecodeError> {
    let bytes = from.bytes("a word", 8)?;
    let bytes: [u8; 8] = bytes.try_into().map_err(|_short| from.form("no word of 8 bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::{Roster, Seat, Standing};
    use crate::crdt::codec::{Decoder, Encoder};
    use crate::crdt::context::Context;
    use crate::crdt::dot::Dot;
    use macula_core::replica::ReplicaId;
    use proptest::prelude::*;

    fn standing() -> impl Strategy<Value = Standing> {
        let known = |counter| {
            let replica = ReplicaId { node: 1, incarnation: 1 };
            let mut known = Context::default();
            known.insert(Dot { replica, counter });
            known
        };
        prop_oneof![
            (0..3_u64).prop_map(Standing::Holds),
            (1..4_u64).prop_map(move |counter| Standing::Retired(known(counter)))
        ]
    }

    fn roster() -> impl Strategy<Value = Roster> {
        let seat =
            (1..4_u64, standing()).prop_map(|(version, standing)| Seat { version, standing });
        prop::collection::btree_map(0..4_u64, seat, 0..4).prop_map(|seats| Roster { seats })
    }

    fn joined(a: &Roster, b: &Roster) -> Roster {
        let mut all = a.clone();
        all.join(b, 100);
        all
    }

    proptest! {
        /// Rosters come together in any order and however often, and come back from their bytes.
        #[test]
        fn rosters_come_together(a in roster(), b in roster(), c in roster()) {
            prop_assert_eq!(joined(&a, &b), joined(&b, &a));
            prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
            prop_assert_eq!(joined(&a, &a), a.clone());
            let mut out = Encoder::default();
            a.encode(&mut out);
            let bytes = out.finish();
            prop_assert_eq!(Roster::decode(&mut Decoder::new(&bytes).unwrap()).unwrap(), a);
        }
    }

    #[test]
    fn whoever_is_given_up_can_say_that_it_is_there() {
        let (mut here, mut there) = (Roster::default(), Roster::default());
        assert!(here.sit(7, 1) && !here.sit(7, 1));
        there.join(&here, 10);
        assert!(there.retire(7, Context::default()) && !there.retire(7, Context::default()));
        here.join(&there, 10);
        assert!(!here.holds(7) && here.sit(7, 2));
        there.join(&here, 10);
        assert_eq!((there.incarnation(7), there.hash()), (Some(2), here.hash()));
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut roster = Roster::default();
        for node in 0..5 {
            let seat = Seat { version: 1, standing: Standing::Holds(1) };
            assert_eq!(roster.join_seat(node, &seat, 3), node < 3);
        }
        for node in 0..3 {
            roster.retire(node, Context::default());
        }
        roster.trim(1);
        assert!(roster.known_of(1).is_none() && roster.known_of(2).is_some());
    }
}
