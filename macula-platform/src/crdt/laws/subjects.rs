//! What can be done with each type, and what it comes to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use macula_core::hlc::Stamp;
use proptest::prelude::*;

use super::model::{Act, View, Viewed};
use super::{Subject, obeys};
use crate::crdt::contract::Delta;
use crate::crdt::limits::Refused;
use crate::crdt::types::{
    DwFlag, EwFlag, GCounter, GSet, LwwElementSet, LwwRegister, MvRegister, OrMap, OrSet, Pair,
    PnCounter,
};
use crate::crdt::write::Write;

/// A few short values.
fn value() -> impl Strategy<Value = u8> {
    0..3_u8
}

fn text(value: u8) -> Arc<[u8]> {
    Arc::from([value])
}

#[derive(Debug, Clone)]
pub(super) enum Switch {
    On,
    Off,
}

fn switch() -> BoxedStrategy<Switch> {
    prop_oneof![Just(Switch::On), Just(Switch::Off)].boxed()
}

impl Subject for EwFlag {
    type Op = Switch;
    type Value = bool;

    fn op() -> BoxedStrategy<Switch> {
        switch()
    }

    fn mutate(&self, op: &Switch, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
        match op {
            Switch::On => self.enable(write),
            Switch::Off => Ok(self.disable()),
        }
    }

    fn value(&self) -> bool {
        self.is_enabled()
    }

    /// Enabled if somebody enabled it and nobody who had seen that did anything since.
    fn model(view: &View<Switch>) -> Option<bool> {
        let on = view.in_force(|op| matches!(op, Switch::On), |_, _| true);
        (!on.is_empty()).then_some(true)
    }
}

impl Subject for DwFlag {
    type Op = Switch;
    type Value = bool;

    fn op() -> BoxedStrategy<Switch> {
        switch()
    }

    fn mutate(&self, op: &Switch, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
        match op {
            Switch::On => Ok(self.enable()),
            Switch::Off => self.disable(write),
        }
    }

    fn value(&self) -> bool {
        self.is_enabled()
    }

    /// Disabled if somebody disabled it and nobody who had seen that did anything since.
    fn model(view: &View<Switch>) -> Option<bool> {
        let off = view.in_force(|op| matches!(op, Switch::Off), |_, _| true);
        (!off.is_empty()).then_some(false)
    }
}

#[derive(Debug, Clone)]
pub(super) enum Member {
    Add(u8),
    Remove(u8),
}

impl Member {
    const fn element(&self) -> u8 {
        match self {
            Self::Add(element) | Self::Remove(element) => *element,
        }
    }
}

fn member() -> BoxedStrategy<Member> {
    prop_oneof![value().prop_map(Member::Add), value().prop_map(Member::Remove)].boxed()
}

impl Subject for OrSet {
    type Op = Member;
    type Value = BTreeSet<Arc<[u8]>>;

    fn op() -> BoxedStrategy<Member> {
        member()
    }

    fn mutate(&self, op: &Member, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
        match op {
            Member::Add(element) => self.add(text(*element), write),
            Member::Remove(element) => Ok(self.remove(&[*element])),
        }
    }

    fn value(&self) -> Self::Value {
        self.iter().cloned().collect()
    }

    /// The elements of additions that nobody has done anything about who had seen them.
    fn model(view: &View<Member>) -> Option<Self::Value> {
        let there = view.in_force(
            |op| matches!(op, Member::Add(_)),
            |later, earlier| match (later.op(), earlier.op()) {
                (Some(later), Some(earlier)) => later.element() == earlier.element(),
                _ => true,
            },
        );
        let elements: BTreeSet<_> =
            there.into_iter().filter_map(|event| Some(text(event.op()?.element()))).collect();
        (!elements.is_empty()).then_some(elements)
    }
}

impl Subject for GSet {
    type Op = u8;
    type Value = BTreeSet<Arc<[u8]>>;

    fn op() -> BoxedStrategy<u8> {
        value().boxed()
    }

    fn mutate(&self, op: &u8, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
        self.add(text(*op), write)
    }

    fn value(&self) -> Self::Value {
        self.iter().cloned().collect()
    }

    /// The elements of all additions that no reset has seen.
    fn model(view: &View<u8>) -> Option<Self::Value> {
        let there = view.in_force(
            |_| true,
            |later, earlier| later.op().is_none_or(|element| earlier.op() == Some(element)),
        );
        let elements: BTreeSet<_> =
            there.into_iter().filter_map(|event| Some(text(*event.op()?))).collect();
        (!elements.is_empty()).then_some(elements)
    }
}

