//! Matchmaking over three nodes: players anywhere ask for a match by the name of a procedure. One node
//! makes pairs, and opens a room for each pair on whichever node hosts rooms. One of these nodes goes
//! in the middle of it; nobody is left without a match.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use macula_examples::join;
use macula_workload::identity::EphemeralRealm;
use macula_workload::prelude::*;
use macula_workload::rpc::{Options, Rpc};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

/// How many players there are: an even number.
const PLAYERS: u64 = 40;

/// Which room, and on which node.
type Room = (String, u64);

/// Makes pairs of players, in the order in which they come.
struct Matchmaker;

/// A player wants a match, and gets the room and who else is in it.
struct Join(u64, ReplyTo<(Room, u64)>);

/// Whoever waits for somebody to play with.
struct Pairs {
    rpc: Rpc,
    waiting: Option<Join>,
}

impl Actor for Matchmaker {
    type Msg = Join;
    type State = Pairs;
    type Arguments = Rpc;

    async fn pre_start(&self, _: ActorRef<Join>, rpc: Rpc) -> Result<Pairs, ActorProcessingErr> {
        Ok(Pairs { rpc, waiting: None })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Join>,
        Join(player, reply): Join,
        pairs: &mut Pairs,
    ) -> Result<(), ActorProcessingErr> {
        let Some(Join(other, first)) = pairs.waiting.take() else {
            pairs.waiting = Some(Join(player, reply));
            return Ok(());
        };
        // Any node that hosts rooms will do, and if one has just gone, another is asked.
        let opened = pairs.rpc.call::<(), Room>(&"rooms.open".parse()?, &()).await;
        match opened {
            Ok(room) => {
                // A player who has gone away is no reason to fail.
                first.send((room.clone(), player)).ok();
                reply.send((room, other)).ok();
            }
            Err(error) => {
                first.fail(error.to_string());
                reply.fail(error.to_string());
            }
        }
        Ok(())
    }
}

/// Opens rooms on a node.
async fn host(node: &Node, name: &'static str) -> anyhow::Result<()> {
    let rooms = Arc::new(AtomicU64::new(0));
    let open = move |(): (), _| {
        let room = rooms.fetch_add(1, Ordering::Relaxed) + 1;
        async move { Ok::<Room, String>((name.to_owned(), room)) }
    };
    // A room that nobody comes to does no harm, so it may be asked for again.
    let options = Options { idempotent: true, ..Options::default() };
    node.rpc().advertise(&"rooms.open".parse()?, &options, open)?.keep();
    node.rpc().announced().await;
    Ok(())
}

/// Lets some players find a match, from all these nodes.
async fn play(
    nodes: &[&Node],
    players: std::ops::Range<u64>,
) -> anyhow::Result<Vec<(u64, Room, u64)>> {
    let mut playing = JoinSet::new();
    for (player, node) in players.zip(nodes.iter().cycle()) {
        let rpc = node.rpc().clone();
        playing.spawn(async move {
            let joined = rpc.call::<u64, (Room, u64)>(&"match.join".parse()?, &player).await;
            let (room, against) = joined.with_context(|| format!("player {player}"))?;
            anyhow::Ok((player, room, against))
        });
    }
    playing.join_all().await.into_iter().collect()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let realm = EphemeralRealm::new()?;
    let one = join(&realm, None).await?;
    let (two, three) = tokio::try_join!(join(&realm, Some(&one)), join(&realm, Some(&one)))?;
    host(&two, "two").await?;
    host(&three, "three").await?;
    let rpc = one.rpc().clone();
    let worker = Worker::new("matchmaker", move || (Matchmaker, rpc.clone()))?;
    let matchmaker = one.spawn(worker).await?;
    let options = Options::default();
    one.rpc().advertise_actor(&"match.join".parse()?, &options, &matchmaker, Join)?.keep();
    one.rpc().announced().await;

    let mut matches = play(&[&one, &two, &three], 0..PLAYERS / 2).await?;
    two.stop().await?;
    matches.extend(play(&[&one, &three], PLAYERS / 2..PLAYERS).await?);

    // Each player has one match, against whoever has it too, and no room has more than one.
    let against: BTreeMap<u64, (Room, u64)> =
        matches.iter().map(|(player, room, other)| (*player, (room.clone(), *other))).collect();
    anyhow::ensure!(against.len() as u64 == PLAYERS, "{} players have a match", against.len());
    for (player, (room, other)) in &against {
        let back = against.get(other);
        anyhow::ensure!(back == Some(&(room.clone(), *player)), "{player} and {other}: {back:?}");
    }
    let rooms: BTreeSet<&Room> = against.values().map(|(room, _)| room).collect();
    let late = matches.iter().skip(usize::try_from(PLAYERS / 2)?);
    anyhow::ensure!(rooms.len() as u64 == PLAYERS / 2, "{} rooms", rooms.len());
    anyhow::ensure!(late.clone().all(|(_, (node, _), _)| node == "three"), "a room on a lost node");
    macula_examples::say(&format!("{} players, {} rooms", against.len(), rooms.len()));
    one.stop().await?;
    three.stop().await?;
    Ok(())
}
