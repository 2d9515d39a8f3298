//! The pool's policy as a pure machine: when to dial, what to keep, what to let go.
//!
//! # Dialling
//!
//! There is at most one dial for each peer, whoever wants it. A dial races the peer's addresses, a
//! new one every [`race_delay`](Config::race_delay) or as soon as those before have failed (RFC
//! 8305). The first connection wins. A peer whose dial fails is left alone for a while, which grows
//! with each failure; a call from the peer itself ends that.
//!
//! # Room
//!
//! At [`live_high`](Config::live_high) connections and dials, those that were used longest ago are
//! let go, down to [`live_low`](Config::live_low). The policy is not on the way of calls, so it only
//! believes to know when a connection was last used. It asks ([`Output::Retire`]), and whoever knows
//! answers: retired, or busy since when. So the order is exact, and nothing is let go in the middle
//! of something. Connections to peers that have failed more often than not lately are asked before
//! all others. Who wants in waits for room; who waits too long is refused. Connections that were
//! protected when they were made need no room.
//!
//! # Duplicates
//!
//! Both sides may dial at once. Each side lets go only of connections that it dialled itself: when
//! there is one of each kind, the node with the greater id drains its own. So never do both sides
//! let go of the one that the other keeps. A second connection dialled by the peer means that the
//! peer has lost the first, or lets it go; so it is drained. A higher incarnation means that the peer
//! was restarted, and that the older ones are dead; they are closed at once.
//!
//! A connection that is replaced is closed once nothing is in flight on it, be it after an hour: the
//! bound is another lifetime. Only where its place is needed, or the node stops, is the bound
//! [`drain_timeout`](Config::drain_timeout).
//!
//! # Relayed connections
//!
//! A connection that others carry is used as long as there is no direct one. While it is, the peer's
//! direct addresses are dialled from time to time, less often with each failure, which is held
//! against nobody. A direct connection, whoever dialled it, is used at once, and whoever dialled the
//! relayed one drains it: what is in flight ends there. A relayed one never takes a direct one's
//! place, unless the peer dials it because it has lost the direct one.
//!
//! A dial that is given up may make a connection all the same, which its acceptor may have begun to
//! use. So a connection is never simply dropped: it is drained too.

mod bug;
mod connections;
mod dialling;
mod peer;
mod policy;
mod room;
mod timer;
mod upgrade;

use std::net::SocketAddr;
use std::time::Instant;

use macula_core::identity::NodeId;

use super::config::Config;

pub use bug::Bug;
pub use policy::Policy;

/// A connection of this node; the number is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);
/// One attempt to dial one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub u64);
/// Somebody who waits for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The attempt of connections that were dialled by an earlier life of the policy.
pub const ADOPTED: AttemptId = AttemptId(u64::MAX);

/// Why a peer's connection is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It votes in a group of this node's.
    Voter,
    /// It relays for this node.
    Relay,
    /// Somebody has said so.
    Pinned,
}

/// How a dial failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nobody answers.
    Unreachable,
    /// It took too long.
    TimedOut,
    /// A side does not believe the other.
    Refused,
    /// The peer has no room.
    Busy,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Somebody needs a connection.
    Want {
        /// Who.
        ticket: Ticket,
        /// To whom.
        peer: NodeId,
        /// Where the peer may be.
        addresses: Vec<SocketAddr>,
    },
    /// Somebody has given up.
    Forget {
        /// Who.
        ticket: Ticket,
    },
    /// A peer's connection is to be kept.
    Protect {
        /// Whose.
        peer: NodeId,
        /// Why.
        class: Class,
        /// Where the peer may be.
        addresses: Vec<SocketAddr>,
    },
    /// It is not, for this reason.
    Release {
        /// Whose.
        peer: NodeId,
        /// Why it was.
        class: Class,
    },
    /// A dial has made a connection.
    Dialed {
        /// Which dial.
        attempt: AttemptId,
        /// The connection.
        conn: ConnId,
        /// To whom.
        peer: NodeId,
        /// Which life of the peer's.
        incarnation: u64,
        /// Whether others carry it.
        relayed: bool,
    },
    /// A dial has not.
    DialFailed {
        /// Which.
        attempt: AttemptId,
        /// Why.
        fault: Fault,
    },
    /// The peer has dialled.
    Accepted {
        /// Who.
        peer: NodeId,
        /// The connection.
        conn: ConnId,
        /// Which life of the peer's.
        incarnation: u64,
        /// Whether others carry it.
        relayed: bool,
    },
    /// Where a peer may be now: the answer to [`Output::Seek`].
    Found {
        /// Which peer.
        peer: NodeId,
        /// Where.
        addresses: Vec<SocketAddr>,
    },
    /// A connection is over.
    Closed {
        /// Which.
        conn: ConnId,
        /// Whether it was closed in good order.
        clean: bool,
    },
    /// It takes no new work from now on: the answer to [`Output::Retire`].
    Retired {
        /// Which.
        conn: ConnId,
    },
    /// It is in use: the other answer.
    Busy {
        /// Which.
        conn: ConnId,
        /// When it was last used.
        last_used: Instant,
    },
    /// The peer lets it go.
    Leaving {
        /// Which.
        conn: ConnId,
    },
    /// Other limits hold from now on.
    Reconfigure(Config),
    /// The node stops.
    Stop,
}

