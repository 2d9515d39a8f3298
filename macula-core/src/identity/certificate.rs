//! Certificates, what they say, and the pins of their keys.

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::time::Duration;

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};
use x509_parser::time::ASN1Time;

use super::node_id::{NodeId, Signature};

/// The longest certificate, in bytes.
const DER_LEN_MAX: usize = 64 * 1024;

/// How many certificates a bundle has.
const BUNDLE_LEN_MAX: usize = 64;

/// How a certificate is called in PEM.
const LABEL: &str = "CERTIFICATE";

/// What a role begins with, where certificates have it.
pub(super) const ROLE: &str = "macula:role:";

/// How far a certificate begins before it is issued: clocks differ.
const SKEW: Duration = Duration::from_secs(300);

/// From when to when, since the Unix epoch. Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: Duration,
    /// The last second.
    pub not_after: Duration,
}

impl Validity {
    /// From five minutes before now, because clocks differ, for a lifetime from now on.
    #[must_use]
    pub fn from_now(now: Duration, lifetime: Duration) -> Self {
        Self { not_before: now.saturating_sub(SKEW), not_after: now.saturating_add(lifetime) }
    }
}

/// Why something is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MalformedCertificate {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// The text holds none.
    #[error("no whole {0} is in it")]
    Nothing(&'static str),
    /// The text holds some, and some that are cut off or damaged.
    #[error("it holds {begun} {what}s, of which only {whole} are whole")]
    Damaged {
        /// Of what.
        what: &'static str,
        /// How many begin in it.
        begun: usize,
        /// How many of them can be read.
        whole: usize,
    },
    /// There is too much.
    #[error("{len} {unit}, at most {max} are read")]
    TooLong {
        /// How much there is.
        len: usize,
        /// Of what.
        unit: &'static str,
        /// How much there may be.
        max: usize,
    },
    /// It is no X.509 in DER.
    #[error("it is no X.509 certificate: {0}")]
    Der(String),
    /// Something stands behind it.
    #[error("{0} bytes follow it")]
    Trailing(usize),
    /// Its key is no Ed25519 key, or one that cannot be an identity.
    #[error("its key is {found}, and no Ed25519 key that can be an identity")]
    WrongKeyType {
        /// What the key is, by its algorithm's number.
        found: String,
    },
    /// The text is no PEM of what it should hold.
    #[error("it is no PEM (RFC 7468): {0}")]
    Pem(String),
}

/// A certificate in DER. That it is one shows only in its [facts](Self::facts).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Certificate(Vec<u8>);

impl Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.facts() {
            Ok(facts) => f.debug_tuple("Certificate").field(&facts.subject).finish(),
            Err(_malformed) => f.debug_tuple("Certificate").field(&self.0.len()).finish(),
        }
    }
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Whose key it certifies.
    pub node_id: NodeId,
    /// Its serial number, in big-endian order.
    pub serial: Vec<u8>,
    /// When it holds.
    pub validity: Validity,
    /// Who issued it, as a distinguished name.
    pub issuer: String,
    /// For whom, as a distinguished name.
    pub subject: String,
    /// The common name in it; empty if it has none.
    pub common_name: String,
    /// The roles that its issuer gave to the node.
    pub roles: Vec<String>,
    /// Whether it may issue others.
    pub is_ca: bool,
    /// Whether its key may sign handshakes.
    pub may_sign: bool,
}

impl Certificate {
    /// Takes what may be a certificate.
    ///
    /// # Errors
    ///
    /// [`MalformedCertificate`] if it is empty or longer than 64 KiB.
    pub fn from_der(der: impl Into<Vec<u8>>) -> Result<Self, MalformedCertificate> {
        let der = der.into();
        match der.len() {
            0 => Err(MalformedCertificate::Empty),
            len if len > DER_LEN_MAX => {
                Err(MalformedCertificate::TooLong { len, unit: "bytes", max: DER_LEN_MAX })
            }
            _ => Ok(Self(der)),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    /// It in PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode(&pem::Pem::new(LABEL, self.0.clone()))
    }

    /// Reads all certificates of a text in PEM, at most 64. Other things in it are refused.
    ///
    /// # Errors
    ///
    /// [`MalformedCertificate`] for the first fault.
    pub fn read_pem_bundle(text: &str) -> Result<Vec<Self>, MalformedCertificate> {
        let parts = read_pem(text, LABEL, "certificate")?;
        if parts.len() > BUNDLE_LEN_MAX {
            let (len, max) = (parts.len(), BUNDLE_LEN_MAX);
            return Err(MalformedCertificate::TooLong { len, unit: "certificates", max });
        }
        parts.into_iter().map(Self::from_der).collect()
    }

    /// Whether the key of `issuer` has signed it. Nothing else is asked: not its time, not whether
    /// `issuer` may issue.
    #[must_use]
    pub fn is_signed_by(&self, issuer: NodeId) -> bool {
        let signed = || {
            let parsed = self.parsed().ok()?;
            let signature = <[u8; 64]>::try_from(&*parsed.signature_value.data).ok()?;
            let signature = Signature::from_bytes(signature);
            issuer.verify(parsed.tbs_certificate.as_ref(), &signature).ok()
        };
        signed().is_some()
    }

    fn parsed(&self) -> Result<X509Certificate<'_>, MalformedCertificate> {
        let (rest, parsed) = X509Certificate::from_der(&self.0)
            .map_err(|error| MalformedCertificate::Der(error.to_string()))?;
        if rest.is_empty() { Ok(parsed) } else { Err(MalformedCertificate::Trailing(rest.len())) }
    }

