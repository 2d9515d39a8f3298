//! The state as a group keeps it: applied from entries, and brought to disk in chunks.

use bytes::Bytes;
use imbl::Vector;
use serde::{Deserialize, Serialize};

use super::super::command::{Answer, Event, Item, LeaseId, Once, Refusal, Revision};
use super::applying::written;
use super::sessions::Session;
use super::{Lease, State};
use crate::raft::Replicated;

/// How many bytes of keys and values a chunk has, more or less: one may have more by the longest.
const CHUNK_LEN: usize = 64 << 10;

/// What a session and a lease have beside their answers and keys, in bytes, about.
const BESIDE_LEN: usize = 64;

/// A chunk of a state. The first is a `Head`.
#[derive(Serialize, Deserialize)]
enum Chunk {
    Head { index: u64, revision: Revision, compacted: Revision },
    Sessions(Vec<(u128, Session)>),
    Leases(Vec<(LeaseId, Lease)>),
    Items(Vec<(Bytes, Item)>),
    Events(Vec<Event>),
}

fn encoded(chunk: &Chunk) -> Bytes {
    Bytes::from(rmp_serde::to_vec_named(chunk).unwrap_or_default())
}

/// Things in groups of some bytes.
fn grouped<T>(
    mut things: impl Iterator<Item = T>,
    len: impl Fn(&T) -> usize,
) -> impl Iterator<Item = Vec<T>> {
    std::iter::from_fn(move || {
        let (mut group, mut group_len) = (Vec::new(), 0);
        while group_len < CHUNK_LEN {
            let Some(thing) = things.next() else { break };
            group_len += len(&thing);
            group.push(thing);
        }
        (!group.is_empty()).then_some(group)
    })
}

impl Replicated for State {
    fn apply(&mut self, index: u64, command: &Bytes) -> Bytes {
        self.index = index;
        match rmp_serde::from_slice::<Once>(command) {
            Ok(once) => self.command(index, &once),
            Err(error) => written(&Answer::Refused(Refusal::Unreadable(error.to_string()))),
        }
    }

    fn pass(&mut self, index: u64) {
        self.index = index;
    }

    fn chunks(&self) -> Box<dyn Iterator<Item = Bytes> + Send + '_> {
        let head =
            Chunk::Head { index: self.index, revision: self.revision, compacted: self.compacted };
        let sessions = grouped(self.sessions.iter(), |(_, session)| {
            usize::try_from(session.len()).unwrap_or(usize::MAX).saturating_add(BESIDE_LEN)
        });
        let leases = self.leases.iter().map(|(id, lease)| (*id, lease.clone()));
        let leases = grouped(leases, |(_, lease)| {
            lease.keys.iter().map(Bytes::len).sum::<usize>() + BESIDE_LEN
        });
        let items = self.items.iter().map(|(key, item)| (key.clone(), item.clone()));
        let items = grouped(items, |(key, item)| key.len() + item.value.len());
        let event_len =
            |event: &Event| event.key.len() + event.item.as_ref().map_or(0, |i| i.value.len());
        let events = grouped(self.events.iter().cloned(), event_len);
        let rest = sessions
            .map(Chunk::Sessions)
            .chain(leases.map(Chunk::Leases))
            .chain(items.map(Chunk::Items))
            .chain(events.map(Chunk::Events));
        Box::new(std::iter::once(encoded(&head)).chain(rest.map(|chunk| encoded(&chunk))))
    }

    fn restore(chunks: &mut dyn Iterator<Item = Bytes>) -> Result<Self, String> {
        let mut state = Self::default();
        for chunk in chunks {
            let chunk = rmp_serde::from_slice(&chunk).map_err(|error| error.to_string())?;
            match chunk {
                Chunk::Head { index, revision, compacted } => {
                    state = Self { index, revision, compacted, ..state };
                }
                Chunk::Sessions(sessions) => {
                    sessions.into_iter().for_each(|(id, one)| state.sessions.put(id, one));
                }
                Chunk::Leases(leases) => state.leases.extend(leases),
                Chunk::Items(items) => {
                    for (key, item) in items {
                        state.len += (key.len() + item.value.len()) as u64;
                        state.items.insert(key, item);
                    }
                }
                Chunk::Events(events) => {
                    let more: Vector<Event> = events.into();
                    let len = |event: &Event| {
                        event.key.len() + event.item.as_ref().map_or(0, |i| i.value.len())
                    };
                    state.events_len += more.iter().map(|event| len(event) as u64).sum::<u64>();
                    state.events.append(more);
                }
            }
        }
        Ok(state)
    }
}
