//! The judgement of a certificate chain: pure, told the time.

use std::time::Duration;

use macula_core::identity::{Certificate, Facts, MalformedCertificate, NodeId};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, KeyUsage, RevocationCheckDepth,
    RevocationOptions, RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::lists::has_signed;
use super::name::Expectation;
use super::refusal::Refusal;
use super::trust::{Realm, Trust};
use crate::transport::connection::Side;

/// How many certificates of a chain are looked at.
const CHAIN_LEN_MAX: usize = 4;

/// How many bytes of a chain are looked at.
const CHAIN_BYTES_MAX: usize = 16 * 1024;

/// A peer that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Who it is: its key.
    pub node: NodeId,
    /// Until when its certificate holds, since the Unix epoch.
    pub not_after: Duration,
    /// The roles that the realm's authority gave it. Without a realm nobody has any: whoever makes
    /// its own certificate would give itself whichever it likes.
    pub roles: Vec<String>,
    /// The name of that authority, as its certificates have it; empty if the node vouches for itself.
    pub realm: String,
    /// Whether its hello has to show a join token.
    pub token_due: bool,
}

/// Judges what a peer has shown, its own certificate first, at the time `now` since the Unix epoch.
///
/// `judging` is the side that judges: a dialler expects somebody, an acceptor whoever is trusted.
///
/// # Errors
///
/// The first [`Refusal`] that applies.
pub fn judge(
    trust: &Trust,
    judging: Side,
    expected: Option<NodeId>,
    chain: &[impl AsRef<[u8]>],
    now: Duration,
) -> Result<Judged, Refusal> {
    let (leaf, above) = chain.split_first().ok_or(Refusal::NoCertificate)?;
    cap(chain.len(), "certificates", CHAIN_LEN_MAX)?;
    let bytes = chain.iter().map(|der| der.as_ref().len()).sum();
    cap(bytes, "bytes", CHAIN_BYTES_MAX)?;
    let certificate = Certificate::from_der(leaf.as_ref().to_vec())
        .map_err(|error| Refusal::Malformed(error.to_string()))?;
    let facts = certificate.facts().map_err(|error| match error {
        MalformedCertificate::WrongKeyType { .. } => Refusal::WrongKeyType,
        error => Refusal::Malformed(error.to_string()),
    })?;
    if facts.is_ca {
        return Err(Refusal::Authority);
    }
    in_time(&facts, now)?;
    if !facts.may_sign {
        return Err(Refusal::WrongKeyUsage("digital signatures"));
    }
    let mut token_due = false;
    match trust {
        Trust::Realm(realm) => issued(realm, judging, leaf.as_ref(), above, (&facts, now))?,
        Trust::Pin { pins, realm } => {
            let pin = certificate.spki_sha256().map_err(|e| Refusal::Malformed(e.to_string()))?;
            if !pins.contains(&pin) {
                return Err(Refusal::NotPinned);
            }
            if let Some(realm) = realm {
                issued(realm, judging, leaf.as_ref(), above, (&facts, now))?;
            }
        }
        Trust::NodeId { allow, token } => match judging {
            Side::Dialler if expected.is_none() => return Err(Refusal::Anonymous),
            Side::Dialler => {}
            Side::Acceptor if allow.contains(&facts.node_id) => {}
            Side::Acceptor if token.is_some() => token_due = true,
            Side::Acceptor => return Err(Refusal::NotAllowed(facts.node_id)),
        },
    }
    let found = facts.node_id;
    match expected {
        Some(expected) if expected != found => Err(Refusal::WrongNode { expected, found }),
        Some(_) | None => Ok(Judged {
            node: found,
            not_after: facts.validity.not_after,
            roles: if trust.realm().is_some() { facts.roles } else { Vec::new() },
            realm: if facts.issuer == facts.subject { String::new() } else { facts.issuer },
            token_due,
        }),
    }
}

/// Judges a node's own certificate as its realm's members will. Trust without a realm says nothing
/// of it.
///
/// # Errors
///
/// The first [`Refusal`] that applies.
pub(super) fn judge_own(
    trust: &Trust,
    chain: &[impl AsRef<[u8]>],
    now: Duration,
) -> Result<(), Refusal> {
    let Some(realm) = trust.realm() else { return Ok(()) };
    judge(&Trust::Realm(realm.clone()), Side::Acceptor, None, chain, now).map(drop)
}

impl Expectation {
    pub(in crate::transport) const fn node(self) -> Option<NodeId> {
        match self {
            Self::Node(node) => Some(node),
            Self::Anybody => None,
        }
    }
}

const fn cap(len: usize, unit: &'static str, max: usize) -> Result<(), Refusal> {
    if len > max { Err(Refusal::TooLong { len, unit, max }) } else { Ok(()) }
}

fn in_time(facts: &Facts, now: Duration) -> Result<(), Refusal> {
    let (begin, end) = (facts.validity.not_before, facts.validity.not_after);
    if now < begin {
        return Err(Refusal::NotYetValid { not_before: begin.as_secs(), now: now.as_secs() });
    }
    if now > end {
        return Err(Refusal::Expired { not_after: end.as_secs(), now: now.as_secs() });
    }
    Ok(())
}

