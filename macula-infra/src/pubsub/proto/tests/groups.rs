//! Members of queue groups that go while messages are for them.

use std::collections::BTreeSet;

use macula_core::sim::{Address, Faults};

use super::super::Input;
use super::directed::known;
use super::world::{World, ms, node};
use crate::pubsub::message::{PublishOptions, Reason};
use crate::pubsub::proto::word::{GROUPS_MAX, SubId};

const ONE: Address = Address(0);
const TWO: Address = Address(1);
const THREE: Address = Address(2);

/// A group with two members that read nothing, and all that was accepted for it.
struct Full {
    world: World,
    members: [(Address, SubId); 2],
    published: u64,
}

fn promised() -> PublishOptions {
    PublishOptions::at_least_once()
}

/// Fills all queues to both members.
fn full(seed: u64, options: PublishOptions) -> Full {
    let mut world = World::new(seed, 3, Faults::NONE);
    let members = [TWO, THREE]
        .map(|address| (address, world.subscribe(address, "jobs", Some("workers"), 16)));
    known(&mut world, ONE, "jobs", 1);
    let mut published = 0;
    for _ in 0..100 {
        for _ in 0..100 {
            published += u64::from(world.publish(ONE, "jobs", options));
        }
        world.sim.run_until(world.sim.now() + ms(10)).unwrap();
        world.look();
    }
    assert!(published > 1_000, "{published}");
    Full { world, members, published }
}

impl Full {
    /// The different messages that the members have seen, and how many they have seen in all.
    fn seen(&self) -> (u64, u64) {
        let of = |(address, id)| {
            self.world.places.borrow()[&address].subs.get(&id).map(|sub| sub.seen.clone())
        };
        let seen: Vec<u64> = self
            .members
            .into_iter()
            .filter_map(of)
            .flatten()
            .map(|message| message.sequence)
            .collect();
        let all: BTreeSet<u64> = seen.iter().copied().collect();
        (u64::try_from(all.len()).unwrap(), u64::try_from(seen.len()).unwrap())
    }
}

#[test]
fn what_was_for_a_member_that_goes_waits_for_another_one() {
    let mut full = full(1, promised());
    full.world.sim.crash(TWO);
    full.world.sim.input(ONE, |_| Input::Gone { node: node(TWO) });
    full.world.look();
    // The other one has as much as it can take.
    full.world.sim.run_until(full.world.sim.now() + ms(1_000)).unwrap();
    full.world.run(ms(60_000));
    let report = full.world.report(ONE);
    assert_eq!(report.pending(), 0, "{report:?}");
    // What was under way to the one that is gone may have been there: it counts as lost, and as
    // another copy.
    let lost = report.dropped.get(&Reason::NodeLost).copied().unwrap_or_default();
    assert_eq!(report.dropped(), lost, "{report:?}");
    let had = full.world.places.borrow()[&TWO].subs[&full.members[0].1].unread.len();
    let (seen, _) = full.seen();
    assert!(seen + u64::try_from(had).unwrap() >= full.published, "{seen} of {}", full.published);
    assert_eq!(report.delivered + lost, report.accepted);
}

#[test]
fn what_was_for_a_member_that_unsubscribes_waits_for_another_one() {
    let mut full = full(2, promised());
    let (address, id) = full.members[0];
    let had = u64::try_from(full.world.places.borrow()[&address].subs[&id].unread.len()).unwrap();
    full.world.unsubscribe(address, id);
    full.world.sim.run_until(full.world.sim.now() + ms(5_000)).unwrap();
    full.world.run(ms(60_000));
    let report = full.world.report(ONE);
    assert_eq!((report.pending(), report.dropped()), (0, 0), "{report:?}");
    assert_eq!((report.accepted, report.delivered), (full.published, full.published));
    let (seen, all) = full.seen();
    assert_eq!(seen, all, "nothing comes twice");
    assert_eq!(seen + had, full.published);
}

#[test]
fn what_nobody_is_left_for_ends_and_says_so() {
    let mut full = full(3, promised());
    for (address, id) in full.members {
        full.world.unsubscribe(address, id);
    }
    full.world.run(ms(5_000));
    let report = full.world.report(ONE);
    assert_eq!(report.pending(), 0, "{report:?}");
    assert_eq!(report.dropped.keys().collect::<Vec<_>>(), [&Reason::Unsubscribed], "{report:?}");
    assert_eq!(full.world.sim.machine(ONE).unwrap().held().0, 0);
}

#[test]
fn what_waits_for_another_member_expires() {
    let options = PublishOptions { expiry: Some(ms(20_000)), ..promised() };
    let mut full = full(4, options);
    full.world.sim.crash(TWO);
    full.world.sim.input(ONE, |_| Input::Gone { node: node(TWO) });
    full.world.sim.run_until(full.world.sim.now() + ms(30_000)).unwrap();
    full.world.run(ms(10_000));
    let report = full.world.report(ONE);
    assert_eq!(report.pending(), 0, "{report:?}");
    assert!(report.expired > 100, "{report:?}");
    assert_eq!(full.world.sim.machine(ONE).unwrap().held().0, 0);
}

#[test]
fn a_node_with_more_groups_than_one_copy_names_gets_all() {
    for options in [PublishOptions::default(), promised()] {
        let mut world = World::new(4, 2, Faults::NONE);
        let count = GROUPS_MAX + 6;
        let all: Vec<SubId> = (0..count)
            .map(|number| world.subscribe(TWO, "jobs", Some(&format!("group {number}")), 16))
            .collect();
        known(&mut world, ONE, "jobs", count);
        for _ in 0..3 {
            assert!(world.publish(ONE, "jobs", options));
        }
        world.run(ms(10_000));
        let seen: Vec<usize> = all.iter().map(|id| world.seen(TWO, *id).len()).collect();
        assert_eq!(seen, vec![3; count]);
        let report = world.report(ONE);
        assert_eq!((report.pending(), report.dropped()), (0, 0), "{report:?}");
    }
}
