//! The bytes of messages, and the signatures of presences.
//!
//! What comes from a peer is held to the bounds of [`proto`](super::proto) while it is read, and no
//! presence gets in whose node has not signed it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::{BadSignature, Envelope, Keypair, NodeId};
use macula_core::wire::{BodyError, EncodeError, Limits, from_body, to_body};
use serde::{Deserialize, Serialize};

use super::proto::{
    ASK_NODES_MAX, Body, Brief, Message, PAGE_ENTRIES_MAX, Page, TELL_UPDATES_MAX, UPDATES_MAX,
};
use super::update::{Claim, Presence, Role, Seen, Stamp, Update};
use crate::contact::{ADDRESSES_MAX, Contact};

/// What presences are signed for.
const CONTEXT: &str = "macula presence 1";

/// The longest signed presence, in bytes.
const PRESENCE_LEN_MAX: usize = 512;

/// Why something is no presence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPresence {
    /// Its node has not signed it.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// It is none.
    #[error("a presence that cannot be read: {0}")]
    Body(#[from] BodyError),
    /// It has too many addresses.
    #[error("a presence with {found} addresses, at most {ADDRESSES_MAX} are taken")]
    Addresses {
        /// How many it has.
        found: usize,
    },
}

/// Why something is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMessage {
    /// It cannot be read.
    #[error("a message that cannot be read: {0}")]
    Body(#[from] BodyError),
    /// A presence in it is none.
    #[error(transparent)]
    Presence(#[from] InvalidPresence),
    /// A list in it is too long.
    #[error("a message with {found} {what}, at most {max} are taken")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many may be.
        max: usize,
    },
}

/// The signed part of a presence; its author is the node.
#[derive(Serialize, Deserialize)]
struct Signed {
    life: u64,
    version: u64,
    role: Role,
    leaving: bool,
    addresses: Vec<SocketAddr>,
}

/// Signs a presence, with as many addresses as a contact has. The key has to be that of its node,
/// or nobody will believe it.
#[must_use]
pub fn seal(presence: &Presence, keypair: &Keypair) -> Envelope {
    let Presence { contact, stamp, role, leaving } = presence;
    let signed = Signed {
        life: stamp.life,
        version: stamp.version,
        role: *role,
        leaving: *leaving,
        addresses: contact.addresses.iter().copied().take(ADDRESSES_MAX).collect(),
    };
    // The longest has its encoding, as a test shows.
    Envelope::seal(keypair, CONTEXT, to_body(&signed, PRESENCE_LEN_MAX).unwrap_or_default())
}

/// Reads a presence, if its node has signed it.
///
/// # Errors
///
/// [`InvalidPresence`].
pub fn open(envelope: Envelope) -> Result<Seen, InvalidPresence> {
    let limits = Limits { frame_len_max: PRESENCE_LEN_MAX, ..Limits::default() };
    let signed: Signed = from_body(envelope.open(CONTEXT)?, &limits)?;
    let Signed { life, version, role, leaving, addresses } = signed;
    if addresses.len() > ADDRESSES_MAX {
        return Err(InvalidPresence::Addresses { found: addresses.len() });
    }
    let contact = Contact::new(envelope.author(), addresses);
    let presence = Presence { contact, stamp: Stamp { life, version }, role, leaving };
    Ok(Seen::new(presence, envelope))
}

/// What signs the presences of a machine's node.
pub trait Seal: std::fmt::Debug + Send {
    /// Signs one.
    fn seal(&self, presence: Presence) -> Seen;
}

