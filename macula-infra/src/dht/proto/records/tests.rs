//! The store of records: what becomes of each put, and that it is never more than it may be.

mod model;

use std::time::Duration;

use bytes::Bytes;
use macula_core::entropy::Entropy;
use macula_core::identity::Envelope;
use macula_core::wire::{Limits, from_body, to_body};

use super::{Bound, Condition, Config, Output, PutOutcome, Records};
use crate::dht::key::{Key, RealmId};
use crate::dht::proto::time::Moment;
use crate::dht::record::tests::{NOW, begin, keypair, later, own, record, rules};
use crate::dht::record::{Record, Refusal, Signed, Verified};
use crate::dht::wire;

/// A bug that is put in on purpose, and has to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// An older sequence number replaces a newer one.
    TakesOlder,
    /// What is over is kept, and given to readers.
    NeverExpires,
    /// What was removed is counted for ever.
    LeaksRoom,
}

const HOUR: Duration = Duration::from_secs(3600);

fn store(config: Config) -> Records {
    Records::new(own(), config, Entropy::from_seed(1))
}

fn verified(record: &Record) -> Verified {
    let seed = (1..=9).find(|seed| keypair(*seed).node_id() == record.author).unwrap();
    record.sign(&keypair(seed)).unwrap().verify(NOW, None, &rules()).unwrap()
}

fn put(store: &mut Records, at: Moment, record: &Record) -> PutOutcome {
    store.put(at, &verified(record), Condition::Any)
}

fn outputs(store: &mut Records) -> Vec<Output> {
    std::iter::from_fn(|| store.poll_output()).collect()
}

/// What a node does with a record that a peer hands over.
fn receive(store: &mut Records, at: Moment, signed: &Signed) -> wire::OpResult {
    match signed.verify(at.since_epoch, None, &rules()) {
        Ok(verified) => store.put(at, &verified, Condition::Any).into(),
        Err(refusal) => refusal.into(),
    }
}

#[test]
fn a_node_that_stores_refuses_each_bad_record_with_its_own_error() {
    use wire::{OpResult, Refusal as Told};
    let (mut store, at) = (store(Config::default()), begin());
    let good = record(1, "name", 7);
    let mut give = |record: &Record| receive(&mut store, at, &record.sign(&keypair(1)).unwrap());
    assert_eq!(give(&good), OpResult::Kept { already: false });
    assert_eq!(give(&good), OpResult::Kept { already: true });
    let replayed = record(1, "name", 6);
    let other_realm = Record { realm: RealmId::named("other"), ..good.clone() };
    let oversized = Record { value: vec![0; 65_537].into(), ..good.clone() };
    let expired = Record { expires_at: NOW, ..good.clone() };
    let immortal = Record { expires_at: NOW + 100 * HOUR, ..good.clone() };
    let equivocal = Record { value: Bytes::from_static(b"other"), ..good.clone() };
    let told = [replayed, other_realm, oversized, expired, immortal, equivocal];
    assert_eq!(
        told.map(|record| give(&record)),
        [
            Told::Older { stored: 7 },
            Told::OtherRealm,
            Told::Oversized { len: 65_537, max: 65_536 },
            Told::Expired,
            Told::LivesTooLong,
            Told::Conflict { stored: 7 },
        ]
        .map(OpResult::Refused)
    );
    let forged = Envelope::seal(&keypair(1), "another context", "body");
    let forged = from_body(&to_body(&forged, 4096).unwrap(), &Limits::default()).unwrap();
    assert_eq!(receive(&mut store, at, &forged), OpResult::Refused(Told::Forged));
    let kept = store.get(at.now, &good.key()).unwrap();
    assert_eq!(kept.verify(NOW, Some(good.key()), &rules()).unwrap().record(), &good);
}

#[test]
fn a_reader_refuses_what_a_lying_node_gives() {
    let good = record(1, "name", 7);
    let signed = good.sign(&keypair(1)).unwrap();
    let read = |at, key| signed.verify(at, Some(key), &rules());
    assert!(read(NOW, good.key()).is_ok());
    let asked = record(1, "other", 7).key();
    assert_eq!(read(NOW, asked), Err(Refusal::WrongKey { belongs: good.key(), asked }));
    let ago = Duration::ZERO;
    assert_eq!(read(good.expires_at, good.key()), Err(Refusal::Expired { ago }));
    let older = verified(&record(1, "name", 6));
    assert!(verified(&good).supersedes(&older), "a replayed older one does not count");
}

