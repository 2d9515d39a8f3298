//! The infrastructure's part of a node's tree.
//!
//! ```text
//! infrastructure    rest_for_one    in the order of dependencies
//! ├─ transport      one_for_one
//! │  └─ endpoint                    accepts and dials
//! ├─ pool           one_for_one
//! │  └─ policy                      decides about connections
//! ├─ services       one_for_one     what the mesh offers
//! │  ├─ membership                  who is there
//! │  ├─ dht                         finds nodes, records and providers
//! │  ├─ names                       announces the actors and procedures that are served
//! │  ├─ handlers    dynamic         a task for each call of a procedure
//! │  ├─ topics                      announces what is subscribed to
//! │  ├─ pubsub                      publishes and subscribes
//! │  ├─ relay                       keeps this node in reach, and others, if it is to
//! │  └─ bootstrap                   finds the mesh
//! ├─ peers          dynamic         an actor for each live connection
//! └─ telemetry      one_for_one
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::path::InvalidId;
use macula_core::shell::Bell;
use macula_core::supervision::{
    ChildSpec, Handle, Strategy, Supervisor, SupervisorHandle, TaskSupervisor, Worker,
};

use crate::access::{self, Access};
use crate::announcing;
use crate::bootstrap;
use crate::bounds::Invalid;
use crate::contact::Contact;
use crate::dht::key::RealmId;
use crate::dht::proto::node::Mode;
use crate::dht::rules::{Rules, space};
use crate::dht::{self, Dht, DhtService};
use crate::link::{Caps, Services};
use crate::membership::event::Event;
use crate::membership::update::Role;
use crate::membership::{self, Membership, MembershipService};
use crate::mesh::Mesh;
use crate::names::Names;
use crate::pool::{self, AddressBook, Pool, PoolActor};
use crate::post::Post;
use crate::pubsub::{self, PubSub, PubSubService};
use crate::relay::{self, Relay, RelayService};
use crate::remote::{Calling, RemoteService, Served};
use crate::rpc::{self, Rpc, StreamService};
use crate::transport::overlay::Overlay;
use crate::transport::tls::Credentials;
use crate::transport::{self, Broken, Current, EndpointActor, Me, Parts, Sockets, StartError};

/// How many restarts each of the tier's supervisors allows in [`PERIOD`].
const INTENSITY: u32 = 10;

/// The period of [`INTENSITY`].
const PERIOD: Duration = Duration::from_secs(60);

/// How many live connections a node has at most.
pub const PEERS_MAX: usize = 100_000;

/// Why the tier cannot be built. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The sockets cannot be made, or the transport's configuration cannot stand.
    #[error(transparent)]
    Transport(#[from] StartError),
    /// The pool's configuration cannot stand.
    #[error("pool: {0}")]
    Pool(Invalid),
    /// The bootstrap's configuration cannot stand.
    #[error("mesh: {0}")]
    Bootstrap(Invalid),
    /// The membership's configuration cannot stand.
    #[error("membership: {0}")]
    Membership(Invalid),
    /// The relay's configuration cannot stand.
    #[error("relay: {0}")]
    Relay(Invalid),
    /// The configuration of pub/sub cannot stand.
    #[error("pubsub: {0}")]
    PubSub(Invalid),
    /// The table's configuration cannot stand, or what it is to believe.
    #[error("dht: {0}")]
    Dht(Invalid),
    /// The rules of access cannot stand.
    #[error("access: {0}")]
    Access(Invalid),
    /// An id in the tree is none; never for the built-in ones.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
}

/// How the tier is built.
#[derive(Debug)]
pub struct Config {
    /// What the node shows and believes.
    pub credentials: Credentials,
    /// Which life of the node this is: it has to grow with each start of its process.
    pub incarnation: u64,
    /// The endpoint's configuration.
    pub transport: transport::Config,
    /// The pool's configuration.
    pub pool: pool::Config,
    /// Where other nodes can be dialled.
    pub book: AddressBook,
    /// The sockets, if the node is not to make its own.
    pub sockets: Option<Sockets>,
    /// Replays the node's dice, and with simulated sockets the QUIC stack's.
    pub seed: Option<u64>,
    /// How the node finds others, and is found.
    pub discovery: Discovery,
    /// Who may do what.
    pub access: access::Rules,
    /// Which realm it says that it is of, if that is not the one whose names it uses.
    #[cfg(test)]
    pub(crate) claims: Option<String>,
    /// What tells of the node to the outside: children of `telemetry`.
    pub telemetry: Vec<ChildSpec>,
}

