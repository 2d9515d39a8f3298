//! What clients were answered, so that they are answered the same again.

use bytes::Bytes;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::super::command::{Command, NOBODY, Once};
use super::super::limits::{ANSWERS_LEN_MAX, ANSWERS_MAX, SESSIONS_MAX};

/// All clients that are remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sessions {
    by_id: OrdMap<u128, Session>,
    /// Who was heard of when, the longest ago first.
    by_index: OrdMap<u64, u128>,
    /// How many bytes the answers have.
    len: u64,
}

/// What is remembered of one client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    opened: u64,
    heard_at: u64,
    /// Answers before this one are forgotten, because the client has them.
    done_below: u64,
    answers: OrdMap<u64, Bytes>,
}

/// What is known of a command.
pub(super) enum Known {
    /// It has not been applied.
    Fresh,
    /// It has, with this answer.
    Answered(Bytes),
    /// Whether it has is not known any more.
    Forgotten,
}

impl Sessions {
    /// Whether a command was applied.
    pub(super) fn look(&self, once: &Once) -> Known {
        if once.session == NOBODY {
            return Known::Fresh;
        }
        let Some(session) = self.by_id.get(&once.session) else {
            // A client that is not known may be one that is forgotten, unless it says that it is new.
            let is_new = once.command == Command::Open;
            return if is_new { Known::Fresh } else { Known::Forgotten };
        };
        if once.command != Command::Open && once.opened != session.opened {
            return Known::Forgotten;
        }
        if let Some(answer) = session.answers.get(&once.serial) {
            return Known::Answered(answer.clone());
        }
        if once.serial < session.done_below { Known::Forgotten } else { Known::Fresh }
    }

    /// A command was applied at an index, with this answer.
    pub(super) fn note(&mut self, index: u64, once: &Once, answer: Bytes) {
        if once.session == NOBODY {
            return;
        }
        let opened = || Session { opened: index, ..Session::default() };
        let mut session = self.take(once.session).unwrap_or_else(opened);
        session.heard_at = index;
        session.done_below = session.done_below.max(once.done_below.min(once.serial));
        session.answers.insert(once.serial, answer);
        // One by one: a map that is split is built anew.
        while let Some(serial) = session.answers.get_min().map(|(serial, _)| *serial) {
            if session.answers.len() > ANSWERS_MAX {
                session.done_below = session.done_below.max(serial + 1);
            }
            if serial >= session.done_below {
                break;
            }
            session.answers.remove(&serial);
        }
        self.put(once.session, session);
        let is_full = |sessions: &Self| {
            let count = sessions.by_id.len();
            count > SESSIONS_MAX || (sessions.len > ANSWERS_LEN_MAX && count > 1)
        };
        while is_full(self) {
            let Some((_, oldest)) = self.by_index.get_min().copied() else { break };
            drop(self.take(oldest));
        }
    }

    fn take(&mut self, id: u128) -> Option<Session> {
        let session = self.by_id.remove(&id)?;
        self.by_index.remove(&session.heard_at);
        self.len = self.len.saturating_sub(session.len());
        Some(session)
    }

    /// Remembers a client.
    pub(super) fn put(&mut self, id: u128, session: Session) {
        self.by_index.insert(session.heard_at, id);
        self.len += session.len();
        self.by_id.insert(id, session);
    }

    /// All that are remembered.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u128, Session)> + Send + '_ {
        self.by_id.iter().map(|(id, session)| (*id, session.clone()))
    }
}

impl Session {
    /// How many bytes its answers have.
    pub(super) fn len(&self) -> u64 {
        self.answers.values().map(|answer| answer.len() as u64).sum()
    }
}
