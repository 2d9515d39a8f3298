//! The supervised actor that dials seeds as long as its node is alone.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::path::InvalidId;
use macula_core::supervision::Worker;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use super::Config;
use super::dns::resolved;
use crate::contact::Contact;
use crate::membership::Membership;
use crate::pool::{LinkError, Pool};
use crate::transport::DialError;

/// How often a node in company looks whether it still is.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What the actor is made of.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) pool: Pool,
    pub(crate) membership: Membership,
}

/// Time for another round, after this many in a row that found nobody; or the end of one that
/// panicked.
#[derive(Debug)]
pub(crate) enum Round {
    Next { failures: u32 },
    Panicked,
}

/// The actor.
#[derive(Debug)]
pub(crate) struct Bootstrap;

/// The worker.
///
/// # Errors
///
/// Never: its id is one.
pub(crate) fn worker(
    parts: Parts,
    entropy: impl Fn() -> Entropy + Send + Sync + 'static,
) -> Result<Worker<Bootstrap>, InvalidId> {
    Worker::new("bootstrap", move || (Bootstrap, (parts.clone(), entropy())))
}

/// One life. The round that is under way goes with it.
#[derive(Debug)]
pub(crate) struct State {
    parts: Parts,
    entropy: Entropy,
    rounds: JoinSet<()>,
}

impl Actor for Bootstrap {
    type Msg = Round;
    type State = State;
    type Arguments = (Parts, Entropy);

    async fn pre_start(
        &self,
        myself: ActorRef<Round>,
        (parts, entropy): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        if !parts.config.seeds.is_empty() {
            myself.cast(Round::Next { failures: 0 })?;
        }
        Ok(State { parts, entropy, rounds: JoinSet::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Round>,
        round: Round,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let Round::Next { failures } = round else { return Err("a round has panicked".into()) };
        while state.rounds.try_join_next().is_some() {}
        let (parts, jitter) = (state.parts.clone(), state.entropy.unit());
        // The actor itself waits for nobody, so that it stops when it is asked to.
        state.rounds.spawn(async move {
            let round = async {
                let failures = parts.round(failures).await;
                tokio::time::sleep(parts.wait(failures, jitter)).await;
                failures
            };
            let done = AssertUnwindSafe(round).catch_unwind().await;
            let next = done.map_or(Round::Panicked, |failures| Round::Next { failures });
            // An actor that has ended needs no word.
            drop(myself.cast(next));
        });
        Ok(())
    }
}

impl Parts {
    /// Looks for company if there is none; says how many rounds have found nobody, this included.
    async fn round(&self, failures: u32) -> u32 {
        if !self.membership.members().is_empty() {
            return 0;
        }
        let targets = resolved(&self.config.seeds, self.config.nameserver).await;
        let mut dials = JoinSet::new();
        for (address, node) in targets {
            let pool = self.pool.clone();
            dials.spawn(async move { (address, dial(&pool, address, node).await) });
        }
        let mut found = Vec::new();
        while let Some(dialled) = dials.join_next().await {
            match dialled {
                Ok((address, Ok(node))) => found.push(Contact::new(node, [address])),
                Ok((address, Err(error))) => {
                    tracing::info!(%address, %error, "a seed does not answer");
                }
                Err(error) => tracing::error!(%error, "a dial of a seed has ended"),
            }
        }
        if found.is_empty() {
            return failures.saturating_add(1);
        }
        tracing::info!(seeds = found.len(), "joining the mesh");
        self.membership.join(found);
        0
    }

    /// How long to wait after so many rounds that found nobody; `jitter` is in `0.0..1.0`.
    fn wait(&self, failures: u32, jitter: f64) -> Duration {
        if !self.membership.members().is_empty() {
            return LOOK_EVERY;
        }
        let Config { retry_initial, retry_max, .. } = self.config;
        let doubled = retry_initial.saturating_mul(1 << failures.min(16));
        doubled.min(retry_max).mul_f64(1.0 - 0.5 * jitter)
    }
}

/// Dials an address, and says who is there: this very node, if one is expected.
async fn dial(pool: &Pool, address: SocketAddr, node: Option<NodeId>) -> Result<NodeId, Undialled> {
    let Some(node) = node else { return Ok(pool.meet(address).await?) };
    pool.book().hear(node, &[address]);
    pool.link(node).await?;
    Ok(node)
}

/// Why nobody was met.
#[derive(Debug, thiserror::Error)]
enum Undialled {
    #[error(transparent)]
    Stranger(#[from] DialError),
    #[error(transparent)]
    Known(#[from] LinkError),
}
