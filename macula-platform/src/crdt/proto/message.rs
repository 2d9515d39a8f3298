//! What replicas say to each other, as bytes.
//!
//! A message is one run of the [codec](crate::crdt::codec): what it is, the epoch and the life of its
//! sender, and the rest.

use std::sync::Arc;

use macula_core::replica::ReplicaId;

use super::buffer::Numbers;
use super::epoch::{Collection, Epoch, Lineages};
use super::roster::{Roster, Seat, Standing, count, word};
use super::sketch::Symbol;
use crate::crdt::bucket::{KeyDelta, put_state, take_state};
use crate::crdt::codec::{DecodeError, Decoder, Digest, Encoder};
use crate::crdt::context::Context;
use crate::crdt::limits::KEY_LEN_CAP;
use crate::crdt::state::{Kinds, State};

/// How many digests of what is under one key are said at most.
const DIGESTS_MAX: usize = 16;

/// How long the ids of one message are at most, in bytes.
const IDS_LEN_MAX: usize = 64 << 20;

/// What goes with every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::crdt) struct Header {
    /// How far the sender has come.
    pub(in crate::crdt) epoch: Epoch,
    /// Which life of the sender's memory it is.
    pub(in crate::crdt) life: u64,
    /// The group that the sender belongs to; 0 for none yet.
    pub(in crate::crdt) lineage: u64,
}

/// A key with the states that it has, none if it is bottom.
pub(in crate::crdt) type Slot = (Arc<str>, Vec<State>);

/// What replicas say to each other.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::crdt) enum Message {
    /// I hold this bucket.
    Hello {
        /// Whether an answer is wanted.
        asks: bool,
        version: u64,
        incarnation: u64,
        /// The hash of the roster, and the summary of all that there is.
        hashes: (u64, u64),
        lineages: Lineages,
    },
    /// I do not hold it.
    Stranger,
    /// These hold it, or did.
    Roster(Roster),
    /// I have changed this.
    Push { changes: Vec<Arc<KeyDelta>>, numbers: Numbers },
    /// I have these of your changes, which you have numbered in that life, and take those not.
    Ack { life: u64, numbers: Numbers, refused: Numbers },
    /// Let us compare. I have so many keys, and this summary; `whole` if equal summaries are not enough.
    Open { session: u64, keys: u64, summary: u64, whole: bool },
    /// We have the same.
    Equal { session: u64 },
    /// Not now, or no more; or never, as there is no room for what you have.
    Close { session: u64, refused: bool },
    /// I have seen this, and have so many keys. You have so few that it is best to ask for all.
    Begin { session: u64, context: Context, keys: u64, pages: bool },
    /// I have these symbols from an index on.
    Symbols { session: u64, from: u64, keys: u64, symbols: Vec<Symbol> },
    /// Which symbols do you have from there to there? Before the first I had seen this.
    More { session: u64, from: u64, to: u64, context: Option<Context> },
    /// What is under the keys with these ids?
    Want { session: u64, ids: Vec<u64> },
    /// Under the first of those, of which `first` was the first, is this.
    Slots { session: u64, first: u64, slots: Vec<Slot> },
    /// What comes after this key?
    Page { session: u64, after: Option<Arc<str>> },
    /// After that key comes this, and if it is not the last there is more.
    Paged { session: u64, after: Option<Arc<str>>, slots: Vec<Slot>, last: bool },
    /// I have all of yours. What we both had sums up to this, and you lack what is under these ids.
    Offer { session: u64, common: u64, ids: Vec<u64> },
    /// And I have all of yours; or the sums are not the same.
    Done { session: u64, good: bool },
    /// What have you seen, and is anything of these replicas live?
    Survey { round: u64, roster: u64, departed: Vec<ReplicaId> },
    /// This, and of these.
    Report { round: u64, roster: u64, context: Context, live: Vec<ReplicaId> },
    /// These are forgotten from now on.
    Collect { collection: Collection, lineages: Lineages },
    /// You were away for too long. Begin anew, but for what of yours is not in this; nothing if it is
    /// not known what that is.
    Resync { collection: Collection, known: Option<Context>, lineages: Lineages },
    /// What do you have under this key? I have what has these digests.
    Ask { read: u64, key: Arc<str>, digests: Vec<Digest> },
    /// The same, or this, where I had seen that.
    Answer { read: u64, other: Option<(Slot, Context)> },
}

