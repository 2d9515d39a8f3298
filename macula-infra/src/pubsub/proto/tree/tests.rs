//! A large audience on a network that loses messages, while nodes come and go.
//!
//! `MACULA_PUBSUB_FULL=1 cargo test --release -p macula-infra pubsub::proto::tree -- --nocapture`
//! runs it with more messages and more seeds.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use macula_core::entropy::Entropy;
use macula_core::identity::{Keypair, NodeId};
use macula_core::machine::Machine as _;
use macula_core::sim::{self, Address, Birth, Effect, Faults, Moment, Sim};

use super::{Input, KEPT_MAX, Origin, Output, Said, Tree};
use crate::pubsub::proto::view::ACTIVE_MAX;

const NODES_MAX: u32 = 1_001;

/// Who publishes.
const PUBLISHER: Address = Address(0);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

struct Nodes {
    ids: Vec<NodeId>,
    numbers: BTreeMap<NodeId, u32>,
}

fn nodes() -> &'static Nodes {
    static NODES: OnceLock<Nodes> = OnceLock::new();
    NODES.get_or_init(|| {
        let id = |number: u32| {
            let mut seed = [5; 32];
            seed[..4].copy_from_slice(&number.to_be_bytes());
            Keypair::from_seed(seed).node_id()
        };
        let ids: Vec<NodeId> = (0..NODES_MAX).map(id).collect();
        let numbers = ids.iter().copied().zip(0..).collect();
        Nodes { ids, numbers }
    })
}

fn node(Address(number): Address) -> NodeId {
    nodes().ids[usize::try_from(number).unwrap()]
}

struct Mesh;

impl sim::Node for Mesh {
    type Machine = Tree;
    type Message = Said;
    type Seen = Output;

    fn received(from: Address, said: Said, _moment: Moment) -> Input {
        Input::Said { from: node(from), said }
    }

    fn effect(output: Output) -> Effect<Said, Output> {
        match output {
            Output::Send { to, said } => Effect::Send(Address(nodes().numbers[&to]), said),
            output => Effect::Seen(output),
        }
    }
}

fn begin(seed: u64, count: u32, faults: Faults, never_asks: bool) -> Sim<Mesh> {
    let make = move |birth: Birth<Tree>| {
        let Birth { address, life, moment, mut entropy, .. } = birth;
        // Whoever joins knows three others.
        let contact = |entropy: &mut Entropy| {
            node(Address(u32::try_from(entropy.below(u64::from(count))).unwrap()))
        };
        let contacts = (0..3).map(|_| contact(&mut entropy)).collect();
        let mut tree = Tree::new(node(address), life, entropy);
        tree.never_asks = never_asks;
        tree.handle(moment.now, Input::Join(contacts));
        tree
    };
    Sim::new(seed, count, faults, make)
}

fn lossy() -> Faults {
    Faults { loss: 0.05, delay_max: ms(50), ..Faults::NONE }
}

/// What a run has shown.
#[derive(Debug)]
struct Shown {
    /// The part of those who were there all the time that have all messages, in thousandths.
    whole: u64,
    /// How many messages the publisher has sent for each that it has published.
    sent: u64,
    /// The most that any node has sent for each.
    most: u64,
    /// How many of those who came in between have all that was published after.
    returned: u64,
    crashed: u64,
    acked: u64,
}

