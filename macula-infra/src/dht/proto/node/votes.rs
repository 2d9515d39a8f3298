//! What many nodes say about one key.

use std::collections::BTreeMap;
use std::sync::Arc;

use macula_core::identity::NodeId;

use super::super::peer::Peer;
use super::Got;
use crate::dht::provider;
use crate::dht::record::Verified;

/// How many different records are looked at for one key; further ones have no vote.
const RECORDS_MAX: usize = 16;

/// How many providers are gathered.
const PROVIDERS_MAX: usize = 1_024;

/// The records that were found, and who has which.
#[derive(Debug, Default)]
pub(super) struct Votes {
    records: Vec<(Arc<Verified>, Vec<NodeId>)>,
    answered: usize,
}

impl Votes {
    /// A node has this record.
    pub(super) fn has(&mut self, node: NodeId, record: Verified) {
        self.answered += 1;
        let same = |known: &Verified| {
            known.digest() == record.digest() && known.record().author == record.record().author
        };
        if let Some((_, nodes)) = self.records.iter_mut().find(|(known, _)| same(known)) {
            nodes.push(node);
        } else if self.records.len() < RECORDS_MAX {
            self.records.push((Arc::new(record), vec![node]));
        }
    }

    /// A node has none.
    pub(super) const fn lacks(&mut self) {
        self.answered += 1;
    }

    /// How many agree on the record that would count now.
    pub(super) fn agreed(&self) -> usize {
        self.best().map_or(0, |(_, nodes)| nodes.len())
    }

    fn best(&self) -> Option<&(Arc<Verified>, Vec<NodeId>)> {
        self.records.iter().max_by(|(one, by_one), (other, by_other)| {
            let rank = |record: &Verified, by: &[NodeId]| (record.record().sequence, by.len());
            let ranks = rank(one, by_one).cmp(&rank(other, by_other));
            ranks.then_with(|| one.digest().cmp(other.digest()))
        })
    }

    /// What counts.
    pub(super) fn count(&self) -> Got {
        let best = self.best();
        Got {
            record: best.map(|(record, _)| Arc::clone(record)),
            agreed: best.map_or(0, |(_, nodes)| nodes.len()),
            answered: self.answered,
        }
    }

    /// The nodes that have an older record than what counts.
    pub(super) fn outdated(&self) -> impl Iterator<Item = (NodeId, u64)> {
        let newest = self.best().map_or(0, |(record, _)| record.record().sequence);
        let older = move |record: &Verified| record.record().sequence < newest;
        let outdated = self.records.iter().filter(move |(record, _)| older(record));
        outdated.flat_map(move |(_, nodes)| nodes.iter().map(move |node| (*node, newest)))
    }

    /// Whether a node is known to have something else than what counts.
    pub(super) fn is_behind(&self, peer: &Peer) -> bool {
        let Some((_, holders)) = self.best() else { return false };
        !holders.contains(&peer.node())
    }
}

/// The providers that were found: the newest issue of each.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    providers: BTreeMap<NodeId, provider::Verified>,
    answered: usize,
}

impl Gathered {
    /// A node has answered.
    pub(super) fn answered(&mut self) {
        self.answered += 1;
    }

    pub(super) fn add(&mut self, found: provider::Verified) {
        let (node, issued) = (found.provider().node(), found.provider().issued_at);
        let room = self.providers.len() < PROVIDERS_MAX;
        let known = self.providers.get(&node).map(|known| known.provider().issued_at);
        if known.map_or(room, |known| known < issued) {
            self.providers.insert(node, found);
        }
    }

    /// How many provide.
    pub(super) fn len(&self) -> usize {
        self.providers.values().filter(|found| !found.provider().is_withdrawal()).count()
    }

    pub(super) fn take(self, max: usize) -> super::Providing {
        let providing = self.providers.into_values();
        let providing = providing.filter(|found| !found.provider().is_withdrawal());
        super::Providing { providers: providing.take(max).collect(), answered: self.answered }
    }
}
