//! Some real nodes of one realm, and one more that asks.

use std::time::Duration;

use anyhow::Context as _;
use macula_core::supervision::{Handle, Mailbox, Root, Supervisor, TreeOptions, Worker};
use macula_infra::tier::{self, Discovery, Infrastructure};
use macula_workload::bootstrap::{self, Seed};
use macula_workload::dht::Dht;
use macula_workload::dht::proto::{limits, node, requests};
use macula_workload::dht::rules::space;
use macula_workload::identity::EphemeralRealm;
use macula_workload::remote::{RemoteHandle, ReplyTo};
use macula_workload::transport;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_bytes::ByteBuf;

/// How many nodes serve.
pub(super) const SERVERS: usize = 5;

/// How long the nodes may take to find one another.
const JOIN_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a plain call asks for, and how long its answer has to be.
pub(super) struct Ask {
    len: usize,
    reply: ReplyTo<ByteBuf>,
}

/// Answers with as many bytes as are asked for.
struct Plain;

impl Actor for Plain {
    type Msg = Ask;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ask>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Ask>,
        Ask { len, reply }: Ask,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        // A caller that has gone needs no answer.
        drop(reply.send(ByteBuf::from(vec![7; len])));
        Ok(())
    }
}

struct Member {
    root: Root,
    infra: Infrastructure,
    plain: Handle<Ask>,
}

/// Nodes over verified QUIC on the loopback interface.
pub(super) struct Cluster {
    servers: Vec<Member>,
    asker: Member,
}

impl Cluster {
    /// Starts them, and waits until each is found. The bound on what one peer may ask is lifted:
    /// a real node answers one peer 1,000 searches a second, and here one asks for all.
    pub(super) async fn start(
        realm: &EphemeralRealm,
        requests: requests::Config,
    ) -> anyhow::Result<Self> {
        let limits =
            limits::Config { rate_per_s: 1_000_000, burst: 1_000_000, ..Default::default() };
        let dht = node::Config { requests, limits, ..Default::default() };
        let usual = transport::Config::default();
        let mut servers: Vec<Member> = Vec::with_capacity(SERVERS);
        for _ in 0..SERVERS {
            let through = servers.first();
            servers.push(Member::start(realm, through, usual.clone(), dht.clone()).await?);
        }
        // Nobody can dial it, so it keeps nothing, and asks others for everything.
        let nowhere = transport::Config { listen: Vec::new(), ..usual };
        let asker = Member::start(realm, servers.first(), nowhere, dht).await?;
        for server in &servers {
            server.finds(SERVERS - 1).await?;
        }
        asker.finds(SERVERS).await?;
        Ok(Self { servers, asker })
    }

    /// The table, from the node that asks.
    pub(super) const fn dht(&self) -> &Dht {
        self.asker.infra.mesh.dht()
    }

    /// The tables of those who serve.
    pub(super) fn servers(&self) -> impl Iterator<Item = &Dht> {
        self.servers.iter().map(|member| member.infra.mesh.dht())
    }

    /// Plain calls from the node that asks to an actor on each of the others, whose answers are so
    /// long.
    pub(super) fn plain(&self, len: usize) -> anyhow::Result<Vec<RemoteHandle<ByteBuf, ByteBuf>>> {
        let name = format!("plain/{len}");
        let handle = |member: &Member| {
            let ask = move |_question: ByteBuf, reply| Ask { len, reply };
            member.infra.mesh.serve(&name, &member.plain, ask)?.keep();
            Ok(self.asker.infra.mesh.remote(member.infra.mesh.node()).handle(&name))
        };
        self.servers.iter().map(handle).collect()
    }

    pub(super) async fn stop(self) {
        self.asker.stop().await;
        for member in self.servers {
            member.stop().await;
        }
    }
}

impl Member {
    async fn start(
        realm: &EphemeralRealm,
        through: Option<&Self>,
        transport: transport::Config,
        dht: node::Config,
    ) -> anyhow::Result<Self> {
        let seeds = through.and_then(|other| other.infra.mesh.listening().first().copied());
        let seeds = seeds.into_iter().map(Seed::Address).collect();
        let bootstrap = bootstrap::Config { seeds, ..bootstrap::Config::default() };
        let discovery = Discovery { bootstrap, dht, ..Discovery::default() };
        let config = tier::Config { discovery, transport, ..tier::Config::new(realm.member()?, 1) };
        let (spec, infra) = tier::spec(config)?;
        let mailbox = Mailbox { capacity: 65_536, ..Mailbox::default() };
        let (worker, plain) = Worker::new("plain", || (Plain, ()))?.mailbox(mailbox).split();
        let root = Supervisor::new("node")?.child(spec).child(worker);
        let root = root.start(TreeOptions::default()).await?;
        Ok(Self { root, infra, plain })
    }

    /// Waits until its lookups find so many others.
    async fn finds(&self, others: usize) -> anyhow::Result<()> {
        let dht = self.infra.mesh.dht();
        let key = dht.key(space::ANY, b"anything");
        let waiting = async {
            while !dht.lookup(key).await.is_ok_and(|found| found.closest.len() == others) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let waited = tokio::time::timeout(JOIN_WITHIN, waiting).await;
        waited.with_context(|| format!("{others} others are not found: {:?}", dht.stats()))
    }

    async fn stop(self) {
        self.root.stop().await;
        self.infra.mesh.close_sockets().await;
    }
}
