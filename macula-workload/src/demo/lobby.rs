//! The game lobby: its actors, the supervisors above them, and the nodes that they are on.
//!
//! ```text
//! players    workload
//!            ├─ players      one_for_one: ada, bob, eve, dan
//!            ├─ matchmaker   hangs now and then, which its liveness bound ends
//!            └─ tournament   one_for_one, two restarts in five seconds: the referee
//! rooms      workload
//!            └─ rooms        rest_for_one: red, blue
//! scores     workload
//!            └─ scoreboard
//! ```
//!
//! A player tells the scoreboard, on another node, of each round that it has won. The scoreboard
//! keeps a register of its platform for each player, with the last round that it counted, so that a
//! round told twice is counted once.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use macula_workload::Node;
use macula_workload::registers::Registers;
use macula_workload::remote::{RemoteHandle, ReplyTo};
use macula_workload::supervision::{
    Absence, Backoff, Handle, Mailbox, Restart, Strategy, Supervisor, Worker,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::{Deserialize, Serialize};

use super::world::{Role, World, ask_remote};

/// Who plays.
pub(super) const PLAYERS: [&str; 4] = ["ada", "bob", "eve", "dan"];

/// Where they play.
pub(super) const ROOMS: [&str; 2] = ["red", "blue"];

/// The longest time for which the matchmaker may be busy.
pub(super) const LIVENESS: Duration = Duration::from_millis(250);

/// A player's score as its register has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Score {
    pub(super) points: u32,
    /// The last round that was counted.
    pub(super) round: u32,
}

/// The key of a player's register.
pub(super) fn score_key(player: &str) -> Arc<str> {
    format!("score/{player}").into()
}

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
async fn fail(trouble: Trouble) -> Result<(), ActorProcessingErr> {
    match trouble {
        Trouble::Panic => panic!("divided a prize among nobody"),
        Trouble::Error => {
            let cause = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset by peer");
            Err(Disconnected(cause).into())
        }
        Trouble::Hang => std::future::pending().await,
    }
}

/// A player has won a round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Win {
    player: String,
    round: u32,
}

/// The scoreboard, from another node.
type RemoteScoreboard = RemoteHandle<Win, Score>;

/// Wins, and tells the scoreboard.
pub(super) struct Player;

pub(super) enum PlayerMsg {
    /// The player has won this round; answered when the score is safe.
    Won(u32, RpcReplyPort<Score>),
    Trouble(Trouble),
}

pub(super) struct PlayerState {
    name: &'static str,
    scoreboard: RemoteScoreboard,
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
                reply.send(ask_remote(&state.scoreboard, &win).await?)?;
                Ok(())
            }
            PlayerMsg::Trouble(trouble) => fail(trouble).await,
        }
    }
}

/// Keeps all scores.
struct Scoreboard;

struct Tell(Win, ReplyTo<Score>);

impl Actor for Scoreboard {
    type Msg = Tell;
    type State = Registers;
    type Arguments = Registers;

