//! Records: each refusal has its own error.

use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::{Envelope, Keypair};
use macula_core::wire::to_body;

use super::{Record, Refusal, SIGNED_LEN_MAX, SignError, Signed, Statement as _};
use crate::dht::key::{Key, RealmId};
use crate::dht::proto::time::Moment;
use crate::dht::rules::{Oversized, Part, Rules, Validators, own_name, space};

/// Now, since the Unix epoch.
pub(in crate::dht) const NOW: Duration = Duration::from_secs(1_800_000_000);

/// Now, on both clocks.
pub(in crate::dht) fn begin() -> Moment {
    Moment { now: TokioClock.now(), since_epoch: NOW }
}

pub(in crate::dht) fn later(at: Moment, wait: Duration) -> Moment {
    Moment { now: at.now + wait, since_epoch: at.since_epoch + wait }
}

/// Where a node is that keeps.
pub(in crate::dht) fn own() -> Key {
    Key::of_node(keypair(99).node_id())
}

pub(in crate::dht) fn keypair(seed: u8) -> Keypair {
    Keypair::from_seed([seed; 32])
}

pub(in crate::dht) fn rules() -> Rules {
    Rules::new(RealmId::named("tests"))
}

pub(in crate::dht) fn record(seed: u8, name: &str, sequence: u64) -> Record {
    Record {
        realm: RealmId::named("tests"),
        space: space::ANY.to_owned(),
        name: name.as_bytes().to_vec(),
        author: keypair(seed).node_id(),
        sequence,
        expires_at: NOW + Duration::from_secs(3600),
        value: Bytes::from(format!("{seed} says {sequence}")),
    }
}

fn refused(record: &Record) -> Refusal {
    signed(record).verify(NOW, None, &rules()).unwrap_err()
}

fn signed(record: &Record) -> Signed {
    record.sign(&keypair(1)).unwrap()
}

#[test]
fn a_record_has_its_bytes_for_ever() {
    let bytes = to_body(&signed(&record(1, "name", 7)), 4096).unwrap();
    insta::assert_snapshot!(HEXLOWER.encode(&bytes));
}

#[test]
fn a_signed_record_is_believed_and_is_the_same() {
    let record = record(1, "name", 7);
    let signed = signed(&record);
    assert_eq!(signed.author(), record.author);
    let verified = signed.verify(NOW, Some(record.key()), &rules()).unwrap();
    assert_eq!(verified.record(), &record);
    assert_eq!((verified.key(), verified.signed()), (record.key(), &signed));
    assert!(verified.stored_len() > record.value.len());
    assert_eq!(verified.into_what(), record);
}

#[test]
fn whoever_changes_a_record_has_forged_it() {
    let all = to_body(&signed(&record(1, "name", 7)), 4096).unwrap();
    let place = all.windows(6).position(|bytes| bytes == b"1 says").unwrap();
    let mut changed = all.to_vec();
    changed[place] = b'2';
    let changed: Signed = macula_core::wire::from_body(&changed, &Default::default()).unwrap();
    assert_eq!(changed.verify(NOW, None, &rules()).unwrap_err(), Refusal::Forged);
}

#[test]
fn what_was_signed_for_something_else_is_forged() {
    let body = record(1, "name", 7).encode().unwrap();
    let other = Signed::from(Envelope::seal(&keypair(1), "macula dht provider 1", body));
    assert_eq!(other.verify(NOW, None, &rules()).unwrap_err(), Refusal::Forged);
}

#[test]
fn what_is_signed_has_to_be_a_record() {
    let garbage = Signed::from(Envelope::seal(&keypair(1), Record::CONTEXT, &b"\x93\x01"[..]));
    let refused = garbage.verify(NOW, None, &rules()).unwrap_err();
    assert!(matches!(refused, Refusal::Malformed(_)), "{refused}");
}

#[test]
fn a_record_of_another_realm_is_refused() {
    let other = Record { realm: RealmId::named("other"), ..record(1, "name", 7) };
    assert_eq!(refused(&other), Refusal::OtherRealm);
}

#[test]
fn what_is_too_long_is_refused_and_what_is_just_not_is_taken() {
    let limits = rules().limits;
    let with = |value: usize, name: usize, space: usize| Record {
        value: vec![1; value].into(),
        name: vec![2; name],
        space: "s".repeat(space),
        ..record(1, "", 7)
    };
    let (value, name, space) = (limits.value_len_max, limits.name_len_max, limits.space_len_max);
    for (record, part, len, max) in [
        (with(value + 1, name, space), Part::Value, value + 1, value),
        (with(0, name + 1, space), Part::Name, name + 1, name),
        (with(0, name, space + 1), Part::Space, space + 1, space),
    ] {
        assert_eq!(refused(&record), Refusal::Oversized(Oversized { part, len, max }));
    }
    let whole = refused(&with(value + 10_000, name, space));
    assert!(matches!(whole, Refusal::Oversized(Oversized { part: Part::Whole, .. })), "{whole}");
    let rules = Rules { validators: Validators::default().allowing_unknown(), ..rules() };
    signed(&with(value, name, space)).verify(NOW, None, &rules).unwrap();
}

