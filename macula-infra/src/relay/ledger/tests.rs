//! Who has a place, which circuits are open, and who has had its share.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::identity::{Keypair, NodeId};

use super::{Config, Denial, GRACE, Ledger, NotCarried, Realm, pair};

fn node(number: u8) -> NodeId {
    Keypair::from_seed([number; 32]).node_id()
}

/// A realm of an authority, with these names.
fn realm(authority: &str, names: u8) -> Realm {
    Realm::new(authority.into(), [names; 32])
}

fn home() -> Realm {
    realm("home", 0)
}

/// Reserves in one realm.
fn reserve(ledger: &mut Ledger, now: Instant, node: NodeId) -> Result<Duration, Denial> {
    ledger.reserve(now, node, &home())
}

/// Carries in one realm.
fn carry(
    ledger: &mut Ledger,
    now: Instant,
    from: NodeId,
    to: NodeId,
    len: usize,
) -> Result<(), NotCarried> {
    ledger.carry(now, (from, &home()), to, len)
}

fn serving() -> Config {
    Config { serve: true, ..Config::default() }
}

#[test]
fn whoever_has_a_place_is_sent_to_and_answers() {
    let (mut ledger, now) = (Ledger::new(serving()), TokioClock.now());
    let (a, b, c) = (node(1), node(2), node(3));
    assert_eq!(carry(&mut ledger, now, a, b, 100), Err(NotCarried::Absent));
    assert_eq!(reserve(&mut ledger, now, b), Ok(serving().lifetime));
    assert_eq!(
        carry(&mut ledger, now, b, a, 100),
        Err(NotCarried::Absent),
        "nobody has sent to it yet"
    );
    assert_eq!(carry(&mut ledger, now, a, b, 100), Ok(()));
    assert_eq!(carry(&mut ledger, now, b, a, 100), Ok(()), "the answer goes the same way");
    assert_eq!(carry(&mut ledger, now, b, c, 100), Err(NotCarried::Absent));
    assert_eq!(carry(&mut ledger, now, b, b, 100), Err(NotCarried::Absent));
    assert_eq!((ledger.reservations(), ledger.circuits()), (1, 1));
}

#[test]
fn what_is_not_used_or_kept_ends() {
    let (mut ledger, mut now) = (Ledger::new(serving()), TokioClock.now());
    let (a, b) = (node(1), node(2));
    reserve(&mut ledger, now, b).unwrap();
    for _ in 0..3 {
        now += serving().circuit_idle - Duration::from_secs(1);
        assert_eq!(carry(&mut ledger, now, a, b, 1), Ok(()));
    }
    now += serving().circuit_idle;
    assert_eq!(carry(&mut ledger, now, b, a, 1), Err(NotCarried::Absent), "the circuit was idle");
    now += serving().lifetime;
    assert_eq!(carry(&mut ledger, now, a, b, 1), Err(NotCarried::Absent), "the place was not kept");
    assert!(is_empty(&ledger));
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
        assert!(reserve(&mut ledger, now, node(number)).is_ok());
    }
    assert_eq!(reserve(&mut ledger, now, node(3)), Err(Denial::Full));
    assert_eq!(carry(&mut ledger, now, node(11), node(1), 1), Ok(()));
    assert_eq!(carry(&mut ledger, now, node(12), node(1), 1), Ok(()));
    assert_eq!(
        carry(&mut ledger, now, node(13), node(1), 1),
        Err(NotCarried::Circuits),
        "of the node"
    );
    assert_eq!(carry(&mut ledger, now, node(13), node(2), 1), Ok(()));
    assert_eq!(carry(&mut ledger, now, node(14), node(2), 1), Err(NotCarried::Circuits), "in all");
    // Two KiB at once, and one more each second.
    assert_eq!(carry(&mut ledger, now, node(11), node(1), 2_047), Ok(()));
    assert_eq!(carry(&mut ledger, now, node(11), node(1), 1), Err(NotCarried::Quota));
    assert_eq!(carry(&mut ledger, now, node(12), node(1), 1), Ok(()), "another's share");
    let later = now + Duration::from_secs(1);
    assert_eq!(carry(&mut ledger, later, node(11), node(1), 1_024), Ok(()));
    assert_eq!(carry(&mut ledger, later, node(11), node(1), 1), Err(NotCarried::Quota));
}

#[test]
fn a_node_that_does_not_relay_gives_nothing() {
    let (mut ledger, now) = (Ledger::new(Config::default()), TokioClock.now());
    assert_eq!(reserve(&mut ledger, now, node(1)), Err(Denial::Off));
    assert_eq!(carry(&mut ledger, now, node(2), node(1), 1), Err(NotCarried::Absent));
}

fn is_empty(ledger: &Ledger) -> bool {
    ledger.nodes.is_empty() && ledger.realms.is_empty() && ledger.timers.next().is_none()
}

