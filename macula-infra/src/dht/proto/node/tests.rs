//! Whole nodes: what is put is found, whoever goes; what is wrong is refused; all commands end.

mod liars;
pub(crate) mod mesh;

pub(super) use liars::Lies;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use macula_core::sim::{Address, Faults};

use super::{Answer, Command, Config, Failure, Input, Quorum, Told};
use crate::contact::Contact;
use crate::dht::key::RealmId;
use crate::dht::proto::records::Condition;
use crate::dht::provider::Provider;
use crate::dht::record;
use crate::dht::rules::space;
use crate::dht::wire::Refusal;
use mesh::{Mesh, SERVERS_MAX, contact, key, keypair, realm};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn what_one_puts_the_others_find() {
    let mut mesh = Mesh::new(1, 30, Faults::NONE);
    let record = mesh.record(Address(3), "greeting", 1, "hello");
    let stored = mesh.put(Address(3), record, Condition::Any);
    assert!(stored.is_reached() && stored.is_renewed, "{stored:?}");
    assert!(stored.nodes.len() >= 20 && stored.kept == stored.nodes.len(), "{stored:?}");
    assert_eq!(stored.wanted, stored.nodes.len() / 2 + 1);
    for reader in [0, 7, 29] {
        let got = mesh.get(Address(reader), key("greeting"));
        let record = got.record.unwrap();
        assert_eq!(record.record().value, Bytes::from("hello"));
        assert_eq!(record.record().author, keypair(Address(3)).node_id());
        assert!(got.agreed >= 3 && got.answered >= got.agreed, "{} {}", got.agreed, got.answered);
    }
    let nothing = mesh.get(Address(9), key("nobody put this"));
    assert!(nothing.record.is_none() && nothing.answered > 0);
}

#[test]
fn a_value_outlives_all_who_kept_it_first() {
    let mut mesh = Mesh::new(2, 40, Faults::NONE);
    // While a mesh grows it seems smaller than it is, and records go to more nodes than k.
    mesh.run(60 * MINUTE);
    let record = mesh.record(Address(1), "lasting", 1, "still here");
    mesh.put(Address(1), record, Condition::Any);
    let first: BTreeSet<Address> = mesh.keepers(key("lasting")).into_iter().collect();
    assert!((20..35).contains(&first.len()), "{}", first.len());
    for gone in &first {
        mesh.sim.crash(*gone);
        mesh.run(10 * MINUTE);
    }
    let reader = (0..40).map(Address).find(|address| !first.contains(address)).unwrap();
    let got = mesh.get(reader, key("lasting"));
    assert!(got.record.is_some(), "it went with those who kept it: {got:?}");
}

#[test]
fn what_an_earlier_life_has_put_is_stored_once_somebody_answers() {
    let mut mesh = Mesh::new(4, 8, Faults::NONE);
    let (author, record) = (Address(3), mesh.record(Address(3), "kept on", 1, "still here"));
    mesh.sim.set_faults(Faults { loss: 1.0, ..Faults::NONE });
    let again = record.clone();
    assert!(mesh.sim.input(author, |_| Input::Renew(again)));
    mesh.run(Duration::from_secs(30));
    mesh.sim.set_faults(Faults::NONE);
    mesh.run(MINUTE);
    let got = mesh.get(Address(6), key("kept on"));
    assert_eq!(got.record.unwrap().record().value, Bytes::from("still here"));
    assert!(mesh.keepers(key("kept on")).len() >= 4, "others have it too");
}

