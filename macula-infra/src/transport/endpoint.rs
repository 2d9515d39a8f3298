//! The endpoint: accepts, dials, and is the one thing the rest of the node sees of the network.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use macula_core::wire::Limits;
use s2n_quic::client::Connect;
use s2n_quic::connection::Error as QuicError;
use s2n_quic::provider::congestion_controller::{Bbr, Cubic};
use s2n_quic::provider::event::Location;
use s2n_quic::provider::limits::Limits as QuicLimits;
use s2n_quic::provider::stateless_reset_token::{self, Generator};
use s2n_quic::provider::tls::rustls as quic_tls;
use s2n_quic::{Client, Connection as Quic, Server};
use s2n_quic_core::transport::parameters::ValidationError;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::admission::{Census, Gate, Tokens};
use super::config::{Config, Congestion};
use super::connection::{CloseCode, Closed, Connection};
use super::error::{DialError, StartError, named};
use super::greeting::{self, Failed};
use super::io::{EventLoop, Io, Sockets};
use super::overlay::is_overlay;
use super::peer_chain::{Ear, refused_here};
use super::tls::{Credentials, DialName, Expectation, client_config, server_config};

/// How many connections that the peer dialled wait to be taken.
const ARRIVALS_MAX: usize = 256;

/// The code with which a peer has no connection at all (RFC 9000, section 20.1).
const CONNECTION_REFUSED: u64 = 0x2;

/// How many packets of one stream are sent in a row when several have something to send: enough for
/// long bodies to come in long pieces, and few enough for a lane not to wait.
const STREAM_BATCH: u8 = 16;

/// Tells the dice of endpoints on the overlay from those of others.
#[cfg(feature = "turmoil")]
const OVERLAY: u64 = 1 << 62;

/// A connection that a peer has dialled.
pub type Arrival = Connection;

/// Who this node is, as its hellos tell.
#[derive(Debug, Clone)]
pub struct Me {
    /// What it shows and believes.
    pub credentials: Credentials,
    /// Which life of the node: it grows with each start of its process.
    pub incarnation: u64,
    /// Where it can be dialled.
    pub listen: Vec<SocketAddr>,
    /// The realm whose names it uses, as the hash of the realm's name.
    pub realm: [u8; 32],
    /// The seed of the QUIC stack's randomness, in simulations only.
    pub seed: Option<u64>,
}

/// What all the parts of an endpoint share.
struct Shared {
    me: Me,
    config: Config,
    limits: Limits,
    sockets: Arc<Sockets>,
    v4: Mutex<Option<Arc<Dialler>>>,
    v6: Mutex<Option<Arc<Dialler>>>,
    overlay: Mutex<Option<Arc<Dialler>>>,
    /// Cancelled when no more connections are taken.
    full_stop: CancellationToken,
}

/// A client of the QUIC library. Fields drop in order.
struct Dialler {
    client: Client,
    event_loop: EventLoop,
}

/// A node's endpoint. When the last clone is dropped it is gone, with all its connections.
#[derive(Clone)]
pub struct Endpoint(Arc<Running>);

struct Running {
    shared: Arc<Shared>,
    _acceptors: JoinSet<()>,
    _event_loops: Vec<EventLoop>,
    /// Cancelled when an acceptor has ended.
    over: CancellationToken,
    /// An endpoint that does not listen has no acceptor that keeps its arrivals open.
    _arrive: Option<mpsc::Sender<Arrival>>,
}

