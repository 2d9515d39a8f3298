//! What clients see of a group that loses members, power and connections, judged afterwards.
//!
//! `MACULA_RAFT_SEEDS` says how many seeds are run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use parking_lot::Mutex;

use super::super::media::faulty::Faulty;
use super::super::member::{Config, Member, StartError};
use super::harness::{Group, SETTLED, node};
use super::linear::{Call, Op, is_linearizable};
use crate::kv::command::{Answer, Command, Condition, Holds, Once, Op as Change, Txn};
use crate::kv::state::State;

/// How many seeds are run if nothing else is said.
const SEEDS: u64 = 20;

/// How long faults last.
const STORM: Duration = Duration::from_secs(20);

const CLIENTS: u64 = 4;
const KEYS: u64 = 6;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is done wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// Members answer reads without asking whether they still lead.
    StaleReads,
    /// Disks say that all is written, and do not write it.
    SkippedSyncs,
}

type Members = Arc<Mutex<BTreeMap<u8, Arc<Member<State>>>>>;

/// All that clients have seen.
#[derive(Debug, Default)]
struct History {
    clock: u64,
    ops: BTreeMap<u64, Vec<Op>>,
}

fn key_of(key: u64) -> Bytes {
    Bytes::from(format!("key/{key}"))
}

fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(value.try_into().unwrap())
}

struct Client {
    id: u64,
    serial: u64,
    dice: Entropy,
    members: Members,
    history: Arc<Mutex<History>>,
    bug: Option<Bug>,
}

impl Client {
    async fn run(mut self, until: Instant) {
        while TokioClock.now() < until {
            tokio::time::sleep(Duration::from_millis(20 + self.dice.below(200))).await;
            let key = self.dice.below(KEYS);
            self.serial += 1;
            let fresh = self.id << 32 | self.serial;
            let call = match self.dice.below(4) {
                0 => Call::Write(fresh),
                1 => Call::Swap(self.guess(key), fresh, None),
                _ => Call::Read(None),
            };
            let at = {
                let mut history = self.history.lock();
                history.clock += 1;
                let began = history.clock;
                let ops = history.ops.entry(key).or_default();
                ops.push(Op { call: call.clone(), began, ended: None });
                ops.len() - 1
            };
            let answer = tokio::time::timeout(PATIENCE, self.ask(key, &call)).await;
            let Ok(Some(answered)) = answer else { continue };
            let mut history = self.history.lock();
            history.clock += 1;
            let ended = Some(history.clock);
            let op = &mut history.ops.get_mut(&key).unwrap()[at];
            (op.call, op.ended) = (answered, ended);
        }
    }

    /// What the key had when somebody last read it.
    fn guess(&self, key: u64) -> Option<u64> {
        let history = self.history.lock();
        let reads = history.ops.get(&key).into_iter().flatten().rev();
        reads.filter(|op| op.ended.is_some()).find_map(|op| match op.call {
            Call::Read(value) => value,
            Call::Write(value) => Some(Some(value)),
            Call::Swap(..) => None,
        })?
    }

