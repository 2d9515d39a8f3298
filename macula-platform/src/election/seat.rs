//! Where a candidacy stands, between who wants it and what looks after it.

use std::sync::Arc;

use tokio::sync::watch;

use super::config::Options;
use super::leadership::{Leadership, Over, Token, Why};
use super::metrics;

/// One candidacy. It outlives the lives of what looks after it.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) name: Arc<str>,
    pub(super) options: Options,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) wish: watch::Sender<Wish>,
}

/// How it stands.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// The leadership, while it leads.
    pub(super) current: Option<Leadership>,
    /// Nothing more comes.
    pub(super) is_closed: bool,
}

/// What its owner wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wish {
    pub(super) leaves: bool,
    /// Lead no more under this token.
    pub(super) steps_down: Option<Token>,
}

impl Seat {
    pub(super) fn new(name: Arc<str>, options: Options) -> Self {
        let (standing, wish) = (watch::Sender::default(), watch::Sender::default());
        Self { name, options, standing, wish }
    }

    /// It leads.
    pub(super) fn elect(&self, leadership: Leadership) {
        ::metrics::counter!(metrics::CHANGES, "change" => "elected").increment(1);
        ::metrics::gauge!(metrics::LEADS).increment(1.0);
        self.standing.send_modify(|standing| standing.current = Some(leadership));
    }

    /// It leads no more. Nobody is told of a leadership that has not been told of yet.
    pub(super) fn depose(&self, why: Why) {
        self.standing.send_if_modified(|standing| {
            let current = standing.current.take();
            if let Some(current) = &current {
                current.term().end(why);
                ::metrics::counter!(metrics::CHANGES, "change" => why.word()).increment(1);
                ::metrics::gauge!(metrics::LEADS).decrement(1.0);
            }
            current.is_some()
        });
    }

    /// It leads no more under this token. That holds from now on, whoever looks after it.
    pub(super) fn step_down(&self, token: Token) {
        if let Some(current) = &self.standing.borrow().current
            && current.token() == token
        {
            current.term().end(Why::Resigned);
        }
        self.wish.send_modify(|wish| wish.steps_down = Some(token));
    }

    pub(super) fn leave(&self) {
        if let Some(current) = &self.standing.borrow().current {
            current.term().end(Why::Resigned);
        }
        self.wish.send_modify(|wish| wish.leaves = true);
    }

    pub(super) fn close(&self) {
        self.depose(Why::Resigned);
        self.standing.send_modify(|standing| standing.is_closed = true);
    }

    /// The token under which it leads now.
    pub(super) fn check(&self) -> Option<Result<Token, Over>> {
        self.standing.borrow().current.as_ref().map(Leadership::check)
    }
}
