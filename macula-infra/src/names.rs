//! The names of served actors, anywhere in the mesh.
//!
//! Each name that a node serves is [announced](crate::announcing) in the directory for as long as it
//! is served. [`Names`] finds the nodes that serve a name. What it has found it believes for half a minute, and
//! less if it proves wrong: a node that does not serve the name, or cannot be reached, or is gone
//! from the mesh, is forgotten. A [`NamedHandle`] asks whoever serves its name, one node after the
//! other until one takes the question.

mod found;
mod handle;
mod metrics;

pub use handle::NamedHandle;

use std::fmt::Debug;
use std::sync::Arc;

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;
use macula_core::port::{Directory, DirectoryError};

use crate::announcing::Announced;
use crate::membership::Membership;
use crate::remote::{Calling, Remote};
use found::Found;

/// What the names of actors begin with in the directory, where other things have names too.
const PREFIX: &str = "actor/";

/// How many nodes that serve one name are found at most.
pub const NODES_MAX: usize = 16;

/// Why no node was found that serves a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    /// The directory knows of none.
    #[error("nobody serves {0:?}")]
    Nobody(String),
    /// The directory does not answer.
    #[error("directory: {0}")]
    Directory(#[from] DirectoryError),
}

/// The names. Clones are the same.
#[derive(Clone)]
pub struct Names(Arc<Shared>);

struct Shared {
    announced: Announced,
    calling: Calling,
    directory: Arc<dyn Directory>,
    membership: Membership,
    found: Found,
}

impl Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("node", &self.0.calling.node()).finish_non_exhaustive()
    }
}

impl Names {
    pub(crate) fn new(
        calling: Calling,
        directory: Arc<dyn Directory>,
        membership: Membership,
    ) -> Self {
        let served = calling.served.clone();
        let current = move || served.names();
        let announced =
            Announced::new(Arc::clone(&directory), place, metrics::UNANNOUNCED, current);
        calling.served.listen(announced.teller());
        Self(Arc::new(Shared {
            announced,
            calling,
            directory,
            membership,
            found: Found::default(),
        }))
    }

    /// The names that are announced.
    pub(crate) fn announced_names(&self) -> &Announced {
        &self.0.announced
    }

    /// Waits until the directory knows of all names that this node serves now. It may never do.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing happens.
    pub async fn announced(&self) {
        self.0.announced.announced().await;
    }

    /// A node that serves an actor under a name: this one if it does, or else one that is a member
    /// of the mesh, if one is.
    ///
    /// # Errors
    ///
    /// [`LocateError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, whoever else waits for the same name goes on looking.
    pub async fn locate(&self, name: &str) -> Result<Remote, LocateError> {
        let nodes = self.nodes(name).await?;
        let node = nodes.first().ok_or_else(|| LocateError::Nobody(name.to_owned()))?;
        Ok(self.remote(*node))
    }

    /// The nodes that serve a name, those first that are most likely to answer.
    async fn nodes(&self, name: &str) -> Result<Vec<NodeId>, LocateError> {
        let shared = &self.0;
        let here = shared.calling.node();
        if shared.calling.served.has(name) {
            return Ok(vec![here]);
        }
        let find = || async {
            let found = shared.directory.find(&place(name), NODES_MAX).await?;
            let others = found.into_iter().map(|provider| provider.node);
            Ok::<_, DirectoryError>(others.filter(|node| *node != here).collect())
        };
        let mut nodes = shared.found.get(TokioClock.now(), name, find).await?;
        nodes.sort_by_key(|node| !shared.membership.is_member(*node));
        Ok(nodes)
    }

    /// A node has proved not to serve a name, or to be out of reach.
    fn forget(&self, name: &str, node: NodeId) {
        ::metrics::counter!(metrics::FORGOTTEN).increment(1);
        self.0.found.forget(name, node);
    }

    /// A node has gone from the mesh.
    pub(crate) fn gone(&self, node: NodeId) {
        self.0.found.gone(node);
    }

    /// A handle to whoever serves an actor under a name: it is asked `Q` and answers `R`.
    #[must_use]
    pub fn handle<Q, R>(&self, name: &str) -> NamedHandle<Q, R> {
        NamedHandle::new(self.clone(), name)
    }

    fn remote(&self, node: NodeId) -> Remote {
        Remote { calling: self.0.calling.clone(), node }
    }
}

/// Where the directory has a name.
fn place(name: &str) -> String {
    format!("{PREFIX}{name}")
}
