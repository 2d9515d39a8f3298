//! The observed-remove map: keys to other CRDTs.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::Arc;

use macula_core::hlc::Timestamp;

use crate::crdt::codec::{DecodeError, Decoder, Encoder, Tag};
use crate::crdt::context::Context;
use crate::crdt::contract::{Crdt, Delta, Piece, Tidy};
use crate::crdt::dot::Dot;
use crate::crdt::kind::Kind;
use crate::crdt::limits::{ELEMENT_LEN_CAP, Refused};
use crate::crdt::write::Write;

/// About how many bytes an entry takes beside its key and its value: its pointers and its share of
/// the map's nodes.
const ENTRY_WEIGHT: usize = 64;

/// How many bytes the ends of a range take beside their keys.
const RANGE_WEIGHT: usize = 16;

/// A map from bytes to values of another type. A key is in the map while its value is not bottom.
///
/// To remove a key takes out of its value what the remover has seen (*reset-remove*): what others did
/// to the value meanwhile stays, and then the key stays too, with that alone. The map, its values, and
/// theirs, share one causal context.
///
/// As in Bieniusa et al., *An optimized conflict-free replicated set* (INRIA RR-8083, 2012), and
/// Almeida, Shoker and Baquero, *Delta state replicated data types* (JPDC 2018).
#[derive(Debug, Clone, PartialEq)]
pub struct OrMap<V> {
    entries: BTreeMap<Arc<[u8]>, V>,
    extent: Extent,
    weight: usize,
}

/// What a map says of keys that it does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Extent {
    /// They are bottom. Keys that it has are not.
    Whole,
    /// Nothing: it is a delta, whose context has dots of the keys that it has, and of no others, so
    /// that only these need be looked at. Keys that it has may be bottom. To take it for whole would
    /// be right too, and slow.
    Part,
    /// They are bottom from the first of these up to before the second. It is a piece of a whole map.
    Range(Arc<[u8]>, Option<Arc<[u8]>>),
}

/// A key and all that are greater.
const fn from_key(key: &[u8]) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Included(key), Bound::Unbounded)
}

impl<V> Default for OrMap<V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), extent: Extent::Whole, weight: 0 }
    }
}

