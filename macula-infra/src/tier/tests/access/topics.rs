//! Who may not publish or subscribe.

use bytes::Bytes;
use macula_core::topic::{Pattern, Topic};

use super::super::discovery::{WITHIN, finds, has_members, joining};
use super::super::names::stop;
use super::super::rpc::topic;
use super::super::{Node, authority, credentials_with, node_of};
use super::{refused, rule, ruled};
use crate::access::{Action, Effect, Rules};
use crate::pubsub::proto::Input;
use crate::pubsub::proto::word::{Life, Plant, SessionId, Word};
use crate::pubsub::{
    self, Event, PublishError, PublishOptions, Published, Reason, SubscribeError, SubscribeOptions,
};
use crate::tier::{Config, Discovery};

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_publish_or_subscribe_is_refused_and_put_down() {
    let rules = Rules {
        default: Effect::Deny,
        rules: vec![
            rule(Effect::Allow, Action::Publish, &["server"], "game.**"),
            rule(Effect::Allow, Action::Subscribe, &["player"], "game.*.chat"),
            rule(Effect::Allow, Action::Subscribe, &["server"], "**"),
            rule(Effect::Allow, Action::Advertise, &[], "**"),
        ],
    };
    let server = ruled(1, &["server"], None, rules.clone()).await;
    let outlaw = ruled(2, &[], Some(&server), Rules::default()).await;
    for node in [&server, &outlaw] {
        has_members(node, 1).await;
        finds(node, 1).await;
    }
    let pattern: Pattern = "game.**".parse().unwrap();
    let room: Topic = topic("game.one.chat");
    // At the node itself it is an error.
    let client = ruled(3, &["player"], Some(&server), rules).await;
    let pubsub = client.infra.mesh.pubsub();
    let more = pubsub.subscribe(&pattern, &SubscribeOptions::default());
    assert!(matches!(more, Err(SubscribeError::Forbidden(_))));
    let told = pubsub.publish(&room, Bytes::from("hello"), PublishOptions::default()).await;
    assert!(matches!(told, Err(PublishError::Forbidden(_))), "{told:?}");
    assert_eq!(refused(&client, Some(&client), "publish").len(), 1);
    assert_eq!(refused(&client, Some(&client), "subscribe").len(), 1);
    // Whoever goes by rules of its own is refused by the others.
    let mut heard =
        server.infra.mesh.pubsub().subscribe(&pattern, &SubscribeOptions::default()).unwrap();
    let mut listens =
        outlaw.infra.mesh.pubsub().subscribe(&pattern, &SubscribeOptions::default()).unwrap();
    let pubsub = outlaw.infra.mesh.pubsub();
    let publishing = async {
        while refused(&server, Some(&outlaw), "publish").is_empty() {
            let _told = pubsub
                .publish(&room, Bytes::from("lies"), PublishOptions::default())
                .await
                .unwrap();
        }
    };
    tokio::time::timeout(WITHIN, publishing).await.expect("it is refused");
    let publishing = async {
        while refused(&server, Some(&outlaw), "subscribe").is_empty() {
            let pubsub = server.infra.mesh.pubsub();
            let _told = pubsub
                .publish(&room, Bytes::from("truth"), PublishOptions::default())
                .await
                .unwrap();
        }
    };
    tokio::time::timeout(WITHIN, publishing).await.expect("it is refused");
    while let Ok(event) = tokio::time::timeout(WITHIN, heard.next()).await {
        match event {
            Some(Event::Message(message)) => {
                assert_eq!(message.payload, Bytes::from("truth"));
                break;
            }
            Some(Event::Gap(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    // Whoever listens is told by whom it is not let.
    let telling = async {
        loop {
            match listens.next().await {
                Some(Event::Message(message)) => assert_eq!(message.payload, Bytes::from("lies")),
                other => break other,
            }
        }
    };
    let told = tokio::time::timeout(WITHIN, telling).await.expect("it is told");
    assert_eq!(told, Some(Event::Refused { publisher: server.infra.mesh.node() }));
    stop([server, outlaw, client]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_that_is_forbidden_takes_no_other_with_it_however_many_there_are() {
    let rules = Rules {
        rules: vec![rule(Effect::Deny, Action::Subscribe, &[], "many.*.n1090")],
        ..Rules::default()
    };
    let publisher = ruled(1, &[], None, rules).await;
    let reader = ruled(2, &[], Some(&publisher), Rules::default()).await;
    for node in [&publisher, &reader] {
        has_members(node, 1).await;
        finds(node, 1).await;
    }
    // Publishers are told of so many as of one.
    let subscribe = |number: usize| {
        let pattern: Pattern = format!("many.*.n{number}").parse().unwrap();
        reader.infra.mesh.pubsub().subscribe(&pattern, &SubscribeOptions::default()).unwrap()
    };
    let mut all: Vec<_> = (0..1_100).map(subscribe).collect();
    let pubsub = publisher.infra.mesh.pubsub();
    let publishing = async {
        loop {
            for name in ["many.a.n1090", "many.a.n1091"] {
                let options = PublishOptions::default();
                let _told = pubsub.publish(&topic(name), Bytes::from("x"), options).await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    let (before, last) = all.split_at_mut(1_091);
    let allowed = last.first_mut().unwrap();
    let reading = async { (allowed.next().await, before.last_mut().unwrap().next().await) };
    let read = async {
        tokio::select! {
            () = publishing => panic!("it goes on"),
            read = reading => read,
        }
    };
    let (got, refused) = tokio::time::timeout(WITHIN, read).await.expect("both are told");
    assert!(matches!(got, Some(Event::Message(_))), "{got:?}");
    assert_eq!(refused, Some(Event::Refused { publisher: publisher.infra.mesh.node() }));
    stop([publisher, reader]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_subscribe_makes_itself_no_part_of_a_broadcast() {
    let access = Rules {
        rules: vec![rule(Effect::Deny, Action::Subscribe, &["thief"], "feed.**")],
        ..Rules::default()
    };
    let publisher = {
        let few = pubsub::Config { direct_max: 1, ..pubsub::Config::default() };
        let discovery = Discovery { pubsub: few, ..joining(None) };
        let credentials = credentials_with(&authority(), 1, &[]);
        node_of(Config { discovery, access, ..Config::new(credentials, 1) }).await
    };
    let one = ruled(2, &[], Some(&publisher), Rules::default()).await;
    let two = ruled(3, &[], Some(&publisher), Rules::default()).await;
    let thief = ruled(4, &["thief"], Some(&publisher), Rules::default()).await;
    for node in [&publisher, &one, &two, &thief] {
        has_members(node, 3).await;
        finds(node, 3).await;
    }
    let (feed, all) = (topic("feed.news"), "feed.*".parse::<Pattern>().unwrap());
    let subscribe = |node: &Node| {
        node.infra.mesh.pubsub().subscribe(&all, &SubscribeOptions::default()).unwrap()
    };
    let (_one, _two, mut stolen) = (subscribe(&one), subscribe(&two), subscribe(&thief));
    let pubsub = publisher.infra.mesh.pubsub();
    let known = async {
        while pubsub.subscribers(&feed).await != Ok(2) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WITHIN, known).await.expect("two are known");
    let publish = async |payload: &'static str| {
        let promised = PublishOptions::at_least_once();
        let told = pubsub.publish(&feed, Bytes::from(payload), promised).await;
        assert_eq!(told, Ok(Published::Accepted { subscribers: 2 }));
        tokio::time::timeout(WITHIN, pubsub.settled(&feed)).await.expect("it arrives")
    };
    publish("it grows").await;
    // The thief has heard how the broadcast is named, and makes its own node believe that it is a part.
    let id = *pubsub.trees().first().expect("it is a broadcast");
    let from = publisher.infra.mesh.node();
    let plant = Plant {
        number: id.number,
        life: Life { node: 1, broker: 1 },
        topic: feed.clone(),
        from: 1,
        lost: 0,
        contacts: vec![from],
        is_allowed: true,
    };
    let (session, word, ticket) = (SessionId(0), Word::Plant(plant), None);
    thief.infra.mesh.pubsub().tell(Input::Word { from, session, word, ticket });
    let named = || {
        let entries = publisher.infra.mesh.access().audit().recent();
        entries.iter().any(|entry| entry.action == "subscribe" && entry.name == "feed.news")
    };
    let waiting = async {
        while !named() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WITHIN, waiting).await.expect("it is put down");
    for _ in 0..20 {
        let report = publish("for two").await;
        assert_eq!(report.dropped(), 0, "{report:?}");
    }
    while let Some(event) = stolen.try_next() {
        assert_eq!(event, Event::Refused { publisher: from });
    }
    stop([publisher, one, two, thief]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_publish_at_one_node_goes_on_by_broadcast_to_the_others() {
    let few = pubsub::Config { direct_max: 1, ..pubsub::Config::default() };
    let publisher = {
        let credentials = credentials_with(&authority(), 1, &[]);
        let discovery = Discovery { pubsub: few, ..joining(None) };
        node_of(Config { discovery, ..Config::new(credentials, 1) }).await
    };
    let fan = ruled(2, &[], Some(&publisher), Rules::default()).await;
    let deaf = Rules {
        rules: vec![rule(Effect::Deny, Action::Publish, &[], "feed.**")],
        ..Rules::default()
    };
    let strict = ruled(3, &[], Some(&publisher), deaf).await;
    for node in [&publisher, &fan, &strict] {
        has_members(node, 2).await;
        finds(node, 2).await;
    }
    let (feed, all) = (topic("feed.news"), "feed.*".parse::<Pattern>().unwrap());
    let options = SubscribeOptions::default();
    let mut heard = fan.infra.mesh.pubsub().subscribe(&all, &options).unwrap();
    let _never = strict.infra.mesh.pubsub().subscribe(&all, &options).unwrap();
    let pubsub = publisher.infra.mesh.pubsub();
    let known = async {
        while pubsub.subscribers(&feed).await != Ok(2) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WITHIN, known).await.expect("both are known");
    // More than a part may have that has not answered.
    let publishing = async {
        for number in 0..1_500_u32 {
            let body = Bytes::from(number.to_string());
            let told = pubsub.publish(&feed, body, PublishOptions::at_least_once()).await;
            assert!(matches!(told, Ok(Published::Accepted { .. })), "{told:?}");
        }
    };
    let hearing = async {
        for number in 0..1_500_u32 {
            let Some(Event::Message(message)) = heard.next().await else { panic!("{number}") };
            assert_eq!(message.payload, Bytes::from(number.to_string()));
        }
    };
    let both = async { tokio::join!(publishing, hearing) };
    tokio::time::timeout(WITHIN, both).await.expect("one node stops all");
    let settling = async {
        while pubsub.delivery_report(&feed).pending() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WITHIN, settling).await.expect("each copy ends");
    let report = pubsub.delivery_report(&feed);
    assert_eq!(report.delivered, 1_500, "{report:?}");
    assert!(report.dropped.keys().all(|why| *why == Reason::Forbidden), "{report:?}");
    assert!(!refused(&strict, Some(&publisher), "publish").is_empty());
    stop([publisher, fan, strict]).await;
}
