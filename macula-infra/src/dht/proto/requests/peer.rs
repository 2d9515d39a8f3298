//! What is under way to one peer.

use std::collections::VecDeque;
use std::time::Instant;

use super::Ticket;
use super::rtt::Rtt;
use crate::contact::Contact;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) contact: Contact,
    /// Operations that are not in any request.
    pub(super) queue: VecDeque<Ticket>,
    /// How many requests have a place in the window.
    pub(super) in_flight: usize,
    pub(super) rtt: Rtt,
    pub(super) last_used: Option<Instant>,
    pub(super) idle_since: Option<Instant>,
}

impl Peer {
    pub(super) fn new(contact: Contact) -> Self {
        let (queue, rtt) = (VecDeque::new(), Rtt::default());
        Self { contact, queue, in_flight: 0, rtt, last_used: None, idle_since: None }
    }

    /// Takes operations out of the queue: at least one, and no more than there is room for.
    pub(super) fn next_batch(
        &mut self,
        (count_max, len_max): (usize, usize),
        len_of: impl Fn(&Ticket) -> usize,
    ) -> Vec<Ticket> {
        let mut len = 0;
        let fitting = self.queue.iter().take(count_max).take_while(|ticket| {
            len += len_of(ticket);
            len <= len_max
        });
        let count = fitting.count().max(1).min(self.queue.len());
        self.queue.drain(..count).collect()
    }
}
