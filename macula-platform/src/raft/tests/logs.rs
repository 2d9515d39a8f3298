//! Reading a log that is longer than what is kept in memory.

use bytes::Bytes;
use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _};
use openraft::{EntryPayload, RaftLogReader as _};

use super::super::media::Memory;
use super::super::types::{Command, Entry};
use super::{all, log_id, open};

/// More than the cache holds.
const ENTRIES: u64 = 100;
const LEN: usize = 200 << 10;

fn long(index: u64) -> Entry {
    let body = Bytes::from(vec![u8::try_from(index % 251).unwrap(); LEN]);
    Entry { log_id: log_id(1, index), payload: EntryPayload::Normal(Command(body)) }
}

#[tokio::test]
async fn all_of_a_long_log_is_read_while_it_is_written() {
    let mut log = open(&Memory::default()).unwrap();
    let mut reader = log.get_log_reader().await;
    for index in 0..ENTRIES {
        log.blocking_append([long(index)]).await.unwrap();
        let there = reader.try_get_log_entries(..).await.unwrap();
        assert_eq!(there.len() as u64, index + 1);
        assert_eq!(there.last(), Some(&long(index)));
    }
    let indexes = |entries: Vec<Entry>| entries.iter().map(|e| e.log_id.index).collect::<Vec<_>>();
    assert_eq!(indexes(all(&mut log).await), (0..ENTRIES).collect::<Vec<_>>());
    // What is read together has a bound, and is never nothing.
    let (mut next, mut parts) = (0, 0);
    while next < ENTRIES {
        let part = indexes(log.limited_get_log_entries(next, ENTRIES).await.unwrap());
        assert_eq!(part.first(), Some(&next));
        assert!(part.is_sorted_by(|one, other| one + 1 == *other) && part.len() < 20, "{part:?}");
        (next, parts) = (part.last().unwrap() + 1, parts + 1);
    }
    assert!(parts > 10, "{parts} parts");
    log.purge(log_id(1, 49)).await.unwrap();
    assert_eq!(indexes(all(&mut log).await), (50..ENTRIES).collect::<Vec<_>>());
    log.truncate(log_id(1, 70)).await.unwrap();
    assert_eq!(indexes(all(&mut log).await), (50..70).collect::<Vec<_>>());
}
