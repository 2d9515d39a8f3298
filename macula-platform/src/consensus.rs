//! A node's part in the agreement of its realm.
//!
//! ```text
//! consensus      rest_for_one    later ones stand on earlier ones
//! ├─ raft                        this node's member, if it can vote
//! ├─ kv                          counts leases while that leads, and announces it
//! └─ election                    looks after this node's candidacies
//! ```
//!
//! Every node has a [`Kv`] and [`Elections`]; `raft` and `kv` are only at those that can vote. Other nodes
//! reach a voter by [`Services`], each under a name of its own, so that who may ask what can be told apart.

mod config;
mod rebuild;

use std::sync::Arc;
use std::time::Duration;

use macula_core::identity::NodeId;
use macula_core::path::InvalidId;
use macula_core::port::{Call, Directory, Serve};
use macula_core::supervision::{Handle, Strategy, Supervisor};

use crate::election::{self, Elections};
use crate::kv::{self, Kv, Service};
use crate::minder;
use crate::raft;
use crate::raft::actor::{self, Group, Told};
use crate::raft::media::{Folder, Medium, Memory};
use crate::raft::timer::Ticking;

pub use config::{Config, InvalidConfig, Role};
pub use rebuild::RebuildError;

/// How many restarts the supervisor allows in [`PERIOD`].
const INTENSITY: u32 = 10;

/// The period of [`INTENSITY`].
const PERIOD: Duration = Duration::from_secs(60);

/// What agreement needs of the mesh and of the process.
#[derive(Debug, Clone)]
pub struct Parts {
    /// This node.
    pub node: NodeId,
    /// Whether it knows other nodes at its start.
    pub has_seeds: bool,
    /// How the members of other nodes are asked.
    pub raft: Arc<dyn Call>,
    /// How the key-value services of other nodes are asked.
    pub kv: Arc<dyn Call>,
    /// How voters are asked to change the group, this very node among them.
    pub change: Arc<dyn Call>,
    /// Where voters are found and announced.
    pub directory: Arc<dyn Directory>,
    /// A number that no earlier process of the node had: milliseconds since the Unix epoch.
    pub new_life: u64,
    /// What waits and sessions are drawn from: no two processes of a realm have the same.
    pub seed: u64,
}

/// What others ask this node.
#[derive(Debug, Clone)]
pub struct Services {
    /// What members ask.
    pub raft: Arc<dyn Serve>,
    /// What clients ask.
    pub kv: Arc<dyn Serve>,
    /// What those ask who change the group.
    pub change: Arc<dyn Serve>,
}

/// Handles to a node's part. They are good before the start and across restarts.
#[derive(Debug, Clone)]
pub struct Consensus {
    /// This node.
    pub node: NodeId,
    /// The keys and values of the realm.
    pub kv: Kv,
    /// The elections of the realm.
    pub elections: Elections,
    /// The actor that looks after this node's candidacies.
    pub election: Handle<minder::Ended>,
    /// What this node has of the group, if it can vote.
    pub voter: Option<Voter>,
}

/// What a node has that can vote.
#[derive(Debug, Clone)]
pub struct Voter {
    /// What others ask it.
    pub services: Services,
    /// Its member.
    pub group: Group<kv::state::State>,
    /// Its key-value service.
    pub service: Service,
    /// The actor of the member.
    pub raft: Handle<Told>,
    /// The actor of the service.
    pub counting: Handle<minder::Ended>,
}

/// Why a node has no part. Nothing was built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// A name in the tree is none.
    #[error(transparent)]
    Id(#[from] InvalidId),
}

/// The supervisor `consensus`, and the handles to what it will hold.
///
/// # Errors
///
/// [`Error`].
pub fn supervisor(config: &Config, parts: Parts) -> Result<(Supervisor, Consensus), Error> {
    config.check()?;
    let Parts { node, has_seeds, raft: ask_raft, kv: ask_kv, change, directory, new_life, seed } =
        parts;
    let mut supervisor =
        Supervisor::new("consensus")?.strategy(Strategy::RestForOne).intensity(INTENSITY, PERIOD);
    let mut voter = None;
    if config.is_voter(has_seeds) {
        let medium: Arc<dyn Medium> = match &config.folder {
            Some(folder) => Arc::new(Folder(folder.clone())),
            None => Arc::new(Memory::default()),
        };
        let member = raft::Parts {
            medium,
            node,
            new_life,
            call: ask_raft,
            seed,
            config: config.member(),
            timer: Arc::new(Ticking),
        };
        let (worker, group) = actor::worker(member, config.founds(has_seeds))?;
        let service = Service::new(&config.kv, group.clone(), node, Arc::clone(&ask_kv));
        let service = service.map_err(InvalidConfig::Kv)?;
        let counting = kv::actor::worker(service.clone(), Arc::clone(&directory))?;
        let ((worker, raft), (counting, counting_handle)) = (worker.split(), counting.split());
        supervisor = supervisor.child(worker).child(counting);
        let services = Services {
            raft: Arc::new(group.clone()),
            kv: Arc::new(service.clone()),
            change: Arc::new(service.changes()),
        };
        voter = Some(Voter { services, group, service, raft, counting: counting_handle });
    } else if let Some(folder) = config.folder.as_ref().filter(|folder| raft::has_log(folder)) {
        tracing::warn!(
            folder = %folder.display(),
            "this node has voted, and does not any more, since it has seeds: if it is to, consensus.role is \"voter\""
        );
    }
    let seed = distinct(seed, new_life, node);
    let local = voter.as_ref().map(|voter| voter.service.clone());
    let kv = Kv::new(config.kv, kv::Parts { node, call: ask_kv, change, directory, local, seed });
    let kv = kv.map_err(InvalidConfig::Kv)?;
    let timer = Arc::new(Ticking);
    let elections = election::Parts { node, kv: kv.clone(), timer, seed: seed.wrapping_add(1) };
    let elections = Elections::new(elections);
    let (worker, election) = election::actor::worker(elections.clone())?.split();
    Ok((supervisor.child(worker), Consensus { node, kv, elections, election, voter }))
}

/// A seed that no other process of the realm has, so that no two clients have one session.
fn distinct(seed: u64, new_life: u64, node: NodeId) -> u64 {
    let mut hash = blake3::Hasher::new();
    hash.update(&seed.to_be_bytes()).update(&new_life.to_be_bytes()).update(node.as_bytes());
    let hash = hash.finalize();
    hash.as_bytes().first_chunk().map_or(seed, |first| u64::from_be_bytes(*first))
}

#[cfg(test)]
pub(crate) mod tests;
