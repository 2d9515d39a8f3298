//! The contract of every protocol in Macula: a state machine without IO, clock or randomness.
//!
//! A machine is told what happened and what time it is; it answers with outputs and with the one
//! moment at which it wants to be called again. It never asks, waits or fails. A
//! [`Shell`](crate::shell::Shell) drives one in production, a simulator drives thousands of them in
//! virtual time.
//!
//! The shape is that of the sans-IO protocol cores of the QUIC and WebRTC world.

use std::time::Instant;

/// A deterministic state machine.
///
/// # Laws
///
/// 1. [`handle`](Self::handle) never fails. Nonsense from outside becomes an output or a counter.
/// 2. An early [`handle_timeout`](Self::handle_timeout) does nothing; `now` never goes back.
/// 3. The outputs for one input are bounded.
/// 4. Entropy is a seeded argument of the constructor, and whatever is iterated has an order.
/// 5. Machines nest: a parent reports the smallest deadline of its parts.
pub trait Machine {
    /// What can happen to the machine.
    type Input;
    /// What the machine wants done.
    type Output;

    /// Takes one input at the time `now`.
    fn handle(&mut self, now: Instant, input: Self::Input);

    /// Does whatever was due at or before `now`, and nothing if nothing was.
    fn handle_timeout(&mut self, now: Instant);

    /// Gives the next output, oldest first.
    fn poll_output(&mut self) -> Option<Self::Output>;

    /// The moment of the next [`handle_timeout`](Self::handle_timeout), with its reason.
    ///
    /// The answer can change with every call of another method, so a driver asks anew after each.
    fn poll_timeout(&self) -> Option<(Instant, &'static str)>;
}
