//! The state that follows from the log.

mod applying;
mod sessions;
mod storing;

use std::ops::Bound;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet, Vector};
use serde::{Deserialize, Serialize};

use super::command::{Event, Item, LeaseId, Refusal, Revision};
use super::limits::{EVENTS_SCAN_MAX, PAGE_LEN_MAX, PAGE_MAX};
use sessions::Sessions;

/// All keys, with what belongs to them. A clone shares what is the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Up to which entry all is applied.
    index: u64,
    /// The last change.
    revision: Revision,
    /// Up to which revision events are forgotten.
    compacted: Revision,
    items: OrdMap<Bytes, Item>,
    /// How many bytes keys and values have.
    len: u64,
    events: Vector<Event>,
    events_len: u64,
    leases: OrdMap<LeaseId, Lease>,
    sessions: Sessions,
}

/// A lease, as all know it. When it ends only the leader's clock says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// How long it lasts from each time that it is kept alive, in milliseconds.
    pub ttl_ms: u64,
    /// The keys that hang on it.
    pub keys: OrdSet<Bytes>,
}

/// Some keys in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// What was found.
    pub items: Vec<(Bytes, Item)>,
    /// Whether there is more after the last.
    pub has_more: bool,
    /// The revision at which all of it was so.
    pub revision: Revision,
}

/// What has happened since a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// What has, in its order.
    pub events: Vec<Event>,
    /// Up to which revision that is all.
    pub upto: Revision,
    /// Whether there is more after that already.
    pub has_more: bool,
}

/// The keys that begin with a prefix are those up to this one.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return Some(Bytes::from(end));
        }
        end.pop();
    }
    None
}

impl State {
    /// The last change.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// How many bytes keys and values have.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What a key has.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Item> {
        self.items.get(key)
    }

    /// The keys from one on, up to before another, at most `max` and as many as go into a page.
    #[must_use]
    pub fn range(&self, from: &Bytes, to: Option<&Bytes>, max: usize) -> Page {
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        let max = max.min(PAGE_MAX);
        let (mut items, mut len, mut has_more) = (Vec::new(), 0, false);
        if to.is_some_and(|to| to <= from) {
            return Page { items, has_more, revision: self.revision };
        }
        for (key, item) in self.items.range::<_, Bytes>((Bound::Included(from), end)) {
            len += key.len() + item.value.len();
            if items.len() >= max || (len > PAGE_LEN_MAX && !items.is_empty()) {
                has_more = true;
                break;
            }
            items.push((key.clone(), item.clone()));
        }
        Page { items, has_more, revision: self.revision }
    }

    /// What has happened after a revision to keys that begin with a prefix, at most `max` events and as
    /// many as go into a page. All of a revision come together.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoRevision`] if some of it is forgotten, or the revision is not there yet.
    pub fn events_after(
        &self,
        revision: Revision,
        prefix: &[u8],
        max: usize,
    ) -> Result<Events, Refusal> {
        if revision < self.compacted || revision > self.revision {
            let (oldest, newest) = (self.compacted, self.revision);
            return Err(Refusal::NoRevision { revision, oldest, newest });
        }
        // Events are in the order of their revisions.
        let (mut low, mut high) = (0, self.events.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.events.get(middle) {
                Some(event) if event.revision <= revision => low = middle + 1,
                _ => high = middle,
            }
        }
        let (mut found, mut len, mut upto) = (Vec::new(), 0, revision);
        for (seen, event) in self.events.skip(low).iter().enumerate() {
            let is_full = found.len() >= max || len >= PAGE_LEN_MAX || seen >= EVENTS_SCAN_MAX;
            if is_full && event.revision != upto {
                return Ok(Events { events: found, upto, has_more: true });
            }
            upto = event.revision;
            if event.key.starts_with(prefix) {
                len += event.key.len() + event.item.as_ref().map_or(0, |item| item.value.len());
                found.push(event.clone());
            }
        }
        Ok(Events { events: found, upto: self.revision, has_more: false })
    }

    /// Up to which revision events are forgotten.
    #[must_use]
    pub const fn compacted(&self) -> Revision {
        self.compacted
    }

    /// The leases that there are, to be compared with those of another time.
    pub(super) const fn lease_map(&self) -> &OrdMap<LeaseId, Lease> {
        &self.leases
    }

    /// The leases that there are.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.leases.iter().map(|(id, lease)| (*id, lease))
    }

    /// A lease.
    #[must_use]
    pub fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id)
    }
}
