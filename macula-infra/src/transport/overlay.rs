//! A network whose addresses follow from node ids, and whose datagrams other nodes carry.
//!
//! To the QUIC library it is one more network: a node that cannot be dialled otherwise has an
//! address there, and connections over it are encrypted and authenticated from end to end like all
//! others. Who carries its datagrams is nothing that QUIC sees, so it can change in the middle of
//! a stream. A datagram that nobody carries is a lost one.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use dashmap::DashMap;
use futures_util::task::AtomicWaker;
use macula_core::identity::{NodeId, keyed_digest};
use parking_lot::Mutex;

use super::datagrams::Datagrams;

/// What all addresses begin with: a prefix of unique local addresses (RFC 4193), which says
/// `macul`.
const PREFIX: [u8; 6] = [0xfd, 0x6d, 0x61, 0x63, 0x75, 0x6c];

/// The key of the hash that makes an address of a node id.
const HASH_KEY: [u8; 32] = *b"macula overlay address, 1st kind";

/// The port at which every node accepts.
const LISTEN: u16 = 1;

/// The port from which every node dials.
const DIAL: u16 = 2;

/// How many datagrams wait for one port. More are lost.
const WAITING_MAX: usize = 1_024;

/// Of how many nodes the address is known.
const NODES_MAX: usize = 65_536;

/// A datagram on its way to or from another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// The other node.
    pub node: NodeId,
    /// From which port it comes.
    pub from: u16,
    /// To which port it goes.
    pub to: u16,
    /// What it carries: encrypted QUIC packets.
    pub payload: Bytes,
}

/// Takes datagrams on their way, and does not wait.
pub type Carrier = Box<dyn Fn(Datagram) + Send + Sync>;

/// The network, from one node. Clones are the same.
#[derive(Clone)]
pub struct Overlay(Arc<Shared>);

struct Shared {
    own: Ipv6Addr,
    nodes: DashMap<Ipv6Addr, NodeId>,
    carrier: OnceLock<Carrier>,
    listen: Port,
    dial: Port,
}

#[derive(Default)]
struct Port {
    waiting: Mutex<VecDeque<(SocketAddr, Bytes)>>,
    waker: AtomicWaker,
}

impl Debug for Overlay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overlay").field("own", &self.0.own).finish_non_exhaustive()
    }
}

/// Whether an address belongs to the overlay.
#[must_use]
#[expect(clippy::module_name_repetitions, reason = "it is used by its name alone")]
pub fn is_overlay(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(v6) if v6.ip().octets().starts_with(&PREFIX))
}

fn ip_of(node: NodeId) -> Ipv6Addr {
    let hash = keyed_digest(&HASH_KEY, node.as_bytes());
    let mut octets = [0_u8; 16];
    octets.iter_mut().zip(PREFIX.into_iter().chain(hash)).for_each(|(to, from)| *to = from);
    octets.into()
}

impl Overlay {
    /// The network from a node.
    #[must_use]
    pub fn new(own: NodeId) -> Self {
        Self(Arc::new(Shared {
            own: ip_of(own),
            nodes: DashMap::new(),
            carrier: OnceLock::new(),
            listen: Port::default(),
            dial: Port::default(),
        }))
    }

    /// Where a node accepts connections.
    #[must_use]
    pub fn address_of(node: NodeId) -> SocketAddr {
        SocketAddr::new(ip_of(node).into(), LISTEN)
    }

    /// A node may be sent something.
    pub fn know(&self, node: NodeId) {
        let (nodes, ip) = (&self.0.nodes, ip_of(node));
        if nodes.len() >= NODES_MAX && !nodes.contains_key(&ip) {
            // Whoever is spoken to is soon known again.
            nodes.clear();
        }
        nodes.insert(ip, node);
    }

    /// Has datagrams carried from now on. Only the first carrier counts.
    pub fn carry(&self, carrier: Carrier) {
        drop(self.0.carrier.set(carrier));
    }

    /// A datagram has come.
    pub fn deliver(&self, datagram: Datagram) {
        let port = match datagram.to {
            LISTEN => &self.0.listen,
            DIAL => &self.0.dial,
            _ => return,
        };
        self.know(datagram.node);
        let from = SocketAddr::new(ip_of(datagram.node).into(), datagram.from);
        let mut waiting = port.waiting.lock();
        if waiting.len() < WAITING_MAX {
            waiting.push_back((from, datagram.payload));
        }
        drop(waiting);
        port.waker.wake();
    }

    pub(super) fn listener(&self) -> Tap {
        Tap { overlay: self.clone(), port: LISTEN }
    }

    pub(super) fn dialler(&self) -> Tap {
        Tap { overlay: self.clone(), port: DIAL }
    }
}

/// One port of this node.
pub(super) struct Tap {
    overlay: Overlay,
    port: u16,
}

impl Tap {
    fn port(&self) -> &Port {
        if self.port == LISTEN { &self.overlay.0.listen } else { &self.overlay.0.dial }
    }
}

impl Datagrams for Tap {
    fn local(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::new(self.overlay.0.own.into(), self.port))
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let port = self.port();
        port.waker.register(cx.waker());
        if port.waiting.lock().is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let (from, payload) = self.port().waiting.lock().pop_front()?;
        // One that is too long for the buffer is cut, as a socket cuts it, and then refused by QUIC.
        let len = payload.len().min(buffer.len());
        buffer.iter_mut().zip(&payload).for_each(|(to, from)| *to = *from);
        Some((len, from))
    }

    fn send(&self, payload: &[u8], to: SocketAddr) {
        let shared = &self.overlay.0;
        let SocketAddr::V6(address) = to else { return };
        let node = shared.nodes.get(address.ip()).map(|node| *node.value());
        if let (Some(node), Some(carrier)) = (node, shared.carrier.get()) {
            let payload = Bytes::copy_from_slice(payload);
            carrier(Datagram { node, from: self.port, to: to.port(), payload });
        }
    }
}

#[cfg(test)]
mod tests;
