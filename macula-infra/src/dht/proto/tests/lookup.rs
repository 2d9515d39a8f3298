//! Lookups: they end, they ask nobody twice, and they find the closest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::machine::Machine as _;
use proptest::prelude::*;

use super::super::density::Density;
use super::super::lookup::{Config, End, Input, Lookup, Outcome, Output, PEERS_MAX};
use super::super::peer::Peer;
use super::{Bug, begin, node, peer, peers};
use crate::contact::Contact;
use crate::dht::key::Key;
use crate::dht::simulated::Oracle;

fn key(number: u64) -> Key {
    Key::of_node(node(number))
}

fn config(k: usize, paths: usize) -> Config {
    Config { k, paths, ..Config::default() }
}

/// A lookup by somebody else than all peers.
fn lookup(seeds: &[Peer], config: Config) -> (Instant, Lookup) {
    let now = begin();
    (now, Lookup::new(now, key(1_000_000), key(2_000_000), seeds, config))
}

fn outputs(lookup: &mut Lookup) -> Vec<Output> {
    std::iter::from_fn(|| lookup.poll_output()).collect()
}

fn asks(lookup: &mut Lookup) -> Vec<(Peer, usize)> {
    let ask = |output| match output {
        Output::Ask { peer, path } => (peer, path),
        Output::Done(outcome) => panic!("over: {outcome:?}"),
    };
    outputs(lookup).into_iter().map(ask).collect()
}

fn done(lookup: &mut Lookup) -> Outcome {
    match outputs(lookup).pop() {
        Some(Output::Done(outcome)) => outcome,
        other => panic!("not over: {other:?}"),
    }
}

fn answered(peer: &Peer, peers: &[Peer]) -> Input {
    Input::Answered { node: peer.node(), peers: peers.to_vec(), found: false }
}

fn failed(peer: &Peer) -> Input {
    Input::Failed { node: peer.node() }
}

/// The peers in the order in which the lookup wants them.
fn sorted(mut peers: Vec<Peer>) -> Vec<Peer> {
    peers.sort_by_key(|peer| key(2_000_000).distance(&peer.key()));
    peers
}

#[test]
fn without_seeds_it_is_over_at_once() {
    let (_, mut lookup) = lookup(&[], config(20, 3));
    let outcome = done(&mut lookup);
    assert_eq!((outcome.end, outcome.asked, outcome.closest.len()), (End::Exhausted, 0, 0));
    assert_eq!(lookup.poll_timeout(), None);
}

#[test]
fn three_are_asked_at_one_time_and_all_that_are_left_in_the_end() {
    let seeds = sorted(peers(10));
    let (now, mut lookup) = lookup(&seeds, config(10, 1));
    let first = asks(&mut lookup);
    assert_eq!(first.iter().map(|(peer, _)| peer.clone()).collect::<Vec<_>>(), seeds[..3]);
    lookup.handle(now, answered(&seeds[0], &[]));
    lookup.handle(now, answered(&seeds[1], &seeds));
    assert_eq!(asks(&mut lookup).len(), 2);
    // Three answers have brought nobody closer.
    lookup.handle(now, answered(&seeds[2], &[]));
    assert_eq!(asks(&mut lookup).len(), 5);
    seeds[3..].iter().for_each(|peer| lookup.handle(now, answered(peer, &[])));
    let outcome = done(&mut lookup);
    assert_eq!(outcome.closest, seeds);
    assert_eq!((outcome.end, outcome.hops, outcome.messages), (End::Converged, 1, 20));
}

#[test]
fn who_fails_is_replaced_by_the_next() {
    let seeds = sorted(peers(6));
    let (now, mut lookup) = lookup(&seeds, config(2, 1));
    assert_eq!(asks(&mut lookup).len(), 2);
    lookup.handle(now, failed(&seeds[0]));
    assert_eq!(asks(&mut lookup), [(seeds[2].clone(), 0)]);
    lookup.handle(now, answered(&seeds[1], &[]));
    lookup.handle(now, answered(&seeds[2], &[]));
    let outcome = done(&mut lookup);
    assert_eq!((outcome.closest, outcome.failed), (seeds[1..3].to_vec(), 1));
}

