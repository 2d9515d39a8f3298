//! Whole brokers with more subscribers than get messages directly, under loss and churn.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use macula_core::entropy::Entropy;
use macula_core::identity::digest;
use macula_core::sim::{Address, Faults};

use super::super::Input;
use super::super::seal::{Leaf, seal};
use super::super::tree::{self, Said};
use super::super::word::{SessionId, Word};
use super::world::{World, key, ms, node};
use crate::pubsub::message::{PublishOptions, Qos, Reason};
use crate::pubsub::proto::Config;
use crate::pubsub::proto::word::SubId;

pub(super) const PUBLISHER: Address = Address(0);

/// How many nodes there are: one publishes, and the others subscribe.
pub(super) const NODES: u32 = 45;

pub(super) struct Audience {
    pub(super) world: World,
    pub(super) subs: BTreeMap<Address, SubId>,
}

/// An audience that is known.
pub(super) fn audience(seed: u64, faults: Faults) -> Audience {
    audience_with(seed, faults, |_| 8_192)
}

/// One whose subscriptions have so much room.
pub(super) fn audience_with(seed: u64, faults: Faults, room: fn(Address) -> usize) -> Audience {
    let mut world = World::new(seed, NODES, faults);
    let subs = (1..NODES).map(Address);
    let subs = subs.map(|at| (at, world.subscribe(at, "feed", None, room(at))));
    let subs: BTreeMap<Address, SubId> = subs.collect();
    let id = world.open(PUBLISHER, "feed");
    for _ in 0..1_000 {
        world.run(ms(10));
        if world.places.borrow()[&PUBLISHER].known.get(&id) == Some(&subs.len()) {
            return Audience { world, subs };
        }
    }
    panic!("the audience is not known");
}

pub(super) fn numbers(audience: &Audience, address: Address) -> Vec<u64> {
    let seen = audience.world.seen(address, audience.subs[&address]);
    seen.iter().map(|message| message.sequence).collect()
}

/// What becomes of messages while nodes lose datagrams and actors are killed.
fn broadcast(seed: u64, qos: Qos, kills: bool) -> (Audience, BTreeSet<Address>, u64) {
    let faults = Faults { loss: 0.05, delay_max: ms(20), ..Faults::NONE };
    let mut audience = audience(seed, faults);
    let mut dice = Entropy::from_seed(seed ^ 0xb0ad);
    let (mut killed, mut published) = (BTreeSet::new(), 0);
    for round in 0..100 {
        for _ in 0..5 {
            let options = PublishOptions { qos, ..PublishOptions::default() };
            published += u64::from(audience.world.publish(PUBLISHER, "feed", options));
        }
        if kills && round % 20 == 10 {
            let victim = Address(1 + u32::try_from(dice.below(u64::from(NODES - 1))).unwrap());
            killed.insert(victim);
            audience.world.restart(victim, false);
        }
        audience.world.run(ms(50));
    }
    audience.world.sim.set_faults(Faults::NONE);
    for _ in 0..60 {
        audience.world.run(ms(1_000));
        if audience.world.report(PUBLISHER).pending() == 0 {
            break;
        }
    }
    (audience, killed, published)
}

#[test]
fn a_large_audience_gets_all_that_is_promised_and_in_its_order() {
    assert!(usize::try_from(NODES - 1).unwrap() > Config::default().direct_max);
    for seed in 0..3 {
        let (audience, killed, published) = broadcast(seed, Qos::AtLeastOnce, true);
        assert_eq!(published, 500);
        let report = audience.world.report(PUBLISHER);
        let copies = 500 * u64::from(NODES - 1);
        assert_eq!((report.accepted, report.delivered), (copies, copies), "{seed}: {report:?}");
        for address in audience.subs.keys() {
            let seen = numbers(&audience, *address);
            let who = if killed.contains(address) { "killed" } else { "alive" };
            assert_eq!(
                (who, seen),
                (who, (1..=500).collect::<Vec<_>>()),
                "seed {seed}, {address:?}"
            );
        }
    }
}

