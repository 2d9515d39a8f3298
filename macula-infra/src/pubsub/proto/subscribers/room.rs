//! How much room subscriptions have, and what takes it.

use super::super::super::message::{Event, Message};

/// Room for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Room {
    pub(super) const fn is_there(self) -> bool {
        self.messages > 0 && self.bytes > 0
    }

    pub(super) const fn is_below(self, capacity: Self, quarters: usize) -> bool {
        self.messages < (capacity.messages * quarters).div_ceil(4)
            || self.bytes < (capacity.bytes * quarters).div_ceil(4)
    }

    pub(super) const fn spend(&mut self, bytes: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// What an event takes of a subscription's room.
pub(crate) fn weight(event: &Event) -> Room {
    match event {
        Event::Message(Message { payload, .. }) => Room { messages: 1, bytes: payload.len() },
        Event::Gap(_) | Event::Refused { .. } => Room { messages: 1, bytes: 0 },
    }
}
