//! The plot: rounds are played one after the other, and before some of them something breaks.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail, ensure};
use macula_core::entropy::Entropy;
use macula_workload::election::Token;
use macula_workload::election::fence::Fence;
use macula_workload::supervision::proto::{Change, Context};
use macula_workload::supervision::{CallError, Event, Handle, Presence, SupervisorHandle, What};
use tokio::sync::broadcast::error::TryRecvError;

use super::lobby::{Lobby, PLAYERS, Play, PlayerMsg, ROOMS, Trouble};
use super::matchmaker::MatchMsg;
use super::scores::{Score, points};
use super::tell::{ScoreLine, Teller, Verdict};
use super::world::{PATIENCE, Role, World, ask_named, ask_remote};

/// How many rounds are played.
const ROUNDS: u32 = 40;

/// Something that the demo breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    PlayerPanics,
    RoomKilled,
    MatchmakerHangs,
    TransportKilled,
    PlayerErrs,
    PoolKilled,
    TournamentMeltsDown,
    NodeGone,
    ReplicatorKilled,
}

/// What breaks before which round.
const FAULTS: [(u32, Fault); 9] = [
    (5, Fault::PlayerPanics),
    (9, Fault::RoomKilled),
    (13, Fault::MatchmakerHangs),
    (17, Fault::TransportKilled),
    (21, Fault::PlayerErrs),
    (25, Fault::PoolKilled),
    (28, Fault::TournamentMeltsDown),
    (32, Fault::NodeGone),
    (36, Fault::ReplicatorKilled),
];

impl Fault {
    fn describe(self) -> String {
        match self {
            Self::PlayerPanics => "player ada is made to panic".to_owned(),
            Self::RoomKilled => {
                format!("room {} is killed; rooms opened after it go along", ROOMS[0])
            }
            Self::MatchmakerHangs => "the matchmaker is made to hang".to_owned(),
            Self::TransportKilled => {
                "the transport of the scores' node is killed, and all that stands on it".to_owned()
            }
            Self::PlayerErrs => "player bob loses its connection".to_owned(),
            Self::PoolKilled => {
                "the connection pool of the players' node is killed, with all connections"
                    .to_owned()
            }
            Self::TournamentMeltsDown => {
                "the referee fails three times; its supervisor gives up and is replaced".to_owned()
            }
            Self::NodeGone => {
                "the node of the rooms goes away, with the matchmaker; a round is begun before it is back"
                    .to_owned()
            }
            Self::ReplicatorKilled => "what carries the scores of the scores' node to the others is killed".to_owned(),
        }
    }
}

pub(super) struct Story {
    world: World,
    lobby: Lobby,
    teller: Teller,
    dice: Entropy,
    /// How many rounds each player has won, as this side counts them.
    won: Vec<u32>,
    failures: usize,
    kinds: BTreeSet<String>,
    restarts: u64,
    /// How many nodes have gone away and come back.
    returned: u32,
    /// Whoever brings players together under an older token than another one before is not listened to.
    fence: Fence,
    /// The tokens under which matchmakers were told of.
    tokens: Vec<Token>,
}

impl Story {
    /// Plays the whole story.
    pub(super) async fn play(teller: Teller, seed: u64, nodes: u8) -> anyhow::Result<()> {
        let world = World::start(usize::from(nodes)).await?;
        let lobby = Lobby::open(&world).await?;
        let mut story = Self {
            world,
            lobby,
            teller,
            dice: Entropy::from_seed(seed),
            won: vec![0; PLAYERS.len()],
            failures: 0,
            kinds: BTreeSet::new(),
            restarts: 0,
            returned: 0,
            fence: Fence::default(),
            tokens: Vec::new(),
        };
        teller.chapter(&format!("A game lobby on {nodes} nodes of one realm"))?;
        story.tell_trees().await?;
        story.tell_matchmaker(None).await?;
        let faults = story.faults();
        teller.chapter(&format!("{ROUNDS} rounds, and {} things go wrong", faults.len()))?;
        for round in 1..=ROUNDS {
            for (_, fault) in faults.iter().filter(|(at, _)| *at == round) {
                story.fault(round, *fault).await?;
            }
            story.round(round).await.with_context(|| format!("round {round}"))?;
            story.tell_events()?;
        }
        story.end().await
    }

    /// What is going to break: a node goes away only if it can be missed.
    fn faults(&self) -> Vec<(u32, Fault)> {
        let can_go = self.world.is_alone(Role::Rooms);
        FAULTS.into_iter().filter(|(_, fault)| *fault != Fault::NodeGone || can_go).collect()
    }

