//! One machine, told anything in any order.

use std::time::{Duration, Instant};

use macula_core::entropy::Entropy;
use macula_core::machine::Machine as _;
use proptest::prelude::*;

use crate::election::leadership::{Token, Why};
use crate::election::proto::{Bug, Candidate, Config, Holder, Input, Kept, Outcome, Output};
use crate::kv::command::LeaseId;
use crate::raft::timer;

const TTL: Duration = Duration::from_secs(10);

const ME: Token = Token(100);

/// How long who leads does so without a word.
const HOLDS: Duration = Duration::from_secs(9);

struct One {
    candidate: Candidate,
    began: Instant,
    at: Duration,
}

impl One {
    fn new(bug: Option<Bug>, seed: u64) -> Self {
        let config = Config { ttl: TTL, bug };
        let candidate = Candidate::new(config, Entropy::from_seed(seed));
        Self { candidate, began: timer::now(), at: Duration::ZERO }
    }

    fn now(&self) -> Instant {
        self.began + self.at
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        let now = self.now();
        self.candidate.handle(now, input);
        self.outputs()
    }

    fn pass(&mut self, span: Duration) -> Vec<Output> {
        self.at += span;
        let now = self.now();
        self.candidate.handle_timeout(now);
        self.outputs()
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.candidate.poll_output()).collect()
    }

    /// Goes on until the next deadline.
    fn wait(&mut self) -> Vec<Output> {
        let (at, _) = self.candidate.poll_timeout().unwrap();
        self.pass(at.saturating_duration_since(self.now()))
    }

    /// A candidate that leads.
    fn elected(bug: Option<Bug>) -> Self {
        let mut one = Self::new(bug, 1);
        assert_eq!(one.tell(Input::Campaign), []);
        assert_eq!(one.tell(Input::Seen(90, None)), []);
        assert_eq!(one.wait(), [Output::Grant { serial: 1 }]);
        let asked = one.now();
        one.at += Duration::from_secs(1);
        let claim = Output::Claim { serial: 2, lease: 95 };
        assert_eq!(one.tell(Input::Granted { serial: 1, lease: Some(95) }), [claim]);
        let won = Input::Claimed { serial: 2, lease: 95, outcome: Outcome::Won(ME) };
        assert_eq!(one.tell(won), [Output::Elected { token: ME, until: asked + HOLDS }]);
        one
    }
}

#[test]
fn it_claims_a_key_that_is_free_and_keeps_the_lease_alive_often() {
    let mut one = One::elected(None);
    let mut asked = Vec::new();
    for _ in 0..20 {
        let now = one.wait();
        let Some(Output::KeepAlive { lease: 95, asked: at }) = now.first().copied() else {
            panic!("{now:?}")
        };
        asked.push(at);
        one.at += Duration::from_millis(300);
        let told = one.tell(Input::Kept { lease: 95, asked: at, kept: Kept::Yes });
        assert!(told.len() < 2, "{told:?}");
        let extended = Output::Extended { token: ME, until: at + HOLDS };
        assert!(told.iter().all(|output| *output == extended), "{told:?}");
    }
    assert!(asked.is_sorted() && one.at > TTL * 2);
    assert_eq!(one.candidate.leads(), Some(ME));
}

#[test]
fn it_leads_no_longer_than_a_keep_alive_that_was_answered_late_says() {
    for (bug, leads) in [(None, false), (Some(Bug::CountsFromTheAnswer), true)] {
        let mut one = One::elected(bug);
        let Some(Output::KeepAlive { lease, asked }) = one.wait().first().copied() else {
            panic!()
        };
        one.at = asked - one.began + Duration::from_secs(7);
        one.tell(Input::Kept { lease, asked, kept: Kept::Yes });
        one.pass(asked + HOLDS - one.now());
        assert_eq!(one.candidate.leads().is_some(), leads, "{bug:?}");
    }
}

#[test]
fn what_is_over_is_not_begun_again_by_an_answer_that_is_late() {
    let mut one = One::elected(None);
    let Some(Output::KeepAlive { lease, asked }) = one.wait().first().copied() else { panic!() };
    // Nobody has called it in time.
    one.at += HOLDS;
    let told = one.tell(Input::Kept { lease, asked, kept: Kept::Yes });
    assert_eq!(told, [Output::Deposed { token: ME, why: Why::Expired }]);
    // Somebody still acts; then the lease is let go, and not before.
    assert_eq!(one.tell(Input::Vacated(Token(3))), []);
    assert_eq!(one.tell(Input::Vacated(ME)), [Output::Release(95)]);
}

