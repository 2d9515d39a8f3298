//! The state against a model that is as simple as can be.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use crate::kv::command::{Answer, Command, Condition, Event, Holds, Item, Once, Op, Refusal, Txn};
use crate::kv::limits::{ANSWERS_MAX, SESSIONS_MAX, VALUE_LEN_MAX};
use crate::kv::state::{Events, State, after_prefix};
use crate::raft::Replicated as _;

fn key(number: u8) -> Bytes {
    Bytes::from(format!("key/{number}"))
}

fn put(number: u8, value: &str) -> Op {
    Op::Put { key: key(number), value: Bytes::from(value.to_owned()), lease: None }
}

/// A client that counts its commands, and a state that they are applied to.
#[derive(Debug, Clone, Default)]
struct Client {
    state: State,
    index: u64,
    serial: u64,
    opened: u64,
}

impl Client {
    fn give(&mut self, command: Command) -> Answer {
        if self.serial == 0 {
            self.serial += 1;
            let (session, opened, serial, done_below) = (7, 0, 1, 0);
            let open = Once { session, opened, serial, done_below, command: Command::Open };
            let at = self.index + 1;
            assert_eq!(self.apply(open), Answer::Opened { at });
            self.opened = at;
        }
        self.serial += 1;
        let (opened, serial, done_below) = (self.opened, self.serial, self.serial);
        self.apply(Once { session: 7, opened, serial, done_below, command })
    }

    fn apply(&mut self, once: Once) -> Answer {
        self.index += 1;
        let bytes = Bytes::from(rmp_serde::to_vec_named(&once).unwrap());
        rmp_serde::from_slice(&self.state.apply(self.index, &bytes)).unwrap()
    }

    fn txn(&mut self, conditions: Vec<Condition>, then: Vec<Op>, otherwise: Vec<Op>) -> Answer {
        self.give(Command::Txn(Txn { conditions, then, otherwise }))
    }

    fn restored(&self) -> State {
        State::restore(&mut self.state.chunks()).unwrap()
    }
}

/// What a key has, as the model knows.
type Model = BTreeMap<Bytes, Item>;

/// What a transaction does to the model.
fn expected(model: &mut Model, index: u64, txn: &Txn) -> (bool, Vec<Option<Item>>) {
    let held = txn.conditions.iter().all(|Condition { key, holds }| {
        let item = model.get(key);
        match holds {
            Holds::Exists => item.is_some(),
            Holds::Absent => item.is_none(),
            Holds::ModifiedAt(at) => item.is_some_and(|item| item.modified == *at),
            Holds::CreatedAt(at) => item.is_some_and(|item| item.created == *at),
            Holds::Is(value) => item.is_some_and(|item| item.value == value),
        }
    });
    let mut found = Vec::new();
    for op in if held { &txn.then } else { &txn.otherwise } {
        let before = model.get(op.key()).cloned();
        match op {
            Op::Get(_) => {}
            Op::Put { key, value, lease } => {
                let (created, version) =
                    before.as_ref().map_or((index, 0), |before| (before.created, before.version));
                let item = Item {
                    value: value.clone(),
                    created,
                    modified: index,
                    version: version + 1,
                    lease: *lease,
                };
                model.insert(key.clone(), item);
            }
            Op::Delete(key) => {
                model.remove(key);
            }
        }
        found.push(before);
    }
    (held, found)
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        (0..6_u8).prop_map(|number| Op::Get(key(number))),
        (0..6_u8, "[a-c]{0,3}").prop_map(|(number, value)| put(number, &value)),
        (0..6_u8).prop_map(|number| Op::Delete(key(number))),
    ];
    prop::collection::vec(op, 0..5)
}

fn conditions() -> impl Strategy<Value = Vec<Condition>> {
    let holds = prop_oneof![
        Just(Holds::Exists),
        Just(Holds::Absent),
        (0..40_u64).prop_map(Holds::ModifiedAt),
        (0..40_u64).prop_map(Holds::CreatedAt),
        "[a-c]{0,3}".prop_map(|value| Holds::Is(Bytes::from(value))),
    ];
    let condition = (0..6_u8, holds).prop_map(|(at, holds)| Condition { key: key(at), holds });
    prop::collection::vec(condition, 0..3)
}

