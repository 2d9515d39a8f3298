//! Liars: what is no good is refused by whoever keeps and by whoever reads, each with its own error.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use macula_core::entropy::Entropy;
use macula_core::machine::Machine as _;
use macula_core::sim::{Address, Faults};
use macula_core::wire::{Limits, from_body, to_body};

use super::super::{
    Answer, Command, CommandId, Config, Input, Mode, Node, Output, Quorum, Side, Told,
};
use super::mesh::{Mesh, WITHIN, contact, key, keypair, realm};
use crate::dht::key::{Key, RealmId};
use crate::dht::proto::limits::Offence;
use crate::dht::proto::records::Condition;
use crate::dht::proto::time::Moment;
use crate::dht::record::{Record, Signed};
use crate::dht::rules::Rules;
use crate::dht::wire::{Op, OpResult, Refusal};

/// What a node of a test says instead of the truth, by key. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Lies(Arc<Mutex<BTreeMap<Key, OpResult>>>);

impl Lies {
    pub(super) fn tell(&self, key: Key, answer: OpResult) {
        self.0.lock().unwrap().insert(key, answer);
    }

    /// The lie about what is asked, if there is one.
    pub(in super::super) fn instead_of(&self, op: &Op) -> Option<OpResult> {
        match op {
            Op::FindValue { key } | Op::FindProviders { key, .. } => {
                self.0.lock().unwrap().get(key).cloned()
            }
            _ => None,
        }
    }
}

const AUTHOR: Address = Address(1);
const LIARS: [Address; 2] = [Address(4), Address(7)];
const READER: Address = Address(9);
const NAME: &str = "wanted";

/// A mesh in which all are asked, and all but the liars have the record with sequence number 2.
fn mesh(seed: u64) -> Mesh {
    let config = |_| Config { agree: 12, ..Config::default() };
    let mut mesh = Mesh::with(seed, 12, Faults::NONE, config);
    for sequence in [1, 2] {
        let record = mesh.record(AUTHOR, NAME, sequence, "the truth");
        assert!(mesh.put(AUTHOR, record, Condition::Any).is_reached());
    }
    mesh.run(Duration::from_secs(5));
    mesh.refused.clear();
    mesh.blamed.clear();
    mesh
}

fn changed(mesh: &Mesh, change: impl FnOnce(&mut Record)) -> Signed {
    let mut record = mesh.unsigned(AUTHOR, NAME, 9, "a lie");
    change(&mut record);
    record.sign(keypair(AUTHOR)).unwrap()
}

/// A record to which somebody has given another value.
fn forged(mesh: &Mesh) -> Signed {
    let honest = changed(mesh, |_| {});
    let mut bytes = to_body(&honest, 4_096).unwrap().to_vec();
    let at = bytes.windows(5).position(|window| window == b"a lie").unwrap();
    bytes[at..at + 5].copy_from_slice(b"a LIE");
    from_body(&bytes, &Limits::default()).unwrap()
}

/// One of the lies, with what is said of it, and what it is blamed for when it is an answer, and
/// when it is to be kept.
struct Lie {
    record: fn(&Mesh) -> Signed,
    refusal: Refusal,
    read: Offence,
    stored: Option<Offence>,
}

fn lies() -> [Lie; 5] {
    let over = |mesh: &Mesh| {
        let over = mesh.since_epoch() - Duration::from_secs(60);
        changed(mesh, |record| record.expires_at = over)
    };
    let malformed = Offence::Malformed;
    [
        Lie {
            record: forged,
            refusal: Refusal::Forged,
            read: Offence::Forged,
            stored: Some(Offence::Forged),
        },
        Lie {
            record: |mesh| mesh.record(AUTHOR, NAME, 1, "the truth"),
            refusal: Refusal::Older { stored: 2 },
            read: Offence::Stale,
            stored: None,
        },
        Lie {
            record: |mesh| changed(mesh, |record| record.value = vec![0; 65_537].into()),
            refusal: Refusal::Oversized { len: 65_537, max: 65_536 },
            read: malformed,
            stored: Some(malformed),
        },
        Lie {
            record: |mesh| changed(mesh, |record| record.realm = RealmId::named("away")),
            refusal: Refusal::OtherRealm,
            read: malformed,
            stored: Some(malformed),
        },
        Lie { record: over, refusal: Refusal::Expired, read: Offence::Stale, stored: None },
    ]
}

