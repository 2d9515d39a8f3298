//! Publish and subscribe, to topics, over all nodes of a mesh.
//!
//! A node that has subscriptions says so in the directory, under what each of its patterns begins
//! with. Whoever publishes looks there, under each part of its topic, and opens a *session* with each
//! node that it finds: a pipe for all topics from one node to one other. Through it the subscriber's
//! node says what exactly it wants, and how much room it has; the publisher's node sends messages in
//! batches, within its credit, and hears what has become of each.
//!
//! # What is promised
//!
//! Messages of one topic, priority and promise arrive in the order in which their node has published
//! them. Each copy of a message, which is one for each node with subscribers, ends as delivered,
//! expired, or dropped for a [`Reason`], and is counted once at the node that has published it. A
//! session outlives connections: when one is lost the other end says how far it was, and the rest is
//! sent again. So between two nodes that live nothing is lost and nothing is handed on twice,
//! whatever the network does. What is different if a message is promised to arrive
//! ([`Qos::AtLeastOnce`]): its publisher waits for subscribers that are slow, and it is sent again to
//! a node whose pub/sub has been restarted, which may have handed it on before.
//!
//! # Slow subscribers
//!
//! Each subscription has a queue, and says when it is half full. Each session has queues too. A
//! message that is not promised to arrive goes to those who have room; for the others it is dropped,
//! and they are told of the [`Gap`]. If nobody has room it waits, and its publisher with it.
//!
//! # Large audiences
//!
//! Up to 32 nodes ([`Config::direct_max`]) get a topic's messages from its publisher. If there are
//! more, those that are in no queue group become parts of a broadcast tree, and the publisher sends to
//! a few of them only. The
//! change waits until what was sent directly has arrived, so the order holds; and it is for as long as
//! the topic is published to. A report means the same: each part tells the publisher up to where its
//! subscribers have got the messages, and how many they have not. A part that has missed some asks
//! its neighbours, and the publisher in the end. Up to 512 messages of a topic may be under way: one
//! that is promised waits for the slowest part, any other for the fastest.
//!
//! What differs: parts pass on what others publish, unsigned, so a member of the audience could forge
//! it. Whether a publisher may publish is judged when it invites a part, where it shows its roles, and
//! not for each message, which comes from another one: if the right is taken back, its broadcasts that
//! are there go on until their topic is let go, and it begins no others.
//! A message in a tree does not expire, and none goes before another. A part that nobody gives a
//! message to for about twenty seconds goes on without it, though it was promised, and it counts as
//! one that its subscriber was too slow for. What is replayed to a new subscriber and what comes by a
//! tree may overlap, or leave a gap between them. And in a tree each message is a frame of its own.
//!
//! # Rooms
//!
//! [`proto`] decides, `wire` has the bytes, `gate` is where publishers wait, `posts` and
//! `subscription` are where messages do, and `actor` carries it all out.

mod actor;
mod client;
mod error;
mod gate;
mod message;
mod metrics;
mod posts;
pub mod proto;
mod subscription;
mod wire;

pub(crate) use actor::{Parts, PubSubService, worker};
pub use client::{PubSub, Published, SUBSCRIPTIONS_MAX, Subscribing};
pub use error::{PublishError, SubscribeError};
pub use message::{
    Event, Gap, Message, Missed, PAYLOAD_LEN_MAX, Priority, PublishOptions, Qos, Reason, Report,
};
pub use proto::word::{GROUP_LEN_MAX, Replay};
pub use proto::{Config, config};
pub use subscription::{QUEUE_LEN_MAX, SubscribeOptions, Subscription};