fn txns() -> impl Strategy<Value = Vec<Txn>> {
    let txn = (conditions(), ops(), ops()).prop_map(|(conditions, then, otherwise)| Txn {
        conditions,
        then,
        otherwise,
    });
    prop::collection::vec(txn, 1..40)
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(txns in txns()) {
        let (mut client, mut model) = (Client::default(), Model::new());
        for txn in txns {
            let index = client.index + if client.index == 0 { 2 } else { 1 };
            let (held, found) = expected(&mut model, index, &txn);
            let answer = client.give(Command::Txn(txn));
            let revision = client.state.revision();
            prop_assert_eq!(answer, Answer::Done { held, found, revision });
            let page = client.state.range(&Bytes::new(), None, 100);
            prop_assert_eq!(page.items, model.clone().into_iter().collect::<Vec<_>>());
        }
        let len: usize = model.iter().map(|(key, item)| key.len() + item.value.len()).sum();
        prop_assert_eq!(client.state.len(), len as u64);
        prop_assert_eq!(&client.restored(), &client.state);
    }

    #[test]
    fn whoever_follows_the_events_from_any_revision_knows_what_is_there(
        txns in txns(),
        from in any::<prop::sample::Index>(),
        max in 1..10_usize,
    ) {
        let mut client = Client::default();
        let mut states = vec![client.state.clone()];
        for txn in txns {
            client.give(Command::Txn(txn));
            states.push(client.state.clone());
        }
        let begin = from.get(&states);
        let mut known: BTreeMap<Bytes, Item> =
            begin.range(&Bytes::new(), None, 100).items.into_iter().collect();
        let mut at = begin.revision();
        loop {
            let events = client.state.events_after(at, b"", max).unwrap();
            let Events { events, upto, has_more } = events;
            prop_assert!(events.iter().all(|event| at < event.revision && event.revision <= upto));
            at = upto;
            for Event { key, item, .. } in events {
                match item {
                    Some(item) => drop(known.insert(key, item)),
                    None => drop(known.remove(&key)),
                }
            }
            if !has_more {
                break;
            }
        }
        prop_assert_eq!(at, client.state.revision());
        let there = client.state.range(&Bytes::new(), None, 100).items;
        prop_assert_eq!(known.into_iter().collect::<Vec<_>>(), there);
    }
}

#[test]
fn a_command_that_is_given_again_is_not_done_again() {
    let mut client = Client::default();
    let add = |serial| Once {
        session: 1,
        opened: 2,
        serial,
        done_below: 0,
        command: Command::Txn(Txn { then: vec![put(1, "x")], ..Txn::default() }),
    };
    // Before its session is known it may be one that was forgotten.
    assert_eq!(client.apply(add(2)), Answer::Refused(Refusal::Forgotten));
    let open = Once { command: Command::Open, ..add(1) };
    assert_eq!(client.apply(open.clone()), Answer::Opened { at: 2 });
    assert_eq!(client.apply(open), Answer::Opened { at: 2 });
    let first = client.apply(add(2));
    assert_eq!(client.apply(add(2)), first);
    assert_eq!(client.state.get(&key(1)).unwrap().version, 1);
    // As over a snapshot.
    client.state = client.restored();
    assert_eq!(client.apply(add(2)), first);
    // A client that is not known any more cannot be told.
    let stranger = Once { session: 2, ..add(5) };
    assert_eq!(client.apply(stranger), Answer::Refused(Refusal::Forgotten));
    for serial in 3..=u64::try_from(ANSWERS_MAX).unwrap() + 2 {
        client.apply(add(serial));
    }
    assert_eq!(client.apply(add(2)), Answer::Refused(Refusal::Forgotten));
    // What the client says it has is forgotten at once.
    client.apply(Once { done_below: 1_000, ..add(1_000) });
    assert_eq!(client.apply(add(999)), Answer::Refused(Refusal::Forgotten));
}

