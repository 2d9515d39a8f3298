//! A bit on disk is not what was written.

use openraft::RaftSnapshotBuilder as _;
use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _, RaftStateMachine as _};

use super::super::machine::Machine;
use super::super::media::faulty::Faulty;
use super::super::media::{Medium as _, set_aside};
use super::super::sealed;
use super::super::snapshots::Snapshots;
use super::super::types::{Entry, Vote};
use super::{Sum, all, entry, open, vote};

/// How many bytes lie between two that are damaged, but for the header, where each is.
const STEP: usize = 97;

/// The copy of the header, the header of the file and its two commits, in bytes.
const HEADER_LEN: usize = 4_096 + 320;

async fn written() -> (Faulty, Vec<Entry>, Vote) {
    let disk = Faulty::new(1);
    {
        let mut log = open(&disk).unwrap();
        log.save_vote(&vote(3)).await.unwrap();
        for index in 0..8 {
            log.blocking_append([entry(3, index)]).await.unwrap();
        }
        log.flushed().await.unwrap();
        let mut machine = Machine::<Sum>::open(Snapshots::open(&disk).unwrap(), None).unwrap();
        machine.apply((0..8).map(|index| entry(3, index))).await.unwrap();
        machine.build_snapshot().await.unwrap();
    }
    // The writer still holds the file for a moment.
    disk.reboot();
    (disk, (0..8).map(|index| entry(3, index)).collect(), vote(3))
}

/// Bytes, and which of their bits are turned over: each of a header, one of others.
fn places(len: usize) -> impl Iterator<Item = (usize, u8)> {
    let copied = (0..len.min(HEADER_LEN)).filter(|at| *at < 600 || *at >= 4_096);
    let header = copied.flat_map(|at| (0..8).map(move |bit| (at, 1 << bit)));
    header.chain((HEADER_LEN..len).step_by(STEP).map(|at| (at, 1 << (at % 8))))
}

#[tokio::test]
async fn a_log_with_another_bit_is_refused_or_is_what_it_was() {
    let (disk, entries, vote) = written().await;
    let whole = disk.bytes("log.redb");
    let mut refused = 0;
    for (at, bit) in places(whole.len()) {
        let mut bytes = whole.clone();
        bytes[at] ^= bit;
        disk.put("log.redb", &bytes);
        disk.reboot();
        match open(&disk) {
            Err(_) => refused += 1,
            Ok(mut log) => {
                assert_eq!(all(&mut log).await, entries, "byte {at}, bit {bit}");
                assert_eq!(log.read_vote().await.unwrap(), Some(vote), "byte {at}, bit {bit}");
            }
        }
    }
    assert!(refused > 20, "{refused} were refused");
}

#[tokio::test]
async fn a_copy_of_the_header_with_another_bit_is_made_again() {
    let (disk, entries, _) = written().await;
    let whole = disk.bytes("log.redb");
    let is_sound = |bytes: &[u8]| {
        sealed::open_bytes("copy", b"header", &bytes[..512 + sealed::OVERHEAD]).is_ok()
    };
    assert!(is_sound(&whole));
    for at in (0..512 + sealed::OVERHEAD).step_by(37) {
        let mut bytes = whole.clone();
        // The version of the copy is not checked, but its checksum is.
        let at = at.max(1);
        bytes[at] ^= 1;
        disk.put("log.redb", &bytes);
        disk.reboot();
        assert_eq!(all(&mut open(&disk).unwrap()).await, entries, "byte {at}");
        // The writer still holds the file for a moment.
        disk.reboot();
        assert!(is_sound(&disk.bytes("log.redb")), "byte {at}");
    }
}

#[test]
fn what_was_set_aside_stays_whatever_is_set_aside_after_it() {
    let disk = Faulty::new(1);
    for content in ["first", "second", "third"] {
        disk.put("log.redb", content.as_bytes());
        set_aside(&disk, &["log.redb", "never.redb"], "damaged-7").unwrap();
    }
    let names = ["log.redb.damaged-7", "log.redb.damaged-7-2", "log.redb.damaged-7-3"];
    let kept = names.map(|name| disk.bytes(name));
    assert_eq!(kept, [&b"first"[..], b"second", b"third"]);
    assert!(!disk.has("log.redb").unwrap());
}

#[tokio::test]
async fn a_snapshot_with_another_bit_is_refused_or_is_what_it_was() {
    let (disk, ..) = written().await;
    let whole = disk.bytes("snapshots.redb");
    let before = Machine::<Sum>::open(Snapshots::open(&disk).unwrap(), None).unwrap();
    let expected = before.state().clone();
    assert_eq!(expected.1, 7);
    for (at, bit) in places(whole.len()) {
        let mut bytes = whole.clone();
        bytes[at] ^= bit;
        disk.put("snapshots.redb", &bytes);
        disk.reboot();
        if let Ok(snapshots) = Snapshots::open(&disk)
            && let Ok(machine) = Machine::<Sum>::open(snapshots, None)
        {
            assert_eq!(*machine.state(), expected, "byte {at}, bit {bit}");
        }
    }
}
