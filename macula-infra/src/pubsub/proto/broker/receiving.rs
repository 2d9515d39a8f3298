//! The subscriber's ends of sessions, and whatever other nodes say.

use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;
use macula_core::topic::Topic;

use super::super::Output;
use super::super::inlet::Inlet;
use super::super::intake::Taken;
use super::super::outlet::Wish;
use super::super::subscribers::{Handed, Origin, Takers};
use super::super::word::{Batch, Entry, Failure, FlowId, Life, SessionId, Word};
use super::{Broker, OTHER_REALM, REPORT_DELAY, SESSIONS_MAX, Timer};

/// How long it is waited before more is told of what is wanted, if there is much.
const MORE_AFTER: Duration = Duration::from_millis(20);

/// After how many entries a publisher is told at once, and not only after a while.
const REPORT_AT: usize = 512;

impl Broker {
    pub(super) fn word(&mut self, now: Instant, from: NodeId, session: SessionId, word: Word) {
        match word {
            Word::Hello { realm, life, is_new } => {
                self.greeted(now, from, (session, is_new), (realm, life));
            }
            Word::News { prefixes } => {
                for prefix in prefixes {
                    self.there_are(now, &prefix, vec![from]);
                }
                self.know_all(now);
            }
            Word::Plant(plant) => self.plant(now, from, plant),
            Word::Branch { tree, said, is_allowed } => {
                self.branch(now, from, tree, (said, is_allowed));
            }
            Word::Fell { tree } => self.felled(now, from, tree),
            Word::Declined { tree, why } => self.declined(now, from, tree, why),
            Word::Ask { .. } | Word::Batch(_) | Word::Forbidden { .. } | Word::Bye => {
                if self.inlets.get(&from).is_none_or(|inlet| inlet.session != session) {
                    return self.send(from, session, Word::Reset);
                }
                match word {
                    Word::Ask { prefixes } => self.asked(now, from, prefixes),
                    Word::Batch(batch) => self.batch(now, from, batch),
                    Word::Forbidden { patterns } => {
                        for pattern in &patterns {
                            self.subscribers.refused(from, pattern);
                        }
                    }
                    _ => self.drop_inlet(from),
                }
            }
            word => {
                if self.outlets.get(&from).is_some_and(|outlet| outlet.session == session) {
                    self.answered(now, from, word);
                }
            }
        }
    }

    /// The subscriber's end of a session says something.
    fn answered(&mut self, now: Instant, from: NodeId, word: Word) {
        match word {
            Word::Welcome { life, window, version, received } => {
                self.welcomed(now, from, (life, window), (version, &received));
            }
            Word::Interest(interest) => self.heard(now, from, interest),
            Word::Replay { sub, pattern, replay, max } => {
                let max = usize::try_from(max).unwrap_or(usize::MAX);
                self.replay(now, from, Wish { sub, pattern, replay, max });
            }
            Word::Report { life, flows } => self.reported(now, from, life, &flows),
            Word::Reset => self.renew(now, from, None),
            Word::Refused { why } => {
                tracing::warn!(peer = from.short(), why, "a node refuses what is published");
                self.refused(now, from);
            }
            Word::Hello { .. }
            | Word::Ask { .. }
            | Word::Batch(_)
            | Word::Forbidden { .. }
            | Word::Bye
            | Word::Plant(_)
            | Word::Branch { .. }
            | Word::Fell { .. }
            | Word::Declined { .. }
            | Word::News { .. } => {}
        }
    }

    /// A publisher begins a session, or goes on with one.
    fn greeted(
        &mut self,
        now: Instant,
        from: NodeId,
        (session, is_new): (SessionId, bool),
        (realm, life): ([u8; 32], Life),
    ) {
        if realm != self.me.realm {
            self.out.push_back(Output::Misbehaved { peer: from, why: OTHER_REALM });
            return self.send(from, session, Word::Refused { why: OTHER_REALM.to_owned() });
        }
        let known = self.inlets.get(&from);
        if known.is_none_or(|inlet| inlet.session != session) {
            if !is_new || known.is_some_and(|inlet| inlet.life > life) {
                return self.send(from, session, Word::Reset);
            }
            if known.is_none() && self.inlets.len() >= SESSIONS_MAX {
                // It greets again, and there may be room then.
                return;
            }
            self.end_older(from, life);
            self.inlets.insert(from, Inlet::new(session, life));
            self.blocked.remove(&from);
        }
        let Some(inlet) = self.inlets.get_mut(&from) else { return };
        inlet.report_again();
        // What was asked for with a connection that is lost may be lost too.
        for sub in inlet.replaying.clone() {
            if let Some(wish) = self.subscribers.unreplayed(sub, from, inlet.life) {
                let of = (wish.wanted.pattern.clone(), wish.replay);
                inlet.replay_again(sub, of, self.subscribers.room_of(sub));
            }
        }
        let (version, received) = (inlet.version, inlet.received());
        let (life, window) = (self.me.life, self.me.config.window());
        let welcome = Word::Welcome { life, window, version, received };
        self.send(from, session, welcome);
        self.tell_publisher(now, from);
    }