/// How a node finds others, and is found.
#[derive(Debug, Clone)]
pub struct Discovery {
    /// The realm, whose name goes into all keys.
    pub realm: String,
    /// What the node is for.
    pub role: Role,
    /// Where others can dial it, if that is not where it listens.
    pub advertise: Vec<SocketAddr>,
    /// Where the mesh is found.
    pub bootstrap: bootstrap::Config,
    /// The membership's configuration.
    pub membership: membership::config::Config,
    /// The table's configuration.
    pub dht: dht::proto::node::Config,
    /// How the node is reached over others, and they over it.
    pub relay: relay::Config,
    /// The settings of pub/sub.
    pub pubsub: pubsub::Config,
    /// The bounds of what the table believes: the same in all of the mesh.
    pub limits: dht::rules::Limits,
    /// The routing table of an earlier life.
    pub saved: dht::proto::table::Snapshot,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            realm: "default".to_owned(),
            role: Role::Server,
            advertise: Vec::new(),
            bootstrap: bootstrap::Config::default(),
            membership: membership::config::Config::default(),
            dht: dht::proto::node::Config::default(),
            relay: relay::Config::default(),
            pubsub: pubsub::Config::default(),
            limits: dht::rules::Limits::default(),
            saved: dht::proto::table::Snapshot::default(),
        }
    }
}

impl Config {
    /// The defaults, for a node with these credentials.
    #[must_use]
    pub fn new(credentials: Credentials, incarnation: u64) -> Self {
        Self {
            credentials,
            incarnation,
            transport: transport::Config::default(),
            pool: pool::Config::default(),
            book: AddressBook::default(),
            sockets: None,
            seed: None,
            discovery: Discovery::default(),
            access: access::Rules::default(),
            #[cfg(test)]
            claims: None,
            telemetry: Vec::new(),
        }
    }
}

/// Handles to the parts of the tier. They are good before the start and across restarts.
#[derive(Debug, Clone)]
pub struct Infrastructure {
    /// The mesh.
    pub mesh: Mesh,
    /// The actor that accepts and dials.
    pub endpoint: Handle<Broken>,
    /// The actor that decides about connections.
    pub policy: Handle<Bell>,
    /// The actor that knows who is in the mesh.
    pub membership: Handle<Bell>,
    /// The actor of the distributed hash table.
    pub dht: Handle<Bell>,
    /// The actor that publishes and subscribes.
    pub pubsub: Handle<Bell>,
    /// What keeps places at relays and offers its own, if the node does one or the other.
    pub relay: Option<Handle<Bell>>,
    /// Listener and dialler.
    pub transport: SupervisorHandle,
    /// Connections and their lanes.
    pub pool: SupervisorHandle,
    /// What the mesh offers.
    pub services: SupervisorHandle,
    /// One actor for each live connection, at most [`PEERS_MAX`].
    pub peers: SupervisorHandle,
    /// Counters and traces on their way out.
    pub telemetry: SupervisorHandle,
}

