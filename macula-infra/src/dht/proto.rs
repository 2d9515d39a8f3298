//! The pure parts: machines without IO, clock or randomness.

mod bucket;
pub mod density;
pub mod diversity;
pub mod lookup;
pub mod peer;
pub mod table;

#[cfg(test)]
pub(crate) mod tests;
