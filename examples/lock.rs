//! A distributed lock with a fence: workers on three nodes change one thing, which none of them may do while
//! another does. A lock alone cannot promise that: a worker may be held up for longer than its lock
//! lasts, and go on. So each change comes with the lock's token, and the fence before the thing refuses
//! tokens that are older than one that it has seen.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use macula_workload::election::fence::{Fenced, Stale};
use macula_workload::election::{Candidacy, Elections, Event, Leadership, Options, Token};
use macula_workload::identity::EphemeralRealm;
use tokio::task::JoinSet;

/// The name of the lock.
const LOCK: &str = "ledger";

/// How many workers there are on each node, and how often each changes the ledger.
const WORKERS: usize = 2;
const CHANGES: u64 = 3;

/// What is protected. It could be in a file, or behind a service: what counts is that its fence is kept
/// with it.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Fenced<u64>>>);

impl Ledger {
    fn read(&self) -> u64 {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).get()
    }

    fn write(&self, value: u64, token: Token) -> Result<(), Stale> {
        let mut ledger = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *ledger.get_mut(token)? = value;
        Ok(())
    }
}

/// The lock, once this one has it. It is let go when both are dropped.
async fn lock(elections: &Elections) -> anyhow::Result<(Candidacy, Leadership)> {
    let mut candidacy = elections.campaign(LOCK, Options { ttl_ms: 1_000 })?;
    loop {
        match candidacy.next().await {
            Some(Event::Elected(leadership)) => return Ok((candidacy, leadership)),
            Some(Event::Deposed { .. }) => {}
            None => anyhow::bail!("the candidacy has ended"),
        }
    }
}

/// Adds one, so often: each time in two steps, between which nobody else may come.
async fn work(elections: Elections, ledger: Ledger) -> anyhow::Result<()> {
    for _ in 0..CHANGES {
        let (_candidacy, leadership) = lock(&elections).await?;
        let value = ledger.read();
        tokio::time::sleep(Duration::from_millis(10)).await;
        ledger.write(value + 1, leadership.token())?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let nodes = macula_examples::voters(&EphemeralRealm::new()?).await?;
    let ledger = Ledger::default();
    let mut working = JoinSet::new();
    for node in &nodes {
        for _ in 0..WORKERS {
            working.spawn(work(node.elections().clone(), ledger.clone()));
        }
    }
    while let Some(worked) = working.join_next().await {
        worked??;
    }
    let expected = nodes.len() as u64 * WORKERS as u64 * CHANGES;
    anyhow::ensure!(ledger.read() == expected, "{} changes of {expected}", ledger.read());

    // One has the lock, has read, and is held up for so long that another one has the lock since.
    let [one, two, _] = &nodes;
    let (candidacy, leadership) = lock(one.elections()).await?;
    let (late, value) = (leadership.token(), ledger.read());
    drop((candidacy, leadership));
    let (candidacy, leadership) = lock(two.elections()).await?;
    ledger.write(value + 1, leadership.token())?;
    drop((candidacy, leadership));
    let refused = ledger.write(value + 1, late);
    let Err(stale) = refused else { anyhow::bail!("a change is lost: token {late} came late") };
    macula_examples::say(&format!("{expected} changes by turns; then: {stale}"));
    for node in nodes {
        node.stop().await?;
    }
    Ok(())
}