impl Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("listen", &self.0.shared.me.listen).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Starts to accept on the sockets. Connections that peers dial come out of the receiver, once
    /// both sides have said hello.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left of it.
    pub async fn start(
        config: Config,
        sockets: Arc<Sockets>,
        me: Me,
    ) -> Result<(Self, mpsc::Receiver<Arrival>), StartError> {
        config.check()?;
        let quic = |error: &dyn std::fmt::Display| StartError::Quic(error.to_string());
        let (arrive, arrivals) = mpsc::channel(ARRIVALS_MAX);
        let shared = Arc::new(Shared {
            limits: config.limits(),
            me,
            config,
            sockets: Arc::clone(&sockets),
            v4: Mutex::default(),
            v6: Mutex::default(),
            overlay: Mutex::default(),
            full_stop: CancellationToken::new(),
        });
        let admission = || {
            let limits = shared.config.admission.clone();
            let greetings = Arc::new(Semaphore::new(limits.handshakes_max));
            (Census::new(limits), greetings)
        };
        // What relays bring takes no room from what comes directly.
        let (direct, carried) = (admission(), admission());
        let (mut acceptors, mut event_loops) = (JoinSet::new(), Vec::new());
        let over = CancellationToken::new();
        let listeners = sockets.listeners(&shared.config).await.map_err(|error| quic(&error))?;
        for (number, (io, address)) in (0..).zip(listeners) {
            let (census, greetings) = if is_overlay(address) { &carried } else { &direct };
            let (server, event_loop) = serve(io, &shared, census, number)?;
            let ended = event_loop.ended();
            event_loops.push(event_loop);
            let accepting = Accepting {
                shared: Arc::clone(&shared),
                census: census.clone(),
                greetings: Arc::clone(greetings),
                arrive: arrive.clone(),
            };
            let over = over.clone().drop_guard();
            acceptors.spawn(async move {
                tokio::select! {
                    () = accepting.run(server) => {}
                    () = ended.cancelled() => {}
                }
                drop(over);
            });
        }
        let _arrive = acceptors.is_empty().then_some(arrive);
        let running =
            Running { shared, _acceptors: acceptors, _event_loops: event_loops, over, _arrive };
        Ok((Self(Arc::new(running)), arrivals))
    }

    /// Dials an address. `expected` is the node that has to answer; without it any trusted one may.
    ///
    /// # Errors
    ///
    /// [`DialError`]; there is no connection, and nothing was sent to a peer that is not believed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the attempt is given up.
    pub async fn dial(
        &self,
        address: SocketAddr,
        expected: Option<macula_core::identity::NodeId>,
    ) -> Result<Connection, DialError> {
        self.dial_until(&CancellationToken::new(), address, expected).await
    }

    /// As [`dial`](Self::dial), unless it is given up before the peer can have taken the connection.
    /// After that it goes on, since the peer may have begun to use it.
    ///
    /// # Errors
    ///
    /// As [`dial`](Self::dial), and [`DialError::GivenUp`].
    ///
    /// # Cancel safety
    ///
    /// As [`dial`](Self::dial).
    pub async fn dial_until(
        &self,
        given_up: &CancellationToken,
        address: SocketAddr,
        expected: Option<macula_core::identity::NodeId>,
    ) -> Result<Connection, DialError> {
        let within = self.0.shared.config.handshake_timeout;
        let dial = self.0.shared.dial(given_up, address, expected);
        let dialled = tokio::time::timeout(within, dial).await;
        dialled.unwrap_or(Err(DialError::TimedOut { address, within }))
    }

    /// Takes no more connections, as whoever dials is told.
    pub(super) fn refuse(&self) {
        self.0.shared.full_stop.cancel();
    }

    /// Cancelled once the endpoint does not accept any more on one of its addresses, for whatever
    /// reason. It is of no use after that.
    pub(super) fn over(&self) -> CancellationToken {
        self.0.over.clone()
    }

    /// Ends the event loops of all listeners, as a fault would.
    #[cfg(test)]
    pub(super) fn kill_listeners(&self) {
        self.0._event_loops.iter().for_each(EventLoop::kill);
    }

    /// Ends the event loop of the client, as a fault would.
    #[cfg(test)]
    pub(super) async fn kill_dialler(&self) {
        if let Some(dialler) = &*self.0.shared.v4.lock().await {
            dialler.event_loop.kill();
        }
    }

    /// Where the node listens.
    #[must_use]
    pub fn listening(&self) -> &[SocketAddr] {
        &self.0.shared.me.listen
    }

    /// How the endpoint is configured.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.shared.config
    }
}

