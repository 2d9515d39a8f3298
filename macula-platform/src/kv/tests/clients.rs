//! Clients that find the leader, and go on when it is another one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use macula_core::port::Serve as _;

use super::world::{Skewed, World, soon};
use crate::kv::command::{Condition, Holds, Op, Refusal, Txn};
use crate::kv::limits::{KEY_LEN_MAX, PAGE_MAX, VALUE_LEN_MAX};
use crate::kv::wire::{Ask, Declined, Reply};
use crate::kv::{Config, Error, Level};
use crate::raft;
use crate::raft::tests::harness::Lane;
use crate::raft::tests::harness::node;

fn base() -> raft::Config {
    raft::Config::default()
}

#[tokio::test(start_paused = true)]
async fn one_alone_does_all_that_a_client_can_ask_for() {
    let mut world = World::of(1, base()).await;
    let kv = world.client();
    assert_eq!(kv.get("a").await.unwrap(), None);
    let first = kv.put("a", "1").await.unwrap();
    let item = kv.get("a").await.unwrap().unwrap();
    assert_eq!((item.value.as_ref(), item.created, item.version), (&b"1"[..], first, 1));
    let second = kv.compare_and_set("a", Holds::ModifiedAt(first), "2").await.unwrap().unwrap();
    assert!(second > first);
    let there = kv.compare_and_set("a", Holds::Absent, "3").await.unwrap().unwrap_err();
    assert_eq!(there.unwrap().value, "2");
    let conditions = vec![Condition { key: "b".into(), holds: Holds::Absent }];
    let put = |key: &'static str| Op::Put { key: key.into(), value: "x".into(), lease: None };
    let txn = Txn { conditions, then: vec![put("b"), put("c")], otherwise: vec![] };
    assert!(kv.txn(txn.clone()).await.unwrap().held);
    assert!(!kv.txn(txn).await.unwrap().held);
    assert_eq!(kv.delete("b").await.unwrap().unwrap().value, "x");
    assert_eq!(kv.delete("b").await.unwrap(), None);
    let page = kv.range("a", None, 10, Level::Stale).await.unwrap();
    assert_eq!(page.items.iter().map(|(key, _)| key.as_ref()).collect::<Vec<_>>(), [b"a", b"c"]);
    let typed = kv.typed::<(u8, String)>();
    let value = (7, "seven".to_owned());
    let revision = typed.put("typed", &value).await.unwrap();
    assert_eq!(typed.get("typed").await.unwrap(), Some((value.clone(), revision)));
    assert_eq!(typed.compare_and_set("typed", None, &value).await.unwrap(), None);
    assert!(typed.compare_and_set("typed", Some(revision), &value).await.unwrap().is_some());
    assert!(matches!(typed.get("a").await, Err(Error::Decode { .. })));
}

