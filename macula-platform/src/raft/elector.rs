//! When a member stands for election, and when one that leads says that it is there.
//!
//! openraft 0.9 draws one election timeout for a whole life, and asks for votes without asking first
//! whether anybody would vote; so a member that cannot hear the others comes back with a greater term
//! and deposes a leader that nothing is wrong with. Here each wait is drawn anew, from a band that is
//! the member's own, and before a member stands it asks the others whether they would vote for it
//! (Ongaro, *Consensus: Bridging Theory and Practice*, 2014, section 9.6, "pre-vote"). They would not
//! while they hear a leader.
//!
//! openraft waits for an answer for as long as it lets pass between two words of a leader, and a disk may
//! take longer than that. So a leader's words come from here, and openraft waits for longer.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use macula_core::entropy::Entropy;
use macula_core::machine::Machine;

use super::types::{LogId, MemberId};

/// How long members wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How long after its last word a leader is believed to be there. 50 ms to 1 min.
    pub lease: Duration,
    /// How much longer the first member waits at most, the second from there on, and so forth.
    /// 10 ms to 10 s.
    pub band: Duration,
    /// How long the others have to say whether they would vote. 10 ms to 10 s.
    pub ask_within: Duration,
    /// How often a leader says that it is there. At most a third of the lease.
    pub heartbeat: Duration,
}

impl Default for Config {
    /// 500 ms, 100 ms, 200 ms, 100 ms.
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { lease: ms(500), band: ms(100), ask_within: ms(200), heartbeat: ms(100) }
    }
}

/// What a member is in its group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The members that vote, in their order.
    pub voters: BTreeSet<MemberId>,
    /// The groups of which each has to be won by most of it: two while the members change.
    pub groups: Vec<BTreeSet<MemberId>>,
    /// Whether the member leads.
    pub leads: bool,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The member is something else in its group than before, or the group is another.
    Stands(Standing),
    /// A leader has said something.
    Heard,
    /// This member has voted for another one, which gets the time to say that it leads. That is no promise.
    Voted,
    /// A member would vote for this one, or not.
    Answered {
        /// In which round it was asked.
        round: u64,
        /// Who.
        member: MemberId,
        /// Whether it would.
        would: bool,
    },
    /// The leader wants this member to be the next. The others are not asked: they hear it still.
    Hurry,
    /// This leader gives its place away, and says nothing meanwhile; or it does not any more.
    Quiet(bool),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Ask a member whether it would vote for this one.
    Ask {
        /// In which round.
        round: u64,
        /// Whom.
        member: MemberId,
    },
    /// Stand for election.
    Elect {
        /// Whether the leader wants it, so that nobody need wait for its lease.
        is_hurried: bool,
    },
    /// Say to all that this one leads.
    Beat,
}

/// Decides when one member stands.
#[derive(Debug)]
pub struct Elector {
    config: Config,
    own: MemberId,
    entropy: Entropy,
    standing: Standing,
    /// When a leader was heard last. At first it is taken for heard: what was said before the
    /// member's last end is not known.
    heard_at: Instant,
    stands_at: Instant,
    /// When it says the next time that it leads.
    beats_at: Instant,
    is_quiet: bool,
    asking: Option<Asking>,
    round: u64,
    out: VecDeque<Output>,
}

#[derive(Debug)]
struct Asking {
    would: BTreeSet<MemberId>,
    until: Instant,
}

impl Elector {
    /// The elector of a member that has just begun.
    #[must_use]
    pub fn new(config: Config, own: MemberId, entropy: Entropy, now: Instant) -> Self {
        let mut elector = Self {
            config,
            own,
            entropy,
            standing: Standing::default(),
            heard_at: now,
            stands_at: now,
            beats_at: now,
            is_quiet: false,
            asking: None,
            round: 0,
            out: VecDeque::new(),
        };
        elector.wait(now);
        elector
    }

    /// Whether this member would vote for another whose log ends with `last`, and its own with `own`.
    #[must_use]
    pub fn would_vote(&self, now: Instant, last: Option<LogId>, own: Option<LogId>) -> bool {
        !self.standing.leads && !self.hears(now) && last >= own
    }

