//! What is counted about calls, each under one name.

/// Calls that this node made; label `outcome`.
pub(super) const CALLS: &str = "macula_remote_calls_total";
/// Questions that this node was asked; label `outcome`: `taken` if the actor got it, or why not.
pub(super) const QUESTIONS: &str = "macula_remote_questions_total";
