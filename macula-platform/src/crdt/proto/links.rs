//! Members that greet each other, push their changes, and acknowledge those of others.
//!
//! A change is pushed at once to each member that has nothing unacknowledged; to one that has, with
//! all that came meanwhile, once it has answered. One that does not answer for long counts as silent,
//! is greeted from time to time, and compares states when it is there again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::buffer::Numbers;
use super::epoch::Lineages;
use super::fragments::Fragments;
use super::message::{Header, Message};
use super::roster::{Roster, Seat, first_u64};
use super::{Config, Replica, Timer};
use crate::crdt::bucket::KeyDelta;
use crate::crdt::codec::Encoder;

/// Within how much time a comparison begins with a member that has just come, at most.
const SYNC_SOON_MS: u64 = 30;

/// After how many greetings in vain a node counts as none that may hold the bucket.
const GREETINGS_MAX: u32 = 6;

/// How long a node that does not hold the bucket is left alone, as a multiple of the longest time
/// between two greetings.
const STRANGER_PATIENCE: u32 = 10;

/// After how many refusals in a row it is waited before the next comparison, and how long at first, in
/// milliseconds; each time twice as long.
const REFUSALS_MAX: u32 = 4;
const REST_MS: u64 = 150;

/// How many messages with changes wait for the end of a comparison at most.
const DEFERRED_MAX: usize = 256;

/// What is known of another node.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// Whether it holds the bucket and answers.
    pub(super) active: bool,
    /// The life of its memory that was last heard of, and as which incarnation it writes in it.
    pub(super) life: Option<u64>,
    incarnation: u64,
    /// The changes that it has for certain; and with these those that it has refused.
    pub(super) acked: Numbers,
    settled: Numbers,
    /// Changes up to this one were made before it was there: it has them by a comparison.
    pub(super) from: u64,
    /// What was sent and is not acknowledged.
    flight: Numbers,
    tries: u32,
    /// Whether it has said, since it is in reach, if it holds the bucket.
    pub(super) has_said: bool,
    /// Whether it may lack something that is not pushed.
    pub(super) behind: bool,
    /// In how many comparisons in a row one of both had no room for what the other one has, and until when
    /// none is begun for that reason.
    refusals: u32,
    rests_until: Option<Instant>,
    /// How often it was greeted in vain, and when it will be again.
    greeted: u32,
    greet_at: Option<Instant>,
    /// Since when it is out of reach.
    pub(super) away_since: Option<Instant>,
    /// When it was sent the roster.
    roster_at: Option<Instant>,
    pub(super) fragments: Fragments,
}

impl Link {
    /// Whether it is time for a comparison with it.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.active && self.behind && self.rests_until.is_none_or(|until| until <= now)
    }

    /// One of both had no room for what the other one has.
    pub(super) fn refuses(&mut self, now: Instant, rest_max: Duration) {
        self.refusals = self.refusals.saturating_add(1);
        if let Some(times) = self.refusals.checked_sub(REFUSALS_MAX) {
            let rest = Config::ms(REST_MS) * (1 << times.min(16));
            self.rests_until = Some(now + rest.min(rest_max));
        }
    }

    /// The next comparison may be tried at once.
    pub(super) const fn is_rested(&mut self) {
        (self.refusals, self.rests_until) = (0, None);
    }

    /// When it is time, if it lacks something and rests.
    pub(super) fn rested(&self) -> Option<Instant> {
        self.rests_until.filter(|_| self.active && self.behind)
    }
}

impl Replica {
    /// A number for all that was seen and is there. The one alone does not do: changes can come before
    /// those that they replace.
    pub(super) fn summary(&mut self) -> u64 {
        let mut out = Encoder::default();
        out.context(self.bucket.context());
        let mut hash = blake3::Hasher::new();
        hash.update(&out.finish()).update(&self.bucket.summary().to_be_bytes());
        first_u64(&hash)
    }

