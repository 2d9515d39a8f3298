//! Nodes that cannot be dialled are reached over others.
//!
//! A node that can be reached may *relay*: it carries datagrams between two nodes that are both
//! connected to it. What it carries are QUIC packets of a connection between those two, encrypted
//! and authenticated from end to end: it sees ciphertext and two node ids. To both ends the
//! connection is one like any other, at an address of the [overlay](crate::transport::overlay).
//!
//! A node that nobody can dial keeps places at a few relays ([`reserver`]), and says in its own
//! record in the table which they are. Whoever wants to reach it reads the record, and sends over
//! one of them ([`paths`]); the answer comes the same way. When a relay fails both go on over the
//! next one, and QUIC sends again what was lost, so not even a stream breaks. What a relay gives is
//! bounded ([`ledger`]).
//!
//! A node relays for others only if [`Config`] says so. It uses relays by itself if it listens
//! nowhere and says of no address at which it can be dialled: then nobody can dial it.

mod actor;
mod bug;
pub mod ledger;
mod metrics;
pub mod paths;
pub mod reserver;
mod service;
mod wire;

pub(crate) use actor::{RelayActor, worker};
pub use bug::Bug;
pub(crate) use service::RelayService;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;
use macula_core::wire::{Flags, Kind, Limits, from_body, to_body};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::bounds::{Invalid, number};
use crate::contact::Contact;
use crate::desk::Desk;
use crate::dht::Dht;
use crate::dht::rules::space;
use crate::link::{InFlight, Link};
use crate::pool::{Class, Pool};
use crate::post::{Parcel, Post};
use crate::transport::lane::Lane;
use crate::transport::overlay::{Datagram, Overlay, is_overlay};
use ledger::Ledger;
use paths::{Paths, Way};
use wire::{CARRY, REACHED};

/// How many nodes' records are read at one time.
const RESOLVING_MAX: usize = 256;

/// How many datagrams for one node wait until its record was read.
const WAITING_MAX: usize = 16;

/// The longest record of where a node is reached, in bytes.
const RECORD_LEN_MAX: usize = 4_096;

/// The name in the table under which relays are found.
const NAME: &[u8] = b"relay";

/// Whether a node keeps places at relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Use {
    /// If it cannot be dialled otherwise: it listens nowhere, and advertises nothing.
    #[default]
    Auto,
    /// In any case: it listens where others do not reach it.
    Always,
    /// Never, and it reaches nobody over relays.
    Never,
}

/// The configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Whether the node keeps places at relays.
    pub uses: Use,
    /// At how many. 2 to 8.
    pub places: usize,
    /// What it gives to others.
    pub gives: ledger::Config,
    /// A bug to plant.
    #[cfg(any(test, feature = "turmoil"))]
    pub bug: Option<Bug>,
}

impl Default for Config {
    /// Three places for a node that cannot be dialled otherwise; nothing for others.
    fn default() -> Self {
        Self {
            uses: Use::Auto,
            places: 3,
            gives: ledger::Config::default(),
            #[cfg(any(test, feature = "turmoil"))]
            bug: None,
        }
    }
}

impl Config {
    /// Whether the values can stand, alone and together.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for the first that cannot.
    pub fn check(&self) -> Result<(), Invalid> {
        number("places", self.places, 2, 8)?;
        self.gives.check()
    }

    /// Whether the node has to do with relays at all.
    #[must_use]
    pub(crate) fn is_on(&self) -> bool {
        self.gives.serve || self.uses != Use::Never
    }

    /// The bug that was planted.
    #[cfg(any(test, feature = "turmoil"))]
    pub(crate) const fn bug(&self) -> Option<Bug> {
        self.bug
    }

    /// Only test builds have bugs on purpose.
    #[cfg(not(any(test, feature = "turmoil")))]
    #[expect(clippy::unused_self, reason = "its twin for tests needs it")]
    pub(crate) const fn bug(&self) -> Option<Bug> {
        None
    }

    /// At how many relays a node keeps places.
    #[must_use]
    pub(crate) const fn places_of(&self, can_be_dialled: bool) -> usize {
        match self.uses {
            Use::Always => self.places,
            Use::Auto if !can_be_dialled => self.places,
            Use::Auto | Use::Never => 0,
        }
    }
}

/// Where a node is reached that cannot be dialled: what its own record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Reached {
    /// Over these nodes.
    relays: Vec<Contact>,
}

/// Relaying, from one node. Clones are the same.
#[derive(Clone)]
pub struct Relay(Arc<Shared>);