#[test]
fn a_newcomer_is_given_what_belongs_to_it() {
    let mut mesh = Mesh::new(3, 24, Faults::NONE);
    let newcomer = Address(23);
    mesh.sim.crash(newcomer);
    for number in 0..40 {
        let record = mesh.record(Address(1), &format!("n{number}"), 1, "value");
        mesh.put(Address(1), record, Condition::Any);
    }
    for number in 0..40 {
        let provider = Provider { name: format!("n{number}").into(), ..provider(Address(4)) };
        let (ttl, quorum) = (Duration::from_secs(300), Quorum::Majority);
        assert!(mesh.ask(Address(4), Command::Provide { provider, ttl, quorum }).is_ok());
    }
    mesh.sim.start(newcomer);
    mesh.meet(newcomer, Address(0));
    mesh.begun(newcomer);
    mesh.run(Duration::from_secs(10));
    let mut due = 0;
    for number in 0..40 {
        let key = key(&format!("n{number}"));
        let mut nodes: Vec<Address> = mesh.sim.addresses();
        let place = |address: Address| crate::dht::key::Key::of_node(contact(address).node);
        nodes.sort_by_key(|address| key.distance(&place(*address)));
        if nodes.iter().take(20).any(|address| *address == newcomer) {
            due += 1;
            assert!(mesh.keepers(key).contains(&newcomer), "n{number}");
            assert!(mesh.provided(newcomer, key) == 1, "n{number}");
        }
    }
    assert!(due > 20, "{due}");
}

#[test]
fn of_two_who_compare_and_set_one_is_too_late() {
    let mut mesh = Mesh::new(4, 30, Faults::NONE);
    let first = mesh.record(Address(1), "counter", 1, "1");
    assert!(mesh.put(Address(1), first.clone(), Condition::Absent).is_reached());
    let again = mesh.put(Address(1), first, Condition::Absent);
    assert!(again.is_reached(), "to repeat it does no harm");
    let two = mesh.record(Address(2), "counter", 2, "2");
    assert!(mesh.put(Address(2), two, Condition::Sequence(1)).is_reached());
    let late = mesh.record(Address(5), "counter", 2, "3");
    let late = mesh.put(Address(5), late, Condition::Sequence(1));
    assert_eq!((late.is_reached(), late.kept), (false, 0));
    let why = late.why_not();
    let refused =
        |refusal: &Refusal| matches!(refusal, Refusal::ConditionFailed { stored: Some(2) });
    assert!(matches!(why, Some(Told::Refused(refusal)) if refused(refusal)), "{why:?}");
    assert_eq!(mesh.get(Address(9), key("counter")).record.unwrap().record().value, "2");
    let old = mesh.record(Address(1), "counter", 1, "0");
    let old = mesh.put(Address(1), old, Condition::Any);
    assert!(matches!(old.why_not(), Some(Told::Refused(Refusal::Older { stored: 2 }))));
}

#[test]
fn what_nobody_would_keep_is_refused_before_anybody_is_asked() {
    let mut mesh = Mesh::new(5, 8, Faults::NONE);
    let by = Address(1);
    let sign = |record: &record::Record| record.sign(keypair(by)).unwrap();
    let good = mesh.unsigned(by, "x", 1, "y");
    let long = record::Record { value: Bytes::from(vec![0; 65_537]), ..good.clone() };
    let other = record::Record { realm: RealmId::named("away"), ..good.clone() };
    let over = record::Record { expires_at: mesh.since_epoch(), ..good.clone() };
    let own = record::Record { space: space::NODE.to_owned(), ..good };
    let before = mesh.sim.sent();
    for (record, why) in [
        (sign(&long), "oversized"),
        (sign(&other), "another realm"),
        (sign(&over), "expired"),
        (sign(&own), "not valid in its key space"),
    ] {
        let put = Command::Put { record, condition: Condition::Any, quorum: Quorum::One };
        let refused = mesh.ask(by, put).unwrap_err();
        assert!(matches!(refused, Failure::Refused(_)), "{refused:?}");
        assert!(refused.to_string().contains(why), "{refused}");
    }
    assert_eq!(mesh.sim.sent(), before);
}

fn provider(of: Address) -> Provider {
    Provider {
        realm: realm(),
        space: space::ANY.to_owned(),
        name: b"scoreboard".to_vec(),
        contact: contact(of),
        metadata: Bytes::from("v1"),
        issued_at: Duration::ZERO,
        expires_at: Duration::ZERO,
    }
}