    /// Says that this node is here and holds the bucket.
    pub(super) fn greet(&mut self, now: Instant, to: u64, asks: bool) {
        let waits = self.greeting_wait(to);
        let link = self.links.entry(to).or_default();
        if asks && link.greet_at.is_some_and(|at| at > now) {
            return;
        }
        if asks {
            link.greeted = link.greeted.saturating_add(1);
            link.greet_at = Some(now + waits);
            self.waits.stale |= link.greeted == GREETINGS_MAX;
        }
        self.hello(to, asks);
        self.set_greet_timer(now);
    }

    /// Says who this node is, and what it has.
    pub(super) fn hello(&mut self, to: u64, asks: bool) {
        let version = self.group.roster.seat(self.node).map_or(0, |seat| seat.version);
        let hashes = (self.group.roster.hash(), self.summary());
        let incarnation = self.group.incarnation;
        let lineages = self.group.lineages.clone();
        self.send(to, &Message::Hello { asks, version, incarnation, hashes, lineages });
    }

    fn greeting_wait(&self, to: u64) -> Duration {
        let greeted = self.links.get(&to).map_or(0, |link| link.greeted);
        let ms = self.config.greet_ms.saturating_mul(1 << greeted.min(20));
        Config::ms(ms.min(self.config.greet_ms_max))
    }

    /// Whether a node has to be greeted: it is near, and holds the bucket or may.
    fn is_silent(&self, node: u64) -> bool {
        node != self.node && self.links.get(&node).is_none_or(|link| !link.active)
    }

    fn set_greet_timer(&mut self, now: Instant) {
        let silent = self.near.iter().filter(|node| self.is_silent(**node));
        let at = silent.map(|node| self.links.get(node).and_then(|link| link.greet_at));
        match at.map(|at| at.unwrap_or(now)).min() {
            Some(at) => self.timers.set(Timer::Greet, at.max(now)),
            None => self.timers.clear(Timer::Greet),
        }
    }

    pub(super) fn greet_silent(&mut self, now: Instant) {
        let silent: Vec<u64> =
            self.near.iter().copied().filter(|node| self.is_silent(*node)).collect();
        for node in silent {
            let at = self.links.get(&node).and_then(|link| link.greet_at);
            if at.is_none_or(|at| at <= now) {
                self.greet(now, node, true);
            }
        }
        self.set_greet_timer(now);
    }

    pub(super) fn set_near(&mut self, now: Instant, near: BTreeSet<u64>) {
        for node in self.near.difference(&near) {
            if let Some(link) = self.links.get_mut(node) {
                link.active = false;
            }
            self.timers.clear(Timer::Push(*node));
        }
        for node in near.difference(&self.near) {
            let link = self.links.entry(*node).or_default();
            (link.greeted, link.greet_at, link.away_since) = (0, None, None);
            link.has_said = false;
        }
        self.near = near;
        self.near.remove(&self.node);
        self.note_away(now);
        self.greet_silent(now);
        self.plan_survey(now);
    }

    /// Members that are not near are away from now on.
    fn note_away(&mut self, now: Instant) {
        let away: Vec<u64> =
            self.group.roster.holders().filter(|node| !self.near.contains(node)).collect();
        for node in away.into_iter().filter(|node| *node != self.node) {
            self.links.entry(node).or_default().away_since.get_or_insert(now);
        }
    }

    pub(super) fn is_stranger(&mut self, now: Instant, from: u64) {
        let wait = Config::ms(self.config.greet_ms_max) * STRANGER_PATIENCE;
        let link = self.links.entry(from).or_default();
        (link.active, link.has_said) = (false, true);
        link.greet_at = Some(now + wait);
        self.set_greet_timer(now);
        self.waits.stale = true;
    }

    /// A node takes nothing, so that it can be no member with this one.
    pub(super) fn declined(&mut self, from: u64) {
        self.links.entry(from).or_default().has_said = true;
        self.waits.stale = true;
    }

