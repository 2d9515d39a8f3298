//! Whole nodes that know one address find one another, and keep a distributed hash table, while
//! links break, nodes crash, and the actors of membership and table are killed one after the other.
//!
//! `MACULA_SEED=7 cargo test -p macula-tests --test discovery` replays a seed, and
//! `MACULA_WORLD_SEEDS=200 cargo test -p macula-tests --test discovery` runs more of them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "discovery/history.rs"]
mod history;
#[path = "discovery/invariants.rs"]
mod invariants;
#[path = "discovery/load.rs"]
mod load;
#[path = "discovery/seen.rs"]
mod seen;

use std::time::Duration;

use load::{Load, STORM};
use macula_infra::dht::proto::node;
use macula_infra::membership::proto;
use macula_tests::seeds::{self, Case, FailedSeed};
use macula_tests::world::{self, Faults, Part, Run, World};
use macula_workload::Config;

/// How many seeds are run if nothing else is said: each takes some seconds of one core.
const SEEDS: u64 = 5;

/// How many seeds a planted bug gets to be found.
const BUG_SEEDS: u64 = 5;

/// How long a mesh with a planted bug may take to be whole again: longer than those seeds take
/// without one.
const BUG_HEALING_MAX: Duration = Duration::from_secs(15);

const NODES: usize = 7;

/// How long the mesh may take to be whole again: longer than a partition keeps a member suspect, an
/// announcement of a node that has crashed lasts, and records take to be stored anew.
const HEALING_MAX: Duration = Duration::from_secs(40);

/// As the storm of three nodes has them, for seven times as many links; and splits that last longer
/// than a suspect has to refute.
const FAULTS: Faults = Faults {
    loss: 0.01,
    part_every: Some(Duration::from_secs(1)),
    hold_every: Some(Duration::from_secs(2)),
    crash_every: Some(Duration::from_secs(3)),
    split_every: Some(Duration::from_secs(3)),
    split_max: Duration::from_secs(8),
    ..Faults::STORM
};

/// Times that are short enough for virtual seconds.
fn quick(config: &mut Config) {
    world::meet_quickly(config);
    config.dht.node.agree = NODES / 2 + 1;
}

fn world(seed: u64) -> World {
    World::builder(seed)
        .nodes(NODES)
        .joins()
        .storm(STORM)
        .healing_max(HEALING_MAX)
        .faults(FAULTS)
        .kills(&[Part::Membership, Part::Dht])
        .config(quick)
}

fn run(world: World) -> Result<Run<seen::Seen>, String> {
    world.run(&Load).map_err(|broken| broken.to_string())
}

#[test]
fn the_mesh_is_whole_again_whatever_is_killed() -> Result<(), FailedSeed> {
    let test = "the_mesh_is_whole_again_whatever_is_killed";
    let case = Case { target: "discovery", test };
    world::check_all(case, 0..SEEDS, |seed| {
        let run = run(world(seed))?;
        if seeds::replayed().is_some() {
            seeds::tell(&format!("seed {seed} is whole after {:?}", run.healed_after));
        }
        Ok(())
    })
}

#[test]
fn a_seed_has_one_trace() {
    let trace = || run(world(0)).unwrap().log;
    let (once, again) = std::thread::scope(|scope| {
        let (once, again) = (scope.spawn(trace), scope.spawn(trace));
        (once.join().unwrap(), again.join().unwrap())
    });
    once.read(|once| again.read(|again| assert_eq!(world::first_difference(once, again), None)));
    assert_eq!(once.hash(), again.hash(), "the datagrams differ");
}

/// What the first seed that finds a planted bug says.
fn found(bug: impl std::fmt::Debug, planted: impl Fn(&mut Config)) -> String {
    let case = Case { target: "discovery", test: "planted" };
    seeds::must_find(case, 0..BUG_SEEDS, bug, |seed| {
        let world = world(seed).healing_max(BUG_HEALING_MAX);
        run(world.config(|config| planted(config))).map(drop)
    })
    .why
}

fn found_in_table(bug: node::Bug) -> String {
    found(bug, |config| config.dht.node.bug = Some(bug))
}

fn found_in_membership(bug: proto::Bug) -> String {
    found(bug, |config| config.membership.bug = Some(bug))
}

#[test]
fn a_table_that_publishes_nothing_anew_is_found() {
    found_in_table(node::Bug::NeverPublishesAnew);
}

#[test]
fn a_table_that_forgets_its_callers_is_found() {
    let why = found_in_table(node::Bug::ForgetsItsCallers);
    assert!(why.contains("was not told"), "{why}");
}

#[test]
fn a_table_that_takes_old_answers_for_new_ones_is_found() {
    found_in_table(node::Bug::NumbersAnew);
}

#[test]
fn a_table_that_forgets_what_it_has_put_is_found() {
    found_in_table(node::Bug::ForgetsWhatItHasPut);
}

#[test]
fn members_that_refute_nothing_are_found() {
    found_in_membership(proto::Bug::RefutesWithTheSameVersion);
}
