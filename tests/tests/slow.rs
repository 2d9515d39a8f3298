//! A subscriber that reads nothing, beside one that reads all, over real connections: the publisher is
//! told, the other one misses nothing, and the memory of the process stays as it is.
//!
//! `MACULA_SLOW_MESSAGES=1000000 cargo test --release -p macula-tests --test slow -- --nocapture` runs
//! it with as many messages. Memory is what the system says of this process, so there is one test here,
//! and it is told to be without where the system says nothing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::time::Duration;

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::topic::{Pattern, Topic};
use macula_infra::bootstrap::Seed;
use macula_infra::pubsub::{
    Event, PublishOptions, Published, Reason, Report, SubscribeOptions, Subscription,
};
use macula_tests::seeds::tell;
use macula_workload::identity::EphemeralRealm;
use macula_workload::{Config, Node};

/// How many messages are published if nothing else is said.
const MESSAGES: u64 = 100_000;

/// How long a message is, in bytes. If all were kept they would take far more than may be taken.
const LEN: usize = 1_024;

/// How many wait for the slow subscriber.
const QUEUE_LEN: usize = 64;

/// How much more memory may be in use than after the first fifth of the messages, in KiB.
const GROWTH_MAX_KIB: u64 = 16 * 1_024;

/// How many messages are kept on purpose, to see that they are seen.
const HOARD: usize = 40_000;

/// How long nothing may happen, on a machine that is busy with other things.
const WITHIN: Duration = Duration::from_secs(60);

fn topic() -> Topic {
    "feed".parse().unwrap()
}

/// What of this process is in memory, in KiB; none where that is not to be had.
fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

async fn node(realm: &EphemeralRealm, through: Option<&Node>) -> Node {
    let mut config = Config::default();
    let seeds = through.into_iter().flat_map(|node| node.mesh().listening());
    config.mesh.bootstrap.seeds = seeds.map(Seed::Address).collect();
    Node::builder().config(config).credentials(realm.member().unwrap()).start().await.unwrap()
}

fn subscribe(node: &Node, options: &SubscribeOptions) -> Subscription {
    let pattern: Pattern = "feed".parse().unwrap();
    node.mesh().pubsub().subscribe(&pattern, options).unwrap()
}

async fn within<T>(waiting: impl Future<Output = T>, what: &str) -> T {
    let done = tokio::time::timeout(WITHIN, waiting).await;
    done.unwrap_or_else(|_elapsed| panic!("{what} within {WITHIN:?}"))
}

async fn has_subscribers(node: &Node, count: usize) {
    let waiting = async {
        while node.mesh().pubsub().subscribers(&topic()).await != Ok(count) {
            tokio::task::yield_now().await;
        }
    };
    within(waiting, "there are no subscribers").await;
}

/// What has become of all messages, once all have ended.
async fn ended(node: &Node) -> Report {
    let waiting = async {
        while node.mesh().pubsub().delivery_report(&topic()).pending() > 0 {
            tokio::task::yield_now().await;
        }
    };
    within(waiting, "something has not ended").await;
    node.mesh().pubsub().delivery_report(&topic())
}

