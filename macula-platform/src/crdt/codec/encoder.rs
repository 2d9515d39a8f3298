//! Writing.

use std::collections::BTreeMap;

use macula_core::replica::ReplicaId;

use super::{Digest, Tag, VERSION};
use crate::crdt::context::Context;
use crate::crdt::dot::Dot;
use crate::crdt::kind::Kind;

/// How many bytes a node's number has.
pub(super) const NODE_LEN: usize = 8;

/// Writes states, contexts and what goes with them into one run of bytes, in which each replica is
/// named once.
#[derive(Debug, Clone, Default)]
pub struct Encoder {
    replicas: Vec<ReplicaId>,
    places: BTreeMap<ReplicaId, usize>,
    /// How many bytes the replicas take.
    replicas_len: usize,
    kinds: Vec<Kind>,
    kind_places: BTreeMap<Kind, usize>,
    body: Vec<u8>,
    payload: Vec<u8>,
}

/// A place in what was written, to which [`Encoder::rewind`] goes back.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    replicas: usize,
    replicas_len: usize,
    kinds: usize,
    body: usize,
}

impl Encoder {
    /// How many bytes it would be if it were finished now.
    #[must_use]
    pub fn len(&self) -> usize {
        1 + number_len(count(self.replicas.len())) + self.replicas_len + self.body.len()
    }

    /// Whether nothing has been written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Where it is now.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        let (replicas, kinds, body) = (self.replicas.len(), self.kinds.len(), self.body.len());
        Mark { replicas, replicas_len: self.replicas_len, kinds, body }
    }

    /// Takes back what was written since a mark was made. A mark that lies behind is of no effect.
    pub fn rewind(&mut self, mark: Mark) {
        let ahead = mark.replicas > self.replicas.len() || mark.kinds > self.kinds.len();
        if ahead || mark.body > self.body.len() {
            return;
        }
        for replica in self.replicas.drain(mark.replicas..) {
            self.places.remove(&replica);
        }
        self.replicas_len = mark.replicas_len;
        for kind in self.kinds.drain(mark.kinds..) {
            self.kind_places.remove(&kind);
        }
        self.body.truncate(mark.body);
    }

    /// All that was written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        out.push(VERSION);
        put_number(&mut out, count(self.replicas.len()));
        for replica in &self.replicas {
            out.extend_from_slice(&replica.node.to_be_bytes());
            put_number(&mut out, replica.incarnation);
        }
        out.extend_from_slice(&self.body);
        out
    }

    /// The hash of all that was written.
    #[must_use]
    pub fn digest(self) -> Digest {
        let mut digest = Digest::default();
        blake3::Hasher::new().update(&self.finish()).finalize_xof().fill(&mut digest);
        digest
    }

    /// Writes a byte.
    pub fn byte(&mut self, byte: u8) {
        self.body.push(byte);
    }

    /// Writes a number.
    pub fn number(&mut self, number: u64) {
        put_number(&mut self.body, number);
    }

    /// Writes some bytes after their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(count(bytes.len()));
        self.body.extend_from_slice(bytes);
    }

    /// Writes a replica.
    pub fn replica(&mut self, replica: ReplicaId) {
        let next = self.replicas.len();
        let place = *self.places.entry(replica).or_insert(next);
        if place == next {
            self.replicas.push(replica);
            self.replicas_len += NODE_LEN + number_len(replica.incarnation);
        }
        self.number(count(place));
    }

    /// Writes the name of a kind. It takes its length only once.
    pub fn kind(&mut self, kind: &Kind) {
        let place = self.kind_places.get(kind).copied();
        self.number(count(place.unwrap_or(self.kinds.len())));
        if place.is_none() {
            self.bytes(kind.as_str().as_bytes());
            self.kind_places.insert(kind.clone(), self.kinds.len());
            self.kinds.push(kind.clone());
        }
    }

    /// Writes a dot.
    pub fn dot(&mut self, dot: Dot) {
        self.replica(dot.replica);
        self.number(dot.counter);
    }

    /// Writes a context.
    pub fn context(&mut self, context: &Context) {
        let spans: Vec<(Dot, u64)> = context.spans().collect();
        let of_replicas = || spans.chunk_by(|(one, _), (next, _)| one.replica == next.replica);
        self.number(count(of_replicas().count()));
        for spans in of_replicas() {
            if let [(first, _), ..] = spans {
                self.replica(first.replica);
            }
            self.number(count(spans.len()));
            // The first begins at 1 or later, and each other two after the end of the one before it.
            let mut free = 1;
            for (first, last) in spans {
                self.number(first.counter.saturating_sub(free));
                self.number(last.saturating_sub(first.counter));
                free = last.saturating_add(2);
            }
        }
    }

    /// Writes bottom.
    pub fn bottom(&mut self) {
        self.number(0);
    }

    /// Begins a node of `len` parts, which the caller writes.
    pub(in crate::crdt) fn node(&mut self, tag: Tag, len: usize) {
        self.number((count(len) << 3) | tag.bits());
    }

    /// Writes a payload: what `write` puts at the end of a buffer.
    pub(in crate::crdt) fn payload(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut payload = std::mem::take(&mut self.payload);
        payload.clear();
        write(&mut payload);
        self.bytes(&payload);
        self.payload = payload;
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

const fn number_len(number: u64) -> usize {
    let mut len = 1;
    let mut rest = number >> 7;
    while rest > 0 {
        len += 1;
        rest >>= 7;
    }
    len
}

/// The greatest number that [`put_ordered`] writes as one byte.
pub(super) const ORDERED_BYTE_MAX: u8 = 247;

/// Writes a number at the end of a buffer, in 1 to 9 bytes of which the lesser are those of the lesser number:
/// one that is small as it is, another after how many bytes it has, the highest first.
pub fn put_ordered(out: &mut Vec<u8>, number: u64) {
    let bytes = number.to_be_bytes();
    match u8::try_from(number) {
        Ok(small) if small <= ORDERED_BYTE_MAX => out.push(small),
        _ => {
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let digits = bytes.get(zeros..).unwrap_or_default();
            out.push(u8::try_from(digits.len()).map_or(u8::MAX, |len| ORDERED_BYTE_MAX + len));
            out.extend_from_slice(digits);
        }
    }
}

/// Writes a number at the end of a buffer, in LEB128: 1 to 10 bytes.
pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let [digits, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            out.push(digits & 0x7f);
            return;
        }
        out.push(digits | 0x80);
    }
}
