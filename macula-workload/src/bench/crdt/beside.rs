//! The `crdts` crate beside this, for the types that both have, in the same run: how many bytes a state has,
//! and how fast it changes and is merged. Its states are encoded as `MessagePack`, which is as short as serde
//! makes them. Its counters need more of its features; what they are made of is its clock.

use std::hint::black_box;

use anyhow::Context as _;
use crdts::{CmRDT as _, CvRDT as _, GSet as TheirGSet, MVReg, Orswot, VClock};
use macula_workload::crdt::Crdt;
use macula_workload::crdt::bucket::Bucket;
use macula_workload::crdt::codec::Encoder;
use macula_workload::crdt::types::{GCounter, GSet, MvRegister, OrSet};

use super::updates::element;
use super::{WALL, bucket, number, rate};
use crate::bench::report::Measure;

/// How many elements the sets have.
const ELEMENTS: usize = 10_000;

/// How often registers and counters change.
const CHANGES: usize = 100_000;

const KEY: &str = "bench/key";

/// The name of a replica, as long as ours.
type Actor = (u64, u64);

const ACTOR: Actor = (1, 1);

pub(super) fn measure(scale: usize) -> anyhow::Result<Vec<Measure>> {
    let elements = (ELEMENTS / scale).max(10);
    let changes = (CHANGES / scale).max(10);
    let mut results = sets(elements)?;
    results.extend(grown(elements)?);
    results.extend(scalars(changes)?);
    Ok(results)
}

/// What a replica sends of a key to one that has nothing: the state and what was seen.
fn sent<C: Crdt>(bucket: &Bucket) -> anyhow::Result<f64> {
    let mut out = Encoder::default();
    bucket.read::<C>(KEY)?.context("the key is gone")?.encode(&mut out);
    out.context(bucket.context());
    Ok(number(out.len()))
}

fn packed(theirs: &impl serde::Serialize) -> anyhow::Result<f64> {
    Ok(number(rmp_serde::to_vec(theirs)?.len()))
}

/// Their observed-remove set.
type TheirSet = Orswot<Vec<u8>, Actor>;

fn their_set(actor: Actor, elements: std::ops::Range<usize>) -> TheirSet {
    let mut set = TheirSet::new();
    for number in elements {
        let context = set.read_ctx().derive_add_ctx(actor);
        set.apply(set.add(element(number).to_vec(), context));
    }
    set
}

fn our_set(node: u64, elements: std::ops::Range<usize>) -> anyhow::Result<Bucket> {
    let mut ours = bucket(node)?;
    for number in elements {
        ours.update(KEY, WALL, |set: &OrSet, write| set.add(element(number), write))?;
    }
    Ok(ours)
}

fn sets(elements: usize) -> anyhow::Result<Vec<Measure>> {
    let half = elements / 2;
    let adds = rate(elements, |begin| {
        begin();
        black_box(our_set(1, 0..elements)?);
        Ok(())
    })?;
    let their_adds = rate(elements, |begin| {
        begin();
        black_box(their_set(ACTOR, 0..elements));
        Ok(())
    })?;
    let (one, other) = (our_set(1, 0..elements)?, our_set(2, half..elements + half)?);
    let read = |bucket: &Bucket| anyhow::Ok(bucket.read::<OrSet>(KEY)?.context("no set")?.clone());
    let (mine, yours) = (read(&one)?, read(&other)?);
    let merges = rate(elements, |begin| {
        let mut set = mine.clone();
        begin();
        black_box(set.join(one.context(), &yours, other.context()));
        Ok(())
    })?;
    let (theirs, others) =
        (their_set(ACTOR, 0..elements), their_set((2, 1), half..elements + half));
    let their_merges = rate(elements, |begin| {
        let (mut set, other) = (theirs.clone(), others.clone());
        begin();
        set.merge(other);
        black_box(set);
        Ok(())
    })?;
    Ok(vec![
        Measure::new("crdts_or_set_bytes", "B", sent::<OrSet>(&one)?)
            .against("Orswot of crdts 7.3.2", packed(&theirs)?)
            .note("10,000 elements of 8 bytes, added one by one"),
        Measure::new("crdts_or_set_add", "1/s", adds).against("Orswot of crdts 7.3.2", their_adds),
        Measure::new("crdts_or_set_merge", "elements/s", merges)
            .against("Orswot of crdts 7.3.2", their_merges)
            .note("two states, a half of whose elements is the same"),
    ])
}

fn grown(elements: usize) -> anyhow::Result<Vec<Measure>> {
    let ours = || {
        let mut ours = bucket(1)?;
        for number in 0..elements {
            ours.update(KEY, WALL, |set: &GSet, write| set.add(element(number), write))?;
        }
        anyhow::Ok(ours)
    };
    let theirs = || {
        let mut set = TheirGSet::new();
        (0..elements).for_each(|number| set.insert(element(number).to_vec()));
        set
    };
    let adds = rate(elements, |begin| {
        begin();
        black_box(ours()?);
        Ok(())
    })?;
    let their_adds = rate(elements, |begin| {
        begin();
        black_box(theirs());
        Ok(())
    })?;
    Ok(vec![
        Measure::new("crdts_g_set_bytes", "B", sent::<GSet>(&ours()?)?)
            .against("GSet of crdts 7.3.2", packed(&theirs())?)
            .note("theirs cannot be removed as a whole, and has no dots"),
        Measure::new("crdts_g_set_add", "1/s", adds).against("GSet of crdts 7.3.2", their_adds),
    ])
}

fn scalars(changes: usize) -> anyhow::Result<Vec<Measure>> {
    let value = [7_u8; 16];
    let mut ours = bucket(1)?;
    let sets = rate(changes, |begin| {
        ours = bucket(1)?;
        begin();
        for _ in 0..changes {
            ours.update(KEY, WALL, |it: &MvRegister, write| it.set(value, write))?;
        }
        Ok(())
    })?;
    let mut theirs = MVReg::<Vec<u8>, Actor>::new();
    let their_sets = rate(changes, |begin| {
        theirs = MVReg::new();
        begin();
        for _ in 0..changes {
            let context = theirs.read_ctx().derive_add_ctx(ACTOR);
            theirs.apply(theirs.write(value.to_vec(), context));
        }
        Ok(())
    })?;
    let mut sums = bucket(1)?;
    let counts = rate(changes, |begin| {
        sums = bucket(1)?;
        begin();
        for _ in 0..changes {
            sums.update(KEY, WALL, |it: &GCounter, write| it.increment(1, write))?;
        }
        Ok(())
    })?;
    let mut clock = VClock::<Actor>::new();
    let their_counts = rate(changes, |begin| {
        clock = VClock::new();
        begin();
        for _ in 0..changes {
            clock.apply(clock.inc(ACTOR));
        }
        Ok(())
    })?;
    Ok(vec![
        Measure::new("crdts_mv_register_bytes", "B", sent::<MvRegister>(&ours)?)
            .against("MVReg of crdts 7.3.2", packed(&theirs)?),
        Measure::new("crdts_mv_register_set", "1/s", sets)
            .against("MVReg of crdts 7.3.2", their_sets),
        Measure::new("crdts_g_counter_bytes", "B", sent::<GCounter>(&sums)?)
            .against("VClock of crdts 7.3.2, which is its counter", packed(&clock)?),
        Measure::new("crdts_g_counter_count", "1/s", counts)
            .against("VClock of crdts 7.3.2, which is its counter", their_counts),
    ])
}