#[test]
fn providers_are_found_until_they_withdraw_or_go() {
    let mut mesh = Mesh::new(6, 30, Faults::NONE);
    let ttl = Duration::from_secs(300);
    for of in [Address(4), Address(5), Address(6)] {
        let command = Command::Provide { provider: provider(of), ttl, quorum: Quorum::Majority };
        let answer = mesh.ask(of, command).unwrap();
        assert!(matches!(answer, Answer::Stored(ref stored) if stored.is_reached()), "{answer:?}");
    }
    let nodes = |mesh: &mut Mesh| -> BTreeSet<u32> {
        let found = mesh.find(Address(20), key("scoreboard"));
        let of =
            |contact: &Contact| (0..30).find(|n| mesh::contact(Address(*n)).node == contact.node);
        found.iter().map(|found| of(&found.provider().contact).unwrap()).collect()
    };
    assert_eq!(nodes(&mut mesh), BTreeSet::from([4, 5, 6]));
    // They are issued anew for as long as their node is there.
    mesh.run(30 * MINUTE);
    assert_eq!(nodes(&mut mesh), BTreeSet::from([4, 5, 6]));
    let withdraw = Command::Withdraw { key: key("scoreboard"), quorum: Quorum::Majority };
    assert!(mesh.ask(Address(5), withdraw.clone()).is_ok());
    assert_eq!(nodes(&mut mesh), BTreeSet::from([4, 6]));
    assert_eq!(mesh.ask(Address(5), withdraw), Err(Failure::NotProvided));
    mesh.sim.crash(Address(4));
    mesh.run(6 * MINUTE);
    assert_eq!(nodes(&mut mesh), BTreeSet::from([6]));
}

#[test]
fn a_node_alone_is_its_own_table() {
    let mut mesh = Mesh::new(7, 1, Faults::NONE);
    let record = mesh.record(Address(0), "x", 1, "y");
    let stored = mesh.put(Address(0), record, Condition::Any);
    assert_eq!((stored.kept, stored.wanted), (1, 1));
    let got = mesh.get(Address(0), key("x"));
    assert_eq!((got.agreed, got.answered), (1, 1));
    let lookup = mesh.ask(Address(0), Command::Lookup { key: key("x") });
    assert!(matches!(lookup, Ok(Answer::Nodes(ref found)) if found.closest.is_empty()));
}

#[test]
fn what_a_node_alone_has_published_reaches_the_others_when_it_finds_them() {
    let mut mesh = Mesh::new(8, 40, Faults::NONE);
    let alone = Address(39);
    mesh.sim.crash(alone);
    mesh.run(MINUTE);
    mesh.sim.start(alone);
    let command = Command::Provide {
        provider: provider(alone),
        ttl: Duration::from_secs(300),
        quorum: Quorum::All,
    };
    assert!(mesh.ask(alone, command).is_ok());
    let record = mesh.record(alone, "early", 1, "bird");
    assert_eq!(mesh.put(alone, record, Condition::Any).kept, 1);
    mesh.meet(alone, Address(0));
    mesh.run(Duration::from_secs(10));
    mesh.sim.crash(alone);
    assert_eq!(mesh.find(Address(20), key("scoreboard")).len(), 1);
    assert!(mesh.get(Address(20), key("early")).record.is_some());
}

#[test]
fn what_a_client_has_published_outlives_all_servers_that_kept_it() {
    let mut mesh = Mesh::new(9, SERVERS_MAX + 1, Faults::NONE);
    let client = Address(SERVERS_MAX);
    let record = mesh.record(client, "lasting", 1, "value");
    assert!(mesh.put(client, record, Condition::Any).kept > 0);
    let (ttl, quorum) = (Duration::from_secs(300), Quorum::Majority);
    let provide = Command::Provide { provider: provider(client), ttl, quorum };
    assert!(mesh.ask(client, provide).is_ok());
    let servers: Vec<Address> = (0..SERVERS_MAX).map(Address).collect();
    for server in &servers {
        mesh.sim.crash(*server);
    }
    for server in &servers {
        mesh.sim.start(*server);
        if *server != Address(0) {
            mesh.meet(*server, Address(0));
        }
    }
    mesh.run(Duration::from_secs(5));
    assert!(mesh.get(Address(20), key("lasting")).record.is_none(), "nobody has it");
    for server in servers {
        mesh.begun(server);
    }
    mesh.run(Duration::from_secs(60));
    assert!(mesh.get(Address(21), key("lasting")).record.is_some());
    assert_eq!(mesh.find(Address(22), key("scoreboard")).len(), 1);
}

