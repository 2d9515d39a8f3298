//! A peer that speaks no TLS 1.3: it says one hello of TLS 1.2, and nothing after that.
//!
//! No library speaks QUIC so, and the hello is written by hand (RFC 5246, section 7.4.1).

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use macula_infra::transport::tls::Enforcement;
use macula_infra::transport::{Config, DialError};
use s2n_codec::EncoderValue;
use s2n_quic::client::Connect;
use s2n_quic::provider::limits::Limits;
use s2n_quic::provider::tls::{Provider, rustls as quic_tls};
use s2n_quic::{Client, Server};
use s2n_quic_core::application::ServerName;
use s2n_quic_core::crypto::CryptoSuite;
use s2n_quic_core::crypto::tls::{ConnectionInfo, Context, Endpoint, Session};
use tokio::task::JoinSet;

use crate::matrix::Good;
use crate::pki;

/// The session whose keys are of the right types.
type Real = <quic_tls::Client as Endpoint>::Session;

#[derive(Debug, Clone, Copy)]
struct Old;

#[derive(Debug)]
struct Hello {
    dials: bool,
    said: bool,
}

impl CryptoSuite for Hello {
    type HandshakeKey = <Real as CryptoSuite>::HandshakeKey;
    type HandshakeHeaderKey = <Real as CryptoSuite>::HandshakeHeaderKey;
    type InitialKey = <Real as CryptoSuite>::InitialKey;
    type InitialHeaderKey = <Real as CryptoSuite>::InitialHeaderKey;
    type OneRttKey = <Real as CryptoSuite>::OneRttKey;
    type OneRttHeaderKey = <Real as CryptoSuite>::OneRttHeaderKey;
    type ZeroRttKey = <Real as CryptoSuite>::ZeroRttKey;
    type ZeroRttHeaderKey = <Real as CryptoSuite>::ZeroRttHeaderKey;
    type RetryKey = <Real as CryptoSuite>::RetryKey;
}

/// A handshake message: its type, its length and its body.
fn message(kind: u8, body: &[&[u8]]) -> Bytes {
    let body = body.concat();
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    let [_, high, middle, low] = len;
    [&[kind, high, middle, low][..], &body].concat().into()
}

impl Hello {
    /// A `ClientHello` of TLS 1.2 with one suite, and the `ServerHello` that answers it.
    fn bytes(&self) -> Bytes {
        let (version, random, session) = ([3, 3], [7; 32], [0]);
        let suite = [0xc0, 0x2b];
        if !self.dials {
            return message(2, &[&version, &random, &session, &[0x13, 0x01], &[0]]);
        }
        let groups = [0, 10, 0, 4, 0, 2, 0, 0x1d];
        let schemes = [0, 13, 0, 4, 0, 2, 8, 7];
        let alpn = [&[0, 16, 0, 11, 0, 9, 8][..], b"macula/1"].concat();
        let extensions = [&groups[..], &schemes, &alpn].concat();
        let len = u16::try_from(extensions.len()).unwrap().to_be_bytes();
        message(1, &[&version, &random, &session, &[0, 2], &suite, &[1, 0], &len, &extensions])
    }
}

impl Session for Hello {
    fn poll<C: Context<Self>>(
        &mut self,
        context: &mut C,
    ) -> Poll<Result<(), s2n_quic_core::transport::Error>> {
        let heard = context.receive_initial(None).is_some();
        if !self.said && (self.dials || heard) && context.can_send_initial() {
            self.said = true;
            context.send_initial(self.bytes());
        }
        Poll::Pending
    }
}

impl Endpoint for Old {
    type Session = Hello;

    fn new_server_session<P: EncoderValue>(&mut self, _: &P, _: ConnectionInfo) -> Hello {
        Hello { dials: false, said: false }
    }

    fn new_client_session<P: EncoderValue>(&mut self, _: &P, _: ServerName) -> Hello {
        Hello { dials: true, said: false }
    }

    fn max_tag_length(&self) -> usize {
        16
    }
}

impl Provider for Old {
    type Server = Self;
    type Client = Self;
    type Error = Infallible;

    fn start_server(self) -> Result<Self, Infallible> {
        Ok(self)
    }

    fn start_client(self) -> Result<Self, Infallible> {
        Ok(self)
    }
}

const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

#[tokio::test(flavor = "multi_thread")]
async fn a_dialler_of_an_older_tls_is_refused_whatever_is_enforced() {
    for enforcement in [Enforcement::Enforce, Enforcement::Report] {
        let mut good = Good::start(pki::trust(), enforcement).await;
        let address = good.endpoint.listening().first().copied().unwrap();
        let limits = Limits::new().with_max_handshake_duration(Duration::from_secs(2)).unwrap();
        let client = Client::builder().with_tls(Old).unwrap().with_limits(limits).unwrap();
        let client = client.with_io(SocketAddr::from(ANY)).unwrap().start().unwrap();
        let connect = Connect::new(address).with_server_name("d0.any.macula");
        let made = client.connect(connect).await;
        assert!(made.is_err(), "{made:?}");
        good.until_refused("wrong_version").await;
        assert!(good.arrivals.try_recv().is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acceptor_of_an_older_tls_is_refused_whatever_is_enforced() {
    for enforcement in [Enforcement::Enforce, Enforcement::Report] {
        let server = Server::builder().with_tls(Old).unwrap();
        let mut server = server.with_io(SocketAddr::from(ANY)).unwrap().start().unwrap();
        let address = server.local_addr().unwrap();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move { while server.accept().await.is_some() {} });
        let good = Good::with(Config::default(), 1, pki::trust(), enforcement).await;
        let made = good.endpoint.dial(address, Some(pki::node(2))).await;
        let refused = matches!(&made, Err(DialError::Refused { refusal, .. })
            if refusal.kind() == "wrong_version");
        assert!(refused, "{made:?}");
        good.until_refused("wrong_version").await;
    }
}