/// The child `infrastructure` for a root's list, and the handles to what it will hold. The sockets
/// are bound here, so that an address that is taken is told before anything runs.
///
/// # Errors
///
/// [`Error`]; nothing was started.
pub fn spec(config: Config) -> Result<(ChildSpec, Infrastructure), Error> {
    config.transport.check().map_err(StartError::from)?;
    config.pool.check().map_err(Error::Pool)?;
    config.discovery.bootstrap.check().map_err(Error::Bootstrap)?;
    config.discovery.membership.check().map_err(Error::Membership)?;
    config.discovery.relay.check().map_err(Error::Relay)?;
    config.discovery.pubsub.check().map_err(Error::PubSub)?;
    config.discovery.dht.check().map_err(Error::Dht)?;
    config.access.check().map_err(Error::Access)?;
    config.discovery.limits.check().map_err(Error::Dht)?;
    let mut config = config;
    let told = std::mem::take(&mut config.telemetry);
    let (peers, peers_handle) = flags(Supervisor::dynamic("peers", PEERS_MAX)?).split();
    let Ground { endpoint, policy, mesh, services } = ground(config, &peers_handle)?;
    let (endpoint, endpoint_handle) = endpoint.split();
    let policy_handle = mesh.calling.policy.clone();
    let (transport, transport_handle) =
        flags(Supervisor::new("transport")?).child(endpoint).split();
    let (pool, pool_handle) = flags(Supervisor::new("pool")?).child(policy).split();
    let Service { services, membership, dht, pubsub, relay } = services;
    let (services, services_handle) = services.split();
    let telemetry = flags(Supervisor::new("telemetry")?);
    let (telemetry, telemetry_handle) = told.into_iter().fold(telemetry, Supervisor::child).split();
    let infrastructure = flags(Supervisor::new("infrastructure")?)
        .strategy(Strategy::RestForOne)
        .child(transport)
        .child(pool)
        .child(services)
        .child(peers)
        .child(telemetry);
    let handles = Infrastructure {
        mesh,
        endpoint: endpoint_handle,
        policy: policy_handle,
        membership,
        dht,
        pubsub,
        relay,
        transport: transport_handle,
        pool: pool_handle,
        services: services_handle,
        peers: peers_handle,
        telemetry: telemetry_handle,
    };
    Ok((infrastructure.into(), handles))
}

/// What the mesh stands on, and the mesh.
struct Ground {
    endpoint: Worker<EndpointActor>,
    policy: ChildSpec,
    mesh: Mesh,
    services: Service,
}

fn ground(config: Config, peers: &SupervisorHandle) -> Result<Ground, Error> {
    let Config {
        credentials,
        incarnation,
        transport: config,
        pool: policy,
        book,
        sockets,
        seed,
        discovery,
        access,
        telemetry: _,
        #[cfg(test)]
        claims,
    } = config;
    let sockets = Arc::new(sockets.map_or_else(|| Sockets::bind(&config), Ok)?);
    let realm = RealmId::named(&discovery.realm);
    let access = Access::new(credentials.clone(), *realm.as_bytes(), access);
    let (current, served) = (Current::default(), Served::new(access.clone()));
    if discovery.role == Role::Bootstrap {
        served.close();
    }
    let own = own_contact(credentials.node(), &discovery, &sockets);
    let dht = table(&credentials, &own, &discovery, &book);
    let (node, subscriptions) = (credentials.node(), Arc::new(dht.in_space(space::SUB)));
    let (of_realm, by) = (*realm.as_bytes(), access.clone());
    let pubsub = PubSub::new(node, of_realm, by, subscriptions, discovery.pubsub);
    let relay = relaying(access.clone(), &discovery, &sockets, &dht);
    let known = discovery.saved.entries.iter().map(|entry| entry.contact.clone());
    let known = known.take(membership::proto::SEEDS_MAX).collect();
    let membership = Membership::new(known, &discovery.membership);
    let keeper = DhtService { dht: dht.clone(), book: book.clone(), access };
    let pool = Pool::new(pool::Ground {
        node: credentials.node(),
        caps: caps(&config),
        services: on_links(&served, &membership, &pubsub, &relay).with(Arc::new(keeper)),
        book,
        current: current.clone(),
        peers: peers.clone(),
    });
    relay.connect(pool.clone());
    let listen = listening(&discovery, &sockets, &own);
    #[cfg(not(test))]
    let said = of_realm;
    #[cfg(test)]
    let said = claims.map_or(of_realm, |name| *RealmId::named(&name).as_bytes());
    let me = Me { credentials: credentials.clone(), incarnation, listen, realm: said, seed };
    let arrived = pool.clone();
    let endpoint = transport::worker(Parts {
        config,
        sockets: Arc::clone(&sockets),
        me,
        current,
        sink: Arc::new(move |connection, gone| arrived.arrived(connection, gone)),
    })?;
    let entropy = move || seed.map_or_else(Entropy::from_process, Entropy::from_seed);
    let policy: Worker<PoolActor> = pool::worker(pool.clone(), policy, entropy)?;
    let (policy, handle) = policy.split();
    let calling = Calling { pool, served, policy: handle, membership: membership.clone() };
    let names = Names::new(calling.clone(), Arc::new(dht.clone()), membership.clone());
    let (handlers, tasks) = TaskSupervisor::new("handlers", rpc::TASKS_MAX)?.split();
    let rpc = Rpc::new(names.clone(), tasks, entropy());
    let mesh = Mesh { calling, credentials, sockets, membership, dht, names, relay, rpc, pubsub };
    let mut services = services_of(&mesh, own, incarnation, discovery, entropy)?;
    services.services = services.services.child(handlers);
    Ok(Ground { endpoint, policy, mesh, services })
}

