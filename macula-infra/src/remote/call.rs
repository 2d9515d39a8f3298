//! One call, until it has its answer, its time is over, or its caller drops it.

use std::sync::Arc;

use macula_core::wire::Flags;

use super::FIRST_KIND;
use super::session::Calls;
use super::wire::CANCEL;
use crate::link::{InFlight, Link};
use crate::transport::Pulse;
use crate::transport::lane::Lane;

/// A call that is under way. When it is dropped without an answer, the other side is told.
pub(super) struct UnderWay {
    in_flight: InFlight,
    id: u64,
    answered: bool,
}

impl UnderWay {
    pub(super) const fn new(in_flight: InFlight, id: u64) -> Self {
        Self { in_flight, id, answered: false }
    }

    pub(super) const fn link(&self) -> &Arc<Link> {
        self.in_flight.link()
    }

    pub(super) const fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let link = self.in_flight.link();
        let waited = link.session::<Calls>(FIRST_KIND).is_some_and(|calls| calls.forget(self.id));
        if waited {
            // If the lane is full the handler goes on for nothing, which is all that is lost.
            let head = (CANCEL, Flags::default(), self.id);
            drop(link.lane(Lane::Rpc).send(head, &Pulse {}));
        }
    }
}
