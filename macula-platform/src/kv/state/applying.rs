//! Applies commands.

use std::collections::BTreeMap;

use bytes::Bytes;
use imbl::OrdSet;

use super::super::checks::{self, size};
use super::super::command::{
    Answer, Command, Condition, Event, Holds, Item, LeaseId, Once, Op, Refusal, Txn,
};
use super::super::limits::{
    ALL_LEN_MAX, EVENTS_LEN_MAX, EVENTS_MAX, FOUND_LEN_MAX, LEASE_KEYS_MAX, LEASES_MAX,
};
use super::sessions::Known;
use super::{Lease, State};

fn len_of(key: &Bytes, item: Option<&Item>) -> u64 {
    item.map_or(0, |item| size(key.len() + item.value.len()))
}

impl State {
    /// Applies the command of an entry, unless it was applied before: then it has that answer.
    pub(super) fn command(&mut self, index: u64, once: &Once) -> Bytes {
        match self.sessions.look(once) {
            Known::Answered(answer) => return answer,
            Known::Forgotten => return written(&Answer::Refused(Refusal::Forgotten)),
            Known::Fresh => {}
        }
        let answer = match &once.command {
            Command::Open => Ok(Answer::Opened { at: index }),
            Command::Txn(txn) => self.txn(index, txn),
            Command::Grant { ttl_ms } => self.grant(index, *ttl_ms),
            Command::Revoke { lease } => self.revoke(index, *lease),
            Command::Compact { revision } => self.compact(*revision),
        };
        let answer = written(&answer.unwrap_or_else(Answer::Refused));
        self.sessions.note(index, once, answer.clone());
        answer
    }

    fn txn(&mut self, index: u64, txn: &Txn) -> Result<Answer, Refusal> {
        let Txn { conditions, then, otherwise } = txn;
        checks::txn(txn)?;
        let held = conditions.iter().all(|condition| self.holds(condition));
        let ops = if held { then } else { otherwise };
        self.check(ops)?;
        let found = ops.iter().map(|op| {
            let before = self.items.get(op.key()).cloned();
            match op {
                Op::Get(_) => {}
                Op::Put { key, value, lease } => {
                    let (created, version) =
                        before.as_ref().map_or((index, 0), |item| (item.created, item.version));
                    let (value, lease, version) = (value.clone(), *lease, version + 1);
                    let item = Item { value, created, modified: index, version, lease };
                    self.change(index, key, Some(item));
                }
                Op::Delete(key) => self.change(index, key, None),
            }
            before
        });
        let found = found.collect();
        self.forget_events();
        Ok(Answer::Done { held, found, revision: self.revision })
    }

    fn holds(&self, Condition { key, holds }: &Condition) -> bool {
        let item = self.items.get(key);
        match holds {
            Holds::Exists => item.is_some(),
            Holds::Absent => item.is_none(),
            Holds::ModifiedAt(revision) => item.is_some_and(|item| item.modified == *revision),
            Holds::CreatedAt(revision) => item.is_some_and(|item| item.created == *revision),
            Holds::Is(value) => item.is_some_and(|item| item.value == *value),
        }
    }

    /// Whether there is room for what is done of a transaction.
    fn check(&self, done: &[Op]) -> Result<(), Refusal> {
        let found = done.iter().map(|op| len_of(op.key(), self.items.get(op.key()))).sum::<u64>();
        if found > size(FOUND_LEN_MAX) {
            let (what, max) = ("answer".to_owned(), size(FOUND_LEN_MAX));
            return Err(Refusal::TooLong { what, len: found, max });
        }
        for op in done {
            checks::claim(op, self.items.get(op.key()).and_then(|item| item.lease))?;
        }
        self.check_leases(done)?;
        // The last operation on a key counts.
        let mut after: BTreeMap<&Bytes, u64> = BTreeMap::new();
        for op in done {
            match op {
                Op::Get(_) => {}
                Op::Put { key, value, .. } => {
                    after.insert(key, size(key.len() + value.len()));
                }
                Op::Delete(key) => {
                    after.insert(key, 0);
                }
            }
        }
        let before: u64 = after.keys().map(|key| len_of(key, self.items.get(*key))).sum();
        let added: u64 = after.values().sum();
        let len = self.len.saturating_sub(before).saturating_add(added);
        if added > before && len > ALL_LEN_MAX {
            let what = "all keys and values, in bytes,".to_owned();
            return Err(Refusal::Full { what, len, max: ALL_LEN_MAX });
        }
        Ok(())
    }