    /// Asks members until one answers. Changes are asked for under one number, so that they are done
    /// once.
    async fn ask(&self, key: u64, call: &Call) -> Option<Call> {
        let mut is_again = false;
        loop {
            let members: Vec<_> = self.members.lock().values().cloned().collect();
            for member in members {
                if member.leader() != Some(member.id()) {
                    continue;
                }
                match call {
                    Call::Read(_) => {
                        let may_read =
                            self.bug == Some(Bug::StaleReads) || member.read_point().await.is_ok();
                        if may_read {
                            let value = member.state().get(&key_of(key)).map(|i| number(&i.value));
                            return Some(Call::Read(Some(value)));
                        }
                    }
                    Call::Write(_) | Call::Swap(..) => {
                        let command = self.command(key, call, is_again);
                        is_again = true;
                        if let Ok((_, answer)) = member.propose(command).await {
                            return told(call, &rmp_serde::from_slice(&answer).unwrap());
                        }
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn command(&self, key: u64, call: &Call, is_again: bool) -> Bytes {
        let key = key_of(key);
        let put = |value: u64| Change::Put {
            key: key.clone(),
            value: Bytes::copy_from_slice(&value.to_be_bytes()),
            lease: None,
        };
        let (conditions, then) = match call {
            Call::Swap(old, new, _) => {
                let holds = old.map_or(Holds::Absent, |old| {
                    Holds::Is(Bytes::copy_from_slice(&old.to_be_bytes()))
                });
                (vec![Condition { key: key.clone(), holds }], vec![put(*new)])
            }
            Call::Write(new) => (vec![], vec![put(*new)]),
            Call::Read(_) => (vec![], vec![]),
        };
        let command = Command::Txn(Txn { conditions, then, otherwise: vec![] });
        let (session, serial) = (self.id.into(), self.serial);
        let once = Once { session, serial, done_below: serial, is_again, command };
        Bytes::from(rmp_serde::to_vec_named(&once).unwrap())
    }
}

/// A call with its answer; none if it is not known.
fn told(call: &Call, answer: &Answer) -> Option<Call> {
    match (call, answer) {
        (Call::Swap(old, new, _), Answer::Done { held, .. }) => {
            Some(Call::Swap(*old, *new, Some(*held)))
        }
        (call, Answer::Done { .. }) => Some(call.clone()),
        _ => None,
    }
}

/// Cuts, kills and mends, and never has a majority down.
async fn storm(
    group: &mut Group<State>,
    shown: &Members,
    dice: &mut Entropy,
    count: u8,
) -> Result<(), StartError> {
    let until = TokioClock.now() + STORM;
    while TokioClock.now() < until {
        tokio::time::sleep(Duration::from_millis(200 + dice.below(1_300))).await;
        let victim = 1 + u8::try_from(dice.below(count.into())).unwrap();
        let down = usize::from(count) - group.members.len();
        match dice.below(4) {
            0 => drop(group.wires.isolated.lock().insert(node(victim))),
            1 => group.wires.isolated.lock().clear(),
            2 if group.members.contains_key(&victim) && (down + 1) * 2 < usize::from(count) => {
                shown.lock().remove(&victim);
                group.kill(victim).await;
            }
            _ => {
                start_all(group, count).await?;
                shown.lock().clone_from(&group.members);
            }
        }
    }
    Ok(())
}

async fn start_all(group: &mut Group<State>, count: u8) -> Result<(), StartError> {
    for number in 1..=count {
        if !group.members.contains_key(&number) {
            group.try_start(number).await?;
        }
    }
    Ok(())
}

/// Runs a seed, and says what is wrong with what was seen.
async fn run(seed: u64, bug: Option<Bug>) -> Result<usize, String> {
    let mut dice = Entropy::from_seed(seed);
    let count = if seed.is_multiple_of(2) { 3 } else { 5 };
    let config = Config { snapshot_entries: 50, kept_entries: 10, ..Config::default() };
    let mut group = Group::<State>::of(count, config).await;
    if bug == Some(Bug::SkippedSyncs) {
        group.disks.values().for_each(Faulty::skip_syncs);
    }
    let members: Members = Arc::new(Mutex::new(group.members.clone()));
    let history: Arc<Mutex<History>> = Arc::default();
    let until = TokioClock.now() + STORM;
    let mut clients = tokio::task::JoinSet::new();
    for id in 1..=CLIENTS {
        let (members, history) = (Arc::clone(&members), Arc::clone(&history));
        let client = Client { id, serial: 0, dice: dice.fork(), members, history, bug };
        clients.spawn(client.run(until));
    }
    let refused = |error: StartError| format!("seed {seed}: a member does not start: {error}");
    storm(&mut group, &members, &mut dice, count).await.map_err(refused)?;
    while clients.join_next().await.is_some() {}
    // All is well again, and all that was promised has to be there.
    group.wires.isolated.lock().clear();
    start_all(&mut group, count).await.map_err(refused)?;
    let leader = group.members[&group.leader().await].clone();
    let healed = tokio::time::timeout(SETTLED, leader.read_point()).await;
    if !matches!(healed, Ok(Ok(()))) {
        return Err(format!("seed {seed}: it does not heal: {healed:?}"));
    }
    let mut history = history.lock();
    let mut calls = 0;
    for key in 0..KEYS {
        history.clock += 2;
        let (began, ended) = (history.clock - 1, Some(history.clock));
        let value = leader.state().get(&key_of(key)).map(|item| number(&item.value));
        let ops = history.ops.entry(key).or_default();
        ops.push(Op { call: Call::Read(Some(value)), began, ended });
        calls += ops.iter().filter(|op| op.ended.is_some()).count();
        if !is_linearizable(ops) {
            return Err(format!("seed {seed}: key {key} is not linearizable"));
        }
    }
    Ok(calls)
}

fn in_virtual_time<T>(what: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap().block_on(what)
}

#[test]
fn what_clients_see_is_one_register_for_each_key() {
    let seeds = std::env::var("MACULA_RAFT_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let mut calls = 0;
    for seed in 0..seeds {
        calls += in_virtual_time(run(seed, None)).unwrap();
    }
    // Most of a group may be cut off for long, but not always.
    let calls = calls / usize::try_from(seeds).unwrap().max(1);
    assert!(calls > 100, "a seed has {calls} calls that were answered");
}

fn finds(bug: Bug) {
    let found = (0..40).find_map(|seed| in_virtual_time(run(seed, Some(bug))).err());
    assert!(found.is_some(), "{bug:?} is not found");
}

#[test]
fn reads_that_ask_nobody_are_found() {
    finds(Bug::StaleReads);
}

#[test]
fn disks_that_write_nothing_are_found() {
    finds(Bug::SkippedSyncs);
}