#[test]
fn late_copies_of_a_session_that_is_forgotten_do_nothing_again() {
    let mut client = Client::default();
    let of = |session, opened, command| Once { session, opened, serial: 2, done_below: 2, command };
    let open = |session| Once { serial: 1, ..of(session, 0, Command::Open) };
    let add = Command::Txn(Txn { then: vec![put(1, "x")], ..Txn::default() });
    assert_eq!(client.apply(open(1)), Answer::Opened { at: 1 });
    assert!(matches!(client.apply(of(1, 1, add.clone())), Answer::Done { .. }));
    // So many others come that it is forgotten.
    for other in 2..=u128::try_from(SESSIONS_MAX).unwrap() + 1 {
        client.apply(open(other));
    }
    let late = of(1, 1, add);
    assert_eq!(client.apply(late.clone()), Answer::Refused(Refusal::Forgotten));
    // Its opening was on its way twice. What it opens now is another session.
    let Answer::Opened { at } = client.apply(open(1)) else { panic!() };
    assert!(at > 1);
    assert_eq!(client.apply(late.clone()), Answer::Refused(Refusal::Forgotten));
    assert_eq!(client.state.get(&key(1)).unwrap().version, 1);
    client.state = client.restored();
    assert_eq!(client.apply(late.clone()), Answer::Refused(Refusal::Forgotten));
    assert!(matches!(client.apply(Once { opened: at, ..late }), Answer::Done { .. }));
}

#[test]
fn a_lease_takes_its_keys_with_it() {
    let mut client = Client::default();
    let Answer::Granted(lease) = client.give(Command::Grant { ttl_ms: 1_000 }) else { panic!() };
    let hangs = |number, lease| Op::Put { key: key(number), value: Bytes::new(), lease };
    client.txn(vec![], vec![hangs(1, Some(lease)), hangs(2, Some(lease)), put(3, "x")], vec![]);
    // One that hangs on it no longer stays.
    client.txn(vec![], vec![hangs(2, None)], vec![]);
    assert_eq!(client.state.lease(lease).unwrap().keys.len(), 1);
    assert_eq!(client.restored(), client.state);
    let before = client.state.revision();
    assert_eq!(client.give(Command::Revoke { lease }), Answer::Revoked(1));
    assert!(client.state.get(&key(1)).is_none() && client.state.get(&key(2)).is_some());
    let events = client.state.events_after(before, b"key/", 10).unwrap();
    assert_eq!(events.events, [Event { revision: client.index, key: key(1), item: None }]);
    let gone = Answer::Refused(Refusal::NoLease(lease));
    assert_eq!(client.give(Command::Revoke { lease }), gone);
    assert_eq!(client.txn(vec![], vec![hangs(4, Some(lease))], vec![]), gone);
}

#[test]
fn what_is_too_much_is_refused_and_changes_nothing() {
    let mut client = Client::default();
    client.txn(vec![], vec![put(1, "x")], vec![]);
    let before = client.state.range(&Bytes::new(), None, 10);
    let long = Bytes::from(vec![0; VALUE_LEN_MAX + 1]);
    let put_long = Op::Put { key: key(2), value: long, lease: None };
    let no_lease = Op::Put { key: key(2), value: Bytes::new(), lease: Some(99) };
    let answers = [
        // Also in the half that is not done.
        client.txn(vec![], vec![put(1, "y")], vec![put_long]),
        client.txn(vec![], vec![put(1, "y"), no_lease], vec![]),
        client.txn(vec![], (0..129).map(|_| put(1, "y")).collect(), vec![]),
        client.txn(vec![], vec![Op::Get(Bytes::from(vec![0; 5_000]))], vec![]),
        client.give(Command::Compact { revision: 99 }),
    ];
    let told = answers.map(|answer| match answer {
        Answer::Refused(why) => why.to_string(),
        other => panic!("{other:?}"),
    });
    insta::assert_snapshot!(told.join("\n"));
    assert_eq!(client.state.range(&Bytes::new(), None, 10), before);
    client.index += 1;
    let nonsense = client.state.apply(client.index, &Bytes::from_static(b"nonsense"));
    let answer: Answer = rmp_serde::from_slice(&nonsense).unwrap();
    assert!(matches!(answer, Answer::Refused(Refusal::Unreadable(_))), "{answer:?}");
}

