//! The scenario: every node adds to two sets and counts, all the time; and tells what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use macula_tests::world::{Life, Log, Look, Scenario, What};
use macula_workload::Node;
use macula_workload::crdt::types::OrSet;
use macula_workload::crdt::{Crdts, Error, Key, Level};

/// How long faults come.
pub(crate) const STORM: Duration = Duration::from_secs(8);

/// How long a write waits for its level.
const WITHIN: Duration = Duration::from_millis(1_500);

/// The bucket that nobody keeps on disk, and the one that all do.
pub(crate) const MEMORY: &str = "memory";
pub(crate) const DISK: &str = "disk";

/// How many nodes there are.
const NODES: usize = 3;

/// A bug that is put in on purpose, or what is not to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A client asks one node and believes that it was a majority.
    TakesOneForAMajority,
    /// What is to be on disk is in memory.
    ForgetsTheDisk,
    /// None: but more nodes crash than a majority can miss.
    HasNoMajorities,
}

/// What the log is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Seen {
    /// An element is about to be added, or a number to be counted.
    Asked { element: u64 },
    /// It was acknowledged: as being at a majority, or on the node's disk.
    Acknowledged { bucket: &'static str, element: u64 },
    /// What the node has.
    Has(State),
    /// It does not say.
    Silent { why: String },
}

/// What a node has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct State {
    kept: BTreeMap<&'static str, BTreeSet<u64>>,
    sum: i128,
}

/// The scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sharing {
    /// How many nodes there are in the end.
    pub(crate) remain: usize,
    pub(crate) bug: Option<Bug>,
}

fn set(crdts: &Crdts, bucket: &str) -> Key<OrSet, u64> {
    crdts.or_set(&format!("{bucket}/kept"))
}

async fn state(node: &Node) -> Result<State, Error> {
    let mut state = State::default();
    for bucket in [MEMORY, DISK] {
        let elements = set(node.crdt(), bucket).elements().await?;
        state.kept.insert(bucket, elements.into_iter().collect());
    }
    state.sum = node.crdt().counter("memory/sum").value().await?;
    Ok(state)
}

impl Scenario for Sharing {
    type Seen = Seen;

    async fn live(&self, life: Life<Seen>) {
        for bucket in [MEMORY, DISK] {
            life.spawn(write_always(life.clone(), bucket, self.bug));
        }
        life.spawn(tell_always(life.clone()));
    }

    fn healed(&self, look: &Look<'_, Seen>) -> bool {
        let running = look.nodes().iter().flatten().count();
        let last = look.log().read(|entries| {
            let mut last = BTreeMap::new();
            for entry in entries {
                match &entry.what {
                    What::Seen(Seen::Has(state)) => drop(last.insert(entry.node, state.clone())),
                    What::Crashed => drop(last.remove(&entry.node)),
                    _ => {}
                }
            }
            last.into_values().collect::<Vec<_>>()
        });
        running == self.remain
            && last.len() == self.remain
            && last.windows(2).all(|pair| pair[0] == pair[1])
    }

    fn check(&self, log: &Log<Seen>) -> Result<(), String> {
        let expects_majorities =
            self.bug != Some(Bug::HasNoMajorities) && self.bug != Some(Bug::ForgetsTheDisk);
        log.read(|entries| {
            let (mut asked, mut acknowledged) = (BTreeSet::new(), Vec::new());
            let (mut last, mut is_over) = (BTreeMap::new(), false);
            for entry in entries {
                match &entry.what {
                    What::Healed => is_over = true,
                    What::Seen(Seen::Asked { element }) => drop(asked.insert(*element)),
                    What::Seen(Seen::Acknowledged { bucket, element }) => {
                        acknowledged.push((entry.node, *bucket, *element));
                    }
                    What::Seen(Seen::Has(state)) => drop(last.insert(entry.node, state)),
                    What::Crashed => drop(last.remove(&entry.node)),
                    _ => {}
                }
            }
            if !is_over || last.len() != self.remain {
                return Err(format!("{} nodes say what they have", last.len()));
            }
            for (node, bucket, element) in &acknowledged {
                // What one that is gone for good had on its disk is gone with it.
                let counts = match *bucket {
                    DISK => last.contains_key(node),
                    _ => expects_majorities,
                };
                for (at, state) in last.iter().filter(|_| counts) {
                    if !state.kept.get(bucket).is_some_and(|kept| kept.contains(element)) {
                        return Err(format!(
                            "{element:x} of {bucket}, acknowledged by node {node}, is lost at node {at}"
                        ));
                    }
                }
            }
            for (at, state) in &last {
                let strange = state.kept.values().flatten().find(|it| !asked.contains(it));
                if let Some(strange) = strange {
                    return Err(format!("node {at} has {strange:x}, which nobody has added"));
                }
                let counted = acknowledged.iter().filter(|(_, bucket, _)| *bucket == MEMORY).count();
                let (least, most) = (i128::try_from(counted), i128::try_from(asked.len()));
                let is_right = state.sum >= least.unwrap_or(0) && state.sum <= most.unwrap_or(0);
                if expects_majorities && !is_right {
                    return Err(format!("the sum is {} at node {at}: {counted} is lost", state.sum));
                }
            }
            Ok(())
        })
    }
}

/// Adds elements that nobody else adds, as long as faults come. In memory what counts is a majority of the
/// three, once all know of each other; on disk it is the own one.
async fn write_always(mut life: Life<Seen>, bucket: &'static str, bug: Option<Bug>) {
    let wide = |number: usize| u64::try_from(number).unwrap();
    let kind = u64::from(bucket == DISK);
    let node = life.node.clone();
    let lies = bug == Some(Bug::TakesOneForAMajority);
    let level = if bucket == DISK || lies { Level::Local } else { Level::Majority };
    let set = set(node.crdt(), bucket).at(level).within(WITHIN);
    let sum = node.crdt().counter("memory/sum").at(level).within(WITHIN);
    for n in 0.. {
        tokio::time::sleep(Duration::from_millis(life.entropy.below(150) + 1)).await;
        if life.now() >= STORM {
            return;
        }
        let stats = node.crdt().stats(bucket).await;
        if bucket == MEMORY && stats.map_or(true, |stats| stats.members < NODES) {
            continue;
        }
        let element = (wide(life.index) << 56) | (kind << 48) | (life.number << 32) | n;
        life.saw(Seen::Asked { element });
        // The sum is the count of all that were asked, and no more.
        let counted = bucket == DISK || sum.count(1).await.is_ok();
        if set.add(&element).await.is_ok() && counted {
            life.saw(Seen::Acknowledged { bucket, element });
        }
    }
}

/// Tells what the node has, when faults have ended, whenever that is something else.
async fn tell_always(life: Life<Seen>) {
    let mut told = None;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if life.now() < STORM {
            continue;
        }
        let seen = match state(&life.node).await {
            Ok(state) => Seen::Has(state),
            Err(error) => Seen::Silent { why: error.to_string() },
        };
        if told.as_ref() != Some(&seen) {
            life.saw(seen.clone());
            told = Some(seen);
        }
    }
}
