//! A realm's authority, and certificates that nobody but their node vouches for.

use std::fmt::Debug;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::certificate::{Certificate, MalformedCertificate, ROLE, Validity, read_pem};
use super::keypair::{InvalidKey, Keypair, NoEntropy};
use super::node_id::NodeId;

/// The longest name of a realm or a role, in bytes.
const NAME_LEN_MAX: usize = 64;

/// How a revocation list is called in PEM.
const CRL_LABEL: &str = "X509 CRL";

/// How a public Ed25519 key is written in DER, up to its bytes (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0];

/// A text is no name of a realm or a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name: it has to be 1 to 64 letters, digits or `- _ .`")]
pub struct InvalidRealm(String);

/// Why a certificate or a list was not issued. Nothing was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// A name is none.
    #[error(transparent)]
    Name(#[from] InvalidRealm),
    /// It would end before it begins, or after the year 9999.
    #[error("it cannot hold from {not_before} s to {not_after} s since the Unix epoch")]
    Validity {
        /// From when.
        not_before: u64,
        /// To when.
        not_after: u64,
    },
    /// No randomness for a serial number.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// The authority's key is none.
    #[error("the authority's key: {0}")]
    Key(#[from] InvalidKey),
    /// The authority's certificate is none.
    #[error("the authority's certificate: {0}")]
    Malformed(#[from] MalformedCertificate),
    /// The authority's certificate is for another key, or is none of an authority.
    #[error("the authority's certificate does not belong to its key, or may not issue others")]
    NoAuthority,
    /// The library refused.
    #[error("it cannot be made: {0}")]
    Library(String),
}

impl From<rcgen::Error> for IssueError {
    fn from(error: rcgen::Error) -> Self {
        Self::Library(error.to_string())
    }
}

/// A certificate that is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Its serial number.
    pub serial: Vec<u8>,
    /// Since when, since the Unix epoch.
    pub at: Duration,
}

/// A realm's authority: it issues certificates for the realm's nodes, and takes them back.
pub struct Authority {
    realm: String,
    key: Keypair,
    certificate: Certificate,
}

impl Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Authority").field(&self.realm).finish()
    }
}

impl Authority {
    /// A new authority for a realm, with a key of its own.
    ///
    /// # Errors
    ///
    /// [`IssueError`].
    pub fn generate(realm: &str, valid: Validity) -> Result<Self, IssueError> {
        Self::with_key(realm, Keypair::generate()?, valid)
    }

    /// A new authority with a given key.
    ///
    /// # Errors
    ///
    /// [`IssueError`].
    pub fn with_key(realm: &str, key: Keypair, valid: Validity) -> Result<Self, IssueError> {
        let realm = check_name(realm)?.to_owned();
        let mut params = params(&realm, valid)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&signer(&key)?)?;
        let certificate = Certificate::from_der(certificate.der().to_vec())?;
        Ok(Self { realm, key, certificate })
    }

    /// Reads an authority.
    ///
    /// # Errors
    ///
    /// [`IssueError`] if a part is malformed, or the two do not belong together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IssueError> {
        let key = Keypair::from_pem(key)?;
        let certificate = Certificate::read_pem_bundle(certificate)?;
        let certificate = certificate.into_iter().next().ok_or(MalformedCertificate::Empty)?;
        let facts = certificate.facts()?;
        if facts.node_id != key.node_id() || !facts.is_ca {
            return Err(IssueError::NoAuthority);
        }
        Ok(Self { realm: facts.common_name, key, certificate })
    }

    /// The realm's name.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// The certificate that nodes of the realm have to know.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The authority's key, in PEM. Whoever has it can make nodes of the realm.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        self.key.to_pem()
    }

    /// Whether this authority has issued a node's certificate: its own is none.
    ///
    /// # Errors
    ///
    /// [`MalformedCertificate`].
    pub fn has_issued(&self, certificate: &Certificate) -> Result<bool, MalformedCertificate> {
        let (own, facts) = (self.certificate.facts()?, certificate.facts()?);
        Ok(!facts.is_ca
            && facts.issuer == own.subject
            && certificate.is_signed_by(self.key.node_id()))
    }

    /// Issues a certificate for a node, of which only the public key is needed.
    ///
    /// # Errors
    ///
    /// [`IssueError`].
    pub fn issue(
        &self,
        node: NodeId,
        valid: Validity,
        roles: &[&str],
    ) -> Result<Certificate, IssueError> {
        let params = leaf(node, valid, roles)?;
        let spki = [&SPKI_PREFIX[..], node.as_bytes()].concat();
        let spki = SubjectPublicKeyInfo::from_der(&spki)?;
        let issued = params.signed_by(&spki, &self.issuer()?)?;
        Ok(Certificate::from_der(issued.der().to_vec())?)
    }

    /// Makes a revocation list (RFC 5280, section 5), in DER. `number` has to grow with each.
    ///
    /// # Errors
    ///
    /// [`IssueError`].
    pub fn revocation_list(
        &self,
        revoked: &[Revocation],
        number: u64,
        valid: Validity,
    ) -> Result<Vec<u8>, IssueError> {
        let (this_update, next_update) = dates(valid)?;
        let entry = |revocation: &Revocation| {
            let at = Validity { not_before: revocation.at, not_after: valid.not_after };
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from(revocation.serial.clone()),
                revocation_time: dates(at)?.0,
                reason_code: None,
                invalidity_date: None,
            })
        };
        let list = CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect::<Result<_, IssueError>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer()?)?.der().to_vec())
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, IssueError> {
        let der = self.certificate.der().into();
        Ok(Issuer::from_ca_cert_der(&der, signer(&self.key)?)?)
    }
}