    /// How many nodes are in reach that may be members: they have not said yet that they are none, and were
    /// not asked in vain again and again.
    pub(super) fn unsaid(&self) -> usize {
        let is_over = |link: &Link| link.has_said || link.greeted >= GREETINGS_MAX;
        let has_said = |node: &u64| self.links.get(node).is_some_and(is_over);
        let unsaid = |node: &&u64| !has_said(node) && !self.group.roster.holds(**node);
        self.near.iter().filter(unsaid).count()
    }

    /// A node says that it holds the bucket.
    pub(super) fn greeted(
        &mut self,
        now: Instant,
        from: u64,
        header: Header,
        (seat, asks, (roster, summary), lineages): (&Seat, bool, (u64, u64), &Lineages),
    ) {
        if self.is_long_gone(header.epoch, lineages) {
            return self.tell_epoch(from, header.epoch, lineages);
        }
        if self.group.roster.is_later(from, seat) {
            // An earlier life said so, which is over; or one whose calendar was set back, which is told.
            if header.epoch < self.group.epoch {
                self.tell_epoch(from, header.epoch, lineages);
            }
            return self.tell_roster(now, from);
        }
        let members_max = self.config.members_max;
        if self.group.roster.join_seat(from, seat, members_max) {
            self.roster_changed(now);
        }
        if header.epoch == self.group.epoch {
            self.join_lineages(lineages);
        }
        if self.links.get(&from).is_some_and(|link| link.life != Some(header.life)) {
            self.compares_no_more(now, from);
        }
        let holds = self.group.roster.holds(from);
        let is_given_up = self.group.roster.known_of(from).is_some();
        let differs = self.summary() != summary;
        let last = self.buffer.seal();
        let link = self.links.entry(from).or_default();
        (link.greeted, link.away_since, link.greet_at) = (0, None, None);
        // One that was given up sits down anew once it has heard that, and is a member then.
        link.has_said = !is_given_up;
        link.incarnation = seat.incarnation().unwrap_or(0);
        if link.life != Some(header.life) {
            // What it had acknowledged it may have forgotten.
            (link.life, link.active) = (Some(header.life), false);
            (link.acked, link.settled) = Default::default();
        }
        if !link.active && holds {
            (link.active, link.from, link.tries) = (true, last, 0);
            (link.flight, link.behind) = (Numbers::default(), true);
            link.is_rested();
        }
        link.behind |= differs;
        let is_behind = link.behind;
        if asks {
            self.greet(now, from, false);
        }
        if !holds || roster != self.group.roster.hash() {
            self.tell_roster(now, from);
        } else {
            self.knows_members();
        }
        if header.epoch < self.group.epoch {
            self.tell_epoch(from, header.epoch, lineages);
        }
        if is_behind {
            self.sync_soon(now, SYNC_SOON_MS);
        }
        self.set_greet_timer(now);
        self.plan_survey(now);
        self.waits.stale = true;
    }

    /// Tells a member who the others are, and not too often.
    pub(super) fn tell_roster(&mut self, now: Instant, to: u64) {
        let wait = Config::ms(self.config.step_ms);
        let Some(link) = self.links.get_mut(&to) else { return };
        if link.roster_at.is_none_or(|at| now >= at + wait) {
            link.roster_at = Some(now);
            let roster = self.group.roster.clone();
            self.send(to, &Message::Roster(roster));
        }
    }

    pub(super) fn join_roster(&mut self, now: Instant, from: u64, roster: &Roster) {
        let before = self.group.roster.hash();
        if self.group.roster.join(roster, self.config.members_max) {
            let own = self.group.roster.incarnation(self.node);
            if own.is_some_and(|own| own > self.group.incarnation) {
                // Another life of this node has written as that one: the calendar was set back since.
                self.group.incarnation = own.unwrap_or_default();
                self.begin_incarnation(now);
            } else {
                self.roster_changed(now);
            }
        }
        if roster.hash() != self.group.roster.hash() {
            self.tell_roster(now, from);
        }
        if before != self.group.roster.hash() {
            self.note_away(now);
            self.plan_survey(now);
        }
    }

