//! One candidacy, as a pure machine: when to claim, how long to hold, when to let go.
//!
//! ```text
//! idle -> waiting -> granting -> claiming -> leading -> yielding -> waiting, or idle
//!            ^___________|__________|
//! ```
//!
//! Each request that is given out has one answer in bounded time, with the number of the request; an
//! answer to a request that is not under way any more is undone. The time until which it leads is counted
//! from when the last keep-alive that was acknowledged was *asked for*, and a tenth of the TTL before the
//! lease's end: so the holder's rule of [leases](crate::kv::expiry) holds with something left for those
//! who have to stop.

mod bug;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use macula_core::deadlines::Deadlines;
use macula_core::entropy::Entropy;
use macula_core::machine::Machine;

use super::leadership::{Token, Why};
use crate::kv::command::{LeaseId, Revision};
use crate::raft::DRIFT;

pub use bug::Bug;

/// How often in a TTL a lease is kept alive.
const KEEP_ALIVES: u32 = 6;

/// How many keep-alives are under way at most.
const KEEP_ALIVES_MAX: u32 = 3;

/// Which part of a TTL it waits at most before it claims a key that is free, drawn.
const JITTER: u32 = 32;

/// Which part of a TTL it waits before it tries again.
const AGAIN: u32 = 16;

/// What a machine is told at its birth.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// The TTL of the lease.
    pub ttl: Duration,
    /// What is done wrong on purpose.
    pub bug: Option<Bug>,
}

/// Who has the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// When it was made.
    pub token: Token,
    /// Whether an operator wants that the holder resigns.
    pub is_asked: bool,
}

/// What came of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The key hangs on the lease, and was made at the token.
    Won(Token),
    /// The key is another one's, as of a revision.
    Lost(Revision, Holder),
    /// It was not done and will not be.
    Refused,
    /// It may have been done, or not.
    Unknown,
}

