//! Two types in one.

use std::sync::Arc;

use macula_core::hlc::Timestamp;

use crate::crdt::codec::{DecodeError, Decoder, Encoder, Tag};
use crate::crdt::context::Context;
use crate::crdt::contract::{Crdt, Delta, Piece, Place, Tidy};
use crate::crdt::dot::Dot;
use crate::crdt::kind::Kind;
use crate::crdt::limits::Refused;
use crate::crdt::write::Write;

/// The keys under which the two are encoded, as entries of a map.
const KEYS: [&[u8]; 2] = [&[0], &[1]];

/// How many bytes the keys take, and the number of them.
const KEYS_WEIGHT: usize = 8;

/// Two values of two types that are changed and removed together: what a record is made of.
///
/// It is a map of two keys in all that is seen from outside.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pair<A, B> {
    first: A,
    second: B,
    extent: Extent,
}

/// What a pair says of its two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Extent {
    /// They are what they are.
    #[default]
    Whole,
    /// It is a delta, whose context has dots of these, and not of the other.
    Part { first: bool, second: bool },
}

impl Extent {
    const fn has(self) -> (bool, bool) {
        match self {
            Self::Whole => (true, true),
            Self::Part { first, second } => (first, second),
        }
    }

    const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Whole, _) | (_, Self::Whole) => Self::Whole,
            (Self::Part { first, second }, Self::Part { first: one, second: two }) => {
                Self::Part { first: first || one, second: second || two }
            }
        }
    }
}

impl<A: Crdt, B: Crdt> Pair<A, B> {
    /// The first value.
    #[must_use]
    pub const fn first(&self) -> &A {
        &self.first
    }

    /// The second value.
    #[must_use]
    pub const fn second(&self) -> &B {
        &self.second
    }

