//! Over which relay it goes, and when another is tried.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::identity::{Keypair, NodeId};

use super::{
    ASKED_EVERY, AT_ONCE_MAX, AVOIDED, DOUBTED_EVERY, NODES_MAX, Paths, RELAYS_MAX, SILENCE_MAX,
};

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
    paths.heard(now, peer, two);
    let way = paths.way(now, peer, &places);
    assert_eq!((way.over.as_slice(), way.asks), (&[two][..], false));
    // What is not sent is not missed.
    paths.heard(now, peer, two);
    now += Duration::from_secs(60);
    assert_eq!(paths.way(now, peer, &places).over, [two]);
    let many: Vec<NodeId> = (1..20).map(node).collect();
    paths.resolved(now, peer, &many);
    assert_eq!(paths.way(now + SILENCE_MAX, peer, &places).over.len(), AT_ONCE_MAX);
}

/// It brings what it says is from the peer, and wants all that is for the peer.
#[test]
fn a_relay_that_the_peer_does_not_name_does_not_take_its_way_over() {
    let (mut paths, mut now) = (Paths::default(), TokioClock.now());
    let (peer, one, two, liar) = (node(0), node(1), node(2), node(3));
    let places = BTreeSet::from([liar]);
    // It is the first to be heard: the record is read all the same, and again if it could not be.
    paths.heard(now, peer, liar);
    let way = paths.way(now, peer, &places);
    assert_eq!((way.over.as_slice(), way.asks, way.waits), (&[liar][..], true, false));
    assert!(!paths.way(now, peer, &places).asks);
    now += DOUBTED_EVERY;
    paths.heard(now, peer, liar);
    assert!(paths.way(now, peer, &places).asks);
    paths.resolved(now, peer, &[one, two]);
    for _ in 0..100 {
        now += 500 * MS;
        paths.heard(now, peer, liar);
        let way = paths.way(now, peer, &places);
        assert_eq!((way.over.as_slice(), way.asks), (&[one][..], false));
    }
    // It is tried when nothing else leads there, and no longer than that.
    paths.refused(now, peer, one);
    paths.refused(now, peer, two);
    assert_eq!(paths.way(now, peer, &places).over, [liar]);
    paths.refused(now, peer, liar);
    paths.heard(now, peer, liar);
    paths.heard(now, peer, two);
    assert_eq!(paths.way(now, peer, &places).over, [two]);
    paths.heard(now, peer, liar);
    assert_eq!(paths.way(now, peer, &places).over, [two]);
}

#[test]
fn when_all_ways_are_tried_some_of_them_are_places_of_this_node() {
    let (mut paths, now) = (Paths::default(), TokioClock.now());
    let peer = node(0);
    let [named, places] = [1, 10].map(|from| (from..from + 4).map(node).collect::<Vec<_>>());
    paths.resolved(now, peer, &named);
    let places: BTreeSet<NodeId> = places.into_iter().collect();
    paths.way(now, peer, &places);
    let way = paths.way(now + SILENCE_MAX, peer, &places).over;
    let of_places = way.iter().filter(|relay| places.contains(relay)).count();
    assert_eq!((way.len(), of_places), (AT_ONCE_MAX, AT_ONCE_MAX / 2));
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
