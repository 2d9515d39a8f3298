//! Whole nodes publish and subscribe while links break, nodes crash, and the actors of pub/sub are
//! killed one after the other: what is counted is what was seen, and what is promised arrives.
//!
//! `MACULA_SEED=7 cargo test -p macula-tests --test pubsub` replays a seed, and
//! `MACULA_WORLD_SEEDS=200 cargo test -p macula-tests --test pubsub` runs more of them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "pubsub/history.rs"]
mod history;
#[path = "pubsub/invariants.rs"]
mod invariants;
#[path = "pubsub/load.rs"]
mod load;
#[path = "pubsub/plain.rs"]
mod plain;
#[path = "pubsub/seen.rs"]
mod seen;

use std::time::Duration;

use load::{Load, PATTERNS, STORM};
use macula_infra::pubsub::proto::Bug;
use macula_tests::seeds::{self, Case, FailedSeed};
use macula_tests::world::{self, Faults, Part, Run, World};

/// How many seeds are run if nothing else is said: each takes some seconds of one core.
const SEEDS: u64 = 10;

/// How many seeds a planted bug gets to be found.
const BUG_SEEDS: u64 = 5;

/// How long it may take until all have all again: longer than a node is suspect, and its absence
/// believed.
const HEALING_MAX: Duration = Duration::from_secs(60);

/// As the storm of three nodes has them, for more links.
const CRASHES: Faults = Faults {
    loss: 0.01,
    part_every: Some(Duration::from_secs(1)),
    hold_every: Some(Duration::from_secs(2)),
    crash_every: Some(Duration::from_secs(3)),
    ..Faults::STORM
};

/// The same for nodes that live, and that are away for shorter than others wait for them.
const NO_CRASHES: Faults =
    Faults { crash_every: None, part_max: Duration::from_millis(1_500), ..CRASHES };

fn world(seed: u64, crashes: bool) -> World {
    World::builder(seed)
        .nodes(PATTERNS.len())
        .joins()
        .storm(STORM)
        .healing_max(HEALING_MAX)
        .faults(if crashes { CRASHES } else { NO_CRASHES })
        .kills(&[Part::PubSub; 3])
        .config(world::meet_quickly)
}

fn run(seed: u64, crashes: bool, bug: Option<Bug>) -> Result<Run<seen::Seen>, String> {
    let world = world(seed, crashes).config(|config| config.pubsub.bug = bug);
    world.run(&Load { crashes }).map_err(|broken| broken.to_string())
}

fn holds(test: &'static str, crashes: bool) -> Result<(), FailedSeed> {
    let case = Case { target: "pubsub", test };
    world::check_all(case, 0..SEEDS, |seed| {
        let run = run(seed, crashes, None)?;
        if seeds::replayed().is_some() {
            seeds::tell(&format!("seed {seed} is whole after {:?}", run.healed_after));
        }
        Ok(())
    })
}

#[test]
fn what_is_counted_was_seen_whatever_is_killed() -> Result<(), FailedSeed> {
    holds("what_is_counted_was_seen_whatever_is_killed", true)
}

#[test]
fn between_nodes_that_live_nothing_that_is_promised_is_lost() -> Result<(), FailedSeed> {
    holds("between_nodes_that_live_nothing_that_is_promised_is_lost", false)
}

/// Whether a planted bug is found by one of some seeds.
fn is_found(bug: Bug) {
    let case = Case { target: "pubsub", test: "planted" };
    let failed = seeds::find(case, 0..BUG_SEEDS, |seed| run(seed, false, Some(bug)).map(drop));
    assert!(failed.is_some(), "no seed of {BUG_SEEDS} finds {bug:?}");
    let failed = failed.unwrap();
    let why = failed.why.lines().next().unwrap_or_default();
    seeds::tell(&format!("seed {} finds {bug:?}: {why}", failed.seed));
}

#[test]
fn what_is_sent_again_to_whoever_may_have_it_is_found() {
    is_found(Bug::ResendsWhatMayBeThere);
}

#[test]
fn what_a_life_of_the_actor_leaves_uncounted_is_found() {
    is_found(Bug::ForgetsWhatItHad);
}

#[test]
fn a_drop_that_is_not_counted_is_found() {
    is_found(Bug::ForgetsTheSlow);
}