#[test]
fn the_place_of_a_lost_connection_is_kept_for_a_while() {
    let (mut ledger, now) = (Ledger::new(serving()), TokioClock.now());
    let (a, b) = (node(1), node(2));
    reserve(&mut ledger, now, b).unwrap();
    ledger.lapse(now, b);
    ledger.lapse(now, a);
    let later = now + GRACE - Duration::from_millis(1);
    assert_eq!(carry(&mut ledger, later, a, b, 1), Ok(()));
    reserve(&mut ledger, later, b).unwrap();
    ledger.expire(now + GRACE);
    assert_eq!(ledger.reservations(), 1, "it is back");
    ledger.lapse(later, b);
    // A second loss does not make it last longer.
    ledger.lapse(later + GRACE / 2, b);
    ledger.expire(later + GRACE);
    assert_eq!(ledger.reservations(), 0);
}

#[test]
fn nothing_crosses_realms_and_each_has_its_share() {
    let config = Config {
        reservations_max: 3,
        reservations_per_realm_max: 2,
        circuits_per_realm_max: 2,
        kib_per_s: 1,
        realm_kib_per_s: 1,
        ..serving()
    };
    let (mut ledger, now) = (Ledger::new(config), TokioClock.now());
    let (home, away) = (home(), realm("away", 0));
    ledger.reserve(now, node(1), &home).unwrap();
    ledger.reserve(now, node(2), &home).unwrap();
    assert_eq!(ledger.reserve(now, node(3), &home), Err(Denial::RealmFull));
    ledger.reserve(now, node(4), &away).unwrap();
    assert_eq!(ledger.reserve(now, node(5), &away), Err(Denial::Full));
    let mut carry = |from, realm, to, len| ledger.carry(now, (node(from), realm), node(to), len);
    assert_eq!(carry(4, &away, 1, 1), Err(NotCarried::Absent), "as if it had no place");
    assert_eq!(carry(11, &home, 1, 2_000), Ok(()));
    assert_eq!(carry(12, &home, 1, 49), Err(NotCarried::RealmQuota), "of two KiB at once");
    assert_eq!(carry(12, &home, 1, 48), Ok(()), "what was refused cost nothing");
    assert_eq!(carry(13, &home, 1, 1), Err(NotCarried::Circuits), "of the realm");
    assert_eq!(carry(14, &away, 4, 2_000), Ok(()), "another realm's share");
    let long = now + config.circuit_idle + config.lifetime;
    ledger.expire(long);
    ledger.expire(long + config.circuit_idle);
    assert!(is_empty(&ledger));
}

#[test]
fn tenants_of_one_authority_are_kept_apart_and_share_what_it_has() {
    let config = Config { reservations_per_realm_max: 2, realm_kib_per_s: 1, ..serving() };
    let (mut ledger, now) = (Ledger::new(config), TokioClock.now());
    let (games, shops) = (realm("home", 1), realm("home", 2));
    ledger.reserve(now, node(1), &games).unwrap();
    ledger.reserve(now, node(2), &shops).unwrap();
    let another = realm("home", 3);
    assert_eq!(ledger.reserve(now, node(3), &another), Err(Denial::RealmFull));
    for (from, realm, to) in [(11, &games, 2), (12, &shops, 1), (2, &shops, 1)] {
        let carried = ledger.carry(now, (node(from), realm), node(to), 1);
        assert_eq!(carried, Err(NotCarried::Absent), "as if it had no place");
        assert!(ledger.crosses((node(from), realm), node(to)));
    }
    assert_eq!(ledger.carry(now, (node(11), &games), node(1), 2_000), Ok(()));
    assert!(!ledger.crosses((node(11), &games), node(1)));
    let more = ledger.carry(now, (node(12), &shops), node(2), 49);
    assert_eq!(more, Err(NotCarried::RealmQuota), "of two KiB at once");
    // Whoever says another name while it takes part stays where it is.
    assert_eq!(ledger.carry(now, (node(2), &games), node(1), 1), Err(NotCarried::Absent));
}

#[test]
fn a_circuit_has_its_time_and_after_a_pause_another() {
    let lifetime = Duration::from_secs(30);
    let config = Config { circuit_lifetime: Some(lifetime), ..serving() };
    let (mut ledger, now) = (Ledger::new(config), TokioClock.now());
    let (a, b) = (node(1), node(2));
    reserve(&mut ledger, now, b).unwrap();
    let at = |ms| now + Duration::from_millis(ms);
    for ms in [0, 29_999] {
        assert_eq!(carry(&mut ledger, at(ms), a, b, 1), Ok(()));
    }
    for ms in [30_000, 60_000, 89_998] {
        assert_eq!(carry(&mut ledger, at(ms), a, b, 1), Err(NotCarried::Time));
        assert_eq!(carry(&mut ledger, at(ms), b, a, 1), Err(NotCarried::Time));
    }
    assert_eq!(carry(&mut ledger, at(89_999), a, b, 1), Ok(()), "a minute after the last one");
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
        realm_kib_per_s: 4_194_303,
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
                    assert_eq!(reserve(&mut ledger, now, from).is_ok(), expected, "seed {seed}");
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
                    assert_eq!(carry(&mut ledger, now, from, to, 10), expected, "seed {seed}");
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