async fn publish_all(node: &Node, count: u64, subscribers: usize) {
    let (topic, payload) = (topic(), Bytes::from(vec![7; LEN]));
    for _ in 0..count {
        let options = PublishOptions::default();
        let publishing = node.mesh().pubsub().publish(&topic, payload.clone(), options);
        let published = within(publishing, "there is no room").await;
        assert_eq!(published, Ok(Published::Accepted { subscribers }));
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Reads so many messages.
async fn read_each(mut subscription: Subscription, count: u64) {
    for _ in 0..count {
        let event = within(subscription.next(), "nothing comes").await;
        assert!(matches!(event, Some(Event::Message(_))), "{event:?}");
    }
}

/// Reads so many messages, and gives what of the process is in memory at each fifth of them.
async fn read_all(mut quick: Subscription, slow: &Subscription, count: u64) -> Vec<u64> {
    let mut sizes = Vec::new();
    for number in 1..=count {
        match within(quick.next(), "nothing comes").await {
            Some(Event::Message(message)) => assert_eq!(message.payload.len(), LEN),
            other => panic!("the quick one is told {other:?}"),
        }
        assert!(slow.len() <= QUEUE_LEN);
        if number % (count / 5) == 0 {
            sizes.extend(resident_kib());
        }
    }
    sizes
}

fn growth(sizes: &[u64]) -> Option<u64> {
    let (first, rest) = sizes.split_first()?;
    rest.iter().max().map(|most| most.saturating_sub(*first))
}

/// A publisher that promises is told that there is no room, and goes on once there is.
async fn promises_wait(one: &Node, mut slow: Subscription) {
    has_subscribers(one, 1).await;
    let (payload, promised) = (Bytes::from(vec![7; LEN]), PublishOptions::at_least_once());
    let mut accepted = 0_u64;
    let full = async {
        loop {
            match one.mesh().pubsub().try_publish(&topic(), payload.clone(), promised).unwrap() {
                Published::Accepted { .. } => accepted += 1,
                Published::WouldBlock => break,
                Published::NoSubscribers => panic!("it subscribes"),
            }
        }
    };
    within(full, "it is never full").await;
    tell(&format!("beside one that reads nothing {accepted} promised messages are taken"));
    let mut got = 0;
    while got < accepted {
        match within(slow.next(), "nothing comes").await {
            Some(Event::Message(message)) => {
                got += u64::from(message.qos == promised.qos);
            }
            Some(Event::Gap(gap)) => assert_eq!(gap.topic, topic()),
            other => panic!("it is told {other:?}"),
        }
    }
    let topic = topic();
    let again = one.mesh().pubsub().publish(&topic, payload, promised);
    let again = within(again, "there is no room").await;
    assert_eq!(again, Ok(Published::Accepted { subscribers: 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_slow_subscriber_memory_is_flat_and_nobody_is_slowed() {
    let told = std::env::var("MACULA_SLOW_MESSAGES").ok().and_then(|text| text.trim().parse().ok());
    let count: u64 = told.unwrap_or(MESSAGES);
    let realm = EphemeralRealm::new().unwrap();
    let one = node(&realm, None).await;
    let (two, three) = (node(&realm, Some(&one)).await, node(&realm, Some(&one)).await);
    // First without the slow one, so that both rates can be told: a test has no time limits.
    let alone_count = count / 5;
    let only = subscribe(&three, &SubscribeOptions::default());
    has_subscribers(&one, 1).await;
    let begin = TokioClock.now();
    tokio::join!(read_each(only, alone_count), publish_all(&one, alone_count, 1));
    let alone = TokioClock.now() - begin;
    assert_eq!(ended(&one).await.delivered, alone_count);
    has_subscribers(&one, 0).await;
    let short = SubscribeOptions { queue_len: QUEUE_LEN, ..SubscribeOptions::default() };
    let (slow, quick) = (subscribe(&two, &short), subscribe(&three, &SubscribeOptions::default()));
    has_subscribers(&one, 2).await;
    let begin = TokioClock.now();
    let (sizes, ()) = tokio::join!(read_all(quick, &slow, count), publish_all(&one, count, 2));
    let beside = TokioClock.now() - begin;
    tell(&format!(
        "the quick subscriber reads {:.0} messages a second, and {:.0} if there is no other",
        rate(count, beside),
        rate(alone_count, alone),
    ));
    let report = ended(&one).await;
    let grown = growth(&sizes);
    tell(&format!("{count} messages of {LEN} bytes: {sizes:?} KiB in memory, {grown:?} more"));
    let all = alone_count + count * 2;
    assert_eq!(report.accepted, all);
    let slowed = report.dropped.get(&Reason::SlowSubscriber).copied().unwrap_or_default();
    assert!(slowed >= count - u64::try_from(QUEUE_LEN).unwrap(), "{report:?}");
    assert_eq!(report.delivered + slowed, all, "{report:?}");
    has_subscribers(&one, 1).await;
    promises_wait(&one, slow).await;
    match grown {
        Some(grown) => {
            assert!(grown <= GROWTH_MAX_KIB, "{grown} KiB more: {sizes:?}");
            // What is kept would be seen.
            let before = resident_kib().unwrap();
            let hoard: Vec<Vec<u8>> = (0..HOARD).map(|_| vec![7; LEN]).collect();
            let kept = resident_kib().unwrap().saturating_sub(before);
            assert!(kept > GROWTH_MAX_KIB, "{} messages take {kept} KiB", hoard.len());
        }
        None => tell("this system does not say what is in memory: that part is left out"),
    }
    for node in [one, two, three] {
        node.stop().await.unwrap();
    }
}
