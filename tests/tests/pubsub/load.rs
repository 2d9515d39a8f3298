//! The scenario: every node that does not only relay subscribes, and publishes all the time; some
//! of them are slow.

use std::time::Duration;

use bytes::Bytes;
use macula_core::entropy::Entropy;
use macula_core::topic::{Pattern, Topic};
use macula_infra::pubsub::{
    Event, Priority, PubSub, PublishOptions, Published, Qos, Report, SubscribeOptions, Subscription,
};
use macula_infra::transport::overlay::is_overlay;
use macula_tests::world::{Life, Log, Look, Part, Scenario};

use super::history::History;
use super::invariants;
use super::seen::{End, Op, Seen, Told};

/// What is published to. Those with a `p` are promised to arrive.
pub(crate) const TOPICS: [&str; 4] = ["p.a", "p.b", "q.a", "q.b.c"];

/// What each node subscribes to that does not only relay.
pub(crate) const PATTERNS: [&str; 5] = ["**", "p.*", "q.**", "*.a", "p.a"];

/// Which of those have subscribers that are slow while faults come.
const SLOW: [usize; 2] = [2, 4];

/// How many messages wait for one of them.
pub(crate) const QUEUE_LEN: usize = 16;

/// How long a slow one takes for a message at most, in milliseconds.
const SLOW_MAX_MS: u64 = 40;

/// The longest pause between two messages of one publisher, in milliseconds.
const PAUSE_MAX_MS: u64 = 60;

/// How many messages come at one time at most.
const BURST_MAX: u64 = 6;

/// The pause between two rounds once the storm is over.
const ROUND: Duration = Duration::from_millis(300);

/// How long it may take in virtual time until all that was published has ended: longer than a node
/// is suspect, and its absence believed.
const ENDING_MAX: Duration = Duration::from_secs(50);

/// How often it is looked whether all has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whether a topic's messages are promised to arrive.
pub(crate) fn is_promised(topic: usize) -> bool {
    TOPICS[topic].starts_with('p')
}

/// Who does what.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cast {
    /// So many of the first nodes only relay.
    pub(crate) relays: usize,
    /// The others are one queue group, which subscribes to everything.
    pub(crate) is_team: bool,
}

/// The queue group.
const TEAM: &str = "team";

impl Cast {
    /// What a node subscribes to; none if it only relays.
    fn pattern(self, node: usize) -> Option<Pattern> {
        let place = node.checked_sub(self.relays)?;
        Some(if self.is_team { "**" } else { PATTERNS[place] }.parse().unwrap())
    }

    /// Whether a node publishes and subscribes.
    pub(crate) const fn takes_part(self, node: usize) -> bool {
        node >= self.relays
    }

    /// Whether a node's subscriber is slow while faults come.
    pub(crate) fn is_slow(self, node: usize) -> bool {
        node.checked_sub(self.relays).is_some_and(|place| SLOW.contains(&place))
    }

    /// Which subscriber a node is, or is a part of.
    pub(crate) const fn subscriber(self, node: usize) -> usize {
        if self.is_team { usize::MAX } else { node }
    }

    /// Whether a node subscribes to a topic.
    pub(crate) fn wants(self, node: usize, topic: usize) -> bool {
        self.pattern(node).is_some_and(|pattern| pattern.matches(&name(topic)))
    }
}

fn name(topic: usize) -> Topic {
    TOPICS[topic].parse().unwrap()
}

/// The scenario. Nodes crash, or they do not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Whether nodes crash that take part.
    pub(crate) crashes: bool,
    pub(crate) cast: Cast,
    /// How long faults come.
    pub(crate) storm: Duration,
    /// To how many subscribers a publisher sends directly, if that is not as usual.
    pub(crate) direct_max: Option<usize>,
    /// What is killed on each node.
    pub(crate) kills: &'static [Part],
}

impl Scenario for Load {
    type Seen = Seen;

    async fn live(&self, mut life: Life<Seen>) {
        let Some(pattern) = self.cast.pattern(life.index) else { return };
        let slow_until = self.cast.is_slow(life.index).then_some(self.storm);
        let queue_len = if slow_until.is_some() { QUEUE_LEN } else { 8_192 };
        let group = self.cast.is_team.then(|| TEAM.to_owned());
        let options = SubscribeOptions { queue_len, group, ..SubscribeOptions::default() };
        let subscription = life.node.mesh().pubsub().subscribe(&pattern, &options).unwrap();
        let entropy = life.entropy.fork();
        life.spawn(read(life.clone(), subscription, entropy, slow_until));
        let publishers = (0..2).map(|kind| {
            let entropy = life.entropy.fork();
            Publisher { life: life.clone(), kind, entropy, count: 0 }
        });
        let publishers: Vec<Publisher> = publishers.collect();
        let storms =
            publishers.into_iter().map(|publisher| tokio::spawn(publisher.storm(self.storm)));
        let storms: Vec<_> = storms.collect();
        for storm in storms {
            if within_bound(&life, self.storm, storm).await.is_none() {
                return;
            }
        }
        let entropy = life.entropy.fork();
        Publisher { life, kind: 2, entropy, count: 0 }.rounds(self.storm).await;
    }

    fn healed(&self, look: &Look<'_, Seen>) -> bool {
        let is_up = look.nodes().iter().all(Option::is_some);
        is_up && look.log().read(|entries| History::of(entries, self.cast).is_settled(look.since()))
    }

    fn check(&self, log: &Log<Seen>) -> Result<(), String> {
        log.read(|entries| invariants::check(entries, self))
    }
}

