//! Whether what was removed leaves something behind.

use macula_workload::crdt::codec::Encoder;
use macula_workload::crdt::types::OrSet;

use super::updates::element;
use super::{WALL, bucket, number};
use crate::bench::report::Measure;

/// How many elements are added and removed again in all, and by when it is looked first.
const CHANGES: usize = 1_000_000;
const FIRST: usize = 1_000;

/// How many elements are there at any time.
const THERE: usize = 100;

/// How many bytes two replicas hold, which add and remove elements in turn, after so many of each.
fn bytes_after(changes: usize) -> anyhow::Result<f64> {
    const KEY: &str = "bench/set";
    let mut both = [bucket(1)?, bucket(2)?];
    for turn in 0..changes {
        let [one, other] = &mut both;
        let (one, other) = if turn % 2 == 0 { (one, other) } else { (other, one) };
        let add = one.update(KEY, WALL, |set: &OrSet, write| set.add(element(turn), write))?;
        other.join(&add, WALL)?;
        if let Some(old) = turn.checked_sub(THERE) {
            // Whoever removes it is not always who has added it.
            let gone = element(old);
            let remove = other.update(KEY, WALL, |set: &OrSet, _| Ok(set.remove(&gone)))?;
            one.join(&remove, WALL)?;
        }
    }
    let held = both.iter().map(|bucket| {
        let mut out = Encoder::default();
        out.context(bucket.context());
        bucket.weight() + out.len()
    });
    Ok(number(held.sum()))
}

pub(super) fn measure(scale: usize) -> anyhow::Result<Measure> {
    let many = bytes_after((CHANGES / scale).max(FIRST))?;
    Ok(Measure::new("soak_memory", "B", many)
        .against("after 1,000 adds and removes", bytes_after(FIRST)?)
        .note("two replicas with 100 elements after 1,000,000 adds and removes: states, keys, contexts"))
}
