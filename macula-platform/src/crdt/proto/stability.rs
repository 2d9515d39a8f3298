//! What all members have seen, and what nobody needs any more for that reason.
//!
//! The least of the members asks all others what they have seen, those that are out of reach included:
//! so it waits for these, unless they are given up. Once each of them has seen all that it had seen
//! itself when it began to ask, and it has seen all that they say, then that is *stable*: whatever is
//! still on its way was made by somebody who had seen it. All of them have to know of the same members,
//! or one might be missed that has been let in meanwhile by another one; and all that are in reach have to
//! have said whether they are some, or were asked six times in vain.
//!
//! Then keys are looked through for what is needed no longer, and that is removed by changes like all
//! others. Departed replicas of which nothing is live any more leave the context, which no change can
//! say, if all members say that nothing is live with them, either, and have seen all, so that nothing of
//! them can come any more. This is a *collection*. It begins an [epoch](super::epoch), which goes with all that
//! members say to each other, so that nothing from before it is taken after it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use macula_core::replica::ReplicaId;

use super::epoch::Collection;
use super::message::Message;
use super::roster::count;
use super::{Config, Replica, Timer};
use crate::crdt::context::Context;
use crate::crdt::contract::Tidy;

/// How many keys are looked through at one time.
const KEYS_MAX: usize = 512;

/// How long it is waited between two times, in milliseconds.
const SLICE_MS: u64 = 5;

/// What is asked and answered.
#[derive(Debug)]
struct Round {
    began: Instant,
    roster: u64,
    /// What had been seen here when it began.
    own: Context,
    /// Replicas that write no more; and those of them of which nothing was live then.
    departed: Vec<ReplicaId>,
    clean: Vec<ReplicaId>,
    reports: BTreeMap<u64, Heard>,
}

/// What a member says.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// What it has seen.
    pub(super) context: Context,
    /// Departed replicas of which something is live with it.
    pub(super) live: Vec<ReplicaId>,
}

/// Keys that are looked through.
#[derive(Debug)]
struct Tidying {
    roster: u64,
    /// Whether all say the same of what is live.
    is_settled: bool,
    stable: Context,
    departed: Vec<ReplicaId>,
    after: Option<Arc<str>>,
}

/// What is going on.
#[derive(Debug, Default)]
pub(super) struct Stability {
    rounds: u64,
    round: Option<Round>,
    tidying: Option<Tidying>,
    /// The roster, and what was stable, when keys were looked through last.
    looked: Option<(u64, Context)>,
}

/// The part of a context that is of one node.
pub(super) fn of_node(context: &Context, node: u64) -> Context {
    let mut part = Context::default();
    for (first, last) in context.spans().filter(|(first, _)| first.replica.node == node) {
        part.insert_span(first, last);
    }
    part
}

impl Replica {
    /// Whether it is this member that asks.
    fn asks_others(&self) -> bool {
        self.group.roster.holders().next() == Some(self.node)
    }

    /// Whether it is this member that gives up those that are lost: the first that can be reached, for the
    /// first of all may be one of them.
    fn looks_for_the_lost(&self) -> bool {
        let is_there = |node: &u64| *node == self.node || self.near.contains(node);
        self.group.roster.holders().find(is_there) == Some(self.node)
    }

    pub(super) fn plan_survey(&mut self, now: Instant) {
        if !self.asks_others() {
            (self.stability.round, self.stability.tidying) = (None, None);
            self.timers.clear(Timer::Tidy);
        }
        if !self.asks_others() && !self.looks_for_the_lost() {
            self.timers.clear(Timer::Survey);
        } else if self.timers.get(Timer::Survey).is_none() {
            self.timers.set(Timer::Survey, now + Config::ms(self.config.collect_ms));
        }
    }

    /// What is stable has to be found out anew.
    pub(super) fn forget_stability(&mut self) {
        let rounds = self.stability.rounds;
        self.stability = Stability { rounds, ..Stability::default() };
        self.timers.clear(Timer::Tidy);
    }