impl Subject for LwwElementSet {
    type Op = Member;
    type Value = BTreeSet<Arc<[u8]>>;

    fn op() -> BoxedStrategy<Member> {
        member()
    }

    fn mutate(&self, op: &Member, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
        match op {
            Member::Add(element) => self.add(text(*element), write),
            Member::Remove(element) => self.remove(text(*element), write),
        }
    }

    fn value(&self) -> Self::Value {
        self.iter().cloned().collect()
    }

    /// The elements of which the latest is an addition, among what nobody has done anything about who
    /// had seen it.
    fn model(view: &View<Member>) -> Option<Self::Value> {
        let there = view.in_force(
            |_| true,
            |later, earlier| match (later.op(), earlier.op()) {
                (Some(later), Some(earlier)) => later.element() == earlier.element(),
                _ => true,
            },
        );
        let latest = |element: u8| {
            let of_it = there
                .iter()
                .filter(|event| event.op().is_some_and(|op| op.element() == element))
                .max_by_key(|event| (event.stamp, event.replica, event.id))?;
            matches!(of_it.op()?, Member::Add(_)).then(|| text(element))
        };
        (!there.is_empty()).then(|| (0..3).filter_map(latest).collect())
    }
}

impl Subject for MvRegister {
    type Op = u8;
    type Value = Vec<Arc<[u8]>>;

    fn op() -> BoxedStrategy<u8> {
        value().boxed()
    }

    fn mutate(&self, op: &u8, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
        self.set(text(*op), write)
    }

    fn value(&self) -> Self::Value {
        self.values().cloned().collect()
    }

    /// What was written by those whose writes nobody had seen who wrote.
    fn model(view: &View<u8>) -> Option<Self::Value> {
        let mut there = view.in_force(|_| true, |_, _| true);
        there.sort_unstable_by_key(|event| (event.replica, event.id));
        let values: Vec<_> = there.iter().filter_map(|event| Some(text(*event.op()?))).collect();
        (!values.is_empty()).then_some(values)
    }
}

/// The sum of what each replica had counted when it counted last, as far as that was seen and not
/// reset since. What a replica had counted is the sum of what it counted before, as far as it knew it
/// then; if nothing was reset, and nothing is missing, the sum of all that was seen.
fn counted(view: &View<i8>) -> Option<i128> {
    let of_one = |later: &Viewed<i8>, earlier: &Viewed<i8>| {
        later.op().is_none() || later.replica == earlier.replica
    };
    let there = view.in_force(|_| true, of_one);
    let last = |of: &[&Viewed<i8>], event: &Viewed<i8>| {
        of.iter().all(|other| other.replica != event.replica || other.id <= event.id)
    };
    let total = |event: &Viewed<i8>| {
        let (mut sum, mut at) = (0, Some(event.clone()));
        while let Some(event) = at {
            sum += i128::from(*event.op().unwrap());
            let before = view.before(&event);
            let before = before.in_force(|_| true, of_one);
            let own = before.iter().filter(|other| other.replica == event.replica);
            at = own.max_by_key(|other| other.id).map(|own| Viewed::clone(own));
        }
        sum
    };
    let value =
        there.iter().filter(|event| last(&there, event)).map(|event| total(event)).sum::<i128>();
    if view.is_closed() && view.seen().all(|event| event.op().is_some()) {
        assert_eq!(value, view.seen().map(|event| i128::from(*event.op().unwrap())).sum());
    }
    (!there.is_empty()).then_some(value)
}

impl Subject for GCounter {
    type Op = i8;
    type Value = i128;

    fn op() -> BoxedStrategy<i8> {
        (0..4_i8).boxed()
    }

    fn mutate(&self, op: &i8, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
        self.increment(u64::from(op.unsigned_abs()), write)
    }

    fn value(&self) -> i128 {
        i128::try_from(Self::value(self)).unwrap()
    }

    fn model(view: &View<i8>) -> Option<i128> {
        counted(view)
    }
}

impl Subject for PnCounter {
    type Op = i8;
    type Value = i128;

    fn op() -> BoxedStrategy<i8> {
        (-3..4_i8).boxed()
    }

    fn mutate(&self, op: &i8, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
        let by = u64::from(op.unsigned_abs());
        if *op < 0 { self.decrement(by, write) } else { self.increment(by, write) }
    }

    fn value(&self) -> i128 {
        Self::value(self)
    }

    fn model(view: &View<i8>) -> Option<i128> {
        counted(view)
    }
}

impl Subject for LwwRegister {
    type Op = u8;
    type Value = (Arc<[u8]>, Stamp);

    fn op() -> BoxedStrategy<u8> {
        value().boxed()
    }

