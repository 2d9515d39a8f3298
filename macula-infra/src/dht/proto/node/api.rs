//! What a node is asked and what it answers.

use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

use crate::contact::Contact;
use crate::dht::key::Key;
use crate::dht::proto::limits::Offence;
use crate::dht::proto::records::Condition;
use crate::dht::proto::requests::{self, Fault, RequestId};
use crate::dht::proto::{lookup, table};
use crate::dht::provider::{self, Provider};
use crate::dht::wire::{self, Op, OpResult, Reply};
use crate::dht::{record, signed};

/// A command; the number is the asker's affair, and not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// Whether a node keeps what others store, and answers what they ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It does: others can dial it.
    #[default]
    Server,
    /// It only asks.
    Client,
}

/// How many of the nodes that a record goes to have to keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quorum {
    /// One.
    One,
    /// As many as this.
    N(usize),
    /// More than half.
    #[default]
    Majority,
    /// All.
    All,
}

impl Quorum {
    /// How many that are, of so many; at least one.
    #[must_use]
    pub fn of(self, nodes: usize) -> usize {
        match self {
            Self::One => 1,
            Self::N(count) => count.max(1),
            Self::Majority => nodes / 2 + 1,
            Self::All => nodes.max(1),
        }
    }
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The nodes that are closest to a key.
    Lookup {
        /// The key.
        key: Key,
    },
    /// The record under a key.
    Get {
        /// The key.
        key: Key,
        /// Whether what was found lately will not do.
        fresh: bool,
    },
    /// That a record is kept, and stored anew as long as it is to last.
    Put {
        /// The record.
        record: record::Signed,
        /// What has to hold of the record that it replaces.
        condition: Condition,
        /// How many nodes have to keep it.
        quorum: Quorum,
    },
    /// Providers under a key.
    Find {
        /// The key.
        key: Key,
        /// How many are enough.
        max: usize,
    },
    /// That this node is known as a provider, and issued anew until it withdraws.
    Provide {
        /// What it says. Its times are set anew with each issue.
        provider: Provider,
        /// How long an issue lasts.
        ttl: Duration,
        /// How many nodes have to keep it.
        quorum: Quorum,
    },
    /// That it is known as one no longer.
    Withdraw {
        /// Under which key.
        key: Key,
        /// How many nodes have to know.
        quorum: Quorum,
    },
}

/// What can happen to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Somebody wants something.
    Command {
        /// By this number it is answered.
        id: CommandId,
        /// What.
        command: Command,
        /// By when it is answered.
        deadline: Instant,
    },
    /// An earlier life has put this, and it is to be seen to from now on. It is stored anew at once, and
    /// again as long as nobody takes it.
    Renew(record::Signed),
    /// Nobody waits for a command any more.
    Forget {
        /// Which.
        id: CommandId,
    },
    /// A provider was signed.
    Signed {
        /// Under which key.
        key: Key,
        /// It.
        provider: provider::Signed,
    },
    /// A peer asks.
    Request {
        /// Who, with the addresses at which it can be dialled; none if it cannot.
        from: Contact,
        /// Whether it uses the names of another realm.
        is_foreign: bool,
        /// By which number it is answered.
        id: u64,
        /// What; none if that could not be read.
        ops: Option<Vec<Op>>,
    },
    /// A peer answers.
    Reply {
        /// Who.
        from: NodeId,
        /// Which request.
        id: RequestId,
        /// What; none if that could not be read.
        results: Option<Vec<OpResult>>,
    },
    /// A request has not reached its peer.
    Undelivered {
        /// Which.
        id: RequestId,
        /// Why.
        fault: Fault,
    },
    /// There is a connection to a peer that can be dialled.
    Met(Contact),
    /// A life of a peer has begun: it keeps nothing yet.
    Begun(Contact),
    /// Somebody says that there are peers.
    Heard(Vec<Contact>),
    /// A connection to a peer has ended, and with it perhaps what the peer was asked.
    Lost {
        /// Which peer.
        node: NodeId,
        /// Whether there is another.
        is_connected: bool,
    },
    /// A peer has gone.
    Gone(NodeId),
    /// What the calendar says now, since the Unix epoch.
    Calendar(Duration),
    /// Whether others can reach this node has changed.
    Mode(Mode),
}