    pub(super) fn drop_inlet(&mut self, node: NodeId) {
        self.end_all(node);
        self.inlets.remove(&node);
        self.blocked.remove(&node);
        self.timers.clear(Timer::Report(node));
    }

    /// A publisher asks what is wanted.
    fn asked(&mut self, now: Instant, from: NodeId, prefixes: Vec<Arc<str>>) {
        let Some(inlet) = self.inlets.get_mut(&from) else { return };
        let prefixes = inlet.to_be_answered(prefixes);
        if prefixes.is_empty() {
            return self.tell_publisher(now, from);
        }
        let (mut entries, mut replays) = (Vec::new(), Vec::new());
        for prefix in &prefixes {
            if !inlet.ask(prefix) {
                continue;
            }
            let wanted = self.subscribers.wanted_at(prefix);
            entries.extend(wanted.map(|(wanted, standing)| (wanted.clone(), standing)));
            for (sub, wish) in self.subscribers.unreplayed_at(prefix, from, inlet.life) {
                if inlet.replaying.insert(sub) {
                    let pattern = wish.wanted.pattern.clone();
                    replays.push((sub, pattern, wish.replay));
                }
            }
        }
        inlet.interests(prefixes, entries);
        for (sub, pattern, replay) in replays {
            inlet.replay(sub, (pattern, replay), self.subscribers.room_of(sub));
        }
        self.tell_publisher(now, from);
    }

    fn batch(&mut self, now: Instant, from: NodeId, batch: Batch) {
        let Some(inlet) = self.inlets.get_mut(&from) else { return };
        let is_long = batch.entries.len() == 1;
        let Some(intake) = inlet.intake(batch.flow) else { return };
        match intake.take(batch, self.me.config.window()) {
            Taken::Well => {
                self.hand_on(from);
                self.report_soon(now, from, is_long);
            }
            Taken::Hole => self.report_soon(now, from, true),
            Taken::Overrun => {
                let why = "it sends more than it has credit for";
                self.out.push_back(Output::Misbehaved { peer: from, why });
            }
        }
    }

    fn report_soon(&mut self, now: Instant, node: NodeId, at_once: bool) {
        let is_much = self.inlets.get(&node).is_some_and(|inlet| inlet.unreported() >= REPORT_AT);
        if at_once || is_much {
            self.pending.inlets.insert(node);
            self.flush_soon(now);
        } else if self.timers.get(Timer::Report(node)).is_none() {
            self.timers.set(Timer::Report(node), now + REPORT_DELAY);
        }
    }

    /// Tells a publisher what has come, and what stands otherwise.
    pub(super) fn tell_publisher(&mut self, now: Instant, node: NodeId) {
        self.timers.clear(Timer::Report(node));
        let Some(inlet) = self.inlets.get_mut(&node) else { return };
        let session = inlet.session;
        let words: Vec<Word> = inlet.news().into_iter().chain(inlet.report(self.me.life)).collect();
        if inlet.has_more() {
            self.timers.set(Timer::Report(node), now + MORE_AFTER);
        }
        for word in words {
            self.send(node, session, word);
        }
    }

    /// What was told to a publisher was not sent. Interests it misses by their numbers.
    pub(super) fn tell_again(&mut self, now: Instant, to: NodeId, session: SessionId) {
        let inlet = self.inlets.get_mut(&to);
        let Some(inlet) = inlet.filter(|inlet| inlet.session == session) else { return };
        inlet.report_again();
        if self.timers.get(Timer::Report(to)).is_none() {
            self.timers.set(Timer::Report(to), now + REPORT_DELAY * 25);
        }
    }

    /// Hands on what has come from a publisher, as far as there is room.
    pub(super) fn hand_on(&mut self, from: NodeId) {
        self.blocked.remove(&from);
        let mut takers: Option<(Topic, Takers)> = None;
        for flow in FlowId::all() {
            let Some(inlet) = self.inlets.get_mut(&from) else { return };
            let origin = Origin { publisher: from, life: inlet.life, flow };
            let Some(intake) = inlet.intake(flow) else { continue };
            while let Some(entry) = intake.next() {
                let failure = match entry {
                    Entry::Message(carried) => {
                        let known = takers.take().filter(|(topic, _)| *topic == carried.topic);
                        let (topic, of) = known.unwrap_or_else(|| {
                            (carried.topic.clone(), self.subscribers.takers(&carried.topic))
                        });
                        let handed = self.subscribers.hand(origin, carried, &of);
                        takers = Some((topic, of));
                        match handed {
                            Handed::Over(failure) => failure,
                            Handed::NotYet(carried) => {
                                intake.put_back(Entry::Message(carried));
                                self.blocked.insert(from);
                                break;
                            }
                        }
                    }
                    Entry::Missing(missing) => {
                        self.subscribers.missing(origin, &missing);
                        None
                    }
                    Entry::Void(missing) => {
                        self.subscribers.missing(origin, &missing);
                        Some(Failure::Expired)
                    }
                    Entry::Cut(sub) => {
                        self.subscribers.cut(origin, sub);
                        None
                    }
                };
                intake.pass(failure);
            }
        }
    }
}