/// A certificate that only its node vouches for: for trust by node id and by pin.
///
/// # Errors
///
/// [`IssueError`].
pub fn self_signed(key: &Keypair, valid: Validity) -> Result<Certificate, IssueError> {
    let issued = leaf(key.node_id(), valid, &[])?.self_signed(&signer(key)?)?;
    Ok(Certificate::from_der(issued.der().to_vec())?)
}

/// A revocation list in PEM.
#[must_use]
pub fn crl_to_pem(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new(CRL_LABEL, der))
}

/// The revocation lists of a text in PEM, in DER. There is at least one.
///
/// # Errors
///
/// [`MalformedCertificate`] if one is cut off or damaged, or there is none.
pub fn crl_from_pem(text: &str) -> Result<Vec<Vec<u8>>, MalformedCertificate> {
    read_pem(text, CRL_LABEL, "revocation list")
}

fn signer(key: &Keypair) -> Result<KeyPair, IssueError> {
    let der = key.to_pkcs8_der();
    let der = PrivatePkcs8KeyDer::from(der.as_slice());
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519)?)
}

fn leaf(node: NodeId, valid: Validity, roles: &[&str]) -> Result<CertificateParams, IssueError> {
    let node = node.to_string();
    let mut params = params(&node, valid)?;
    let text = |text: String| rcgen::string::Ia5String::try_from(text);
    params.subject_alt_names = vec![SanType::DnsName(text(format!("{node}.macula"))?)];
    for role in roles {
        let role = check_name(role)?;
        params.subject_alt_names.push(SanType::URI(text(format!("{ROLE}{role}"))?));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(common_name: &str, valid: Validity) -> Result<CertificateParams, IssueError> {
    let mut serial = [0_u8; 16];
    getrandom::fill(&mut serial).map_err(|error| NoEntropy(error.to_string()))?;
    if let Some(first) = serial.first_mut() {
        // Positive, and as long for one as for another.
        *first = 0x40 | (*first & 0x3f);
    }
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common_name);
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = dates(valid)?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = subject;
    Ok(params)
}

fn dates(valid: Validity) -> Result<(OffsetDateTime, OffsetDateTime), IssueError> {
    let (from, to) = (valid.not_before.as_secs(), valid.not_after.as_secs());
    let wrong = IssueError::Validity { not_before: from, not_after: to };
    let date = |seconds: u64| {
        let seconds = i64::try_from(seconds).ok()?;
        OffsetDateTime::from_unix_timestamp(seconds).ok().filter(|date| date.year() <= 9999)
    };
    match (date(from), date(to)) {
        (Some(from), Some(to)) if from < to => Ok((from, to)),
        _ => Err(wrong),
    }
}

/// Whether a text is a name of a realm or a role: 1 to 64 letters, digits or `- _ .`.
///
/// # Errors
///
/// [`InvalidRealm`].
pub fn check_name(text: &str) -> Result<&str, InvalidRealm> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.len() > NAME_LEN_MAX || !text.chars().all(legal) {
        return Err(InvalidRealm(text.chars().take(NAME_LEN_MAX).collect()));
    }
    Ok(text)
}
