//! The supervised actor that dials seeds as long as its node is alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::path::InvalidId;
use macula_core::supervision::Worker;
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use super::Config;
use super::dns::{Target, resolved};
use crate::contact::Contact;
use crate::membership::Membership;
use crate::pool::{LinkError, Pool};
use crate::transport::DialError;

/// How often a node in company looks whether it still is.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Of how many addresses is known who was met there.
const MET_MAX: usize = 4_096;

/// What the actor is made of.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) pool: Pool,
    pub(crate) membership: Membership,
    /// Where this node itself is.
    pub(crate) own: Vec<SocketAddr>,
}

/// What is known of the seeds.
#[derive(Debug, Default)]
struct Known {
    /// Who was met at an address.
    met: BTreeMap<SocketAddr, NodeId>,
    /// When seeds were last dialled.
    dialled_at: Option<Instant>,
}

/// Time for another round, after this many in a row that left the node alone; or the end of one that
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
    known: Arc<Mutex<Known>>,
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
        Ok(State { parts, entropy, known: Arc::default(), rounds: JoinSet::new() })
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
        let known = Arc::clone(&state.known);
        // The actor itself waits for nobody, so that it stops when it is asked to.
        state.rounds.spawn(async move {
            let round = async {
                let failures = parts.round(failures, &known).await;
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
    /// Looks for company, or for those who are not part of it; says how many rounds have begun while
    /// there was none, this included. Whoever answers may yet become no member, so that alone does not
    /// count.
    async fn round(&self, failures: u32, known: &Mutex<Known>) -> u32 {
        let now = TokioClock.now();
        let has_company = !self.membership.members().is_empty();
        let waited = known.lock().dialled_at.map(|at| now.saturating_duration_since(at));
        if has_company && waited.is_some_and(|waited| waited < self.config.retry_max) {
            return 0;
        }
        known.lock().dialled_at = Some(now);
        let targets = resolved(&self.config.seeds, self.config.nameserver).await;
        let members = self.present(known);
        let mut dials = JoinSet::new();
        for (address, node) in targets.into_iter().filter(|target| !members.has(target)) {
            let pool = self.pool.clone();
            dials.spawn(async move { (address, dial(&pool, address, node).await) });
        }
        let mut found = Vec::new();
        while let Some(dialled) = dials.join_next().await {
            match dialled {
                Ok((address, Ok(node))) => {
                    let mut known = known.lock();
                    if known.met.len() >= MET_MAX {
                        known.met.clear();
                    }
                    known.met.insert(address, node);
                    found.push(Contact::new(node, [address]));
                }
                Ok((address, Err(error))) if has_company => {
                    tracing::debug!(%address, %error, "a seed does not answer");
                }
                Ok((address, Err(error))) => {
                    tracing::info!(%address, %error, "a seed does not answer");
                }
                Err(error) => tracing::error!(%error, "a dial of a seed has ended"),
            }
        }
        if !found.is_empty() {
            tracing::info!(seeds = found.len(), "joining the mesh");
            self.membership.join(found);
        }
        if has_company { 0 } else { failures.saturating_add(1) }
    }

    /// Who is there, and where.
    fn present(&self, known: &Mutex<Known>) -> Present {
        let members = self.membership.members();
        let nodes: BTreeSet<NodeId> = members.iter().map(|member| member.contact.node).collect();
        let said = members.into_iter().flat_map(|member| member.contact.addresses);
        let known = known.lock();
        let met = known.met.iter().filter(|(_, node)| nodes.contains(node));
        let addresses = said.chain(met.map(|(address, _)| *address)).chain(self.own.clone());
        Present { addresses: addresses.collect(), nodes }
    }

    /// How long to wait after so many rounds that left the node alone; `jitter` is in `0.0..1.0`.
    fn wait(&self, failures: u32, jitter: f64) -> Duration {
        if !self.membership.members().is_empty() {
            return LOOK_EVERY;
        }
        let Config { retry_initial, retry_max, .. } = self.config;
        let doubled = retry_initial.saturating_mul(1 << failures.min(16));
        doubled.min(retry_max).mul_f64(1.0 - 0.5 * jitter)
    }
}

/// Those who need not be dialled.
struct Present {
    addresses: BTreeSet<SocketAddr>,
    nodes: BTreeSet<NodeId>,
}

impl Present {
    fn has(&self, (address, node): &Target) -> bool {
        self.addresses.contains(address) || node.is_some_and(|node| self.nodes.contains(&node))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::{Config, Known, Parts};
    use crate::bootstrap::Seed;
    use crate::membership::{self, Membership};
    use crate::tier::tests::pair;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_seed_that_answers_and_is_no_member_is_dialled_less_and_less_often() {
        let (one, two) = pair().await;
        let address = two.infra.mesh.listening()[0];
        let config = Config { seeds: vec![Seed::Address(address)], ..Config::default() };
        let parts = Parts {
            config,
            pool: one.infra.mesh.calling.pool.clone(),
            // It has no actor, so that nobody ever is a member.
            membership: Membership::new(Vec::new(), &membership::Config::default()),
            own: one.infra.mesh.listening(),
        };
        let (known, mut failures) = (Mutex::<Known>::default(), 0);
        let mut waits = Vec::new();
        for _ in 0..8 {
            known.lock().met.clear();
            failures = parts.round(failures, &known).await;
            assert_eq!(known.lock().met.get(&address), Some(&two.infra.mesh.node()));
            waits.push(parts.wait(failures, 0.0));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30].map(Duration::from_secs));
        one.root.stop().await;
        two.root.stop().await;
    }
}
