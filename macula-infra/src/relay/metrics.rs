//! What is counted about relaying, each under one name.

/// Bytes that this node carried for others.
pub(super) const CARRIED: &str = "macula_relay_carried_bytes_total";
/// Datagrams that it did not carry; label `reason`.
pub(super) const REFUSED: &str = "macula_relay_refused_total";
/// How many nodes have a place here.
pub(super) const RESERVATIONS: &str = "macula_relay_reservations";
/// How many pairs of nodes send to each other over this one.
pub(super) const CIRCUITS: &str = "macula_relay_circuits";
/// How many connections of this node others carry.
pub(super) const RELAYED: &str = "macula_relay_connections";
/// At how many relays this node has a place.
pub(super) const PLACES: &str = "macula_relay_places";
/// What relays did not carry for this node, as they say; label `reason`.
pub(super) const UNCARRIED: &str = "macula_relay_uncarried_total";
