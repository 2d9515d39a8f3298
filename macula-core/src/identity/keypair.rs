//! A node's key.

use std::fmt::Debug;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use super::node_id::{NodeId, Signature};

/// The system gives no randomness.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no randomness: {0}")]
pub struct NoEntropy(pub(super) String);

/// A text is no private key. It says nothing of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// It is not PKCS#8 in PEM, or of another algorithm than Ed25519.
    #[error("it is no Ed25519 private key in PKCS#8 PEM (RFC 8410)")]
    Form,
    /// Its public half cannot be an identity.
    #[error("its public key cannot be an identity")]
    Weak,
}

/// An Ed25519 key, with which a node signs. It is wiped from memory when it is dropped.
#[derive(Clone)]
pub struct Keypair(SigningKey);

impl Debug for Keypair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Keypair").field(&self.node_id()).finish()
    }
}

impl Keypair {
    /// A new key, from the system's randomness.
    ///
    /// # Errors
    ///
    /// [`NoEntropy`] if the system has none.
    pub fn generate() -> Result<Self, NoEntropy> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        getrandom::fill(&mut *seed).map_err(|error| NoEntropy(error.to_string()))?;
        Ok(Self::from_seed(*seed))
    }

    /// The key of a seed: whoever knows the seed has the key.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// Who has this key.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        NodeId::of(&self.0.verifying_key())
    }

    /// Signs a message (RFC 8032).
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }

    /// A secret that follows from the key, another for each purpose.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, self.0.as_bytes())
    }

    /// The key as PKCS#8 (RFC 8410), without its public half.
    #[must_use]
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        // An Ed25519 key always has this form.
        let der = self.bytes().to_pkcs8_der();
        Zeroizing::new(der.map(|der| der.as_bytes().to_vec()).unwrap_or_default())
    }

    /// The same in PEM (RFC 7468).
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.bytes().to_pkcs8_pem(LineEnding::LF).unwrap_or_default()
    }

    fn bytes(&self) -> KeypairBytes {
        KeypairBytes { secret_key: self.0.to_bytes(), public_key: None }
    }

    /// Reads a key in PEM.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`].
    pub fn from_pem(text: &str) -> Result<Self, InvalidKey> {
        let key = SigningKey::from_pkcs8_pem(text).map_err(|_form| InvalidKey::Form)?;
        if key.verifying_key().is_weak() { Err(InvalidKey::Weak) } else { Ok(Self(key)) }
    }
}