impl Shared {
    async fn dial(
        &self,
        given_up: &CancellationToken,
        address: SocketAddr,
        expected: Option<macula_core::identity::NodeId>,
    ) -> Result<Connection, DialError> {
        if let Some(node) = expected.filter(|_| is_overlay(address)) {
            self.sockets.know(node);
        }
        let expected = expected.map_or(Expectation::Anybody, Expectation::Node);
        let number = self.me.credentials.next_dial();
        let name = DialName { number, expected }.encode();
        let dialler = self.dialler(address).await?;
        let connect = Connect::new(address).with_server_name(name.as_str());
        let connected = tokio::select! {
            biased;
            () = given_up.cancelled() => return Err(DialError::GivenUp),
            () = dialler.event_loop.until_ended() => {
                let closed = Closed::Other("the dialler's event loop has ended".to_owned());
                return Err(DialError::Unreachable { address, closed });
            }
            connected = dialler.client.connect(connect) => connected,
        };
        let quic = match connected {
            Ok(quic) => quic,
            Err(QuicError::MaxHandshakeDurationExceeded { .. }) => {
                let within = self.config.handshake_timeout;
                return Err(DialError::TimedOut { address, within });
            }
            Err(QuicError::Transport { code, initiator: Location::Remote, .. })
                if code.as_u64() == CONNECTION_REFUSED =>
            {
                // The peer's gate closes so, before it knows whom it closes to.
                let why = "it has no room for another connection".to_owned();
                return Err(DialError::Busy { address, why });
            }
            Err(error) => {
                let noted = self.me.credentials.take_note(number);
                let failed = noted
                    .or_else(|| refused_here(&error))
                    .map_or_else(|| Failed::Closed(Closed::from_quic(&error)), Failed::Refused);
                return Err(dial_error(failed, address));
            }
        };
        let closer = quic.handle();
        let connection = greeting::dial(quic, &self.me, expected, self.limits).await;
        connection.map_err(|failed| {
            closer.close(u32::from(close_code(&failed)).into());
            dial_error(failed, address)
        })
    }

    /// The client for an address, which is started when it is first wanted, and anew when its event
    /// loop has ended.
    async fn dialler(&self, to: SocketAddr) -> Result<Arc<Dialler>, DialError> {
        let slot = match to {
            to if is_overlay(to) => &self.overlay,
            SocketAddr::V4(_) => &self.v4,
            SocketAddr::V6(_) => &self.v6,
        };
        let mut slot = slot.lock().await;
        if let Some(dialler) = slot.as_ref().filter(|dialler| !dialler.event_loop.has_ended()) {
            return Ok(Arc::clone(dialler));
        }
        let none = DialError::NoSocket { address: to };
        let io = self.sockets.dialler(to, &self.config).await;
        let io = io.map_err(|_io| none.clone())?.ok_or(none)?;
        let dialler = client(io, self).map_err(|error| {
            let closed = Closed::Other(error.to_string());
            DialError::Unreachable { address: to, closed }
        })?;
        Ok(Arc::clone(slot.insert(Arc::new(dialler))))
    }
}

fn close_code(failed: &Failed) -> u8 {
    match failed {
        Failed::Refused(_) => CloseCode::Refused.number(),
        Failed::TurnedAway(_) | Failed::Closed(_) => CloseCode::Done.number(),
        Failed::Protocol(_) => CloseCode::Protocol.number(),
    }
}

fn dial_error(failed: Failed, address: SocketAddr) -> DialError {
    match failed {
        Failed::Refused(refusal) => DialError::Refused { address, refusal },
        Failed::TurnedAway(away) if away.busy => DialError::Busy { address, why: away.why },
        Failed::TurnedAway(away) => DialError::RefusedByPeer { address, why: away.why },
        Failed::Protocol(what) => DialError::Protocol { address, what },
        Failed::Closed(closed) => match closed {
            Closed::Alert(_) => DialError::RefusedByPeer { address, why: closed.to_string() },
            Closed::There(code @ (CloseCode::Overloaded | CloseCode::Unread)) => {
                DialError::Busy { address, why: code.as_str().to_owned() }
            }
            Closed::There(code) => {
                DialError::RefusedByPeer { address, why: code.as_str().to_owned() }
            }
            closed => DialError::Unreachable { address, closed },
        },
    }
}

