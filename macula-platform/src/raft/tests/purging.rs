//! What is purged from a log is in a snapshot that is on disk.

use std::time::Duration;

use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _};

use super::super::media::StoreError;
use super::super::media::faulty::Faulty;
use super::super::snapshots::Snapshots;
use super::super::types::SnapshotMeta;
use super::{all, entry, log_id, open};

#[tokio::test]
async fn nothing_is_purged_before_a_snapshot_that_has_it_is_on_disk() {
    let disk = Faulty::new(1);
    let mut log = open(&disk).unwrap();
    let snapshots = Snapshots::open(&disk).unwrap();
    log.goes_with(&snapshots).unwrap();
    log.blocking_append((0..8).map(|index| entry(3, index))).await.unwrap();
    let image = snapshots.begin().end().unwrap();
    let mut other = log.clone();
    let mut purging = tokio::spawn(async move { other.purge(log_id(3, 5)).await });
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut purging).await.is_err());
    log.flushed().await.unwrap();
    assert_eq!(all(&mut log).await.len(), 8);
    let meta = SnapshotMeta { last_log_id: Some(log_id(3, 5)), ..SnapshotMeta::default() };
    image.install(&meta).unwrap();
    purging.await.unwrap().unwrap();
    assert_eq!(all(&mut log).await.len(), 2);
    // Whoever waits for one that comes to nothing is told.
    let mut other = log.clone();
    let purging = tokio::spawn(async move { other.purge(log_id(3, 6)).await });
    snapshots.fail();
    purging.await.unwrap().unwrap_err();
    assert_eq!(all(&mut log).await.len(), 2);
}

#[tokio::test]
async fn a_log_whose_snapshot_is_gone_is_damaged() {
    let (disk, other) = (Faulty::new(1), Faulty::new(2));
    let mut log = open(&disk).unwrap();
    log.blocking_append((0..8).map(|index| entry(3, index))).await.unwrap();
    log.purge(log_id(3, 5)).await.unwrap();
    log.flushed().await.unwrap();
    drop(log);
    disk.reboot();
    let log = open(&disk).unwrap();
    let damaged = log.goes_with(&Snapshots::open(&other).unwrap()).unwrap_err();
    assert!(matches!(damaged, StoreError::Damaged { .. }), "{damaged}");
}
