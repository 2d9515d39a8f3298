//! The QUIC library alone, as the baseline of benches: verified as the endpoint is, with nothing
//! of ours above.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use s2n_quic::client::Connect;
use s2n_quic::connection::Handle;
use s2n_quic::provider::tls::rustls as quic_tls;
use s2n_quic::stream::BidirectionalStream;
use s2n_quic::{Client, Connection, Server};
use tokio::task::JoinSet;

use super::tls::{Credentials, DialName, Expectation, client_config, server_config};

/// Anything that goes wrong in a baseline, in words.
#[derive(Debug, thiserror::Error)]
#[error("raw QUIC: {0}")]
#[expect(clippy::module_name_repetitions, reason = "it is used by its name alone")]
pub struct RawError(String);

fn wrong(error: impl std::fmt::Display) -> RawError {
    RawError(error.to_string())
}

/// Two plain endpoints and a connection between them. The server answers each message with itself.
#[derive(Debug)]
pub struct Pair {
    client: Client,
    address: SocketAddr,
    connection: Connection,
    _server: JoinSet<()>,
}

impl Pair {
    /// Makes it, on the loopback interface.
    ///
    /// # Errors
    ///
    /// [`RawError`].
    pub async fn connect(server: &Credentials, client: &Credentials) -> Result<Self, RawError> {
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let tls = server_config(server).map_err(wrong)?;
        let server = Server::builder().with_tls(quic_tls::Server::from(tls)).map_err(wrong)?;
        let mut server = server.with_io(any).map_err(wrong)?.start().map_err(wrong)?;
        let address = server.local_addr().map_err(wrong)?;
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Some(connection) = server.accept().await {
                connections.spawn(echo(connection));
            }
        });
        let tls = client_config(client).map_err(wrong)?;
        let client = Client::builder().with_tls(quic_tls::Client::from(tls)).map_err(wrong)?;
        let client = client.with_io(any).map_err(wrong)?.start().map_err(wrong)?;
        let connection = dial(&client, address).await?;
        Ok(Self { client, address, connection, _server: serving })
    }

    /// Sends messages of `len` bytes to and fro on one stream, and gives the time of each.
    ///
    /// # Errors
    ///
    /// [`RawError`].
    pub async fn ping_pong(
        &mut self,
        rounds: usize,
        len: usize,
    ) -> Result<Vec<Duration>, RawError> {
        let mut stream = self.connection.open_bidirectional_stream().await.map_err(wrong)?;
        let message = Bytes::from(vec![7_u8; len]);
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let begin = TokioClock.now();
            stream.send(message.clone()).await.map_err(wrong)?;
            receive(&mut stream, len).await?;
            times.push(begin.elapsed_by(TokioClock.now()));
        }
        stream.finish().map_err(wrong)?;
        Ok(times)
    }

    /// A stream for each request, from `callers` tasks at one time; gives the time for all.
    ///
    /// # Errors
    ///
    /// [`RawError`].
    pub async fn stream_per_request(
        &self,
        callers: usize,
        each: usize,
        len: usize,
    ) -> Result<Duration, RawError> {
        let begin = TokioClock.now();
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let mut handle: Handle = self.connection.handle();
            tasks.spawn(async move {
                let message = Bytes::from(vec![7_u8; len]);
                for _ in 0..each {
                    let mut stream = handle.open_bidirectional_stream().await.map_err(wrong)?;
                    stream.send(message.clone()).await.map_err(wrong)?;
                    stream.finish().map_err(wrong)?;
                    receive(&mut stream, len).await?;
                }
                Ok::<_, RawError>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(wrong)??;
        }
        Ok(begin.elapsed_by(TokioClock.now()))
    }

    /// Sends `len` bytes on one stream and waits until the peer has them all; gives the time.
    ///
    /// # Errors
    ///
    /// [`RawError`].
    pub async fn bulk(&mut self, len: usize, piece: usize) -> Result<Duration, RawError> {
        let begin = TokioClock.now();
        let mut stream = self.connection.open_send_stream().await.map_err(wrong)?;
        let bytes = Bytes::from(vec![7_u8; piece]);
        let mut left = len;
        while left > 0 {
            let now = piece.min(left);
            stream.send(bytes.slice(..now)).await.map_err(wrong)?;
            left -= now;
        }
        stream.close().await.map_err(wrong)?;
        Ok(begin.elapsed_by(TokioClock.now()))
    }

    /// Makes a new connection for each of some exchanges; gives the time for all.
    ///
    /// # Errors
    ///
    /// [`RawError`].
    pub async fn connect_per_call(&self, calls: usize, len: usize) -> Result<Duration, RawError> {
        let begin = TokioClock.now();
        for _ in 0..calls {
            let mut connection = dial(&self.client, self.address).await?;
            let mut stream = connection.open_bidirectional_stream().await.map_err(wrong)?;
            stream.send(Bytes::from(vec![7_u8; len])).await.map_err(wrong)?;
            stream.finish().map_err(wrong)?;
            receive(&mut stream, len).await?;
        }
        Ok(begin.elapsed_by(TokioClock.now()))
    }

    /// Makes connections that stay idle for as long as they are held.
    ///
    /// # Errors
    ///
    /// [`RawError`].
    pub async fn idle(&self, connections: usize) -> Result<Idle, RawError> {
        let mut idle = Vec::with_capacity(connections);
        for _ in 0..connections {
            let mut connection = dial(&self.client, self.address).await?;
            connection.keep_alive(true).map_err(wrong)?;
            idle.push(connection);
        }
        Ok(Idle(idle))
    }
}

/// Connections that do nothing.
#[derive(Debug)]
pub struct Idle(Vec<Connection>);

impl Idle {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

trait Elapsed {
    fn elapsed_by(self, now: Instant) -> Duration;
}

impl Elapsed for Instant {
    fn elapsed_by(self, now: Instant) -> Duration {
        now.saturating_duration_since(self)
    }
}

async fn dial(client: &Client, address: SocketAddr) -> Result<Connection, RawError> {
    let name = DialName { number: 0, expected: Expectation::Anybody }.encode();
    client.connect(Connect::new(address).with_server_name(name.as_str())).await.map_err(wrong)
}

async fn receive(stream: &mut BidirectionalStream, len: usize) -> Result<(), RawError> {
    let mut got = 0;
    while got < len {
        let chunk = stream.receive().await.map_err(wrong)?;
        got += chunk.ok_or_else(|| wrong("the stream ended"))?.len();
    }
    Ok(())
}

/// Sends back what comes on two-way streams, and swallows what comes on the others.
async fn echo(connection: Connection) {
    let (_handle, mut acceptor) = connection.split();
    let mut streams = JoinSet::new();
    while let Ok(Some(stream)) = acceptor.accept().await {
        streams.spawn(async move {
            match stream {
                s2n_quic::stream::PeerStream::Bidirectional(mut stream) => {
                    while let Ok(Some(chunk)) = stream.receive().await {
                        if stream.send(chunk).await.is_err() {
                            return;
                        }
                    }
                }
                s2n_quic::stream::PeerStream::Receive(mut stream) => {
                    while let Ok(Some(_chunk)) = stream.receive().await {}
                }
            }
        });
        while streams.try_join_next().is_some() {}
    }
}