    async fn tell_trees(&mut self) -> anyhow::Result<()> {
        for member in self.world.members() {
            self.teller.tree(&member.name, &member.node()?.snapshot().await)?;
        }
        Ok(())
    }

    async fn round(&mut self, round: u32) -> anyhow::Result<()> {
        let found = ask_named(&self.lobby.matchmaker, &round).await?;
        self.fence.check(found.token)?;
        let room = self.lobby.rooms.get(found.room).context("no such room")?;
        let play = Play { pair: found.pair, dice: self.dice.next_u64() };
        let winner = ask_remote(room, &play).await?;
        let player = self.lobby.players.get(winner).context("no such player")?;
        let Score { round: counted, .. } =
            ask(player, |reply| PlayerMsg::Won(round, reply)).await?;
        ensure!(counted == round, "the player counted round {counted}");
        *self.won.get_mut(winner).context("no such player")? += 1;
        Ok(())
    }

    /// Breaks something, and waits until it is whole again.
    async fn fault(&mut self, round: u32, fault: Fault) -> anyhow::Result<()> {
        self.teller.fault(round, &fault.describe())?;
        match fault {
            Fault::TransportKilled => {
                let parts = self.world.node(Role::Scores)?.infrastructure();
                kill_supervisor(&parts.transport).await?;
            }
            Fault::PoolKilled => {
                let parts = self.world.node(Role::Players)?.infrastructure();
                kill_supervisor(&parts.pool).await?;
            }
            Fault::NodeGone => self.lose_node().await?,
            Fault::TournamentMeltsDown => self.melt_tournament().await?,
            Fault::ReplicatorKilled => {
                kill(&self.world.node(Role::Scores)?.replicator().actor).await?;
            }
            Fault::RoomKilled => {
                let [room, .., last] = self.lobby.house.as_slice() else { bail!("too few rooms") };
                let before_last = last.incarnation();
                kill(room).await?;
                reborn(last, before_last).await?;
            }
            Fault::MatchmakerHangs => {
                let matchmaker = self.lobby.office.after(None).await?.handle;
                let before = matchmaker.incarnation();
                matchmaker.send(MatchMsg::Trouble(Trouble::Hang)).await?;
                reborn(&matchmaker, before).await?;
            }
            Fault::PlayerPanics => self.trouble(0, Trouble::Panic).await?,
            Fault::PlayerErrs => self.trouble(1, Trouble::Error).await?,
        }
        self.tell_events()
    }

    /// Tells who is the matchmaker, once there is one after a token.
    async fn tell_matchmaker(&mut self, after: Option<Token>) -> anyhow::Result<()> {
        let now = self.lobby.office.after(after).await?;
        self.tokens.push(now.token);
        self.teller.matchmaker(&now.node, now.token)
    }

    async fn trouble(&self, player: usize, trouble: Trouble) -> anyhow::Result<()> {
        let player = self.lobby.players.get(player).context("no such player")?;
        let before = player.incarnation();
        player.send(PlayerMsg::Trouble(trouble)).await?;
        reborn(player, before).await
    }

    /// The rooms' node goes away. A round is begun all the same: it waits, and is played when the
    /// node is back.
    async fn lose_node(&mut self) -> anyhow::Result<()> {
        let before = self.lobby.office.after(None).await?;
        let moves = before.node == self.world.name(Role::Rooms)?;
        self.world.leave(Role::Rooms).await?;
        if moves {
            self.tell_matchmaker(Some(before.token)).await?;
        }
        let room = self.lobby.rooms.first().context("no room")?.clone();
        let waiting =
            tokio::spawn(async move { ask_remote(&room, &Play { pair: (0, 1), dice: 0 }).await });
        self.world.come_back(Role::Rooms).await?;
        self.lobby.reopen_rooms(&self.world).await?;
        ensure!(waiting.await?? == 0, "the room that came back plays another game");
        self.returned += 1;
        Ok(())
    }

    /// Two failures are within the tournament's intensity, the third is not.
    async fn melt_tournament(&self) -> anyhow::Result<()> {
        let referee = &self.lobby.referee;
        for _ in 0..3 {
            let before = referee.incarnation();
            referee.send(Trouble::Panic).await?;
            reborn(referee, before).await?;
        }
        ensure!(self.tournament_incarnation()? == 2, "the tournament did not melt down");
        Ok(())
    }

    fn tournament_incarnation(&self) -> anyhow::Result<u64> {
        let path = macula_core::path::Path::parse("workload/tournament")?;
        Ok(self
            .world
            .node(Role::Players)?
            .supervisor(&path)
            .context("no tournament")?
            .incarnation())
    }

