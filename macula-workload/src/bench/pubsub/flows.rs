//! A topic that is published to as fast as its subscribers read, or at a steady rate.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::topic::Topic;
use macula_workload::pubsub::{Event, PubSub, PublishOptions, Published, Subscription};
use tokio::task::JoinSet;

use super::{BODY_LEN, rate};

/// How long it may take until the subscribers are known.
const KNOWN_WITHIN: Duration = Duration::from_secs(30);

/// How long a reader waits for one message. A machine that starves a node makes the others take it
/// for gone, and what was meant for it never comes.
const READ_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked for them.
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub(super) struct Feed {
    pubsub: PubSub,
    topic: Topic,
    subscriptions: Vec<Subscription>,
}

impl Feed {
    /// Waits until the subscribers are known.
    pub(super) async fn new(
        pubsub: PubSub,
        topic: &str,
        subscriptions: Vec<Subscription>,
    ) -> anyhow::Result<Self> {
        let topic = topic.parse()?;
        let known = async {
            while pubsub.subscribers(&topic).await? < subscriptions.len() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            anyhow::Ok(())
        };
        let known = tokio::time::timeout(KNOWN_WITHIN, known).await;
        known.context("not all subscribers are known")??;
        Ok(Self { pubsub, topic, subscriptions })
    }

    /// Publishes so many messages, until all subscribers have read them all. Gives how many were
    /// delivered a second, at all subscribers together.
    pub(super) async fn run(
        &mut self,
        count: usize,
        options: PublishOptions,
    ) -> anyhow::Result<f64> {
        let begin = TokioClock.now();
        let mut readers = JoinSet::new();
        let audience = self.subscriptions.len();
        for mut subscription in self.subscriptions.drain(..) {
            readers.spawn(async move {
                for read in 0..count {
                    // Whoever need not wait needs no clock.
                    if let Some(event) = subscription.try_next() {
                        payload(Some(event))?;
                        continue;
                    }
                    let message = tokio::time::timeout(READ_WITHIN, subscription.next()).await;
                    let message =
                        message.with_context(|| format!("{read} of {count} messages have come"))?;
                    payload(message)?;
                    tokio::task::coop::consume_budget().await;
                }
                anyhow::Ok(subscription)
            });
        }
        let (pubsub, topic) = (self.pubsub.clone(), self.topic.clone());
        let publisher = tokio::spawn(async move {
            let payload = Bytes::from(vec![7; BODY_LEN]);
            for _ in 0..count {
                let published = pubsub.publish(&topic, payload.clone(), options).await?;
                let is_accepted = matches!(published, Published::Accepted { .. });
                anyhow::ensure!(is_accepted, "{published:?}");
            }
            anyhow::Ok(())
        });
        if let Err(error) = publisher.await? {
            // If nobody subscribes any more, whoever did knows why.
            while let Some(ended) = readers.try_join_next() {
                drop(ended??);
            }
            return Err(error);
        }
        while let Some(subscription) = readers.join_next().await {
            self.subscriptions.push(subscription??);
        }
        let took = TokioClock.now() - begin;
        Ok(rate(count * audience, took.as_secs_f64()))
    }

    /// Publishes at a rate, and gives how long each message was under way, in microseconds.
    pub(super) async fn latencies(&mut self, count: usize, rate: f64) -> anyhow::Result<Vec<f64>> {
        let begin = TokioClock.now();
        let Some(mut subscription) = self.subscriptions.pop() else { return Ok(Vec::new()) };
        let reader = tokio::spawn(async move {
            let mut took = Vec::with_capacity(count);
            for _ in 0..count {
                let payload = payload(subscription.next().await)?;
                let sent = payload.first_chunk::<8>().map_or(0, |sent| u64::from_le_bytes(*sent));
                let now = TokioClock.now() - begin;
                took.push((now - Duration::from_nanos(sent)).as_secs_f64() * 1e6);
            }
            anyhow::Ok((subscription, took))
        });
        let (pubsub, topic) = (self.pubsub.clone(), self.topic.clone());
        let publisher = tokio::spawn(async move {
            let pause = Duration::from_secs_f64(1.0 / rate);
            let mut due = TokioClock.now();
            for _ in 0..count {
                while TokioClock.now() < due {
                    tokio::task::yield_now().await;
                }
                due += pause;
                let now = u64::try_from((TokioClock.now() - begin).as_nanos()).unwrap_or(u64::MAX);
                let mut payload = vec![7; BODY_LEN];
                payload.splice(..8, now.to_le_bytes());
                // It is accepted, or its reader waits in vain and says so.
                let _published = pubsub.publish(&topic, payload, PublishOptions::default()).await?;
            }
            anyhow::Ok(())
        });
        publisher.await??;
        let (subscription, took) = reader.await??;
        self.subscriptions.push(subscription);
        Ok(took)
    }
}

fn payload(event: Option<Event>) -> anyhow::Result<Bytes> {
    match event {
        Some(Event::Message(message)) => Ok(message.payload),
        other => anyhow::bail!("a message is missing: {other:?}"),
    }
}