    pub(super) fn survey(&mut self, now: Instant) {
        let patience = Config::ms(self.config.collect_ms);
        if self.looks_for_the_lost() {
            self.give_up_the_lost(now);
        }
        if !self.asks_others() {
            return self.plan_survey(now);
        }
        let roster = self.group.roster.hash();
        let round = self.stability.round.as_ref();
        let goes_on = round.is_some_and(|r| r.roster == roster && now < r.began + patience);
        if !goes_on {
            self.stability.round = self.begin_round(now, roster);
        }
        if self.stability.round.is_none() {
            self.timers.set(Timer::Survey, now + patience);
            return;
        }
        let missing = self.missing_reports();
        let all_near = missing.iter().all(|member| self.near.contains(member));
        let wait = if all_near { Config::ms(self.config.step_ms) } else { patience };
        self.timers.set(Timer::Survey, now + wait);
        let round = self.stability.rounds;
        // Nothing comes of it while one of them is out of reach.
        let departed = self.stability.round.as_ref().map(|round| round.departed.clone());
        let departed = departed.unwrap_or_default();
        for member in missing.into_iter().filter(|_| all_near) {
            self.send(member, &Message::Survey { round, roster, departed: departed.clone() });
        }
        self.conclude(now);
    }

    /// A round, if anything can come of it.
    fn begin_round(&mut self, now: Instant, roster: u64) -> Option<Round> {
        let own = self.bucket.context().clone();
        if self
            .stability
            .looked
            .as_ref()
            .is_some_and(|(of, looked)| *of == roster && *looked == own)
        {
            return None;
        }
        let writes_no_more = |replica: &ReplicaId| {
            let incarnation = self.group.roster.incarnation(replica.node);
            incarnation.is_none_or(|current| replica.incarnation < current)
        };
        let departed: Vec<ReplicaId> = own.replicas().filter(writes_no_more).collect();
        let live = if departed.is_empty() { Vec::new() } else { self.bucket.live_of(&departed) };
        let clean = departed.iter().copied().filter(|replica| !live.contains(replica)).collect();
        self.stability.rounds += 1;
        Some(Round { began: now, roster, own, departed, clean, reports: BTreeMap::new() })
    }

    /// Members that have not said yet that they have seen it all.
    fn missing_reports(&self) -> Vec<u64> {
        let Some(round) = &self.stability.round else { return Vec::new() };
        let has_seen = |node: &u64| {
            round.reports.get(node).is_some_and(|report| report.context.includes(&round.own))
        };
        let others = self.group.roster.holders().filter(|node| *node != self.node);
        others.filter(|node| !has_seen(node)).collect()
    }

    pub(super) fn surveyed(
        &mut self,
        now: Instant,
        from: u64,
        (round, roster): (u64, u64),
        departed: &[ReplicaId],
    ) {
        let own = self.group.roster.hash();
        if own != roster {
            self.tell_roster(now, from);
        }
        let context = self.bucket.context().clone();
        let live = if departed.is_empty() { Vec::new() } else { self.bucket.live_of(departed) };
        self.send(from, &Message::Report { round, roster: own, context, live });
    }

    pub(super) fn reported(
        &mut self,
        now: Instant,
        from: u64,
        (number, roster): (u64, u64),
        heard: Heard,
    ) {
        if roster != self.group.roster.hash() {
            return self.tell_roster(now, from);
        }
        if number != self.stability.rounds {
            return;
        }
        let Some(round) = self.stability.round.as_mut().filter(|round| round.roster == roster)
        else {
            return;
        };
        // One that has seen it all is not asked again, so that what it has seen can be waited for.
        let before = round.reports.entry(from).or_default();
        if !before.context.includes(&round.own) || before.context.is_empty() {
            *before = heard;
        }
        self.conclude(now);
    }

