//! What replicas do, and what becomes of them.

use std::time::Duration;

use macula_core::entropy::Entropy;
use macula_core::replica::ReplicaId;
use proptest::prelude::*;

use super::model::{Act, Seen, View, Viewed};
use super::{Causal, Subject};
use crate::crdt::contract::Delta;
use crate::crdt::limits::Limits;
use crate::crdt::stamps::Stamps;
use crate::crdt::write::Write;

/// How many replicas there are.
const REPLICAS: usize = 3;

/// The most steps of a history.
const STEPS_MAX: usize = 14;

/// One thing that happens.
#[derive(Debug, Clone)]
pub(super) enum Step<O> {
    /// A replica does something, when its calendar shows so many milliseconds.
    Do(usize, Act<O>, u64),
    /// One merges what another has.
    Merge(usize, usize),
    /// A delta, counted from the last one, reaches a replica.
    Deliver(usize, usize),
    /// A replica goes on as its next incarnation, and has forgotten all or nothing.
    Restart(usize, bool),
}

/// All that happens, and in which order deltas come to one that was not there.
#[derive(Debug, Clone)]
pub(super) struct History<O> {
    steps: Vec<Step<O>>,
    seed: u64,
}

impl<O: std::fmt::Debug + Clone + 'static> History<O> {
    pub(super) fn any(op: BoxedStrategy<O>) -> impl Strategy<Value = Self> {
        let (one, other) = (0..REPLICAS, 1..REPLICAS);
        let act = prop_oneof![9 => op.prop_map(Act::Do), 1 => Just(Act::Reset)];
        let step = prop_oneof![
            6 => (one.clone(), act, 0..4_u64).prop_map(|(at, act, now)| Step::Do(at, act, now)),
            2 => (one.clone(), other).prop_map(|(at, by)| Step::Merge(at, (at + by) % REPLICAS)),
            3 => (0..6_usize, one.clone()).prop_map(|(back, to)| Step::Deliver(back, to)),
            1 => (one, any::<bool>()).prop_map(|(at, forgets)| Step::Restart(at, forgets)),
        ];
        (prop::collection::vec(step, 0..STEPS_MAX), any::<u64>())
            .prop_map(|(steps, seed)| Self { steps, seed })
    }
}

/// What goes wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// A replica that has forgotten what it wrote goes on as the same incarnation.
    ReusedDot,
    /// Ties are broken the other way than the model does.
    OtherTies,
}

/// A replica, and the events that it has seen.
#[derive(Debug, Clone)]
pub(super) struct Replica<C> {
    id: ReplicaId,
    counter: u64,
    pub(super) causal: Causal<C>,
    pub(super) seen: Seen,
}

/// Something that a replica did.
#[derive(Debug, Clone)]
pub(super) struct Event<C: Subject> {
    pub(super) delta: Delta<C>,
    viewed: Viewed<C::Op>,
}

/// Replicas after a history.
#[derive(Debug, Clone)]
pub(super) struct World<C: Subject> {
    pub(super) replicas: Vec<Replica<C>>,
    pub(super) events: Vec<Event<C>>,
    limits: Limits,
    bug: Option<Bug>,
    seed: u64,
}

impl<C: Subject> World<C> {
    pub(super) fn run(history: &History<C::Op>, bug: Option<Bug>) -> Self {
        let replicas = (1..).take(REPLICAS).map(|node| Replica {
            id: ReplicaId { node, incarnation: 1 },
            counter: 0,
            causal: Causal::default(),
            seen: Seen::default(),
        });
        let (replicas, seed) = (replicas.collect(), history.seed);
        let mut world = Self { replicas, events: Vec::new(), limits: Limits::default(), bug, seed };
        for step in &history.steps {
            world.step(step);
        }
        world
    }

    fn step(&mut self, step: &Step<C::Op>) {
        match step {
            Step::Do(at, act, now) => self.act(*at, act, *now),
            Step::Merge(at, from) => {
                let (causal, seen) =
                    (self.replicas[*from].causal.clone(), self.replicas[*from].seen);
                let replica = &mut self.replicas[*at];
                replica.causal.join(&causal.state, &causal.context);
                replica.seen = replica.seen.and(seen);
            }
            Step::Deliver(back, to) => {
                let place = self.events.len().checked_sub(back + 1);
                if let Some((place, event)) = place.and_then(|at| Some((at, self.events.get(at)?)))
                {
                    let replica = &mut self.replicas[*to];
                    replica.causal.join(&event.delta.state, &event.delta.context);
                    replica.seen.insert(place);
                }
            }
            Step::Restart(at, forgets) => {
                let replica = &mut self.replicas[*at];
                if *forgets {
                    (replica.causal, replica.seen) = (Causal::default(), Seen::default());
                }
                match self.bug {
                    Some(Bug::ReusedDot) if *forgets => replica.counter = 0,
                    Some(Bug::ReusedDot) => {}
                    _ => (replica.id, replica.counter) = (replica.id.next_life(), 0),
                }
            }
        }
    }

    /// A replica does something. Calendars show anything, so that stamps do too.
    fn act(&mut self, at: usize, act: &Act<C::Op>, now: u64) {
        let (id, replica) = (self.events.len(), &mut self.replicas[at]);
        let (stamps, now) = (Stamps::default(), Duration::from_millis(now));
        let range = (replica.counter, u64::MAX);
        let mut write = Write::new(replica.id, range, stamps, now, &self.limits);
        let stamp = Stamps::default().tick(now);
        let delta = match act {
            Act::Do(op) => replica.causal.state.mutate(op, &mut write).unwrap(),
            Act::Reset => replica.causal.state.reset(),
        };
        (replica.counter, _) = write.spent();
        replica.causal.join(&delta.state, &delta.context);
        let seen = replica.seen;
        replica.seen.insert(id);
        let viewed = Viewed { id, replica: replica.id, stamp, act: act.clone(), seen };
        self.events.push(Event { delta, viewed });
    }

    /// The events of which `seen` have been seen.
    pub(super) fn view(&self, seen: Seen) -> View<C::Op> {
        let mut events: Vec<_> = self.events.iter().map(|event| event.viewed.clone()).collect();
        if self.bug == Some(Bug::OtherTies) {
            events.iter_mut().for_each(|event| event.replica.node = u64::MAX - event.replica.node);
        }
        View::new(events, seen)
    }

    /// All events in another order, with some of them twice.
    pub(super) fn shuffled(&self) -> impl Iterator<Item = &Event<C>> {
        let mut entropy = Entropy::from_seed(self.seed);
        let mut places: Vec<(u64, usize)> = Vec::new();
        for place in 0..self.events.len() {
            places.push((entropy.next_u64(), place));
            if entropy.chance(0.2) {
                places.push((entropy.next_u64(), place));
            }
        }
        places.sort_unstable();
        places.into_iter().map(|(_, place)| &self.events[place])
    }

    /// The events that any replica has seen.
    pub(super) fn known(&self) -> impl Iterator<Item = &Event<C>> {
        let all = self.replicas.iter().fold(Seen::default(), |all, at| all.and(at.seen));
        self.events.iter().filter(move |event| all.contains(event.viewed.id))
    }
}
