//! Members that were away while the group went on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use macula_core::sim::{Address, Faults};

use super::world::{FRAME, Setup, World, config, elements};
use super::{campaign, catches};
use crate::crdt::bucket::Bucket;
use crate::crdt::config::Config;
use crate::crdt::limits::Limits;
use crate::crdt::proto::buffer::Numbers;
use crate::crdt::proto::epoch::Lineages;
use crate::crdt::proto::message::{Header, Message};
use crate::crdt::proto::{Bug, Change, Epoch, Event, Level, fragments};
use crate::crdt::types::OrSet;
use crate::crdt::write::Write;

const SECOND: Duration = Duration::from_secs(1);

fn three(seed: u64, bug: Option<Bug>) -> World {
    let setup = Setup { seed, nodes: 4, config: config(), disk: |n| n == 4, bug };
    let mut world = World::new(setup);
    world.run(2 * SECOND);
    world
}

fn add(element: u64) -> Change {
    let element = element.to_be_bytes();
    Change::of(move |set: &OrSet, write| set.add(element, write))
}

fn remove(element: u64) -> Change {
    let element = element.to_be_bytes();
    Change::of(move |set: &OrSet, _| Ok(set.remove(&element)))
}

/// One is away; meanwhile what it knows is removed, and whoever had written it has gone and come back
/// as another.
fn one_is_away(world: &mut World) {
    let (gone, away) = (Address(2), Address(3));
    for element in 1..=9 {
        world.write(gone, "set", Level::All, add(element));
    }
    world.run(SECOND);
    world.sim.sever(&[&[away]]);
    // Written where nobody hears of it.
    world.write(away, "set", Level::Local, add(100)).unwrap();
    world.write(away, "set", Level::Local, remove(9)).unwrap();
    world.run(SECOND);
    world.sim.crash(gone);
    world.run(SECOND);
    world.sim.start(gone);
    world.run(4 * SECOND);
    for element in 1..=8 {
        world.write(Address(0), "set", Level::Local, remove(element)).unwrap();
    }
    world.write(Address(1), "set", Level::Local, remove(9)).unwrap();
    world.run(4 * SECOND);
}

#[test]
fn while_one_is_away_nothing_is_collected_and_then_it_is() {
    let mut world = three(1, None);
    one_is_away(&mut world);
    assert!(world.hosts().all(|host| host.replica.stats().epoch == 0));
    let spans = |world: &World| world.hosts().map(|host| host.replica.stats().spans).max();
    assert_eq!(spans(&world), Some(3));
    world.heal(20 * SECOND).unwrap();
    world.run(10 * SECOND);
    for host in world.hosts() {
        assert_eq!(elements(host, "set"), [100]);
        let stats = host.replica.stats();
        assert!(stats.epoch >= 1 && stats.spans == 3 && stats.resyncs == 0, "{stats:?}");
    }
}

/// One that was given up and comes back after collections is told so, and brings nothing back.
fn given_up(seed: u64, bug: Option<Bug>) -> Result<World, String> {
    let mut world = three(seed, bug);
    one_is_away(&mut world);
    world.event(Address(0), Event::Retire(4));
    world.run(5 * SECOND);
    // Once more, so that more than one collection was missed.
    world.sim.crash(Address(1));
    world.run(SECOND);
    world.sim.start(Address(1));
    world.run(10 * SECOND);
    let epochs: Vec<u64> = world.hosts().map(|host| host.replica.stats().epoch).collect();
    if epochs[0] < 2 || epochs[3] != 0 {
        return Err(format!("the epochs are {epochs:?}"));
    }
    if world.dice.chance(0.5) {
        world.sim.crash(Address(3));
        world.run(SECOND);
        world.sim.start(Address(3));
    }
    world.heal(30 * SECOND)?;
    for host in world.hosts() {
        let left = elements(host, "set");
        if left != [100] {
            return Err(format!("{left:?} is there"));
        }
    }
    let resyncs = world.sim.machine(Address(3)).unwrap().replica.stats().resyncs;
    if resyncs != 1 {
        return Err(format!("{resyncs} resyncs"));
    }
    // It is a member like any other.
    let ticket = world.write(Address(3), "set", Level::All, add(101)).unwrap();
    world.run(3 * SECOND);
    if !world.is_good(ticket) {
        return Err(format!("{:?}", world.ended.get(&ticket)));
    }
    Ok(world)
}

