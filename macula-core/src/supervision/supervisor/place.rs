//! A supervisor's place in the tree: what outlives its incarnations.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::path::{ChildId, Path};
use crate::supervision::policy::Flags;
use crate::supervision::proto::Outlook;
use crate::supervision::slot::{Place, Presence};
use crate::supervision::spec::ChildSpec;
use crate::supervision::tree::Tree;

use super::office::Office;

/// The specs that a durable supervisor starts again, with the order in which they came.
pub(super) type Roster = Arc<Mutex<BTreeMap<ChildId, (u64, ChildSpec)>>>;

pub(super) struct Standing {
    pub(super) presence: Presence,
    pub(super) incarnation: u64,
    pub(super) office: Option<Arc<Office>>,
    pub(super) flags: Flags,
}

/// A supervisor's place in the tree: what outlives its incarnations.
pub(super) struct SupervisorPlace {
    pub(super) home: OnceLock<(Path, Arc<Tree>)>,
    pub(super) dynamic: bool,
    pub(super) below: Below,
    pub(super) standing: Mutex<Standing>,
    pub(super) change: Notify,
}

/// The children that come and go with a supervisor.
pub(super) struct Below {
    pub(super) listed: Vec<ChildSpec>,
    pub(super) roster: Option<Roster>,
}

impl Below {
    fn outlook(&self, outlook: Outlook) {
        let specs = match &self.roster {
            Some(roster) => roster.lock().values().map(|(_, child)| child.clone()).collect(),
            None => self.listed.clone(),
        };
        for child in specs {
            child.launcher.0.place().outlook(outlook);
        }
    }
}

impl SupervisorPlace {
    pub(super) fn new(flags: Flags, dynamic: bool, below: Below) -> Self {
        let standing = Standing { presence: Presence::Unborn, incarnation: 0, office: None, flags };
        Self {
            home: OnceLock::new(),
            dynamic,
            below,
            standing: Mutex::new(standing),
            change: Notify::new(),
        }
    }

    pub(super) fn set_flags(&self, flags: Flags) {
        self.standing.lock().flags = flags;
    }

    pub(super) fn open(&self, office: &Arc<Office>, incarnation: u64) {
        let mut standing = self.standing.lock();
        standing.presence = Presence::Up;
        standing.incarnation = incarnation;
        standing.office = Some(Arc::clone(office));
        drop(standing);
        self.change.notify_waiters();
    }
}

impl Place for SupervisorPlace {
    fn settle_in(&self, path: &Path, tree: &Arc<Tree>) {
        self.home.get_or_init(|| (path.clone(), Arc::clone(tree)));
    }

    fn close(&self, incarnation: u64) {
        let mut standing = self.standing.lock();
        if standing.incarnation == incarnation {
            standing.presence = Presence::Restarting;
            standing.office = None;
        }
        drop(standing);
        self.change.notify_waiters();
    }

    fn outlook(&self, outlook: Outlook) {
        let mut standing = self.standing.lock();
        if standing.presence != Presence::Up {
            standing.presence = match outlook {
                Outlook::Restarting => Presence::Restarting,
                Outlook::Down => Presence::Down,
                Outlook::Gone => Presence::Gone,
            };
        }
        drop(standing);
        if outlook != Outlook::Restarting {
            self.below.outlook(outlook);
        }
        if outlook == Outlook::Gone
            && let Some((path, tree)) = self.home.get()
        {
            tree.leave(path);
        }
        self.change.notify_waiters();
    }

    fn lives(&self) -> u64 {
        self.standing.lock().incarnation
    }

    fn beats(&self) -> u64 {
        // A supervisor's turns are short and never wait; one that does not beat is not hung.
        0
    }
}
