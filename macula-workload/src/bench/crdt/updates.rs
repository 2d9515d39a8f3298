//! Updates and merges of each type in memory, beside the same on a plain collection; and how long a delta is.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::sync::Arc;

use anyhow::Context as _;
use macula_workload::crdt::Crdt;
use macula_workload::crdt::bucket::{Bucket, put_state};
use macula_workload::crdt::codec::Encoder;
use macula_workload::crdt::contract::Delta;
use macula_workload::crdt::limits::Refused;
use macula_workload::crdt::state::State;
use macula_workload::crdt::types::{
    DwFlag, EwFlag, GCounter, GSet, LwwElementSet, LwwRegister, MvRegister, OrMap, OrSet, PnCounter,
};
use macula_workload::crdt::write::Write;

use super::{WALL, bucket, number, rate};
use crate::bench::report::Measure;

/// How many updates a round makes.
const UPDATES: usize = 1_000_000;

/// How many elements sets and maps have.
const ELEMENTS: usize = 10_000;

/// How long a value is, in bytes.
const VALUE_LEN: usize = 16;

const KEY: &str = "bench/key";

pub(super) fn measure(scale: usize) -> anyhow::Result<Vec<Measure>> {
    let count = (UPDATES / scale).max(100);
    let mut results = scalars(count)?;
    results.extend(collections(count)?);
    results.extend(merges(scale)?);
    results.extend(deltas(scale)?);
    Ok(results)
}

/// An element, by its number.
pub(super) fn element(number: usize) -> Arc<[u8]> {
    number.to_be_bytes().into()
}

