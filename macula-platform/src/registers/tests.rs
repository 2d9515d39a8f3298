//! The actor and its client.

use std::collections::BTreeMap;

use macula_core::clock::TokioClock;
use macula_core::replica::ReplicaId;
use macula_core::supervision::{CallError, Presence, Root, Supervisor, TreeOptions};
use serde::{Deserialize, Serialize};

use super::{Config, Error, Origin, Refused, Registers, Vault, worker};

async fn start(config: Config, node: u64) -> (Root, Registers) {
    let vault = Vault::new(config, ReplicaId { node, incarnation: 1 }).unwrap();
    let (spec, registers) = worker(vault, TokioClock).unwrap();
    let root = Supervisor::new("root").unwrap().child(spec);
    (root.start(TreeOptions::default()).await.unwrap(), registers)
}

async fn kill(registers: &Registers) {
    let life = registers.handle().incarnation();
    registers.handle().actor_ref().unwrap().kill();
    while registers.handle().incarnation() == life || registers.stats().await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Profile {
    name: String,
    scores: BTreeMap<String, u32>,
}

#[tokio::test(start_paused = true)]
async fn values_of_any_type_come_back_and_others_are_told_apart() {
    let (root, registers) = start(Config::default(), 1).await;
    let profile = Profile { name: "ada".into(), scores: BTreeMap::from([("chess".into(), 3)]) };
    let stamp = registers.put("profile", &profile).await.unwrap();
    assert_eq!(registers.get::<Profile>("profile").await.unwrap(), Some(profile));
    assert_eq!(registers.read("profile").await.unwrap().unwrap().stamp, stamp);
    assert_eq!(registers.get::<Profile>("nobody").await.unwrap(), None);
    let error = registers.get::<u32>("profile").await.unwrap_err();
    assert!(matches!(&error, Error::Decode { key, .. } if &**key == "profile"), "{error}");
    registers.remove("profile").await.unwrap();
    assert_eq!(registers.read("profile").await.unwrap(), None);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn keys_of_many_pages_are_listed_in_order() {
    let (root, registers) = start(Config { page_len_max: 3, ..Config::default() }, 1).await;
    for n in 0..10 {
        registers.put(format!("n/{n}"), &n).await.unwrap();
    }
    registers.put("other", &0).await.unwrap();
    let keys = registers.keys("n/").await.unwrap();
    let expected: Vec<String> = (0..10).map(|n| format!("n/{n}")).collect();
    assert!(keys.iter().map(|key| &**key).eq(expected.iter().map(String::as_str)), "{keys:?}");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_is_told_how_much_it_lost() {
    let (root, registers) = start(Config { changes_len_max: 4, ..Config::default() }, 1).await;
    let mut changes = registers.subscribe("a").await.unwrap();
    for n in 0..10_u8 {
        registers.write("a", [n]).await.unwrap();
        registers.write("b", [n]).await.unwrap();
    }
    let first = changes.next().await.unwrap();
    assert_eq!((first.lost, first.change.register.value.as_deref()), (6, Some(&[6_u8][..])));
    let second = changes.next().await.unwrap();
    assert_eq!((second.lost, second.change.register.value.as_deref()), (0, Some(&[7_u8][..])));
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_and_the_lane_of_deltas_outlive_the_actor() {
    let (root, registers) = start(Config::default(), 1).await;
    let (mut changes, mut deltas) =
        (registers.subscribe("").await.unwrap(), registers.deltas().await.unwrap());
    kill(&registers).await;
    registers.write("a", *b"1").await.unwrap();
    let told = changes.next().await.unwrap().change;
    assert_eq!(told, deltas.next().await.unwrap().change);
    assert_eq!(told.register.stamp.replica, ReplicaId { node: 1, incarnation: 2 });
    // A lane that is opened later takes the place of the first.
    let second = registers.deltas().await.unwrap();
    assert_eq!(deltas.next().await, None);
    drop(second);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn subscribers_that_have_gone_make_room() {
    let (root, registers) = start(Config { subscribers_max: 1, ..Config::default() }, 1).await;
    let first = registers.subscribe("").await.unwrap();
    let refused = registers.subscribe("").await.unwrap_err();
    assert_eq!(
        refused,
        Error::Refused(Refused::SubscribersMax { subscribers: 1, subscribers_max: 1 })
    );
    drop(first);
    registers.subscribe("").await.unwrap();
    assert_eq!(registers.stats().await.unwrap().subscribers, 1);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn deltas_of_one_node_merged_into_another_make_the_two_equal() {
    let (here, ours) = start(Config::default(), 1).await;
    let (there, theirs) = start(Config::default(), 2).await;
    let mut deltas = ours.deltas().await.unwrap();
    let mut heard = theirs.subscribe("").await.unwrap();
    let stamp = ours.write("a", *b"1").await.unwrap();
    let delta = deltas.next().await.unwrap().change;
    assert_eq!(theirs.merge(delta.key, delta.register).await, Ok(true));
    assert_eq!(heard.next().await.unwrap().change.origin, Origin::Remote);
    assert_eq!(ours.read("a").await, theirs.read("a").await);
    assert!(theirs.write("a", *b"2").await.unwrap() > stamp);
    here.stop().await;
    there.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_the_end_of_the_tree_calls_fail_at_once() {
    let (root, registers) = start(Config::default(), 1).await;
    root.stop().await;
    let error = registers.write("a", *b"1").await.unwrap_err();
    assert_eq!(error, Error::Call(CallError::Unavailable(Presence::Down)));
}
