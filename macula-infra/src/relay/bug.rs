//! Bugs that tests plant in relaying: a harness counts once it has found them.

/// A bug that is put in on purpose, and has to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Whoever sends over a relay that is lost goes on to do so.
    StaysWithTheDead,
    /// Whoever has lost its place at a relay does not notice.
    KeepsLostPlaces,
}
