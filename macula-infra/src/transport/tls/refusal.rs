//! Why a peer is not believed.

use macula_core::identity::NodeId;

/// Why a peer's certificate, or what it proves, is refused. Each has its own counter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The peer showed none.
    #[error("no certificate was shown")]
    NoCertificate,
    /// It is no certificate, or breaks the rules of its format.
    #[error("malformed certificate: {0}")]
    Malformed(String),
    /// It, or its chain, is longer than is looked at.
    #[error("certificate chain of {len} {unit}, at most {max} are looked at")]
    TooLong {
        /// How long it is.
        len: usize,
        /// Of what.
        unit: &'static str,
        /// How long it may be.
        max: usize,
    },
    /// The key is of another kind than Ed25519, or weak.
    #[error("the certified key is no Ed25519 key that can be an identity")]
    WrongKeyType,
    /// Its time is over.
    #[error("the certificate expired at {not_after} s since the Unix epoch, and it is {now} s")]
    Expired {
        /// When it ended.
        not_after: u64,
        /// What time it is.
        now: u64,
    },
    /// Its time has not begun.
    #[error("the certificate begins at {not_before} s since the Unix epoch, and it is {now} s")]
    NotYetValid {
        /// When it begins.
        not_before: u64,
        /// What time it is.
        now: u64,
    },
    /// No authority of the realm has issued it.
    #[error("the certificate was issued by none of the realm's authorities")]
    UnknownIssuer,
    /// It vouches for itself, which only `node-id` and pins accept.
    #[error("the certificate is self-signed, and an issued one is required")]
    SelfSigned,
    /// A signature in the chain is wrong.
    #[error("a signature in the certificate chain is wrong")]
    BadSignature,
    /// It was issued for another purpose than this side of a connection.
    #[error("the certificate may not be used for this ({0})")]
    WrongKeyUsage(&'static str),
    /// An authority's own certificate in place of a node's.
    #[error("an authority's certificate was shown as a node's")]
    Authority,
    /// The chain breaks a constraint that an authority put on it.
    #[error("the chain breaks a constraint: {0}")]
    Constraint(String),
    /// It says something critical that is not understood.
    #[error("the certificate has a critical extension that is not understood")]
    UnknownCritical,
    /// It was taken back.
    #[error("the certificate was revoked")]
    Revoked,
    /// The realm's revocation list cannot be trusted.
    #[error("the revocation list cannot be used: {0}")]
    RevocationList(String),
    /// Its key is not pinned.
    #[error("the key is not pinned")]
    NotPinned,
    /// It is another node than the one that was dialled.
    #[error("the peer is node {found}, and {expected} was expected")]
    WrongNode {
        /// Who was dialled.
        expected: NodeId,
        /// Who answered.
        found: NodeId,
    },
    /// The names in the certificate are not those of its key.
    #[error("the certificate names another node than its key is")]
    NameMismatch,
    /// The dialler has to know whom it dials in this trust mode.
    #[error("with node-id trust the dialler has to know the node it dials")]
    Anonymous,
    /// The node is not on the allow-list, and has shown no join token.
    #[error("node {0} is not allowed, and has no join token")]
    NotAllowed(NodeId),
    /// The join token is wrong.
    #[error("node {0} has shown a wrong join token")]
    WrongToken(NodeId),
    /// The peer did not prove that it has the certified key.
    #[error("the peer has not proved that it owns the certified key")]
    NoProof,
    /// The node claims in its hello to be another than it proved to be.
    #[error("the peer proved to be node {proved}, and calls itself {claimed}")]
    FalseClaim {
        /// Who it is.
        proved: NodeId,
        /// Who it says it is.
        claimed: NodeId,
    },
    /// The peer speaks another protocol than `macula/1` (ALPN).
    #[error("the peer does not speak macula/1")]
    WrongProtocol,
    /// The peer speaks an older TLS than 1.3.
    #[error("the peer does not speak TLS 1.3")]
    WrongVersion,
    /// The connection leads to this node itself.
    #[error("the peer is this node itself")]
    Myself,
}

impl Refusal {
    /// All the words of [`kind`](Self::kind).
    pub const KINDS: [&'static str; 26] = [
        "no_certificate",
        "malformed",
        "too_long",
        "wrong_key_type",
        "expired",
        "not_yet_valid",
        "unknown_issuer",
        "self_signed",
        "bad_signature",
        "wrong_key_usage",
        "authority",
        "constraint",
        "unknown_critical",
        "revoked",
        "revocation_list",
        "not_pinned",
        "wrong_node",
        "anonymous",
        "myself",
        "name_mismatch",
        "not_allowed",
        "wrong_token",
        "no_proof",
        "false_claim",
        "wrong_protocol",
        "wrong_version",
    ];

    /// A word for the kind of refusal: the label of its counter.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::Malformed(_) => "malformed",
            Self::TooLong { .. } => "too_long",
            Self::WrongKeyType => "wrong_key_type",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::UnknownIssuer => "unknown_issuer",
            Self::SelfSigned => "self_signed",
            Self::BadSignature => "bad_signature",
            Self::WrongKeyUsage(_) => "wrong_key_usage",
            Self::Authority => "authority",
            Self::Constraint(_) => "constraint",
            Self::UnknownCritical => "unknown_critical",
            Self::Revoked => "revoked",
            Self::RevocationList(_) => "revocation_list",
            Self::NotPinned => "not_pinned",
            Self::WrongNode { .. } => "wrong_node",
            Self::Anonymous => "anonymous",
            Self::Myself => "myself",
            Self::NameMismatch => "name_mismatch",
            Self::NotAllowed(_) => "not_allowed",
            Self::WrongToken(_) => "wrong_token",
            Self::NoProof => "no_proof",
            Self::FalseClaim { .. } => "false_claim",
            Self::WrongProtocol => "wrong_protocol",
            Self::WrongVersion => "wrong_version",
        }
    }
}
