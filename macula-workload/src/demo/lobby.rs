//! The game lobby: its actors, the supervisors above them, and the nodes that they are on.
//!
//! ```text
//! players    workload
//!            ├─ players      one_for_one: ada, bob, eve, dan
//!            └─ tournament   one_for_one, two restarts in five seconds: the referee
//! rooms      workload
//!            └─ rooms        rest_for_one: red, blue
//! all        workload
//!            ├─ scoreboard   on three of them at most
//!            └─ matchmaking  has the matchmaker where its node leads; it hangs now and then, which its
//!                            liveness bound ends
//! ```
//!
//! A player tells a scoreboard of each round that it has won: each time that of another node. What the
//! scoreboards count converges, see [`scores`].

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use macula_workload::Node;
use macula_workload::names::NamedHandle;
use macula_workload::remote::{RemoteHandle, ReplyTo};
use macula_workload::supervision::{Absence, Handle, Mailbox, Strategy, Supervisor, Worker};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::{Deserialize, Serialize};

use super::matchmaker::{Match, Office};
use super::scores::{self, RemoteScoreboard, Score, Win};
use super::world::{Role, World, ask_remote};

/// Who plays.
pub(super) const PLAYERS: [&str; 4] = ["ada", "bob", "eve", "dan"];

/// Where they play.
pub(super) const ROOMS: [&str; 2] = ["red", "blue"];

/// What goes wrong when an actor is told to fail.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trouble {
    Panic,
    Error,
    Hang,
}

#[derive(Debug, thiserror::Error)]
#[error("lost the connection to the game server")]
struct Disconnected(#[source] std::io::Error);

/// Fails in the given way.
#[expect(clippy::panic, reason = "the demo shows what a panic does")]
pub(super) async fn fail(trouble: Trouble) -> Result<(), ActorProcessingErr> {
    match trouble {
        Trouble::Panic => panic!("divided a prize among nobody"),
        Trouble::Error => {
            let cause = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset by peer");
            Err(Disconnected(cause).into())
        }
        Trouble::Hang => std::future::pending().await,
    }
}

/// Wins, and tells a scoreboard.
pub(super) struct Player;

pub(super) enum PlayerMsg {
    /// The player has won this round; answered when the score is safe.
    Won(u32, RpcReplyPort<Score>),
    Trouble(Trouble),
}

pub(super) struct PlayerState {
    name: &'static str,
    /// Whichever is the round's turn counts it.
    scoreboards: Arc<[RemoteScoreboard]>,
}

impl Actor for Player {
    type Msg = PlayerMsg;
    type State = PlayerState;
    type Arguments = PlayerState;

    async fn pre_start(
        &self,
        _myself: ActorRef<PlayerMsg>,
        state: PlayerState,
    ) -> Result<PlayerState, ActorProcessingErr> {
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<PlayerMsg>,
        message: PlayerMsg,
        state: &mut PlayerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PlayerMsg::Won(round, reply) => {
                let win = Win { player: state.name.to_owned(), round };
                let turn = usize::try_from(round)?;
                let scoreboard = state.scoreboards.iter().cycle().nth(turn);
                let scoreboard = scoreboard.ok_or("there is no scoreboard")?;
                reply.send(ask_remote(scoreboard, &win).await?)?;
                Ok(())
            }
            PlayerMsg::Trouble(trouble) => fail(trouble).await,
        }
    }
}

/// Plays a round: the winner is drawn by the round's dice.
pub(super) struct Room;

/// Who plays, and how the dice fall.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Play {
    pub(super) pair: (usize, usize),
    pub(super) dice: u64,
}

pub(super) struct PlayMsg(Play, ReplyTo<usize>);

impl Actor for Room {
    type Msg = PlayMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<PlayMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<PlayMsg>,
        PlayMsg(Play { pair: (one, other), dice }, winner): PlayMsg,
        _state: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        // Whoever does not hear it asks again.
        drop(winner.send(if dice % 2 == 0 { one } else { other }));
        Ok(())
    }
}

/// Watches over the tournament, badly.
pub(super) struct Referee;

impl Actor for Referee {
    type Msg = Trouble;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Trouble>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Trouble>,
        trouble: Trouble,
        _state: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        fail(trouble).await
    }
}

