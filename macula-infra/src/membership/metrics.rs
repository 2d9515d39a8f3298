//! What is counted about the membership, each under one name.

/// How many members there are, this node aside.
pub(super) const MEMBERS: &str = "macula_membership_members";
/// Events; label `event`.
pub(super) const EVENTS: &str = "macula_membership_events_total";
/// Messages that were refused; label `reason`.
pub(super) const REFUSED: &str = "macula_membership_refused_total";
