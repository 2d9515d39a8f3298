//! The demo's nodes: a realm made on the fly, and who runs what.

use std::time::Duration;

use anyhow::Context as _;
use macula_workload::identity::EphemeralRealm;
use macula_workload::remote::{CallError, RemoteHandle, Unavailability};
use macula_workload::supervision::Event;
use macula_workload::transport::tls::Credentials;
use macula_workload::{Config, Node};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;

/// How long the demo waits for something that must come before it calls it a failure.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How long a caller waits before it asks a node anew that has said no.
const PAUSE: Duration = Duration::from_millis(10);

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The players, and who brings them together.
    Players,
    /// The rooms where they play.
    Rooms,
    /// The scores.
    Scores,
}

impl Role {
    const ALL: [Self; 3] = [Self::Players, Self::Rooms, Self::Scores];

    const fn name(self) -> &'static str {
        match self {
            Self::Players => "players",
            Self::Rooms => "rooms",
            Self::Scores => "scores",
        }
    }
}

/// A node with its name, and how to start it again as itself.
pub(super) struct Member {
    pub(super) name: String,
    credentials: Credentials,
    config: Config,
    node: Option<Node>,
    events: Option<broadcast::Receiver<Event>>,
}

impl Member {
    async fn start(&mut self) -> anyhow::Result<()> {
        let builder = Node::builder().config(self.config.clone());
        let node = builder.credentials(self.credentials.clone()).start().await?;
        // It comes back to where it was.
        self.config.transport.listen = node.mesh().listening();
        self.events = Some(node.events());
        self.node = Some(node);
        Ok(())
    }

    /// The node, while it runs.
    pub(super) fn node(&self) -> anyhow::Result<&Node> {
        self.node.as_ref().with_context(|| format!("node {} is gone", self.name))
    }

    pub(super) fn next_event(&mut self) -> Result<Event, broadcast::error::TryRecvError> {
        match &mut self.events {
            Some(events) => events.try_recv(),
            None => Err(broadcast::error::TryRecvError::Empty),
        }
    }
}

/// All nodes of the demo.
pub(super) struct World(Vec<Member>);

impl World {
    /// Starts the nodes of a realm that nobody else knows, and introduces them to one another.
    pub(super) async fn start(count: usize) -> anyhow::Result<Self> {
        let realm = EphemeralRealm::new()?;
        let mut members = Vec::new();
        for number in 0..count {
            let name = match Role::ALL.get(number) {
                Some(role) if count >= Role::ALL.len() => role.name().to_owned(),
                _ => format!("node{}", number + 1),
            };
            let mut config = Config::default();
            config.node.name.clone_from(&name);
            let credentials = realm.member()?;
            let mut member = Member { name, credentials, config, node: None, events: None };
            member.start().await.with_context(|| format!("node {}", member.name))?;
            members.push(member);
        }
        let world = Self(members);
        world.introduce()?;
        Ok(world)
    }

    fn introduce(&self) -> anyhow::Result<()> {
        for one in self.0.iter().filter_map(|member| member.node.as_ref()) {
            for other in self.0.iter().filter_map(|member| member.node.as_ref()) {
                one.mesh().introduce(other.id(), other.mesh().listening());
            }
        }
        Ok(())
    }

    pub(super) fn members(&mut self) -> &mut [Member] {
        &mut self.0
    }

    /// Which node has a role: some have more than one if there are few.
    fn place(&self, role: Role) -> usize {
        let number = Role::ALL.iter().position(|other| *other == role).unwrap_or_default();
        number % self.0.len().max(1)
    }

    /// Whether a node has this role and no other.
    pub(super) fn is_alone(&self, role: Role) -> bool {
        Role::ALL.iter().all(|other| *other == role || self.place(*other) != self.place(role))
    }

    pub(super) fn member(&mut self, role: Role) -> anyhow::Result<&mut Member> {
        let place = self.place(role);
        self.0.get_mut(place).context("no such node")
    }

    pub(super) fn node(&self, role: Role) -> anyhow::Result<&Node> {
        self.0.get(self.place(role)).context("no such node")?.node()
    }

    /// Takes a node away, in good order.
    pub(super) async fn leave(&mut self, role: Role) -> anyhow::Result<()> {
        let node = self.member(role)?.node.take().context("it is gone already")?;
        node.stop().await?;
        Ok(())
    }

    /// Brings it back as itself, and at its old address.
    pub(super) async fn come_back(&mut self, role: Role) -> anyhow::Result<()> {
        self.member(role)?.start().await?;
        self.introduce()
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        for node in self.0.into_iter().filter_map(|member| member.node) {
            node.stop().await?;
        }
        Ok(())
    }
}

/// Asks an actor on another node until there is an answer: each question of the game may be asked
/// twice.
pub(super) async fn ask_remote<Q: Serialize, R: DeserializeOwned>(
    handle: &RemoteHandle<Q, R>,
    question: &Q,
) -> anyhow::Result<R> {
    let answer = async {
        loop {
            match handle.call(question).await {
                Ok(answer) => return Ok(answer),
                Err(error @ CallError::Unavailable(Unavailability::NoAddress)) => {
                    return Err(error);
                }
                Err(
                    CallError::Unavailable(_)
                    | CallError::Interrupted(_)
                    | CallError::TimedOut { .. }
                    | CallError::RemotePanic
                    | CallError::Refused(_),
                ) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    };
    Ok(tokio::time::timeout(PATIENCE, answer).await.context("nobody answered")??)
}
