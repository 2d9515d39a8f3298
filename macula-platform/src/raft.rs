//! Agreement: a log that a group of nodes agrees upon, and the state that follows from it.

pub mod elector;
mod log;
mod machine;
pub mod media;
pub mod sealed;
pub mod snapshots;
pub mod types;

pub use machine::Replicated;

#[cfg(test)]
mod tests;