#[test]
fn one_that_was_given_up_resurrects_nothing_and_brings_what_it_alone_had() {
    campaign(4, |seed| given_up(seed, None));
}

/// An element is added where nobody hears of it, and then removed elsewhere, later.
fn later_removal(seed: u64, bug: Option<Bug>) -> Result<World, String> {
    let mut world = three(seed, bug);
    world.sim.sever(&[&[Address(3)]]);
    world.mark(Address(3), 1, true, Level::Local);
    world.run(SECOND);
    world.mark(Address(0), 1, false, Level::Local);
    world.run(5 * SECOND);
    world.heal(20 * SECOND)?;
    world.judge()?;
    world.run(5 * SECOND);
    world.judge()?;
    let left = world.hosts().next().unwrap().replica.bucket().len();
    if left > 0 {
        return Err("the removal is still remembered".to_owned());
    }
    Ok(world)
}

#[test]
fn a_removal_is_remembered_until_all_have_seen_it_and_no_longer() {
    campaign(4, |seed| later_removal(seed, None));
}

#[test]
fn a_collection_that_comes_too_early_is_found() {
    catches(Bug::EarlyCollection, &["1 is true in the set"], 4, later_removal);
}

/// One writes something, forgets all and comes back as another, and what it has written is removed: so often,
/// and as often what it was before is collected.
pub(super) fn collected(world: &mut World, forgets: Address, times: u64) {
    for element in 0..times {
        world.write(forgets, "set", Level::Local, add(element)).unwrap();
        world.run(SECOND);
        world.sim.crash(forgets);
        world.sim.start(forgets);
        world.run(4 * SECOND);
        world.write(Address(0), "set", Level::Local, remove(element)).unwrap();
        world.run(4 * SECOND);
    }
}

#[test]
fn two_groups_that_never_met_come_together() {
    let mut world = three(7, None);
    // Node 3 loses its memory twice, so that the group of most has collected.
    world.sim.sever(&[&[Address(3)]]);
    world.sim.crash(Address(3));
    world.event(Address(0), Event::Retire(4));
    collected(&mut world, Address(2), 2);
    world.sim.start(Address(3));
    world.heal(20 * SECOND).unwrap();
}

fn epoch_of(world: &World, at: u32) -> u64 {
    world.sim.machine(Address(at)).unwrap().replica.stats().epoch
}

/// Most of a group forget all, and begin another one, which collects so often, while one that has collected
/// with them goes on. One of the new group meets it while the others cannot: what these have acknowledged
/// meanwhile is kept.
fn begun_anew(collections: u64) {
    let setup = Setup { seed: 11, nodes: 5, config: config(), disk: |n| n == 3, bug: None };
    let mut world = World::new(setup);
    world.run(2 * SECOND);
    collected(&mut world, Address(1), 3 + collections);
    assert!(epoch_of(&world, 2) >= 2 + collections, "{}", epoch_of(&world, 2));
    let others = [0, 1, 3, 4].map(Address);
    world.sim.sever(&[&[Address(2)]]);
    others.into_iter().for_each(|other| world.sim.crash(other));
    others.into_iter().for_each(|other| world.sim.start(other));
    world.run(2 * SECOND);
    collected(&mut world, Address(1), collections);
    assert_eq!(epoch_of(&world, 1), collections);
    world.write(Address(3), "set", Level::Majority, add(8)).unwrap();
    world.run(4 * SECOND);
    world.sim.sever(&[&[Address(0), Address(2)]]);
    let written = world.write(Address(3), "set", Level::Majority, add(7)).unwrap();
    world.run(4 * SECOND);
    assert!(world.is_good(written), "{:?}", world.ended.get(&written));
    let epochs = [0, 1, 2].map(|at| epoch_of(&world, at));
    assert!(epochs[0] == epochs[2] && epochs[1] == collections, "{epochs:?}");
    // Whoever wrote it forgets it again.
    world.sim.crash(Address(3));
    world.heal(30 * SECOND).unwrap();
    for host in world.hosts() {
        assert_eq!(elements(host, "set"), [7, 8]);
    }
}

#[test]
fn a_group_that_was_begun_anew_loses_nothing_to_the_one_before() {
    (0..3).for_each(begun_anew);
}