/// Whether an authority of the realm has issued it, for this use, and has not taken it back.
fn issued(
    realm: &Realm,
    judging: Side,
    leaf: &[u8],
    above: &[impl AsRef<[u8]>],
    (facts, now): (&Facts, Duration),
) -> Result<(), Refusal> {
    let leaf = CertificateDer::from(leaf);
    let above: Vec<CertificateDer<'_>> =
        above.iter().map(|der| CertificateDer::from(der.as_ref())).collect();
    let authorities: Vec<CertificateDer<'_>> =
        realm.authorities.iter().map(|held| CertificateDer::from(held.der())).collect();
    let anchors: Vec<TrustAnchor<'_>> =
        authorities.iter().filter_map(|der| webpki::anchor_from_trusted_cert(der).ok()).collect();
    let usage = match judging {
        Side::Dialler => KeyUsage::server_auth(),
        Side::Acceptor => KeyUsage::client_auth(),
    };
    let parsed = EndEntityCert::try_from(&leaf).map_err(|error| refused(&error, facts))?;
    let verify = |revocation: Option<RevocationOptions<'_>>| {
        let verified = parsed.verify_for_usage(
            algorithms(),
            &anchors,
            &above,
            UnixTime::since_unix_epoch(now),
            usage,
            revocation,
            Some(&|path| within_length(path, &authorities)),
        );
        verified.map(|_path| ())
    };
    verify(None).map_err(|error| refused(&error, facts))?;
    // The library looks at one list of an issuer only, so each list is asked alone.
    for der in &realm.revocation_lists {
        let list = BorrowedCertRevocationList::from_der(der).map(CertRevocationList::from);
        let list = list.map_err(|error| Refusal::RevocationList(error.to_string()))?;
        let list = [&list];
        let options = RevocationOptionsBuilder::new(&list).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::EndEntity)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .build()
        });
        match verify(options) {
            // A list of an authority with the same name and another key says nothing of this one.
            Err(webpki::Error::InvalidCrlSignatureForPublicKey)
                if authorities.iter().any(|held| has_signed(held, der)) => {}
            verified => verified.map_err(|error| refused(&error, facts))?,
        }
    }
    if facts.common_name != facts.node_id.to_string() {
        return Err(Refusal::NameMismatch);
    }
    Ok(())
}

pub(super) fn algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all
}

/// Whether an authority allows as many others below it. The library asks only those in between.
fn within_length(
    path: &VerifiedPath<'_>,
    authorities: &[CertificateDer<'_>],
) -> Result<(), webpki::Error> {
    let between = path.intermediate_certificates().count();
    if between == 0 {
        return Ok(());
    }
    let anchor = path.anchor();
    let allows = |der: &CertificateDer<'_>| {
        let same = webpki::anchor_from_trusted_cert(der).is_ok_and(|held| held == *anchor);
        let parsed = X509Certificate::from_der(der).ok().filter(|_parsed| same);
        parsed.is_some_and(|(_rest, parsed)| {
            let constraints = parsed.basic_constraints().ok().flatten();
            let max = constraints.and_then(|found| found.value.path_len_constraint);
            max.is_none_or(|max| u32::try_from(between).is_ok_and(|between| between <= max))
        })
    };
    match authorities.iter().any(allows) {
        true => Ok(()),
        false => Err(webpki::Error::PathLenConstraintViolated),
    }
}

/// What an error of the chain's verification means here.
fn refused(error: &webpki::Error, facts: &Facts) -> Refusal {
    use webpki::Error as E;
    match error {
        E::UnknownIssuer if facts.issuer == facts.subject => Refusal::SelfSigned,
        E::UnknownIssuer => Refusal::UnknownIssuer,
        E::CertExpired { time, not_after } => {
            Refusal::Expired { not_after: not_after.as_secs(), now: time.as_secs() }
        }
        E::CertNotValidYet { time, not_before } => {
            Refusal::NotYetValid { not_before: not_before.as_secs(), now: time.as_secs() }
        }
        E::CertRevoked => Refusal::Revoked,
        E::CaUsedAsEndEntity => Refusal::Authority,
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => {
            Refusal::WrongKeyUsage("this side of a connection")
        }
        E::InvalidSignatureForPublicKey | E::SignatureAlgorithmMismatch => Refusal::BadSignature,
        E::UnsupportedCriticalExtension => Refusal::UnknownCritical,
        E::InvalidCrlSignatureForPublicKey
        | E::CrlExpired { .. }
        | E::IssuerNotCrlSigner
        | E::UnsupportedCrlVersion => Refusal::RevocationList(error.to_string()),
        E::PathLenConstraintViolated
        | E::EndEntityUsedAsCa
        | E::NameConstraintViolation
        | E::MaximumPathDepthExceeded
        | E::MaximumSignatureChecksExceeded
        | E::MaximumPathBuildCallsExceeded => Refusal::Constraint(error.to_string()),
        other => Refusal::Malformed(other.to_string()),
    }
}