/// How often in a second a key changes.
fn updates<C: Crdt>(
    count: usize,
    mut change: impl FnMut(usize, &C, &mut Write<'_>) -> Result<Delta<C>, Refused>,
) -> anyhow::Result<f64> {
    rate(count, |begin| {
        let mut bucket = bucket(1)?;
        begin();
        for turn in 0..count {
            black_box(bucket.update(KEY, WALL, |state, write| change(turn, state, write))?);
        }
        Ok(())
    })
}

/// How often in a second the same is done to what a plain map has under a key.
fn plain<V: Default>(count: usize, mut change: impl FnMut(usize, &mut V)) -> anyhow::Result<f64> {
    rate(count, |begin| {
        let mut map = BTreeMap::from([(KEY.to_owned(), V::default())]);
        begin();
        for turn in 0..count {
            change(turn, black_box(map.get_mut(KEY).context("the key is gone")?));
        }
        black_box(map);
        Ok(())
    })
}

fn scalars(count: usize) -> anyhow::Result<Vec<Measure>> {
    let sum = plain(count, |_, sum: &mut i128| *sum += 1)?;
    let sum_baseline = "adding to a number in a BTreeMap";
    let value: Arc<[u8]> = vec![7; VALUE_LEN].into();
    let (one, other) = (Arc::clone(&value), Arc::clone(&value));
    let put = plain(count, |_, held: &mut Option<Arc<[u8]>>| *held = Some(Arc::clone(&value)))?;
    let put_baseline = "putting a value into a BTreeMap";
    let flip = plain(count, |turn, held: &mut bool| *held = turn % 2 == 0)?;
    let flip_baseline = "setting a bool in a BTreeMap";
    Ok(vec![
        Measure::new(
            "update_g_counter",
            "1/s",
            updates(count, |_, counter: &GCounter, write| counter.increment(1, write))?,
        )
        .against(sum_baseline, sum),
        Measure::new(
            "update_pn_counter",
            "1/s",
            updates(count, |turn, counter: &PnCounter, write| match turn % 3 {
                0 => counter.decrement(1, write),
                _ => counter.increment(1, write),
            })?,
        )
        .against(sum_baseline, sum),
        Measure::new(
            "update_lww_register",
            "1/s",
            updates(count, |_, register: &LwwRegister, write| {
                register.set(Arc::clone(&one), write)
            })?,
        )
        .against(put_baseline, put),
        Measure::new(
            "update_mv_register",
            "1/s",
            updates(count, |_, register: &MvRegister, write| {
                register.set(Arc::clone(&other), write)
            })?,
        )
        .against(put_baseline, put),
        Measure::new(
            "update_ew_flag",
            "1/s",
            updates(count, |turn, flag: &EwFlag, write| match turn % 2 {
                0 => flag.enable(write),
                _ => Ok(flag.disable()),
            })?,
        )
        .against(flip_baseline, flip),
        Measure::new(
            "update_dw_flag",
            "1/s",
            updates(count, |turn, flag: &DwFlag, write| match turn % 2 {
                0 => flag.disable(write),
                _ => Ok(flag.enable()),
            })?,
        )
        .against(flip_baseline, flip),
    ])
}

fn collections(count: usize) -> anyhow::Result<Vec<Measure>> {
    // One is added, and then one that is there is removed.
    let at = |turn: usize| element(turn / 2 % ELEMENTS);
    let set = plain(count, |turn, set: &mut BTreeSet<Arc<[u8]>>| {
        black_box(if turn % 2 == 0 { set.insert(at(turn)) } else { set.remove(&at(turn)) });
    })?;
    let grown = plain(count, |turn, set: &mut BTreeSet<Arc<[u8]>>| {
        black_box(set.insert(element(turn % ELEMENTS)));
    })?;
    let map = plain(count, |turn, map: &mut BTreeMap<Arc<[u8]>, i128>| {
        *map.entry(element(turn % ELEMENTS)).or_default() += 1;
    })?;
    Ok(vec![
        Measure::new(
            "update_g_set",
            "1/s",
            updates(count, |turn, set: &GSet, write| set.add(element(turn % ELEMENTS), write))?,
        )
        .against("inserting into a BTreeSet", grown)
        .note("one of 10,000 elements each time"),
        Measure::new(
            "update_or_set",
            "1/s",
            updates(count, |turn, set: &OrSet, write| match turn % 2 {
                0 => set.add(at(turn), write),
                _ => Ok(set.remove(&at(turn))),
            })?,
        )
        .against("inserting into a BTreeSet and removing", set),
        Measure::new(
            "update_lww_element_set",
            "1/s",
            updates(count, |turn, set: &LwwElementSet, write| match turn % 2 {
                0 => set.add(at(turn), write),
                _ => set.remove(at(turn), write),
            })?,
        )
        .against("inserting into a BTreeSet and removing", set),
        Measure::new(
            "update_or_map",
            "1/s",
            updates(count, |turn, map: &OrMap<PnCounter>, write| {
                map.update(element(turn % ELEMENTS), write, |sum, write| sum.increment(1, write))
            })?,
        )
        .against("adding to numbers in a BTreeMap", map)
        .note("one of 10,000 counters each time"),
    ])
}

/// A bucket whose key is a set of so many elements.
fn filled(node: u64, elements: std::ops::Range<usize>) -> anyhow::Result<Bucket> {
    let mut filled = bucket(node)?;
    for number in elements {
        filled.update(KEY, WALL, |set: &OrSet, write| set.add(element(number), write))?;
    }
    Ok(filled)
}

fn set_of(bucket: &Bucket) -> anyhow::Result<&OrSet> {
    bucket.read::<OrSet>(KEY)?.context("there is no set")
}

fn merges(scale: usize) -> anyhow::Result<Vec<Measure>> {
    let count = (ELEMENTS * 10 / scale).max(100);
    let joined = |change: &dyn Fn(usize, &mut Bucket) -> anyhow::Result<_>| {
        let mut writer = bucket(1)?;
        let deltas: anyhow::Result<Vec<_>> =
            (0..count).map(|turn| change(turn, &mut writer)).collect();
        let deltas = deltas?;
        rate(count, |begin| {
            let mut reader = bucket(2)?;
            begin();
            for delta in &deltas {
                black_box(reader.join(delta, WALL)?);
            }
            Ok(())
        })
    };
    let count_one = |_: usize, bucket: &mut Bucket| {
        Ok(bucket.update(KEY, WALL, |sum: &PnCounter, write| sum.increment(1, write))?)
    };
    let add_one = |turn: usize, bucket: &mut Bucket| {
        let one = element(turn % ELEMENTS);
        Ok(bucket.update(KEY, WALL, move |set: &OrSet, write| set.add(one, write))?)
    };
    // Two states of which a half is the same.
    let half = count / 2;
    let (one, other) = (filled(1, 0..count)?, filled(2, half..count + half)?);
    let states = rate(count, |begin| {
        let mut set = set_of(&one)?.clone();
        begin();
        black_box(set.join(one.context(), set_of(&other)?, other.context()));
        Ok(())
    })?;
    let plain_one: BTreeSet<Arc<[u8]>> = (0..count).map(element).collect();
    let plain_other: BTreeSet<Arc<[u8]>> = (half..count + half).map(element).collect();
    let unions = rate(count, |begin| {
        let mut set = plain_one.clone();
        begin();
        set.extend(plain_other.iter().cloned());
        black_box(set);
        Ok(())
    })?;
    Ok(vec![
        Measure::new("merge_pn_counter", "1/s", joined(&count_one)?)
            .note("deltas of another replica"),
        Measure::new("merge_or_set", "1/s", joined(&add_one)?).note("deltas of another replica"),
        Measure::new("merge_states", "elements/s", states)
            .against("the union of two BTreeSets", unions)
            .note("two or-sets, a half of whose elements is the same"),
    ])
}

/// How many bytes a delta has, against the whole state.
fn deltas(scale: usize) -> anyhow::Result<Vec<Measure>> {
    let elements = (ELEMENTS / scale).max(10);
    let mut sets = filled(1, 0..elements)?;
    let mut counters = bucket(1)?;
    for node in 1..=100 {
        let mut other = bucket(node + 1)?;
        let delta = other.update(KEY, WALL, |sum: &PnCounter, write| sum.increment(node, write))?;
        counters.join(&delta, WALL)?;
    }
    let add = sets.update(KEY, WALL, |set: &OrSet, write| set.add(element(elements), write))?;
    let remove = sets.update(KEY, WALL, |set: &OrSet, _| Ok(set.remove(&element(0))))?;
    let count = counters.update(KEY, WALL, |sum: &PnCounter, write| sum.increment(1, write))?;
    let len = |delta: &macula_workload::crdt::bucket::KeyDelta| {
        let mut out = Encoder::default();
        delta.encode(&mut out);
        number(out.len())
    };
    let sets = number(len_of(&State::new(set_of(&sets)?.clone())));
    let counter = counters.read::<PnCounter>(KEY)?.context("there is no counter")?.clone();
    let counters = number(len_of(&State::new(counter)));
    Ok(vec![
        Measure::new("delta_bytes_add", "B", len(&add))
            .against("the whole set of 10,000 elements", sets),
        Measure::new("delta_bytes_remove", "B", len(&remove))
            .against("the whole set of 10,000 elements", sets),
        Measure::new("delta_bytes_count", "B", len(&count))
            .against("the whole counter of 100 replicas", counters),
    ])
}

/// How many bytes a state has, with its key and its kind.
fn len_of(state: &State) -> usize {
    let mut out = Encoder::default();
    put_state(&mut out, KEY, state);
    out.len()
}
