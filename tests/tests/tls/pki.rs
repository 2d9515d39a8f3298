//! Certificates of every kind, made without the project's own issuer, and the good node's trust.

use std::sync::Arc;
use std::time::Duration;

use macula_core::identity::{Authority, Keypair, NodeId, Validity};
use macula_infra::transport::tls::{Realm, Trust};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, PublicKeyData, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::SigningKey;
use time::OffsetDateTime;

/// What time the good nodes believe it to be, in seconds since the Unix epoch.
pub(crate) const NOW_S: u64 = 1_800_000_000;

pub(crate) const NOW: Duration = Duration::from_secs(NOW_S);

/// The serial number of certificates that a case takes back.
pub(crate) const SERIAL: u64 = 0x77;

/// The bad peer's own seed; whatever it shows, this is who it says it is.
pub(crate) const BAD: u8 = 2;

pub(crate) fn key(seed: u8) -> Keypair {
    Keypair::from_seed([seed; 32])
}

pub(crate) fn node(seed: u8) -> NodeId {
    key(seed).node_id()
}

pub(crate) fn date(seconds: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap()
}

/// The realm `home` of good nodes.
pub(crate) fn authority() -> Authority {
    named_authority("home", 99)
}

/// A realm with a name and a key.
pub(crate) fn named_authority(name: &str, seed: u8) -> Authority {
    let valid = Validity::from_now(NOW, Duration::from_secs(864_000));
    Authority::with_key(name, key(seed), valid).unwrap()
}

/// Trust in the realm `home`.
pub(crate) fn realm(revocation_lists: Vec<Vec<u8>>) -> Realm {
    Realm { authorities: vec![authority().certificate().clone()], revocation_lists }
}

pub(crate) fn trust() -> Trust {
    Trust::Realm(realm(Vec::new()))
}

/// The key of a seed as the certificate library has it.
pub(crate) fn pair(seed: u8) -> KeyPair {
    let der = key(seed).to_pkcs8_der();
    let der = PrivatePkcs8KeyDer::from(der.as_slice());
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).unwrap()
}

/// The key of a seed as the TLS library has it.
pub(crate) fn signing(seed: u8) -> Arc<dyn SigningKey> {
    signing_der(key(seed).to_pkcs8_der().to_vec())
}

pub(crate) fn signing_der(pkcs8: Vec<u8>) -> Arc<dyn SigningKey> {
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
    rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).unwrap()
}

/// Who issues with the key of an authority.
pub(crate) fn issuer(authority: &Authority, seed: u8) -> Issuer<'static, KeyPair> {
    Issuer::from_ca_cert_der(&authority.certificate().der().into(), pair(seed)).unwrap()
}

/// The issuer of the realm `home`.
pub(crate) fn home() -> Issuer<'static, KeyPair> {
    issuer(&authority(), 99)
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date(NOW_S - 600);
    params.not_after = date(NOW_S + 86_400);
    params
}

/// What a good node's certificate says; a case then spoils it.
pub(crate) fn leaf(node: NodeId) -> CertificateParams {
    let mut params = named(&node.to_string());
    params.serial_number = Some(SerialNumber::from(SERIAL));
    let name = format!("{node}.macula").try_into().unwrap();
    params.subject_alt_names = vec![SanType::DnsName(name)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

/// What an authority's certificate says.
pub(crate) fn ca(common_name: &str, constraint: BasicConstraints) -> CertificateParams {
    let mut params = named(common_name);
    params.is_ca = IsCa::Ca(constraint);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Issues, and gives the DER.
pub(crate) fn signed(
    params: &CertificateParams,
    public: &impl PublicKeyData,
    by: &Issuer<'_, KeyPair>,
) -> Vec<u8> {
    params.signed_by(public, by).unwrap().der().to_vec()
}

/// The bad peer's certificate, spoiled and then issued by the realm `home`.
pub(crate) fn issued(spoil: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = leaf(node(BAD));
    spoil(&mut params);
    signed(&params, &pair(BAD), &home())
}

/// An extension that nobody knows, with some bytes in it.
pub(crate) fn unknown(len: usize, critical: bool) -> CustomExtension {
    let oid = [1, 3, 6, 1, 4, 1, 55_555, 1];
    let mut extension = CustomExtension::from_oid_content(&oid, vec![5; len]);
    extension.set_criticality(critical);
    extension
}

/// A revocation list that takes these serial numbers back.
pub(crate) fn revocation(by: &Issuer<'_, KeyPair>, number: u64, serials: &[u64]) -> Vec<u8> {
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date(NOW_S - 60),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date(NOW_S - 60),
        next_update: date(NOW_S + 86_400),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(by).unwrap().der().to_vec()
}
