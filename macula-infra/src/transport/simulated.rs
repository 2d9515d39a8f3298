//! QUIC on turmoil's network: one event loop upon one simulated socket, and dice that a seed
//! replays.
//!
//! Why not the library's own provider for turmoil? Once an endpoint has received as many datagrams
//! as its ring has entries (1,024), and the last of them came alone, that provider waits for room in
//! a ring that has room: it spins, and the simulation stands.

use core::convert::Infallible;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use s2n_quic::provider::{io as quic_io, random};
use s2n_quic_core::endpoint::Endpoint;
use s2n_quic_core::event::EndpointPublisher;
use s2n_quic_core::inet::{ExplicitCongestionNotification, SocketAddress, datagram};
use s2n_quic_core::io::event_loop::{EventLoop, Stats};
use s2n_quic_core::io::{rx, tx};
use s2n_quic_core::path::{Config as MtuConfig, LocalAddress, Tuple};
use s2n_quic_core::time::Timestamp;
use s2n_quic_core::time::clock::{Clock, ClockWithTimer, NoopClock, Timer};
use tokio::time::{Instant, Sleep, sleep_until};
use turmoil::net::UdpSocket;

/// How often a simulated port is asked for until the last life of the endpoint has left it.
const BIND_TRIES_MAX: u32 = 1_000;

/// How many datagrams the endpoint may send at once.
const SENT_AT_ONCE_MAX: usize = 1_024;

/// The longest datagram that is received, in bytes.
const DATAGRAM_LEN_MAX: usize = 65_536;

/// What the QUIC library is given to run on.
pub(super) struct Simulated {
    socket: UdpSocket,
    mtu: MtuConfig,
    hold: super::io::Hold,
}

impl Simulated {
    pub(super) async fn bind(address: SocketAddr, mtu_max: u16) -> io::Result<Self> {
        let invalid = |error: &dyn std::fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
        };
        let mtu = MtuConfig::builder().with_max_mtu(mtu_max).map_err(|error| invalid(&error))?;
        let mtu = mtu.build().map_err(|error| invalid(&error))?;
        Ok(Self { socket: bound(address).await?, mtu, hold: super::io::Hold::default() })
    }

    pub(super) fn event_loop(&self) -> super::io::EventLoop {
        self.hold.event_loop()
    }
}

async fn bound(address: SocketAddr) -> io::Result<UdpSocket> {
    let mut tries = 0;
    loop {
        match UdpSocket::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < BIND_TRIES_MAX => {
                tries += 1;
                tokio::task::yield_now().await;
            }
            bound => return bound,
        }
    }
}

impl quic_io::Provider for Simulated {
    type PathHandle = Tuple;
    type Error = io::Error;

    fn start<E: Endpoint<PathHandle = Tuple>>(self, mut endpoint: E) -> io::Result<SocketAddress> {
        endpoint.set_mtu_config(self.mtu);
        let local = SocketAddress::from(self.socket.local_addr()?);
        let socket = Arc::new(self.socket);
        let event_loop = EventLoop {
            endpoint,
            clock: VirtualClock::default(),
            rx: Receiving {
                socket: Arc::clone(&socket),
                local: local.into(),
                buffer: vec![0; DATAGRAM_LEN_MAX],
            },
            tx: Sending { socket, buffer: vec![0; self.mtu.max_mtu().into()] },
            cooldown: s2n_quic_core::task::cooldown::Cooldown::default(),
            stats: NoStats,
        };
        self.hold.take(tokio::spawn(event_loop.start(local)));
        Ok(local)
    }
}

struct Receiving {
    socket: Arc<UdpSocket>,
    local: LocalAddress,
    buffer: Vec<u8>,
}

impl rx::Rx for Receiving {
    type PathHandle = Tuple;
    type Queue = Self;
    type Error = io::Error;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What waits for the next datagram is the channel behind the socket, not this future.
        std::pin::pin!(self.socket.readable()).poll(cx)
    }

    fn queue<F: FnOnce(&mut Self)>(&mut self, f: F) {
        f(self);
    }

    fn handle_error<E: EndpointPublisher>(self, _error: io::Error, _event: &mut E) {}
}

impl rx::Queue for Receiving {
    type Handle = Tuple;

