//! The supervised actor that dials seeds as long as its node is alone.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use macula_core::entropy::Entropy;
use macula_core::path::InvalidId;
use macula_core::supervision::Worker;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use super::{Config, Seed};
use crate::contact::Contact;
use crate::membership::Membership;
use crate::pool::Pool;

/// How many addresses are dialled in one round.
const ADDRESSES_MAX: usize = 64;

/// How long a name may take to be resolved.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);

/// How often a node in company looks whether it still is.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What the actor is made of.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) pool: Pool,
    pub(crate) membership: Membership,
}

/// Time for another round.
#[derive(Debug)]
pub(crate) struct Round;

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

/// One life.
pub(crate) struct State {
    parts: Parts,
    entropy: Entropy,
    /// How many rounds in a row have found nobody.
    failures: u32,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("failures", &self.failures).finish_non_exhaustive()
    }
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
            myself.cast(Round)?;
        }
        Ok(State { parts, entropy, failures: 0 })
    }

    async fn handle(
        &self,
        myself: ActorRef<Round>,
        _round: Round,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let wait = state.round().await;
        drop(myself.send_after(wait, || Round));
        Ok(())
    }
}

impl State {
    /// Looks for company if there is none; says how long to wait before the next round.
    async fn round(&mut self) -> Duration {
        if !self.parts.membership.members().is_empty() {
            self.failures = 0;
            return LOOK_EVERY;
        }
        let addresses = resolved(&self.parts.config.seeds).await;
        let mut dials = JoinSet::new();
        for address in addresses {
            let pool = self.parts.pool.clone();
            dials.spawn(async move { (address, pool.meet(address).await) });
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
            self.failures = self.failures.saturating_add(1);
        } else {
            tracing::info!(seeds = found.len(), "joining the mesh");
            self.parts.membership.join(found);
            self.failures = 0;
        }
        self.wait()
    }

    fn wait(&mut self) -> Duration {
        let Config { retry_initial, retry_max, .. } = self.parts.config;
        let doubled = retry_initial.saturating_mul(1 << self.failures.min(16));
        doubled.min(retry_max).mul_f64(1.0 - 0.5 * self.entropy.unit())
    }
}

/// The addresses of all seeds, each once.
async fn resolved(seeds: &[Seed]) -> Vec<SocketAddr> {
    let mut addresses = BTreeSet::new();
    for seed in seeds {
        match seed {
            Seed::Address(address) => {
                addresses.insert(*address);
            }
            Seed::Host { name, port } => {
                let looked_up = tokio::net::lookup_host((name.as_str(), *port));
                match tokio::time::timeout(RESOLVE_WITHIN, looked_up).await {
                    Ok(Ok(found)) => addresses.extend(found),
                    Ok(Err(error)) => tracing::info!(%seed, %error, "a seed has no address"),
                    Err(_elapsed) => tracing::info!(%seed, "a seed's name takes too long"),
                }
            }
        }
    }
    addresses.into_iter().take(ADDRESSES_MAX).collect()
}
