//! The node's UDP sockets, and how the QUIC library is run upon them.
//!
//! The sockets are ours and outlive any life of the endpoint: a restarted endpoint has the same
//! ports, and other datagrams can leave from them too. The library's event loop is a task of which
//! we keep hold, so that an endpoint that is killed is really gone.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use macula_core::identity::NodeId;
use parking_lot::Mutex;
use s2n_quic::provider::io as quic_io;
use s2n_quic_core::endpoint::Endpoint;
use s2n_quic_core::inet::SocketAddress;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::config::Config;
use super::datagrams::{Datagrams as _, Over};
use super::error::StartError;
use super::overlay::{Overlay, Tap, is_overlay};

/// The size of a socket's buffers, in bytes, if the system allows it.
const SOCKET_BUFFER: usize = 2 * 1024 * 1024;

/// The largest packet on the network that other nodes carry, in bytes. It travels in frames of
/// connections, so no link's limit binds it.
const OVERLAY_MTU: u16 = 8_192;

/// How long a port that was let go of may take to become free.
const RELEASE_WAIT: Duration = Duration::from_secs(1);

/// How often that is looked at.
const RELEASE_LOOK: Duration = Duration::from_millis(1);

/// The sockets of a node: some that listen, and one for each family of addresses to dial from.
#[derive(Debug)]
pub struct Sockets {
    addresses: Vec<SocketAddr>,
    held: Mutex<Held>,
    /// The network that other nodes carry, if the node is on it, and whether it accepts there.
    overlay: OnceLock<(Overlay, bool)>,
    /// Virtual ones, in a simulation.
    #[cfg(feature = "turmoil")]
    simulated: Option<SocketAddr>,
}

/// What is open.
#[derive(Debug, Default)]
struct Held {
    listen: Vec<UdpSocket>,
    dial_v4: Option<UdpSocket>,
    dial_v6: Option<UdpSocket>,
}

impl Sockets {
    /// Makes the sockets. A port of 0 becomes a free one, which [`listening`](Self::listening) tells.
    ///
    /// # Errors
    ///
    /// [`StartError::Bind`] for the first address that cannot be had.
    pub fn bind(config: &Config) -> Result<Self, StartError> {
        let listen = config.listen.iter().map(|at| bound(*at)).collect::<Result<Vec<_>, _>>()?;
        // A node that listens on the loopback interface only also dials from there.
        let local =
            !config.listen.is_empty() && config.listen.iter().all(|at| at.ip().is_loopback());
        let v4 = if local { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
        let v6 = if local { Ipv6Addr::LOCALHOST } else { Ipv6Addr::UNSPECIFIED };
        let addresses = listen.iter().filter_map(|socket| socket.local_addr().ok()).collect();
        let dial_v4 = bound((v4, 0).into()).ok();
        let dial_v6 = bound((v6, 0).into()).ok();
        Ok(Self {
            addresses,
            held: Mutex::new(Held { listen, dial_v4, dial_v6 }),
            overlay: OnceLock::new(),
            #[cfg(feature = "turmoil")]
            simulated: None,
        })
    }

    /// Sockets on turmoil's network: one that listens at `address`, of the host that this runs on.
    #[cfg(feature = "turmoil")]
    #[must_use]
    pub fn simulated(address: SocketAddr) -> Self {
        Self {
            addresses: vec![address],
            held: Mutex::default(),
            overlay: OnceLock::new(),
            simulated: Some(address),
        }
    }

    /// Puts the node on the network that other nodes carry, to dial, and to accept if it is to. Only
    /// the first counts.
    pub fn attach(&self, overlay: Overlay, accepts: bool) {
        drop(self.overlay.set((overlay, accepts)));
    }

    /// A node may be dialled on that network.
    pub(super) fn know(&self, node: NodeId) {
        if let Some((overlay, _)) = self.overlay.get() {
            overlay.know(node);
        }
    }

    /// Where the node listens.
    #[must_use]
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// Closes the sockets, and waits for a second at most until their ports are free: the QUIC
    /// library lets go of them a moment after its endpoint has ended. For a node that has stopped.
    pub async fn release(&self) {
        drop(std::mem::take(&mut *self.held.lock()));
        #[cfg(feature = "turmoil")]
        if self.simulated.is_some() {
            return;
        }
        let free = async {
            for address in &self.addresses {
                while bound(*address).is_err() {
                    tokio::time::sleep(RELEASE_LOOK).await;
                }
            }
        };
        // A port that another process has taken meanwhile will not become free.
        drop(tokio::time::timeout(RELEASE_WAIT, free).await);
    }

    /// Sends a datagram that is not QUIC from the port of the `index`th listening address.
    ///
    /// # Errors
    ///
    /// As the system's `sendto`; [`io::ErrorKind::NotFound`] if there is no such address.
    pub fn send_datagram(&self, index: usize, to: SocketAddr, bytes: &[u8]) -> io::Result<usize> {
        let held = self.held.lock();
        let socket = held.listen.get(index).ok_or(io::ErrorKind::NotFound)?;
        socket.send_to(bytes, to)
    }

    /// One provider for each listening address, with the address.
    pub(super) async fn listeners(&self, config: &Config) -> io::Result<Vec<(Io, SocketAddr)>> {
        let mut listeners = self.own_listeners(config).await?;
        if let Some((overlay, true)) = self.overlay.get() {
            let tap = overlay.listener();
            let address = tap.local()?;
            listeners.push((Io::overlay(tap)?, address));
        }
        Ok(listeners)
    }

    async fn own_listeners(&self, config: &Config) -> io::Result<Vec<(Io, SocketAddr)>> {
        #[cfg(feature = "turmoil")]
        if let Some(address) = self.simulated {
            return Ok(vec![(Io::simulated(address, config.mtu_max).await?, address)]);
        }
        let run = |socket: &UdpSocket| Ok((Io::os(socket, config.mtu_max)?, socket.local_addr()?));
        let listeners = self.held.lock().listen.iter().map(run).collect();
        std::future::ready(listeners).await
    }

    /// The provider to dial an address from.
    pub(super) async fn dialler(&self, to: SocketAddr, config: &Config) -> io::Result<Option<Io>> {
        if is_overlay(to) {
            let dialler = self.overlay.get().map(|(overlay, _)| Io::overlay(overlay.dialler()));
            return dialler.transpose();
        }
        #[cfg(feature = "turmoil")]
        if let Some(address) = self.simulated {
            let from = SocketAddr::new(address.ip(), 0);
            return Io::simulated(from, config.mtu_max).await.map(Some);
        }
        let dialler = {
            let held = self.held.lock();
            let socket = if to.is_ipv4() { &held.dial_v4 } else { &held.dial_v6 };
            socket.as_ref().map(|socket| Io::os(socket, config.mtu_max)).transpose()
        };
        std::future::ready(dialler).await
    }
}

fn bound(address: SocketAddr) -> Result<UdpSocket, StartError> {
    let make = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            // Both families may have the same port, each with its own socket.
            socket.set_only_v6(true)?;
        }
        // The system may grant less.
        drop(socket.set_recv_buffer_size(SOCKET_BUFFER));
        drop(socket.set_send_buffer_size(SOCKET_BUFFER));
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    make().map_err(|source| StartError::Bind { address, source })
}

