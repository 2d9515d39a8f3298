//! Replicas in virtual time.

mod clocks;
mod cost;
mod garbage;
mod hundred;
mod leaving;
mod levels;
mod liars;
mod returning;
mod storms;
pub(in crate::crdt) mod world;

use crate::crdt::proto::Bug;
use world::World;

/// How many seeds a campaign has, unless the environment says otherwise.
pub(in crate::crdt) fn seeds(otherwise: u64) -> u64 {
    std::env::var("MACULA_CRDT_SEEDS").map_or(otherwise, |value| value.parse().unwrap())
}

/// The first seed, if the environment says which.
pub(in crate::crdt) fn first_seed() -> u64 {
    std::env::var("MACULA_SEED").map_or(0, |value| value.parse().unwrap())
}

/// Runs a world for many seeds, and says which of them fails.
fn campaign(otherwise: u64, run: impl Fn(u64) -> Result<World, String>) {
    let first = first_seed();
    for seed in first..first + seeds(otherwise) {
        if let Err(why) = run(seed) {
            panic!("seed {seed} fails (MACULA_SEED={seed} MACULA_CRDT_SEEDS=1): {why}");
        }
    }
}

/// Whether a bug is found by one of many seeds, and for what it does: one of `whys` is said of it.
fn catches(
    bug: Bug,
    whys: &[&str],
    seeds: u64,
    run: impl Fn(u64, Option<Bug>) -> Result<World, String>,
) {
    let mut others = Vec::new();
    for found in (0..seeds).filter_map(|seed| run(seed, Some(bug)).err()) {
        if whys.iter().any(|why| found.contains(why)) {
            return;
        }
        others.push(found);
    }
    panic!("{bug:?} is not found, or for something else: {others:#?}");
}