    fn for_each<F: FnMut(datagram::Header<Tuple>, &mut [u8])>(&mut self, mut on_packet: F) {
        while let Ok((len, from)) = self.socket.try_recv_from(&mut self.buffer) {
            let remote_address = SocketAddress::from(from).into();
            let path = Tuple { remote_address, local_address: self.local };
            let ecn = ExplicitCongestionNotification::default();
            if let Some(payload) = self.buffer.get_mut(..len) {
                on_packet(datagram::Header { path, ecn }, payload);
            }
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

struct Sending {
    socket: Arc<UdpSocket>,
    buffer: Vec<u8>,
}

impl tx::Tx for Sending {
    type PathHandle = Tuple;
    type Queue = Self;
    type Error = Infallible;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // There is always room, so nobody has to be told of it.
        Poll::Pending
    }

    fn queue<F: FnOnce(&mut Self)>(&mut self, f: F) {
        f(self);
    }

    fn handle_error<E: EndpointPublisher>(self, error: Infallible, _event: &mut E) {
        match error {}
    }
}

impl tx::Queue for Sending {
    type Handle = Tuple;

    fn push<M: tx::Message<Handle = Tuple>>(
        &mut self,
        mut message: M,
    ) -> Result<tx::Outcome, tx::Error> {
        let to = SocketAddr::from(message.path_handle().remote_address);
        let len = message.write_payload(tx::PayloadBuffer::new(&mut self.buffer), 0)?;
        let payload = self.buffer.get(..len).ok_or(tx::Error::UndersizedBuffer)?;
        // A datagram that cannot be sent is a lost one.
        drop(self.socket.try_send_to(payload, to));
        Ok(tx::Outcome { len, index: 0 })
    }

    fn capacity(&self) -> usize {
        SENT_AT_ONCE_MAX
    }
}

struct NoStats;

impl Stats for NoStats {
    fn publish<P: EndpointPublisher>(&mut self, _publisher: &mut P) {}
}

/// Tokio's virtual time, as the library wants it.
#[derive(Debug, Clone)]
struct VirtualClock(Instant);

impl Default for VirtualClock {
    #[expect(clippy::disallowed_methods, reason = "the library asks its clock, and this is one")]
    fn default() -> Self {
        Self(Instant::now())
    }
}

/// The time that the library's clocks begin at.
fn beginning() -> Timestamp {
    NoopClock.get_time()
}

impl Clock for VirtualClock {
    fn get_time(&self) -> Timestamp {
        beginning() + self.0.elapsed()
    }
}

impl ClockWithTimer for VirtualClock {
    type Timer = Alarm;

    fn timer(&self) -> Alarm {
        Alarm { base: self.0, target: None, sleep: Box::pin(sleep_until(self.0)) }
    }
}

struct Alarm {
    base: Instant,
    target: Option<Instant>,
    sleep: Pin<Box<Sleep>>,
}

impl Timer for Alarm {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.target.is_none() {
            return Poll::Pending;
        }
        let rung = self.sleep.as_mut().poll(cx);
        if rung.is_ready() {
            self.target = None;
        }
        rung
    }

    fn update(&mut self, at: Timestamp) {
        let target = self.base + at.saturating_duration_since(beginning());
        if Some(target) != self.target {
            self.sleep.as_mut().reset(target);
            self.target = Some(target);
        }
    }
}

/// Randomness that a seed replays.
#[derive(Debug)]
pub(super) struct Seeded(macula_core::entropy::Entropy);

impl Seeded {
    pub(super) fn new(seed: u64) -> Self {
        Self(macula_core::entropy::Entropy::from_seed(seed))
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.0.next_u64().to_le_bytes();
            chunk.iter_mut().zip(drawn).for_each(|(to, from)| *to = from);
        }
    }
}

impl random::Generator for Seeded {
    fn public_random_fill(&mut self, bytes: &mut [u8]) {
        self.fill(bytes);
    }

    fn private_random_fill(&mut self, bytes: &mut [u8]) {
        self.fill(bytes);
    }
}

impl random::Provider for Seeded {
    type Generator = Self;
    type Error = Infallible;

    fn start(self) -> Result<Self, Infallible> {
        Ok(self)
    }
}
