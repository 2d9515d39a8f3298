//! The configuration of a node: a TOML file, then the environment, then `--set`.
//!
//! Later layers win key by key. All keys are optional; `examples/macula.toml` has each of them with
//! its default. Nothing unknown is passed over: a key, a path or a variable that means nothing is
//! refused, with its place and what would be legal there. [`Config::load`] tells all faults of all
//! layers at once, so that one run suffices to mend them.
//!
//! | layer | written as | its faults are at |
//! |---|---|---|
//! | file | TOML | `macula.toml:12:3` |
//! | environment | `MACULA_NODE__NAME=red` | `environment MACULA_NODE__NAME` |
//! | | `MACULA_SET='node.name=red;node.shutdown=9s'` | `environment MACULA_SET node.name` |
//! | flags | `--set node.name=red` | `--set node.name` |
//!
//! Outside of files a text may stand without quotes: shells take them away.
//!
//! What is said of paths is checked twice. Reading it needs no tree. [`Config::overrides`] then
//! holds it against the tree that the node declares, and checks each policy as it would be with
//! the override, by the same rules that supervisors apply to policies from code.
//!
//! Why not serde, or figment? A message without a line is half a message. serde's derived readers
//! stop at the first fault, and know no place once a value is read, when the tree is checked;
//! figment knows the file and not the line. `toml` keeps a span for each key and value of its
//! [`DeTable`](toml::de::DeTable), so the keys are tables of readers over that, which the tests
//! can list.

mod error;
mod item;
mod keys;
mod layers;
mod near;
mod text;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use macula_core::identity::NodeId;
use macula_core::path::Path;
use macula_core::supervision::{ChildSpec, Overrides};
use macula_infra::bounds::Invalid;
use macula_infra::membership::update::Role;
use macula_infra::{access, bootstrap, dht, membership, pool, pubsub, relay, transport};
use macula_platform::{consensus, crdt};

use crate::admin::{SOCKET, SOCKET_LEN_MAX};
pub use crate::identity::Tls;
pub use error::{Childless, Error, FAULTS_MAX, Fault, Place, Problem};
pub use layers::FILE_LEN_MAX;

use keys::Section;
use text::{Origin, Text};

/// The configuration of a node.
///
/// ```
/// use macula_workload::Config;
///
/// let sets = ["node.name=red".to_owned()];
/// let config = Config::load(None, [], &sets)?;
/// assert_eq!(config.node.name, "red");
///
/// let error = Config::load(None, [], &["node.nmae=red".to_owned()]).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "--set node.nmae: unknown key `nmae`; legal here: name, shutdown (did you mean `name`?)"
/// );
/// # Ok::<(), macula_workload::config::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// The node itself.
    pub node: Node,
    /// How the node's endpoint behaves on the network.
    pub transport: transport::Config,
    /// What the node shows and believes.
    pub tls: Tls,
    /// How connections are kept.
    pub pool: pool::Config,
    /// Where other nodes can be dialled.
    pub peers: BTreeMap<NodeId, Vec<SocketAddr>>,
    /// How the node finds others, and is found.
    pub mesh: Mesh,
    /// How members are watched.
    pub membership: membership::Config,
    /// The distributed hash table.
    pub dht: Dht,
    /// Who may do what.
    pub access: access::Rules,
    /// How the node is reached over others, and they over it.
    pub relay: relay::Config,
    /// Publish and subscribe.
    pub pubsub: pubsub::Config,
    /// Agreement: the group that votes, and what it keeps.
    pub consensus: Consensus,
    /// Replicated types: what is held of them, and where.
    pub crdt: Crdt,
    /// How a node that runs is asked.
    pub admin: Admin,
    supervision: BTreeMap<Path, Section>,
    /// Where the keys stand that can contradict one another.
    places: BTreeMap<String, Place>,
}

/// What the folder of the group's files is called in that of the identity.
const CONSENSUS: &str = "consensus";

/// What the file of the routing table is called in that folder.
const TABLE: &str = "table.json";

/// What the folder of replicated types is called in that of the identity.
const CRDT: &str = "crdt";

/// What holds for a node as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, unique in its mesh: 1 to 128 bytes of letters, digits and `_ - . : # @`.
    pub name: String,
    /// The bound of a whole graceful shutdown.
    pub shutdown: Duration,
}

impl Default for Node {
    /// `node`, and thirty seconds to stop.
    fn default() -> Self {
        Self { name: "node".to_owned(), shutdown: Duration::from_secs(30) }
    }
}

