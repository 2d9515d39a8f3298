//! What a comparison costs.

use std::time::Duration;

use macula_core::sim::{Address, Faults};

use super::world::{Setup, World, config};
use crate::crdt::codec::Encoder;
use crate::crdt::config::Config;
use crate::crdt::limits::Limits;
use crate::crdt::proto::{Change, Level};
use crate::crdt::types::{GCounter, OrSet};

const SECOND: Duration = Duration::from_secs(1);

/// How many bytes a comparison takes among so many keys of which so many differ, for each that
/// differs, and how many the state of one has.
fn bytes(keys: u64, differing: u64) -> (f64, f64) {
    // Nothing is done but by comparisons, and these when there is cause.
    let config =
        Config { sync_ms: 3_600_000, collect_ms: 3_600_000, buffer_len_max: 1 << 30, ..config() };
    let setup = Setup { seed: 1, nodes: 2, config, disk: |_| false, bug: None };
    let mut world = World::new(setup);
    let count = || Change::of(|sum: &GCounter, write| sum.increment(1, write));
    for key in 0..keys {
        world.write(Address(0), &format!("players/{key:08}/score"), Level::Local, count());
    }
    world.heal(Duration::from_secs(600)).unwrap();
    world.sim.sever(&[&[Address(0)]]);
    let mut size = 0;
    for n in 0..differing {
        let key = format!("players/{:08}/score", n * (keys / differing.max(1)));
        let at = Address(u32::try_from(n % 2).unwrap());
        world.write(at, &key, Level::Local, count());
        let host = world.sim.machine(at).unwrap();
        let mut out = Encoder::default();
        out.bytes(key.as_bytes());
        let from = std::ops::Bound::Included(key.as_str());
        let state = host.replica.bucket().entries(from).next().unwrap().1.state();
        state.encode(&mut out);
        size += out.len();
    }
    // Until the one counts as silent for the other, so that nothing is pushed.
    world.run(Duration::from_secs(40));
    let before = world.sim.sent().bytes;
    world.sim.set_faults(Faults::NONE);
    world.heal(Duration::from_secs(600)).unwrap();
    let sent = world.sim.sent().bytes - before;
    let each = |bytes: f64| bytes / f64::from(u32::try_from(differing).unwrap());
    (each(sent as f64), each(f64::from(u32::try_from(size).unwrap())))
}

#[test]
fn where_there_is_no_room_it_is_tried_less_and_less_often_and_there_may_be_room_again() {
    let limits = Limits { weight_max: 10_000, ..Limits::default() };
    let config = Config { limits, sync_ms: 10_000, ..config() };
    let mut world = World::new(Setup { seed: 1, nodes: 3, config, disk: |_| false, bug: None });
    world.run(SECOND);
    world.sim.sever(&[&[Address(0)], &[Address(1)]]);
    let fill = || Change::of(|set: &OrSet, write| set.add([7; 200], write));
    for key in 0..20 {
        for at in 0..3 {
            world.write(Address(at), &format!("{at}/{key:02}"), Level::Local, fill());
        }
    }
    world.sim.heal();
    world.run(10 * SECOND);
    let given_up = |world: &World| world.hosts().map(|host| host.replica.stats().given_up).sum();
    let before: u64 = given_up(&world);
    assert!(before > 10, "there is no room for all: {before}");
    world.run(60 * SECOND);
    let more: u64 = given_up(&world) - before;
    // Each with each other one, every ten seconds, and some times more since one was busy; without a rest it
    // is more than a thousand.
    assert!(more <= 200, "{more}");
    for key in 0..20 {
        for at in 0..3 {
            world.write(Address(at), &format!("{at}/{key:02}"), Level::Local, Change::removal());
        }
    }
    world.heal(10 * SECOND).unwrap();
}

#[test]
fn one_that_is_new_gets_what_has_more_gaps_than_may_be() {
    let limits = Limits { spans_max: 8, ..Limits::default() };
    let config = Config { limits, ..config() };
    let mut world = World::new(Setup { seed: 1, nodes: 2, config, disk: |_| false, bug: None });
    world.run(SECOND);
    world.sim.crash(Address(1));
    for key in 0..100 {
        let add = Change::of(|set: &OrSet, write| set.add([7], write));
        world.write(Address(0), &format!("{key}"), Level::Local, add);
        let remove = Change::of(|set: &OrSet, _| Ok(set.remove(&[7])));
        world.write(Address(0), &format!("{}", key / 2 * 2), Level::Local, remove);
    }
    world.sim.start(Address(1));
    world.heal(10 * SECOND).unwrap();
    let stats = world.hosts().last().unwrap().replica.stats();
    assert_eq!((stats.keys, stats.refused), (50, 0));
}

#[test]
fn the_bytes_of_a_comparison_are_in_proportion_to_what_differs() {
    let (keys, differing) = std::env::var("MACULA_CRDT_KEYS")
        .map_or((6_000, 1_000), |keys| (keys.parse().unwrap(), 1_000));
    let (sent, size) = bytes(keys, differing);
    assert!(sent <= 3.0 * size, "{sent} bytes for a state of {size}");
    let (few, _) = bytes(keys, 10);
    assert!(few < 1_000.0, "{few} bytes for each of ten");
}
