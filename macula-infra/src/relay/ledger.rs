//! What a relay has promised to whom, and what goes through it: pure.
//!
//! A node that cannot be dialled *reserves* a place at a relay. Others may then send datagrams to
//! it: a first one opens a *circuit* between the two, over which both send, until nothing has gone
//! over it for a while or its time is over. Each sender has its share of bytes, and so have all whose
//! certificates one authority has issued. Everything has bounds, so that a relay gives what it can spare
//! and no more.
//!
//! Nothing crosses realms: to a node that another authority vouches for, or that uses the names of
//! another realm, a place looks like none. The shares are those of authorities, as what a node says of
//! the names that it uses is its own word: whoever said another would have another share.

mod config;
mod refusal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::deadlines::Deadlines;
use macula_core::identity::NodeId;

use crate::tokens::Bucket;

pub use config::{Config, KIB_PER_S_MAX};
pub use refusal::{Denial, NotCarried};

/// How long the place of a node is kept whose connection has ended. Whoever has lost a connection,
/// or replaces it, asks for its place anew.
pub const GRACE: Duration = Duration::from_secs(10);

/// What a node is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realm {
    /// The name of the authority that vouches for it; that of all that have none is empty.
    authority: Arc<str>,
    /// The realm whose names it says that it uses, as the hash of the realm's name.
    names: [u8; 32],
}

impl Realm {
    /// That of a node which an authority vouches for, and which says whose names it uses.
    #[must_use]
    pub const fn new(authority: Arc<str>, names: [u8; 32]) -> Self {
        Self { authority, names }
    }
}

/// Two nodes, the lesser first.
type Pair = (NodeId, NodeId);

fn pair(one: NodeId, other: NodeId) -> Pair {
    (one.min(other), one.max(other))
}

/// When something ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Reservation(NodeId),
    Circuit(Pair),
}

/// What a node takes part in.
#[derive(Debug)]
struct Node {
    realm: Realm,
    is_reserved: bool,
    circuits: usize,
    sent: Option<Bucket>,
}

/// What the nodes of an authority take part in.
#[derive(Debug, Default)]
struct OfRealm {
    nodes: usize,
    reservations: usize,
    circuits: usize,
    sent: Option<Bucket>,
}

#[derive(Debug)]
struct Circuit {
    since: Instant,
    /// When something went over it last. Its timer may be earlier and is then set anew.
    used: Instant,
}

/// The ledger. It remembers no more nodes, and no more realms, than have places and circuits.
#[derive(Debug)]
pub struct Ledger {
    config: Config,
    nodes: BTreeMap<NodeId, Node>,
    realms: BTreeMap<Arc<str>, OfRealm>,
    reservations: usize,
    circuits: BTreeMap<Pair, Circuit>,
    timers: Deadlines<Timer>,
}

