//! Who says who plays whom: one matchmaker for all nodes, on whichever of them leads its election. It says
//! under which token it does, so that nobody listens to one that leads no more.

use std::time::Duration;

use anyhow::Context as _;
use macula_core::path::InvalidId;
use macula_workload::Node;
use macula_workload::election::{Leadership, Token};
use macula_workload::names::NamedHandle;
use macula_workload::remote::{ReplyTo, Serving};
use macula_workload::singleton::Singleton;
use macula_workload::supervision::{Backoff, ChildSpec, Handle, Restart, Worker};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::lobby::{PLAYERS, ROOMS, Trouble, fail, patient};
use super::world::PATIENCE;

/// The name of the election, and that under which the matchmaker is found.
const NAME: &str = "matchmaker";

/// The longest time for which the matchmaker may be busy.
const LIVENESS: Duration = Duration::from_millis(250);

pub(super) enum MatchMsg {
    Pair(u32, ReplyTo<Match>),
    Trouble(Trouble),
}

/// Who plays, where, and who says so.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Match {
    pub(super) pair: (usize, usize),
    pub(super) room: usize,
    pub(super) token: Token,
}

struct Matchmaker;

impl Actor for Matchmaker {
    type Msg = MatchMsg;
    type State = Leadership;
    type Arguments = Leadership;

    async fn pre_start(
        &self,
        _myself: ActorRef<MatchMsg>,
        leadership: Leadership,
    ) -> Result<Leadership, ActorProcessingErr> {
        Ok(leadership)
    }

    async fn handle(
        &self,
        _myself: ActorRef<MatchMsg>,
        message: MatchMsg,
        leadership: &mut Leadership,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            MatchMsg::Pair(round, reply) => {
                let round = usize::try_from(round)?;
                let one = round % PLAYERS.len();
                let other = (one + 1 + round / PLAYERS.len() % (PLAYERS.len() - 1)) % PLAYERS.len();
                let (pair, room) = ((one, other), round % ROOMS.len());
                match leadership.check() {
                    // Whoever does not hear it asks again.
                    Ok(token) => drop(reply.send(Match { pair, room, token })),
                    Err(over) => reply.fail(over.to_string()),
                }
                Ok(())
            }
            MatchMsg::Trouble(trouble) => fail(trouble).await,
        }
    }
}

/// The matchmaker of the moment.
#[derive(Clone)]
pub(super) struct Now {
    /// The name of its node.
    pub(super) node: String,
    pub(super) token: Token,
    pub(super) handle: Handle<MatchMsg>,
}

/// Where the matchmaker is.
#[derive(Clone, Default)]
pub(super) struct Office(watch::Sender<Option<Now>>);

impl Office {
    /// Has a node take part.
    pub(super) async fn open(&self, name: &str, node: &Node) -> anyhow::Result<()> {
        let (office, name, mesh) = (self.clone(), name.to_owned(), node.mesh().clone());
        let served = Mutex::<Option<Serving>>::default();
        let make = move |leadership: Leadership| {
            let (spec, handle) = worker(leadership.clone())?;
            let mut served = served.lock();
            // The one before has ended, and its name is free.
            drop(served.take());
            *served = mesh.serve(NAME, &handle, MatchMsg::Pair).ok();
            let (node, token) = (name.clone(), leadership.token());
            office.0.send_replace(Some(Now { node, token, handle }));
            Ok(spec)
        };
        let singleton = Singleton::new("matchmaking", node.elections(), NAME, make);
        node.spawn_singleton(singleton).await.context("no matchmaker")?;
        Ok(())
    }

    /// The matchmaker that has come after a token, or the first one.
    pub(super) async fn after(&self, token: Option<Token>) -> anyhow::Result<Now> {
        let mut office = self.0.subscribe();
        let is_later = |now: &Option<Now>| now.as_ref().is_some_and(|now| Some(now.token) > token);
        let there = tokio::time::timeout(PATIENCE, office.wait_for(is_later)).await;
        there.context("no matchmaker was elected")??.clone().context("no matchmaker")
    }

    /// The way to it from a node.
    pub(super) fn from(node: &Node) -> NamedHandle<u32, Match> {
        node.named(NAME)
    }
}

fn worker(leadership: Leadership) -> Result<(ChildSpec, Handle<MatchMsg>), InvalidId> {
    let (first, longest) = (Duration::from_millis(20), Duration::from_millis(200));
    let matchmaker = Worker::new("matchmaker", move || (Matchmaker, leadership.clone()))?;
    Ok(matchmaker
        .restart(Restart::Transient)
        .liveness(LIVENESS)
        .backoff(Backoff::exponential(first, longest))
        .mailbox(patient())
        .split())
}