/// Why somebody gets no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// No address of the peer is known.
    NoAddress,
    /// The peer failed lately.
    BackingOff {
        /// Until when it is left alone.
        until: Instant,
    },
    /// There is no room.
    Full {
        /// How many are live.
        live: usize,
        /// How many may be.
        high: usize,
    },
    /// All addresses failed, the last one in this way.
    Failed(Fault),
    /// The node stops.
    Stopping,
}

/// Why a connection is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nobody used it.
    Idle,
    /// Others needed its place.
    Evicted,
    /// It is old.
    Lifetime,
    /// There is another to the same peer.
    Duplicate,
    /// There is no room.
    Overloaded,
    /// It belongs to an earlier life of the peer.
    Stale,
    /// It did not become quiet in time.
    Slow,
    /// The node stops.
    Stopping,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Dial an address.
    Dial {
        /// Which dial this is.
        attempt: AttemptId,
        /// Who has to answer.
        peer: NodeId,
        /// Where.
        address: SocketAddr,
    },
    /// Say where a peer may be that is connected over others.
    Seek {
        /// Which.
        peer: NodeId,
    },
    /// Give a dial up.
    Abort {
        /// Which.
        attempt: AttemptId,
    },
    /// Give somebody a connection.
    Grant {
        /// Whom.
        ticket: Ticket,
        /// Which.
        conn: ConnId,
    },
    /// Tell somebody that there is none.
    Deny {
        /// Whom.
        ticket: Ticket,
        /// Why.
        why: Denial,
    },
    /// New work goes over this connection.
    Use {
        /// Work for whom.
        peer: NodeId,
        /// Which.
        conn: ConnId,
    },
    /// New work does not go over this connection.
    Unuse {
        /// Work for whom.
        peer: NodeId,
        /// Which.
        conn: ConnId,
    },
    /// Take no new work, unless something is in flight or it was used lately.
    Retire {
        /// Which.
        conn: ConnId,
        /// It must not have been used after this.
        unused_since: Instant,
    },
    /// Take no new work, and close when it is quiet.
    Drain {
        /// Which.
        conn: ConnId,
        /// Why.
        why: Why,
    },
    /// Close at once.
    Close {
        /// Which.
        conn: ConnId,
        /// Why.
        why: Why,
    },
}

/// What was counted, and how things stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Addresses that were dialled.
    pub dials: u64,
    /// Dials that made no connection.
    pub dial_failures: u64,
    /// Connections that peers dialled.
    pub accepted: u64,
    /// Wishes that a connection met at once or later.
    pub granted: u64,
    /// Wishes that met none.
    pub denied: u64,
    /// Of those, for want of room.
    pub denied_full: u64,
    /// Connections that gave way to others.
    pub evicted: u64,
    /// Connections that nobody used.
    pub idle: u64,
    /// Connections that grew too old.
    pub aged: u64,
    /// Connections beside another to the same peer.
    pub duplicates: u64,
    /// Relayed connections that gave way to direct ones.
    pub upgraded: u64,
    /// Connections of earlier lives of a peer.
    pub stale: u64,
    /// Connections that peers dialled and for which there was no room.
    pub overloaded: u64,
    /// Connections that were lost.
    pub lost: u64,
    /// How many connections there are now, those that are being let go among them.
    pub live: usize,
    /// How many dials are under way now.
    pub dialling: usize,
    /// How many wait for room now.
    pub waiting: usize,
    /// How many of the peers that are remembered have failed more often than not lately.
    pub unhealthy: usize,
}

#[cfg(test)]
mod tests;