    /// Whether a leader was heard within the lease.
    #[must_use]
    pub fn hears(&self, now: Instant) -> bool {
        now < self.heard_at + self.config.lease
    }

    /// Waits anew: for the lease, for the bands of those before, and for a part of its own.
    fn wait(&mut self, now: Instant) {
        self.wait_for(now, self.config.lease);
    }

    /// Waits anew, for so long before the bands.
    fn wait_for(&mut self, now: Instant, first: Duration) {
        self.asking = None;
        let others_before = self.standing.voters.range(..self.own).count();
        let before = self.config.band * u32::try_from(others_before).unwrap_or(u32::MAX);
        let band = u64::try_from(self.config.band.as_micros()).unwrap_or(u64::MAX);
        let drawn = Duration::from_micros(self.entropy.below(band));
        self.stands_at = now + first + before + drawn;
    }

    /// Somebody else leads, or is about to.
    fn give_way(&mut self, now: Instant) {
        self.out.retain(|output| *output != Output::Elect { is_hurried: false });
        self.wait(now);
    }

    fn may_stand(&self) -> bool {
        !self.standing.leads && self.standing.voters.contains(&self.own)
    }

    /// Asks all others, or stands at once if there are none.
    fn ask(&mut self, now: Instant) {
        self.round += 1;
        let round = self.round;
        let others = self.standing.voters.iter().filter(|voter| **voter != self.own);
        self.out.extend(others.map(|member| Output::Ask { round, member: *member }));
        let would = BTreeSet::from([self.own]);
        self.asking = Some(Asking { would, until: now + self.config.ask_within });
        self.count(now);
    }

    /// Stands if most of each group would vote for it. Otherwise it would only raise the term, again and
    /// again, of those who could win.
    fn count(&mut self, now: Instant) {
        let Some(Asking { would, .. }) = &self.asking else { return };
        let is_won = |group: &BTreeSet<_>| group.intersection(would).count() * 2 > group.len();
        if self.standing.groups.iter().all(is_won) {
            self.out.push_back(Output::Elect { is_hurried: false });
            self.wait(now);
        }
    }
}

