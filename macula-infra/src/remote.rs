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
mod context;
mod error;
mod headers;
mod metrics;
mod monitor;
mod outbox;
mod query;
mod questions;
mod reply;
mod serve;
mod session;
mod wire;

pub(crate) use client::{Calling, WITHIN};
#[expect(clippy::module_name_repetitions, reason = "they are used by their names alone")]
pub use client::{Remote, RemoteHandle};
pub use context::Context;
pub(crate) use context::inherited;
pub use error::{CallError, Interruption, Refusal, Unavailability};
pub use headers::{HEADERS_LEN_MAX, HEADERS_MAX, Headers, TRACEPARENT, TRACESTATE, TooManyHeaders};
pub use monitor::{Down, DownReason, Monitor};
pub(crate) use query::{Query, decode, encode};
pub(crate) use questions::WITHIN_MAX;
pub use reply::ReplyTo;
pub(crate) use reply::{Answer, Cancelled, Encodes, Ticket, TicketParts, respond};
pub(crate) use serve::{Answerer, Question, actor, as_procedure, port, procedure};
pub use serve::{ServeError, Served, Serving};
pub(crate) use session::{RemoteService, lost_by, unsent};
pub(crate) use wire::Failure;

/// The first of the kinds of frames that belong to calls.
pub(crate) const FIRST_KIND: u8 = 0x10;

#[cfg(test)]
mod tests;
