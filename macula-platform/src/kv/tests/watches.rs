//! Watches that go on whatever happens to those who are asked.

use std::time::Duration;

use super::world::World;
use crate::kv::WatchError;
use crate::raft;
use crate::raft::tests::harness::{Lane, node};

/// The next events, as numbers.
async fn numbers(watch: &mut crate::kv::Watch, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        match watch.next().await {
            Ok(event) => {
                let value = event.item.unwrap().value;
                numbers.push(std::str::from_utf8(&value).unwrap().parse().unwrap());
            }
            Err(WatchError::NoAnswer(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    numbers
}

#[tokio::test(start_paused = true)]
async fn no_event_is_lost_or_comes_twice_while_leaders_go() {
    let config = raft::Config { snapshot_entries: 40, kept_entries: 5, ..raft::Config::default() };
    let mut world = World::of(3, config).await;
    let writer = world.client();
    let mut watchers = tokio::task::JoinSet::new();
    for at in 0..6_u8 {
        // Some ask over the network, and some a voter on their own node.
        let kv = if at < 3 { world.client() } else { world.client_at(at - 2, true) };
        let mut watch = kv.watch("key/", None).await.unwrap();
        watchers.spawn(async move { numbers(&mut watch, 150).await });
    }
    let written = tokio::spawn(async move {
        for number in 0..150 {
            writer.put("other", "x").await.unwrap();
            writer.put(format!("key/{}", number % 7), number.to_string()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    });
    for round in 0..5 {
        tokio::time::sleep(Duration::from_millis(800)).await;
        let leader = world.leader().await;
        match round % 3 {
            0 => {
                world.kill(leader).await;
                // Long enough that it gets a snapshot.
                tokio::time::sleep(Duration::from_millis(1_500)).await;
                world.start(leader).await.unwrap();
            }
            1 => {
                world.part(leader);
                tokio::time::sleep(Duration::from_millis(1_500)).await;
                world.mend();
            }
            _ => {
                let other = world.group.members.keys().find(|number| **number != leader);
                let other = node(*other.unwrap());
                world.client().operator().transfer(other).await.unwrap();
            }
        }
    }
    written.await.unwrap();
    while let Some(seen) = watchers.join_next().await {
        assert_eq!(seen.unwrap(), (0..150).collect::<Vec<u64>>());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_is_a_gap_that_is_told_and_never_silence() {
    let mut world = World::of(3, raft::Config::default()).await;
    let kv = world.client();
    let first = kv.put("a", "1").await.unwrap();
    let mut early = kv.watch("", Some(first)).await.unwrap();
    for _ in 0..10 {
        kv.put("a", "2").await.unwrap();
    }
    let middle = kv.get("a").await.unwrap().unwrap().modified;
    let mut late = kv.watch("", Some(middle)).await.unwrap();
    kv.put("a", "3").await.unwrap();
    kv.compact(middle).await.unwrap();
    let gap = early.next().await.unwrap_err();
    assert_eq!(gap, WatchError::Gap { after: first, oldest: middle });
    // It stays one.
    assert_eq!(early.next().await.unwrap_err(), gap);
    assert_eq!(early.revision(), first);
    // What has all up to there goes on.
    assert_eq!(late.next().await.unwrap().item.unwrap().value, "3");
    // One that waits for what is rare does not fall behind what is forgotten.
    let mut rare = kv.watch("rare", None).await.unwrap();
    for round in 0..5 {
        let quiet = tokio::time::timeout(Duration::from_secs(11), rare.next()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        let revision = kv.put("a", round.to_string()).await.unwrap();
        let quiet = tokio::time::timeout(Duration::from_secs(11), rare.next()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        kv.compact(revision).await.unwrap();
    }
    kv.put("rare/1", "x").await.unwrap();
    assert_eq!(rare.next().await.unwrap().key, "rare/1");
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_is_out_of_touch_says_nothing_and_another_one_does() {
    let mut world = World::of(3, raft::Config::default()).await;
    let leader = world.leader().await;
    let other = (1..=3).find(|number| *number != leader).unwrap();
    let kv = world.client_at(other, true);
    let mut watch = kv.watch("a", None).await.unwrap();
    let writer = world.client();
    writer.put("a", "1").await.unwrap();
    assert_eq!(watch.next().await.unwrap().item.unwrap().value, "1");
    // Its own member hears nobody any more, and its node does.
    world.part(other);
    writer.put("a", "2").await.unwrap();
    let next = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
    assert_eq!(next.expect("silence").unwrap().item.unwrap().value, "2");
    // When nobody at all is reached that is said, and nothing is lost.
    (1..=3).for_each(|number| world.cut(number));
    let error = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
    let error = error.expect("silence").unwrap_err();
    assert!(matches!(error, WatchError::NoAnswer(_)), "{error}");
    world.mend();
    writer.put("a", "3").await.unwrap();
    loop {
        match watch.next().await {
            Ok(event) => break assert_eq!(event.item.unwrap().value, "3"),
            Err(error) => assert!(matches!(error, WatchError::NoAnswer(_)), "{error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_nothing_is_sent_nothing() {
    let mut world = World::of(1, raft::Config::default()).await;
    world.config.watch_events_max = 10;
    let (kv, writer) = (world.client(), world.client());
    let mut watch = kv.watch("", None).await.unwrap();
    for number in 0..500 {
        writer.put("a", number.to_string()).await.unwrap();
    }
    let asked = world.group.wires.asked(node(1), Lane::Kv);
    assert_eq!(numbers(&mut watch, 5).await, (0..5).collect::<Vec<_>>());
    let more = world.group.wires.asked(node(1), Lane::Kv) - asked;
    assert_eq!(more, 1);
    assert_eq!(numbers(&mut watch, 495).await, (5..500).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_is_not_there_yet_is_waited_for_and_is_no_gap() {
    let mut world = World::of(3, raft::Config::default()).await;
    let kv = world.client();
    let first = kv.put("a", "1").await.unwrap();
    let mut early = kv.watch("a", Some(first + 2)).await.unwrap();
    let watched = tokio::spawn(async move { numbers(&mut early, 1).await });
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!watched.is_finished());
    for number in 2..=4 {
        kv.put("a", number.to_string()).await.unwrap();
    }
    assert_eq!(watched.await.unwrap(), [4]);
}
