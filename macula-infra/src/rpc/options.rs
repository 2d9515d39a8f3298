//! How a procedure is advertised, and how it is called.

use std::time::Duration;

use bytes::Bytes;
use macula_core::wire::{Limits, from_body, to_body};
use serde::{Deserialize, Serialize};

use super::proto::balance::Balance;
use crate::remote::{Headers, WITHIN};

/// The longest metadata of a procedure, in bytes.
pub const METADATA_LEN_MAX: usize = 512;

/// How long what the directory says of a provider may be, in bytes.
const DESCRIPTION_LEN_MAX: usize = 1_024;

/// How a procedure is advertised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whether a question may be handled more than once: then callers may ask again after a failure,
    /// and ask a second provider when the first takes long. False by default.
    pub idempotent: bool,
    /// How many calls are handled at one time, one at least. 256 by default. An actor handles one.
    pub concurrency_max: usize,
    /// How many more wait for that. All others are refused as overloaded. 1,024 by default. For an
    /// actor, its mailbox has the bound.
    pub queue_max: usize,
    /// What callers see of this provider: at most [`METADATA_LEN_MAX`] bytes.
    pub metadata: Bytes,
}

impl Default for Options {
    fn default() -> Self {
        Self { idempotent: false, concurrency_max: 256, queue_max: 1_024, metadata: Bytes::new() }
    }
}

/// How a procedure is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallOptions {
    /// How long the caller waits, for all there is to do. Five seconds by default. A call that is
    /// made by a handler has at most the time that is left of the call that it answers.
    pub within: Duration,
    /// What is said beside the question.
    pub headers: Headers,
    /// How calls are spread over the providers.
    pub balance: Balance,
    /// How many providers are asked at most, one after the other. Three by default.
    pub attempts_max: usize,
    /// Whether a second provider is asked when the first takes longer than 95 % of the calls
    /// lately; or than a second, as long as few were made. Only where all say that this does no harm. True by default.
    pub hedges: bool,
}

impl Default for CallOptions {
    fn default() -> Self {
        Self {
            within: WITHIN,
            headers: Headers::default(),
            balance: Balance::default(),
            attempts_max: 3,
            hedges: true,
        }
    }
}

/// What the directory says of a provider. It only ever gains fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Description {
    #[serde(default)]
    pub(super) idempotent: bool,
    #[serde(default)]
    pub(super) metadata: Bytes,
}

impl Description {
    /// As bytes; none if it is too long.
    pub(super) fn encode(&self) -> Option<Bytes> {
        to_body(self, DESCRIPTION_LEN_MAX).ok()
    }

    /// What a provider says. Whoever says nothing that is understood promises nothing.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        from_body(bytes, &Limits::for_body(DESCRIPTION_LEN_MAX)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Description;
    use bytes::Bytes;
    use data_encoding::HEXLOWER;

    #[test]
    fn what_is_said_of_a_provider_has_its_bytes_for_ever() {
        let said = Description { idempotent: true, metadata: Bytes::from_static(b"eu") };
        let bytes = said.encode().unwrap();
        insta::assert_snapshot!(HEXLOWER.encode(&bytes));
        assert_eq!(Description::decode(&bytes), said);
        for nonsense in [&b""[..], b"\xff", b"hello", &[0xc6; 2000]] {
            assert_eq!(Description::decode(nonsense), Description::default());
        }
    }
}
