//! Whole nodes publish and subscribe while links break, nodes crash, and connections and the actors of
//! pub/sub are killed one after the other: what is counted is what was seen, and what is promised
//! arrives. In half of the runs some of them reach each other only over relays, which are killed too.
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

use load::{Cast, Load, PATTERNS};
use macula_infra::pubsub::proto::Bug;
use macula_infra::relay::Use;
use macula_tests::seeds::{self, Case, FailedSeed};
use macula_tests::world::{self, Faults, Part, Run, World};
use macula_workload::Config;

/// How many seeds are run if nothing else is said: each takes some seconds of one core.
const SEEDS: u64 = 5;

/// The same for those with relays, which take longer.
const RELAYED_SEEDS: u64 = 3;

/// The same for queue groups, and for broadcast trees.
const OTHER_SEEDS: u64 = 2;

/// How many seeds a planted bug has to be found by one of, at most: some need a rare order of things.
const BUG_SEEDS: u64 = 40;

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

/// All connect directly.
const DIRECT: Load = Load {
    crashes: true,
    cast: Cast { relays: 0, is_team: false },
    storm: Duration::from_secs(8),
    direct_max: None,
    kills: &[Part::PubSub, Part::Connection],
};

/// All are one queue group.
const TEAM: Load = Load { cast: Cast { relays: 0, is_team: true }, ..DIRECT };

/// Whatever has more than one subscriber goes over a broadcast tree.
const TREES: Load = Load { direct_max: Some(1), ..DIRECT };

/// Some of those that take part reach each other only over the first nodes, which relay.
const RELAYED: Load = Load {
    crashes: true,
    cast: Cast { relays: 3, is_team: false },
    // It takes a while until all have places at relays.
    storm: Duration::from_secs(20),
    direct_max: None,
    kills: &[Part::PubSub, Part::Connection, Part::Relay],
};

/// How many nodes take part where some are relayed.
const EDGES: usize = 4;

/// The pairs of them that nothing gets between directly.
const APART: &[(usize, usize)] = &[(3, 4), (3, 5), (4, 6), (5, 6)];

/// Relays crash, and nothing else is wrong with the network.
const RELAYS_CRASH: Faults = Faults {
    latency_max: Duration::from_millis(30),
    crash_every: Some(Duration::from_secs(2)),
    down_max: Duration::from_millis(1_500),
    ..Faults::NONE
};

/// The first nodes relay, and the others keep places.
fn of_each(index: usize, config: &mut Config) {
    if index < RELAYED.cast.relays {
        config.relay.gives.serve = true;
    } else {
        config.relay.uses = Use::Always;
    }
}

fn world(seed: u64, load: &Load) -> World {
    let world = World::builder(seed)
        .joins()
        .storm(load.storm)
        .healing_max(HEALING_MAX)
        .config(world::meet_quickly);
    if load.cast.relays == 0 {
        let world = world.nodes(PATTERNS.len()).kills(&[
            Part::PubSub,
            Part::PubSub,
            Part::PubSub,
            Part::Connection,
            Part::Connection,
        ]);
        return world.faults(if load.crashes { CRASHES } else { NO_CRASHES });
    }
    let world = world.nodes(load.cast.relays + EDGES).apart(APART).of_each(of_each).kills(&[
        Part::PubSub,
        Part::PubSub,
        Part::PubSub,
        Part::PubSub,
        Part::Connection,
        Part::Connection,
        Part::Relay,
    ]);
    match load.crashes {
        true => world.faults(CRASHES),
        false => world.faults(RELAYS_CRASH).crashing(load.cast.relays),
    }
}

fn run(seed: u64, load: &Load, bug: Option<Bug>) -> Result<Run<seen::Seen>, String> {
    let direct_max = load.direct_max;
    let world = world(seed, load).config(move |config| {
        config.pubsub.bug = bug;
        config.pubsub.direct_max = direct_max.unwrap_or(config.pubsub.direct_max);
    });
    world.run(load).map_err(|broken| broken.to_string())
}

