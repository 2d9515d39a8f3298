//! A body that its author has signed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::keypair::Keypair;
use super::node_id::{BadSignature, NodeId, Signature};

/// What every signature of an envelope begins with, so that it is good for nothing else.
const DOMAIN: &[u8] = b"macula envelope 1\0";

/// A body with its author's signature over it and over what it was signed for.
///
/// It can be opened only for the same context: a record that was signed for one purpose is none
/// for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    author: NodeId,
    body: Bytes,
    signature: Signature,
}

impl Envelope {
    /// Signs a body for a context.
    #[must_use]
    pub fn seal(keypair: &Keypair, context: &str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let signature = keypair.sign(&signed(context, &body));
        Self { author: keypair.node_id(), body, signature }
    }

    /// Who is said to have signed it; true only once it was [opened](Self::open).
    #[must_use]
    pub const fn author(&self) -> NodeId {
        self.author
    }

    /// The body, if its author has signed it for this context.
    ///
    /// # Errors
    ///
    /// [`BadSignature`] if not.
    pub fn open(&self, context: &str) -> Result<&Bytes, BadSignature> {
        self.author.verify(&signed(context, &self.body), &self.signature)?;
        Ok(&self.body)
    }
}

fn signed(context: &str, body: &[u8]) -> Vec<u8> {
    let len = u64::try_from(context.len()).unwrap_or(u64::MAX).to_be_bytes();
    [DOMAIN, &len, context.as_bytes(), body].concat()
}
