//! The part of a node's supervision tree that replicates types, and what it is made of.

use std::fmt::Debug;
use std::sync::Arc;

use macula_core::path::InvalidId;
use macula_core::port::Serve;
use macula_core::supervision::{ChildSpec, Handle};

use super::actor;
use super::client::Crdts;
use super::service::Service;
use super::settings::{self, Settings};
use super::state::Kinds;
use super::vault::Vault;
use crate::minder;

pub use super::actor::Wiring;
pub use super::vault::{Origin, number_of};

/// What a node's replicated types need.
#[derive(Debug)]
pub struct Parts {
    /// What the node does.
    pub settings: Settings,
    /// The types that it can read: those of the user are added to the defaults.
    pub kinds: Kinds,
    /// Who it is.
    pub origin: Origin,
    /// What it needs of the mesh.
    pub wiring: Wiring,
}

/// Handles to a node's replicated types. They are good before the start and across restarts.
#[derive(Debug, Clone)]
pub struct Replicator {
    /// The types.
    pub crdts: Crdts,
    /// What other nodes ask.
    pub service: Arc<dyn Serve>,
    /// The actor that carries what replicas say.
    pub actor: Handle<minder::Ended>,
}

/// Why there are none. Nothing was built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// What the node is to do makes no sense.
    #[error(transparent)]
    Settings(#[from] settings::Invalid),
    /// A name in the tree is none.
    #[error(transparent)]
    Id(#[from] InvalidId),
}

/// The child `crdt`, and the handles to it.
///
/// # Errors
///
/// [`BuildError`].
pub fn worker(parts: Parts) -> Result<(ChildSpec, Replicator), BuildError> {
    let Parts { settings, kinds, origin, wiring } = parts;
    let vault = Vault::new(settings, kinds, origin)?;
    let (spec, actor) = actor::worker(vault.clone(), wiring)?.split();
    let service = Arc::new(Service(vault.clone()));
    Ok((spec, Replicator { crdts: Crdts(vault), service, actor }))
}
