//! The power is cut before each write and each sync of a store, one after the other; and each sync fails.

use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _, RaftStateMachine as _};
use openraft::{RaftSnapshotBuilder as _, Snapshot};

use super::super::log::LogStore;
use super::super::machine::Machine;
use super::super::media::StoreError;
use super::super::media::faulty::Faulty;
use super::super::snapshots::Snapshots;
use super::super::types::{Entry, LogId, Types, Vote};
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

/// Has the sync number `at` fail. The store is opened again by a process of the same system, which still shows
/// what is not on disk, and counts what it finds; then the power goes. Tells whether a sync has failed.
async fn fail_at(at: u64, skips_syncs: bool) -> Result<bool, String> {
    let failed = |why: String| format!("sync {at} fails: {why}");
    let disk = Faulty::new(at);
    disk.fail_sync_after(at);
    let (mut told, mut begun) = (Acknowledged::default(), Begun::default());
    live(&disk, &mut told, &mut begun).await;
    let has_failed = disk.has_failed();
    disk.fail_sync_after(u64::MAX);
    disk.close_all();
    if skips_syncs {
        disk.skip_syncs();
    }
    let counted = {
        let mut log = open(&disk).map_err(|error| failed(format!("the log: {error}")))?;
        let snapshots = Snapshots::open(&disk);
        let snapshots = snapshots.map_err(|error| failed(format!("the snapshots: {error}")))?;
        Acknowledged {
            vote: log.read_vote().await.unwrap(),
            entries: all(&mut log).await,
            purged: log.get_log_state().await.unwrap().last_purged_log_id,
            snapshot: snapshots.current().and_then(|(meta, _)| meta.last_log_id),
        }
    };
    disk.reboot();
    check(&disk, &told, &begun).await.map_err(failed)?;
    // Whoever has opened it has acknowledged to others all that it has found.
    disk.reboot();
    check(&disk, &counted, &Begun::default()).await.map_err(failed)?;
    Ok(has_failed)
}

#[tokio::test]
async fn what_a_sync_that_failed_has_left_counts_only_once_it_is_on_disk() {
    let mut at = 0;
    while fail_at(at, false).await.unwrap() {
        at += 1;
    }
    assert!(at > 20, "there were {at} syncs");
}

#[tokio::test]
async fn what_is_believed_after_a_sync_that_failed_is_caught() {
    let mut caught = 0;
    for at in 0..40 {
        caught += u32::from(fail_at(at, true).await.is_err());
    }
    assert!(caught > 0, "none of 40");
}

/// Takes over what another member has a snapshot of, as openraft has it: the snapshot is made the current
/// one while what it has is purged.
async fn take_over(
    log: &mut LogStore,
    machine: &mut Machine<Sum>,
    sent: &Snapshot<Types>,
) -> Option<()> {
    let mut draft = machine.snapshots().begin();
    for at in 0..sent.snapshot.chunks() {
        draft.add(sent.snapshot.chunk(at).ok()?).ok()?;
    }
    let image = Box::new(draft.end().ok()?);
    let last = sent.meta.last_log_id?;
    let (installed, purged) =
        tokio::join!(machine.install_snapshot(&sent.meta, image), log.purge(last));
    installed.ok()?;
    // What was there before may be purged or not.
    if purged.is_ok() {
        drop(log.flushed().await);
    }
    Some(())
}

/// Cuts the power before the write or sync number `at` while a snapshot is taken over. Tells whether there
/// was one.
async fn install_cut_at(at: u64, skips_syncs: bool) -> Result<bool, String> {
    let failed = |why: String| format!("cut at {at}: {why}");
    let open_all = |disk: &Faulty| -> Result<(LogStore, Machine<Sum>), String> {
        let failed = |error: StoreError| format!("cut at {at}: {error}");
        let (log, snapshots) =
            (open(disk).map_err(failed)?, Snapshots::open(disk).map_err(failed)?);
        log.goes_with(&snapshots).map_err(failed)?;
        Ok((log, Machine::open(snapshots, None).map_err(failed)?))
    };
    let (_source, mut from) = open_all(&Faulty::new(1))?;
    from.apply((0..8).map(|index| entry(1, index))).await.unwrap();
    let sent = from.build_snapshot().await.unwrap();
    let disk = Faulty::new(at);
    let own: Vec<Entry> = (0..3).map(|index| entry(1, index)).collect();
    let before = {
        let (mut log, mut machine) = open_all(&disk)?;
        log.save_vote(&vote(1)).await.unwrap();
        log.blocking_append(own.clone()).await.unwrap();
        log.flushed().await.unwrap();
        machine.apply(own.clone()).await.unwrap();
        machine.build_snapshot().await.unwrap();
        machine.state().clone()
    };
    disk.reboot();
    let (mut log, mut machine) = open_all(&disk)?;
    if skips_syncs {
        disk.skip_syncs();
    }
    disk.cut_after(at);
    let is_installed = take_over(&mut log, &mut machine, &sent).await.is_some();
    let was_cut = disk.is_off();
    drop((log, machine));
    disk.reboot();
    let (mut log, machine) = open_all(&disk)?;
    let (state, whole) = (machine.state().clone(), from.state().clone());
    if state != whole && (is_installed || state != before) {
        return Err(failed(format!(
            "the state is {state:?}, was {before:?}, and is to be {whole:?}"
        )));
    }
    if state == before && all(&mut log).await != own {
        return Err(failed("entries are gone that no snapshot has".to_owned()));
    }
    if log.read_vote().await.unwrap() != Some(vote(1)) {
        return Err(failed("the vote is gone".to_owned()));
    }
    Ok(was_cut)
}

#[tokio::test]
async fn who_loses_its_power_while_it_takes_a_snapshot_over_has_all_of_it_or_what_it_had() {
    let mut at = 0;
    while install_cut_at(at, false).await.unwrap() {
        at += 1;
    }
    assert!(at > 5, "there were {at} writes and syncs");
}

#[tokio::test]
async fn a_snapshot_that_is_taken_over_without_a_sync_is_caught() {
    let mut caught = 0;
    for at in 0..60 {
        caught += u32::from(install_cut_at(at, true).await.is_err());
    }
    assert!(caught > 0, "none of 60");
}
