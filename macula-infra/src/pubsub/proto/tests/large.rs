//! Broadcasts whose parts are slow, late, full, or gone for a while.

use std::collections::BTreeSet;

use bytes::Bytes;
use macula_core::sim::{Address, Faults};

use super::super::grove::{TREES_MAX, WINDOW_LEN};
use super::super::tree::KEPT_LEN_MAX;
use super::super::word::{Life, Plant, Replay, SessionId, TreeId, Word};
use super::super::{Input, Output};
use super::broadcast::{Audience, NODES, PUBLISHER, audience, audience_with, numbers};
use super::directed::known;
use super::world::{World, ms, node};
use crate::pubsub::message::{Missed, Priority, PublishOptions, Reason};

/// Who is slow, or else what the others are not.
const ONE: Address = Address(5);

fn promised() -> PublishOptions {
    PublishOptions::at_least_once()
}

fn others() -> u64 {
    u64::from(NODES - 2)
}

/// Lets time pass in which all read but one.
fn run_without(audience: &mut Audience, one: Address, millis: u64) {
    for _ in 0..millis / 10 {
        audience.world.sim.run_until(audience.world.sim.now() + ms(10)).unwrap();
        for address in audience.world.sim.addresses() {
            if address != one {
                audience.world.read(address, usize::MAX);
            }
        }
    }
}

fn slow(address: Address) -> usize {
    if address == ONE { 4 } else { 8_192 }
}

#[test]
fn long_messages_wait_for_the_slowest_part_before_anybody_holds_many() {
    let mut audience = audience_with(1, Faults::NONE, slow);
    let payload = Bytes::from(vec![7; 128 << 10]);
    let mut published = 0;
    for _ in 0..200 {
        published +=
            usize::from(audience.world.publish_long(PUBLISHER, "feed", promised(), &payload));
        run_without(&mut audience, ONE, 20);
        for address in audience.world.sim.addresses() {
            let broker = audience.world.sim.machine(address).unwrap();
            let (held, counted) = broker.broadcasts_held();
            assert_eq!(held, counted, "{address:?}");
            assert!(
                held <= KEPT_LEN_MAX + WINDOW_LEN + payload.len() + 4_096,
                "{held} at {address:?}"
            );
        }
    }
    assert_eq!(published, 200, "there is room for them at their gate");
    let on_their_way = audience.world.report(PUBLISHER).accepted / u64::from(NODES - 1);
    assert!(on_their_way < 40, "{on_their_way}");
    audience.world.run(ms(60_000));
    let report = audience.world.report(PUBLISHER);
    assert_eq!((report.pending(), report.delivered), (0, 200 * u64::from(NODES - 1)), "{report:?}");
    assert!(audience.subs.keys().all(|address| numbers(&audience, *address).len() == 200));
}

#[test]
fn what_is_broadcast_expires_where_it_waits_and_is_counted() {
    let mut audience = audience_with(2, Faults::NONE, slow);
    // The tree grows first.
    assert!(audience.world.publish(PUBLISHER, "feed", promised()));
    run_without(&mut audience, ONE, 3_000);
    let options = PublishOptions { expiry: Some(ms(500)), ..promised() };
    for _ in 0..20 {
        assert!(audience.world.publish(PUBLISHER, "feed", options));
    }
    run_without(&mut audience, ONE, 5_000);
    let report = audience.world.report(PUBLISHER);
    assert_eq!((report.pending(), report.expired, report.dropped()), (0, 17, 0), "{report:?}");
    assert_eq!(report.delivered, 21 * others() + 4);
    audience.world.run(ms(100));
    assert_eq!(numbers(&audience, ONE).len(), 4);
    let place = audience.world.places.borrow();
    assert_eq!(place[&ONE].subs[&audience.subs[&ONE]].missed, [(Missed::Expired, 17)].into());
}

