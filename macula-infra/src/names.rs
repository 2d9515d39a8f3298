//! The names of served actors and of procedures, anywhere in the mesh.
//!
//! Each name that a node serves is announced in the directory for as long as it is served. [`Names`]
//! finds the nodes that serve a name. What it has found it believes for half a minute, and looks for it
//! again before that is over while it is asked for. It believes it for less if it proves wrong: a node
//! that does not serve the name, or cannot be reached, or is gone from the mesh, is forgotten. A [`NamedHandle`] asks whoever serves its name, one node after the other until one
//! takes the question.

mod found;
mod handle;
mod metrics;

pub use handle::NamedHandle;
pub(crate) use handle::not_found;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;
use macula_core::port::{Directory, DirectoryError, Provider};

use crate::announcing::Announced;
use crate::membership::Membership;
use crate::remote::{CallError, Calling, Headers, Query, Remote, Unavailability, as_procedure};
use found::Found;

/// What the names of actors begin with in the directory, where other things have names too.
const ACTOR: &str = "actor/";

/// What the names of procedures begin with there.
const PROCEDURE: &str = "rpc/";

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

/// A question to whoever serves a name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) name: &'a Arc<str>,
    pub(crate) headers: &'a Headers,
    pub(crate) body: &'a Bytes,
    pub(crate) deadline: Instant,
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
        let (served, said) = (calling.served.clone(), calling.served.clone());
        let current = move || served.names();
        let metadata = move |name: &str| said.metadata(name).unwrap_or_default();
        let (directed, gauge) = (Arc::clone(&directory), metrics::UNANNOUNCED);
        let announced = Announced::new(directed, place, gauge, current, metadata);
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

    /// What callers need.
    pub(crate) fn calling(&self) -> &Calling {
        &self.0.calling
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
        if shared.calling.served.metadata(name).is_some() {
            return Ok(vec![here]);
        }
        let others = self.others(name).await?.into_iter().map(|provider| provider.node);
        let mut nodes: Vec<NodeId> = others.collect();
        nodes.sort_by_key(|node| !shared.membership.is_member(*node));
        Ok(nodes)
    }

    /// All that serve a name, as far as is known, in the order of their ids.
    pub(crate) async fn providers(&self, name: &str) -> Result<Vec<Provider>, LocateError> {
        let shared = &self.0;
        let node = shared.calling.node();
        let mut providers = match shared.calling.served.metadata(name) {
            // Whoever serves it itself needs no directory.
            Some(metadata) => {
                let mut others = self.others(name).await.unwrap_or_default();
                others.push(Provider { node, metadata });
                others
            }
            None => self.others(name).await?,
        };
        providers.sort_by_key(|provider| provider.node);
        Ok(providers)
    }

    async fn others(&self, name: &str) -> Result<Vec<Provider>, DirectoryError> {
        let shared = &self.0;
        let found = shared.found.get(TokioClock.now(), name, || self.find(name)).await?;
        if shared.found.is_due(TokioClock.now(), name) {
            let (names, name) = (self.clone(), name.to_owned());
            drop(tokio::spawn(async move { names.renew(&name).await }));
        }
        Ok(found)
    }

    /// The other nodes that serve a name, as the directory has them.
    async fn find(&self, name: &str) -> Result<Vec<Provider>, DirectoryError> {
        let mut found = self.0.directory.find(&place(name), NODES_MAX).await?;
        found.retain(|provider| provider.node != self.0.calling.node());
        Ok(found)
    }

    /// Looks for a name before what is believed of it ends.
    async fn renew(&self, name: &str) {
        match self.find(name).await {
            Ok(found) => self.0.found.renewed(TokioClock.now(), name, found),
            Err(error) => tracing::debug!(name, %error, "a name is not found again"),
        }
    }

    /// Asks one node, of `left` that may be asked.
    pub(crate) async fn ask(
        &self,
        node: NodeId,
        left: usize,
        asked: &Asked<'_>,
    ) -> Result<Bytes, CallError> {
        let answer = match self.connected(node, left, asked.name, asked.deadline).await {
            Ok(()) => {
                let query = Query {
                    remote: self.remote(node),
                    name: Arc::clone(asked.name),
                    headers: asked.headers.clone(),
                    within: asked.deadline.saturating_duration_since(TokioClock.now()),
                    patient: true,
                    waits: false,
                };
                query.ask(asked.body.clone()).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = &answer {
            self.learn(asked.name, node, error);
        }
        answer
    }

    /// Sees to it that there is a connection to a node that may serve a name, of `left` that may be
    /// asked: so it takes only a part of the time.
    pub(crate) async fn connected(
        &self,
        node: NodeId,
        left: usize,
        name: &str,
        deadline: Instant,
    ) -> Result<(), CallError> {
        let calling = &self.0.calling;
        if node == calling.node() {
            return Ok(());
        }
        let parts = u32::try_from(left.max(1)).unwrap_or(u32::MAX);
        let within = deadline.saturating_duration_since(TokioClock.now()) / parts;
        let Ok(connected) = tokio::time::timeout(within, calling.link(node)).await else {
            let shown = macula_core::clock::shown(within);
            let why = format!("no connection to {} within {shown}", node.short());
            return Err(CallError::Unavailable(Unavailability::Unreachable(why)));
        };
        calling.served.may_serve(connected?.link().peer(), name)
    }

    /// If what a node has said proves that it does not serve a name, it is forgotten that it does.
    pub(crate) fn learn(&self, name: &str, node: NodeId, error: &CallError) {
        if let CallError::Unavailable(why) = error
            && proves_wrong(why)
        {
            self.forget(name, node);
        }
    }

    /// A node has proved not to serve a name, or to be out of reach.
    fn forget(&self, name: &str, node: NodeId) {
        ::metrics::counter!(metrics::FORGOTTEN).increment(1);
        self.0.found.forget(name, node);
    }

    /// Believes that a node serves a name that nothing is known about.
    #[cfg(test)]
    pub(crate) async fn believe(&self, name: &str, node: NodeId) {
        let found =
            || async { Ok::<_, DirectoryError>(vec![Provider { node, metadata: Bytes::new() }]) };
        self.0.found.get(TokioClock.now(), name, found).await.unwrap();
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

    pub(crate) fn remote(&self, node: NodeId) -> Remote {
        Remote { calling: self.0.calling.clone(), node }
    }
}

/// Where the directory has a name.
fn place(name: &str) -> String {
    match as_procedure(name) {
        Some(procedure) => format!("{PROCEDURE}{procedure}"),
        None => format!("{ACTOR}{name}"),
    }
}

/// Whether another node may be asked in the place of one that said this.
pub(crate) const fn passes(why: &Unavailability) -> bool {
    proves_wrong(why) || matches!(why, Unavailability::Absent(_) | Unavailability::NotFound(_))
}

/// Whether a node that said this does not serve the name, for all that is known.
pub(crate) const fn proves_wrong(why: &Unavailability) -> bool {
    matches!(
        why,
        Unavailability::NotServed(_)
            | Unavailability::NoAddress
            | Unavailability::Unentitled(_)
            | Unavailability::Unreachable(_)
            | Unavailability::BackingOff { .. }
    )
}
