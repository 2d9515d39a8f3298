//! The platform's part of a node's tree.
//!
//! ```text
//! platform          one_for_one
//! ├─ consensus      rest_for_one    later parts stand on earlier ones: raft, kv
//! └─ replicator     one_for_one
//!    ├─ registers
//!    └─ crdt
//! ```

use std::time::Duration;

use macula_core::path::InvalidId;
use macula_core::supervision::{ChildSpec, Strategy, Supervisor, SupervisorHandle};

use crate::consensus::{self, Consensus};
use crate::crdt::{self, Replicator};
use crate::registers::{self, Registers};

/// How many restarts each of the tier's supervisors allows in [`PERIOD`].
const INTENSITY: u32 = 10;

/// The period of [`INTENSITY`].
const PERIOD: Duration = Duration::from_secs(60);

/// Handles to what runs in the tier. They are good before the start and across restarts.
#[derive(Debug, Clone)]
pub struct Platform {
    /// The node's registers.
    pub registers: Registers,
    /// Where consensus goes.
    pub consensus: SupervisorHandle,
    /// This node's part in the agreement of its realm.
    pub agreement: Consensus,
    /// Where replicated data types go.
    pub replicator: SupervisorHandle,
    /// The node's replicated types.
    pub types: Replicator,
}

/// Why the tier cannot be built. Nothing was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What the node does for agreement makes no sense.
    #[error("consensus: {0}")]
    Consensus(#[from] consensus::Error),
    /// What the node does for replicated types makes no sense.
    #[error("crdt: {0}")]
    Crdt(#[from] crdt::tree::BuildError),
    /// A name in the tree is none.
    #[error(transparent)]
    Id(#[from] InvalidId),
}

/// The child `platform` for a root's list, and the handles to what it will hold.
///
/// # Errors
///
/// [`Error`] if one of the configurations makes no sense.
pub fn spec(
    config: &consensus::Config,
    parts: consensus::Parts,
    types: crdt::tree::Parts,
) -> Result<(ChildSpec, Platform), Error> {
    let (consensus, agreement) = consensus::supervisor(config, parts)?;
    let (crdt, types) = crdt::tree::worker(types)?;
    let (worker, registers) = registers::worker(types.crdts.clone())?;
    let (consensus, consensus_handle) = consensus.split();
    let (replicator, replicator_handle) =
        supervisor("replicator", Strategy::OneForOne)?.child(worker).child(crdt).split();
    let platform = supervisor("platform", Strategy::OneForOne)?.child(consensus).child(replicator);
    let handles = Platform {
        registers,
        consensus: consensus_handle,
        agreement,
        replicator: replicator_handle,
        types,
    };
    Ok((platform.into(), handles))
}

fn supervisor(id: &str, strategy: Strategy) -> Result<Supervisor, InvalidId> {
    Ok(Supervisor::new(id)?.strategy(strategy).intensity(INTENSITY, PERIOD))
}

#[cfg(test)]
mod tests {
    use super::spec;
    use crate::consensus;
    use crate::crdt;
    use crate::kv::tests::world::Board;
    use crate::raft::tests::harness::{From, Lane, Wires, node};
    use macula_core::supervision::{Root, Supervisor, TreeNode, TreeOptions};
    use std::sync::Arc;

    fn alone() -> consensus::Parts {
        let way = |lane| Arc::new(From(Arc::<Wires>::default(), node(1), lane));
        consensus::Parts {
            node: node(1),
            has_seeds: false,
            raft: way(Lane::Raft),
            kv: way(Lane::Kv),
            change: way(Lane::Change),
            directory: Board::default().at(node(1)),
            new_life: 1,
            seed: 1,
        }
    }

    fn types() -> crdt::tree::Parts {
        let call = Arc::new(From(Arc::<Wires>::default(), node(1), Lane::Kv));
        let near = tokio::sync::watch::channel(<_>::default()).1;
        crdt::tree::Parts {
            settings: <_>::default(),
            kinds: <_>::default(),
            origin: crdt::tree::Origin { node: node(1), new_life: 1, seed: 1 },
            wiring: crdt::tree::Wiring { call, near },
        }
    }

    async fn start() -> (Root, super::Platform) {
        let built = spec(&<_>::default(), alone(), types());
        let (spec, platform) = built.unwrap();
        let root = Supervisor::new("root").unwrap().child(spec);
        (root.start(TreeOptions::default()).await.unwrap(), platform)
    }

    fn paths(node: &TreeNode, found: &mut Vec<String>) {
        found.push(node.path.to_string());
        for child in &node.children {
            paths(child, found);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_tree_has_its_parts_in_order() {
        let (root, platform) = start().await;
        let picture = root.snapshot().await;
        assert!(picture.is_healthy(), "{picture:?}");
        let mut found = Vec::new();
        paths(&picture, &mut found);
        assert_eq!(
            found,
            [
                "root",
                "platform",
                "platform/consensus",
                "platform/consensus/raft",
                "platform/consensus/kv",
                "platform/consensus/election",
                "platform/replicator",
                "platform/replicator/registers",
                "platform/replicator/crdt"
            ]
        );
        let path = platform.registers.handle().path().unwrap();
        assert_eq!(path.as_str(), "platform/replicator/registers");
        root.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn registers_outlive_their_supervisors() {
        let (root, platform) = start().await;
        platform.registers.put("kept", &1).await.unwrap();
        let mut events = root.events();
        platform.replicator.cell().unwrap().kill();
        while !events.recv().await.unwrap().path.as_str().ends_with("registers") {}
        // The next call may meet the old life's last moment; then it says so and changes nothing.
        let mut kept = platform.registers.get::<u32>("kept").await;
        while kept.is_err() {
            tokio::task::yield_now().await;
            kept = platform.registers.get::<u32>("kept").await;
        }
        assert_eq!(kept.unwrap(), Some(1));
        root.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn every_acknowledged_write_survives_kills() {
        let (root, platform) = start().await;
        let registers = Arc::new(platform.registers);
        let writer = tokio::spawn({
            let registers = Arc::clone(&registers);
            async move {
                let mut acknowledged = Vec::new();
                for n in 0..200_u32 {
                    let key = format!("key/{n:03}");
                    if let Ok(stamp) = registers.put(key.as_str(), &n).await {
                        acknowledged.push((key, n, stamp));
                    }
                    tokio::task::yield_now().await;
                }
                acknowledged
            }
        });
        // Fewer kills than the intensity of the supervisor above.
        for _ in 0..8 {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            let life = registers.handle().incarnation();
            if let Some(actor) = registers.handle().actor_ref() {
                actor.kill();
            }
            while registers.handle().incarnation() == life || registers.stats().await.is_err() {
                tokio::task::yield_now().await;
            }
        }
        let acknowledged = writer.await.unwrap();
        assert!(acknowledged.len() >= 100, "{} writes", acknowledged.len());
        assert!(acknowledged.is_sorted_by_key(|(_, _, stamp)| *stamp));
        for (key, n, stamp) in acknowledged {
            let register = registers.read(key.as_str()).await.unwrap().unwrap();
            assert_eq!(register.stamp, stamp);
            assert_eq!(registers.get::<u32>(key).await.unwrap(), Some(n));
        }
        assert_eq!(registers.handle().incarnation(), 9);
        root.stop().await;
    }
}