#[test]
fn beside_a_slow_one_another_is_asked_and_the_slow_one_still_counts() {
    let seeds = sorted(peers(4));
    let (now, mut lookup) = lookup(&seeds, config(2, 1));
    assert_eq!(asks(&mut lookup).len(), 2);
    lookup.handle(now, Input::Slow { node: seeds[0].node() });
    assert_eq!(asks(&mut lookup), [(seeds[2].clone(), 0)]);
    lookup.handle(now, answered(&seeds[1], &[]));
    lookup.handle(now, answered(&seeds[2], &[]));
    assert_eq!(asks(&mut lookup), []);
    lookup.handle(now, answered(&seeds[0], &[]));
    assert_eq!(done(&mut lookup).closest, seeds[..2]);
}

#[test]
fn paths_believe_only_their_own() {
    let all = sorted(peers(9));
    let (now, mut lookup) = lookup(&all[6..], config(4, 3));
    let first = asks(&mut lookup);
    assert_eq!(first.iter().map(|(_, path)| *path).collect::<Vec<_>>(), [0, 1, 2]);
    // The first two paths hear of the same node; one of them asks it.
    lookup.handle(now, answered(&all[6], &all[..1]));
    assert_eq!(asks(&mut lookup), [(all[0].clone(), 0)]);
    lookup.handle(now, answered(&all[7], &all[..1]));
    assert_eq!(asks(&mut lookup), []);
    // What it says is heard on the path on which it was asked.
    lookup.handle(now, answered(&all[0], &all[1..2]));
    assert_eq!(asks(&mut lookup), [(all[1].clone(), 0)]);
    lookup.handle(now, answered(&all[1], &[]));
    lookup.handle(now, failed(&all[8]));
    let outcome = done(&mut lookup);
    assert_eq!(outcome.closest, [&all[..2], &all[6..8]].concat());
    assert_eq!(outcome.hops, 3);
}

#[test]
fn false_addresses_do_not_crowd_out_the_true_ones() {
    let seeds = sorted(peers(4));
    let (now, mut lookup) = lookup(&seeds[1..], Config { alpha: 2, ..config(4, 1) });
    let lie = Peer::new(Contact::new(
        seeds[0].node(),
        (1..=8).map(|port| std::net::SocketAddr::from(([9, 9, 9, 9], port))),
    ));
    let first = asks(&mut lookup);
    lookup.handle(now, Input::Slow { node: first[0].0.node() });
    drop(asks(&mut lookup));
    lookup.handle(now, answered(&first[1].0, std::slice::from_ref(&lie)));
    let merged = lie.merged(&seeds[0]);
    assert_eq!(merged.contact().addresses.len(), 8);
    assert_eq!(merged.contact().addresses[1], seeds[0].address().unwrap());
    assert_eq!(asks(&mut lookup)[0].0.node(), lie.node());
}

#[test]
fn nonsense_is_dropped_and_counted() {
    let seeds = sorted(peers(2));
    let (now, mut lookup) = lookup(&seeds, config(20, 1));
    let own = Peer::new(Contact::new(node(1_000_000), seeds[0].address()));
    let nowhere = Peer::new(Contact::new(node(77), []));
    let portless = Peer::new(Contact::new(node(78), ["1.1.1.1:0".parse().unwrap()]));
    let mut nonsense = vec![own, nowhere, portless];
    nonsense.extend((0..40).map(|_| seeds[1].clone()));
    lookup.handle(now, answered(&seeds[0], &nonsense));
    // Nobody has asked these.
    lookup.handle(now, answered(&peer(99, 99 << 8 | 1), &peers(20)));
    lookup.handle(now, failed(&peer(98, 98 << 8 | 1)));
    lookup.handle(now, answered(&seeds[1], &[]));
    lookup.handle(now, answered(&seeds[1], &peers(9)));
    let outcome = done(&mut lookup);
    assert_eq!(outcome.refused, 3 + 43 - PEERS_MAX);
    assert_eq!((outcome.asked, outcome.end), (2, End::Exhausted));
}