#[test]
fn it_steps_down_when_it_is_asked_and_leaves_the_next_turn_to_others() {
    let mut one = One::elected(None);
    let asked = Holder { token: ME, is_asked: true };
    let told = one.tell(Input::Seen(110, Some(asked)));
    assert_eq!(told, [Output::Deposed { token: ME, why: Why::Asked }]);
    let since = one.at;
    assert_eq!(one.tell(Input::Vacated(ME)), [Output::Release(95)]);
    assert_eq!(one.tell(Input::Seen(111, None)), []);
    assert!(matches!(one.wait()[..], [Output::Grant { .. }]));
    assert!(one.at - since >= TTL);
}

#[test]
fn it_leads_no_more_when_the_key_is_gone_or_anothers() {
    for holder in [None, Some(Holder { token: Token(110), is_asked: false })] {
        let mut one = One::elected(None);
        // Older news say nothing.
        assert_eq!(one.tell(Input::Seen(99, None)), []);
        let told = one.tell(Input::Seen(110, holder));
        assert_eq!(told, [Output::Deposed { token: ME, why: Why::Lost }]);
    }
    let mut one = One::elected(None);
    let asked = one.now();
    let told = one.tell(Input::Kept { lease: 95, asked, kept: Kept::Gone });
    assert_eq!(told, [Output::Deposed { token: ME, why: Why::Lost }]);
}

#[test]
fn a_claim_whose_fate_is_not_known_is_made_again_until_the_lease_is_too_old() {
    let mut one = One::new(None, 1);
    one.tell(Input::Campaign);
    one.tell(Input::Seen(90, None));
    one.wait();
    let mut claim = one.tell(Input::Granted { serial: 1, lease: Some(95) });
    let mut claims = 0;
    while let [Output::Claim { serial, lease }] = claim[..] {
        let outcome = Outcome::Unknown;
        assert_eq!(one.tell(Input::Claimed { serial, lease, outcome }), []);
        claims += 1;
        claim = one.wait();
    }
    assert_eq!(claim, [Output::Release(95)]);
    assert!(claims > 5 && one.at >= HOLDS);
    // It begins anew.
    assert!(matches!(one.wait()[..], [Output::Grant { .. }]));
    // One that comes too late is let go.
    let late = Input::Granted { serial: 1, lease: Some(96) };
    assert_eq!(one.tell(late), [Output::Release(96)]);
}

/// All that a machine has wanted, and what has to be so of it.
#[derive(Default)]
struct Judge {
    /// What is under way.
    open: Vec<Output>,
    /// When leases were asked for, by their grants and their keep-alives that were acknowledged.
    heard: Vec<(LeaseId, Instant)>,
    granting: Option<Instant>,
    leads: Option<(Token, LeaseId, Instant)>,
    last: Option<Token>,
    /// Leases under which somebody may still act.
    acting: Vec<(Token, LeaseId)>,
    elected: usize,
}

impl Judge {
    fn see(&mut self, now: Instant, outputs: Vec<Output>) {
        assert!(outputs.len() <= 6, "{outputs:?}");
        for output in outputs {
            match output {
                Output::Grant { .. } => {
                    self.granting = Some(now);
                    self.open.push(output);
                }
                Output::Claim { .. } | Output::KeepAlive { .. } => self.open.push(output),
                Output::Release(lease) => {
                    assert!(self.leads.is_none_or(|(_, led, _)| led != lease));
                    assert!(self.acting.iter().all(|(_, acting)| *acting != lease));
                }
                Output::Elected { token, until } => {
                    assert_eq!(self.leads, None, "elected twice");
                    assert!(self.last.is_none_or(|last| last < token), "an old token");
                    let lease = self.acting.last().unwrap().1;
                    assert!(until <= self.bound(lease) && now < until);
                    (self.leads, self.last) = (Some((token, lease, until)), Some(token));
                    self.elected += 1;
                }
                Output::Extended { token, until } => {
                    let (leads, lease, before) = self.leads.unwrap();
                    assert!(leads == token && until > before && until <= self.bound(lease));
                    self.leads = Some((token, lease, until));
                }
                Output::Deposed { token, .. } => {
                    assert_eq!(self.leads.take().unwrap().0, token);
                }
            }
        }
        if let Some((token, _, until)) = self.leads {
            assert!(now < until, "{token} leads for too long");
        }
        assert!(self.open.len() < 64);
    }

