//! Random loss, lost connections and kills of either end: what is counted is what was seen.
//!
//! `MACULA_SEED=N cargo test -p macula-infra pubsub::proto::tests::faults` replays one seed.

use std::collections::{BTreeMap, BTreeSet};

use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::sim::{Address, Faults};

use super::world::{World, ms, node};
use crate::pubsub::message::{Message, Priority, PublishOptions, Qos, Reason};
use crate::pubsub::proto::Bug;

const PUBLISHERS: [Address; 2] = [Address(0), Address(1)];
const SUBSCRIBERS: [Address; 3] = [Address(2), Address(3), Address(4)];
const TOPICS: [&str; 4] = ["a", "a.b", "a.c", "d.e.f"];
const PATTERNS: [&str; 3] = ["**", "a.**", "*.e.f"];

/// Whose actors are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kills {
    Nobody,
    Subscribers,
    Anybody,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
struct Weather {
    kills: Kills,
    bug: Option<Bug>,
}

/// What a run has shown.
struct Outcome {
    world: World,
    /// How many messages each has published to each topic.
    published: BTreeMap<(Address, &'static str), u64>,
}

fn storm(seed: u64, weather: Weather) -> Outcome {
    let loss = Faults {
        loss: 0.03,
        duplication: 0.02,
        reordering: 0.05,
        reordering_max: ms(50),
        delay_max: ms(20),
        early_wake: 0.05,
        ..Faults::NONE
    };
    let mut dice = Entropy::from_seed(seed);
    let mut world = World::new(seed, 5, loss);
    if let Some(bug) = weather.bug {
        world.plant(bug);
    }
    for (address, pattern) in SUBSCRIBERS.into_iter().zip(PATTERNS) {
        let room = 16 << dice.below(6);
        world.subscribe(address, pattern, None, room);
    }
    for topic in TOPICS {
        for publisher in PUBLISHERS {
            world.open(publisher, topic);
        }
    }
    world.run(ms(10_000));
    let mut published = BTreeMap::new();
    for _ in 0..200 {
        for publisher in PUBLISHERS {
            for _ in 0..dice.below(40) {
                let topic = TOPICS[usize::try_from(dice.below(4)).unwrap()];
                let is_promised = dice.chance(0.5);
                let options = PublishOptions {
                    qos: if is_promised { Qos::AtLeastOnce } else { Qos::AtMostOnce },
                    priority: Priority::ALL[usize::try_from(dice.below(4)).unwrap()],
                    expiry: dice.chance(0.1).then_some(ms(30)),
                    ..PublishOptions::default()
                };
                if world.publish(publisher, topic, options) {
                    *published.entry((publisher, topic)).or_default() += 1;
                }
            }
        }
        world.sim.run_until(world.sim.now() + ms(10)).unwrap();
        for subscriber in SUBSCRIBERS {
            let max = usize::try_from(dice.below(60)).unwrap();
            world.read(subscriber, max);
        }
        let pick = |dice: &mut Entropy, of: &[Address]| {
            of[usize::try_from(dice.below(u64::try_from(of.len()).unwrap())).unwrap()]
        };
        if dice.chance(0.05) {
            let (one, other) = (pick(&mut dice, &PUBLISHERS), pick(&mut dice, &SUBSCRIBERS));
            world.part(one, other);
        }
        if weather.kills != Kills::Nobody && dice.chance(0.02) {
            let all = [PUBLISHERS.as_slice(), &SUBSCRIBERS].concat();
            let is_spared = weather.kills == Kills::Subscribers;
            let victim = pick(&mut dice, if is_spared { &SUBSCRIBERS } else { &all });
            let whole_node = PUBLISHERS.contains(&victim) && dice.chance(0.5);
            world.restart(victim, whole_node);
        }
    }
    world.sim.set_faults(Faults::NONE);
    for _ in 0..70 {
        world.run(ms(1_000));
        if PUBLISHERS.iter().all(|publisher| world.report(*publisher).pending() == 0) {
            break;
        }
    }
    // Of what is missing subscribers may be told last.
    world.run(ms(3_000));
    Outcome { world, published }
}

/// What came again to a subscription and was passed over.
fn again(world: &World) -> Vec<Message> {
    let places = world.places.borrow();
    let subs = places.values().flat_map(|place| place.subs.values());
    subs.flat_map(|sub| sub.again.clone()).collect()
}

/// All that subscribers of a run have seen, each with its node.
fn seen(world: &World) -> Vec<(Address, Vec<Message>)> {
    let places = world.places.borrow();
    let of = |(address, place): (&Address, &super::world::Place)| {
        let subs = place.subs.values().map(|sub| sub.seen.clone());
        subs.map(|seen| (*address, seen)).collect::<Vec<_>>()
    };
    places.iter().flat_map(of).collect()
}

/// Whether what is counted is what was seen, and what was promised was kept.
fn check(outcome: &Outcome, weather: Weather) -> Result<(), String> {
    let Outcome { world, published } = outcome;
    let seen = seen(world);
    let again = again(world);
    if let Some(message) = again.iter().find(|again| again.qos == Qos::AtMostOnce) {
        return Err(format!("{message:?} was sent again, and is not promised"));
    }
    let nobody = weather.kills == Kills::Nobody;
    if let (true, Some(message)) = (nobody, again.first()) {
        return Err(format!("{message:?} was sent again, and nobody was killed"));
    }
    for (address, messages) in &seen {
        let mut last: BTreeMap<(NodeId, &str, Priority, Qos), u64> = BTreeMap::new();
        let mut all = BTreeSet::new();
        for message in messages {
            let Message { topic, publisher, sequence, qos, priority, .. } = message;
            let is_new = all.insert((*publisher, *sequence));
            if !is_new {
                return Err(format!("{address:?} has got {message:?} twice"));
            }
            let last = last.entry((*publisher, topic.as_str(), *priority, *qos)).or_default();
            if is_new && *sequence < *last {
                return Err(format!("{address:?} has got {message:?} after {last}"));
            }
            *last = (*last).max(*sequence);
        }
    }
    for publisher in PUBLISHERS {
        let report = world.report(publisher);
        if report.pending() != 0 {
            return Err(format!("{publisher:?} has not ended: {report:?}"));
        }
        let distinct: BTreeSet<(Address, u64)> = seen
            .iter()
            .flat_map(|(address, messages)| {
                let own = messages.iter().filter(|message| message.publisher == node(publisher));
                own.map(|message| (*address, message.sequence))
            })
            .collect();
        let got = u64::try_from(distinct.len()).unwrap();
        let of = |reason| report.dropped.get(&reason).copied().unwrap_or_default();
        let unknown = of(Reason::NodeLost) + of(Reason::Restarted);
        if got < report.delivered || got > report.delivered + unknown {
            return Err(format!("{publisher:?}: {got} were got, and counted are {report:?}"));
        }
        if nobody && (unknown > 0 || got != report.delivered) {
            return Err(format!("{publisher:?}: nobody was killed, and {report:?}"));
        }
        let of = published.iter().filter(|((by, _), _)| *by == publisher);
        if nobody && of.map(|(_, count)| count).sum::<u64>() < 1_000 {
            return Err(format!("{publisher:?} has published only {published:?}"));
        }
    }
    gaps_are_told(outcome, weather)
}

/// Whether each subscription has got or was told to miss all that was published for it, as long as no
/// publisher loses what it has.
fn gaps_are_told(Outcome { world, published }: &Outcome, weather: Weather) -> Result<(), String> {
    if weather.kills == Kills::Anybody {
        return Ok(());
    }
    let places = world.places.borrow();
    for (address, sub) in places.iter().flat_map(|(at, of)| of.subs.values().map(move |s| (at, s)))
    {
        let is_for = |topic: &str| sub.wish.wanted.pattern.matches(&topic.parse().unwrap());
        let all = published.iter().filter(|((_, topic), _)| is_for(topic));
        let all: u64 = all.map(|(_, count)| count).sum();
        let got = u64::try_from(sub.seen.len()).unwrap();
        let is_exact = weather.kills == Kills::Nobody && got + sub.gaps != all;
        if is_exact || got + sub.gaps < all {
            let missed = &sub.missed;
            return Err(format!("{address:?} has got {got} of {all}, and was told of {missed:?}"));
        }
    }
    Ok(())
}

fn run(seed: u64, weather: Weather) -> Result<(), String> {
    let outcome = storm(seed, weather);
    check(&outcome, weather).map_err(|why| format!("seed {seed}: {why}"))
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    let replayed = std::env::var("MACULA_SEED").ok().and_then(|seed| seed.parse().ok());
    replayed.map_or(0..count, |seed: u64| seed..seed + 1)
}

#[test]
fn nothing_is_lost_or_doubled_over_connections_that_come_and_go() {
    for seed in seeds(30) {
        run(seed, Weather { kills: Kills::Nobody, bug: None }).unwrap();
    }
}

#[test]
fn whatever_is_killed_each_copy_ends_once() {
    for seed in seeds(60) {
        run(seed, Weather { kills: Kills::Anybody, bug: None }).unwrap();
    }
}

#[test]
fn whoever_loses_messages_with_its_actor_is_told_of_the_gap() {
    for seed in seeds(30) {
        run(seed, Weather { kills: Kills::Subscribers, bug: None }).unwrap();
    }
}

/// Whether a planted bug is found by one of some seeds.
fn is_found(bug: Bug, kills: Kills) -> bool {
    (0..20).any(|seed| run(seed, Weather { kills, bug: Some(bug) }).is_err())
}

#[test]
fn what_is_sent_again_to_somebody_who_may_have_it_is_found() {
    assert!(is_found(Bug::ResendsWhatMayBeThere, Kills::Anybody));
}

#[test]
fn what_is_not_sent_again_is_found() {
    assert!(is_found(Bug::NeverSendsAgain, Kills::Nobody));
}

#[test]
fn a_drop_that_is_not_counted_is_found() {
    assert!(is_found(Bug::ForgetsTheSlow, Kills::Nobody));
}

#[test]
fn a_gap_that_is_forgotten_is_found() {
    assert!(is_found(Bug::ForgetsGaps, Kills::Subscribers));
}
