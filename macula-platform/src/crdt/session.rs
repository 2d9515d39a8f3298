//! Sessions: what somebody has seen and done, wherever.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::codec::{DecodeError, Decoder, Encoder};
use super::proto::Token;
use super::settings::BUCKET_LEN_MAX;

/// What was seen and done in the name of one client, on whatever nodes. A read of a
/// [key](super::Key::in_session) waits until all of it is there, so that nobody sees the past again.
///
/// Clones are the same session. For another node it is written as bytes.
#[derive(Debug, Clone, Default)]
pub struct Session(Arc<Mutex<BTreeMap<Arc<str>, Token>>>);

impl Session {
    pub(super) fn token(&self, bucket: &str) -> Option<Token> {
        self.0.lock().get(bucket).cloned()
    }

    pub(super) fn saw(&self, bucket: &Arc<str>, token: &Token) {
        self.0.lock().entry(Arc::clone(bucket)).or_default().join(token);
    }

    /// A replica that had seen all of `before` had seen `now`.
    pub(super) fn covered(&self, bucket: &Arc<str>, before: Option<&Token>, now: Token) {
        let mut tokens = self.0.lock();
        let token = tokens.entry(Arc::clone(bucket)).or_default();
        match before {
            // What was collected in between is asked for no more.
            Some(before) if before == token => *token = now,
            _ => token.join(&now),
        }
    }

    /// The session as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let tokens = self.0.lock().clone();
        let mut out = Encoder::default();
        out.number(u64::try_from(tokens.len()).unwrap_or(u64::MAX));
        for (bucket, token) in &tokens {
            out.bytes(bucket.as_bytes());
            token.encode(&mut out);
        }
        out.finish()
    }

    /// A session from its bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if they are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes)?;
        let mut tokens = BTreeMap::new();
        for _ in 0..from.number()? {
            let bucket = from.bytes("a bucket", BUCKET_LEN_MAX)?;
            let bucket = std::str::from_utf8(bucket).map_err(|_bytes| from.form("no bucket"))?;
            let bucket: Arc<str> = bucket.into();
            tokens.insert(bucket, Token::decode(&mut from)?);
        }
        from.finish()?;
        Ok(Self(Arc::new(Mutex::new(tokens))))
    }
}