#[test]
fn a_value_ends_it_at_its_quorum_or_when_the_caller_has_enough() {
    let seeds = sorted(peers(9));
    let found = |peer: &Peer| Input::Answered { node: peer.node(), peers: vec![], found: true };
    let (now, mut one) = lookup(&seeds, Config { quorum: Some(2), ..config(9, 1) });
    one.handle(now, found(&seeds[0]));
    assert_eq!(asks(&mut one).len(), 4);
    one.handle(now, found(&seeds[1]));
    let outcome = done(&mut one);
    assert_eq!((outcome.end, outcome.found), (End::Enough, 2));
    let (now, mut other) = lookup(&seeds, config(9, 1));
    other.handle(now, found(&seeds[0]));
    assert_eq!(asks(&mut other).len(), 4);
    other.handle(now, Input::Enough);
    assert_eq!(done(&mut other).end, End::Enough);
    other.handle(now, Input::Enough);
    assert_eq!(outputs(&mut other), []);
}

#[test]
fn a_deadline_ends_it_with_what_it_has() {
    let seeds = sorted(peers(9));
    let (now, mut lookup) = lookup(&seeds, config(9, 1));
    lookup.handle(now, answered(&seeds[0], &[]));
    drop(asks(&mut lookup));
    let (at, reason) = lookup.poll_timeout().unwrap();
    assert_eq!((at, reason), (now + Duration::from_secs(30), "lookup deadline"));
    lookup.handle_timeout(at - Duration::from_millis(1));
    assert_eq!(asks(&mut lookup), []);
    lookup.handle_timeout(at);
    let outcome = done(&mut lookup);
    assert_eq!((outcome.end, outcome.closest), (End::Deadline, seeds[..1].to_vec()));
}

fn below(dice: &mut Entropy, bound: usize) -> usize {
    usize::try_from(dice.below(u64::try_from(bound).unwrap())).unwrap()
}

/// How nodes of a random world answer.
#[derive(Debug, Clone, Copy)]
enum World {
    /// All of them know all others.
    Honest,
    /// Each says whatever: anybody, nobody, or nonsense.
    Random,
    /// All name themselves and the next, in a circle.
    Cyclic,
    /// The even ones name only one another.
    Colluding,
}

fn world() -> impl Strategy<Value = World> {
    prop_oneof![
        Just(World::Honest),
        Just(World::Random),
        Just(World::Cyclic),
        Just(World::Colluding),
    ]
}

struct Run {
    world: World,
    all: Vec<Peer>,
    oracle: Oracle,
    even: Oracle,
    dice: Entropy,
    /// The probability that a node does not answer.
    silent: f64,
}

impl Run {
    fn new(world: World, count: u32, seed: u64, silent: f64) -> Self {
        let all = peers(count);
        let even = Oracle::new(all.iter().step_by(2).cloned());
        let dice = Entropy::from_seed(seed);
        Self { world, oracle: Oracle::new(all.iter().cloned()), even, all, dice, silent }
    }

    fn any(&mut self) -> Peer {
        let at = below(&mut self.dice, self.all.len());
        self.all[at].clone()
    }

    fn answer(&mut self, node: NodeId, target: Key) -> Vec<Peer> {
        let at = self.all.iter().position(|peer| peer.node() == node).unwrap();
        match self.world {
            World::Honest => self.oracle.closest(target, PEERS_MAX),
            World::Colluding if at % 2 == 0 => self.even.closest(target, PEERS_MAX),
            World::Colluding => self.oracle.closest(target, PEERS_MAX),
            World::Random => (0..self.dice.below(30)).map(|_| self.any()).collect(),
            World::Cyclic => {
                vec![self.all[at].clone(), self.all[(at + 1) % self.all.len()].clone()]
            }
        }
    }

    /// Runs a lookup to its end, with answers in any order, and checks it on the way.
    fn lookup(&mut self, config: Config, bug: Option<Bug>) -> Result<Outcome, TestCaseError> {
        let (now, own) = (begin(), self.all[0].clone());
        let target = key(2_000_000 + self.dice.below(1_000));
        let seeds: Vec<Peer> = (0..5).map(|_| self.any()).collect();
        let mut lookup = Lookup::idle(now, own.key(), target, config.clone());
        lookup.bug = bug;
        lookup.seed(&seeds);
        lookup.step();
        let (mut asked, mut waiting) = (BTreeMap::new(), Vec::new());
        loop {
            for output in outputs(&mut lookup) {
                match output {
                    Output::Ask { peer, path } => {
                        prop_assert!(peer.node() != own.node(), "it asks itself");
                        prop_assert!(path < config.paths);
                        let before = asked.insert(peer.node(), path);
                        prop_assert!(before.is_none(), "it asks a node twice");
                        waiting.push(peer);
                    }
                    Output::Done(outcome) => {
                        prop_assert!(outcome.asked == asked.len());
                        prop_assert!(asked.len() <= config.asks_max.max(config.paths));
                        prop_assert!(outcome.closest.len() <= config.k);
                        return Ok(outcome);
                    }
                }
            }
            prop_assert!(!waiting.is_empty(), "it waits for nobody");
            let at = below(&mut self.dice, waiting.len());
            let node = waiting[at].node();
            if self.dice.chance(0.2) {
                lookup.handle(now, Input::Slow { node });
                continue;
            }
            waiting.swap_remove(at);
            if self.dice.chance(self.silent) {
                lookup.handle(now, Input::Failed { node });
            } else {
                let peers = self.answer(node, target);
                lookup.handle(now, Input::Answered { node, peers, found: false });
            }
        }
    }

