//! Until when a member may believe that it leads.
//!
//! Whoever has heard a leader votes for nobody else until a [lease](super::elector::Config::lease) has
//! gone by. So a leader that was acknowledged by most leads for so long, counted from when it *asked*
//! (Ongaro, *Consensus: Bridging Theory and Practice*, 2014, section 6.4.1). It counts only a part of
//! it, so that clocks may differ: [`DRIFT`] says by how much.
//!
//! The instants here are no durations that somebody has measured before: a process that was stopped
//! for a while finds that its lease has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::types::{MemberId, Vote};

/// By which part of a span two clocks may differ over that span: a tenth. A leader counts that much
/// less than it was promised.
pub const DRIFT: u32 = 10;

/// What a leader counts of a span that others have promised by their clocks.
#[must_use]
pub fn counted(span: Duration) -> Duration {
    span - span / DRIFT
}

/// Who has said that a member leads, and when they were asked. What was said for an earlier vote does
/// not count.
#[derive(Debug, Default)]
pub(super) struct Acks {
    vote: Vote,
    asked: BTreeMap<MemberId, Instant>,
    /// Its state has had all that was agreed upon when it began to lead.
    is_caught_up: bool,
    /// It has offered its place to another one, who need not wait for the lease.
    has_given_up: bool,
}

impl Acks {
    /// Whether this is the vote that counts now. A later one begins anew.
    fn counts(&mut self, vote: Vote) -> bool {
        if vote > self.vote {
            *self = Self { vote, ..Self::default() };
        }
        vote == self.vote
    }

    /// A member that was asked then has said that the one with this vote leads.
    pub(super) fn acked(&mut self, vote: Vote, by: MemberId, asked: Instant) {
        if self.counts(vote) {
            let last = self.asked.entry(by).or_insert(asked);
            *last = asked.max(*last);
        }
    }

    /// The state has all that was agreed upon before this vote.
    pub(super) fn caught_up(&mut self, vote: Vote) {
        if self.counts(vote) {
            self.is_caught_up = true;
        }
    }

    /// For this vote there are no leases any more.
    pub(super) fn give_up(&mut self, vote: Vote) {
        if self.counts(vote) {
            self.has_given_up = true;
        }
    }

    /// Whether reads may rely on a lease with this vote.
    pub(super) fn may_lease(&self, vote: Vote) -> bool {
        vote == self.vote && self.is_caught_up && !self.has_given_up
    }

    /// When a member was asked last that has said since that the one with this vote leads.
    pub(super) fn asked_of(&self, vote: Vote, member: MemberId) -> Option<Instant> {
        self.asked.get(&member).copied().filter(|_| vote == self.vote)
    }

    /// Whether anybody has said that the one with this vote leads.
    pub(super) fn has_any(&self, vote: Vote) -> bool {
        vote == self.vote && !self.asked.is_empty()
    }

    /// When those were asked that have said since that `own` leads, so that they are most of each of
    /// the groups; none if they are not. `own` says it at any time.
    pub(super) fn quorum_asked(
        &self,
        vote: Vote,
        own: MemberId,
        groups: &[BTreeSet<MemberId>],
        now: Instant,
    ) -> Option<Instant> {
        let asked = |member: &MemberId| {
            if *member == own { Some(now) } else { self.asked_of(vote, *member) }
        };
        let most = groups.iter().map(|group| {
            let mut all: Vec<Option<Instant>> = group.iter().map(asked).collect();
            all.sort_unstable();
            // As many are later, or as late, as make a majority with this one.
            all.get((all.len().max(1) - 1) / 2).copied().flatten()
        });
        most.min().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::{Acks, MemberId, Vote};
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    fn group(members: impl IntoIterator<Item = u64>) -> BTreeSet<MemberId> {
        members.into_iter().map(MemberId::from).collect()
    }

    fn vote(term: u64) -> Vote {
        Vote::new_committed(term, 1.into())
    }

    #[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere")]
    fn times() -> impl Fn(u64) -> Instant {
        let began = Instant::now();
        move |ms| began + Duration::from_millis(ms)
    }

    #[test]
    fn most_of_each_group_have_to_have_said_so_and_the_last_that_is_needed_counts() {
        let (at, mut acks) = (times(), Acks::default());
        let (five, joint) = (group(1..=5), [group(1..=3), group(3..=5)]);
        let asked =
            |acks: &Acks, groups: &[_]| acks.quorum_asked(vote(1), 1.into(), groups, at(99));
        assert_eq!(asked(&acks, &[group([1])]), Some(at(99)));
        acks.acked(vote(1), 2.into(), at(5));
        assert_eq!(asked(&acks, std::slice::from_ref(&five)), None);
        acks.acked(vote(1), 3.into(), at(3));
        assert_eq!(asked(&acks, std::slice::from_ref(&five)), Some(at(3)));
        assert_eq!(asked(&acks, &joint), None);
        acks.acked(vote(1), 4.into(), at(4));
        assert_eq!(asked(&acks, std::slice::from_ref(&five)), Some(at(4)));
        assert_eq!(asked(&acks, &joint), Some(at(3)));
        // An answer that was overtaken takes nothing back.
        acks.acked(vote(1), 4.into(), at(1));
        assert_eq!(asked(&acks, &[five]), Some(at(4)));
        // Who has no vote of its own needs most of the others.
        assert_eq!(asked(&acks, &[group(2..=4)]), Some(at(4)));
    }

    #[test]
    fn what_was_said_for_another_vote_does_not_count() {
        let (at, mut acks) = (times(), Acks::default());
        acks.acked(vote(2), 2.into(), at(1));
        acks.caught_up(vote(2));
        assert!(acks.may_lease(vote(2)) && !acks.may_lease(vote(1)) && !acks.may_lease(vote(3)));
        acks.acked(vote(1), 3.into(), at(2));
        let quorum =
            |acks: &Acks, term| acks.quorum_asked(vote(term), 1.into(), &[group(1..=3)], at(9));
        assert_eq!((quorum(&acks, 1), quorum(&acks, 2)), (None, Some(at(1))));
        acks.give_up(vote(2));
        assert!(!acks.may_lease(vote(2)));
        acks.caught_up(vote(3));
        assert!(acks.may_lease(vote(3)));
        assert_eq!(quorum(&acks, 2), None);
    }
}
