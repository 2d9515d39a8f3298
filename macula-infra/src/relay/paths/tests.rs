//! Over which relay it goes, and when another is tried.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::identity::{Keypair, NodeId};

use super::{ASKED_EVERY, AT_ONCE_MAX, AVOIDED, NODES_MAX, Paths, RELAYS_MAX, SILENCE_MAX};

fn node(number: u16) -> NodeId {
    let [high, low] = number.to_be_bytes();
    let mut seed = [9; 32];
    (seed[0], seed[1]) = (high, low);
    Keypair::from_seed(seed).node_id()
}

const MS: Duration = Duration::from_millis(1);

/// Over which relays it goes, for a node without places.
fn over(paths: &mut Paths, now: Instant, node: NodeId) -> Vec<NodeId> {
    paths.way(now, node, &BTreeSet::new()).over
}

#[test]
fn the_way_back_is_the_way_that_something_came() {
    let (mut paths, now) = (Paths::default(), TokioClock.now());
    let (peer, one, two) = (node(0), node(1), node(2));
    let way = paths.way(now, peer, &BTreeSet::new());
    assert!(way.over.is_empty() && way.asks && way.waits);
    let way = paths.way(now, peer, &BTreeSet::from([two]));
    assert_eq!((way.over.as_slice(), way.asks, way.waits), (&[two][..], false, true));
    paths.resolved(now, peer, &[one, two]);
    let way = paths.way(now, peer, &BTreeSet::from([two]));
    assert_eq!((way.over.as_slice(), way.asks, way.waits), (&[one][..], false, false));
    paths.heard(now, peer, two);
    assert_eq!(over(&mut paths, now, peer), [two]);
    assert!(paths.leads(one, peer) && paths.leads(two, peer) && !paths.leads(node(3), peer));
    assert!(paths.uses(two) && !paths.uses(one) && paths.over(peer) == Some(two));
}

#[test]
fn when_nothing_is_heard_all_ways_are_tried_at_once_and_the_record_is_asked_for() {
    let (mut paths, mut now) = (Paths::default(), TokioClock.now());
    let (peer, one, two, place) = (node(0), node(1), node(2), node(3));
    let places = BTreeSet::from([two, place]);
    paths.resolved(now, peer, &[one, two]);
    assert_eq!(paths.way(now, peer, &places).over, [one]);
    now += SILENCE_MAX - MS;
    assert_eq!(paths.way(now, peer, &places).over, [one], "it has time yet");
    now += MS;
    let way = paths.way(now, peer, &places);
    assert_eq!((way.over.as_slice(), way.asks), (&[one, two, place][..], true));
    assert!(!paths.way(now, peer, &places).asks, "once in a while");
    assert!(paths.way(now + ASKED_EVERY, peer, &places).asks);
    // A new record does not say that anything arrives.
    paths.resolved(now, peer, &[one, two]);
    assert_eq!(paths.way(now, peer, &places).over, [one, two, place]);
    paths.heard(now, peer, place);
    let way = paths.way(now, peer, &places);
    assert_eq!((way.over.as_slice(), way.asks), (&[place][..], false));
    // What is not sent is not missed.
    paths.heard(now, peer, place);
    now += Duration::from_secs(60);
    assert_eq!(paths.way(now, peer, &places).over, [place]);
    let many: Vec<NodeId> = (1..20).map(node).collect();
    paths.resolved(now, peer, &many);
    assert_eq!(paths.way(now + SILENCE_MAX, peer, &places).over.len(), AT_ONCE_MAX);
}

#[test]
fn a_relay_that_does_not_lead_there_is_passed_over_for_a_while() {
    let (mut paths, now) = (Paths::default(), TokioClock.now());
    let (peer, other, one, two) = (node(0), node(5), node(1), node(2));
    paths.resolved(now, peer, &[one, two]);
    paths.resolved(now, other, &[two]);
    paths.refused(now, peer, one);
    paths.refused(now, peer, one);
    assert_eq!(over(&mut paths, now, peer), [two], "what is said twice counts once");
    paths.lost(now, two);
    let way = paths.way(now, other, &BTreeSet::new());
    assert!(way.over.is_empty() && way.asks && !way.waits);
    let places = BTreeSet::from([one, node(9)]);
    paths.refused(now, peer, two);
    assert_eq!(paths.way(now, peer, &places).over, [node(9)], "a place is tried");
    paths.refused(now, peer, node(9));
    assert_eq!(paths.way(now, peer, &places).over, [], "and not again");
    let later = now + AVOIDED;
    assert_eq!(over(&mut paths, later, other), [two]);
}

#[test]
fn what_is_remembered_has_bounds() {
    let (mut paths, mut now) = (Paths::default(), TokioClock.now());
    for number in 0..u16::try_from(NODES_MAX).unwrap() + 10 {
        now += MS;
        paths.heard(now, node(number), node(1));
    }
    assert_eq!(paths.nodes.len(), NODES_MAX);
    assert!(!paths.nodes.contains_key(&node(0)));
    for number in 0..100 {
        paths.heard(now, node(1), node(number));
        paths.refused(now, node(1), node(number + 100));
    }
    assert_eq!(paths.nodes[&node(1)].relays.len(), RELAYS_MAX);
}

/// Relays fail and come back by chance. As long as one of three leads to the peer, it is found as soon
/// as it has been silent for long enough.
#[test]
fn as_long_as_one_relay_leads_there_it_is_found_soon() {
    for seed in 0..200 {
        let mut entropy = Entropy::from_seed(seed);
        let (mut paths, mut now): (Paths, Instant) = (Paths::default(), TokioClock.now());
        let (peer, relays) = (node(0), [node(1), node(2), node(3)]);
        paths.resolved(now, peer, &relays);
        for _ in 0..50 {
            let good = relays[usize::try_from(entropy.below(3)).unwrap()];
            let begun = now;
            while !over(&mut paths, now, peer).contains(&good) {
                now += 50 * MS;
            }
            paths.heard(now, peer, good);
            let took = now - begun;
            assert!(took <= SILENCE_MAX, "seed {seed}: {took:?}");
            now += Duration::from_millis(entropy.below(10_000));
        }
    }
}
