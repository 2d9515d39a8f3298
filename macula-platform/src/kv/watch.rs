//! What happens to some keys, one event after the other.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::client::Kv;
use super::command::{Event, Refusal, Revision};
use super::error::{Error, WatchError};
use super::ways::Goal;
use super::wire::{Ask, Reply};

/// Events as they come. A voter keeps nothing of it: it is asked for what happens after the last
/// revision, and any voter knows. So it outlives leaders, and what is not taken is not asked for.
#[derive(Debug)]
pub struct Watch {
    kv: Kv,
    prefix: Bytes,
    /// Up to where all was asked for.
    upto: Revision,
    /// Up to where all was given out.
    given: Revision,
    ready: VecDeque<Event>,
    ended: Option<WatchError>,
}

impl Watch {
    pub(super) const fn new(kv: Kv, prefix: Bytes, after: Revision) -> Self {
        let ready = VecDeque::new();
        Self { kv, prefix, upto: after, given: after, ready, ended: None }
    }

    /// The next event, whenever it happens. Events of one revision come one after the other.
    ///
    /// # Errors
    ///
    /// [`WatchError::Gap`] if some may have been missed, and [`WatchError::NoAnswer`] if no voter has
    /// answered for a client's usual time: then nothing is missed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped no event is lost.
    pub async fn next(&mut self) -> Result<Event, WatchError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                let is_last = self.ready.front().is_none_or(|next| next.revision > event.revision);
                if is_last {
                    self.given = event.revision;
                }
                return Ok(event);
            }
            self.given = self.upto;
            if let Some(error) = &self.ended {
                return Err(error.clone());
            }
            self.more().await?;
        }
    }

    /// From where another watch could go on: up to this revision all was given out.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.given
    }

    async fn more(&mut self) -> Result<(), WatchError> {
        let config = &self.kv.inner.config;
        let ask = Ask::Events {
            prefix: self.prefix.clone(),
            after: self.upto,
            max: super::checks::size(config.watch_events_max),
            wait_ms: config.watch_wait_ms,
        };
        let wait = Duration::from_millis(config.watch_wait_ms);
        let answered = self.kv.inner.ways.ask(&ask, Goal::Any, self.kv.until() + wait, wait).await;
        match answered.map(|answered| answered.reply) {
            Ok(Reply::Events(found)) => {
                self.upto = self.upto.max(found.upto);
                self.ready = found.events.into();
                Ok(())
            }
            Ok(other) => Err(WatchError::NoAnswer(super::client::strange(&other).to_string())),
            Err(Error::Refused(Refusal::NoRevision { revision, oldest, .. }))
                if revision < oldest =>
            {
                Err(self.end(WatchError::Gap { after: self.upto, oldest }))
            }
            // It has not come to that revision yet: nothing is forgotten.
            Err(error @ Error::Refused(Refusal::NoRevision { .. })) => {
                Err(WatchError::NoAnswer(error.to_string()))
            }
            Err(Error::Refused(refusal)) => Err(self.end(WatchError::Refused(refusal))),
            Err(error) => Err(WatchError::NoAnswer(error.to_string())),
        }
    }

    fn end(&mut self, error: WatchError) -> WatchError {
        self.ended = Some(error.clone());
        error
    }
}
