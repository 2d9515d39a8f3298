//! Names that this node announces in the directory, for as long as they are its.
//!
//! The [`Announcer`](announcer::Announcer) decides what is to be said there, and its actor says it.
//! [`Announced`] is where others say which names there are: the actors that are served, and what is
//! subscribed to.

mod actor;
mod announcer;

pub(crate) use actor::worker;
pub(crate) use announcer::Change;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use macula_core::port::Directory;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::desk::Desk;
use announcer::Input;

/// The names that a node has now.
type Current = Box<dyn Fn() -> BTreeSet<Arc<str>> + Send + Sync>;

/// What is said about a name in the directory.
type Metadata = Box<dyn Fn(&str) -> Bytes + Send + Sync>;

/// Names of one kind. Clones are the same.
#[derive(Clone)]
pub(crate) struct Announced(Arc<Shared>);

struct Shared {
    desk: Desk<Input>,
    directory: Arc<dyn Directory>,
    /// Where the directory has a name.
    place: fn(&str) -> String,
    current: Current,
    metadata: Metadata,
    /// The gauge of what the directory does not know yet.
    gauge: &'static str,
    /// What the directory may believe: whoever comes after takes back what is none any more.
    told: Mutex<BTreeSet<Arc<str>>>,
    /// How often the names have changed.
    changes: AtomicU64,
    /// What the directory has been told.
    progress: watch::Sender<Progress>,
}

/// How far the announcer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    /// How many changes it has heard of.
    changes: u64,
    /// How many names there are that the directory does not know of.
    unannounced: usize,
}

impl Debug for Announced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announced").field("gauge", &self.0.gauge).finish_non_exhaustive()
    }
}

impl Announced {
    /// Names that the directory has at `place`; `current` tells which there are, and `metadata` what
    /// is said about each.
    pub(crate) fn new(
        directory: Arc<dyn Directory>,
        place: fn(&str) -> String,
        gauge: &'static str,
        current: impl Fn() -> BTreeSet<Arc<str>> + Send + Sync + 'static,
        metadata: impl Fn(&str) -> Bytes + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            desk: Desk::default(),
            directory,
            place,
            current: Box::new(current),
            metadata: Box::new(metadata),
            gauge,
            told: Mutex::default(),
            changes: AtomicU64::new(0),
            progress: watch::Sender::default(),
        }))
    }

    /// Something has changed. Changes of one name are told in their order.
    pub(crate) fn change(&self, change: Change) {
        self.0.changes.fetch_add(1, Ordering::Relaxed);
        self.0.desk.tell(Input::Change(change));
    }

    /// What says of changes, as long as somebody else holds the names.
    pub(crate) fn teller(&self) -> impl Fn(Change) + Send + Sync + 'static {
        let shared = Arc::downgrade(&self.0);
        move |change| {
            if let Some(shared) = shared.upgrade() {
                Self(shared).change(change);
            }
        }
    }

    /// Waits until the directory knows of all names that there are now. It may never do.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing happens.
    pub(crate) async fn announced(&self) {
        let changes = self.0.changes.load(Ordering::Relaxed);
        let mut progress = self.0.progress.subscribe();
        // The sender lives as long as this handle.
        drop(progress.wait_for(|at| at.changes >= changes && at.unannounced == 0).await);
    }
}
