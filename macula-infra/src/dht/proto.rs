//! The pure parts: machines without IO, clock or randomness.

pub mod cache;
pub mod limits;
pub mod providers;
pub mod published;
pub mod records;
pub mod requests;
pub mod time;
