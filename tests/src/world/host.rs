//! A host of a world: who its node is, and one life of it after the other.

use std::fmt::Debug;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use macula_core::entropy::Entropy;
use macula_core::identity::{Authority, Certificate, IssueError, Keypair, NodeId, Validity};
use macula_core::supervision::Handle;
use macula_infra::bootstrap::Seed;
use macula_infra::transport::Sockets;
use macula_infra::transport::tls::{
    Credentials, Enforcement, IncompleteCredentials, Realm, Showing, Trust,
};
use macula_workload::config::Spot;
use macula_workload::{Config, Node};
use parking_lot::Mutex;

use super::faults::Part;
use super::guard::Guarded;
use super::log::{Log, What};

/// What the calendars say when a run begins, since the Unix epoch.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// How long certificates hold, before the beginning and after it.
const VALID: Duration = Duration::from_secs(365 * 24 * 3600);

/// The port of every node.
const PORT: u16 = 4433;

/// Where a node is.
pub(super) fn address(index: usize) -> IpAddr {
    let last = u8::try_from(index + 1).unwrap_or(u8::MAX);
    Ipv4Addr::new(10, 0, 0, last).into()
}

/// The nodes' keys and certificates, of one realm.
pub(super) struct Identities {
    authority: Authority,
    valid: Validity,
    keys: Vec<Keypair>,
}

impl Identities {
    pub(super) fn new(nodes: usize) -> Result<Self, IssueError> {
        let valid = Validity { not_before: EPOCH - VALID, not_after: EPOCH + VALID };
        let authority = Authority::with_key("world", Keypair::from_seed([255; 32]), valid)?;
        let number = |index| u8::try_from(index).unwrap_or(u8::MAX);
        let keys = (0..nodes).map(|index| Keypair::from_seed([number(index); 32])).collect();
        Ok(Self { authority, valid, keys })
    }

    pub(super) fn ids(&self) -> Arc<[NodeId]> {
        self.keys.iter().map(Keypair::node_id).collect()
    }

    /// What each node shows and believes.
    pub(super) fn showings(&self) -> Result<Vec<(Showing, Certificate)>, IssueError> {
        let show = |key: &Keypair| {
            let certificate = self.authority.issue(key.node_id(), self.valid, &[])?;
            let showing = Showing { key: key.clone(), chain: vec![certificate] };
            Ok((showing, self.authority.certificate().clone()))
        };
        self.keys.iter().map(show).collect()
    }
}

fn credentials(
    showing: &Showing,
    authority: &Certificate,
    clock: Arc<AtomicU64>,
) -> Result<Credentials, IncompleteCredentials> {
    let realm = Realm { authorities: vec![authority.clone()], revocation_lists: Vec::new() };
    let calendar = move || EPOCH + Duration::from_millis(clock.load(Ordering::Relaxed));
    Credentials::new(showing, Trust::Realm(realm), Enforcement::Enforce, calendar)
}

/// Gives a life a folder of its own, with what was in that of the life before: as after a crash of the
/// system, nothing of an old life can hold what a new one has.
fn take_over(folder: &mut PathBuf, life: u64) -> std::io::Result<()> {
    let before = folder.join((life - 1).to_string());
    folder.push(life.to_string());
    std::fs::create_dir_all(&*folder)?;
    for file in std::fs::read_dir(before).into_iter().flatten() {
        let file = file?;
        std::fs::copy(file.path(), folder.join(file.file_name()))?;
    }
    Ok(())
}

/// What all lives of a node have in common.
pub(super) struct Host<S> {
    pub(super) index: usize,
    pub(super) seed: u64,
    pub(super) config: Config,
    /// Whether it knows one address only.
    pub(super) joins: bool,
    pub(super) ids: Arc<[NodeId]>,
    pub(super) shown: (Showing, Certificate),
    pub(super) log: Log<S>,
    pub(super) lives: AtomicU64,
    /// How many of its connections were killed.
    pub(super) cuts: AtomicU64,
    /// The node that runs now.
    pub(super) running: Mutex<Option<Arc<Node>>>,
}

