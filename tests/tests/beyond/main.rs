//! What Macula promises beyond OTP's supervisor, a test for each point.
//!
//! Time is virtual: a test that says "at once" asserts that no virtual time went by, and a test that
//! waits for a state waits for a message, an event or a change of presence.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers outside of test functions may panic too: this crate holds only tests"
)]

mod admission;
mod backoff;
mod cleanup;
mod durable;
mod families;
mod handles;
mod hang;
mod overrides;
mod picture;
mod reasons;
mod release;
mod scale;
mod support;
