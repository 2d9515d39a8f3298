//! The membership as a pure machine: [`Swim`].
//!
//! | room | what |
//! |---|---|
//! | `swim` | the parts, and the way of inputs to them |
//! | `hearing` | what becomes of news |
//! | `table` | the members, the departed, and the sums over the view |
//! | `ring` | the order of probes, and random members |
//! | `probing` | pings, direct and through others |
//! | `suspicion` | how long a suspect has |
//! | `health` | what this node thinks of itself (Lifeguard) |
//! | `rumours` | what rides on messages, and how often it did |
//! | `telling` | how messages are made, and how news is pushed |
//! | `syncing` | the exchange of whole views |
//! | `living` | joining, refuting, reconnecting and leaving |
//! | `timer` | all deadlines |
//!
//! The outputs for one input are bounded. A [`Body::Digest`] is answered with 64 pages, a page and
//! a [`Body::Ask`] with nine [`Body::Tell`]s, and all others with fewer than ten messages; besides,
//! a member of which a message says for the first time that it is suspect or down is spoken to, and
//! of those a message has 32 and a page 256.

mod bug;
mod health;
mod hearing;
mod living;
mod probing;
mod ring;
mod rumours;
mod suspicion;
mod swim;
mod syncing;
mod table;
mod telling;
mod timer;

use std::net::SocketAddr;
use std::time::Duration;

use macula_core::identity::NodeId;

use super::config::Config;
use super::event::Event;
use super::update::{Role, Stamp, Update};
use crate::contact::Contact;

pub use bug::Bug;
pub use swim::{Identity, Stats, Swim};

/// How many updates ride on one message.
pub const UPDATES_MAX: usize = 32;

/// How many entries a page of a view has.
pub const PAGE_ENTRIES_MAX: usize = 256;

/// About how many nodes one message asks.
pub const ASK_NODES_MAX: usize = 256;

/// How many updates one [`Body::Tell`] has.
pub const TELL_UPDATES_MAX: usize = 64;

/// Into how many parts a view is summed up.
pub const BUCKETS: usize = 64;

/// How many seeds are kept.
pub const SEEDS_MAX: usize = 64;

/// One line of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Brief {
    /// Who.
    pub node: NodeId,
    /// Which presence is held of it.
    pub stamp: Stamp,
    /// Whether it is held to be down or to have left.
    pub gone: bool,
}

/// A part of a view: all that the sender holds of the nodes in a range.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Page {
    /// Nodes of this bucket.
    pub bucket: u8,
    /// Nodes above this one.
    pub after: Option<NodeId>,
    /// Nodes up to this one.
    pub upto: Option<NodeId>,
    /// The lines, in the order of nodes.
    pub entries: Vec<Brief>,
}

/// What a message is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Body {
    /// Answer me.
    Ping {
        /// Which ping this is.
        nonce: u64,
    },
    /// The answer; or that of the target which another has pinged for the receiver.
    Ack {
        /// Of which ping.
        nonce: u64,
    },
    /// Ping another for me.
    PingReq {
        /// For which ping of the sender's.
        nonce: u64,
        /// Whom.
        target: NodeId,
        /// After how long without an answer a nack is due.
        wait: Duration,
    },
    /// The other has not answered me so far.
    Nack {
        /// For which ping of the receiver's.
        nonce: u64,
    },
    /// Only what rides on it.
    Gossip,
    /// What my view sums up to, bucket by bucket.
    Digest {
        /// The sums.
        sums: Vec<u64>,
    },
    /// A part of my view that differs from yours.
    Page(Page),
    /// Tell me of these nodes.
    Ask {
        /// Which.
        nodes: Vec<NodeId>,
    },
    /// What I know of nodes of which you do not know it. A claim follows its presence.
    Tell {
        /// The updates.
        updates: Vec<Update>,
    },
}

/// What nodes say to one another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    /// News that rides on it.
    pub updates: Vec<Update>,
    /// What it is for.
    pub body: Body,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Become part of the mesh of which these are members. Without seeds, wait for others.
    Join {
        /// Whom to ask; the first [`SEEDS_MAX`] are kept.
        seeds: Vec<Contact>,
    },
    /// Another node says something; all presences in it are verified.
    Message {
        /// Who, proved by the connection.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// A message could not be sent.
    Undelivered {
        /// To whom.
        to: NodeId,
    },
    /// There is a connection to a node: a hint.
    Met {
        /// Which.
        node: NodeId,
    },
    /// A connection to a node was lost: a hint, and no proof.
    Lost {
        /// Which.
        node: NodeId,
    },
    /// This node is reached at other addresses, or is for something else.
    Present {
        /// Where it is reached, the best address first.
        addresses: Vec<SocketAddr>,
        /// What it is for.
        role: Role,
    },
    /// Other limits hold from now on.
    Reconfigure(Config),
    /// Say farewell. The answer is [`Output::Departed`].
    Leave,
}

/// How a peer has broken the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offence {
    /// A list is longer than may be.
    TooMany,
    /// An answer to a ping that the peer was not asked for.
    Answer,
    /// Sums of another number of buckets.
    Digest,
    /// A page with lines out of order or out of its range.
    Page,
    /// It asks to be pinged by way of this node, or this node by way of itself.
    PingReq,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send a message. It may be lost.
    Send {
        /// To whom; without addresses if only a connection can lead there.
        to: Contact,
        /// What.
        message: Message,
    },
    /// Something happened to a member.
    Event(Event),
    /// A peer has broken the protocol.
    Misbehaved {
        /// Who.
        peer: NodeId,
        /// How.
        why: Offence,
    },
    /// Somebody lives under this node's key in a later life. This node ought to stop, or, if its
    /// count of lives was lost, begin a life after that one.
    Superseded {
        /// Which life.
        life: u64,
    },
    /// This node has said farewell, and says nothing more.
    Departed,
}

#[cfg(test)]
mod tests;
