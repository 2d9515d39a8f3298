//! QUIC over whatever carries datagrams that is no socket of the system: one event loop upon it.

use core::convert::Infallible;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use s2n_quic::provider::io as quic_io;
use s2n_quic_core::endpoint::Endpoint;
use s2n_quic_core::event::EndpointPublisher;
use s2n_quic_core::inet::{ExplicitCongestionNotification, SocketAddress, datagram};
use s2n_quic_core::io::event_loop::{EventLoop, Stats};
use s2n_quic_core::io::{rx, tx};
use s2n_quic_core::path::{Config as MtuConfig, LocalAddress, Tuple};
use s2n_quic_core::time::Timestamp;
use s2n_quic_core::time::clock::{Clock, ClockWithTimer, NoopClock, Timer};
use tokio::time::{Instant, Sleep, sleep_until};

use super::io::Hold;

/// How many datagrams the endpoint may send at once.
const SENT_AT_ONCE_MAX: usize = 1_024;

/// The longest datagram that is received, in bytes.
const DATAGRAM_LEN_MAX: usize = 65_536;

/// Something that carries datagrams. What is lost is lost.
pub(super) trait Datagrams: Send + Sync + 'static {
    /// The address here.
    fn local(&self) -> io::Result<SocketAddr>;

    /// Whether something can be received, or the context is woken when it can.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Takes the next datagram if there is one: how long it is, and where it came from.
    fn receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)>;

    /// Sends a datagram, if there is room.
    fn send(&self, payload: &[u8], to: SocketAddr);
}

/// What the QUIC library is given to run on.
pub(super) struct Over<D> {
    datagrams: D,
    mtu: MtuConfig,
    hold: Hold,
}

impl<D: Datagrams> Over<D> {
    pub(super) fn new(datagrams: D, mtu_max: u16) -> io::Result<Self> {
        let invalid = |error: &dyn std::fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
        };
        let mtu = MtuConfig::builder().with_max_mtu(mtu_max).map_err(|error| invalid(&error))?;
        let mtu = mtu.build().map_err(|error| invalid(&error))?;
        Ok(Self { datagrams, mtu, hold: Hold::default() })
    }

    pub(super) fn event_loop(&self) -> super::io::EventLoop {
        self.hold.event_loop()
    }
}

impl<D: Datagrams> quic_io::Provider for Over<D> {
    type PathHandle = Tuple;
    type Error = io::Error;

    fn start<E: Endpoint<PathHandle = Tuple>>(self, mut endpoint: E) -> io::Result<SocketAddress> {
        endpoint.set_mtu_config(self.mtu);
        let local = SocketAddress::from(self.datagrams.local()?);
        let datagrams = Arc::new(self.datagrams);
        let event_loop = EventLoop {
            endpoint,
            clock: TaskClock::default(),
            rx: Receiving {
                datagrams: Arc::clone(&datagrams),
                local: local.into(),
                buffer: vec![0; DATAGRAM_LEN_MAX],
            },
            tx: Sending { datagrams, buffer: vec![0; self.mtu.max_mtu().into()] },
            cooldown: s2n_quic_core::task::cooldown::Cooldown::default(),
            stats: NoStats,
        };
        self.hold.take(tokio::spawn(event_loop.start(local)));
        Ok(local)
    }
}

struct Receiving<D> {
    datagrams: Arc<D>,
    local: LocalAddress,
    buffer: Vec<u8>,
}

impl<D: Datagrams> rx::Rx for Receiving<D> {
    type PathHandle = Tuple;
    type Queue = Self;
    type Error = io::Error;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.datagrams.poll_readable(cx)
    }

    fn queue<F: FnOnce(&mut Self)>(&mut self, f: F) {
        f(self);
    }

    fn handle_error<E: EndpointPublisher>(self, _error: io::Error, _event: &mut E) {}
}

impl<D: Datagrams> rx::Queue for Receiving<D> {
    type Handle = Tuple;

    fn for_each<F: FnMut(datagram::Header<Tuple>, &mut [u8])>(&mut self, mut on_packet: F) {
        while let Some((len, from)) = self.datagrams.receive(&mut self.buffer) {
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

struct Sending<D> {
    datagrams: Arc<D>,
    buffer: Vec<u8>,
}

impl<D: Datagrams> tx::Tx for Sending<D> {
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

impl<D: Datagrams> tx::Queue for Sending<D> {
    type Handle = Tuple;

    fn push<M: tx::Message<Handle = Tuple>>(
        &mut self,
        mut message: M,
    ) -> Result<tx::Outcome, tx::Error> {
        let to = SocketAddr::from(message.path_handle().remote_address);
        let len = message.write_payload(tx::PayloadBuffer::new(&mut self.buffer), 0)?;
        let payload = self.buffer.get(..len).ok_or(tx::Error::UndersizedBuffer)?;
        self.datagrams.send(payload, to);
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

/// Tokio's time, which may be virtual, as the library wants it.
#[derive(Debug, Clone)]
struct TaskClock(Instant);

impl Default for TaskClock {
    #[expect(clippy::disallowed_methods, reason = "the library asks its clock, and this is one")]
    fn default() -> Self {
        Self(Instant::now())
    }
}

/// The time that the library's clocks begin at.
fn beginning() -> Timestamp {
    NoopClock.get_time()
}

impl Clock for TaskClock {
    fn get_time(&self) -> Timestamp {
        beginning() + self.0.elapsed()
    }
}

impl ClockWithTimer for TaskClock {
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
