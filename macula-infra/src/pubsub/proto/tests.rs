//! Brokers on a faulty network, against what their subscribers see.

mod directed;
mod faults;
mod world;

/// A bug that is put in on purpose, and has to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// What was under way to a node that has lost its state is sent again, promised or not.
    ResendsWhatMayBeThere,
    /// What was lost with a connection is not sent again.
    NeverSendsAgain,
    /// A message that a slow subscriber does not get is not counted as dropped.
    ForgetsTheSlow,
}
