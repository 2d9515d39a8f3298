//! Whole nodes that cannot reach one another call and stream over relays, in virtual time, while
//! relays crash and links break; and the mesh heals.
//!
//! `MACULA_SEED=7 cargo test -p macula-tests --test relay` replays a seed, and
//! `MACULA_WORLD_SEEDS=200 cargo test -p macula-tests --test relay` runs more of them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "relay/hops.rs"]
mod hops;
#[path = "relay/invariants.rs"]
mod invariants;
#[path = "relay/storm.rs"]
mod storm;

use std::time::Duration;

use macula_infra::relay::{Bug, Use};
use macula_tests::seeds::{self, Case, FailedSeed};
use macula_tests::world::{self, Faults, Run, World};
use macula_workload::Config;

use storm::{EDGES, RELAYS, STORM, Storm};

/// How many seeds are run if nothing else is said: each takes some seconds of one core.
const SEEDS: u64 = 5;

/// How many seeds a planted bug gets to be found.
const BUG_SEEDS: u64 = 5;

/// The pairs that nothing gets between directly.
const APART: &[(usize, usize)] = &[(3, 4)];

/// How long the mesh may take to heal.
const HEALING_MAX: Duration = Duration::from_secs(40);

/// How long a mesh with a planted bug may: longer than those seeds take without one.
const BUG_HEALING_MAX: Duration = Duration::from_secs(20);

/// Relays crash, and all links are bad.
const FAULTS: Faults = Faults {
    loss: 0.01,
    part_every: Some(Duration::from_secs(2)),
    hold_every: Some(Duration::from_secs(3)),
    crash_every: Some(Duration::from_secs(2)),
    ..Faults::STORM
};

/// Relays crash one after the other, each for a while, and nothing else is wrong.
const CRASHES: Faults = Faults {
    latency_max: Duration::from_millis(30),
    crash_every: Some(Duration::from_secs(3)),
    down_max: Duration::from_millis(2_500),
    ..Faults::NONE
};

/// The first nodes relay, and the others keep places.
fn of_each(index: usize, config: &mut Config) {
    if index < RELAYS {
        config.relay.gives.serve = true;
    } else {
        config.relay.uses = Use::Always;
    }
}

fn world(seed: u64) -> World {
    World::builder(seed)
        .nodes(RELAYS + EDGES)
        .joins()
        .storm(STORM)
        .healing_max(HEALING_MAX)
        .faults(FAULTS)
        .apart(APART)
        .crashing(RELAYS)
        .of_each(of_each)
        .config(world::meet_quickly)
}

fn run(world: World, storm: Storm) -> Result<Run<storm::Seen>, String> {
    world.run(&storm).map_err(|broken| broken.to_string())
}

#[test]
fn calls_and_streams_over_relays_keep_their_promises_and_the_mesh_heals() -> Result<(), FailedSeed>
{
    let test = "calls_and_streams_over_relays_keep_their_promises_and_the_mesh_heals";
    let case = Case { target: "relay", test };
    world::check_all(case, 0..SEEDS, |seed| run(world(seed), Storm::APART).map(drop))
}

#[test]
fn no_stream_and_no_call_breaks_when_relays_crash_one_after_the_other() -> Result<(), FailedSeed> {
    let test = "no_stream_and_no_call_breaks_when_relays_crash_one_after_the_other";
    world::check_all(Case { target: "relay", test }, 0..SEEDS, |seed| {
        run(world(seed).faults(CRASHES), Storm::GENTLE).map(drop)
    })
}

#[test]
fn whoever_is_reached_directly_at_last_is_spoken_to_directly_and_nothing_breaks()
-> Result<(), FailedSeed> {
    let test = "whoever_is_reached_directly_at_last_is_spoken_to_directly_and_nothing_breaks";
    world::check_all(Case { target: "relay", test }, 0..SEEDS, |seed| {
        let world = world(seed).faults(Faults::NONE).storm(STORM / 2).met_at_last();
        let lines = run(world, Storm::MEETING)?.log.lines(usize::MAX);
        let both = lines.contains("relayed: true") && lines.contains("relayed: false");
        both.then_some(()).ok_or_else(|| "it was never relayed".to_owned())
    })
}

/// The first seed that finds a bug.
fn found(bug: Bug, faults: Faults) -> FailedSeed {
    let case = Case { target: "relay", test: "planted" };
    seeds::must_find(case, 0..BUG_SEEDS, bug, |seed| {
        let world = world(seed).faults(faults).config(|config| config.relay.bug = Some(bug));
        run(world.healing_max(BUG_HEALING_MAX), Storm::GENTLE).map(drop)
    })
}

#[test]
fn whoever_sends_on_over_a_dead_relay_is_found() {
    let why = found(Bug::StaysWithTheDead, CRASHES).why;
    assert!(why.contains("has broken") || why.contains("has failed"), "{why}");
}

#[test]
fn whoever_does_not_notice_that_it_has_lost_its_places_is_found() {
    found(Bug::KeepsLostPlaces, CRASHES);
}

#[test]
fn the_storm_is_one() {
    let log = run(world(0), Storm::APART).unwrap().log;
    let lines = log.lines(usize::MAX);
    for word in ["Crashed", "Parted", "Held", "Mended", "Answered", "Finished", "relayed: true"] {
        assert!(lines.contains(word), "there is no {word}");
    }
    assert!(!lines.contains("relayed: false"), "they are apart");
    let lines = run(world(0).faults(CRASHES), Storm::GENTLE).unwrap().log.lines(usize::MAX);
    let count = |word: &str| lines.matches(word).count();
    assert!(count("Crashed") >= 3 && count("Finished") >= 20 && count("Answered") >= 300);
}
