//! One thing at a time.

use macula_core::sim::{Address, Faults};

use super::world::{World, ms};
use crate::pubsub::message::{Priority, PublishOptions, Qos, Reason};
use crate::pubsub::proto::word::Replay;

const ONE: Address = Address(0);
const TWO: Address = Address(1);
const THREE: Address = Address(2);

fn promised() -> PublishOptions {
    PublishOptions::at_least_once()
}

fn kept() -> PublishOptions {
    PublishOptions { keep: true, ..PublishOptions::default() }
}

/// Waits until a topic's subscribers are known.
pub(super) fn known(world: &mut World, address: Address, topic: &str, subscribers: usize) {
    for _ in 0..1_000 {
        let id = world.open(address, topic);
        world.run(ms(10));
        if world.places.borrow()[&address].known.get(&id) == Some(&subscribers) {
            return;
        }
    }
    panic!("{topic} is not known to have {subscribers} subscribers");
}

#[test]
fn patterns_get_what_they_match_and_nothing_else() {
    let mut world = World::new(1, 3, Faults::NONE);
    let exact = world.subscribe(TWO, "sensor.temp.room1", None, 100);
    let star = world.subscribe(THREE, "sensor.*.room1", None, 100);
    let rest = world.subscribe(THREE, "sensor.**", None, 100);
    let own = world.subscribe(ONE, "sensor.**", None, 100);
    let topics = [
        ("sensor.temp.room1", 3),
        ("sensor.humidity.room1", 2),
        ("sensor.temp.room2", 2),
        ("sensor.temp.room1.extra", 2),
    ];
    for (topic, subscribers) in topics {
        known(&mut world, ONE, topic, subscribers);
        assert!(world.publish(ONE, topic, promised()));
    }
    known(&mut world, ONE, "other.topic", 0);
    assert!(!world.publish(ONE, "other.topic", promised()));
    world.run(ms(100));
    let counts = [(TWO, exact, 1), (THREE, star, 2), (THREE, rest, 4), (ONE, own, 4)];
    for (address, id, count) in counts {
        assert_eq!(world.seen(address, id).len(), count, "{id:?}");
    }
    let report = world.report(ONE);
    assert_eq!((report.accepted, report.delivered, report.pending()), (9, 9, 0));
}

#[test]
fn a_message_for_a_group_goes_to_one_member() {
    let mut world = World::new(2, 3, Faults::NONE);
    let members = [(TWO, "jobs.*"), (TWO, "jobs.*"), (THREE, "jobs.**"), (ONE, "jobs.a")].map(
        |(address, pattern)| (address, world.subscribe(address, pattern, Some("workers"), 1_000)),
    );
    let watcher = world.subscribe(THREE, "jobs.a", None, 1_000);
    known(&mut world, ONE, "jobs.a", 2);
    for _ in 0..300 {
        assert!(world.publish(ONE, "jobs.a", promised()));
        world.run(ms(10));
    }
    world.run(ms(100));
    let counts = members.map(|(address, id)| world.seen(address, id).len());
    assert_eq!(counts.iter().sum::<usize>(), 300, "{counts:?}");
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
    assert_eq!(world.seen(THREE, watcher).len(), 300);
}

#[test]
fn a_late_subscriber_gets_what_was_kept_and_then_what_comes() {
    let mut world = World::new(3, 2, Faults::NONE);
    known(&mut world, ONE, "a.b", 0);
    for _ in 0..10 {
        assert!(world.publish(ONE, "a.b", kept()));
    }
    assert!(world.publish(ONE, "a.b", PublishOptions { retain: true, ..kept() }));
    let all = Replay { last: Some(100), ..Replay::default() };
    let last = Replay { last: Some(3), ..Replay::default() };
    let retained = Replay { retained: true, ..Replay::default() };
    let ids = [all, last, retained, Replay::default()]
        .map(|replay| world.subscribe_with(TWO, "a.*", None, (50, replay)));
    let here = world.subscribe_with(ONE, "a.b", None, (50, last));
    known(&mut world, ONE, "a.b", 2);
    for _ in 0..5 {
        assert!(world.publish(ONE, "a.b", kept()));
    }
    world.run(ms(500));
    let counts = ids.map(|id| world.seen(TWO, id).len());
    assert_eq!(counts, [16, 8, 6, 5]);
    assert_eq!(world.seen(ONE, here).len(), 8);
    let later = world.subscribe_with(TWO, "a.b", None, (50, all));
    world.run(ms(500));
    assert_eq!(world.seen(TWO, later).len(), 16);
    for id in ids.into_iter().chain([later]) {
        let seen = world.seen(TWO, id);
        let numbers: Vec<u64> = seen.iter().map(|message| message.sequence).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    }
    assert_eq!(world.report(ONE).pending(), 0);
}

