//! What who leads has in hand: a token, and until when it counts.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use crate::kv::command::Revision;
use crate::raft::timer::Timer;

/// A fencing token: the revision at which the group has agreed that somebody leads. Each one of an
/// election is greater than all before it, for ever.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Token(pub Revision);

impl Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Why somebody leads no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Why {
    /// It has stepped down.
    Resigned,
    /// An operator has asked for it.
    Asked,
    /// The group has not confirmed it in time.
    Expired,
    /// The group has said that the key or its lease is gone.
    Lost,
    /// What looked after it on this node has ended, and begins anew.
    Interrupted,
}

impl Why {
    /// As it is counted.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Resigned => "resigned",
            Self::Asked => "asked",
            Self::Expired => "expired",
            Self::Lost => "lost",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Leads no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("token {token} leads no more: {why:?}")]
pub struct Over {
    /// Which token.
    pub token: Token,
    /// Why.
    pub why: Why,
}

/// That this node leads an election: the token, and whether it counts *now*.
///
/// Ask [`check`](Self::check) right before each thing that only who leads may do, and once more if there
/// was a wait since. Once it has said no it says no for ever. What takes effect elsewhere goes with the
/// [token](Self::token), so that a [`Fence`](super::fence::Fence) there can refuse it: no check here knows how
/// long a message is on its way, or that the process does not run.
///
/// Clones are the same leadership. As long as one is there, this node does not tell the group that
/// another may lead: then only the end of the lease lets another one lead. So whoever is still finishing
/// something keeps a clone, and who has finished drops it.
#[derive(Debug, Clone)]
pub struct Leadership(Arc<Held>);

#[derive(Debug)]
struct Held {
    term: Arc<Term>,
    /// Goes with the last clone.
    _let_go: oneshot::Sender<()>,
}

impl Leadership {
    /// One, and what hears that the last clone of it has gone.
    pub(super) fn new(term: Arc<Term>) -> (Self, oneshot::Receiver<()>) {
        let (let_go, gone) = oneshot::channel();
        (Self(Arc::new(Held { term, _let_go: let_go })), gone)
    }

    /// The name of the election.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.term.name
    }

    /// The token, whether it counts or not.
    #[must_use]
    pub fn token(&self) -> Token {
        self.0.term.token
    }

    /// The token, if it counts now.
    ///
    /// # Errors
    ///
    /// [`Over`]; it is so for ever.
    pub fn check(&self) -> Result<Token, Over> {
        let token = self.token();
        self.0.term.over().map_or(Ok(token), |why| Err(Over { token, why }))
    }

    /// Whether it counts now.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.check().is_ok()
    }

    /// For how long it counts from now on, if nothing more is heard of the group. Zero if it is over.
    #[must_use]
    pub fn valid_for(&self) -> Duration {
        let term = &self.0.term;
        let until = *term.until.borrow();
        match until.over {
            Some(_) => Duration::ZERO,
            None => until.at.saturating_duration_since(term.timer.now()),
        }
    }

    /// Waits until it is over, and says why.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped it can be asked for again.
    pub async fn over(&self) -> Why {
        self.0.term.ended().await
    }

    /// Waits until it counts for no longer than `left` from now on, or is over.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped it can be asked for again.
    pub async fn ends_within(&self, left: Duration) {
        self.0.term.ends_within(left).await;
    }

    pub(super) fn term(&self) -> &Arc<Term> {
        &self.0.term
    }
}

/// One time of leadership, as all who have to do with it see it.
#[derive(Debug)]
pub(super) struct Term {
    pub(super) name: Arc<str>,
    pub(super) token: Token,
    timer: Arc<dyn Timer>,
    until: watch::Sender<Until>,
}

#[derive(Debug, Clone, Copy)]
struct Until {
    at: Instant,
    over: Option<Why>,
}

impl Term {
    pub(super) fn new(name: Arc<str>, token: Token, at: Instant, timer: Arc<dyn Timer>) -> Self {
        Self { name, token, timer, until: watch::Sender::new(Until { at, over: None }) }
    }

    /// Whether it is over, and why. Whoever sees that its time has passed ends it for all.
    pub(super) fn over(&self) -> Option<Why> {
        let mut over = None;
        self.until.send_if_modified(|until| {
            let ends = until.over.is_none() && self.timer.now() >= until.at;
            if ends {
                until.over = Some(Why::Expired);
            }
            over = until.over;
            ends
        });
        over
    }

    /// It counts until then. False if somebody has seen it end already.
    pub(super) fn extend(&self, at: Instant) -> bool {
        let mut is_valid = false;
        self.until.send_if_modified(|until| {
            if until.over.is_none() && self.timer.now() >= until.at {
                until.over = Some(Why::Expired);
                return true;
            }
            is_valid = until.over.is_none();
            let is_later = is_valid && at > until.at;
            if is_later {
                until.at = at;
            }
            is_later
        });
        is_valid
    }

    /// It is over, unless it is already.
    pub(super) fn end(&self, why: Why) {
        self.until.send_if_modified(|until| {
            let ends = until.over.is_none();
            until.over.get_or_insert(why);
            ends
        });
    }

    pub(super) async fn ended(&self) -> Why {
        loop {
            self.ends_within(Duration::ZERO).await;
            if let Some(why) = self.over() {
                return why;
            }
        }
    }

    async fn ends_within(&self, left: Duration) {
        let mut changes = self.until.subscribe();
        loop {
            let until = *changes.borrow_and_update();
            let at = until.at.checked_sub(left);
            let Some(at) = at.filter(|at| until.over.is_none() && self.timer.now() < *at) else {
                return;
            };
            tokio::select! {
                () = self.timer.until(at) => {}
                // The sender is this very term's.
                _ = changes.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Leadership, Term, Token, Why};
    use crate::raft::timer::{Ticking, now};
    use std::sync::Arc;
    use std::time::Duration;

    const SPAN: Duration = Duration::from_secs(2);

    fn term() -> Arc<Term> {
        Arc::new(Term::new("x".into(), Token(7), now() + SPAN, Arc::new(Ticking)))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_is_over_for_ever() {
        let term = term();
        let (leadership, _gone) = Leadership::new(Arc::clone(&term));
        assert!(term.extend(now() + SPAN * 2) && leadership.check() == Ok(Token(7)));
        tokio::time::sleep(SPAN * 2).await;
        // Nobody has looked, and yet it is too late.
        assert!(!term.extend(now() + SPAN));
        assert_eq!(leadership.check().unwrap_err().why, Why::Expired);
        term.end(Why::Resigned);
        assert_eq!(leadership.over().await, Why::Expired);
        assert_eq!(leadership.valid_for(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_follow_what_is_extended_and_what_ends() {
        let term = term();
        let (leadership, mut gone) = Leadership::new(Arc::clone(&term));
        let (near, other) = (leadership.clone(), leadership.clone());
        let began = now();
        let near = tokio::spawn(async move {
            near.ends_within(SPAN / 2).await;
            now() - began
        });
        tokio::time::sleep(SPAN / 4).await;
        assert!(term.extend(began + SPAN * 2));
        assert!((SPAN * 3 / 2..SPAN * 2).contains(&near.await.unwrap()));
        let over = tokio::spawn(async move { other.over().await });
        tokio::task::yield_now().await;
        term.end(Why::Lost);
        assert_eq!(over.await.unwrap(), Why::Lost);
        assert!(gone.try_recv().is_err_and(|error| error.to_string().contains("empty")));
        drop(leadership);
        assert!(gone.await.is_err());
    }
}
