//! What the tiers above need of the mesh, without naming it.
//!
//! The infrastructure tier implements these traits, the composition root wires them, and tests
//! stand in for them. A tier that uses a port depends on neither the network nor its protocols.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use crate::identity::NodeId;

/// A future that a port gives.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Finds and announces records and providers by name, in the node's own realm.
///
/// Names are up to 512 bytes. All calls end in bounded time. None of them is fire-and-forget: an
/// outcome says what was reached.
pub trait Directory: Debug + Send + Sync {
    /// The value of a name, as most of those who keep it have it; none if nobody has one.
    fn get<'a>(&'a self, name: &'a str) -> Answer<'a, Result<Option<Entry>, DirectoryError>>;

    /// Puts a value under a name: on condition that the sequence number there is `expected`, if
    /// that is said (0 means that there is none yet). Gives the sequence number of the new value.
    fn put<'a>(
        &'a self,
        name: &'a str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Answer<'a, Result<u64, DirectoryError>>;

    /// Says that this node provides what has the name, until it is withdrawn or the node ends.
    fn announce<'a>(
        &'a self,
        name: &'a str,
        metadata: Bytes,
    ) -> Answer<'a, Result<(), DirectoryError>>;

    /// Says that it does so no longer.
    fn withdraw<'a>(&'a self, name: &'a str) -> Answer<'a, Result<(), DirectoryError>>;

    /// The nodes that provide what has the name, at most `max` of them.
    fn find<'a>(
        &'a self,
        name: &'a str,
        max: usize,
    ) -> Answer<'a, Result<Vec<Provider>, DirectoryError>>;
}

/// A value that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// Who has put it.
    pub author: NodeId,
    /// Its sequence number, which grows with each value of the name.
    pub sequence: u64,
    /// How many of those who were asked have this very value.
    pub agreed: usize,
    /// How many have answered.
    pub answered: usize,
}

/// A node that provides something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The node.
    pub node: NodeId,
    /// What it says about it.
    pub metadata: Bytes,
}

/// Why a directory has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// It is wrong in itself: nobody was asked.
    #[error("refused: {0}")]
    Refused(String),
    /// Another value was there than was expected. Nothing changed.
    #[error("the value under the name has sequence number {sequence}, which was not expected")]
    Conflict {
        /// The sequence number that is there.
        sequence: u64,
    },
    /// Fewer nodes than are needed took it. Those that did may keep it.
    #[error("{reached} nodes took it, {wanted} are needed: {why}")]
    NotReached {
        /// How many took it.
        reached: usize,
        /// How many had to.
        wanted: usize,
        /// Why the others did not.
        why: String,
    },
    /// There is no way to ask anybody now.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

/// Asks one node to do something, in the node's own realm.
///
/// Whoever is asked knows for certain who asks.
pub trait Call: Debug + Send + Sync {
    /// Asks the node for an answer to these bytes, and waits for at most `within`.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped nobody waits any more; what was asked may still be done.
    fn call<'a>(
        &'a self,
        node: NodeId,
        question: Bytes,
        within: Duration,
    ) -> Answer<'a, Result<Bytes, CallError>>;
}

/// Answers what other nodes ask by [`Call`].
pub trait Serve: Debug + Send + Sync {
    /// Answers a node, or says in words why not.
    fn serve(&self, from: NodeId, question: Bytes) -> Answer<'static, Result<Bytes, String>>;
}

/// Why a node has not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// It is not reached. It has not been asked.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// It has not answered in time, or the connection was lost. It may have done what was asked.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// It is there, and does not answer questions of this kind, or not yet. It has not been asked.
    #[error("not served: {0}")]
    NotServed(String),
    /// It has said no.
    #[error("refused: {0}")]
    Refused(String),
    /// Its rules, or this node's own, do not let this node ask.
    #[error("{0}")]
    Forbidden(String),
}