    /// Tells and counts what has happened so far.
    fn tell_events(&mut self) -> anyhow::Result<()> {
        let mut heard = Vec::new();
        for member in self.world.members() {
            loop {
                match member.next_event() {
                    Ok(event) => {
                        self.teller.event(&member.name, &event)?;
                        heard.push(event);
                    }
                    Err(TryRecvError::Lagged(lost)) => self.teller.lost(lost)?,
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
        }
        heard.iter().for_each(|event| self.count(event));
        Ok(())
    }

    fn count(&mut self, event: &Event) {
        match &event.what {
            What::Report(report) if report.context == Context::ChildTerminated => {
                self.failures += 1;
                self.kinds.insert(report.reason.kind().to_owned());
            }
            What::Life(Change::Restarting { .. }) => self.restarts += 1,
            _ => {}
        }
    }

    async fn end(mut self) -> anyhow::Result<()> {
        let healed = self.heal().await;
        self.tell_events()?;
        self.teller.chapter("The trees at the end")?;
        self.tell_trees().await?;
        self.teller.chapter("The scores")?;
        let mut lines = Vec::new();
        for (player, expected) in PLAYERS.into_iter().zip(self.won.iter().copied()) {
            let mut found = Vec::new();
            for node in self.world.scorers() {
                found.push(points(node, player).await?);
            }
            lines.push(ScoreLine { player, expected, found });
        }
        self.teller.scores(&lines)?;
        let total: u32 = lines.iter().map(|line| line.expected).sum();
        let scores_right = total == ROUNDS && lines.iter().all(ScoreLine::is_right);
        let verdict = Verdict {
            healed: healed && self.every_fault_was_seen(),
            scores_right,
            tokens: self.tokens.clone(),
            failures: self.failures,
            kinds: self.kinds.iter().cloned().collect(),
            restarts: self.restarts,
        };
        self.teller.verdict(&verdict)?;
        self.world.stop().await?;
        ensure!(verdict.is_good(), "the demo did not end as it should");
        Ok(())
    }

    /// A demo whose faults did not bite proves nothing.
    fn every_fault_was_seen(&self) -> bool {
        let kinds = ["panic", "killed", "hung", "error", "meltdown"];
        let gone = u32::from(self.world.is_alone(Role::Rooms));
        self.failures >= FAULTS.len() - 1
            && self.returned == gone
            && kinds.iter().all(|&kind| self.kinds.contains(kind))
    }

    /// Waits until everything runs, on all nodes.
    async fn heal(&mut self) -> bool {
        for member in self.world.members() {
            let Ok(node) = member.node() else { return false };
            let mut events = node.events();
            let whole = async {
                while !node.snapshot().await.is_healthy() {
                    // Whatever the outcome: something has happened, or events were lost.
                    drop(events.recv().await);
                }
            };
            if tokio::time::timeout(PATIENCE, whole).await.is_err() {
                return false;
            }
        }
        true
    }
}

/// Asks until there is an answer: each question of the game may be asked twice.
async fn ask<M: Send + 'static, R: Send + 'static>(
    handle: &Handle<M>,
    question: impl Fn(ractor::RpcReplyPort<R>) -> M,
) -> anyhow::Result<R> {
    let answer = async {
        loop {
            match handle.call(&question).await {
                Ok(answer) => return Ok(answer),
                // The mailbox has waited for as long as it may, or the actor ended with the question.
                Err(CallError::NoReply | CallError::Unavailable(Presence::Restarting)) => {}
                Err(error) => return Err(error),
            }
        }
    };
    Ok(tokio::time::timeout(PATIENCE, answer).await.context("nobody answered")??)
}

/// Waits for an actor's next life.
async fn reborn<M: Send + 'static>(handle: &Handle<M>, before: u64) -> anyhow::Result<()> {
    let life = tokio::time::timeout(PATIENCE, handle.next_life(before)).await;
    life.context("it did not come back in time")?.context("it will not come back")?;
    Ok(())
}

/// Kills an actor, and waits for its next life.
async fn kill<M: Send + 'static>(handle: &Handle<M>) -> anyhow::Result<()> {
    let before = handle.incarnation();
    handle.actor_ref().context("it does not run")?.kill();
    reborn(handle, before).await
}

/// Kills a supervisor with all that is below it, and waits for its next life.
async fn kill_supervisor(handle: &SupervisorHandle) -> anyhow::Result<()> {
    let before = handle.incarnation();
    handle.cell().context("it does not run")?.kill();
    let back = async {
        while handle.incarnation() == before || handle.presence() != Presence::Up {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.context("it did not come back in time")?;
    Ok(())
}
