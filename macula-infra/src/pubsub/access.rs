//! Who may publish and subscribe to what. All that asks for it asks here.

use macula_core::identity::NodeId;

use crate::transport::Opener;

/// Who wants to do something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// Which node.
    pub(super) node: NodeId,
    /// The roles in its certificate.
    pub(super) roles: &'a [String],
}

impl<'a> Subject<'a> {
    pub(super) fn peer(opener: &'a Opener) -> Self {
        Self { node: opener.node, roles: &opener.roles }
    }
}

/// What it wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// Publish to a topic.
    Publish,
    /// Subscribe to a pattern.
    Subscribe,
}

/// It may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{node} may not {} {pattern:?}", match action { Action::Publish => "publish to", Action::Subscribe => "subscribe to" })]
pub(super) struct Forbidden {
    node: NodeId,
    action: Action,
    pattern: String,
}

/// Whether a node may publish to a topic, or subscribe to a pattern. So far all may.
pub(super) fn may(subject: Subject<'_>, action: Action, pattern: &str) -> Result<(), Forbidden> {
    let Subject { node, roles } = subject;
    // The rules come here, and look at the roles.
    let is_allowed = roles.len() < usize::MAX;
    if is_allowed { Ok(()) } else { Err(Forbidden { node, action, pattern: pattern.to_owned() }) }
}
