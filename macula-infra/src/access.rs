//! Who may do what: the one place that says so.
//!
//! Whatever a peer asks of this node is put to [`may`] before anything is done for it.

use macula_core::identity::NodeId;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Call a procedure or an actor, open a stream to it, or watch it.
    Call,
}

/// Why somebody may not, in words for whoever wanted to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Forbidden(pub(crate) String);

/// Whether a node may do something to what has a name. So far all that are believed may do all.
#[expect(clippy::unnecessary_wraps, reason = "rules that forbid are to come")]
pub(crate) const fn may(_subject: NodeId, _action: Action, _name: &str) -> Result<(), Forbidden> {
    Ok(())
}