    /// Does what the reports allow, if all are there.
    fn conclude(&mut self, now: Instant) {
        // Whoever may be a member, and has not said so yet, may have what this group is about to forget.
        let is_whole = self.missing_reports().is_empty() && self.unsaid() == 0;
        #[cfg(test)]
        let is_whole = is_whole || self.has_bug(super::Bug::EarlyCollection);
        let Some(round) = self.stability.round.as_ref() else { return };
        let seen = self.bucket.context();
        let is_stable = is_whole
            && round.roster == self.group.roster.hash()
            && round.reports.values().all(|report| seen.includes(&report.context));
        if !is_stable {
            return;
        }
        let Some(round) = self.stability.round.take() else { return };
        self.timers.set(Timer::Survey, now + Config::ms(self.config.collect_ms));
        // Of what has departed nobody may have seen more than this one had.
        let is_known = |replica: &ReplicaId| {
            let last = round.own.last(*replica);
            round.reports.values().all(|report| report.context.last(*replica) <= last)
        };
        let is_live = |replica: &ReplicaId| {
            round.reports.values().any(|report| report.live.contains(replica))
        };
        let is_clean = |replica: &&ReplicaId| is_known(replica) && !is_live(replica);
        let clean = round.clean.iter().filter(is_clean);
        let departed: Vec<(ReplicaId, u64)> =
            clean.map(|replica| (*replica, round.own.last(*replica))).collect();
        if departed.is_empty() {
            // Those that came back as others will never say anything more; a node that was given up
            // may.
            let succeeded = |replica: &ReplicaId| self.group.roster.holds(replica.node);
            let departed = round.departed.iter().copied();
            let departed = departed.filter(|replica| succeeded(replica) && is_known(replica));
            let departed = departed.collect();
            self.stability.tidying = Some(Tidying {
                roster: round.roster,
                is_settled: round.clean.is_empty(),
                stable: round.own,
                departed,
                after: None,
            });
            return self.tidy(now);
        }
        let others = self.group.roster.holders().filter(|member| *member != self.node);
        let others: Vec<u64> = others.collect();
        let (before, by) = (self.group.epoch, count(others.len()) + 1);
        let collection = Collection { before, by, departed };
        if collection.epoch() <= before {
            // There are no later ones.
            return;
        }
        self.collect(now, &collection);
        let lineages = self.group.lineages.clone();
        for member in others {
            let (collection, lineages) = (collection.clone(), lineages.clone());
            self.send(member, &Message::Collect { collection, lineages });
        }
    }

    /// Looks some keys through.
    pub(super) fn tidy(&mut self, now: Instant) {
        let Some(mut tidying) = self.stability.tidying.take() else { return };
        if tidying.roster != self.group.roster.hash() {
            // It is not known of all members any more what they have seen.
            return;
        }
        let from = tidying.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut keys: Vec<Arc<str>> = Vec::new();
        for (key, _) in self.bucket.entries(from) {
            if keys.last() == Some(key) {
                continue;
            }
            if keys.len() >= KEYS_MAX {
                break;
            }
            keys.push(Arc::clone(key));
        }
        let wall = self.wall(now);
        for key in &keys {
            let tidy = Tidy { stable: &tidying.stable, departed: &tidying.departed };
            for change in self.bucket.tidy(key, &tidy, wall) {
                self.tidied(Arc::new(change));
            }
        }
        tidying.after = keys.last().cloned();
        if keys.len() == KEYS_MAX {
            self.stability.tidying = Some(tidying);
            self.timers.set(Timer::Tidy, now + Config::ms(SLICE_MS));
        } else if tidying.is_settled {
            self.stability.looked = Some((tidying.roster, tidying.stable));
        }
        self.push_all(now);
    }

    /// Members that are out of reach for too long are given up, as long as most are in reach: a few that were
    /// cut off do not give up all others.
    fn give_up_the_lost(&mut self, now: Instant) {
        let (holders, near) = (self.group.roster.holders(), &self.near);
        let there = 1 + self.group.roster.holders().filter(|node| near.contains(node)).count();
        if self.config.retire_ms == 0 || there * 2 <= holders.count() {
            return;
        }
        let patience = Config::ms(self.config.retire_ms);
        let is_lost = |node: &u64| {
            let since = self.links.get(node).and_then(|link| link.away_since);
            !self.near.contains(node) && since.is_some_and(|since| now >= since + patience)
        };
        let lost: Vec<u64> = self.group.roster.holders().filter(is_lost).collect();
        lost.into_iter().for_each(|node| self.retire(now, node));
    }

    /// Gives a node up.
    pub(super) fn retire(&mut self, now: Instant, node: u64) {
        let known = of_node(self.bucket.context(), node);
        if node == self.node || !self.group.roster.retire(node, known) {
            return;
        }
        self.roster_changed(now);
        if let Some(link) = self.links.get_mut(&node) {
            link.active = false;
        }
        let active = self.links.iter().filter(|(_, link)| link.active).map(|(node, _)| *node);
        let roster = self.group.roster.clone();
        for member in active.collect::<Vec<_>>() {
            self.send(member, &Message::Roster(roster.clone()));
        }
        self.plan_survey(now);
    }
}