    fn mutate(&self, op: &u8, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
        self.set(text(*op), write)
    }

    fn value(&self) -> Self::Value {
        (self.get().unwrap().clone(), self.stamp().unwrap())
    }

    /// The write of the latest stamp among those that nobody had seen who wrote.
    fn model(view: &View<u8>) -> Option<Self::Value> {
        let there = view.in_force(|_| true, |_, _| true);
        let last = there.into_iter().max_by_key(|event| (event.stamp, event.replica, event.id))?;
        Some((text(*last.op()?), Stamp { at: last.stamp, replica: last.replica }))
    }
}

#[derive(Debug, Clone)]
pub(super) enum Field<O> {
    Change(u8, O),
    Remove(u8),
}

impl<V: Subject> Subject for OrMap<V> {
    type Op = Field<V::Op>;
    type Value = BTreeMap<Arc<[u8]>, V::Value>;

    fn op() -> BoxedStrategy<Self::Op> {
        prop_oneof![
            4 => (value(), V::op()).prop_map(|(key, op)| Field::Change(key, op)),
            1 => value().prop_map(Field::Remove),
        ]
        .boxed()
    }

    fn mutate(&self, op: &Self::Op, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
        match op {
            Field::Change(key, op) => {
                self.update(text(*key), write, |value, write| value.mutate(op, write))
            }
            Field::Remove(key) => Ok(self.remove(&[*key])),
        }
    }

    fn value(&self) -> Self::Value {
        self.iter().map(|(key, value)| (Arc::clone(key), value.value())).collect()
    }

    /// Each key has what its type makes of the events of this key, where a removal is a reset.
    fn model(view: &View<Self::Op>) -> Option<Self::Value> {
        let of_key = |key: u8| {
            let part = view.part(|act| match act {
                Act::Do(Field::Change(other, op)) if *other == key => Some(Act::Do(op.clone())),
                Act::Do(Field::Remove(other)) if *other == key => Some(Act::Reset),
                Act::Do(_) => None,
                Act::Reset => Some(Act::Reset),
            });
            Some((text(key), V::model(&part)?))
        };
        let fields: BTreeMap<_, _> = (0..3).filter_map(of_key).collect();
        (!fields.is_empty()).then_some(fields)
    }
}

#[derive(Debug, Clone)]
pub(super) enum Either<A, B> {
    First(A),
    Second(B),
}

impl<A: Subject, B: Subject> Subject for Pair<A, B> {
    type Op = Either<A::Op, B::Op>;
    type Value = (Option<A::Value>, Option<B::Value>);

    fn op() -> BoxedStrategy<Self::Op> {
        prop_oneof![A::op().prop_map(Either::First), B::op().prop_map(Either::Second)].boxed()
    }

    fn mutate(&self, op: &Self::Op, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
        match op {
            Either::First(op) => self.update_first(write, |first, write| first.mutate(op, write)),
            Either::Second(op) => {
                self.update_second(write, |second, write| second.mutate(op, write))
            }
        }
    }

    fn value(&self) -> Self::Value {
        let (first, second) = (self.first(), self.second());
        ((!first.is_bottom()).then(|| first.value()), (!second.is_bottom()).then(|| second.value()))
    }

    /// Each has what its type makes of the events that are about it.
    fn model(view: &View<Self::Op>) -> Option<Self::Value> {
        let first = A::model(&view.part(|act| match act {
            Act::Do(Either::First(op)) => Some(Act::Do(op.clone())),
            Act::Do(Either::Second(_)) => None,
            Act::Reset => Some(Act::Reset),
        }));
        let second = B::model(&view.part(|act| match act {
            Act::Do(Either::First(_)) => None,
            Act::Do(Either::Second(op)) => Some(Act::Do(op.clone())),
            Act::Reset => Some(Act::Reset),
        }));
        (first.is_some() || second.is_some()).then_some((first, second))
    }
}

/// A test for each type.
macro_rules! all_obey {
    ($($name:ident: $type:ty),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                obeys::<$type>();
            }
        )*
    };
}

all_obey! {
    last_writer_wins_registers_obey: LwwRegister,
    multi_value_registers_obey: MvRegister,
    growing_counters_obey: GCounter,
    counters_obey: PnCounter,
    growing_sets_obey: GSet,
    observed_remove_sets_obey: OrSet,
    last_writer_wins_sets_obey: LwwElementSet,
    enable_wins_flags_obey: EwFlag,
    disable_wins_flags_obey: DwFlag,
    maps_of_counters_obey: OrMap<PnCounter>,
    maps_of_maps_of_pairs_obey: OrMap<OrMap<Pair<OrSet, GCounter>>>,
}