    /// A delta that changes the first value.
    ///
    /// # Errors
    ///
    /// What `change` says.
    pub fn update_first(
        &self,
        write: &mut Write<'_>,
        change: impl FnOnce(&A, &mut Write<'_>) -> Result<Delta<A>, Refused>,
    ) -> Result<Delta<Self>, Refused> {
        Ok(Self::of_first(change(&self.first, write)?))
    }

    /// A delta that changes the second value.
    ///
    /// # Errors
    ///
    /// What `change` says.
    pub fn update_second(
        &self,
        write: &mut Write<'_>,
        change: impl FnOnce(&B, &mut Write<'_>) -> Result<Delta<B>, Refused>,
    ) -> Result<Delta<Self>, Refused> {
        Ok(Self::of_second(change(&self.second, write)?))
    }

    fn of_first(delta: Delta<A>) -> Delta<Self> {
        let extent = Extent::Part { first: true, second: false };
        delta.map(|first| Self { first, second: B::default(), extent })
    }

    fn of_second(delta: Delta<B>) -> Delta<Self> {
        let extent = Extent::Part { first: false, second: true };
        delta.map(|second| Self { first: A::default(), second, extent })
    }
}

/// Joins one of the two. A delta that says nothing of it takes what another says as it is.
fn join_one<C: Crdt>(
    own: (&mut C, bool),
    ours: &Context,
    theirs: (&C, bool),
    context: &Context,
) -> bool {
    match (own, theirs) {
        ((own, true), (theirs, true)) => own.join(ours, theirs, context),
        ((own, false), (theirs, true)) => {
            *own = theirs.clone();
            true
        }
        (_, (_, false)) => false,
    }
}

impl<A: Crdt, B: Crdt> Crdt for Pair<A, B> {
    fn kind() -> Kind {
        A::kind().paired(&B::kind())
    }

    fn join(&mut self, ours: &Context, theirs: &Self, context: &Context) -> bool {
        let (first, second) = self.extent.has();
        let (their_first, their_second) = theirs.extent.has();
        let one = join_one((&mut self.first, first), ours, (&theirs.first, their_first), context);
        let two =
            join_one((&mut self.second, second), ours, (&theirs.second, their_second), context);
        self.extent = self.extent.and(theirs.extent);
        one || two
    }

    fn visit(&self, each: &mut dyn FnMut(Dot)) {
        self.first.visit(each);
        self.second.visit(each);
    }

    fn is_bottom(&self) -> bool {
        self.first.is_bottom() && self.second.is_bottom()
    }

    fn weight(&self) -> usize {
        KEYS_WEIGHT + self.first.weight() + self.second.weight()
    }

    fn encode(&self, out: &mut Encoder) {
        let (tag, first, second) = match self.extent {
            Extent::Whole => (Tag::Map, !self.first.is_bottom(), !self.second.is_bottom()),
            Extent::Part { first, second } => (Tag::Part, first, second),
        };
        if !first && !second {
            return out.bottom();
        }
        out.node(tag, usize::from(first) + usize::from(second));
        let [first_key, second_key] = KEYS;
        if first {
            out.bytes(first_key);
            self.first.encode(out);
        }
        if second {
            out.bytes(second_key);
            self.second.encode(out);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (tag, len) = from.node()?;
        match tag {
            Tag::Dots if len == 0 => Ok(Self::default()),
            Tag::Map | Tag::Part => from.nested(tag, |from| Self::decode_parts(from, tag, len)),
            Tag::Dots | Tag::Payloads | Tag::Range => {
                Err(from.form("another node than the kind has"))
            }
        }
    }

    fn piece(&self, from: &[Arc<[u8]>], weight_max: usize) -> Piece<Self> {
        if from.is_empty() && self.weight() <= weight_max {
            return Piece { state: self.clone(), next: None };
        }
        let [first_key, second_key] = KEYS;
        let place = |key: &[u8], place: Place| [key.into()].into_iter().chain(place).collect();
        let (has_first, has_second) = self.extent.has();
        let (key, inside) = from.split_first().map_or((first_key, from), |(key, rest)| (key, rest));
        if key == first_key && has_first {
            let Piece { state, next } = self.first.piece(inside, weight_max);
            let state = Self::of_first(Delta { state, context: Context::default() }).state;
            let next = match next {
                Some(next) => Some(place(first_key, next)),
                None => has_second.then(|| place(second_key, Place::new())),
            };
            return Piece { state, next };
        }
        let inside = if key == second_key { inside } else { &[] };
        let Piece { state, next } = self.second.piece(inside, weight_max);
        let state = Self::of_second(Delta { state, context: Context::default() }).state;
        Piece { state, next: next.map(|next| place(second_key, next)) }
    }

    fn latest(&self) -> Option<Timestamp> {
        self.first.latest().max(self.second.latest())
    }

    fn tidy(&self, tidy: &Tidy<'_>, write: &mut Write<'_>) -> Option<Delta<Self>> {
        let first = self.first.tidy(tidy, write).map(Self::of_first);
        let second = self.second.tidy(tidy, write).map(Self::of_second);
        match (first, second) {
            (Some(mut both), Some(second)) => {
                both.join(&second);
                Some(both)
            }
            (one, other) => one.or(other),
        }
    }
}

impl<A: Crdt, B: Crdt> Pair<A, B> {
    fn decode_parts(from: &mut Decoder<'_>, tag: Tag, len: u64) -> Result<Self, DecodeError> {
        let mut pair = Self::default();
        let (mut has_first, mut has_second) = (false, false);
        let [first_key, second_key] = KEYS;
        for _ in 0..len {
            let key = from.bytes("a key of a pair", 1)?;
            let is_bottom = if key == first_key && !has_first && !has_second {
                has_first = true;
                pair.first = A::decode(from)?;
                pair.first.is_bottom()
            } else if key == second_key && !has_second {
                has_second = true;
                pair.second = B::decode(from)?;
                pair.second.is_bottom()
            } else {
                return Err(from.form("no key of a pair"));
            };
            if is_bottom && tag == Tag::Map {
                return Err(from.form("an element without a live dot"));
            }
        }
        if tag == Tag::Part {
            pair.extent = Extent::Part { first: has_first, second: has_second };
        }
        Ok(pair)
    }
}
