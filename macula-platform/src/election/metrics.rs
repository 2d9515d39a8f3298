//! What is counted about a node's candidacies, each under one name.

/// How many it has.
pub(super) const CANDIDACIES: &str = "macula_election_candidacies";
/// In how many of them it leads.
pub(super) const LEADS: &str = "macula_election_leads";
/// How often it was elected, or deposed; label `change`: `elected`, or why it leads no more.
pub(super) const CHANGES: &str = "macula_election_changes_total";
