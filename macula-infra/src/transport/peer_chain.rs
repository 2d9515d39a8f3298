//! What the QUIC library's events tell: the peer's certificates, and why handshakes failed.

use std::sync::Arc;

use s2n_quic::provider::event::events::{ConnectionClosed, TlsExporterReady};
use s2n_quic::provider::event::{ConnectionInfo, ConnectionMeta, Location, Subscriber};

use super::tls::{Credentials, Refusal};

/// The first code of TLS alerts among QUIC's error codes (RFC 9001, section 4.8).
pub(super) const ALERT_BASE: u64 = 0x100;

const PROTOCOL_VERSION: u64 = ALERT_BASE + 70;
const CERTIFICATE_REQUIRED: u64 = ALERT_BASE + 116;
const NO_APPLICATION_PROTOCOL: u64 = ALERT_BASE + 120;

/// Hears of handshakes.
#[derive(Debug)]
pub(super) struct Ear(pub(super) Credentials);

/// What is known of one connection: the chain that its peer showed, once it has.
#[derive(Debug, Default)]
pub(super) struct Heard(pub(super) Option<Arc<[Vec<u8>]>>);

impl Subscriber for Ear {
    type ConnectionContext = Heard;

    fn create_connection_context(&mut self, _: &ConnectionMeta, _: &ConnectionInfo<'_>) -> Heard {
        Heard::default()
    }

    fn on_tls_exporter_ready(
        &mut self,
        heard: &mut Heard,
        _meta: &ConnectionMeta,
        event: &TlsExporterReady<'_>,
    ) {
        heard.0 = Some(event.session.peer_cert_chain_der().unwrap_or_default().into());
    }

    fn on_connection_closed(
        &mut self,
        _heard: &mut Heard,
        _meta: &ConnectionMeta,
        event: &ConnectionClosed,
    ) {
        // The TLS library asks nobody about these three; the rest its verifiers have counted.
        let s2n_quic::connection::Error::Transport { code, initiator, .. } = event.error else {
            return;
        };
        if initiator != Location::Local {
            return;
        }
        let refusal = match code.as_u64() {
            CERTIFICATE_REQUIRED => Refusal::NoCertificate,
            NO_APPLICATION_PROTOCOL => Refusal::WrongProtocol,
            PROTOCOL_VERSION => Refusal::WrongVersion,
            _ => return,
        };
        self.0.refuse_always(&refusal);
    }
}