#[test]
fn compare_and_set_takes_one_of_two() {
    let (mut store, at) = (store(Config::default()), begin());
    let mut put = |record: &Record, condition| store.put(at, &verified(record), condition);
    let first = record(1, "name", 1);
    let failed = |stored| PutOutcome::ConditionFailed { stored };
    assert_eq!(put(&first, Condition::Sequence(0)), failed(None));
    assert_eq!(put(&first, Condition::Absent), PutOutcome::Stored);
    assert_eq!(put(&first, Condition::Absent), PutOutcome::Same, "repeated without harm");
    assert_eq!(put(&record(2, "name", 1), Condition::Absent), failed(Some(1)));
    assert_eq!(put(&record(1, "name", 2), Condition::Sequence(1)), PutOutcome::Stored);
    assert_eq!(put(&record(1, "name", 2), Condition::Sequence(1)), PutOutcome::Same);
    assert_eq!(put(&record(2, "name", 2), Condition::Sequence(1)), failed(Some(2)));
    assert_eq!(put(&record(2, "name", 2), Condition::Any), PutOutcome::Conflict { stored: 2 });
    assert_eq!(put(&record(2, "name", 3), Condition::Sequence(2)), PutOutcome::Stored);
}

#[test]
fn a_record_ends_at_its_time_and_its_predecessor_does_not_come_back() {
    let (mut store, at) = (store(Config::default()), begin());
    let old = Record { expires_at: NOW + 40 * HOUR, ..record(1, "name", 1) };
    let new = Record { expires_at: NOW + HOUR, ..record(1, "name", 2) };
    assert_eq!(put(&mut store, at, &old), PutOutcome::Stored);
    assert_eq!(put(&mut store, at, &new), PutOutcome::Stored);
    let before = later(at, HOUR - Duration::from_millis(1));
    store.handle_timeout(before.now);
    assert!(store.get(before.now, &new.key()).is_some());
    let end = later(at, HOUR);
    assert!(store.get(end.now, &new.key()).is_none(), "before the deadline was seen to");
    store.handle_timeout(end.now);
    assert_eq!((store.len(), store.bytes()), (0, 0));
    assert_eq!(put(&mut store, end, &old), PutOutcome::Older { stored: 2 });
    assert_eq!(put(&mut store, later(at, 2 * HOUR), &new), PutOutcome::Expired);
    store.handle_timeout(later(at, 40 * HOUR).now);
    assert_eq!(store.poll_timeout(), None, "nothing is remembered for ever");
}

#[test]
fn what_came_before_two_successors_does_not_come_back_when_both_have_ended() {
    let (mut store, at) = (store(Config::default()), begin());
    let minute = HOUR / 60;
    let of = |sequence, until| Record { expires_at: NOW + until, ..record(1, "name", sequence) };
    let (old, second, third) = (of(1, HOUR), of(2, 10 * minute), of(3, 25 * minute));
    assert_eq!(put(&mut store, at, &old), PutOutcome::Stored);
    assert_eq!(put(&mut store, at, &second), PutOutcome::Stored);
    let at_15 = later(at, 15 * minute);
    store.handle_timeout(at_15.now);
    assert_eq!(put(&mut store, at_15, &third), PutOutcome::Stored);
    let at_30 = later(at, 30 * minute);
    store.handle_timeout(at_30.now);
    assert_eq!(put(&mut store, at_30, &old), PutOutcome::Older { stored: 3 });
    store.handle_timeout(later(at, HOUR).now);
    assert_eq!(store.poll_timeout(), None, "nothing is remembered for ever");
}

#[test]
fn what_has_given_way_comes_back_and_what_it_has_replaced_does_not() {
    let (mut store, at) = (store(Config { count_max: 1, ..Config::default() }), begin());
    let names = ["a", "b", "c", "d"].map(|name| (record(1, name, 1).key(), name));
    let near = names.iter().max_by_key(|(key, _)| own().common_prefix(key)).unwrap();
    let far = names.iter().min_by_key(|(key, _)| own().common_prefix(key)).unwrap();
    assert!(own().common_prefix(&near.0) > own().common_prefix(&far.0));
    let of = |name: &str, sequence, hours| Record {
        expires_at: NOW + hours * HOUR,
        ..record(1, name, sequence)
    };
    let (old, new) = (of(far.1, 1, 9), of(far.1, 2, 8));
    assert_eq!(put(&mut store, at, &old), PutOutcome::Stored);
    assert_eq!(put(&mut store, at, &new), PutOutcome::Stored);
    assert_eq!(put(&mut store, at, &of(near.1, 1, 1)), PutOutcome::Stored);
    assert!(store.get(at.now, &new.key()).is_none(), "it has given way");
    let end = later(at, HOUR);
    store.handle_timeout(end.now);
    assert_eq!(put(&mut store, end, &old), PutOutcome::Older { stored: 2 });
    let other = Record { value: Bytes::from_static(b"other"), ..new.clone() };
    assert_eq!(put(&mut store, end, &other), PutOutcome::Conflict { stored: 2 });
    assert_eq!(put(&mut store, end, &new), PutOutcome::Stored);
    assert_eq!(put(&mut store, end, &old), PutOutcome::Older { stored: 2 });
}