#[test]
fn what_is_not_promised_comes_once_and_is_counted_as_it_was_seen() {
    for seed in 0..3 {
        let (audience, _, published) = broadcast(seed, Qos::AtMostOnce, true);
        let report = audience.world.report(PUBLISHER);
        assert_eq!(report.accepted, published * u64::from(NODES - 1), "{report:?}");
        assert_eq!(report.pending(), 0, "{report:?}");
        let mut seen = 0;
        for address in audience.subs.keys() {
            let numbers = numbers(&audience, *address);
            assert!(numbers.is_sorted_by(|one, next| one < next), "{address:?}: {numbers:?}");
            seen += u64::try_from(numbers.len()).unwrap();
        }
        let unknown = report.dropped.get(&Reason::NodeLost).copied().unwrap_or_default();
        assert!((report.delivered..=report.delivered + unknown).contains(&seen), "{report:?}");
        assert!(report.delivered * 100 > report.accepted * 95, "{report:?}");
    }
}

#[test]
fn what_a_part_says_in_the_name_of_the_publisher_reaches_nobody() {
    let mut audience = audience(9, Faults::NONE);
    let promised = PublishOptions::at_least_once();
    assert!(audience.world.publish(PUBLISHER, "feed", promised));
    audience.world.run(ms(2_000));
    audience.world.offences = Some(Vec::new());
    let liar = Address(3);
    let id = audience.world.sim.machine(liar).unwrap().takes_part_in()[0];
    let origin = tree::Origin { node: id.publisher, life: id.number };
    let lie = Bytes::from([2_u64.to_be_bytes().as_slice(), b"lies"].concat());
    let leaf = |is_mortal| Leaf::new(2, is_mortal, &lie);
    let signed = |is_mortal| seal(&key(liar), id, &[leaf(is_mortal)]).remove(0);
    let lies = [
        (None, lie.clone(), Bytes::new()),
        (None, lie.clone(), signed(false)),
        (Some(0), Bytes::from(digest(&lie).to_vec()), signed(true)),
        (Some(0), Bytes::new(), Bytes::new()),
    ];
    let victims: Vec<Address> = audience.subs.keys().copied().filter(|at| *at != liar).collect();
    for (left_ms, payload, seal) in lies {
        for victim in &victims {
            let (payload, seal) = (payload.clone(), seal.clone());
            let said = Said::Gossip { origin, sequence: 2, left_ms, payload, seal };
            let word = Word::Branch { tree: id, said, is_allowed: true };
            let (from, session, ticket) = (node(liar), SessionId(0), None);
            audience.world.sim.input(*victim, |_| Input::Word { from, session, word, ticket });
        }
    }
    audience.world.run(ms(100));
    assert!(victims.iter().all(|victim| numbers(&audience, *victim) == [1]));
    let why = "it broadcasts what its publisher has not signed";
    assert_eq!(audience.world.offences, Some(vec![why; victims.len() * 4]));
    // The true one comes all the same.
    assert!(audience.world.publish(PUBLISHER, "feed", promised));
    audience.world.run(ms(5_000));
    for victim in victims {
        let seen = audience.world.seen(victim, audience.subs[&victim]);
        assert!(seen.iter().all(|message| message.payload == "hello"));
        assert_eq!(numbers(&audience, victim), [1, 2], "{victim:?}");
    }
}

#[test]
fn the_publisher_sends_to_a_few_only() {
    let (audience, _, published) = broadcast(7, Qos::AtLeastOnce, false);
    let broker = audience.world.sim.machine(PUBLISHER).unwrap();
    let sent = broker.broadcast_sent();
    assert!(sent <= published * 6, "{sent} for {published} messages");
    assert!(sent >= published, "{sent} for {published} messages: it is no broadcast");
}

#[test]
fn a_subscriber_that_is_gone_holds_up_nobody_and_is_counted() {
    let mut audience = audience(9, Faults::NONE);
    let gone = Address(5);
    let promised = PublishOptions::at_least_once();
    assert!(audience.world.publish(PUBLISHER, "feed", promised));
    audience.world.run(ms(5_000));
    audience.world.sim.crash(gone);
    for _ in 0..10 {
        assert!(audience.world.publish(PUBLISHER, "feed", promised));
    }
    audience.world.run(ms(3_000));
    assert_eq!(audience.world.report(PUBLISHER).pending(), 10);
    audience.world.sim.input(PUBLISHER, |_| Input::Gone { node: node(gone) });
    audience.world.run(ms(1_000));
    let report = audience.world.report(PUBLISHER);
    assert_eq!((report.pending(), report.dropped[&Reason::NodeLost]), (0, 10), "{report:?}");
    for address in audience.subs.keys().filter(|address| **address != gone) {
        assert_eq!(numbers(&audience, *address).len(), 11);
    }
}
