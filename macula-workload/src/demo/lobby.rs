//! The game lobby: its actors, and the supervisors above them.
//!
//! ```text
//! workload
//! ├─ players      one_for_one: ada, bob, eve, dan
//! ├─ rooms        rest_for_one: red, blue
//! ├─ matchmaker   hangs now and then, which its liveness bound ends
//! └─ tournament   one_for_one, two restarts in five seconds: the referee
//! ```
//!
//! A player's score is a register of the platform. Only the player writes it, together with the
//! last round that it counted, so that a round told twice is counted once.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use macula_workload::registers::Registers;
use macula_workload::supervision::{
    Absence, Backoff, Handle, Mailbox, Restart, Strategy, Supervisor, Worker,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::{Deserialize, Serialize};

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

/// Keeps one score.
pub(super) struct Player;

pub(super) enum PlayerMsg {
    /// The player has won this round; answered when the score is safe.
    Won(u32, RpcReplyPort<Score>),
    Trouble(Trouble),
}

pub(super) struct PlayerState {
    key: Arc<str>,
    registers: Registers,
    score: Score,
}

impl Actor for Player {
    type Msg = PlayerMsg;
    type State = PlayerState;
    type Arguments = (&'static str, Registers);

    async fn pre_start(
        &self,
        _myself: ActorRef<PlayerMsg>,
        (name, registers): Self::Arguments,
    ) -> Result<PlayerState, ActorProcessingErr> {
        let key = score_key(name);
        let score = registers.get::<Score>(Arc::clone(&key)).await?.unwrap_or_default();
        Ok(PlayerState { key, registers, score })
    }

    async fn handle(
        &self,
        _myself: ActorRef<PlayerMsg>,
        message: PlayerMsg,
        state: &mut PlayerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PlayerMsg::Won(round, reply) => {
                if round > state.score.round {
                    let score = Score { points: state.score.points + 1, round };
                    state.registers.put(Arc::clone(&state.key), &score).await?;
                    state.score = score;
                }
                reply.send(state.score)?;
                Ok(())
            }
            PlayerMsg::Trouble(trouble) => fail(trouble).await,
        }
    }
}

/// Plays a round: the winner is drawn by the round's dice.
pub(super) struct Room;

pub(super) struct PlayMsg {
    pub(super) pair: (usize, usize),
    pub(super) dice: u64,
    pub(super) winner: RpcReplyPort<usize>,
}

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
        PlayMsg { pair: (one, other), dice, winner }: PlayMsg,
        _state: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        winner.send(if dice % 2 == 0 { one } else { other })?;
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
    pub(super) rooms: Vec<Handle<PlayMsg>>,
    pub(super) matchmaker: Handle<MatchMsg>,
    pub(super) referee: Handle<Trouble>,
}

impl Lobby {
    /// Spawns the lobby into a node's workload tier.
    pub(super) async fn open(node: &macula_workload::Node) -> anyhow::Result<Self> {
        // A call that meets a restart waits for it, up to a second.
        let patient =
            Mailbox { absence: Absence::Wait(Duration::from_secs(1)), ..Mailbox::default() };
        let minute = Duration::from_secs(60);

        let mut players = Vec::new();
        let mut team = Supervisor::new("players")?.intensity(10, minute);
        for name in PLAYERS {
            let registers = node.registers().clone();
            let player = Worker::new(name, move || (Player, (name, registers.clone())))?;
            let (spec, handle) = player.mailbox(patient).split();
            team = team.child(spec);
            players.push(handle);
        }

        let mut rooms = Vec::new();
        let mut house =
            Supervisor::new("rooms")?.strategy(Strategy::RestForOne).intensity(10, minute);
        for name in ROOMS {
            let (spec, handle) = Worker::new(name, || (Room, ()))?.mailbox(patient).split();
            house = house.child(spec);
            rooms.push(handle);
        }

        let (first, longest) = (Duration::from_millis(20), Duration::from_millis(200));
        let matchmaker = Worker::new("matchmaker", || (Matchmaker, ()))?
            .restart(Restart::Transient)
            .liveness(LIVENESS)
            .backoff(Backoff::exponential(first, longest))
            .mailbox(patient);
        let (spec, referee) = Worker::new("referee", || (Referee, ()))?.mailbox(patient).split();
        let tournament =
            Supervisor::new("tournament")?.intensity(2, Duration::from_secs(5)).child(spec);

        node.spawn_supervisor(team).await.context("the players did not start")?;
        node.spawn_supervisor(house).await.context("the rooms did not open")?;
        let matchmaker = node.spawn(matchmaker).await.context("no matchmaker")?;
        node.spawn_supervisor(tournament).await.context("no tournament")?;
        Ok(Self { players, rooms, matchmaker, referee })
    }
}
