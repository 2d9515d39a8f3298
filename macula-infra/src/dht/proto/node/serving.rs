//! What this node does for others.

use std::time::Instant;

use macula_core::identity::NodeId;

use super::super::limits::{Offence, Verdict};
use super::super::peer::Peer;
use super::{Mode, Node, OUTPUTS_MAX, Output, Side};
use crate::contact::Contact;
use crate::dht::key::Key;
use crate::dht::signed;
use crate::dht::wire::{CONTACTS_MAX, Op, OpResult, Refusal, Reply};

/// Whoever asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) contact: &'a Contact,
    /// Whether it uses the names of another realm.
    pub(super) is_foreign: bool,
}

impl Node {
    /// A peer asks. It is answered at once, and with one result for each operation.
    pub(super) fn request(
        &mut self,
        now: Instant,
        asker: Asker<'_>,
        id: u64,
        ops: Option<Vec<Op>>,
    ) {
        let from = asker.contact;
        let Some(ops) = ops else { return self.blame(now, from.node, Offence::Malformed) };
        if self.out.len() >= OUTPUTS_MAX {
            // Whoever drives this node does not keep up; the peer's request times out.
            self.stats.limited += 1;
            return;
        }
        let results: Vec<OpResult> =
            ops.into_iter().map(|op| self.answer(now, asker, op)).collect();
        self.say(Output::Reply { to: from.node, id, reply: Reply::fitting(results) });
        if !from.addresses.is_empty() {
            // It is there; whether others can dial it shows when this node has.
            self.table.heard(now, &Peer::new(from.clone()));
        }
    }

    #[cfg(not(test))]
    fn answer(&mut self, now: Instant, asker: Asker<'_>, op: Op) -> OpResult {
        self.serve(now, asker, op)
    }

    /// A liar says what it was told to say.
    #[cfg(test)]
    fn answer(&mut self, now: Instant, asker: Asker<'_>, op: Op) -> OpResult {
        let lie = self.lies.instead_of(&op);
        let truth = self.serve(now, asker, op);
        lie.unwrap_or(truth)
    }

    fn serve(&mut self, now: Instant, asker: Asker<'_>, op: Op) -> OpResult {
        let from = asker.contact;
        match self.limits.admit(now, from.node, op.cost()) {
            Verdict::Admitted => {}
            Verdict::Busy { retry_in } => {
                self.stats.limited += 1;
                return OpResult::Refused(Refusal::Busy { retry_in });
            }
            Verdict::Ignored { left } => {
                self.stats.limited += 1;
                return OpResult::Refused(Refusal::Busy { retry_in: left });
            }
        }
        self.stats.served += 1;
        let keeps = self.mode == Mode::Server;
        let op = match op {
            // It finds nodes here, and nothing of this realm.
            Op::FindValue { key } if asker.is_foreign => {
                self.hide(now, from.node, &key);
                Op::FindNode { target: key }
            }
            Op::FindProviders { key, .. } if asker.is_foreign => {
                self.hide(now, from.node, &key);
                Op::FindProviders { key, max: 0 }
            }
            Op::Store { .. } | Op::Provide { .. } if asker.is_foreign => {
                return self.kept(from.node, OpResult::Refused(Refusal::OtherRealm));
            }
            op => op,
        };
        match op {
            Op::Ping => OpResult::Pong,
            Op::FindNode { target } => OpResult::Nodes { contacts: self.contacts(&target, from) },
            Op::FindValue { key } => {
                let contacts = self.contacts(&key, from);
                match self.records.get(now, &key).filter(|_record| keeps) {
                    Some(record) => OpResult::Value { record: record.clone(), contacts },
                    None => OpResult::Nodes { contacts },
                }
            }
            Op::FindProviders { key, max } => {
                let contacts = self.contacts(&key, from);
                // Whoever wants none is told nothing of them.
                let total = if max > 0 { self.providers.count(now, &key) } else { 0 };
                let total = u64::try_from(total).unwrap_or(u64::MAX);
                let providers = self.providers.find(now, &key, max.min(CONTACTS_MAX));
                OpResult::Providers { providers, total, contacts }
            }
            Op::Store { .. } | Op::Provide { .. } if !keeps => {
                OpResult::Refused(Refusal::Unsupported)
            }
            Op::Store { record, condition } => {
                let at = self.moment(now);
                let result = match record.verify(at.since_epoch, None, &self.rules) {
                    Ok(record) => {
                        self.cache.forget(&record.key());
                        self.records.put(at, &record, condition).into()
                    }
                    Err(refusal) => self.judge(now, from.node, refusal),
                };
                self.kept(from.node, result)
            }
            Op::Provide { provider } => {
                let at = self.moment(now);
                let result = match provider.verify(at.since_epoch, None, &self.rules) {
                    Ok(provider) => self.providers.put(at, &provider).into(),
                    Err(refusal) => self.judge(now, from.node, refusal),
                };
                self.kept(from.node, result)
            }
            Op::Unknown { .. } => OpResult::Refused(Refusal::Unsupported),
        }
    }

    /// What a peer has handed over is not believed.
    fn judge(&mut self, now: Instant, from: NodeId, refusal: signed::Refusal) -> OpResult {
        if let Some(offence) = Offence::of(&refusal) {
            self.blame(now, from, offence);
        }
        refusal.into()
    }

    /// Tells of it if a node of another realm asks for what is kept here. Whoever asks for anything
    /// else looks for what is of its own realm.
    fn hide(&mut self, now: Instant, from: NodeId, key: &Key) {
        let is_here = self.records.get(now, key).is_some() || self.providers.count(now, key) > 0;
        if is_here {
            self.refuse(from, Side::Shown, Refusal::OtherRealm);
        }
    }

    /// Tells of it if what a peer has handed over is not kept.
    fn kept(&mut self, from: NodeId, result: OpResult) -> OpResult {
        if let OpResult::Refused(refusal) = &result {
            self.refuse(from, Side::Keeper, refusal.clone());
        }
        result
    }

    /// The closest to a key that are known, but for whoever asks.
    fn contacts(&self, key: &Key, asks: &Contact) -> Vec<Contact> {
        let closest = self.table.closest(*key, CONTACTS_MAX);
        let others = closest.iter().filter(|peer| peer.node() != asks.node);
        others.map(|peer| peer.contact().clone()).collect()
    }
}
