//! What leaves of all types are made of: dots, each with what its update brought.

use std::cmp::Ordering;
use std::fmt::Debug;
use std::sync::Arc;

use smallvec::SmallVec;

use super::codec::{DecodeError, Decoder, Encoder, Reader, Tag};
use super::context::Context;
use super::contract::{Delta, Piece};
use super::dot::Dot;
use super::limits::{Refused, VALUE_LEN_CAP};
use super::write::Write;

/// The most bytes that a payload has beside a value.
const PAYLOAD_EXTRA_LEN_MAX: usize = 64;

/// How many bytes a dot can take encoded beside its size in memory.
const DOT_WEIGHT: usize = 16;

/// What an update brings. Of two payloads of one dot the greater one stays everywhere; also with replicas
/// that do not know the type, to which it is the one with the greater bytes. But for payloads that are
/// [folded](DotFun::folded) only a faulty replica makes two.
pub trait Payload: Debug + Clone + Ord + Send + Sync + 'static {
    /// Whether it is nothing at all, so that the dots alone are written.
    const UNIT: bool = false;

    /// Puts it at the end of a buffer.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads it. Whatever is left over is an error.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if it is not one that `encode` writes.
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// How many bytes it takes beside its own size.
    fn weight(&self) -> usize {
        0
    }
}

impl Payload for () {
    const UNIT: bool = true;

    fn encode(&self, _out: &mut Vec<u8>) {}

    fn decode(_from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(())
    }
}

impl Payload for Arc<[u8]> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(from.rest().into())
    }

    fn weight(&self) -> usize {
        self.len()
    }
}

/// Live dots in order, with their payloads. A dot is live until a replica that has seen it no longer
/// has it.
///
/// It joins and writes as [`Crdt`](super::Crdt) asks, and has no kind of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DotFun<P> {
    live: SmallVec<[(Dot, P); 1]>,
}

impl<P> Default for DotFun<P> {
    fn default() -> Self {
        Self { live: SmallVec::new() }
    }
}

impl<P: Payload> DotFun<P> {
    /// The live dots in order, with their payloads.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Dot, &P)> {
        self.live.iter().map(|(dot, payload)| (*dot, payload))
    }

    /// Whether no dot is live.
    #[must_use]
    pub fn is_bottom(&self) -> bool {
        self.live.is_empty()
    }

    /// A delta that puts a payload in the place of those that `replaces` is true of.
    ///
    /// # Errors
    ///
    /// [`Refused::DotsSpent`] if there is no dot for it.
    pub fn put(
        &self,
        payload: P,
        write: &mut Write<'_>,
        replaces: impl Fn(Dot) -> bool,
    ) -> Result<Delta<Self>, Refused> {
        let dot = write.dot()?;
        let mut context: Context =
            self.iter().map(|(dot, _)| dot).filter(|&d| replaces(d)).collect();
        context.insert(dot);
        Ok(Delta { state: Self { live: SmallVec::from_buf([(dot, payload)]) }, context })
    }

    /// A delta that puts the payloads of some live dots together into that of the last of them, which keeps its
    /// dot. So it is the same whoever makes it, and a removal of the dots removes it. The payload has to be no
    /// less than it was, and that in its bytes too.
    ///
    /// Each of `groups` is the dots, in order, and the payload.
    #[must_use]
    pub fn folded(groups: impl IntoIterator<Item = (Vec<Dot>, P)>) -> Delta<Self> {
        let (mut live, mut context) = (SmallVec::new(), Context::default());
        for (dots, payload) in groups {
            context.extend(dots.iter().copied());
            live.extend(dots.last().map(|dot| (*dot, payload)));
        }
        live.sort_unstable_by_key(|(dot, _)| *dot);
        Delta { state: Self { live }, context }
    }

    /// See [`Crdt::join`](super::Crdt::join).
    pub fn join(&mut self, ours: &Context, theirs: &Self, context: &Context) -> bool {
        let kept_all = self.live.iter().all(|(dot, _)| !context.contains(*dot));
        let stays = |dot: Dot| theirs.place(dot).is_ok() || !context.contains(dot);
        let before = self.live.len();
        if !kept_all {
            self.live.retain(|(dot, _)| stays(*dot));
        }
        let mut changed = self.live.len() < before;
        for (dot, payload) in &theirs.live {
            match self.place(*dot) {
                Ok(place) => {
                    if let Some((_, own)) =
                        self.live.get_mut(place).filter(|(_, own)| own < payload)
                    {
                        *own = payload.clone();
                        changed = true;
                    }
                }
                Err(place) if !ours.contains(*dot) => {
                    self.live.insert(place, (*dot, payload.clone()));
                    changed = true;
                }
                Err(_) => {}
            }
        }
        changed
    }

    /// See [`Crdt::visit`](super::Crdt::visit).
    pub fn visit(&self, each: &mut dyn FnMut(Dot)) {
        for (dot, _) in &self.live {
            each(*dot);
        }
    }

    /// See [`Crdt::weight`](super::Crdt::weight).
    #[must_use]
    pub fn weight(&self) -> usize {
        let of_one =
            |(_, payload): &(Dot, P)| DOT_WEIGHT + size_of::<(Dot, P)>() + payload.weight();
        self.live.iter().map(of_one).sum()
    }

    /// See [`Crdt::piece`](super::Crdt::piece): it is not cut.
    #[must_use]
    pub fn piece(&self, _from: &[Arc<[u8]>], _weight_max: usize) -> Piece<Self> {
        Piece { state: self.clone(), next: None }
    }

    /// See [`Crdt::encode`](super::Crdt::encode).
    pub fn encode(&self, out: &mut Encoder) {
        match (self.is_bottom(), P::UNIT) {
            (true, _) => out.bottom(),
            (false, true) => out.node(Tag::Dots, self.live.len()),
            (false, false) => out.node(Tag::Payloads, self.live.len()),
        }
        for (dot, payload) in &self.live {
            out.dot(*dot);
            if !P::UNIT {
                out.payload(|buffer| payload.encode(buffer));
            }
        }
    }

    /// See [`Crdt::decode`](super::Crdt::decode).
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if it is not one that `encode` writes.
    pub fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (tag, len) = from.node()?;
        let expected = if P::UNIT || len == 0 { Tag::Dots } else { Tag::Payloads };
        if tag != expected {
            return Err(from.form("another node than the kind has"));
        }
        Self::decode_parts(from, len)
    }

    pub(super) fn decode_parts(from: &mut Decoder<'_>, len: u64) -> Result<Self, DecodeError> {
        let mut live: SmallVec<[(Dot, P); 1]> = SmallVec::new();
        for _ in 0..len {
            let dot = from.dot()?;
            if live.last().is_some_and(|(before, _)| *before >= dot) {
                return Err(from.form("dots out of order"));
            }
            let mut payload = match P::UNIT {
                true => Reader::new(&[]),
                false => from.payload(VALUE_LEN_CAP + PAYLOAD_EXTRA_LEN_MAX)?,
            };
            live.push((dot, P::decode(&mut payload)?));
            payload.finish()?;
        }
        Ok(Self { live })
    }

    /// Where a dot is, or would be.
    fn place(&self, dot: Dot) -> Result<usize, usize> {
        match self.live.as_slice() {
            [] => Err(0),
            // The usual case.
            [(own, _)] => match own.cmp(&dot) {
                Ordering::Less => Err(1),
                Ordering::Equal => Ok(0),
                Ordering::Greater => Err(0),
            },
            live => live.binary_search_by(|(own, _)| own.cmp(&dot)),
        }
    }
}
