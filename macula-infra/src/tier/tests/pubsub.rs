//! Topics over several nodes, with real connections between them.

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::topic::{Pattern, Topic};

use super::Node;
use super::discovery::{WITHIN, finds, has_members, joined};
use crate::pubsub::{
    Event, Message, PAYLOAD_LEN_MAX, PubSub, PublishError, PublishOptions, Published, Reason,
    SubscribeOptions, Subscription,
};

/// Some nodes that know one another.
async fn mesh<const COUNT: usize>() -> [Node; COUNT] {
    let mut nodes = vec![joined(1, None).await];
    for seed in 1..COUNT {
        let seed = u8::try_from(seed + 1).unwrap();
        nodes.push(joined(seed, nodes.first()).await);
    }
    for node in &nodes {
        has_members(node, COUNT - 1).await;
        finds(node, COUNT - 1).await;
    }
    nodes.try_into().ok().unwrap()
}

async fn stop(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        node.root.stop().await;
    }
}

fn of(node: &Node) -> &PubSub {
    node.infra.mesh.pubsub()
}

fn subscribe(node: &Node, pattern: &str, options: &SubscribeOptions) -> Subscription {
    let pattern: Pattern = pattern.parse().unwrap();
    of(node).subscribe(&pattern, options).unwrap()
}

fn topic(text: &str) -> Topic {
    text.parse().unwrap()
}

