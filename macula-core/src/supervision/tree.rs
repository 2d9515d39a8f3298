//! What all supervisors of one tree share, and the tree as a picture.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::clock::{Clock, TokioClock};
use crate::entropy::Entropy;
use crate::path::Path;

use super::error::AdminError;
use super::event::{DeadReason, Event, Report, What};
use super::exit::ExitReason;
use super::guard::Coroner;
use super::overrides::Overrides;
use super::policy::{ChildKind, Restart, Strategy};
use super::proto::ChildState;
use super::supervisor::SupervisorHandle;

/// How many events a slow listener may be behind before it loses the oldest, and is told so.
const EVENTS_LEN_MAX: usize = 4096;

/// How a tree is run.
#[derive(Debug, Default)]
pub struct TreeOptions {
    /// What configuration says of paths in the tree.
    pub overrides: Overrides,
    /// Where jitter comes from; from the process if not given.
    pub entropy: Option<Entropy>,
}

/// What all supervisors of one tree share.
pub(super) struct Tree {
    coroner: Coroner,
    /// None once the tree has ended: then every listener hears that nothing more comes.
    events: RwLock<Option<broadcast::Sender<Event>>>,
    pub(super) overrides: Overrides,
    entropy: Mutex<Entropy>,
    supervisors: Mutex<BTreeMap<Path, SupervisorHandle>>,
}

impl Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tree")
    }
}

/// Nobody is left who could wait for the end: the coroner goes with the tree.
impl Drop for Tree {
    fn drop(&mut self) {
        self.coroner.stop();
    }
}

impl Tree {
    pub(super) async fn new(options: TreeOptions) -> Result<Arc<Self>, ExitReason> {
        let coroner = Coroner::start().await?;
        let entropy = options.entropy.unwrap_or_else(Entropy::from_process);
        Ok(Arc::new(Self {
            coroner,
            events: RwLock::new(Some(broadcast::Sender::new(EVENTS_LEN_MAX))),
            overrides: options.overrides,
            entropy: Mutex::new(entropy),
            supervisors: Mutex::new(BTreeMap::new()),
        }))
    }

    pub(super) const fn coroner(&self) -> &Coroner {
        &self.coroner
    }

    pub(super) fn fork_entropy(&self) -> Entropy {
        self.entropy.lock().fork()
    }

    /// A listener; one to a tree that has ended hears the end at once.
    pub(super) fn listen(&self) -> broadcast::Receiver<Event> {
        let events = self.events.read();
        events.as_ref().map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe)
    }

    pub(super) fn heard(&self) -> bool {
        self.events.read().as_ref().is_some_and(|events| events.receiver_count() > 0)
    }

    pub(super) fn announce(&self, path: Path, incarnation: u64, what: What) {
        let events = self.events.read();
        if let Some(events) = events.as_ref().filter(|events| events.receiver_count() > 0) {
            let at_ms = u64::try_from(TokioClock.since_epoch().as_millis()).unwrap_or(u64::MAX);
            // Nobody may have stayed to listen.
            drop(events.send(Event { at_ms, path, incarnation, what }));
        }
    }

    /// The root has ended: nothing more happens, and nothing is left to be found.
    pub(super) fn close(&self) {
        self.coroner.stop();
        *self.events.write() = None;
        let supervisors = std::mem::take(&mut *self.supervisors.lock());
        // Dropped without the lock: a supervisor's place may hold the last way to the tree.
        drop(supervisors);
    }

    pub(super) fn report(&self, report: Report) {
        tracing::error!(
            supervisor = %report.supervisor,
            context = %report.context,
            offender = %report.offender.path,
            incarnation = report.offender.incarnation,
            reason = %report.reason,
            "crash report"
        );
        let (path, incarnation) = (report.offender.path.clone(), report.offender.incarnation);
        self.announce(path, incarnation, What::Report(report));
    }

    pub(super) fn dead_letters(&self, path: &Path, count: u64, reason: DeadReason) {
        self.announce(path.clone(), 0, What::DeadLetters { count, reason });
    }

    pub(super) fn enter(&self, path: Path, supervisor: SupervisorHandle) {
        self.supervisors.lock().insert(path, supervisor);
    }

    pub(super) fn leave(&self, path: &Path) {
        self.supervisors.lock().remove(path);
    }

    pub(super) fn supervisor(&self, path: &Path) -> Option<SupervisorHandle> {
        self.supervisors.lock().get(path).cloned()
    }
}

/// One actor in a picture of the tree, with those below it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TreeNode {
    /// Where it stands.
    pub path: Path,
    /// What it is.
    pub kind: ChildKind,
    /// What it does now.
    pub state: ChildState,
    /// When it is restarted.
    pub restart: Restart,
    /// The strategy, for a supervisor with a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Whether it is a dynamic supervisor.
    pub dynamic: bool,
    /// The number of its life.
    pub incarnation: u64,
    /// How often it was restarted in its supervisor's current life.
    pub restarts: u64,
    /// Why its last life ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<ExitReason>,
    /// For how long it has been up, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_ms: Option<u64>,
    /// Its children, in start order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub children: Vec<Self>,
}

impl TreeNode {
    /// Whether it and all below it run.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.state == ChildState::Running && self.children.iter().all(Self::is_healthy)
    }

    /// The node at a path.
    #[must_use]
    pub fn find(&self, path: &Path) -> Option<&Self> {
        if self.path == *path {
            return Some(self);
        }
        self.children.iter().find(|child| child.path.holds(path))?.find(path)
    }

    /// How many actors are in it, itself included.
    #[must_use]
    pub fn len(&self) -> usize {
        1 + self.children.iter().map(Self::len).sum::<usize>()
    }

    /// Never: a node is at least itself.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }
}

/// Asks every supervisor from `root` down for its children. One that does not answer in time is
/// shown without.
pub(super) fn picture(
    tree: Arc<Tree>,
    node: TreeNode,
    patience: Duration,
) -> BoxFuture<'static, TreeNode> {
    Box::pin(async move {
        let Some(supervisor) = tree.supervisor(&node.path) else { return node };
        let flags = supervisor.flags();
        let asked = tokio::time::timeout(patience, supervisor.which_children()).await;
        let listed = asked.unwrap_or(Err(AdminError::Unavailable)).unwrap_or_default();
        let mut children = Vec::with_capacity(listed.len());
        for info in listed {
            let child = TreeNode {
                path: node.path.join(&info.id),
                kind: info.policy.kind,
                state: info.state,
                restart: info.policy.restart,
                strategy: None,
                dynamic: false,
                incarnation: info.incarnation,
                restarts: info.restarts,
                last_exit: info.last_exit.as_deref().cloned(),
                up_ms: info.up_for.map(|up| u64::try_from(up.as_millis()).unwrap_or(u64::MAX)),
                children: Vec::new(),
            };
            children.push(match info.policy.kind {
                ChildKind::Supervisor => picture(Arc::clone(&tree), child, patience).await,
                ChildKind::Worker => child,
            });
        }
        let strategy = (!supervisor.is_dynamic()).then_some(flags.strategy);
        TreeNode { strategy, dynamic: supervisor.is_dynamic(), children, ..node }
    })
}
