//! What is counted about access, under one name.

/// What was refused; label `action`.
pub const REFUSED: &str = "macula_access_refused_total";
