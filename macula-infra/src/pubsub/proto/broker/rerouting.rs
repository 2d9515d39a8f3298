//! Promised messages for queue groups, when the member that each was for will not have it.
//!
//! Another member gets it. If none has room it waits among the orphans, and it ends as dropped if the
//! group has no member any more. It goes on as the same copy, which is counted once; only what may
//! have been delivered ends, as lost with its node, and another copy is made.

use std::sync::Arc;
use std::time::Instant;

use super::super::super::message::{Outcome, Reason};
use super::super::TopicId;
use super::super::flow::Copy;
use super::{Broker, SWEEP_EVERY, Timer};

/// How often one copy goes to another member. A node that wants messages and then has nobody for
/// them could send it round for ever.
const MOVES_MAX: u8 = 16;

impl Broker {
    /// These will not be handed on where they were to go, and have not ended: those for groups are
    /// for other members, and the rest is given back.
    pub(super) fn reroute(
        &mut self,
        now: Instant,
        copies: impl IntoIterator<Item = Copy>,
    ) -> Vec<Copy> {
        let (mut others, mut lost) = (Vec::new(), Vec::new());
        for mut copy in copies {
            if !copy.is_for_any_member() || copy.moved >= MOVES_MAX {
                others.push(copy);
                continue;
            }
            if copy.may_be_there {
                lost.push((copy.clone(), Outcome::Dropped(Reason::NodeLost)));
                (copy.may_be_there, copy.moved) = (false, 0);
                self.tally(copy.stored.topic_id).accepted += 1;
                self.on_its_way(&copy);
            }
            copy.moved += 1;
            if let Err(copy) = self.place(now, copy) {
                self.wait(now, copy);
            }
        }
        self.ended(lost);
        others
    }

    /// One more copy of its topic is on its way to a single node.
    fn on_its_way(&mut self, copy: &Copy) {
        if let Some(named) = self.topics.get_mut(copy.stored.topic_id) {
            named.direct += 1;
        }
    }

    /// Gives a copy to a member of its group that has room, or ends it.
    ///
    /// # Errors
    ///
    /// It has to wait.
    fn place(&mut self, now: Instant, copy: Copy) -> Result<(), Copy> {
        if copy.stored.is_over(now) {
            self.ended([(copy, Outcome::Expired)]);
            return Ok(());
        }
        let named = self.topics.get(copy.stored.topic_id);
        let audience = named.map(|named| Arc::clone(&named.audience)).unwrap_or_default();
        let wanted = copy.route.groups.first();
        let group = audience.groups.iter().find(|(of, _)| Some(of) == wanted);
        let Some((group, nodes)) = group else {
            self.ended([(copy, Outcome::Dropped(Reason::Unsubscribed))]);
            return Ok(());
        };
        match self.member(&audience, group, nodes, &copy.stored) {
            None => Err(copy),
            Some(node) if node == self.me.node => {
                let route = copy.route.clone();
                let Some(how) = self.hand_over_here(&copy.stored, route, &audience) else {
                    return Err(copy);
                };
                self.ended([(copy, how)]);
                Ok(())
            }
            Some(node) => {
                self.put_into_queue(now, node, copy);
                Ok(())
            }
        }
    }

    /// It waits for room, and does not keep a broadcast from beginning meanwhile.
    fn wait(&mut self, now: Instant, copy: Copy) {
        let (id, is_mortal) = (copy.stored.topic_id, copy.stored.until.is_some());
        if let Err(copy) = self.orphans.push(copy) {
            return self.ended([(copy, Outcome::Dropped(Reason::SlowSubscriber))]);
        }
        if let Some(named) = self.topics.get_mut(id) {
            named.direct = named.direct.saturating_sub(1);
        }
        if is_mortal && self.timers.get(Timer::Sweep).is_none() {
            self.timers.set(Timer::Sweep, now + SWEEP_EVERY);
        }
    }

    /// Gives those that wait to whoever has room by now, and ends those that are over. Says whether
    /// some are left that will be over.
    pub(super) fn retry_orphans(&mut self, now: Instant) -> bool {
        let mut is_mortal = false;
        for id in self.orphans.topics() {
            for copy in self.orphans.take(id) {
                self.on_its_way(&copy);
                if let Err(copy) = self.place(now, copy) {
                    is_mortal |= copy.stored.until.is_some();
                    self.wait(now, copy);
                }
            }
        }
        is_mortal
    }

    /// Their topic is let go.
    pub(super) fn end_orphans(&mut self, id: TopicId) {
        for copy in self.orphans.take(id) {
            self.tally(copy.stored.topic_id).end(Outcome::Dropped(Reason::Unsubscribed));
        }
    }
}