impl<V: Crdt> OrMap<V> {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        self.entries.get(key)
    }

    /// Whether a key is in the map.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.entries.contains_key(key)
    }

    /// The keys and their values, in the order of the keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Arc<[u8]>, &V)> {
        self.entries.iter()
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A delta that changes the value of a key by `change`, which is given the value, or bottom if
    /// there is none.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the key is too long, or new and there is no room for it, or if `change` is
    /// refused.
    pub fn update(
        &self,
        key: impl Into<Arc<[u8]>>,
        write: &mut Write<'_>,
        change: impl FnOnce(&V, &mut Write<'_>) -> Result<Delta<V>, Refused>,
    ) -> Result<Delta<Self>, Refused> {
        let key = key.into();
        write.limits().check_element(&key)?;
        let delta = match self.entries.get(&key) {
            Some(value) => change(value, write)?,
            None => {
                write.limits().check_room(self.entries.len())?;
                change(&V::default(), write)?
            }
        };
        Ok(Self::part(key, delta))
    }

    /// A delta that removes a key: what is known of its value here. It is empty if there is no such
    /// key.
    #[must_use]
    pub fn remove(&self, key: &[u8]) -> Delta<Self> {
        match self.entries.get_key_value(key) {
            Some((key, value)) => Self::part(Arc::clone(key), value.reset()),
            None => Delta::default(),
        }
    }

    fn part(key: Arc<[u8]>, delta: Delta<V>) -> Delta<Self> {
        delta.map(|value| {
            let weight = Self::weight_of(&key, &value);
            Self { entries: BTreeMap::from([(key, value)]), extent: Extent::Part, weight }
        })
    }

    fn weight_of(key: &[u8], value: &V) -> usize {
        ENTRY_WEIGHT + key.len() + value.weight()
    }

    /// Joins the value of one key, and drops it if it comes to nothing.
    fn join_entry(
        &mut self,
        ours: &Context,
        (key, theirs): (&Arc<[u8]>, &V),
        context: &Context,
    ) -> bool {
        let keeps_bottom = self.extent == Extent::Part;
        match self.entries.entry(Arc::clone(key)) {
            Entry::Occupied(mut own) => {
                let before = Self::weight_of(key, own.get());
                let changed = own.get_mut().join(ours, theirs, context);
                self.weight = self.weight.saturating_sub(before);
                if keeps_bottom || !own.get().is_bottom() {
                    self.weight += Self::weight_of(key, own.get());
                } else {
                    own.remove();
                }
                changed
            }
            // Two deltas have no dots of keys that they do not have, so nothing is to be joined.
            Entry::Vacant(free) if keeps_bottom => {
                self.weight += Self::weight_of(key, theirs);
                free.insert(theirs.clone());
                true
            }
            Entry::Vacant(free) => {
                let mut value = V::default();
                let changed = value.join(ours, theirs, context);
                if !value.is_bottom() {
                    self.weight += Self::weight_of(key, &value);
                    free.insert(value);
                }
                changed
            }
        }
    }

    /// Reads the entries of a map, or of a part of one.
    pub(in crate::crdt) fn decode_parts(
        from: &mut Decoder<'_>,
        tag: Tag,
        len: u64,
    ) -> Result<Self, DecodeError> {
        let extent = match tag {
            Tag::Part => Extent::Part,
            Tag::Range => Self::decode_range(from)?,
            Tag::Map | Tag::Dots | Tag::Payloads => Extent::Whole,
        };
        from.nested(tag, |from| {
            let mut map = Self { extent, ..Self::default() };
            for _ in 0..len {
                let key: Arc<[u8]> = from.bytes("an element", ELEMENT_LEN_CAP)?.into();
                if map.entries.last_key_value().is_some_and(|(before, _)| *before >= key) {
                    return Err(from.form("elements out of order"));
                }
                let value = V::decode(from)?;
                if map.extent != Extent::Part && value.is_bottom() {
                    return Err(from.form("an element without a live dot"));
                }
                if matches!(&map.extent, Extent::Range(first, end)
                    if key < *first || end.as_ref().is_some_and(|end| key >= *end))
                {
                    return Err(from.form("an element out of its range"));
                }
                map.weight += Self::weight_of(&key, &value);
                map.entries.insert(key, value);
            }
            Ok(map)
        })
    }

    fn decode_range(from: &mut Decoder<'_>) -> Result<Extent, DecodeError> {
        // The key after the longest one is one byte longer.
        let start: Arc<[u8]> = from.bytes("an element", ELEMENT_LEN_CAP + 1)?.into();
        let end: Option<Arc<[u8]>> = match from.byte()? {
            0 => None,
            1 => Some(from.bytes("an element", ELEMENT_LEN_CAP + 1)?.into()),
            _ => return Err(from.form("a range with an odd end")),
        };
        if end.as_ref().map_or(start.is_empty(), |end| *end <= start) {
            return Err(from.form("no range"));
        }
        Ok(Extent::Range(start, end))
    }

    /// Joins with bottom the values of all keys of a range that `theirs` does not have.
    fn join_absent(
        &mut self,
        ours: &Context,
        theirs: &Self,
        context: &Context,
        range: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> bool {
        let (bottom, keeps_bottom) = (V::default(), self.extent == Extent::Part);
        let (mut changed, mut gone) = (false, Vec::new());
        for (key, value) in self.entries.range_mut::<[u8], _>(range) {
            if theirs.entries.contains_key(key) {
                continue;
            }
            let before = Self::weight_of(key, value);
            changed |= value.join(ours, &bottom, context);
            self.weight = (self.weight + Self::weight_of(key, value)).saturating_sub(before);
            if !keeps_bottom && value.is_bottom() {
                self.weight = self.weight.saturating_sub(Self::weight_of(key, value));
                gone.push(Arc::clone(key));
            }
        }
        for key in gone {
            self.entries.remove(&key);
        }
        changed
    }

    /// A piece of the value of one key, if that is all there is room for.
    fn piece_of_one(&self, from: &[Arc<[u8]>], weight_max: usize) -> Option<Piece<Self>> {
        let (start, inside) =
            from.split_first().map_or((None, from), |(key, rest)| (Some(key), rest));
        let start: &[u8] = start.map_or(&[], |key| key);
        let (key, value) = self.entries.range::<[u8], _>(from_key(start)).next()?;
        let is_begun = !inside.is_empty() && **key == *start;
        if !is_begun && Self::weight_of(key, value) <= weight_max {
            return None;
        }
        let (inside, room) = (if is_begun { inside } else { &[] }, ENTRY_WEIGHT + key.len());
        let Piece { state, next } = value.piece(inside, weight_max.saturating_sub(room));
        if next.is_none() && !is_begun {
            return None;
        }
        if **key != *start && self.extent != Extent::Part {
            // What is before the key is a piece of its own.
            let extent = Extent::Range(start.into(), Some(Arc::clone(key)));
            let state = Self { extent, ..Self::default() };
            return Some(Piece { state, next: Some(vec![Arc::clone(key)]) });
        }
        // After the last piece of this value it goes on with the first key that is greater.
        let after: Arc<[u8]> = [key, &[0][..]].concat().into();
        let is_last = self.extent == Extent::Part
            && self.entries.range::<[u8], _>(from_key(&after)).next().is_none();
        let next = match next {
            Some(place) => Some([Arc::clone(key)].into_iter().chain(place).collect()),
            None => (!is_last).then(|| vec![after]),
        };
        let state = Self::part(Arc::clone(key), Delta { state, context: Context::default() }).state;
        Some(Piece { state, next })
    }
}

impl<V: Crdt> Crdt for OrMap<V> {
    fn kind() -> Kind {
        V::kind().mapped()
    }

    fn join(&mut self, ours: &Context, theirs: &Self, context: &Context) -> bool {
        let mut changed = match &theirs.extent {
            Extent::Part => false,
            // Nothing has been seen there, so that nothing is gone.
            _ if context.is_empty() => false,
            Extent::Whole => {
                self.extent = Extent::Whole;
                self.join_absent(ours, theirs, context, (Bound::Unbounded, Bound::Unbounded))
            }
            Extent::Range(from, to) => {
                let to = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                self.join_absent(ours, theirs, context, (Bound::Included(from), to))
            }
        };
        for entry in &theirs.entries {
            changed |= self.join_entry(ours, entry, context);
        }
        changed
    }

    fn visit(&self, each: &mut dyn FnMut(Dot)) {
        for value in self.entries.values() {
            value.visit(each);
        }
    }

    fn is_bottom(&self) -> bool {
        match self.extent {
            Extent::Whole | Extent::Range(..) => self.entries.is_empty(),
            Extent::Part => self.entries.values().all(V::is_bottom),
        }
    }

    fn weight(&self) -> usize {
        match &self.extent {
            Extent::Whole | Extent::Part => self.weight,
            Extent::Range(from, to) => {
                self.weight + RANGE_WEIGHT + from.len() + to.as_ref().map_or(0, |to| to.len())
            }
        }
    }

    fn encode(&self, out: &mut Encoder) {
        match (&self.extent, self.entries.len()) {
            (Extent::Whole | Extent::Part, 0) => out.bottom(),
            (Extent::Whole, len) => out.node(Tag::Map, len),
            (Extent::Part, len) => out.node(Tag::Part, len),
            (Extent::Range(from, to), len) => {
                out.node(Tag::Range, len);
                out.bytes(from);
                out.byte(u8::from(to.is_some()));
                if let Some(to) = to {
                    out.bytes(to);
                }
            }
        }
        for (key, value) in &self.entries {
            out.bytes(key);
            value.encode(out);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (tag, len) = from.node()?;
        match tag {
            Tag::Dots if len == 0 => Ok(Self::default()),
            Tag::Map | Tag::Part | Tag::Range => Self::decode_parts(from, tag, len),
            Tag::Dots | Tag::Payloads => Err(from.form("another node than the kind has")),
        }
    }

    fn piece(&self, from: &[Arc<[u8]>], weight_max: usize) -> Piece<Self> {
        if let Some(piece) = self.piece_of_one(from, weight_max) {
            return piece;
        }
        let start: Arc<[u8]> = from.first().cloned().unwrap_or_default();
        let (mut piece, mut end) = (Self::default(), None);
        for (key, value) in self.entries.range::<[u8], _>(from_key(&start)) {
            let weight = Self::weight_of(key, value);
            let heavier = piece.weight + weight + RANGE_WEIGHT + start.len() + key.len();
            if piece.weight > 0 && heavier > weight_max {
                end = Some(Arc::clone(key));
                break;
            }
            piece.weight += weight;
            piece.entries.insert(Arc::clone(key), value.clone());
        }
        let next = end.clone().map(|end| vec![end]);
        piece.extent = match &self.extent {
            Extent::Part => Extent::Part,
            Extent::Whole | Extent::Range(..) if start.is_empty() && end.is_none() => {
                self.extent.clone()
            }
            Extent::Whole | Extent::Range(..) => Extent::Range(start, end),
        };
        Piece { state: piece, next }
    }

    fn latest(&self) -> Option<Timestamp> {
        self.entries.values().filter_map(V::latest).max()
    }

    fn tidy(&self, tidy: &Tidy<'_>, write: &mut Write<'_>) -> Option<Delta<Self>> {
        let mut all: Option<Delta<Self>> = None;
        for (key, value) in &self.entries {
            let Some(delta) = value.tidy(tidy, write) else { continue };
            let part = Self::part(Arc::clone(key), delta);
            match &mut all {
                Some(all) => {
                    all.join(&part);
                }
                None => all = Some(part),
            }
        }
        all
    }
}