/// Both liars answer so. The reader says why it does not take it, blames them, and has the truth.
fn read(lie: &Lie) {
    let mut mesh = mesh(11);
    let record = (lie.record)(&mesh);
    for liar in LIARS {
        let answer = OpResult::Value { record: record.clone(), contacts: Vec::new() };
        mesh.tell_to_lie(liar, key(NAME), answer);
    }
    let got = mesh.get(READER, key(NAME));
    let record = got.record.unwrap();
    assert_eq!((record.record().sequence, &record.record().value), (2, &Bytes::from("the truth")));
    assert_eq!(got.agreed, 12 - LIARS.len(), "{:?}", lie.refusal);
    let liars = LIARS.map(|liar| contact(liar).node);
    for liar in liars {
        let told = (READER, liar, Side::Reader, lie.refusal.clone());
        assert_eq!(mesh.refused.iter().filter(|refused| **refused == told).count(), 1, "{told:?}");
        assert!(mesh.blamed.contains(&(READER, liar, lie.read)), "{:?}", mesh.blamed);
        let node = mesh.sim.machine(READER).unwrap();
        assert!(node.limits.demerits(mesh.now(), liar) > 0);
    }
    let others = |blamed: &NodeOf| !liars.contains(&blamed.1);
    assert!(!mesh.blamed.iter().any(others), "nobody else: {:?}", mesh.blamed);
    assert_eq!(mesh.sim.machine(READER).unwrap().stats().refused, 2);
}

type NodeOf = (Address, macula_core::identity::NodeId, Offence);

/// A liar wants it to be kept. The keeper says why it does not, and keeps what it had.
fn stored(lie: &Lie) {
    let mut mesh = mesh(12);
    let (keeper, liar) = (Address(3), LIARS[0]);
    let ops = vec![Op::Store { record: (lie.record)(&mesh), condition: Condition::Any }];
    let from = contact(liar);
    mesh.sim.input(keeper, |_| Input::Request { from, is_foreign: false, id: 77, ops: Some(ops) });
    mesh.run(Duration::from_millis(100));
    let liar = contact(liar).node;
    assert_eq!(mesh.refused, [(keeper, liar, Side::Keeper, lie.refusal.clone())]);
    let blamed: Vec<Offence> =
        mesh.blamed.iter().filter(|(at, ..)| *at == keeper).map(|(.., what)| *what).collect();
    assert_eq!(blamed, lie.stored.into_iter().collect::<Vec<_>>(), "{:?}", lie.refusal);
    let got = mesh.get(keeper, key(NAME));
    assert_eq!((got.agreed, got.record.unwrap().record().sequence), (12, 2));
}

#[test]
fn a_forged_record_is_refused() {
    let [lie, ..] = &lies();
    read(lie);
    stored(lie);
}

#[test]
fn an_older_record_is_refused() {
    let [_, lie, ..] = &lies();
    read(lie);
    stored(lie);
}

#[test]
fn an_oversized_record_is_refused() {
    let [_, _, lie, ..] = &lies();
    read(lie);
    stored(lie);
}

#[test]
fn a_record_of_another_realm_is_refused() {
    let [.., lie, _] = &lies();
    read(lie);
    stored(lie);
}

#[test]
fn a_record_that_is_over_is_refused() {
    let [.., lie] = &lies();
    read(lie);
    stored(lie);
}

#[test]
fn who_lies_without_end_is_not_listened_to_any_more() {
    let mut mesh = mesh(13);
    let record = forged(&mesh);
    for liar in LIARS {
        let answer = OpResult::Value { record: record.clone(), contacts: Vec::new() };
        mesh.tell_to_lie(liar, key(NAME), answer);
    }
    for _ in 0..2 {
        assert_eq!(mesh.get(READER, key(NAME)).agreed, 10);
    }
    let node = mesh.sim.machine(READER).unwrap();
    for liar in LIARS.map(|liar| contact(liar).node) {
        assert!(node.limits.ignored(mesh.now(), liar).is_some());
        assert!(!node.table().closest(key(NAME), 20).iter().any(|peer| peer.node() == liar));
    }
}

