//! What is counted about published messages, each under one name.

/// Copies of messages that have ended; label `outcome`: delivered, expired, or why it was dropped.
pub(super) const COPIES: &str = "macula_pubsub_copies_total";
/// Subscriptions of this node.
pub(super) const SUBSCRIPTIONS: &str = "macula_pubsub_subscriptions";
/// Sessions with other nodes; label `end`: publisher or subscriber.
pub(super) const SESSIONS: &str = "macula_pubsub_sessions";
/// Bytes that are kept for those who subscribe later.
pub(super) const KEPT: &str = "macula_pubsub_kept_bytes";
/// Messages of other nodes that were refused; label `reason`.
pub(super) const REFUSED: &str = "macula_pubsub_refused_total";
/// Prefixes of subscriptions that the directory does not know of yet.
pub(super) const UNANNOUNCED: &str = "macula_pubsub_unannounced";