impl Message {
    /// The message in bytes.
    pub(in crate::crdt) fn encode(&self, header: Header) -> Vec<u8> {
        let mut out = Encoder::default();
        out.byte(self.tag());
        header.epoch.encode(&mut out);
        out.number(header.life);
        put_words(&mut out, &[header.lineage]);
        self.write(&mut out);
        out.finish()
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if it is none.
    pub(in crate::crdt) fn decode(
        kinds: &Kinds,
        bytes: &[u8],
    ) -> Result<(Header, Self), DecodeError> {
        let mut from = Decoder::new(bytes)?;
        let tag = from.byte()?;
        let (epoch, life) = (Epoch::decode(&mut from)?, from.number()?);
        let header = Header { epoch, life, lineage: word(&mut from)? };
        let message = Self::read(tag, kinds, &mut from)?;
        from.finish()?;
        Ok((header, message))
    }

    const fn tag(&self) -> u8 {
        match self {
            Self::Hello { .. } => 1,
            Self::Stranger => 2,
            Self::Roster(_) => 3,
            Self::Push { .. } => 4,
            Self::Ack { .. } => 5,
            Self::Open { .. } => 6,
            Self::Equal { .. } => 7,
            Self::Close { .. } => 8,
            Self::Begin { .. } => 9,
            Self::Symbols { .. } => 10,
            Self::More { .. } => 11,
            Self::Want { .. } => 12,
            Self::Slots { .. } => 13,
            Self::Page { .. } => 14,
            Self::Paged { .. } => 15,
            Self::Offer { .. } => 16,
            Self::Done { .. } => 17,
            Self::Survey { .. } => 18,
            Self::Report { .. } => 19,
            Self::Collect { .. } => 20,
            Self::Resync { .. } => 21,
            Self::Ask { .. } => 22,
            Self::Answer { .. } => 23,
        }
    }

    fn write(&self, out: &mut Encoder) {
        match self {
            Self::Stranger => {}
            Self::Hello { asks, version, incarnation, hashes, lineages } => {
                out.byte(u8::from(*asks));
                out.number(*version);
                out.number(*incarnation);
                put_words(out, &[hashes.0, hashes.1]);
                lineages.encode(out);
            }
            Self::Roster(roster) => roster.encode(out),
            Self::Push { changes, numbers } => {
                out.number(count(changes.len()));
                changes.iter().for_each(|change| change.encode(out));
                out.context(&numbers.0);
            }
            Self::Ack { life, numbers, refused } => {
                out.number(*life);
                out.context(&numbers.0);
                out.context(&refused.0);
            }
            Self::Open { session, keys, summary, whole } => {
                put_words(out, &[*session, *summary]);
                out.number(*keys);
                out.byte(u8::from(*whole));
            }
            Self::Survey { round, roster, departed } => {
                out.number(*round);
                put_words(out, &[*roster]);
                put_replicas(out, departed);
            }
            Self::Report { round, roster, context, live } => {
                out.number(*round);
                put_words(out, &[*roster]);
                out.context(context);
                put_replicas(out, live);
            }
            Self::Collect { collection, lineages } => {
                collection.encode(out);
                lineages.encode(out);
            }
            Self::Resync { collection, known, lineages } => {
                collection.encode(out);
                put_option(out, known.as_ref(), Encoder::context);
                lineages.encode(out);
            }
            Self::Ask { read, key, digests } => {
                out.number(*read);
                out.bytes(key.as_bytes());
                out.bytes(&digests.concat());
            }
            Self::Answer { read, other } => {
                out.number(*read);
                put_option(out, other.as_ref(), |out, (slot, context)| {
                    put_slot(out, slot);
                    out.context(context);
                });
            }
            _ => self.write_session(out),
        }
    }

    /// Writes what belongs to a comparison.
    fn write_session(&self, out: &mut Encoder) {
        match self {
            Self::Equal { session } => put_words(out, &[*session]),
            Self::Close { session, refused } => {
                put_words(out, &[*session]);
                out.byte(u8::from(*refused));
            }
            Self::Begin { session, context, keys, pages } => {
                put_words(out, &[*session]);
                out.context(context);
                out.number(*keys);
                out.byte(u8::from(*pages));
            }
            Self::Symbols { session, from, keys, symbols } => {
                put_words(out, &[*session]);
                out.number(*from);
                out.number(*keys);
                put_symbols(out, (*from, *keys), symbols);
            }
            Self::More { session, from, to, context } => {
                put_words(out, &[*session]);
                out.number(*from);
                out.number(*to);
                put_option(out, context.as_ref(), Encoder::context);
            }
            Self::Want { session, ids } => {
                put_words(out, &[*session]);
                put_words(out, ids);
            }
            Self::Slots { session, first, slots } => {
                put_words(out, &[*session, *first]);
                out.number(count(slots.len()));
                slots.iter().for_each(|slot| put_slot(out, slot));
            }
            Self::Page { session, after } => {
                put_words(out, &[*session]);
                put_option(out, after.as_ref(), |out, key| out.bytes(key.as_bytes()));
            }
            Self::Paged { session, after, slots, last } => {
                put_words(out, &[*session]);
                put_option(out, after.as_ref(), |out, key| out.bytes(key.as_bytes()));
                out.number(count(slots.len()));
                slots.iter().for_each(|slot| put_slot(out, slot));
                out.byte(u8::from(*last));
            }
            Self::Offer { session, common, ids } => {
                put_words(out, &[*session, *common]);
                put_words(out, ids);
            }
            Self::Done { session, good } => {
                put_words(out, &[*session]);
                out.byte(u8::from(*good));
            }
            _ => {}
        }
    }

    fn read(tag: u8, kinds: &Kinds, from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            1 => {
                let (asks, version, incarnation) = (flag(from)?, from.number()?, from.number()?);
                let hashes = some_words(from)?;
                let lineages = Lineages::decode(from)?;
                let [roster, summary] = hashes;
                Self::Hello { asks, version, incarnation, hashes: (roster, summary), lineages }
            }
            2 => Self::Stranger,
            3 => Self::Roster(Roster::decode(from)?),
            4 => {
                let mut changes = Vec::new();
                for _ in 0..from.number()? {
                    changes.push(Arc::new(KeyDelta::decode(kinds, from)?));
                }
                Self::Push { changes, numbers: Numbers(from.context()?) }
            }
            5 => {
                let (life, numbers) = (from.number()?, Numbers(from.context()?));
                Self::Ack { life, numbers, refused: Numbers(from.context()?) }
            }
            6 => {
                let [session, summary] = some_words(from)?;
                Self::Open { session, keys: from.number()?, summary, whole: flag(from)? }
            }
            18 => {
                let round = from.number()?;
                let [roster] = some_words(from)?;
                Self::Survey { round, roster, departed: replicas(from)? }
            }
            19 => {
                let round = from.number()?;
                let [roster] = some_words(from)?;
                let context = from.context()?;
                Self::Report { round, roster, context, live: replicas(from)? }
            }
            20 => {
                let collection = Collection::decode(from)?;
                Self::Collect { collection, lineages: Lineages::decode(from)? }
            }
            21 => {
                let collection = Collection::decode(from)?;
                let known = option(from, Decoder::context)?;
                let lineages = Lineages::decode(from)?;
                Self::Resync { collection, known, lineages }
            }
            22 => {
                let (read, key) = (from.number()?, key(from)?);
                let bytes = from.bytes("digests", 16 * DIGESTS_MAX)?;
                let digests = bytes.as_chunks().0.to_vec();
                Self::Ask { read, key, digests }
            }
            23 => {
                let read = from.number()?;
                let other = option(from, |from| Ok((slot(kinds, from)?, from.context()?)))?;
                Self::Answer { read, other }
            }
            _ => return Self::read_session(tag, kinds, from),
        })
    }

    /// Reads what belongs to a comparison.
    fn read_session(tag: u8, kinds: &Kinds, from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            7 => Self::Equal { session: session(from)? },
            8 => Self::Close { session: session(from)?, refused: flag(from)? },
            9 => {
                let (session, context) = (session(from)?, from.context()?);
                Self::Begin { session, context, keys: from.number()?, pages: flag(from)? }
            }
            10 => {
                let (session, start, keys) = (session(from)?, from.number()?, from.number()?);
                let symbols = symbols(from, (start, keys))?;
                Self::Symbols { session, from: start, keys, symbols }
            }
            11 => {
                let (session, start, to) = (session(from)?, from.number()?, from.number()?);
                Self::More { session, from: start, to, context: option(from, Decoder::context)? }
            }
            12 => Self::Want { session: session(from)?, ids: words(from, IDS_LEN_MAX)? },
            13 => {
                let [session, first] = some_words(from)?;
                Self::Slots { session, first, slots: slots(kinds, from)? }
            }
            14 => Self::Page { session: session(from)?, after: option(from, key)? },
            15 => {
                let (session, after) = (session(from)?, option(from, key)?);
                let slots = slots(kinds, from)?;
                Self::Paged { session, after, slots, last: flag(from)? }
            }
            16 => {
                let [session, common] = some_words(from)?;
                Self::Offer { session, common, ids: words(from, IDS_LEN_MAX)? }
            }
            17 => Self::Done { session: session(from)?, good: flag(from)? },
            _ => return Err(from.form("no message")),
        })
    }
}