impl<S> Host<S> {
    /// Kills one of its actors, and says whether it was there.
    pub(super) fn kill(&self, part: Part) -> bool {
        let Some(node) = self.running.lock().clone() else { return false };
        let parts = node.infrastructure();
        let handle = match part {
            Part::Membership => Some(&parts.membership),
            Part::Dht => Some(&parts.dht),
            Part::PubSub => Some(&parts.pubsub),
            Part::Relay => parts.relay.as_ref(),
            Part::Replicator => {
                let actor = node.replicator().actor.actor_ref();
                return actor.inspect(|actor| actor.kill()).is_some();
            }
            Part::Connection => return self.cut(&node),
        };
        let actor = handle.and_then(Handle::actor_ref);
        actor.inspect(|actor| actor.kill()).is_some()
    }

    /// Kills one of a node's connections, another one each time.
    fn cut(&self, node: &Node) -> bool {
        let mut links = node.mesh().links();
        links.retain(|link| !link.is_leaving());
        links.sort_by_key(|link| (link.node(), link.id.0));
        let count = self.cuts.fetch_add(1, Ordering::Relaxed);
        let turn = links.iter().cycle().nth(usize::try_from(count % 64).unwrap_or_default());
        turn.inspect(|link| link.kill()).is_some()
    }

    /// Which life of the node it is.
    pub(super) fn life(&self) -> u64 {
        self.lives.load(Ordering::Relaxed)
    }
}

impl<S: Clone + Hash + Debug> Host<S> {
    /// Begins a life: starts a node.
    pub(super) async fn begin(self: &Arc<Self>) -> turmoil::Result<Life<S>> {
        let number = self.lives.fetch_add(1, Ordering::Relaxed) + 1;
        self.log.push(self.index, number, What::Born);
        let wide = u64::try_from(self.index)?;
        let mut entropy = Entropy::from_seed(self.seed ^ (wide << 48) ^ (number << 32));
        let (showing, authority) = &self.shown;
        let credentials = credentials(showing, authority, self.log.clock())?;
        let mut config = self.config.clone();
        if let Spot::At(folder) = &mut config.crdt.folder {
            take_over(folder, number)?;
        }
        let at = |index| SocketAddr::new(address(index), PORT);
        if self.joins {
            config.mesh.advertise = vec![at(self.index)];
            config.mesh.bootstrap.seeds = vec![Seed::Address(at(0))];
        } else {
            let others = self.ids.iter().enumerate().filter(|(index, _)| *index != self.index);
            config.peers = others.map(|(index, id)| (*id, vec![at(index)])).collect();
        }
        // The network knows who has which address.
        let sockets = Sockets::simulated((Ipv4Addr::UNSPECIFIED, PORT).into());
        let node = Node::builder()
            .config(config)
            .credentials(credentials)
            .simulated(Some(sockets), entropy.next_u64(), number)
            .start()
            .await?;
        let node = Arc::new(node);
        *self.running.lock() = Some(Arc::clone(&node));
        self.log.push(self.index, number, What::Up);
        let (index, ids, log) = (self.index, Arc::clone(&self.ids), self.log.clone());
        Ok(Life { index, number, node, ids, entropy, log })
    }
}

/// One life of a node, from when its tree is up until it crashes or the run ends.
pub struct Life<S> {
    /// Which node: the first is 0.
    pub index: usize,
    /// Which life of it: the first is 1.
    pub number: u64,
    /// The node.
    pub node: Arc<Node>,
    /// Who the nodes are.
    pub ids: Arc<[NodeId]>,
    /// Dice for what the scenario does.
    pub entropy: Entropy,
    log: Log<S>,
}

impl<S> Clone for Life<S> {
    fn clone(&self) -> Self {
        Self {
            index: self.index,
            number: self.number,
            node: Arc::clone(&self.node),
            ids: Arc::clone(&self.ids),
            entropy: self.entropy.clone(),
            log: self.log.clone(),
        }
    }
}

impl<S> Debug for Life<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Life")
            .field("index", &self.index)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl<S: Clone + Hash + Debug> Life<S> {
    /// Tells the log of something.
    pub fn saw(&self, what: S) {
        self.log.push(self.index, self.number, What::Seen(what));
    }

    /// Starts a task of this life. It ends with the life, and fails the run if it spins.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static)
    where
        S: Send + 'static,
    {
        drop(tokio::spawn(Guarded::new(task, self.log.clone(), self.index)));
    }

    /// The virtual time since the beginning of the run.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.log.now()
    }

    /// The other nodes.
    pub fn others(&self) -> impl Iterator<Item = (usize, NodeId)> + use<S> {
        let (ids, here) = (Arc::clone(&self.ids), self.index);
        (0..ids.len())
            .filter(move |index| *index != here)
            .filter_map(move |index| ids.get(index).map(|id| (index, *id)))
    }
}
