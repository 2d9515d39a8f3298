//! The infrastructure's part of a node's tree.
//!
//! ```text
//! infrastructure    rest_for_one    in the order of dependencies
//! ├─ transport      one_for_one     listener and dialler
//! ├─ pool           one_for_one     connections
//! ├─ services       one_for_one     what the mesh offers
//! ├─ peers          dynamic         one subtree for each live connection
//! └─ telemetry      one_for_one
//! ```

use std::time::Duration;

use macula_core::path::InvalidId;
use macula_core::supervision::{ChildSpec, Strategy, Supervisor, SupervisorHandle};

/// How many restarts each of the tier's supervisors allows in [`PERIOD`].
const INTENSITY: u32 = 10;

/// The period of [`INTENSITY`].
const PERIOD: Duration = Duration::from_secs(60);

/// How many live connections a node has at most.
pub const PEERS_MAX: usize = 100_000;

/// Handles to the parts of the tier. They are good before the start and across restarts.
#[derive(Debug, Clone)]
pub struct Infrastructure {
    /// Listener and dialler.
    pub transport: SupervisorHandle,
    /// Connections and their lanes.
    pub pool: SupervisorHandle,
    /// What the mesh offers.
    pub services: SupervisorHandle,
    /// One subtree for each live connection, at most [`PEERS_MAX`].
    pub peers: SupervisorHandle,
    /// Counters and traces on their way out.
    pub telemetry: SupervisorHandle,
}

/// The child `infrastructure` for a root's list, and the handles to what it will hold.
///
/// # Errors
///
/// None in practice: the names in the tree are constants.
pub fn spec() -> Result<(ChildSpec, Infrastructure), InvalidId> {
    let (transport, transport_handle) = flags(Supervisor::new("transport")?).split();
    let (pool, pool_handle) = flags(Supervisor::new("pool")?).split();
    let (services, services_handle) = flags(Supervisor::new("services")?).split();
    let (peers, peers_handle) = flags(Supervisor::dynamic("peers", PEERS_MAX)?).split();
    let (telemetry, telemetry_handle) = flags(Supervisor::new("telemetry")?).split();
    let infrastructure = flags(Supervisor::new("infrastructure")?)
        .strategy(Strategy::RestForOne)
        .child(transport)
        .child(pool)
        .child(services)
        .child(peers)
        .child(telemetry);
    let handles = Infrastructure {
        transport: transport_handle,
        pool: pool_handle,
        services: services_handle,
        peers: peers_handle,
        telemetry: telemetry_handle,
    };
    Ok((infrastructure.into(), handles))
}

/// What holds for all of them.
fn flags(supervisor: Supervisor) -> Supervisor {
    supervisor.strategy(Strategy::OneForOne).intensity(INTENSITY, PERIOD)
}

#[cfg(test)]
mod tests {
    use super::spec;
    use macula_core::supervision::{Presence, Supervisor, TreeOptions};

    #[tokio::test(start_paused = true)]
    async fn the_parts_stand_in_the_order_of_their_dependencies() {
        let (spec, infrastructure) = spec().unwrap();
        let root = Supervisor::new("root").unwrap().child(spec);
        let root = root.start(TreeOptions::default()).await.unwrap();
        let picture = root.snapshot().await;
        assert!(picture.is_healthy(), "{picture:?}");
        let tier = picture.children.first().unwrap();
        let paths: Vec<&str> = tier.children.iter().map(|child| child.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "infrastructure/transport",
                "infrastructure/pool",
                "infrastructure/services",
                "infrastructure/peers",
                "infrastructure/telemetry"
            ]
        );
        assert!(infrastructure.peers.is_dynamic());
        root.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_on_a_lost_part_begins_anew() {
        let (spec, infrastructure) = spec().unwrap();
        let root = Supervisor::new("root").unwrap().child(spec);
        let root = root.start(TreeOptions::default()).await.unwrap();
        infrastructure.services.cell().unwrap().kill();
        while infrastructure.telemetry.incarnation() < 2
            || infrastructure.telemetry.presence() != Presence::Up
        {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert_eq!(infrastructure.pool.incarnation(), 1);
        assert_eq!(infrastructure.services.incarnation(), 2);
        assert_eq!(infrastructure.peers.incarnation(), 2);
        root.stop().await;
    }
}