/// One listener's loop.
struct Accepting {
    shared: Arc<Shared>,
    census: Census,
    greetings: Arc<Semaphore>,
    arrive: mpsc::Sender<Arrival>,
}

impl Accepting {
    async fn run(self, mut server: Server) {
        let mut greeting = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                quic = server.accept() => match quic {
                    Some(quic) => self.greet(quic, &mut greeting),
                    None => return,
                },
                Some(_greeted) = greeting.join_next() => {}
            }
        }
    }

    /// Greets in a task, within the bound of a handshake.
    fn greet(&self, quic: Quic, greeting: &mut JoinSet<()>) {
        let (shared, arrive) = (Arc::clone(&self.shared), self.arrive.clone());
        let within = shared.config.handshake_timeout;
        if shared.full_stop.is_cancelled() {
            quic.close(u32::from(CloseCode::Stopping.number()).into());
            return;
        }
        let Ok(permit) = Arc::clone(&self.greetings).try_acquire_owned() else {
            quic.close(u32::from(CloseCode::Overloaded.number()).into());
            return;
        };
        let Ok(address) = quic.remote_addr() else { return };
        // Whoever has a token may have got it before there were so many.
        let Some(counted) = self.census.enter(address.ip().to_canonical()) else {
            quic.close(u32::from(CloseCode::Overloaded.number()).into());
            return;
        };
        greeting.spawn(async move {
            let _permit = permit;
            let closer = quic.handle();
            if arrive.capacity() == 0 {
                let told = greeting::overloaded(quic, "too many wait to be taken", &shared.limits);
                drop(tokio::time::timeout(within, told).await);
                closer.close(u32::from(CloseCode::Overloaded.number()).into());
                return;
            }
            let accepted = greeting::accept(quic, &shared.me, shared.limits, counted);
            let code = match tokio::time::timeout(within, accepted).await {
                Ok(Ok(connection)) => {
                    // What is dropped here tells that nothing on it was read.
                    if arrive.try_send(connection).is_err() {
                        tracing::debug!(%address, "a connection came, and too many wait to be taken");
                    }
                    return;
                }
                Ok(Err(failed)) => {
                    let node = named(shared.me.credentials.node(), address);
                    tracing::debug!(%address, node, ?failed, "a greeting failed");
                    close_code(&failed)
                }
                Err(_elapsed) => CloseCode::Protocol.number(),
            };
            closer.close(u32::from(code).into());
        });
    }
}

/// Tokens by which a peer learns at once that a restarted endpoint does not know its connection
/// any more (RFC 9000, section 10.3): they follow from the node's key alone.
#[derive(Debug, Clone)]
struct ResetTokens([u8; 32]);

impl Generator for ResetTokens {
    const ENABLED: bool = true;

    fn generate(&mut self, id: &[u8]) -> s2n_quic_core::stateless_reset::Token {
        let mut token = [0_u8; 16];
        let hash = macula_core::identity::keyed_digest(&self.0, id);
        token.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        token.into()
    }
}

impl stateless_reset_token::Provider for ResetTokens {
    type Generator = Self;
    type Error = std::convert::Infallible;

    fn start(self) -> Result<Self, Self::Error> {
        Ok(self)
    }
}

pub(super) fn quic_limits(config: &Config) -> Result<QuicLimits, StartError> {
    let limits = || {
        QuicLimits::new()
            .with_max_idle_timeout(config.idle_timeout)?
            .with_max_keep_alive_period(config.keep_alive)?
            .with_max_handshake_duration(config.handshake_timeout)?
            .with_data_window(config.connection_window.into())?
            .with_unidirectional_data_window(config.stream_window.into())?
            .with_max_send_buffer_size(config.send_buffer)?
            .with_max_open_remote_unidirectional_streams(config.streams_max.into())?
            .with_max_open_local_unidirectional_streams(config.streams_max.into())?
            .with_max_open_remote_bidirectional_streams(0)?
            .with_stream_batch_size(STREAM_BATCH)?
            .with_max_ack_delay(Duration::from_millis(5))
    };
    limits().map_err(|error: ValidationError| StartError::Quic(error.to_string()))
}