struct Shared {
    overlay: Overlay,
    /// Connections to other nodes, which have sessions of this, so that they come later.
    net: RwLock<Option<Net>>,
    dht: Dht,
    access: Access,
    desk: Desk<reserver::Input>,
    bug: Option<Bug>,
    ledger: Mutex<Ledger>,
    paths: Mutex<Paths>,
    /// The relays at which this node has a place.
    places: Mutex<BTreeSet<NodeId>>,
    /// What waits for nodes whose records are being read.
    resolving: Mutex<BTreeMap<NodeId, Vec<Datagram>>>,
}

#[derive(Clone)]
struct Net {
    pool: Pool,
    post: Post,
}

impl Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("places", &self.0.places.lock().len()).finish_non_exhaustive()
    }
}

/// How much a relay carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// How many nodes have a place here.
    pub reservations: usize,
    /// How many pairs of nodes send to each other.
    pub circuits: usize,
}

impl Relay {
    pub(crate) fn new(overlay: Overlay, dht: Dht, access: Access, config: &Config) -> Self {
        let relay = Self(Arc::new(Shared {
            overlay,
            net: RwLock::default(),
            dht,
            access,
            desk: Desk::default(),
            bug: config.bug(),
            ledger: Mutex::new(Ledger::new(config.gives)),
            paths: Mutex::new(Paths::new(config.bug())),
            places: Mutex::default(),
            resolving: Mutex::default(),
        }));
        let shared = Arc::downgrade(&relay.0);
        relay.0.overlay.carry(Box::new(move |datagram| {
            if let Some(shared) = shared.upgrade() {
                Self(shared).carry(datagram);
            }
        }));
        relay
    }

    /// There are connections from now on.
    pub(crate) fn connect(&self, pool: Pool) {
        let post = Post::new(pool.clone());
        *self.0.net.write() = Some(Net { pool, post });
    }

    /// There are none any more. What carries them knows of this, so it would outlive its node.
    pub(crate) fn disconnect(&self) {
        *self.0.net.write() = None;
    }

    fn net(&self) -> Option<Net> {
        self.0.net.read().clone()
    }

    /// The direct connection to a node, if there is one. What is relayed carries nothing itself: two
    /// QUIC endpoints of this node would wait for each other.
    fn live(&self, node: NodeId) -> Option<InFlight> {
        let in_flight = self.net()?.pool.live(node);
        in_flight.filter(|in_flight| !is_overlay(in_flight.link().peer().address))
    }

    /// Whether there is a direct connection to a node that takes new work, in use or about to be.
    fn is_linked(&self, node: NodeId) -> bool {
        let Some(Net { pool, .. }) = self.net() else { return false };
        let is_one = |link: &Arc<Link>| link.node() == node && !link.is_leaving();
        pool.links().iter().any(|link| is_one(link) && !is_overlay(link.peer().address))
    }

    /// Something has changed in the mesh: a node has come, or may be reached in another way.
    pub(crate) fn changed(&self) {
        self.0.desk.offer(reserver::Input::Changed);
    }

    /// A node has gone.
    pub(crate) fn gone(&self, node: NodeId) {
        self.0.desk.offer(reserver::Input::Lost { relay: node });
        self.0.paths.lock().lost(TokioClock.now(), node);
    }

    /// Keeps the connection to a relay, or keeps it no longer.
    fn keep(&self, relay: NodeId, is_kept: bool) {
        let Some(Net { pool, .. }) = self.net() else { return };
        if is_kept { pool.protect(relay, Class::Relay) } else { pool.release(relay, Class::Relay) }
    }

    /// Sends a frame to a relay, which is dialled if it has to be.
    fn post(&self, relay: NodeId, (kind, body): (Kind, Bytes), unsent: Box<dyn FnOnce() + Send>) {
        let Some(Net { pool, post }) = self.net() else { return unsent() };
        let to = Contact::new(relay, pool.book().addresses(relay));
        post.send(&to, Parcel { lane: Lane::Relay, kind, id: 0, body, unsent });
    }

    /// The relays over which this node is reached.
    #[must_use]
    pub fn places(&self) -> Vec<NodeId> {
        self.0.places.lock().iter().copied().collect()
    }

    /// The relay that carries what this node and another send to each other, if one does.
    #[must_use]
    pub fn via(&self, node: NodeId) -> Option<NodeId> {
        self.0.paths.lock().over(node)
    }

    /// How much this node carries for others. The gauges show it from then on.
    pub fn carried(&self) -> Carried {
        let mut ledger = self.0.ledger.lock();
        ledger.expire(TokioClock.now());
        let (reservations, circuits) = (ledger.reservations(), ledger.circuits());
        drop(ledger);
        let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        ::metrics::gauge!(metrics::RESERVATIONS).set(count(reservations));
        ::metrics::gauge!(metrics::CIRCUITS).set(count(circuits));
        Carried { reservations, circuits }
    }