/// What came of a keep-alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The lease lasts for its TTL from when that was asked for, at least.
    Yes,
    /// There is no such lease any more.
    Gone,
    /// There was no answer.
    Unknown,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Take part.
    Campaign,
    /// Take part no more.
    Resign,
    /// Lead no more under this token, and leave the next turn to others.
    StepDown(Token),
    /// This is how it stands with the key since a revision.
    Seen(Revision, Option<Holder>),
    /// The answer to [`Output::Grant`].
    Granted {
        /// Which request.
        serial: u64,
        /// The lease; none if there is none.
        lease: Option<LeaseId>,
    },
    /// The answer to [`Output::Claim`].
    Claimed {
        /// Which request.
        serial: u64,
        /// With which lease.
        lease: LeaseId,
        /// What came of it.
        outcome: Outcome,
    },
    /// The answer to [`Output::KeepAlive`].
    Kept {
        /// Which lease.
        lease: LeaseId,
        /// When it was asked for.
        asked: Instant,
        /// What came of it.
        kept: Kept,
    },
    /// Somebody has seen the time pass until which it leads under this token.
    Lapsed(Token),
    /// Nobody acts under this token any more.
    Vacated(Token),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Have a lease granted.
    Grant {
        /// Which request.
        serial: u64,
    },
    /// Make the key with this lease, if it is not there.
    Claim {
        /// Which request.
        serial: u64,
        /// With which lease.
        lease: LeaseId,
    },
    /// Keep the lease alive.
    KeepAlive {
        /// Which.
        lease: LeaseId,
        /// Now.
        asked: Instant,
    },
    /// Let the lease go.
    Release(LeaseId),
    /// It leads, until then.
    Elected {
        /// Under this token.
        token: Token,
        /// Until then, if nothing more is heard.
        until: Instant,
    },
    /// It leads for longer.
    Extended {
        /// Under this token.
        token: Token,
        /// Until then, if nothing more is heard.
        until: Instant,
    },
    /// It leads no more.
    Deposed {
        /// Under this token.
        token: Token,
        /// Why.
        why: Why,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The key is free, and it is this candidate's turn to claim it.
    Turn,
    /// The claim is made again, or given up.
    Again,
    /// It leads no more; or nobody has let go, and the lease has ended by itself.
    Over,
    /// The lease is to be kept alive.
    KeepAlive,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reign {
    token: Token,
    lease: LeaseId,
    until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Waiting,
    Granting { asked: Instant },
    Claiming { lease: LeaseId, asked: Instant },
    Leading(Reign),
    Yielding(Reign),
}

/// One candidacy.
#[derive(Debug)]
pub struct Candidate {
    config: Config,
    entropy: Entropy,
    state: State,
    /// How it stands with the key, and since which revision; none if that is not known.
    seen: Option<(Revision, Option<Holder>)>,
    /// Which request is the last one.
    serial: u64,
    keeping: u32,
    /// Others have their turn until then.
    rests_until: Option<Instant>,
    leaves: bool,
    deadlines: Deadlines<Timer>,
    out: VecDeque<Output>,
}

impl Candidate {
    /// One that does not take part yet.
    #[must_use]
    pub const fn new(config: Config, entropy: Entropy) -> Self {
        Self {
            config,
            entropy,
            state: State::Idle,
            seen: None,
            serial: 0,
            keeping: 0,
            rests_until: None,
            leaves: false,
            deadlines: Deadlines::new(),
            out: VecDeque::new(),
        }
    }

    /// Whether it takes no part, and nothing is held.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Under which token it leads.
    #[must_use]
    pub const fn leads(&self) -> Option<Token> {
        match self.state {
            State::Leading(reign) => Some(reign.token),
            _ => None,
        }
    }

    /// Until when it leads that has asked at a time, and was heard.
    fn until(&self, asked: Instant) -> Instant {
        asked + (self.config.ttl - self.config.ttl / DRIFT)
    }

    fn draw(&mut self, span: Duration) -> Duration {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.entropy.below(micros + 1))
    }

    /// Waits for its turn: from when the key is free, for a drawn time, and not while others have theirs.
    fn wait(&mut self, now: Instant, at_least: Duration) {
        self.deadlines.clear_all();
        if self.leaves {
            self.state = State::Idle;
            return;
        }
        self.state = State::Waiting;
        if !matches!(self.seen, Some((_, None))) {
            return;
        }
        let turn = now + at_least + self.draw(self.config.ttl / JITTER);
        self.deadlines.set(Timer::Turn, self.rests_until.map_or(turn, |rests| turn.max(rests)));
    }

    fn wait_again(&mut self, now: Instant) {
        self.wait(now, self.config.ttl / AGAIN);
    }

    fn give_up(&mut self, now: Instant, lease: LeaseId) {
        self.out.push_back(Output::Release(lease));
        self.wait_again(now);
    }

    fn ask(&mut self, output: impl FnOnce(u64) -> Output) {
        self.serial += 1;
        self.out.push_back(output(self.serial));
    }

    fn seen(&mut self, now: Instant, revision: Revision, holder: Option<Holder>) {
        if self.seen.is_some_and(|(seen, _)| revision <= seen) {
            return;
        }
        self.seen = Some((revision, holder));
        match self.state {
            State::Waiting => self.wait(now, Duration::ZERO),
            State::Leading(reign) => match holder {
                Some(holder) if holder.token == reign.token => {
                    if holder.is_asked {
                        self.depose(now, reign, Why::Asked);
                    }
                }
                Some(_) | None if revision > reign.token.0 => self.depose(now, reign, Why::Lost),
                Some(_) | None => {}
            },
            State::Idle | State::Granting { .. } | State::Claiming { .. } | State::Yielding(_) => {}
        }
    }

    fn granted(&mut self, now: Instant, serial: u64, lease: Option<LeaseId>) {
        match (self.state, lease) {
            (State::Granting { asked }, Some(lease)) if serial == self.serial => {
                if now >= self.until(asked) {
                    return self.give_up(now, lease);
                }
                self.state = State::Claiming { lease, asked };
                self.ask(|serial| Output::Claim { serial, lease });
            }
            (State::Granting { .. }, None) if serial == self.serial => self.wait_again(now),
            (_, Some(lease)) => self.out.push_back(Output::Release(lease)),
            (_, None) => {}
        }
    }

    fn claimed(&mut self, now: Instant, serial: u64, lease: LeaseId, outcome: Outcome) {
        let State::Claiming { lease: claimed, asked } = self.state else { return };
        // A lease that is claimed with no more was let go already.
        if serial != self.serial || lease != claimed {
            return;
        }
        let until = self.until(asked);
        match outcome {
            Outcome::Won(token) if now < until => {
                let lost = |holder: Option<Holder>| holder.is_none_or(|it| it.token != token);
                if self.seen.is_some_and(|(seen, holder)| seen > token.0 && lost(holder)) {
                    return self.give_up(now, lease);
                }
                self.lead(now, Reign { token, lease, until });
            }
            Outcome::Lost(revision, holder) => {
                self.out.push_back(Output::Release(lease));
                if self.seen.is_none_or(|(seen, _)| seen < revision) {
                    self.seen = Some((revision, Some(holder)));
                }
                self.wait_again(now);
            }
            Outcome::Unknown if now < until => {
                let again = now + self.config.ttl / AGAIN;
                self.deadlines.set(Timer::Again, again.min(until));
            }
            Outcome::Won(_) | Outcome::Refused | Outcome::Unknown => self.give_up(now, lease),
        }
    }

    fn lead(&mut self, now: Instant, reign: Reign) {
        let Reign { token, until, .. } = reign;
        self.state = State::Leading(reign);
        self.keeping = 0;
        self.deadlines.clear_all();
        self.deadlines.set(Timer::Over, until);
        self.deadlines.set(Timer::KeepAlive, now);
        let holder = Holder { token, is_asked: false };
        if self.seen.is_none_or(|(seen, _)| seen < token.0) {
            self.seen = Some((token.0, Some(holder)));
        }
        self.out.push_back(Output::Elected { token, until });
        if matches!(self.seen, Some((_, Some(Holder { is_asked: true, .. })))) {
            self.depose(now, reign, Why::Asked);
        }
    }

    fn kept(&mut self, now: Instant, lease: LeaseId, asked: Instant, kept: Kept) {
        let State::Leading(mut reign) = self.state else { return };
        if reign.lease != lease {
            return;
        }
        self.keeping = self.keeping.saturating_sub(1);
        let asked = if self.config.has(Bug::CountsFromTheAnswer) { now } else { asked };
        match kept {
            Kept::Yes if self.until(asked) > reign.until => {
                reign.until = self.until(asked);
                self.state = State::Leading(reign);
                self.deadlines.set(Timer::Over, reign.until);
                let Reign { token, until, .. } = reign;
                self.out.push_back(Output::Extended { token, until });
            }
            Kept::Gone => self.depose(now, reign, Why::Lost),
            Kept::Yes | Kept::Unknown => {}
        }
    }

    fn depose(&mut self, now: Instant, reign: Reign, why: Why) {
        self.out.push_back(Output::Deposed { token: reign.token, why });
        self.state = State::Yielding(reign);
        self.deadlines.clear_all();
        // By then the lease has ended at whatever clock, and there is nothing to let go.
        self.deadlines.set(Timer::Over, reign.until.max(now) + self.config.ttl / 3);
        if matches!(why, Why::Asked | Why::Resigned) {
            self.rests_until = Some(now + self.config.ttl);
        }
        if self.config.has(Bug::LetsGoTooEarly) {
            self.out.push_back(Output::Release(reign.lease));
        }
    }

    /// Whatever is told now, what is over is over.
    fn expire(&mut self, now: Instant) {
        if let State::Leading(reign) = self.state
            && now >= reign.until
        {
            self.depose(now, reign, Why::Expired);
        }
    }

    fn resign(&mut self, now: Instant) {
        self.leaves = true;
        match self.state {
            State::Leading(reign) => self.depose(now, reign, Why::Resigned),
            State::Claiming { lease, .. } => self.give_up(now, lease),
            State::Waiting | State::Granting { .. } => self.wait(now, Duration::ZERO),
            State::Idle | State::Yielding(_) => {}
        }
    }

    fn due(&mut self, now: Instant, timer: Timer) {
        match (self.state, timer) {
            (State::Waiting, Timer::Turn) => {
                self.state = State::Granting { asked: now };
                self.ask(|serial| Output::Grant { serial });
            }
            (State::Claiming { lease, asked }, Timer::Again) => {
                if now >= self.until(asked) {
                    self.give_up(now, lease);
                } else {
                    self.ask(|serial| Output::Claim { serial, lease });
                }
            }
            (State::Leading(reign), Timer::KeepAlive) => {
                if self.keeping < KEEP_ALIVES_MAX {
                    self.keeping += 1;
                    let lease = reign.lease;
                    self.out.push_back(Output::KeepAlive { lease, asked: now });
                }
                self.deadlines.set(Timer::KeepAlive, now + self.config.ttl / KEEP_ALIVES);
            }
            (State::Yielding(_), Timer::Over) => self.wait(now, Duration::ZERO),
            // What is over has been ended before.
            _ => {}
        }
    }
}