/// Two parts of a group have given each other up, and each has collected once: not the same.
#[test]
fn what_two_parts_have_collected_apart_is_not_taken_for_the_same() {
    let setup = Setup { seed: 5, nodes: 5, config: config(), disk: |_| false, bug: None };
    let mut world = World::new(setup);
    world.run(2 * SECOND);
    for (at, element) in [(2, 1), (2, 2), (4, 11), (4, 12)] {
        world.write(Address(at), "set", Level::All, add(element)).unwrap();
    }
    world.run(2 * SECOND);
    let (most, few) = ([0, 1, 2].map(Address), [3, 4].map(Address));
    world.sim.sever(&[&most, &few]);
    for (at, node) in [(0, 4), (0, 5), (3, 1), (3, 2), (3, 3)] {
        assert!(world.event(Address(at), Event::Retire(node)));
    }
    world.run(2 * SECOND);
    for (forgets, beside, elements) in [(2, 0, [1, 2]), (4, 3, [11, 12])] {
        world.sim.crash(Address(forgets));
        world.sim.start(Address(forgets));
        world.run(4 * SECOND);
        for element in elements {
            world.write(Address(beside), "set", Level::Majority, remove(element)).unwrap();
        }
        world.write(Address(beside), "set", Level::Majority, add(elements[0] + 100)).unwrap();
    }
    world.run(10 * SECOND);
    let epochs = [0, 1, 2, 3, 4].map(|at| epoch_of(&world, at));
    assert!(epochs.iter().all(|epoch| *epoch == 1), "{epochs:?}");
    world.heal(30 * SECOND).unwrap();
    // The greater part goes on, and what it has removed stays so. The others begin anew.
    let resyncs: Vec<u64> = world.hosts().map(|host| host.replica.stats().resyncs).collect();
    assert_eq!(resyncs, [0, 0, 0, 1, 1]);
    world.hosts().for_each(|host| assert_eq!(elements(host, "set"), [11, 12, 101, 111]));
}

/// Two come anew and do not hear the others yet, which may be members: what they remember of a removal is
/// not forgotten until these have said so.
#[test]
fn a_group_of_new_ones_forgets_nothing_before_the_others_have_spoken() {
    let mut world = three(9, None);
    world.mark(Address(3), 1, true, Level::All);
    world.run(SECOND);
    let new = [0, 1].map(Address);
    world.sim.sever(&[&new]);
    new.into_iter().for_each(|at| world.sim.crash(at));
    new.into_iter().for_each(|at| world.sim.start(at));
    world.run(SECOND);
    world.mark(Address(0), 1, false, Level::N(2));
    // Long enough to forget it, and for less time than they are waited for.
    world.run(3 * SECOND);
    world.heal(20 * SECOND).unwrap();
    assert_eq!(world.latest[&1].iter().filter(|asked| world.is_good(asked.ticket)).count(), 2);
    world.judge().unwrap();
}

/// What an earlier life of a node has sent comes late, after all others have said what they have seen: it
/// is not taken, or it would bring back what was removed meanwhile.
#[test]
fn what_a_life_that_is_over_has_said_is_not_taken() {
    let setup = Setup { seed: 4, nodes: 3, config: config(), disk: |_| false, bug: None };
    let mut world = World::new(setup);
    world.run(2 * SECOND);
    let (here, gone) = (Address(1), Address(2));
    let replica = |world: &World, at| world.sim.machine(at).unwrap().replica.bucket().replica();
    let before = replica(&world, gone);
    // This stays, so that the earlier life is not collected: nothing would be taken then in any case.
    world.write(gone, "other", Level::All, add(5)).unwrap();
    world.run(SECOND);
    // It hears of the new life from another one, and not from the new life itself.
    world.sim.sever(&[&[here]]);
    world.sim.crash(gone);
    world.sim.start(gone);
    world.run(2 * SECOND);
    for at in [here, gone] {
        world.event(at, Event::Near([1].into()));
    }
    world.sim.set_faults(Faults::NONE);
    world.sim.heal();
    world.run(3 * SECOND);
    let now = replica(&world, gone);
    let known = world.sim.machine(here).unwrap().replica.group.roster.incarnation(3);
    assert!(known == Some(now.incarnation) && now.incarnation > before.incarnation, "{known:?}");
    let mut bucket = Bucket::new(before, Limits::default()).unwrap();
    let add = |set: &OrSet, write: &mut Write<'_>| set.add(1_u64.to_be_bytes(), write);
    bucket.update("other", SECOND, add).unwrap();
    let change = Arc::new(bucket.update("set", SECOND, add).unwrap());
    let mut numbers = Numbers::default();
    numbers.insert(1);
    let hashes = (0, 0);
    let lineages = Lineages::default();
    let incarnation = before.incarnation;
    // Nor does a greeting of the earlier life change that.
    for message in [
        Message::Hello { asks: false, version: 1, incarnation, hashes, lineages },
        Message::Push { changes: vec![change], numbers },
    ] {
        let header = Header { epoch: Epoch::default(), life: before.incarnation, lineage: 0 };
        for frame in fragments::split(&message.encode(header), FRAME) {
            world.event(here, Event::Frame { from: 3, frame });
        }
    }
    world.run(SECOND);
    let host = world.sim.machine(here).unwrap();
    assert_eq!((elements(host, "other"), host.replica.stats().epoch), (vec![5], 0));
    assert!(elements(host, "set").is_empty());
}