/// The next message; nothing else may come before it.
async fn next(subscription: &mut Subscription) -> Message {
    let event = tokio::time::timeout(WITHIN, subscription.next()).await.expect("nothing comes");
    match event.unwrap() {
        Event::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

/// Waits until a topic has so many subscribers.
async fn has_subscribers(node: &Node, topic: &Topic, count: usize) {
    let waiting = async {
        while of(node).subscribers(topic).await != Ok(count) {
            tokio::task::yield_now().await;
        }
    };
    let known = tokio::time::timeout(WITHIN, waiting).await;
    if known.is_err() {
        let now = tokio::time::timeout(WITHIN / 30, of(node).subscribers(topic)).await;
        panic!("{topic} has {now:?} subscribers and not {count}");
    }
}

/// Publishes something that somebody gets.
async fn accepted(
    pubsub: &PubSub,
    topic: &Topic,
    payload: impl Into<Bytes>,
    options: PublishOptions,
) {
    let published = pubsub.publish(topic, payload, options).await;
    assert!(matches!(published, Ok(Published::Accepted { .. })), "{published:?}");
}

/// Waits until all that a node has published has ended.
async fn all_ended(node: &Node) {
    let ended = async {
        while of(node).delivery_report_of_all().pending() > 0 {
            tokio::task::yield_now().await;
        }
    };
    let report = || of(node).delivery_report_of_all();
    assert!(tokio::time::timeout(WITHIN, ended).await.is_ok(), "{:?}", report());
}

/// The older system's scenario: three patterns, five topics.
#[tokio::test(flavor = "multi_thread")]
async fn wildcards_over_three_nodes() {
    let nodes = mesh::<3>().await;
    let [one, two, three] = &nodes;
    let options = SubscribeOptions::default();
    let mut exact = subscribe(two, "sensor.temp.room1", &options);
    let mut star = subscribe(three, "sensor.*.room1", &options);
    let mut rest = subscribe(three, "sensor.**", &options);
    let mut own = subscribe(one, "sensor.**", &options);
    let topics = [
        ("sensor.temp.room1", 3),
        ("sensor.humidity.room1", 2),
        ("sensor.temp.room2", 2),
        ("sensor.temp.room1.extra", 2),
    ];
    for (name, count) in topics {
        has_subscribers(one, &topic(name), count).await;
    }
    let nobody = of(one).publish(&topic("other.topic"), "x", PublishOptions::default()).await;
    assert_eq!(nobody, Ok(Published::NoSubscribers));
    for (name, count) in topics {
        let options = PublishOptions::at_least_once();
        let published = of(one).publish(&topic(name), name, options).await;
        assert_eq!(published, Ok(Published::Accepted { subscribers: count }));
    }
    all_ended(one).await;
    let got = |subscription: &mut Subscription| {
        let mut got = Vec::new();
        while let Some(Event::Message(message)) = subscription.try_next() {
            assert_eq!(message.payload, message.topic.as_str());
            assert_eq!(message.publisher, one.infra.mesh.node());
            got.push(message.topic.to_string());
        }
        got
    };
    assert_eq!(got(&mut exact), ["sensor.temp.room1"]);
    assert_eq!(got(&mut star), ["sensor.temp.room1", "sensor.humidity.room1"]);
    let all = topics.map(|(name, _)| name);
    assert_eq!(got(&mut rest), all);
    assert_eq!(got(&mut own), all);
    let report = of(one).delivery_report(&topic("sensor.temp.room1"));
    assert_eq!((report.delivered, report.dropped()), (report.accepted, 0), "{report:?}");
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_joiner_gets_what_it_has_missed() {
    let one = joined(1, None).await;
    let news = topic("news.today");
    for number in 0..10 {
        let options = PublishOptions { keep: true, ..PublishOptions::default() };
        let published = of(&one).publish(&news, number.to_string(), options).await;
        assert_eq!(published, Ok(Published::NoSubscribers));
    }
    let options = PublishOptions { retain: true, ..PublishOptions::default() };
    let published = of(&one).publish(&topic("news.headline"), "peace", options).await;
    assert_eq!(published, Ok(Published::NoSubscribers));
    let two = joined(2, Some(&one)).await;
    has_members(&two, 1).await;
    let mut last = subscribe(&two, "news.today", &SubscribeOptions::default().with_last(3));
    let mut value = subscribe(&two, "news.*", &SubscribeOptions::default().with_retained());
    for expected in ["7", "8", "9"] {
        let message = next(&mut last).await;
        assert_eq!((&*message.payload, message.is_replayed), (expected.as_bytes(), true));
    }
    assert_eq!(next(&mut value).await.payload, "peace");
    let now = of(&one).publish(&news, "10", PublishOptions::default()).await;
    assert_eq!(now, Ok(Published::Accepted { subscribers: 1 }));
    for subscription in [&mut last, &mut value] {
        let message = next(subscription).await;
        assert_eq!((&*message.payload, message.is_replayed), (&b"10"[..], false));
    }
    stop([one, two]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subscriptions_of_a_client_that_vanishes_go_with_it() {
    let [one, two] = mesh::<2>().await;
    let mut chat = subscribe(&two, "chat", &SubscribeOptions::default());
    has_subscribers(&one, &topic("chat"), 1).await;
    accepted(of(&one), &topic("chat"), "hello", PublishOptions::at_least_once()).await;
    next(&mut chat).await;
    // The report of it comes a moment later.
    all_ended(&one).await;
    two.root.stop().await;
    has_subscribers(&one, &topic("chat"), 0).await;
    all_ended(&one).await;
    let report = of(&one).delivery_report(&topic("chat"));
    let known = [Reason::NodeGone, Reason::NodeLost, Reason::Unsubscribed];
    assert!(report.dropped.keys().all(|reason| known.contains(reason)), "{report:?}");
    assert!(report.delivered >= 1, "{report:?}");
    // And one that only lets go of its subscription.
    let three = joined(3, Some(&one)).await;
    has_members(&three, 1).await;
    let chat = subscribe(&three, "chat", &SubscribeOptions::default());
    has_subscribers(&one, &topic("chat"), 1).await;
    drop(chat);
    has_subscribers(&one, &topic("chat"), 0).await;
    stop([one, three]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_subscriber_is_told_and_slows_nobody() {
    let nodes = mesh::<3>().await;
    let [one, two, three] = &nodes;
    let short = SubscribeOptions { queue_len: 64, ..SubscribeOptions::default() };
    let mut slow = subscribe(two, "feed", &short);
    let mut quick = subscribe(three, "feed", &SubscribeOptions::default());
    let feed = topic("feed");
    has_subscribers(one, &feed, 2).await;
    all_ended(one).await;
    let before = of(one).delivery_report(&feed);
    let total: u32 = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };
    let publisher = of(one).clone();
    let began = TokioClock.now();
    let publishing = tokio::spawn(async move {
        let payload = Bytes::from(vec![0; 128]);
        let (feed, options) = (topic("feed"), PublishOptions::default());
        for _ in 0..total {
            let published = publisher.publish(&feed, payload.clone(), options).await;
            assert_eq!(published, Ok(Published::Accepted { subscribers: 2 }));
        }
    });
    let (mut got, mut missed) = (0_u64, 0_u64);
    while got + missed < u64::from(total) {
        let event = tokio::time::timeout(WITHIN, quick.next()).await.expect("it stands still");
        match event.unwrap() {
            Event::Message(_) => got += 1,
            Event::Gap(gap) => missed += gap.count,
            Event::Refused { publisher } => panic!("{publisher:?} refuses it"),
        }
        assert!(slow.len() <= 64);
    }
    publishing.await.unwrap();
    let took = TokioClock.now() - began;
    println!("{total} messages of 128 bytes in {took:?}, beside a slow subscriber");
    all_ended(one).await;
    let report = of(one).delivery_report(&feed);
    assert_eq!(report.accepted - before.accepted, u64::from(total) * 2);
    assert!(report.dropped[&Reason::SlowSubscriber] >= u64::from(total) - 64, "{report:?}");
    assert_eq!(missed, 0, "the quick one has missed some");
    // Once it reads again it is told of what it has missed.
    let mut gap = None;
    while gap.is_none() {
        let event = tokio::time::timeout(WITHIN, slow.next()).await.expect("it is told nothing");
        if let Some(Event::Gap(told)) = event {
            gap = Some(told);
        }
    }
    assert!(gap.is_some_and(|gap| gap.count > 0 && gap.topic == feed));
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_subscriptions_stay() {
    let [one, two] = mesh::<2>().await;
    let mut orders = subscribe(&two, "orders.*", &SubscribeOptions::default());
    let a = topic("orders.a");
    has_subscribers(&one, &a, 1).await;
    for (round, node) in [&two, &one, &two, &one].into_iter().enumerate() {
        let actor = &node.infra.pubsub;
        let life = actor.incarnation();
        actor.actor_ref().unwrap().kill();
        actor.next_life(life).await;
        has_subscribers(&one, &a, 1).await;
        let text = format!("round {round}");
        let options = PublishOptions::at_least_once();
        accepted(of(&one), &a, text.clone(), options).await;
        while next(&mut orders).await.payload != text {}
    }
    all_ended(&one).await;
    stop([one, two]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_messages_arrive_in_their_order() {
    let [one, two] = mesh::<2>().await;
    let mut files = subscribe(&two, "files.**", &SubscribeOptions::default());
    let file = topic("files.a");
    has_subscribers(&one, &file, 1).await;
    let lens = [PAYLOAD_LEN_MAX, 10, 100_000, 1, PAYLOAD_LEN_MAX, 0];
    for len in lens {
        let options = PublishOptions::at_least_once();
        let published = of(&one).publish(&file, vec![7; len], options).await;
        assert_eq!(published, Ok(Published::Accepted { subscribers: 1 }));
    }
    for len in lens {
        assert_eq!(next(&mut files).await.payload.len(), len);
    }
    let long = of(&one).publish(&file, vec![7; PAYLOAD_LEN_MAX + 1], PublishOptions::default());
    assert_eq!(long.await, Err(PublishError::TooLarge { len: PAYLOAD_LEN_MAX + 1 }));
    stop([one, two]).await;
}

/// Each of many messages is for one of the members of a group on three nodes.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_shares_what_comes() {
    let nodes = mesh::<3>().await;
    let [one, two, three] = &nodes;
    let member = SubscribeOptions::in_group("workers");
    let mut members = [subscribe(two, "jobs", &member), subscribe(three, "jobs", &member)];
    has_subscribers(one, &topic("jobs"), 1).await;
    all_ended(one).await;
    // Both are known when both have got something.
    let both = async {
        let mut known = [false; 2];
        while known.contains(&false) {
            for (member, known) in members.iter_mut().zip(&mut known) {
                *known |= member.try_next().is_some();
            }
            let options = PublishOptions::at_least_once();
            accepted(of(one), &topic("jobs"), "probe", options).await;
        }
    };
    tokio::time::timeout(WITHIN, both).await.expect("one member gets nothing");
    for number in 0..200_u32 {
        let options = PublishOptions::at_least_once();
        accepted(of(one), &topic("jobs"), number.to_string(), options).await;
    }
    all_ended(one).await;
    let mut got = Vec::new();
    for member in &mut members {
        while let Some(Event::Message(message)) = member.try_next() {
            if message.payload != "probe" {
                let text = std::str::from_utf8(&message.payload).unwrap();
                got.push(text.parse::<u32>().unwrap());
            }
        }
    }
    got.sort_unstable();
    assert_eq!(got, (0..200).collect::<Vec<_>>());
    stop(nodes).await;
}

/// How fast one node publishes to one other; for people who run it in release.
#[tokio::test(flavor = "multi_thread")]
async fn one_to_one() {
    let [one, two] = mesh::<2>().await;
    let mut feed = subscribe(&two, "feed", &SubscribeOptions::default());
    has_subscribers(&one, &topic("feed"), 1).await;
    let total: u32 = if cfg!(debug_assertions) { 20_000 } else { 2_000_000 };
    for options in [PublishOptions::default(), PublishOptions::at_least_once()] {
        let publisher = of(&one).clone();
        let began = TokioClock.now();
        let publishing = tokio::spawn(async move {
            let (feed, payload) = (topic("feed"), Bytes::from(vec![1; 128]));
            for _ in 0..total {
                accepted(&publisher, &feed, payload.clone(), options).await;
            }
        });
        let mut got = 0;
        while got < total {
            got += u32::from(next(&mut feed).await.payload.len() == 128);
        }
        publishing.await.unwrap();
        let took = TokioClock.now() - began;
        println!(
            "{total} messages of 128 bytes in {took:?}: {:.0} a second ({:?})",
            f64::from(total) / took.as_secs_f64(),
            options.qos
        );
    }
    all_ended(&one).await;
    let report = of(&one).delivery_report(&topic("feed"));
    assert_eq!((report.dropped(), report.delivered), (0, report.accepted), "{report:?}");
    stop([one, two]).await;
}
