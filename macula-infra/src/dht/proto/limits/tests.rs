//! Rate limits and demerits.

use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;

use super::{Config, Limits, Offence, Verdict};
use crate::dht::proto::requests::Misbehaviour;
use crate::dht::record::tests::keypair;
use crate::dht::signed::Refusal;

const SECOND: Duration = Duration::from_secs(1);

fn begin() -> Instant {
    TokioClock.now()
}

fn node(seed: u8) -> NodeId {
    keypair(seed).node_id()
}

fn config() -> Config {
    Config { rate_per_s: 10, burst: 20, ..Config::default() }
}

#[test]
fn a_peer_pays_for_what_it_asks_and_others_do_not() {
    let (mut limits, now) = (Limits::new(config()), begin());
    for _ in 0..5 {
        assert_eq!(limits.admit(now, node(1), 4), Verdict::Admitted);
    }
    let busy = Verdict::Busy { retry_in: Duration::from_millis(400) };
    assert_eq!(limits.admit(now, node(1), 4), busy);
    assert_eq!(limits.demerits(now, node(1)), 1);
    assert_eq!(limits.admit(now, node(2), 20), Verdict::Admitted);
    let then = now + Duration::from_millis(400);
    assert_eq!(limits.admit(then, node(1), 4), Verdict::Admitted);
    assert_eq!(limits.admit(now + 100 * SECOND, node(1), 20), Verdict::Admitted);
    let dear = limits.admit(now + 200 * SECOND, node(1), u32::MAX);
    assert_eq!(dear, Verdict::Admitted, "what costs more than all it may save empties the bucket");
}

#[test]
fn a_liar_is_ignored_for_a_while_and_then_for_longer() {
    let (mut limits, now) = (Limits::new(config()), begin());
    let id = node(1);
    assert!(!limits.blame(now, id, Offence::Forged));
    assert_eq!(limits.ignored(now, id), None);
    assert!(limits.blame(now, id, Offence::Forged));
    let left = Duration::from_secs(600);
    assert_eq!(limits.admit(now, id, 1), Verdict::Ignored { left });
    assert_eq!(limits.ignored(now, node(2)), None);
    let then = now + left;
    assert_eq!(limits.admit(then, id, 1), Verdict::Admitted);
    assert!(!limits.blame(then, id, Offence::Forged));
    assert!(limits.blame(then, id, Offence::Forged));
    assert_eq!(limits.ignored(then, id), Some(2 * left));
}

#[test]
fn demerits_go_with_time() {
    let (mut limits, now) = (Limits::new(config()), begin());
    let id = node(1);
    for minute in 0..20 {
        let blamed = limits.blame(now + minute * 500 * SECOND, id, Offence::Forged);
        assert!(!blamed, "one lie in 500 s is forgiven");
    }
    let then = now + 20 * 500 * SECOND;
    assert_eq!(limits.demerits(then + 600 * SECOND, id), 0);
}

#[test]
fn who_asks_without_end_is_ignored_at_last() {
    let (mut limits, now) = (Limits::new(config()), begin());
    let verdicts: Vec<Verdict> = (0..130).map(|_| limits.admit(now, node(1), 1)).collect();
    let busy = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Busy { .. })).count();
    assert_eq!(busy, 100);
    assert!(matches!(verdicts.last(), Some(Verdict::Ignored { .. })));
}

#[test]
fn the_number_of_peers_is_bounded_and_a_liar_is_remembered_first() {
    let (mut limits, now) = (Limits::new(Config { peers_max: 3, ..config() }), begin());
    assert!(!limits.blame(now, node(1), Offence::Forged));
    assert!(limits.blame(now, node(1), Offence::Forged));
    for seed in 2..50 {
        assert_eq!(limits.admit(now + SECOND, node(seed), 1), Verdict::Admitted);
        assert!(limits.len() <= 3 && limits.order.len() == limits.len());
    }
    assert!(limits.ignored(now + SECOND, node(1)).is_some());
}

#[test]
fn nobody_is_blamed_for_a_clock() {
    let ago = SECOND;
    assert_eq!(Offence::of(&Refusal::Expired { ago }), None);
    assert_eq!(Offence::of(&Refusal::Forged), Some(Offence::Forged));
    assert_eq!(Offence::of(&Refusal::FromTheFuture { ahead: ago }), None);
    assert_eq!(Offence::of(&Refusal::OtherRealm), Some(Offence::Malformed));
    assert_eq!(Offence::of_answer(Misbehaviour::WrongKind), Offence::WrongAnswer);
}
