//! Groups with their services, and clients of them, over a network that can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::identity::NodeId;
use macula_core::port::{Answer, Directory, DirectoryError, Entry, Provider};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::kv::groups::look;
use crate::kv::leading::{announce, count};
use crate::kv::state::State;
use crate::kv::{Config, Kv, Parts, Service};
use crate::raft;
use crate::raft::StartError;
use crate::raft::actor;
use crate::raft::tests::harness::Lane;
use crate::raft::tests::harness::{From, Group, SETTLED, node};
use crate::raft::timer::Timer;

/// A clock that runs at another rate than all others'.
#[derive(Debug)]
pub(crate) struct Skewed {
    began: Instant,
    /// By how many thousandths of the true rate it runs.
    rate: u32,
}

impl Skewed {
    pub(crate) fn new(rate: u32) -> Arc<Self> {
        Arc::new(Self { began: raft::timer::now(), rate })
    }
}

impl Timer for Skewed {
    fn now(&self) -> Instant {
        self.began + (raft::timer::now() - self.began) * self.rate / 1_000
    }

    fn until(&self, at: Instant) -> Answer<'static, ()> {
        let left = at.saturating_duration_since(self.now()) * 1_000 / self.rate.max(1);
        // Rounded up, so that it does not come back a little too early for ever.
        Box::pin(tokio::time::sleep(left + Duration::from_micros(1)))
    }
}

/// A directory that all have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board(Arc<Mutex<BTreeMap<NodeId, Bytes>>>);

impl Board {
    pub(crate) fn at(&self, node: NodeId) -> Arc<dyn Directory> {
        Arc::new(At(self.clone(), node))
    }

    pub(crate) fn nodes(&self) -> BTreeSet<NodeId> {
        self.0.lock().keys().copied().collect()
    }
}

#[derive(Debug)]
struct At(Board, NodeId);

impl Directory for At {
    fn get<'a>(&'a self, _: &'a str) -> Answer<'a, Result<Option<Entry>, DirectoryError>> {
        Box::pin(async { Ok(None) })
    }

    fn put<'a>(
        &'a self,
        _: &'a str,
        _: Bytes,
        _: Option<u64>,
    ) -> Answer<'a, Result<u64, DirectoryError>> {
        Box::pin(async { Err(DirectoryError::Refused("nothing is put here".to_owned())) })
    }

    fn announce<'a>(&'a self, _: &'a str, said: Bytes) -> Answer<'a, Result<(), DirectoryError>> {
        self.0.0.lock().insert(self.1, said);
        Box::pin(async { Ok(()) })
    }

    fn withdraw<'a>(&'a self, _: &'a str) -> Answer<'a, Result<(), DirectoryError>> {
        self.0.0.lock().remove(&self.1);
        Box::pin(async { Ok(()) })
    }

    fn find<'a>(
        &'a self,
        _: &'a str,
        max: usize,
    ) -> Answer<'a, Result<Vec<Provider>, DirectoryError>> {
        let all = self.0.0.lock().clone();
        let provider = |(node, metadata)| Provider { node, metadata };
        Box::pin(async move { Ok(all.into_iter().take(max).map(provider).collect()) })
    }
}

/// A group with its services.
pub(crate) struct World {
    pub(crate) group: Group<State>,
    pub(crate) board: Board,
    pub(crate) config: Config,
    places: BTreeMap<u8, actor::Group<State>>,
    pub(crate) services: BTreeMap<u8, Service>,
    beside: BTreeMap<u8, JoinSet<()>>,
    clients: u8,
}

impl World {
    pub(crate) fn empty(config: raft::Config) -> Self {
        let (board, places, services, beside) = Default::default();
        let (group, config) = (Group::new(config), Config::default());
        Self { group, board, config, places, services, beside, clients: 100 }
    }

    /// So many that vote.
    pub(crate) async fn of(count: u8, config: raft::Config) -> Self {
        Self::empty(config).grown(count).await
    }

    pub(crate) async fn grown(mut self, count: u8) -> Self {
        self.start(1).await.unwrap();
        self.group.members[&1].found().await.unwrap();
        self.group.leader().await;
        let client = self.client();
        for number in 2..=count {
            self.start(number).await.unwrap();
            client.operator().add_voter(node(number)).await.unwrap();
        }
        self
    }

    pub(crate) async fn start(&mut self, number: u8) -> Result<(), StartError> {
        self.group.try_start(number).await?;
        let member = Arc::clone(&self.group.members[&number]);
        let place = self.places.entry(number).or_default().clone();
        place.put(Some(Arc::clone(&member)));
        let call = Arc::new(From(Arc::clone(&self.group.wires), node(number), Lane::Kv));
        let service = Service::new(&self.config, place, node(number), call).unwrap();
        let service = self.services.entry(number).or_insert(service).clone();
        self.group.wires.serve(node(number), Lane::Kv, Arc::new(service.clone()));
        self.group.wires.serve(node(number), Lane::Change, Arc::new(service.changes()));
        let mut beside = JoinSet::new();
        let directory = self.board.at(node(number));
        beside.spawn(count(service.clone(), Arc::clone(&member)));
        beside.spawn(announce(Arc::clone(&member), Arc::clone(&directory)));
        beside.spawn(look(service, member, directory));
        self.beside.insert(number, beside);
        Ok(())
    }

    /// The power of a member goes.
    pub(crate) async fn kill(&mut self, number: u8) {
        self.kill_all(&[number]).await;
    }

    /// The power of members goes at one moment.
    pub(crate) async fn kill_all(&mut self, numbers: &[u8]) {
        for number in numbers {
            self.beside.remove(number);
            self.places[number].put(None);
        }
        self.group.kill_all(numbers).await;
    }

    pub(crate) async fn start_all(&mut self, count: u8) -> Result<(), StartError> {
        for number in 1..=count {
            if !self.group.members.contains_key(&number) {
                self.start(number).await?;
            }
        }
        Ok(())
    }

    /// A client on a node that does not vote.
    pub(crate) fn client(&mut self) -> Kv {
        self.clients += 1;
        self.client_at(self.clients, false)
    }

    /// A client on some node, with the node's own service or without.
    pub(crate) fn client_at(&self, number: u8, is_local: bool) -> Kv {
        let way = |lane| Arc::new(From(Arc::clone(&self.group.wires), node(number), lane));
        let parts = Parts {
            node: node(number),
            call: way(Lane::Kv),
            change: way(Lane::Change),
            directory: self.board.at(node(number)),
            local: is_local.then(|| self.services[&number].clone()),
            seed: u64::from(number) << 1 | u64::from(is_local),
        };
        Kv::new(self.config, parts).unwrap()
    }

    pub(crate) fn cut(&self, number: u8) {
        self.group.wires.isolated.lock().insert(node(number));
    }

    /// The other members do not hear it any more, and clients do.
    pub(crate) fn part(&self, number: u8) {
        self.group.wires.parted.lock().insert(node(number));
    }

    pub(crate) fn mend(&self) {
        self.group.wires.parted.lock().clear();
        self.group.wires.isolated.lock().clear();
    }

    pub(crate) async fn leader(&self) -> u8 {
        self.group.leader().await
    }
}

/// Waits until something is so.
pub(crate) async fn soon(mut is_so: impl FnMut() -> bool) {
    let so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SETTLED * 4, so).await.expect("it does not come to be so");
}