/// The handles to the lobby's actors.
pub(super) struct Lobby {
    pub(super) players: Vec<Handle<PlayerMsg>>,
    /// The rooms, from the node of the players.
    pub(super) rooms: Vec<RemoteHandle<Play, usize>>,
    /// The rooms, from their own node.
    pub(super) house: Vec<Handle<PlayMsg>>,
    /// The matchmaker, from the node of the players.
    pub(super) matchmaker: NamedHandle<u32, Match>,
    /// Where the matchmaker is.
    pub(super) office: Office,
    pub(super) referee: Handle<Trouble>,
}

/// A call that meets a restart waits for it, up to a second.
pub(super) fn patient() -> Mailbox {
    Mailbox { absence: Absence::Wait(Duration::from_secs(1)), ..Mailbox::default() }
}

/// The period of the lobby's supervisors.
const MINUTE: Duration = Duration::from_secs(60);

impl Lobby {
    /// Spawns the lobby into the workload tiers of the nodes.
    pub(super) async fn open(world: &World) -> anyhow::Result<Self> {
        scores::open(world.scorers(), world.scorers().count()).await?;
        let house = open_rooms(world.node(Role::Rooms)?).await?;
        let node = world.node(Role::Players)?;
        let scoreboards = world
            .scorers()
            .map(|scorer| node.remote(scorer.id()).handle(scores::NAME).wait_for_ready());
        let scoreboards = scoreboards.collect();
        let there = node.remote(world.node(Role::Rooms)?.id());
        let rooms =
            ROOMS.map(|room| there.handle(&format!("workload/rooms/{room}")).wait_for_ready());
        let players = open_players(node, &scoreboards).await?;
        let referee = open_tournament(node).await?;
        let office = Office::default();
        // The first one that takes part is elected, and is one that can go away.
        let first = world.node(Role::Rooms)?;
        office.open(world.name(Role::Rooms)?, first).await?;
        office.after(None).await?;
        for (name, node) in world.nodes().filter(|(_, node)| node.id() != first.id()) {
            office.open(name, node).await?;
        }
        let matchmaker = Office::from(node);
        Ok(Self { players, rooms: rooms.into(), house, matchmaker, office, referee })
    }

    /// Opens the rooms again, on a node that has come back, and its scoreboard. It takes part again, too.
    pub(super) async fn reopen_rooms(&mut self, world: &World) -> anyhow::Result<()> {
        let rooms = std::iter::once(world.node(Role::Rooms)?);
        scores::open(rooms, world.scorers().count()).await?;
        self.house = open_rooms(world.node(Role::Rooms)?).await?;
        self.office.open(world.name(Role::Rooms)?, world.node(Role::Rooms)?).await
    }
}

async fn open_rooms(node: &Node) -> anyhow::Result<Vec<Handle<PlayMsg>>> {
    let mut rooms = Vec::new();
    let mut house = Supervisor::new("rooms")?.strategy(Strategy::RestForOne).intensity(10, MINUTE);
    for name in ROOMS {
        let (spec, handle) = Worker::new(name, || (Room, ()))?.mailbox(patient()).split();
        node.serve(&format!("workload/rooms/{name}"), &handle, PlayMsg)?.keep();
        house = house.child(spec);
        rooms.push(handle);
    }
    node.spawn_supervisor(house).await.context("the rooms did not open")?;
    Ok(rooms)
}

async fn open_players(
    node: &Node,
    scoreboards: &Arc<[RemoteScoreboard]>,
) -> anyhow::Result<Vec<Handle<PlayerMsg>>> {
    let mut players = Vec::new();
    let mut team = Supervisor::new("players")?.intensity(10, MINUTE);
    for name in PLAYERS {
        let scoreboards = Arc::clone(scoreboards);
        let player = Worker::new(name, move || {
            (Player, PlayerState { name, scoreboards: Arc::clone(&scoreboards) })
        })?;
        let (spec, handle) = player.mailbox(patient()).split();
        team = team.child(spec);
        players.push(handle);
    }
    node.spawn_supervisor(team).await.context("the players did not start")?;
    Ok(players)
}

async fn open_tournament(node: &Node) -> anyhow::Result<Handle<Trouble>> {
    let (spec, referee) = Worker::new("referee", || (Referee, ()))?.mailbox(patient()).split();
    let tournament =
        Supervisor::new("tournament")?.intensity(2, Duration::from_secs(5)).child(spec);
    node.spawn_supervisor(tournament).await.context("no tournament")?;
    Ok(referee)
}