#[test]
fn a_record_under_another_key_is_refused() {
    let record = record(1, "name", 7);
    let asked = Key::of_name(record.realm, &record.space, b"other");
    let refused = signed(&record).verify(NOW, Some(asked), &rules()).unwrap_err();
    assert_eq!(refused, Refusal::WrongKey { belongs: record.key(), asked });
}

#[test]
fn a_record_lives_from_now_on_and_not_for_too_long() {
    let until = |expires_at| Record { expires_at, ..record(1, "name", 7) };
    let ms = Duration::from_millis(1);
    assert_eq!(refused(&until(NOW)), Refusal::Expired { ago: Duration::ZERO });
    let hour = Duration::from_secs(3600);
    assert_eq!(refused(&until(NOW - hour)), Refusal::Expired { ago: hour });
    signed(&until(NOW + ms)).verify(NOW, None, &rules()).unwrap();
    let max = 48 * hour + Duration::from_secs(300);
    signed(&until(NOW + max)).verify(NOW, None, &rules()).unwrap();
    assert_eq!(refused(&until(NOW + max + ms)), Refusal::LivesTooLong { ttl: max + ms, max });
    let never = refused(&until(Duration::from_millis(u64::MAX)));
    assert!(matches!(never, Refusal::LivesTooLong { .. }), "{never}");
}

#[test]
fn each_key_space_says_who_writes() {
    let (own, other) = (keypair(1).node_id(), keypair(2).node_id());
    let under =
        |space: &str, name: Vec<u8>| Record { space: space.to_owned(), name, ..record(1, "", 7) };
    let taken = |space: &str, name: Vec<u8>| {
        signed(&under(space, name)).verify(NOW, None, &rules()).map(drop)
    };
    taken(space::NODE, own.as_bytes().to_vec()).unwrap();
    taken(space::OWN, own_name(own, b"anything")).unwrap();
    taken(space::NAME, b"anything".to_vec()).unwrap();
    taken(space::ANY, Vec::new()).unwrap();
    for (space, name) in [
        (space::NODE, other.as_bytes().to_vec()),
        (space::NODE, own_name(own, b"more")),
        (space::OWN, own_name(other, b"anything")),
        ("unknown", b"anything".to_vec()),
    ] {
        let refused = taken(space, name).unwrap_err();
        assert!(matches!(refused, Refusal::Invalid(_)), "{space}: {refused}");
    }
    let rules = Rules { validators: Validators::default().allowing_unknown(), ..rules() };
    signed(&under("unknown", Vec::new())).verify(NOW, None, &rules).unwrap();
}

#[test]
fn nobody_signs_for_another() {
    let (author, signer) = (keypair(1).node_id(), keypair(2).node_id());
    let error = record(1, "name", 7).sign(&keypair(2)).unwrap_err();
    assert_eq!(error, SignError::NotTheAuthor { author, signer });
    let huge = Record { value: vec![0; SIGNED_LEN_MAX].into(), ..record(1, "name", 7) };
    assert!(matches!(huge.sign(&keypair(1)), Err(SignError::Encode(_))));
}

#[test]
fn readers_agree_which_of_two_supersedes_the_other() {
    let verified = |record: Record| signed(&record).verify(NOW, None, &rules()).unwrap();
    let (old, new) = (verified(record(1, "name", 7)), verified(record(1, "name", 8)));
    assert!(new.supersedes(&old) && !old.supersedes(&new) && !new.supersedes(&new));
    let twin = verified(Record { value: Bytes::new(), ..record(1, "name", 7) });
    assert_ne!(old.supersedes(&twin), twin.supersedes(&old));
}

#[test]
fn refusals_read_well() {
    let key = |name: &str| record(1, name, 7).key();
    let all = [
        Refusal::Forged,
        Refusal::OtherRealm,
        Refusal::Oversized(Oversized { part: Part::Value, len: 9, max: 4 }),
        Refusal::WrongKey { belongs: key("a"), asked: key("b") },
        Refusal::Expired { ago: Duration::from_secs(3) },
        Refusal::LivesTooLong { ttl: Duration::from_secs(9), max: Duration::from_secs(4) },
        Refusal::Invalid("no".into()),
    ];
    insta::assert_snapshot!(all.map(|refusal| refusal.to_string()).join("\n"));
}
