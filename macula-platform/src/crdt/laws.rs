//! The laws that every type keeps, and a model of each type that spells out what it means.
//!
//! A case is a history: a few replicas do things, deltas reach some of them, in any order, some of
//! them twice and some never; replicas merge with each other; some restart. [`check`] looks at what
//! has become of them. A type says in [`Subject`] what can be done with it, and what its value is
//! from the events that a replica has seen, and from nothing else.
//!
//! `MACULA_CRDT_CASES` says how many histories there are for each type.

mod history;
mod model;
mod planted;
mod subjects;

use std::fmt::Debug;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::Crdt;
use super::codec::{Decoder, Encoder};
use super::context::Context;
use super::contract::{Delta, Piece, Place};
use super::state::Node;
use history::{Bug, History, World};
use model::View;

use crate::crdt::limits::Refused;
use crate::crdt::write::Write;

/// How many bytes a state has before what it weighs.
const HEAD_LEN: usize = 8;

/// How heavy a piece of a few elements is.
const PIECE_WEIGHT: usize = 250;

/// How many histories each type gets.
fn cases() -> u32 {
    let cases = std::env::var("MACULA_CRDT_CASES").ok();
    cases.map_or(10_000, |cases| cases.parse().expect("MACULA_CRDT_CASES is a number"))
}

/// A type, and what the suite has to know of it.
trait Subject: Crdt {
    /// What can be done with it.
    type Op: Debug + Clone + 'static;
    /// What is read of it.
    type Value: Debug + PartialEq;

    fn op() -> BoxedStrategy<Self::Op>;
    fn mutate(&self, op: &Self::Op, write: &mut Write<'_>) -> Result<Delta<Self>, Refused>;
    fn value(&self) -> Self::Value;
    /// The value by the events of a view; none if it is as if nothing had ever happened.
    fn model(view: &View<Self::Op>) -> Option<Self::Value>;
}

/// A state with its context.
#[derive(Debug, Clone, PartialEq, Default)]
struct Causal<C> {
    state: C,
    context: Context,
}

impl<C: Crdt> Causal<C> {
    fn join(&mut self, state: &C, context: &Context) {
        self.state.join(&self.context, state, context);
        self.context.join(context);
    }

    fn joined(&self, other: &Self) -> Self {
        let mut joined = self.clone();
        joined.join(&other.state, &other.context);
        joined
    }

