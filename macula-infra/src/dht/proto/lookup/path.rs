//! A path of a lookup: whom it has heard of, and whether it still comes closer.

use std::collections::BTreeMap;

use crate::dht::key::Distance;
use crate::dht::proto::peer::Peer;

use super::SEEN_MAX;

/// A peer that a path has heard of.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) peer: Peer,
    /// How many steps led to it: 1 if it was in the own table.
    pub(super) hop: usize,
}

/// What one path knows.
#[derive(Debug, Default)]
pub(super) struct Path {
    seen: BTreeMap<Distance, Place>,
    /// How many answers in a row have brought nobody closer.
    idle: usize,
    /// How many were asked on it.
    pub(super) asked: usize,
    /// From how many of them an answer is waited for, and none is slow.
    pub(super) waiting: usize,
}

impl Path {
    /// Notes a peer. Of one that is known already, the addresses are noted.
    pub(super) fn learn(&mut self, distance: Distance, peer: &Peer, hop: usize) {
        if let Some(place) = self.seen.get_mut(&distance) {
            if place.peer != *peer {
                place.peer = place.peer.merged(peer);
            }
            place.hop = place.hop.min(hop);
            return;
        }
        self.seen.insert(distance, Place { peer: peer.clone(), hop });
        if self.seen.len() > SEEN_MAX {
            self.seen.pop_last();
        }
    }

    /// How far the closest is that was heard of.
    pub(super) fn nearest(&self) -> Option<Distance> {
        self.seen.first_key_value().map(|(distance, _)| *distance)
    }

    /// Counts an answer, given how far the closest was before it.
    pub(super) fn note_progress(&mut self, before: Option<Distance>) {
        self.idle = if self.nearest() < before { 0 } else { self.idle + 1 };
    }

    /// Whether a whole round of answers has brought nobody closer.
    pub(super) const fn is_closing(&self, share: usize) -> bool {
        self.idle >= share
    }

    pub(super) fn get(&self, distance: &Distance) -> Option<&Place> {
        self.seen.get(distance)
    }

    /// All that it has heard of, the closest first.
    pub(super) fn places(&self) -> impl Iterator<Item = (&Distance, &Place)> {
        self.seen.iter()
    }
}
