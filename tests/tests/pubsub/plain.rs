//! What each user does: wildcards over three nodes, a subscriber that joins late, and a client that
//! vanishes. Nothing else goes wrong here.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use macula_core::topic::Topic;
use macula_infra::dht::rules::space;
use macula_infra::pubsub::{
    Event, Message, PubSub, PublishOptions, Published, SubscribeOptions, Subscription,
};
use macula_infra::remote::{CallError, Context, Unavailability};
use macula_infra::rpc::Options;
use macula_tests::world::{Faults, Life, Log, Look, Scenario, What, World};
use tokio::sync::watch;

/// How often it is looked for what is to come.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// When the client vanishes.
const VANISHES_AT: Duration = Duration::from_secs(8);

/// How long a mesh may take for all of it: longer than what is announced lasts.
const WITHIN: Duration = Duration::from_secs(400);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Seen {
    /// A subscriber has got a message: its topic, what it says, and whether it was replayed.
    Got(String, String, bool),
    /// A message was accepted for so many.
    Accepted(usize),
    /// The directory has the subscriber, and the provider of the procedure.
    Found,
    /// The procedure has answered.
    Answered,
    /// Nobody provides it any more, and whoever calls it is told so.
    NoProvider,
    /// The publisher knows of no subscribers any more.
    Nobody,
    /// Nobody is found in the directory any more.
    Forgotten,
    /// All that was published has ended.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Wildcards,
    Late,
    Vanishing,
}

#[derive(Clone)]
struct Plain {
    kind: Kind,
    /// How far it is, which one node waits for and another one says.
    stage: Arc<watch::Sender<usize>>,
}

impl Plain {
    fn new(kind: Kind) -> Self {
        Self { kind, stage: Arc::new(watch::Sender::new(0)) }
    }

    async fn reached(&self, stage: usize) {
        self.stage.subscribe().wait_for(|reached| *reached >= stage).await.unwrap();
    }

    async fn wildcards(&self, life: &Life<Seen>) {
        match life.index {
            0 => {
                let topics = ["room.7.chat", "room.7.chat.old", "room.8.chat", "room.7.files"];
                let counts = [2, 1, 2, 1];
                for (name, count) in topics.into_iter().zip(counts) {
                    has_subscribers(life, name, count).await;
                }
                for number in 0..20 {
                    for name in topics {
                        publish(life, name, number, PublishOptions::at_least_once()).await;
                    }
                }
                all_ended(life).await;
            }
            1 => read(life, subscribe(life, "room.*.chat", &<_>::default())).await,
            _ => read(life, subscribe(life, "room.**", &<_>::default())).await,
        }
    }

    async fn late(&self, life: &Life<Seen>) {
        match life.index {
            0 => {
                let kept = PublishOptions { keep: true, ..PublishOptions::at_least_once() };
                for number in 0..10 {
                    publish(life, "news", number, kept).await;
                }
                self.stage.send_replace(1);
                has_subscribers(life, "news", 1).await;
                for number in 10..20 {
                    publish(life, "news", number, kept).await;
                }
                all_ended(life).await;
            }
            1 => {
                self.reached(1).await;
                let options = SubscribeOptions::default().with_last(5);
                read(life, subscribe(life, "news", &options)).await;
            }
            _ => {}
        }
    }

