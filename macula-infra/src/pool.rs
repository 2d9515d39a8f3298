//! One live connection for each peer, and the policy that decides about them.
//!
//! The policy is a pure machine ([`proto`]): when to dial, what to keep, what to let go. It is on
//! nobody's way: a caller finds the connection to a peer in a table and takes it up with two atomic
//! operations. Only a caller that finds none asks the policy, and waits for its answer.
//!
//! The policy may be restarted at any time. Connections live on meanwhile, and its next life
//! begins by being told of each.

mod actor;
mod book;
pub mod config;
mod error;
pub mod proto;
mod roster;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;
use macula_core::supervision::SupervisorHandle;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::link::{Caps, InFlight, Link, Services};
use crate::transport::overlay::is_overlay;
use crate::transport::{CloseCode, Closed, Connection, Current, DialError, Side};

pub(crate) use actor::{PoolActor, worker};
pub use book::AddressBook;
pub use config::Config;
pub use error::LinkError;
pub use proto::{Class, Stats};

use proto::{ConnId, Denial, Input, Ticket};
use roster::Roster;

/// How often a caller asks the policy for one connection, if what it is granted is leaving already or
/// the policy is restarted meanwhile.
const ROUNDS_MAX: u32 = 16;

/// The node's connections. Clones are the same pool.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    node: NodeId,
    caps: Caps,
    services: Services,
    book: AddressBook,
    current: Current,
    peers: SupervisorHandle,
    /// Which connection is used for a peer.
    table: DashMap<NodeId, Arc<Link>>,
    roster: Roster,
    tickets: AtomicU64,
    /// Why the last dial of a peer failed, in words.
    faults: DashMap<NodeId, String>,
    stats: Mutex<Stats>,
}

impl Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("node", &self.0.node).finish_non_exhaustive()
    }
}

/// What a pool stands on.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) node: NodeId,
    pub(crate) caps: Caps,
    pub(crate) services: Services,
    pub(crate) book: AddressBook,
    pub(crate) current: Current,
    pub(crate) peers: SupervisorHandle,
}

impl Pool {
    pub(crate) fn new(ground: Ground) -> Self {
        let Ground { node, caps, services, book, current, peers } = ground;
        Self(Arc::new(Shared {
            node,
            caps,
            services,
            book,
            current,
            peers,
            table: DashMap::new(),
            roster: Roster::default(),
            tickets: AtomicU64::new(1),
            faults: DashMap::new(),
            stats: Mutex::default(),
        }))
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.0.node
    }

    pub(crate) fn caps(&self) -> &Caps {
        &self.0.caps
    }

    /// Where peers can be dialled.
    #[must_use]
    pub fn book(&self) -> &AddressBook {
        &self.0.book
    }