#[test]
fn events_that_are_compacted_are_a_gap_that_is_told() {
    let mut client = Client::default();
    for _ in 0..10 {
        client.txn(vec![], vec![put(1, "x")], vec![]);
    }
    let revision = client.state.revision();
    client.give(Command::Compact { revision: revision - 3 });
    assert_eq!(client.state.events_after(revision - 3, b"", 100).unwrap().events.len(), 3);
    let gap = client.state.events_after(revision - 4, b"", 100);
    let (oldest, newest) = (revision - 3, revision);
    assert_eq!(gap, Err(Refusal::NoRevision { revision: revision - 4, oldest, newest }));
    assert!(client.state.events_after(revision + 1, b"", 100).is_err());
    assert_eq!(client.restored(), client.state);
}

#[test]
fn ranges_come_in_pages_and_prefixes_end_where_they_end() {
    let mut client = Client::default();
    for number in 0..10 {
        client.txn(vec![], vec![put(number, "x")], vec![]);
    }
    let (from, to) = (Bytes::from_static(b"key/"), after_prefix(b"key/"));
    assert_eq!(to, Some(Bytes::from_static(b"key0")));
    let page = client.state.range(&from, to.as_ref(), 4);
    assert_eq!((page.items.len(), page.has_more), (4, true));
    let all = client.state.range(&from, to.as_ref(), 10);
    assert_eq!((all.items.len(), all.has_more), (10, false));
    assert!(client.state.range(&Bytes::from_static(b"z"), to.as_ref(), 10).items.is_empty());
    assert_eq!(after_prefix(b"\xff\xff"), None);
    assert_eq!(after_prefix(b"a\xff"), Some(Bytes::from_static(b"b")));
}

#[test]
fn a_claim_hangs_on_its_lease_and_goes_only_with_it() {
    let mut client = Client::default();
    let claim = Bytes::from("macula/election/a");
    let put = |lease| Op::Put { key: claim.clone(), value: "x".into(), lease };
    let mut lease = || match client.give(Command::Grant { ttl_ms: 1_000 }) {
        Answer::Granted(lease) => lease,
        other => panic!("{other:?}"),
    };
    let (own, other) = (lease(), lease());
    let is_refused = |answer: &Answer| matches!(answer, Answer::Refused(Refusal::Claim { key }) if *key == "macula/election/a");
    assert!(is_refused(&client.txn(vec![], vec![put(None)], vec![])));
    assert!(is_refused(&client.txn(vec![], vec![Op::Delete(claim.clone())], vec![])));
    let made = client.txn(vec![], vec![put(Some(own))], vec![]);
    assert!(matches!(made, Answer::Done { held: true, .. }), "{made:?}");
    let before = client.state.get(&claim).cloned().unwrap();
    for op in [put(None), put(Some(other)), Op::Delete(claim.clone())] {
        let with_others = vec![self::put(1, "y"), op];
        assert!(is_refused(&client.txn(vec![], with_others, vec![])));
    }
    assert_eq!(client.state.get(&claim), Some(&before));
    assert!(client.state.get(&key(1)).is_none(), "nothing else of it was done");
    let changed = client.txn(vec![], vec![put(Some(own)), self::put(1, "y")], vec![]);
    assert!(matches!(changed, Answer::Done { held: true, .. }), "{changed:?}");
    assert_eq!(client.state.get(&claim).unwrap().created, before.created);
    assert_eq!(client.give(Command::Revoke { lease: other }), Answer::Revoked(0));
    assert_eq!(client.give(Command::Revoke { lease: own }), Answer::Revoked(1));
    assert!(client.state.get(&claim).is_none());
}
