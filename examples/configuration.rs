//! Configuration by watch: what is said once holds on all nodes, each of which hears of each change in its
//! order, though the group loses a voter meanwhile. Two who change it at one time do not overwrite one
//! another: the second one is told, and looks again.

use anyhow::Context as _;
use macula_workload::identity::EphemeralRealm;
use macula_workload::kv::{Kv, Typed, WatchError};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

/// The key.
const LIMITS: &str = "config/limits";

/// How often it is changed.
const CHANGES: u32 = 20;

/// What is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Limits {
    players_max: u32,
    /// Whether there are no more changes.
    is_final: bool,
}

/// Follows the configuration until its last change, and gives all that it has held.
async fn follow(kv: Kv) -> anyhow::Result<Vec<Limits>> {
    let mut held = Vec::new();
    // First it is read, and then watched from there on; so nothing is missed between the two.
    let (limits, mut since) =
        kv.typed::<Limits>().get(LIMITS).await?.context("no configuration")?;
    held.push(limits);
    while held.last().is_some_and(|limits| !limits.is_final) {
        let mut watch = kv.watch(LIMITS, Some(since)).await?;
        match watch.next().await {
            Ok(event) => {
                since = event.revision;
                let item = event.item.context("the configuration is gone")?;
                held.push(Typed::<Limits>::decode(&item)?);
            }
            // Nothing is missed: it goes on when a voter answers.
            Err(WatchError::NoAnswer(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(held)
}

/// Changes the configuration as it stands, however many others do at the same time. Gives how often it had
/// to look again.
async fn change(kv: &Kv, how: impl Fn(Limits) -> Limits) -> anyhow::Result<u32> {
    let typed = kv.typed::<Limits>();
    let mut again = 0;
    loop {
        let (limits, revision) = typed.get(LIMITS).await?.context("no configuration")?;
        if typed.compare_and_set(LIMITS, Some(revision), &how(limits)).await?.is_some() {
            return Ok(again);
        }
        again += 1;
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let [one, two, three] = macula_examples::voters(&EphemeralRealm::new()?).await?;
    let first = Limits { players_max: 0, is_final: false };
    one.kv().typed().put(LIMITS, &first).await?;
    let followers: Vec<JoinHandle<_>> =
        [&one, &two].map(|node| tokio::spawn(follow(node.kv().clone()))).into();

    // Two change it at one time, and in the middle of it a voter goes.
    let raise = |limits: Limits| Limits { players_max: limits.players_max + 1, ..limits };
    let changes = |kv: Kv| async move {
        let mut again = 0;
        for _ in 0..CHANGES / 2 {
            again += change(&kv, raise).await?;
        }
        anyhow::Ok(again)
    };
    let mut begun = one.kv().watch(LIMITS, None).await?;
    let (here, there) =
        (tokio::spawn(changes(one.kv().clone())), tokio::spawn(changes(two.kv().clone())));
    begun.next().await?;
    three.stop().await?;
    let again = here.await?? + there.await??;
    change(one.kv(), |limits| Limits { is_final: true, ..limits }).await?;

    for follower in followers {
        let held = follower.await??;
        let last = held.last().context("nothing was heard")?;
        anyhow::ensure!(last.players_max == CHANGES && last.is_final, "a change is lost: {last:?}");
        let is_next = |pair: &[Limits]| {
            let [before, after] = pair else { return false };
            after.is_final || after.players_max == before.players_max + 1
        };
        anyhow::ensure!(held.windows(2).all(is_next), "a change was not heard: {held:?}");
    }
    macula_examples::say(&format!("{CHANGES} changes heard by all, none lost"));
    macula_examples::say(&format!("{again} were made anew, because another one came first"));
    one.stop().await?;
    two.stop().await?;
    Ok(())
}