fn tokens(me: &Me) -> ResetTokens {
    ResetTokens(me.credentials.derive("macula stateless reset"))
}

/// Puts a builder of the QUIC library together and starts it. The client's and the server's are
/// different types with the same methods.
macro_rules! started {
    ($builder:expr, $io:expr, $shared:expr, ($ear:expr, $number:expr)) => {{
        let shared: &Shared = $shared;
        let quic = |error: &dyn std::fmt::Display| StartError::Quic(error.to_string());
        let builder = $builder
            .with_event($ear)
            .map_err(|error| quic(&error))?
            .with_limits(quic_limits(&shared.config)?)
            .map_err(|error| quic(&error))?
            .with_stateless_reset_token(tokens(&shared.me))
            .map_err(|error| quic(&error))?;
        macro_rules! plain {
            ($builder2:expr, $io2:expr) => {{
                let event_loop = $io2.event_loop();
                let builder = $builder2.with_io($io2).map_err(|error| quic(&error))?;
                (builder.start().map_err(|error| quic(&error))?, event_loop)
            }};
        }
        // Only endpoints in a simulation have dice of their own.
        let _: u64 = $number;
        #[cfg(feature = "turmoil")]
        macro_rules! seeded {
            ($builder2:expr, $io2:expr, $seed:expr) => {{
                let dice = super::simulated::Seeded::new($seed ^ $number);
                plain!($builder2.with_random(dice).map_err(|error| quic(&error))?, $io2)
            }};
        }
        macro_rules! with_io {
            ($builder2:expr) => {
                match $io {
                    Io::Os(io) => plain!($builder2, io),
                    #[cfg(feature = "turmoil")]
                    Io::Overlay(io) if shared.me.seed.is_some() => {
                        let seed = shared.me.seed.unwrap_or_default() ^ OVERLAY;
                        seeded!($builder2, io, seed)
                    }
                    Io::Overlay(io) => plain!($builder2, io),
                    #[cfg(feature = "turmoil")]
                    Io::Simulated(io) => {
                        seeded!($builder2, io, shared.me.seed.unwrap_or_default())
                    }
                }
            };
        }
        match shared.config.congestion {
            Congestion::Cubic => with_io!(
                builder
                    .with_congestion_controller(Cubic::default())
                    .map_err(|error| quic(&error))?
            ),
            Congestion::Bbr => with_io!(
                builder.with_congestion_controller(Bbr::default()).map_err(|error| quic(&error))?
            ),
        }
    }};
}

fn serve(
    io: Io,
    shared: &Shared,
    census: &Census,
    number: u64,
) -> Result<(Server, EventLoop), StartError> {
    let quic = |error: &dyn std::fmt::Display| StartError::Quic(error.to_string());
    let tls = server_config(&shared.me.credentials).map_err(|error| quic(&error))?;
    let builder = Server::builder()
        .with_tls(quic_tls::Server::from(tls))
        .map_err(|error| quic(&error))?
        .with_endpoint_limits(Gate(census.clone()))
        .map_err(|error| quic(&error))?
        .with_address_token(Tokens::new(census.clone()))
        .map_err(|error| quic(&error))?;
    let ear = Ear(shared.me.credentials.clone(), Some(census.clone()));
    Ok(started!(builder, io, shared, (ear, number)))
}

fn client(io: Io, shared: &Shared) -> Result<Dialler, StartError> {
    let quic = |error: &dyn std::fmt::Display| StartError::Quic(error.to_string());
    let tls = client_config(&shared.me.credentials).map_err(|error| quic(&error))?;
    let builder =
        Client::builder().with_tls(quic_tls::Client::from(tls)).map_err(|error| quic(&error))?;
    let ear = Ear(shared.me.credentials.clone(), None);
    let (client, event_loop) = started!(builder, io, shared, (ear, 1_u64 << 63));
    Ok(Dialler { client, event_loop })
}