/// How a node finds others, and is found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mesh {
    /// The name of the realm; without one it is what the realm's certificate says.
    pub realm: Option<String>,
    /// What the node is for.
    pub role: Role,
    /// Where others can dial it, if that is not where it listens.
    pub advertise: Vec<SocketAddr>,
    /// Where the mesh is found.
    pub bootstrap: bootstrap::Config,
    /// How members are watched. No key of a file has it.
    pub membership: membership::Config,
    /// How the table is kept. No key of a file has it.
    pub dht: dht::proto::node::Config,
    /// Where the routing table is kept over restarts.
    pub table_file: Spot,
}

/// The distributed hash table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dht {
    /// The table of this node.
    pub node: dht::proto::node::Config,
    /// What is believed: the same in all of a mesh.
    pub limits: dht::rules::Limits,
}

/// How a node that runs is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Admin {
    /// The socket at which it listens.
    pub socket: Spot,
}

/// What the node does for the agreement of its realm.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Consensus {
    /// The folder of its files. Nowhere means that they are in memory.
    pub folder: Spot,
    /// All the rest; its own folder is not looked at.
    pub group: consensus::Config,
}

/// What the node does for replicated types.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Crdt {
    /// The folder of what is kept on disk.
    pub folder: Spot,
    /// All the rest; its own folder is not looked at.
    pub settings: crdt::Settings,
}

/// Where something of a node is on its disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Spot {
    /// Under its usual name in the folder of the identity, if there is one.
    #[default]
    Auto,
    /// Nowhere.
    None,
    /// Here.
    At(PathBuf),
}

impl Config {
    /// Reads the layers over the defaults: the file if there is one, then the environment, then
    /// the assignments, each a `key=value`.
    ///
    /// Of the environment only what begins with `MACULA_` is looked at; `MACULA_LOG`,
    /// `MACULA_HOME` and `MACULA_SEED` are no configuration and are passed over.
    ///
    /// # Errors
    ///
    /// [`Error`] with all that is wrong in any layer.
    pub fn load(
        file: Option<&std::path::Path>,
        env: impl IntoIterator<Item = (String, String)>,
        sets: &[String],
    ) -> Result<Self, Error> {
        let (mut config, mut faults) = (Self::default(), Error::none());
        if let Some(path) = file {
            faults.absorb(layers::file(&mut config, path));
        }
        faults.absorb(layers::environment(&mut config, env));
        for set in sets {
            faults.absorb(layers::flag(&mut config, set));
        }
        faults.or(())?;
        config.checked()
    }

    /// Reads a text as if it were a file of this name, over the defaults.
    ///
    /// # Errors
    ///
    /// [`Error`] with all that is wrong.
    pub fn parse(name: &str, text: &str) -> Result<Self, Error> {
        let mut config = Self::default();
        layers::apply(&mut config, &Text::new(Origin::File(name.into()), text))?;
        config.checked()
    }

    /// Whether the values can stand together. Each has been read, so each is legal alone.
    fn checked(self) -> Result<Self, Error> {
        let mut faults = Error::none();
        if let Err(invalid) = self.transport.check() {
            let place = self.place("transport", invalid.key);
            faults.push(Fault { place, problem: Problem::Transport(invalid) });
        }
        if let Err(invalid) = self.pool.check() {
            let place = self.place("pool", invalid.key);
            faults.push(Fault { place, problem: Problem::Pool(invalid) });
        }
        if let Err(invalid) = self.mesh.bootstrap.check() {
            let place = self.place("mesh", invalid.key);
            faults.push(Fault { place, problem: Problem::Mesh(invalid) });
        }
        if self.mesh.role == Role::Bootstrap && self.transport.listen.is_empty() {
            let legal = "another where transport.listen is empty: nobody finds it".to_owned();
            let invalid = Invalid { key: "role", found: "\"bootstrap\"".to_owned(), legal };
            let place = self.place("mesh", invalid.key);
            faults.push(Fault { place, problem: Problem::Mesh(invalid) });
        }
        let socket = self.admin_socket();
        let found = socket.map_or(0, |path| path.as_os_str().len());
        if found > SOCKET_LEN_MAX {
            let (key, place) = ("admin.socket".to_owned(), self.place("admin", "socket"));
            faults.push(Fault {
                place,
                problem: Problem::LongPath { key, found, max: SOCKET_LEN_MAX },
            });
        }
        if let Err(invalid) = self.membership.check() {
            let place = self.place("membership", invalid.key);
            faults.push(Fault { place, problem: Problem::Membership(invalid) });
        }
        if let Err(invalid) = self.dht.node.check().and_then(|()| self.dht.limits.check()) {
            let place = self.place("dht", invalid.key);
            faults.push(Fault { place, problem: Problem::Dht(invalid) });
        }
        if let Err(invalid) = self.access.check() {
            let place = self.place("access", invalid.key);
            faults.push(Fault { place, problem: Problem::Access(invalid) });
        }
        if let Err(invalid) = self.relay.check() {
            let place = self.place("relay", invalid.key);
            faults.push(Fault { place, problem: Problem::Relay(invalid) });
        }
        if let Err(invalid) = self.pubsub.check() {
            let place = self.place("pubsub", invalid.key);
            faults.push(Fault { place, problem: Problem::Pubsub(invalid) });
        }
        if let Err(wrong) = self.consensus.group.check() {
            let (key, problem) = (wrong.key(), Problem::Consensus(wrong));
            faults.push(Fault { place: self.place("consensus", key), problem });
        }
        if self.consensus.group.role == consensus::Role::Client
            && matches!(self.consensus.folder, Spot::At(_))
        {
            let wrong = consensus::InvalidConfig::Folder;
            let (key, problem) = (wrong.key(), Problem::Consensus(wrong));
            faults.push(Fault { place: self.place("consensus", key), problem });
        }
        if let Err(wrong) = self.crdt().check() {
            let (key, problem) = (wrong.key(), Problem::Crdt(wrong));
            faults.push(Fault { place: self.place("crdt", key), problem });
        }
        faults.or(self)
    }

