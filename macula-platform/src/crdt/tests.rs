//! Nodes in one process: what users have of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::NodeId;
use macula_core::port::{Answer, Call, CallError, Serve};
use macula_core::supervision::{Root, Supervisor, TreeOptions};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::config::Config;
use super::limits::{Limits, Refused};
use super::settings::Settings;
use super::state::Kinds;
use super::tree::Wiring;
use super::types::{OrSet, PnCounter};
use super::vault::{Origin, Vault};
use super::{Changes, Crdts, Error, Failed, Level, Session, actor, service};
use crate::consensus::tests::counted::Counted;
use crate::minder;
use crate::raft::media::{Medium, Memory};
use crate::raft::tests::harness::node;
use macula_core::supervision::Handle;

const SOON: Duration = Duration::from_millis(200);

/// The ways between nodes, of which some are cut.
#[derive(Debug, Default)]
struct Wires {
    services: Mutex<BTreeMap<NodeId, Arc<dyn Serve>>>,
    cut: Mutex<BTreeSet<NodeId>>,
}

#[derive(Debug)]
struct From(Arc<Wires>, NodeId);

impl Call for From {
    fn call<'a>(
        &'a self,
        to: NodeId,
        question: Bytes,
        _within: Duration,
    ) -> Answer<'a, Result<Bytes, CallError>> {
        let cut = self.0.cut.lock();
        let service = self.0.services.lock().get(&to).cloned();
        let service = service.filter(|_| !cut.contains(&to) && !cut.contains(&self.1));
        let from = self.1;
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let service = service.ok_or_else(|| CallError::Unreachable("cut".to_owned()))?;
            service.serve(from, question).await.map_err(CallError::Refused)
        })
    }
}

pub(crate) struct Node {
    pub(crate) root: Root,
    pub(crate) crdts: Crdts,
    actor: Handle<minder::Ended>,
}

#[derive(Default)]
pub(crate) struct Mesh {
    wires: Arc<Wires>,
    lives: u64,
    disks: BTreeMap<u8, Memory>,
}

pub(crate) fn settings() -> Settings {
    let bucket = Config { greet_ms: 50, greet_ms_max: 500, sync_ms: 500, ..Config::default() };
    Settings { durable: vec!["disk".to_owned()], within_ms: 2_000, bucket, ..Settings::default() }
}

impl Mesh {
    pub(crate) async fn start(&mut self, number: u8, settings: Settings) -> Node {
        self.lives += 1;
        let origin = Origin { node: node(number), new_life: self.lives, seed: self.lives };
        let disk = self.disks.entry(number).or_default().clone();
        let settings = Settings { folder: Some("unused".into()), ..settings };
        let vault = Vault::on(settings, Kinds::default(), origin, Some(&disk)).unwrap();
        let near = (1..=3).map(node).collect();
        let wiring = Wiring {
            call: Arc::new(From(Arc::clone(&self.wires), node(number))),
            near: watch::channel(near).1,
        };
        let (spec, actor) = actor::worker(vault.clone(), wiring).unwrap().split();
        let service = Arc::new(service::Service(vault.clone()));
        self.wires.services.lock().insert(node(number), service);
        let root = Supervisor::new("root").unwrap().intensity(100, Duration::from_secs(1));
        let root = root.child(spec).start(TreeOptions::default()).await.unwrap();
        Node { root, crdts: Crdts(vault), actor }
    }

    async fn three(&mut self) -> [Node; 3] {
        let nodes = [
            self.start(1, settings()).await,
            self.start(2, settings()).await,
            self.start(3, settings()).await,
        ];
        for bucket in ["lobby", "disk"] {
            for node in &nodes {
                node.crdts.hold(bucket).await.unwrap();
            }
            for node in &nodes {
                until(async || node.crdts.stats(bucket).await.unwrap().in_touch == 2).await;
            }
        }
        nodes
    }