/// What a connection may be used for.
fn caps(config: &transport::Config) -> Caps {
    let transport::Config { body_len_max, lane_len_max, writes_apart, .. } = *config;
    Caps { limits: config.limits(), body_len_max, lane_len_max, writes_apart }
}

/// The node's part of the table.
fn table(
    credentials: &Credentials,
    own: &Contact,
    discovery: &Discovery,
    book: &AddressBook,
) -> Dht {
    let realm = RealmId::named(&discovery.realm);
    let rules = Rules { limits: discovery.limits, ..Rules::new(realm) };
    let (saved, within) = (discovery.saved.clone(), discovery.dht.query_timeout);
    Dht::new(credentials.clone(), own.clone(), rules, saved, book.clone(), within)
}

/// What has a session on each connection, but for the table.
fn on_links(served: &Served, membership: &Membership, pubsub: &PubSub, relay: &Relay) -> Services {
    Services::default()
        .with(Arc::new(RemoteService(served.clone())))
        .with(Arc::new(StreamService(served.clone())))
        .with(Arc::new(MembershipService(membership.clone())))
        .with(Arc::new(PubSubService(pubsub.clone())))
        .with(Arc::new(RelayService(relay.clone())))
}

/// This node as others know it: where it says that it can be dialled, or else where it listens; and
/// where it is reached over relays, if it is.
fn own_contact(node: NodeId, discovery: &Discovery, sockets: &Sockets) -> Contact {
    let mut addresses = discovery.advertise.clone();
    if addresses.is_empty() {
        let listening = sockets.listening().into_iter();
        addresses.extend(listening.filter(|address| !address.ip().is_unspecified()));
    }
    let relayed = (places(discovery, sockets) > 0).then(|| Overlay::address_of(node));
    Contact::new(node, addresses.into_iter().chain(relayed))
}

/// The node's part in relaying, which has its own network.
fn relaying(access: Access, discovery: &Discovery, sockets: &Sockets, dht: &Dht) -> Relay {
    let overlay = Overlay::new(access.node());
    if discovery.relay.is_on() {
        // Whoever can be dialled otherwise only dials there.
        sockets.attach(overlay.clone(), places(discovery, sockets) > 0);
    }
    Relay::new(overlay, dht.clone(), access, &discovery.relay)
}

/// Where a node tells whom it meets that it can be dialled.
fn listening(discovery: &Discovery, sockets: &Sockets, own: &Contact) -> Vec<SocketAddr> {
    // Nobody takes a client for a node that keeps records.
    let mut listen = if is_client(discovery, sockets) { Vec::new() } else { sockets.listening() };
    if own.directly().addresses.is_empty() && !listen.is_empty() {
        tracing::warn!(
            ?listen,
            "only whoever is connected knows where this node is: mesh.advertise could say it"
        );
    }
    if places(discovery, sockets) > 0 {
        listen.push(Overlay::address_of(own.node));
    }
    listen
}

fn listens(discovery: &Discovery, sockets: &Sockets) -> bool {
    !sockets.listening().is_empty() || !discovery.advertise.is_empty()
}

/// At how many relays a node keeps places.
fn places(discovery: &Discovery, sockets: &Sockets) -> usize {
    discovery.relay.places_of(listens(discovery, sockets))
}

/// Whether a node only asks: it is to, or it listens nowhere.
fn is_client(discovery: &Discovery, sockets: &Sockets) -> bool {
    discovery.role == Role::Client || !listens(discovery, sockets)
}

