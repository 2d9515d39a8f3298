//! Whole nodes on a faulty network in virtual time: calls keep their promises in the storm, and
//! the mesh heals after it.
//!
//! `MACULA_SEED=7 cargo test -p macula-tests --test world` replays a seed, and
//! `MACULA_WORLD_SEEDS=2000 cargo test -p macula-tests --test world` runs more of them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "world/counting.rs"]
mod counting;
#[path = "world/invariants.rs"]
mod invariants;

use std::collections::BTreeSet;
use std::time::Duration;

use counting::{Bug, Counting, STORM};
use macula_tests::seeds::{self, Case, FailedSeed};
use macula_tests::world::{self, Run, World};

const SEEDS: u64 = 200;

fn run(seed: u64, bug: Option<Bug>) -> Result<Run<counting::Seen>, String> {
    World::builder(seed)
        .nodes(3)
        .storm(STORM)
        .run(&Counting { bug })
        .map_err(|broken| broken.to_string())
}

#[test]
fn calls_keep_their_promises_and_the_mesh_heals() -> Result<(), FailedSeed> {
    let test = "calls_keep_their_promises_and_the_mesh_heals";
    world::check_all(Case { target: "world", test }, 0..SEEDS, |seed| run(seed, None).map(drop))
}

#[test]
fn a_seed_has_one_trace_and_seeds_have_different_ones() {
    let traces = || (0..4).map(|seed| run(seed, None).unwrap().log).collect::<Vec<_>>();
    let (once, again) = std::thread::scope(|scope| {
        let (once, again) = (scope.spawn(traces), scope.spawn(traces));
        (once.join().unwrap(), again.join().unwrap())
    });
    for (one, other) in once.iter().zip(&again) {
        one.read(|one| other.read(|other| assert_eq!(first_difference(one, other), None)));
        assert_eq!(one.hash(), other.hash(), "the datagrams differ");
    }
    assert_eq!(once.iter().map(world::Log::hash).collect::<BTreeSet<_>>().len(), once.len());
}

/// Where two logs part.
fn first_difference<E: PartialEq + Clone>(one: &[E], other: &[E]) -> Option<(Vec<E>, Vec<E>)> {
    let at = one.iter().zip(other).position(|(one, other)| one != other);
    let at = at.or_else(|| (one.len() != other.len()).then(|| one.len().min(other.len())))?;
    let around = |log: &[E]| log.iter().skip(at.saturating_sub(3)).take(8).cloned().collect();
    Some((around(one), around(other)))
}

/// The first seed that finds a bug.
fn found(bug: Bug) -> Option<FailedSeed> {
    let case = Case { target: "world", test: "planted" };
    seeds::find(case, 0..SEEDS, |seed| run(seed, Some(bug)).map(drop))
}

#[test]
fn a_client_that_asks_again_when_it_was_interrupted_is_found() {
    let why = found(Bug::AsksAgain).unwrap().why;
    assert!(why.contains("was handled twice"), "{why}");
}

#[test]
fn an_actor_that_mixes_up_answers_is_found() {
    let why = found(Bug::MixesUp).unwrap().why;
    assert!(why.contains("got the answer"), "{why}");
}

#[test]
fn a_monitor_that_misses_the_end_is_found() {
    let why = found(Bug::MissesTheEnd).unwrap().why;
    assert!(why.contains("was never told"), "{why}");
}

#[test]
fn the_storm_is_one() {
    let lines = run(0, None).unwrap().log.lines(usize::MAX);
    let words = ["Crashed", "Parted", "Held", "Mended", "Answered", "Failed", "Down"];
    for word in words {
        assert!(lines.contains(word), "there is no {word}");
    }
    assert!(STORM > Duration::from_secs(5));
}