    /// What the policy has counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        *self.0.stats.lock()
    }

    /// The live connections.
    #[must_use]
    pub fn links(&self) -> Vec<Arc<Link>> {
        self.0.roster.links()
    }

    /// Takes up the connection to a peer, which is dialled if there is none. It ends in bounded
    /// time: the policy bounds what it does, and a policy that is not there is not waited for for
    /// long.
    ///
    /// # Errors
    ///
    /// [`LinkError`]: there is no connection now.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, a dial that goes on may serve others.
    pub async fn link(&self, peer: NodeId) -> Result<InFlight, LinkError> {
        for _ in 0..ROUNDS_MAX {
            if let Some(in_flight) = self.live(peer) {
                return Ok(in_flight);
            }
            if let Some(in_flight) = self.granted(peer).await? {
                return Ok(in_flight);
            }
        }
        let why = "connections to the node end as soon as they are granted".to_owned();
        Err(LinkError::Failed { why })
    }

    /// Takes up the connection to a peer, if there is one.
    pub(crate) fn live(&self, peer: NodeId) -> Option<InFlight> {
        let known = self.0.table.get(&peer).map(|entry| Arc::clone(entry.value()));
        known.and_then(|link| link.take_up())
    }

    /// Asks the policy. None if what it granted was leaving already, or if it was restarted.
    async fn granted(&self, peer: NodeId) -> Result<Option<InFlight>, LinkError> {
        let ticket = Ticket(self.0.tickets.fetch_add(1, Ordering::Relaxed));
        let addresses = self.0.book.addresses(peer);
        let want = Input::Want { ticket, peer, addresses };
        let granted = self.0.roster.ask(ticket, want).await?;
        let waiter = Waiter { pool: self, ticket };
        let granted = granted.await;
        drop(waiter);
        match granted {
            Ok(Ok(link)) => Ok(link.take_up()),
            Ok(Err(denial)) => Err(self.denied(peer, denial)),
            Err(_restarted) => Ok(None),
        }
    }

    fn denied(&self, peer: NodeId, denial: Denial) -> LinkError {
        match denial {
            Denial::NoAddress => LinkError::NoAddress,
            Denial::BackingOff { until } => LinkError::BackingOff {
                retry_in: until.saturating_duration_since(TokioClock.now()),
            },
            Denial::Full { live, high } => LinkError::Full { live, high },
            Denial::Failed(fault) => {
                let told = self.0.faults.get(&peer).map(|entry| entry.value().clone());
                LinkError::Failed { why: told.unwrap_or_else(|| format!("{fault:?}")) }
            }
            Denial::Stopping => LinkError::NotReady("the node stops"),
        }
    }

    /// Keeps a connection to a peer: it is dialled, dialled anew when it is lost, and not evicted.
    pub fn protect(&self, peer: NodeId, class: Class) {
        self.0.roster.protect(peer, class, self.0.book.addresses(peer));
    }

    /// Keeps it no longer for this reason.
    pub fn release(&self, peer: NodeId, class: Class) {
        self.0.roster.release(peer, class);
    }

    /// Dials an address, whoever is there, and keeps the connection like any other. It ends in
    /// bounded time: a handshake has a timeout.
    ///
    /// # Errors
    ///
    /// [`DialError`]: there is no connection by this.
    pub(crate) async fn meet(&self, address: SocketAddr) -> Result<NodeId, DialError> {
        let (endpoint, gone) = self.0.current.get().ok_or(DialError::Down)?;
        let connection = endpoint.dial(address, None).await?;
        let node = connection.opener.node;
        self.took(connection, gone, |conn, peer, incarnation, relayed| Input::Dialed {
            attempt: proto::ADOPTED,
            conn,
            peer,
            incarnation,
            relayed,
        });
        Ok(node)
    }

    /// Takes a connection that a peer has dialled.
    pub(crate) fn arrived(&self, connection: Connection, endpoint_gone: CancellationToken) {
        self.took(connection, endpoint_gone, |conn, peer, incarnation, relayed| Input::Accepted {
            peer,
            conn,
            incarnation,
            relayed,
        });
    }

    /// Puts a connection to work: an actor reads it, and the policy is told as `told` says.
    fn took(
        &self,
        connection: Connection,
        endpoint_gone: CancellationToken,
        told: impl FnOnce(ConnId, NodeId, u64, bool) -> Input,
    ) -> ConnId {
        let shared = &self.0;
        let conn = shared.roster.next_id();
        let pool = self.clone();
        let left = Box::new(move || pool.0.roster.tell(Input::Leaving { conn }));
        let peer = &connection.opener;
        // Sessions look the peer up when they are opened.
        shared.book.learn(peer.node, peer.address, &peer.listen);
        let (link, ends) = Link::new(conn, connection, shared.caps, &shared.services, left);
        shared.current.watch(link.opener());
        let peer = link.peer();
        let told = told(conn, link.node(), peer.incarnation, is_overlay(peer.address));
        shared.roster.join(&link, told);
        let unread = Unread { pool: self.clone(), link: Some(Arc::clone(&link)) };
        let ended = Box::new(move |_: &Arc<Link>, closed| unread.ended(&closed));
        let worker = crate::link::child(&link, ends, endpoint_gone, ended);
        let peers = shared.peers.clone();
        drop(tokio::spawn(async move {
            if let Err(error) = peers.start_child(worker).await {
                tracing::debug!(%error, "a connection came while its place in the tree is down");
            }
        }));
        conn
    }

    /// A link is over: it is found no more.
    fn left(&self, link: &Link, closed: &Closed) {
        self.0.table.remove_if(&link.node(), |_, used| used.id == link.id);
        // What this node has ended itself, nobody else is to blame for.
        let clean = closed.is_orderly() || matches!(closed, Closed::Here(_));
        self.0.roster.leave(link.id, clean);
    }

    /// All that is live, as the policy's next life has to be told.
    fn adopted(link: &Link) -> Input {
        let (conn, peer, incarnation) = (link.id, link.node(), link.peer().incarnation);
        let relayed = is_overlay(link.peer().address);
        match link.peer().side {
            Side::Acceptor => Input::Accepted { peer, conn, incarnation, relayed },
            Side::Dialler => {
                Input::Dialed { attempt: proto::ADOPTED, conn, peer, incarnation, relayed }
            }
        }
    }

    /// Tells where a peer can be dialled.
    pub fn introduce(&self, peer: NodeId, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.0.book.add(peer, addresses);
    }
}

/// A caller that waits for a connection.
struct Waiter<'a> {
    pool: &'a Pool,
    ticket: Ticket,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.pool.0.roster.forget(self.ticket);
    }
}

/// A link whose end nobody has been told of yet. If the actor that would read it never comes to be,
/// the link is over when this is dropped.
struct Unread {
    pool: Pool,
    link: Option<Arc<Link>>,
}

impl Unread {
    /// Its actor has ended, and has told all others.
    fn ended(mut self, closed: &Closed) {
        if let Some(link) = self.link.take() {
            self.pool.left(&link, closed);
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            link.close(CloseCode::Unread);
            let closed = link.over(&Closed::Here(CloseCode::Unread));
            self.pool.left(&link, &closed);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
