//! What the QUIC library's events tell: the peer's certificates, and why handshakes failed.

use std::net::SocketAddr;
use std::sync::Arc;

use s2n_quic::connection::Error as QuicError;
use s2n_quic::provider::event::events::{
    ConnectionClosed, ConnectionStarted, EndpointType, SocketAddress, TlsExporterReady,
};
use s2n_quic::provider::event::{ConnectionInfo, ConnectionMeta, Location, Subscriber};

use super::admission::{Census, Unfinished};
use super::tls::{Credentials, Refusal};

/// The first code of TLS alerts among QUIC's error codes (RFC 9001, section 4.8).
pub(super) const ALERT_BASE: u64 = 0x100;

const CERTIFICATE_UNKNOWN: u64 = ALERT_BASE + 46;
const PROTOCOL_VERSION: u64 = ALERT_BASE + 70;
const CERTIFICATE_REQUIRED: u64 = ALERT_BASE + 116;
const NO_APPLICATION_PROTOCOL: u64 = ALERT_BASE + 120;

/// All that a dialler's TLS library says where an acceptor shows an empty list of certificates.
const INTERNAL_ERROR: u64 = ALERT_BASE + 80;

/// Why this side's TLS library has refused the peer, if it did so without asking its verifiers.
fn refused_unasked(error: &QuicError, dials: bool) -> Option<Refusal> {
    let QuicError::Transport { code, initiator: Location::Local, .. } = error else {
        return None;
    };
    match code.as_u64() {
        CERTIFICATE_REQUIRED => Some(Refusal::NoCertificate),
        NO_APPLICATION_PROTOCOL => Some(Refusal::WrongProtocol),
        PROTOCOL_VERSION => Some(Refusal::WrongVersion),
        INTERNAL_ERROR if dials => Some(Refusal::NoCertificate),
        _ => None,
    }
}

/// Why this dialler's TLS library has refused the peer. A verifier that is asked about the proof of a
/// key is not told of which dial, so this is what is left if it has made no note of the dial.
pub(super) fn refused_here(error: &QuicError) -> Option<Refusal> {
    let unasked = refused_unasked(error, true);
    unasked.or_else(|| match error {
        QuicError::Transport { code, initiator: Location::Local, .. }
            if code.as_u64() == CERTIFICATE_UNKNOWN =>
        {
            Some(Refusal::NoProof)
        }
        _ => None,
    })
}

/// Hears of handshakes, and counts those that peers begin.
#[derive(Debug)]
pub(super) struct Ear(pub(super) Credentials, pub(super) Option<Census>);

/// What is known of one connection.
#[derive(Debug)]
pub(super) struct Heard {
    /// The chain that its peer showed, once it has.
    pub(super) chain: Option<Arc<[Vec<u8>]>>,
    /// Where the peer was at first.
    address: Option<SocketAddr>,
    /// The place of its handshake among those that are under way.
    unfinished: Option<Unfinished>,
}

impl Subscriber for Ear {
    type ConnectionContext = Heard;

    fn create_connection_context(&mut self, _: &ConnectionMeta, _: &ConnectionInfo<'_>) -> Heard {
        let unfinished = self.1.as_ref().map(Census::begin);
        Heard { chain: None, address: None, unfinished }
    }

    fn on_connection_started(
        &mut self,
        heard: &mut Heard,
        _meta: &ConnectionMeta,
        event: &ConnectionStarted<'_>,
    ) {
        heard.address = match event.path.remote_addr {
            SocketAddress::IpV4 { ip, port, .. } => Some((*ip, port).into()),
            SocketAddress::IpV6 { ip, port, .. } => Some((*ip, port).into()),
            _ => None,
        };
    }

    fn on_tls_exporter_ready(
        &mut self,
        heard: &mut Heard,
        _meta: &ConnectionMeta,
        event: &TlsExporterReady<'_>,
    ) {
        heard.unfinished = None;
        heard.chain = Some(event.session.peer_cert_chain_der().unwrap_or_default().into());
    }

    fn on_connection_closed(
        &mut self,
        heard: &mut Heard,
        meta: &ConnectionMeta,
        event: &ConnectionClosed,
    ) {
        // The verifiers have counted what they were asked about.
        let dials = matches!(meta.endpoint_type, EndpointType::Client { .. });
        if let Some(refusal) = refused_unasked(&event.error, dials) {
            let address = heard.address.map_or_else(|| "unknown".to_owned(), |at| at.to_string());
            self.0.refuse_always(&refusal, address);
        }
    }
}
