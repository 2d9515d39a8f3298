//! The audit: what was refused to whom, and why.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;
use parking_lot::Mutex;
use serde::Serialize;

use super::metrics;
use crate::tokens::{Bucket, Rate};

/// How many of the newest refusals a node has at hand.
pub const AUDITED_MAX: usize = 1_024;

/// The target of the events by which a subscriber of `tracing` gets each entry.
const TARGET: &str = "macula::audit";

/// How many refusals are told: whoever is refused all the time does not fill the log.
const TOLD: Rate = Rate { per_s: 100, burst: 1_000 };

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audited {
    /// When, since the Unix epoch, by this node's clock.
    pub at: Duration,
    /// To whom, if that is known.
    pub node: Option<NodeId>,
    /// What was to be done: an [action](super::Action), or `connect`, `store`,
    /// `find` or `relay`.
    pub action: &'static str,
    /// To what; or for a connection, who it is as far as is known, and from where.
    pub name: String,
    /// Why not.
    pub why: String,
}

/// The audit of a node. Clones are the same.
///
/// Each entry is counted in `macula_access_refused_total`, is among the newest [`AUDITED_MAX`] for a
/// while, and is an event of `tracing` with the target `macula::audit` and the level `WARN`. Of more
/// than 1,000 at once, and then of more than 100 in a second, there are no events.
#[derive(Clone)]
pub struct Audit(Arc<Mutex<Entries>>);

struct Entries {
    newest: VecDeque<Audited>,
    told: Bucket,
}

impl Default for Audit {
    fn default() -> Self {
        let told = Bucket::full(TokioClock.now(), TOLD);
        Self(Arc::new(Mutex::new(Entries { newest: VecDeque::new(), told })))
    }
}

impl Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").field("entries", &self.0.lock().newest.len()).finish()
    }
}

impl Audit {
    /// The newest refusals, the oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<Audited> {
        self.0.lock().newest.iter().cloned().collect()
    }

    pub(crate) fn refused(&self, entry: Audited) {
        ::metrics::counter!(metrics::REFUSED, "action" => entry.action).increment(1);
        let mut entries = self.0.lock();
        let is_told = entries.told.take(TokioClock.now(), TOLD, 1).is_ok();
        if entries.newest.len() >= AUDITED_MAX {
            entries.newest.pop_front();
        }
        entries.newest.push_back(entry.clone());
        drop(entries);
        if is_told {
            let Audited { node, action, name, why, .. } = entry;
            let node = node.map(|node| node.to_string()).unwrap_or_default();
            tracing::warn!(target: TARGET, node, action, name, why, "refused");
        }
    }
}