impl Seal for Keypair {
    fn seal(&self, presence: Presence) -> Seen {
        let envelope = seal(&presence, self);
        // It says what others will read of it: an address loses its scope on the way.
        open(envelope.clone()).unwrap_or_else(|_invalid| Seen::new(presence, envelope))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireUpdate {
    Presence(Envelope),
    Claim(Claim),
}

#[derive(Serialize, Deserialize)]
struct WireBrief {
    node: NodeId,
    life: u64,
    version: u64,
    gone: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireBody {
    Ping { nonce: u64 },
    Ack { nonce: u64 },
    PingReq { nonce: u64, target: NodeId, wait_ms: u32 },
    Nack { nonce: u64 },
    Gossip,
    Digest { sums: Vec<u64> },
    Page { bucket: u8, after: Option<NodeId>, upto: Option<NodeId>, entries: Vec<WireBrief> },
    Ask { nodes: Vec<NodeId> },
    Tell { updates: Vec<WireUpdate> },
}

#[derive(Serialize, Deserialize)]
struct WireMessage {
    #[serde(default)]
    updates: Vec<WireUpdate>,
    body: WireBody,
}

/// Encodes a message of at most `len_max` bytes.
///
/// # Errors
///
/// [`EncodeError`] if it is longer.
pub fn encode(message: &Message, len_max: usize) -> Result<Bytes, EncodeError> {
    let body = match &message.body {
        Body::Ping { nonce } => WireBody::Ping { nonce: *nonce },
        Body::Ack { nonce } => WireBody::Ack { nonce: *nonce },
        Body::PingReq { nonce, target, wait } => {
            let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
            WireBody::PingReq { nonce: *nonce, target: *target, wait_ms }
        }
        Body::Nack { nonce } => WireBody::Nack { nonce: *nonce },
        Body::Gossip => WireBody::Gossip,
        Body::Digest { sums } => WireBody::Digest { sums: sums.clone() },
        Body::Page(page) => WireBody::Page {
            bucket: page.bucket,
            after: page.after,
            upto: page.upto,
            entries: page.entries.iter().map(brief_out).collect(),
        },
        Body::Ask { nodes } => WireBody::Ask { nodes: nodes.clone() },
        Body::Tell { updates } => WireBody::Tell { updates: updates_out(updates) },
    };
    to_body(&WireMessage { updates: updates_out(&message.updates), body }, len_max)
}

/// Reads a message. `known` gives what is held of a node already, so that a presence which was
/// verified before is not verified again.
///
/// # Errors
///
/// [`InvalidMessage`]; a message of which one part is bad is refused as a whole.
pub fn decode(
    bytes: &[u8],
    limits: &Limits,
    known: impl Fn(NodeId) -> Option<Arc<Seen>>,
) -> Result<Message, InvalidMessage> {
    let read: WireMessage = from_body(bytes, limits)?;
    let updates = updates_in(read.updates, UPDATES_MAX, &known)?;
    let body = match read.body {
        WireBody::Ping { nonce } => Body::Ping { nonce },
        WireBody::Ack { nonce } => Body::Ack { nonce },
        WireBody::PingReq { nonce, target, wait_ms } => {
            Body::PingReq { nonce, target, wait: Duration::from_millis(wait_ms.into()) }
        }
        WireBody::Nack { nonce } => Body::Nack { nonce },
        WireBody::Gossip => Body::Gossip,
        WireBody::Digest { sums } => Body::Digest { sums },
        WireBody::Page { bucket, after, upto, entries } => {
            few("entries", entries.len(), PAGE_ENTRIES_MAX)?;
            let entries = entries.into_iter().map(brief_in).collect();
            Body::Page(Page { bucket, after, upto, entries })
        }
        WireBody::Ask { nodes } => {
            few("nodes", nodes.len(), ASK_NODES_MAX)?;
            Body::Ask { nodes }
        }
        WireBody::Tell { updates } => {
            Body::Tell { updates: updates_in(updates, TELL_UPDATES_MAX, &known)? }
        }
    };
    Ok(Message { updates, body })
}

fn few(what: &'static str, found: usize, max: usize) -> Result<(), InvalidMessage> {
    if found <= max { Ok(()) } else { Err(InvalidMessage::TooMany { what, found, max }) }
}

const fn brief_out(brief: &Brief) -> WireBrief {
    let Stamp { life, version } = brief.stamp;
    WireBrief { node: brief.node, life, version, gone: brief.gone }
}

const fn brief_in(brief: WireBrief) -> Brief {
    let WireBrief { node, life, version, gone } = brief;
    Brief { node, stamp: Stamp { life, version }, gone }
}

fn updates_out(updates: &[Update]) -> Vec<WireUpdate> {
    let out = |update: &Update| match update {
        Update::Presence(seen) => WireUpdate::Presence(seen.envelope().clone()),
        Update::Claim(claim) => WireUpdate::Claim(*claim),
    };
    updates.iter().map(out).collect()
}

fn updates_in(
    updates: Vec<WireUpdate>,
    max: usize,
    known: &impl Fn(NodeId) -> Option<Arc<Seen>>,
) -> Result<Vec<Update>, InvalidMessage> {
    few("updates", updates.len(), max)?;
    let read = |update| match update {
        WireUpdate::Claim(claim) => Ok(Update::Claim(claim)),
        WireUpdate::Presence(envelope) => {
            let held = known(envelope.author()).filter(|seen| *seen.envelope() == envelope);
            let seen = held.map_or_else(|| open(envelope).map(Arc::new), Ok)?;
            Ok(Update::Presence(seen))
        }
    };
    updates.into_iter().map(read).collect()
}

/// How long a message is, more or less, in bytes: for simulations, in which nothing is encoded.
#[must_use]
pub fn estimate(message: &Message) -> usize {
    let updates = |updates: &[Update]| updates.iter().map(estimate_update).sum::<usize>();
    let body = match &message.body {
        Body::Ping { .. } | Body::Ack { .. } | Body::Nack { .. } => 28,
        Body::PingReq { .. } => 84,
        Body::Gossip => 13,
        Body::Digest { sums } => 23 + 9 * sums.len(),
        Body::Page(page) => 85 + 68 * page.entries.len(),
        Body::Ask { nodes } => 19 + 34 * nodes.len(),
        Body::Tell { updates: told } => 13 + updates(told),
    };
    body + updates(&message.updates)
}

fn estimate_update(update: &Update) -> usize {
    match update {
        Update::Presence(seen) => 190 + 20 * seen.presence().contact.addresses.len(),
        Update::Claim(_) => 132,
    }
}

/// A presence whose signature is worth nothing, for tests that have many.
#[cfg(test)]
pub(super) fn unsigned(presence: Presence) -> Seen {
    use std::sync::OnceLock;
    static WORTHLESS: OnceLock<Envelope> = OnceLock::new();
    let make = || Envelope::seal(&Keypair::from_seed([9; 32]), "none", Bytes::new());
    Seen::new(presence, WORTHLESS.get_or_init(make).clone())
}

#[cfg(test)]
mod tests;
