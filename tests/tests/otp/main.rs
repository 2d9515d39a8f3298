//! The scenarios of OTP's own supervisor suite, each under its OTP name.
//!
//! Time is virtual and each test has one thread, so that what a test sees is what the supervisor
//! does and not how fast the machine is.
//!
//! One of the 93 scenarios is left out. `get_callback_module` asks a supervisor for the name of the
//! Erlang module with its callbacks, and a supervisor here is a value and has none.
//!
//! What Erlang has and Rust has not is replaced by what a user would meet in its place:
//!
//! - Terms that are no spec at all (`sup_start_map_faulty_specs`, `child_specs`, `sup_flags`) do not
//!   compile here; what can still be wrong are ids, words of a configuration, and combinations.
//! - A name clash (`already_started_outside_supervisor`) is something that the child's own start
//!   function finds out and reports.
//! - `code_change` and the `significant_upgrade_*` cases go through `SupervisorHandle::reconfigure`.
//! - Memory that must not be kept is watched through the count of a shared token.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers outside of test functions may panic too: this crate holds only tests"
)]

mod admin;
mod dynamic;
mod loops;
mod misc;
mod reconfigure;
mod reports;
mod significant;
mod start;
mod stop;
mod strategies;
mod support;
mod temporary;
mod termination;
