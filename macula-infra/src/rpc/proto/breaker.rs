//! A circuit breaker (M. Nygard, *Release It!*): a provider that fails again and again is left alone
//! for a while, and then tried with one call at a time.

use std::time::{Duration, Instant};

/// How many failures in a row open a circuit.
const FAILURES_MAX: u32 = 5;

/// How many probes in a row have to succeed before it is closed.
const PROBES: u32 = 2;

/// How long it is open at first. Each failed probe doubles it.
const OPEN_INITIAL: Duration = Duration::from_secs(1);

/// How long it is open at most.
const OPEN_MAX: Duration = Duration::from_secs(30);

/// The circuit of one provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breaker {
    /// All calls go through.
    Closed {
        /// How many have failed since the last that did not.
        failures: u32,
    },
    /// None does before `until`; then it counts as half open.
    Open {
        /// Until when.
        until: Instant,
        /// For how long it was opened.
        open_for: Duration,
    },
    /// One call at a time goes through.
    HalfOpen {
        /// Whether one is under way.
        is_probing: bool,
        /// How many have succeeded.
        successes: u32,
        /// For how long it was open before.
        open_for: Duration,
    },
}

/// Whether a call may go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may.
    Free,
    /// It may, as the one that shows whether others may.
    Probe,
    /// Not before then, if that is known.
    Closed(Option<Instant>),
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    /// Whether a call may go through now.
    pub(crate) fn admission(&self, now: Instant) -> Admission {
        match *self {
            Self::Closed { .. } => Admission::Free,
            Self::Open { until, .. } if now < until => Admission::Closed(Some(until)),
            Self::Open { .. } | Self::HalfOpen { is_probing: false, .. } => Admission::Probe,
            Self::HalfOpen { is_probing: true, .. } => Admission::Closed(None),
        }
    }

    /// A probe begins.
    pub(crate) const fn probe(&mut self) {
        *self = match *self {
            Self::Open { open_for, .. } => {
                Self::HalfOpen { is_probing: true, successes: 0, open_for }
            }
            Self::HalfOpen { successes, open_for, .. } => {
                Self::HalfOpen { is_probing: true, successes, open_for }
            }
            Self::Closed { failures } => Self::Closed { failures },
        };
    }

    /// A call has succeeded. What began before the circuit was opened does not count.
    pub(crate) const fn succeeded(&mut self, is_probe: bool) {
        match *self {
            Self::Closed { .. } => *self = Self::Closed { failures: 0 },
            Self::HalfOpen { successes, open_for, .. } if is_probe => {
                let successes = successes + 1;
                *self = if successes >= PROBES {
                    Self::Closed { failures: 0 }
                } else {
                    Self::HalfOpen { is_probing: false, successes, open_for }
                };
            }
            Self::Open { .. } | Self::HalfOpen { .. } => {}
        }
    }

    /// A call has failed.
    pub(crate) fn failed(&mut self, now: Instant, is_probe: bool) {
        match *self {
            Self::Closed { failures } if failures + 1 < FAILURES_MAX => {
                *self = Self::Closed { failures: failures + 1 };
            }
            Self::Closed { .. } => *self = Self::opened(now, OPEN_INITIAL),
            Self::HalfOpen { open_for, .. } if is_probe => {
                *self = Self::opened(now, open_for.saturating_mul(2).min(OPEN_MAX));
            }
            Self::Open { .. } | Self::HalfOpen { .. } => {}
        }
    }

    /// A call has ended and says nothing about its provider.
    pub(crate) const fn passed(&mut self, is_probe: bool) {
        if let Self::HalfOpen { successes, open_for, .. } = *self
            && is_probe
        {
            *self = Self::HalfOpen { is_probing: false, successes, open_for };
        }
    }

    fn opened(now: Instant, open_for: Duration) -> Self {
        Self::Open { until: now + open_for, open_for }
    }
}

#[cfg(test)]
mod tests {
    use super::{Admission, Breaker, FAILURES_MAX, OPEN_INITIAL, OPEN_MAX};
    use macula_core::clock::{Clock as _, TokioClock};
    use std::fmt::Write as _;
    use std::time::Duration;

    #[test]
    fn the_states_of_a_circuit() {
        let now = TokioClock.now();
        let open_for = Duration::from_secs(4);
        let states = [
            ("closed", Breaker::Closed { failures: 1 }),
            ("closed, about to open", Breaker::Closed { failures: FAILURES_MAX - 1 }),
            ("open", Breaker::Open { until: now + open_for, open_for }),
            ("half open", Breaker::HalfOpen { is_probing: false, successes: 0, open_for }),
            ("probing", Breaker::HalfOpen { is_probing: true, successes: 0, open_for }),
            ("probing again", Breaker::HalfOpen { is_probing: true, successes: 1, open_for }),
        ];
        type Event = (&'static str, fn(&mut Breaker, std::time::Instant));
        let events: [Event; 7] = [
            ("a probe begins", |breaker, _| breaker.probe()),
            ("a call succeeds", |breaker, _| breaker.succeeded(false)),
            ("a call fails", |breaker, now| breaker.failed(now, false)),
            ("a call passes", |breaker, _| breaker.passed(false)),
            ("the probe succeeds", |breaker, _| breaker.succeeded(true)),
            ("the probe fails", |breaker, now| breaker.failed(now, true)),
            ("the probe passes", |breaker, _| breaker.passed(true)),
        ];
        let shown = |breaker: Breaker| match breaker {
            Breaker::Closed { failures } => format!("closed, {failures} failures"),
            Breaker::Open { until, open_for } => format!("open for {open_for:?}/{:?}", until - now),
            Breaker::HalfOpen { is_probing, successes, .. } => {
                format!("half open, probing: {is_probing}, {successes} successes")
            }
        };
        let mut table = String::new();
        for (name, state) in states {
            writeln!(table, "{name}: {:?}", state.admission(now + open_for / 2) == Admission::Free)
                .unwrap();
            for (event, apply) in &events {
                let mut next = state;
                apply(&mut next, now);
                if next != state {
                    writeln!(table, "  {event} => {}", shown(next)).unwrap();
                }
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn it_opens_tries_one_and_closes_or_waits_twice_as_long() {
        let mut now = TokioClock.now();
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES_MAX {
            breaker.failed(now, false);
        }
        breaker.succeeded(false);
        assert_eq!(breaker, Breaker::default(), "a success forgives");
        (0..FAILURES_MAX).for_each(|_| breaker.failed(now, false));
        assert_eq!(breaker.admission(now), Admission::Closed(Some(now + OPEN_INITIAL)));
        let mut open_for = OPEN_INITIAL;
        for _ in 0..10 {
            now += open_for;
            assert_eq!(breaker.admission(now), Admission::Probe);
            breaker.probe();
            assert_eq!(breaker.admission(now), Admission::Closed(None), "one at a time");
            breaker.failed(now, true);
            open_for = (open_for * 2).min(OPEN_MAX);
            assert_eq!(breaker.admission(now), Admission::Closed(Some(now + open_for)));
        }
        now += open_for;
        for _ in 0..2 {
            breaker.probe();
            breaker.passed(true);
            assert_eq!(breaker.admission(now), Admission::Probe, "it has shown nothing");
            breaker.probe();
            breaker.succeeded(true);
        }
        assert_eq!(breaker.admission(now), Admission::Free);
    }
}
