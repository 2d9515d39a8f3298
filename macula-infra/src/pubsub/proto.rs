//! What decides, without IO: the `Broker` of a node, and its parts.
//!
//! `flow` is the sending end of one flow of a session and `intake` the receiving end. `outlet`
//! is a publisher's end of a session, with what the other node wants; `inlet` is a subscriber's
//! end. `orphans` wait for a member of their group. `subscribers` are those of this node, `trie` finds
//! them, `seen` is what each has had, and [`archive`] keeps what is replayed. [`tree`] is broadcast to
//! a large audience over the neighbours of a [`view`], `seal` is how its publisher signs what it says there,
//! and `crowd` how one is found.

pub mod archive;
pub(crate) mod broker;
mod bug;
pub mod config;
pub(crate) mod crowd;
pub(crate) mod flow;
pub(crate) mod grove;
pub(crate) mod ids;
pub(crate) mod inlet;
pub(crate) mod intake;
pub(crate) mod orphans;
pub(crate) mod outlet;
pub(crate) mod seal;
pub(crate) mod seen;
pub(crate) mod subscribers;
pub(crate) mod topics;
pub mod tree;
pub(crate) mod trie;
pub mod view;
pub(crate) mod word;

pub use bug::Bug;
pub use config::Config;

use std::sync::Arc;

use bytes::Bytes;
use macula_core::identity::NodeId;
use macula_core::topic::Topic;

use super::inbox::Ticket;
use super::message::{Event, Gap, PublishOptions, Report};
use subscribers::{Replayed, Room, Wish};
use word::{FlowId, SessionId, SubId, TreeId, Word};

/// A topic that something is published to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicId(pub(crate) u64);

/// What can happen.
#[derive(Debug)]
pub(crate) enum Input {
    /// Something is going to be published to a topic.
    Open { id: TopicId, topic: Topic },
    /// Nothing will be any more.
    Close { id: TopicId },
    /// Somebody wants to publish to it, and nobody is known to subscribe.
    Seek { id: TopicId },
    /// Messages wait to be published.
    Waiting,
    /// They are published, in this order.
    Publish { messages: Vec<Posted> },
    /// Who has subscriptions with this prefix, if that could be found out.
    Found { prefix: Arc<str>, nodes: Option<Vec<NodeId>> },
    /// This node is announced as a subscriber of a prefix at so many keys beside the first, or no
    /// longer.
    Announced { prefix: Arc<str>, depth: Option<u8> },
    /// Somebody subscribes.
    Subscribe { id: SubId, wish: Box<Wish> },
    /// A subscription is over.
    Unsubscribe { id: SubId },
    /// Somebody has read from a subscription.
    Consumed { id: SubId, read: Room },
    /// A node says something. What it takes of the inbox is free once it is heard.
    Word { from: NodeId, session: SessionId, word: Word, ticket: Option<Ticket> },
    /// Something was not sent.
    Unsent { to: NodeId, session: SessionId, what: Unsent },
    /// There is a connection to a node.
    Met { node: NodeId },
    /// There is none any more.
    Lost { node: NodeId },
    /// A node is gone from the mesh.
    Gone { node: NodeId },
}

/// What of a topic's room a message takes while it is not on its way. One that is only kept takes
/// none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Weight {
    pub(crate) messages: u64,
    pub(crate) cost: u32,
}

impl Weight {
    const fn and(&mut self, other: Self) {
        self.messages += other.messages;
        self.cost += other.cost;
    }
}

/// A message as its publisher has left it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Posted {
    pub(crate) topic: TopicId,
    pub(crate) payload: Bytes,
    pub(crate) options: PublishOptions,
    pub(crate) weight: Weight,
}

/// What was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Unsent {
    /// What the publisher's end says, apart from messages.
    Publisher,
    /// Messages, from this place on.
    Batch { flow: FlowId, first: u64 },
    /// What the subscriber's end says.
    Subscriber,
    /// What nobody misses.
    Nothing,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Output {
    /// Say something to a node.
    Send { to: NodeId, session: SessionId, word: Word },
    /// Give what waits to be published.
    Take,
    /// Tell a subscription, in this order.
    Tell { to: SubId, events: Vec<Event> },
    /// Find out who has subscriptions with this prefix, or is at this key of it; so many are enough.
    Find { prefix: Arc<str>, max: usize },
    /// Announce this node as a subscriber of a prefix at so many keys beside the first.
    Depth { prefix: Arc<str>, depth: u8 },
    /// A topic is known to have so many subscribers: nodes, and queue groups.
    Audience { topic: TopicId, subscribers: usize },
    /// What has become of a topic's messages since this was said last, and the room that is free
    /// again.
    Tally { topic: TopicId, report: Report, freed: Weight },
    /// The replay of a publisher's node to a subscription is so far. Another life of the actor has to
    /// know it, so that nothing is replayed twice.
    Replayed { to: SubId, publisher: NodeId, replayed: Replayed },
    /// A subscription has missed this, and is to be told when it has room. Another life of the actor
    /// has to know it.
    Owed { to: SubId, gaps: Vec<Gap> },
    /// This node has or takes part in a broadcast of a topic, or no longer. Who may be a part of it is
    /// judged by that.
    Tree { id: TreeId, topic: Option<Topic> },
    /// A node breaks the protocol, or is none of ours.
    Misbehaved { peer: NodeId, why: &'static str },
}

impl Word {
    /// What is told if it is not sent.
    pub(crate) const fn unsent(&self) -> Unsent {
        match self {
            Self::Hello { .. } | Self::Ask { .. } => Unsent::Publisher,
            Self::Batch(batch) => Unsent::Batch { flow: batch.flow, first: batch.first },
            Self::Welcome { .. }
            | Self::Interest(_)
            | Self::Replay { .. }
            | Self::Report { .. } => Unsent::Subscriber,
            Self::Bye
            | Self::Forbidden { .. }
            | Self::Reset
            | Self::Refused { .. }
            | Self::News { .. }
            | Self::Plant(_)
            | Self::Branch { .. }
            | Self::Fell { .. }
            | Self::Declined { .. } => Unsent::Nothing,
        }
    }
}

#[cfg(test)]
mod tests;