    pub(super) fn roster_changed(&mut self, now: Instant) {
        let stays = !self.is_out();
        let was_given_up = stays && self.group.roster.sit(self.node, self.group.incarnation);
        self.group.roster.trim(self.config.retired_max);
        self.journal.group();
        self.waits.stale = true;
        let mut over = Vec::new();
        for (node, link) in &mut self.links {
            let incarnation = self.group.roster.incarnation(*node);
            if incarnation.is_some_and(|incarnation| incarnation > link.incarnation) {
                // It has forgotten all: what it said before is not taken any more, for nobody waits for it.
                link.life = None;
                over.push(*node);
            }
            if link.active && (incarnation.is_none() || link.life.is_none()) {
                (link.active, link.greeted, link.greet_at) = (false, 0, None);
                self.timers.clear(Timer::Push(*node));
            }
        }
        self.set_greet_timer(now);
        over.into_iter().for_each(|node| self.compares_no_more(now, node));
        if was_given_up {
            let active = self.links.iter().filter(|(_, link)| link.active).map(|(node, _)| *node);
            for node in active.collect::<Vec<_>>() {
                self.tell_roster(now, node);
            }
        }
    }

    pub(super) fn join_lineages(&mut self, lineages: &Lineages) {
        if self.group.lineages.join(lineages) {
            self.journal.group();
        }
    }

    /// Sends each member what it lacks, if it has acknowledged all before.
    pub(super) fn push_all(&mut self, now: Instant) {
        if self.links.values().all(|link| !link.active) {
            // Whoever comes compares states.
            let last = self.buffer.last();
            self.buffer.drop_before(last + 1);
            return;
        }
        let ready = self.links.iter().filter(|(_, link)| link.active && link.flight.is_empty());
        for node in ready.map(|(node, _)| *node).collect::<Vec<_>>() {
            self.push(now, node);
        }
        self.bound_buffer();
    }

    fn push(&mut self, now: Instant, to: u64) {
        let Some(link) = self.links.get_mut(&to) else { return };
        let len_max = self.config.frame_len_max;
        let (changes, numbers) = self.buffer.next(link.from, &link.settled, len_max);
        if changes.is_empty() {
            self.timers.clear(Timer::Push(to));
            return;
        }
        link.flight = numbers.clone();
        let wait = Config::ms(self.config.push_retry_ms.saturating_mul(1 << link.tries.min(16)));
        self.timers.set(Timer::Push(to), now + wait);
        self.send(to, &Message::Push { changes, numbers });
    }

    pub(super) fn push_again(&mut self, now: Instant, to: u64) {
        let tries_max = self.config.push_tries_max;
        let Some(link) = self.links.get_mut(&to).filter(|link| link.active) else { return };
        link.tries += 1;
        if link.tries > tries_max {
            self.falls_silent(now, to);
        } else {
            self.push(now, to);
        }
    }

    /// A member does not answer any more.
    pub(super) fn falls_silent(&mut self, now: Instant, node: u64) {
        if let Some(link) = self.links.get_mut(&node) {
            link.active = false;
            (link.greeted, link.greet_at) = (0, None);
        }
        self.timers.clear(Timer::Push(node));
        self.trim_buffer();
        self.set_greet_timer(now);
    }

    pub(super) fn acknowledged(
        &mut self,
        now: Instant,
        from: u64,
        numbers: &Numbers,
        refused: &Numbers,
    ) {
        let Some(link) = self.links.get_mut(&from) else { return };
        link.acked.join(numbers);
        link.settled.join(numbers);
        link.settled.join(refused);
        link.behind |= !refused.is_empty();
        self.settled(now, from);
    }

