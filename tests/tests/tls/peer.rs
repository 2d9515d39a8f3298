//! A bad peer: a plain QUIC endpoint that shows what it is told and believes everybody.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use macula_core::identity::NodeId;
use macula_core::wire::{Decoder, Flags, Frame, Limits, encode_frame};
use macula_infra::transport::kind;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig};
use rustls::{Error, SignatureScheme, version::TLS13};
use s2n_quic::client::Connect;
use s2n_quic::connection::Handle;
use s2n_quic::provider::limits::Limits as Limit;
use s2n_quic::provider::tls::rustls as quic_tls;
use s2n_quic::stream::ReceiveStream;
use s2n_quic::{Client, Connection, Server};
use serde::Serialize;
use tokio::task::JoinSet;

/// The longest handshake of a bad dialler.
const GIVES_UP: Duration = Duration::from_secs(2);

/// What a bad peer shows and says.
#[derive(Debug, Clone)]
pub(crate) struct Bad {
    /// Its certificates in DER, or what stands for them; no list is no certificate at all.
    pub(crate) chain: Option<Vec<Vec<u8>>>,
    /// With what it signs the handshake.
    pub(crate) key: Arc<dyn SigningKey>,
    /// Which protocols it speaks.
    pub(crate) alpn: Vec<Vec<u8>>,
    /// Who it says it is.
    pub(crate) claims: NodeId,
    /// The join token of its hello.
    pub(crate) token: Option<String>,
}

/// A hello and a welcome in one: each reader takes what it knows.
#[derive(Debug, Serialize)]
struct Hello {
    node: NodeId,
    incarnation: u64,
    listen: Vec<SocketAddr>,
    token: Option<String>,
}

/// Shows a certificate, whatever it is, and believes every other.
#[derive(Debug)]
struct Credulous {
    shown: Option<Arc<CertifiedKey>>,
}

impl Credulous {
    fn new(bad: &Bad) -> Arc<Self> {
        let shown = bad.chain.as_ref().map(|chain| {
            let chain = chain.iter().cloned().map(CertificateDer::from).collect();
            Arc::new(CertifiedKey::new(chain, Arc::clone(&bad.key)))
        });
        Arc::new(Self { shown })
    }

    fn schemes() -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

impl ResolvesClientCert for Credulous {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.shown.clone()
    }

    fn has_certs(&self) -> bool {
        self.shown.is_some()
    }
}

impl ResolvesServerCert for Credulous {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shown.clone()
    }
}

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

impl ClientCertVerifier for Credulous {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

fn client_config(bad: &Bad) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let credulous = Credulous::new(bad);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Credulous>::clone(&credulous))
        .with_client_cert_resolver(credulous);
    config.alpn_protocols.clone_from(&bad.alpn);
    config
}

fn server_config(bad: &Bad) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let credulous = Credulous::new(bad);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::<Credulous>::clone(&credulous))
        .with_cert_resolver(credulous);
    config.alpn_protocols.clone_from(&bad.alpn);
    config
}

/// The first bytes of the control lane, hello or welcome.
fn hello(bad: &Bad, kind: macula_core::wire::Kind) -> Bytes {
    let mut bytes = BytesMut::from(&[0_u8][..]);
    let hello =
        Hello { node: bad.claims, incarnation: 1, listen: Vec::new(), token: bad.token.clone() };
    encode_frame(&mut bytes, kind, Flags::default(), 0, &hello, &Limits::default()).unwrap();
    bytes.freeze()
}

/// What came of a bad dialler.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was welcomed, and this keeps the connection.
    Welcomed(Handle),
    /// It was told why not, or not even that.
    Refused(String),
}

/// Dials a good acceptor, says hello, and sends a call at once. The client has to outlive what
/// comes of it.
pub(crate) async fn dial(bad: &Bad, address: SocketAddr) -> (Client, Outcome) {
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let tls = quic_tls::Client::from(client_config(bad));
    // A peer that is refused at its first word is not told, so it has to give up by itself.
    let limits = Limit::new().with_max_handshake_duration(GIVES_UP).unwrap();
    let client = Client::builder().with_tls(tls).unwrap().with_limits(limits).unwrap();
    let client = client.with_io(any).unwrap().start().unwrap();
    let outcome = greet(bad, &client, address).await;
    (client, outcome.unwrap_or_else(Outcome::Refused))
}

async fn greet(bad: &Bad, client: &Client, address: SocketAddr) -> Result<Outcome, String> {
    let connect = Connect::new(address).with_server_name("d0.any.macula");
    let connection = client.connect(connect).await.map_err(|error| format!("{error:?}"))?;
    let (mut handle, mut streams) = connection.split();
    let mut sent = Vec::new();
    for bytes in [hello(bad, kind::HELLO), Bytes::from_static(b"\x01a call that nobody may hear")] {
        let mut stream = handle.open_send_stream().await.map_err(|error| format!("{error:?}"))?;
        stream.send(bytes).await.map_err(|error| format!("{error:?}"))?;
        sent.push(stream);
    }
    let stream = streams.accept_receive_stream().await.map_err(|error| format!("{error:?}"))?;
    let frame = frame(&mut stream.ok_or("no stream")?).await?;
    if frame.kind == kind::WELCOME {
        return Ok(Outcome::Welcomed(handle));
    }
    // The good one closes, and then there is nothing more.
    match streams.accept_receive_stream().await {
        Ok(more) => Err(format!("turned away, and then {:?}", more.is_some())),
        Err(error) => Err(format!("turned away: {error:?}")),
    }
}

async fn frame(stream: &mut ReceiveStream) -> Result<Frame, String> {
    let mut decoder = Decoder::new(Limits::default());
    let mut first = true;
    loop {
        let chunk = stream.receive().await.map_err(|error| format!("{error:?}"))?;
        let mut chunk = chunk.ok_or("the lane has ended")?;
        if first && !chunk.is_empty() {
            first = false;
            chunk = chunk.slice(1..);
        }
        decoder.push(chunk);
        if let Some(frame) = decoder.next_frame().map_err(|error| error.to_string())? {
            return Ok(frame);
        }
    }
}

/// A bad acceptor. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub(crate) address: SocketAddr,
    heard: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Acceptor {
    pub(crate) fn start(bad: &Bad) -> Self {
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let tls = quic_tls::Server::from(server_config(bad));
        let server = Server::builder().with_tls(tls).unwrap().with_io(any).unwrap();
        let mut server = server.start().unwrap();
        let address = server.local_addr().unwrap();
        let heard = Arc::new(AtomicUsize::new(0));
        let (bad, counter, mut task) = (bad.clone(), Arc::clone(&heard), JoinSet::new());
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Some(connection) = server.accept().await {
                connections.spawn(welcome(bad.clone(), connection, Arc::clone(&counter)));
            }
        });
        Self { address, heard, _task: task }
    }

    /// How many bytes it has heard on streams.
    pub(crate) fn heard(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }
}

/// Welcomes whoever comes, and listens.
async fn welcome(bad: Bad, connection: Connection, heard: Arc<AtomicUsize>) {
    let (mut handle, mut streams) = connection.split();
    let Ok(mut out) = handle.open_send_stream().await else { return };
    out.send(hello(&bad, kind::WELCOME)).await.ok();
    let mut readers = JoinSet::new();
    while let Ok(Some(mut stream)) = streams.accept_receive_stream().await {
        let heard = Arc::clone(&heard);
        readers.spawn(async move {
            while let Ok(Some(chunk)) = stream.receive().await {
                heard.fetch_add(chunk.len(), Ordering::SeqCst);
            }
        });
    }
}