    /// What it says. Nothing of it is proved.
    ///
    /// # Errors
    ///
    /// [`MalformedCertificate`].
    pub fn facts(&self) -> Result<Facts, MalformedCertificate> {
        let parsed = self.parsed()?;
        let spki = parsed.public_key();
        let found = spki.algorithm.algorithm.to_id_string();
        let wrong = || MalformedCertificate::WrongKeyType { found: found.clone() };
        if found != "1.3.101.112" {
            return Err(wrong());
        }
        let key = <[u8; 32]>::try_from(&*spki.subject_public_key.data).map_err(|_len| wrong())?;
        let node_id = NodeId::from_bytes(key).map_err(|_key| wrong())?;
        let common_name = parsed.subject().iter_common_name().next();
        let (mut roles, mut may_sign) = (Vec::new(), true);
        for extension in parsed.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    roles.extend(names.general_names.iter().filter_map(|name| match name {
                        GeneralName::URI(uri) => uri.strip_prefix(ROLE).map(str::to_owned),
                        _ => None,
                    }));
                }
                ParsedExtension::KeyUsage(usage) => may_sign = usage.digital_signature(),
                _ => {}
            }
        }
        Ok(Facts {
            node_id,
            serial: parsed.raw_serial().to_vec(),
            validity: Validity {
                not_before: since_epoch(parsed.validity().not_before),
                not_after: since_epoch(parsed.validity().not_after),
            },
            issuer: parsed.issuer().to_string(),
            subject: parsed.subject().to_string(),
            common_name: common_name
                .and_then(|name| name.as_str().ok())
                .unwrap_or_default()
                .to_owned(),
            roles,
            is_ca: parsed.is_ca(),
            may_sign,
        })
    }

    /// The pin of its key.
    ///
    /// # Errors
    ///
    /// [`MalformedCertificate`].
    pub fn spki_sha256(&self) -> Result<SpkiPin, MalformedCertificate> {
        Ok(SpkiPin(Sha256::digest(self.parsed()?.public_key().raw).into()))
    }
}

/// The bodies of all parts of a text in PEM, each of which has to be whole and labelled `label`:
/// what cannot be read is not passed over in silence.
pub(super) fn read_pem(
    text: &str,
    label: &str,
    what: &'static str,
) -> Result<Vec<Vec<u8>>, MalformedCertificate> {
    let parts =
        pem::parse_many(text).map_err(|error| MalformedCertificate::Pem(error.to_string()))?;
    let (begun, whole) = (text.matches("-----BEGIN").count(), parts.len());
    if begun != whole {
        return Err(MalformedCertificate::Damaged { what, begun, whole });
    }
    if parts.is_empty() {
        return Err(MalformedCertificate::Nothing(what));
    }
    let read = |part: pem::Pem| match part.tag() {
        tag if tag == label => Ok(part.into_contents()),
        other => Err(MalformedCertificate::Pem(format!("a {other} in place of a {what}"))),
    };
    parts.into_iter().map(read).collect()
}

/// Times before 1970 count as 1970: no certificate of ours is that old.
fn since_epoch(time: ASN1Time) -> Duration {
    Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

/// A text is no pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no pin: it has to be sha256/ and 32 bytes in base64")]
pub struct InvalidPin(String);

/// The SHA-256 hash of a certified key with its algorithm (`SubjectPublicKeyInfo`), as in RFC 7469.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpkiPin([u8; 32]);

impl Display for SpkiPin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256/{}", BASE64.encode(&self.0))
    }
}

impl Debug for SpkiPin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Display::fmt(self, f)
    }
}

impl FromStr for SpkiPin {
    type Err = InvalidPin;

    fn from_str(text: &str) -> Result<Self, InvalidPin> {
        let read = || {
            let bytes = BASE64.decode(text.strip_prefix("sha256/")?.as_bytes()).ok()?;
            <[u8; 32]>::try_from(bytes).ok()
        };
        read().map(Self).ok_or_else(|| InvalidPin(text.chars().take(80).collect()))
    }
}

impl Serialize for SpkiPin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SpkiPin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
