//! What has to hold of calls and streams that go over relays.

use std::collections::{BTreeMap, BTreeSet};

use macula_tests::world::{Entry, What};

use super::storm::{Seen, answer_to};

/// How far a stream has come.
#[derive(Debug, Default)]
struct Stream {
    arrived: u64,
    echoed: u64,
    is_over: bool,
}

/// The account of a run.
#[derive(Debug, Default)]
struct Account {
    open: BTreeSet<u64>,
    ended: BTreeSet<u64>,
    handled: BTreeSet<u64>,
    streams: BTreeMap<u64, Stream>,
}

/// Each call ends once, with its own answer, and is handled at most once: exactly once if it was
/// answered, and not at all if it is said so. Of each stream all arrives and comes back once and in
/// order, up to where it breaks. If the storm is gentle, no stream breaks and no call fails.
pub(crate) fn check(entries: &[Entry<Seen>], is_gentle: bool) -> Result<(), String> {
    let mut account = Account::default();
    for entry in entries {
        let What::Seen(seen) = &entry.what else { continue };
        let told = account.take(seen);
        told.map_err(|why| format!("{why}, at {:?} on node {}", entry.at, entry.node))?;
        if is_gentle
            && let Seen::Broke { why, stream } = seen
            && account.streams.contains_key(stream)
        {
            return Err(format!("stream {stream:x} has broken: {why}, at {:?}", entry.at));
        }
        if is_gentle && let Seen::Failed { why, call, may_have_run: true } = seen {
            return Err(format!("call {call:x} has failed: {why}, at {:?}", entry.at));
        }
    }
    Ok(())
}

impl Account {
    fn take(&mut self, seen: &Seen) -> Result<(), String> {
        let holds = match seen {
            Seen::Asked { call, .. } => self.open.insert(*call),
            Seen::Handled { call } => self.handled.insert(*call),
            Seen::Answered { call, answer } => {
                *answer == answer_to(*call) && self.handled.contains(call) && self.end(*call)
            }
            Seen::Failed { call, may_have_run, .. } => {
                (*may_have_run || !self.handled.contains(call)) && self.end(*call)
            }
            Seen::Opened { stream, .. } => {
                self.streams.insert(*stream, Stream::default()).is_none()
            }
            Seen::Arrived { stream, item } => {
                let stream = self.streams.entry(*stream).or_default();
                stream.arrived += 1;
                stream.arrived - 1 == *item
            }
            Seen::Echoed { stream, item } => {
                let stream = self.streams.entry(*stream).or_default();
                stream.echoed += 1;
                stream.echoed - 1 == *item && stream.arrived > *item && !stream.is_over
            }
            Seen::Finished { stream } => {
                let stream = self.streams.entry(*stream).or_default();
                stream.arrived == stream.echoed && !std::mem::replace(&mut stream.is_over, true)
            }
            Seen::Broke { .. } | Seen::Linked { .. } => true,
        };
        if holds { Ok(()) } else { Err(format!("this cannot be: {seen:?}")) }
    }

    fn end(&mut self, call: u64) -> bool {
        self.open.contains(&call) && self.ended.insert(call)
    }
}
