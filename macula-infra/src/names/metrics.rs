//! What is counted about names, each under one name.

/// How many names this node serves that the directory does not know of yet.
pub(super) const UNANNOUNCED: &str = "macula_names_unannounced";
/// Nodes that were forgotten because they proved not to serve a name, or to be out of reach.
pub(super) const FORGOTTEN: &str = "macula_names_forgotten_total";
