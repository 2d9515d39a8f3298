//! Parcels arrive, or whoever sent them is told that they did not: once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::{Keypair, NodeId};
use macula_core::wire::Kind;

use super::{DIALS_MAX, Parcel, Post, WAITING_MAX};
use crate::contact::Contact;
use crate::dht::proto::records::Condition;
use crate::dht::record::Record;
use crate::dht::rules::space;
use crate::dht::wire::{Op, Request};
use crate::pool::tests::{Counts, pool};
use crate::tier::tests::{Node, pair};
use crate::transport::lane::Lane;

/// A request of the table: something that shows that it has arrived.
const REQUEST: Kind = Kind(0x30);

fn node(number: u32) -> NodeId {
    let mut seed = [5; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    Keypair::from_seed(seed).node_id()
}

/// Somewhere that nobody is reached.
fn nowhere(node: NodeId) -> Contact {
    Contact::new(node, [SocketAddr::from(([127, 0, 0, 1], 1))])
}

/// How many parcels were not sent.
#[derive(Clone, Default)]
struct Unsent(Arc<AtomicUsize>);

impl Unsent {
    fn parcel(&self, ops: Vec<Op>) -> Parcel {
        let (unsent, body) = (self.clone(), Request { ops }.encode().unwrap());
        let unsent = Box::new(move || {
            unsent.0.fetch_add(1, Ordering::Relaxed);
        });
        // The answers are to nothing that the table has asked, which is its affair.
        Parcel { lane: Lane::Rpc, kind: REQUEST, id: u64::MAX, body, unsent }
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Waits until a node's table has done so much for others.
async fn served(node: &Node, count: u64) {
    while node.infra.mesh.dht().stats().served < count {
        tokio::task::yield_now().await;
    }
}

fn post_of(node: &Node) -> Post {
    Post::new(node.infra.mesh.calling.pool.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_dial_arrives_and_so_does_what_comes_later() {
    let (one, two) = pair().await;
    let (post, unsent) = (post_of(&one), Unsent::default());
    let to = Contact::new(two.infra.mesh.node(), two.infra.mesh.listening());
    assert!(one.infra.mesh.links().is_empty());
    for _ in 0..WAITING_MAX {
        post.send(&to, unsent.parcel(vec![Op::Ping]));
    }
    served(&two, 64).await;
    assert_eq!(one.infra.mesh.links().len(), 1, "one dial for all");
    post.send(&Contact::new(to.node, []), unsent.parcel(vec![Op::Ping]));
    served(&two, 65).await;
    assert_eq!(unsent.count(), 0);
    assert!(post.waiting.lock().is_empty());
    one.root.stop().await;
    two.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_for_a_frame_arrives_too() {
    let (one, two) = pair().await;
    let (post, unsent) = (post_of(&one), Unsent::default());
    let to = Contact::new(two.infra.mesh.node(), two.infra.mesh.listening());
    let key = Keypair::from_seed([1; 32]);
    let record = Record {
        realm: crate::dht::key::RealmId::named("default"),
        space: space::ANY.to_owned(),
        name: b"long".to_vec(),
        author: key.node_id(),
        sequence: 1,
        expires_at: Duration::from_secs(1_800_000_000),
        value: Bytes::from(vec![7; 65_000]),
    };
    let store = Op::Store { record: record.sign(&key).unwrap(), condition: Condition::Any };
    post.send(&to, unsent.parcel(vec![store; 3]));
    served(&two, 3).await;
    assert_eq!(unsent.count(), 0);
    one.root.stop().await;
    two.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_told_once() {
    let (one, two) = pair().await;
    let (post, unsent) = (post_of(&one), Unsent::default());
    for number in 0..3 {
        let to = if number == 0 { Contact::new(node(0), []) } else { nowhere(node(number)) };
        post.send(&to, unsent.parcel(vec![Op::Ping]));
        post.send(&to, unsent.parcel(vec![Op::Ping]));
    }
    while unsent.count() < 6 {
        tokio::task::yield_now().await;
    }
    assert!(post.waiting.lock().is_empty());
    one.root.stop().await;
    two.root.stop().await;
    assert_eq!(unsent.count(), 6);
}

#[tokio::test(start_paused = true)]
async fn so_many_wait_for_one_peer_and_for_so_many_peers() {
    // Its policy is not there, so no dial ends before its time.
    let (post, unsent) = (Post::new(pool(node(0), &Counts::default())), Unsent::default());
    for _ in 0..WAITING_MAX {
        post.send(&nowhere(node(1)), unsent.parcel(vec![Op::Ping]));
    }
    assert_eq!(unsent.count(), 0);
    post.send(&nowhere(node(1)), unsent.parcel(vec![Op::Ping]));
    assert_eq!(unsent.count(), 1, "its queue is full");
    for number in 2..=u32::try_from(DIALS_MAX).unwrap() {
        post.send(&nowhere(node(number)), unsent.parcel(vec![Op::Ping]));
    }
    assert_eq!(unsent.count(), 1);
    post.send(&nowhere(node(1_000)), unsent.parcel(vec![Op::Ping]));
    assert_eq!(unsent.count(), 2, "as many are dialled as may be");
    while !post.waiting.lock().is_empty() {
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    let all = 1 + 1 + WAITING_MAX + DIALS_MAX - 1;
    while unsent.count() < all {
        tokio::task::yield_now().await;
    }
    assert_eq!(unsent.count(), all);
    // There is room again.
    post.send(&nowhere(node(1_000)), unsent.parcel(vec![Op::Ping]));
    assert_eq!((post.waiting.lock().len(), unsent.count()), (1, all));
}
