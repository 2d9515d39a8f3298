//! A member that lets go of the bucket.
//!
//! From when it is asked to it takes no more changes of its users. It compares states with the others until
//! enough of them have all that it has, also what others have written: so one member after the other can
//! go, and what most have acknowledged stays with most of those that are left. Then it says of itself that it is a member no more: so nobody waits for it,
//! neither writes nor collections. It has gone once another one has heard that. If it does not come to
//! that in time, it stays what it was.

use std::time::{Duration, Instant};

use super::buffer::Numbers;
use super::levels::{Done, Failed, Level, Token};
use super::message::Message;
use super::stability::of_node;
use super::{Config, Replica, Timer};

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Others get what was written here.
    Hands,
    /// They are told.
    Tells,
    /// It is over.
    Gone,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    ticket: u64,
    level: Level,
    until: Instant,
    step: Step,
}

impl Replica {
    pub(super) fn leave(&mut self, now: Instant, ticket: u64, (level, within): (Level, Duration)) {
        if self.is_leaving() {
            return self.end(ticket, Err(Failed::Leaving));
        }
        let members = self.members_at(level);
        if level != Level::Local && members < 2 {
            // Nobody is there to leave it to, or may be.
            return self.end(ticket, Err(Failed::NotReached { reached: 1, wanted: 2, members }));
        }
        self.leaving = Some(Leaving { ticket, level, until: now + within, step: Step::Hands });
        if level != Level::Local {
            for link in self.links.values_mut() {
                link.behind = true;
                link.is_rested();
            }
            self.sync_soon(now, 0);
        }
        self.leave_on(now);
    }

    pub(super) fn leave_unused(&mut self, now: Instant, ticket: u64) {
        if !self.bucket.is_empty() || self.buffer.last() > 0 {
            return self.end(ticket, Err(Failed::Used));
        }
        // Whoever is in touch is told until it has heard, so that nobody waits for this member.
        let has_others = self.links.values().any(|link| link.active);
        let level = if has_others { Level::N(2) } else { Level::Local };
        let within = Config::ms(self.config.step_ms) * self.config.step_tries_max;
        self.leave(now, ticket, (level, within));
    }

    /// Whether it takes no more changes of its users.
    pub(super) const fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Whether it has said that it is a member no more.
    pub(super) fn is_out(&self) -> bool {
        self.leaving.is_some_and(|leaving| leaving.step != Step::Hands)
    }

    /// How many members have all that was here, this one among them, and how many have to.
    pub(super) fn have_all(&self, level: Level) -> (usize, usize) {
        let mut all = Numbers::default();
        if self.buffer.last() > 0 {
            all.insert_to(self.buffer.last());
        }
        let has = self.links.iter().filter(|(node, link)| {
            let is_even = link.active && !link.behind && link.acked.includes(&all);
            is_even && self.group.roster.holds(**node)
        });
        // Whoever is alone has nobody to leave it to.
        let least = if level == Level::Local { 1 } else { 2 };
        (1 + has.count(), level.wanted(self.members_at(level)).max(least))
    }

    /// Goes on as far as it can, when something has changed or it is time.
    pub(super) fn leave_on(&mut self, now: Instant) {
        let Some(leaving) = self.leaving.filter(|leaving| leaving.step != Step::Gone) else {
            return;
        };
        let (reached, wanted) = self.have_all(leaving.level);
        let members = self.members_at(leaving.level);
        if now >= leaving.until {
            let failed = Failed::NotReached { reached, wanted, members };
            self.stay(now);
            return self.end(leaving.ticket, Err(failed));
        }
        if leaving.step == Step::Hands && reached >= wanted {
            self.get_out(now);
        } else if self.timers.get(Timer::Leave).is_none() {
            self.timers.set(Timer::Leave, leaving.until.min(now + Config::ms(self.config.step_ms)));
        }
    }

    /// Says of itself that it is a member no more.
    fn get_out(&mut self, now: Instant) {
        let known = of_node(self.bucket.context(), self.node);
        self.set_leaving(Step::Tells);
        self.group.roster.retire(self.node, known);
        self.roster_changed(now);
        self.tell_leaving(now);
        let is_alone = self.links.values().all(|link| !link.active);
        if is_alone || self.leaving.is_some_and(|leaving| leaving.level == Level::Local) {
            self.gone();
        }
    }

    fn set_leaving(&mut self, step: Step) {
        if let Some(leaving) = &mut self.leaving {
            leaving.step = step;
        }
    }

    /// Has the others say what they know by now of who the members are.
    fn tell_leaving(&mut self, now: Instant) {
        let active = self.links.iter().filter(|(_, link)| link.active).map(|(node, _)| *node);
        for node in active.collect::<Vec<_>>() {
            let roster = self.group.roster.clone();
            self.send(node, &Message::Roster(roster));
            self.hello(node, true);
        }
        self.timers.set(Timer::Leave, now + Config::ms(self.config.step_ms));
    }

    /// It is time to look again.
    pub(super) fn leave_again(&mut self, now: Instant) {
        if self.leaving.is_some_and(|leaving| leaving.step == Step::Tells) {
            self.tell_leaving(now);
        }
        self.leave_on(now);
    }

    /// Another member knows of the same members as this one.
    pub(super) fn knows_members(&mut self) {
        if self.leaving.is_some_and(|leaving| leaving.step == Step::Tells) {
            self.gone();
        }
    }

    fn gone(&mut self) {
        self.set_leaving(Step::Gone);
        self.timers.clear(Timer::Leave);
        if let Some(leaving) = self.leaving {
            let members = self.group.roster.holders().count();
            let (reached, token) = (self.have_all(leaving.level).0, Token::default());
            self.end(leaving.ticket, Ok(Done { reached, members, token }));
        }
    }

    /// Nobody waits for it any more: it stays, unless it has gone.
    pub(super) fn leave_no_more(&mut self, now: Instant, ticket: u64) {
        let goes_on = |leaving: &Leaving| leaving.ticket == ticket && leaving.step != Step::Gone;
        if self.leaving.as_ref().is_some_and(goes_on) {
            self.stay(now);
        }
    }

    fn stay(&mut self, now: Instant) {
        let was_out = self.is_out();
        self.leaving = None;
        self.timers.clear(Timer::Leave);
        if was_out {
            self.roster_changed(now);
        }
    }
}