    /// The last time that a holder can rely on.
    fn bound(&self, lease: LeaseId) -> Instant {
        let heard = self.heard.iter().filter(|(other, _)| *other == lease);
        heard.map(|(_, asked)| *asked + HOLDS).max().unwrap()
    }
}

/// Tells it something, as `what` and `which` have it.
fn step(one: &mut One, judge: &mut Judge, revision: &mut u64, (what, which): (u8, u64)) {
    *revision += 1;
    let now = one.now();
    let of_open = usize::try_from(which).unwrap();
    let input = match what {
        0 => Input::Seen(*revision, None),
        1 => {
            let token = one.candidate.leads().unwrap_or(Token(*revision));
            Input::Seen(*revision, Some(Holder { token, is_asked: which.is_multiple_of(5) }))
        }
        2 => Input::Seen(*revision, Some(Holder { token: Token(*revision), is_asked: false })),
        3 => Input::StepDown(one.candidate.leads().unwrap_or_default()),
        4 if which.is_multiple_of(4) => {
            Input::Lapsed(one.candidate.leads().filter(|_| which < 10).unwrap_or_default())
        }
        5 => {
            let acting = judge.acting.iter().map(|(token, _)| *token).next();
            let gone = acting.filter(|token| judge.leads.is_none_or(|(led, ..)| led != *token));
            judge.acting.retain(|(token, _)| Some(*token) != gone);
            Input::Vacated(gone.unwrap_or_default())
        }
        _ if judge.open.is_empty() => return,
        _ => match judge.open.swap_remove(of_open % judge.open.len()) {
            Output::Grant { serial } => {
                let lease = (!which.is_multiple_of(7)).then_some(*revision);
                judge.heard.extend(lease.zip(judge.granting));
                Input::Granted { serial, lease }
            }
            Output::Claim { serial, lease } => {
                let outcome = match which % 5 {
                    0 => Outcome::Unknown,
                    1 if which.is_multiple_of(2) => Outcome::Refused,
                    2 => {
                        let token = Token(*revision);
                        Outcome::Lost(*revision, Holder { token, is_asked: false })
                    }
                    _ => {
                        judge.acting.push((Token(*revision), lease));
                        Outcome::Won(Token(*revision))
                    }
                };
                Input::Claimed { serial, lease, outcome }
            }
            Output::KeepAlive { lease, asked } => {
                let kept = match which % 6 {
                    0 => Kept::Unknown,
                    1 if which.is_multiple_of(3) => Kept::Gone,
                    _ => Kept::Yes,
                };
                if kept == Kept::Yes {
                    judge.heard.push((lease, asked));
                }
                Input::Kept { lease, asked, kept }
            }
            other => panic!("{other:?} has no answer"),
        },
    };
    let told = one.tell(input);
    let won = told.iter().any(|output| matches!(output, Output::Elected { .. }));
    if matches!(input, Input::Claimed { outcome: Outcome::Won(_), .. }) && !won {
        judge.acting.pop();
    }
    judge.see(now, told);
}

proptest! {
    /// Whatever it is told in whatever order, however late it is called.
    #[test]
    fn it_alternates_and_never_leads_for_too_long(
        seed in 0..u64::MAX,
        steps in prop::collection::vec((0..14_u8, 0..100_u64, 0..3_000_u64, prop::bool::ANY), 50..400),
    ) {
        let (mut one, mut judge, mut revision) = (One::new(None, seed), Judge::default(), 10);
        let told = one.tell(Input::Campaign);
        judge.see(one.now(), told);
        for (what, which, ms, is_called) in steps {
            let span = Duration::from_millis(ms);
            if is_called {
                // On time, each time.
                let end = one.now() + span;
                while let Some((at, _)) = one.candidate.poll_timeout().filter(|(at, _)| *at <= end) {
                    let told = one.pass(at.saturating_duration_since(one.now()));
                    judge.see(one.now(), told);
                }
                one.at = end - one.began;
            } else {
                // Nobody calls it.
                one.at += span;
            }
            step(&mut one, &mut judge, &mut revision, (what, which));
        }
        // It leaves, and nothing is held in the end.
        judge.acting.clear();
        let told = one.tell(Input::Resign);
        judge.see(one.now(), told);
        let vacated = judge.last.unwrap_or_default();
        let told = one.tell(Input::Vacated(vacated));
        judge.see(one.now(), told);
        prop_assert!(one.candidate.is_idle());
        prop_assert_eq!(one.candidate.poll_timeout(), None);
    }
}
