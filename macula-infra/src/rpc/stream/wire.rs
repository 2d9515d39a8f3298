//! What travels for a stream. Wire types are no domain types: they only ever gain fields.
//!
//! A stream has the id that its opener gave it. Frames about it that come from the other side, who
//! may give the same id to a stream of its own, say so by [`BACK`].

use std::borrow::Cow;

use macula_core::wire::{Flags, Kind};
use serde::{Deserialize, Serialize};

use crate::remote::{Failure, Headers};
use crate::rpc::proto::flow::Grant;

/// Asks for a stream: the body is an [`Open`].
pub(super) const OPEN: Kind = Kind(0x40);
/// One item: the body is the item itself.
pub(super) const ITEM: Kind = Kind(0x41);
/// More may be sent: the body is a [`Credit`]. The first one says that the stream is taken.
pub(super) const CREDIT: Kind = Kind(0x42);
/// Whoever opened it sends no more items.
pub(super) const FINISH: Kind = Kind(0x43);
/// How it ended, from the side that serves it: the body is an [`End`].
pub(super) const END: Kind = Kind(0x44);
/// Whoever opened it does not want it any more.
pub(super) const RESET: Kind = Kind(0x45);

/// A frame from the side that serves the stream.
pub(super) const BACK: Flags = Flags(1);

/// Asks for a stream to a procedure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open<'a> {
    /// Under which name it is served.
    pub(super) to: &'a str,
    /// How long the caller waits for the end of it, in milliseconds.
    pub(super) within_ms: u64,
    /// How much the other side may send.
    pub(super) credit: Credit,
    /// What is said beside it, if anything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) headers: Option<Cow<'a, Headers>>,
}

/// How much more may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Credit {
    pub(super) items: u32,
    pub(super) bytes: u32,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    /// Why it has failed, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<Failure>,
}

impl From<Grant> for Credit {
    fn from(Grant { items, bytes }: Grant) -> Self {
        Self { items, bytes }
    }
}

impl From<Credit> for Grant {
    fn from(Credit { items, bytes }: Credit) -> Self {
        Self { items, bytes }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::{Credit, End, Open};
    use crate::remote::{CallError, Headers};
    use crate::rpc::proto::flow::WINDOW;
    use data_encoding::HEXLOWER;
    use macula_core::wire::{Limits, from_body, to_body};
    use proptest::prelude::*;
    use serde::Serialize;

    fn golden<T: Serialize>(message: &T) -> String {
        HEXLOWER.encode(&to_body(message, 4096).unwrap())
    }

    #[test]
    fn every_message_has_its_bytes_for_ever() {
        let headers = Headers::default().with("traceparent", "00-1-2-3").unwrap();
        let open =
            Open { to: "!game.match", within_ms: 5000, credit: WINDOW.into(), headers: None };
        let failure = CallError::Failed("no such player".to_owned()).to_wire();
        let all = [
            golden(&open),
            golden(&Open { headers: Some(Cow::Owned(headers)), ..open }),
            golden(&Credit { items: 32, bytes: 70_000 }),
            golden(&End { failure: None }),
            golden(&End { failure: Some(failure) }),
        ];
        insta::assert_snapshot!(all.join("\n"));
    }

    proptest! {
        #[test]
        fn whatever_comes_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let limits = Limits::default();
            drop(from_body::<Open<'_>>(&bytes, &limits));
            drop(from_body::<Credit>(&bytes, &limits));
            drop(from_body::<End>(&bytes, &limits));
        }
    }
}
