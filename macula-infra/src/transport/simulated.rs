//! QUIC on turmoil's network: upon one simulated socket, with dice that a seed replays.
//!
//! Why not the library's own provider for turmoil? Once an endpoint has received as many datagrams
//! as its ring has entries (1,024), and the last of them came alone, that provider waits for room in
//! a ring that has room: it spins, and the simulation stands.

use core::convert::Infallible;
use core::task::{Context, Poll};
use std::io;
use std::net::SocketAddr;

use s2n_quic::provider::random;
use turmoil::net::UdpSocket;

use super::datagrams::{Datagrams, Over};

/// How often a simulated port is asked for until the last life of the endpoint has left it.
const BIND_TRIES_MAX: u32 = 1_000;

/// What the QUIC library is given to run on.
pub(super) type Simulated = Over<UdpSocket>;

/// A socket at a simulated address.
pub(super) async fn simulated(address: SocketAddr, mtu_max: u16) -> io::Result<Simulated> {
    Over::new(bound(address).await?, mtu_max)
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

impl Datagrams for UdpSocket {
    fn local(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What waits for the next datagram is the channel behind the socket, not this future.
        std::pin::pin!(self.readable()).poll(cx)
    }

    fn receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        self.try_recv_from(buffer).ok()
    }

    fn send(&self, payload: &[u8], to: SocketAddr) {
        // A datagram that cannot be sent is a lost one.
        drop(self.try_send_to(payload, to));
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