/// What a node wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send a request.
    Send {
        /// Its number.
        id: RequestId,
        /// To whom.
        to: Contact,
        /// What is asked.
        ops: Vec<Op>,
    },
    /// Answer a peer.
    Reply {
        /// Whom.
        to: NodeId,
        /// By the number of its request.
        id: u64,
        /// The answer.
        reply: Reply,
    },
    /// Sign a provider, and say so with [`Input::Signed`].
    Sign {
        /// Under which key.
        key: Key,
        /// It.
        provider: Provider,
    },
    /// A command is over.
    Done {
        /// Which.
        id: CommandId,
        /// How.
        answer: Result<Answer, Failure>,
    },
    /// What a peer has handed over was not taken, or it was not shown what it asked for.
    Refused {
        /// Who has handed it over.
        peer: NodeId,
        /// On which side this node was.
        side: Side,
        /// Why it was not taken.
        refusal: wire::Refusal,
    },
    /// A peer has done what nobody does by mistake.
    Misbehaved {
        /// Who.
        peer: NodeId,
        /// What.
        offence: Offence,
    },
}

/// What a node has to do with a record or a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// It was to keep it.
    Keeper,
    /// It had asked for it.
    Reader,
    /// It keeps it, and was to show it.
    Shown,
}

/// What a command has come to.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The closest nodes.
    Nodes(lookup::Outcome),
    /// The value.
    Value(Got),
    /// What became of a put, an issue or a withdrawal at each node.
    Stored(Stored),
    /// Providers.
    Providers(Providing),
}

/// What was found under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// The record; none if nobody who was asked has one.
    pub record: Option<std::sync::Arc<record::Verified>>,
    /// How many have this very record.
    pub agreed: usize,
    /// How many have answered, with or without one.
    pub answered: usize,
}

/// What became of a record at each node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The nodes and what they said, the closest first.
    pub nodes: Vec<(NodeId, Told)>,
    /// How many keep it.
    pub kept: usize,
    /// How many have to.
    pub wanted: usize,
    /// Whether this node sees to it that it is kept as long as it is to last.
    pub is_renewed: bool,
}

impl Stored {
    /// Whether as many keep it as have to.
    #[must_use]
    pub const fn is_reached(&self) -> bool {
        self.kept >= self.wanted
    }

    /// Why one of those that do not keep it does not: a refusal before a failure.
    #[must_use]
    pub fn why_not(&self) -> Option<&Told> {
        let refused = |outcome: &&Told| matches!(outcome, Told::Refused(_));
        let mut others = self.nodes.iter().map(|(_, outcome)| outcome);
        others.clone().find(refused).or_else(|| others.find(|outcome| !outcome.is_kept()))
    }
}

/// What became of a record at one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It is kept.
    Kept,
    /// It was kept before.
    Already,
    /// The node does not take it.
    Refused(wire::Refusal),
    /// The node was not reached, or has not answered.
    Failed(&'static str),
}

impl Told {
    /// Whether the node keeps it.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        matches!(self, Self::Kept | Self::Already)
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kept => f.write_str("kept"),
            Self::Already => f.write_str("kept already"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// The providers that were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Providing {
    /// The newest issue of each.
    pub providers: Vec<provider::Verified>,
    /// How many nodes have answered.
    pub answered: usize,
}

/// Why a command has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The record or provider is not one that anybody would keep. Nobody was asked.
    #[error("refused: {0}")]
    Refused(#[from] signed::Refusal),
    /// Nothing of this node's is provided under the key.
    #[error("this node provides nothing under the key")]
    NotProvided,
    /// As much is under way as may be. Nobody was asked.
    #[error("busy: {0}")]
    Busy(&'static str),
    /// No other node is known.
    #[error("no other node of this realm is known")]
    Alone,
    /// None of those who were asked has answered.
    #[error("none of the {asked} nodes that were asked has answered")]
    Unanswered {
        /// How many were asked.
        asked: usize,
    },
}

/// How things stand, and what was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stats {
    /// The routing table.
    pub table: table::Stats,
    /// Requests to others.
    pub requests: requests::Stats,
    /// How many records are kept for others.
    pub records: usize,
    /// Their bytes.
    pub record_bytes: usize,
    /// How many providers are kept for others.
    pub providers: usize,
    /// How many searches are under way.
    pub searches: usize,
    /// How many answers are remembered.
    pub cached: usize,
    /// How many nodes there seem to be.
    pub population: Option<f64>,
    /// How many commands were answered from memory.
    pub hits: u64,
    /// How many operations of others were done.
    pub served: u64,
    /// How many were refused because their peer asks too much, or is ignored.
    pub limited: u64,
    /// How many records and providers that peers have handed over were not taken.
    pub refused: u64,
    /// How often a peer did what no honest node does.
    pub blamed: u64,
    /// How many records were handed to nodes that lacked them.
    pub repaired: u64,
}