#[test]
fn a_forged_provider_is_refused_and_those_of_others_are_found() {
    let mut mesh = mesh(14);
    let ttl = Duration::from_secs(300);
    for of in [Address(5), Address(6)] {
        let (provider, quorum) = (super::provider(of), Quorum::Majority);
        mesh.ask(of, Command::Provide { provider, ttl, quorum }).unwrap();
    }
    let now = mesh.since_epoch();
    let honest =
        super::Provider { issued_at: now, expires_at: now + ttl, ..super::provider(READER) };
    let honest = honest.sign(keypair(READER)).unwrap();
    let mut bytes = to_body(&honest, 4_096).unwrap().to_vec();
    let at = bytes.windows(2).position(|window| window == b"v1").unwrap();
    bytes[at..at + 2].copy_from_slice(b"v2");
    let forged = from_body(&bytes, &Limits::default()).unwrap();
    let lie = OpResult::Providers { providers: vec![forged], total: 1, contacts: Vec::new() };
    for liar in LIARS {
        mesh.tell_to_lie(liar, key("scoreboard"), lie.clone());
    }
    assert_eq!(mesh.find(Address(0), key("scoreboard")).len(), 2);
    for liar in LIARS.map(|liar| contact(liar).node) {
        let told = (Address(0), liar, Side::Reader, Refusal::Forged);
        assert!(mesh.refused.contains(&told), "{:?}", mesh.refused);
        assert!(mesh.blamed.contains(&(Address(0), liar, Offence::Forged)));
    }
}

/// The results of what a node asks of one that knows nobody, and keeps nothing or all.
fn answered(ops: &[Op]) -> Vec<OpResult> {
    let answer = |op: &Op| match op {
        Op::Ping => OpResult::Pong,
        Op::Store { .. } | Op::Provide { .. } => OpResult::Kept { already: false },
        _ => OpResult::Nodes { contacts: Vec::new() },
    };
    ops.iter().map(answer).collect()
}

/// It helps to look for those that are to keep a record, is one of them, and says nothing more.
#[test]
fn one_that_never_says_whether_it_keeps_something_is_told_of_in_time() {
    let mesh = Mesh::new(13, 1, Faults::NONE);
    let (record, mut now) = (mesh.record(Address(0), NAME, 1, "v"), mesh.now());
    let at = Moment { now, since_epoch: mesh.since_epoch() };
    let (config, entropy, rules) = (Config::default(), Entropy::from_seed(13), Rules::new(realm()));
    let mut node =
        Node::new(at, contact(Address(0)), Mode::Server, Arc::new(rules), config, entropy);
    for peer in 1..20 {
        node.handle(now, Input::Met(contact(Address(peer))));
    }
    let (id, deadline) = (CommandId(1), now + WITHIN);
    let command = Command::Put { record, condition: Condition::Any, quorum: Quorum::All };
    node.handle(now, Input::Command { id, command, deadline });
    let answer = loop {
        match node.poll_output() {
            Some(Output::Send { id, to, ops }) => {
                let stores = ops.iter().any(|op| matches!(op, Op::Store { .. }));
                if !stores || to.node != contact(LIARS[0]).node {
                    let results = Some(answered(&ops));
                    node.handle(now, Input::Reply { from: to.node, id, results });
                }
            }
            Some(Output::Done { answer, .. }) => break answer,
            Some(_) => {}
            None => {
                now = node.poll_timeout().expect("it waits for something").0.max(now);
                node.handle_timeout(now);
            }
        }
    };
    let Ok(Answer::Stored(stored)) = answer else { panic!("{answer:?}") };
    assert_eq!((stored.nodes.len(), stored.kept, stored.is_renewed), (20, 19, true));
    let silent = (contact(LIARS[0]).node, Told::Failed("it has not answered"));
    assert!(stored.nodes.contains(&silent), "{stored:?}");
    let left = deadline.saturating_duration_since(now);
    assert!(left >= Duration::from_millis(300), "whoever waits has {left:?} to hear of it");
}