/// Tells whom this node reaches over a relay.
fn tell_relayed(life: &Life<Seen>) {
    let links = life.node.mesh().links();
    let relayed = links.iter().filter(|link| is_overlay(link.peer().address));
    let relayed: Vec<_> = relayed.map(|link| link.node()).collect();
    for (to, _) in life.others().filter(|(_, id)| relayed.contains(id)) {
        life.saw(Seen::Relayed { to });
    }
}

/// Waits for something that ends once all that was published has. It says so if that takes too long,
/// and gives nothing.
async fn within_bound<T>(
    life: &Life<Seen>,
    storm: Duration,
    waiting: impl Future<Output = T>,
) -> Option<T> {
    let left = (storm.max(life.now()) + ENDING_MAX).saturating_sub(life.now());
    let done = tokio::time::timeout(left, waiting).await.ok();
    if done.is_none() {
        life.saw(Seen::Stuck(life.node.mesh().pubsub().delivery_report_of_all()));
    }
    done
}

/// Reads what comes, more or less fast.
async fn read(
    life: Life<Seen>,
    mut subscription: Subscription,
    mut entropy: Entropy,
    slow_until: Option<Duration>,
) {
    while let Some(event) = subscription.next().await {
        match event {
            Event::Message(message) => {
                let text = std::str::from_utf8(&message.payload).unwrap();
                let topic = TOPICS.iter().position(|topic| *topic == message.topic.as_str());
                life.saw(Seen::Got {
                    op: Op(text.parse().unwrap()),
                    topic: topic.unwrap(),
                    sequence: message.sequence,
                    priority: u8::try_from(place(message.priority)).unwrap(),
                });
            }
            Event::Gap(gap) => life.saw(Seen::Missed { count: gap.count }),
            other => panic!("{other:?}"),
        }
        if slow_until.is_some_and(|until| life.now() < until) {
            tokio::time::sleep(Duration::from_millis(entropy.below(SLOW_MAX_MS))).await;
        }
    }
}

fn place(priority: Priority) -> usize {
    Priority::ALL.iter().position(|of| *of == priority).unwrap()
}

/// What publishes, one message after the other.
struct Publisher {
    life: Life<Seen>,
    kind: u64,
    entropy: Entropy,
    count: u64,
}

impl Publisher {
    fn pubsub(&self) -> PubSub {
        self.life.node.mesh().pubsub().clone()
    }

    fn below(&mut self, of: usize) -> usize {
        usize::try_from(self.entropy.below(u64::try_from(of).unwrap())).unwrap()
    }

    async fn storm(mut self, until: Duration) {
        while self.life.now() < until {
            let half = TOPICS.len() / 2;
            let topic = self.below(half) + if self.kind == 0 { 0 } else { half };
            let expiry = (!is_promised(topic) && self.entropy.chance(0.3))
                .then(|| Duration::from_millis(self.entropy.below(500) + 1));
            let priority = Priority::ALL[self.below(2)];
            let at_once = self.entropy.chance(0.3);
            let options = PublishOptions { expiry, priority, ..PublishOptions::default() };
            let burst = if self.entropy.chance(0.5) { self.entropy.below(BURST_MAX) } else { 0 };
            for _ in 0..=burst {
                self.publish(topic, options, at_once).await;
            }
            let pause = self.entropy.below(PAUSE_MAX_MS) + 1;
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Publishes to each topic, waits until all has ended, and says so.
    async fn rounds(mut self, storm: Duration) {
        let life = self.life.clone();
        tell_relayed(&life);
        while within_bound(&life, storm, self.round()).await.is_some() {
            let mut promised = Report::default();
            for topic in (0..TOPICS.len()).filter(|topic| is_promised(*topic)) {
                let report = self.pubsub().delivery_report(&name(topic));
                promised.accepted += report.accepted;
                promised.delivered += report.delivered;
                promised.expired += report.expired;
                for (reason, count) in report.dropped {
                    *promised.dropped.entry(reason).or_default() += count;
                }
            }
            let all = self.pubsub().delivery_report_of_all();
            self.life.saw(Seen::Settled(Told { all, promised }));
            tokio::time::sleep(ROUND).await;
        }
    }

    async fn round(&mut self) {
        for topic in 0..TOPICS.len() {
            self.publish(topic, PublishOptions::default(), false).await;
        }
        while self.pubsub().delivery_report_of_all().pending() > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn publish(&mut self, topic: usize, options: PublishOptions, at_once: bool) {
        self.count += 1;
        let by = (u64::try_from(self.life.index).unwrap(), self.life.number);
        let op = Op::new(by, self.kind, self.count);
        let qos = if is_promised(topic) { Qos::AtLeastOnce } else { Qos::AtMostOnce };
        let (options, payload) = (PublishOptions { qos, ..options }, Bytes::from(op.0.to_string()));
        self.life.saw(Seen::Asked { op, topic });
        let (pubsub, to) = (self.pubsub(), name(topic));
        let published = if at_once {
            pubsub.try_publish(&to, payload, options)
        } else {
            pubsub.publish(&to, payload, options).await
        };
        let end = match published {
            Ok(Published::Accepted { subscribers }) => End::Accepted(subscribers),
            Ok(Published::NoSubscribers | Published::WouldBlock) => End::Not,
            Err(macula_infra::pubsub::PublishError::Expired { .. }) => End::Not,
            Err(error) => End::Failed(error.to_string()),
        };
        self.life.saw(Seen::Ended { op, end });
    }
}
