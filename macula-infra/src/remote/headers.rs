//! What travels with a question beside it: short texts under names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many headers a question has at most.
pub const HEADERS_MAX: usize = 32;

/// How many bytes the headers of a question have at most, names and values together.
pub const HEADERS_LEN_MAX: usize = 4096;

/// The header that says of which trace a call is a part ([W3C Trace Context]).
///
/// [W3C Trace Context]: https://www.w3.org/TR/trace-context/#traceparent-header
pub const TRACEPARENT: &str = "traceparent";

/// What vendors of tracing say beside [`TRACEPARENT`].
pub const TRACESTATE: &str = "tracestate";

/// There is no room for a header. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{count} headers of {len} bytes, at most {HEADERS_MAX} of {HEADERS_LEN_MAX} bytes are taken"
)]
pub struct TooManyHeaders {
    /// How many there would be.
    pub count: usize,
    /// How many bytes they would have.
    pub len: usize,
}

/// Texts under names, at most [`HEADERS_MAX`] of at most [`HEADERS_LEN_MAX`] bytes together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// With one more, or another value for one that is there.
    ///
    /// # Errors
    ///
    /// [`TooManyHeaders`].
    pub fn with(
        mut self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self, TooManyHeaders> {
        self.0.insert(name.into(), value.into());
        Self::try_from(self.0)
    }

    /// The value of one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// With the trace of those under which they are sent, unless they name one of their own.
    pub(super) fn within_trace_of(self, outer: &Self) -> Self {
        let Some(parent) = outer.get(TRACEPARENT).filter(|parent| is_traceparent(parent)) else {
            return self;
        };
        if self.get(TRACEPARENT).is_some() {
            return self;
        }
        let traced = self.clone().with(TRACEPARENT, parent);
        let Ok(traced) = traced else { return self };
        match outer.get(TRACESTATE) {
            Some(state) => traced.clone().with(TRACESTATE, state).unwrap_or(traced),
            None => traced,
        }
    }
}

impl TryFrom<BTreeMap<String, String>> for Headers {
    type Error = TooManyHeaders;

    fn try_from(headers: BTreeMap<String, String>) -> Result<Self, TooManyHeaders> {
        let count = headers.len();
        let len = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if count > HEADERS_MAX || len > HEADERS_LEN_MAX {
            return Err(TooManyHeaders { count, len });
        }
        Ok(Self(headers))
    }
}

/// Whether a text is a `traceparent` of any version: one that is not has to be passed over.
fn is_traceparent(text: &str) -> bool {
    let is_hex = |part: &str, len| {
        part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |part: &str, len| is_hex(part, len) && part.bytes().any(|b| b != b'0');
    let mut parts = text.split('-');
    let mut part = || parts.next().unwrap_or_default();
    let (version, trace, parent, flags) = (part(), part(), part(), part());
    is_hex(version, 2)
        && version != "ff"
        && is_id(trace, 32)
        && is_id(parent, 16)
        && is_hex(flags, 2)
        && (version != "00" || parts.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::{HEADERS_LEN_MAX, HEADERS_MAX, Headers, TRACEPARENT, TRACESTATE, is_traceparent};
    use macula_core::wire::{Limits, from_body, to_body};

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn headers_are_bounded_for_writers_and_for_readers() {
        let mut headers = Headers::default();
        for number in 0..HEADERS_MAX {
            headers = headers.with(format!("h{number}"), "x").unwrap();
        }
        assert!(headers.clone().with("h0", "y").unwrap().get("h0") == Some("y"));
        assert_eq!(headers.clone().with("more", "x").unwrap_err().count, HEADERS_MAX + 1);
        let long = Headers::default().with("a", "x".repeat(HEADERS_LEN_MAX)).unwrap_err();
        assert_eq!((long.count, long.len), (1, HEADERS_LEN_MAX + 1));
        let body = to_body(&headers, 65_536).unwrap();
        assert_eq!(from_body::<Headers>(&body, &Limits::default()).unwrap(), headers);
        let mut many = headers.0;
        many.insert("more".to_owned(), "x".to_owned());
        let body = to_body(&many, 65_536).unwrap();
        assert!(from_body::<Headers>(&body, &Limits::default()).is_err());
    }

    #[test]
    fn a_trace_is_passed_on_unless_there_is_another_or_it_is_none() {
        let outer = Headers::default().with(TRACEPARENT, PARENT).unwrap();
        let outer = outer.with(TRACESTATE, "a=b").unwrap().with("secret", "1").unwrap();
        let inner = Headers::default().within_trace_of(&outer);
        let passed: Vec<_> = inner.iter().collect();
        assert_eq!(passed, [(TRACEPARENT, PARENT), (TRACESTATE, "a=b")]);
        let own = Headers::default().with(TRACEPARENT, "own").unwrap();
        assert_eq!(own.clone().within_trace_of(&outer), own);
        let none = Headers::default().with(TRACEPARENT, "none").unwrap();
        assert!(Headers::default().within_trace_of(&none).is_empty());
    }

    #[test]
    fn what_is_no_traceparent_is_told() {
        assert!(is_traceparent(PARENT));
        assert!(is_traceparent(&PARENT.replacen("00", "cc", 1)) && PARENT.len() == 55);
        assert!(is_traceparent(&format!("{}-more", PARENT.replacen("00", "cc", 1))));
        for wrong in [
            "",
            "00",
            &PARENT.replacen("00", "ff", 1),
            &PARENT.to_uppercase(),
            &format!("{PARENT}-more"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert!(!is_traceparent(wrong), "{wrong}");
        }
    }
}
