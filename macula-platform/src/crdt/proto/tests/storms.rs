//! Five replicas in bad weather.

use std::time::Duration;

use macula_core::sim::{Address, Faults};

use super::world::{Setup, World, config};
use super::{campaign, catches};
use crate::crdt::proto::{Bug, Level};

const NODES: u32 = 5;

/// How many writes there are.
const WRITES: u64 = 60;

/// How many seeds there are if nothing else is said.
const SEEDS: u64 = 6;

/// Within how much time all have to be equal.
const HEALED: Duration = Duration::from_secs(30);

fn met(world: &mut World) -> Result<(), String> {
    let met = world.sim.run_until_holds(HEALED, World::is_equal).unwrap();
    met.map(drop).ok_or_else(|| "they do not meet".to_owned())
}

/// Writes at all levels, in the worst of weathers.
fn storm(world: &mut World) -> Result<(), String> {
    world.sim.set_faults(Faults::STORM);
    for _ in 0..WRITES {
        let levels = [Level::Local, Level::N(2), Level::Majority, Level::All];
        let lot = usize::try_from(world.dice.below(4)).unwrap();
        world.something(levels[lot]);
        let ms = 20 + world.dice.below(200);
        world.run(Duration::from_millis(ms));
        world.look()?;
    }
    Ok(())
}

/// All have disks, any of them crashes, and what is acknowledged anywhere is kept.
fn with_disks(seed: u64, bug: Option<Bug>) -> Result<World, String> {
    let setup = Setup { seed, nodes: NODES, config: config(), disk: |_| true, bug };
    let mut world = World::new(setup);
    met(&mut world)?;
    storm(&mut world)?;
    world.heal(HEALED)?;
    world.judge()?;
    Ok(world)
}

/// Two of five lose their memory again and again; what most have acknowledged is kept.
fn without_disks(seed: u64, bug: Option<Bug>) -> Result<World, String> {
    let setup = Setup { seed, nodes: NODES, config: config(), disk: |_| false, bug };
    let mut world = World::new(setup);
    met(&mut world)?;
    world.sim.set_faults(Faults { crash_every: None, ..Faults::STORM });
    for _ in 0..WRITES {
        world.something(Level::Majority);
        if world.dice.chance(0.15) {
            let victim = Address(u32::try_from(world.dice.below(2)).unwrap());
            world.sim.crash(victim);
            let ms = world.dice.below(500);
            world.run(Duration::from_millis(ms));
            world.sim.start(victim);
        }
        let ms = 20 + world.dice.below(200);
        world.run(Duration::from_millis(ms));
        world.look()?;
    }
    world.heal(HEALED)?;
    world.judge()?;
    Ok(world)
}

#[test]
fn with_disks_nothing_that_was_acknowledged_is_lost_and_nothing_comes_back() {
    campaign(SEEDS, |seed| with_disks(seed, None));
}

#[test]
fn without_disks_what_most_have_acknowledged_survives_any_two() {
    campaign(SEEDS, |seed| without_disks(seed, None));
}

/// Here one forgets all between what it says that it has seen and what it says that it has.
#[test]
fn a_comparison_is_with_one_life_of_the_other_one() {
    without_disks(13_144, None).map(drop).unwrap();
}

#[test]
fn the_storm_is_one() {
    let mut lines = String::new();
    // As many seeds as there are when nothing else is said.
    for seed in 0..SEEDS {
        let setup = Setup { seed, nodes: NODES, config: config(), disk: |_| true, bug: None };
        let mut world = World::new(setup);
        met(&mut world).unwrap();
        world.sim.keep_lines(usize::MAX);
        storm(&mut world).unwrap();
        lines.push_str(&world.sim.lines());
        lines.push('\n');
    }
    let count =
        |word: &str| lines.lines().filter(|line| line.split(' ').nth(1) == Some(word)).count();
    for (word, least) in [("crash", 2), ("start", 2), ("sever", 1), ("mend", 1), ("lost", 10)] {
        assert!(count(word) >= least, "{word}: {}", count(word));
    }
}

#[test]
fn a_seed_has_one_trace() {
    let hash = |seed| with_disks(seed, None).unwrap().sim.hash();
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}

#[test]
fn a_reused_dot_is_found() {
    catches(Bug::ReusedDots, &["was acknowledged and is lost"], 20, without_disks);
}

#[test]
fn a_replica_that_never_looks_for_what_it_lost_is_found() {
    catches(Bug::NeverLooks, &["not equal after"], 20, with_disks);
}

#[test]
fn a_context_that_is_claimed_too_early_is_found() {
    let whys = ["was acknowledged and is lost", "in the set, of", "the sum is"];
    catches(Bug::EarlyClaim, &whys, 20, with_disks);
}