    /// Whether the outcome is what the oracle says, the one who asks aside.
    fn is_exact(&self, outcome: &Outcome, target: Key, k: usize) -> bool {
        let mut truth = self.oracle.closest(target, k + 1);
        truth.retain(|peer| peer.node() != self.all[0].node());
        truth.truncate(k);
        outcome.closest == truth
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_lookup_ends_whatever_it_is_told(
        world in world(), paths in 1..4_usize, seed: u64, silent in 0.0..1.0_f64,
        asks_max in 1..80_usize, population in prop::option::of(1.0..1e6_f64),
    ) {
        let config = Config { asks_max, population, ..config(8, paths) };
        Run::new(world, 60, seed, silent).lookup(config, None)?;
    }

    #[test]
    fn an_honest_mesh_is_searched_exactly(paths in 1..4_usize, seed: u64, k in 1..20_usize) {
        let mut run = Run::new(World::Honest, 60, seed, 0.0);
        let target = key(2_000_000 + run.dice.clone().below(1_000));
        let outcome = run.lookup(config(k, paths), None)?;
        prop_assert!(run.is_exact(&outcome, target, k));
        prop_assert!(outcome.hops <= 3);
    }
}

#[test]
fn a_lookup_that_ends_one_round_early_is_found() {
    let exact = |bug| {
        let mut run = Run::new(World::Honest, 60, 7, 0.0);
        let target = key(2_000_000 + run.dice.clone().below(1_000));
        let outcome = run.lookup(config(20, 1), bug).unwrap();
        run.is_exact(&outcome, target, 20)
    };
    assert!(exact(None));
    assert!(!exact(Some(Bug::EndsOneRoundEarly)));
}

#[test]
fn accomplices_are_found_out_by_their_density() {
    let all = sorted(peers(200));
    // Those who are closest but for a few are of one hand, and hide all others.
    let accomplices: Vec<Peer> = all.iter().skip(3).step_by(4).take(8).cloned().collect();
    let honest = all[60].clone();
    let seeds = [accomplices.clone(), vec![honest.clone()]].concat();
    let run = |population: Option<f64>| {
        let (now, mut lookup) = lookup(&seeds, Config { population, ..config(8, 1) });
        loop {
            for output in outputs(&mut lookup) {
                match output {
                    Output::Ask { peer, .. } if peer == honest => {
                        lookup.handle(now, answered(&peer, &all[..8]));
                    }
                    Output::Ask { peer, .. } => lookup.handle(now, answered(&peer, &accomplices)),
                    Output::Done(outcome) => return outcome,
                }
            }
        }
    };
    let (fooled, judged) = (run(None), run(Some(200.0)));
    assert_eq!((fooled.closest, fooled.density), (accomplices.clone(), Density::Likely));
    assert_eq!((judged.closest, judged.density), (all[..8].to_vec(), Density::Likely));
}

#[test]
fn outcomes_say_how_dense_they_are() {
    let mut run = Run::new(World::Honest, 200, 7, 0.0);
    let mut density = |population| {
        let config = Config { population: Some(population), ..config(20, 1) };
        run.lookup(config, None).unwrap().density
    };
    assert_eq!(density(200.0), Density::Likely);
    assert_eq!(density(2.0), Density::Dense);
    assert_eq!(density(20_000.0), Density::Sparse);
    let ids: BTreeSet<NodeId> = run.all.iter().map(Peer::node).collect();
    assert_eq!(ids.len(), 200);
}
