//! A game server for two tenants, each a realm of its own: both use the same names, over the same
//! bootstrap node, and neither sees or reaches the other. Within a realm, roles say who may do what.

use std::convert::Infallible;

use bytes::Bytes;
use macula_workload::access::{Action, Effect, Rule, Rules};
use macula_workload::bootstrap::Seed;
use macula_workload::identity::EphemeralRealm;
use macula_workload::membership::update::Role;
use macula_workload::prelude::*;
use macula_workload::pubsub::{Event, PublishOptions, SubscribeOptions};
use macula_workload::remote::Refusal;
use macula_workload::rpc::Options;
use macula_workload::{Config, topic::Topic};

/// The machine room's authority, and the node through which all find each other.
struct Host {
    authority: EphemeralRealm,
    bootstrap: Node,
}

/// What one tenant has: a server, and a player's node.
struct Tenant {
    server: Node,
    player: Node,
}

impl Host {
    async fn start() -> anyhow::Result<Self> {
        let authority = EphemeralRealm::new()?;
        let mut config = Config::default();
        config.mesh.realm = Some("host".to_owned());
        config.mesh.role = Role::Bootstrap;
        let node = Node::builder().config(config).credentials(authority.member()?);
        Ok(Self { authority, bootstrap: node.start().await? })
    }

    /// A node of a tenant's realm.
    async fn node(&self, realm: &str, roles: &[&str], access: Rules) -> anyhow::Result<Node> {
        let mut config = Config::default();
        config.access = access;
        config.mesh.realm = Some(realm.to_owned());
        let seeds = self.bootstrap.mesh().listening().into_iter().map(Seed::Address);
        config.mesh.bootstrap.seeds = seeds.collect();
        let credentials = self.authority.member_as(roles)?;
        Ok(Node::builder().config(config).credentials(credentials).start().await?)
    }

    /// A tenant whose server answers with the tenant's name.
    async fn tenant(&self, realm: &'static str) -> anyhow::Result<Tenant> {
        // Whoever has the role of a player may call what is of the game, and nobody else may.
        let rule = |effect, roles: &[&str]| -> anyhow::Result<Rule> {
            let (actions, names) = (vec![Action::Call], vec!["game.**".parse()?]);
            let roles = roles.iter().map(|role| (*role).to_owned()).collect();
            Ok(Rule { effect, actions, roles, names, ..Rule::default() })
        };
        let rules = vec![rule(Effect::Allow, &["player"])?, rule(Effect::Deny, &[])?];
        let access = Rules { rules, ..Rules::default() };
        let server = self.node(realm, &["server"], access).await?;
        let whose = move |(): (), _| async move { Ok::<_, Infallible>(realm.to_owned()) };
        server.rpc().advertise(&"game.whose".parse()?, &Options::default(), whose)?.keep();
        let player = self.node(realm, &["player"], Rules::default()).await?;
        Ok(Tenant { server, player })
    }
}

/// Calls until somebody is known who provides it: the nodes have just met.
async fn whose(node: &Node) -> Result<String, CallError> {
    let name = "game.whose".parse().map_err(|error| CallError::Unsupported(format!("{error}")))?;
    let mut events = node.mesh().membership().events();
    loop {
        match node.rpc().call(&name, &()).await {
            Err(CallError::Unavailable(_)) => {
                let soon = std::time::Duration::from_millis(100);
                // More is known when somebody has joined, and what was missed is asked for again.
                drop(tokio::time::timeout(soon, events.recv()).await);
            }
            answer => return answer,
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let host = Host::start().await?;
    let (red, blue) = (host.tenant("red").await?, host.tenant("blue").await?);

    // The same name is something else in each realm.
    let (in_red, in_blue) = (whose(&red.player).await?, whose(&blue.player).await?);
    anyhow::ensure!((in_red.as_str(), in_blue.as_str()) == ("red", "blue"), "{in_red}, {in_blue}");
    macula_examples::say("each tenant is answered by its own server");

    // What is said in one realm is not heard in the other.
    let room: Topic = "game.chat".parse()?;
    let options = SubscribeOptions::default();
    let mut heard = red.server.pubsub().subscribe(&"game.**".parse()?, &options)?;
    // Who listens to a topic is found a moment after they do.
    while red.player.pubsub().subscribers(&room).await? == 0 {
        tokio::task::yield_now().await;
    }
    for (tenant, says) in [(&blue, "blue here"), (&red, "red here")] {
        let said = Bytes::from(says);
        let told = tenant.player.pubsub().publish(&room, said, PublishOptions::default()).await?;
        macula_examples::say(&format!("{says}: {told:?}"));
    }
    let Some(Event::Message(message)) = heard.next().await else {
        anyhow::bail!("something else than a message came")
    };
    anyhow::ensure!(message.payload == "red here", "the other realm was heard");

    // Not even by a node's id is anything of another realm called.
    let server = blue.server.id();
    blue.server.mesh().introduce(red.player.id(), red.player.mesh().listening());
    red.player.mesh().introduce(server, blue.server.mesh().listening());
    let crossing = red.player.remote(server).handle::<(), String>("!game.whose").call(&()).await;
    let is_refused = matches!(crossing, Err(CallError::Refused(Refusal::Forbidden(_))));
    anyhow::ensure!(is_refused, "{crossing:?}");
    // Nor by who is of the realm, and has not the role.
    let visitor = host.node("blue", &["visitor"], Rules::default()).await?;
    let answer = whose(&visitor).await;
    let is_refused = matches!(answer, Err(CallError::Refused(Refusal::Forbidden(_))));
    anyhow::ensure!(is_refused, "{answer:?}");
    for refused in blue.server.mesh().access().audit().recent() {
        macula_examples::say(&format!("refused to {}: {}", refused.action, refused.why));
    }
    for node in [red.player, red.server, blue.player, blue.server, visitor, host.bootstrap] {
        node.stop().await?;
    }
    Ok(())
}
