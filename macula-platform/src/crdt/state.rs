//! A state of any kind, and the kinds that are known.

mod kinds;
mod node;

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use macula_core::hlc::Timestamp;

use super::codec::{DecodeError, Decoder, Digest, Encoder};
use super::context::Context;
use super::contract::{Crdt, Delta, Piece, Tidy};
use super::dot::Dot;
use super::kind::Kind;
use super::write::Write;

pub use kinds::Kinds;
pub(super) use node::Node;

/// The state of a key, whatever its kind.
///
/// A kind that is not [registered](Kinds) is no hindrance: the encoding says how dots, payloads and
/// maps are nested, which is all that a join needs to know. So a node joins, keeps, compares and
/// passes on what newer nodes write, and only cannot read it. It is what lets a group change to a new
/// program node by node without a copy that goes stale or a context that cannot be claimed.
#[derive(Debug)]
pub struct State(Box<dyn Erased>);

impl State {
    /// A state of a type.
    #[must_use]
    pub fn new<C: Crdt>(state: C) -> Self {
        Self(Box::new(Held { foreign: None, state }))
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind()
    }

    /// The state, if it is of that type.
    #[must_use]
    pub fn of<C: Crdt>(&self) -> Option<&C> {
        Some(&self.0.as_any().downcast_ref::<Held<C>>()?.state)
    }

    pub(super) fn of_mut<C: Crdt>(&mut self) -> Option<&mut C> {
        Some(&mut self.0.as_any_mut().downcast_mut::<Held<C>>()?.state)
    }

    /// Bottom, of the same kind.
    #[must_use]
    pub fn bottom(&self) -> Self {
        Self(self.0.bottom())
    }

    /// Joins `theirs`, as [`Crdt::join`] does. None if it is of another kind, or the one was read
    /// where the kind was not registered and the other where it was: nothing was joined.
    pub fn join(&mut self, ours: &Context, theirs: &Self, context: &Context) -> Option<bool> {
        self.0.join(ours, theirs.0.as_any(), context)
    }

    /// Calls `each` with every live dot.
    pub fn visit(&self, each: &mut dyn FnMut(Dot)) {
        self.0.visit(each);
    }

    /// The live dots.
    #[must_use]
    pub fn dots(&self) -> Context {
        let mut dots = Context::default();
        self.visit(&mut |dot| {
            dots.insert(dot);
        });
        dots
    }

    /// Whether no dot is live.
    #[must_use]
    pub fn is_bottom(&self) -> bool {
        self.0.is_bottom()
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.0.weight()
    }

    /// The latest stamp in it; none if it has no stamps, or it is not known which they are.
    #[must_use]
    pub fn latest(&self) -> Option<Timestamp> {
        self.0.latest()
    }

    /// See [`Crdt::tidy`].
    #[must_use]
    pub fn tidy(&self, tidy: &Tidy<'_>, write: &mut Write<'_>) -> Option<Delta<Self>> {
        self.0.tidy(tidy, write)
    }

    /// See [`Crdt::piece`].
    #[must_use]
    pub fn piece(&self, from: &[Arc<[u8]>], weight_max: usize) -> Piece<Self> {
        self.0.piece(from, weight_max)
    }

    /// Writes the state, without its kind.
    pub fn encode(&self, out: &mut Encoder) {
        self.0.encode(out);
    }

    /// The hash of the kind and the state: equal on two replicas if and only if both are.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut out = Encoder::default();
        out.kind(&self.kind());
        self.encode(&mut out);
        out.digest()
    }

    fn read<C: Crdt>(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self::new(C::decode(from)?))
    }

    /// Reads a state of a kind that is not known.
    fn read_foreign(kind: &Kind, from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let foreign = Some(Arc::new(kind.clone()));
        Ok(Self(Box::new(Held { foreign, state: Node::decode(from)? })))
    }
}

impl Clone for State {
    fn clone(&self) -> Self {
        Self(self.0.duplicate())
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.0.equals(other.0.as_any())
    }
}

/// What any type can do without saying which it is.
trait Erased: Debug + Send + Sync {
    fn kind(&self) -> Kind;
    fn bottom(&self) -> Box<dyn Erased>;
    fn duplicate(&self) -> Box<dyn Erased>;
    fn equals(&self, other: &dyn Any) -> bool;
    fn join(&mut self, ours: &Context, theirs: &dyn Any, context: &Context) -> Option<bool>;
    fn visit(&self, each: &mut dyn FnMut(Dot));
    fn is_bottom(&self) -> bool;
    fn weight(&self) -> usize;
    fn encode(&self, out: &mut Encoder);
    fn piece(&self, from: &[Arc<[u8]>], weight_max: usize) -> Piece<State>;
    fn latest(&self) -> Option<Timestamp>;
    fn tidy(&self, tidy: &Tidy<'_>, write: &mut Write<'_>) -> Option<Delta<State>>;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// A state, and the name of its kind if that is one that is not known here.
#[derive(Debug, Clone, PartialEq)]
struct Held<C> {
    foreign: Option<Arc<Kind>>,
    state: C,
}

impl<C: Crdt> Erased for Held<C> {
    fn kind(&self) -> Kind {
        self.foreign.as_deref().map_or_else(C::kind, Kind::clone)
    }

    fn bottom(&self) -> Box<dyn Erased> {
        Box::new(Self { foreign: self.foreign.clone(), state: C::default() })
    }

    fn duplicate(&self) -> Box<dyn Erased> {
        Box::new(self.clone())
    }

    fn equals(&self, other: &dyn Any) -> bool {
        other.downcast_ref() == Some(self)
    }

    fn join(&mut self, ours: &Context, theirs: &dyn Any, context: &Context) -> Option<bool> {
        let theirs: &Self = theirs.downcast_ref()?;
        let alike = self.foreign == theirs.foreign;
        alike.then(|| self.state.join(ours, &theirs.state, context))
    }

    fn visit(&self, each: &mut dyn FnMut(Dot)) {
        self.state.visit(each);
    }

    fn is_bottom(&self) -> bool {
        self.state.is_bottom()
    }

    fn weight(&self) -> usize {
        self.state.weight()
    }

    fn encode(&self, out: &mut Encoder) {
        self.state.encode(out);
    }

    fn piece(&self, from: &[Arc<[u8]>], weight_max: usize) -> Piece<State> {
        let piece = self.state.piece(from, weight_max);
        let foreign = self.foreign.clone();
        piece.map(|state| State(Box::new(Self { foreign, state })))
    }

    fn latest(&self) -> Option<Timestamp> {
        self.state.latest()
    }

    fn tidy(&self, tidy: &Tidy<'_>, write: &mut Write<'_>) -> Option<Delta<State>> {
        Some(self.state.tidy(tidy, write)?.map(State::new))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
