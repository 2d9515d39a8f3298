//! The plot: rounds are played one after the other, and before some of them something breaks.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use macula_core::entropy::Entropy;
use macula_workload::Node;
use macula_workload::supervision::proto::{Change, Context};
use macula_workload::supervision::{CallError, Event, Handle, Presence, What};
use tokio::sync::broadcast;

use super::lobby::{
    Lobby, MatchMsg, PLAYERS, PlayMsg, PlayerMsg, ROOMS, Score, Trouble, score_key,
};
use super::tell::{ScoreLine, Teller, Verdict};

/// How many rounds are played.
const ROUNDS: u32 = 40;

/// How long the demo waits for something that must come before it calls it a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something that the demo breaks.
#[derive(Debug, Clone, Copy)]
enum Fault {
    PlayerPanics,
    RoomKilled,
    MatchmakerHangs,
    PlayerErrs,
    TournamentMeltsDown,
    RegistersKilled,
}

/// What breaks before which round.
const FAULTS: [(u32, Fault); 6] = [
    (5, Fault::PlayerPanics),
    (10, Fault::RoomKilled),
    (16, Fault::MatchmakerHangs),
    (22, Fault::PlayerErrs),
    (28, Fault::TournamentMeltsDown),
    (34, Fault::RegistersKilled),
];

impl Fault {
    fn describe(self) -> String {
        match self {
            Self::PlayerPanics => "player ada is made to panic".to_owned(),
            Self::RoomKilled => {
                format!("room {} is killed; rooms opened after it go along", ROOMS[0])
            }
            Self::MatchmakerHangs => "the matchmaker is made to hang".to_owned(),
            Self::PlayerErrs => "player bob loses its connection".to_owned(),
            Self::TournamentMeltsDown => {
                "the referee fails three times; its supervisor gives up and is replaced".to_owned()
            }
            Self::RegistersKilled => "the platform's registers are killed".to_owned(),
        }
    }
}

pub(super) struct Story {
    node: Node,
    lobby: Lobby,
    events: broadcast::Receiver<Event>,
    teller: Teller,
    dice: Entropy,
    /// How many rounds each player has won, as this side counts them.
    won: Vec<u32>,
    failures: usize,
    kinds: BTreeSet<String>,
    restarts: u64,
}

impl Story {
    /// Plays the whole story.
    pub(super) async fn play(teller: Teller, seed: u64) -> anyhow::Result<()> {
        let node = Node::start().await?;
        let lobby = Lobby::open(&node).await?;
        let mut story = Self {
            events: node.events(),
            node,
            lobby,
            teller,
            dice: Entropy::from_seed(seed),
            won: vec![0; PLAYERS.len()],
            failures: 0,
            kinds: BTreeSet::new(),
            restarts: 0,
        };
        teller.chapter("A node with a game lobby")?;
        teller.tree(&story.node.snapshot().await)?;
        teller.chapter(&format!("{ROUNDS} rounds, and {} things go wrong", FAULTS.len()))?;
        for round in 1..=ROUNDS {
            for (_, fault) in FAULTS.iter().filter(|(at, _)| *at == round) {
                story.fault(round, *fault).await?;
            }
            story.round(round).await.with_context(|| format!("round {round}"))?;
            story.tell_events()?;
        }
        story.end().await
    }

    async fn round(&mut self, round: u32) -> anyhow::Result<()> {
        let found = ask(&self.lobby.matchmaker, |reply| MatchMsg::Pair(round, reply)).await?;
        let room = self.lobby.rooms.get(found.room).context("no such room")?;
        let dice = self.dice.next_u64();
        let winner = ask(room, |winner| PlayMsg { pair: found.pair, dice, winner }).await?;
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
        let [ada, bob, ..] = self.lobby.players.as_slice() else { bail!("too few players") };
        let [room, .., last] = self.lobby.rooms.as_slice() else { bail!("too few rooms") };
        match fault {
            Fault::PlayerPanics => {
                let before = ada.incarnation();
                ada.send(PlayerMsg::Trouble(Trouble::Panic)).await?;
                reborn(ada, before).await?;
            }
            Fault::PlayerErrs => {
                let before = bob.incarnation();
                bob.send(PlayerMsg::Trouble(Trouble::Error)).await?;
                reborn(bob, before).await?;
            }
            Fault::RoomKilled => {
                let (before, before_last) = (room.incarnation(), last.incarnation());
                room.actor_ref().context("the room is closed")?.kill();
                reborn(room, before).await?;
                reborn(last, before_last).await?;
            }
            Fault::MatchmakerHangs => {
                let matchmaker = &self.lobby.matchmaker;
                let before = matchmaker.incarnation();
                matchmaker.send(MatchMsg::Trouble(Trouble::Hang)).await?;
                reborn(matchmaker, before).await?;
            }
            Fault::TournamentMeltsDown => self.melt_tournament().await?,
            Fault::RegistersKilled => {
                let registers = self.node.registers().handle();
                let before = registers.incarnation();
                registers.actor_ref().context("no registers")?.kill();
                reborn(registers, before).await?;
            }
        }
        self.tell_events()
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
        Ok(self.node.supervisor(&path).context("no tournament")?.incarnation())
    }

    /// Tells and counts what has happened so far.
    fn tell_events(&mut self) -> anyhow::Result<()> {
        loop {
            match self.events.try_recv() {
                Ok(event) => {
                    self.count(&event);
                    self.teller.event(&event)?;
                }
                Err(broadcast::error::TryRecvError::Lagged(lost)) => self.teller.lost(lost)?,
                Err(_empty) => return Ok(()),
            }
        }
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
        self.teller.chapter("The tree at the end")?;
        self.teller.tree(&self.node.snapshot().await)?;
        self.teller.chapter("The scores")?;
        let mut lines = Vec::new();
        for (player, expected) in PLAYERS.into_iter().zip(self.won.iter().copied()) {
            let score = self.node.registers().get::<Score>(score_key(player)).await?;
            lines.push(ScoreLine { player, expected, found: score.unwrap_or_default().points });
        }
        self.teller.scores(&lines)?;
        let total: u32 = lines.iter().map(|line| line.found).sum();
        let scores_right = total == ROUNDS && lines.iter().all(|line| line.expected == line.found);
        let verdict = Verdict {
            healed: healed && self.every_fault_was_seen(),
            scores_right,
            failures: self.failures,
            kinds: self.kinds.iter().cloned().collect(),
            restarts: self.restarts,
        };
        self.teller.verdict(&verdict)?;
        self.node.stop().await?;
        ensure!(verdict.is_good(), "the demo did not end as it should");
        Ok(())
    }

    /// A demo whose faults did not bite proves nothing.
    fn every_fault_was_seen(&self) -> bool {
        let kinds = ["panic", "killed", "hung", "error", "meltdown"];
        self.failures >= FAULTS.len() && kinds.iter().all(|&kind| self.kinds.contains(kind))
    }

    /// Waits until everything runs.
    async fn heal(&self) -> bool {
        let mut events = self.node.events();
        let whole = async {
            while !self.node.snapshot().await.is_healthy() {
                // Whatever the outcome: something has happened, or events were lost.
                drop(events.recv().await);
            }
        };
        tokio::time::timeout(PATIENCE, whole).await.is_ok()
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
