//! The actor and its client.

use std::collections::BTreeMap;

use macula_core::supervision::{CallError, Presence, Root, Supervisor, TreeOptions};
use serde::{Deserialize, Serialize};

use super::{Change, Error, Origin, Registers, worker};
use crate::crdt::limits::Refused;
use crate::crdt::tests::{Mesh, Node, settings, until};
use crate::crdt::{Error as Types, Level, Settings};

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

/// A node with registers: its replicator is in one tree, and what is tested in another.
struct Shared {
    node: Node,
    root: Root,
    registers: Registers,
}

impl Shared {
    async fn start(mesh: &mut Mesh, number: u8, settings: Settings) -> Self {
        let node = mesh.start(number, settings).await;
        let (spec, registers) = worker(node.crdts.clone()).unwrap();
        let root = Supervisor::new("root").unwrap().child(spec);
        Self { node, root: root.start(TreeOptions::default()).await.unwrap(), registers }
    }

    async fn alone() -> Self {
        Self::start(&mut Mesh::default(), 1, settings()).await
    }

    async fn stop(self) {
        self.root.stop().await;
        self.node.root.stop().await;
    }
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
    let alone = Shared::alone().await;
    let registers = &alone.registers;
    let profile = || Profile { name: "ada".into(), scores: BTreeMap::from([("chess".into(), 3)]) };
    let stamp = registers.put("profile", &profile()).await.unwrap();
    assert_eq!(registers.get::<Profile>("profile").await.unwrap(), Some(profile()));
    assert_eq!(registers.read("profile").await.unwrap().unwrap().stamp, stamp);
    assert_eq!(registers.get::<Profile>("nobody").await.unwrap(), None);
    let error = registers.get::<u32>("profile").await.unwrap_err();
    assert!(matches!(&error, Error::Decode { key, .. } if &**key == "profile"), "{error}");
    // It is a key of the replicated types as any other.
    let same = alone.node.crdts.register::<Profile>("registers/profile");
    assert_eq!(same.get().await.unwrap(), Some(profile()));
    same.set(&Profile { name: "ben".into(), ..profile() }).await.unwrap();
    assert_eq!(registers.get::<Profile>("profile").await.unwrap().unwrap().name, "ben");
    registers.remove("profile").await.unwrap();
    assert_eq!(registers.read("profile").await.unwrap(), None);
    assert_eq!(registers.stats().await.unwrap().keys, 0);
    alone.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_changes_nothing() {
    let alone = Shared::alone().await;
    let registers = &alone.registers;
    registers.put("kept", &1).await.unwrap();
    let refused = registers.put("", &1).await.unwrap_err();
    assert_eq!(
        (refused.to_string().as_str(), refused),
        ("the key is empty", Error::Refused(Refused::KeyEmpty))
    );
    // The name of the bucket is no part of what a user names.
    let refused = registers.put("k".repeat(600), &1).await.unwrap_err();
    assert_eq!(refused, Error::Refused(Refused::KeyTooLong { len: 600, len_max: 502 }));
    let refused = registers.write("kept", vec![0; 1 << 20]).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refused::ValueTooLong { .. })), "{refused}");
    // Somebody has the key for something else.
    alone.node.crdts.counter("registers/sum").count(1).await.unwrap();
    let refused = registers.put("sum", &1).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refused::OtherKind { .. })), "{refused}");
    assert_eq!(registers.keys("").await.unwrap().len(), 2);
    assert_eq!(registers.get::<u32>("kept").await.unwrap(), Some(1));
    alone.stop().await;
}