#[test]
fn a_record_is_replicated_every_hour_unless_it_came_in_lately() {
    let (mut store, at) = (store(Config::default()), begin());
    let record = Record { expires_at: NOW + 40 * HOUR, ..record(1, "name", 1) };
    let key = record.key();
    assert_eq!(put(&mut store, at, &record), PutOutcome::Stored);
    let (due, reason) = store.poll_timeout().unwrap();
    assert_eq!(reason, "replicate");
    let wait = due - at.now;
    assert!(wait >= HOUR.mul_f64(0.75) && wait <= HOUR.mul_f64(1.25), "{wait:?}");
    let shortly_before = later(at, wait - Duration::from_secs(1));
    assert_eq!(put(&mut store, shortly_before, &record), PutOutcome::Same);
    store.handle_timeout(due);
    assert_eq!(outputs(&mut store), []);
    let (due, _) = store.poll_timeout().unwrap();
    assert!(due >= shortly_before.now + HOUR.mul_f64(0.75));
    store.handle_timeout(due);
    assert_eq!(outputs(&mut store), [Output::Replicate { key }]);
    let (again, _) = store.poll_timeout().unwrap();
    assert!(again >= due + HOUR.mul_f64(0.75), "it goes on");
}

#[test]
fn the_far_give_way_to_the_near_and_the_near_never_to_the_far() {
    let (mut store, at) = (store(Config { count_max: 3, ..Config::default() }), begin());
    let mut records: Vec<Record> = (0..20).map(|n| record(1, &n.to_string(), 1)).collect();
    records.sort_by_key(|record| own().common_prefix(&record.key()));
    for record in records.iter().rev().take(3) {
        assert_eq!(put(&mut store, at, record), PutOutcome::Stored);
    }
    assert_eq!(put(&mut store, at, &records[0]), PutOutcome::Full(Bound::All));
    let near = |n: usize| own().common_prefix(&records[n].key());
    assert!(near(19) >= near(16) && store.get(at.now, &records[19].key()).is_some());
    let mut store = self::store(Config { count_max: 3, ..Config::default() });
    for record in &records {
        assert_ne!(put(&mut store, at, record), PutOutcome::Same);
    }
    let kept: Vec<usize> = store.keys(at.now).map(|key| own().common_prefix(&key)).collect();
    assert_eq!(kept.len(), 3);
    assert!(kept.iter().all(|prefix| *prefix >= near(17)), "{kept:?}");
}

#[test]
fn at_one_distance_what_ends_sooner_gives_way() {
    let (mut store, at) = (store(Config { count_max: 1, ..Config::default() }), begin());
    let names: Vec<Record> = (0..40)
        .map(|n| record(1, &n.to_string(), 1))
        .filter(|record| own().common_prefix(&record.key()) == 1)
        .collect();
    let until =
        |n: usize, hours: u32| Record { expires_at: NOW + hours * HOUR, ..names[n].clone() };
    assert_eq!(put(&mut store, at, &until(0, 5)), PutOutcome::Stored);
    assert_eq!(put(&mut store, at, &until(1, 4)), PutOutcome::Full(Bound::All));
    assert_eq!(put(&mut store, at, &until(1, 6)), PutOutcome::Stored);
    assert_eq!(store.keys(at.now).collect::<Vec<_>>(), [names[1].key()]);
}

#[test]
fn one_author_never_takes_the_part_of_others() {
    let config = Config { author_count_max: 2, ..Config::default() };
    let (mut store, at) = (store(config), begin());
    assert_eq!(put(&mut store, at, &record(2, "theirs", 1)), PutOutcome::Stored);
    let outcomes: Vec<PutOutcome> =
        (0..20).map(|n| put(&mut store, at, &record(1, &n.to_string(), 1))).collect();
    assert!(outcomes.contains(&PutOutcome::Full(Bound::Author)));
    assert_eq!(store.len(), 3);
    assert!(store.get(at.now, &record(2, "theirs", 1).key()).is_some());
    let none = Config { author_bytes_max: 10, ..Config::default() };
    let mut store = self::store(none);
    assert_eq!(put(&mut store, at, &record(1, "a", 1)), PutOutcome::Full(Bound::Author));
}

#[test]
fn bytes_are_bounded_too_and_a_replaced_record_gives_its_own_back() {
    let big = |name: &str, sequence| Record {
        value: vec![0; 40_000].into(),
        ..record(1, name, sequence)
    };
    let (mut store, at) = (store(Config { bytes_max: 100_000, ..Config::default() }), begin());
    for n in 0..10 {
        assert_ne!(put(&mut store, at, &big(&n.to_string(), 1)), PutOutcome::Same);
        assert!(store.bytes() <= 100_000 && store.len() <= 2);
    }
    let name = store.keys(at.now).next().unwrap();
    let place = (0..10).find(|n| big(&n.to_string(), 1).key() == name).unwrap();
    for sequence in 2..5 {
        assert_eq!(put(&mut store, at, &big(&place.to_string(), sequence)), PutOutcome::Stored);
        assert_eq!(store.len(), 2);
    }
}