/// What keeps places at relays and offers its own, if the node does one or the other.
fn relay_of(
    mesh: &Mesh,
    own: NodeId,
    discovery: &Discovery,
    entropy: impl Fn() -> Entropy + Send + Sync + 'static,
) -> Result<Option<Worker<relay::RelayActor>>, Error> {
    let uses = (places(discovery, &mesh.sockets), discovery.relay.gives.serve);
    let acts = uses.0 > 0 || uses.1;
    Ok(if acts { Some(relay::worker(mesh.relay.clone(), own, uses, entropy)?) } else { None })
}

/// The supervisor of the services, and the handles to those of its children that are looked at.
struct Service {
    services: Supervisor,
    membership: Handle<Bell>,
    dht: Handle<Bell>,
    pubsub: Handle<Bell>,
    relay: Option<Handle<Bell>>,
}

/// Membership, table, names, pub/sub and bootstrap, which hear of one another here.
fn services_of(
    mesh: &Mesh,
    own: Contact,
    life: u64,
    discovery: Discovery,
    entropy: impl Fn() -> Entropy + Clone + Send + Sync + 'static,
) -> Result<Service, Error> {
    let Mesh { calling: Calling { pool, .. }, membership, dht, names, rpc, pubsub, .. } = mesh;
    let post = Post::new(pool.clone());
    let (book, table) = (pool.book().clone(), dht.clone());
    let (named, called, topics) = (names.clone(), rpc.clone(), pubsub.clone());
    let relaying = mesh.relay.clone();
    let listener = move |event: &Event, contact: Option<&Contact>| match (event, contact) {
        (Event::Joined { .. } | Event::Returned { .. } | Event::Updated { .. }, Some(contact)) => {
            book.hear(contact.node, &contact.addresses);
            table.heard(vec![contact.directly()]);
            relaying.changed();
        }
        (Event::Gone { node, .. }, _) => {
            table.gone(*node);
            named.gone(*node);
            called.gone(*node);
            topics.gone(*node);
            relaying.gone(*node);
        }
        _ => {}
    };
    let is_client = is_client(&discovery, &mesh.sockets);
    let relay = relay_of(mesh, own.node, &discovery, entropy.clone())?;
    let membership_worker = membership::worker(
        membership::Parts {
            membership: membership.clone(),
            post: post.clone(),
            contact: own.clone(),
            life,
            role: if is_client { Role::Client } else { discovery.role },
            keypair: mesh.credentials.keypair().clone(),
            config: discovery.membership,
            listener: Arc::new(listener),
        },
        entropy.clone(),
    )?;
    let pubsub_worker = pubsub::worker(
        pubsub::Parts { pubsub: pubsub.clone(), pool: pool.clone(), post: post.clone(), life },
        entropy.clone(),
    )?;
    let dht_worker = dht::worker(
        dht::Parts {
            dht: dht.clone(),
            post,
            own: own.directly(),
            mode: if is_client { Mode::Client } else { Mode::Server },
            config: discovery.dht,
        },
        entropy.clone(),
    )?;
    let bootstrap = bootstrap::worker(
        bootstrap::Parts {
            config: discovery.bootstrap,
            pool: pool.clone(),
            membership: membership.clone(),
            own: mesh.listening(),
        },
        entropy,
    )?;
    let (membership_worker, membership_handle) = membership_worker.split();
    let (dht_worker, dht_handle) = dht_worker.split();
    let services = flags(Supervisor::new("services")?);
    let topics = announcing::worker("topics", pubsub.announced_prefixes().clone())?;
    let names = announcing::worker("names", names.announced_names().clone())?;
    let (pubsub_worker, pubsub) = pubsub_worker.split();
    let services = services.child(membership_worker).child(dht_worker).child(names).child(topics);
    let (relay, relay_handle) = relay.map(Worker::split).unzip();
    let services = services.child(pubsub_worker);
    let services = relay.into_iter().fold(services, Supervisor::child).child(bootstrap);
    let (membership, dht, relay) = (membership_handle, dht_handle, relay_handle);
    Ok(Service { services, membership, dht, pubsub, relay })
}

/// What holds for all of them.
fn flags(supervisor: Supervisor) -> Supervisor {
    supervisor.strategy(Strategy::OneForOne).intensity(INTENSITY, PERIOD)
}

#[cfg(test)]
pub(crate) mod tests;
