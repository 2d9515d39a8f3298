//! Whole nodes that share replicated types while links break, nodes crash, and connections and the actors
//! that carry what replicas say are killed: what was acknowledged at `Majority` outlives any one of three
//! nodes, and what was acknowledged at `Local`, where it is kept on disk, outlives a restart of all.
//!
//! `MACULA_SEED=7 cargo test -p macula-tests --test crdt` replays a seed, and
//! `MACULA_WORLD_SEEDS=200 cargo test -p macula-tests --test crdt` runs more of them.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

#[path = "crdt/sharing.rs"]
mod sharing;

use std::path::{Path, PathBuf};
use std::time::Duration;

use macula_tests::seeds::{self, Case, FailedSeed};
use macula_tests::world::{self, Faults, Part, World};
use macula_workload::Config;
use macula_workload::config::Spot;

use sharing::{Bug, DISK, MEMORY, STORM, Sharing};

/// How many seeds are run if nothing else is said: each takes some seconds of one core.
const SEEDS: u64 = 4;

/// How many seeds a planted bug gets to be found.
const BUG_SEEDS: u64 = 20;

const KILLS: &[Part] = &[Part::Replicator, Part::Connection];

/// As the storm of three nodes has them, with fewer losses, so that something is acknowledged.
const FAULTS: Faults = Faults {
    loss: 0.01,
    part_every: Some(Duration::from_millis(1_500)),
    part_max: Duration::from_millis(1_500),
    crash_every: Some(Duration::from_secs(3)),
    ..Faults::STORM
};

/// The files of one run, which go with it.
struct Files(PathBuf);

impl Files {
    fn new(name: &str, seed: u64, bug: Option<Bug>) -> Self {
        let name = format!("crdt-{name}-{bug:?}-{seed}-{}", std::process::id());
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn configure(config: &mut Config, files: &Files, bug: Option<Bug>) {
    world::meet_quickly(config);
    config.crdt.folder = Spot::At(files.0.clone());
    let settings = &mut config.crdt.settings;
    settings.hold = vec![MEMORY.to_owned(), DISK.to_owned()];
    settings.durable = match bug {
        Some(Bug::ForgetsTheDisk) => Vec::new(),
        _ => vec![DISK.to_owned()],
    };
    let bucket = &mut settings.bucket;
    (bucket.greet_ms, bucket.greet_ms_max) = (100, 1_000);
    (bucket.sync_ms, bucket.collect_ms) = (1_000, 1_000);
}

/// A file for each node.
fn apart(index: usize, config: &mut Config) {
    if let Spot::At(folder) = &mut config.crdt.folder {
        folder.push(index.to_string());
    }
}

/// One node goes for good, in most runs; in the others one comes back again and again, with nothing in its
/// memory. Which one it is the seed says.
fn run(seed: u64, bug: Option<Bug>) -> Result<(), String> {
    let files = Files::new("sharing", seed, bug);
    let world = World::builder(seed)
        .joins()
        .storm(STORM)
        .healing_max(Duration::from_secs(40))
        .faults(FAULTS)
        .config(|config| configure(config, &files, bug))
        .of_each(apart);
    let goes = seed % 3;
    let (world, remain) = match usize::try_from(goes).unwrap_or_default() {
        0 => (world.crashing(1).kills(KILLS), 3),
        node => (world.crashing(0).vanishes(node, STORM / 2), 2),
    };
    world.run(&Sharing { remain, bug }).map(drop).map_err(|broken| broken.to_string())
}

#[test]
fn what_was_acknowledged_outlives_any_one_node() -> Result<(), FailedSeed> {
    let test = "what_was_acknowledged_outlives_any_one_node";
    world::check_all(Case { target: "crdt", test }, 0..SEEDS, |seed| run(seed, None))
}

/// All nodes crash, whenever they like. What is in memory only may go with them.
fn run_disks(seed: u64, bug: Option<Bug>) -> Result<(), String> {
    let files = Files::new("disks", seed, bug);
    let world = World::builder(seed)
        .joins()
        .storm(STORM)
        .healing_max(Duration::from_secs(40))
        .faults(Faults { crash_every: Some(Duration::from_millis(1_500)), ..FAULTS })
        .config(|config| configure(config, &files, bug))
        .of_each(apart);
    let bug = Some(bug.unwrap_or(Bug::HasNoMajorities));
    world.run(&Sharing { remain: 3, bug }).map(drop).map_err(|broken| broken.to_string())
}

#[test]
fn what_is_on_disk_outlives_restarts_of_all() -> Result<(), FailedSeed> {
    let test = "what_is_on_disk_outlives_restarts_of_all";
    world::check_all(Case { target: "crdt", test }, 0..SEEDS, |seed| run_disks(seed, None))
}

/// The first seed that finds a bug.
fn found(bug: Bug, run: impl Fn(u64) -> Result<(), String>) -> FailedSeed {
    let case = Case { target: "crdt", test: "planted" };
    seeds::must_find(case, 0..BUG_SEEDS, bug, run)
}

#[test]
fn one_who_takes_one_node_for_a_majority_is_found() {
    let bug = Bug::TakesOneForAMajority;
    let why = found(bug, |seed| run(seed, Some(bug))).why;
    assert!(why.contains("is lost"), "{why}");
}

#[test]
fn a_disk_that_forgets_is_found() {
    let bug = Bug::ForgetsTheDisk;
    let why = found(bug, |seed| run_disks(seed, Some(bug))).why;
    assert!(why.contains("is lost"), "{why}");
}
