//! Revocation lists (RFC 5280, section 5), before they are put to use: each has to be whole, of an
//! authority of the realm, and no older than the one that it replaces.

use rustls_pki_types::CertificateDer;
use x509_parser::num_bigint::BigUint;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::judge::algorithms;
use super::trust::Realm;

/// Why revocation lists cannot be used. What was in use before still is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnusableList {
    /// It is no revocation list.
    #[error("revocation list {index} is none: {why}")]
    Malformed {
        /// Which of them, counted from one.
        index: usize,
        /// What is wrong with it.
        why: String,
    },
    /// None of the realm's authorities has signed it.
    #[error("revocation list {index}, of {issuer}, was signed by none of the realm's authorities")]
    Foreign {
        /// Which of them, counted from one.
        index: usize,
        /// Who has issued it, as it says.
        issuer: String,
    },
    /// What was taken back would be believed again.
    #[error(
        "the revocation list of {issuer} in use has number {in_use}, and {}: what was revoked \
         since would be believed again",
        .found.as_ref().map_or_else(|| "there is none any more".to_owned(),
                                    |number| format!("this one has {number}"))
    )]
    Older {
        /// Whose list it is.
        issuer: String,
        /// The number of the list in use.
        in_use: String,
        /// The number of the one that was to replace it, if there is one.
        found: Option<String>,
    },
}

/// Whether each list can be used.
pub(super) fn check(realm: &Realm) -> Result<(), UnusableList> {
    for (index, der) in (1..).zip(&realm.revocation_lists) {
        let malformed = |why: String| UnusableList::Malformed { index, why };
        let list = match CertificateRevocationList::from_der(der) {
            Ok(([], list)) => list,
            Ok((rest, _)) => return Err(malformed(format!("{} bytes follow it", rest.len()))),
            Err(error) => return Err(malformed(error.to_string())),
        };
        if !realm.authorities.iter().any(|held| has_signed(&held.der().into(), der)) {
            return Err(UnusableList::Foreign { index, issuer: list.issuer().to_string() });
        }
        webpki::BorrowedCertRevocationList::from_der(der)
            .map_err(|error| malformed(error.to_string()))?;
    }
    Ok(())
}

/// Whether a realm forgets nothing of what another has taken back. Authorities that it does not
/// believe any more take nothing back.
pub(super) fn forgets_nothing(of: &Realm, instead: &Realm) -> Result<(), UnusableList> {
    for authority in &instead.authorities {
        let Some((number, issuer)) = newest(of, authority.der()) else { continue };
        let found = newest(instead, authority.der()).map(|(number, _)| number);
        if found.as_ref().is_none_or(|found| *found < number) {
            let (in_use, found) = (number.to_string(), found.map(|found| found.to_string()));
            return Err(UnusableList::Older { issuer, in_use, found });
        }
    }
    Ok(())
}

/// The highest number of an authority's lists, and the authority's name.
fn newest(realm: &Realm, authority: &[u8]) -> Option<(BigUint, String)> {
    let signed = realm.revocation_lists.iter().filter(|der| has_signed(&authority.into(), der));
    let numbered = signed.filter_map(|der| {
        let (_rest, list) = CertificateRevocationList::from_der(der).ok()?;
        Some((list.crl_number().cloned().unwrap_or_default(), list.issuer().to_string()))
    });
    numbered.max()
}

/// Whether an authority has signed a revocation list.
pub(super) fn has_signed(authority: &CertificateDer<'_>, list: &[u8]) -> bool {
    let (Ok((_, authority)), Ok((_, list))) =
        (X509Certificate::from_der(authority), CertificateRevocationList::from_der(list))
    else {
        return false;
    };
    let key = &authority.public_key().subject_public_key.data;
    let (message, signature) = (list.tbs_cert_list.as_ref(), &list.signature_value.data);
    authority.subject() == list.issuer()
        && algorithms().iter().any(|by| by.verify_signature(key, message, signature).is_ok())
}
