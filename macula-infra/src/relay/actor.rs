//! The supervised actor that keeps places at relays, and offers its own.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::path::InvalidId;
use macula_core::shell::{Driver, Effects, Inbox, Shell};
use macula_core::supervision::{Start, Worker};
use macula_core::wire::to_body;
use tokio::task::JoinSet;

use super::reserver::{Input, Output, Reserver};
use super::wire::{RESERVE, Reserve};
use super::{NAME, Relay, metrics};
use crate::desk::Seat;
use crate::dht::proto::node::Quorum;
use crate::dht::proto::records::Condition;
use crate::dht::rules::space;

/// How many inputs wait for the machine. More are lost, as the network might lose them.
const INBOX_LEN_MAX: usize = 4_096;

/// How many relays are looked for.
const FOUND_MAX: usize = 64;

/// How long what is said in the table lasts after the node has ended.
const TTL: Duration = Duration::from_secs(300);

/// How long the record of a node lasts. This node puts it anew until then.
const RECORD_TTL: Duration = Duration::from_secs(3_600);

/// How long after a failure the record is put anew, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The reserver in its shell.
pub(crate) type RelayActor = Shell<Reserver, Deeds, TokioClock>;

/// The worker. `places` is at how many relays this node keeps a place, and `serves` whether it is
/// one. `entropy` makes the dice of each of its lives.
///
/// # Errors
///
/// Never: its id is one.
pub(crate) fn worker(
    relay: Relay,
    own: NodeId,
    (places, serves): (usize, bool),
    entropy: impl Fn() -> Entropy + Send + Sync + 'static,
) -> Result<Worker<RelayActor>, InvalidId> {
    Worker::with("relay", move |_: &_| {
        let inbox = Inbox::new(INBOX_LEN_MAX);
        let seat = relay.0.desk.begin(&inbox);
        let reserver = Reserver::new(TokioClock.now(), places, entropy()).with(relay.0.bug);
        let mut deeds = Deeds {
            relay: relay.clone(),
            own,
            errands: JoinSet::new(),
            publishing: JoinSet::new(),
            _seat: seat,
        };
        if serves {
            deeds.offer();
        }
        Ok(Start::Run(Shell::default(), Driver::new(reserver, deeds, TokioClock, inbox)))
    })
}

/// What the reserver wants done. What is under way ends with the actor's life.
pub(crate) struct Deeds {
    relay: Relay,
    own: NodeId,
    errands: JoinSet<()>,
    /// What is being said of this node: the last word alone.
    publishing: JoinSet<()>,
    _seat: Seat<Input>,
}

impl Debug for Deeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deeds").field("relay", &self.relay).finish_non_exhaustive()
    }
}

impl Deeds {
    /// Says in the table that this node relays, until it ends.
    fn offer(&mut self) {
        let dht = self.relay.0.dht.clone();
        self.errands.spawn(async move {
            let place = (space::RELAY, NAME);
            let said = dht.provide(place, bytes::Bytes::new(), TTL, Quorum::One).await;
            if let Err(error) = said {
                tracing::info!(%error, "the table does not know yet that this node relays");
            }
        });
    }

    fn search(&mut self, inbox: &Inbox<Input>) {
        let (dht, own, inbox) = (self.relay.0.dht.clone(), self.own, inbox.clone());
        self.errands.spawn(async move {
            let found = match dht.find(space::RELAY, NAME, FOUND_MAX).await {
                Ok(found) => found.providers,
                Err(error) => return tracing::debug!(%error, "no relays are found"),
            };
            let nodes = found.into_iter().map(|relay| relay.provider().node());
            inbox.push(Input::Found(nodes.filter(|node| *node != own).collect()));
        });
    }

    fn reserve(&self, relay: NodeId) {
        let Ok(body) = to_body(&Reserve {}, usize::from(u8::MAX)) else { return };
        let desk = self.relay.0.desk.clone();
        let unsent = Box::new(move || {
            desk.offer(Input::Lost { relay });
        });
        self.relay.post(relay, (RESERVE, body), unsent);
    }

    fn publish(&mut self, relays: &[NodeId]) {
        self.publishing.abort_all();
        while self.publishing.try_join_next().is_some() {}
        let Some(record) = self.relay.record(relays) else { return };
        self.relay.tell_all(&record);
        let (dht, own) = (self.relay.0.dht.clone(), self.own);
        self.publishing.spawn(async move {
            let (mut wait, wait_max) = AGAIN;
            loop {
                let place = (space::NODE, own.as_bytes().as_slice());
                let put =
                    dht.put(place, record.clone(), RECORD_TTL, Condition::Any, Quorum::Majority);
                match put.await {
                    Ok((_, stored)) if stored.is_reached() => return,
                    Ok((_, stored)) => {
                        tracing::info!(?stored, "few know over which relays this node is reached");
                    }
                    Err(error) => {
                        tracing::info!(%error, "nobody knows over which relays this node is reached");
                    }
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(wait_max);
            }
        });
    }
}

impl Effects<Reserver> for Deeds {
    fn apply(&mut self, _now: Instant, output: Output, inbox: &Inbox<Input>) {
        while self.errands.try_join_next().is_some() {}
        match output {
            Output::Search => self.search(inbox),
            Output::Reserve(relay) => self.reserve(relay),
            Output::Publish(relays) => self.publish(&relays),
            Output::Keep(relay) => self.relay.keep(relay, true),
            Output::LetGo(relay) => self.relay.keep(relay, false),
        }
    }

    fn observe(&mut self, reserver: &Reserver) {
        let held = reserver.held();
        let count = u32::try_from(held.len()).unwrap_or(u32::MAX);
        ::metrics::gauge!(metrics::PLACES).set(f64::from(count));
        *self.relay.0.places.lock() = held.into_iter().collect();
    }
}
