//! openraft's own tests of a store.

use openraft::storage::RaftStateMachine as _;
use openraft::testing::{StoreBuilder, Suite};

use super::super::log::LogStore;
use super::super::machine::Machine;
use super::super::media::Memory;
use super::super::snapshots::Snapshots;
use super::super::types::{StorageError, Types};
use super::{Sum, open};

struct Builder;

impl StoreBuilder<Types, LogStore, Machine<Sum>> for Builder {
    async fn build(&self) -> Result<((), LogStore, Machine<Sum>), StorageError> {
        let machine = Machine::open(Snapshots::open(&Memory::default()).unwrap(), None).unwrap();
        Ok(((), open(&Memory::default()).unwrap(), machine))
    }
}

#[test]
fn the_store_is_what_openraft_asks_for() {
    Suite::test_all(Builder).unwrap();
}

#[tokio::test]
async fn a_state_without_a_snapshot_has_applied_nothing() {
    let (_, _, mut machine) = Builder.build().await.unwrap();
    assert_eq!(machine.applied_state().await.unwrap().0, None);
}
