//! Nodes that know one address find one another, and what is put.

use std::time::Duration;

use bytes::Bytes;

use super::super::{Config, Discovery};
use super::{Node, authority, credentials, node_of};
use crate::bootstrap::{self, Seed};
use crate::dht::proto::node::Quorum;
use crate::dht::proto::records::Condition;
use crate::dht::rules::space;

/// Far longer than anything takes.
const WITHIN: Duration = Duration::from_secs(30);

async fn joined(seed: u8, through: Option<&Node>) -> Node {
    let seeds = through.and_then(|other| other.infra.mesh.listening().first().copied());
    let seeds = seeds.into_iter().map(Seed::Address).collect();
    let bootstrap = bootstrap::Config { seeds, ..bootstrap::Config::default() };
    let discovery = Discovery { bootstrap, ..Discovery::default() };
    node_of(Config { discovery, ..Config::new(credentials(&authority(), seed), 1) }).await
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(WITHIN, waiting).await.is_ok(), "not in time: {what}");
}

fn members(node: &Node) -> usize {
    node.infra.mesh.membership().members().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_knows_one_address_finds_all_others() {
    let one = joined(1, None).await;
    let two = joined(2, Some(&one)).await;
    let three = joined(3, Some(&one)).await;
    until("all know all", || [&one, &two, &three].iter().all(|node| members(node) == 2)).await;
    let dht = two.infra.mesh.dht();
    until("the tables are filled", || dht.stats().table.entries == 2).await;
    let (name, ttl) = ((space::ANY, &b"greeting"[..]), Duration::from_secs(60));
    let put = dht.put(name, Bytes::from("hello"), ttl, Condition::Any, Quorum::All);
    let (sequence, stored) = put.await.unwrap();
    assert_eq!((sequence, stored.kept, stored.wanted), (1, 3, 3), "{stored:?}");
    // The one through whom they have met goes without a word.
    let gone = one.infra.mesh.node();
    one.root.stop().await;
    until("it is noticed", || [&two, &three].iter().all(|node| members(node) == 1)).await;
    assert!(!three.infra.mesh.membership().is_member(gone));
    let got = three.infra.mesh.dht().get(name.0, name.1, true).await.unwrap();
    assert_eq!(got.record.unwrap().record().value, Bytes::from("hello"));
    assert_eq!((got.agreed, got.answered), (2, 2));
    two.root.stop().await;
    three.root.stop().await;
}
