//! Who has a place, which circuits are open, and who has had its share.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::identity::{Keypair, NodeId};

use super::{Config, Denial, Ledger, NotCarried, pair};

fn node(number: u8) -> NodeId {
    Keypair::from_seed([number; 32]).node_id()
}

fn serving() -> Config {
    Config { serve: true, ..Config::default() }
}

#[test]
fn whoever_has_a_place_is_sent_to_and_answers() {
    let (mut ledger, now) = (Ledger::new(serving()), TokioClock.now());
    let (a, b, c) = (node(1), node(2), node(3));
    assert_eq!(ledger.carry(now, a, b, 100), Err(NotCarried::Absent));
    assert_eq!(ledger.reserve(now, b), Ok(serving().lifetime));
    assert_eq!(ledger.carry(now, b, a, 100), Err(NotCarried::Absent), "nobody has sent to it yet");
    assert_eq!(ledger.carry(now, a, b, 100), Ok(()));
    assert_eq!(ledger.carry(now, b, a, 100), Ok(()), "the answer goes the same way");
    assert_eq!(ledger.carry(now, b, c, 100), Err(NotCarried::Absent));
    assert_eq!(ledger.carry(now, b, b, 100), Err(NotCarried::Absent));
    assert_eq!((ledger.reservations(), ledger.circuits()), (1, 1));
}

#[test]
fn what_is_not_used_or_kept_ends() {
    let (mut ledger, mut now) = (Ledger::new(serving()), TokioClock.now());
    let (a, b) = (node(1), node(2));
    ledger.reserve(now, b).unwrap();
    for _ in 0..3 {
        now += serving().circuit_idle - Duration::from_secs(1);
        assert_eq!(ledger.carry(now, a, b, 1), Ok(()));
    }
    now += serving().circuit_idle;
    assert_eq!(ledger.carry(now, b, a, 1), Err(NotCarried::Absent), "the circuit was idle");
    now += serving().lifetime;
    assert_eq!(ledger.carry(now, a, b, 1), Err(NotCarried::Absent), "the place was not kept");
    assert!(ledger.nodes.is_empty() && ledger.timers.next().is_none());
}

#[test]
fn there_are_no_more_places_circuits_and_bytes_than_may_be() {
    let config = Config {
        reservations_max: 2,
        circuits_max: 3,
        circuits_per_node_max: 2,
        kib_per_s: 1,
        ..serving()
    };
    let (mut ledger, now) = (Ledger::new(config), TokioClock.now());
    for number in [1, 2, 1] {
        assert!(ledger.reserve(now, node(number)).is_ok());
    }
    assert_eq!(ledger.reserve(now, node(3)), Err(Denial::Full(2)));
    assert_eq!(ledger.carry(now, node(11), node(1), 1), Ok(()));
    assert_eq!(ledger.carry(now, node(12), node(1), 1), Ok(()));
    assert_eq!(ledger.carry(now, node(13), node(1), 1), Err(NotCarried::Circuits), "of the node");
    assert_eq!(ledger.carry(now, node(13), node(2), 1), Ok(()));
    assert_eq!(ledger.carry(now, node(14), node(2), 1), Err(NotCarried::Circuits), "in all");
    // Two KiB at once, and one more each second.
    assert_eq!(ledger.carry(now, node(11), node(1), 2_047), Ok(()));
    assert_eq!(ledger.carry(now, node(11), node(1), 1), Err(NotCarried::Quota));
    assert_eq!(ledger.carry(now, node(12), node(1), 1), Ok(()), "another's share");
    let later = now + Duration::from_secs(1);
    assert_eq!(ledger.carry(later, node(11), node(1), 1_024), Ok(()));
    assert_eq!(ledger.carry(later, node(11), node(1), 1), Err(NotCarried::Quota));
}

#[test]
fn a_node_that_does_not_relay_gives_nothing() {
    let (mut ledger, now) = (Ledger::new(Config::default()), TokioClock.now());
    assert_eq!(ledger.reserve(now, node(1)), Err(Denial::Off));
    assert_eq!(ledger.carry(now, node(2), node(1), 1), Err(NotCarried::Absent));
}

/// The ledger against a plain account of the same: places and circuits with the times at which they
/// end.
#[test]
fn the_ledger_keeps_a_plain_account() {
    let config = Config {
        reservations_max: 3,
        circuits_max: 6,
        circuits_per_node_max: 3,
        kib_per_s: 4_194_303,
        ..serving()
    };
    for seed in 0..300 {
        let (mut ledger, mut entropy) = (Ledger::new(config), Entropy::from_seed(seed));
        let mut now: Instant = TokioClock.now();
        let (mut places, mut circuits) = (BTreeMap::new(), BTreeMap::new());
        for _ in 0..300 {
            now += Duration::from_secs(entropy.below(40));
            places.retain(|_, until| *until > now);
            circuits.retain(|_, used: &mut Instant| *used + config.circuit_idle > now);
            let mut any = || node(u8::try_from(entropy.below(6)).unwrap() + 1);
            let (from, to) = (any(), any());
            match entropy.below(6) {
                0 => {
                    let expected = places.contains_key(&from) || places.len() < 3;
                    assert_eq!(ledger.reserve(now, from).is_ok(), expected, "seed {seed}");
                    if expected {
                        places.insert(from, now + config.lifetime);
                    }
                }
                1 => {
                    ledger.release(from);
                    places.remove(&from);
                }
                _ => {
                    let of =
                        |node| circuits.keys().filter(|(a, b)| *a == node || *b == node).count();
                    let expected = if circuits.contains_key(&pair(from, to)) {
                        Ok(())
                    } else if from == to || !places.contains_key(&to) {
                        Err(NotCarried::Absent)
                    } else if circuits.len() >= 6 || of(from) >= 3 || of(to) >= 3 {
                        Err(NotCarried::Circuits)
                    } else {
                        Ok(())
                    };
                    assert_eq!(ledger.carry(now, from, to, 10), expected, "seed {seed}");
                    if expected.is_ok() {
                        circuits.insert(pair(from, to), now);
                    }
                }
            }
            ledger.expire(now);
            let counts = (ledger.reservations(), ledger.circuits());
            assert_eq!(counts, (places.len(), circuits.len()), "seed {seed}");
            let known: BTreeSet<NodeId> =
                places.keys().copied().chain(circuits.keys().flat_map(|(a, b)| [*a, *b])).collect();
            assert_eq!(ledger.nodes.keys().copied().collect::<BTreeSet<_>>(), known, "seed {seed}");
        }
    }
}
