//! Nodes' parts, in trees.

pub(crate) mod counted;

use std::sync::Arc;
use std::time::Duration;

use macula_core::port::Call;
use macula_core::supervision::{Root, Start, Supervisor, TreeOptions, Worker};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{Config, Consensus, Parts, RebuildError, Role, supervisor};
use crate::election::{Event, Options, Token, Why};
use crate::kv::tests::world::{Board, soon};
use crate::raft::tests::harness::{Files, From, Lane, Wires, node};

/// A realm of nodes that reach one another.
#[derive(Default)]
struct Realm {
    wires: Arc<Wires>,
    board: Board,
    life: u64,
}

struct Node {
    root: Root,
    consensus: Consensus,
}

impl Realm {
    async fn start(&self, number: u8, config: &Config, has_seeds: bool) -> Node {
        let way =
            |lane| -> Arc<dyn Call> { Arc::new(From(Arc::clone(&self.wires), node(number), lane)) };
        let parts = Parts {
            node: node(number),
            has_seeds,
            raft: way(Lane::Raft),
            kv: way(Lane::Kv),
            change: way(Lane::Change),
            directory: self.board.at(node(number)),
            new_life: self.life,
            seed: number.into(),
        };
        let (supervisor, consensus) = supervisor(config, parts).unwrap();
        if let Some(voter) = &consensus.voter {
            let services = voter.services.clone();
            self.wires.serve(node(number), Lane::Raft, services.raft);
            self.wires.serve(node(number), Lane::Kv, services.kv);
            self.wires.serve(node(number), Lane::Change, services.change);
        }
        let root = Supervisor::new("root").unwrap().child(supervisor);
        let root = root.start(TreeOptions::default()).await.unwrap();
        Node { root, consensus }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_alone_agrees_with_itself_and_outlives_its_actors() {
    let realm = Realm::default();
    let alone = realm.start(1, &Config::default(), false).await;
    let (kv, voter) = (alone.consensus.kv.clone(), alone.consensus.voter.clone().unwrap());
    let lease = kv.grant(Duration::from_secs(5)).await.unwrap().lease;
    kv.put_on("held", "x", Some(lease)).await.unwrap();
    let mut watch = kv.watch("key", None).await.unwrap();
    let writer = {
        let kv = kv.clone();
        tokio::spawn(async move {
            for number in 0..200 {
                kv.put("key", number.to_string()).await.unwrap();
                kv.keep_alive(lease).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    };
    let id = voter.service.status().unwrap().member;
    // Fewer than the intensity allows for.
    for round in 0..8 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let (raft, counting) = (voter.raft.incarnation(), voter.counting.incarnation());
        if round % 2 == 0 {
            voter.raft.actor_ref().unwrap().kill();
            // What stands on it is started anew with it.
            soon(|| voter.raft.incarnation() > raft).await;
        } else {
            voter.counting.actor_ref().unwrap().kill();
        }
        soon(|| voter.counting.incarnation() > counting && voter.counting.actor_ref().is_some())
            .await;
        kv.get("key").await.unwrap();
    }
    writer.await.unwrap();
    assert_eq!(kv.get("key").await.unwrap().unwrap().version, 200);
    assert!(kv.get("held").await.unwrap().is_some());
    assert_eq!(voter.service.status().unwrap().member, id);
    for number in 0..200 {
        let event = watch.next().await.unwrap();
        assert_eq!(event.item.unwrap().value, number.to_string());
    }
    // Now nobody keeps it alive.
    let mut gone = kv.watch("held", None).await.unwrap();
    assert_eq!(gone.next().await.unwrap().item, None);
    alone.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn candidates_step_down_with_what_looks_after_them_and_campaign_anew() {
    let realm = Realm::default();
    let alone = realm.start(1, &Config::default(), false).await;
    let client = realm.start(2, &Config::default(), true).await;
    let (kv, elections) = (client.consensus.kv.clone(), client.consensus.elections.clone());
    let mut candidacy = elections.campaign("a", Options { ttl_ms: 1_000 }).unwrap();
    let mut last = None;
    for _ in 0..4 {
        let Some(Event::Elected(leadership)) = candidacy.next().await else { panic!() };
        assert!(last < Some(leadership.token()) && leadership.is_valid());
        last = Some(leadership.token());
        kv.guarded("a", leadership.token()).put("key", "x").await.unwrap();
        let (actor, life) = (&client.consensus.election, client.consensus.election.incarnation());
        actor.actor_ref().unwrap().kill();
        let Some(Event::Deposed { token, why }) = candidacy.next().await else { panic!() };
        assert_eq!((Some(token), why), (last, Why::Interrupted));
        assert!(!leadership.is_valid());
        soon(|| actor.incarnation() > life).await;
    }
    assert_eq!(kv.get("key").await.unwrap().unwrap().version, 4);
    // What it stands on is killed where it can vote: nobody is deposed by that.
    let voter = alone.consensus.voter.clone().unwrap();
    let Some(Event::Elected(leadership)) = candidacy.next().await else { panic!() };
    let life = voter.raft.incarnation();
    voter.raft.actor_ref().unwrap().kill();
    soon(|| voter.raft.incarnation() > life).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(leadership.is_valid());
    drop(leadership);
    candidacy.resign().await;
    assert_eq!(elections.list(None).await.unwrap().elections, []);
    client.root.stop().await;
    alone.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_take_turns_on_many_threads() {
    let realm = Realm::default();
    let alone = realm.start(1, &Config::default(), false).await;
    let client = realm.start(2, &Config::default(), true).await;
    let options = Options { ttl_ms: 1_000 };
    let campaign = |node: &Node| node.consensus.elections.campaign("a", options).unwrap();
    let (mut one, mut other) = (campaign(&alone), campaign(&client));
    let mut last = None;
    for _ in 0..6 {
        let (event, led) = tokio::select! {
            event = one.next() => (event, &mut one),
            event = other.next() => (event, &mut other),
        };
        let Some(Event::Elected(leadership)) = event else { panic!("{event:?}") };
        let token = leadership.token();
        assert!(last < Some(token));
        last = Some(token);
        led.step_down();
        assert!(!leadership.is_valid());
        drop(leadership);
        // On a machine that is busy its time may have passed before.
        let Some(Event::Deposed { token: it, .. }) = led.next().await else { panic!() };
        assert_eq!(it, token);
    }
    client.root.stop().await;
    alone.root.stop().await;
}

/// In which life what was told: a token, or that it is over.
type All = Arc<Mutex<Vec<(u64, Option<Token>)>>>;

/// Told that it is elected, and deposed.
struct Told(All, u64);

impl Actor for Told {
    type Msg = Option<Event>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        event: Self::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let token = match event {
            Some(Event::Elected(leadership)) => Some(leadership.check().unwrap()),
            Some(Event::Deposed { .. }) => None,
            None => return Err("it crashes".into()),
        };
        self.0.lock().push((self.1, token));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn each_life_of_an_actor_is_told_of_its_own_elections() {
    let realm = Realm::default();
    let alone = realm.start(1, &Config::default(), false).await;
    let told = All::default();
    let shared = Arc::clone(&told);
    let worker = Worker::with("told", move |context| {
        Ok(Start::Run(Told(Arc::clone(&shared), context.incarnation), ()))
    });
    let (spec, handle) = worker.unwrap().split();
    let elections = alone.consensus.elections.clone();
    let options = Options { ttl_ms: 1_000 };
    let nomination = elections.campaign_for("a", options, handle.clone(), Some).unwrap();
    alone.root.handle().start_child(spec).await.unwrap();
    soon(|| told.lock().len() == 1).await;
    assert_eq!(elections.resign("a").await.unwrap(), told.lock()[0].1);
    soon(|| told.lock().len() == 3).await;
    handle.cast(None).unwrap();
    soon(|| told.lock().len() == 4).await;
    drop(nomination);
    let mut observed = elections.observe("a").unwrap();
    while observed.next().await.unwrap().leader.is_some() {}
    let told = told.lock().clone();
    let lives: Vec<_> = told.iter().map(|(life, token)| (*life, token.is_some())).collect();
    assert_eq!(lives, [(1, true), (1, false), (1, true), (2, true)]);
    assert!(told[0].1 < told[2].1 && told[2].1 < told[3].1);
    alone.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn others_are_clients_or_are_taken_in() {
    let realm = Realm::default();
    let founder = realm.start(1, &Config::default(), false).await;
    let client = realm.start(2, &Config::default(), true).await;
    let voter = Config { role: Role::Voter, ..Config::default() };
    let second = realm.start(3, &voter, true).await;
    let third = realm.start(4, &voter, true).await;
    assert!(client.consensus.voter.is_none());
    let kv = &client.consensus.kv;
    kv.put("a", "1").await.unwrap();
    for number in [3, 4] {
        kv.operator().add_voter(node(number)).await.unwrap();
    }
    let expected = [1, 3, 4].map(node).into();
    soon(|| realm.board.nodes() == expected).await;
    assert_eq!(second.consensus.kv.get("a").await.unwrap().unwrap().value, "1");
    // The founder ends, and the others go on.
    founder.root.stop().await;
    kv.put("a", "2").await.unwrap();
    assert_eq!(third.consensus.kv.get("a").await.unwrap().unwrap().value, "2");
    for node in [client, second, third] {
        node.root.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_folder_is_there_when_the_node_is_started_anew() {
    let files = Files::new("consensus");
    let config = Config { folder: Some(files.0.clone()), ..Config::default() };
    for life in 0..3_u64 {
        let realm = Realm { life, ..Realm::default() };
        let node = realm.start(1, &config, false).await;
        let before = node.consensus.kv.get("a").await.unwrap();
        assert_eq!(before.map_or(0, |item| item.version), life);
        node.consensus.kv.put("a", "x").await.unwrap();
        node.root.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_groups_that_meet_are_told_of_and_neither_loses_what_it_has() {
    let realm = Realm::default();
    let one = realm.start(1, &Config::default(), false).await;
    let early = realm.start(3, &Config::default(), true).await;
    early.consensus.kv.put("a", "of one").await.unwrap();
    // It has founded another one, and they meet.
    let other = realm.start(2, &Config::default(), false).await;
    other.consensus.kv.put("a", "of the other").await.unwrap();
    let voter = |node: &Node| node.consensus.voter.clone().unwrap().service;
    let strangers = |node: &Node| voter(node).status().unwrap().strangers;
    soon(|| !strangers(&one).is_empty() && !strangers(&other).is_empty()).await;
    for (own, theirs, number) in [(&one, &other, 2), (&other, &one, 1)] {
        let [stranger] = strangers(own)[..] else { panic!("{:?}", strangers(own)) };
        assert_eq!(stranger.node(), Ok(node(number)));
        assert_eq!(Some(stranger.group), voter(theirs).status().unwrap().group);
        assert_eq!(own.consensus.kv.operator().status(None).await.unwrap().strangers, [stranger]);
    }
    // A client that has used one stays with it, and another one does not guess.
    assert_eq!(early.consensus.kv.get("a").await.unwrap().unwrap().value, "of one");
    let late = realm.start(4, &Config::default(), true).await;
    let told = late.consensus.kv.get("a").await.unwrap_err();
    assert!(!told.may_be_done() && told.to_string().contains("2 groups"), "{told}");
    // Who is in a group is not taken into another one.
    let refused = one.consensus.kv.operator().add_voter(node(2)).await.unwrap_err();
    assert!(refused.to_string().contains("another group"), "{refused}");
    assert_eq!(other.consensus.kv.get("a").await.unwrap().unwrap().value, "of the other");
    // One of them goes, and comes back without what it had, to be taken in.
    other.root.stop().await;
    realm.board.at(node(2)).withdraw("").await.unwrap();
    assert_eq!(late.consensus.kv.get("a").await.unwrap().unwrap().value, "of one");
    let joins = Config { role: Role::Voter, ..Config::default() };
    let realm = Realm { life: 1, ..realm };
    let again = realm.start(2, &joins, true).await;
    one.consensus.kv.operator().add_voter(node(2)).await.unwrap();
    assert_eq!(again.consensus.kv.get("a").await.unwrap().unwrap().value, "of one");
    soon(|| strangers(&one).is_empty() && strangers(&again).is_empty()).await;
    for node in [one, early, late, again] {
        node.root.stop().await;
    }
}

/// Turns a bit over wherever the log has this.
fn damage(files: &Files, what: &[u8]) {
    let path = files.0.join("log.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    let found = bytes.windows(what.len()).enumerate().filter(|(_, window)| *window == what);
    let found: Vec<usize> = found.map(|(at, _)| at).collect();
    assert!(!found.is_empty());
    found.into_iter().for_each(|at| bytes[at] ^= 1);
    std::fs::write(&path, &bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_is_damaged_is_rebuilt_by_the_others_and_one_alone_is_not() {
    let files = Files::new("rebuild");
    let kv = crate::kv::Config { within_ms: 2_000, attempt_ms: 500, ..Default::default() };
    let config = Config { folder: Some(files.0.clone()), kv, ..Config::default() };
    let mut realm = Realm { life: 1, ..Realm::default() };
    let founder = realm.start(1, &config, false).await;
    assert_eq!(founder.consensus.rebuild().await, Err(RebuildError::Sound));
    founder.consensus.kv.put("a", "something to be found").await.unwrap();
    founder.root.stop().await;
    damage(&files, b"something to be found");
    let founder = realm.start(1, &config, false).await;
    let alone = founder.consensus.rebuild().await;
    assert!(matches!(alone, Err(RebuildError::Alone(_))), "{alone:?}");
    founder.root.stop().await;
    // The same bit again: it is as it was.
    damage(&files, b"romething to be found");

    let founder = realm.start(1, &config, false).await;
    let joins = Config { role: Role::Voter, kv, ..Config::default() };
    let others = [realm.start(2, &joins, true).await, realm.start(3, &joins, true).await];
    assert_eq!(others[0].consensus.rebuild().await, Err(RebuildError::Sound));
    for number in [2, 3] {
        founder.consensus.kv.operator().add_voter(node(number)).await.unwrap();
    }
    let group = founder.consensus.voter.clone().unwrap().service.status().unwrap().group;
    founder.root.stop().await;
    damage(&files, b"something to be found");
    realm.life += 1;
    let founder = realm.start(1, &config, false).await;
    others[0].consensus.kv.put("b", "2").await.unwrap();
    founder.consensus.rebuild().await.unwrap();
    let status = founder.consensus.voter.clone().unwrap().service.status().unwrap();
    // It has founded nothing, and is no more what it was.
    assert_eq!((status.group, status.members.voters.len()), (group, 3));
    let own: Vec<_> =
        status.members.voters.iter().filter(|voter| voter.node() == Ok(node(1))).collect();
    assert_eq!(own, [&status.member]);
    assert!(std::fs::read_dir(&files.0).unwrap().any(|file| {
        file.unwrap().file_name().to_str().unwrap().starts_with("log.redb.damaged-")
    }));
    // With one of the others it is most of them.
    let [second, third] = others;
    second.root.stop().await;
    third.consensus.kv.put("c", "3").await.unwrap();
    for (key, value) in [("a", "something to be found"), ("b", "2"), ("c", "3")] {
        assert_eq!(founder.consensus.kv.get(key).await.unwrap().unwrap().value, value);
    }
    founder.root.stop().await;
    third.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_voter_does_is_counted() {
    let counted = counted::Counted::default();
    let _recorder = metrics::set_default_local_recorder(&counted);
    let realm = Realm::default();
    let alone = realm.start(1, &Config::default(), false).await;
    let client = realm.start(2, &Config::default(), true).await;
    let kv = &client.consensus.kv;
    for number in 0..10 {
        kv.put("a", number.to_string()).await.unwrap();
    }
    kv.get("a").await.unwrap();
    kv.grant(Duration::from_secs(1)).await.unwrap();
    let lease = kv.grant(Duration::from_secs(60)).await.unwrap().lease;
    let refused = kv.delete("macula/election/a").await;
    assert!(refused.is_err());
    let elections = &client.consensus.elections;
    let mut candidacy = elections.campaign("a", Options::default()).unwrap();
    let Some(Event::Elected(leadership)) = candidacy.next().await else { panic!() };
    let mut watch = kv.watch("nothing/", None).await.unwrap();
    let watching = tokio::spawn(async move { watch.next().await });
    tokio::time::sleep(Duration::from_secs(5)).await;
    let is = |name: &str, value: f64| assert_eq!(counted.get(name), Some(value), "{name}");
    is("macula_raft_leads", 1.0);
    is("macula_raft_has_leader", 1.0);
    is("macula_raft_voters", 1.0);
    is("macula_raft_term", 1.0);
    let status = kv.operator().status(None).await.unwrap();
    for name in ["last", "applied", "committed"] {
        is(&format!("macula_raft_{name}_index"), status.applied as f64);
    }
    is("macula_kv_revision", status.revision as f64);
    is("macula_kv_requests_total get answered", 1.0);
    // One that nobody watches has ended; the other two are the candidate's and the one above.
    is("macula_kv_leases_counted", 2.0);
    is("macula_kv_leases_expired_total", 1.0);
    // The candidate's, and the one above.
    is("macula_kv_watches", 2.0);
    is("macula_kv_strangers", 0.0);
    is("macula_election_candidacies", 1.0);
    is("macula_election_leads", 1.0);
    is("macula_election_changes_total elected", 1.0);
    for name in ["macula_raft_log_commit_seconds", "macula_raft_log_commit_writes"] {
        assert!(counted.get(name).unwrap() >= 10.0, "{name}");
    }
    assert!(counted.get("macula_raft_proposals_total agreed").unwrap() >= 10.0);
    assert!(counted.get("macula_kv_len_bytes").unwrap() > 0.0);
    watching.abort();
    kv.revoke(lease).await.unwrap();
    drop(leadership);
    candidacy.resign().await;
    is("macula_election_changes_total resigned", 1.0);
    is("macula_election_candidacies", 0.0);
    is("macula_election_leads", 0.0);
    client.root.stop().await;
    alone.root.stop().await;
}