#[test]
fn an_actor_that_is_killed_while_something_is_replayed_to_it_repeats_nothing() {
    let slow = Faults { delay_max: ms(20), ..Faults::NONE };
    for after in 0..80 {
        let mut world = World::new(after, 2, slow);
        known(&mut world, ONE, "a.b", 0);
        for number in 0..40 {
            let priority = Priority::ALL[number % 4];
            assert!(world.publish(ONE, "a.b", PublishOptions { priority, ..kept() }));
        }
        let all = Replay { last: Some(100), ..Replay::default() };
        let id = world.subscribe_with(TWO, "a.*", None, (50, all));
        world.run(ms(after));
        world.restart(TWO, false);
        world.run(ms(3_000));
        let mut seen: Vec<u64> =
            world.seen(TWO, id).iter().map(|message| message.sequence).collect();
        seen.sort_unstable();
        assert_eq!(seen, (1..=40).collect::<Vec<_>>(), "killed after {after} ms");
    }
}

#[test]
fn a_slow_subscriber_slows_nobody_and_its_publisher_is_told() {
    let mut world = World::new(4, 3, Faults::NONE);
    let slow = world.subscribe(TWO, "a", None, 64);
    let quick = world.subscribe(THREE, "a", None, 8_192);
    known(&mut world, ONE, "a", 2);
    // In a debug build this takes long enough with fewer.
    let rounds = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
    let (mut published, mut most) = (0, (0, 0));
    for _ in 0..rounds {
        for _ in 0..100 {
            published += u64::from(world.publish(ONE, "a", PublishOptions::default()));
        }
        world.sim.run_until(world.sim.now() + ms(10)).unwrap();
        world.read(THREE, usize::MAX);
        world.read(TWO, 1);
        for address in [ONE, TWO, THREE] {
            let (here, there) = world.sim.machine(address).unwrap().held();
            most = (most.0.max(here), most.1.max(there));
        }
    }
    world.run(ms(1_000));
    // What is held is a matter of rounds on their way, and not of how many there were.
    assert!(most.0 <= 1_000 && most.1 <= 1_000, "{most:?} are held");
    let total = rounds * 100;
    assert_eq!(published, total);
    assert_eq!(world.seen(THREE, quick).len(), usize::try_from(total).unwrap());
    let report = world.report(ONE);
    assert_eq!((report.accepted, report.pending()), (total * 2, 0));
    let seen = u64::try_from(world.seen(TWO, slow).len()).unwrap();
    assert_eq!(report.delivered, total + seen);
    assert_eq!(report.dropped[&Reason::SlowSubscriber], total - seen);
    // It knows of all that it has missed.
    let gaps = world.places.borrow()[&TWO].subs[&slow].gaps;
    assert_eq!(gaps, total - seen);
}

#[test]
fn a_promised_message_waits_for_a_slow_subscriber_and_expires() {
    let mut world = World::new(5, 2, Faults::NONE);
    let slow = world.subscribe(TWO, "a", None, 10);
    known(&mut world, ONE, "a", 1);
    let mut published = 0;
    for _ in 0..200 {
        for _ in 0..50 {
            published += usize::from(world.publish(ONE, "a", promised()));
        }
        world.sim.run_until(world.sim.now() + ms(10)).unwrap();
        world.read(TWO, 2);
    }
    // As many as there are queues for, and no more.
    assert!((1_000..6_000).contains(&published), "{published}");
    world.run(ms(20_000));
    assert_eq!(world.seen(TWO, slow).len(), published);
    let report = world.report(ONE);
    assert_eq!((report.delivered, report.pending()), (u64::try_from(published).unwrap(), 0));
    // One whose time is over while it waits is told to be so.
    for _ in 0..20 {
        assert!(world.publish(ONE, "a", promised()));
    }
    world.sim.run_until(world.sim.now() + ms(100)).unwrap();
    for _ in 0..4_000 {
        let options = PublishOptions { expiry: Some(ms(50)), ..promised() };
        world.publish(ONE, "a", options);
    }
    world.sim.run_until(world.sim.now() + ms(1_000)).unwrap();
    world.run(ms(20_000));
    let report = world.report(ONE);
    assert!(report.expired > 900, "{report:?}");
    assert_eq!(report.pending(), 0, "{report:?}");
}

