//! What a node believes.

use std::collections::BTreeSet;
use std::fmt::Debug;

use macula_core::identity::{Certificate, NodeId, SpkiPin};

/// What becomes of a peer that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Enforcement {
    /// There is no connection.
    #[default]
    Enforce,
    /// It is counted and told, and the connection goes on.
    Report,
}

/// A realm's authorities, and what they have taken back.
#[derive(Debug, Clone, Default)]
pub struct Realm {
    /// The certificates of one or more authorities.
    pub authorities: Vec<Certificate>,
    /// Revocation lists (RFC 5280, section 5), in DER.
    pub revocation_lists: Vec<Vec<u8>>,
}

/// A secret that lets an unknown node in. Its text is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken(String);

/// A text is no join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a join token of {len} bytes: it has to have 16 to 256, so that nobody guesses it")]
pub struct InvalidJoinToken {
    /// How long the text is.
    len: usize,
}

impl JoinToken {
    /// Takes the text.
    ///
    /// # Errors
    ///
    /// [`InvalidJoinToken`] unless it has 16 to 256 bytes.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidJoinToken> {
        let text = text.into();
        match text.len() {
            16..=256 => Ok(Self(text)),
            len => Err(InvalidJoinToken { len }),
        }
    }

    /// The text, for the hello that shows it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether a text is this token, in a time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, shown: &str) -> bool {
        macula_core::identity::digest(self.0.as_bytes())
            == macula_core::identity::digest(shown.as_bytes())
    }
}

impl Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinToken(..)")
    }
}

/// Whom a node believes to be who they say.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Certificates that an authority of the realm has issued and not taken back.
    Realm(Realm),
    /// Keys whose SHA-256 pin is known; issued by the realm too, if one is given.
    Pin {
        /// The pins: at least one.
        pins: BTreeSet<SpkiPin>,
        /// The realm that must have issued the certificate besides.
        realm: Option<Realm>,
    },
    /// Self-signed certificates of nodes that are known: the dialler must know whom it dials, and
    /// the acceptor whom it lets in.
    NodeId {
        /// Who may dial this node.
        allow: BTreeSet<NodeId>,
        /// What lets others in, and what this node shows where it dials.
        token: Option<JoinToken>,
    },
}

impl Trust {
    /// The name of the mode, as configuration has it.
    #[must_use]
    pub const fn mode(&self) -> &'static str {
        match self {
            Self::Realm(_) => "realm",
            Self::Pin { .. } => "pin",
            Self::NodeId { .. } => "node-id",
        }
    }

    /// The realm that a peer has to be of, if it has to be of one.
    pub(super) const fn realm(&self) -> Option<&Realm> {
        match self {
            Self::Realm(realm) | Self::Pin { realm: Some(realm), .. } => Some(realm),
            Self::Pin { realm: None, .. } | Self::NodeId { .. } => None,
        }
    }
}