impl Ledger {
    /// An empty one.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self {
            config,
            nodes: BTreeMap::new(),
            realms: BTreeMap::new(),
            reservations: 0,
            circuits: BTreeMap::new(),
            timers: Deadlines::new(),
        }
    }

    /// How many nodes have a place.
    #[must_use]
    pub const fn reservations(&self) -> usize {
        self.reservations
    }

    /// How many circuits there are.
    #[must_use]
    pub fn circuits(&self) -> usize {
        self.circuits.len()
    }

    /// Gives a node of a realm a place, or keeps it longer, and says for how long.
    ///
    /// # Errors
    ///
    /// [`Denial`]; nothing changed.
    pub fn reserve(
        &mut self,
        now: Instant,
        node: NodeId,
        realm: &Realm,
    ) -> Result<Duration, Denial> {
        self.expire(now);
        let Config { serve, reservations_max, reservations_per_realm_max, lifetime, .. } =
            self.config;
        if !serve {
            return Err(Denial::Off);
        }
        let realm = &self.realm_of(node, realm);
        if !self.nodes.get(&node).is_some_and(|known| known.is_reserved) {
            if self.reservations >= reservations_max {
                return Err(Denial::Full);
            }
            let of_realm = self.realms.get(&realm.authority).map_or(0, |known| known.reservations);
            if of_realm >= reservations_per_realm_max {
                return Err(Denial::RealmFull);
            }
            let (known, of_realm) = self.known(node, realm);
            known.is_reserved = true;
            of_realm.reservations += 1;
            self.reservations += 1;
        }
        self.timers.set(Timer::Reservation(node), now + lifetime);
        Ok(lifetime)
    }

    /// A connection to a node has ended. Its place is kept for [`GRACE`].
    pub fn lapse(&mut self, now: Instant, node: NodeId) {
        let (timer, until) = (Timer::Reservation(node), now + GRACE);
        if self.timers.get(timer).is_some_and(|at| at > until) {
            self.timers.set(timer, until);
        }
    }

    /// A node has gone, or wants its place no longer.
    pub fn release(&mut self, node: NodeId) {
        self.timers.clear(Timer::Reservation(node));
        let Some(known) = self.nodes.get_mut(&node) else { return };
        if std::mem::take(&mut known.is_reserved) {
            self.reservations -= 1;
            if let Some(realm) = self.realms.get_mut(&known.realm.authority) {
                realm.reservations -= 1;
            }
        }
        self.tidy(node);
    }

    /// Whether a datagram of so many bytes is carried from one node, of a realm, to another.
    ///
    /// # Errors
    ///
    /// [`NotCarried`]; none of its sender's share was used up.
    pub fn carry(
        &mut self,
        now: Instant,
        (from, realm): (NodeId, &Realm),
        to: NodeId,
        len: usize,
    ) -> Result<(), NotCarried> {
        self.expire(now);
        let (pair, realm) = (pair(from, to), &self.realm_of(from, realm));
        match self.circuits.get_mut(&pair) {
            // It is not kept from being idle, so that after a pause there may be another.
            Some(circuit) if self.config.is_over(now, circuit.since) => {
                return Err(NotCarried::Time);
            }
            Some(circuit) => circuit.used = now,
            None => self.open(now, (from, realm), to)?,
        }
        let (rate, rate_realm) = (self.config.rate(), self.config.rate_of_realm());
        let (sender, of_realm) = self.known(from, realm);
        let cost = u32::try_from(len).unwrap_or(u32::MAX);
        let mut sent = sender.sent.unwrap_or_else(|| Bucket::full(now, rate));
        sent.take(now, rate, cost).map_err(|_wait| NotCarried::Quota)?;
        let sent_realm = of_realm.sent.get_or_insert_with(|| Bucket::full(now, rate_realm));
        sent_realm.take(now, rate_realm, cost).map_err(|_wait| NotCarried::RealmQuota)?;
        sender.sent = Some(sent);
        Ok(())
    }

    /// Whether a node of one realm sends to a place that is of another.
    #[must_use]
    pub fn crosses(&self, (from, realm): (NodeId, &Realm), to: NodeId) -> bool {
        let own = self.realm_of(from, realm);
        self.nodes.get(&to).is_some_and(|known| known.is_reserved && known.realm != own)
    }

    fn open(
        &mut self,
        now: Instant,
        (from, realm): (NodeId, &Realm),
        to: NodeId,
    ) -> Result<(), NotCarried> {
        let has_place = |known: &Node| known.is_reserved && known.realm == *realm;
        if from == to || !self.nodes.get(&to).is_some_and(has_place) {
            return Err(NotCarried::Absent);
        }
        let Config { circuits_max, circuits_per_node_max, circuits_per_realm_max, .. } =
            self.config;
        let of = |node| self.nodes.get(&node).map_or(0, |known| known.circuits);
        let of_realm = self.realms.get(&realm.authority).map_or(0, |known| known.circuits);
        if self.circuits.len() >= circuits_max
            || of(from).max(of(to)) >= circuits_per_node_max
            || of_realm >= circuits_per_realm_max
        {
            return Err(NotCarried::Circuits);
        }
        let pair = pair(from, to);
        self.circuits.insert(pair, Circuit { since: now, used: now });
        self.timers.set(Timer::Circuit(pair), now + self.config.circuit_idle);
        for node in [from, to] {
            self.known(node, realm).0.circuits += 1;
        }
        self.realms.entry(Arc::clone(&realm.authority)).or_default().circuits += 1;
        Ok(())
    }

    /// The realm of a node: as long as it takes part in anything, it stays in one.
    fn realm_of(&self, node: NodeId, shown: &Realm) -> Realm {
        self.nodes.get(&node).map_or(shown, |known| &known.realm).clone()
    }

    /// A node and its realm, which are known from now on.
    fn known(&mut self, node: NodeId, realm: &Realm) -> (&mut Node, &mut OfRealm) {
        let is_new = !self.nodes.contains_key(&node);
        let known = self.nodes.entry(node).or_insert_with(|| Node {
            realm: realm.clone(),
            is_reserved: false,
            circuits: 0,
            sent: None,
        });
        let of_realm = self.realms.entry(Arc::clone(&known.realm.authority)).or_default();
        of_realm.nodes += usize::from(is_new);
        (known, of_realm)
    }

    /// Ends what is over.
    pub fn expire(&mut self, now: Instant) {
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Reservation(node) => self.release(node),
                Timer::Circuit(pair) => self.close_if_idle(now, pair),
            }
        }
    }

    fn close_if_idle(&mut self, now: Instant, pair: Pair) {
        let Some(circuit) = self.circuits.get(&pair) else { return };
        let over = circuit.used + self.config.circuit_idle;
        if over > now {
            return self.timers.set(Timer::Circuit(pair), over);
        }
        self.circuits.remove(&pair);
        let realm = self.nodes.get(&pair.0).map(|known| Arc::clone(&known.realm.authority));
        if let Some(realm) = realm.and_then(|realm| self.realms.get_mut(&realm)) {
            realm.circuits -= 1;
        }
        for node in [pair.0, pair.1] {
            if let Some(known) = self.nodes.get_mut(&node) {
                known.circuits -= 1;
            }
            self.tidy(node);
        }
    }

    /// Forgets a node that takes part in nothing, and a realm without nodes.
    fn tidy(&mut self, node: NodeId) {
        if !self.nodes.get(&node).is_some_and(|known| !known.is_reserved && known.circuits == 0) {
            return;
        }
        let Some(Node { realm: Realm { authority, .. }, .. }) = self.nodes.remove(&node) else {
            return;
        };
        if let Some(of_realm) = self.realms.get_mut(&authority) {
            of_realm.nodes -= 1;
            if of_realm.nodes == 0 {
                self.realms.remove(&authority);
            }
        }
    }
}

#[cfg(test)]
mod tests;
