//! What a newcomer is given: the records and providers that belong to it now, of those that are kept
//! here, and of those that were published from here. All who kept one of these may be gone, and the
//! newcomer may be one of them, who has lost it.

use std::time::Instant;

use super::super::peer::Peer;
use super::super::published::Issued;
use super::super::records::Condition;
use super::{Node, OUTPUTS_MAX, Purpose, UPKEEP_WITHIN, UnderWay};
use crate::dht::key::Key;
use crate::dht::record;
use crate::dht::wire::Op;

/// How many keys are looked at for one newcomer, of records and of providers each. What is left
/// out comes to it when it is next replicated or issued.
const KEYS_MAX: usize = 16_384;

impl Node {
    /// Gives a newcomer what belongs to it, if this node is the closest of those who have it.
    pub(super) fn welcome(&mut self, now: Instant, newcomer: &Peer) {
        let belongs = |key: &Key| self.belongs(key, newcomer);
        let records: Vec<_> = self.records.keys(now).take(KEYS_MAX).filter(belongs).collect();
        let providers: Vec<_> = self.providers.keys().take(KEYS_MAX).filter(belongs).collect();
        for key in records {
            self.repair(now, newcomer, key);
        }
        for key in providers {
            let kept: Vec<_> = self.providers.kept(now, &key).cloned().collect();
            for provider in kept {
                self.give(now, newcomer, Op::Provide { provider });
            }
        }
        self.give_published(now, newcomer);
    }

    /// Gives a newcomer what was published from here and is not kept here.
    fn give_published(&mut self, now: Instant, newcomer: &Peer) {
        let issued: Vec<_> = self
            .published
            .issued(now)
            .filter(|(key, _)| self.is_close(key, newcomer))
            .filter(|(key, issued)| match issued {
                Issued::Record(_) => self.records.get(now, key).is_none(),
                Issued::Provider(provider) => {
                    !self.providers.kept(now, key).any(|kept| kept == provider)
                }
            })
            .map(|(_, issued)| issued)
            .collect();
        for issued in issued {
            match issued {
                Issued::Record(record) => self.hand_over(now, newcomer, record),
                Issued::Provider(provider) => self.give(now, newcomer, Op::Provide { provider }),
            }
        }
    }

    /// Whether a peer is one of the k closest to a key.
    fn is_close(&self, key: &Key, peer: &Peer) -> bool {
        let closest = self.table.closest(*key, self.config.table.k);
        closest.iter().any(|close| close.node() == peer.node())
    }

    /// Whether a newcomer is one of the k closest to a key, and this node the closest of the others.
    fn belongs(&self, key: &Key, newcomer: &Peer) -> bool {
        let (k, mine) = (self.config.table.k, key.distance(&self.own.key()));
        let closest = self.table.closest(*key, k + 1);
        let mut others = closest
            .iter()
            .filter(|peer| peer.node() != newcomer.node())
            .map(|peer| key.distance(&peer.key()));
        if others.clone().next().is_some_and(|nearest| nearest < mine) {
            return false;
        }
        // With this node they are k.
        let kth = others.nth(k.saturating_sub(2));
        kth.is_none_or(|kth| key.distance(&newcomer.key()) < kth)
    }

    /// Hands a peer the record that is kept here under a key.
    pub(super) fn repair(&mut self, now: Instant, peer: &Peer, key: Key) {
        if let Some(record) = self.records.get(now, &key).cloned() {
            self.hand_over(now, peer, record);
        }
    }

    /// Hands a peer a record that it should have.
    pub(super) fn hand_over(&mut self, now: Instant, peer: &Peer, record: record::Signed) {
        self.give(now, peer, Op::Store { record, condition: Condition::Any });
    }

    /// Has a peer keep something, for nobody in particular.
    fn give(&mut self, now: Instant, peer: &Peer, op: Op) {
        if peer.node() == self.own.node() || self.out.len() >= OUTPUTS_MAX {
            return;
        }
        self.stats.repaired += 1;
        let ticket = self.requests.submit(now, peer.contact(), op, now + UPKEEP_WITHIN);
        let (peer, purpose) = (peer.clone(), Purpose::Repair);
        self.under_way.insert(ticket, UnderWay { peer, purpose });
    }
}
