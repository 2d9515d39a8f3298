//! What is believed about a node, and which of two beliefs wins.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use macula_core::identity::{Envelope, NodeId};
use serde::{Deserialize, Serialize};

use crate::contact::Contact;

/// What a node is for.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It serves others.
    #[default]
    Server,
    /// It only asks, for others do not reach it.
    Client,
    /// It serves the mesh itself, and runs no workloads.
    Bootstrap,
}

/// The age of a belief: the greater is the newer.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp {
    /// Which life of the node: a node that was restarted has a greater one.
    pub life: u64,
    /// Which of the presences that it has signed in this life (SWIM's incarnation number).
    pub version: u64,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Presence {
    /// Who it is, and where it can be reached.
    pub contact: Contact,
    /// How new this is.
    pub stamp: Stamp,
    /// What it is for.
    pub role: Role,
    /// Whether it says farewell.
    pub leaving: bool,
}

impl Presence {
    /// Who it is.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.contact.node
    }

    /// What decides between two presences with one stamp, which an honest node never signs.
    fn content(&self) -> impl Ord {
        (self.leaving, self.role, &self.contact.addresses)
    }
}

/// A presence that its node has signed, with the proof that others want to see.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen {
    presence: Presence,
    envelope: Envelope,
}

impl Seen {
    /// Only [`wire`](super::wire) knows that the envelope says this.
    pub(super) const fn new(presence: Presence, envelope: Envelope) -> Self {
        Self { presence, envelope }
    }

    /// What it says.
    #[must_use]
    pub const fn presence(&self) -> &Presence {
        &self.presence
    }

    /// The signed bytes.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Who it is about.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.presence.node()
    }

    /// How new it is.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.presence.stamp
    }
}

impl Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Debug::fmt(&self.presence, f)
    }
}

impl Hash for Seen {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.presence.node().hash(state);
        self.presence.stamp.hash(state);
        self.presence.leaving.hash(state);
    }
}

/// How a node is held to be. Of one stamp the greater wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It is there.
    Alive,
    /// It may be gone.
    Suspect,
    /// It is gone.
    Down,
    /// It is gone, as it has said itself.
    Left,
}

/// What others can claim of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It may be gone.
    Suspect,
    /// It is gone.
    Down,
}

impl From<Verdict> for Status {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Suspect => Self::Suspect,
            Verdict::Down => Self::Down,
        }
    }
}

/// What somebody says of another node. It holds for one presence, and none that is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// Of whom.
    pub node: NodeId,
    /// Of which of its presences.
    pub stamp: Stamp,
    /// What.
    pub verdict: Verdict,
    /// Who says so. This is hearsay.
    pub by: NodeId,
}

/// News about a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Update {
    /// What it says of itself.
    Presence(Arc<Seen>),
    /// What another says of it.
    Claim(Claim),
}

impl Update {
    /// Whom it is about.
    #[must_use]
    pub fn node(&self) -> NodeId {
        match self {
            Self::Presence(seen) => seen.node(),
            Self::Claim(claim) => claim.node,
        }
    }
}

/// What is believed about one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belief {
    /// The newest presence.
    pub seen: Arc<Seen>,
    /// How the node is held to be since.
    pub status: Status,
}

impl Belief {
    /// What a presence says by itself.
    #[must_use]
    pub fn of(seen: Arc<Seen>) -> Self {
        let status = if seen.presence.leaving { Status::Left } else { Status::Alive };
        Self { seen, status }
    }

    /// Takes over what is newer in another belief about the same node, and says whether anything
    /// was. This is the join of a semilattice: neither order nor repetition matters.
    pub fn merge(&mut self, other: &Self) -> bool {
        match other.seen.stamp().cmp(&self.seen.stamp()) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Greater => {
                self.clone_from(other);
                true
            }
            std::cmp::Ordering::Equal => {
                let content = other.seen.presence.content() > self.seen.presence.content();
                let status = other.status > self.status;
                if content {
                    self.seen = Arc::clone(&other.seen);
                }
                self.status = self.status.max(other.status);
                content || status
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::wire::unsigned;
    use super::{Belief, Presence, Role, Stamp, Status};
    use crate::contact::Contact;
    use macula_core::identity::Keypair;

    fn belief() -> impl Strategy<Value = Belief> {
        let node = Keypair::from_seed([1; 32]).node_id();
        let status = prop_oneof![Just(Status::Alive), Just(Status::Suspect), Just(Status::Down)];
        (0..3_u64, 0..3_u64, 0..3_u16, any::<bool>(), status).prop_map(
            move |(life, version, port, leaving, status)| {
                let contact = Contact::new(node, [SocketAddr::from(([127, 0, 0, 1], port))]);
                let stamp = Stamp { life, version };
                let presence = Presence { contact, stamp, role: Role::Server, leaving };
                let of = Belief::of(Arc::new(unsigned(presence)));
                Belief { status: of.status.max(status), ..of }
            },
        )
    }

    /// What a belief says; the leaving flag is in the status.
    fn said(belief: &Belief) -> (Stamp, Status, Vec<SocketAddr>) {
        let presence = belief.seen.presence();
        (presence.stamp, belief.status, presence.contact.addresses.clone())
    }

    fn merged(mut a: Belief, b: &Belief) -> Belief {
        a.merge(b);
        a
    }

    proptest! {
        #[test]
        fn beliefs_merge_in_any_order(a in belief(), b in belief(), c in belief()) {
            let ab = merged(a.clone(), &b);
            prop_assert_eq!(said(&ab), said(&merged(b.clone(), &a)));
            let a_bc = merged(a.clone(), &merged(b.clone(), &c));
            prop_assert_eq!(said(&merged(ab.clone(), &c)), said(&a_bc));
            prop_assert_eq!(said(&merged(a.clone(), &a)), said(&a));
            let mut again = ab.clone();
            prop_assert!(!again.merge(&a) && !again.merge(&b), "what is known is no news");
        }

        #[test]
        fn the_newer_wins(a in belief(), b in belief()) {
            let ab = merged(a.clone(), &b);
            prop_assert_eq!(ab.seen.stamp(), a.seen.stamp().max(b.seen.stamp()));
        }
    }
}
