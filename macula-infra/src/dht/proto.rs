//! The pure parts: machines without IO, clock or randomness.

pub mod providers;
pub mod records;
pub mod requests;
pub mod time;