/// The calendar of a node is set back between two of its lives, which both keep nothing on disk.
#[test]
fn one_that_comes_back_as_an_earlier_one_than_it_was_is_a_member_like_any_other() {
    let mut world = three(6, None);
    collected(&mut world, Address(1), 2);
    assert!(epoch_of(&world, 0) > 0);
    // What its life before was, all others know.
    let (version, incarnation, hashes) = (1, 1_000, (0, 0));
    let lineages = Lineages::default();
    let before = Message::Hello { asks: false, version, incarnation, hashes, lineages };
    let header = Header { epoch: Epoch::default(), life: 1_000, lineage: 0 };
    world.sim.crash(Address(2));
    for frame in fragments::split(&before.encode(header), FRAME) {
        for at in [0, 1, 3] {
            world.event(Address(at), Event::Frame { from: 3, frame: frame.clone() });
        }
    }
    world.sim.start(Address(2));
    world.heal(20 * SECOND).unwrap();
    let replica = world.sim.machine(Address(2)).unwrap().replica.bucket().replica();
    assert!(replica.incarnation > 1_000, "{replica:?}");
    let ticket = world.write(Address(2), "set", Level::All, add(77)).unwrap();
    world.run(3 * SECOND);
    assert!(world.is_good(ticket), "{:?}", world.ended.get(&ticket));
}

/// Three, of which one is out of reach: what it gives up, and what the others do. It comes back.
fn out_of_reach(lost: u32) {
    let config = Config { retire_ms: 3_000, ..config() };
    let mut world = World::new(Setup { seed: 3, nodes: 3, config, disk: |_| false, bug: None });
    world.run(2 * SECOND);
    let all: BTreeSet<u64> = (1..=3).collect();
    let number = u64::from(lost) + 1;
    let left: BTreeSet<u64> = all.iter().copied().filter(|other| *other != number).collect();
    let near = |world: &mut World, there: &BTreeSet<u64>, alone: &BTreeSet<u64>| {
        for at in 0..3 {
            let near = if at == lost { alone } else { there };
            world.event(Address(at), Event::Near(near.clone()));
        }
    };
    world.sim.sever(&[&[Address(lost)]]);
    near(&mut world, &left, &BTreeSet::new());
    world.run(2 * SECOND);
    assert!(world.hosts().all(|host| host.replica.members().len() == 3));
    world.run(4 * SECOND);
    let members =
        |world: &World, at: u32| world.sim.machine(Address(at)).unwrap().replica.members();
    for at in 0..3 {
        // One alone gives up nobody, also if it is the first of all.
        let expected = if at == lost { &all } else { &left };
        assert!(members(&world, at).iter().eq(expected), "{at}: {:?}", members(&world, at));
    }
    world.sim.set_faults(Faults::NONE);
    near(&mut world, &all, &all);
    world.heal(20 * SECOND).unwrap();
    for at in 0..3 {
        assert!(members(&world, at).iter().eq(&all), "{at}: {:?}", members(&world, at));
    }
}

#[test]
fn whichever_member_is_out_of_reach_for_long_is_given_up_and_gives_up_nobody() {
    (0..3).for_each(out_of_reach);
}
