//! What the log is told.

use macula_infra::dht::proto::records::Condition;

/// An operation; no other has its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Op(pub(crate) u64);

/// What is wanted of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A value is put.
    Put { key: u8, condition: Condition },
    /// It is got.
    Get { key: u8 },
    /// The node provides something.
    Provide { key: u8 },
    /// It does not any more.
    Withdraw { key: u8 },
    /// Providers are looked for.
    Find { key: u8 },
    /// Nodes are.
    Lookup,
}

impl std::hash::Hash for Wish {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        format!("{self:?}").hash(state);
    }
}

/// A value that was found: who has put it, and by which operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Value {
    pub(crate) by: usize,
    pub(crate) op: Op,
    pub(crate) sequence: u64,
}

/// How an operation has ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum End {
    /// So many wanted, and these nodes keep it.
    Stored { sequence: u64, kept: Vec<usize>, of: usize, wanted: usize },
    /// It was got.
    Got { value: Option<Value>, agreed: usize, answered: usize },
    /// These nodes provide it.
    Found { nodes: Vec<usize> },
    /// There are these nodes, the node itself aside.
    Nodes { nodes: Vec<usize> },
    /// There is no answer; perhaps it is unsure whether what was wanted is done.
    Failed { why: String, unsure: bool },
}

/// What the log is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Seen {
    /// An operation begins.
    Asked { op: Op, wish: Wish },
    /// It ends.
    Ended { op: Op, end: End },
    /// A table holds something against a peer.
    Blamed { times: u64 },
    /// Supervision has begun another life of an actor.
    Restarted { part: String, incarnation: u64 },
}
