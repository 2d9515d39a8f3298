//! Members that let go of the bucket.

use std::time::Duration;

use macula_core::sim::{Address, Faults};

use super::campaign;
use super::world::{Setup, World, config, elements, number};
use crate::crdt::proto::{Change, Event, Level};
use crate::crdt::types::OrSet;

const SECOND: Duration = Duration::from_secs(1);

fn five(seed: u64) -> World {
    let setup = Setup { seed, nodes: 5, config: config(), disk: |_| false, bug: None };
    let mut world = World::new(setup);
    world.run(2 * SECOND);
    assert!(World::is_equal(&world.sim));
    world
}

fn leave(world: &mut World, at: Address, level: Level, within: Duration) -> u64 {
    let ticket = world.next_ticket();
    world.event(at, Event::Leave { ticket, level, within });
    ticket
}

fn members(world: &World, at: Address) -> Vec<u64> {
    world.sim.machine(at).unwrap().replica.members()
}

#[test]
fn one_that_lets_go_leaves_what_it_had_and_nobody_waits_for_it() {
    let mut world = five(1);
    let gone = Address(0);
    for _ in 0..20 {
        world.keep(gone, Level::Local);
    }
    let ticket = leave(&mut world, gone, Level::Majority, 5 * SECOND);
    // Between being asked to and going it takes no changes.
    let add = Change::of(|set: &OrSet, write| set.add(*b"too late", write));
    let late = world.write(gone, "set", Level::Local, add).unwrap();
    let why = world.ended[&late].why.clone();
    assert_eq!(why.as_deref(), Some("this node is letting go of the bucket"));
    world.run(5 * SECOND);
    assert!(world.is_good(ticket), "{:?}", world.ended.get(&ticket));
    world.sim.crash(gone);
    world.run(2 * SECOND);
    for at in 1..5 {
        assert_eq!(members(&world, Address(at)), [2, 3, 4, 5]);
        assert_eq!(elements(world.sim.machine(Address(at)).unwrap(), "kept").len(), 20);
    }
    // All are those that are left, and what is needed no longer goes without it.
    let ticket = world.write(Address(1), "kept", Level::All, Change::removal()).unwrap();
    world.run(5 * SECOND);
    assert!(world.is_good(ticket));
    assert!(world.hosts().all(|host| host.replica.stats().epoch > 0));
    // It comes again as another, and is one like the others.
    world.sim.start(gone);
    world.heal(20 * SECOND).unwrap();
    assert_eq!(members(&world, gone), [1, 2, 3, 4, 5]);
    assert!(elements(world.sim.machine(gone).unwrap(), "kept").is_empty());
}

#[test]
fn one_that_reaches_too_few_stays() {
    let mut world = five(2);
    let here = Address(0);
    world.sim.sever(&[&[here]]);
    world.keep(here, Level::Local);
    let ticket = leave(&mut world, here, Level::N(1), SECOND);
    let second = leave(&mut world, here, Level::Local, SECOND);
    world.run(2 * SECOND);
    let why = |ticket: u64| world.ended[&ticket].why.clone().unwrap();
    assert_eq!(why(ticket), "1 of 5 members were reached in time, and 2 were wanted");
    assert_eq!(why(second), "this node is letting go of the bucket");
    // It is a member as before.
    world.keep(here, Level::Local);
    world.heal(20 * SECOND).unwrap();
    world.judge().unwrap();
    assert_eq!(world.kept.len(), 2);
    assert!((0..5).all(|at| members(&world, Address(at)).len() == 5));
    // Nobody waits for one that has stopped waiting.
    let ticket = leave(&mut world, here, Level::All, 60 * SECOND);
    world.event(here, Event::Cancel(ticket));
    world.keep(here, Level::All);
    world.run(5 * SECOND);
    world.judge().unwrap();
    assert_eq!(members(&world, here).len(), 5);
}

#[test]
fn one_that_is_alone_has_nobody_to_leave_it_to() {
    let setup = Setup { seed: 3, nodes: 1, config: config(), disk: |_| true, bug: None };
    let mut world = World::new(setup);
    world.keep(Address(0), Level::All);
    let ticket = leave(&mut world, Address(0), Level::All, SECOND);
    world.run(2 * SECOND);
    let why = world.ended[&ticket].why.clone().unwrap();
    assert_eq!(why, "1 of 1 members were reached in time, and 2 were wanted");
    let ticket = leave(&mut world, Address(0), Level::Local, SECOND);
    world.run(SECOND);
    assert!(world.is_good(ticket));
}

/// One after the other lets go in bad weather, and comes again with nothing: what most have acknowledged
/// is kept, though none of those is left that have acknowledged it.
fn one_after_the_other(seed: u64) -> Result<World, String> {
    let mut world = five(seed);
    world.sim.set_faults(Faults { crash_every: None, ..Faults::STORM });
    for turn in 0..10 {
        for _ in 0..4 {
            world.something(Level::Majority);
            let ms = 20 + world.dice.below(200);
            world.run(Duration::from_millis(ms));
        }
        let at = Address(turn % 5);
        let ticket = leave(&mut world, at, Level::Majority, 20 * SECOND);
        for _ in 0..60 {
            if world.ended.contains_key(&ticket) {
                break;
            }
            world.run(Duration::from_millis(350));
        }
        if world.is_good(ticket) {
            world.sim.crash(at);
            let ms = world.dice.below(500);
            world.run(Duration::from_millis(ms));
            world.sim.start(at);
        }
    }
    world.heal(30 * SECOND)?;
    world.judge()?;
    let all: Vec<u64> = world.sim.addresses().into_iter().map(number).collect();
    if members(&world, Address(0)) != all {
        return Err("somebody is missing".to_owned());
    }
    Ok(world)
}

#[test]
fn whoever_lets_go_takes_nothing_along() {
    campaign(4, one_after_the_other);
}

/// Here one that was given up says that it holds the bucket again, and is no member yet while the others find
/// out what all have seen.
#[test]
fn one_that_comes_again_is_waited_for_before_it_is_a_member() {
    one_after_the_other(19_154).map(drop).unwrap();
}

/// Here all have come to an epoch as new ones when one comes that is an epoch behind.
#[test]
fn one_that_is_behind_is_told_by_those_who_are_new() {
    one_after_the_other(86).map(drop).unwrap();
}
