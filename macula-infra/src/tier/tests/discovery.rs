//! Nodes that know one address find one another, and what is put.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::{Keypair, Validity, self_signed};
use macula_core::path::ChildId;
use macula_core::port::{Directory, DirectoryError, Provider};

use super::super::{Config, Discovery};
use super::{Node, authority, credentials, node_of, node_with, transport};
use crate::bootstrap::{self, Seed};
use crate::dht::proto::lookup::End;
use crate::dht::proto::node::{self as dht, Quorum};
use crate::dht::proto::records::Condition;
use crate::dht::rules::space;
use crate::membership::Event;
use crate::transport::tls::{Credentials, Enforcement, Showing, Trust};

/// Far longer than anything takes.
pub(super) const WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn joined(seed: u8, through: Option<&Node>) -> Node {
    joined_with(seed, through, dht::Config::default()).await
}

/// How a node joins through another.
pub(super) fn joining(through: Option<&Node>) -> Discovery {
    let seeds = through.and_then(|other| other.infra.mesh.listening().first().copied());
    let seeds = seeds.into_iter().map(Seed::Address).collect();
    let bootstrap = bootstrap::Config { seeds, ..bootstrap::Config::default() };
    Discovery { bootstrap, ..Discovery::default() }
}

async fn joined_with(seed: u8, through: Option<&Node>, dht: dht::Config) -> Node {
    let discovery = Discovery { dht, ..joining(through) };
    node_of(Config { discovery, ..Config::new(credentials(&authority(), seed), 1) }).await
}

/// Waits until a node has this many others as members.
pub(super) async fn has_members(node: &Node, count: usize) {
    let membership = node.infra.mesh.membership();
    let mut events = membership.events();
    let waiting = async {
        while membership.members().len() != count {
            events.recv().await.unwrap();
        }
    };
    assert!(tokio::time::timeout(WITHIN, waiting).await.is_ok(), "{:?}", membership.members());
}

