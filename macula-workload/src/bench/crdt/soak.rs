//! Whether what was removed leaves something behind.

use macula_workload::crdt::codec::Encoder;
use macula_workload::crdt::types::OrSet;

use super::updates::element;
use super::{WALL, bucket, number};
use crate::bench::report::{Measure, resident_bytes};

/// How many elements are added and removed again in all, and by when it is looked first.
const CHANGES: usize = 1_000_000;
const FIRST: usize = 1_000;

/// How many elements are there at any time.
const THERE: usize = 100;

/// What there is after some changes.
struct After {
    /// How many bytes two replicas hold, which add and remove elements in turn.
    held: f64,
    /// How many bytes the process has, and had after the first of them.
    process: (f64, f64),
}

fn after(changes: usize) -> anyhow::Result<After> {
    const KEY: &str = "bench/set";
    let mut both = [bucket(1)?, bucket(2)?];
    let mut first = resident()?;
    for turn in 0..changes {
        if turn == FIRST {
            first = resident()?;
        }
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
    let held = number(held.sum());
    Ok(After { held, process: (resident()?, first) })
}

fn resident() -> anyhow::Result<f64> {
    Ok(number(usize::try_from(resident_bytes()?)?))
}

/// It has to be the first thing that a process measures: memory that was given back is used again, and
/// then nothing grows.
pub(super) fn measure(scale: usize) -> anyhow::Result<[Measure; 2]> {
    let (few, many) = (after(FIRST)?, after((CHANGES / scale).max(FIRST))?);
    let held = Measure::new("soak_memory", "B", many.held)
        .against("after 1,000 adds and removes", few.held)
        .note("two replicas with 100 elements after 1,000,000 adds and removes: states, keys, contexts");
    let (end, first) = many.process;
    let process = Measure::new("soak_process", "B", end)
        .against("after the first 1,000 of them", first)
        .note("what the process has then");
    Ok([held, process])
}
