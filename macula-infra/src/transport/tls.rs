//! Who may be talked to: certificates, trust, and the judgement of a peer.
//!
//! Every node has one Ed25519 key, which is its identity, and a certificate for it. Both sides show
//! theirs in the TLS 1.3 handshake, and each judges the other's by its [`Trust`]: issued by the
//! realm, pinned, or the very key that was expected. [`judge`] is that judgement as a pure function;
//! it runs inside the handshake, where a refusal ends it, and again whenever trust changes or a
//! certificate ends, where a refusal closes the connection.
//!
//! In [`Enforcement::Report`] a refusal is counted and told, and the connection goes on: for a
//! gradual roll-out. There is no way not to judge.

mod credentials;
mod judge;
mod lists;
mod name;
mod refusal;
mod rustls_glue;
mod trust;

pub use credentials::{Credentials, IncompleteCredentials, Showing};
pub use judge::{Judged, judge};
pub use lists::UnusableList;
pub use refusal::Refusal;
pub use trust::{Enforcement, InvalidJoinToken, JoinToken, Realm, Trust};

pub(super) use name::{DialName, Expectation};
pub(super) use rustls_glue::{client_config, proved_node, server_config};

/// What both sides have to agree upon to talk at all (ALPN, RFC 7301).
pub const ALPN: &[u8] = b"macula/1";