    /// Sends a datagram of this node on its way.
    fn carry(&self, datagram: Datagram) {
        let Way { over, asks, waits } = self.way(datagram.node);
        for relay in over {
            self.send(relay, &datagram);
        }
        if asks || waits {
            self.resolve(datagram.node, waits.then_some(datagram), asks);
        }
    }

    fn way(&self, node: NodeId) -> Way {
        let places = self.0.places.lock();
        self.0.paths.lock().way(TokioClock.now(), node, &places)
    }

    fn send(&self, relay: NodeId, datagram: &Datagram) {
        let Some(Net { pool, .. }) = self.net() else { return };
        let body = wire::encode(datagram.node, datagram);
        if let Some(in_flight) = pool.live(relay) {
            let link = in_flight.link();
            if is_overlay(link.peer().address) {
                return self.0.paths.lock().lost(TokioClock.now(), relay);
            }
            // A datagram for which there is no room is a lost one.
            return drop(link.lane(Lane::Relay).send_raw((CARRY, Flags::default(), 0), &body));
        }
        let here = self.clone();
        let unsent = Box::new(move || here.0.paths.lock().lost(TokioClock.now(), relay));
        self.post(relay, (CARRY, body), unsent);
    }

    /// Reads the record of a node if that is due, and sends what waits for it.
    fn resolve(&self, node: NodeId, datagram: Option<Datagram>, asks: bool) {
        let mut resolving = self.0.resolving.lock();
        if let Some(waiting) = resolving.get_mut(&node) {
            if waiting.len() < WAITING_MAX {
                waiting.extend(datagram);
            }
            return;
        }
        if !asks || resolving.len() >= RESOLVING_MAX {
            return;
        }
        resolving.insert(node, datagram.into_iter().collect());
        drop(resolving);
        let resolving = Resolving { relay: self.clone(), node };
        drop(tokio::spawn(async move {
            if let Some(relays) = resolving.relay.reached(node).await {
                resolving.relay.0.paths.lock().resolved(TokioClock.now(), node, &relays);
            }
            // What waits is sent, or lost, when this is dropped.
            drop(resolving);
        }));
    }

    /// The relays over which a node says that it is reached, in its record in the table.
    pub(crate) async fn reached(&self, node: NodeId) -> Option<Vec<NodeId>> {
        let got = self.0.dht.get(space::NODE, node.as_bytes(), true).await;
        let record = match got {
            Ok(got) => got.record?,
            Err(error) => {
                tracing::debug!(node = node.short(), %error, "where is it reached?");
                return None;
            }
        };
        let limits = Limits::for_body(RECORD_LEN_MAX);
        let reached: Reached = from_body(&record.record().value, &limits).ok()?;
        self.learn(reached)
    }

    /// Learns where relays are, and which they are.
    fn learn(&self, reached: Reached) -> Option<Vec<NodeId>> {
        let pool = self.net()?.pool;
        let relays = reached.relays.into_iter().filter(|relay| relay.node != pool.node());
        let hear = |relay: Contact| {
            pool.book().hear(relay.node, &relay.addresses);
            relay.node
        };
        Some(relays.take(paths::RELAYS_MAX).map(hear).collect())
    }

    /// Tells a node that is connected over relays where this one is reached now, so that it need not
    /// look for the record when relays are lost.
    fn tell(&self, link: &Link, record: &Bytes) {
        if is_overlay(link.peer().address) {
            // If there is no room, there is the record.
            drop(link.lane(Lane::Relay).send_raw((REACHED, Flags::default(), 0), record));
        }
    }

    /// Tells all of them.
    fn tell_all(&self, record: &Bytes) {
        let Some(Net { pool, .. }) = self.net() else { return };
        pool.links().iter().for_each(|link| self.tell(link, record));
    }

    /// The record that says over which relays this node is reached.
    fn record(&self, relays: &[NodeId]) -> Option<Bytes> {
        let pool = self.net()?.pool;
        let book = pool.book();
        let contact = |relay: &NodeId| Contact::new(*relay, book.addresses(*relay));
        let reached = Reached { relays: relays.iter().map(contact).collect() };
        let body = to_body(&reached, RECORD_LEN_MAX);
        body.inspect_err(|error| tracing::error!(%error, "the record of relays")).ok()
    }
}

/// A record that is being read. When that is over, in whatever way, nobody waits for it any more.
struct Resolving {
    relay: Relay,
    node: NodeId,
}

impl Drop for Resolving {
    fn drop(&mut self) {
        let waiting = self.relay.0.resolving.lock().remove(&self.node).unwrap_or_default();
        for datagram in waiting {
            for relay in self.relay.way(self.node).over {
                self.relay.send(relay, &datagram);
            }
        }
    }
}