#[test]
fn answers_are_remembered_for_a_while_and_searches_are_shared() {
    let mut mesh = Mesh::new(8, 30, Faults::NONE);
    let record = mesh.record(Address(1), "cached", 1, "1");
    mesh.put(Address(1), record, Condition::Any);
    let ask = |fresh| Command::Get { key: key("cached"), fresh };
    let shared: Vec<_> = (0..5).map(|_| mesh.command(Address(9), ask(false))).collect();
    let before = mesh.sim.sent().messages;
    mesh.run(Duration::from_secs(2));
    let one_search = mesh.sim.sent().messages - before;
    for id in shared {
        let answers = mesh.done.remove(&id).unwrap();
        assert!(matches!(answers.as_slice(), [Ok(Answer::Value(got))] if got.record.is_some()));
    }
    let before = mesh.sim.sent().messages;
    assert!(mesh.ask(Address(9), ask(false)).is_ok());
    assert!(mesh.sim.sent().messages - before < one_search / 2, "it was asked for again");
}

#[test]
fn every_command_ends_once_whatever_the_weather() {
    for seed in 0..3 {
        let mut mesh = Mesh::new(seed, 16, Faults::NONE);
        mesh.sim.set_faults(Faults::STORM);
        let mut asked = Vec::new();
        for number in 0..60_u64 {
            let at = Address(u32::try_from(number % 16).unwrap());
            if mesh.sim.machine(at).is_some() {
                let record = mesh.record(at, &format!("s{}", number % 7), number, "v");
                let put =
                    Command::Put { record, condition: Condition::Any, quorum: Quorum::Majority };
                asked.push((at, mesh.command(at, put)));
                let get = Command::Get { key: key(&format!("s{}", number % 5)), fresh: true };
                asked.push((at, mesh.command(at, get)));
            }
            mesh.run(Duration::from_millis(200));
        }
        mesh.run(mesh::WITHIN + Duration::from_secs(1));
        let ended = asked.iter().filter(|(_, id)| mesh.done.contains_key(id)).count();
        // A node that crashed takes its commands along; all others end, and none twice.
        assert!(mesh.done.values().all(|answers| answers.len() == 1), "seed {seed}");
        assert!(ended > asked.len() / 4, "seed {seed}: {ended} of {}", asked.len());
        for (address, node) in mesh.sim.machines() {
            assert_eq!(node.commands.len(), 0, "seed {seed}: {address:?} keeps commands");
            assert!(node.searches.len() < 20, "seed {seed}: {address:?} keeps searches");
        }
    }
}

#[test]
fn a_lookup_goes_on_at_once_without_those_whose_connections_were_lost() {
    let (mut mesh, asker) = (Mesh::new(15, 12, Faults::NONE), Address(7));
    let id = mesh.command(asker, Command::Lookup { key: key("anything") });
    let under_way = &mesh.sim.machine(asker).unwrap().under_way;
    let asked: BTreeSet<Address> =
        under_way.values().map(|asked| mesh::place(asked.peer.node())).collect();
    let alpha = Config::default().lookup.alpha;
    assert_eq!(asked.len(), alpha, "alpha of them");
    for gone in &asked {
        mesh.sim.crash(*gone);
        mesh.sim.input(asker, |_| Input::Lost { node: contact(*gone).node, is_connected: false });
    }
    let begun = mesh.sim.now();
    while !mesh.done.contains_key(&id) {
        mesh.run(Duration::from_millis(10));
    }
    let took = mesh.sim.now() - begun;
    assert!(took < Duration::from_millis(200), "{took:?}: no timeout is as short");
    let answer = mesh.done.remove(&id).unwrap().pop().unwrap();
    let Ok(Answer::Nodes(found)) = answer else { panic!("{answer:?}") };
    // The others, but for itself and for those who are gone.
    assert_eq!((found.closest.len(), found.failed), (11 - alpha, alpha), "{found:?}");
}