    /// Whether the leases are there that keys are to hang on, and have room for them.
    fn check_leases(&self, done: &[Op]) -> Result<(), Refusal> {
        let mut more: BTreeMap<LeaseId, usize> = BTreeMap::new();
        for op in done {
            let Op::Put { key, lease: Some(id), .. } = op else { continue };
            let lease = self.leases.get(id).ok_or(Refusal::NoLease(*id))?;
            let more = more.entry(*id).or_default();
            *more += usize::from(!lease.keys.contains(key));
            let len = lease.keys.len() + *more;
            if *more > 0 && len > LEASE_KEYS_MAX {
                let (what, max) = (format!("lease {id}, in keys,"), size(LEASE_KEYS_MAX));
                return Err(Refusal::Full { what, len: size(len), max });
            }
        }
        Ok(())
    }

    /// Gives a key another item, or none, with all that follows from that.
    fn change(&mut self, index: u64, key: &Bytes, item: Option<Item>) {
        let before = match item.clone() {
            Some(item) => self.items.insert(key.clone(), item),
            None => self.items.remove(key),
        };
        if before.is_none() && item.is_none() {
            return;
        }
        let hangs_on = |item: &Option<Item>| item.as_ref().and_then(|item| item.lease);
        let (old, new) = (hangs_on(&before), hangs_on(&item));
        if old != new {
            self.hang(old, |keys| drop(keys.remove(key)));
            self.hang(new, |keys| drop(keys.insert(key.clone())));
        }
        self.len = self.len.saturating_sub(len_of(key, before.as_ref()));
        self.len += len_of(key, item.as_ref());
        self.revision = index;
        let event = Event { revision: index, key: key.clone(), item };
        self.events_len += event_len(&event);
        self.events.push_back(event);
    }

    fn hang(&mut self, lease: Option<LeaseId>, change: impl FnOnce(&mut OrdSet<Bytes>)) {
        if let Some(lease) = lease.and_then(|lease| self.leases.get_mut(&lease)) {
            change(&mut lease.keys);
        }
    }

    /// Forgets the oldest events if there are too many, all of a revision together.
    fn forget_events(&mut self) {
        while self.events.len() > EVENTS_MAX || self.events_len > EVENTS_LEN_MAX {
            let Some(oldest) = self.events.front().map(|event| event.revision) else { break };
            self.forget_events_to(oldest);
        }
    }

    fn forget_events_to(&mut self, revision: u64) {
        while let Some(event) = self.events.front().filter(|event| event.revision <= revision) {
            self.events_len = self.events_len.saturating_sub(event_len(event));
            self.events.pop_front();
        }
        self.compacted = self.compacted.max(revision);
    }

    fn grant(&mut self, index: u64, ttl_ms: u64) -> Result<Answer, Refusal> {
        checks::ttl(ttl_ms)?;
        if self.leases.len() >= LEASES_MAX {
            let (what, max) = ("leases".to_owned(), size(LEASES_MAX));
            return Err(Refusal::Full { what, len: max + 1, max });
        }
        self.leases.insert(index, Lease { ttl_ms, keys: OrdSet::new() });
        Ok(Answer::Granted(index))
    }

    fn revoke(&mut self, index: u64, lease: LeaseId) -> Result<Answer, Refusal> {
        let Lease { keys, .. } = self.leases.remove(&lease).ok_or(Refusal::NoLease(lease))?;
        keys.iter().for_each(|key| self.change(index, key, None));
        self.forget_events();
        Ok(Answer::Revoked(size(keys.len())))
    }

    fn compact(&mut self, revision: u64) -> Result<Answer, Refusal> {
        let (oldest, newest) = (self.compacted, self.revision);
        if !(oldest..=newest).contains(&revision) {
            return Err(Refusal::NoRevision { revision, oldest, newest });
        }
        self.forget_events_to(revision);
        Ok(Answer::Compacted(revision))
    }
}

fn event_len(event: &Event) -> u64 {
    size(event.key.len()) + event.item.as_ref().map_or(0, |item| size(item.value.len()))
}

/// An answer as bytes.
pub(super) fn written(answer: &Answer) -> Bytes {
    // It has nothing that cannot be written.
    Bytes::from(rmp_serde::to_vec_named(answer).unwrap_or_default())
}