#[tokio::test(start_paused = true)]
async fn keys_are_listed_in_order() {
    let alone = Shared::alone().await;
    for n in (0..10).rev() {
        alone.registers.put(format!("n/{n}"), &n).await.unwrap();
    }
    alone.registers.put("other", &0).await.unwrap();
    let keys = alone.registers.keys("n/").await.unwrap();
    let expected: Vec<String> = (0..10).map(|n| format!("n/{n}")).collect();
    assert!(keys.iter().map(|key| &**key).eq(expected.iter().map(String::as_str)), "{keys:?}");
    alone.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_is_told_how_much_it_lost() {
    let settings = Settings { changes_len_max: 4, ..settings() };
    let alone = Shared::start(&mut Mesh::default(), 1, settings).await;
    let mut changes = alone.registers.subscribe("a").await.unwrap();
    for n in 0..10_u8 {
        alone.registers.write("a", [n]).await.unwrap();
        alone.registers.write("b", [n]).await.unwrap();
    }
    // Of 20 changes in the bucket the last 4 are left.
    for (lost, value) in [(16, 8), (0, 9)] {
        let told = changes.next().await.unwrap();
        let register = told.change.register.unwrap();
        assert_eq!((told.lost, &*register.value), (lost, &[value][..]));
    }
    alone.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_outlives_the_actor_and_hears_of_removals() {
    let alone = Shared::alone().await;
    let mut changes = alone.registers.subscribe("").await.unwrap();
    kill(&alone.registers).await;
    let stamp = alone.registers.write("a", *b"1").await.unwrap();
    let told = changes.next().await.unwrap().change;
    assert_eq!((&*told.key, told.origin), ("a", Origin::Local));
    assert_eq!(told.register.unwrap().stamp, stamp);
    alone.registers.remove("a").await.unwrap();
    let told = changes.next().await.unwrap().change;
    assert_eq!((&*told.key, told.register), ("a", None));
    alone.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nodes_that_use_their_registers_share_them() {
    let mut mesh = Mesh::default();
    let here = Shared::start(&mut mesh, 1, settings()).await;
    let there = Shared::start(&mut mesh, 2, settings()).await;
    assert!(here.node.crdts.buckets().is_empty());
    let mut heard = there.registers.subscribe("a").await.unwrap();
    let first = here.registers.write("a", *b"1").await.unwrap();
    let told = heard.next().await.unwrap().change;
    assert_eq!((told.origin, told.register.unwrap().stamp), (Origin::Remote, first));
    // Apart, both write. The later one is read by both, and nobody hears of the other one.
    mesh.cut(2);
    here.registers.write("a", *b"2").await.unwrap();
    let mut last = first;
    for _ in 0..5 {
        last = there.registers.write("a", *b"3").await.unwrap();
        assert_eq!(heard.next().await.unwrap().change.register.unwrap().stamp, last);
    }
    here.registers.write("another", *b"4").await.unwrap();
    mesh.mend();
    until(async || here.registers.read("a").await.unwrap().unwrap().stamp == last).await;
    until(async || there.registers.read("another").await.unwrap().is_some()).await;
    there.registers.write("ab", *b"5").await.unwrap();
    let mut rest = Vec::new();
    while rest.last().is_none_or(|key| key != "ab") {
        let Change { key, register, .. } = heard.next().await.unwrap().change;
        // It may be told again, but never what has lost.
        assert!(&*key != "a" || register.unwrap().stamp == last);
        rest.push(key.to_string());
    }
    rest.retain(|key| key != "a");
    assert_eq!(rest, ["another", "ab"]);
    for shared in [here, there] {
        shared.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_removal_leaves_is_told_though_it_had_lost_before() {
    let mut mesh = Mesh::default();
    let nodes = [
        Shared::start(&mut mesh, 1, settings()).await,
        Shared::start(&mut mesh, 2, settings()).await,
        Shared::start(&mut mesh, 3, settings()).await,
    ];
    let [one, two, three] = &nodes;
    for node in &nodes {
        node.registers.put("met", &node.registers.keys("").await.unwrap().len()).await.unwrap();
    }
    until(async || {
        let stats = three.registers.stats().await.unwrap();
        stats.in_touch == 2 && one.registers.stats().await.unwrap().in_touch == 2
    })
    .await;
    // One is cut off and writes; the others have a later value, and the third knows of no other.
    mesh.cut(1);
    one.registers.write("a", *b"lost").await.unwrap();
    let mut last = two.registers.write("a", *b"won").await.unwrap();
    for _ in 0..5 {
        last = two.registers.write("a", *b"won").await.unwrap();
    }
    let has_last = async |node: &Shared| {
        let register = node.registers.read("a").await.unwrap();
        register.is_some_and(|register| register.stamp == last)
    };
    let value = async |node: &Shared| {
        node.registers.read("a").await.unwrap().map(|register| register.value.to_vec())
    };
    until(async || has_last(three).await).await;
    mesh.cut(3);
    mesh.join(1);
    until(async || has_last(one).await).await;
    let mut heard = two.registers.subscribe("a").await.unwrap();
    three.registers.remove("a").await.unwrap();
    mesh.mend();
    until(async || value(two).await.as_deref() == Some(b"lost")).await;
    let mut last = None;
    while let Ok(told) = tokio::time::timeout(SECOND, heard.next()).await {
        last = told.unwrap().change.register.map(|register| register.value.to_vec());
    }
    assert_eq!(last.as_deref(), Some(&b"lost"[..]));
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn that_what_has_lost_is_forgotten_is_told_as_no_removal() {
    let mut mesh = Mesh::default();
    let often = || {
        let mut often = settings();
        often.bucket.collect_ms = 300;
        often
    };
    let one = Shared::start(&mut mesh, 1, often()).await;
    let two = Shared::start(&mut mesh, 2, often()).await;
    for registers in [&one.registers, &two.registers] {
        registers.keys("").await.unwrap();
    }
    until(async || one.registers.stats().await.unwrap().in_touch == 1).await;
    let mut heard =
        [one.registers.subscribe("").await.unwrap(), two.registers.subscribe("").await.unwrap()];
    mesh.cut(1);
    one.registers.write("a", *b"1").await.unwrap();
    two.registers.write("a", *b"2").await.unwrap();
    mesh.mend();
    let tidied = async |shared: &Shared| shared.registers.stats().await.unwrap().tidied;
    until(async || tidied(&one).await + tidied(&two).await > 0).await;
    for heard in &mut heard {
        while let Ok(told) = tokio::time::timeout(SECOND, heard.next()).await {
            let change = told.unwrap().change;
            assert!(change.register.is_some(), "{change:?}");
        }
    }
    for shared in [one, two] {
        shared.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_change_is_lost_with_a_future_and_who_listens_holds_no_bucket_again() {
    let mut mesh = Mesh::default();
    let here = Shared::start(&mut mesh, 1, settings()).await;
    let there = Shared::start(&mut mesh, 2, settings()).await;
    let mut heard = here.registers.subscribe("").await.unwrap();
    there.registers.write("a", *b"1").await.unwrap();
    // Whoever asks goes away at any moment.
    let (mut tries, mut told) = (0, None);
    until(async || {
        tries += 1;
        told = futures_util::FutureExt::now_or_never(heard.next()).flatten();
        told.is_some()
    })
    .await;
    let told = told.unwrap().change;
    assert_eq!((&*told.key, told.origin, tries > 1), ("a", Origin::Remote, true));
    there.registers.write("a", *b"2").await.unwrap();
    until(async || here.registers.read("a").await.unwrap().unwrap().value[..] == *b"2").await;
    here.node.crdts.release(super::BUCKET, Level::Local, SECOND).await.unwrap();
    assert_eq!(heard.next().await.unwrap().change.register.unwrap().value[..], *b"2");
    assert_eq!(heard.next().await, None);
    assert!(here.node.crdts.buckets().is_empty());
    for shared in [here, there] {
        shared.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn on_disk_they_are_there_after_the_process() {
    let mut mesh = Mesh::default();
    let durable = || Settings { durable: vec![super::BUCKET.to_owned()], ..settings() };
    let before = Shared::start(&mut mesh, 1, durable()).await;
    let writes = (0..20_u32).map(|n| {
        let registers = before.registers.clone();
        async move { registers.put("n", &n).await.unwrap() }
    });
    // They are taken in the order in which they were asked for, though each waits for the disk.
    let stamps = futures_util::future::join_all(writes).await;
    assert!(stamps.is_sorted());
    before.stop().await;
    let after = Shared::start(&mut mesh, 1, durable()).await;
    assert_eq!(after.registers.get::<u32>("n").await.unwrap(), Some(19));
    after.stop().await;
}

#[tokio::test(start_paused = true)]
async fn where_the_bucket_cannot_be_had_it_is_told_and_nobody_ends() {
    let settings = Settings { buckets_max: 1, ..settings() };
    let alone = Shared::start(&mut Mesh::default(), 1, settings).await;
    alone.node.crdts.hold("other").await.unwrap();
    let told = alone.registers.put("a", &1).await.unwrap_err();
    assert!(matches!(told, Error::Types(Types::BucketsMax { .. })), "{told}");
    alone.node.crdts.release("other", Level::Local, SECOND).await.unwrap();
    alone.registers.put("a", &1).await.unwrap();
    assert_eq!(alone.registers.handle().incarnation(), 1);
    alone.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_the_end_of_the_tree_calls_fail_at_once() {
    let Shared { node, root, registers } = Shared::alone().await;
    root.stop().await;
    let error = registers.write("a", *b"1").await.unwrap_err();
    assert_eq!(error, Error::Call(CallError::Unavailable(Presence::Down)));
    node.root.stop().await;
}
