//! States of kinds that this node does not know: what their encoding says of them.

use std::sync::Arc;

use crate::crdt::codec::{DecodeError, Decoder, Encoder, Tag};
use crate::crdt::context::Context;
use crate::crdt::contract::{Crdt, Piece};
use crate::crdt::dot::Dot;
use crate::crdt::kind::Kind;
use crate::crdt::store::DotFun;
use crate::crdt::types::OrMap;

/// A node of the encoding.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::crdt) enum Node {
    /// Nothing, of whatever shape.
    #[default]
    Bottom,
    Dots(DotFun<()>),
    Payloads(DotFun<Arc<[u8]>>),
    Map(OrMap<Self>),
}

impl Node {
    /// Where it stands if two nodes that have to be of one shape are not, which only a faulty node
    /// makes them.
    const fn rank(&self) -> u8 {
        match self {
            Self::Bottom => 0,
            Self::Dots(_) => 1,
            Self::Payloads(_) => 2,
            Self::Map(_) => 3,
        }
    }

    /// Bottom of the same shape.
    fn emptied(&self) -> Self {
        match self {
            Self::Bottom => Self::Bottom,
            Self::Dots(_) => Self::Dots(DotFun::default()),
            Self::Payloads(_) => Self::Payloads(DotFun::default()),
            Self::Map(_) => Self::Map(OrMap::default()),
        }
    }
}

impl Crdt for Node {
    /// No state is kept under this name: a node has the kind of the state that it is of.
    fn kind() -> Kind {
        const { Kind::new("node") }
    }

    fn join(&mut self, ours: &Context, theirs: &Self, context: &Context) -> bool {
        if matches!(self, Self::Bottom) {
            *self = theirs.emptied();
        }
        match (&mut *self, theirs) {
            (Self::Dots(own), Self::Dots(theirs)) => own.join(ours, theirs, context),
            (Self::Payloads(own), Self::Payloads(theirs)) => own.join(ours, theirs, context),
            (Self::Map(own), Self::Map(theirs)) => own.join(ours, theirs, context),
            (Self::Dots(own), Self::Bottom) => own.join(ours, &DotFun::default(), context),
            (Self::Payloads(own), Self::Bottom) => own.join(ours, &DotFun::default(), context),
            (Self::Map(own), Self::Bottom) => own.join(ours, &OrMap::default(), context),
            (own, theirs) if own.rank() < theirs.rank() => {
                *self = theirs.clone();
                true
            }
            _ => false,
        }
    }

    fn visit(&self, each: &mut dyn FnMut(Dot)) {
        match self {
            Self::Bottom => {}
            Self::Dots(dots) => dots.visit(each),
            Self::Payloads(payloads) => payloads.visit(each),
            Self::Map(map) => map.visit(each),
        }
    }

    fn is_bottom(&self) -> bool {
        match self {
            Self::Bottom => true,
            Self::Dots(dots) => dots.is_bottom(),
            Self::Payloads(payloads) => payloads.is_bottom(),
            Self::Map(map) => map.is_bottom(),
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Bottom => 0,
            Self::Dots(dots) => dots.weight(),
            Self::Payloads(payloads) => payloads.weight(),
            Self::Map(map) => map.weight(),
        }
    }

    fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Bottom => out.bottom(),
            Self::Dots(dots) => dots.encode(out),
            Self::Payloads(payloads) => payloads.encode(out),
            Self::Map(map) => map.encode(out),
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (tag, len) = from.node()?;
        Ok(match tag {
            Tag::Dots if len == 0 => Self::Bottom,
            Tag::Dots => Self::Dots(DotFun::decode_parts(from, len)?),
            Tag::Payloads => Self::Payloads(DotFun::decode_parts(from, len)?),
            Tag::Map | Tag::Part | Tag::Range => Self::Map(OrMap::decode_parts(from, tag, len)?),
        })
    }

    fn piece(&self, from: &[Arc<[u8]>], weight_max: usize) -> Piece<Self> {
        match self {
            Self::Map(map) => map.piece(from, weight_max).map(Self::Map),
            Self::Bottom | Self::Dots(_) | Self::Payloads(_) => {
                Piece { state: self.clone(), next: None }
            }
        }
    }
}
