//! What becomes of news.

use std::sync::Arc;
use std::time::Instant;

use macula_core::identity::NodeId;

use super::super::event::{Event, Parting};
use super::super::update::{Belief, Claim, Seen, Stamp, Status, Update, Verdict};
use super::suspicion::{Suspicion, Terms};
use super::swim::Swim;
use super::table::{Gone, Member};
use super::timer::Timer;
use super::{Body, Bug, Output};

/// About how many members of a mesh probe a suspect at once when they hear of it, so that it is
/// confirmed or told soon.
const CONFIRMERS: f64 = 4.0;

/// How many times the usual answer takes a suspect has at least to refute.
const REFUTE_ROUND_TRIPS: u32 = 4;

impl Swim {
    /// Takes an update; `asked` gets the node if more has to be known of it.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        from: NodeId,
        update: Update,
        asked: &mut Vec<NodeId>,
    ) {
        match update {
            Update::Presence(seen) => self.hear_presence(now, seen, true),
            Update::Claim(claim) => self.hear_claim(now, from, claim, asked),
        }
    }

    /// What a node says of itself. It is spread if it is news, and a stranger's if that is wanted.
    pub(super) fn hear_presence(&mut self, now: Instant, seen: Arc<Seen>, spread: bool) {
        let node = seen.node();
        if node == self.me.node() {
            self.hear_of_me(now, &seen);
        } else if self.members.contains_key(&node) {
            self.hear_of_member(now, seen);
        } else if self.departed.get(&node).is_some() {
            self.hear_of_departed(now, seen);
        } else if seen.presence().leaving {
            // Whom nobody here has met need not be remembered.
        } else if self.members.len() >= self.config.members_max {
            self.stats.refused += 1;
        } else {
            self.emit(Event::Joined { node, life: seen.stamp().life });
            self.let_in(now, seen, spread);
        }
    }

    fn hear_of_me(&mut self, now: Instant, seen: &Seen) {
        let (mine, heard) = (self.me.stamp(), seen.stamp());
        if heard.life > mine.life {
            if heard.life > self.superseded {
                self.superseded = heard.life;
                self.out.push_back(Output::Superseded { life: heard.life });
            }
        } else if heard >= mine && seen != self.me.as_ref() {
            // An earlier process of this life has said more than this one.
            self.refute_above(now, heard);
        }
    }

    fn hear_of_member(&mut self, now: Instant, seen: Arc<Seen>) {
        let node = seen.node();
        let Some(member) = self.members.get_mut(&node) else { return };
        let old = member.belief.clone();
        let heard = Belief::of(Arc::clone(&seen));
        if !member.belief.merge(&heard) {
            return;
        }
        let newer = heard.seen.stamp() > old.seen.stamp();
        self.sums.toggle(node, old.seen.stamp());
        self.sums.toggle(node, member.belief.seen.stamp());
        if heard.status == Status::Left {
            // Its own word, so nobody else answers for it.
            self.depart(now, node, node, Parting::Left);
            return;
        }
        let (before, life) = (old.seen.stamp().life, seen.stamp().life);
        let (was, is) = (old.seen.presence(), seen.presence());
        let cleared = newer && self.trust(node);
        if life > before {
            self.emit(Event::Gone { node, life: before, how: Parting::Crashed });
            self.emit(Event::Returned { node, life });
            return self.spread(now, Update::Presence(seen));
        }
        if cleared {
            self.stats.cleared += 1;
            self.emit(Event::Cleared { node, life });
        }
        if was.role != is.role || was.contact != is.contact {
            self.emit(Event::Updated { node, life });
        }
        self.spread(now, Update::Presence(seen));
    }

    /// Its suspicion is over, if there was one.
    fn trust(&mut self, node: NodeId) -> bool {
        self.timers.clear(Timer::Suspicion(node));
        self.members.get_mut(&node).is_some_and(|member| member.suspicion.take().is_some())
    }

    fn hear_of_departed(&mut self, now: Instant, seen: Arc<Seen>) {
        let node = seen.node();
        let full = self.members.len() >= self.config.members_max;
        let Some(gone) = self.departed.get_mut(&node) else { return };
        let heard = Belief::of(Arc::clone(&seen));
        if full && heard.status != Status::Left {
            self.stats.refused += 1;
            return;
        }
        if !gone.belief.merge(&heard) {
            return;
        }
        let Some(gone) = self.departed.remove(&node) else { return };
        match gone.belief.status {
            Status::Alive | Status::Suspect => {
                let life = seen.stamp().life;
                let met = gone.met;
                self.emit(if met {
                    Event::Returned { node, life }
                } else {
                    Event::Joined { node, life }
                });
                self.let_in(now, seen, true);
                self.sync_with_returned(now, node);
            }
            // It was only its contact that differs, or it has left after it was thought to be down.
            Status::Down | Status::Left => {
                self.remember(gone);
                self.spread(now, Update::Presence(seen));
            }
        }
    }

    pub(super) fn let_in(&mut self, now: Instant, seen: Arc<Seen>, spread: bool) {
        let (node, stamp) = (seen.node(), seen.stamp());
        let belief = Belief::of(Arc::clone(&seen));
        self.members.insert(node, Member { belief, suspicion: None });
        self.ring.insert(node, &mut self.entropy);
        self.sums.toggle(node, stamp);
        self.timers.clear(Timer::Join);
        if spread {
            self.spread(now, Update::Presence(seen));
        }
    }

    fn hear_claim(&mut self, now: Instant, from: NodeId, claim: Claim, asked: &mut Vec<NodeId>) {
        let Claim { node, stamp, verdict, .. } = claim;
        if node == self.me.node() {
            self.accused(now, from, stamp, asked);
            return;
        }
        let Some(member) = self.members.get(&node) else {
            // A stranger that is down is of no interest; one that is suspect may be alive.
            let held = self.departed.get(&node).map(|gone| gone.belief.seen.stamp());
            if verdict == Verdict::Suspect && held.is_none_or(|held| stamp > held) {
                asked.push(node);
            }
            return;
        };
        let held = member.belief.seen.stamp();
        if stamp > held {
            // It may be a lie, for the node's own word is missing.
            asked.push(node);
        } else if stamp == held {
            self.hear_verdict(now, from, claim);
        }
    }

    /// A claim about a member, of just the presence that is held of it.
    pub(super) fn hear_verdict(&mut self, now: Instant, from: NodeId, claim: Claim) {
        let Claim { node, verdict, .. } = claim;
        // Who is not known cannot confirm anything.
        let by = if self.members.contains_key(&claim.by) { claim.by } else { from };
        let terms = self.terms();
        let Some(member) = self.members.get_mut(&node) else { return };
        let down = verdict == Verdict::Down;
        let Some(suspicion) = &mut member.suspicion else {
            self.suspect(now, node, by, down);
            // Nobody here has noticed anything. So the node is asked before it is believed.
            if down {
                self.send(node, Body::Gossip);
            } else if self.is_confirmer() {
                self.probe(now, node);
            }
            return;
        };
        let confirmed = suspicion.confirm(by, terms);
        let hurried = down && suspicion.hurry();
        if confirmed || hurried {
            self.retime(now, node, terms);
        }
        if confirmed {
            self.spread_suspicion(now, node);
        }
    }

    fn is_confirmer(&mut self) -> bool {
        let others = f64::from(u32::try_from(self.members.len()).unwrap_or(u32::MAX));
        self.entropy.chance(CONFIRMERS / others.max(1.0))
    }

    /// A member may be gone. One that is suspect already is so with one more accuser.
    pub(super) fn suspect(&mut self, now: Instant, node: NodeId, by: NodeId, hasty: bool) {
        let terms = self.terms();
        let Some(member) = self.members.get_mut(&node) else { return };
        if let Some(suspicion) = &mut member.suspicion {
            if suspicion.confirm(by, terms) {
                self.retime(now, node, terms);
                self.spread_suspicion(now, node);
            }
            return;
        }
        member.suspicion = Some(Box::new(Suspicion::new(now, by, hasty)));
        member.belief.status = Status::Suspect;
        let life = member.belief.seen.stamp().life;
        self.emit(Event::Suspected { node, life });
        self.retime(now, node, terms);
        self.spread_suspicion(now, node);
    }

    /// A member was suspect when an earlier machine ended: its time begins anew.
    pub(super) fn suspect_still(&mut self, now: Instant, node: NodeId) {
        let (terms, me) = (self.terms(), self.me.node());
        let Some(member) = self.members.get_mut(&node) else { return };
        member.suspicion = Some(Box::new(Suspicion::new(now, me, false)));
        member.belief.status = Status::Suspect;
        self.retime(now, node, terms);
    }

    fn spread_suspicion(&mut self, now: Instant, node: NodeId) {
        if let Some(claim) = self.suspicion_claim(node, Suspicion::last_accuser) {
            self.spread(now, Update::Claim(claim));
        }
    }

    /// What is claimed of a member, in the name of one of its accusers.
    pub(super) fn suspicion_claim(
        &self,
        node: NodeId,
        accuser: impl FnOnce(&Suspicion) -> Option<NodeId>,
    ) -> Option<Claim> {
        let member = self.members.get(&node)?;
        let by = accuser(member.suspicion.as_ref()?)?;
        let stamp = member.belief.seen.stamp();
        Some(Claim { node, stamp, verdict: Verdict::Suspect, by })
    }

    fn retime(&mut self, now: Instant, node: NodeId, terms: Terms) {
        let suspicion = self.members.get(&node).and_then(|member| member.suspicion.as_ref());
        if let Some(suspicion) = suspicion {
            self.timers.set(Timer::Suspicion(node), suspicion.ends(terms).max(now));
        }
    }

    fn terms(&self) -> Terms {
        let min = self.config.suspicion_min.max(self.patience() * REFUTE_ROUND_TRIPS);
        let max = self.config.suspicion_max.max(min);
        // This node and the suspect confirm nothing.
        let others = self.members.len().saturating_sub(1);
        let confirmations = self.config.confirmations.min(others);
        let min = if self.has(Bug::ConfirmationsDoNotShorten) { max } else { min };
        Terms { min, max, confirmations }
    }

    pub(super) fn suspicion_due(&mut self, now: Instant, node: NodeId) {
        self.depart(now, node, self.me.node(), Parting::Crashed);
    }

    /// A member is none any more.
    fn depart(&mut self, now: Instant, node: NodeId, by: NodeId, how: Parting) {
        let Some(Member { mut belief, .. }) = self.members.remove(&node) else { return };
        let Stamp { life, .. } = belief.seen.stamp();
        self.ring.remove(node);
        self.timers.clear(Timer::Suspicion(node));
        self.sums.toggle(node, belief.seen.stamp());
        if how == Parting::Crashed {
            belief.status = Status::Down;
        }
        let gone = Gone { belief, by, met: true, accused_at: None };
        let news = gone.claim().map(Update::Claim);
        let news = news.unwrap_or_else(|| Update::Presence(Arc::clone(&gone.belief.seen)));
        self.remember(gone);
        self.emit(Event::Gone { node, life, how });
        self.spread(now, news);
    }

    /// Remembers one of the departed; who is forgotten for it is not talked of either.
    pub(super) fn remember(&mut self, gone: Gone) {
        let max = self.config.departed_max;
        if let Some(forgotten) = self.departed.insert(gone, max, &mut self.entropy) {
            self.rumours.forget(forgotten);
        }
    }
}