    /// A comparison has brought a member all up to a change.
    pub(super) fn has_all_to(&mut self, now: Instant, node: u64, number: u64) {
        if let Some(link) = self.links.get_mut(&node) {
            link.acked.insert_to(number);
            link.settled.insert_to(number);
            self.settled(now, node);
        }
    }

    /// A member has more than before: it is sent what comes next.
    fn settled(&mut self, now: Instant, node: u64) {
        self.waits.stale = true;
        let link = self.links.get_mut(&node).filter(|link| link.settled.includes(&link.flight));
        if let Some(link) = link.filter(|link| link.active) {
            (link.flight, link.tries) = (Numbers::default(), 0);
            self.push(now, node);
        }
        self.trim_buffer();
    }

    pub(super) fn pushed(
        &mut self,
        now: Instant,
        from: u64,
        changes: Vec<Arc<KeyDelta>>,
        numbers: Numbers,
    ) {
        // What it takes now it takes along.
        if self.is_out() {
            return;
        }
        if self.is_early(changes.iter().map(|change| &change.delta.state)) {
            // One that finds no room is sent again.
            if self.deferred.len() < DEFERRED_MAX {
                self.deferred.push_back((from, changes, numbers));
            }
            return;
        }
        let wall = self.wall(now);
        let (mut taken, mut refused) = (Numbers::default(), Numbers::default());
        for (change, number) in changes.iter().zip(numbers.iter()) {
            match self.bucket.join(change, wall) {
                Ok(true) => self.changed_there(Arc::clone(change)),
                // It was seen, and that is kept.
                Ok(false) => self.journal.claim(&change.delta.context),
                Err(_refused) => {
                    self.stats.refused += 1;
                    refused.insert(number);
                    continue;
                }
            }
            taken.insert(number);
        }
        if let Some(link) = self.links.get_mut(&from) {
            link.behind |= !refused.is_empty();
        }
        self.waits.stale = true;
        let Some(life) = self.links.get(&from).and_then(|link| link.life) else { return };
        self.send(from, &Message::Ack { life, numbers: taken, refused });
    }

    /// Takes what came while a comparison went on.
    pub(super) fn take_deferred(&mut self, now: Instant) {
        for (from, changes, numbers) in std::mem::take(&mut self.deferred) {
            self.pushed(now, from, changes, numbers);
        }
    }

    /// Drops changes that all have who are in touch.
    fn trim_buffer(&mut self) {
        let (first, last) = (self.buffer.first(), self.buffer.last());
        let lacks = |link: &Link| {
            let mut numbers = first.max(link.from + 1)..=last;
            numbers.find(|number| !link.settled.has(*number)).unwrap_or(last + 1)
        };
        let active = self.links.values().filter(|link| link.active);
        let needed = active.map(lacks).min().unwrap_or(last + 1);
        self.buffer.drop_before(needed);
    }

    /// Drops the oldest changes if there are too many: whoever lacks them compares states.
    fn bound_buffer(&mut self) {
        if self.buffer.len() <= self.config.buffer_len_max {
            return;
        }
        self.buffer.shrink(self.config.buffer_len_max);
        let first = self.buffer.first();
        for link in self.links.values_mut().filter(|link| link.active && link.from + 1 < first) {
            let mut gone = Numbers::default();
            gone.insert_to(first - 1);
            if !link.settled.includes(&gone) {
                (link.from, link.behind) = (first - 1, true);
            }
        }
    }
}

impl Replica {
    /// Has a comparison begin soon: within so many milliseconds, drawn by lot.
    pub(super) fn sync_soon(&mut self, now: Instant, within_ms: u64) {
        let wait = Config::ms(self.entropy.below(within_ms + 1));
        let soon = now + wait;
        if self.timers.get(Timer::Sync).is_none_or(|at| at > soon) {
            self.timers.set(Timer::Sync, soon);
        }
    }
}