    async fn vanishing(&self, life: &Life<Seen>) {
        match life.index {
            0 => {
                has_subscribers(life, "chat", 1).await;
                while finds(life, space::SUB, b"chat").await != Some(1)
                    || finds(life, space::NAME, PROCEDURE_NAME).await != Some(1)
                {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                life.saw(Seen::Found);
                while call(life).await != Ok(4) {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                life.saw(Seen::Answered);
                while pubsub(life).subscribers(&topic("chat")).await != Ok(0) {
                    publish(life, "chat", 0, PublishOptions::default()).await;
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                life.saw(Seen::Nobody);
                let nobody =
                    Err(CallError::Unavailable(Unavailability::NoProvider(PROCEDURE.to_owned())));
                while call(life).await != nobody {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                life.saw(Seen::NoProvider);
                while finds(life, space::SUB, b"chat").await != Some(0)
                    || finds(life, space::NAME, PROCEDURE_NAME).await != Some(0)
                {
                    tokio::time::sleep(LOOK_EVERY * 100).await;
                }
                life.saw(Seen::Forgotten);
                all_ended(life).await;
            }
            2 => {
                let subscription = subscribe(life, "chat", &<_>::default());
                let rpc = life.node.mesh().rpc();
                rpc.advertise(&topic(PROCEDURE), &Options::default(), double).unwrap().keep();
                read(life, subscription).await;
            }
            _ => {}
        }
    }
}

/// What the client that vanishes advertises, and its name in the directory.
const PROCEDURE: &str = "double";
const PROCEDURE_NAME: &[u8] = b"rpc/double";

async fn double(number: u64, _: Context) -> Result<u64, Infallible> {
    Ok(number * 2)
}

async fn call(life: &Life<Seen>) -> Result<u64, CallError> {
    life.node.mesh().rpc().call(&topic(PROCEDURE), &2).await
}

fn topic(name: &str) -> Topic {
    name.parse().unwrap()
}

fn pubsub(life: &Life<Seen>) -> PubSub {
    life.node.mesh().pubsub().clone()
}

fn subscribe(life: &Life<Seen>, pattern: &str, options: &SubscribeOptions) -> Subscription {
    pubsub(life).subscribe(&pattern.parse().unwrap(), options).unwrap()
}

async fn read(life: &Life<Seen>, mut subscription: Subscription) {
    while let Some(event) = subscription.next().await {
        let Event::Message(Message { topic, payload, is_replayed, .. }) = event else {
            panic!("{event:?}");
        };
        let text = String::from_utf8(payload.to_vec()).unwrap();
        life.saw(Seen::Got(topic.to_string(), text, is_replayed));
    }
}

async fn has_subscribers(life: &Life<Seen>, name: &str, count: usize) {
    while pubsub(life).subscribers(&topic(name)).await != Ok(count) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How many nodes the directory has under a name.
async fn finds(life: &Life<Seen>, space: &str, name: &[u8]) -> Option<usize> {
    let found = life.node.mesh().dht().find(space, name, 8).await;
    found.ok().map(|found| found.providers.len())
}

async fn publish(life: &Life<Seen>, name: &str, number: usize, options: PublishOptions) {
    match pubsub(life).publish(&topic(name), number.to_string(), options).await.unwrap() {
        Published::Accepted { subscribers } => life.saw(Seen::Accepted(subscribers)),
        Published::NoSubscribers => {}
        Published::WouldBlock => panic!("it waits for room"),
    }
}

async fn all_ended(life: &Life<Seen>) {
    while pubsub(life).delivery_report_of_all().pending() > 0 {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    life.saw(Seen::Done);
}

impl Scenario for Plain {
    type Seen = Seen;

    async fn live(&self, life: Life<Seen>) {
        match self.kind {
            Kind::Wildcards => self.wildcards(&life).await,
            Kind::Late => self.late(&life).await,
            Kind::Vanishing => self.vanishing(&life).await,
        }
    }

    fn healed(&self, look: &Look<'_, Seen>) -> bool {
        look.log().read(|log| log.iter().any(|entry| entry.what == What::Seen(Seen::Done)))
    }

    fn check(&self, _log: &Log<Seen>) -> Result<(), String> {
        Ok(())
    }
}

/// Runs it, and gives what each node has seen.
fn run(kind: Kind, world: World) -> Vec<(usize, Seen)> {
    let world = world
        .nodes(3)
        .joins()
        .faults(Faults::NONE)
        .healing_max(WITHIN)
        .config(macula_tests::world::meet_quickly);
    let run = world.run(&Plain::new(kind)).unwrap();
    run.log.read(|log| {
        let seen = log.iter().filter_map(|entry| match &entry.what {
            What::Seen(seen) => Some((entry.node, seen.clone())),
            _ => None,
        });
        seen.collect()
    })
}

fn got_by(seen: &[(usize, Seen)], node: usize) -> Vec<(String, String, bool)> {
    let got = seen.iter().filter_map(|(by, seen)| match seen {
        Seen::Got(topic, text, is_replayed) if *by == node => {
            Some((topic.clone(), text.clone(), *is_replayed))
        }
        _ => None,
    });
    got.collect()
}

#[test]
fn wildcards_over_three_nodes() {
    let seen = run(Kind::Wildcards, World::builder(1).storm(Duration::ZERO));
    let expected = |topics: &[&str]| {
        let all = (0..20).flat_map(|number: usize| {
            topics.iter().map(move |name| ((*name).to_owned(), number.to_string(), false))
        });
        all.collect::<Vec<_>>()
    };
    assert_eq!(got_by(&seen, 1), expected(&["room.7.chat", "room.8.chat"]));
    let all = ["room.7.chat", "room.7.chat.old", "room.8.chat", "room.7.files"];
    assert_eq!(got_by(&seen, 2), expected(&all));
}

#[test]
fn a_subscriber_that_joins_late_has_the_last_messages_and_then_all() {
    let seen = run(Kind::Late, World::builder(2).storm(Duration::ZERO));
    let numbers = (5..20).map(|number: usize| ("news".to_owned(), number.to_string(), number < 10));
    assert_eq!(got_by(&seen, 1), numbers.collect::<Vec<_>>());
}

#[test]
fn the_subscriptions_and_announcements_of_a_client_that_vanishes_go_with_it() {
    let world = World::builder(3).storm(VANISHES_AT * 2).vanishes(2, VANISHES_AT);
    let seen = run(Kind::Vanishing, world);
    assert!(seen.contains(&(0, Seen::Accepted(1))) && !got_by(&seen, 2).is_empty());
    let place = |of: &Seen| seen.iter().position(|(_, seen)| seen == of).unwrap();
    let order = [Seen::Found, Seen::Answered, Seen::Nobody, Seen::NoProvider, Seen::Forgotten];
    assert!(order.iter().map(place).is_sorted());
    let last = seen.iter().rposition(|(_, seen)| matches!(seen, Seen::Got(..))).unwrap();
    assert!(last < place(&Seen::Nobody));
}
