//! What travels for a call. Wire types are no domain types: they only ever gain fields.

use std::borrow::Cow;

use macula_core::wire::{Flags, Kind};
use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;

use super::headers::Headers;

/// A question: the body is a [`Call`].
pub(super) const CALL: Kind = Kind(0x10);
/// The answer: the body is the reply itself.
pub(super) const REPLY: Kind = Kind(0x11);
/// There is no answer: the body is a [`Failure`].
pub(super) const FAILURE: Kind = Kind(0x12);
/// The caller does not wait any more.
pub(super) const CANCEL: Kind = Kind(0x13);
/// Asks to be told of the end of a served actor: the body is a [`Watch`].
pub(super) const MONITOR: Kind = Kind(0x14);
/// The actor is watched: the body is a [`Watched`].
pub(super) const MONITORING: Kind = Kind(0x15);
/// Asks not to be told.
pub(super) const DEMONITOR: Kind = Kind(0x16);
/// The end of a served actor: the body is an [`Ended`].
pub(super) const DOWN: Kind = Kind(0x17);

/// The body follows on the same stream, and the frame only tells about it.
pub(super) const BULK: Flags = Flags(1);

/// A question to a served actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Call<'a> {
    /// Under which name it is served.
    pub(super) to: &'a str,
    /// How long the caller waits, in milliseconds.
    pub(super) within_ms: u64,
    /// The question; empty if it is as long as a stream of its own.
    #[serde(borrow)]
    pub(super) body: &'a Bytes,
    /// How long the body on a stream of its own is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bulk_len: Option<u64>,
    /// What is said beside it, if anything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) headers: Option<Cow<'a, Headers>>,
}

/// Tells about a reply on a stream of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BulkReply {
    pub(super) bulk_len: u64,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// One of the words below. A word that is not known counts as an interruption.
    pub(super) code: String,
    /// More about it, for people.
    #[serde(default)]
    pub(super) text: String,
    /// A number that belongs to some codes.
    #[serde(default)]
    pub(super) len: u64,
    /// Another.
    #[serde(default)]
    pub(super) max: u64,
}

/// The words of [`Failure::code`].
pub(super) mod code {
    pub(in crate::remote) const BUSY: &str = "busy";
    pub(in crate::remote) const OVERLOADED: &str = "overloaded";
    pub(in crate::remote) const FAILED: &str = "failed";
    pub(in crate::remote) const FORBIDDEN: &str = "forbidden";
    pub(in crate::remote) const NOT_SERVED: &str = "not_served";
    pub(in crate::remote) const ABSENT: &str = "absent";
    pub(in crate::remote) const EXPIRED: &str = "expired";
    pub(in crate::remote) const PANIC: &str = "panic";
    pub(in crate::remote) const DROPPED: &str = "dropped";
    pub(in crate::remote) const TOO_LARGE: &str = "too_large";
    pub(in crate::remote) const UNSUPPORTED: &str = "unsupported";
    pub(in crate::remote) const NOT_UNDERSTOOD: &str = "not_understood";
    pub(in crate::remote) const UNSENT: &str = "unsent";
}

/// Which actor to watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watch {
    pub(super) to: String,
    /// Which of its lives; none for the one that runs.
    #[serde(default)]
    pub(super) incarnation: Option<u64>,
}

/// Which life is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watched {
    pub(super) incarnation: u64,
}

/// A life has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) incarnation: u64,
    /// A word for the kind of end; none if it is not known any more.
    #[serde(default)]
    pub(super) kind: Option<String>,
    /// The reason in words.
    #[serde(default)]
    pub(super) reason: String,
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::{BulkReply, Call, Ended, Failure, Headers, Watch, Watched, code};
    use data_encoding::HEXLOWER;
    use macula_core::wire::{Limits, from_body, to_body};
    use serde::{Deserialize, Serialize};
    use serde_bytes::Bytes;

    fn golden<T: Serialize>(message: &T) -> String {
        HEXLOWER.encode(&to_body(message, 4096).unwrap())
    }

    #[test]
    fn every_message_has_its_bytes_for_ever() {
        let to = "workload/scoreboard";
        let body = Bytes::new(&[1, 2, 3]);
        let call = Call { to, within_ms: 5000, body, bulk_len: None, headers: None };
        let headers = Headers::default().with("traceparent", "00-1-2-3").unwrap();
        let failure =
            Failure { code: code::BUSY.to_owned(), text: "full".to_owned(), len: 1, max: 2 };
        let ended =
            Ended { incarnation: 3, kind: Some("panic".to_owned()), reason: "oops".to_owned() };
        let all = [
            golden(&call),
            golden(&Call { body: Bytes::new(&[]), bulk_len: Some(1 << 20), ..call.clone() }),
            golden(&BulkReply { bulk_len: 1 << 20 }),
            golden(&failure),
            golden(&Watch { to: to.to_owned(), incarnation: Some(3) }),
            golden(&Watched { incarnation: 3 }),
            golden(&ended),
            golden(&Call { headers: Some(Cow::Owned(headers)), ..call }),
        ];
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn an_old_reader_takes_a_new_writer_and_the_other_way_round() {
        #[derive(Serialize, Deserialize)]
        struct NewerCall<'a> {
            to: &'a str,
            within_ms: u64,
            #[serde(borrow)]
            body: &'a Bytes,
            priority: u8,
        }
        #[derive(Serialize)]
        struct OlderFailure {
            code: String,
        }
        let newer = NewerCall { to: "a", within_ms: 1, body: Bytes::new(b"x"), priority: 3 };
        let bytes = to_body(&newer, 4096).unwrap();
        let read: Call<'_> = from_body(&bytes, &Limits::default()).unwrap();
        assert_eq!((read.to, read.within_ms, read.bulk_len), ("a", 1, None));
        let bytes = to_body(&OlderFailure { code: "busy".to_owned() }, 4096).unwrap();
        let read: Failure = from_body(&bytes, &Limits::default()).unwrap();
        assert_eq!((read.code.as_str(), read.max), ("busy", 0));
    }
}
