//! When leases end: the leader's clock says, and nobody else's.
//!
//! A lease is kept alive by a word to the leader, which is no entry of the log. The leader proposes to
//! revoke what was not kept alive for its time, and what it was granted for is counted anew by whoever
//! leads next: from when that one knew that it leads, with all that was agreed upon before.
//!
//! **The holder's rule.** A holder counts from when it *asked* for the grant, or for the keep-alive,
//! that was acknowledged, and holds the lease for its TTL from then. The leader counts from when it was
//! asked, or later, and waits for a [tenth](crate::raft::DRIFT) longer; and it acknowledges a keep-alive
//! only once most of the voters have said, after it was asked, that it leads. So nobody else can have
//! begun to count before that, and the holder's time has always ended when the lease does, if the
//! clocks of the two do not differ by more than a tenth over the TTL.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use macula_core::deadlines::Deadlines;
use macula_core::machine::Machine;

use super::command::LeaseId;
use crate::raft::DRIFT;

/// How many leases are being revoked at one time.
const REVOKING_MAX: usize = 64;

/// How long after it was not agreed to revoke a lease that is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// This member leads from now on, and these leases are there, with their TTLs in milliseconds.
    Leads(Vec<(LeaseId, u64)>),
    /// It leads no more.
    Follows,
    /// A lease is there that was not.
    Granted(LeaseId, u64),
    /// A lease is not there any more.
    Gone(LeaseId),
    /// It was not agreed to revoke a lease, and it is not known whether it will be.
    NotRevoked(LeaseId),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Have the group agree that a lease has ended.
    Revoke(LeaseId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Ends(LeaseId),
    Again(LeaseId),
}

/// The leases of a leader. One that has ended is not kept alive any more, whatever becomes of it.
#[derive(Debug, Default)]
pub struct Expiry {
    leads: bool,
    ttls: BTreeMap<LeaseId, u64>,
    deadlines: Deadlines<Timer>,
    /// Those that are to be revoked.
    ended: BTreeSet<LeaseId>,
    revoking: BTreeSet<LeaseId>,
    out: VecDeque<Output>,
}

/// How long the leader waits.
fn wait(ttl_ms: u64) -> Duration {
    let ttl = Duration::from_millis(ttl_ms);
    ttl + ttl / DRIFT
}

impl Expiry {
    /// The TTL of a lease that can be kept alive, in milliseconds; none if it has ended, or there is
    /// none, or this member does not lead.
    #[must_use]
    pub fn ttl_ms(&self, now: Instant, lease: LeaseId) -> Option<u64> {
        let holds = self.deadlines.get(Timer::Ends(lease)).is_some_and(|ends| now < ends);
        self.ttls.get(&lease).copied().filter(|_| self.leads && holds)
    }

    /// Keeps a lease alive. Gives its TTL in milliseconds, or none if it has ended, or there is none, or
    /// this member does not lead.
    pub fn keep_alive(&mut self, now: Instant, lease: LeaseId) -> Option<u64> {
        let ttl_ms = self.ttl_ms(now, lease)?;
        self.deadlines.set(Timer::Ends(lease), now + wait(ttl_ms));
        Some(ttl_ms)
    }

    /// Whether this member leads, and counts.
    #[must_use]
    pub const fn leads(&self) -> bool {
        self.leads
    }

    /// How many leases it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ttls.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ttls.is_empty()
    }

    fn grant(&mut self, now: Instant, lease: LeaseId, ttl_ms: u64) {
        self.ttls.insert(lease, ttl_ms);
        self.deadlines.set(Timer::Ends(lease), now + wait(ttl_ms));
    }

    /// Revokes as many as may be at one time.
    fn revoke(&mut self) {
        while self.revoking.len() < REVOKING_MAX
            && let Some(lease) = self.ended.pop_first()
        {
            self.revoking.insert(lease);
            self.out.push_back(Output::Revoke(lease));
        }
    }
}

