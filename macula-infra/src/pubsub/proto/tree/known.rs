//! What a part of a broadcast knows of one publisher's messages.

use std::collections::BTreeMap;

use macula_core::identity::NodeId;

use super::kept::Store;
use super::said::{Failed, Origin, Said};

/// The messages of one publisher.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) store: Store,
    pub(super) have: u64,
    /// The last of which it was heard.
    pub(super) seen: u64,
    /// The last that there certainly is: it came, or its publisher named it.
    pub(super) proven: u64,
    pub(super) acked: u64,
    /// It is told what was done, and not what is there.
    pub(super) is_begun: bool,
    pub(super) is_promised: bool,
    /// The first message that was for this node.
    pub(super) from: u64,
    pub(super) done: u64,
    pub(super) failed: Failed,
    /// How often that is still told.
    pub(super) acks: u32,
    /// Those that are missing: who has named each last, and how often was asked for it.
    pub(super) missing: BTreeMap<u64, (NodeId, u32)>,
}

impl Known {
    /// Up to where its publisher may believe that all has arrived.
    pub(super) const fn upto(&self) -> u64 {
        if self.is_begun { self.done } else { self.have }
    }

    pub(super) fn has(&self, sequence: u64) -> bool {
        sequence <= self.have || self.store.has(sequence)
    }

    pub(super) fn oldest(&self) -> u64 {
        self.store.first().unwrap_or(self.have + 1)
    }

    /// Its publisher, and what that is told.
    pub(super) const fn ack(&self, origin: Origin) -> (NodeId, Said) {
        let Self { from, failed, .. } = *self;
        (origin.node, Said::Ack { origin, from, upto: self.upto(), failed })
    }
}
