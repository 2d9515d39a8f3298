//! The judgement inside rustls: what its verifiers and resolvers ask, answered by [`Credentials`].

use std::fmt::{Debug, Display};
use std::sync::Arc;

use macula_core::identity::{Certificate, NodeId, Signature};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    ServerConfig, SignatureScheme, version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::credentials::Credentials;
use super::name::DialName;
use super::refusal::Refusal;
use crate::transport::connection::Side;

/// What rustls asks about a peer.
#[derive(Debug)]
struct Verifier {
    credentials: Credentials,
    provider: Arc<CryptoProvider>,
}

/// Shows the certificate that is current.
#[derive(Debug)]
struct Shower(Credentials);

/// The refusal as rustls passes it through.
fn passed(refusal: Refusal) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
}

/// The node whose key a peer with this chain has proved to own: no handshake ends without the proof
/// for a certificate that names a node.
pub(in crate::transport) fn proved_node(chain: &[impl AsRef<[u8]>]) -> Option<NodeId> {
    chain.first().and_then(|leaf| shown_node(leaf.as_ref()))
}

/// The node whose key a certificate is for.
fn shown_node(leaf: &[u8]) -> Option<NodeId> {
    Some(Certificate::from_der(leaf).ok()?.facts().ok()?.node_id)
}

/// A peer, as its certificate has it.
struct Shown<'a>(&'a [u8]);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match shown_node(self.0) {
            Some(node) => Display::fmt(&node, f),
            None => f.write_str("unknown"),
        }
    }
}

impl Verifier {
    fn chain<'a>(leaf: &'a CertificateDer<'_>, above: &'a [CertificateDer<'_>]) -> Vec<&'a [u8]> {
        std::iter::once(leaf).chain(above).map(AsRef::as_ref).collect()
    }

    /// Whether the peer owns the key that it has shown. That is never reported only: a node id that
    /// is not proved would be another node's. A certificate that is reported as unreadable has no
    /// such key, and its peer no proved node id.
    fn proof(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let Some(node) = shown_node(leaf) else {
            // Whatever was wrong with the certificate is counted by now.
            return match self.credentials.enforces() {
                true => Err(passed(Refusal::NoProof)),
                false => Ok(HandshakeSignatureValid::assertion()),
            };
        };
        let signature = <[u8; 64]>::try_from(signed.signature()).map(Signature::from_bytes);
        let proved = signed.scheme == SignatureScheme::ED25519
            && signature.is_ok_and(|signature| node.verify(message, &signature).is_ok());
        if !proved {
            self.credentials.refuse_always(&Refusal::NoProof, Shown(leaf));
            return Err(passed(Refusal::NoProof));
        }
        Ok(HandshakeSignatureValid::assertion())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let dial = DialName::decode(&name.to_str());
        let expected = dial.and_then(|dial| dial.expected.node());
        let judged = self.credentials.judge(Side::Dialler, expected, &Self::chain(leaf, above));
        if let Err(refusal) = judged {
            self.credentials.refuse(refusal, Shown(leaf)).map_err(|refusal| {
                if let Some(dial) = dial {
                    self.credentials.note(dial.number, refusal.clone());
                }
                passed(refusal)
            })?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.proof(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        self.credentials.enforces()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let judged = self.credentials.judge(Side::Acceptor, None, &Self::chain(leaf, above));
        if let Err(refusal) = judged {
            self.credentials.refuse(refusal, Shown(leaf)).map_err(passed)?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.proof(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ResolvesServerCert for Shower {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.shown())
    }
}

impl ResolvesClientCert for Shower {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.shown())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn verifier(credentials: &Credentials) -> (Arc<Verifier>, Arc<CryptoProvider>) {
    let provider = CryptoProvider {
        cipher_suites: vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
            TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    };
    let provider = Arc::new(provider);
    let verifier = Verifier { credentials: credentials.clone(), provider: Arc::clone(&provider) };
    (Arc::new(verifier), provider)
}

/// The dialler's half of TLS 1.3 for QUIC.
///
/// # Errors
///
/// If the library has no cipher suite for QUIC.
pub(in crate::transport) fn client_config(
    credentials: &Credentials,
) -> Result<ClientConfig, rustls::Error> {
    let (verifier, provider) = verifier(credentials);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(Shower(credentials.clone())));
    config.alpn_protocols = vec![super::ALPN.to_vec()];
    config.max_fragment_size = None;
    // A resumed session would show no certificate to judge.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// The acceptor's half.
///
/// # Errors
///
/// As [`client_config`].
pub(in crate::transport) fn server_config(
    credentials: &Credentials,
) -> Result<ServerConfig, rustls::Error> {
    let (verifier, provider) = verifier(credentials);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Shower(credentials.clone())));
    config.alpn_protocols = vec![super::ALPN.to_vec()];
    config.max_fragment_size = None;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