/// The event loop of one endpoint: it ends when this is dropped.
#[derive(Debug, Default)]
pub(super) struct EventLoop(Hold);

/// The hold on an event loop, before and after it starts. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Hold {
    task: Arc<Mutex<Option<AbortHandle>>>,
    over: CancellationToken,
}

impl Hold {
    /// The loop runs in this task.
    pub(super) fn take(&self, task: JoinHandle<()>) {
        *self.task.lock() = Some(task.abort_handle());
        let over = self.over.clone();
        drop(tokio::spawn(async move {
            let ended = task.await;
            // Whoever needs it makes more of it than this.
            tracing::debug!(?ended, "an event loop has ended");
            over.cancel();
        }));
    }

    pub(super) fn event_loop(&self) -> EventLoop {
        EventLoop(self.clone())
    }
}

impl EventLoop {
    /// Cancelled once the loop has ended, in whatever way.
    pub(super) fn ended(&self) -> CancellationToken {
        self.0.over.clone()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.over.is_cancelled()
    }

    pub(super) fn until_ended(&self) -> WaitForCancellationFuture<'_> {
        self.0.over.cancelled()
    }

    /// Ends it, as a fault would.
    #[cfg(test)]
    pub(super) fn kill(&self) {
        if let Some(task) = &*self.0.task.lock() {
            task.abort();
        }
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        let task = self.0.task.lock().take();
        if let Some(task) = task {
            task.abort();
        }
    }
}

/// The system's sockets.
pub(super) type OsIo = Kept<quic_io::tokio::Provider>;

/// What the QUIC library is given to run on.
pub(super) enum Io {
    Os(OsIo),
    Overlay(Over<Tap>),
    #[cfg(feature = "turmoil")]
    Simulated(super::simulated::Simulated),
}

/// A provider that keeps hold of its event loop.
pub(super) struct Kept<P> {
    inner: P,
    hold: Hold,
}

impl Io {
    fn os(socket: &UdpSocket, mtu_max: u16) -> io::Result<Self> {
        let inner = quic_io::tokio::Provider::builder()
            .with_rx_socket(socket.try_clone()?)?
            .with_tx_socket(socket.try_clone()?)?
            .with_max_mtu(mtu_max)?
            .build()?;
        Ok(Self::Os(Kept { inner, hold: Hold::default() }))
    }

    fn overlay(tap: Tap) -> io::Result<Self> {
        Over::new(tap, OVERLAY_MTU).map(Self::Overlay)
    }

    #[cfg(feature = "turmoil")]
    async fn simulated(address: SocketAddr, mtu_max: u16) -> io::Result<Self> {
        super::simulated::simulated(address, mtu_max).await.map(Self::Simulated)
    }
}

impl<P> Kept<P> {
    pub(super) fn event_loop(&self) -> EventLoop {
        self.hold.event_loop()
    }
}

impl quic_io::Provider for Kept<quic_io::tokio::Provider> {
    type PathHandle = <quic_io::tokio::Provider as quic_io::Provider>::PathHandle;
    type Error = io::Error;

    fn start<E: Endpoint<PathHandle = Self::PathHandle>>(
        self,
        endpoint: E,
    ) -> io::Result<SocketAddress> {
        let (task, address) = self.inner.start(endpoint)?;
        self.hold.take(task);
        Ok(address)
    }
}