#[test]
fn what_is_over_when_a_part_is_back_says_nothing_any_more() {
    let mut audience = audience(3, Faults::NONE);
    let mortal = PublishOptions { expiry: Some(ms(1_000)), ..promised() };
    assert!(audience.world.publish(PUBLISHER, "feed", promised()));
    audience.world.run(ms(2_000));
    audience.world.sim.sever(&[&[ONE]]);
    for _ in 0..10 {
        assert!(audience.world.publish(PUBLISHER, "feed", mortal));
    }
    assert!(audience.world.publish(PUBLISHER, "feed", promised()));
    audience.world.run(ms(30_000));
    assert_eq!(audience.world.report(PUBLISHER).pending(), 11);
    audience.world.sim.mend();
    audience.world.run(ms(30_000));
    let report = audience.world.report(PUBLISHER);
    assert_eq!((report.pending(), report.expired, report.dropped()), (0, 10, 0), "{report:?}");
    assert_eq!(numbers(&audience, ONE), [1, 12]);
}

#[test]
fn what_is_urgent_passes_what_waits_at_a_slow_part() {
    let mut audience = audience_with(4, Faults::NONE, slow);
    let of = |priority| PublishOptions { priority, ..promised() };
    for _ in 0..40 {
        assert!(audience.world.publish(PUBLISHER, "feed", of(Priority::Low)));
    }
    run_without(&mut audience, ONE, 3_000);
    assert!(audience.world.publish(PUBLISHER, "feed", of(Priority::Urgent)));
    run_without(&mut audience, ONE, 3_000);
    audience.world.run(ms(10_000));
    let seen = audience.world.seen(ONE, audience.subs[&ONE]);
    assert_eq!(seen.len(), 41);
    let urgent = seen.iter().position(|message| message.priority == Priority::Urgent);
    // Its queue was full, and nothing else passed.
    assert_eq!(urgent, Some(4));
    assert_eq!(audience.world.report(PUBLISHER).pending(), 0);
}

#[test]
fn a_part_that_is_cut_off_for_minutes_gets_all_that_was_promised() {
    let mut audience = audience(5, Faults::NONE);
    for round in 0..3 {
        assert!(audience.world.publish(PUBLISHER, "feed", promised()));
        audience.world.run(ms(2_000));
        // It hears of what there is, and gets nothing of it.
        audience.world.sim.set_faults(Faults { loss: 0.8, ..Faults::NONE });
        for _ in 0..20 {
            assert!(audience.world.publish(PUBLISHER, "feed", promised()));
        }
        audience.world.run(ms(2_000));
        audience.world.sim.sever(&[&[ONE], &[Address(6), Address(7)]]);
        audience.world.run(ms(90_000 + round));
        audience.world.sim.set_faults(Faults::NONE);
        audience.world.sim.mend();
        audience.world.run(ms(60_000));
    }
    let report = audience.world.report(PUBLISHER);
    assert_eq!((report.pending(), report.dropped()), (0, 0), "{report:?}");
    for address in audience.subs.keys() {
        assert_eq!(numbers(&audience, *address), (1..=63).collect::<Vec<_>>(), "{address:?}");
    }
}

#[test]
fn a_node_that_has_no_room_for_one_more_broadcast_is_sent_to_directly() {
    let mut audience = audience(6, Faults::NONE);
    let stranger = node(Address(100));
    for number in 0..u64::try_from(TREES_MAX).unwrap() {
        let (life, topic, contacts) = (Life::default(), "other".parse().unwrap(), Vec::new());
        let number = number * 8;
        let plant = Plant { number, life, topic, from: 1, lost: 0, contacts, is_allowed: true };
        let word = Word::Plant(plant);
        let session = SessionId(0);
        audience.world.sim.input(ONE, |_| Input::Word {
            from: stranger,
            session,
            word,
            ticket: None,
        });
    }
    audience.world.sim.crash(Address(100));
    for options in [promised(), PublishOptions::default()] {
        for _ in 0..20 {
            assert!(audience.world.publish(PUBLISHER, "feed", options));
            audience.world.run(ms(20));
        }
        audience.world.run(ms(5_000));
    }
    let report = audience.world.report(PUBLISHER);
    let copies = 40 * u64::from(NODES - 1);
    assert_eq!((report.accepted, report.delivered), (copies, copies), "{report:?}");
    for address in audience.subs.keys() {
        assert_eq!(numbers(&audience, *address), (1..=40).collect::<Vec<_>>(), "{address:?}");
    }
    // One that is let go makes room, but this is for as long as the topic is published to.
    let tree = TreeId { publisher: stranger, number: 0 };
    let word = Word::Fell { tree };
    audience.world.sim.input(ONE, |_| Input::Word {
        from: stranger,
        session: SessionId(0),
        word,
        ticket: None,
    });
    let sent = audience.world.sim.take_seen();
    assert!(!sent.iter().any(|seen| matches!(seen.what, Output::Misbehaved { .. })));
}