impl Machine for Expiry {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Leads(leases) => {
                *self = Self { leads: true, ..Self::default() };
                leases.into_iter().for_each(|(lease, ttl_ms)| self.grant(now, lease, ttl_ms));
            }
            Input::Follows => *self = Self::default(),
            Input::Granted(lease, ttl_ms) => {
                if self.leads && !self.ttls.contains_key(&lease) {
                    self.grant(now, lease, ttl_ms);
                }
            }
            Input::Gone(lease) => {
                self.ttls.remove(&lease);
                self.deadlines.clear(Timer::Ends(lease));
                self.deadlines.clear(Timer::Again(lease));
                self.ended.remove(&lease);
                self.revoking.remove(&lease);
                self.revoke();
            }
            Input::NotRevoked(lease) => {
                if self.revoking.remove(&lease) {
                    self.deadlines.set(Timer::Again(lease), now + AGAIN);
                }
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(Timer::Ends(lease) | Timer::Again(lease)) = self.deadlines.due(now) {
            self.ended.insert(lease);
        }
        self.revoke();
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.deadlines.next().map(|(at, timer)| match timer {
            Timer::Ends(_) => (at, "a lease ends"),
            Timer::Again(_) => (at, "a lease is revoked again"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{AGAIN, Expiry, Input, Output, REVOKING_MAX};
    use macula_core::machine::Machine as _;
    use proptest::prelude::*;
    use std::time::{Duration, Instant};

    struct One {
        expiry: Expiry,
        began: Instant,
        ms: u64,
    }

    impl One {
        #[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere")]
        fn new() -> Self {
            Self { expiry: Expiry::default(), began: Instant::now(), ms: 0 }
        }

        fn now(&self) -> Instant {
            self.began + Duration::from_millis(self.ms)
        }

        fn tell(&mut self, input: Input) -> Vec<Output> {
            let now = self.now();
            self.expiry.handle(now, input);
            self.told()
        }

        fn at(&mut self, ms: u64) -> Vec<Output> {
            self.ms = ms;
            let now = self.now();
            self.expiry.handle_timeout(now);
            self.told()
        }

        fn keep_alive(&mut self, lease: u64) -> Option<u64> {
            let now = self.now();
            self.expiry.keep_alive(now, lease)
        }

        fn told(&mut self) -> Vec<Output> {
            std::iter::from_fn(|| self.expiry.poll_output()).collect()
        }
    }

    #[test]
    fn a_lease_ends_a_tenth_after_its_time_and_is_not_kept_alive_then() {
        let mut one = One::new();
        one.tell(Input::Leads(vec![(1, 1_000)]));
        one.ms = 500;
        one.tell(Input::Granted(2, 1_000));
        assert_eq!(one.at(1_099), []);
        assert_eq!(one.keep_alive(1), Some(1_000));
        assert_eq!(one.at(1_600), [Output::Revoke(2)]);
        assert_eq!((one.keep_alive(2), one.keep_alive(3)), (None, None));
        assert_eq!(one.at(2_198), []);
        // Its time has come, though nobody has been called yet.
        one.ms = 2_199;
        assert_eq!(one.keep_alive(1), None);
        assert_eq!(one.at(2_199), [Output::Revoke(1)]);
        assert_eq!(one.at(60_000), []);
        assert_eq!((one.tell(Input::Gone(1)), one.tell(Input::Gone(2))), (vec![], vec![]));
        assert!(one.expiry.is_empty());
    }

    #[test]
    fn who_leads_anew_counts_anew_and_who_does_not_lead_ends_nothing() {
        let mut one = One::new();
        one.tell(Input::Granted(1, 1_000));
        assert_eq!((one.keep_alive(1), one.at(9_000)), (None, vec![]));
        one.tell(Input::Leads(vec![(1, 1_000)]));
        assert_eq!(one.at(10_099), []);
        one.tell(Input::Leads(vec![(1, 1_000)]));
        assert_eq!(one.at(11_198), []);
        one.tell(Input::Follows);
        assert_eq!((one.keep_alive(1), one.at(90_000)), (None, vec![]));
        assert_eq!(one.expiry.poll_timeout(), None);
    }

    #[test]
    fn what_was_not_revoked_is_revoked_later_and_few_at_one_time_are() {
        let mut one = One::new();
        let many = u64::try_from(REVOKING_MAX).unwrap() + 3;
        one.tell(Input::Leads((1..=many).map(|lease| (lease, 1_000)).collect()));
        let first = one.at(2_000);
        assert_eq!(first.len(), REVOKING_MAX);
        assert_eq!(one.tell(Input::Gone(1)).len(), 1);
        assert_eq!(one.tell(Input::NotRevoked(2)), []);
        assert_eq!(one.keep_alive(2), None);
        let again = 2_000 + u64::try_from(AGAIN.as_millis()).unwrap();
        // The place that it had is taken by one that has not been tried yet.
        assert_eq!(one.at(again - 1).len(), 1);
        assert_eq!(one.at(again), []);
        assert_eq!(one.tell(Input::Gone(3)).len(), 1);
    }

    proptest! {
        /// Whatever happens, a lease is not revoked before a holder's time has ended.
        #[test]
        fn no_holder_is_there_when_its_lease_is_revoked(
            steps in prop::collection::vec((0..4_u8, 0..800_u64), 1..200),
        ) {
            let mut one = One::new();
            one.tell(Input::Leads(vec![(1, 1_000)]));
            let mut held_until = 1_000;
            for (what, later) in steps {
                let told = one.at(one.ms + later);
                if !told.is_empty() {
                    prop_assert!(one.ms >= held_until + 100, "{} < {held_until}", one.ms);
                    return Ok(());
                }
                match what {
                    // The holder asked some time ago, and is told that it holds on.
                    0 if one.keep_alive(1).is_some() => {
                        held_until = held_until.max(one.ms.saturating_sub(100) + 1_000);
                    }
                    1 => drop(one.tell(Input::Leads(vec![(1, 1_000)]))),
                    2 => drop(one.tell(Input::Granted(1, 1_000))),
                    _ => {}
                }
            }
        }
    }
}
