//! Two nodes of one realm, and an actor on one of them that answers what it is asked.

use macula_workload::identity::EphemeralRealm;
use macula_workload::remote::{RemoteHandle, ReplyTo};
use macula_workload::supervision::{Mailbox, Worker};
use macula_workload::transport::tls::Credentials;
use macula_workload::{Config, Node};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_bytes::ByteBuf;

/// The longest body that the nodes take.
const BODY_LEN_MAX: usize = 256 * 1024 * 1024;

pub(super) struct Ask {
    question: ByteBuf,
    reply: ReplyTo<ByteBuf>,
    swallow: bool,
}

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

/// Two nodes, and handles of the first to the actor on the second.
pub(super) struct Nodes {
    pub(super) one: Node,
    two: Node,
    pub(super) echo: RemoteHandle<ByteBuf, ByteBuf>,
    pub(super) swallow: RemoteHandle<ByteBuf, ByteBuf>,
}

impl Nodes {
    pub(super) async fn start(realm: &EphemeralRealm) -> anyhow::Result<Self> {
        let (one, two) = (node(realm.member()?).await?, node(realm.member()?).await?);
        one.mesh().introduce(two.id(), two.mesh().listening());
        let mailbox = Mailbox { capacity: 65_536, ..Mailbox::default() };
        let worker = Worker::new("echo", || (Echo, ()))?.mailbox(mailbox);
        let handle = two.spawn(worker).await?;
        let ask = |swallow| move |question, reply| Ask { question, reply, swallow };
        two.serve("workload/echo", &handle, ask(false))?.keep();
        two.serve("workload/swallow", &handle, ask(true))?.keep();
        let remote = one.remote(two.id());
        let (echo, swallow) = (remote.handle("workload/echo"), remote.handle("workload/swallow"));
        Ok(Self { one, two, echo, swallow })
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.one.stop().await?;
        self.two.stop().await?;
        Ok(())
    }
}

async fn node(credentials: Credentials) -> anyhow::Result<Node> {
    let mut config = Config::default();
    config.transport.body_len_max = BODY_LEN_MAX;
    Ok(Node::builder().config(config).credentials(credentials).start().await?)
}