    /// Whether two say the same, wherever in their texts they do.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let nowhere = |config: &Self| {
            let mut config = Self { places: BTreeMap::new(), ..config.clone() };
            config.supervision.values_mut().for_each(Section::forget_places);
            config
        };
        nowhere(self) == nowhere(other)
    }

    /// Where the routing table is kept over restarts, if it is.
    #[must_use]
    pub fn table_file(&self) -> Option<PathBuf> {
        self.at(&self.mesh.table_file, TABLE)
    }

    /// Where the admin socket is, if there is one.
    #[must_use]
    pub fn admin_socket(&self) -> Option<PathBuf> {
        self.at(&self.admin.socket, SOCKET)
    }

    /// What the node does for agreement, with the folder of its files.
    #[must_use]
    pub fn consensus(&self) -> consensus::Config {
        let Consensus { folder, group } = &self.consensus;
        // A client keeps nothing.
        let keeps = group.role != consensus::Role::Client;
        let folder = keeps.then(|| self.at(folder, CONSENSUS)).flatten();
        consensus::Config { folder, ..group.clone() }
    }

    /// What the node does for replicated types, with the folder of its file if anything is kept there.
    #[must_use]
    pub fn crdt(&self) -> crdt::Settings {
        let Crdt { folder, settings } = &self.crdt;
        let keeps = !settings.durable.is_empty();
        let folder = keeps.then(|| self.at(folder, CRDT)).flatten();
        crdt::Settings { folder, ..settings.clone() }
    }

    fn at(&self, spot: &Spot, name: &str) -> Option<PathBuf> {
        match spot {
            Spot::Auto => self.tls.directory.as_ref().map(|folder| folder.join(name)),
            Spot::None => None,
            Spot::At(path) => Some(path.clone()),
        }
    }

    /// Where a key stands, or else the innermost table that it would stand in.
    fn place(&self, table: &str, key: &str) -> Place {
        let mut path = format!("{table}.{key}");
        loop {
            if let Some(place) = self.places.get(&path) {
                return place.clone();
            }
            match path.rfind('.') {
                Some(dot) => path.truncate(dot),
                None => return Place::WholeFile(format!("[{table}]").into()),
            }
        }
    }

    /// What is said of the paths of this tree.
    ///
    /// # Errors
    ///
    /// [`Error`] if something is said of a path that the tree does not have, or that has no meaning
    /// for what stands there, or that cannot stand beside what the code says.
    pub fn overrides(&self, root: &ChildSpec) -> Result<Overrides, Error> {
        tree::overrides(&self.supervision, root, None)
    }

    /// As [`overrides`](Self::overrides), for a tree of which other nodes may have more. That is only
    /// made if there is something to be said of it.
    pub(crate) fn overrides_here<E>(
        &self,
        root: &ChildSpec,
        elsewhere: impl FnOnce() -> Result<ChildSpec, E>,
    ) -> Result<Result<Overrides, Error>, E> {
        if self.supervision.is_empty() {
            return Ok(Ok(Overrides::default()));
        }
        let elsewhere = elsewhere()?;
        Ok(tree::overrides(&self.supervision, root, Some(&elsewhere)))
    }
}
