//! What travels: its bytes for ever, its bounds, and that old and new nodes understand each other.

use std::net::SocketAddr;
use std::time::Duration;

use data_encoding::HEXLOWER;
use macula_core::wire::to_body;
use proptest::prelude::*;
use serde::Serialize;

use super::{
    BODY_LEN_MAX, CONTACTS_MAX, Malformed, OPS_MAX, Op, OpKind, OpResult, Refusal, Reply, Request,
};
use crate::contact::Contact;
use crate::dht::key::Key;
use crate::dht::proto::records::Condition;
use crate::dht::provider::tests::provider;
use crate::dht::record::Record;
use crate::dht::record::tests::{keypair, record};

fn key() -> Key {
    Key::from_bytes([7; 32])
}

fn contact(seed: u8) -> Contact {
    let addresses = [
        SocketAddr::from(([10, 0, 0, seed], 4433)),
        SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 1], 4433)),
    ];
    Contact::new(keypair(seed).node_id(), addresses)
}

fn ops() -> Vec<Op> {
    let record = record(1, "name", 7).sign(&keypair(1)).unwrap();
    let provider = provider(1, "name").sign(&keypair(1)).unwrap();
    let conditions = [Condition::Any, Condition::Absent, Condition::Sequence(6)];
    let stores = conditions.map(|condition| Op::Store { record: record.clone(), condition });
    let mut ops = vec![
        Op::Ping,
        Op::FindNode { target: key() },
        Op::FindValue { key: key() },
        Op::FindProviders { key: key(), max: 5 },
        Op::Provide { provider },
    ];
    ops.extend(stores);
    ops
}

fn refusals() -> Vec<Refusal> {
    let text = || "why".to_owned();
    vec![
        Refusal::Forged,
        Refusal::Malformed { text: text() },
        Refusal::OtherRealm,
        Refusal::Oversized { len: 9, max: 4 },
        Refusal::WrongKey,
        Refusal::Expired,
        Refusal::FromTheFuture,
        Refusal::LivesTooLong,
        Refusal::Invalid { text: text() },
        Refusal::Older { stored: 7 },
        Refusal::ConditionFailed { stored: None },
        Refusal::ConditionFailed { stored: Some(7) },
        Refusal::Conflict { stored: 7 },
        Refusal::Full,
        Refusal::Busy { retry_in: Duration::from_millis(250) },
        Refusal::NoRoom,
        Refusal::Unsupported,
    ]
}

fn results() -> Vec<OpResult> {
    let record = record(1, "name", 7).sign(&keypair(1)).unwrap();
    let provider = provider(1, "name").sign(&keypair(1)).unwrap();
    let contacts = || vec![contact(2), contact(3)];
    vec![
        OpResult::Pong,
        OpResult::Nodes { contacts: contacts() },
        OpResult::Nodes { contacts: Vec::new() },
        OpResult::Value { record, contacts: contacts() },
        OpResult::Providers { providers: vec![provider], total: 70, contacts: contacts() },
        OpResult::Kept { already: false },
        OpResult::Kept { already: true },
    ]
}

fn golden(values: Vec<impl Serialize>) -> String {
    let bytes = values.iter().map(|value| HEXLOWER.encode(&to_body(value, 65_536).unwrap()));
    bytes.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_message_has_its_bytes_for_ever() {
    insta::assert_snapshot!("ops", golden(ops()));
    insta::assert_snapshot!("results", golden(results()));
    insta::assert_snapshot!(
        "refusals",
        golden(refusals().into_iter().map(OpResult::Refused).collect())
    );
    insta::assert_snapshot!("request", golden(vec![Request { ops: vec![Op::Ping] }]));
    insta::assert_snapshot!("reply", golden(vec![Reply { results: vec![OpResult::Pong] }]));
}

#[test]
fn what_is_written_is_read() {
    let request = Request { ops: ops() };
    assert_eq!(Request::decode(&request.encode().unwrap()).unwrap(), request);
    let refused = refusals().into_iter().map(OpResult::Refused);
    let reply = Reply { results: results().into_iter().chain(refused).collect() };
    assert_eq!(Reply::decode(&reply.encode().unwrap()).unwrap(), reply);
    assert_eq!(Reply::fitting(reply.results.clone()), reply);
}

#[test]
fn refusals_read_well() {
    let texts: Vec<String> = refusals().iter().map(Refusal::to_string).collect();
    insta::assert_snapshot!(texts.join("\n"));
}

/// The fields of a newer writer.
#[derive(Serialize, Default)]
struct Newer<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    op: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    result: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Code<'a>>,
    priority: u8,
}

#[derive(Serialize)]
struct Code<'a> {
    code: &'a str,
    since: u64,
}

#[derive(Serialize)]
struct NewerRequest<'a> {
    ops: Vec<Newer<'a>>,
    trace: u64,
}

#[derive(Serialize)]
struct NewerReply<'a> {
    results: Vec<Newer<'a>>,
    trace: u64,
}

