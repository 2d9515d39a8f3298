//! Keys and values that a group agrees upon.
//!
//! The [`state`] is what follows from the group's log: it has no clock and no randomness. A *revision*
//! is the index of the entry that changed something, so it grows for ever, and two changes of one
//! entry have one revision. What was there is gone; what has happened is kept as events, up to a bound,
//! so that a watch can go on from a revision that it knows.
//!
//! Whoever does not know whether a command was applied gives it again under the same number, and gets
//! the answer that it had the first time: its [session](command::Once) remembers it (Ongaro,
//! *Consensus: Bridging Theory and Practice*, 2014, section 6.3).

pub mod command;
pub mod limits;
pub mod state;

#[cfg(test)]
mod tests;
