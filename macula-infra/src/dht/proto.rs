//! The pure parts: machines without IO, clock or randomness.
