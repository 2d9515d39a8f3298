//! The power is cut before each write and each sync of a store, one after the other.

use openraft::RaftSnapshotBuilder as _;
use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _, RaftStateMachine as _};

use super::super::machine::Machine;
use super::super::media::faulty::Faulty;
use super::super::snapshots::Snapshots;
use super::super::types::{Entry, LogId, Vote};
use super::{Sum, all, entry, log_id, open, vote};

/// What was acknowledged before the power went.
#[derive(Debug, Default)]
struct Acknowledged {
    vote: Option<Vote>,
    entries: Vec<Entry>,
    purged: Option<LogId>,
    snapshot: Option<LogId>,
}

/// What may have been done and was not acknowledged.
#[derive(Debug, Default)]
struct Begun {
    truncates: Option<u64>,
    purges: Option<u64>,
}

/// Does what a member does with its store until that fails.
async fn live(disk: &Faulty, told: &mut Acknowledged, begun: &mut Begun) -> Option<()> {
    let mut log = open(disk).ok()?;
    let mut machine = Machine::<Sum>::open(Snapshots::open(disk).ok()?, None).ok()?;
    for (round, term) in [1_u64, 1, 2, 3].into_iter().zip(1..) {
        log.save_vote(&vote(term)).await.ok()?;
        told.vote = Some(vote(term));
        let from = told.entries.last().map_or(0, |last| last.log_id.index + 1);
        let fresh: Vec<Entry> = (from..from + 5).map(|index| entry(term, index)).collect();
        log.blocking_append(fresh.clone()).await.ok()?;
        log.flushed().await.ok()?;
        told.entries.extend(fresh);
        machine
            .apply(told.entries.iter().filter(|e| e.log_id.index >= from).cloned())
            .await
            .ok()?;
        if round == 1 && term == 2 {
            begun.truncates = Some(from + 2);
            log.truncate(log_id(term, from + 2)).await.ok()?;
            told.entries.retain(|entry| entry.log_id.index < from + 2);
            begun.truncates = None;
        }
        if round == 2 {
            let snapshot = machine.get_snapshot_builder().await.build_snapshot().await.ok()?;
            told.snapshot = snapshot.meta.last_log_id;
            let to = told.entries.get(3)?.log_id;
            begun.purges = Some(to.index);
            log.purge(to).await.ok()?;
            log.flushed().await.ok()?;
            told.entries.retain(|entry| entry.log_id.index > to.index);
            told.purged = Some(to);
            begun.purges = None;
        }
    }
    Some(())
}

/// Looks whether all that was acknowledged is there.
async fn check(disk: &Faulty, told: &Acknowledged, begun: &Begun) -> Result<(), String> {
    let mut log = open(disk).map_err(|error| format!("the log: {error}"))?;
    let snapshots = Snapshots::open(disk).map_err(|error| format!("the snapshots: {error}"))?;
    let vote = log.read_vote().await.unwrap();
    if vote < told.vote {
        return Err(format!("the vote is {vote:?}, and was {:?}", told.vote));
    }
    let there = all(&mut log).await;
    for entry in &told.entries {
        let index = entry.log_id.index;
        let may_be_gone = begun.truncates.is_some_and(|from| index >= from)
            || begun.purges.is_some_and(|to| index <= to);
        if !may_be_gone && !there.contains(entry) {
            return Err(format!("{} was lost", entry.log_id));
        }
    }
    if log.get_log_state().await.unwrap().last_purged_log_id < told.purged {
        return Err("what is purged is forgotten".to_owned());
    }
    let current = snapshots.current().and_then(|(meta, _)| meta.last_log_id);
    if current < told.snapshot {
        return Err(format!("the snapshot is {current:?}, and was {:?}", told.snapshot));
    }
    Ok(())
}

/// Cuts the power before the write or sync number `at`. Tells whether there was one.
async fn cut_at(at: u64, seed: u64, skips_syncs: bool) -> Result<bool, String> {
    let disk = Faulty::new(seed);
    if skips_syncs {
        disk.skip_syncs();
    }
    disk.cut_after(at);
    let (mut told, mut begun) = (Acknowledged::default(), Begun::default());
    live(&disk, &mut told, &mut begun).await;
    let was_cut = disk.is_off();
    disk.reboot();
    check(&disk, &told, &begun).await.map_err(|why| format!("cut at {at}, seed {seed}: {why}"))?;
    Ok(was_cut)
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_cut_before_any_write_or_sync() {
    let mut at = 0;
    while cut_at(at, at, false).await.unwrap() {
        at += 1;
    }
    assert!(at > 100, "there were {at} writes and syncs");
}

#[tokio::test]
async fn a_sync_that_is_left_out_is_caught() {
    let mut caught = 0;
    for at in 0..200 {
        caught += u32::from(cut_at(at, at, true).await.is_err());
    }
    assert!(caught > 10, "{caught} of 200");
}