/// Publishes to an audience of which a tenth crashes and comes back meanwhile.
fn broadcast(seed: u64, count: u32, messages: u64, never_asks: bool) -> Shown {
    let mut sim = begin(seed, count, lossy(), never_asks);
    let mut dice = Entropy::from_seed(seed ^ 0xfeed);
    sim.run_until(ms(15_000)).unwrap();
    sim.take_seen();
    let mut lives: BTreeMap<Address, u64> = BTreeMap::new();
    let mut down: Vec<Address> = Vec::new();
    let crashes = u64::from(count) / 10;
    let mut got: BTreeMap<Address, Vec<u64>> = BTreeMap::new();
    let mut acks: BTreeMap<NodeId, u64> = BTreeMap::new();
    let mut look = |sim: &mut Sim<Mesh>, acks: &mut BTreeMap<NodeId, u64>| {
        for sighting in sim.take_seen() {
            match sighting.what {
                Output::Deliver { sequence, .. } => {
                    got.entry(sighting.address).or_default().push(sequence);
                }
                Output::Acked { by, upto, .. } => {
                    let before = acks.entry(by).or_default();
                    *before = upto.max(*before);
                }
                Output::Gap { .. } => panic!("nobody has to miss anything: {sighting:?}"),
                Output::Send { .. } => unreachable!("it is an effect"),
            }
        }
    };
    for number in 0..messages {
        sim.input(PUBLISHER, |_| Input::Publish(Bytes::from(number.to_string())));
        for address in down.drain(..) {
            sim.start(address);
        }
        let due = crashes * (number + 1) / messages;
        while u64::try_from(lives.len()).unwrap() < due {
            let victim = Address(1 + u32::try_from(dice.below(u64::from(count - 1))).unwrap());
            if lives.insert(victim, number).is_none() {
                sim.crash(victim);
                down.push(victim);
            }
        }
        sim.run_until(sim.now() + ms(200)).unwrap();
        look(&mut sim, &mut acks);
    }
    down.into_iter().for_each(|address| sim.start(address));
    // They have half a minute for what is left.
    for _ in 0..30 {
        sim.run_until(sim.now() + ms(1_000)).unwrap();
        look(&mut sim, &mut acks);
    }
    let all: Vec<u64> = (1..=messages).collect();
    let stayed = (1..count).map(Address).filter(|address| !lives.contains_key(address));
    let (mut whole, mut there) = (0, 0);
    for address in stayed {
        there += 1;
        whole += u64::from(got.get(&address) == Some(&all));
    }
    let origin = Origin { node: node(PUBLISHER), life: 1 };
    let has_all = |address: &&Address| {
        sim.machine(**address).is_some_and(|tree| tree.has_upto(origin) == messages)
    };
    let returned = u64::try_from(lives.keys().filter(has_all).count()).unwrap();
    let payloads = |address: Address| sim.machine(address).map_or(0, |tree| tree.sent_payloads());
    let most = (0..count).map(|number| payloads(Address(number))).max().unwrap_or_default();
    let acked = acks.values().filter(|upto| **upto == messages).count();
    Shown {
        whole: whole * 1_000 / there,
        sent: payloads(PUBLISHER) / messages,
        most: most / messages,
        returned,
        crashed: u64::try_from(lives.len()).unwrap(),
        acked: u64::try_from(acked).unwrap(),
    }
}

fn is_full() -> bool {
    std::env::var_os("MACULA_PUBSUB_FULL").is_some()
}

/// Must-show 2 of the issue: 1,000 subscribers, 5 % loss, 10 % churn.
#[test]
fn a_thousand_subscribers_miss_nothing_and_cost_their_publisher_a_few_messages() {
    let (messages, seeds) = if is_full() { (200, 5) } else { (20, 1) };
    for seed in 0..seeds {
        let shown = broadcast(seed, 1_001, messages, false);
        println!("1,000 subscribers, {messages} messages, seed {seed}: {shown:?}");
        assert_eq!(shown.whole, 1_000, "{shown:?}");
        assert_eq!((shown.returned, shown.crashed), (100, 100), "{shown:?}");
        let most = u64::try_from(ACTIVE_MAX).unwrap() + 1;
        assert!(shown.sent <= most && shown.most <= most, "{shown:?}");
        assert_eq!(shown.acked, 1_000, "{shown:?}");
    }
}

#[test]
fn nodes_that_never_ask_for_what_others_have_are_found() {
    let misses = |never| broadcast(3, 200, 20, never).whole < 1_000;
    assert!(misses(true), "the planted bug is not found");
    assert!(!misses(false));
}

#[test]
fn one_who_comes_late_begins_where_the_publisher_does() {
    let mut sim = begin(4, 20, Faults { loss: 0.05, ..Faults::NONE }, false);
    sim.run_until(ms(5_000)).unwrap();
    sim.crash(Address(7));
    let kept = u64::try_from(KEPT_MAX).unwrap();
    for _ in 0..kept + 500 {
        sim.input(PUBLISHER, |_| Input::Publish(Bytes::from_static(b"x")));
        sim.run_until(sim.now() + ms(5)).unwrap();
    }
    sim.run_until(sim.now() + ms(5_000)).unwrap();
    sim.take_seen();
    sim.start(Address(7));
    sim.run_until(sim.now() + ms(60_000)).unwrap();
    let seen = sim.take_seen();
    let late = seen.into_iter().filter(|sighting| sighting.address == Address(7));
    let numbers: Vec<u64> = late
        .map(|sighting| match sighting.what {
            Output::Deliver { sequence, .. } => sequence,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(numbers.last(), Some(&(kept + 500)), "{}", numbers.len());
    let first = numbers[0];
    assert!((400..=600).contains(&first), "{first}");
    assert!(numbers.iter().copied().eq(first..=kept + 500));
}

#[test]
fn views_are_small_and_of_one_piece() {
    let mut sim = begin(5, 300, lossy(), false);
    sim.run_until(ms(20_000)).unwrap();
    let mut reached = std::collections::BTreeSet::from([node(PUBLISHER)]);
    let mut next = vec![PUBLISHER];
    while let Some(address) = next.pop() {
        let tree = sim.machine(address).unwrap();
        for neighbour in tree.neighbours() {
            if reached.insert(neighbour) {
                next.push(Address(nodes().numbers[&neighbour]));
            }
        }
    }
    assert_eq!(reached.len(), 300);
    assert!(sim.machines().all(|(_, tree)| tree.neighbours().count() <= ACTIVE_MAX));
}
