//! The demo's nodes: a realm made on the fly, and who runs what.

use std::time::Duration;

use anyhow::Context as _;
use macula_workload::bootstrap::Seed;
use macula_workload::consensus;
use macula_workload::identity::EphemeralRealm;
use macula_workload::names::NamedHandle;
use macula_workload::raft::Members;
use macula_workload::remote::{CallError, RemoteHandle, Unavailability};
use macula_workload::supervision::Event;
use macula_workload::transport::tls::Credentials;
use macula_workload::{Config, Node};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;

use super::scores::SCORERS_MAX;

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

/// How many of them vote: all of three, so that one can go, or the first one alone.
const fn voters(count: usize) -> usize {
    if count < 3 { 1 } else { 3 }
}

/// What a node is in the group that elects the matchmaker.
const fn part(number: usize, count: usize) -> consensus::Role {
    match number {
        0 => consensus::Role::Founder,
        _ if number < voters(count) => consensus::Role::Voter,
        _ => consensus::Role::Client,
    }
}

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
            config.consensus.group.role = part(number, count);
            let first = members.first().and_then(|first: &Member| first.node.as_ref());
            let seeds = first.into_iter().flat_map(|first| first.mesh().listening());
            config.mesh.bootstrap.seeds = seeds.map(Seed::Address).collect();
            let credentials = realm.member()?;
            let mut member = Member { name, credentials, config, node: None, events: None };
            member.start().await.with_context(|| format!("node {}", member.name))?;
            members.push(member);
        }
        let world = Self(members);
        world.introduce()?;
        for (_, node) in world.nodes().take(voters(count)).skip(1) {
            world.vote(node).await?;
        }
        Ok(world)
    }

    /// Takes a node in that can vote; one that has come back without what it had is another one.
    async fn vote(&self, node: &Node) -> anyhow::Result<()> {
        let operator = self.node(Role::Players)?.kv().operator();
        let taken_in = async {
            loop {
                let members = operator.status(None).await.map(|status| status.members);
                let votes = |of: &Members| of.voters.iter().any(|it| it.node() == Ok(node.id()));
                let done = match members {
                    Ok(members) if votes(&members) => operator.replace(node.id(), node.id()).await,
                    Ok(_) => operator.add_voter(node.id()).await,
                    Err(error) => Err(error),
                };
                if done.is_ok() {
                    return;
                }
                // They have not found one another yet.
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(PATIENCE, taken_in).await.context("a node does not come to vote")
    }

    /// All nodes that run, with their names.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().filter_map(|member| Some((member.name.as_str(), member.node.as_ref()?)))
    }

    /// The nodes that count scores, of those that run.
    pub(super) fn scorers(&self) -> impl Iterator<Item = &Node> + Clone {
        self.0.iter().take(SCORERS_MAX).filter_map(|member| member.node.as_ref())
    }

    /// The name of the node that has a role.
    pub(super) fn name(&self, role: Role) -> anyhow::Result<&str> {
        Ok(&self.0.get(self.place(role)).context("no such node")?.name)
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
        self.introduce()?;
        if self.place(role) < voters(self.0.len()) {
            self.vote(self.node(role)?).await?;
        }
        Ok(())
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
                Err(CallError::Unavailable(Unavailability::NoAddress)) => {
                    anyhow::bail!("no address of the node is known")
                }
                answer => match again(answer)? {
                    Some(answer) => return Ok(answer),
                    None => tokio::time::sleep(PAUSE).await,
                },
            }
        }
    };
    tokio::time::timeout(PATIENCE, answer).await.context("nobody answered")?
}

/// Asks whoever serves an actor until there is an answer, on whichever node that is by then.
pub(super) async fn ask_named<Q: Serialize, R: DeserializeOwned>(
    handle: &NamedHandle<Q, R>,
    question: &Q,
) -> anyhow::Result<R> {
    let answer = async {
        loop {
            match handle.call(question).await {
                // It says that it leads no more.
                Err(CallError::Failed(_)) => tokio::time::sleep(PAUSE).await,
                answer => match again(answer)? {
                    Some(answer) => return Ok(answer),
                    None => tokio::time::sleep(PAUSE).await,
                },
            }
        }
    };
    tokio::time::timeout(PATIENCE, answer).await.context("nobody answered")?
}

/// The answer; none if it has to be asked again.
fn again<R>(answer: Result<R, CallError>) -> anyhow::Result<Option<R>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(
            CallError::Unavailable(_)
            | CallError::Interrupted(_)
            | CallError::TimedOut { .. }
            | CallError::RemotePanic
            | CallError::Refused(_),
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
