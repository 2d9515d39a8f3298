//! Who may do what: the one place that says so.
//!
//! Whatever a peer asks of this node is held against its [`Rules`] before anything is done for it,
//! and so is what the node itself is about to do. The first rule that fits decides; if none does,
//! the default. A refusal is an entry of the [`Audit`], and whoever asked is told: a call ends with an
//! error, a message is [dropped](crate::pubsub::Reason::Forbidden) as its publisher's report says, and a
//! subscription gets an [event](crate::pubsub::Event::Refused).
//!
//! | action | is checked at | for |
//! |---|---|---|
//! | `call` | the node that is asked | calls, streams and monitors, of procedures and actors |
//! | `advertise` | the provider; and the caller, before it asks | procedures and served actors |
//! | `publish` | the publisher; and each subscriber | topics |
//! | `subscribe` | the subscriber; and each publisher | patterns |
//! | `subscribe` | each part of a broadcast, of each other one that speaks to it | its topic |
//!
//! What is broadcast comes to most subscribers from others than its publisher. They hold `publish`
//! against the publisher when it invites them, and know by its signature that what they get is its. The
//! parts of a broadcast are trusted to keep it among those who may have it: if the rules differ from
//! node to node, whoever gets a message may pass it on to one that its publisher would refuse.
//!
//! Whoever uses the names of another realm may do nothing here by any name: the same name is
//! something else there.
//!
//! Rules are by node id, by the roles in certificates, and by patterns of names. An actor's path
//! counts as a name whose segments are the path's: `workload.**` is all actors of the workload tier.
//! In trust by node ids nobody has roles.

mod audit;
pub mod metrics;
mod rules;

#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::sync::Arc;

use arc_swap::ArcSwap;
use macula_core::identity::{Keypair, NodeId};
use macula_core::topic::Segment;

pub use audit::{AUDITED_MAX, Audit, Audited};
use rules::Why;
pub use rules::{Action, Effect, RULES_MAX, Rule, Rules};

use crate::transport::Opener;
use crate::transport::tls::Credentials;

/// Who wants to do something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// Which node.
    pub(crate) node: NodeId,
    /// The roles in its certificate.
    pub(crate) roles: &'a [String],
    /// The realm whose names it uses.
    pub(crate) realm: [u8; 32],
}

impl<'a> Subject<'a> {
    pub(crate) fn peer(opener: &'a Opener) -> Self {
        // Whoever is only reported is believed nothing.
        let roles = if opener.trusted { opener.roles.as_slice() } else { &[] };
        Self { node: opener.node, roles, realm: opener.uses_realm }
    }
}

/// What is to be done something with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Name<'a> {
    /// A procedure, a topic or a pattern.
    Dotted(&'a str),
    /// The path of an actor.
    Path(&'a str),
}

impl<'a> Name<'a> {
    const fn text(self) -> &'a str {
        match self {
            Self::Dotted(text) | Self::Path(text) => text,
        }
    }

    fn segments(self) -> impl Iterator<Item = Segment<'a>> {
        let (text, separator) = match self {
            Self::Dotted(text) => (text, '.'),
            Self::Path(text) => (text, '/'),
        };
        text.split(separator).map(Segment::from)
    }
}

/// Why somebody may not, in words for whoever wanted to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} may not {action} {name:?}: {why}", node.short())]
pub(crate) struct Forbidden {
    node: NodeId,
    action: Action,
    name: String,
    why: String,
}

/// The rules in force, and the audit of what they refuse. Clones are the same.
#[derive(Clone)]
pub struct Access(Arc<Shared>);

struct Shared {
    credentials: Credentials,
    /// The realm whose names this node uses.
    realm: [u8; 32],
    rules: ArcSwap<Rules>,
}

impl Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("rules", &self.0.rules.load()).finish_non_exhaustive()
    }
}

impl Access {
    pub(crate) fn new(credentials: Credentials, realm: [u8; 32], rules: Rules) -> Self {
        Self(Arc::new(Shared { credentials, realm, rules: ArcSwap::from_pointee(rules) }))
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        self.0.rules.load_full()
    }

    /// Other rules are in force from now on. What was allowed before and is under way goes on.
    pub fn replace(&self, rules: Rules) {
        self.0.rules.store(Arc::new(rules));
    }

    /// What was refused.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        self.0.credentials.audit()
    }

    /// This node.
    pub(crate) fn node(&self) -> NodeId {
        self.0.credentials.node()
    }

    /// The key of this node, for what it signs.
    pub(crate) fn keypair(&self) -> &Keypair {
        self.0.credentials.keypair()
    }

    /// Whether a peer uses the names of the realm that this node does.
    pub(crate) fn is_of_this_realm(&self, peer: &Opener) -> bool {
        peer.uses_realm == self.0.realm
    }

    /// Whether a node may do something.
    ///
    /// # Errors
    ///
    /// [`Forbidden`], which is audited.
    pub(crate) fn may(
        &self,
        subject: Subject<'_>,
        action: Action,
        name: Name<'_>,
    ) -> Result<(), Forbidden> {
        let rules = self.0.rules.load();
        let decided = match subject.realm == self.0.realm {
            true => rules.decide(subject, action, || name.segments()),
            false => Err(Why::Realm),
        };
        decided.map_err(|why| {
            let (node, why, name) = (subject.node, why.to_string(), name.text().to_owned());
            self.0.credentials.put_into_audit(Some(node), action.as_str(), &name, &why);
            Forbidden { node, action, name, why }
        })
    }

    /// Puts a refusal into the audit that was decided elsewhere.
    pub(crate) fn refused(
        &self,
        node: NodeId,
        action: impl Into<&'static str>,
        name: &str,
        why: &str,
    ) {
        self.0.credentials.put_into_audit(Some(node), action.into(), name, why);
    }

    /// Whether this node itself may do something.
    ///
    /// # Errors
    ///
    /// As [`may`](Self::may).
    pub(crate) fn may_i(&self, action: Action, name: Name<'_>) -> Result<(), Forbidden> {
        if self.0.rules.load().allows_all() {
            return Ok(());
        }
        let roles = self.0.credentials.own_roles();
        let subject =
            Subject { node: self.0.credentials.node(), roles: &roles, realm: self.0.realm };
        self.may(subject, action, name)
    }
}