fn put_replicas(out: &mut Encoder, replicas: &[ReplicaId]) {
    out.number(count(replicas.len()));
    replicas.iter().for_each(|replica| out.replica(*replica));
}

fn replicas(from: &mut Decoder<'_>) -> Result<Vec<ReplicaId>, DecodeError> {
    let mut replicas = Vec::new();
    for _ in 0..from.number()? {
        replicas.push(from.replica()?);
    }
    Ok(replicas)
}

/// The seat of a node that greets.
pub(in crate::crdt) const fn seat(version: u64, incarnation: u64) -> Seat {
    Seat { version, standing: Standing::Holds(incarnation) }
}

/// Writes numbers as 8 bytes each, after the length of all.
pub(in crate::crdt) fn put_words(out: &mut Encoder, words: &[u64]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    out.bytes(&bytes);
}

pub(in crate::crdt) fn words(
    from: &mut Decoder<'_>,
    len_max: usize,
) -> Result<Vec<u64>, DecodeError> {
    let bytes = from.bytes("words", len_max)?;
    let (words, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(from.form("no words of 8 bytes each"));
    }
    Ok(words.iter().map(|word| u64::from_be_bytes(*word)).collect())
}

fn some_words<const N: usize>(from: &mut Decoder<'_>) -> Result<[u64; N], DecodeError> {
    let words = words(from, 8 * N)?;
    words.try_into().map_err(|_others| from.form("too few words"))
}