#[test]
fn what_comes_to_a_part_after_it_has_unsubscribed_is_counted_so() {
    let mut audience = audience_with(7, Faults::NONE, slow);
    for _ in 0..20 {
        assert!(audience.world.publish(PUBLISHER, "feed", promised()));
    }
    run_without(&mut audience, ONE, 3_000);
    assert_eq!(audience.world.report(PUBLISHER).pending(), 16);
    let id = audience.subs.remove(&ONE).unwrap();
    audience.world.unsubscribe(ONE, id);
    audience.world.run(ms(5_000));
    let report = audience.world.report(PUBLISHER);
    assert_eq!(report.dropped, [(Reason::Unsubscribed, 16)].into(), "{report:?}");
    assert_eq!((report.pending(), report.delivered), (0, 20 * others() + 4));
}

#[test]
fn what_a_part_gets_in_vain_is_counted_so() {
    let mut world = World::new(8, NODES, Faults::NONE);
    for address in (1..NODES).map(Address).filter(|address| *address != ONE) {
        world.subscribe(address, "feed.b.c", None, 8_192);
    }
    // They are so many that they are told as one that holds them all.
    for number in 0..1_100 {
        world.subscribe(ONE, &format!("feed.*.{number}"), None, 100);
    }
    known(&mut world, PUBLISHER, "feed.b.c", usize::try_from(NODES - 1).unwrap());
    for _ in 0..20 {
        assert!(world.publish(PUBLISHER, "feed.b.c", promised()));
        world.run(ms(100));
    }
    world.run(ms(5_000));
    let report = world.report(PUBLISHER);
    assert_eq!(report.dropped, [(Reason::Unsubscribed, 20)].into(), "{report:?}");
    assert_eq!((report.pending(), report.delivered), (0, 20 * others()));
}

#[test]
fn what_is_replayed_and_broadcast_comes_once() {
    let mut again = 0;
    for seed in 0..10 {
        let faults = Faults { loss: 0.05, delay_max: ms(40), ..Faults::NONE };
        let mut audience = audience(20 + seed, faults);
        let kept = PublishOptions { keep: true, ..promised() };
        let mut late = Vec::new();
        for round in 0..60 {
            assert!(audience.world.publish(PUBLISHER, "feed", kept));
            if round > 20 && round % 10 == 0 {
                let address = Address(5 + round / 2);
                let all = Replay { last: Some(1_000), ..Replay::default() };
                let id = audience.world.subscribe_with(address, "feed", None, (8_192, all));
                late.push((address, id));
            }
            audience.world.run(ms(30));
        }
        audience.world.run(ms(20_000));
        for (address, id) in late {
            let seen = audience.world.seen(address, id);
            let numbers: BTreeSet<u64> = seen.iter().map(|message| message.sequence).collect();
            assert_eq!(numbers.len(), seen.len(), "{address:?}");
            assert!(numbers.contains(&1) && numbers.contains(&60), "{numbers:?}");
            again += audience.world.places.borrow()[&address].subs[&id].again.len();
        }
    }
    assert!(again > 0, "there was nothing to pass over");
}
