//! An audience of a thousand whole brokers, which lose one message in twenty, while every tenth of
//! them goes and as many others come.

use std::collections::BTreeMap;
use std::ops::Range;

use macula_core::sim::{Address, Faults};

use super::world::{World, ms, node};
use crate::pubsub::message::{PublishOptions, Reason};
use crate::pubsub::proto::Input;
use crate::pubsub::proto::word::SubId;

const PUBLISHER: Address = Address(0);

/// Who stays to the end.
const STAYING: Range<u32> = 1..901;

/// Who goes, one in each round: half of them let go of their subscriptions, and half crash.
const GOING: Range<u32> = 901..1_001;

/// Who comes, one in each round.
const COMING: Range<u32> = 1_001..1_101;

/// After how many rounds a node that has crashed is believed to be gone.
const GONE_AFTER: usize = 10;

/// How many messages the publisher sends for each that it publishes, in its broadcast: it has a few
/// neighbours, and what is lost on the way it sends again.
const SENT_MAX: u64 = 6;

/// How many more it sends for each node that comes or goes: whoever comes asks it first, and the
/// neighbours of whoever goes look for others.
const SENT_FOR_CHANGE_MAX: u64 = 6;

/// How many messages all nodes together send for each copy: the message, and what is said of it.
const SENT_FOR_COPY_MAX: u64 = 8;

struct Crowd {
    world: World,
    subs: BTreeMap<Address, SubId>,
}

impl Crowd {
    fn subscribe(&mut self, number: u32) {
        let id = self.world.subscribe(Address(number), "feed", None, 8_192);
        self.subs.insert(Address(number), id);
    }

    /// An audience that is known.
    fn gather(seed: u64) -> Self {
        let faults = Faults { loss: 0.05, delay_max: ms(20), ..Faults::NONE };
        // A node has connections with those that it speaks to, and not with all of a thousand.
        let meet = |one: Address, other: Address| one == PUBLISHER || other == PUBLISHER;
        let world = World::meeting(seed, COMING.end, faults, meet);
        let mut crowd = Self { world, subs: BTreeMap::new() };
        STAYING.chain(GOING).for_each(|number| crowd.subscribe(number));
        let id = crowd.world.open(PUBLISHER, "feed");
        for _ in 0..1_000 {
            crowd.world.run(ms(10));
            let known = crowd.world.places.borrow()[&PUBLISHER].known.get(&id).copied();
            if known == Some(crowd.subs.len()) {
                return crowd;
            }
        }
        panic!("the audience is not known");
    }

    /// One goes, and another comes.
    fn churn(&mut self, round: usize) {
        if let Some(leaver) = GOING.map(Address).nth(round) {
            let id = self.subs.remove(&leaver).unwrap();
            self.world.unsubscribe(leaver, id);
            if round.is_multiple_of(2) {
                self.world.sim.crash(leaver);
            }
        }
        if let Some(number) = COMING.clone().nth(round) {
            self.subscribe(number);
        }
        let gone = round.checked_sub(GONE_AFTER).filter(|round| round.is_multiple_of(2));
        if let Some(gone) = gone.and_then(|round| GOING.map(Address).nth(round)) {
            for address in self.world.sim.addresses() {
                self.world.sim.input(address, |_| Input::Gone { node: node(gone) });
            }
        }
    }

    fn numbers(&self, address: Address) -> Vec<u64> {
        let seen = self.world.seen(address, self.subs[&address]);
        seen.iter().map(|message| message.sequence).collect()
    }
}

#[test]
fn all_who_stay_get_all_and_the_publisher_sends_to_a_few() {
    let mut crowd = Crowd::gather(1);
    let (mut published, rounds) = (0_u64, usize::try_from(GOING.end - GOING.start).unwrap());
    let sent_before = crowd.world.sim.sent().messages;
    for round in 0..rounds + GONE_AFTER {
        crowd.churn(round);
        let promised = PublishOptions::at_least_once();
        published += u64::from(crowd.world.publish(PUBLISHER, "feed", promised));
        crowd.world.run(ms(50));
    }
    assert_eq!(published, u64::try_from(rounds + GONE_AFTER).unwrap());
    for _ in 0..60 {
        if crowd.world.report(PUBLISHER).pending() == 0 {
            break;
        }
        crowd.world.run(ms(500));
    }
    let report = crowd.world.report(PUBLISHER);
    assert_eq!(report.pending(), 0, "{report:?}");
    let whole: Vec<u64> = (1..=published).collect();
    for address in STAYING.map(Address) {
        assert_eq!(crowd.numbers(address), whole, "{address:?}");
    }
    // Who came later has all from then on.
    for address in COMING.map(Address) {
        let numbers = crowd.numbers(address);
        let first = numbers.first().copied().unwrap_or(published + 1);
        assert_eq!(numbers, (first..=published).collect::<Vec<_>>(), "{address:?}");
    }
    let last = COMING.map(Address).map(|address| crowd.numbers(address).len());
    assert!(last.filter(|count| *count > 0).count() >= 90, "most who came have got something");
    // Nobody was slow, and nobody was out of reach for long.
    let known = [Reason::NodeLost, Reason::NodeGone, Reason::Unsubscribed];
    assert!(report.dropped.keys().all(|reason| known.contains(reason)), "{report:?}");
    let broker = crowd.world.sim.machine(PUBLISHER).unwrap();
    let sent = broker.broadcast_sent();
    let all = crowd.world.sim.sent().messages - sent_before;
    println!(
        "{published} messages, {} copies: its publisher has sent {sent}, all nodes together {all}",
        report.delivered
    );
    assert!(sent >= published, "{sent} for {published} messages: it is no broadcast");
    let changes = u64::try_from(GOING.len() + COMING.len()).unwrap();
    let most = published * SENT_MAX + changes * SENT_FOR_CHANGE_MAX;
    assert!(sent <= most, "{sent} for {published} messages and {changes} changes");
    assert!(all <= report.delivered * SENT_FOR_COPY_MAX, "{all} for {} copies", report.delivered);
}