/// Waits until a node's lookups find this many others.
pub(super) async fn finds(node: &Node, count: usize) {
    let dht = node.infra.mesh.dht();
    let key = dht.key(space::ANY, b"anything");
    let waiting =
        async { while !dht.lookup(key).await.is_ok_and(|found| found.closest.len() == count) {} };
    assert!(tokio::time::timeout(WITHIN, waiting).await.is_ok(), "{:?}", dht.stats());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_knows_one_address_finds_all_others() {
    let one = joined(1, None).await;
    let two = joined(2, Some(&one)).await;
    let three = joined(3, Some(&one)).await;
    for node in [&one, &two, &three] {
        has_members(node, 2).await;
        finds(node, 2).await;
    }
    let dht = two.infra.mesh.dht();
    let (name, ttl) = ((space::ANY, &b"greeting"[..]), Duration::from_secs(60));
    let put = dht.put(name, Bytes::from("hello"), ttl, Condition::Any, Quorum::All);
    let (sequence, stored) = put.await.unwrap();
    assert_eq!((sequence, stored.kept, stored.wanted), (1, 3, 3), "{stored:?}");
    // The one through whom they have met goes without a word.
    let gone = one.infra.mesh.node();
    one.root.stop().await;
    has_members(&two, 1).await;
    has_members(&three, 1).await;
    assert!(!three.infra.mesh.membership().is_member(gone));
    let got = three.infra.mesh.dht().get(name.0, name.1, true).await.unwrap();
    assert_eq!(got.record.unwrap().record().value, Bytes::from("hello"));
    assert_eq!((got.agreed, got.answered), (2, 2));
    two.root.stop().await;
    three.root.stop().await;
}

/// What has happened to a member by the time the membership's next life knows of it is told, and of the
/// others there is nothing to tell.
#[tokio::test(flavor = "multi_thread")]
async fn who_goes_while_the_membership_restarts_is_gone_and_nobody_joins_twice() {
    let one = joined(1, None).await;
    let two = joined(2, Some(&one)).await;
    let three = joined(3, Some(&one)).await;
    has_members(&one, 2).await;
    let (stays, goes) = (two.infra.mesh.node(), three.infra.mesh.node());
    let mut events = one.infra.mesh.membership().events();
    let actor = &one.infra.membership;
    let life = actor.incarnation();
    actor.actor_ref().unwrap().kill();
    three.root.stop().await;
    actor.next_life(life).await;
    let mut told = Vec::new();
    let gone = async {
        while !told.iter().any(|event| matches!(event, Event::Gone { .. })) {
            told.push(events.recv().await.unwrap());
        }
    };
    tokio::time::timeout(WITHIN, gone).await.expect("it is gone");
    let is_arrival =
        |event: &&Event| matches!(event, Event::Joined { .. } | Event::Returned { .. });
    assert_eq!(told.iter().find(is_arrival), None, "{told:?}");
    assert_eq!(told.last().map(Event::node), Some(goes), "{told:?}");
    assert!(one.infra.mesh.membership().is_member(stays));
    for node in [one, two] {
        node.root.stop().await;
    }
}

/// A node in company goes on to dial the seeds at which nobody answered: when somebody does, two
/// meshes that have never met are one.
#[tokio::test(flavor = "multi_thread")]
async fn meshes_that_have_never_met_become_one_through_a_seed() {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let later = free.local_addr().unwrap();
    let one = joined(1, None).await;
    let seeds = [one.infra.mesh.listening()[0], later].map(Seed::Address).to_vec();
    let retry_max = Duration::from_millis(200);
    let bootstrap =
        bootstrap::Config { seeds, retry_max, retry_initial: retry_max, nameserver: None };
    let discovery = Discovery { bootstrap, ..Discovery::default() };
    let two = node_of(Config { discovery, ..Config::new(credentials(&authority(), 2), 1) }).await;
    has_members(&two, 1).await;
    drop(free);
    let transport = transport::Config { listen: vec![later], ..transport::Config::default() };
    let three = node_with(&authority(), 3, transport).await;
    for node in [&one, &two, &three] {
        has_members(node, 2).await;
    }
    for node in [one, two, three] {
        node.root.stop().await;
    }
}

/// Where nodes are trusted by their ids, whoever dials has to know whom: a seed says it.
#[tokio::test(flavor = "multi_thread")]
async fn a_seed_with_an_id_is_enough_where_nodes_are_trusted_by_their_ids() {
    let ids = [1, 2].map(|seed| Keypair::from_seed([seed; 32]).node_id());
    let known = |seed: u8, seeds: Vec<Seed>| {
        let key = Keypair::from_seed([seed; 32]);
        let valid = Validity::from_now(super::NOW, Duration::from_secs(3_600));
        let showing = Showing { chain: vec![self_signed(&key, valid).unwrap()], key };
        let trust = Trust::NodeId { allow: BTreeSet::from(ids), token: None };
        let credentials =
            Credentials::new(&showing, trust, Enforcement::Enforce, || super::NOW).unwrap();
        let bootstrap = bootstrap::Config { seeds, ..bootstrap::Config::default() };
        let discovery = Discovery { bootstrap, ..Discovery::default() };
        node_of(Config { discovery, ..Config::new(credentials, 1) })
    };
    let one = known(1, Vec::new()).await;
    let place = Box::new(Seed::Address(one.infra.mesh.listening()[0]));
    let two = known(2, vec![Seed::Node { node: one.infra.mesh.node(), place }]).await;
    has_members(&two, 1).await;
    finds(&two, 1).await;
    one.root.stop().await;
    two.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_the_directory_of_the_tiers_above() {
    let one = joined(1, None).await;
    let two = joined(2, Some(&one)).await;
    finds(&one, 1).await;
    finds(&two, 1).await;
    let [here, there]: [&dyn Directory; 2] = [one.infra.mesh.dht(), two.infra.mesh.dht()];
    assert_eq!(there.get("leader").await, Ok(None));
    assert_eq!(here.put("leader", Bytes::from("one"), Some(0)).await, Ok(1));
    let entry = there.get("leader").await.unwrap().unwrap();
    assert_eq!((entry.value, entry.sequence, entry.agreed), (Bytes::from("one"), 1, 2));
    assert_eq!(entry.author, one.infra.mesh.node());
    let late = there.put("leader", Bytes::from("two"), Some(0)).await;
    assert_eq!(late, Err(DirectoryError::Conflict { sequence: 1 }));
    assert_eq!(there.put("leader", Bytes::from("two"), Some(1)).await, Ok(2));
    let long = here.put("leader", Bytes::from(vec![0; 70_000]), None).await;
    assert!(matches!(long, Err(DirectoryError::Refused(_))), "{long:?}");
    here.announce("scoreboard", Bytes::from("v1")).await.unwrap();
    let found = there.find("scoreboard", 5).await.unwrap();
    let provider = Provider { node: one.infra.mesh.node(), metadata: Bytes::from("v1") };
    assert_eq!(found, [provider]);
    here.withdraw("scoreboard").await.unwrap();
    assert_eq!(there.find("scoreboard", 5).await, Ok(Vec::new()));
    one.root.stop().await;
    two.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_ends_what_was_asked_over_it() {
    // So patient that only the loss of the connection can end a request before its deadline.
    let minute = Duration::from_secs(60);
    let mut patient = dht::Config::default();
    (patient.requests.timeout_min, patient.requests.timeout_max) = (minute, minute);
    patient.requests.timeout_initial = minute;
    let one = joined_with(1, None, patient).await;
    let two = joined(2, Some(&one)).await;
    finds(&one, 1).await;
    // Whoever asks it now is not answered, over a connection that is well.
    two.infra.services.terminate_child(ChildId::new("dht").unwrap()).await.unwrap();
    let dht = one.infra.mesh.dht().clone();
    let key = dht.key(space::ANY, b"anything");
    let asking = tokio::spawn(async move { dht.lookup(key).await });
    while !asking.is_finished() {
        if one.infra.mesh.dht().stats().requests.pending > 0 {
            one.infra.mesh.links().iter().for_each(|link| link.kill());
        }
        tokio::task::yield_now().await;
    }
    let found = asking.await.unwrap().unwrap();
    assert_eq!((found.failed, found.end), (1, End::Exhausted), "{found:?}");
    one.root.stop().await;
    two.root.stop().await;
}
