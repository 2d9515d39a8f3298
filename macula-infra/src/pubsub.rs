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
//! a node whose pub/sub has been restarted, which may have handed it on before. A subscription
//! outlives that: it knows the last thousands of messages that it has had, by publisher, life and
//! number, and passes over what comes again. Any other message is never sent again.
//!
//! What is promised to a queue group and was for a member that goes, unsubscribes or may not have it
//! is for another one. If none has room it waits, within bounds, until one has, it expires, or the
//! group has no member any more; the latter two are counted. What may have been delivered to the one
//! that went counts as lost with its node, and once more for the other.
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
//! a few of them only. There is a tree for each priority and promise. The change waits until what was sent directly has arrived, so the order holds; and it is for as long as
//! the topic is published to. A report means the same: each part tells the publisher up to where its
//! subscribers have got the messages, how many they have not, and why. A part that has missed some
//! asks its neighbours, and the publisher in the end: for those that are promised until it has them or
//! is no part any more, for any other about twenty seconds. Up to 512 messages of a topic, or 2 MiB,
//! may be under way: one that is promised waits for the slowest part, any other for the fastest. A
//! message expires at a part that has not handed it on by then, which its publisher counts; the time
//! that it takes between nodes is not known, and added. A node takes part in 1,024 trees, and all that
//! it has hold 256 MiB together; one that has no place for another says so, and is sent to directly.
//!
//! A key of the directory names a few hundred subscribers at one time. Where there are more, each
//! announces itself at more keys, and publishers look at those too (`proto::crowd`): up to 8,192 nodes
//! with subscriptions of one prefix are found, some minutes after they have come.
//!
//! What differs: parts pass on what others publish. Its publisher signs it, sixteen messages at a time
//! (`proto::seal`), and each part verifies it before it hands it on or passes it on; and who may not
//! subscribe to a topic is a part of its broadcasts to nobody who knows that. What parts are trusted
//! with is to pass messages on: one that does not is made up for by others and by the publisher, but it
//! delays them. It may also say that a message which has an end is over too early or too late, and it
//! can show what it gets to anybody. Whether a publisher may publish is judged when it invites a part, where it shows its roles, and
//! not for each message, which comes from another one: if the right is taken back, its broadcasts that
//! are there go on until their topic is let go, and it begins no others. Between what is replayed to a
//! new subscriber and what comes to it by a tree there may be a gap. What a part has not told of when
//! it unsubscribes counts as dropped, though its last messages may have been delivered. In a tree each
//! message is a frame of its own, and the first may take a second or two while it grows.
//!
//! # Rooms
//!
//! [`proto`] decides, `wire` has the bytes, `gate` is where publishers wait, `inbox` where what others
//! say does, `posts` and `subscription` where messages do, and `actor` carries it all out.

mod actor;
mod client;
mod error;
mod gate;
mod inbox;
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