#[test]
fn an_old_reader_takes_a_new_writer_and_the_other_way_round() {
    let ops = ["ping", "scan"].map(|op| Newer { op, priority: 3, ..Newer::default() });
    let body = to_body(&NewerRequest { ops: ops.into(), trace: 9 }, 4096).unwrap();
    let unknown = Op::Unknown { word: "scan".to_owned() };
    assert_eq!(Request::decode(&body).unwrap().ops, [Op::Ping, unknown.clone()]);
    assert_eq!((unknown.kind(), unknown.cost()), (None, 1));
    let refusal = Some(Code { code: "tired", since: 4 });
    let results = vec![
        Newer { result: "pong", ..Newer::default() },
        Newer { result: "range", ..Newer::default() },
        Newer { result: "refused", refusal, ..Newer::default() },
    ];
    let body = to_body(&NewerReply { results, trace: 9 }, 4096).unwrap();
    let read = Reply::decode(&body).unwrap().results;
    let other = Refusal::Other { code: "tired".to_owned() };
    let unknown = OpResult::Unknown { word: "range".to_owned() };
    assert_eq!(read, [OpResult::Pong, unknown, OpResult::Refused(other)]);
    // An older writer has never heard of the numbers.
    #[derive(Serialize)]
    struct Older<'a> {
        code: &'a str,
    }
    #[derive(Serialize)]
    struct OlderResult<'a> {
        result: &'a str,
        refusal: Older<'a>,
    }
    #[derive(Serialize)]
    struct OlderReply<'a> {
        results: [OlderResult<'a>; 1],
    }
    let result = OlderResult { result: "refused", refusal: Older { code: "busy" } };
    let body = to_body(&OlderReply { results: [result] }, 4096).unwrap();
    let busy = OpResult::Refused(Refusal::Busy { retry_in: Duration::ZERO });
    assert_eq!(Reply::decode(&body).unwrap().results, [busy]);
}

#[test]
fn what_is_more_than_it_may_be_is_refused() {
    let many = Request { ops: vec![Op::Ping; OPS_MAX + 1] }.encode().unwrap();
    assert_eq!(Request::decode(&many).unwrap_err(), Malformed::TooMany { len: OPS_MAX + 1 });
    Request::decode(&Request { ops: vec![Op::Ping; OPS_MAX] }.encode().unwrap()).unwrap();
    let many = Reply { results: vec![OpResult::Pong; OPS_MAX + 1] }.encode().unwrap();
    assert_eq!(Reply::decode(&many).unwrap_err(), Malformed::TooMany { len: OPS_MAX + 1 });
    let mut crowded = contact(1);
    crowded.addresses = vec![crowded.addresses[0]; 9];
    let provider = provider(1, "name").sign(&keypair(1)).unwrap();
    for result in [
        OpResult::Nodes { contacts: vec![contact(1); CONTACTS_MAX + 1] },
        OpResult::Nodes { contacts: vec![crowded] },
        OpResult::Providers {
            providers: vec![provider; CONTACTS_MAX + 1],
            total: 0,
            contacts: Vec::new(),
        },
    ] {
        let body = Reply { results: vec![result] }.encode().unwrap();
        let refused = Reply::decode(&body).unwrap_err();
        assert!(matches!(refused, Malformed::Body(_)), "{refused}");
    }
    let long = vec![0; BODY_LEN_MAX + 1];
    assert!(matches!(Request::decode(&long).unwrap_err(), Malformed::Body(_)));
    for body in [&b"\x81\xa3ops\x91\x81\xa2op\xa9find_node"[..], b"\xc0", b""] {
        assert!(matches!(Request::decode(body).unwrap_err(), Malformed::Body(_)), "{body:?}");
    }
}

#[test]
fn a_reply_has_room_for_each_result_or_says_that_it_had_none() {
    let big = Record { value: vec![7; 65_536].into(), ..record(1, "name", 7) };
    let record = big.sign(&keypair(1)).unwrap();
    let value = OpResult::Value { record, contacts: vec![contact(1); CONTACTS_MAX] };
    let reply = Reply::fitting(vec![value.clone(); OPS_MAX]);
    assert_eq!(reply.results.len(), OPS_MAX);
    let fitting = reply.results.iter().filter(|result| **result == value).count();
    assert!((10..16).contains(&fitting), "{fitting}");
    assert!(reply.results[fitting..].iter().all(|r| *r == OpResult::Refused(Refusal::NoRoom)));
    assert_eq!(Reply::decode(&reply.encode().unwrap()).unwrap(), reply);
}

#[test]
fn each_kind_of_result_answers_its_operations() {
    let kinds = [
        OpKind::Ping,
        OpKind::FindNode,
        OpKind::FindValue,
        OpKind::Store,
        OpKind::FindProviders,
        OpKind::Provide,
    ];
    let mut table = String::new();
    for result in results() {
        let answered: Vec<OpKind> =
            kinds.into_iter().filter(|kind| result.answers(*kind)).collect();
        let name = format!("{result:?}");
        let name = name.split([' ', '{']).next().unwrap_or_default();
        table.push_str(&format!("{name}: {answered:?}\n"));
    }
    insta::assert_snapshot!(table);
}

proptest! {
    #[test]
    fn no_bytes_whatever_do_any_harm(mut body in prop::collection::vec(any::<u8>(), 0..64), at in 0_usize..600) {
        drop(Request::decode(&body));
        drop(Reply::decode(&body));
        let mut good = Request { ops: ops() }.encode().unwrap().to_vec();
        let at = at.min(good.len());
        body.truncate(8);
        good.splice(at..(at + body.len()).min(good.len()), body);
        drop(Request::decode(&good));
    }
}
