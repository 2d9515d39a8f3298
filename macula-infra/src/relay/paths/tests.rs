//! Over which relay it goes, and when another is tried.

use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::identity::{Keypair, NodeId};

use super::{AVOIDED, NODES_MAX, Paths, RELAYS_MAX, SILENCE_MAX, Way};

fn node(number: u16) -> NodeId {
    let [high, low] = number.to_be_bytes();
    let mut seed = [9; 32];
    (seed[0], seed[1]) = (high, low);
    Keypair::from_seed(seed).node_id()
}

#[test]
fn the_way_back_is_the_way_that_something_came() {
    let (mut paths, now) = (Paths::default(), TokioClock.now());
    let (peer, one, two) = (node(0), node(1), node(2));
    assert_eq!(paths.way(now, peer), Way::Unknown);
    paths.resolved(now, peer, &[one, two]);
    assert_eq!(paths.way(now, peer), Way::Over(one));
    paths.heard(now, peer, two);
    assert_eq!(paths.way(now, peer), Way::Over(two));
    assert!(paths.leads(one, peer) && paths.leads(two, peer) && !paths.leads(node(3), peer));
}

#[test]
fn a_silent_way_is_left_for_the_next_and_in_the_end_the_record_is_asked_for() {
    let (mut paths, mut now) = (Paths::default(), TokioClock.now());
    let (peer, one, two) = (node(0), node(1), node(2));
    paths.resolved(now, peer, &[one, two]);
    assert_eq!(paths.way(now, peer), Way::Over(one));
    now += SILENCE_MAX / 2;
    assert_eq!(paths.way(now, peer), Way::Over(one), "it has time yet");
    now += SILENCE_MAX / 2;
    assert_eq!(paths.way(now, peer), Way::Over(two));
    now += SILENCE_MAX;
    assert_eq!(paths.way(now, peer), Way::Unknown, "both were tried");
    // What is heard in time keeps a way; what is not sent is not missed.
    paths.resolved(now, peer, &[one, two]);
    for _ in 0..10 {
        let Way::Over(over) = paths.way(now, peer) else { panic!("no way") };
        now += SILENCE_MAX / 2;
        paths.heard(now, peer, over);
        now += Duration::from_secs(60);
        assert_eq!(paths.way(now, peer), Way::Over(over));
        paths.heard(now, peer, over);
    }
}

#[test]
fn a_relay_that_does_not_lead_there_is_passed_over_for_a_while() {
    let (mut paths, now) = (Paths::default(), TokioClock.now());
    let (peer, other, one, two) = (node(0), node(5), node(1), node(2));
    paths.resolved(now, peer, &[one, two]);
    paths.resolved(now, other, &[two]);
    paths.refused(now, peer, one);
    paths.refused(now, peer, one);
    assert_eq!(paths.way(now, peer), Way::Over(two), "what is said twice counts once");
    paths.lost(now, two);
    assert_eq!((paths.way(now, peer), paths.way(now, other)), (Way::Unknown, Way::Unknown));
    let later = now + AVOIDED;
    assert!(matches!(paths.way(later, peer), Way::Over(_)));
    assert_eq!(paths.way(later, other), Way::Over(two));
}

#[test]
fn what_is_remembered_has_bounds() {
    let (mut paths, mut now) = (Paths::default(), TokioClock.now());
    for number in 0..u16::try_from(NODES_MAX).unwrap() + 10 {
        now += Duration::from_millis(1);
        paths.heard(now, node(number), node(1));
    }
    assert_eq!(paths.0.len(), NODES_MAX);
    assert!(!paths.0.contains_key(&node(0)));
    for number in 0..100 {
        paths.heard(now, node(1), node(number));
    }
    assert_eq!(paths.0[&node(1)].relays.len(), RELAYS_MAX);
}

/// Relays fail and come back by chance. As long as one of three leads to the peer, it is found within
/// three silences.
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
            loop {
                match paths.way(now, peer) {
                    Way::Over(relay) if relay == good => break paths.heard(now, peer, relay),
                    Way::Over(_) => {}
                    Way::Unknown => paths.resolved(now, peer, &relays),
                }
                now += Duration::from_millis(50);
            }
            let took = now - begun;
            assert!(took <= SILENCE_MAX * 3, "seed {seed}: {took:?}");
            now += Duration::from_millis(entropy.below(10_000));
        }
    }
}
