//! Calling an actor on another node, by the name under which it is served there.
//!
//! One node serves an actor ([`Served`] tables are filled by `serve`), the other has a typed
//! [`RemoteHandle`] to the name. A call is one frame there and one back, both with the call's
//! correlation id. It has a deadline, which travels with it; when it passes, or when the caller
//! drops the call, a cancellation follows and reaches the handler through its [`ReplyTo`]. A call
//! is sent at most once, so it is handled at most once; each error says whether it may have been.
//!
//! [`Monitor`]s tell of the end of an actor on another node, or of the node, exactly once.

mod call;
mod client;
mod error;
mod metrics;
mod monitor;
mod outbox;
mod questions;
mod reply;
mod serve;
mod session;
mod wire;

pub(crate) use client::{Calling, WITHIN};
#[expect(clippy::module_name_repetitions, reason = "they are used by their names alone")]
pub use client::{Remote, RemoteHandle};
pub use error::{CallError, Interruption, Refusal, Unavailability};
pub use monitor::{Down, DownReason, Monitor};
pub use reply::ReplyTo;
pub use serve::{ServeError, Served, Serving};
pub(crate) use session::RemoteService;

/// The first of the kinds of frames that belong to calls.
pub(crate) const FIRST_KIND: u8 = 0x10;

#[cfg(test)]
mod tests;
