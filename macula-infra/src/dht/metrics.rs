//! What is counted about the table, each under one name.

/// Entries of the routing table.
pub(super) const ENTRIES: &str = "macula_dht_table_entries";
/// Records that are kept for others.
pub(super) const RECORDS: &str = "macula_dht_records";
/// Commands that are over; labels `command` and `outcome`.
pub(super) const COMMANDS: &str = "macula_dht_commands_total";
/// Records and providers that were not taken; labels `side` and `reason`.
pub(super) const REFUSED: &str = "macula_dht_refused_total";
/// Peers that did what nobody does by mistake; label `offence`.
pub(super) const MISBEHAVED: &str = "macula_dht_misbehaved_total";
