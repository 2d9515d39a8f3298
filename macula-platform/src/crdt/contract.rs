//! What every replicated type is.

use std::fmt::Debug;
use std::sync::Arc;

use macula_core::hlc::Timestamp;
use macula_core::replica::ReplicaId;

use super::codec::{DecodeError, Decoder, Encoder};
use super::context::Context;
use super::dot::Dot;
use super::kind::Kind;
use super::write::Write;

/// A state-based replicated type with causality kept by dots: each part of a state is there because
/// of updates, whose dots are *live* in it.
///
/// A replica has a state and the [`Context`] of all updates that it has seen. What is in the context
/// and not live in the state was there and is gone, and that needs no other trace. Two replicas are
/// joined by [`join`](Self::join), and then by [`Context::join`], in this order. As in Almeida, Shoker
/// and Baquero, *Delta state replicated data types* (JPDC 2018).
///
/// # Laws
///
/// For all states with their contexts, joining is commutative, associative and idempotent, and a
/// live dot stays unless the other side has seen it and does not have it. What is decoded equals what
/// was encoded, and equal states have equal bytes.
///
/// Types keep these laws by being made of [`DotFun`](super::store::DotFun),
/// [`OrMap`](super::types::OrMap) and [`Pair`](super::types::Pair), for which there is
/// [`crdt_type!`](crate::crdt_type). A type that keeps only some survivors of a join, say the one with
/// the greatest stamp, breaks them: one that was dropped may be all that is left once the others are
/// removed by a replica that had not seen it.
///
/// # Mutators
///
/// are functions of the state that change nothing and give a [`Delta`]. Whoever applies it joins it.
pub trait Crdt: Debug + Clone + Default + PartialEq + Send + Sync + 'static {
    /// The name of the type, the same on all nodes.
    fn kind() -> Kind;

    /// Joins `theirs`, where `context` has been seen, into this state, where `ours` has been seen.
    /// Says whether it changed. `ours` is the context *before* the joining.
    ///
    /// `theirs` is a state, or a delta; for both the same holds.
    fn join(&mut self, ours: &Context, theirs: &Self, context: &Context) -> bool;

    /// Calls `each` with every live dot, in no certain order.
    fn visit(&self, each: &mut dyn FnMut(Dot));

    /// Whether no dot is live: the state is as one that was never written.
    fn is_bottom(&self) -> bool;

    /// About how many bytes it takes in memory, and no less than it takes encoded, but for what
    /// [an encoder](Encoder) writes once. It costs no walk over elements.
    fn weight(&self) -> usize;

    /// Writes the state as one node, see [`codec`](super::codec).
    fn encode(&self, out: &mut Encoder);

    /// Reads a node.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if it is not one that `encode` writes.
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError>;

    /// The piece of the state that begins at a place and weighs `weight_max` at most, if it can be cut
    /// so small. The first place is no keys.
    ///
    /// A piece is joined as the whole is, under the context of the whole. Once all pieces are joined
    /// the whole is, also if it changed meanwhile.
    fn piece(&self, from: &[Arc<[u8]>], weight_max: usize) -> Piece<Self> {
        let _ = (from, weight_max);
        Piece { state: self.clone(), next: None }
    }

    /// The latest stamp in it; none if it has no stamps.
    fn latest(&self) -> Option<Timestamp> {
        None
    }

    /// A delta that takes out what nobody needs any more; none if there is nothing.
    fn tidy(&self, tidy: &Tidy<'_>, write: &mut Write<'_>) -> Option<Delta<Self>> {
        let _ = (tidy, write);
        None
    }

    /// The live dots.
    #[must_use]
    fn dots(&self) -> Context {
        let mut dots = Context::default();
        self.visit(&mut |dot| {
            dots.insert(dot);
        });
        dots
    }

    /// A delta that removes all that is here, and nothing that another replica does meanwhile.
    #[must_use]
    fn reset(&self) -> Delta<Self> {
        Delta { state: Self::default(), context: self.dots() }
    }
}

/// A piece of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<S> {
    /// What is there of the state, and where that is all.
    pub state: S,
    /// Where the next piece begins; none if this is the last.
    pub next: Option<Place>,
}

/// A place in a state: a key of a map, one of the map that this key has, and so on.
pub type Place = Vec<Arc<[u8]>>;

impl<S> Piece<S> {
    /// The same piece of something that the state is wrapped in.
    #[must_use]
    pub fn map<T>(self, wrap: impl FnOnce(S) -> T) -> Piece<T> {
        Piece { state: wrap(self.state), next: self.next }
    }
}

/// A change: what is new, and the dots that it adds and those that it takes the place of.
///
/// All dots of the context are live in the state, or were live below one of its keys, or never live
/// anywhere: those of changes that only take away. Deltas may be
/// lost, doubled and reordered; one that is lost leaves a gap in the context.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delta<S> {
    /// What is new.
    pub state: S,
    /// The dots of what is new, and of what it replaces.
    pub context: Context,
}

impl<S> Delta<S> {
    /// The same change of something that the state is wrapped in.
    #[must_use]
    pub fn map<T>(self, wrap: impl FnOnce(S) -> T) -> Delta<T> {
        Delta { state: wrap(self.state), context: self.context }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.context.is_empty()
    }
}

impl<C: Crdt> Delta<C> {
    /// Makes this one and a later one into one delta. Says whether it changed.
    pub fn join(&mut self, later: &Self) -> bool {
        let changed = self.state.join(&self.context, &later.state, &later.context);
        self.context.join(&later.context) || changed
    }
}

/// What is known of the group as a whole, by which [`Crdt::tidy`] goes.
#[derive(Debug, Clone, Copy)]
pub struct Tidy<'a> {
    /// What every member has seen, and everything before it: no update that is still on its way was
    /// made without having seen these.
    pub stable: &'a Context,
    /// Replicas that write no more, and of which every member has seen all. What is made of theirs has to be
    /// the same whoever makes it: two members may do so at one time.
    pub departed: &'a [ReplicaId],
}
