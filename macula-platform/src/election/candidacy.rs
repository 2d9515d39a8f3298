//! What a candidate holds: it hears when it is elected and deposed, and resigns.

use std::sync::Arc;

use macula_core::supervision::{Handle, SendError};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::client::Elections;
use super::config::Options;
use super::error::Error;
use super::leadership::{Leadership, Term, Token, Why};
use super::proto::{Bug, Config};
use super::seat::{Seat, Standing};

/// What a candidate is told. The two alternate, and the first is [`Elected`](Self::Elected).
#[derive(Debug, Clone)]
pub enum Event {
    /// It leads.
    Elected(Leadership),
    /// It leads no more.
    Deposed {
        /// Under this token.
        token: Token,
        /// Why.
        why: Why,
    },
}

/// A candidate's part in an election. Dropped, it resigns.
#[derive(Debug)]
pub struct Candidacy {
    seat: Arc<Seat>,
    standing: watch::Receiver<Standing>,
    /// What it was told of last.
    told: Option<Arc<Term>>,
    /// The last token that it was told of.
    newest: Option<Token>,
    config: Config,
}

impl Candidacy {
    pub(super) fn new(seat: Arc<Seat>, config: Config) -> Self {
        let standing = seat.standing.subscribe();
        Self { seat, standing, told: None, newest: None, config }
    }

    /// The name of the election.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.seat.name
    }

    /// What happens next; none if nothing more does.
    ///
    /// Nothing waits to be taken: [`Event::Elected`] is only given for a leadership that counts at that
    /// moment, and [`Event::Deposed`] is given when its time has passed by this node's clock, whatever
    /// else hangs. Times of leadership that nobody asked for are left out.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped nothing is lost.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(term) = self.told.clone() {
            let why = term.ended().await;
            self.told = None;
            return Some(Event::Deposed { token: term.token, why });
        }
        loop {
            {
                let standing = self.standing.borrow_and_update();
                if let Some(current) = &standing.current
                    && self.newest.is_none_or(|newest| newest < current.token())
                    && (current.is_valid() || self.config.has(Bug::TellsTheLate))
                {
                    self.told = Some(Arc::clone(current.term()));
                    self.newest = Some(current.token());
                    return Some(Event::Elected(current.clone()));
                }
                if standing.is_closed {
                    return None;
                }
            }
            self.standing.changed().await.ok()?;
        }
    }

    /// The token under which it leads, if it does now.
    #[must_use]
    pub fn leads(&self) -> Option<Token> {
        self.seat.check().and_then(Result::ok)
    }

    /// Leads no more, and leaves the next turn to others: this candidate claims nothing for one TTL.
    /// Nothing happens if it does not lead. Others can be elected once all clones of the [`Leadership`]
    /// are gone.
    pub fn step_down(&self) {
        // Seen as one, so that no later leadership is meant.
        let token = self.standing.borrow().current.as_ref().map(Leadership::token);
        if let Some(token) = token {
            self.seat.step_down(token);
        }
    }

    /// Takes part no more, and waits until the group knows, or the lease has ended by itself: that is
    /// awaited as long as a clone of the [`Leadership`] is there, or the group is silent.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped it resigns all the same.
    pub async fn resign(mut self) {
        self.seat.leave();
        let closed = self.standing.wait_for(|standing| standing.is_closed);
        // Nothing keeps the lease alive any more, and a tenth later it has ended at any clock but one
        // that is too slow by more than is allowed for.
        drop(tokio::time::timeout(self.config.ttl * 5 / 4, closed).await);
    }
}

impl Drop for Candidacy {
    fn drop(&mut self) {
        self.seat.leave();
    }
}

/// A candidacy whose events go to an actor. Dropped, it resigns.
#[derive(Debug)]
pub struct Nomination(AbortHandle);

impl Drop for Nomination {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Elections {
    /// As [`campaign`](Self::campaign), for an actor: each event is a message to it.
    ///
    /// What is handed over is checked when it is put into the mailbox, and the actor checks the
    /// [`Leadership`] when it comes to handle it: what it holds then is not what was so once, but what is
    /// so. A life of the actor that ends while it leads has stepped down. The next life is told of its own
    /// election, and of nothing before; but a mailbox that keeps messages for a next life keeps these too.
    ///
    /// # Errors
    ///
    /// As [`campaign`](Self::campaign).
    ///
    /// # Panics
    ///
    /// If it is called outside of a runtime.
    pub fn campaign_for<M: Send + 'static>(
        &self,
        name: &str,
        options: Options,
        actor: Handle<M>,
        message: impl Fn(Event) -> M + Send + Sync + 'static,
    ) -> Result<Nomination, Error> {
        let candidacy = self.campaign(name, options)?;
        let told = tokio::spawn(tell(candidacy, actor, message));
        Ok(Nomination(told.abort_handle()))
    }
}

async fn tell<M: Send + 'static>(
    mut candidacy: Candidacy,
    actor: Handle<M>,
    message: impl Fn(Event) -> M + Send + Sync,
) {
    while let Some(life) = actor.ready().await {
        loop {
            let event = tokio::select! {
                biased;
                _ = actor.ended(life) => break,
                event = candidacy.next() => event,
            };
            let Some(event) = event else { return };
            let is_elected = matches!(event, Event::Elected(_));
            if !hand_over(&actor, life, event, &message).await {
                if is_elected {
                    // It was not told; so it is not told of the end either.
                    candidacy.step_down();
                    candidacy.next().await;
                }
                if actor.incarnation() != life || actor.actor_ref().is_none() {
                    break;
                }
            }
        }
        if candidacy.told.is_some() {
            candidacy.step_down();
            candidacy.next().await;
        }
        // The life that has ended is not the one that comes.
        if actor.next_life(life).await.is_none() {
            return;
        }
    }
}

/// Puts an event into the mailbox of one life, once there is room. Not if it is over by then.
async fn hand_over<M: Send + 'static>(
    actor: &Handle<M>,
    life: u64,
    event: Event,
    message: &(impl Fn(Event) -> M + Send + Sync),
) -> bool {
    loop {
        let is_late = matches!(&event, Event::Elected(leadership) if !leadership.is_valid());
        if is_late || actor.incarnation() != life {
            return false;
        }
        match actor.cast(message(event.clone())) {
            Ok(()) => return true,
            Err(SendError::Full { .. }) => actor.room().await,
            Err(_) => return false,
        }
    }
}
