//! The infrastructure's part of a node's tree.
//!
//! ```text
//! infrastructure    rest_for_one    in the order of dependencies
//! ├─ transport      one_for_one
//! │  └─ endpoint                    accepts and dials
//! ├─ pool           one_for_one
//! │  └─ policy                      decides about connections
//! ├─ services       one_for_one     what the mesh offers
//! ├─ peers          dynamic         an actor for each live connection
//! └─ telemetry      one_for_one
//! ```

use std::sync::Arc;
use std::time::Duration;

use macula_core::entropy::Entropy;
use macula_core::path::InvalidId;
use macula_core::shell::Bell;
use macula_core::supervision::{ChildSpec, Handle, Strategy, Supervisor, SupervisorHandle, Worker};

use crate::link::{Caps, Services};
use crate::mesh::Mesh;
use crate::pool::{self, AddressBook, Pool, PoolActor};
use crate::remote::{Calling, RemoteService, Served};
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
    Pool(#[from] pool::config::Invalid),
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
    config.pool.check()?;
    let (peers, peers_handle) = flags(Supervisor::dynamic("peers", PEERS_MAX)?).split();
    let Ground { endpoint, policy, mesh } = ground(config, &peers_handle)?;
    let (endpoint, endpoint_handle) = endpoint.split();
    let policy_handle = mesh.calling.policy.clone();
    let (transport, transport_handle) =
        flags(Supervisor::new("transport")?).child(endpoint).split();
    let (pool, pool_handle) = flags(Supervisor::new("pool")?).child(policy).split();
    let (services, services_handle) = flags(Supervisor::new("services")?).split();
    let (telemetry, telemetry_handle) = flags(Supervisor::new("telemetry")?).split();
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
}

fn ground(config: Config, peers: &SupervisorHandle) -> Result<Ground, Error> {
    let Config { credentials, incarnation, transport: config, pool: policy, book, sockets, seed } =
        config;
    let sockets = Arc::new(sockets.map_or_else(|| Sockets::bind(&config), Ok)?);
    let (current, served) = (Current::default(), Served::default());
    let pool = Pool::new(pool::Ground {
        node: credentials.node(),
        caps: Caps {
            limits: config.limits(),
            body_len_max: config.body_len_max,
            lane_len_max: config.lane_len_max,
        },
        services: Services::default().with(Arc::new(RemoteService(served.clone()))),
        book,
        current: current.clone(),
        peers: peers.clone(),
    });
    let me =
        Me { credentials: credentials.clone(), incarnation, listen: sockets.listening(), seed };
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
    let calling = Calling { pool, served, policy: handle };
    let mesh = Mesh { calling, credentials, sockets };
    Ok(Ground { endpoint, policy, mesh })
}

/// What holds for all of them.
fn flags(supervisor: Supervisor) -> Supervisor {
    supervisor.strategy(Strategy::OneForOne).intensity(INTENSITY, PERIOD)
}

#[cfg(test)]
pub(crate) mod tests;
