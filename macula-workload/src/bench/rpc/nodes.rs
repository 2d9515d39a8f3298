//! Two nodes of one realm, and an actor on one of them that answers what it is asked. They are
//! connected directly, or over a third.

use std::time::Duration;

use macula_core::clock::{Clock as _, TokioClock};
use macula_workload::bootstrap::Seed;
use macula_workload::identity::EphemeralRealm;
use macula_workload::relay::ledger;
use macula_workload::remote::{RemoteHandle, ReplyTo};
use macula_workload::supervision::{Handle, Mailbox, Worker};
use macula_workload::transport::overlay::Overlay;
use macula_workload::{Config, Node};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_bytes::ByteBuf;

use super::named;

/// The longest body that the nodes take.
const BODY_LEN_MAX: usize = 256 * 1024 * 1024;

pub(super) struct Ask {
    pub(super) question: ByteBuf,
    pub(super) reply: ReplyTo<ByteBuf>,
    pub(super) swallow: bool,
}

/// The actor that answers.
pub(super) type Echoes = Handle<Ask>;

struct Echo;

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
        ask: Ask,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let answer = if ask.swallow { ByteBuf::new() } else { ask.question };
        // A caller that has gone needs no answer.
        drop(ask.reply.send(answer));
        Ok(())
    }
}

/// How long two nodes may take to have places at their relay.
const PLACED_WITHIN: Duration = Duration::from_secs(30);

/// How often it is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Two nodes, and handles of the first to the actor on the second.
pub(super) struct Nodes {
    pub(super) one: Node,
    two: Node,
    relay: Option<Node>,
    pub(super) echo: RemoteHandle<ByteBuf, ByteBuf>,
    pub(super) swallow: RemoteHandle<ByteBuf, ByteBuf>,
}

impl Nodes {
    /// Two that are connected directly.
    pub(super) async fn direct(realm: &EphemeralRealm) -> anyhow::Result<Self> {
        let two = node(realm, Config::default()).await?;
        let mut config = Config::default();
        let seeds = two.mesh().listening().into_iter().map(Seed::Address);
        config.mesh.bootstrap.seeds = seeds.collect();
        let one = node(realm, config).await?;
        one.mesh().introduce(two.id(), two.mesh().listening());
        let (nodes, echoes) = Self::between((one, two), None).await?;
        named::provide(&nodes.two, &echoes, &nodes.one).await?;
        Ok(nodes)
    }

    /// Two that nobody can dial, over one that carries as much as it can.
    pub(super) async fn relayed(realm: &EphemeralRealm) -> anyhow::Result<Self> {
        let mut config = Config::default();
        let gives = &mut config.relay.gives;
        gives.serve = true;
        (gives.kib_per_s, gives.realm_kib_per_s) = (ledger::KIB_PER_S_MAX, ledger::KIB_PER_S_MAX);
        let relay = node(realm, config).await?;
        let mut config = Config::default();
        config.transport.listen.clear();
        let seeds = relay.mesh().listening().into_iter().map(Seed::Address);
        config.mesh.bootstrap.seeds = seeds.collect();
        let (one, two) = (node(realm, config.clone()).await?, node(realm, config).await?);
        let deadline = TokioClock.now() + PLACED_WITHIN;
        while [&one, &two].iter().any(|node| node.mesh().relay().places().is_empty()) {
            anyhow::ensure!(TokioClock.now() < deadline, "the relay has no place for them");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        one.mesh().introduce(two.id(), [Overlay::address_of(two.id())]);
        let (nodes, _echoes) = Self::between((one, two), Some(relay)).await?;
        let waits = nodes.echo.clone().wait_for_ready();
        waits.call_within(PLACED_WITHIN, &ByteBuf::new()).await?;
        let via = nodes.one.mesh().via(nodes.two.id());
        anyhow::ensure!(via == nodes.relay.as_ref().map(Node::id), "they are not relayed");
        Ok(nodes)
    }

    async fn between(
        (one, two): (Node, Node),
        relay: Option<Node>,
    ) -> anyhow::Result<(Self, Echoes)> {
        let mailbox = Mailbox { capacity: 65_536, ..Mailbox::default() };
        let worker = Worker::new("echo", || (Echo, ()))?.mailbox(mailbox);
        let handle = two.spawn(worker).await?;
        let ask = |swallow| move |question, reply| Ask { question, reply, swallow };
        two.serve("workload/echo", &handle, ask(false))?.keep();
        two.serve("workload/swallow", &handle, ask(true))?.keep();
        let remote = one.remote(two.id());
        let (echo, swallow) = (remote.handle("workload/echo"), remote.handle("workload/swallow"));
        Ok((Self { one, two, relay, echo, swallow }, handle))
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.one.stop().await?;
        self.two.stop().await?;
        if let Some(relay) = self.relay {
            relay.stop().await?;
        }
        Ok(())
    }
}

async fn node(realm: &EphemeralRealm, mut config: Config) -> anyhow::Result<Node> {
    config.transport.body_len_max = BODY_LEN_MAX;
    Ok(Node::builder().config(config).credentials(realm.member()?).start().await?)
}
