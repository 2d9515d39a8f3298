//! Why there is no candidacy, and no answer.

use super::config::{TTL_MS_MAX, TTL_MS_MIN};
use super::leadership::Token;
use super::limits::NAME_LEN_MAX;
use crate::kv;

/// Why something about an election was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is none. Nothing was done.
    #[error(
        "{0:?} is no name of an election: 1 to {NAME_LEN_MAX} bytes, and no control characters"
    )]
    Name(String),
    /// Leadership cannot be held for so long, or so short. Nothing was done.
    #[error("`ttl_ms` must be from {TTL_MS_MIN} to {TTL_MS_MAX}, and is {0}")]
    Ttl(u64),
    /// A singleton would have too long to stop. Nothing was done.
    #[error("`shutdown` is {shutdown:?}, and must be at most half of the TTL, which is {ttl:?}")]
    Shutdown {
        /// How long it would have.
        shutdown: std::time::Duration,
        /// The TTL.
        ttl: std::time::Duration,
    },
    /// This node takes part in as many elections as it can. Nothing was done.
    #[error("the node has {0} candidacies already")]
    TooMany(usize),
    /// The group has not answered, or refused.
    #[error(transparent)]
    Kv(#[from] kv::Error),
}

/// A token that is not the last one any more. Nothing was done under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("token {token} is stale: {}", Newer(.newest.as_ref()))]
pub struct Stale {
    /// The token.
    pub token: Token,
    /// A newer one, if one is known. Else nobody leads.
    pub newest: Option<Token>,
}

struct Newer<'a>(Option<&'a Token>);

impl std::fmt::Display for Newer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(token) => write!(f, "{token} has been seen"),
            None => f.write_str("nobody leads"),
        }
    }
}

/// Why a guarded write was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// The writer leads no more. Nothing was done.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// What is done otherwise may only look: it is done for those who lead no more, too. Nothing was
    /// done.
    #[error("what a guarded transaction does otherwise may only be `get`")]
    Otherwise,
    /// The group has not answered, or refused.
    #[error(transparent)]
    Kv(#[from] kv::Error),
}
