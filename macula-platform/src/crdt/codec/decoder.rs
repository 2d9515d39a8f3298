//! Reading.

use std::collections::BTreeSet;

use macula_core::replica::ReplicaId;

use super::encoder::NODE_LEN;
use super::{DecodeError, Reader, Tag, VERSION};
use crate::crdt::context::Context;
use crate::crdt::dot::Dot;
use crate::crdt::kind::{KIND_LEN_CAP, Kind};
use crate::crdt::limits::DEPTH_CAP;

/// Reads what an [`Encoder`](super::Encoder) has written, in the same order.
#[derive(Debug)]
pub struct Decoder<'a> {
    reader: Reader<'a>,
    replicas: Vec<ReplicaId>,
    /// How many of them have been named in the body.
    named: usize,
    kinds: Vec<Kind>,
    kinds_named: BTreeSet<Kind>,
    depth: usize,
    /// Whether what is read is inside of a whole map, where no part of one can be.
    whole: bool,
}

impl<'a> Decoder<'a> {
    /// Reads `bytes`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if they are of another version or no replicas are where they must be.
    pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let found = reader.byte()?;
        if found != VERSION {
            return Err(DecodeError::Version { found });
        }
        let len = reader.number()?;
        let mut replicas = Vec::new();
        for _ in 0..len {
            let node = reader.take(NODE_LEN)?;
            let node = node.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte));
            replicas.push(ReplicaId { node, incarnation: reader.number()? });
        }
        // One that stands there twice would give two forms to one thing.
        let mut sorted = replicas.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() < replicas.len() {
            let offset = reader.offset();
            return Err(DecodeError::Form { offset, what: "a replica that was named before" });
        }
        let (kinds, kinds_named) = (Vec::new(), BTreeSet::new());
        Ok(Self { reader, replicas, named: 0, kinds, kinds_named, depth: 0, whole: false })
    }

    /// Nothing is left, and all replicas were named.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Trailing`] or [`DecodeError::Form`] otherwise.
    pub const fn finish(&self) -> Result<(), DecodeError> {
        if self.named < self.replicas.len() {
            return Err(self.form("a replica that nothing names"));
        }
        self.reader.finish()
    }

    /// How many bytes have been read.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.reader.offset()
    }

    /// A byte.
    ///
    /// # Errors
    ///
    /// As [`Reader::byte`].
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        self.reader.byte()
    }

    /// A number.
    ///
    /// # Errors
    ///
    /// As [`Reader::number`].
    pub fn number(&mut self) -> Result<u64, DecodeError> {
        self.reader.number()
    }

    /// Some bytes after their length.
    ///
    /// # Errors
    ///
    /// As [`Reader::bytes`].
    pub fn bytes(&mut self, what: &'static str, len_max: usize) -> Result<&'a [u8], DecodeError> {
        self.reader.bytes(what, len_max)
    }

    /// A replica.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if there is none.
    pub fn replica(&mut self) -> Result<ReplicaId, DecodeError> {
        let place = usize::try_from(self.reader.number()?).unwrap_or(usize::MAX);
        let Some(&replica) = self.replicas.get(place) else {
            return Err(self.form("no such replica"));
        };
        if place > self.named {
            return Err(self.form("a replica out of turn"));
        }
        self.named = self.named.max(place + 1);
        Ok(replica)
    }

    /// The name of a kind.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if there is none.
    pub fn kind(&mut self) -> Result<Kind, DecodeError> {
        let place = usize::try_from(self.reader.number()?).unwrap_or(usize::MAX);
        if let Some(kind) = self.kinds.get(place) {
            return Ok(kind.clone());
        }
        if place > self.kinds.len() {
            return Err(self.form("no such kind"));
        }
        let kind = Kind::checked(self.reader.bytes("a kind", KIND_LEN_CAP)?);
        let kind = kind.ok_or_else(|| self.form("no name of a kind"))?;
        if !self.kinds_named.insert(kind.clone()) {
            return Err(self.form("a kind that was named before"));
        }
        self.kinds.push(kind.clone());
        Ok(kind)
    }

    /// A dot.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if there is none.
    pub fn dot(&mut self) -> Result<Dot, DecodeError> {
        let replica = self.replica()?;
        match self.reader.number()? {
            0 => Err(self.form("a dot without a counter")),
            counter => Ok(Dot { replica, counter }),
        }
    }

    /// A context.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if there is none.
    pub fn context(&mut self) -> Result<Context, DecodeError> {
        let mut context = Context::default();
        let mut before = None;
        for _ in 0..self.number()? {
            let replica = self.replica()?;
            if before.replace(replica) >= Some(replica) {
                return Err(self.form("replicas out of order"));
            }
            let spans = self.number()?;
            if spans == 0 {
                return Err(self.form("a replica without a span"));
            }
            let mut free = Some(1_u64);
            for _ in 0..spans {
                let (gap, more) = (self.number()?, self.number()?);
                let first = free.and_then(|free| free.checked_add(gap));
                let last = first.and_then(|first| first.checked_add(more));
                let (Some(counter), Some(last)) = (first, last) else {
                    return Err(self.form("a span beyond all counters"));
                };
                context.insert_span(Dot { replica, counter }, last);
                free = last.checked_add(2);
            }
        }
        Ok(context)
    }

    /// What the next node is, and how many parts it has. Bottom has none.
    pub(in crate::crdt) fn node(&mut self) -> Result<(Tag, u64), DecodeError> {
        let number = self.number()?;
        let (tag, len) = (Tag::of(number), number >> 3);
        let tag = tag.ok_or_else(|| self.form("no node"))?;
        if len == 0 && !matches!(tag, Tag::Dots | Tag::Range) {
            return Err(self.form("bottom in another form"));
        }
        if self.whole && matches!(tag, Tag::Part | Tag::Range) {
            return Err(self.form("a part in a whole map"));
        }
        Ok((tag, len))
    }

    /// Reads what a map has, or a part of one.
    pub(in crate::crdt) fn nested<T>(
        &mut self,
        tag: Tag,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        if self.depth >= DEPTH_CAP {
            let offset = self.offset();
            return Err(DecodeError::TooDeep { offset, depth_max: DEPTH_CAP });
        }
        let (depth, whole) = (self.depth, self.whole);
        self.depth += 1;
        self.whole |= matches!(tag, Tag::Map | Tag::Range);
        let made = read(self);
        (self.depth, self.whole) = (depth, whole);
        made
    }

    /// A reader of a payload.
    pub(in crate::crdt) fn payload(&mut self, len_max: usize) -> Result<Reader<'a>, DecodeError> {
        let payload = self.reader.bytes("a payload", len_max)?;
        Ok(self.reader.part(payload))
    }

    /// What was read last is not as it must be.
    #[must_use]
    pub const fn form(&self, what: &'static str) -> DecodeError {
        DecodeError::Form { offset: self.reader.offset(), what }
    }
}
