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
use macula_infra::pool::proto;
use macula_tests::seeds::{self, Case, FailedSeed};
use macula_tests::world::{self, Life, Log, Look, Run, Scenario, World};

const SEEDS: u64 = 200;

fn world(seed: u64) -> World {
    World::builder(seed).nodes(3).storm(STORM)
}

fn run(seed: u64, bug: Option<Bug>) -> Result<Run<counting::Seen>, String> {
    world(seed).run(&Counting { bug }).map_err(|broken| broken.to_string())
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
        one.read(|one| other.read(|other| assert_eq!(world::first_difference(one, other), None)));
        assert_eq!(one.hash(), other.hash(), "the datagrams differ");
    }
    assert_eq!(once.iter().map(Log::hash).collect::<BTreeSet<_>>().len(), once.len());
}

/// The first seed that finds a bug of the scenario.
fn found(bug: Bug) -> Option<FailedSeed> {
    let case = Case { target: "world", test: "planted" };
    seeds::find(case, 0..SEEDS, |seed| run(seed, Some(bug)).map(drop))
}

/// The first seed that finds a bug of the product: one that is planted in the pools of all nodes.
fn found_in_pool(bug: proto::Bug) -> FailedSeed {
    let case = Case { target: "world", test: "planted_in_the_pool" };
    let planted = |seed| world(seed).config(|config| config.pool.bug = Some(bug));
    seeds::must_find(case, 0..SEEDS, bug, |seed| {
        planted(seed).run(&Counting { bug: None }).map(drop).map_err(|broken| broken.to_string())
    })
}

#[test]
fn a_pool_in_which_no_side_lets_go_is_found() {
    let why = found_in_pool(proto::Bug::NobodyLetsGo).why;
    assert!(why.contains("healed"), "{why}");
}

#[test]
fn a_pool_that_grants_what_is_lost_is_found() {
    found_in_pool(proto::Bug::GrantsTheLost);
}

/// Does not let time go on, in this or that way.
#[derive(Clone, Copy)]
enum Spins {
    InSilence,
    InTheLog,
}

impl Scenario for Spins {
    type Seen = ();

    async fn live(&self, life: Life<()>) {
        let (spins, told) = (*self, life.clone());
        life.spawn(async move {
            loop {
                match spins {
                    Self::InSilence => tokio::task::yield_now().await,
                    Self::InTheLog if told.now() < STORM => {
                        (0..100_000).for_each(|_| told.saw(()));
                        tokio::time::sleep(STORM).await;
                    }
                    Self::InTheLog => return,
                }
            }
        });
    }

    fn healed(&self, _look: &Look<'_, ()>) -> bool {
        true
    }

    fn check(&self, _log: &Log<()>) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn whoever_does_not_let_time_go_on_is_found() {
    for spins in [Spins::InSilence, Spins::InTheLog] {
        let why = world(1).run(&spins).unwrap_err().to_string();
        assert!(why.contains("spins in one virtual instant"), "{why}");
    }
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
