//! A member that says what cannot be.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use macula_core::entropy::Entropy;
use macula_core::sim::Address;

use super::world::{Setup, World, config, elements};
use crate::crdt::context::Context;
use crate::crdt::proto::buffer::Numbers;
use crate::crdt::proto::epoch::{Collection, Epoch, Lineages};
use crate::crdt::proto::message::{Header, Message};
use crate::crdt::proto::roster::{Roster, Seat, Standing};
use crate::crdt::proto::sketch::Symbol;
use crate::crdt::proto::{Change, Event, Level, fragments};
use crate::crdt::types::OrSet;

const SECOND: Duration = Duration::from_secs(1);

fn three() -> World {
    let mut world =
        World::new(Setup { seed: 5, nodes: 3, config: config(), disk: |_| true, bug: None });
    world.run(2 * SECOND);
    add(&mut world, 0, 1);
    world
}

fn add(world: &mut World, at: u32, element: u64) {
    let change = Change::of(move |set: &OrSet, write| set.add(element.to_be_bytes(), write));
    let ticket = world.write(Address(at), "set", Level::Local, change).unwrap();
    world.run(SECOND);
    assert!(world.is_good(ticket), "{:?}", world.ended.get(&ticket));
}

/// What a liar says, with the greatest numbers that there are.
fn lies() -> Vec<Message> {
    let (most, all) = (u64::MAX, || {
        let mut numbers = Numbers::default();
        numbers.insert_to(u64::MAX);
        numbers
    });
    let collection = Collection { before: Epoch::numbered(most), by: most, departed: Vec::new() };
    let key = || Arc::from("set");
    let mut roster = Roster::default();
    for node in 1..5 {
        let seat = Seat { version: most, standing: Standing::Holds(most) };
        roster.join_seat(node, &seat, usize::MAX);
    }
    let mut lineages = Lineages::default();
    lineages.are(most);
    vec![
        Message::Hello {
            asks: true,
            version: most,
            incarnation: most,
            hashes: (most, most),
            lineages: lineages.clone(),
        },
        Message::Stranger,
        Message::Push { changes: Vec::new(), numbers: all() },
        Message::Ack { life: most, numbers: all(), refused: all() },
        Message::Open { session: most, keys: most, summary: most, whole: true },
        Message::Equal { session: most },
        Message::Close { session: most, refused: true },
        Message::Symbols { session: most, from: most, keys: most, symbols: Vec::new() },
        Message::Symbols {
            session: most,
            from: most,
            keys: 0,
            symbols: vec![Symbol::default(); 3],
        },
        Message::More { session: most, from: most, to: most, context: None },
        Message::More { session: most, from: most, to: 0, context: None },
        Message::Want { session: most, ids: vec![most; 100] },
        Message::Slots { session: most, first: most, slots: Vec::new() },
        Message::Page { session: most, after: Some(key()) },
        Message::Paged { session: most, after: None, slots: Vec::new(), last: false },
        Message::Offer { session: most, common: most, ids: vec![most; 100] },
        Message::Done { session: most, good: true },
        Message::Survey { round: most, roster: most, departed: Vec::new() },
        Message::Collect { collection: collection.clone(), lineages: lineages.clone() },
        Message::Resync { collection, known: None, lineages: lineages.clone() },
        Message::Roster(roster),
        Message::Begin { session: most, context: Context::default(), keys: most, pages: true },
        Message::Report { round: most, roster: most, context: Context::default(), live: vec![] },
        Message::Ask { read: most, key: key(), digests: Vec::new() },
        Message::Answer { read: most, other: None },
    ]
}

fn say(world: &mut World, to: u32, from: u64, frame: Bytes) {
    world.event(Address(to), Event::Frame { from, frame });
    world.run(Duration::from_millis(50));
}

#[test]
fn the_greatest_numbers_end_nobody_and_lose_nothing() {
    for epoch in [0, 1, u64::MAX] {
        for lie in lies() {
            let mut world = three();
            let life = if epoch == 1 { 1 } else { u64::MAX };
            let message =
                lie.encode(Header { epoch: Epoch::numbered(epoch), life, lineage: epoch });
            for frame in fragments::split(&message, 512) {
                say(&mut world, 0, 3, frame);
            }
            add(&mut world, 0, 2);
            assert_eq!(elements(world.hosts().next().unwrap(), "set"), [1, 2], "{lie:?}");
        }
    }
}

#[test]
fn bytes_that_mean_nothing_are_counted_and_lose_nothing() {
    let mut world = three();
    let mut dice = Entropy::from_seed(9);
    let hello = lies()[0].encode(Header { epoch: Epoch::default(), life: 1, lineage: 0 });
    let sound = fragments::split(&hello, usize::MAX).remove(0);
    for _ in 0..2_000 {
        let mut frame = sound.to_vec();
        match dice.below(3) {
            0 => frame.truncate(usize::try_from(dice.below(frame.len() as u64)).unwrap()),
            1 => {
                let at = usize::try_from(dice.below(frame.len() as u64)).unwrap();
                frame[at] ^= 1 << dice.below(8);
            }
            _ => {
                frame =
                    (0..dice.below(200)).map(|_| u8::try_from(dice.below(256)).unwrap()).collect();
            }
        }
        world.event(Address(0), Event::Frame { from: 3, frame: frame.into() });
    }
    world.run(SECOND);
    assert!(world.hosts().next().unwrap().replica.stats().malformed > 500);
    add(&mut world, 0, 2);
    world.heal(20 * SECOND).unwrap();
    for host in world.hosts() {
        assert_eq!(elements(host, "set"), [1, 2]);
    }
}