#[test]
fn what_is_urgent_goes_first() {
    let mut world = World::new(6, 2, Faults::NONE);
    let id = world.subscribe(TWO, "a", None, 10_000);
    known(&mut world, ONE, "a", 1);
    for priority in [Priority::Low, Priority::Normal, Priority::High, Priority::Urgent] {
        for _ in 0..20 {
            let options = PublishOptions { priority, ..PublishOptions::default() };
            assert!(world.publish(ONE, "a", options));
        }
    }
    world.run(ms(100));
    let seen = world.seen(TWO, id);
    let priorities: Vec<Priority> = seen.iter().map(|message| message.priority).collect();
    assert_eq!(priorities.len(), 80);
    assert!(priorities.is_sorted(), "{priorities:?}");
}

#[test]
fn whoever_unsubscribes_or_goes_is_forgotten_at_once() {
    let mut world = World::new(7, 3, Faults::NONE);
    let one = world.subscribe(TWO, "a", None, 100);
    world.subscribe(THREE, "a", None, 100);
    known(&mut world, ONE, "a", 2);
    world.places.borrow_mut().get_mut(&TWO).unwrap().subs.remove(&one);
    world.sim.input(TWO, |_| crate::pubsub::proto::Input::Unsubscribe { id: one });
    known(&mut world, ONE, "a", 1);
    world.restart(THREE, true);
    known(&mut world, ONE, "a", 0);
    assert!(!world.publish(ONE, "a", promised()));
    assert_eq!(world.sim.machine(ONE).unwrap().sessions(), (1, 0));
}

#[test]
fn many_patterns_with_one_prefix_are_told_as_one() {
    let mut world = World::new(9, 2, Faults::NONE);
    let ids: Vec<_> =
        (0..3_000).map(|n| world.subscribe(TWO, &format!("a.*.{n}"), None, 100)).collect();
    known(&mut world, ONE, "a.b.7", 1);
    known(&mut world, ONE, "a.b.2999", 1);
    for topic in ["a.b.7", "a.b.2999", "a.b.2999"] {
        assert!(world.publish(ONE, topic, promised()));
    }
    // Nobody wants this one, and its publisher is told so once it has come.
    known(&mut world, ONE, "a.b.c", 1);
    assert!(world.publish(ONE, "a.b.c", promised()));
    world.run(ms(1_000));
    assert_eq!([7, 8, 2_999].map(|n: usize| world.seen(TWO, ids[n]).len()), [1, 0, 2]);
    let report = world.report(ONE);
    assert_eq!((report.delivered, report.dropped[&Reason::Unsubscribed]), (3, 1));
}

#[test]
fn another_realm_is_refused() {
    use crate::pubsub::proto::word::{Life, SessionId, Word};
    use crate::pubsub::proto::{Input, Output};
    let mut world = World::new(8, 2, Faults::NONE);
    world.sim.run_until(ms(10)).unwrap();
    world.look();
    let word = Word::Hello { realm: [8; 32], life: Life { node: 1, broker: 1 }, is_new: true };
    let from = super::world::node(TWO);
    world.sim.input(ONE, |_| Input::Word { from, session: SessionId(1), word, ticket: None });
    let seen = world.sim.take_seen();
    let refused = |output: &Output| matches!(output, Output::Misbehaved { .. });
    assert!(seen.iter().any(|sighting| refused(&sighting.what)), "{seen:?}");
    assert_eq!(world.sim.machine(ONE).unwrap().sessions(), (0, 0));
    assert_eq!(Qos::default(), Qos::AtMostOnce);
}
