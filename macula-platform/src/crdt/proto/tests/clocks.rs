//! Clocks that are wrong by an hour, and jump.

use std::time::Duration;

use macula_core::sim::{Address, Faults};

use super::campaign;
use super::world::{Act, In, Setup, World, config};
use crate::crdt::types::LwwRegister;

const HOUR_MS: i64 = 3_600_000;

fn jumping(seed: u64) -> Result<World, String> {
    let setup = Setup { seed, nodes: 5, config: config(), disk: |_| true, bug: None };
    let mut world = World::new(setup);
    world.run(Duration::from_secs(2));
    world.sim.set_faults(Faults { crash_every: None, ..Faults::STORM });
    for value in 0..60 {
        let at = Address(u32::try_from(world.dice.below(5)).unwrap());
        if world.dice.chance(0.3) {
            let ms = [-HOUR_MS, 0, HOUR_MS][usize::try_from(world.dice.below(3)).unwrap()];
            world
                .sim
                .input(at, |moment| In { since_epoch: moment.since_epoch, act: Act::Shift(ms) });
        }
        let key = format!("topic/{}", world.dice.below(3));
        world.set(at, &key, value);
        world.run(Duration::from_millis(50));
    }
    world.heal(Duration::from_secs(30))?;
    // In any case one is ahead of another one.
    for (at, ms) in [(0, 0), (1, HOUR_MS)] {
        world.sim.input(Address(at), |m| In { since_epoch: m.since_epoch, act: Act::Shift(ms) });
        world.set(Address(at), "topic/0", 999);
    }
    world.heal(Duration::from_secs(30))?;
    // One that was seen is replaced, whatever the clock of whoever replaces it says.
    world.sim.input(Address(0), |m| In { since_epoch: m.since_epoch, act: Act::Shift(-HOUR_MS) });
    world.set(Address(0), "topic/0", 1_000);
    world.heal(Duration::from_secs(30))?;
    for host in world.hosts() {
        let topic = host.replica.bucket().read::<LwwRegister>("topic/0").unwrap();
        let value = topic.and_then(LwwRegister::get).map(|value| value.to_vec());
        if value != Some(1_000_u64.to_be_bytes().to_vec()) {
            return Err(format!("{value:?} is read"));
        }
    }
    let counted = |of: fn(&crate::crdt::proto::Stats) -> u64| -> u64 {
        world.hosts().map(|host| of(&host.replica.stats())).sum()
    };
    if counted(|stats| stats.skewed) == 0 || counted(|stats| stats.set_back) == 0 {
        return Err("no skew was counted".to_owned());
    }
    Ok(world)
}

#[test]
fn the_latest_is_agreed_upon_whatever_the_clocks_say_and_skew_is_counted() {
    campaign(3, jumping);
}