impl Machine for Elector {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Stands(standing) => {
                if self.standing != standing {
                    // What it says first comes with its being elected.
                    self.beats_at = now + self.config.heartbeat;
                    self.standing = standing;
                    // Whoever votes alone has promised nothing to another one.
                    let is_alone = self.standing.voters.iter().eq([&self.own]);
                    self.wait_for(now, if is_alone { Duration::ZERO } else { self.config.lease });
                }
            }
            Input::Heard => {
                self.heard_at = now;
                self.give_way(now);
            }
            Input::Voted => self.give_way(now),
            Input::Answered { round, member, would } => {
                if would
                    && round == self.round
                    && self.standing.voters.contains(&member)
                    && let Some(asking) = &mut self.asking
                {
                    asking.would.insert(member);
                    self.count(now);
                }
            }
            Input::Quiet(is_quiet) => self.is_quiet = is_quiet,
            Input::Hurry => {
                if self.may_stand() {
                    self.out.push_back(Output::Elect { is_hurried: true });
                    self.wait(now);
                }
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.standing.leads {
            if now >= self.beats_at {
                self.beats_at = now + self.config.heartbeat;
                if !self.is_quiet {
                    self.out.push_back(Output::Beat);
                }
            }
        } else if self.asking.as_ref().is_some_and(|asking| now >= asking.until) {
            // Nobody was disturbed by a question, so it can be asked again soon: the others may have heard
            // the last word of a leader that is gone a moment later than this one.
            self.wait_for(now, Duration::ZERO);
        } else if self.asking.is_none() && self.may_stand() && now >= self.stands_at {
            self.ask(now);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.standing.leads {
            return Some((self.beats_at, "heartbeat"));
        }
        if let Some(asking) = &self.asking {
            return Some((asking.until, "pre-vote"));
        }
        self.may_stand().then_some((self.stands_at, "election timeout"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Elector, Input, Output, Standing};
    use crate::raft::types::MemberId;
    use macula_core::entropy::Entropy;
    use macula_core::machine::Machine as _;
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    const ELECT: Output = Output::Elect { is_hurried: false };

    fn member(number: u64) -> MemberId {
        MemberId::from(number)
    }

    fn standing(voters: u64) -> Standing {
        standing_of([(1..=voters).map(member).collect()])
    }

    fn standing_of<const N: usize>(groups: [BTreeSet<MemberId>; N]) -> Standing {
        let voters = groups.iter().flatten().copied().collect();
        Standing { voters, groups: groups.to_vec(), leads: false }
    }

    struct One {
        elector: Elector,
        now: Instant,
    }

    impl One {
        fn new(number: u64, voters: u64) -> Self {
            #[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere")]
            let now = Instant::now();
            let entropy = Entropy::from_seed(number);
            let elector = Elector::new(Config::default(), member(number), entropy, now);
            let mut one = Self { elector, now };
            one.handle(Input::Stands(standing(voters)));
            one
        }

        fn handle(&mut self, input: Input) -> Vec<Output> {
            self.elector.handle(self.now, input);
            self.told()
        }

        fn told(&mut self) -> Vec<Output> {
            std::iter::from_fn(|| self.elector.poll_output()).collect()
        }

        /// Goes on to the next timeout, and tells how long that took and what came of it.
        fn next(&mut self) -> (Duration, Vec<Output>) {
            let (at, _) = self.elector.poll_timeout().unwrap();
            let took = at - self.now;
            self.now = at;
            self.elector.handle_timeout(at);
            (took, self.told())
        }

        fn answer(&mut self, round: u64, from: u64, would: bool) -> Vec<Output> {
            self.handle(Input::Answered { round, member: member(from), would })
        }
    }

    #[test]
    fn who_hears_a_leader_does_not_stand_though_it_was_about_to() {
        let mut one = One::new(1, 3);
        let asks = one.next().1;
        let round = asks.iter().find_map(|output| match output {
            Output::Ask { round, .. } => Some(*round),
            _ => None,
        });
        let answered = Input::Answered { round: round.unwrap(), member: member(2), would: true };
        one.elector.handle(one.now, answered.clone());
        one.elector.handle(one.now, Input::Heard);
        assert_eq!(one.elector.poll_output(), None);
        one.elector.handle(one.now, answered);
        assert_eq!(one.elector.poll_output(), None);
    }

    #[test]
    fn who_is_alone_stands_at_once_when_its_time_has_come() {
        let (mut one, config) = (One::new(1, 1), Config::default());
        // There is nobody whose lease it had to wait for.
        let (took, told) = one.next();
        assert_eq!(told, [ELECT]);
        assert!(took < config.band, "{took:?}");
        let (took, told) = one.next();
        assert_eq!(told, [ELECT]);
        assert!(took >= config.lease, "{took:?}");
    }

    #[test]
    fn it_stands_when_most_would_vote_for_it_and_not_before() {
        let mut one = One::new(1, 5);
        let (_, asked) = one.next();
        assert_eq!(asked.len(), 4);
        assert_eq!(one.answer(1, 2, true), []);
        // The same one has one vote, and a stranger, and a past round, none.
        assert_eq!(one.answer(1, 2, true), []);
        assert_eq!(one.answer(1, 9, true), []);
        assert_eq!(one.answer(0, 3, true), []);
        assert_eq!(one.answer(1, 4, false), []);
        assert_eq!(one.answer(1, 3, true), [ELECT]);
        assert_eq!(one.answer(1, 5, true), []);
    }

    #[test]
    fn while_members_change_most_of_each_group_have_to_be_for_it() {
        let mut one = One::new(1, 5);
        let next = [1, 3, 4, 5].into_iter().map(member).collect();
        one.handle(Input::Stands(standing_of([(1..=5).map(member).collect(), next])));
        one.next();
        let round = one.elector.round;
        assert_eq!(one.answer(round, 2, true), []);
        // Three of five, and two of four.
        assert_eq!(one.answer(round, 5, true), []);
        assert_eq!(one.answer(round, 3, true), [ELECT]);
    }

    #[test]
    fn who_would_not_be_voted_for_waits_anew_and_disturbs_nobody() {
        let mut one = One::new(1, 3);
        for round in 1..100 {
            let (_, asked) = one.next();
            assert_eq!(asked.len(), 2, "round {round}");
            one.answer(round, 2, false);
            assert_eq!(one.next(), (Config::default().ask_within, vec![]));
        }
    }

    #[test]
    fn a_leader_that_is_heard_is_waited_for_and_waits_are_drawn_anew_in_a_band_of_ones_own() {
        let Config { lease, band, .. } = Config::default();
        for number in 1..=3_u32 {
            let mut one = One::new(number.into(), 3);
            let mut waits = BTreeSet::new();
            for _ in 0..100 {
                one.handle(Input::Heard);
                let wait = one.elector.poll_timeout().unwrap().0 - one.now;
                let from = lease + band * (number - 1);
                assert!((from..from + band).contains(&wait), "{wait:?}");
                waits.insert(wait);
                one.now += lease / 2;
            }
            assert!(waits.len() > 50, "{} different waits", waits.len());
        }
    }

    #[test]
    fn nobody_votes_while_a_leader_is_heard_or_for_a_shorter_log() {
        let mut one = One::new(1, 3);
        let last = Some(crate::raft::tests::log_id(1, 5));
        assert!(!one.elector.would_vote(one.now, last, last));
        let later = one.now + Config::default().lease;
        assert!(one.elector.would_vote(later, last, last));
        assert!(!one.elector.would_vote(later, None, last));
        one.handle(Input::Stands(Standing { leads: true, ..standing(3) }));
        assert!(!one.elector.would_vote(later, last, last));
        assert_eq!(one.elector.poll_timeout().unwrap().1, "heartbeat");
    }

    #[test]
    fn who_leads_says_so_again_and_again_unless_it_gives_its_place_away() {
        let mut one = One::new(1, 3);
        one.handle(Input::Stands(Standing { leads: true, ..standing(3) }));
        let beat = Config::default().heartbeat;
        for _ in 0..10 {
            assert_eq!(one.next(), (beat, vec![Output::Beat]));
        }
        one.handle(Input::Quiet(true));
        assert_eq!(one.next(), (beat, vec![]));
        one.handle(Input::Quiet(false));
        assert_eq!(one.next(), (beat, vec![Output::Beat]));
        one.handle(Input::Stands(standing(3)));
        assert_eq!(one.elector.poll_timeout().unwrap().1, "election timeout");
    }

    #[test]
    fn who_was_refused_asks_again_soon_and_disturbs_nobody() {
        let Config { lease, band, ask_within, .. } = Config::default();
        let mut one = One::new(1, 3);
        let (first, asked) = one.next();
        assert!(first >= lease && asked.len() == 2);
        one.answer(1, 2, false);
        assert_eq!(one.next(), (ask_within, vec![]));
        let (again, asked) = one.next();
        assert!(again < band && asked.len() == 2, "{again:?}");
        assert_eq!(one.answer(2, 2, true), [ELECT]);
        // It waits for what comes of that for as long as for a leader.
        assert!(one.next().0 >= lease);
    }

    #[test]
    fn who_has_voted_for_another_gives_it_time_and_promises_nothing() {
        let mut one = One::new(1, 3);
        one.next();
        assert_eq!(one.handle(Input::Voted), []);
        // What the others said before does not count any more.
        assert_eq!(one.answer(1, 2, true), []);
        assert!(!one.elector.hears(one.now) && one.elector.would_vote(one.now, None, None));
        assert!(one.next().0 >= Config::default().lease);
    }

    #[test]
    fn who_does_not_vote_does_not_stand() {
        let mut one = One::new(4, 3);
        assert_eq!(one.elector.poll_timeout(), None);
        assert_eq!(one.handle(Input::Hurry), []);
        let mut voter = One::new(2, 3);
        assert_eq!(voter.handle(Input::Hurry), [Output::Elect { is_hurried: true }]);
    }
}