    fn applied(&self, delta: &Delta<C>) -> Self {
        let mut joined = self.clone();
        joined.join(&delta.state, &delta.context);
        joined
    }
}

/// Whether `all` are equal; says which law would be broken.
fn same<T: Debug + PartialEq>(law: &str, one: &T, other: &T) -> Result<(), String> {
    if one == other {
        return Ok(());
    }
    Err(format!("{law}:\n  {one:?}\n  {other:?}"))
}

fn holds(law: &str, it: bool) -> Result<(), String> {
    if it { Ok(()) } else { Err(law.to_owned()) }
}

fn bytes<C: Crdt>(state: &C) -> Vec<u8> {
    let mut out = Encoder::default();
    state.encode(&mut out);
    let len = out.len();
    let bytes = out.finish();
    assert_eq!(bytes.len(), len);
    bytes
}

fn read<C: Crdt>(bytes: &[u8]) -> Result<C, String> {
    let mut from = Decoder::new(bytes).map_err(|error| error.to_string())?;
    let state = C::decode(&mut from).map_err(|error| error.to_string())?;
    from.finish().map_err(|error| error.to_string())?;
    Ok(state)
}

/// Whether a state comes back from its bytes, and its bytes from it.
fn comes_back<C: Crdt>(state: &C) -> Result<(), String> {
    let written = bytes(state);
    let back: C = read(&written)?;
    same("encode and decode are inverse", &back, state)?;
    same("encoding is deterministic", &bytes(&back), &written)?;
    same("the weight is that of all parts", &back.weight(), &state.weight())?;
    holds("the weight is no less than the bytes", written.len() <= state.weight() + HEAD_LEN)?;
    let node: Node = read(&written)?;
    same("a node that does not know the kind writes the same", &bytes(&node), &written)
}

/// Looks at all laws for the replicas of a world.
fn check<C: Subject>(world: &World<C>) -> Result<(), String> {
    for replica in &world.replicas {
        let model = C::model(&world.view(replica.seen));
        let Causal { state, context } = &replica.causal;
        let value = (!state.is_bottom()).then(|| state.value());
        same("a value is what the model says", &value, &model)?;
        comes_back(state)?;
        holds("live dots are in the context", context.includes(&state.dots()))?;
    }
    for event in &world.events {
        comes_back(&event.delta.state)?;
    }
    if let [x, y, z, ..] = &world.replicas[..] {
        merges(&x.causal, &y.causal, &z.causal)?;
        forwards(&x.causal, &y.causal)?;
        resets(&x.causal, &y.causal)?;
        foreign(&x.causal, &y.causal)?;
        pieces(&x.causal, &y.causal, 0)?;
        pieces(&y.causal, &z.causal, PIECE_WEIGHT)?;
    }
    deltas(world)
}

/// Merging is commutative, associative, idempotent and inflationary.
fn merges<C: Crdt>(x: &Causal<C>, y: &Causal<C>, z: &Causal<C>) -> Result<(), String> {
    let (xy, yx) = (x.joined(y), y.joined(x));
    same("merging is commutative", &xy, &yx)?;
    same("merged states have the same bytes", &bytes(&xy.state), &bytes(&yx.state))?;
    same("merging is associative", &xy.joined(z), &x.joined(&y.joined(z)))?;
    same("merging is idempotent", &x.joined(x), x)?;
    let mut again = xy.clone();
    let changed = again.state.join(&xy.context, &x.state, &x.context);
    holds("a merge that changes nothing says so", !changed)?;
    again.join(&y.state, &y.context);
    same("merging is inflationary", &again, &xy)
}

/// Nothing that is gone comes back, nothing comes from nowhere, and nothing goes unseen.
fn forwards<C: Crdt>(x: &Causal<C>, y: &Causal<C>) -> Result<(), String> {
    let (live, of_x, of_y) = (x.joined(y).state.dots(), x.state.dots(), y.state.dots());
    let came = live.minus(&of_x);
    holds("nothing comes from nowhere", of_y.includes(&came))?;
    holds("nothing that was seen and is gone comes back", came.meet(&x.context).is_empty())?;
    let went = of_x.minus(&live);
    holds("nothing goes that the other has not seen", y.context.includes(&went))
}

/// A reset removes what is here and nothing else.
fn resets<C: Crdt>(x: &Causal<C>, y: &Causal<C>) -> Result<(), String> {
    let reset = x.state.reset();
    let emptied = x.applied(&reset);
    holds("a reset leaves nothing here", emptied.state.is_bottom())?;
    same("a reset state is bottom", &emptied.state, &C::default())?;
    let merged = x.joined(y);
    let left = merged.applied(&reset);
    let expected = merged.state.dots().minus(&x.state.dots());
    same("a reset removes what it has seen and no more", &left.state.dots(), &expected)?;
    same("a reset is seen by merging too", &left, &merged.joined(&emptied))
}

/// A node that does not know the kind joins as one that does.
fn foreign<C: Crdt>(x: &Causal<C>, y: &Causal<C>) -> Result<(), String> {
    let as_nodes = |causal: &Causal<C>| -> Result<Causal<Node>, String> {
        Ok(Causal { state: read(&bytes(&causal.state))?, context: causal.context.clone() })
    };
    let (known, unknown) = (x.joined(y), as_nodes(x)?.joined(&as_nodes(y)?));
    same("an unknown kind is joined alike", &bytes(&unknown.state), &bytes(&known.state))?;
    pieces(&as_nodes(x)?, &as_nodes(y)?, 0)
}

/// A state that is joined piece by piece is joined.
fn pieces<C: Crdt>(x: &Causal<C>, y: &Causal<C>, weight_max: usize) -> Result<(), String> {
    let (mut z, mut place) = (x.clone(), Some(Place::new()));
    while let Some(from) = place {
        let Piece { state, next } = y.state.piece(&from, weight_max);
        z.state.join(&z.context, &state, &y.context);
        z.context.join(&state.dots());
        holds("pieces go on", next.as_ref().is_none_or(|next| *next > from))?;
        if next.is_some() {
            comes_back(&state)?;
        }
        place = next;
    }
    z.context.join(&y.context);
    same("pieces come to the whole", &z, &x.joined(y))
}

/// Deltas converge in any order and any number, alone and in groups, and come to what merging does.
fn deltas<C: Subject>(world: &World<C>) -> Result<(), String> {
    let mut in_order = Causal::default();
    for event in &world.events {
        let before: Causal<C> = in_order.clone();
        in_order = before.applied(&event.delta);
        same("a delta twice is a delta once", &in_order.applied(&event.delta), &in_order)?;
    }
    let mut shuffled = Causal::default();
    let (mut group, mut grouped) = (Delta::<C>::default(), Causal::default());
    for (place, event) in world.shuffled().enumerate() {
        shuffled.join(&event.delta.state, &event.delta.context);
        if place % 3 == 0 {
            grouped.join(&group.state, &group.context);
            group = event.delta.clone();
        } else {
            group.join(&event.delta);
        }
    }
    comes_back(&group.state)?;
    grouped.join(&group.state, &group.context);
    same("deltas converge in any order", &shuffled, &in_order)?;
    same("deltas can be joined in groups", &grouped, &in_order)?;
    let merged =
        world.replicas.iter().fold(Causal::default(), |all, replica| all.joined(&replica.causal));
    let all: Vec<Delta<C>> = world.known().map(|event| event.delta.clone()).collect();
    let known = all.iter().fold(Causal::default(), |all: Causal<C>, delta| all.applied(delta));
    same("deltas come to what merging comes to", &known, &merged)
}

/// Whether all laws hold for one history.
fn lawful<C: Subject>(history: &History<C::Op>, bug: Option<Bug>) -> Result<(), String> {
    check::<C>(&World::run(history, bug))
}

/// Looks at as many histories as there are cases.
fn obeys<C: Subject>() {
    let config = Config { cases: cases(), failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&History::<C::Op>::any(C::op()), |history| {
        lawful::<C>(&history, None).map_err(TestCaseError::fail)
    });
    if let Err(failure) = run {
        panic!("{failure}");
    }
}
