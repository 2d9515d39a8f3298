//! The scores: counters that three nodes count in at the same time, whatever breaks between them.
//!
//! A player's key has two kinds of counters. One is the points; the others say up to which round each
//! scoreboard has counted, so that a round told twice is counted once. Both change together or not at all.
//! A scoreboard answers when a majority of the nodes has what it has counted, so that it is not lost with
//! any one of them: none of them keeps it on a disk.

use std::time::Duration;

use anyhow::Context as _;
use macula_core::path::InvalidId;
use macula_workload::Node;
use macula_workload::crdt::types::{OrMap, PnCounter};
use macula_workload::crdt::{Changes, Crdts, Error, Failed, Key, Level};
use macula_workload::remote::{RemoteHandle, ReplyTo};
use macula_workload::supervision::Worker;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};

use super::lobby::patient;
use super::world::PATIENCE;

/// How a scoreboard is called.
pub(super) const NAME: &str = "workload/scoreboard";

/// The bucket of all scores.
const BUCKET: &str = "scores";

/// The counter of a player's points.
const POINTS: &[u8] = b"points";

/// How often it is looked whether the nodes have found one another.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What is counted for a player.
type Counters = OrMap<PnCounter>;

/// A player's score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Score {
    pub(super) points: i64,
    /// The last round that was counted by who answers.
    pub(super) round: u32,
}

/// A player has won a round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Win {
    pub(super) player: String,
    pub(super) round: u32,
}

/// A scoreboard, from another node.
pub(super) type RemoteScoreboard = RemoteHandle<Win, Score>;

/// What a counter of a player says.
fn count_of(counters: &Counters, name: &[u8]) -> i64 {
    let value = counters.get(name).map_or(0, PnCounter::value);
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn key_of(crdts: &Crdts, player: &str) -> Key<Counters, ()> {
    crdts.key_in(BUCKET, &format!("{BUCKET}/{player}"))
}

/// The points of a player, as all of the nodes that can be asked have them.
pub(super) async fn points(node: &Node, player: &str) -> anyhow::Result<i64> {
    let key = key_of(node.crdt(), player).at(Level::All).within(PATIENCE);
    Ok(key.read(|counters| count_of(counters, POINTS)).await?)
}

/// Counts the wins that it is told of.
struct Scoreboard;

struct Tell(Win, ReplyTo<Score>);

struct Board {
    crdts: Crdts,
    /// The counter of the rounds that this one has counted.
    rounds: Vec<u8>,
}

impl Actor for Scoreboard {
    type Msg = Tell;
    type State = Board;
    type Arguments = Board;

    async fn pre_start(
        &self,
        _myself: ActorRef<Tell>,
        board: Board,
    ) -> Result<Board, ActorProcessingErr> {
        Ok(board)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Tell>,
        Tell(win, reply): Tell,
        board: &mut Board,
    ) -> Result<(), ActorProcessingErr> {
        let score = loop {
            match board.count(&win).await {
                Ok(score) => break score,
                // What it has counted it has counted; it goes on until enough others have it.
                Err(Error::Failed(Failed::NotReached { .. }) | Error::NoAnswer) => {}
                Err(error) => return Err(error.into()),
            }
        };
        // Whoever does not hear it asks again.
        drop(reply.send(score));
        Ok(())
    }
}

impl Board {
    /// Counts a win, unless it was counted.
    async fn count(&self, win: &Win) -> Result<Score, Error> {
        let key = key_of(&self.crdts, &win.player).at(Level::Majority);
        // What this node has counted in an earlier life only others may have.
        key.read(|_counters| ()).await?;
        let (round, rounds) = (win.round, self.rounds.clone());
        // A change of nothing waits, too, until enough have what was changed before.
        key.update(move |counters, write| {
            let counted = count_of(counters, &rounds);
            let mut changes = Changes::of(counters);
            if let Ok(more) = u64::try_from(i64::from(round) - counted)
                && more > 0
            {
                changes.make(|counters| {
                    counters.update(POINTS, write, |points, write| points.increment(1, write))
                })?;
                changes.make(|counters| {
                    counters.update(&*rounds, write, |last, write| last.increment(more, write))
                })?;
            }
            Ok(changes.finish())
        })
        .await?;
        let points = key.at(Level::Local).read(|counters| count_of(counters, POINTS)).await?;
        Ok(Score { points, round })
    }
}

/// Has each of these nodes count, once it knows all of `count` that do.
pub(super) async fn open<'a>(
    nodes: impl Iterator<Item = &'a Node> + Clone,
    count: usize,
) -> anyhow::Result<()> {
    for node in nodes.clone() {
        node.crdt().hold(BUCKET).await?;
    }
    for node in nodes {
        let met = async {
            while !has_met(node, count).await? {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, met).await.context("the scoreboards do not meet")??;
        let handle = node.spawn(worker(node)?).await.context("no scoreboard")?;
        node.serve(NAME, &handle, Tell)?.keep();
    }
    Ok(())
}

async fn has_met(node: &Node, count: usize) -> anyhow::Result<bool> {
    let stats = node.crdt().stats(BUCKET).await?;
    Ok(stats.members >= count && stats.in_touch + 1 >= count)
}

fn worker(node: &Node) -> Result<Worker<Scoreboard>, InvalidId> {
    let (crdts, rounds) = (node.crdt().clone(), format!("round/{}", node.id()).into_bytes());
    let make = move || (Scoreboard, Board { crdts: crdts.clone(), rounds: rounds.clone() });
    Ok(Worker::new("scoreboard", make)?.mailbox(patient()))
}

/// How many nodes count at most.
pub(super) const SCORERS_MAX: usize = 3;