impl Machine for Candidate {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        self.expire(now);
        match input {
            Input::Campaign => {
                if self.is_idle() && !self.leaves {
                    self.wait(now, Duration::ZERO);
                }
            }
            Input::Resign => self.resign(now),
            Input::StepDown(token) => {
                if let State::Leading(reign) = self.state
                    && reign.token == token
                {
                    self.depose(now, reign, Why::Resigned);
                }
            }
            Input::Seen(revision, holder) => self.seen(now, revision, holder),
            Input::Granted { serial, lease } => self.granted(now, serial, lease),
            Input::Claimed { serial, lease, outcome } => {
                self.claimed(now, serial, lease, outcome);
            }
            Input::Kept { lease, asked, kept } => self.kept(now, lease, asked, kept),
            Input::Lapsed(token) => {
                if let State::Leading(reign) = self.state
                    && reign.token == token
                {
                    self.depose(now, reign, Why::Expired);
                }
            }
            Input::Vacated(token) => {
                if let State::Yielding(reign) = self.state
                    && reign.token == token
                {
                    self.out.push_back(Output::Release(reign.lease));
                    self.wait(now, Duration::ZERO);
                }
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.expire(now);
        while let Some(timer) = self.deadlines.due(now) {
            self.due(now, timer);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.deadlines.next().map(|(at, timer)| match timer {
            Timer::Turn => (at, "the key is claimed"),
            Timer::Again => (at, "the claim is made again"),
            Timer::Over => (at, "leadership is over"),
            Timer::KeepAlive => (at, "the lease is kept alive"),
        })
    }
}