#[tokio::test(start_paused = true)]
async fn all_of_a_prefix_comes_page_by_page() {
    let mut world = World::of(1, base()).await;
    let kv = world.client();
    for some in 0..25_usize {
        let then = (0..100).map(|number| Op::Put {
            key: format!("key/{:04}", some * 100 + number).into(),
            value: "x".into(),
            lease: None,
        });
        kv.txn(Txn { then: then.collect(), ..Txn::default() }).await.unwrap();
    }
    kv.put("other", "x").await.unwrap();
    let (mut pages, mut sizes, mut keys) = (kv.prefix("key/"), vec![], vec![]);
    while let Some(page) = pages.next().await.unwrap() {
        sizes.push(page.items.len());
        keys.extend(page.items.into_iter().map(|(key, _)| key));
    }
    assert_eq!(sizes, [PAGE_MAX, PAGE_MAX, 500]);
    assert!(keys.is_sorted() && keys.iter().all(|key| key.starts_with(b"key/")));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_is_refused_before_anybody_is_asked() {
    let mut world = World::of(1, base()).await;
    let kv = world.client();
    let (long_key, long_value) = (vec![0; KEY_LEN_MAX + 1], vec![0; VALUE_LEN_MAX + 1]);
    let many = Txn { then: vec![Op::Get("k".into()); 129], ..Txn::default() };
    let asked = world.group.wires.asked(node(1), Lane::Kv);
    let told = [
        kv.get(long_key.clone()).await.unwrap_err(),
        kv.put("k", long_value).await.unwrap_err(),
        kv.txn(many).await.unwrap_err(),
        kv.grant(Duration::from_millis(1)).await.unwrap_err(),
        kv.watch(long_key, None).await.unwrap_err(),
    ];
    assert!(told.iter().all(|error| matches!(error, Error::Refused(_)) && !error.may_be_done()));
    assert_eq!(world.group.wires.asked(node(1), Lane::Kv), asked);
    // What only the group knows it says itself.
    let refused = kv.put_on("k", "v", Some(77)).await.unwrap_err();
    assert_eq!(refused, Error::Refused(Refusal::NoLease(77)));
}

#[tokio::test(start_paused = true)]
async fn a_client_follows_the_redirect_and_stays_with_the_leader() {
    let mut world = World::of(3, base()).await;
    let leader = world.leader().await;
    let kv = world.client();
    kv.put("a", "1").await.unwrap();
    let asked = |number| world.group.wires.asked(node(number), Lane::Kv);
    let before: Vec<u64> = (1..=3).map(asked).collect();
    for _ in 0..10 {
        kv.put("a", "2").await.unwrap();
        kv.get("a").await.unwrap();
    }
    for number in 1..=3_u8 {
        let more = asked(number) - before[usize::from(number) - 1];
        assert_eq!(more, if number == leader { 20 } else { 0 }, "{number}, {leader} leads");
    }
    // A voter asks itself without the network.
    let before = asked(leader);
    let own = world.client_at(leader, true);
    own.put("a", "3").await.unwrap();
    assert_eq!(own.get("a").await.unwrap().unwrap().value, "3");
    assert_eq!(asked(leader), before);
    let other = (1..=3).find(|number| *number != leader).unwrap();
    let follower = world.client_at(other, true);
    assert_eq!(follower.get_at("a", Level::Stale).await.unwrap().unwrap().version, 12);
    assert_eq!(asked(leader), before);
    assert_eq!(follower.get("a").await.unwrap().unwrap().value, "3");
    assert_eq!(asked(leader), before + 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_while_leaders_go_is_written_once() {
    let mut world = World::of(3, base()).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8_u64 {
        let kv = world.client();
        writers.spawn(async move {
            for _ in 0..1_000 {
                kv.put(format!("writer/{writer}"), "x").await.unwrap();
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        });
    }
    for round in 0..6 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let leader = world.leader().await;
        if round % 2 == 0 {
            world.kill(leader).await;
            tokio::time::sleep(Duration::from_millis(700)).await;
            world.start(leader).await.unwrap();
        } else {
            world.cut(leader);
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            world.mend();
        }
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    let kv = world.client();
    for writer in 0..8 {
        let item = kv.get(format!("writer/{writer}")).await.unwrap().unwrap();
        assert_eq!(item.version, 1_000, "writer {writer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_says_nothing_is_left_when_another_one_leads() {
    let mut world = World::of(3, base()).await;
    let kv = world.client();
    for _ in 0..5 {
        kv.put("a", "x").await.unwrap();
        let leader = world.leader().await;
        // It takes commands, and has nobody to agree with.
        world.part(leader);
        let began = raft::timer::now();
        kv.put("a", "x").await.unwrap();
        let took = raft::timer::now() - began;
        assert!(took < Duration::from_millis(1_500), "{took:?}");
        world.mend();
    }
    assert_eq!(kv.get("a").await.unwrap().unwrap().version, 10);
}

#[tokio::test(start_paused = true)]
async fn an_error_says_whether_it_may_be_done() {
    let mut world = World::of(3, base()).await;
    world.config.within_ms = 3_000;
    let (kv, stranger) = (world.client(), world.client());
    kv.put("a", "1").await.unwrap();
    let leader = world.leader().await;
    // It is asked, and cannot answer.
    let isolated = async {
        tokio::time::sleep(Duration::from_micros(1_500)).await;
        (1..=3).for_each(|number| world.cut(number));
    };
    let (unknown, ()) = tokio::join!(kv.put("a", "2"), isolated);
    let unknown = unknown.unwrap_err();
    assert!(matches!(unknown, Error::Unknown(_)) && unknown.may_be_done(), "{unknown:?}");
    // Nobody is reached at all.
    let not_done = stranger.put("b", "1").await.unwrap_err();
    assert!(matches!(not_done, Error::NotDone(_)) && !not_done.may_be_done(), "{not_done:?}");
    world.mend();
    assert_eq!(kv.get("b").await.unwrap(), None);
    assert!(world.group.members.contains_key(&leader));
}

#[tokio::test(start_paused = true)]
async fn reads_that_come_together_share_their_rounds() {
    let mut world = World::of(3, base()).await;
    let leader = world.leader().await;
    let member = Arc::clone(&world.group.members[&leader]);
    let kv = world.client();
    kv.put("a", "1").await.unwrap();
    let before = member.read_rounds();
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let kv = kv.clone();
        reads.spawn(async move { kv.get("a").await.unwrap().unwrap().version });
    }
    while let Some(read) = reads.join_next().await {
        assert_eq!(read.unwrap(), 1);
    }
    let rounds = member.read_rounds() - before;
    assert!((1..=2).contains(&rounds), "{rounds} rounds");
    // One that goes away leaves nobody behind.
    let gone = tokio::time::timeout(Duration::from_millis(1), member.read_point());
    let (gone, stays) = tokio::join!(gone, member.read_point());
    assert!(gone.is_err() && stays.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_read_by_lease_asks_nobody_while_the_lease_lasts_and_no_longer() {
    let mut world = World::of(3, base()).await;
    let leader = world.leader().await;
    let kv = world.client();
    kv.put("a", "1").await.unwrap();
    kv.get("a").await.unwrap();
    let member = Arc::clone(&world.group.members[&leader]);
    let before = member.read_rounds();
    for _ in 0..50 {
        assert!(kv.get_at("a", Level::Lease).await.unwrap().is_some());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(member.read_rounds(), before);
    // Cut off it believes for less than the lease that it leads; before another one can.
    world.cut(leader);
    let until = member.lease_until().unwrap();
    assert!(until - member.now() < Duration::from_millis(450));
    soon(|| member.lease_until().is_none_or(|until| until <= member.now())).await;
    assert!(
        world
            .group
            .members
            .values()
            .all(|other| { other.id() == member.id() || other.leader() != Some(other.id()) })
    );
    let service = world.services[&leader].clone();
    let ask = Ask::Get { key: "a".into(), level: Level::Lease };
    let reply = service.answer(node(leader), ask).await;
    assert!(matches!(reply, Reply::Declined(Declined::NotLeader(_))), "{reply:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_was_stopped_while_it_read_by_lease_asks() {
    let world = World::empty(base()).grown(3).await;
    let leader = world.leader().await;
    let member = Arc::clone(&world.group.members[&leader]);
    member.read_point().await.unwrap();
    let before = member.read_rounds();
    let looks = std::sync::atomic::AtomicU32::new(0);
    // The process stands still while it looks: the clock goes on, and the lease ends.
    let look = |_: &_| {
        let looks = looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if looks == 0 {
            let pass = std::pin::pin!(tokio::time::advance(Duration::from_secs(10)));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            // Nobody else runs meanwhile.
            let _passed = Future::poll(pass, &mut context);
        }
        looks
    };
    let seen = crate::kv::service::read(&member, Level::Lease, look).await;
    // Either it was asked and looked once more, or it leads no more.
    assert_ne!(seen.ok(), Some(0));
    assert!(member.read_rounds() > before);
}

#[tokio::test(start_paused = true)]
async fn too_much_at_once_has_its_own_refusal_and_ends() {
    let mut world = World::empty(base());
    world.config =
        Config { requests_max: 1, watches_max: 2, asks_per_s_max: 10, ..Config::default() };
    let mut world = world.grown(1).await;
    let service = world.services[&1].clone();
    let get = || Ask::Get { key: "a".into(), level: Level::Linearizable };
    let (first, second) =
        tokio::join!(service.answer(node(1), get()), service.answer(node(1), get()));
    assert!(matches!(first, Reply::Got { .. }), "{first:?}");
    assert!(matches!(second, Reply::Declined(Declined::Busy(_))), "{second:?}");
    let wait = || {
        let (prefix, after, max, wait_ms) = ("a".into(), 0, 1, 1_000);
        service.answer(node(1), Ask::Events { prefix, after, max, wait_ms })
    };
    let (first, second, third) = tokio::join!(wait(), wait(), wait());
    assert!(matches!((first, second), (Reply::Events(_), Reply::Events(_))));
    assert!(matches!(third, Reply::Declined(Declined::Busy(_))), "{third:?}");
    // A client of another node asks too often, and waits until it may.
    let kv = world.client();
    for _ in 0..30 {
        kv.put("a", "x").await.unwrap();
    }
    let mut answers = Vec::new();
    for _ in 0..15 {
        answers.push(service.answer(node(50), get()).await);
    }
    let refused = |reply: &&Reply| matches!(reply, Reply::Declined(Declined::TooOften { .. }));
    assert_eq!(answers.iter().filter(refused).count(), 5);
    let nonsense = service.serve(node(60), Bytes::from_static(b"nonsense")).await;
    assert!(nonsense.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_leader_with_a_fast_clock_gives_its_lease_up_sooner_and_a_slow_one_in_time() {
    for rate in [900, 1_100] {
        let mut world = World::empty(base());
        world.group.timers.insert(1, Skewed::new(rate));
        let mut world = world.grown(3).await;
        let kv = world.client();
        kv.operator().transfer(node(1)).await.ok();
        soon(|| world.group.members[&1].leader() == Some(world.group.members[&1].id())).await;
        let member = Arc::clone(&world.group.members[&1]);
        member.read_point().await.unwrap();
        world.cut(1);
        let mut ended = None;
        let began = raft::timer::now();
        soon(|| {
            let now = raft::timer::now();
            if ended.is_none() && member.lease_until().is_none_or(|until| until <= member.now()) {
                ended = Some(now);
            }
            let others = world.group.members.values().filter(|other| other.id() != member.id());
            others.into_iter().any(|other| other.leader() == Some(other.id()))
        })
        .await;
        let ended = ended.expect("the lease ends before another one leads") - began;
        assert!(ended <= Duration::from_millis(505), "{rate}: {ended:?}");
    }
}
