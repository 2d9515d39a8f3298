//! The pure parts: machines without IO, clock or randomness.

mod bucket;
pub mod cache;
pub mod density;
pub mod diversity;
pub mod limits;
pub mod lookup;
pub mod node;
pub mod peer;
pub mod providers;
pub mod published;
pub mod records;
pub mod requests;
pub mod table;
pub mod time;

#[cfg(test)]
pub(crate) mod tests;
