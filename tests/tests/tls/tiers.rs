//! Whole nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use macula_core::identity::{Authority, Validity};
use macula_core::supervision::{Root, Supervisor, TreeOptions, Worker};
use macula_infra::remote::{CallError, ReplyTo};
use macula_infra::tier::{self, Infrastructure};
use macula_infra::transport::tls::{Credentials, Enforcement, Realm, Showing, Trust};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::pki::{self, NOW};

/// The longest that a state is waited for: far more than it takes.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Echo;

#[derive(Debug)]
pub(crate) struct Ask(u64, ReplyTo<u64>);

impl Actor for Echo {
    type Msg = Ask;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ask>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Ask>,
        Ask(number, reply): Ask,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        drop(reply.send(number));
        Ok(())
    }
}

/// A whole node that serves an echo.
pub(crate) struct Node {
    seed: u8,
    pub(crate) root: Root,
    pub(crate) infra: Infrastructure,
}

impl Node {
    pub(crate) async fn start(seed: u8, credentials: Credentials, lifetime: Duration) -> Self {
        let mut config = tier::Config::new(credentials, 1);
        config.pool.lifetime = lifetime;
        let (spec, infra) = tier::spec(config).unwrap();
        let (worker, echo) = Worker::new("echo", || (Echo, ())).unwrap().split();
        let root = Supervisor::new("root").unwrap().child(spec).child(worker);
        let root = root.start(TreeOptions::default()).await.unwrap();
        infra.mesh.serve("echo", &echo, Ask).unwrap().keep();
        Self { seed, root, infra }
    }

    pub(crate) async fn ask(&self, other: &Self, number: u64) -> Result<u64, CallError> {
        self.infra.mesh.remote(other.infra.mesh.node()).handle("echo").call(&number).await
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        self.infra.mesh.credentials()
    }

    /// The node shows a certificate of an authority, and believes something.
    pub(crate) fn replace(&self, by: &Authority, trust: Trust) {
        let (showing, enforcement) = (showing(self.seed, by, NOW, 3_600), Enforcement::Enforce);
        self.credentials().replace(&showing, trust, enforcement).unwrap();
    }

    pub(crate) fn link_ids(&self) -> BTreeSet<macula_infra::pool::proto::ConnId> {
        self.infra.mesh.links().iter().map(|link| link.id).collect()
    }
}

pub(crate) fn showing(seed: u8, by: &Authority, now: Duration, seconds: u64) -> Showing {
    let key = pki::key(seed);
    let valid = Validity::from_now(now, Duration::from_secs(seconds));
    let chain = vec![by.issue(key.node_id(), valid, &[]).unwrap()];
    Showing { key, chain }
}

pub(crate) fn realm(authorities: &[&Authority], revocation_lists: Vec<Vec<u8>>) -> Trust {
    let authorities = authorities.iter().map(|by| by.certificate().clone()).collect();
    Trust::Realm(Realm { authorities, revocation_lists })
}

/// Waits for a state.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(WITHIN, waiting).await.is_ok(), "it never came that {what}");
}