fn session(from: &mut Decoder<'_>) -> Result<u64, DecodeError> {
    word(from)
}

fn flag(from: &mut Decoder<'_>) -> Result<bool, DecodeError> {
    match from.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(from.form("neither true nor false")),
    }
}

pub(super) fn put_option<T>(
    out: &mut Encoder,
    value: Option<T>,
    put: impl FnOnce(&mut Encoder, T),
) {
    out.byte(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

pub(super) fn option<'a, T>(
    from: &mut Decoder<'a>,
    read: impl FnOnce(&mut Decoder<'a>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    if flag(from)? { Ok(Some(read(from)?)) } else { Ok(None) }
}

fn key(from: &mut Decoder<'_>) -> Result<Arc<str>, DecodeError> {
    let key = from.bytes("a key", KEY_LEN_CAP)?;
    std::str::from_utf8(key).map(Arc::from).map_err(|_bytes| from.form("no key"))
}

/// A key that has no state is written, and one that has them stands with each.
fn put_slot(out: &mut Encoder, (key, states): &Slot) {
    out.number(count(states.len()));
    if states.is_empty() {
        out.bytes(key.as_bytes());
    }
    states.iter().for_each(|state| put_state(out, key, state));
}

fn slot(kinds: &Kinds, from: &mut Decoder<'_>) -> Result<Slot, DecodeError> {
    let len = from.number()?;
    if len == 0 {
        return Ok((key(from)?, Vec::new()));
    }
    let (mut of, mut states) = (None, Vec::new());
    for _ in 0..len {
        let (key, state) = take_state(kinds, from)?;
        if of.get_or_insert_with(|| Arc::clone(&key)) != &key {
            return Err(from.form("states of several keys in one"));
        }
        states.push(state);
    }
    let key = of.ok_or_else(|| from.form("no key"))?;
    Ok((key, states))
}

fn slots(kinds: &Kinds, from: &mut Decoder<'_>) -> Result<Vec<Slot>, DecodeError> {
    let mut slots = Vec::new();
    for _ in 0..from.number()? {
        slots.push(slot(kinds, from)?);
    }
    Ok(slots)
}

/// About how many of so many numbers are in the symbol of an index.
fn expected(keys: u64, index: u64) -> i64 {
    let index = u128::from(index) + 2;
    i64::try_from(2 * u128::from(keys) / index).unwrap_or(i64::MAX)
}

/// A count is written as what it differs by from what is to be expected, with its sign in the lowest
/// bit.
fn put_symbols(out: &mut Encoder, (from, keys): (u64, u64), symbols: &[Symbol]) {
    out.number(count(symbols.len()));
    for (step, symbol) in (0..).zip(symbols) {
        // A peer names any number.
        let index = from.saturating_add(step);
        let more = symbol.count.wrapping_sub(expected(keys, index));
        symbol.sum.to_be_bytes().iter().for_each(|&byte| out.byte(byte));
        symbol.check.to_be_bytes().iter().for_each(|&byte| out.byte(byte));
        out.number((more.unsigned_abs() << 1) | u64::from(more < 0));
    }
}

fn symbols(from: &mut Decoder<'_>, (start, keys): (u64, u64)) -> Result<Vec<Symbol>, DecodeError> {
    let mut symbols = Vec::new();
    let len = from.number()?;
    for step in 0..len {
        let index = start.saturating_add(step);
        let mut sum = 0;
        for _ in 0..8 {
            sum = (sum << 8) | u64::from(from.byte()?);
        }
        let mut check = 0;
        for _ in 0..4 {
            check = (check << 8) | u32::from(from.byte()?);
        }
        let more = from.number()?;
        let size = i64::try_from(more >> 1).unwrap_or(i64::MAX);
        let more = if more & 1 == 1 { size.wrapping_neg() } else { size };
        symbols.push(Symbol { sum, check, count: expected(keys, index).wrapping_add(more) });
    }
    Ok(symbols)
}
