//! The supervised actor beside a node's [`Service`].

use std::sync::Arc;

use macula_core::path::InvalidId;
use macula_core::port::Directory;
use macula_core::supervision::Worker;

use super::groups;
use super::leading::{announce, count};
use super::metrics;
use super::service::Service;
use crate::minder::{self, Minder};

/// The worker that counts the leases of this node's member and announces it, with the id `kv`. It
/// begins anew with each life of the member, so it comes after it in its supervisor's list.
///
/// # Errors
///
/// Never: its id is one.
pub fn worker(
    service: Service,
    directory: Arc<dyn Directory>,
) -> Result<Worker<Minder>, InvalidId> {
    minder::worker("kv", "the member has ended, or a task beside it", move || {
        beside(service.clone(), Arc::clone(&directory))
    })
}

/// Ends when one of them does.
async fn beside(service: Service, directory: Arc<dyn Directory>) {
    // A member whose files are damaged is not there, and comes only with another life of its actor.
    let Some(member) = service.0.group.member() else { return std::future::pending().await };
    tokio::select! {
        () = count(service.clone(), Arc::clone(&member)) => {}
        () = announce(Arc::clone(&member), Arc::clone(&directory)) => {}
        () = groups::look(service.clone(), Arc::clone(&member), directory) => {}
        () = metrics::tell(service, member) => {}
    }
}