    async fn pre_start(
        &self,
        _myself: ActorRef<Tell>,
        registers: Registers,
    ) -> Result<Registers, ActorProcessingErr> {
        Ok(registers)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Tell>,
        Tell(win, reply): Tell,
        registers: &mut Registers,
    ) -> Result<(), ActorProcessingErr> {
        let key = score_key(&win.player);
        let mut score = registers.get::<Score>(Arc::clone(&key)).await?.unwrap_or_default();
        if win.round > score.round {
            score = Score { points: score.points + 1, round: win.round };
            registers.put(key, &score).await?;
        }
        // Whoever does not hear it asks again.
        drop(reply.send(score));
        Ok(())
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

/// Says who plays whom, and where.
pub(super) struct Matchmaker;

pub(super) enum MatchMsg {
    Pair(u32, RpcReplyPort<Match>),
    Trouble(Trouble),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Match {
    pub(super) pair: (usize, usize),
    pub(super) room: usize,
}

impl Actor for Matchmaker {
    type Msg = MatchMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<MatchMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<MatchMsg>,
        message: MatchMsg,
        _state: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            MatchMsg::Pair(round, reply) => {
                let round = usize::try_from(round)?;
                let one = round % PLAYERS.len();
                let other = (one + 1 + round / PLAYERS.len() % (PLAYERS.len() - 1)) % PLAYERS.len();
                reply.send(Match { pair: (one, other), room: round % ROOMS.len() })?;
                Ok(())
            }
            MatchMsg::Trouble(trouble) => fail(trouble).await,
        }
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
    pub(super) matchmaker: Handle<MatchMsg>,
    pub(super) referee: Handle<Trouble>,
}

/// A call that meets a restart waits for it, up to a second.
fn patient() -> Mailbox {
    Mailbox { absence: Absence::Wait(Duration::from_secs(1)), ..Mailbox::default() }
}

/// The period of the lobby's supervisors.
const MINUTE: Duration = Duration::from_secs(60);

impl Lobby {
    /// Spawns the lobby into the workload tiers of the nodes.
    pub(super) async fn open(world: &World) -> anyhow::Result<Self> {
        open_scoreboard(world.node(Role::Scores)?).await?;
        let house = open_rooms(world.node(Role::Rooms)?).await?;
        let node = world.node(Role::Players)?;
        let scores = node.remote(world.node(Role::Scores)?.id());
        let scoreboard = scores.handle("workload/scoreboard").wait_for_ready();
        let there = node.remote(world.node(Role::Rooms)?.id());
        let rooms =
            ROOMS.map(|room| there.handle(&format!("workload/rooms/{room}")).wait_for_ready());
        let players = open_players(node, &scoreboard).await?;
        let (matchmaker, referee) = open_office(node).await?;
        Ok(Self { players, rooms: rooms.into(), house, matchmaker, referee })
    }

    /// Opens the rooms again, on a node that has come back.
    pub(super) async fn reopen_rooms(&mut self, world: &World) -> anyhow::Result<()> {
        self.house = open_rooms(world.node(Role::Rooms)?).await?;
        Ok(())
    }
}

async fn open_scoreboard(node: &Node) -> anyhow::Result<()> {
    let registers = node.registers().clone();
    let worker = Worker::new("scoreboard", move || (Scoreboard, registers.clone()))?;
    let handle = node.spawn(worker.mailbox(patient())).await.context("no scoreboard")?;
    node.serve("workload/scoreboard", &handle, Tell)?.keep();
    Ok(())
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
    scoreboard: &RemoteScoreboard,
) -> anyhow::Result<Vec<Handle<PlayerMsg>>> {
    let mut players = Vec::new();
    let mut team = Supervisor::new("players")?.intensity(10, MINUTE);
    for name in PLAYERS {
        let scoreboard = scoreboard.clone();
        let player = Worker::new(name, move || {
            (Player, PlayerState { name, scoreboard: scoreboard.clone() })
        })?;
        let (spec, handle) = player.mailbox(patient()).split();
        team = team.child(spec);
        players.push(handle);
    }
    node.spawn_supervisor(team).await.context("the players did not start")?;
    Ok(players)
}

async fn open_office(node: &Node) -> anyhow::Result<(Handle<MatchMsg>, Handle<Trouble>)> {
    let (first, longest) = (Duration::from_millis(20), Duration::from_millis(200));
    let matchmaker = Worker::new("matchmaker", || (Matchmaker, ()))?
        .restart(Restart::Transient)
        .liveness(LIVENESS)
        .backoff(Backoff::exponential(first, longest))
        .mailbox(patient());
    let (spec, referee) = Worker::new("referee", || (Referee, ()))?.mailbox(patient()).split();
    let tournament =
        Supervisor::new("tournament")?.intensity(2, Duration::from_secs(5)).child(spec);
    let matchmaker = node.spawn(matchmaker).await.context("no matchmaker")?;
    node.spawn_supervisor(tournament).await.context("no tournament")?;
    Ok((matchmaker, referee))
}
