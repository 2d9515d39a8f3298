//! The pool's policy as a pure machine.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::machine::Machine;

use super::config::Config;

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

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Dials.
    pub dials: u64,
}

/// The policy.
#[derive(Debug)]
pub struct Policy {
    out: VecDeque<Output>,
    wants: BTreeMap<NodeId, Vec<Ticket>>,
    dials: BTreeMap<AttemptId, NodeId>,
    used: BTreeMap<NodeId, ConnId>,
    next: u64,
}

impl Policy {
    /// New.
    #[must_use]
    pub fn new(_local: NodeId, _config: Config, _entropy: Entropy) -> Self {
        Self {
            out: VecDeque::new(),
            wants: BTreeMap::new(),
            dials: BTreeMap::new(),
            used: BTreeMap::new(),
            next: 0,
        }
    }

    /// Stats.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    fn live(&mut self, peer: NodeId, conn: ConnId) {
        self.used.insert(peer, conn);
        self.out.push_back(Output::Use { peer, conn });
        for ticket in self.wants.remove(&peer).unwrap_or_default() {
            self.out.push_back(Output::Grant { ticket, conn });
        }
    }
}

impl Machine for Policy {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, _now: Instant, input: Input) {
        match input {
            Input::Want { ticket, peer, addresses } => {
                if let Some(conn) = self.used.get(&peer) {
                    self.out.push_back(Output::Grant { ticket, conn: *conn });
                    return;
                }
                let Some(address) = addresses.first() else {
                    self.out.push_back(Output::Deny { ticket, why: Denial::NoAddress });
                    return;
                };
                let first = !self.wants.contains_key(&peer);
                self.wants.entry(peer).or_default().push(ticket);
                if first {
                    self.next += 1;
                    let attempt = AttemptId(self.next);
                    self.dials.insert(attempt, peer);
                    self.out.push_back(Output::Dial { attempt, peer, address: *address });
                }
            }
            Input::Dialed { conn, peer, .. } | Input::Accepted { conn, peer, .. } => {
                self.live(peer, conn);
            }
            Input::DialFailed { attempt, fault } => {
                if let Some(peer) = self.dials.remove(&attempt) {
                    for ticket in self.wants.remove(&peer).unwrap_or_default() {
                        self.out.push_back(Output::Deny { ticket, why: Denial::Failed(fault) });
                    }
                }
            }
            Input::Closed { conn, .. } => self.used.retain(|_, used| *used != conn),
            _ => {}
        }
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        None
    }
}
