//! Agreement: a log that a group of nodes agrees upon, and the state that follows from it.

mod driving;
pub mod elector;
mod log;
mod machine;
pub mod media;
mod member;
mod network;
pub mod sealed;
mod service;
pub mod snapshots;
pub mod types;
mod wire;

pub use machine::Replicated;
pub use member::{Config, Member, Parts, ProposeError, StartError};

#[cfg(test)]
mod tests;
