//! Nodes of one realm: the first publishes, and the others subscribe.

use macula_workload::identity::EphemeralRealm;
use macula_workload::pubsub::{SubscribeOptions, Subscription};
use macula_workload::transport::tls::Credentials;
use macula_workload::{Config, Node};

use super::flows::Feed;

/// What messages share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Frames and writes, as usual.
    All,
    /// Writes: each message has a frame of its own.
    Writes,
    /// Nothing: each message has a frame and a write of its own.
    Nothing,
}

pub(super) struct Nodes {
    one: Node,
    others: Vec<Node>,
}

impl Nodes {
    /// Starts the first and so many others.
    pub(super) async fn start(
        realm: &EphemeralRealm,
        others: usize,
        sharing: Sharing,
    ) -> anyhow::Result<Self> {
        let one = node(realm.member()?, sharing).await?;
        let mut nodes = Self { one, others: Vec::new() };
        for _ in 0..others {
            let other = node(realm.member()?, sharing).await?;
            nodes.one.mesh().introduce(other.id(), other.mesh().listening());
            nodes.one.mesh().connect(other.id()).await?;
            nodes.others.push(other);
        }
        Ok(nodes)
    }

    /// All others subscribe to a topic, and the first one knows of it.
    pub(super) async fn feed(&self, topic: &str) -> anyhow::Result<Feed> {
        let options = SubscribeOptions::default();
        let pattern = topic.parse()?;
        let subscribe = |node: &Node| Ok(node.mesh().pubsub().subscribe(&pattern, &options)?);
        let subscriptions: anyhow::Result<_> = self.others.iter().map(subscribe).collect();
        Feed::new(self.one.mesh().pubsub().clone(), topic, subscriptions?).await
    }

    /// The first of the others has many subscriptions that want something else: a topic `w.feed.one`
    /// is looked up among all of them in its last segment.
    pub(super) fn subscribe_beside(&self, count: usize) -> anyhow::Result<Vec<Subscription>> {
        let Some(other) = self.others.first() else { return Ok(Vec::new()) };
        let options = SubscribeOptions::default();
        let subscribe = |number| {
            let pattern = format!("w.*.{number}").parse()?;
            Ok(other.mesh().pubsub().subscribe(&pattern, &options)?)
        };
        (0..count).map(subscribe).collect()
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.one.stop().await?;
        for other in self.others {
            other.stop().await?;
        }
        Ok(())
    }
}

async fn node(credentials: Credentials, sharing: Sharing) -> anyhow::Result<Node> {
    let mut config = Config::default();
    if sharing != Sharing::All {
        config.pubsub.batch_messages_max = 1;
    }
    config.transport.writes_apart = sharing == Sharing::Nothing;
    Ok(Node::builder().config(config).credentials(credentials).start().await?)
}
