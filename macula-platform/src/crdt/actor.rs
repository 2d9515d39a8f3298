//! The supervised actor that carries what replicas say, and wakes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::NodeId;
use macula_core::path::InvalidId;
use macula_core::port::{Call, CallError};
use macula_core::supervision::Worker;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::metrics;
use super::proto::Replica;
use super::service::{STRANGER, question};
use super::vault::{Parcel, Vault};
use crate::minder::{self, Minder};

/// How many frames wait for the actor.
const POST_MAX: usize = 8_192;

/// How many frames wait for one node, and how many are on their way to it at one time.
const QUEUE_MAX: usize = 2_048;
const FLIGHTS_MAX: usize = 16;

/// How long a node has to take a frame.
const WITHIN: Duration = Duration::from_secs(5);

/// What the actor needs of the mesh.
#[derive(Debug, Clone)]
pub struct Wiring {
    /// How other nodes are asked to take a frame.
    pub call: Arc<dyn Call>,
    /// The nodes that are in reach, this one or not.
    pub near: watch::Receiver<BTreeSet<NodeId>>,
}

/// The worker, with the id `crdt`. What a life of it had in its hands when it ended is lost like a
/// message on the network; what replicas have is in the vault.
pub(super) fn worker(vault: Vault, wiring: Wiring) -> Result<Worker<Minder>, InvalidId> {
    minder::worker("crdt", "what carries the frames of replicas has ended", move || {
        carry(vault.clone(), wiring.clone())
    })
}

/// Ends with a task that panics.
async fn carry(vault: Vault, wiring: Wiring) {
    let Wiring { call, mut near } = wiring;
    let (post, mut parcels) = mpsc::channel(POST_MAX);
    vault.connect(post);
    vault.set_near(&near.borrow_and_update().clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(hold(vault.clone()));
    tasks.spawn(metrics::tell(vault.clone()));
    let mut queues: BTreeMap<NodeId, mpsc::Sender<Parcel>> = BTreeMap::new();
    let mut is_watched = true;
    loop {
        let alarm = vault.next_alarm();
        let due = async {
            match alarm {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => while vault.wake() {},
            () = vault.rung() => {}
            Some(parcel) = parcels.recv() => {
                let queue = queues.entry(parcel.to).or_insert_with(|| {
                    let (queue, waiting) = mpsc::channel(QUEUE_MAX);
                    tasks.spawn(deliver(vault.clone(), Arc::clone(&call), waiting));
                    queue
                });
                if queue.try_send(parcel).is_err() {
                    vault.lose();
                }
            }
            changed = near.changed(), if is_watched => {
                is_watched = changed.is_ok();
                let nodes = near.borrow_and_update().clone();
                queues.retain(|node, _| nodes.contains(node));
                vault.set_near(&nodes);
            }
            Some(ended) = tasks.join_next() => if ended.is_err() { return },
        }
    }
}

/// Holds the buckets that the node holds from its start on.
async fn hold(vault: Vault) {
    for bucket in vault.to_hold() {
        if let Err(error) = vault.hold(&bucket).await {
            tracing::error!(%error, bucket = &*bucket, "the bucket is not held");
        }
    }
}

/// Has one node take frames, some at a time.
async fn deliver(vault: Vault, call: Arc<dyn Call>, mut waiting: mpsc::Receiver<Parcel>) {
    let mut flights = JoinSet::new();
    loop {
        tokio::select! {
            parcel = waiting.recv(), if flights.len() < FLIGHTS_MAX => match parcel {
                Some(parcel) => {
                    flights.spawn(hand_over(vault.clone(), Arc::clone(&call), parcel));
                }
                None => return,
            },
            Some(_) = flights.join_next() => {}
        }
    }
}

async fn hand_over(vault: Vault, call: Arc<dyn Call>, parcel: Parcel) {
    let Parcel { to, bucket, frame } = parcel;
    match call.call(to, question(&bucket, &frame), WITHIN).await {
        Ok(answer) if answer.first() == Some(&STRANGER) => {
            let frame: Bytes = Replica::stranger();
            vault.receive(to, &bucket, frame);
        }
        Ok(_) => {}
        // It is as a message that the network has lost.
        Err(error) => {
            vault.lose();
            if matches!(error, CallError::Refused(_) | CallError::Forbidden(_)) {
                vault.declined(to, &bucket);
            }
        }
    }
}
