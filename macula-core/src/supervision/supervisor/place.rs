//! A supervisor's place in the tree: what outlives its incarnations.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

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
#[derive(Debug, Default)]
pub(super) struct Roster {
    next_rank: u64,
    specs: BTreeMap<ChildId, (u64, ChildSpec)>,
}

impl Roster {
    pub(super) fn add(&mut self, child: ChildSpec) {
        if let Some(id) = child.id.clone() {
            self.specs.insert(id, (self.next_rank, child));
            self.next_rank += 1;
        }
    }

    pub(super) fn in_order(&self) -> Vec<ChildSpec> {
        let mut specs: Vec<_> = self.specs.values().collect();
        specs.sort_by_key(|(rank, _)| *rank);
        specs.into_iter().map(|(_, child)| child.clone()).collect()
    }
}

pub(super) struct Standing {
    pub(super) presence: Presence,
    pub(super) incarnation: u64,
    pub(super) office: Option<Arc<Office>>,
    /// It runs, and when it does not any more it will be gone.
    pub(super) doomed: bool,
    pub(super) flags: Flags,
}

/// A supervisor's place in the tree: what outlives its incarnations.
pub(super) struct SupervisorPlace {
    /// A handle that is kept keeps no tree; the tree knows its supervisors.
    pub(super) home: OnceLock<(Path, Weak<Tree>)>,
    pub(super) dynamic: bool,
    pub(super) below: Below,
    pub(super) standing: Mutex<Standing>,
    pub(super) change: Notify,
}

/// The children that come and go with a supervisor.
pub(super) struct Below {
    pub(super) listed: Vec<ChildSpec>,
    pub(super) roster: Option<Arc<Mutex<Roster>>>,
}

impl Below {
    /// Whether a child of this id comes back with its supervisor.
    pub(super) fn returns(&self, id: &ChildId) -> bool {
        match &self.roster {
            Some(roster) => roster.lock().specs.contains_key(id),
            None => self.listed.iter().any(|child| child.id.as_ref() == Some(id)),
        }
    }

    pub(super) fn remember(&self, child: ChildSpec) {
        if let Some(roster) = &self.roster {
            roster.lock().add(child);
        }
    }

    pub(super) fn forget(&self, id: &ChildId) {
        if let Some(roster) = &self.roster {
            roster.lock().specs.remove(id);
        }
    }

    fn outlook(&self, outlook: Outlook) {
        let specs = match &self.roster {
            Some(roster) => roster.lock().in_order(),
            None => self.listed.clone(),
        };
        for child in specs {
            child.launcher.0.place().outlook(outlook);
        }
    }
}

impl SupervisorPlace {
    pub(super) fn new(flags: Flags, dynamic: bool, below: Below) -> Self {
        let standing = Standing {
            presence: Presence::Unborn,
            incarnation: 0,
            office: None,
            doomed: false,
            flags,
        };
        Self {
            home: OnceLock::new(),
            dynamic,
            below,
            standing: Mutex::new(standing),
            change: Notify::new(),
        }
    }

    pub(super) fn home(&self) -> Option<(Path, Arc<Tree>)> {
        let (path, tree) = self.home.get()?;
        Some((path.clone(), tree.upgrade()?))
    }

    pub(super) fn set_flags(&self, flags: Flags) {
        self.standing.lock().flags = flags;
    }

    pub(super) fn open(&self, office: &Arc<Office>, incarnation: u64) {
        let mut standing = self.standing.lock();
        standing.presence = Presence::Up;
        standing.doomed = false;
        standing.incarnation = incarnation;
        standing.office = Some(Arc::clone(office));
        drop(standing);
        self.change.notify_waiters();
    }
}

impl Place for SupervisorPlace {
    fn settle_in(&self, path: &Path, tree: &Arc<Tree>) {
        self.home.get_or_init(|| (path.clone(), Arc::downgrade(tree)));
    }

    fn close(&self, incarnation: u64) {
        let mut standing = self.standing.lock();
        if standing.incarnation == incarnation {
            standing.presence = if standing.doomed { Presence::Gone } else { Presence::Restarting };
            standing.office = None;
        }
        drop(standing);
        self.change.notify_waiters();
    }

    fn outlook(&self, outlook: Outlook) {
        let mut standing = self.standing.lock();
        if standing.presence == Presence::Up {
            standing.doomed = outlook == Outlook::Gone;
        } else {
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
            && let Some((path, tree)) = self.home()
        {
            tree.leave(&path);
        }
        self.change.notify_waiters();
    }

    fn is_up(&self) -> bool {
        self.standing.lock().presence == Presence::Up
    }

    fn lives(&self) -> u64 {
        self.standing.lock().incarnation
    }

    fn beats(&self) -> u64 {
        // A supervisor's turns are short and never wait; one that does not beat is not hung.
        0
    }
}