    pub(crate) fn cut(&self, number: u8) {
        self.wires.cut.lock().insert(node(number));
    }

    pub(crate) fn join(&self, number: u8) {
        self.wires.cut.lock().remove(&node(number));
    }

    pub(crate) fn mend(&self) {
        self.wires.cut.lock().clear();
    }
}

/// Waits for something to be so.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let all = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_one_writes_all_have_and_levels_say_who() {
    let mut mesh = Mesh::default();
    let nodes = mesh.three().await;
    let players = |at: usize| nodes[at].crdts.or_set::<String>("lobby/players");
    let done = players(0).at(Level::All).add(&"ada".to_owned()).await.unwrap();
    assert_eq!((done.reached, done.members), (3, 3));
    assert_eq!(players(2).elements().await.unwrap(), ["ada"]);
    assert!(players(1).contains(&"ada".to_owned()).await.unwrap());
    players(2).at(Level::All).take(&"ada".to_owned()).await.unwrap();
    assert!(players(0).elements().await.unwrap().is_empty());
    let keys = nodes[1].crdts.keys("lobby", "").await.unwrap();
    assert!(keys.is_empty());
    // One is cut off: what was reached is said, and what was written stays.
    mesh.cut(3);
    let late = players(0).at(Level::All).within(SOON).add(&"ben".to_owned()).await.unwrap_err();
    assert_eq!(
        late,
        Error::Failed(Failed::NotReached { reached: 2, wanted: 3, members: 3 }),
        "{late}"
    );
    let late = players(0).at(Level::All).within(SOON).elements().await.unwrap_err();
    assert!(matches!(late, Error::Failed(Failed::NotReached { reached: 2, .. })), "{late}");
    assert_eq!(players(1).at(Level::Majority).elements().await.unwrap(), ["ben"]);
    mesh.mend();
    until(async || players(2).elements().await.unwrap() == ["ben"]).await;
    for node in nodes {
        node.root.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn keys_have_types_and_limits_and_errors_that_lose_nothing() {
    let mut mesh = Mesh::default();
    let limits = Limits { element_len_max: 8, ..Limits::default() };
    let bucket = Config { limits, ..Config::default() };
    let node = mesh.start(1, Settings { bucket, ..settings() }).await;
    let crdts = &node.crdts;
    let set = crdts.or_set::<String>("lobby/players");
    set.add(&"ada".to_owned()).await.unwrap();
    let refused = set.add(&"a name that is long".to_owned()).await.unwrap_err();
    assert_eq!(refused.to_string(), "the element has 20 bytes, and at most 8 are allowed");
    let other = crdts.counter("lobby/players").count(1).await.unwrap_err();
    assert!(matches!(other, Error::Failed(Failed::Refused(Refused::OtherKind { .. }))), "{other}");
    let other = crdts.counter("lobby/players").value().await.unwrap_err();
    assert_eq!(
        other.to_string(),
        r#""lobby/players" is of type or-set, and pn-counter was asked for"#
    );
    let unread = crdts.or_set::<u64>("lobby/players").elements().await.unwrap_err();
    assert!(matches!(unread, Error::Decode { .. }), "{unread}");
    let nowhere = crdts.counter("score").count(1).await.unwrap_err();
    assert!(matches!(nowhere, Error::NoBucket { .. }), "{nowhere}");
    assert_eq!(set.elements().await.unwrap(), ["ada"]);
    // A bucket that is not the first segment.
    let score = crdts.key_in::<PnCounter, ()>("lobby", "score");
    score.count(5).await.unwrap();
    score.count(-7).await.unwrap();
    assert_eq!(score.value().await.unwrap(), -2);
    // All or nothing.
    let raw = crdts.key::<OrSet, ()>("lobby/raw");
    let refused = raw.update(|set, write| {
        let mut changes = Changes::of(set);
        changes.make(|set| set.add(*b"one", write))?;
        changes.make(|set| set.add(*b"far too long", write))?;
        Ok(changes.finish())
    });
    refused.await.unwrap_err();
    assert!(raw.read(OrSet::is_empty).await.unwrap());
    node.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_actor_is_killed_and_nothing_is_lost() {
    let mut mesh = Mesh::default();
    let nodes = mesh.three().await;
    for n in 0..40_i64 {
        let at = usize::try_from(n % 3).unwrap();
        let counter = nodes[at].crdts.counter("lobby/score").at(Level::Majority);
        if n % 4 == 1 {
            let victim = &nodes[(at + usize::from(n % 8 == 1)) % 3].actor;
            let life = victim.incarnation();
            if let Some(actor) = victim.actor_ref() {
                actor.kill();
            }
            // What is local needs no actor.
            counter.clone().at(Level::Local).count(1).await.unwrap();
            until(async || victim.incarnation() > life).await;
        } else {
            counter.count(1).await.unwrap();
        }
    }
    for node in &nodes {
        let score = node.crdts.counter("lobby/score");
        until(async || score.value().await.unwrap() == 40).await;
    }
    for node in nodes {
        node.root.stop().await;
    }
}

#[tokio::test]
async fn what_is_on_disk_is_there_again() {
    let mut mesh = Mesh::default();
    let nodes = mesh.three().await;
    for n in 0..20_u32 {
        nodes[0].crdts.or_set("disk/set").add(&n).await.unwrap();
    }
    nodes[0].crdts.or_set("disk/set").take(&3_u32).await.unwrap();
    nodes[0].crdts.counter("lobby/score").count(1).await.unwrap();
    for node in nodes {
        node.root.stop().await;
    }
    mesh.wires.services.lock().clear();
    // Nobody else is there, and what was in memory is gone.
    let again = mesh.start(1, settings()).await;
    // It holds again what it has on disk, before anybody asks.
    until(async || again.crdts.buckets().iter().any(|bucket| **bucket == *"disk")).await;
    let left: Vec<u32> = again.crdts.or_set("disk/set").elements().await.unwrap();
    assert_eq!(left.len(), 19);
    assert_eq!(again.crdts.counter("lobby/score").value().await.unwrap(), 0);
    let before = again.crdts.stats("disk").await.unwrap();
    again.crdts.or_set("disk/set").add(&100_u32).await.unwrap();
    // It is the same replica, and no dot was used twice.
    let after = again.crdts.stats("disk").await.unwrap();
    assert_eq!((before.spans, after.spans), (1, 1));
    again.root.stop().await;
}

#[tokio::test]
async fn what_is_damaged_is_told_and_served_by_nobody() {
    let mut mesh = Mesh::default();
    let node = mesh.start(1, settings()).await;
    let set = node.crdts.or_set("disk/set");
    for n in 0..50_u32 {
        set.add(&[n; 50].to_vec()).await.unwrap();
    }
    node.root.stop().await;
    drop(set);
    drop(node.crdts);
    let disk = mesh.disks.get(&1).unwrap();
    let file = disk.file("crdt.redb").unwrap();
    let len = file.len().unwrap();
    // A bit in each page, so that rows are hit as well.
    for page in (8_192..len).step_by(4_096) {
        let mut byte = [0];
        file.read(page + 1_000, &mut byte).unwrap();
        file.write(page + 1_000, &[byte[0] ^ 1]).unwrap();
    }
    let again = mesh.start(1, settings()).await;
    let closed = again.crdts.or_set::<Vec<u32>>("disk/set").elements().await.unwrap_err();
    assert!(matches!(&closed, Error::Closed { bucket, .. } if &**bucket == "disk"), "{closed}");
    // What is in memory is not concerned.
    again.crdts.counter("lobby/score").count(1).await.unwrap();
    again.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_sees_what_it_did_on_another_node() {
    let mut mesh = Mesh::default();
    let nodes = mesh.three().await;
    let session = Session::default();
    let cart = |at: usize, session: &Session| {
        nodes[at].crdts.or_set::<String>("lobby/cart").in_session(session).within(SOON)
    };
    cart(0, &session).add(&"tea".to_owned()).await.unwrap();
    let session = Session::from_bytes(&session.to_bytes()).unwrap();
    assert_eq!(cart(1, &session).elements().await.unwrap(), ["tea"]);
    cart(1, &session).take(&"tea".to_owned()).await.unwrap();
    assert!(cart(2, &session).elements().await.unwrap().is_empty());
    mesh.cut(3);
    cart(0, &session).add(&"milk".to_owned()).await.unwrap();
    let late = cart(2, &session).elements().await.unwrap_err();
    assert_eq!(late, Error::Failed(Failed::NotCovered));
    mesh.mend();
    let patient = cart(2, &session).within(Duration::from_secs(30));
    assert_eq!(patient.elements().await.unwrap(), ["milk"]);
    for node in nodes {
        node.root.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn changes_are_told_as_deltas_and_outlive_the_actor() {
    let mut mesh = Mesh::default();
    let nodes = mesh.three().await;
    let mut changes = nodes[2].crdts.subscribe("lobby", "lobby/a").await.unwrap();
    nodes[2].actor.actor_ref().unwrap().kill();
    nodes[0].crdts.counter("lobby/b").count(1).await.unwrap();
    nodes[0].crdts.counter("lobby/a").count(7).await.unwrap();
    let told = changes.next().await.unwrap();
    assert_eq!((&*told.change.key, told.is_local, told.lost), ("lobby/a", false, 0));
    assert_eq!(told.change.delta.state.of::<PnCounter>().unwrap().value(), 7);
    nodes[2].crdts.counter("lobby/a").count(-2).await.unwrap();
    assert!(changes.next().await.unwrap().is_local);
    for node in nodes {
        node.root.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_hold_a_bucket_is_no_member_of_it() {
    let mut mesh = Mesh::default();
    let nodes = mesh.three().await;
    let alone = nodes[0].crdts.counter("alone/score").at(Level::All);
    let done = alone.count(1).await.unwrap();
    assert_eq!((done.reached, done.members), (1, 1));
    // Another one comes to hold it, and has what was there.
    let other = nodes[1].crdts.counter("alone/score");
    until(async || other.value().await.unwrap() == 1).await;
    assert_eq!(alone.count(1).await.unwrap().members, 2);
    assert_eq!(nodes[2].crdts.buckets().len(), 2);
    for node in nodes {
        node.root.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_is_let_go_of_is_held_by_the_others() {
    let mut mesh = Mesh::default();
    let nodes = mesh.three().await;
    let crdts = &nodes[0].crdts;
    let mut changes = crdts.subscribe("disk", "").await.unwrap();
    for n in 0..20_u32 {
        crdts.or_set("disk/set").add(&n).await.unwrap();
    }
    let before = crdts.stats("disk").await.unwrap();
    assert_eq!(before.spans, 1);
    crdts.release("disk", Level::Majority, SOON * 10).await.unwrap();
    assert_eq!(crdts.buckets(), ["lobby".into()]);
    while changes.next().await.is_some() {}
    // Nobody waits for it, and what it had is there.
    let set = nodes[1].crdts.or_set::<u32>("disk/set").at(Level::All);
    until(async || set.add(&20).await.unwrap().members == 2).await;
    assert_eq!(set.elements().await.unwrap().len(), 21);
    // What is not held is let go of at once.
    crdts.release("disk", Level::All, SOON).await.unwrap();
    // It is held again by its use: as another, without what was on disk until the others give it.
    let again = crdts.or_set::<u32>("disk/set");
    again.add(&21).await.unwrap();
    until(async || again.elements().await.unwrap().len() == 22).await;
    until(async || set.add(&22).await.unwrap().members == 3).await;
    assert_eq!(set.elements().await.unwrap().len(), 23);
    assert!(nodes[1].crdts.stats("disk").await.unwrap().spans >= 2);
    for node in nodes {
        node.root.stop().await;
    }
    // The disk has nothing of the one that went.
    mesh.wires.services.lock().clear();
    let alone = mesh.start(1, settings()).await;
    let left: Vec<u32> = alone.crdts.or_set("disk/set").elements().await.unwrap();
    assert_eq!(left.len(), 23);
    alone.crdts.release("disk", Level::Local, SOON).await.unwrap();
    alone.root.stop().await;
    let empty = mesh.start(1, settings()).await;
    let left: Vec<u32> = empty.crdts.or_set("disk/set").elements().await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    empty.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_bucket_stays_where_nobody_else_has_it() {
    let mut mesh = Mesh::default();
    let settings = Settings { hold: vec!["kept".to_owned()], ..settings() };
    let node = mesh.start(1, settings).await;
    let score = node.crdts.counter("kept/score");
    score.count(1).await.unwrap();
    let alone = node.crdts.release("kept", Level::Majority, SOON).await.unwrap_err();
    let Error::Failed(Failed::NotReached { reached: 1, wanted: 2, .. }) = alone else {
        panic!("{alone}")
    };
    score.count(1).await.unwrap();
    assert_eq!(score.value().await.unwrap(), 2);
    // What is let go of whatever becomes of it is not held again by the actor's next life.
    node.crdts.release("kept", Level::Local, SOON).await.unwrap();
    let life = node.actor.incarnation();
    node.actor.actor_ref().unwrap().kill();
    until(async || node.actor.incarnation() > life).await;
    tokio::time::sleep(SOON).await;
    assert!(node.crdts.buckets().is_empty());
    assert_eq!(score.value().await.unwrap(), 0);
    node.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_changes_nothing_is_had_by_whoever_has_all_before_it() {
    let mut mesh = Mesh::default();
    let nodes = mesh.three().await;
    let key = |at: usize| nodes[at].crdts.counter("lobby/score").at(Level::All).within(SOON * 10);
    // Nothing was ever written here, and nothing is there to remove.
    let done = key(0).remove().await.unwrap();
    assert_eq!((done.reached, done.members), (3, 3));
    key(0).count(1).await.unwrap();
    let missing = nodes[0].crdts.counter("lobby/missing").at(Level::All).within(SOON * 10);
    assert_eq!(missing.remove().await.unwrap().reached, 3);
    // While one is out of reach it is not said to have what it has not.
    mesh.cut(3);
    nodes[0].crdts.counter("lobby/score").count(1).await.unwrap();
    let failed = missing.remove().await.unwrap_err();
    assert!(matches!(failed, Error::Failed(Failed::NotReached { reached: 2, .. })), "{failed}");
    for node in &nodes {
        node.root.stop().await;
    }
}

/// Stops a node, which then has none of its files open.
async fn end(node: Node) {
    node.root.stop().await;
    drop(node.crdts);
}

#[tokio::test(start_paused = true)]
async fn what_the_log_has_is_in_the_states_that_are_written_in_a_later_life() {
    let mut mesh = Mesh::default();
    for life in 1..=3 {
        let node = mesh.start(1, settings()).await;
        assert_eq!(node.crdts.counter("disk/score").value().await.unwrap(), life - 1);
        node.crdts.counter("disk/score").count(1).await.unwrap();
        end(node).await;
        // So much is written in a life that does not touch the key that all states are written.
        let node = mesh.start(1, settings()).await;
        for n in 0..80 {
            let value = vec![n; 60_000];
            let key = format!("disk/{n}");
            let register = node.crdts.register::<Vec<u8>>(&key);
            register.update(move |register, write| register.set(value, write)).await.unwrap();
        }
        end(node).await;
    }
    let node = mesh.start(1, settings()).await;
    assert_eq!(node.crdts.counter("disk/score").value().await.unwrap(), 3);
    end(node).await;
}

#[tokio::test(start_paused = true)]
async fn only_a_bucket_without_use_is_let_go_of_for_nothing() {
    let mut mesh = Mesh::default();
    let settings = Settings { hold: vec!["kept".to_owned()], ..settings() };
    let (node, other) = (mesh.start(1, settings.clone()).await, mesh.start(2, settings).await);
    let crdts = &node.crdts;
    for bucket in ["kept", "written", "heard", "emptied", "typo", "theirs"] {
        crdts.hold(bucket).await.unwrap();
    }
    crdts.counter("written/score").count(1).await.unwrap();
    crdts.counter("emptied/score").count(1).await.unwrap();
    crdts.counter("emptied/score").remove().await.unwrap();
    other.crdts.counter("theirs/score").count(1).await.unwrap();
    until(async || crdts.counter("theirs/score").value().await.unwrap() == 1).await;
    let _heard = crdts.subscribe("heard", "").await.unwrap();
    for bucket in ["kept", "written", "heard", "emptied", "theirs", "never"] {
        assert!(!crdts.release_unused(bucket).await.unwrap(), "{bucket}");
    }
    assert!(crdts.release_unused("typo").await.unwrap());
    let held = crdts.buckets();
    let held: Vec<&str> = held.iter().map(|bucket| &**bucket).collect();
    assert_eq!(held, ["emptied", "heard", "kept", "theirs", "written"]);
    // What can be no key holds nothing either.
    let long = format!("new/{}", "k".repeat(600));
    let refused = crdts.counter(&long).count(1).await.unwrap_err();
    assert!(matches!(refused, Error::Failed(Failed::Refused(Refused::KeyTooLong { .. }))));
    assert_eq!(crdts.check(&long), Err(refused));
    assert_eq!(
        crdts.check(&format!("{}/key", "b".repeat(257))),
        Err(Error::BucketTooLong { len: 257, len_max: 256 })
    );
    assert!(crdts.buckets().iter().all(|bucket| &**bucket != "new"));
    for one in [node, other] {
        one.root.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_replicas_do_is_counted() {
    let counted = Counted::default();
    let _recorder = metrics::set_default_local_recorder(&counted);
    let mut mesh = Mesh::default();
    let [node, other, third] = mesh.three().await;
    // Nodes of one process count together: the others are silent.
    for silent in [&other, &third] {
        silent.root.stop().await;
    }
    mesh.cut(2);
    mesh.cut(3);
    for n in 0..5_u32 {
        node.crdts.or_set("lobby/set").add(&n).await.unwrap();
    }
    node.crdts.counter("lobby/score").count(1).await.unwrap();
    until(async || node.crdts.stats("lobby").await.unwrap().in_touch == 0).await;
    // It is told once a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let is = |name: &str, value: f64| assert_eq!(counted.get(name), Some(value), "{name}");
    is("macula_crdt_buckets", 2.0);
    is("macula_crdt_keys lobby", 2.0);
    is("macula_crdt_keys disk", 0.0);
    is("macula_crdt_members lobby", 3.0);
    is("macula_crdt_members_in_touch lobby", 0.0);
    is("macula_crdt_context_spans lobby", 1.0);
    is("macula_crdt_changes_total lobby written", 6.0);
    is("macula_crdt_changes_total lobby refused", 0.0);
    is("macula_crdt_resyncs_total lobby", 0.0);
    let lost = counted.get("macula_crdt_frames_lost_total");
    assert!(lost.is_some_and(|lost| lost > 0.0), "{lost:?}");
    let weight = counted.get("macula_crdt_weight_bytes lobby");
    assert!(weight.is_some_and(|weight| weight > 0.0), "{weight:?}");
    node.crdts.release("lobby", Level::Local, SOON).await.unwrap();
    is("macula_crdt_keys lobby", 0.0);
    is("macula_crdt_changes_total lobby written", 6.0);
    node.root.stop().await;
}
