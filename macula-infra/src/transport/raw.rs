//! The QUIC library alone, as the baseline of benches: verified as the endpoint is, with its sockets,
//! limits and windows, and with nothing of ours above.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::wire::{Decoder, Flags, HEADER_LEN, Kind, Limits as WireLimits, encode_raw};
use s2n_quic::client::Connect;
use s2n_quic::connection::Handle;
use s2n_quic::provider::limits::Limits;
use s2n_quic::provider::tls::rustls as quic_tls;
use s2n_quic::stream::{BidirectionalStream, ReceiveStream};
use s2n_quic::{Client, Connection, Server};
use tokio::task::JoinSet;

use super::config::Config;
use super::endpoint::quic_limits;
use super::io::{EventLoop, Io, OsIo, Sockets};
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
    _event_loops: [EventLoop; 2],
}

/// How many streams may be open: a stream for each request needs more than lanes do.
const STREAMS_MAX: u64 = 1_000;

/// As the endpoint's, with streams that go both ways, and as many as are wanted.
fn limits(config: &Config) -> Result<Limits, RawError> {
    let (streams, window) = (STREAMS_MAX, config.stream_window.into());
    quic_limits(config)
        .map_err(wrong)?
        .with_max_open_local_bidirectional_streams(streams)
        .and_then(|limits| limits.with_max_open_remote_bidirectional_streams(streams))
        .and_then(|limits| limits.with_bidirectional_local_data_window(window))
        .and_then(|limits| limits.with_bidirectional_remote_data_window(window))
        .map_err(wrong)
}

fn os(io: Option<Io>) -> Result<(OsIo, EventLoop), RawError> {
    match io {
        Some(Io::Os(io)) => {
            let event_loop = io.event_loop();
            Ok((io, event_loop))
        }
        Some(Io::Overlay(_)) => Err(wrong("a baseline is carried by nobody")),
        #[cfg(feature = "turmoil")]
        Some(Io::Simulated(_)) => Err(wrong("a baseline is not simulated")),
        None => Err(wrong("there is no socket")),
    }
}

impl Pair {
    /// Makes it, on the loopback interface.
    ///
    /// # Errors
    ///
    /// [`RawError`].
    pub async fn connect(server: &Credentials, client: &Credentials) -> Result<Self, RawError> {
        let config = Config::default();
        let sockets = Sockets::bind(&config).map_err(wrong)?;
        let listener = sockets.listeners(&config).await.map_err(wrong)?.pop();
        let (io, server_loop) = os(listener.map(|(io, _address)| io))?;
        let tls = server_config(server).map_err(wrong)?;
        let server = Server::builder().with_tls(quic_tls::Server::from(tls)).map_err(wrong)?;
        let server = server.with_limits(limits(&config)?).map_err(wrong)?;
        let mut server = server.with_io(io).map_err(wrong)?.start().map_err(wrong)?;
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
        let client = client.with_limits(limits(&config)?).map_err(wrong)?;
        let (io, client_loop) = os(sockets.dialler(address, &config).await.map_err(wrong)?)?;
        let client = client.with_io(io).map_err(wrong)?.start().map_err(wrong)?;
        let mut connection = dial(&client, address).await?;
        connection.keep_alive(true).map_err(wrong)?;
        let _event_loops = [server_loop, client_loop];
        Ok(Self { client, address, connection, _server: serving, _event_loops })
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

    /// Sends `len` bytes on each of some streams at one time, and waits until the peer has them all;
    /// gives the time.
    ///
    /// # Errors
    ///
    /// [`RawError`].
    pub async fn bulk(
        &self,
        streams: usize,
        len: usize,
        piece: usize,
    ) -> Result<Duration, RawError> {
        let begin = TokioClock.now();
        let mut tasks = JoinSet::new();
        for _ in 0..streams {
            let mut handle: Handle = self.connection.handle();
            tasks.spawn(async move {
                let mut stream = handle.open_send_stream().await.map_err(wrong)?;
                let bytes = Bytes::from(vec![7_u8; piece]);
                let mut left = len;
                while left > 0 {
                    let now = piece.min(left);
                    stream.send(bytes.slice(..now)).await.map_err(wrong)?;
                    left -= now;
                }
                stream.close().await.map_err(wrong)
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(wrong)??;
        }
        Ok(begin.elapsed_by(TokioClock.now()))
    }

    /// Sends frames one after the other on one stream, each made and written by itself, and waits for
    /// no answer. The peer cuts each out of what comes. Gives the time until it has them all.
    ///
    /// # Errors
    ///
    /// [`RawError`].
    pub async fn frames(&self, count: usize, body_len: usize) -> Result<Duration, RawError> {
        let begin = TokioClock.now();
        let mut handle: Handle = self.connection.handle();
        let mut stream = handle.open_send_stream().await.map_err(wrong)?;
        let (body, limits) = (vec![7_u8; body_len], WireLimits::default());
        for id in (0..).take(count) {
            let mut frame = BytesMut::with_capacity(HEADER_LEN + body_len);
            encode_raw(&mut frame, Kind(0), Flags::default(), id, &body, &limits).map_err(wrong)?;
            stream.send(frame.freeze()).await.map_err(wrong)?;
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
                s2n_quic::stream::PeerStream::Receive(stream) => swallow(stream).await,
            }
        });
        while streams.try_join_next().is_some() {}
    }
}

/// Reads to the end: frame by frame if it begins as a frame does, and else by the chunk.
async fn swallow(mut stream: ReceiveStream) {
    let mut decoder = Decoder::new(WireLimits::default());
    let mut is_framed = None;
    while let Ok(Some(chunk)) = stream.receive().await {
        // A frame begins with its length, whose first byte is zero if it is below 16 MiB.
        if *is_framed.get_or_insert_with(|| chunk.first() == Some(&0)) {
            decoder.push(chunk);
            while let Ok(Some(frame)) = decoder.next_frame() {
                std::hint::black_box(frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::limits;
    use crate::transport::Config;
    use crate::transport::endpoint::quic_limits;

    /// What both say of themselves, but for streams that go both ways.
    #[test]
    fn the_baseline_has_the_limits_of_the_endpoint() {
        let config = Config {
            connection_window: 1 << 20,
            idle_timeout: Duration::from_secs(7),
            ..Config::default()
        };
        let shown = |limits: &dyn std::fmt::Debug| -> Vec<String> {
            let text = format!("{limits:#?}");
            let lines = text.split("\n    ").filter(|line| !line.starts_with(' '));
            lines.filter(|line| !line.contains("bidirectional")).map(str::to_owned).collect()
        };
        let ours = shown(&quic_limits(&config).unwrap());
        assert!(ours.len() > 10, "{ours:?}");
        assert_eq!(shown(&limits(&config).unwrap()), ours);
    }
}
