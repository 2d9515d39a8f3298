//! A hundred replicas.

use std::time::Duration;

use macula_core::sim::{Address, Faults};

use super::campaign;
use super::world::{Setup, World, config, number};
use crate::crdt::config::Config;
use crate::crdt::proto::Level;

const NODES: u32 = 100;

fn apart_and_together(seed: u64) -> Result<World, String> {
    let config = Config { collect_ms: 5_000, greet_ms_max: 4_000, ..config() };
    let mut world =
        World::new(Setup { seed, nodes: NODES, config, disk: |n| n % 2 == 0, bug: None });
    let met = world.sim.run_until_holds(Duration::from_secs(60), World::is_equal).unwrap();
    met.ok_or("they do not meet")?;
    let faults = Faults {
        loss: 0.05,
        crash_every: None,
        partition_every: Some(Duration::from_secs(2)),
        partition_max: Duration::from_secs(4),
        ..Faults::STORM
    };
    world.sim.set_faults(faults);
    let mut down = Vec::new();
    for _ in 0..30 {
        world.something(Level::Local);
        world.run(Duration::from_millis(100));
        down.drain(..).for_each(|at| world.sim.start(at));
        if world.dice.chance(0.5) {
            // One that has a disk: what another one alone had acknowledged would go with it.
            let lot = u32::try_from(world.dice.below(u64::from(NODES / 2))).unwrap();
            let at = Address(2 * lot + 1);
            assert!(number(at).is_multiple_of(2));
            world.sim.crash(at);
            down.push(at);
        }
    }
    down.drain(..).for_each(|at| world.sim.start(at));
    world.heal(Duration::from_secs(60))?;
    world.judge()?;
    Ok(world)
}

#[test]
fn a_hundred_replicas_come_together() {
    campaign(1, apart_and_together);
}
