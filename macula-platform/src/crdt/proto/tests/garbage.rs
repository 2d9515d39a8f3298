//! Adds and removals without end, with replicas that come and go: memory stays flat.

use std::time::Duration;

use macula_core::sim::Address;

use super::world::{Setup, World, config};
use crate::crdt::Changes;
use crate::crdt::proto::{Change, Level};
use crate::crdt::types::{LwwElementSet, OrSet, PnCounter};

/// How many elements there are at one time.
const LIVE: u64 = 50;

/// About how many bytes all of a replica takes, once everything has settled.
fn size(world: &mut World) -> usize {
    world.sim.heal();
    world.run(Duration::from_secs(8));
    let sizes = world.hosts().map(|host| {
        let stats = host.replica.stats();
        stats.weight + 48 * stats.spans + stats.buffered + 64 * stats.members
    });
    sizes.max().unwrap()
}

fn step(world: &mut World, n: u64) {
    let at = Address(u32::try_from(n % 3).unwrap());
    let new = n.to_be_bytes();
    let key = format!("set/{}", n % 4);
    let change = Change::of(move |set: &OrSet, write| set.add(new, write));
    world.write(at, &key, Level::Local, change);
    // All that is old and known here: one that has just come back knows of little.
    let old = n.saturating_sub(LIVE).to_be_bytes();
    let change = Change::of(move |set: &OrSet, _| {
        let mut changes = Changes::of(set);
        for element in set.iter().take_while(|element| ***element < old[..]) {
            changes.make(|set| Ok(set.remove(element)))?;
        }
        Ok(changes.finish())
    });
    world.write(at, &key, Level::Local, change);
    if n.is_multiple_of(16) {
        let change = Change::of(move |set: &LwwElementSet, write| set.add(new, write));
        world.write(at, "latest", Level::Local, change);
        let change = Change::of(move |set: &LwwElementSet, write| set.remove(new, write));
        world.write(at, "latest", Level::Local, change);
        let change = Change::of(|sum: &PnCounter, write| sum.increment(1, write));
        world.write(at, "sum", Level::Local, change);
    }
    if n.is_multiple_of(8) {
        world.run(Duration::from_millis(2));
    }
}

#[test]
fn memory_is_flat_whatever_was_added_and_removed() {
    let steps = std::env::var("MACULA_CRDT_STEPS").map_or(6_000, |n| n.parse().unwrap());
    let setup = Setup { seed: 1, nodes: 3, config: config(), disk: |_| false, bug: None };
    let mut world = World::new(setup);
    world.run(Duration::from_secs(2));
    let mut before = 0;
    for n in 0..steps {
        step(&mut world, n);
        world.ended.clear();
        if n == 1_000 {
            before = size(&mut world);
        }
        if n % (steps / 40).max(500) == 499 {
            // One that has forgotten all comes back as another.
            world.run(Duration::from_millis(200));
            let lot = Address(u32::try_from(world.dice.below(3)).unwrap());
            world.sim.crash(lot);
            world.sim.start(lot);
            world.run(Duration::from_millis(200));
        }
    }
    // What those had added that have gone is not there any more, either.
    (steps..steps + 4 * LIVE).for_each(|n| step(&mut world, n));
    let after = size(&mut world);
    let all: Vec<_> = world.hosts().map(|host| host.replica.stats()).collect();
    assert!(
        after * 5 <= before * 6,
        "{before} bytes after 1,000 steps, {after} after {steps}: {all:#?}"
    );
    assert!(World::is_equal(&world.sim));
    let stats = world.hosts().next().unwrap().replica.stats();
    // Of each node the life that writes, and one with all that those before it have counted.
    assert!(stats.spans <= 6 && stats.epoch > 0, "{stats:?}");
}