fn holds(test: &'static str, load: &Load) -> Result<(), FailedSeed> {
    let case = Case { target: "pubsub", test };
    let seeds = match load {
        Load { cast: Cast { is_team: true, .. }, .. } | Load { direct_max: Some(_), .. } => {
            OTHER_SEEDS
        }
        Load { cast: Cast { relays: 0, .. }, .. } => SEEDS,
        _ => RELAYED_SEEDS,
    };
    world::check_all(case, 0..seeds, |seed| {
        let run = run(seed, load, None)?;
        if seeds::replayed().is_some() {
            seeds::tell(&format!("seed {seed} is whole after {:?}", run.healed_after));
        }
        Ok(())
    })
}

#[test]
fn what_is_counted_was_seen_whatever_is_killed() -> Result<(), FailedSeed> {
    holds("what_is_counted_was_seen_whatever_is_killed", &DIRECT)
}

#[test]
fn between_nodes_that_live_nothing_that_is_promised_is_lost() -> Result<(), FailedSeed> {
    let test = "between_nodes_that_live_nothing_that_is_promised_is_lost";
    holds(test, &Load { crashes: false, ..DIRECT })
}

#[test]
fn what_is_counted_was_seen_in_a_queue_group_whatever_is_killed() -> Result<(), FailedSeed> {
    holds("what_is_counted_was_seen_in_a_queue_group_whatever_is_killed", &TEAM)
}

#[test]
fn nothing_that_is_promised_to_a_queue_group_is_lost() -> Result<(), FailedSeed> {
    let test = "nothing_that_is_promised_to_a_queue_group_is_lost";
    holds(test, &Load { crashes: false, ..TEAM })
}

#[test]
fn what_is_counted_was_seen_in_trees_whatever_is_killed() -> Result<(), FailedSeed> {
    holds("what_is_counted_was_seen_in_trees_whatever_is_killed", &TREES)
}

#[test]
fn nothing_that_is_promised_is_lost_in_a_tree() -> Result<(), FailedSeed> {
    let test = "nothing_that_is_promised_is_lost_in_a_tree";
    holds(test, &Load { crashes: false, ..TREES })
}

#[test]
fn what_is_counted_was_seen_over_relays_whatever_is_killed() -> Result<(), FailedSeed> {
    holds("what_is_counted_was_seen_over_relays_whatever_is_killed", &RELAYED)
}

#[test]
fn nothing_that_is_promised_is_lost_with_a_relay() -> Result<(), FailedSeed> {
    let test = "nothing_that_is_promised_is_lost_with_a_relay";
    holds(test, &Load { crashes: false, ..RELAYED })
}

#[test]
fn some_are_relayed() {
    let log = run(0, &Load { crashes: false, ..RELAYED }, None).unwrap().log;
    let lines = log.lines(usize::MAX);
    for word in ["Relayed", "Crashed", "Killed(Relay)", "Killed(Connection)", "Killed(PubSub)"] {
        assert!(lines.contains(word), "there is no {word}");
    }
}

/// Whether an invariant finds a planted bug, by one of some seeds.
fn finds(invariant: &str, bug: Bug, load: &Load) {
    let case = Case { target: "pubsub", test: "planted" };
    let failed =
        seeds::must_find(case, 0..BUG_SEEDS, bug, |seed| run(seed, load, Some(bug)).map(drop));
    let why = failed.why.lines().next().unwrap_or_default();
    assert!(why.starts_with(invariant), "{bug:?} is found by something else: {why}");
}

#[test]
fn what_is_sent_again_to_whoever_may_have_it_is_found() {
    finds("nothing_comes_twice", Bug::ResendsWhatMayBeThere, &Load { crashes: false, ..DIRECT });
}

#[test]
fn what_a_life_of_the_actor_leaves_uncounted_is_found() {
    finds("each_copy_ends", Bug::ForgetsWhatItHad, &Load { crashes: false, ..DIRECT });
}

#[test]
fn a_drop_that_is_not_counted_is_found() {
    finds("each_copy_ends", Bug::ForgetsTheSlow, &Load { crashes: false, ..DIRECT });
}

#[test]
fn what_is_sent_again_over_relays_to_whoever_may_have_it_is_found() {
    finds("nothing_comes_twice", Bug::ResendsWhatMayBeThere, &RELAYED);
}
